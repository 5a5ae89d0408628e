// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Many streams, many threads, many sessions; and some that stall while others must not. */
#include "checker.h"
#include "pair.h"

#include <pthread.h>

static struct shmipc_stream *opened(struct shmipc_session *s)
{
	struct shmipc_stream *st;

	check_eq(shmipc_stream_open(s, &st), 0);
	return st;
}

static struct shmipc_stream *accepted(struct shmipc_session *s)
{
	struct shmipc_stream *st;

	check_eq(shmipc_stream_accept(s, &st, LIMIT), 0);
	return st;
}

static void ask(struct shmipc_stream *st, uint64_t n)
{
	check_eq(shmipc_write(st, &n, sizeof(n), 0, LIMIT), sizeof(n));
}

static uint64_t hear(struct shmipc_stream *st)
{
	uint64_t n;

	check_eq(shmipc_read(st, &n, sizeof(n), LIMIT), sizeof(n));
	return n;
}

/* ---- both sides open at once --------------------------------------------------- */

enum { EACH = 30 };

/* An emulated processor wakes another in a millisecond, and with the module there is no other. */
static size_t round_trips(size_t quick, size_t usual, size_t longer)
{
	return pair_scale(quick, usual, longer) / (pair_is_kernel() ? 10 : 1);
}

static void open_and_accept(struct pair *p, uint64_t mine, uint64_t theirs)
{
	struct shmipc_stream *out[EACH], *in[EACH];

	for (uint64_t i = 0; i < EACH; i++) {
		out[i] = opened(p->session);
		ask(out[i], mine + i);
	}
	for (int i = 0; i < EACH; i++) {
		uint64_t n;

		in[i] = accepted(p->session);
		n = hear(in[i]);
		check(n >= theirs && n < theirs + EACH);
		ask(in[i], n * 2);
	}
	for (uint64_t i = 0; i < EACH; i++)
		check_eq(hear(out[i]), 2 * (mine + i));
	for (int i = 0; i < EACH; i++) {
		shmipc_stream_close(out[i]);
		shmipc_stream_close(in[i]);
	}
}

static void both_child(struct pair *p, void *arg)
{
	(void)arg;
	for (int i = 0; i < 20; i++)
		open_and_accept(p, 1000, 2000);
	pair_tell(p);
	pair_hear(p);
}

static void test_both_open(void **state)
{
	struct pair p;

	(void)state;
	pair_start(&p, NULL, 0, both_child, NULL);
	for (int i = 0; i < 20; i++)
		open_and_accept(&p, 2000, 1000);
	pair_tell(&p);
	pair_hear(&p);
	pair_end(&p);
}

/* ---- 100 streams, 8 threads ------------------------------------------------------ */

enum { THREADS = 8, STREAMS = 100, TRIPS = 20 };

static void echo_events(struct pair *p, unsigned int streams)
{
	struct shmipc_event events[32];
	unsigned int ended = 0;
	char buf[4096];

	while (ended < streams) {
		int n = shmipc_wait(p->ep, events, 32, LIMIT);

		check(n > 0);
		for (int i = 0; i < n; i++) {
			struct shmipc_stream *st = events[i].object;
			ssize_t len;

			if (events[i].type == SHMIPC_EV_STREAM)
				accepted(p->session);
			if (events[i].type != SHMIPC_EV_READ)
				continue;
			len = shmipc_read(st, buf, sizeof(buf), 0);
			check(len >= 0);
			if (len > 0) {
				send_all(st, buf, len);
				continue;
			}
			shmipc_stream_close(st);
			ended++;
		}
	}
}

static void echo_child(struct pair *p, void *arg)
{
	echo_events(p, *(unsigned int *)arg);
	pair_hear(p);
}

struct worker {
	pthread_t thread;
	struct shmipc_session *session;
	unsigned int streams, key;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct shmipc_stream *st[STREAMS];
	struct checker c[STREAMS];
	char out[3000], in[3000];

