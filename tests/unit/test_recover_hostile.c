// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A successor of a program that was broken, or whose peer lies: bytes of either end's segments are
 * changed before the session is recovered from them.
 *
 * It may be refused, with -EBADMSG or, for the own version alone, -EPROTO; or go on, with -EBADMSG
 * later. It must not crash or hang. A failure names its seed; SHMIPC_SEED=N runs that one alone.
 */
#include <unistd.h>
#include "barrier.h"
#include "reborn.h"

static const struct shmipc_options options = {
	.size = sizeof(options), .max_streams = 8, .window = 32768, .max_memory = 1 << 17,
};

struct hostile {
	struct duo d;
	uint64_t seed, rng;
	uint8_t *own, *peer;		/* as they were */
	uint64_t refused, broken, went_on;
};

#define must(h, cond)	must_be(h, cond, #cond, __LINE__)
static void must_be(const struct hostile *h, bool ok, const char *what, int line)
{
	if (ok)
		return;
	fprintf(stderr, "line %d: not so: %s (seed %lu)\n", line, what, h->seed);
	abort();
}

static uint64_t pick(struct hostile *h, uint64_t n)
{
	h->rng ^= h->rng << 13;
	h->rng ^= h->rng >> 7;
	h->rng ^= h->rng << 17;
	return (h->rng * 0x2545f4914f6cdd1dULL >> 16) % n;
}

/* Some of everything: held, parked, unread, half sent, finished, reset, waiting. */
static void fill_session(struct duo *d)
{
	static struct shmipc_message held[8];
	static char buf[3000];
	struct shmipc_stream *a[3], *b[3], *st;

	duo_open(d, &options);
	for (int i = 0; i < 3; i++)
		duo_stream(d, &b[i], &a[i]);
	for (int i = 0; i < 8; i++) {
		assert_true(shmipc_write(b[0], buf, 1 + i * 200, 0, 0) > 0);
		assert_true(shmipc_write(a[0], buf, 1 + i * 100, i % 2, 0) > 0);
		assert_int_equal(shmipc_peek(a[0], &held[i], 0), 1);
	}
	for (int i = 0; i < 150; i++) {
		duo_send(b[1], a[1], 1 + i);
		duo_send(a[1], b[1], 1 + i);
	}
	for (int i = 0; i < 5; i++) {
		assert_true(shmipc_write(b[1], buf, 500, SHMIPC_MORE, 0) > 0);
		assert_true(shmipc_write(a[1], buf, 50, 0, 0) > 0);
	}
	assert_int_equal(shmipc_return(a[0], &held[3]), 0);
	assert_int_equal(shmipc_finish(a[0]), 0);
	assert_int_equal(shmipc_reset(b[2], 7), 0);
	assert_int_equal(shmipc_stream_open(d->a, &st), 0);
	assert_true(shmipc_write(st, buf, 10, 0, 0) > 0);
	assert_int_equal(shmipc_read(b[0], buf, 1, 0), 1);
}

static void change(struct hostile *h, struct shmipc_session *s)
{
	static const uint64_t values[] = { 0, 1, 2, 3, 0x7f, 0x80, 0xff };
	uint8_t *base = s->tx.segments[0].addr;
	uint8_t *parts[] = {
		base, (uint8_t *)s->tx.control, (uint8_t *)s->tx.ring, (uint8_t *)s->tx.live_table,
		(uint8_t *)s->rx.returns, (uint8_t *)s->tx.records, base + s->rx.arena_offset,
	};
	int part = pick(h, 6);
	uint8_t *at = parts[part] + pick(h, parts[part + 1] - parts[part]);

	/* The head of a slot, a record, or any byte. */
	if (pick(h, 2))
		at = parts[part] + ((at - parts[part]) & ~127) + pick(h, 64);
	if (at >= parts[part + 1])
		at = parts[part];
	*at = pick(h, 2) ? values[pick(h, 7)] : *at ^ 1U << pick(h, 8);
}

