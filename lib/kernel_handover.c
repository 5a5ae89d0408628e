// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* kernel_handover.c - an endpoint of /dev/shmipc passes to another process */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "clock.h"
#include "error.h"
#include "provider_kernel.h"

#define ITEMS	256	/* of a LIST request */

/* A module of the first version does not know of it. */
static int handover_error(int err)
{
	if (err != -ENOTTY)
		return err;
	return error_set(-EOPNOTSUPP, "the module is too old to hand an endpoint over: update it");
}

/* ---- the holder ---------------------------------------------------------- */

static int kernel_offer(struct provider *pv, struct pv_offer *offer)
{
	struct shmipc_offer req = {
		.size = sizeof(req),
		.adopt = offer->by_name ? SHMIPC_ADOPT_EUID : SHMIPC_ADOPT_HOLDER,
		.blob = offer->blob,
		.timeout_ns = offer->timeout_ns,
	};
	int err = handover_error(kernel_request(pv, SHMIPC_IOC_OFFER, &req));

	if (err)
		return err;
	offer->handle = req.out_handle;
	offer->fd = req.out_fd;
	return 0;
}

static bool kernel_over(struct provider *pv, int fd)
{
	struct pollfd over = { .fd = fd };

	(void)pv;
	return poll(&over, 1, 0) > 0 && over.revents & POLLHUP;
}

/* The successor sets its own, and one name has room for one. */
static void hide_markers(struct kernel_provider *k)
{
	struct list *pos, *n;

	lock(&k->lock);
	list_for_each_safe(pos, n, &k->markers)
		held_close(&container_of(pos, struct marker, node)->socket);
	unlock(&k->lock);
}

static void show_markers(struct provider *pv)
{
	struct kernel_provider *k = kernel(pv);
	struct list *pos, *n, again;

	list_init(&again);
	lock(&k->lock);
	list_for_each_safe(pos, n, &k->markers) {
		list_del(pos);
		list_add_tail(pos, &again);
	}
	unlock(&k->lock);
	list_for_each_safe(pos, n, &again) {
		struct marker *marker = container_of(pos, struct marker, node);

		kernel_add_marker(pv, marker->name, marker->listener);
		list_del(pos);
		free(marker);
	}
}

static void forget_markers(struct kernel_provider *k)
{
	struct list *pos, *n;

	lock(&k->lock);
	list_for_each_safe(pos, n, &k->markers) {
		list_del(pos);
		free(container_of(pos, struct marker, node));
	}
	unlock(&k->lock);
}

/* Its deadline ends it, if nothing else does. */
static void wait_over(int fd)
{
	struct pollfd over = { .fd = fd };

	while (poll(&over, 1, -1) < 0 || !(over.revents & POLLHUP))
		;
}

static int kernel_yield(struct provider *pv, int fd)
{
	struct shmipc_yield req = { .size = sizeof(req) };
	uint32_t state;
	int err;

	hide_markers(kernel(pv));
	err = kernel_request(pv, SHMIPC_IOC_YIELD, &req);
	if (!err)
		wait_over(fd);
	state = pv->anchor->state;
	if (!err && state == SHMIPC_STATE_MOVED) {
		forget_markers(kernel(pv));
		return 0;
	}
	show_markers(pv);
	if (err && err != -ENOENT)
		return err;
	return state == SHMIPC_STATE_LIVE ? -ECANCELED : -ESTALE;
}

/* ---- the successor ------------------------------------------------------- */

static int kernel_adopt(struct provider *by, const char *name, int fd, struct provider **pv)
{
	struct shmipc_adopt req = { .size = sizeof(req) };
	int err = name ? provider_check_name(name) : 0;

	if (err)
		return err;
	if (name) {
		req.name = (uintptr_t)name;
		req.name_len = (uint32_t)strlen(name);
	} else {
		req.offer_fd = fd;
	}
	err = handover_error(kernel_request(by, SHMIPC_IOC_ADOPT, &req));
	if (err)
		return err;
	err = kernel_new(req.out_fd, pv);
	/* The last of it gives up, too. */
	if (err)
		close(req.out_fd);
	return err;
}

