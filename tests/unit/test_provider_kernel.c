// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The kernel provider's requests, with a stand-in for the module behind the ioctl. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cmocka.h>

#include <shmipc/shmipc.h>

#include "embedded_name.h"
#include "error.h"
#include "provider.h"
#include "provider_error.h"
#include "provider_kernel.h"

static const struct provider_ops *const ops = &provider_kernel;
static struct provider *pv;
static char device[32], name[SHMIPC_NAME_MAX + 1];
static int device_fd;

/* What the stand-in is asked, and what it shall answer. */
static unsigned int calls[64];
static struct shmipc_query query;
static struct shmipc_sync syncs[8];
static struct shmipc_connect connects[8];
static struct shmipc_close closes[8];
static struct shmipc_bind bound;
static struct shmipc_watch watched;
static struct shmipc_item listed;	/* what LIST has; kind 0: nothing */
static struct shmipc_accept accepted;
static struct shmipc_seg_grant granted;
static struct shmipc_seg_take taken;
static uint32_t own_rights;
static struct shmipc_notify rung;	/* the last of an array */
static bool accept_fails;
static int fail_with, fail_times;
static uint64_t next_offset;
static uint32_t sync_flags, sync_events;

static unsigned int nr(unsigned long request)
{
	return request & 0xff;
}

static int fake_sync(struct shmipc_sync *req)
{
	unsigned int n = calls[nr(SHMIPC_IOC_SYNC)] - 1;

	syncs[n % 8] = *req;
	if (req->notify)
		rung = ((struct shmipc_notify *)(uintptr_t)req->notify)[req->nr_notify - 1];
	req->out_flags = n ? 0 : sync_flags;
	req->out_nr_events = req->out_flags & SHMIPC_SYNC_NOTIFY_FAILED ? 0 : sync_events;
	for (uint32_t i = 0; i < req->out_nr_events; i++) {
		struct shmipc_ready event = { .cookie = 70 + i, .handle = i, .causes = BELL_DATA };

		if (req->events)
			((struct shmipc_ready *)(uintptr_t)req->events)[i] = event;
		else
			req->out_one = event;
	}
	return 0;
}

static int fake_list(struct shmipc_list *req)
{
	assert_true(req->max == 1 && !req->session && req->item_size == sizeof(listed));
	assert_int_equal(req->cursor, 51);
	req->out_nr = listed.kind ? 1 : 0;
	if (listed.kind)
		*(struct shmipc_item *)(uintptr_t)req->items = listed;
	return 0;
}

static int fake_ioctl(int fd, unsigned long request, void *arg)
{
	unsigned int n = calls[nr(request)]++;

	assert_in_range(*(uint32_t *)arg, 16, 256);	/* each struct leads with its size */
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	if (request == SHMIPC_IOC_CONNECT)
		connects[n % 8] = *(struct shmipc_connect *)arg;
	if (request == SHMIPC_IOC_CLOSE)
		closes[n % 8] = *(struct shmipc_close *)arg;
	if (fail_times) {
		fail_times--;
		errno = fail_with;
		return -1;
	}
	switch (request) {
	case SHMIPC_IOC_QUERY:
		*(struct shmipc_query *)arg = query;
		return 0;
	case SHMIPC_IOC_SYNC:
		return fake_sync(arg);
	case SHMIPC_IOC_SEG_CREATE: {
		struct shmipc_seg_create *create = arg;

		create->out_length = (create->length + 4095) & ~4095ULL;
		create->out_offset = next_offset;
		create->out_handle = 31;
		return 0;
	}
	case SHMIPC_IOC_SEG_INFO: {
		struct shmipc_seg_info *info = arg;

		if (!info->flags) {
			assert_int_equal(info->handle, 31);
			info->out_rights = own_rights;
			return 0;
		}
		assert_int_equal(info->flags, SHMIPC_SEG_OF_PEER);
		info->out_length = 4096;
		info->out_offset = next_offset;
		return 0;
	}
	case SHMIPC_IOC_SEG_GRANT:
		granted = *(struct shmipc_seg_grant *)arg;
		return 0;
	case SHMIPC_IOC_SEG_TAKE:
		taken = *(struct shmipc_seg_take *)arg;
		((struct shmipc_seg_take *)arg)->out_handle = 32;
		((struct shmipc_seg_take *)arg)->out_offset = next_offset;
		return 0;
	case SHMIPC_IOC_SEG_REVOKE:
	case SHMIPC_IOC_SEG_FREEZE:
	case SHMIPC_IOC_SEG_GIVE:
		return 0;
	case SHMIPC_IOC_BIND:
		bound = *(struct shmipc_bind *)arg;
		((struct shmipc_bind *)arg)->out_handle = 41;
		return 0;
	case SHMIPC_IOC_ACCEPT:
		accepted = *(struct shmipc_accept *)arg;
		if (accept_fails) {
			errno = ENOMEM;
			return -1;
		}
		((struct shmipc_accept *)arg)->out_session = 51;
		((struct shmipc_accept *)arg)->out_peer.uid = 1234;
		return 0;
	case SHMIPC_IOC_CONNECT:
		((struct shmipc_connect *)arg)->out_session = 61;
		((struct shmipc_connect *)arg)->out_peer.pid = 4321;
		return 0;
	case SHMIPC_IOC_CLOSE:
		return 0;
	case SHMIPC_IOC_WATCH:
		watched = *(struct shmipc_watch *)arg;
		return 0;
	case SHMIPC_IOC_LIST:
		return fake_list(arg);
	default:
		errno = ENOTTY;
		return -1;
	}
}

