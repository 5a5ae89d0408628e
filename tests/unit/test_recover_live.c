// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * One end is replaced again and again while the other goes on in another thread: it sends, parks
 * what is held, takes returns in, adds segments, and knows of nothing. Then once more without
 * chance: it goes on all at once, before each of the successor's looks at its segment in turn.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include "barrier.h"
#include "reborn.h"

enum { HOLDS = 12, LONGEST = 3000 };

static const struct shmipc_options options = {
	.size = sizeof(options), .max_streams = 4, .window = 65536, .max_memory = 1 << 18,
};

struct peer_thread {
	pthread_t id;
	struct shmipc_stream *down, *up;
	atomic_bool stop;
	uint64_t sent, received;
};

static uint8_t byte_at(uint64_t position)
{
	return (position * 0x9e3779b97f4a7c15ULL) >> 56;
}

static bool same(const struct shmipc_span *span, uint64_t position)
{
	const uint8_t *data = span->data;

	for (size_t i = 0; i < span->len; i++)
		if (data[i] != byte_at(position + i))
			return false;
	return true;
}

static void *run_peer(void *arg)
{
	struct peer_thread *t = arg;
	static uint8_t buf[LONGEST];
	struct shmipc_message m;
	unsigned int seed = 1;
	int n;

	while (!atomic_load(&t->stop)) {
		size_t len = 1 + rand_r(&seed) % (rand_r(&seed) % 4 ? 90 : LONGEST);

		for (size_t i = 0; i < len; i++)
			buf[i] = byte_at(t->sent + i);
		if (shmipc_write(t->down, buf, len, 0, 0) > 0)
			t->sent += len;
		n = shmipc_peek(t->up, &m, 0);
		if (n != 1)
			continue;
		/* Its sender dies all the time: each byte comes once, and in order. */
		if (m.flags || m.position != t->received)
			return "lost or twice";
		for (uint32_t i = 0; i < m.nspans; i++) {
			if (!same(&m.spans[i], t->received))
				return "wrong bytes";
			t->received += m.spans[i].len;
		}
		shmipc_return(t->up, &m);
	}
	if (shmipc_finish(t->down))
		return "no end";
	return NULL;
}

/* Which bytes were returned, as whole messages: each once. */
struct taken {
	uint8_t *seen;		/* a bit field would do; a byte for each is simple */
	uint64_t max, bytes;
};

static void take(struct taken *taken, const struct shmipc_message *m)
{
	if (m->position + m->len > taken->max) {
		uint64_t max = 2 * (m->position + m->len);

		taken->seen = realloc(taken->seen, max);
		memset(taken->seen + taken->max, 0, max - taken->max);
		taken->max = max;
	}
	for (uint64_t i = m->position; i < m->position + m->len; i++) {
		assert_int_equal(taken->seen[i], 0);
		taken->seen[i] = 1;
	}
	taken->bytes += m->len;
}

struct dying {
	struct duo d;
	struct shmipc_stream *down, *up;
	struct shmipc_message held[HOLDS];
	unsigned int nr_held;
	struct taken taken;
	uint64_t sent, again;
};

static void give_back(struct dying *b, unsigned int i)
{
	take(&b->taken, &b->held[i]);
	assert_int_equal(shmipc_return(b->down, &b->held[i]), 0);
	b->held[i] = b->held[--b->nr_held];
}

static int receive(struct dying *b, int64_t timeout_ns)
{
	struct shmipc_message *m = &b->held[b->nr_held];
	int n = shmipc_peek(b->down, m, timeout_ns);

	if (n != 1)
		return n;
	assert_true(same(&m->spans[0], m->position));
	b->again += !!(m->flags & SHMIPC_MSG_REDELIVERED);
	b->nr_held++;
	return 1;
}

static void send(struct dying *b)
{
	static uint8_t buf[LONGEST];
	size_t len = 1 + random() % (random() % 4 ? 90 : LONGEST);

	for (size_t i = 0; i < len; i++)
		buf[i] = byte_at(b->sent + i);
	if (shmipc_write(b->up, buf, len, 0, 0) > 0)
		b->sent += len;
}

static void die(struct dying *b, bool crashed)
{
	uint16_t down = b->down->slot, up = b->up->slot;

	assert_int_equal(reborn(&b->d.b, crashed), 0);
	b->down = reborn_stream(b->d.b, down, 1);
	b->up = reborn_stream(b->d.b, up, 1);
	assert_non_null(b->down);
	assert_non_null(b->up);
	b->nr_held = 0;
}

