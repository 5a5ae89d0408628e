// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What the log says of a peer's lies, and that nobody waits for the log's reader under a lock. */
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>
#include "barrier.h"
#include "duo.h"
#include "log.h"

struct reader {
	struct shmipc_stream *st;
	ssize_t result;
};

static void *read_thread(void *arg)
{
	struct reader *r = arg;
	char buf[8];

	r->result = shmipc_read(r->st, buf, sizeof(buf), LIMIT);
	return NULL;
}

/* A pipe that nobody reads, full, as the log. Returns its reading end. */
static int log_to_full_pipe(void)
{
	char value[64], byte = 0;
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	while (write(ends[1], &byte, 1) == 1)
		;
	snprintf(value, sizeof(value), "warn:/proc/self/fd/%d", ends[1]);
	log_enabled(LOG_LEVEL_WARN);	/* reads the environment, once */
	assert_int_equal(log_configure(value), 0);
	close(ends[1]);
	return ends[0];
}

/* Reads what is in the pipe; the line that came last stands at the beginning of @buf. */
static void read_log(int log, char *buf, size_t len)
{
	while (read(log, buf, len - 1) > 0)
		;
}

/* Whoever logs a lie may have to wait for the log's reader; nobody else does. */
static void test_stuck_log(void **state)
{
	static char buf[1 << 17];
	struct shmipc_stream *a, *b;
	struct reader r = { 0 };
	pthread_t thread;
	struct frame f;
	struct duo d;
	int log;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	log = log_to_full_pipe();
	f = duo_frame(b);
	f.kind = 77;
	duo_inject(d.b, &f);
	r.st = a;
	pthread_create(&thread, NULL, read_thread, &r);
	for (int i = 0; !session_error(d.a); i++) {
		assert_true(i < 30000);
		usleep(1000);
	}
	/* Both take a lock that the lie was found under, or may be told under. */
	assert_int_equal(shmipc_stream_reset_code(a), 0);
	assert_int_equal(shmipc_write(a, "x", 1, 0, LIMIT), -EBADMSG);
	read_log(log, buf, sizeof(buf));
	pthread_join(thread, NULL);
	assert_int_equal(r.result, -EBADMSG);
	read_log(log, buf, sizeof(buf));
	assert_non_null(strstr(buf, "unknown kind (seq 2, stream 0.1, kind 77)"));
	log_configure(NULL);
	close(log);
	duo_close(&d);
}

/* The same of a return. */
static void test_return_logged(void **state)
{
	static char buf[1 << 17];
	struct shmipc_stream *a, *b;
	struct duo d;
	int log;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	log = log_to_full_pipe();
	store_release(&d.b->rx.returns[0], RETURN_WORD(1, 5, 99));
	alarm(30);
	assert_int_equal(duo_reap(d.a), -EBADMSG);
	alarm(0);
	read_log(log, buf, sizeof(buf));
	session_fail(d.a, -EBADMSG);
	read_log(log, buf, sizeof(buf));
	assert_non_null(strstr(buf, "returned entry 5, seq 99, which is not out"));
	log_configure(NULL);
	close(log);
	duo_close(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stuck_log), cmocka_unit_test(test_return_logged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