static int setup(void **state)
{
	(void)state;
	memset(calls, 0, sizeof(calls));
	fail_times = 0;
	sync_flags = sync_events = 0;
	next_offset = 4096;
	query = (struct shmipc_query){
		.size = sizeof(query), .out_abi = SHMIPC_ABI, .out_abi_oldest = SHMIPC_ABI_OLDEST,
		.out_features = SHMIPC_FEATURE_STREAMS, .out_version = "9.8.7",
	};
	device_fd = memfd_create("device", MFD_CLOEXEC);
	if (device_fd < 0 || ftruncate(device_fd, 1 << 20))
		return -1;
	snprintf(device, sizeof(device), "/proc/self/fd/%d", device_fd);
	snprintf(name, sizeof(name), "test.kernel.%d", getpid());
	provider_kernel_device = device;
	provider_kernel_ioctl = fake_ioctl;
	return 0;
}

static int setup_open(void **state)
{
	return setup(state) ? -1 : ops->open(&pv);
}

static int teardown(void **state)
{
	(void)state;
	close(device_fd);
	return 0;
}

static int teardown_close(void **state)
{
	ops->close(pv, false);
	return teardown(state);
}

/* ---- open --------------------------------------------------------------------- */

static int open_and_close(void)
{
	int err = ops->open(&pv);

	if (!err)
		ops->close(pv, false);
	return err;
}

static void test_abi(void **state)
{
	(void)state;
	assert_int_equal(open_and_close(), 0);
	/* In good order, so that peers are not told of a death. */
	assert_int_equal(calls[nr(SHMIPC_IOC_CLOSE)], 1);
	assert_int_equal(closes[0].handle, 0);
	query.out_abi = SHMIPC_ABI + 5;
	assert_int_equal(open_and_close(), 0);
	query.out_abi_oldest = SHMIPC_ABI + 1;
	assert_int_equal(open_and_close(), -EPROTONOSUPPORT);
	assert_non_null(strstr(shmipc_last_error(), "update the library"));
	query.out_abi_oldest = query.out_abi = 0;
	assert_int_equal(open_and_close(), -EPROTONOSUPPORT);
	assert_non_null(strstr(shmipc_last_error(), "update the module"));
	assert_non_null(strstr(shmipc_last_error(), "9.8.7"));
	setup(NULL);
	query.out_features = ~SHMIPC_FEATURE_STREAMS;
	assert_int_equal(open_and_close(), -EPROTONOSUPPORT);
	fail_with = ENOTTY;
	fail_times = 1;
	assert_int_equal(open_and_close(), -EPROTONOSUPPORT);
	memset(query.out_version, 'x', sizeof(query.out_version));
	assert_int_equal(open_and_close(), -EPROTONOSUPPORT);
}