static void test_live_peer(void **state)
{
	const char *scale = getenv("SHMIPC_TEST_SCALE");
	unsigned int lives = !scale || *scale == 'q' ? 1000 : *scale == 'c' ? 5000 : 50000;
	struct peer_thread t = { 0 };
	struct dying b = { 0 };
	void *wrong = NULL;
	char c;
	int n;

	(void)state;
#if defined(__SANITIZE_ADDRESS__)
	lives = 500;
#endif
	duo_open(&b.d, &options);
	assert_int_equal(shmipc_stream_open(b.d.a, &t.down), 0);
	assert_int_equal(shmipc_stream_open(b.d.b, &b.up), 0);
	assert_int_equal(shmipc_flush(b.up), 0);
	assert_int_equal(shmipc_stream_accept(b.d.a, &t.up, LIMIT), 0);
	assert_int_equal(shmipc_flush(t.down), 0);
	assert_int_equal(shmipc_stream_accept(b.d.b, &b.down, LIMIT), 0);
	pthread_create(&t.id, NULL, run_peer, &t);
	alarm(300);
	for (unsigned int life = 0; life < lives; life++) {
		for (unsigned int i = random() % (life % 4 ? 40 : 1500); i; i--) {
			if (random() % 3 == 0)
				send(&b);
			else if (b.nr_held == HOLDS || (b.nr_held > 3 && random() % 2))
				/* The first ones are kept, so that their slots are needed. */
				give_back(&b, random() % 64 ? b.nr_held - 1 : 0);
			else
				receive(&b, LIMIT);
		}
		die(&b, random() % 4);
	}
	atomic_store(&t.stop, true);
	do {
		n = receive(&b, LIMIT);
		while (b.nr_held)
			give_back(&b, 0);
	} while (n == 1);
	assert_int_equal(n, 0);
	pthread_join(t.id, &wrong);
	if (wrong)
		print_error("the peer: %s\n", (char *)wrong);
	assert_null(wrong);
	/* All that it sent, each byte once; and what it did not read yet is there. */
	assert_true(b.taken.bytes == t.sent);
	assert_int_equal(shmipc_finish(b.up), 0);
	while (shmipc_read(t.up, &c, 1, LIMIT) == 1) {
		assert_int_equal((uint8_t)c, byte_at(t.received));
		t.received++;
	}
	assert_true(t.received == b.sent);
	print_message("%u lives: %lu bytes down, %lu up, %lu messages again, %lu parked\n", lives,
		      t.sent, b.sent, b.again, duo_stats(b.d.a_ep).parked);
	assert_true(b.again > lives / 4 && duo_stats(b.d.a_ep).parked > lives / 10);
	reborn_expect_quiet(&b.d);
	free(b.taken.seen);
	duo_close(&b.d);
}

/* ---- before each look ------------------------------------------------------ */

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)

#define TRAP_FLAG	0x100

/* The survivor, and when it goes on: before the @at-th look at its segment. */
struct survivor {
	struct shmipc_stream *down, *up;
	struct shmipc_message held[HOLDS];
	unsigned int nr_held;
	uint64_t sent, received;
	uint8_t *segment;
	size_t len;
	unsigned long at, looks;
};

static struct survivor *watched;

static bool hold_next(struct survivor *a)
{
	struct shmipc_message *m = &a->held[a->nr_held];

	if (shmipc_peek(a->up, m, 0) != 1)
		return false;
	assert_int_equal(m->position, a->received);
	assert_int_equal(m->nspans, 1);
	assert_true(same(&m->spans[0], a->received));
	a->received += m->len;
	a->nr_held++;
	return true;
}

static void return_held(struct survivor *a)
{
	/* Not in the order in which they came. */
	for (unsigned int i = a->nr_held; i > 0; i--)
		assert_int_equal(shmipc_return(a->up, &a->held[i - 1]), 0);
	a->nr_held = 0;
}

static bool send_down(struct survivor *a, size_t len)
{
	uint8_t buf[200];

	for (size_t i = 0; i < len; i++)
		buf[i] = byte_at(a->sent + i);
	if (shmipc_write(a->down, buf, len, 0, 0) < 0)
		return false;
	a->sent += len;
	return true;
}

/* All that it can: it takes and returns what it has, and sends until there is no room. */
static void go_on(struct survivor *a)
{
	while (a->nr_held < HOLDS && hold_next(a))
		;
	return_held(a);
	while (send_down(a, 1 + a->sent % 150))
		;
}

