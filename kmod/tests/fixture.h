/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * fixture.h - what the KUnit suites share
 *
 * A case runs in a kernel thread with a user address space, in which it maps and touches memory as
 * a process would. Endpoints are opened on files of their own, so that no device node is needed.
 * All that a case opened is released after it, and then every live counter must be 0 again.
 *
 * A suite is included at the end of the source that it tests, and so reaches what is static there.
 */
#ifndef _SHMIPC_TESTS_FIXTURE_H
#define _SHMIPC_TESTS_FIXTURE_H

#include <kunit/test.h>
#include <linux/delay.h>
#include <linux/file.h>
#include <linux/mman.h>

#include "../endpoint.h"
#include "../main.h"

#define SHMIPC_TEST_FILES	16
/* No case waits that long but one that has failed. */
#define SHMIPC_TEST_LIMIT	(30 * HZ)

/**
 * struct shmipc_test - a case's world
 * @user: three pages of user memory: request, name and metadata, arrays
 * @files: to be released (NULL: none)
 * @mine: credentials of shmipc_test_become() (NULL: the thread's own are in place)
 * @former: what to put back then
 */
struct shmipc_test {
	unsigned long user;
	struct file *files[SHMIPC_TEST_FILES];
	const struct cred *mine;
	const struct cred *former;
};

/* Two endpoints with a session between them. */
struct shmipc_test_pair {
	struct file *a, *b;	/* a listens, b connects */
	u32 listener;		/* of a */
	u32 sa, sb;		/* the session, as each names it */
	u32 ga, gb;		/* the segments of slot 0 */
};

int shmipc_test_suite_init(struct kunit_suite *suite);
void shmipc_test_suite_exit(struct kunit_suite *suite);
int shmipc_test_init(struct kunit *test);
void shmipc_test_exit(struct kunit *test);

/* All of them, for run.h. */
#define SHMIPC_TEST_SUITES(X)	\
	X(account) X(handle) X(segment) X(view) X(mapping) X(give) X(ready) X(sync) \
	X(listener) X(session) X(endpoint) X(handover)

#define SHMIPC_TEST_DECLARE(name)	extern struct kunit_suite shmipc_suite_##name;
SHMIPC_TEST_SUITES(SHMIPC_TEST_DECLARE)

#ifdef MODULE
#define SHMIPC_TEST_REGISTER(id)
#else
#define SHMIPC_TEST_REGISTER(id)	kunit_test_suite(id)
#endif

#define SHMIPC_TEST_SUITE(object)				\
	struct kunit_suite shmipc_suite_##object = {		\
		.name = "shmipc-" #object,			\
		.suite_init = shmipc_test_suite_init,		\
		.suite_exit = shmipc_test_suite_exit,		\
		.init = shmipc_test_init,			\
		.exit = shmipc_test_exit,			\
		.test_cases = object##_cases,			\
	};							\
	SHMIPC_TEST_REGISTER(shmipc_suite_##object)

/* From here on, until the end of the case, the thread is a user without a capability. */
void shmipc_test_become(struct kunit *test, uid_t uid, gid_t gid);
/* And root again. */
void shmipc_test_restore(struct kunit *test);

struct file *shmipc_test_open_unbound(struct kunit *test);
/* With its anchor mapped. */
struct file *shmipc_test_open(struct kunit *test);
void shmipc_test_release(struct kunit *test, struct file *file);

static inline struct shmipc_attachment *shmipc_test_att(struct file *file)
{
	return file->private_data;
}

static inline struct shmipc_endpoint *shmipc_test_ep(struct file *file)
{
	return shmipc_test_att(file)->ep;
}

/* @cmd with @arg through user memory, both ways. @arg begins with its size. */
long shmipc_test_ioctl(struct kunit *test, struct file *file, unsigned int cmd, void *arg);
/* @len bytes into the second page; the user's pointer to it. */
u64 shmipc_test_user(struct kunit *test, const void *from, size_t len);

long shmipc_test_mmap(struct file *file, u64 offset, size_t len, unsigned long prot);
/* 0 and *@value, or -EFAULT: a touch that would be a signal. */
int shmipc_test_peek(unsigned long addr, u32 *value);
int shmipc_test_poke(unsigned long addr, u32 value);

/* Requests with their usual arguments; a handle, or -errno. */
long shmipc_test_segment(struct kunit *test, struct file *file, u64 length, u64 *offset);
long shmipc_test_bind(struct kunit *test, struct file *file, const char *name, u32 backlog);
long shmipc_test_connect(struct kunit *test, struct file *file, const char *name, u32 segment);
long shmipc_test_accept(struct kunit *test, struct file *file, u32 listener, u32 segment);
long shmipc_test_close(struct kunit *test, struct file *file, u32 handle, u32 flags);
long shmipc_test_grant(struct kunit *test, struct file *file, u32 session, u32 segment, u32 slot);
long shmipc_test_revoke(struct kunit *test, struct file *file, u32 session, u32 slot);
long shmipc_test_ring(struct kunit *test, struct file *file, u32 session, u32 bits);
/* What is pending for @handle, and of nothing else; taken. Fails if others have events. */
u32 shmipc_test_causes(struct kunit *test, struct file *file, u32 handle);
/* The offset at which @file may map what @session's peer granted as @slot, or -errno. */
s64 shmipc_test_slot(struct kunit *test, struct file *file, u32 session, u32 slot);

/* What is open as @fd, instead of it: released with the rest, or by shmipc_test_release(). */
struct file *shmipc_test_file(struct kunit *test, int fd);

void shmipc_test_pair(struct kunit *test, struct shmipc_test_pair *p, const char *name);

#endif
