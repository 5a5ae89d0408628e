// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * One end is replaced again and again while the other goes on in another thread: it sends, parks what is
 * held, takes returns in, adds segments, and knows of nothing.
 */
#include <pthread.h>
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

static int receive(struct dying *b)
{
	struct shmipc_message *m = &b->held[b->nr_held];
	int n = shmipc_peek(b->down, m, LIMIT);

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
				receive(&b);
		}
		die(&b, random() % 4);
	}
	atomic_store(&t.stop, true);
	do {
		n = receive(&b);
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

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_live_peer) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
