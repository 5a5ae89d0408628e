// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Who may map what, what cannot be done with the memory, and that a revoke is complete. */
#define _GNU_SOURCE
#include "abi.h"

#include <pthread.h>

#define NAME	"test:map"

/* The answer of mmap, which is undone at once. */
static int try_map_flags(int fd, uint64_t offset, uint64_t length, int prot, int flags)
{
	void *p = mmap(NULL, length, prot, flags, fd, offset);

	if (p == MAP_FAILED)
		return -errno;
	munmap(p, length);
	return 0;
}

static int try_map(int fd, uint64_t offset, uint64_t length, int prot)
{
	return try_map_flags(fd, offset, length, prot, MAP_SHARED);
}

#define RW	(PROT_READ | PROT_WRITE)

/* ---- who may map what ---- */

static void test_owner(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct abi_seg seg, small;

	(void)state;
	must(abi_seg_create(ep.fd, 4 * ABI_PAGE, &seg));
	must(abi_seg_create(ep.fd, 1, &small));
	must(try_map(ep.fd, seg.offset, seg.length, RW));
	must(try_map(ep.fd, seg.offset + ABI_PAGE, 3 * ABI_PAGE, RW));
	must(try_map(ep.fd, seg.offset, seg.length, PROT_READ));
	must(try_map(ep.fd, seg.offset, seg.length, PROT_NONE));
	fails(try_map(ep.fd, seg.offset, seg.length + 1, RW), EINVAL);
	fails(try_map(ep.fd, seg.offset + ABI_PAGE, seg.length, RW), EINVAL);
	fails(try_map(ep.fd, seg.offset - ABI_PAGE, ABI_PAGE, RW), EINVAL);
	fails(try_map(ep.fd, small.offset + ABI_PAGE, ABI_PAGE, RW), EINVAL);
	fails(try_map(ep.fd, 1ULL << 44, ABI_PAGE, RW), EINVAL);
	fails(try_map(ep.fd, 1ULL << 62, ABI_PAGE, RW), EINVAL);
	fails(try_map_flags(ep.fd, seg.offset, seg.length, RW, MAP_PRIVATE), EINVAL);
	fails(try_map_flags(ep.fd, seg.offset, seg.length, PROT_READ, MAP_PRIVATE), EINVAL);
	fails(try_map(ep.fd, seg.offset, seg.length, PROT_READ | PROT_EXEC), EACCES);
	fails(try_map(ep.fd, seg.offset, seg.length, PROT_EXEC), EACCES);
	abi_ep_close(&ep);
}

static void test_anchor(void **state)
{
	int fd = abi_open_raw();
	volatile struct shmipc_anchor *anchor;

	(void)state;
	must(fd);
	fails(try_map(fd, 0, ABI_PAGE, RW), EACCES);
	fails(try_map(fd, 0, 2 * ABI_PAGE, PROT_READ), EINVAL);
	fails(try_map(fd, 0, ABI_PAGE, PROT_READ | PROT_EXEC), EACCES);
	fails(try_map_flags(fd, 0, ABI_PAGE, PROT_READ, MAP_PRIVATE), EINVAL);
	fails(try_map(fd, 2 << 20, ABI_PAGE, PROT_READ), EINVAL);	/* before the anchor */
	anchor = abi_anchor(fd);
	assert_non_null((void *)anchor);
	fails(try_map(fd, 0, ABI_PAGE, PROT_READ), EBUSY);
	/* Without the descriptor, the mapping keeps it alive. */
	close(fd);
	abi_sleep_ms(50);
	assert_int_equal(abi_counter("endpoints_live"), 1);
	assert_int_equal(anchor->state, SHMIPC_STATE_LIVE);
	munmap((void *)anchor, ABI_PAGE);
}

