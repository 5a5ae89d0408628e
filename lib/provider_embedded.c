// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The provider that needs no module: the endpoint itself, its table of handles and its epoll.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "embedded.h"
#include "error.h"
#include "log.h"

#define TABLE_MAX	0xffffU		/* what the low half of a handle can name */
#define BATCH		64		/* events taken off the epoll at once */

/* ---- the table ------------------------------------------------------------- */

static int grow_table(struct embedded *e)
{
	unsigned int size = e->table_size ? e->table_size * 2 : 64;
	struct object **table;

	if (e->table_size == TABLE_MAX)
		return -ENOSPC;
	size = size < TABLE_MAX ? size : TABLE_MAX;
	table = realloc(e->table, size * sizeof(struct object *));	/* NOLINT */
	if (!table)
		return -ENOMEM;
	for (unsigned int i = e->table_size; i < size; i++)
		table[i] = NULL;
	e->next_index = e->table_size;
	e->table = table;
	e->table_size = size;
	return 0;
}

static void put_in(struct embedded *e, struct object *object, enum object_kind kind,
		   uint32_t handle)
{
	object->kind = kind;
	object->handle = handle;
	list_init(&object->ready);
	atomic_init(&object->refs, 1);
	e->table[(handle & 0xffff) - 1] = object;
}

int object_add_locked(struct embedded *e, struct object *object, enum object_kind kind)
{
	unsigned int i, at = 0;
	int err;

	for (i = 0; i < e->table_size; i++) {
		at = (e->next_index + i) % e->table_size;
		if (!e->table[at])
			break;
	}
	if (i == e->table_size) {
		err = grow_table(e);
		if (err)
			return err;
		at = e->next_index;
	}
	e->next_index = (at + 1) % e->table_size;
	/* The upper half changes each time, so that an index is not the same handle again soon. */
	e->generation++;
	put_in(e, object, kind, (uint32_t)e->generation << 16 | (at + 1));
	return 0;
}

int object_place_locked(struct embedded *e, struct object *object, enum object_kind kind,
			uint32_t handle)
{
	unsigned int at = (handle & 0xffff) - 1;
	int err = 0;

	while (!err && at >= e->table_size)
		err = at < TABLE_MAX ? grow_table(e) : -EBADMSG;
	if (!err && e->table[at])
		err = -EBADMSG;
	if (!err)
		put_in(e, object, kind, handle);
	return err;
}

struct object *object_find_locked(struct embedded *e, uint32_t handle, enum object_kind kind)
{
	unsigned int at = (handle & 0xffff) - 1;	/* of 0: beyond each table */
	struct object *object = at < e->table_size ? e->table[at] : NULL;

	return object && object->handle == handle && object->kind == kind ? object : NULL;
}

struct object *object_next(const struct embedded *e, unsigned int *at,
			   enum object_kind kind)
{
	while (*at < e->table_size) {
		struct object *object = e->table[(*at)++];

		if (object && object->kind == kind)
			return object;
	}
	return NULL;
}

void object_put(struct object *object)
{
	if (atomic_fetch_sub_explicit(&object->refs, 1, memory_order_acq_rel) != 1)
		return;
	switch (object->kind) {
	case OBJECT_SEGMENT:
		segment_free(container_of(object, struct segment, object));
		break;
	case OBJECT_LISTENER:
		listener_free(container_of(object, struct listener, object));
		break;
	case OBJECT_SESSION:
		session_free(container_of(object, struct session, object));
		break;
	case OBJECT_OFFER:
		offer_free(container_of(object, struct embedded_offer, object));
		break;
	}
}

void object_remove_locked(struct embedded *e, struct object *object)
{
	e->table[(object->handle & 0xffff) - 1] = NULL;
	list_del(&object->ready);
	object_put(object);
}

void object_raise_locked(struct embedded *e, struct object *object, uint32_t causes, bool outside)
{
	object->causes |= causes;
	if (list_empty(&object->ready))
		list_add_tail(&object->ready, &e->ready);
	if (outside)
		link_ring(e->kick, false);
}

