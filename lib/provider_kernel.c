// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The provider that is /dev/shmipc. Nearly every operation is one request; what is left is
 * mapping, the check of the ABI at open, and telling a client that it uses the other provider.
 */
#include "provider_kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <shmipc/shmipc.h>

#include "embedded_name.h"
#include "error.h"
#include "log.h"
#include "provider.h"
#include "provider_error.h"

/* The oldest and newest ABI of a module that this library can talk to: it asks for no more. */
#define ABI_NEEDED	1

static int real_ioctl(int fd, unsigned long request, void *arg)
{
	return ioctl(fd, request, arg);
}

int (*provider_kernel_ioctl)(int fd, unsigned long request, void *arg) = real_ioctl;
const char *provider_kernel_device = "/dev/shmipc";

int kernel_request(struct provider *pv, unsigned long number, void *arg)
{
	return provider_kernel_ioctl(pv->fd, number, arg) < 0 ? -errno : 0;
}

/* ---- open and close ------------------------------------------------------ */

static int open_device(void)
{
	int fd = open(provider_kernel_device, O_RDWR | O_CLOEXEC);

	return fd >= 0 ? fd : provider_open_error(-errno, provider_kernel_device);
}

static int check_abi(int fd)
{
	struct shmipc_query query = { .size = sizeof(query) };

	if (provider_kernel_ioctl(fd, SHMIPC_IOC_QUERY, &query) < 0)
		return error_set(-EPROTONOSUPPORT,
				 "%s doesn't answer as shmipc does (%s): is it "
				 "another driver's?",
				 provider_kernel_device, shmipc_strerror(-errno));
	query.out_version[sizeof(query.out_version) - 1] = '\0';
	if (query.out_abi < ABI_NEEDED)
		return error_set(-EPROTONOSUPPORT,
				 "the module (%s) has ABI %u and this library needs "
				 "%u: update the module",
				 (const char *)query.out_version, query.out_abi, ABI_NEEDED);
	if (query.out_abi_oldest > SHMIPC_ABI)
		return error_set(-EPROTONOSUPPORT,
				 "the module (%s) serves ABI %u and newer and this "
				 "library has %u: update the library",
				 (const char *)query.out_version, query.out_abi_oldest, SHMIPC_ABI);
	if (!(query.out_features & SHMIPC_FEATURE_STREAMS))
		return error_set(-EPROTONOSUPPORT,
				 "the module (%s) lacks what streams need: update "
				 "the module",
				 (const char *)query.out_version);
	return 0;
}

static size_t page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static int map_anchor(int fd, const volatile struct shmipc_anchor **anchor)
{
	void *addr = mmap(NULL, page_size(), PROT_READ, MAP_SHARED, fd, 0);

	if (addr == MAP_FAILED)
		return error_set(-errno, "mapping the anchor page of %s: %s",
				 provider_kernel_device, shmipc_strerror(-errno));
	*anchor = addr;
	return 0;
}

int kernel_new(int fd, struct provider **pv)
{
	struct kernel_provider *k = calloc(1, sizeof(*k));
	int err;

	if (!k)
		return -ENOMEM;
	err = map_anchor(fd, &k->base.anchor);
	if (err) {
		free(k);
		return err;
	}
	k->base.ops = &provider_kernel;
	k->base.fd = fd;
	list_init(&k->markers);
	*pv = &k->base;
	return 0;
}

static int kernel_open(struct provider **pv)
{
	int fd = open_device();
	int err;

	if (fd < 0)
		return fd;
	err = check_abi(fd);
	if (!err)
		err = kernel_new(fd, pv);
	if (err)
		close(fd);
	return err;
}

static void free_marker(struct marker *marker)
{
	held_close(&marker->socket);
	list_del(&marker->node);
	free(marker);
}

static void kernel_close(struct provider *pv, bool in_child)
{
	struct kernel_provider *k = kernel(pv);
	struct shmipc_close end = { .size = sizeof(end) };
	struct list *pos, *n;

	/* In a child a lock may be another thread's for ever; there is no other thread here. */
	list_for_each_safe(pos, n, &k->markers)
		free_marker(container_of(pos, struct marker, node));
	if (!in_child) {
		kernel_request(pv, SHMIPC_IOC_CLOSE, &end);
		/* A child has no such mapping; something else may lie there. */
		munmap((void *)(uintptr_t)pv->anchor, page_size());
	}
	close(pv->fd);
	free(k);
}

