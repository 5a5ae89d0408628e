// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Messages as large as memory allows, written and read in place: no byte of them is copied. */
#include "checker.h"
#include "pair.h"

enum { KEY = 5 };

static void reader(struct pair *p, void *arg)
{
	size_t len = *(size_t *)arg;
	struct shmipc_stream *st;
	struct shmipc_message m;

	check_eq(shmipc_stream_accept(p->session, &st, LIMIT), 0);
	for (int i = 0; i < 2; i++) {
		struct checker c = { KEY, i * len };

		check_eq(shmipc_peek(st, &m, 10 * LIMIT), 1);
		check_eq(m.nspans, 1);
		check_eq(m.len, len);
		check_eq(m.position, i * len);
		check(!m.flags);
		check(!checker_take(&c, m.spans[0].data, len));
		check_eq(shmipc_return(st, &m), 0);
	}
	check_eq(shmipc_read(st, &(char){ 0 }, 1, LIMIT), 0);
	pair_hear(p);
}

static void one_message(size_t len)
{
	struct shmipc_options opt = { .size = sizeof(opt), .max_memory = len };
	struct shmipc_stats stats;
	struct shmipc_stream *st;
	struct pair p;
	void *data;

	pair_start(&p, &opt, 0, reader, &len);
	check_eq(shmipc_stream_open(p.session, &st), 0);
	check_eq(shmipc_reserve(st, len + 1, &data, LIMIT), -EMSGSIZE);
	/* Twice: the second time in the same memory. */
	for (int i = 0; i < 2; i++) {
		check_eq(shmipc_reserve(st, len, &data, 10 * LIMIT), 0);
		fill(data, len, KEY, i * len);
		check_eq(shmipc_commit(st, len, 0), 0);
	}
	check_eq(shmipc_finish(st), 0);
	check_eq(shmipc_read(st, data, 1, 1), -ETIMEDOUT);
	check_eq(shmipc_get_stats(p.ep, &stats, sizeof(stats)), 0);
	check_eq(stats.segments, 2);
	print_message("2 messages of %zu MiB\n", len >> 20);
	pair_tell(&p);
	pair_end(&p);
}

static void test_one_message(void **state)
{
	size_t len = pair_scale(16, 1024, 4096);

	(void)state;
	/* More than the module's cap for a user; root, who is in the VM, is over that. */
	if (pair_is_kernel())
		len = pair_scale(16, 256, 256);
	one_message(len << 20);
}

/* A buffer comes back after each, and is sent again. */
static void test_one_buffer(void **state)
{
	size_t len = pair_scale(16, 1024, 5120);
	struct shmipc_stream *st;
	struct shmipc_buf *buf;
	struct pair p;

	(void)state;
	if (pair_is_kernel())
		len = pair_scale(16, 256, 256);
	/* No whole number of pages, and beyond what 32 bits can count. */
	len = (len << 20) + 1;
	pair_start(&p, NULL, 0, reader, &len);
	check_eq(shmipc_stream_open(p.session, &st), 0);
	check_eq(shmipc_buf_new(p.ep, len, &buf), 0);
	for (int i = 0; i < 2; i++) {
		fill(shmipc_buf_data(buf), len, KEY, i * len);
		check_eq(shmipc_buf_send(st, buf, len, 0, LIMIT), 0);
		check_eq(shmipc_buf_wait(buf, 10 * LIMIT), 0);
	}
	check_eq(shmipc_finish(st), 0);
	print_message("2 buffers of %zu MiB\n", len >> 20);
	shmipc_buf_free(buf);
	pair_tell(&p);
	pair_end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		pair_test(test_one_message),
		pair_test(test_one_buffer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