	for (unsigned int i = 0; i < w->streams; i++) {
		st[i] = opened(w->session);
		c[i] = (struct checker){ .key = w->key + i };
	}
	for (unsigned int trip = 0; trip < TRIPS; trip++) {
		size_t len = 1 + trip * 149;

		for (unsigned int i = 0; i < w->streams; i++) {
			fill(out, len, c[i].key, c[i].position);
			send_all(st[i], out, len);
		}
		for (unsigned int i = 0; i < w->streams; i++) {
			read_all(st[i], in, len);
			check(!checker_take(&c[i], in, len));
		}
	}
	for (unsigned int i = 0; i < w->streams; i++)
		shmipc_stream_close(st[i]);
	return NULL;
}

static void test_threads(void **state)
{
	struct shmipc_options opt = { .size = sizeof(opt), .max_streams = 2 * STREAMS };
	unsigned int streams = STREAMS, left = STREAMS;
	struct worker w[THREADS];
	struct pair p;

	(void)state;
	pair_start(&p, &opt, 0, echo_child, &streams);
	for (int i = 0; i < THREADS; i++) {
		w[i].session = p.session;
		w[i].streams = left / (THREADS - i);
		w[i].key = left;
		left -= w[i].streams;
		pthread_create(&w[i].thread, NULL, work, &w[i]);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(w[i].thread, NULL);
	pair_tell(&p);
	pair_end(&p);
}

/* ---- a new segment in the face of several threads --------------------------------- */

enum { READERS = 4, LARGE = 60000, MEETINGS = 25 };

static void grow_child(struct pair *p, void *arg)
{
	static char buf[LARGE];
	struct shmipc_stream *st[READERS];

	(void)arg;
	for (int i = 0; i < READERS; i++) {
		st[i] = opened(p->session);
		ask(st[i], i);
	}
	pair_hear(p);
	for (int i = 0; i < READERS; i++) {
		fill(buf, LARGE, i, 0);
		send_all(st[i], buf, LARGE);
	}
	pair_hear(p);
}

struct reader {
	pthread_t thread;
	struct shmipc_stream *st;
	uint64_t key;
};

static void *read_large(void *arg)
{
	struct reader *r = arg;
	struct checker c = { .key = r->key };
	char *buf = malloc(LARGE);

	/* Not asleep when it comes: each thread takes frames off the ring by itself. */
	for (size_t done = 0; done < LARGE;) {
		ssize_t n = shmipc_read(r->st, buf + done, LARGE - done, 0);

		check(n > 0 || n == -EAGAIN);
		done += n > 0 ? n : 0;
	}
	check(!checker_take(&c, buf, LARGE));
	free(buf);
	return NULL;
}

static void test_new_segment(void **state)
{
	(void)state;
	for (int i = 0; i < MEETINGS; i++) {
		struct reader r[READERS];
		struct pair p;

		pair_start(&p, NULL, 0, grow_child, NULL);
		for (int j = 0; j < READERS; j++) {
			r[j].st = accepted(p.session);
			r[j].key = hear(r[j].st);
			pthread_create(&r[j].thread, NULL, read_large, &r[j]);
		}
		pair_tell(&p);
		for (int j = 0; j < READERS; j++)
			pthread_join(r[j].thread, NULL);
		pair_tell(&p);
		pair_end(&p);
	}
}

/* A side may open 8192 of them: so both open half, and each answers the other's. */
static void half_of_them(struct pair *p, struct shmipc_stream **st, unsigned int n)
{
	struct shmipc_stream **theirs = st + n;

	for (unsigned int i = 0; i < n; i++) {
		st[i] = opened(p->session);
		ask(st[i], i);
	}
	for (unsigned int i = 0; i < n; i++)
		theirs[i] = accepted(p->session);
	for (int trip = 0; trip < 3; trip++) {
		for (unsigned int i = 0; i < n; i++)
			ask(theirs[i], hear(theirs[i]) * 2);
		for (unsigned int i = 0; i < n; i++) {
			check_eq(hear(st[i]), 2ULL * i);
			if (trip < 2)
				ask(st[i], i);
		}
	}
	pair_tell(p);
	pair_hear(p);
}

static void many_streams_child(struct pair *p, void *arg)
{
	unsigned int n = *(unsigned int *)arg;
	struct shmipc_stream **st = calloc(2 * n, sizeof(*st));

	half_of_them(p, st, n);
	free(st);
}

static void test_many_streams(void **state)
{
	unsigned int n = pair_scale(1000, 10000, 10000) / 2;
	struct shmipc_options opt = { .size = sizeof(opt), .max_streams = 2 * n };
	struct shmipc_stream **st = calloc(2 * n, sizeof(*st));
	struct pair p;

	(void)state;
	pair_start(&p, &opt, 0, many_streams_child, &n);
	half_of_them(&p, st, n);
	print_message("%u streams\n", 2 * n);
	pair_end(&p);
	free(st);
}

/* ---- churn ------------------------------------------------------------------------- */

static void churn_child(struct pair *p, void *arg)
{
	for (unsigned int i = 0; i < *(unsigned int *)arg; i++) {
		struct shmipc_stream *st = accepted(p->session);

		ask(st, hear(st) + 1);
		if (i % 5 == 0)
			check_eq(shmipc_reset(st, i), 0);
		shmipc_stream_close(st);
	}
	pair_hear(p);
}

static void test_churn(void **state)
{
	unsigned int n = round_trips(10000, 100000, 1000000);
	struct shmipc_options few = { .size = sizeof(few), .max_streams = 8 };
	struct pair p;

	(void)state;
	pair_start(&p, &few, 0, churn_child, &n);
	for (unsigned int i = 0; i < n; i++) {
		struct shmipc_stream *st = opened(p.session);

		ask(st, i);
		if (i % 5)
			check_eq(hear(st), i + 1);
		else
			while (shmipc_read(st, (char[8]){ 0 }, 8, LIMIT) > 0)
				;
		shmipc_stream_close(st);
	}
	check_eq(shmipc_session_error(p.session), 0);
	pair_tell(&p);
	pair_end(&p);
}

/* ---- who stalls and who must not ------------------------------------------------------ */

static void stall_child(struct pair *p, void *arg)
{
	struct shmipc_stream *never = accepted(p->session), *kept = accepted(p->session);
	struct shmipc_stream *busy = accepted(p->session);
	struct shmipc_message m[5];
	uint64_t n;

	(void)arg;
	(void)never;
	for (int i = 0; i < 5; i++)
		check_eq(shmipc_peek(kept, &m[i], LIMIT), 1);
	while ((n = hear(busy)))
		ask(busy, n + 1);
	for (int i = 0; i < 5; i++) {
		check_eq(m[i].len, 10 + i * 500);
		check(same(m[i].spans[0].data, m[i].len, i, 0));
		check_eq(shmipc_return(kept, &m[i]), 0);
	}
	pair_tell(p);
	pair_hear(p);
}

static void test_stalled_neighbours(void **state)
{
	unsigned int trips = round_trips(20000, 50000, 200000);
	struct shmipc_stats before, after;
	struct shmipc_stream *never, *kept, *busy;
	unsigned int unread = 0;
	char buf[4000];
	struct pair p;

	(void)state;
	pair_start(&p, NULL, 0, stall_child, NULL);
	never = opened(p.session);
	check_eq(shmipc_write(never, buf, 1, 0, LIMIT), 1);
	kept = opened(p.session);
	for (int i = 0; i < 5; i++) {
		fill(buf, 10 + i * 500, i, 0);
		send_all(kept, buf, 10 + i * 500);
	}
	busy = opened(p.session);
	ask(busy, 1);
	check_eq(hear(busy), 2);
	/* All that this stream may have goes out, and nobody ever reads it. */
	while (shmipc_write(never, buf, 1000, 0, 10 * MS) == 1000)
		unread++;
	check(unread > 50);
	/* An answer says that all before it was taken off the ring. */
	ask(busy, 1);
	check_eq(hear(busy), 2);
	check_eq(shmipc_get_stats(p.ep, &before, sizeof(before)), 0);
	for (unsigned int i = 0; i < trips; i++) {
		ask(busy, i + 1);
		check_eq(hear(busy), i + 2);
	}
	check_eq(shmipc_get_stats(p.ep, &after, sizeof(after)), 0);
	print_message("%u unread, %u round trips, %llu parked\n", unread, trips,
		      (unsigned long long)after.parked);
	/* Nothing that a neighbour keeps holds this stream up, not once. */
	check_eq(after.stalls - before.stalls, 0);
	/* Each was moved out of the way once. */
	check(after.parked >= unread + 5);
	check_eq(after.messages_sent - before.messages_sent, trips);
	ask(busy, 0);
	pair_hear(&p);
	pair_tell(&p);
	pair_end(&p);
}

/* ---- sessions --------------------------------------------------------------------------- */

/* Each of them costs descriptors and, with the module, charged memory. */
static unsigned int nr_sessions(void)
{
	unsigned int n = pair_scale(50, 1000, 1000);

	if (n > 200 && pair_is_kernel())
		n = pair_scale(50, 200, 1000);
	pair_need_files(16 * n + 200);
	return n;
}

static void sessions_child(struct pair *p, void *arg)
{
	unsigned int n = *(unsigned int *)arg;
	struct shmipc_session **s = calloc(n, sizeof(*s));
	struct shmipc_stream **st = calloc(n, sizeof(*st));

	for (uint64_t i = 0; i < n; i++) {
		check_eq(shmipc_connect(p->ep, p->name, NULL, &s[i], LIMIT), 0);
		st[i] = opened(s[i]);
		ask(st[i], i);
	}
	for (uint64_t i = 0; i < n; i++)
		check_eq(hear(st[i]), i + 100);
	for (unsigned int i = 0; i < n; i++)
		shmipc_session_close(s[i]);
	pair_hear(p);
	free(s);
	free(st);
}

/* One loop serves all of them, from their first to their last event. */
static void serve_sessions(struct pair *p, unsigned int n)
{
	unsigned int answered = 0, closed = 0;
	struct shmipc_event events[16];
	struct shmipc_session *none;
	struct shmipc_stream *st;

	while (closed < n) {
		int got = shmipc_wait(p->ep, events, 16, LIMIT);

		check(got > 0);
		for (int i = 0; i < got; i++) {
			if (events[i].type == SHMIPC_EV_STREAM) {
				check_eq(shmipc_stream_accept(events[i].object, &st, 0), 0);
				ask(st, hear(st) + 100);
				answered++;
			} else if (events[i].type == SHMIPC_EV_CLOSED) {
				check_eq(shmipc_session_error(events[i].object), -EPIPE);
				shmipc_session_close(events[i].object);
				closed++;
			} else if (events[i].type == SHMIPC_EV_ACCEPT) {
				check_eq(shmipc_accept(p->listener, &none, 0), -EAGAIN);
			}
		}
	}
	check_eq(answered, n);
}

static void test_sessions(void **state)
{
	unsigned int n = nr_sessions();
	struct shmipc_options opt = { .size = sizeof(opt), .max_per_uid = n + 1 };
	struct shmipc_session *s;
	struct pair p;

	(void)state;
	pair_start(&p, &opt, 0, sessions_child, &n);
	for (unsigned int i = 0; i < n; i++)
		check_eq(shmipc_accept(p.listener, &s, LIMIT), 0);
	serve_sessions(&p, n);
	print_message("%u sessions\n", n);
	pair_tell(&p);
	pair_end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		pair_test(test_both_open), pair_test(test_threads), pair_test(test_new_segment),
		pair_test(test_many_streams), pair_test(test_churn),
		pair_test(test_stalled_neighbours), pair_test(test_sessions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
