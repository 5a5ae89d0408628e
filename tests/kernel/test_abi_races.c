// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Any two requests that share an object, at the same time. Each round prepares the object, lets two
 * threads, or this process and one that exits, go from a barrier after a nap of up to 200 us, and
 * looks who came first. What a loser is told is one of a few errnos; after the rounds of a pair
 * nothing is alive, and both orders must have been seen where they can be told apart.
 *
 * SHMIPC_RACE_ROUNDS: rounds of each pair (200, and 1,000 in the long check; 25 and 100 with
 * SHMIPC_TEST_SLOW).
 */
#define _GNU_SOURCE
#include "abi.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>

#include "races.h"

#define NAP_US	200

/* Who was first, as far as the results tell. */
enum tells {
	TELLS_NOTHING,		/* neither minds the other */
	A_NEEDS_TO_BE_FIRST,	/* A fails after B, and works before it */
	A_NEEDS_TO_BE_SECOND,	/* A works after B only */
	ONE_WINS,		/* exactly one works: the first */
};

/* For a pair with a process that exits: how far the two have come when they race. */
enum stage { NO_STAGE, LISTENING, QUEUED, SESSION, GRANTED, GIVEN, MAPPED };

/**
 * struct pair - two that race
 * @prepare: in one process
 * @stage: else, of two processes; B is the end of the one that has the server or the client
 * @server_exits: which one
 * @a_may: errnos of A besides success; B has some with ONE_WINS only, and they are the same
 */
struct pair {
	const char *name;
	void (*prepare)(struct ring *r);
	operation a, b;
	enum tells tells;
	int a_may[4];
	enum stage stage;
	bool server_exits;
};

/* ---- rounds ---- */

/**
 * struct lane - one of the two who race
 * @go: of both
 * @ready: has reached the barrier
 * @nap_us: before it starts
 */
struct lane {
	operation op;
	struct ring *ring;
	uint32_t *go;
	uint32_t ready;
	unsigned int nap_us;
	int result;
};