int watch_add(struct embedded *e, int fd, uint32_t handle, enum watch what)
{
	struct epoll_event event = {
		.events = EPOLLIN | EPOLLRDHUP | EPOLLET,
		.data.u64 = (uint64_t)what << 32 | handle,
	};

	return epoll_ctl(e->base.fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

void watch_del(struct embedded *e, int fd)
{
	epoll_ctl(e->base.fd, EPOLL_CTL_DEL, fd, NULL);
}

/* ---- sync -------------------------------------------------------------------- */

static void ring(struct embedded *e, uint32_t handle)
{
	struct object *object;
	struct session *session;

	lock(&e->lock);
	object = object_find_locked(e, handle, OBJECT_SESSION);
	if (object)
		atomic_fetch_add_explicit(&object->refs, 1, memory_order_relaxed);
	unlock(&e->lock);
	if (!object)
		return;
	session = container_of(object, struct session, object);
	link_ring(session->bell_out, session->datagram_out);
	object_put(object);
}

static void handle_session_locked(struct embedded *e, struct session *session, enum watch what)
{
	switch (what) {
	case WATCH_BELL:
		session_rang_locked(e, session);
		break;
	case WATCH_LINK:
		session_pump_locked(e, session, false, -1);
		break;
	default:
		session_died_locked(e, session);
		break;
	}
}

static void handle_event_locked(struct embedded *e, uint64_t data)
{
	enum watch what = (enum watch)(data >> 32);
	uint32_t handle = (uint32_t)data;
	struct object *object;

	if (what == WATCH_KICK)
		return;
	if (what == WATCH_OFFER) {
		object = object_find_locked(e, handle, OBJECT_OFFER);
		if (object)
			offer_pump_locked(e, container_of(object, struct embedded_offer, object));
		return;
	}
	if (what == WATCH_LISTENER) {
		object = object_find_locked(e, handle, OBJECT_LISTENER);
		if (object)
			listener_pump_locked(e, container_of(object, struct listener, object),
					     false);
		return;
	}
	object = object_find_locked(e, handle, OBJECT_SESSION);
	if (object)
		handle_session_locked(e, container_of(object, struct session, object), what);
}

static int take_ready_locked(struct embedded *e, struct pv_sync *sync)
{
	unsigned int n = 0;
	struct list *pos, *next;

	if (e->kicked) {
		e->kicked = false;
		sync->events[n++] = (struct shmipc_ready){ 0 };
	}
	list_for_each_safe(pos, next, &e->ready) {
		struct object *object = container_of(pos, struct object, ready);

		if (n == sync->max_events)
			break;
		list_del(&object->ready);
		if (!object->causes)
			continue;
		sync->events[n++] = (struct shmipc_ready){ object->cookie, object->handle,
							   object->causes };
		object->causes = 0;
	}
	/* poll() on the epoll must say that there is more. */
	if (!list_empty(&e->ready))
		link_ring(e->kick, false);
	return (int)n;
}

/* How long epoll may sleep: -1 for ever, 0 not at all. */
static int64_t sleep_locked(struct embedded *e, const struct pv_sync *sync, int64_t left)
{
	int64_t most = -1;

	if (!sync->wait || e->kicked || !list_empty(&e->ready))
		return 0;
	if (e->silent || e->starved)
		most = TEND_NS;
	return left < 0 || (most >= 0 && most < left) ? most : left;
}

static int wait_events(struct embedded *e, struct epoll_event *events, int max, int64_t ns)
{
	struct timespec ts = { ns / 1000000000, ns % 1000000000 };
	int n = epoll_pwait2(e->base.fd, events, max, ns < 0 ? NULL : &ts, NULL);

	return n < 0 ? -errno : n;
}

static int collect(struct embedded *e, struct pv_sync *sync)
{
	int64_t start = sync->wait && sync->timeout_ns > 0 ? now_ns() : 0;
	int64_t left = sync->timeout_ns, sleep;
	struct epoll_event events[BATCH];
	int n, taken;

	for (;;) {
		lock(&e->lock);
		sleep = sleep_locked(e, sync, left);
		unlock(&e->lock);
		n = wait_events(e, events, BATCH, sleep);
		if (n < 0 && n != -EINTR)
			return n;
		lock(&e->lock);
		for (int i = 0; i < n; i++)
			handle_event_locked(e, events[i].data.u64);
		if (e->silent || e->starved)
			listener_tend_locked(e);
		taken = take_ready_locked(e, sync);
		unlock(&e->lock);
		if (taken || !sync->wait || n == -EINTR || !left)
			return taken;
		if (sync->timeout_ns > 0) {
			left = sync->timeout_ns - (now_ns() - start);
			if (left <= 0)
				return 0;
		}
	}
}

static int embedded_sync(struct provider *pv, struct pv_sync *sync)
{
	struct embedded *e = embedded(pv);

	for (unsigned int i = 0; i < sync->nr_notify; i++)
		ring(e, sync->notify[i].handle);
	return sync->max_events ? collect(e, sync) : 0;
}

static void embedded_kick(struct provider *pv)
{
	struct embedded *e = embedded(pv);

	lock(&e->lock);
	e->kicked = true;
	link_ring(e->kick, false);
	unlock(&e->lock);
}

/* ---- open, drop, close --------------------------------------------------------- */

static int open_fds(struct embedded *e)
{
	int err;

	e->base.fd = epoll_create1(EPOLL_CLOEXEC);
	e->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (e->base.fd < 0 || e->kick < 0)
		return -errno;
	err = watch_add(e, e->kick, 0, WATCH_KICK);
	return err;
}

static int embedded_open(struct provider **pv)
{
	struct embedded *e = calloc(1, sizeof(*e));
	int err;

	if (!e)
		return error_set(-ENOMEM, "no memory for an endpoint");
	e->base.ops = &provider_embedded;
	held_init(&e->predecessor, -1);
	err = open_fds(e);
	if (err) {
		close(e->base.fd);
		close(e->kick);
		free(e);
		return error_set(err,
				 "an endpoint needs two descriptors: raise the limit on open files "
				 "(ulimit -n)");
	}
	list_init(&e->ready);
	*pv = &e->base;
	return 0;
}

static void drop_locked(struct embedded *e, struct object *object, uint32_t reason)
{
	if (object->kind == OBJECT_LISTENER)
		listener_drop_locked(e, container_of(object, struct listener, object));
	else if (object->kind == OBJECT_SESSION)
		session_drop_locked(e, container_of(object, struct session, object), reason);
	else if (object->kind == OBJECT_OFFER)
		offer_drop_locked(e, container_of(object, struct embedded_offer, object));
	else
		object_remove_locked(e, object);
}

static void embedded_drop(struct provider *pv, uint32_t handle, uint32_t reason)
{
	struct embedded *e = embedded(pv);
	struct object *object = NULL;
	enum object_kind kind;

	lock(&e->lock);
	for (kind = OBJECT_SEGMENT; kind <= OBJECT_OFFER && !object; kind++)
		object = object_find_locked(e, handle, kind);
	if (object)
		drop_locked(e, object, reason);
	unlock(&e->lock);
}

static void embedded_close(struct provider *pv, bool in_child)
{
	struct embedded *e = embedded(pv);

	/*
	 * Nobody else uses it now, so no lock is needed; in a child it might be held for ever.
	 * The epoll there is the parent's as well: nothing is taken out of it.
	 */
	for (unsigned int i = 0; i < e->table_size; i++) {
		struct object *object = e->table[i];

		if (!object)
			continue;
		if (!in_child) {
			drop_locked(e, object, 0);
			continue;
		}
		/* Not mapped in a child; something else may lie there. */
		if (object->kind == OBJECT_SEGMENT)
			container_of(object, struct segment, object)->addr = NULL;
		if (object->kind == OBJECT_SESSION)
			session_forget(container_of(object, struct session, object));
		atomic_store_explicit(&object->refs, 1, memory_order_relaxed);
		object_put(object);
	}
	held_close(&e->predecessor);
	close(e->kick);
	close(e->base.fd);
	free(e->table);
	free(e);
}

static const struct handover_ops embedded_handover = {
	.offer = embedded_offer,
	.over = embedded_over,
	.yield = embedded_yield,
	.adopt = embedded_adopt,
	.pause = embedded_pause,
	.list = embedded_list,
	.view = embedded_view,
	.commit = embedded_commit,
	.own = embedded_own,
	.watch = embedded_watch,
};

const struct provider_ops provider_embedded = {
	.name = "embedded",
	.open = embedded_open,
	.close = embedded_close,
	.segment_create = embedded_segment_create,
	.segment_destroy = embedded_segment_destroy,
	.segment_grant = embedded_segment_grant,
	.segment_map = embedded_segment_map,
	.segment_unmap = embedded_segment_unmap,
	.bind = embedded_bind,
	.accept = embedded_accept,
	.connect = embedded_connect,
	.sync = embedded_sync,
	.kick = embedded_kick,
	.peer = embedded_peer,
	.peer_watch = embedded_peer_watch,
	.drop = embedded_drop,
	.handover = &embedded_handover,
};
