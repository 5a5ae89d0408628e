/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * pair.h - two processes with a session between them
 *
 * The test is the parent and listens; the child connects, unless CHILD_LISTENS. Each waits for the
 * other over a socket of its own, never by time. All names carry the pid, so that programs can
 * run beside each other. pair_setup() and pair_teardown() go around each test: what a test
 * leaves behind (a child, a descriptor, a mapped segment) fails it.
 */
#ifndef TESTS_PAIR_H
#define TESTS_PAIR_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
#include <cmocka.h>
#include <shmipc/shmipc.h>

#define LIMIT	((int64_t)30 * 1000000000)	/* what has to end does so by then */
#define MS	((int64_t)1000000)

/* Work in child and parent, in any thread: a child ends with status 1, a test fails. */
#define check(cond)	pair_check(!!(cond), #cond, __FILE__, __LINE__)
#define check_eq(a, b)	pair_check_eq((int64_t)(a), (int64_t)(b), #a, #b, __FILE__, __LINE__)
void pair_check(bool ok, const char *what, const char *file, int line);
void pair_check_eq(int64_t a, int64_t b, const char *what, const char *want, const char *file,
		   int line);

struct pair {
	pid_t child;			/* 0 in the child */
	int wire;			/* to the other process, for words that aren't under test */
	char name[64];
	const struct shmipc_options *options;
	struct shmipc_endpoint *ep;
	struct shmipc_listener *listener;
	struct shmipc_session *session;
};

typedef void (*pair_child)(struct pair *p, void *arg);

#define CHILD_LISTENS	(1U << 0)

/* Forks, connects both; the child runs @child and ends. @options may be NULL. */
void pair_start(struct pair *p, const struct shmipc_options *options, unsigned int flags,
		pair_child child, void *arg);
/* Only forks: no endpoint, no session. */
void pair_fork(struct pair *p, pair_child child, void *arg);
/* Closes this side, then waits for the child, which must end with status 0. */
void pair_end(struct pair *p);
/* Closes this side; the child ended already. */
void pair_close(struct pair *p);
void pair_wait(struct pair *p);
/* Waits for a child that may end in any way: as waitpid() has it. */
int pair_status(struct pair *p);
/* SIGKILL and reap. */
void pair_kill(struct pair *p);

/* Tell the other process that it may go on; wait until it said so. */
void pair_tell(struct pair *p);
void pair_hear(struct pair *p);

void pair_unique(char name[64]);
int64_t pair_now(void);
/*
 * How much of something: by SHMIPC_TEST_SCALE, which is quick (also when unset), check or long. Always
 * the first of them under a sanitizer and on a debug kernel, where all takes ten times as long.
 */
size_t pair_scale(size_t quick, size_t usual, size_t longer);
bool pair_is_kernel(void);
/* Raises the limit of open files to what the test needs; many sessions have many. */
void pair_need_files(unsigned int n);

int pair_setup(void **state);
int pair_teardown(void **state);
#define pair_test(f)	cmocka_unit_test_setup_teardown(f, pair_setup, pair_teardown)

/* Content that depends on a stream's @key and on the byte's position in it. */
void fill(void *buf, size_t len, uint64_t key, uint64_t position);
bool same(const void *buf, size_t len, uint64_t key, uint64_t position);
/* Sends all, in one message; reads exactly @len bytes of however many messages. */
void send_all(struct shmipc_stream *st, const void *buf, size_t len);
void read_all(struct shmipc_stream *st, void *buf, size_t len);

#endif