static void use(struct hostile *h, struct shmipc_session *s)
{
	static char buf[5000];
	struct shmipc_stream *st;
	struct shmipc_message m;

	for (int i = 0; i < 24; i++) {
		int64_t n = 0;

		st = s->streams[pick(h, s->nr_streams)];
		if (!st || !st->visible) {
			n = shmipc_stream_accept(s, &st, 0);
		} else {
			switch (pick(h, 8)) {
			case 0: n = shmipc_finish(st); break;
			case 1: n = shmipc_reset(st, 1); break;
			case 2: shmipc_stream_close(st); break;
			case 3: n = shmipc_write(st, buf, 1 + pick(h, sizeof(buf)), pick(h, 2), 0); break;
			case 4: n = shmipc_read(st, buf, sizeof(buf), 0); break;
			case 5: n = shmipc_flush(st); break;
			default:
				n = shmipc_peek(st, &m, 0);
				if (n != 1)
					break;
				for (uint32_t k = 0; k < m.nspans; k++)
					for (size_t b = 0; b < m.spans[k].len; b++)
						(void)((const volatile char *)m.spans[k].data)[b];
				must(h, shmipc_return(st, &m) == 0);
			}
		}
		must(h, n >= 0 || n == -EAGAIN || n == -ECONNRESET || n == -ESHUTDOWN ||
			n == -ECANCELED || n == -EBADMSG || n == -EMSGSIZE);
		must(h, n != -EBADMSG || shmipc_session_error(s) == -EBADMSG);
	}
	shmipc_wait(s->ep, (struct shmipc_event[4]){ 0 }, 4, 0);
	must(h, !shmipc_session_error(s) || shmipc_session_error(s) == -EBADMSG);
}

static void one(struct hostile *h, struct shmipc_session *victim, struct shmipc_session *other)
{
	static struct pv_segment own[ARENA_EXTENTS];
	static struct pv_mapping peers[SHMIPC_SLOTS_MAX];
	struct shmipc_session *s;
	struct recovery from;
	bool version;
	int err;

	alarm(30);
	memcpy(victim->tx.segments[0].addr, h->own, victim->tx.segments[0].len);
	memcpy(other->tx.segments[0].addr, h->peer, other->tx.segments[0].len);
	for (unsigned int n = 1 + pick(h, 3), both = pick(h, 3); n; n--)
		change(h, both == 1 ? other : victim);
	version = ((struct segment_header *)victim->tx.segments[0].addr)->version != LAYOUT_VERSION;
	reborn_describe(victim, pick(h, 2), &from, own, peers);
	err = recover_session(victim->ep, &from, &s);
	must(h, !err || err == -EBADMSG || (err == -EPROTO && version));
	if (err) {
		h->refused++;
		return;
	}
	recover_resume(s, 0);
	use(h, s);
	h->broken += !!shmipc_session_error(s);
	h->went_on += !shmipc_session_error(s);
	/* What it made itself is nobody's after it. */
	for (uint32_t i = victim->tx.nr_segments; i < s->tx.nr_segments; i++)
		s->ep->pv->ops->segment_destroy(s->ep->pv, &s->tx.segments[i]);
	for (uint32_t i = 0; i < SHMIPC_SLOTS_MAX; i++)
		if (s->rx.mappings[i].addr && !victim->rx.mappings[i].addr)
			s->ep->pv->ops->segment_unmap(s->ep->pv, &s->rx.mappings[i]);
	reborn_forget(s);
	endpoint_attach(victim->ep, victim->cookie, victim, NULL);
}

static uint8_t *copy_of(const struct shmipc_session *s)
{
	uint8_t *copy = malloc(s->tx.segments[0].len);

	memcpy(copy, s->tx.segments[0].addr, s->tx.segments[0].len);
	return copy;
}

static void attack(bool a_dies)
{
	const char *scale = getenv("SHMIPC_TEST_SCALE"), *only = getenv("SHMIPC_SEED");
	uint64_t n = !scale || *scale == 'q' ? 5000 : *scale == 'c' ? 50000 : 500000;
	struct hostile h = { 0 };
	struct shmipc_session *victim, *other;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	n = 3000;
#endif
	fill_session(&h.d);
	victim = a_dies ? h.d.a : h.d.b;
	other = a_dies ? h.d.b : h.d.a;
	h.own = copy_of(victim);
	h.peer = copy_of(other);
	for (h.seed = only ? strtoull(only, NULL, 0) : 0; h.seed < n; h.seed++) {
		h.rng = (h.seed + 1) * 0x9e3779b97f4a7c15ULL;
		one(&h, victim, other);
		if (only)
			break;
	}
	print_message("%lu refused, %lu broken later, %lu went on\n", h.refused, h.broken,
		      h.went_on);
	assert_true(only || (h.refused > n / 20 && h.broken > n / 500 && h.went_on > n / 20));
	memcpy(victim->tx.segments[0].addr, h.own, victim->tx.segments[0].len);
	memcpy(other->tx.segments[0].addr, h.peer, other->tx.segments[0].len);
	free(h.own);
	free(h.peer);
	duo_close(&h.d);
}

static void test_a(void **state)
{
	(void)state;
	attack(true);
}

static void test_b(void **state)
{
	(void)state;
	attack(false);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_a), cmocka_unit_test(test_b) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