static void test_no_device(void **state)
{
	const char *before = getenv("SHMIPC_PROVIDER");
	char *keep = before ? strdup(before) : NULL;

	(void)state;
	provider_kernel_device = "/nonexistent/shmipc";
	assert_int_equal(open_and_close(), -ENODEV);
	assert_non_null(strstr(shmipc_last_error(), "modprobe"));
	unsetenv("SHMIPC_PROVIDER");
	assert_int_equal(provider_open(&pv), 0);
	assert_string_equal(pv->ops->name, "embedded");
	pv->ops->close(pv, false);
	setenv("SHMIPC_PROVIDER", "kernel", 1);
	assert_int_equal(provider_open(&pv), -ENODEV);
	unsetenv("SHMIPC_PROVIDER");
	/* With a device that fits it is the kernel's; with one that doesn't, an error and no switch. */
	provider_kernel_device = device;
	assert_int_equal(provider_open(&pv), 0);
	assert_string_equal(pv->ops->name, "kernel");
	assert_non_null((const void *)(uintptr_t)pv->anchor);
	pv->ops->close(pv, false);
	query.out_features = 0;
	assert_int_equal(provider_open(&pv), -EPROTONOSUPPORT);
	if (keep)
		setenv("SHMIPC_PROVIDER", keep, 1);
	free(keep);
}

/* ---- segments -------------------------------------------------------------------- */

static void test_segments(void **state)
{
	struct pv_segment segment;
	struct pv_mapping mapping;

	(void)state;
	next_offset = 8192;
	assert_int_equal(ops->segment_create(pv, 5000, false, &segment), 0);
	assert_true(segment.handle == 31 && segment.len == 8192);
	strcpy(segment.addr, "here");
	assert_int_equal(ops->segment_map(pv, 51, 3, &mapping), 0);
	assert_string_equal(mapping.addr, "here");
	ops->segment_unmap(pv, &mapping);
	assert_int_equal(ops->segment_grant(pv, 51, &segment, 9), 0);
	assert_true(granted.session == 51 && granted.segment == 31 && granted.slot == 9);
	ops->segment_destroy(pv, &segment);
	assert_int_equal(closes[0].handle, 31);
	assert_null(segment.addr);
}

/* A segment that can't be mapped is given back. */
static void test_segment_unmappable(void **state)
{
	struct pv_segment segment;

	(void)state;
	next_offset = 8191;
	assert_int_equal(ops->segment_create(pv, 4096, true, &segment), -EINVAL);
	assert_int_equal(calls[nr(SHMIPC_IOC_CLOSE)], 1);
	assert_int_equal(closes[0].handle, 31);
}

/* What is taken is where it was; a module that knows nothing of that is no error of its own. */
static void test_ownership(void **state)
{
	struct pv_segment segment = { .handle = 31 }, own;
	struct pv_mapping mapping;
	const void *at;

	(void)state;
	assert_int_equal(ops->segment_freeze(pv, &segment), 0);
	assert_int_equal(ops->segment_give(pv, 51, 9), 0);
	own_rights = 0;
	assert_int_equal(ops->segment_state(pv, &segment), -EBUSY);
	own_rights = SHMIPC_RIGHT_READ;
	assert_int_equal(ops->segment_state(pv, &segment), 0);
	assert_int_equal(ops->segment_map(pv, 51, 3, &mapping), 0);
	at = mapping.addr;
	assert_int_equal(ops->segment_take(pv, 51, 3, &mapping, &own), 0);
	assert_true(taken.session == 51 && taken.slot == 3 && !taken.flags);
	assert_true(own.addr == at && own.handle == 32 && own.len == 4096 && !mapping.addr);
	strcpy(own.addr, "mine");
	ops->segment_refuse(pv, 52, 4);
	assert_true(taken.session == 52 && taken.slot == 4 && taken.flags == SHMIPC_TAKE_REFUSE);
	ops->segment_destroy(pv, &own);
	ops->segment_revoke(pv, 51, 3);
	assert_int_equal(calls[nr(SHMIPC_IOC_SEG_REVOKE)], 1);

	/* It can't be mapped: nothing of it is left here. */
	assert_int_equal(ops->segment_map(pv, 51, 3, &mapping), 0);
	next_offset = 8191;
	assert_int_equal(ops->segment_take(pv, 51, 3, &mapping, &own), -ESTALE);
	assert_null(mapping.addr);
	assert_int_equal(closes[1].handle, 32);

	fail_with = ENOTTY;
	fail_times = 3;
	assert_int_equal(ops->segment_freeze(pv, &segment), -EOPNOTSUPP);
	assert_int_equal(ops->segment_give(pv, 51, 9), -EOPNOTSUPP);
	assert_int_equal(ops->segment_take(pv, 51, 3, &mapping, &own), -EOPNOTSUPP);
	fail_with = EDQUOT;
	fail_times = 1;
	assert_int_equal(ops->segment_take(pv, 51, 3, &mapping, &own), -EDQUOT);
}

