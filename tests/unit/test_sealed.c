// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * SHMIPC_SEALED: what a process of the same uid can do to an embedded segment through /proc, and
 * can't to one that is sealed.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>
#include <shmipc/shmipc.h>

#include "embedded.h"
#include "endpoint.h"

#define LIMIT	((int64_t)30 * 1000000000)
#define BIG	(1 << 20)	/* more than a first segment has */

#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC	0x0020	/* linux/fcntl.h; not in older headers */
#endif

struct connecting {
	const char *name;
	const struct shmipc_options *options;
	struct shmipc_endpoint *ep;
	struct shmipc_session *session;
	int err;
};

static void *connect_thread(void *arg)
{
	struct connecting *c = arg;

	c->err = shmipc_connect(c->ep, c->name, c->options, &c->session, LIMIT);
	return NULL;
}

/* The mapping that a stranger gets who opens the descriptor's file anew, for writing. */
static void *map_anew(int fd, size_t len)
{
	char path[32];
	void *addr;
	int rw;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	rw = open(path, O_RDWR | O_CLOEXEC);
	assert_true(rw >= 0);
	addr = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, rw, 0);
	if (addr == MAP_FAILED) {
		assert_int_equal(errno, EPERM);
		assert_int_equal(pwrite(rw, "x", 1, 0), -1);
		assert_int_equal(errno, EPERM);
	}
	close(rw);
	return addr;
}

/* Returns how many segments the endpoint has. */
static unsigned int check_segments(struct shmipc_endpoint *ep, bool sealed)
{
	struct embedded *e = embedded(ep->pv);
	unsigned int n = 0;

	for (unsigned int i = 0; i < e->table_size; i++) {
		struct segment *segment;
		void *addr;
		int seals;

		if (!e->table[i] || e->table[i]->kind != OBJECT_SEGMENT)
			continue;
		segment = container_of(e->table[i], struct segment, object);
		seals = fcntl(segment->fd, F_GET_SEALS);
		/* On some kernels it can't be made executable, either. */
		assert_int_equal(seals & ~F_SEAL_EXEC, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL |
				 (sealed ? F_SEAL_FUTURE_WRITE : 0));
		addr = map_anew(segment->fd, segment->len);
		assert_int_equal(addr == MAP_FAILED, sealed);
		if (addr != MAP_FAILED) {
			/* The very pages: it could write what it likes. */
			assert_memory_equal(addr, segment->addr, 64);
			munmap(addr, segment->len);
		}
		n++;
	}
	return n;
}

static void send_big(struct shmipc_session *from, struct shmipc_session *to)
{
	uint8_t *out = malloc(BIG);
	struct shmipc_stream *st, *other;
	struct shmipc_message m;
	void *data;

	memset(out, 0x5a, BIG);
	assert_int_equal(shmipc_stream_open(from, &st), 0);
	assert_int_equal(shmipc_reserve(st, BIG, &data, LIMIT), 0);
	memcpy(data, out, BIG);
	assert_int_equal(shmipc_commit(st, BIG, 0), 0);
	assert_int_equal(shmipc_stream_accept(to, &other, LIMIT), 0);
	assert_int_equal(shmipc_peek(other, &m, LIMIT), 1);
	assert_int_equal(m.len, BIG);
	assert_memory_equal(m.spans[0].data, out, BIG);
	assert_int_equal(shmipc_return(other, &m), 0);
	free(out);
}

static void one_session(bool sealed, const char *name)
{
	struct shmipc_options options = { .size = sizeof(options),
					  .flags = sealed ? SHMIPC_SEALED : 0 };
	struct connecting c = { .name = name, .options = &options };
	struct shmipc_listener *listener;
	struct shmipc_session *session;
	struct shmipc_endpoint *ep;
	pthread_t thread;

	assert_int_equal(shmipc_open(&ep, 0), 0);
	assert_int_equal(shmipc_open(&c.ep, 0), 0);
	assert_int_equal(shmipc_listen(ep, name, &options, &listener), 0);
	pthread_create(&thread, NULL, connect_thread, &c);
	assert_int_equal(shmipc_accept(listener, &session, LIMIT), 0);
	pthread_join(thread, NULL);
	assert_int_equal(c.err, 0);
	send_big(session, c.session);
	send_big(c.session, session);
	/* The first one, and what it grew by. */
	assert_int_equal(check_segments(ep, sealed), 2);
	assert_int_equal(check_segments(c.ep, sealed), 2);
	shmipc_close(c.ep);
	shmipc_close(ep);
}

static void test_sealed(void **state)
{
	char name[64];

	(void)state;
	snprintf(name, sizeof(name), "test.sealed.%d", getpid());
	setenv("SHMIPC_PROVIDER", "embedded", 1);
	one_session(false, name);
	one_session(true, name);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_sealed) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