static void test_anchor_moves(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct abi_seg seg;
	void *elsewhere = mmap(NULL, ABI_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *p;

	(void)state;
	fails(mprotect((void *)ep.anchor, ABI_PAGE, RW) ? -errno : 0, EACCES);
	p = mremap((void *)ep.anchor, ABI_PAGE, ABI_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere);
	assert_ptr_equal(p, elsewhere);
	ep.anchor = p;
	assert_int_equal(ep.anchor->state, SHMIPC_STATE_LIVE);
	must(abi_seg_create(ep.fd, 1, &seg));
	abi_ep_close(&ep);
}

static void test_peer(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct abi_seg peer = abi_peer_map(p.client.fd, p.at_client, 0);

	(void)state;
	assert_int_equal(peer.length, p.server_seg.length);
	p.server_seg.map[7] = 42;
	assert_int_equal(peer.map[7], 42);
	fails(try_map(p.client.fd, peer.offset, peer.length, RW), EACCES);
	fails(try_map(p.client.fd, peer.offset, peer.length, PROT_WRITE), EACCES);
	fails(try_map(p.client.fd, peer.offset, peer.length + ABI_PAGE, PROT_READ), EINVAL);
	fails(try_map(p.client.fd, peer.offset, peer.length, PROT_READ | PROT_EXEC), EACCES);
	fails(mprotect((void *)peer.map, ABI_PAGE, RW) ? -errno : 0, EACCES);
	fails(mprotect((void *)peer.map, ABI_PAGE, PROT_READ | PROT_EXEC) ? -errno : 0, EACCES);
	must(mprotect((void *)peer.map, ABI_PAGE, PROT_NONE) ? -errno : 0);
	must(mprotect((void *)peer.map, ABI_PAGE, PROT_READ) ? -errno : 0);
	assert_int_equal(abi_touch(peer.map, true), SIGSEGV);
	assert_int_equal(abi_touch(peer.map, false), 0);
	/* The positive control: the owner's own mapping may be made writable again. */
	must(mprotect((void *)p.server_seg.map, ABI_PAGE, PROT_READ) ? -errno : 0);
	must(mprotect((void *)p.server_seg.map, ABI_PAGE, RW) ? -errno : 0);
	assert_int_equal(abi_touch(p.server_seg.map, true), 0);
	abi_unmap(&peer);
	abi_pair_close(&p);
}

/* ---- contents ---- */

/* What a former owner wrote is gone: many pages are dirtied, freed, and come again. */
static void test_zeroed(void **state)
{
	struct abi_ep ep = abi_ep_open();
	uint64_t length = 8 << 20, i;
	struct abi_seg seg;
	int round;

	(void)state;
	for (round = 0; round < 3; round++) {
		seg = abi_seg_new(ep.fd, length);
		for (i = 0; i < length; i += 64)
			assert_int_equal(*(volatile uint64_t *)(seg.map + i), 0);
		memset((void *)seg.map, 0xa5, length);
		abi_unmap(&seg);
		must(abi_close(ep.fd, seg.handle, 0));
	}
	abi_ep_close(&ep);
}

/* Two mappings of one segment are one memory, in odd places and sizes as well. */
static void test_windows(void **state)
{
	struct abi_ep ep = abi_ep_open();
	uint64_t length = (5 << 20) + 3 * ABI_PAGE, i;
	struct abi_seg seg = abi_seg_new(ep.fd, length);
	volatile uint8_t *part;
	uint64_t from;

	(void)state;
	for (i = 0; i < length; i += ABI_PAGE)
		*(volatile uint32_t *)(seg.map + i) = i / ABI_PAGE + 1;
	for (from = 0; from < length - 2 * ABI_PAGE; from += 97 * ABI_PAGE) {
		must(abi_map(ep.fd, seg.offset + from, length - from, RW, &part));
		for (i = length - from - ABI_PAGE; i < length; i -= 61 * ABI_PAGE)
			assert_int_equal(*(volatile uint32_t *)(part + i),
					 (from + i) / ABI_PAGE + 1);
		munmap((void *)part, length - from);
	}
	abi_unmap(&seg);
	abi_ep_close(&ep);
}

/* ---- revoke ---- */

static void test_revoke(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct abi_seg peer = abi_peer_map(p.client.fd, p.at_client, 0), again, other;
	struct shmipc_seg_info info;

	(void)state;
	must(abi_seg_create(p.server.fd, ABI_PAGE, &other));
	must(abi_grant(p.server.fd, p.at_server, other.handle, 5));
	must(abi_seg_info(p.server.fd, p.server_seg.handle, &info));
	assert_int_equal(info.out_grants, 1);
	assert_int_equal(info.out_rights, SHMIPC_RIGHT_READ | SHMIPC_RIGHT_WRITE);
	again = abi_peer_map(p.client.fd, p.at_client, 5);
	assert_int_equal(abi_touch(peer.map, false), 0);
	assert_int_equal(abi_touch(again.map, false), 0);
	must(abi_revoke(p.server.fd, p.at_server, 0));
	assert_int_equal(abi_touch(peer.map, false), SIGBUS);
	assert_int_equal(abi_touch(peer.map + ABI_PAGE, false), SIGBUS);
	assert_int_equal(abi_touch(again.map, false), 0);
	assert_int_equal(abi_touch(p.server_seg.map, true), 0);
	fails(abi_peer_info(p.client.fd, p.at_client, 0, &info), ENOENT);
	fails(try_map(p.client.fd, peer.offset, peer.length, PROT_READ), EINVAL);
	/* The slot is free again; the old mapping stays dead. */
	abi_unmap(&again);
	must(abi_grant(p.server.fd, p.at_server, p.server_seg.handle, 0));
	again = abi_peer_map(p.client.fd, p.at_client, 0);
	assert_int_equal(abi_touch(again.map, false), 0);
	assert_int_equal(abi_touch(peer.map, false), SIGBUS);
	abi_unmap(&again);
	abi_unmap(&peer);
	abi_pair_close(&p);
}

/* Where a session was made so, what was taken back reads as zeros. Each end says it for itself. */
static void test_revoke_zeros(void **state)
{
	struct abi_ep server = abi_ep_open(), client = abi_ep_open();
	struct abi_seg theirs = abi_seg_new(server.fd, 2 * ABI_PAGE), at_client, at_server;
	struct abi_seg ours = abi_seg_new(client.fd, ABI_PAGE);
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_accept a = abi_accept_arg(abi_bind(server.fd, NAME));

	(void)state;
	c.flags = SHMIPC_CONNECT_NONBLOCK | SHMIPC_CONNECT_ZERO_REVOKED;
	c.segment = ours.handle;
	a.segment = theirs.handle;
	must(abi_ioctl(client.fd, SHMIPC_IOC_CONNECT, &c));
	must(abi_ioctl(server.fd, SHMIPC_IOC_ACCEPT, &a));
	at_client = abi_peer_map(client.fd, c.out_session, 0);
	at_server = abi_peer_map(server.fd, a.out_session, 0);
	memset((void *)theirs.map, 7, theirs.length);
	ours.map[0] = 7;
	assert_int_equal(at_client.map[0], 7);	/* the second page is not touched before */
	assert_int_equal(at_server.map[0], 7);
	must(abi_revoke(server.fd, a.out_session, 0));
	must(abi_revoke(client.fd, c.out_session, 0));
	assert_int_equal(abi_touch(at_client.map, false), 0);
	assert_int_equal(at_client.map[0], 0);
	assert_int_equal(at_client.map[ABI_PAGE], 0);
	theirs.map[0] = 8;
	assert_int_equal(at_client.map[0], 0);
	assert_int_equal(abi_touch(at_client.map, true), SIGSEGV);
	fails(mprotect((void *)at_client.map, ABI_PAGE, RW) ? -errno : 0, EACCES);
	assert_int_equal(abi_touch(at_server.map, false), SIGBUS);
	/* Its own memory is no peer's: that ends with a signal. */
	must(abi_close(client.fd, ours.handle, 0));
	assert_int_equal(abi_touch(ours.map, false), SIGBUS);
	abi_unmap(&at_client), abi_unmap(&at_server);
	abi_unmap(&theirs), abi_unmap(&ours);
	abi_ep_close(&server);
	abi_ep_close(&client);
}

/* Splits, moves and refusals must not wear the number out. */
static void test_mappings_max(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct abi_seg seg;
	volatile uint8_t *map[16], *more;
	int round, i;

	(void)state;
	must(abi_seg_create(ep.fd, 3 * ABI_PAGE, &seg));
	for (round = 0; round < 20; round++) {
		for (i = 0; i < 16; i++)
			must(abi_map(ep.fd, seg.offset, seg.length, RW, &map[i]));
		fails(abi_map(ep.fd, seg.offset, seg.length, RW, &more), ENOSPC);
		fails(abi_map(ep.fd, seg.offset, seg.length, PROT_EXEC, &more), EACCES);
		munmap((void *)(map[0] + ABI_PAGE), ABI_PAGE);
		fails(abi_map(ep.fd, seg.offset, ABI_PAGE, RW, &more), ENOSPC);
		more = mremap((void *)map[1], seg.length, seg.length,
			      MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
		assert_ptr_equal(more, MAP_FAILED);
		must(mprotect((void *)(map[2] + ABI_PAGE), ABI_PAGE, PROT_READ) ? -errno : 0);
		for (i = 0; i < 16; i++)
			munmap((void *)map[i], seg.length);
	}
	must(abi_map(ep.fd, seg.offset, seg.length, RW, &more));
	munmap((void *)more, seg.length);
	abi_ep_close(&ep);
}

/* Nor can one mapping be cut into as many pieces as its process likes: a revoke has to undo each. */
static void test_pieces_max(void **state)
{
	enum { PAGES = 256 };
	struct abi_pair p = abi_pair_open(NAME);
	struct abi_seg big, peer;
	int page, cut = 0;

	(void)state;
	big = abi_seg_new(p.server.fd, PAGES * ABI_PAGE);
	must(abi_grant(p.server.fd, p.at_server, big.handle, 5));
	peer = abi_peer_map(p.client.fd, p.at_client, 5);
	for (page = 1; page < PAGES; page += 2) {
		if (mprotect((void *)(peer.map + page * ABI_PAGE), ABI_PAGE, PROT_NONE)) {
			assert_int_equal(errno, ENOMEM);
			break;
		}
		cut++;
	}
	print_message("%d holes\n", cut);
	assert_in_range(cut, 10, 40);
	/* Nothing keeps it from letting go. */
	must(abi_revoke(p.server.fd, p.at_server, 5));
	assert_int_equal(abi_touch(peer.map, false), SIGBUS);
	abi_unmap(&peer);
	abi_unmap(&big);
	abi_pair_close(&p);
}

/* An owner that drops its segment loses its own mapping; the peer keeps what it was granted. */
static void test_owner_closes(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct abi_seg peer = abi_peer_map(p.client.fd, p.at_client, 0);

	(void)state;
	p.server_seg.map[1] = 9;
	must(abi_close(p.server.fd, p.server_seg.handle, 0));
	assert_int_equal(abi_touch(p.server_seg.map, false), SIGBUS);
	assert_int_equal(abi_touch(p.server_seg.map, true), SIGBUS);
	assert_int_equal(peer.map[1], 9);
	must(abi_close(p.server.fd, p.at_server, 0));
	assert_int_equal(peer.map[1], 9);
	expect_event(p.client.fd, p.at_client, SHMIPC_CAUSE_PEER_CLOSED);
	must(abi_close(p.client.fd, p.at_client, 0));
	assert_int_equal(abi_touch(peer.map, false), SIGBUS);
	abi_unmap(&peer);
	abi_pair_close(&p);
}

static void test_close_revokes(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct abi_seg mine = abi_peer_map(p.server.fd, p.at_server, 0);
	struct abi_seg peer = abi_peer_map(p.client.fd, p.at_client, 0);

	(void)state;
	assert_int_equal(abi_touch(peer.map, false), 0);
	assert_int_equal(abi_touch(mine.map, false), 0);
	must(abi_close(p.server.fd, p.at_server, SHMIPC_CLOSE_REVOKE));
	assert_int_equal(abi_touch(peer.map, false), SIGBUS);
	assert_int_equal(abi_touch(mine.map, false), SIGBUS);
	fails(abi_grant(p.client.fd, p.at_client, p.client_seg.handle, 3), EPIPE);
	abi_unmap(&peer);
	abi_unmap(&mine);
	abi_pair_close(&p);
}

/* ---- races ---- */

#define RACE_ROUNDS	abi_rounds(300)

struct race {
	struct abi_pair p;
	volatile uint32_t secret;	/* what the owner wrote after the revoke */
	volatile bool stop;
	volatile long mapped, refused, faulted, read;
};

/* The peer maps, touches and unmaps as fast as it can; what it is refused is SIGBUS or EINVAL. */
static void *race_peer(void *arg)
{
	struct race *r = arg;
	struct shmipc_seg_info info;
	volatile uint8_t *map;

	while (!r->stop) {
		if (abi_peer_info(r->p.client.fd, r->p.at_client, 1, &info) ||
		    abi_map(r->p.client.fd, info.out_offset, info.out_length, PROT_READ, &map)) {
			r->refused++;
			continue;
		}
		r->mapped++;
		if (abi_touch(map, false))
			r->faulted++;
		else
			r->read++;
		munmap((void *)map, info.out_length);
	}
	return NULL;
}

static bool race_met(const struct race *r)
{
	return r->mapped && r->refused && r->read;
}

/*
 * Both orders must come up, and the counts are the module's as well. On a busy machine the peer
 * may not get to it for many rounds.
 */
static void test_race_map(void **state)
{
	struct race r = { .p = abi_pair_open(NAME) };
	/* A mapping has to fit in between. */
	const unsigned int nap = abi_slow() ? 10000 : 200;
	unsigned int seed = 1;
	int i;
	struct abi_seg seg;
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, race_peer, &r), 0);
	for (i = 0; i < RACE_ROUNDS || (!race_met(&r) && i < 10 * RACE_ROUNDS); i++) {
		must(abi_seg_create(r.p.server.fd, 16 * ABI_PAGE, &seg));
		must(abi_grant(r.p.server.fd, r.p.at_server, seg.handle, 1));
		abi_nap(&seed, nap);
		must(abi_revoke(r.p.server.fd, r.p.at_server, 1));
		must(abi_close(r.p.server.fd, seg.handle, 0));
		abi_nap(&seed, nap);
	}
	r.stop = true;
	pthread_join(thread, NULL);
	print_message("mapped %ld, refused %ld, read %ld, faulted %ld\n", r.mapped, r.refused,
		      r.read, r.faulted);
	assert_true(race_met(&r));
	abi_pair_close(&r.p);
}