/* ---- names and sessions -------------------------------------------------------------- */

static void test_bind(void **state)
{
	struct pv_bind bind = { .name = name, .mode = 0664, .backlog = 5, .max_per_uid = 6,
				.cookie = 77 };
	uint32_t listener;
	int fd;

	(void)state;
	assert_int_equal(ops->bind(pv, &bind, &listener), 0);
	assert_int_equal(listener, 41);
	assert_int_equal(bound.mode, 0220);
	assert_true(bound.backlog == 5 && bound.max_per_uid == 6 && bound.cookie == 77);
	assert_int_equal(bound.causes, SHMIPC_CAUSE_ACCEPT);
	assert_int_equal(bound.name_len, strlen(name));
	assert_true(name_marked(NAME_KERNEL, name));
	ops->drop(pv, listener, 0);
	assert_false(name_marked(NAME_KERNEL, name));
	fd = name_mark(NAME_EMBEDDED, name);
	assert_int_equal(ops->bind(pv, &bind, &listener), -EADDRINUSE);
	close(fd);
	fail_with = EADDRINUSE;
	fail_times = 1;
	assert_int_equal(ops->bind(pv, &bind, &listener), -EADDRINUSE);
	assert_false(name_marked(NAME_KERNEL, name));
	bind.name = "a b";
	assert_int_equal(ops->bind(pv, &bind, &listener), -EINVAL);
}

static void test_accept(void **state)
{
	struct pv_segment segment = { .handle = 31 };
	struct shmipc_peer peer;
	uint32_t session;

	(void)state;
	assert_int_equal(ops->accept(pv, 41, &segment, 88, &session, &peer), 0);
	assert_true(session == 51 && peer.uid == 1234);
	assert_true(accepted.listener == 41 && accepted.segment == 31 && accepted.cookie == 88);
	assert_int_equal(accepted.causes, SHMIPC_CAUSE_PEER_CLOSED | SHMIPC_CAUSE_PEER_DIED |
			 SHMIPC_CAUSE_PEER_CHANGED);
	fail_with = EAGAIN;
	fail_times = 1;
	assert_int_equal(ops->accept(pv, 41, &segment, 88, &session, &peer), -EAGAIN);
}

static void test_connect(void **state)
{
	struct pv_segment segment = { .handle = 31 };
	struct pv_connect connect = { .name = name, .segment = &segment, .check_uid = true,
				      .expect_uid = 5, .cookie = 99, .timeout_ns = 1000000000 };
	struct shmipc_peer peer;
	uint32_t session;
	int fd;

	(void)state;
	/* Two signals: it starts anew, each time with what is left. */
	fail_with = EINTR;
	fail_times = 2;
	assert_int_equal(ops->connect(pv, &connect, &session, &peer), 0);
	assert_true(session == 61 && peer.pid == 4321);
	assert_int_equal(calls[nr(SHMIPC_IOC_CONNECT)], 3);
	assert_true(connects[0].timeout_ns == 1000000000);
	assert_true(connects[2].timeout_ns < connects[0].timeout_ns);
	assert_int_equal(connects[2].flags,
			 SHMIPC_CONNECT_EXPECT_UID | SHMIPC_CONNECT_ZERO_REVOKED);
	assert_true(connects[2].expect_uid == 5 && connects[2].cookie == 99);
	connect.timeout_ns = -1;
	connect.check_uid = false;
	fail_times = 1;
	assert_int_equal(ops->connect(pv, &connect, &session, &peer), 0);
	assert_true(connects[4].timeout_ns == SHMIPC_TIMEOUT_NONE);
	assert_int_equal(connects[4].flags, SHMIPC_CONNECT_ZERO_REVOKED);
	assert_int_equal(connects[4].expect_uid, 0);
	fail_with = ENOENT;
	fail_times = 1;
	assert_int_equal(ops->connect(pv, &connect, &session, &peer), -ENOENT);
	fd = name_mark(NAME_EMBEDDED, name);
	fail_times = 1;
	assert_int_equal(ops->connect(pv, &connect, &session, &peer), -EPROTONOSUPPORT);
	assert_non_null(strstr(shmipc_last_error(), "embedded provider"));
	close(fd);
}

