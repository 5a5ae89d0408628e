/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * handover.h - a session whose server is handed over
 *
 * Holder and successor are two files of one process, for the module does not mind; what must not be
 * touched in another process is in the tests that fork.
 */
#ifndef SHMIPC_TESTS_HANDOVER_H
#define SHMIPC_TESTS_HANDOVER_H

#include "abi.h"

#define NAME	"test:handover"
#define RW	(PROT_READ | PROT_WRITE)
#define ITEMS	64

/* A session whose server is about to be handed over. */
struct scene {
	struct abi_pair p;
	struct abi_ep by;	/* asks for the ADOPT */
	int offer;
	uint32_t handle;	/* the offer's */
	struct abi_ep next;	/* the successor */
	struct abi_seg view;	/* server_seg, as the successor sees it */
};

static inline struct scene scene_offered(uint32_t flags)
{
	struct scene s = { .p = abi_pair_open(NAME), .by = abi_ep_open() };

	s.offer = abi_offer(s.p.server.fd, flags, &s.handle);
	must(s.offer);
	return s;
}

static inline void map_view(struct scene *s)
{
	s->view = s->p.server_seg;
	must(abi_map(s->next.fd, s->view.offset, s->view.length, PROT_READ, &s->view.map));
}

static inline struct scene scene_adopted(void)
{
	struct scene s = scene_offered(0);

	s.next = abi_ep_adopt(s.by.fd, s.offer);
	expect_event(s.p.server.fd, s.handle, SHMIPC_CAUSE_OFFER);
	map_view(&s);
	return s;
}

static inline struct scene scene_yielded(void)
{
	struct scene s = scene_adopted();

	must(abi_yield(s.p.server.fd));
	return s;
}

static inline struct scene scene_committed(void)
{
	struct scene s = scene_yielded();

	must(abi_commit(s.next.fd));
	return s;
}

static inline void scene_close(struct scene *s)
{
	abi_unmap(&s->view);
	if (s->next.anchor)
		abi_ep_close(&s->next);
	if (s->offer >= 0)
		close(s->offer);
	abi_ep_close(&s->by);
	abi_pair_close(&s->p);
}

/* The holder holds, and serves, as if nobody had ever been offered anything. */
static inline void expect_held(struct scene *s)
{
	assert_int_equal(s->p.server.anchor->state, SHMIPC_STATE_LIVE);
	assert_int_equal(abi_touch(s->p.server_seg.map, true), 0);
	must(abi_ring(s->p.server.fd, s->p.at_server, 2));
	expect_event(s->p.client.fd, s->p.at_client, 2);
	must(abi_ring(s->p.client.fd, s->p.at_client, 4));
	expect_event(s->p.server.fd, s->p.at_server, 4);
	abi_expect_quiet(s->p.client.fd);
}

/* What a successor looked at is gone while it may be looking: no signal. */
static inline void expect_blank(const struct abi_seg *view)
{
	for (size_t i = 0; i < view->length; i++)
		assert_int_equal(view->map[i], 0);
}

/* The successor has nothing left of it. */
static inline void expect_gone(struct scene *s, uint32_t state)
{
	struct shmipc_item items[ITEMS];

	assert_int_equal(s->next.anchor->state, state);
	expect_blank(&s->view);
	assert_int_equal(abi_poll(s->next.fd, 0), POLLHUP);
	fails(abi_commit(s->next.fd), ESTALE);
	fails(abi_list(s->next.fd, 0, items, ITEMS, NULL), ESTALE);
	assert_int_equal(abi_poll(s->offer, 0), POLLHUP);
	fails(abi_adopt(s->by.fd, s->offer), ESTALE);
}

static inline const struct shmipc_item *find(const struct shmipc_item *items, int n,
					     uint32_t kind, uint32_t handle)
{
	int i;

	for (i = 0; i < n; i++) {
		if (items[i].kind == kind && items[i].handle == handle)
			return &items[i];
	}
	fail();
	return NULL;
}

#endif