/* Reads until it is refused. Apart, for what siglongjmp must not lose. */
static void __attribute__((noinline)) read_until_fault(struct race *r, volatile uint8_t *map)
{
	struct sigaction sa = { .sa_handler = abi_on_fault, .sa_flags = SA_NODEFER };

	sigaction(SIGBUS, &sa, NULL);
	if (sigsetjmp(abi_jump, 1))
		return;
	r->mapped = 1;
	for (;;)
		r->secret |= *(volatile uint32_t *)(map + (r->read++ & 15) * ABI_PAGE);
}

/* A mapping that is always there, and refaulted, must never show what was written later. */
static void *race_reader(void *arg)
{
	struct race *r = arg;
	struct abi_seg peer = abi_peer_map(r->p.client.fd, r->p.at_client, 1);

	read_until_fault(r, peer.map);
	r->faulted++;
	abi_unmap(&peer);
	return NULL;
}

static void test_race_fault(void **state)
{
	struct race r = { .p = abi_pair_open(NAME) };
	unsigned int seed = 2, page;
	int i;
	struct abi_seg seg;
	pthread_t thread;

	(void)state;
	for (i = 0; i < RACE_ROUNDS / 3; i++) {
		seg = abi_seg_new(r.p.server.fd, 16 * ABI_PAGE);
		must(abi_grant(r.p.server.fd, r.p.at_server, seg.handle, 1));
		r.mapped = 0;
		assert_int_equal(pthread_create(&thread, NULL, race_reader, &r), 0);
		while (!r.mapped)
			sched_yield();
		abi_nap(&seed, 200);
		must(abi_revoke(r.p.server.fd, r.p.at_server, 1));
		for (page = 0; page < 16; page++)
			*(volatile uint32_t *)(seg.map + page * ABI_PAGE) = 0xdead;
		pthread_join(thread, NULL);
		assert_int_equal(r.secret, 0);
		abi_unmap(&seg);
		must(abi_close(r.p.server.fd, seg.handle, 0));
	}
	signal(SIGBUS, SIG_DFL);
	assert_int_equal(r.faulted, RACE_ROUNDS / 3);
	abi_pair_close(&r.p);
}

static const struct CMUnitTest tests[] = {
	abi_test(test_owner),
	abi_test(test_anchor),
	abi_test(test_anchor_moves),
	abi_test(test_peer),
	abi_test(test_zeroed),
	abi_test(test_windows),
	abi_test(test_revoke),
	abi_test(test_revoke_zeros),
	abi_test(test_mappings_max),
	abi_test(test_pieces_max),
	abi_test(test_owner_closes),
	abi_test(test_close_revokes),
	abi_test(test_race_map),
	abi_test(test_race_fault),
};

abi_main(tests)