/* ---- segments ------------------------------------------------------------- */

static void close_handle(struct provider *pv, uint32_t handle, uint32_t reason)
{
	struct shmipc_close end = { .size = sizeof(end), .handle = handle, .reason = reason };
	int err = kernel_request(pv, SHMIPC_IOC_CLOSE, &end);

	if (err)
		log_debug("close of handle %u: %s", handle, shmipc_strerror(err));
}

/* @sealed asks for less than the module enforces. */
static int kernel_segment_create(struct provider *pv, size_t len, bool sealed,
				 struct pv_segment *segment)
{
	struct shmipc_seg_create create = { .size = sizeof(create), .length = len };
	void *addr;
	int err;

	(void)sealed;
	err = kernel_request(pv, SHMIPC_IOC_SEG_CREATE, &create);
	if (err)
		return provider_memory_error(err, len);
	addr = mmap(NULL, create.out_length, PROT_READ | PROT_WRITE, MAP_SHARED, pv->fd,
		    (off_t)create.out_offset);
	if (addr == MAP_FAILED) {
		err = provider_memory_error(-errno, len);
		close_handle(pv, create.out_handle, 0);
		return err;
	}
	*segment = (struct pv_segment){ create.out_handle, addr, create.out_length };
	return 0;
}

static void kernel_segment_destroy(struct provider *pv, struct pv_segment *segment)
{
	munmap(segment->addr, segment->len);
	close_handle(pv, segment->handle, 0);
	*segment = (struct pv_segment){ 0 };
}

static int kernel_segment_grant(struct provider *pv, uint32_t session,
				const struct pv_segment *segment, uint32_t slot)
{
	struct shmipc_seg_grant grant = {
		.size = sizeof(grant),
		.session = session,
		.segment = segment->handle,
		.slot = slot,
	};

	return kernel_request(pv, SHMIPC_IOC_SEG_GRANT, &grant);
}

static int kernel_segment_map(struct provider *pv, uint32_t session, uint32_t slot,
			      struct pv_mapping *mapping)
{
	struct shmipc_seg_info info = {
		.size = sizeof(info),
		.flags = SHMIPC_SEG_OF_PEER,
		.handle = session,
		.slot = slot,
	};
	void *addr;
	int err;

	err = kernel_request(pv, SHMIPC_IOC_SEG_INFO, &info);
	if (err)
		return err;
	addr = mmap(NULL, info.out_length, PROT_READ, MAP_SHARED, pv->fd, (off_t)info.out_offset);
	if (addr == MAP_FAILED)
		return -errno;
	*mapping = (struct pv_mapping){ addr, info.out_length };
	return 0;
}

static void kernel_segment_unmap(struct provider *pv, struct pv_mapping *mapping)
{
	(void)pv;
	munmap((void *)(uintptr_t)mapping->addr, mapping->len);
	*mapping = (struct pv_mapping){ 0 };
}

static void kernel_segment_revoke(struct provider *pv, uint32_t session, uint32_t slot)
{
	struct shmipc_seg_revoke revoke = {
		.size = sizeof(revoke),
		.session = session,
		.slot = slot,
	};
	int err = kernel_request(pv, SHMIPC_IOC_SEG_REVOKE, &revoke);

	/* Of what the peer has taken there is no grant any more. */
	if (err && err != -ENOENT)
		log_debug("revoke of slot %u: %s", slot, shmipc_strerror(err));
}

/* ---- ownership ------------------------------------------------------------- */

/* A module of the first version does not know of it. */
static int ownership_error(int err)
{
	return err == -ENOTTY ? -EOPNOTSUPP : err;
}

static int kernel_segment_freeze(struct provider *pv, const struct pv_segment *segment)
{
	struct shmipc_seg_freeze freeze = { .size = sizeof(freeze), .segment = segment->handle };

	return ownership_error(kernel_request(pv, SHMIPC_IOC_SEG_FREEZE, &freeze));
}

static int kernel_segment_give(struct provider *pv, uint32_t session, uint32_t slot)
{
	struct shmipc_seg_give give = { .size = sizeof(give), .session = session, .slot = slot };

	return ownership_error(kernel_request(pv, SHMIPC_IOC_SEG_GIVE, &give));
}

