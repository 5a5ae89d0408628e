// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* checker.c - where do bytes belong that are not those expected? */
#include "checker.h"
#include "pair.h"

#define FAR	(1 << 16)	/* bytes to each side in which misplaced ones are looked for */
#define ENOUGH	8		/* fewer bytes are found anywhere */

static enum fault diagnose(const struct checker *c, const void *buf, size_t len, uint64_t *where)
{
	for (uint64_t off = 1; off < FAR && len >= ENOUGH; off++) {
		*where = c->position + off;
		if (same(buf, len, c->key, *where))
			return FAULT_MISSING;
		*where = c->position - off;
		if (off <= c->position && same(buf, len, c->key, *where))
			return FAULT_AGAIN;
	}
	for (*where = c->position; same(buf, 1, c->key, *where); (*where)++)
		buf = (const char *)buf + 1;
	return FAULT_WRONG;
}

enum fault checker_take(struct checker *c, const void *buf, size_t len)
{
	static const char *const what[] = {
		[FAULT_MISSING] = "something before them is missing, these are of",
		[FAULT_AGAIN] = "they were there before, as",
		[FAULT_WRONG] = "the first wrong one is",
	};
	enum fault fault = FAULT_NONE;
	uint64_t where;

	if (!same(buf, len, c->key, c->position)) {
		fault = diagnose(c, buf, len, &where);
		fprintf(stderr, "stream %llu, %zu bytes at %llu: %s %llu\n",
			(unsigned long long)c->key, len, (unsigned long long)c->position,
			what[fault], (unsigned long long)where);
	}
	c->position += len;
	return fault;
}