/* ---- sentences ----------------------------------------------------------------------------- */

enum request { OPEN, BIND, ACCEPT, CONNECT, SEGMENT };

/* Of each cap and refusal: a word of the step to take next. */
static const struct {
	enum request request;
	int error;
	const char *step;
} steps[] = {
	{ OPEN, ENOENT, "modprobe" }, { OPEN, EACCES, "udev rule" }, { OPEN, EDQUOT, "close some" },
	{ OPEN, ENOSPC, "endpoints_max" }, { OPEN, EMFILE, "ulimit -n" },
	{ BIND, EADDRINUSE, "another name" }, { BIND, EACCES, "as that user" },
	{ BIND, EDQUOT, "close some" }, { BIND, ENOSPC, "listeners_max" },
	{ BIND, EMFILE, "ulimit -n" }, { ACCEPT, ENOSPC, "close some" },
	{ ACCEPT, EMFILE, "ulimit -n" }, { ACCEPT, ENOMEM, "out of memory" },
	{ CONNECT, ENOENT, "start the server" }, { CONNECT, EACCES, "wider mode" },
	{ CONNECT, EAGAIN, "try again" }, { CONNECT, EDQUOT, "max_per_uid" },
	{ CONNECT, ENOSPC, "sessions_max" }, { CONNECT, ECONNREFUSED, "connect again" },
	{ CONNECT, ETIMEDOUT, "wait longer" }, { CONNECT, EBADMSG, "same version" },
	{ CONNECT, EMFILE, "ulimit -n" }, { SEGMENT, EDQUOT, "user_pages_max" },
	{ SEGMENT, ENOSPC, "total_pages_max" }, { SEGMENT, ENOMEM, "memory cgroup" },
	{ SEGMENT, EMFILE, "ulimit -n" },
};

static int fail_request(enum request request, int error)
{
	struct pv_bind bind = { .name = name, .mode = 0600, .backlog = 1 };
	struct pv_segment segment = { .handle = 31 };
	struct pv_connect connect = { .name = name, .segment = &segment, .timeout_ns = 1 };
	struct shmipc_peer peer;
	uint32_t handle;

	fail_with = error;
	fail_times = 1;
	switch (request) {
	case BIND:
		return ops->bind(pv, &bind, &handle);
	case ACCEPT:
		return ops->accept(pv, 41, &segment, 88, &handle, &peer);
	case CONNECT:
		return ops->connect(pv, &connect, &handle, &peer);
	case SEGMENT:
		return ops->segment_create(pv, 5000, false, &segment);
	default:
		/* No stand-in for open(2). */
		return provider_open_error(-error, device);
	}
}

static void test_next_steps(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		int expected = steps[i].request == OPEN && steps[i].error == ENOENT ? ENODEV :
			       steps[i].error;

		/* Nothing of the row before may answer for this one. */
		error_clear();
		assert_int_equal(fail_request(steps[i].request, steps[i].error), -expected);
		if (!strstr(shmipc_last_error(), steps[i].step))
			fail_msg("row %u: \"%s\" says nothing of \"%s\"", i, shmipc_last_error(),
				 steps[i].step);
		/* None is cut off. */
		assert_in_range(strlen(shmipc_last_error()), 20, 310);
	}
	/* Nobody waits: no failure, and no sentence. */
	error_clear();
	assert_int_equal(fail_request(ACCEPT, EAGAIN), -EAGAIN);
	assert_string_equal(shmipc_last_error(), "");
}