/*
 * The kernel has it at the same offset: the new mapping takes the old one's place. mmap fails for
 * want of memory, or because the endpoint died; then the segment is ours to drop. The old mapping may
 * be there or not by then, and its place another thread's: it is left alone.
 */
static int kernel_segment_take(struct provider *pv, uint32_t session, uint32_t slot,
			       struct pv_mapping *mapping, struct pv_segment *segment)
{
	struct shmipc_seg_take take = { .size = sizeof(take), .session = session, .slot = slot };
	void *at = (void *)(uintptr_t)mapping->addr, *addr;
	int err;

	err = kernel_request(pv, SHMIPC_IOC_SEG_TAKE, &take);
	if (err)
		return ownership_error(err);
	addr = mmap(at, mapping->len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, pv->fd,
		    (off_t)take.out_offset);
	if (addr == MAP_FAILED) {
		log_error("%zu bytes were taken and can't be mapped: %s", mapping->len,
			  shmipc_strerror(-errno));
		*mapping = (struct pv_mapping){ 0 };
		close_handle(pv, take.out_handle, 0);
		return -ESTALE;
	}
	*segment = (struct pv_segment){ take.out_handle, addr, mapping->len };
	*mapping = (struct pv_mapping){ 0 };
	return 0;
}

static void kernel_segment_refuse(struct provider *pv, uint32_t session, uint32_t slot)
{
	struct shmipc_seg_take refuse = {
		.size = sizeof(refuse),
		.flags = SHMIPC_TAKE_REFUSE,
		.session = session,
		.slot = slot,
	};

	kernel_request(pv, SHMIPC_IOC_SEG_TAKE, &refuse);
}

static int kernel_segment_state(struct provider *pv, const struct pv_segment *segment)
{
	struct shmipc_seg_info info = { .size = sizeof(info), .handle = segment->handle };
	int err = kernel_request(pv, SHMIPC_IOC_SEG_INFO, &info);

	if (err)
		return err;
	return info.out_rights ? 0 : -EBUSY;
}

/* ---- names and sessions ---------------------------------------------------- */

/*
 * A marker only makes an error message better: failing to set it, which a stranger could
 * bring about by squatting on its name, does not stop the listener.
 */
void kernel_add_marker(struct provider *pv, const char *name, uint32_t listener)
{
	struct kernel_provider *k = kernel(pv);
	struct marker *marker = calloc(1, sizeof(*marker));
	int fd;

	if (!marker)
		return;
	fd = name_mark(NAME_KERNEL, name);
	if (fd < 0 || held_init(&marker->socket, fd)) {
		log_warn("embedded clients of \"%s\" will not be told to use the kernel provider",
			 name);
		if (fd >= 0)
			close(fd);
		free(marker);
		return;
	}
	marker->listener = listener;
	snprintf(marker->name, sizeof(marker->name), "%s", name);
	lock(&k->lock);
	list_add_tail(&marker->node, &k->markers);
	unlock(&k->lock);
}

static void drop_marker(struct kernel_provider *k, uint32_t listener)
{
	struct list *pos, *n;

	lock(&k->lock);
	list_for_each_safe(pos, n, &k->markers) {
		struct marker *marker = container_of(pos, struct marker, node);

		if (marker->listener == listener)
			free_marker(marker);
	}
	unlock(&k->lock);
}

static int kernel_bind(struct provider *pv, const struct pv_bind *bind, uint32_t *listener)
{
	struct shmipc_bind req = {
		.size = sizeof(req),
		.flags = bind->fresh ? SHMIPC_BIND_FRESH : 0,
		.name = (uintptr_t)bind->name,
		.mode = bind->mode & 0222,
		.backlog = bind->backlog,
		.max_per_uid = bind->max_per_uid,
		.causes = SHMIPC_CAUSE_ACCEPT,
		.cookie = bind->cookie,
		.adopt = bind->orphan_ms ? SHMIPC_ADOPT_EUID : SHMIPC_ADOPT_NOBODY,
		.orphan_ms = bind->orphan_ms,
	};
	uint32_t uid;
	int err;

	err = provider_check_name(bind->name);
	if (err)
		return err;
	req.name_len = (uint32_t)strlen(bind->name);
	/* Anybody can set a marker; it must not keep a user from his reserved name. */
	if (!name_reserved(bind->name, &uid) && name_marked(NAME_EMBEDDED, bind->name))
		return error_set(-EADDRINUSE, "a listener that uses the embedded provider has the "
				 "name \"%s\": stop it, or choose another name", bind->name);
	err = kernel_request(pv, SHMIPC_IOC_BIND, &req);
	if (err)
		return provider_bind_error(err, bind->name);
	kernel_add_marker(pv, bind->name, req.out_handle);
	*listener = req.out_handle;
	return 0;
}

