// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Doorbells with nothing behind them: counted, heard less after a while, and logged. */
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>
#include "duo.h"
#include "log.h"

/* Side b rings, side a looks once. */
static void ring(struct duo *d)
{
	struct shmipc_event event;

	session_ring(d->b, BELL_DATA | BELL_SPACE);
	assert_int_equal(shmipc_wait(d->a_ep, &event, 1, 0), 0);
}

static uint64_t empty(struct duo *d)
{
	return duo_stats(d->a_ep).empty_bells;
}

/* A first stream, read; and what its own bells counted is over. */
static void begin(struct duo *d, struct shmipc_stream **b, struct shmipc_stream **a)
{
	duo_open(d, NULL);
	duo_stream(d, b, a);
	ring(d);
	ring(d);
}

/* Each bell for nothing counts, and none that something came for. */
static void test_counted(void **state)
{
	struct shmipc_stream *a, *b;
	struct shmipc_event event;
	struct duo d;
	uint64_t before;
	char c;

	(void)state;
	begin(&d, &b, &a);
	before = empty(&d);
	for (int i = 0; i < 10; i++)
		ring(&d);
	assert_int_equal(empty(&d), before + 10);
	assert_int_equal(d.a->empty_bells, before + 10);
	/* A frame that was read before its bell was heard is a reason. */
	assert_int_equal(shmipc_write(b, "x", 1, 0, 0), 1);
	assert_int_equal(shmipc_read(a, &c, 1, 0), 1);
	ring(&d);
	assert_int_equal(empty(&d), before + 10);
	assert_int_equal(d.a->empty_bells, 0);
	/* So is a return. */
	assert_int_equal(shmipc_write(a, "y", 1, 0, 0), 1);
	assert_int_equal(shmipc_wait(d.b_ep, &event, 1, 0), 1);
	assert_int_equal(shmipc_read(b, &c, 1, 0), 1);
	ring(&d);
	assert_int_equal(empty(&d), before + 10);
	ring(&d);
	assert_int_equal(empty(&d), before + 11);
	duo_close(&d);
}

/* Traffic of honest sides has no empty bells, or hardly any. */
static void test_honest(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	for (int i = 0; i < 2000; i++) {
		duo_send(b, a, 1 + i % 500);
		duo_send(a, b, 1 + i % 500);
		if (i % 7 == 0)
			shmipc_wait(d.a_ep, &(struct shmipc_event){ 0 }, 1, 0);
	}
	print_message("%lu and %lu empty bells of %lu\n", empty(&d),
		      duo_stats(d.b_ep).empty_bells, duo_stats(d.b_ep).doorbells);
	assert_in_range(empty(&d), 0, 20);
	assert_in_range(duo_stats(d.b_ep).empty_bells, 0, 20);
	duo_close(&d);
}

/* The leader's look at a provider's event, without the polls that a call makes after it. */
static bool hot_after(struct duo *d, unsigned int polls)
{
	struct shmipc_ready event = { .cookie = d->a->cookie, .causes = BELL_DATA };
	bool hot;

	lock(&d->a_ep->poll_lock);
	endpoint_event(d->a_ep, &event);
	unlock(&d->a_ep->poll_lock);
	/* Accepts nothing, and polls once without arming. */
	while (polls--)
		shmipc_stream_accept(d->a, &(struct shmipc_stream *){ NULL }, 0);
	lock(&d->a_ep->poll_lock);
	hot = !list_empty(&d->a->hot);
	unlock(&d->a_ep->poll_lock);
	return hot;
}

/* Many in a row: then a bell makes for one poll and not for a row of them. Until there is news. */
static void test_budget(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;
	char c;

	(void)state;
	begin(&d, &b, &a);
	assert_true(hot_after(&d, 10));
	while (d.a->empty_bells < EMPTY_BELLS)
		ring(&d);
	assert_false(hot_after(&d, 1));
	/* Still heard: each bell is good for what is in the ring. */
	assert_int_equal(shmipc_write(b, "x", 1, 0, 0), 1);
	assert_true(hot_after(&d, 1));
	assert_true(hot_after(&d, 10));
	assert_int_equal(shmipc_read(a, &c, 1, 0), 1);
	assert_int_equal(shmipc_session_error(d.a), 0);
	duo_close(&d);
}

struct ringer {
	struct duo *d;
	unsigned int looks;
};

/* Not ready, and rung again. */
static bool rings_again(void *arg)
{
	struct ringer *r = arg;

	session_ring(r->d->b, BELL_DATA);
	return ++r->looks == 1000;
}

/* A bell at each look: a call that may not wait ends all the same, before the thousandth. */
static void test_never_kept(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;
	struct ringer r = { .d = &d };
	struct waiter w = { .key = &r, .ready = rings_again, .arg = &r, .arm = true };
	char c;

	(void)state;
	begin(&d, &b, &a);
	session_ring(d.b, BELL_DATA);
	assert_int_equal(endpoint_wait(d.a_ep, &w, 0), -EAGAIN);
	assert_in_range(r.looks, EMPTY_BELLS / 2, 3 * EMPTY_BELLS);
	r.looks = 0;
	assert_int_equal(endpoint_wait(d.a_ep, &w, 0), -EAGAIN);
	assert_in_range(r.looks, 1, 4);
	/* And it stays armed: the next frame rings, and is found by who waits for it. */
	assert_int_equal(shmipc_write(b, "x", 1, 0, 0), 1);
	assert_int_equal(shmipc_read(a, &c, 1, LIMIT), 1);
	duo_close(&d);
}

static unsigned int lines(const char *path, const char *with)
{
	unsigned int n = 0;
	char line[600];
	FILE *f = fopen(path, "r");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		n += !!strstr(line, with);
	fclose(f);
	return n;
}

static void test_logged(void **state)
{
	char path[] = "/tmp/test.storm.XXXXXX", value[64];
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	close(mkstemp(path));
	snprintf(value, sizeof(value), "warn:%s", path);
	begin(&d, &b, &a);
	log_enabled(LOG_LEVEL_WARN);	/* reads the environment, once: what is set here stands */
	assert_int_equal(log_configure(value), 0);
	while (d.a->empty_bells < EMPTY_BELLS - 1)
		ring(&d);
	assert_int_equal(lines(path, "nothing to tell"), 0);
	for (int i = 0; i < 3 * EMPTY_BELLS; i++)
		ring(&d);
	/* Once a storm, not once a bell. */
	assert_int_equal(lines(path, "nothing to tell"), 1);
	log_configure(NULL);
	unlink(path);
	duo_close(&d);
}

/* A session that has ended already is not worth a turn at all. */
static void test_after_the_end(void **state)
{
	struct shmipc_ready event = { .causes = BELL_DATA };
	struct shmipc_stream *a, *b;
	struct duo d;
	uint64_t before;

	(void)state;
	begin(&d, &b, &a);
	before = empty(&d);
	event.cookie = d.a->cookie;
	lock(&d.a_ep->poll_lock);
	assert_true(endpoint_event(d.a_ep, &event));
	unlock(&d.a_ep->poll_lock);
	session_fail(d.a, -EBADMSG);
	lock(&d.a_ep->poll_lock);
	assert_false(endpoint_event(d.a_ep, &event));
	unlock(&d.a_ep->poll_lock);
	assert_int_equal(empty(&d), before + 1);
	duo_close(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counted), cmocka_unit_test(test_honest),
		cmocka_unit_test(test_budget), cmocka_unit_test(test_never_kept),
		cmocka_unit_test(test_logged),
		cmocka_unit_test(test_after_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
