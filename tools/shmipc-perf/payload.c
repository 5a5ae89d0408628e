// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* payload.c - bytes that are really written and really read */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "payload.h"
#include "perf.h"

/* As wide as the compiler makes it: eight bytes at a time would be slower than the memory. */
typedef uint64_t wide __attribute__((vector_size(64), aligned(8), may_alias));

#define STEP	0x9e3779b97f4a7c15ULL	/* odd: all multiples differ */

/* No function: a vector so wide is passed in another way on other CPUs. */
#define ALL(word)	((wide){ word, word, word, word, word, word, word, word })

void payload_write(void *data, size_t size, uint64_t word)
{
	uint64_t *p = data;
	size_t i;

	for (i = 0; i + sizeof(wide) <= size; i += sizeof(wide))
		*(wide *)((char *)data + i) = ALL(word);
	for (; i < size; i += sizeof(*p))
		p[i / sizeof(*p)] = word;
}

static _Noreturn void wrong(size_t at)
{
	char what[64];

	snprintf(what, sizeof(what), "a wrong byte in the payload, near byte %zu", at);
	die(what, -EBADMSG);
}

uint64_t payload_read(const void *data, size_t size)
{
	const uint64_t *p = data;
	uint64_t word = *p, differs = 0;
	wide sum = ALL(0);
	size_t i;

	for (i = 0; i + sizeof(wide) <= size; i += sizeof(wide))
		sum |= *(const wide *)((const char *)data + i) ^ ALL(word);
	for (; i < size; i += sizeof(*p))
		differs |= p[i / sizeof(*p)] ^ word;
	for (i = 0; i < sizeof(wide) / sizeof(word); i++)
		differs |= sum[i];
	if (differs)
		wrong(0);
	return word;
}

void payload_write_pattern(void *data, size_t size, uint64_t word)
{
	/* For the test of this check: a byte that the sender never wrote. */
	const char *fault = getenv("SHMIPC_PERF_WRONG_BYTE");
	uint64_t *p = data;

	for (size_t i = 0; i < size / sizeof(*p); i++)
		p[i] = word + i * STEP;
	if (fault)
		((char *)data)[size / 2] ^= 1;
}

uint64_t payload_read_pattern(const void *data, size_t size)
{
	const uint64_t *p = data;

	for (size_t i = 0; i < size / sizeof(*p); i++)
		if (p[i] != p[0] + i * STEP)
			wrong(i * sizeof(*p));
	return p[0];
}