static void raise_flag(uint32_t *flag)
{
	/* release: pairs with wait_for(); a process that waits sees what was done before */
	__atomic_store_n(flag, 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, flag, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Not a spin: on an emulated machine it would keep the other one from its processor. */
static void wait_for(uint32_t *flag)
{
	struct timespec limit = { .tv_sec = 30 };

	/* acquire: pairs with raise_flag() */
	while (!__atomic_load_n(flag, __ATOMIC_ACQUIRE)) {
		if (syscall(SYS_futex, flag, FUTEX_WAIT, 0, &limit, NULL, 0))
			assert_int_not_equal(errno, ETIMEDOUT);
	}
}

static void lane_run(struct lane *l)
{
	struct timespec ts = { .tv_sec = l->nap_us / 1000000,
			       .tv_nsec = l->nap_us % 1000000 * 1000 };

	raise_flag(&l->ready);
	wait_for(l->go);
	nanosleep(&ts, NULL);
	l->result = l->op(l->ring);
}

static void *lane_thread(void *arg)
{
	lane_run(arg);
	return NULL;
}

/**
 * struct course - a pair's rounds
 * @shift: added to A's nap, or taken from B's: keeps the two level where one is slower to come
 *	to the point, so that they meet
 * @step: by which it moves; doubles while the same one wins
 * @last: who won last
 */
struct course {
	const struct pair *pair;
	unsigned int seed;
	long shift, step;
	int last;
	long first[2], both, neither;
};

static void course_level(struct course *c, int winner)
{
	c->step = winner != c->last ? 10 : c->step < 20000 ? 2 * c->step : c->step;
	c->last = winner;
	c->shift += winner ? -c->step : c->step;
}

static bool allowed(int ret, const int *may)
{
	int i;

	for (i = 0; ret && i < 4; i++) {
		if (ret == -may[i])
			return true;
	}
	return !ret;
}

/* 0: A was first, 1: B, -1: nobody can tell, -2: neither worked. */
static int who(const struct pair *p, int a, int b)
{
	switch (p->tells) {
	case A_NEEDS_TO_BE_FIRST:
		return a ? 1 : 0;
	case A_NEEDS_TO_BE_SECOND:
		return a ? 0 : 1;
	case ONE_WINS:
		assert_true(a || b);
		return a && b ? -2 : a ? 1 : 0;
	default:
		return -1;
	}
}

static void course_count(struct course *c, int a, int b)
{
	const struct pair *p = c->pair;
	int winner = who(p, a, b);

	if (!allowed(a, p->a_may) || (b && (p->tells != ONE_WINS || !allowed(b, p->a_may)))) {
		print_error("%s: A %s, B %s\n", p->name, strerror(-a), strerror(-b));
		fail();
	}
	if (winner >= 0) {
		c->first[winner]++;
		course_level(c, winner);
	} else if (winner == -2) {
		c->neither++;
	} else {
		c->both++;
	}
}

static void set_naps(struct course *c, struct lane *a, struct lane *b)
{
	a->nap_us = rand_r(&c->seed) % NAP_US + (c->shift > 0 ? c->shift : 0);
	b->nap_us = rand_r(&c->seed) % NAP_US + (c->shift < 0 ? -c->shift : 0);
}

static void round_of_threads(struct course *c)
{
	struct ring ring = { .server.fd = -1, .client.fd = -1 };
	uint32_t go = 0;
	struct lane a = { c->pair->a, &ring, &go, 0, 0, 0 };
	struct lane b = { c->pair->b, &ring, &go, 0, 0, 0 };
	pthread_t thread;

	c->pair->prepare(&ring);
	set_naps(c, &a, &b);
	assert_int_equal(pthread_create(&thread, NULL, lane_thread, &b), 0);
	wait_for(&b.ready);
	raise_flag(&go);
	lane_run(&a);
	pthread_join(thread, NULL);
	ring_close(&ring);
	course_count(c, a.result, b.result);
}

/* ---- rounds of processes ---- */

/* What the two processes of a round share. */
struct shared {
	uint32_t listening, queued, accepted, granted, go;
	uint32_t ready[2];	/* the client's process, the server's */
};

static void server_goes_to(struct ring *r, struct shared *sh, enum stage stage)
{
	struct shmipc_accept a;

	open_server(r);
	raise_flag(&sh->listening);
	if (stage < SESSION)
		return;
	wait_for(&sh->queued);
	a = abi_accept_arg(r->listener);
	must(abi_ioctl(r->server.fd, SHMIPC_IOC_ACCEPT, &a));
	r->at_server = a.out_session;
	raise_flag(&sh->accepted);
	if (stage >= GRANTED)
		must(server_grants(r));
	if (stage == GIVEN)
		must(server_gives(r));
	raise_flag(&sh->granted);
}

static void client_goes_to(struct ring *r, struct shared *sh, enum stage stage)
{
	wait_for(&sh->listening);
	open_client(r);
	if (stage >= QUEUED)
		client_queues(r);
	raise_flag(&sh->queued);
	if (stage < SESSION)
		return;
	wait_for(&sh->accepted);
	if (stage != GIVEN)	/* else it has two causes by now, or comes twice */
		expect_event(r->client.fd, r->at_client, SHMIPC_CAUSE_CONNECTED);
	wait_for(&sh->granted);
	if (stage >= GRANTED)
		client_looks_up(r);
	if (stage >= MAPPED)
		must(abi_map(r->client.fd, r->offset, r->length, PROT_READ, &r->map));
}

/* One of the processes, from its first step to the end of the race. */
static int run_party(struct course *c, struct lane *l, struct shared *sh, bool server)
{
	struct ring ring = { .server.fd = -1, .client.fd = -1 };

	l->ring = &ring;
	l->go = &sh->go;
	if (server)
		server_goes_to(&ring, sh, c->pair->stage);
	else
		client_goes_to(&ring, sh, c->pair->stage);
	raise_flag(&sh->ready[server]);
	if (l->op != exits) {
		wait_for(&sh->ready[!server]);
		raise_flag(&sh->go);
	}
	lane_run(l);
	ring_close(&ring);
	return l->result;
}

static void round_of_processes(struct course *c)
{
	struct shared *sh = mmap(NULL, ABI_PAGE, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct lane a = { .op = c->pair->a }, b = { .op = exits };
	bool both = a.op == exits;
	pid_t pid[2] = {};

	set_naps(c, &a, &b);
	pid[0] = abi_fork();
	if (!pid[0])
		run_party(c, &b, sh, c->pair->server_exits);
	if (both) {
		pid[1] = abi_fork();
		if (!pid[1])
			run_party(c, &a, sh, !c->pair->server_exits);
		wait_for(&sh->ready[0]);
		wait_for(&sh->ready[1]);
		raise_flag(&sh->go);
		assert_int_equal(abi_reap(pid[1]), 0);
	} else {
		run_party(c, &a, sh, !c->pair->server_exits);
	}
	assert_int_equal(abi_reap(pid[0]), 0);
	munmap(sh, ABI_PAGE);
	course_count(c, a.result, 0);
}

/* ---- the pairs ---- */

#define T(what, prepare, a, b, tells, ...) { what, prepare, a, b, tells, { __VA_ARGS__ }, 0, 0 }
#define P(what, stage, server, a, tells, ...) \
	{ what, NULL, a, exits, tells, { __VA_ARGS__ }, stage, server }

/* SYNC, CLOSE, mmap, munmap, GRANT, REVOKE, ACCEPT, CONNECT, exit: each with all; GIVE and TAKE. */
static const struct pair pairs[] = {
	T("sync_sync", prepare_session, client_takes, server_rings, A_NEEDS_TO_BE_SECOND,
	  ETIMEDOUT),
	T("sync_close", prepare_session, server_rings, server_closes, A_NEEDS_TO_BE_FIRST, ENOENT),
	T("sync_close_peer", prepare_session, client_takes, server_closes, A_NEEDS_TO_BE_SECOND,
	  ETIMEDOUT),
	T("sync_mmap", prepare_file, client_syncs, client_maps_anchor, A_NEEDS_TO_BE_SECOND,
	  EINVAL),
	T("sync_munmap", prepare_session, server_rings, server_unmaps_anchor, A_NEEDS_TO_BE_FIRST,
	  ESTALE, ENOENT),
	T("sync_grant", prepare_session, server_rings, server_grants, TELLS_NOTHING),
	T("sync_revoke", prepare_grant, server_rings, server_revokes, TELLS_NOTHING),
	T("sync_accept", prepare_queued, client_rings, server_accepts, A_NEEDS_TO_BE_SECOND,
	  ENOTCONN),
	T("sync_connect", prepare_listener, server_takes, client_connects, A_NEEDS_TO_BE_SECOND,
	  ETIMEDOUT),
	P("sync_exit", SESSION, true, client_takes, A_NEEDS_TO_BE_SECOND, ETIMEDOUT),
	T("close_close", prepare_session, server_closes, server_closes, ONE_WINS, ENOENT),
	T("close_close_peer", prepare_session, server_closes, client_closes, TELLS_NOTHING),
	T("close_mmap", prepare_grant, client_maps, server_closes_revoking, A_NEEDS_TO_BE_FIRST,
	  EINVAL, EFAULT),
	T("close_mmap_kept", prepare_grant, client_maps, server_closes_segment, TELLS_NOTHING),
	T("close_munmap", prepare_touched, client_unmaps, server_closes_revoking,
	  A_NEEDS_TO_BE_FIRST, EFAULT),
	T("close_grant", prepare_session, server_grants, server_closes, A_NEEDS_TO_BE_FIRST,
	  ENOENT),
	T("close_grant_peer", prepare_session, server_grants, client_closes, A_NEEDS_TO_BE_FIRST,
	  EPIPE),
	T("close_grant_segment", prepare_session, server_grants, server_closes_segment,
	  A_NEEDS_TO_BE_FIRST, ENOENT),
	T("close_revoke", prepare_grant, server_revokes, server_closes, A_NEEDS_TO_BE_FIRST,
	  ENOENT),
	T("close_revoke_peer", prepare_grant, server_revokes, client_closes, A_NEEDS_TO_BE_FIRST,
	  ENOENT),
	T("close_accept", prepare_queued, server_accepts, client_closes, A_NEEDS_TO_BE_FIRST,
	  EAGAIN),
	T("close_accept_listener", prepare_queued, server_accepts, server_closes_listener,
	  A_NEEDS_TO_BE_FIRST, ENOENT, EAGAIN),
	T("close_connect", prepare_listener, client_connects, server_closes_listener,
	  A_NEEDS_TO_BE_FIRST, ENOENT, ECONNREFUSED),
	P("close_exit", SESSION, false, server_closes, TELLS_NOTHING),
	T("mmap_mmap", prepare_file, client_maps_anchor, client_maps_anchor_too, ONE_WINS, EBUSY),
	T("mmap_munmap", prepare_grant, client_maps, client_unmaps_anchor, A_NEEDS_TO_BE_FIRST,
	  ESTALE, EINVAL, EFAULT),
	T("mmap_grant", prepare_session, client_maps_grant, server_grants, A_NEEDS_TO_BE_SECOND,
	  ENOENT),
	T("mmap_revoke", prepare_grant, client_maps, server_revokes, A_NEEDS_TO_BE_FIRST,
	  EINVAL, EFAULT),
	T("mmap_accept", prepare_queued, client_maps_first, server_accepts, A_NEEDS_TO_BE_SECOND,
	  ENOTCONN),
	T("mmap_connect", prepare_file_and_name, client_connects, client_maps_anchor,
	  A_NEEDS_TO_BE_SECOND, EINVAL),
	P("mmap_exit", GRANTED, true, client_maps, TELLS_NOTHING),
	T("munmap_munmap", prepare_touched, client_unmaps, client_unmaps_anchor,
	  A_NEEDS_TO_BE_FIRST, EFAULT),
	T("munmap_grant", prepare_session, server_grants, server_unmaps_anchor,
	  A_NEEDS_TO_BE_FIRST, ESTALE, ENOENT),
	T("munmap_grant_peer", prepare_session, server_grants, client_unmaps_anchor,
	  A_NEEDS_TO_BE_FIRST, EPIPE),
	T("munmap_revoke", prepare_mapping, client_unmaps, server_revokes, A_NEEDS_TO_BE_FIRST,
	  EFAULT),
	T("munmap_revoke_touched", prepare_touched, client_unmaps, server_revokes,
	  A_NEEDS_TO_BE_FIRST, EFAULT),
	T("munmap_accept", prepare_queued, server_accepts, server_unmaps_anchor,
	  A_NEEDS_TO_BE_FIRST, ESTALE, ENOENT, EAGAIN),
	T("munmap_connect", prepare_listener, client_connects, server_unmaps_anchor,
	  A_NEEDS_TO_BE_FIRST, ENOENT, ECONNREFUSED),
	P("munmap_exit", MAPPED, true, client_unmaps, TELLS_NOTHING),
	T("grant_grant", prepare_session, server_grants, server_grants, ONE_WINS, EEXIST),
	T("grant_revoke", prepare_session, server_revokes, server_grants, A_NEEDS_TO_BE_SECOND,
	  ENOENT),
	T("grant_accept", prepare_queued, client_grants, server_accepts, A_NEEDS_TO_BE_SECOND,
	  ENOTCONN),
	T("grant_connect", prepare_session, client_grants, client_connects, TELLS_NOTHING),
	P("grant_exit", SESSION, false, server_grants, A_NEEDS_TO_BE_FIRST, EPIPE),
	T("revoke_revoke", prepare_grant, server_revokes, server_revokes, ONE_WINS, ENOENT),
	T("revoke_accept", prepare_queued, client_revokes_first, server_accepts,
	  A_NEEDS_TO_BE_SECOND, ENOENT),
	T("revoke_connect", prepare_client_grant, client_revokes, client_connects, TELLS_NOTHING),
	P("revoke_exit", GRANTED, false, server_revokes, A_NEEDS_TO_BE_FIRST, ENOENT),
	T("accept_accept", prepare_queued, server_accepts, server_accepts, ONE_WINS, EAGAIN),
	T("accept_connect", prepare_listener, server_accepts, client_connects,
	  A_NEEDS_TO_BE_SECOND, EAGAIN),
	P("accept_exit", QUEUED, false, server_accepts, A_NEEDS_TO_BE_FIRST, EAGAIN),
	T("connect_connect", prepare_listener, client_connects, client_connects, ONE_WINS, EAGAIN),
	P("connect_exit", LISTENING, true, client_connects, A_NEEDS_TO_BE_FIRST, ENOENT,
	  ECONNREFUSED),
	T("give_give", prepare_grant, server_gives, server_gives, ONE_WINS, EBUSY),
	T("give_take", prepare_grant, client_takes_gift, server_gives, A_NEEDS_TO_BE_SECOND,
	  ENOENT),
	T("give_close", prepare_grant, server_gives, server_closes, A_NEEDS_TO_BE_FIRST, ENOENT),
	T("give_close_peer", prepare_grant, server_gives, client_closes, A_NEEDS_TO_BE_FIRST,
	  EPIPE, ENOENT),
	T("give_close_segment", prepare_grant, server_gives, server_closes_segment,
	  A_NEEDS_TO_BE_FIRST, ENOENT),
	P("give_exit", GRANTED, false, server_gives, A_NEEDS_TO_BE_FIRST, EPIPE, ENOENT),
	T("give_revoke", prepare_grant, server_gives, server_revokes, A_NEEDS_TO_BE_FIRST, ENOENT),
	T("give_freeze", prepare_grant, server_freezes, server_gives, A_NEEDS_TO_BE_FIRST, EBUSY),
	T("give_mmap", prepare_owner_touched, server_maps, server_gives, A_NEEDS_TO_BE_FIRST,
	  EINVAL, EFAULT),
	T("give_write", prepare_owner_touched, server_writes, server_gives, A_NEEDS_TO_BE_FIRST,
	  EFAULT),
	T("freeze_write", prepare_owner_touched, server_writes, server_freezes,
	  A_NEEDS_TO_BE_FIRST, EFAULT),
	T("freeze_mmap", prepare_owner_touched, server_maps, server_freezes, A_NEEDS_TO_BE_FIRST,
	  EACCES, EFAULT),
	T("take_take", prepare_gift, client_takes_gift, client_takes_gift, ONE_WINS, ENOENT),
	T("take_refuse", prepare_gift, client_takes_gift, client_refuses, ONE_WINS, ENOENT),
	T("take_close", prepare_gift, client_takes_gift, client_closes, A_NEEDS_TO_BE_FIRST,
	  ENOENT),
	T("take_close_revoking", prepare_gift, client_takes_gift, server_closes_revoking,
	  A_NEEDS_TO_BE_FIRST, ENOENT),
	T("take_close_segment", prepare_gift, client_takes_gift, server_closes_segment,
	  TELLS_NOTHING),
	P("take_exit", GIVEN, true, client_takes_gift, TELLS_NOTHING),
	T("take_munmap", prepare_gift, client_takes_gift, client_unmaps_anchor,
	  A_NEEDS_TO_BE_FIRST, ESTALE, ENOENT),
	T("take_revoke", prepare_gift, client_takes_gift, server_revokes, ONE_WINS, ENOENT),
	T("take_mmap", prepare_gift, client_maps, client_takes_gift, TELLS_NOTHING),
	T("refuse_revoke", prepare_gift, client_refuses, server_revokes, A_NEEDS_TO_BE_FIRST,
	  ENOENT),
	T("refuse_close_segment", prepare_gift, client_refuses, server_closes_segment,
	  TELLS_NOTHING),
	P("exit_exit", GRANTED, true, exits, TELLS_NOTHING),
	/* A handover's steps with each other and with what may come in between. */
	T("offer_offer", prepare_session, server_offers, server_offers, ONE_WINS, EBUSY),
	T("adopt_adopt", prepare_offer, somebody_adopts, somebody_adopts, ONE_WINS, EBUSY),
	T("adopt_cancel", prepare_offer, somebody_adopts, server_cancels, A_NEEDS_TO_BE_FIRST,
	  ESTALE),
	T("adopt_death", prepare_offer, somebody_adopts, server_unmaps_anchor,
	  A_NEEDS_TO_BE_FIRST, ESTALE),
	T("adopt_yield", prepare_offer, server_yields, somebody_adopts, A_NEEDS_TO_BE_SECOND,
	  EAGAIN),
	T("yield_create", prepare_adopted, server_creates, server_yields, A_NEEDS_TO_BE_FIRST,
	  EBUSY),
	T("yield_grant", prepare_adopted, server_grants, server_yields, A_NEEDS_TO_BE_FIRST,
	  EBUSY),
	T("yield_sync", prepare_adopted, server_rings, server_yields, A_NEEDS_TO_BE_FIRST, EBUSY),
	T("yield_commit", prepare_adopted, next_commits, server_yields, A_NEEDS_TO_BE_SECOND,
	  EAGAIN),
	T("commit_commit", prepare_yielded, next_commits, next_commits, ONE_WINS, ENOENT),
	T("commit_cancel", prepare_yielded, next_commits, server_cancels, ONE_WINS, ESTALE,
	  ENOENT),
	T("commit_give_up", prepare_yielded, next_commits, next_gives_up, A_NEEDS_TO_BE_FIRST,
	  ESTALE),
	T("commit_lost", prepare_yielded, next_commits, next_unmaps_anchor, A_NEEDS_TO_BE_FIRST,
	  ESTALE),
	T("commit_death", prepare_yielded, next_commits, server_unmaps_anchor,
	  A_NEEDS_TO_BE_FIRST, ESTALE),
	T("commit_end", prepare_yielded, next_commits, server_ends, ONE_WINS, ESTALE),
	T("commit_write", prepare_writer, server_writes, next_commits, A_NEEDS_TO_BE_FIRST,
	  EFAULT),
	T("commit_list", prepare_yielded, next_lists, next_commits, TELLS_NOTHING),
	T("commit_ring", prepare_yielded, client_rings, next_commits, TELLS_NOTHING),
	T("commit_connect", prepare_yielded, client_connects, next_commits, TELLS_NOTHING),
	T("commit_close_peer", prepare_yielded, client_closes, next_commits, TELLS_NOTHING),
	T("commit_grant_peer", prepare_yielded, client_grants, next_commits, TELLS_NOTHING),
	T("commit_mmap_peer", prepare_pause_grant, client_maps, next_commits, TELLS_NOTHING),
	T("commit_death_peer", prepare_yielded, next_commits, client_unmaps_anchor,
	  TELLS_NOTHING),
};

#define NR_PAIRS	((int)(sizeof(pairs) / sizeof(*pairs)))

static long rounds(void)
{
	const char *text = getenv("SHMIPC_RACE_ROUNDS"), *scale = getenv("SHMIPC_TEST_SCALE");
	bool longer = scale && !strcmp(scale, "long");

	return text ? atol(text) : abi_slow() ? (longer ? 100 : 25) : (longer ? 1000 : 200);
}

static void test_pair(void **state)
{
	struct course c = { .pair = *state, .seed = 1, .last = -1 };
	long i, nr = rounds();
	bool observable = c.pair->tells != TELLS_NOTHING;
	struct sigaction sa = { .sa_handler = abi_on_fault, .sa_flags = SA_NODEFER };

	uint64_t start = abi_now_ns();
	int held = abi_open_raw();	/* else each round mounts and unmounts the inodes */

	must(held);
	sigaction(SIGBUS, &sa, NULL);
	/* Where the two are of very different length, it takes a while until they are level. */
	for (i = 0; i < nr || (observable && !(c.first[0] && c.first[1]) && i < 10 * nr); i++) {
		if (c.pair->prepare)
			round_of_threads(&c);
		else
			round_of_processes(&c);
	}
	close(held);
	print_message("%-22s A first %ld, B first %ld, both failed %ld, can't tell %ld, %llu ms\n",
		      c.pair->name, c.first[0], c.first[1], c.neither, c.both,
		      (unsigned long long)(abi_now_ns() - start) / 1000000);
	if (observable)
		assert_true(c.first[0] > 0 && c.first[1] > 0);
}

static struct CMUnitTest tests[NR_PAIRS];

static void __attribute__((constructor)) fill_tests(void)
{
	int i;

	for (i = 0; i < NR_PAIRS; i++)
		tests[i] = (struct CMUnitTest){ pairs[i].name, test_pair, NULL, abi_nothing_left,
						(void *)&pairs[i] };
}

abi_main(tests)
