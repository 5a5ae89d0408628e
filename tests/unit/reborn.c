// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* reborn.c - a successor in the same process */
#include "reborn.h"

void reborn_describe(struct shmipc_session *s, bool crashed, struct recovery *from,
		     struct pv_segment *own, struct pv_mapping *peers)
{
	*from = (struct recovery){
		.role = s->role, .handle = s->handle, .cookie = s->cookie, .peer = s->peer,
		.crashed = crashed, .own = own, .nr_own = s->tx.nr_segments, .peers = peers,
	};
	memcpy(own, s->tx.segments, sizeof(s->tx.segments));
	memcpy(peers, s->rx.mappings, SHMIPC_SLOTS_MAX * sizeof(*peers));
	from->nr_peers = SHMIPC_SLOTS_MAX;
}

void reborn_forget(struct shmipc_session *s)
{
	s->handle = 0;
	s->cookie = 0;
	s->tx.nr_segments = 0;
	memset(s->rx.mappings, 0, SHMIPC_SLOTS_MAX * sizeof(*s->rx.mappings));
	session_destroy(s);
}

int reborn(struct shmipc_session **s, bool crashed)
{
	static struct pv_segment own[ARENA_EXTENTS];
	static struct pv_mapping peers[SHMIPC_SLOTS_MAX];
	struct shmipc_session *old = *s, *successor;
	struct recovery from;
	uint8_t *before;
	int err;

	reborn_describe(old, crashed, &from, own, peers);
	before = malloc(own[0].len);
	memcpy(before, own[0].addr, own[0].len);
	err = recover_session(old->ep, &from, &successor);
	assert_memory_equal(before, own[0].addr, own[0].len);
	free(before);
	if (err)
		return err;
	reborn_forget(old);
	recover_resume(successor, 0);
	*s = successor;
	return 0;
}

struct shmipc_stream *reborn_stream(struct shmipc_session *s, uint16_t slot, uint32_t generation)
{
	struct shmipc_stream *st = s->streams[slot];

	return st && st->generation == generation && st->visible ? st : NULL;
}

static uint64_t free_bytes(const struct arena *arena)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < arena->nr_extents; i++)
		for (uint32_t unit = 0; unit < arena->extents[i].units;) {
			uint8_t tag = arena->extents[i].tags[unit];

			assert_int_not_equal(tag, 0);
			sum += tag & 0x80 ? (uint64_t)ARENA_UNIT << ((tag & 0x7f) - 1) : 0;
			unit += 1U << ((tag & 0x7f) - 1);
		}
	return sum;
}

static void expect_quiet(struct shmipc_session *s)
{
	assert_int_equal(duo_reap(s), 0);
	assert_int_equal(s->tx.nr_free, s->tx.nr_live);
	assert_int_equal(s->tx.bytes, 0);
	assert_int_equal(s->tx.shared_entries, 0);
	assert_int_equal(s->tx.reserved, 0);
	assert_true(free_bytes(&s->tx.arena) == s->tx.arena.bytes);
	for (uint32_t i = 0; i < s->tx.nr_live; i++)
		assert_int_equal(s->tx.live_table[i].seq, 0);
	for (uint32_t i = 0; i < s->rx.nr_live; i++)
		assert_null(s->rx.nodes[i].stream);
}

void reborn_expect_quiet(struct duo *d)
{
	for (int i = 0; i < 2; i++) {
		duo_drain(d->a);
		duo_drain(d->b);
	}
	expect_quiet(d->a);
	expect_quiet(d->b);
}