/* The real thing: no descriptor left. */
static void test_open_fails(void **state)
{
	struct rlimit before, none;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(ops->open(&pv), -EMFILE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_non_null(strstr(shmipc_last_error(), "ulimit -n"));
	assert_int_equal(open_and_close(), 0);
}

/* ---- sync -------------------------------------------------------------------------------- */

static void test_sync_one(void **state)
{
	struct shmipc_notify notify = { 51, BELL_DATA };
	struct shmipc_ready event = { 0 };
	struct pv_sync sync = { .notify = &notify, .nr_notify = 1, .events = &event,
				.max_events = 1, .wait = true, .timeout_ns = -1 };

	(void)state;
	sync_events = 1;
	assert_int_equal(ops->sync(pv, &sync), 1);
	assert_true(event.cookie == 70);
	/* By value, both ways. */
	assert_true(!syncs[0].notify && !syncs[0].events);
	assert_true(syncs[0].nr_notify == 1 && syncs[0].max_events == 1);
	assert_true(syncs[0].one.handle == 51 && syncs[0].one.bits == BELL_DATA);
	assert_int_equal(syncs[0].flags, SHMIPC_SYNC_WAIT);
	assert_true(syncs[0].timeout_ns == SHMIPC_TIMEOUT_NONE);
	sync.max_events = 0;
	sync_events = 0;
	assert_int_equal(ops->sync(pv, &sync), 0);
	assert_int_equal(syncs[1].flags, 0);
}

static void test_sync_many(void **state)
{
	enum { MANY = 2 * SHMIPC_NOTIFY_MAX + 3 };
	static struct shmipc_notify notify[MANY];
	static struct shmipc_ready events[2000];
	struct pv_sync sync = { .notify = notify, .nr_notify = MANY, .events = events,
				.max_events = 2000, .wait = true, .timeout_ns = 5 };

	(void)state;
	sync_events = 3;
	assert_int_equal(ops->sync(pv, &sync), 3);
	assert_true(events[2].cookie == 72);
	assert_int_equal(calls[nr(SHMIPC_IOC_SYNC)], 3);
	for (int i = 0; i < 3; i++) {
		assert_true(syncs[i].notify == (uintptr_t)(notify + i * SHMIPC_NOTIFY_MAX));
		assert_int_equal(syncs[i].flags, i < 2 ? 0 : SHMIPC_SYNC_WAIT);
		assert_int_equal(syncs[i].max_events, i < 2 ? 0 : SHMIPC_EVENTS_MAX);
	}
	assert_int_equal(syncs[2].nr_notify, 3);
	assert_true(syncs[2].timeout_ns == 5);
}

/* A handle that is gone kept the module from waiting: asked again without it. */
static void test_sync_stale(void **state)
{
	struct shmipc_notify notify[2] = { { 1, 1 }, { 2, 1 } };
	struct shmipc_ready event;
	struct pv_sync sync = { .notify = notify, .nr_notify = 2, .events = &event,
				.max_events = 1, .wait = true, .timeout_ns = -1 };

	(void)state;
	sync_flags = SHMIPC_SYNC_NOTIFY_FAILED;
	sync_events = 1;
	assert_int_equal(ops->sync(pv, &sync), 1);
	assert_int_equal(calls[nr(SHMIPC_IOC_SYNC)], 2);
	assert_int_equal(syncs[1].nr_notify, 0);
	assert_int_equal(syncs[1].flags, SHMIPC_SYNC_WAIT);
	/* Only ringing: nothing to ask again for. */
	calls[nr(SHMIPC_IOC_SYNC)] = 0;
	sync.max_events = 0;
	assert_int_equal(ops->sync(pv, &sync), 0);
	assert_int_equal(calls[nr(SHMIPC_IOC_SYNC)], 1);
	fail_with = ESTALE;
	fail_times = 1;
	assert_int_equal(ops->sync(pv, &sync), -ESTALE);
	calls[nr(SHMIPC_IOC_SYNC)] = 0;
	sync_flags = SHMIPC_SYNC_INTERRUPTED;
	sync_events = 0;
	sync.max_events = 1;
	assert_int_equal(ops->sync(pv, &sync), 0);
	assert_int_equal(calls[nr(SHMIPC_IOC_SYNC)], 1);
}

/* A session to oneself, made when it is first needed, and rung. */
static void test_kick(void **state)
{
	(void)state;
	ops->kick(pv);
	assert_int_equal(calls[nr(SHMIPC_IOC_BIND)], 1);
	assert_int_equal(bound.mode, 0200);
	assert_int_equal(connects[0].flags, SHMIPC_CONNECT_NONBLOCK);
	assert_int_equal(connects[0].name_len, bound.name_len);
	assert_int_equal(accepted.listener, 41);
	/* Its events are nobody's, but for the rings. */
	assert_true(!bound.causes && !connects[0].causes && !accepted.causes);
	assert_true(!connects[0].cookie && !accepted.cookie);
	/* The name is gone at once. */
	assert_int_equal(calls[nr(SHMIPC_IOC_CLOSE)], 1);
	assert_int_equal(closes[0].handle, 41);
	assert_int_equal(calls[nr(SHMIPC_IOC_SYNC)], 1);
	assert_int_equal(syncs[0].nr_notify, 1);
	assert_int_equal(rung.handle, 61);
	assert_int_equal(rung.bits, BELL_DATA);
	ops->kick(pv);
	assert_int_equal(calls[nr(SHMIPC_IOC_BIND)], 1);
	assert_int_equal(calls[nr(SHMIPC_IOC_SYNC)], 2);
}

/* What can't be made leaves nothing behind, and is tried again. */
static void test_kick_fails(void **state)
{
	(void)state;
	fail_with = ENOSPC;
	fail_times = 1;
	ops->kick(pv);
	assert_int_equal(calls[nr(SHMIPC_IOC_SYNC)], 0);
	accept_fails = true;
	ops->kick(pv);
	assert_int_equal(calls[nr(SHMIPC_IOC_SYNC)], 0);
	assert_int_equal(calls[nr(SHMIPC_IOC_CLOSE)], 2);
	assert_int_equal(closes[0].handle, 61);
	assert_int_equal(closes[1].handle, 41);
	accept_fails = false;
	ops->kick(pv);
	assert_int_equal(calls[nr(SHMIPC_IOC_SYNC)], 1);
}

/* ---- the peer ------------------------------------------------------------------ */

static void test_peer(void **state)
{
	struct shmipc_peer peer;
	bool paused;

	(void)state;
	listed = (struct shmipc_item){ .kind = SHMIPC_ITEM_SESSION, .handle = 51,
				       .peer = { .pid = 77, .generation = 3 } };
	assert_int_equal(ops->peer(pv, 51, &peer, &paused), 0);
	assert_true(peer.pid == 77 && peer.generation == 3 && !paused);
	listed.flags = SHMIPC_ITEM_PEER_PAUSED | SHMIPC_ITEM_CONNECTOR;
	assert_int_equal(ops->peer(pv, 51, &peer, &paused), 0);
	assert_true(paused);
	/* It is gone; the next one is told, or none. */
	listed.handle = 52;
	assert_int_equal(ops->peer(pv, 51, &peer, &paused), -ENOENT);
	listed.kind = 0;
	assert_int_equal(ops->peer(pv, 51, &peer, &paused), -ENOENT);
	fail_with = ENOTTY;
	fail_times = 1;
	assert_int_equal(ops->peer(pv, 51, &peer, &paused), -ENOTTY);
}

static void test_peer_watch(void **state)
{
	const uint32_t usual = SHMIPC_CAUSE_PEER_CLOSED | SHMIPC_CAUSE_PEER_DIED |
			       SHMIPC_CAUSE_PEER_CHANGED;

	(void)state;
	assert_int_equal(ops->peer_watch(pv, 51, 88, true), 0);
	assert_true(watched.handle == 51 && watched.cookie == 88);
	assert_int_equal(watched.causes,
			 usual | SHMIPC_CAUSE_PEER_LOST | SHMIPC_CAUSE_PEER_PAUSE);
	assert_int_equal(ops->peer_watch(pv, 51, 88, false), 0);
	assert_int_equal(watched.causes, usual);
	fail_with = ESTALE;
	fail_times = 1;
	assert_int_equal(ops->peer_watch(pv, 51, 88, true), -ESTALE);
	/* A module that hands nothing over has nothing to tell. */
	fail_with = ENOTTY;
	fail_times = 1;
	assert_int_equal(ops->peer_watch(pv, 51, 88, true), 0);
}

#define OPENED(f) cmocka_unit_test_setup_teardown(f, setup_open, teardown_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_abi, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_device, setup, teardown),
		OPENED(test_segments), OPENED(test_segment_unmappable), OPENED(test_ownership),
		OPENED(test_bind),
		OPENED(test_accept), OPENED(test_connect), OPENED(test_sync_one),
		OPENED(test_sync_many), OPENED(test_sync_stale), OPENED(test_next_steps),
		OPENED(test_kick), OPENED(test_kick_fails),
		OPENED(test_peer), OPENED(test_peer_watch),
		cmocka_unit_test_setup_teardown(test_open_fails, setup, teardown),
	};

	return cmocka_run_group_tests_name("provider_kernel", tests, NULL, NULL);
}