/* Closed, a look at it is a fault; open for one instruction, which the trap flag ends. */
static void looks_at(int sig, siginfo_t *info, void *context)
{
	struct survivor *a = watched;
	ucontext_t *user = context;
	uint8_t *at = info->si_addr;

	/* No look: the instruction is tried again, and fails as it would without us. */
	if (at < a->segment || at >= a->segment + a->len) {
		signal(sig, SIG_DFL);
		return;
	}
	mprotect(a->segment, a->len, PROT_READ | PROT_WRITE);
	if (++a->looks == a->at)
		go_on(a);
	else
		user->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void looked(int sig, siginfo_t *info, void *context)
{
	ucontext_t *user = context;

	(void)sig;
	(void)info;
	user->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
	mprotect(watched->segment, watched->len, PROT_NONE);
}

static void catch_looks(void)
{
	struct sigaction look = { .sa_sigaction = looks_at, .sa_flags = SA_SIGINFO };
	struct sigaction step = { .sa_sigaction = looked, .sa_flags = SA_SIGINFO };

	sigaction(SIGSEGV, &look, NULL);
	sigaction(SIGTRAP, &step, NULL);
}

/*
 * Some messages are out each way, seen and unseen, and the survivor's return ring has room for
 * @lead returns before it comes round.
 */
static void prepare(struct dying *b, struct survivor *a, unsigned int lead)
{
	const struct rx *rx;

	duo_open(&b->d, &options);
	assert_int_equal(shmipc_stream_open(b->d.a, &a->down), 0);
	assert_int_equal(shmipc_stream_open(b->d.b, &b->up), 0);
	assert_int_equal(shmipc_flush(b->up), 0);
	assert_int_equal(shmipc_stream_accept(b->d.a, &a->up, LIMIT), 0);
	assert_int_equal(shmipc_flush(a->down), 0);
	assert_int_equal(shmipc_stream_accept(b->d.b, &b->down, LIMIT), 0);
	rx = &b->d.a->rx;
	while (rx->returned < rx->nr_returns || (rx->returned + lead) % rx->nr_returns) {
		send(b);
		while (hold_next(a))
			return_held(a);
	}
	for (unsigned int i = 0; i < HOLDS; i++) {
		send(b);
		assert_true(i >= HOLDS / 2 || hold_next(a));
		assert_true(send_down(a, 1 + i * 13));
		assert_true(i >= HOLDS / 2 || receive(b, LIMIT) == 1);
	}
	give_back(b, 1);
	a->segment = (uint8_t *)(uintptr_t)b->d.b->rx.mappings[0].addr;
	a->len = b->d.b->rx.mappings[0].len;
}

/* Nothing is missing and nothing comes twice, and both ends know that nothing is out. */
static void settle(struct dying *b, struct survivor *a)
{
	do {
		go_on(a);
		while (receive(b, 0) == 1)
			give_back(b, 0);
	} while (b->taken.bytes != a->sent || a->received != b->sent);
	reborn_expect_quiet(&b->d);
	free(b->taken.seen);
	duo_close(&b->d);
}

/* True: there was such a look. */
static bool go_on_at(unsigned long at, unsigned int lead, bool crashed)
{
	struct dying b = { 0 };
	struct survivor a = { .at = at };

	prepare(&b, &a, lead);
	watched = &a;
	if (!crashed)
		while (b.nr_held)
			give_back(&b, 0);
	mprotect(a.segment, a.len, PROT_NONE);
	die(&b, crashed);
	mprotect(a.segment, a.len, PROT_READ | PROT_WRITE);
	settle(&b, &a);
	return a.looks >= at;
}

/* A quick run leaves looks out, but not all that are at the words with which a lap begins. */
static unsigned int stride(void)
{
	const char *scale = getenv("SHMIPC_TEST_SCALE");

#if defined(__SANITIZE_ADDRESS__)
	return 8;
#endif
	return !scale || *scale == 'q' ? 8 : *scale == 'c' ? 3 : 1;
}

static void test_each_look(void **state)
{
	static const unsigned int leads[] = { 1, HOLDS / 2, HOLDS - 1, HOLDS + 5 };
	unsigned long at, tried = 0;

	(void)state;
	alarm(600);
	catch_looks();
	for (unsigned int i = 0; i < 4; i++)
		for (at = 1 + i; go_on_at(at, leads[i], i % 2 == 0); at += stride())
			tried++;
	signal(SIGSEGV, SIG_DFL);
	signal(SIGTRAP, SIG_DFL);
	print_message("the peer went on before each of %lu looks\n", tried);
	assert_true(tried > 100);
}

#else

static void test_each_look(void **state)
{
	(void)state;
	print_message("skip: stepping is for x86 alone\n");
	skip();
}

#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_live_peer), cmocka_unit_test(test_each_look),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