static int kernel_pause(struct provider *pv, int64_t timeout_ns)
{
	struct pollfd pause = { .fd = pv->fd, .events = POLLIN };
	struct budget budget = budget_start(timeout_ns);

	for (;;) {
		int64_t left = budget_left(&budget);
		struct timespec ts = { left / 1000000000, left % 1000000000 };
		int n = ppoll(&pause, 1, left < 0 ? NULL : &ts, NULL);

		if (n > 0 && pause.revents & POLLHUP)
			return error_set(-ECANCELED, "the offer ended before the other program "
					 "stopped: by its timeout, or because that program ended");
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (!n)
			return error_set(-ETIMEDOUT, "the other program did not stop in time");
	}
}

static int kernel_list(struct provider *pv, uint32_t session, struct pv_list *list)
{
	struct shmipc_list req = {
		.size = sizeof(req), .session = session, .item_size = sizeof(*list->items),
	};
	struct shmipc_item *grown;
	int err;

	*list = (struct pv_list){ 0 };
	do {
		grown = realloc(list->items, (list->nr + ITEMS) * sizeof(*grown));
		err = grown ? 0 : -ENOMEM;
		if (!err) {
			list->items = grown;
			req.items = (uintptr_t)(grown + list->nr);
			req.max = ITEMS;
			err = kernel_request(pv, SHMIPC_IOC_LIST, &req);
		}
		if (err) {
			free(list->items);
			*list = (struct pv_list){ 0 };
			return err;
		}
		list->nr += req.out_nr;
	} while (req.cursor);
	list->flags = req.out_flags;
	return 0;
}

static int kernel_view(struct provider *pv, uint64_t offset, size_t len,
		       struct pv_mapping *mapping)
{
	void *addr = mmap(NULL, len, PROT_READ, MAP_SHARED, pv->fd, (off_t)offset);

	if (addr == MAP_FAILED)
		return -errno;
	*mapping = (struct pv_mapping){ addr, len };
	return 0;
}

static int kernel_commit(struct provider *pv)
{
	struct shmipc_commit req = { .size = sizeof(req) };

	return kernel_request(pv, SHMIPC_IOC_COMMIT, &req);
}

static int kernel_own(struct provider *pv, const struct pv_segment *segment, uint64_t offset)
{
	void *addr = mmap(segment->addr, segment->len, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_FIXED, pv->fd, (off_t)offset);

	/* A buffer that was frozen stays so. */
	if (addr == MAP_FAILED && errno == EACCES)
		addr = mmap(segment->addr, segment->len, PROT_READ, MAP_SHARED | MAP_FIXED,
			    pv->fd, (off_t)offset);
	return addr == MAP_FAILED ? -errno : 0;
}

static int kernel_watch(struct provider *pv, uint32_t handle, const char *name, uint64_t cookie)
{
	struct shmipc_watch req = {
		.size = sizeof(req),
		.handle = handle,
		.causes = name ? SHMIPC_CAUSE_ACCEPT : SESSION_CAUSES,
		.cookie = cookie,
	};
	int err = kernel_request(pv, SHMIPC_IOC_WATCH, &req);

	if (!err && name)
		kernel_add_marker(pv, name, handle);
	return err;
}

/* ---- the peer -------------------------------------------------------------- */

int kernel_peer(struct provider *pv, uint32_t session, struct shmipc_peer *peer, bool *paused)
{
	struct shmipc_item item = { 0 };
	struct shmipc_list req = { .size = sizeof(req), .item_size = sizeof(item),
				   .items = (uintptr_t)&item, .max = 1, .cursor = session };
	int err = kernel_request(pv, SHMIPC_IOC_LIST, &req);

	if (err)
		return err;
	if (!req.out_nr || item.handle != session)
		return -ENOENT;
	*peer = item.peer;
	*paused = item.flags & SHMIPC_ITEM_PEER_PAUSED;
	return 0;
}

int kernel_peer_watch(struct provider *pv, uint32_t session, uint64_t cookie, bool on)
{
	struct shmipc_watch req = {
		.size = sizeof(req),
		.handle = session,
		.causes = SESSION_CAUSES | (on ? PAUSE_CAUSES : 0),
		.cookie = cookie,
	};
	int err = kernel_request(pv, SHMIPC_IOC_WATCH, &req);

	/* Under a module of the first version nobody is handed over. */
	return err == -ENOTTY ? 0 : err;
}

const struct handover_ops kernel_handover = {
	.offer = kernel_offer,
	.over = kernel_over,
	.yield = kernel_yield,
	.adopt = kernel_adopt,
	.pause = kernel_pause,
	.list = kernel_list,
	.view = kernel_view,
	.commit = kernel_commit,
	.own = kernel_own,
	.watch = kernel_watch,
};