static int kernel_accept(struct provider *pv, uint32_t listener,
			 const struct pv_segment *segment, uint64_t cookie, uint32_t *session,
			 struct shmipc_peer *peer)
{
	struct shmipc_accept req = {
		.size = sizeof(req),
		.flags = SHMIPC_ACCEPT_ZERO_REVOKED,
		.listener = listener,
		.segment = segment->handle,
		.causes = SESSION_CAUSES,
		.cookie = cookie,
	};
	int err;

	err = kernel_request(pv, SHMIPC_IOC_ACCEPT, &req);
	if (err)
		return provider_accept_error(err);
	*session = req.out_session;
	*peer = req.out_peer;
	return 0;
}

static int connect_error(int err, const char *name)
{
	if (err == -ENOENT && name_marked(NAME_EMBEDDED, name))
		return error_set(
			-EPROTONOSUPPORT,
			"\"%s\" is served by the embedded provider: use "
			"SHMIPC_PROVIDER=embedded here, or restart the server where it can "
			"open the module",
			name);
	return provider_connect_error(err, name);
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* A signal does not end the wait; CONNECT left nothing behind and starts anew. */
static int connect_until(struct provider *pv, struct shmipc_connect *req, int64_t timeout_ns)
{
	int64_t start = timeout_ns > 0 ? now_ns() : 0, left = timeout_ns;
	int err;

	for (;;) {
		req->timeout_ns = left < 0 ? SHMIPC_TIMEOUT_NONE : (uint64_t)left;
		err = kernel_request(pv, SHMIPC_IOC_CONNECT, req);
		if (err != -EINTR)
			return err;
		if (timeout_ns > 0) {
			left = timeout_ns - (now_ns() - start);
			left = left > 0 ? left : 0;
		}
	}
}

static int kernel_connect(struct provider *pv, const struct pv_connect *connect,
			  uint32_t *session, struct shmipc_peer *peer)
{
	struct shmipc_connect req = {
		.size = sizeof(req),
		.flags = SHMIPC_CONNECT_ZERO_REVOKED |
			 (connect->check_uid ? SHMIPC_CONNECT_EXPECT_UID : 0),
		.name = (uintptr_t)connect->name,
		.expect_uid = connect->check_uid ? connect->expect_uid : 0,
		.segment = connect->segment->handle,
		.causes = SESSION_CAUSES,
		.cookie = connect->cookie,
	};
	int err;

	err = provider_check_name(connect->name);
	if (err)
		return err;
	req.name_len = (uint32_t)strlen(connect->name);
	err = connect_until(pv, &req, connect->timeout_ns);
	if (err)
		return connect_error(err, connect->name);
	*session = req.out_session;
	*peer = req.out_peer;
	return 0;
}

/* ---- events ---------------------------------------------------------------- */

/* Up to SHMIPC_NOTIFY_MAX entries; bad ones are skipped by the module. */
static int ring_only(struct provider *pv, const struct shmipc_notify *notify, unsigned int count)
{
	struct shmipc_sync req = {
		.size = sizeof(req),
		.notify = (uintptr_t)notify,
		.nr_notify = count,
	};

	return kernel_request(pv, SHMIPC_IOC_SYNC, &req);
}

static int kernel_sync(struct provider *pv, struct pv_sync *sync)
{
	const struct shmipc_notify *notify = sync->notify;
	unsigned int count = sync->nr_notify, max = sync->max_events;
	struct shmipc_sync req;
	int err;

	for (; count > SHMIPC_NOTIFY_MAX; notify += SHMIPC_NOTIFY_MAX, count -= SHMIPC_NOTIFY_MAX) {
		err = ring_only(pv, notify, SHMIPC_NOTIFY_MAX);
		if (err)
			return err;
	}
	max = max < SHMIPC_EVENTS_MAX ? max : SHMIPC_EVENTS_MAX;
	do {
		memset(&req, 0, sizeof(req));
		req.size = sizeof(req);
		req.flags = sync->wait && max ? SHMIPC_SYNC_WAIT : 0;
		req.max_events = max;
		req.nr_notify = count;
		req.timeout_ns = sync->timeout_ns < 0 ? SHMIPC_TIMEOUT_NONE :
				 (uint64_t)sync->timeout_ns;
		/* One of each travels in the struct, without a second copy from here. */
		if (count == 1)
			req.one = notify[0];
		else if (count)
			req.notify = (uintptr_t)notify;
		if (max > 1)
			req.events = (uintptr_t)sync->events;
		err = kernel_request(pv, SHMIPC_IOC_SYNC, &req);
		if (err)
			return err;
		/* A stale handle kept it from waiting; all bells were rung. */
		count = 0;
	} while ((req.out_flags & SHMIPC_SYNC_NOTIFY_FAILED) && req.max_events &&
		 !req.out_nr_events);
	if (max == 1 && req.out_nr_events == 1)
		sync->events[0] = req.out_one;
	return (int)req.out_nr_events;
}

/*
 * A session of which both sides are this endpoint's. Only endpoints that several threads use pay
 * for one. Nobody can guess its name, which is there for a moment, or connect but this user.
 */
static int make_own_bell(struct provider *pv, uint32_t *bell)
{
	char name[SHMIPC_NAME_MAX + 1];
	struct shmipc_bind bind = { .size = sizeof(bind), .name = (uintptr_t)name, .mode = 0200,
				    .backlog = 1, .max_per_uid = 1 };
	struct shmipc_connect connect = { .size = sizeof(connect), .name = (uintptr_t)name,
					  .flags = SHMIPC_CONNECT_NONBLOCK };
	struct shmipc_accept accept = { .size = sizeof(accept) };
	uint64_t nonce;
	int err;

	if (getrandom(&nonce, sizeof(nonce), 0) != sizeof(nonce))
		return -EIO;
	bind.name_len = connect.name_len =
		(uint32_t)snprintf(name, sizeof(name), "own-bell/%016llx",
				   (unsigned long long)nonce);
	err = kernel_request(pv, SHMIPC_IOC_BIND, &bind);
	if (err)
		return err;
	err = kernel_request(pv, SHMIPC_IOC_CONNECT, &connect);
	accept.listener = bind.out_handle;
	if (!err)
		err = kernel_request(pv, SHMIPC_IOC_ACCEPT, &accept);
	if (!err)
		*bell = connect.out_session;
	else if (connect.out_session)
		close_handle(pv, connect.out_session, 0);
	close_handle(pv, bind.out_handle, 0);
	return err;
}

/* The module has no call for it, but a ring of one's own is an event as any other. */
static void kernel_kick(struct provider *pv)
{
	struct kernel_provider *k = kernel(pv);
	struct shmipc_notify notify = { .bits = BELL_DATA };
	int err = 0;

	lock(&k->lock);
	if (!k->own_bell)
		err = make_own_bell(pv, &k->own_bell);
	notify.handle = k->own_bell;
	unlock(&k->lock);
	if (!err)
		err = ring_only(pv, &notify, 1);
	if (err)
		log_limited(LOG_LEVEL_ERROR, "a thread that waits can't be woken for what another "
			    "did: %s", shmipc_strerror(err));
}

static void kernel_drop(struct provider *pv, uint32_t handle, uint32_t reason)
{
	/* The marker first: where it is seen, the name is served or was a moment ago. */
	drop_marker(kernel(pv), handle);
	close_handle(pv, handle, reason);
}

const struct provider_ops provider_kernel = {
	.name = "kernel",
	.open = kernel_open,
	.close = kernel_close,
	.segment_create = kernel_segment_create,
	.segment_destroy = kernel_segment_destroy,
	.segment_grant = kernel_segment_grant,
	.segment_map = kernel_segment_map,
	.segment_unmap = kernel_segment_unmap,
	.segment_revoke = kernel_segment_revoke,
	.segment_freeze = kernel_segment_freeze,
	.segment_give = kernel_segment_give,
	.segment_take = kernel_segment_take,
	.segment_refuse = kernel_segment_refuse,
	.segment_state = kernel_segment_state,
	.bind = kernel_bind,
	.accept = kernel_accept,
	.connect = kernel_connect,
	.sync = kernel_sync,
	.kick = kernel_kick,
	.peer = kernel_peer,
	.peer_watch = kernel_peer_watch,
	.drop = kernel_drop,
	.handover = &kernel_handover,
};
