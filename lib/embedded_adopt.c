// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * embedded_adopt.c - the successor's half of a handover of the embedded provider
 *
 * It must be of the holder's uid, since it opens the holder's segments anew, through /proc, to write.
 * Until COMMIT it only reads, and giving up harms nobody (embedded_offer.c has the other half).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "embedded.h"
#include "embedded_move.h"
#include "error.h"
#include "log.h"

static int self_pidfd(void)
{
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	return fd < 0 ? -errno : fd;
}

/* ---- the successor: until COMMIT -------------------------------------------- */

/* Where to ask: the offer, or who has the name. */
static int find_door(const char *name, int offer)
{
	struct ucred who;
	socklen_t len = sizeof(who);
	int fd, err;

	if (!name) {
		fd = link_check_channel(offer) ? -1 : fcntl(offer, F_DUPFD_CLOEXEC, 0);
		return fd >= 0 ? fd : -EBADF;
	}
	err = provider_check_name(name);
	if (err)
		return err;
	fd = embedded_dial(name);
	if (fd == -ENOENT)
		return error_set(fd, "nobody has the name \"%s\"; what a program left that died is kept by "
				 "the shmipc module alone", name);
	if (fd < 0)
		return fd;
	if (!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) && who.uid == geteuid())
		return fd;
	close(fd);
	return -EACCES;
}

static int knock(int door, struct embedded *e)
{
	int pair[2], err;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
		return -errno;
	held_init(&e->predecessor, pair[0]);
	err = link_send(door, LINK_ADOPT, 0, &pair[1], 1);
	close(pair[1]);
	if (err == -EPIPE)
		return -ESTALE;
	return err == -EAGAIN ? -EBUSY : err;
}

int embedded_adopt(struct provider *by, const char *name, int fd, struct provider **pv)
{
	int door = find_door(name, fd), err;

	(void)by;
	if (door < 0)
		return door;
	err = provider_embedded.open(pv);
	if (!err) {
		embedded(*pv)->quiet = true;
		err = knock(door, embedded(*pv));
		if (err)
			provider_embedded.close(*pv, false);
	}
	close(door);
	return err;
}

int embedded_pause(struct provider *pv, int64_t timeout_ns)
{
	int64_t until = timeout_ns < 0 ? INT64_MAX : deadline_after(timeout_ns);
	int fds[MOVE_FDS];
	struct move move;
	int err = move_receive(embedded(pv)->predecessor.fd, &move, fds, until);

	move_close(fds);
	switch (err) {
	case 0:
		if (move.type != MOVE_BEGIN)
			return -EBADMSG;
		embedded(pv)->handovers = move.handovers + 1;
		return 0;
	case -ETIMEDOUT:
		return error_set(err, "the other program did not stop in time");
	case -EBUSY:
		return error_set(err, "it is not offered, or another program adopts it: try again");
	case -EACCES:
		return error_set(err, "it is offered to who has the offer's descriptor, or this is "
				 "another user");
	default:
		return error_set(-ECANCELED, "the offer ended before the other program stopped: by "
				 "its timeout, or because that program ended");
	}
}

/* These take over the descriptors in @fds that they set to -1. */

static int take_segment(struct embedded *e, const struct move *move, int fds[MOVE_FDS])
{
	struct segment *s;
	size_t len;
	int err = link_check_segment(fds[0], &len);

	if (err)
		return err;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->blob = move->segment.blob;
	s->len = len;
	err = object_place_locked(e, &s->object, OBJECT_SEGMENT, move->handle);
	if (err) {
		free(s);
		return err;
	}
	s->fd = fds[0];
	fds[0] = -1;
	return 0;
}

static int take_listener(struct embedded *e, const struct move *move, int fds[MOVE_FDS])
{
	struct listener *l;
	int err;

	if (link_check_channel(fds[0]) || !memchr(move->listener.name, 0, sizeof(l->name)))
		return -EBADMSG;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	list_init(&l->guests);
	l->mode = move->listener.mode;
	l->uid = move->listener.uid;
	l->gid = move->listener.gid;
	l->backlog = move->listener.backlog;
	l->max_per_uid = move->listener.max_per_uid;
	memcpy(l->name, move->listener.name, sizeof(l->name));
	err = object_place_locked(e, &l->object, OBJECT_LISTENER, move->handle);
	if (err) {
		free(l);
		return err;
	}
	held_init(&l->socket, fds[0]);
	held_init(&l->marker, fds[1]);
	fds[0] = fds[1] = -1;
	return 0;
}

static int check_session(struct embedded *e, const struct move *move, const int fds[MOVE_FDS])
{
	bool guest = move->session.state != SESSION_LIVE;

	if (move->session.state > SESSION_LIVE || link_check_channel(fds[0]) ||
	    move->session.bytes_in > SESSION_BYTES_MAX ||
	    move->session.bytes_out > SESSION_BYTES_MAX)
		return -EBADMSG;
	if (guest && !object_find_locked(e, move->session.listener, OBJECT_LISTENER))
		return -EBADMSG;
	return !guest && (fds[1] < 0 || fds[2] < 0) ? -EBADMSG : 0;
}

static void enlist(struct embedded *e, struct session *s)
{
	struct object *object = object_find_locked(e, s->listener, OBJECT_LISTENER);
	struct listener *l;

	if (!object || s->state == SESSION_LIVE)
		return;
	l = container_of(object, struct listener, object);
	list_add_tail(&s->guest, &l->guests);
	if (s->state == SESSION_SILENT)
		e->silent++;
	else
		l->waiting++;
}

static int take_session(struct embedded *e, const struct move *move, int fds[MOVE_FDS])
{
	int err = check_session(e, move, fds);
	struct session *s;

	if (err)
		return err;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	list_init(&s->guest);
	s->state = (enum session_state)move->session.state;
	s->listener = move->session.listener;
	s->end = move->session.end;
	s->peer.pid = (pid_t)move->session.pid;
	s->peer.uid = move->session.uid;
	s->peer.gid = move->session.gid;
	s->expect_uid = move->session.expect_uid;
	s->now = move->session.now;
	s->paused = move->session.paused;
	s->moved = move->session.moved;
	s->datagram_in = move->session.datagram_in;
	s->datagram_out = move->session.datagram_out;
	s->foreign = move->session.foreign;
	s->dead = move->session.dead;
	s->since = move->session.since;
	s->bytes_in = move->session.bytes_in;
	s->bytes_out = move->session.bytes_out;
	memcpy(s->slots_seen, move->session.slots_seen, sizeof(s->slots_seen));
	err = object_place_locked(e, &s->object, OBJECT_SESSION, move->handle);
	if (err) {
		free(s);
		return err;
	}
	s->object.causes = move->session.causes;
	held_init(&s->link, fds[0]);
	s->bell_in = fds[1];
	s->bell_out = fds[2];
	s->pidfd = fds[3];
	for (unsigned int i = 0; i < MOVE_FDS; i++)
		fds[i] = -1;
	enlist(e, s);
	return 0;
}

static int take_grant(struct embedded *e, const struct move *move, int fds[MOVE_FDS])
{
	struct object *object = object_find_locked(e, move->handle, OBJECT_SESSION), *segment;
	struct session *s;
	int err;

	if (!object || move->grant.slot >= SHMIPC_SLOTS_MAX)
		return -EBADMSG;
	s = container_of(object, struct session, object);
	if (move->type == MOVE_GIVEN) {
		segment = object_find_locked(e, move->grant.segment, OBJECT_SEGMENT);
		/* It was freed: the slot stays taken, which the library knows. */
		if (!segment)
			return 0;
		return segment_given(s, container_of(segment, struct segment, object),
				     move->grant.slot);
	}
	err = session_grant_locked(e, s, move->grant.slot, fds[0], SESSION_BYTES_MAX);
	if (!err)
		fds[0] = -1;
	return err;
}

static int take(struct embedded *e, const struct move *move, int fds[MOVE_FDS])
{
	switch (move->type) {
	case MOVE_SEGMENT:
		return take_segment(e, move, fds);
	case MOVE_LISTENER:
		return take_listener(e, move, fds);
	case MOVE_SESSION:
		return take_session(e, move, fds);
	case MOVE_GIVEN:
	case MOVE_GRANTED:
		return take_grant(e, move, fds);
	default:
		return -EBADMSG;
	}
}

static int take_all(struct embedded *e)
{
	int fds[MOVE_FDS], err;
	struct move move;

	for (;;) {
		err = move_receive(e->predecessor.fd, &move, fds, now_ns() + MOVE_STALL_NS);
		if (err)
			return err == -EPIPE ? -ESTALE : err;
		if (move.type == MOVE_END && !move.fds)
			return 0;
		err = take(e, &move, fds);
		move_close(fds);
		if (err)
			return err;
	}
}

/* ---- what the library asks about it ------------------------------------------- */

/* A view's offset says which segment: an own one's handle, or the handle of a session and a slot. */
static uint64_t offset_of(uint32_t handle, uint32_t slot)
{
	return (uint64_t)handle << 32 | slot;
}

#define NO_SLOT	SHMIPC_SLOTS_MAX

static void item_session(struct shmipc_item *item, const struct session *s)
{
	item->kind = SHMIPC_ITEM_SESSION;
	item->flags = s->listener ? 0 : SHMIPC_ITEM_CONNECTOR;
	if (s->end)
		item->flags |= SHMIPC_ITEM_PEER_CLOSED;
	if (s->end == SHMIPC_CAUSE_PEER_DIED)
		item->flags |= SHMIPC_ITEM_PEER_DIED;
	item->causes = s->object.causes;
	item->count = s->nr_given + s->nr_grants + s->nr_taken;
	if (s->paused)
		item->flags |= SHMIPC_ITEM_PEER_PAUSED;
	item->peer = s->now;
}

/* False: it is none that the library knows. */
static bool item_of(struct shmipc_item *item, const struct object *object)
{
	*item = (struct shmipc_item){ .handle = object->handle };
	switch (object->kind) {
	case OBJECT_SEGMENT: {
		const struct segment *s = container_of(object, struct segment, object);

		item->kind = SHMIPC_ITEM_SEGMENT;
		item->flags = s->blob ? SHMIPC_ITEM_BLOB : 0;
		item->length = s->len;
		item->offset = offset_of(object->handle, NO_SLOT);
		return true;
	}
	case OBJECT_LISTENER: {
		const struct listener *l = container_of(object, struct listener, object);

		item->kind = SHMIPC_ITEM_LISTENER;
		item->count = l->waiting;
		item->name_len = (uint32_t)strlen(l->name);
		memcpy(item->name, l->name, item->name_len);
		return true;
	}
	case OBJECT_SESSION:
		item_session(item, container_of(object, struct session, object));
		return container_of(object, struct session, object)->state == SESSION_LIVE;
	default:
		return false;
	}
}

static int list_objects(const struct embedded *e, struct pv_list *list)
{
	list->items = calloc(e->table_size + 1, sizeof(*list->items));
	if (!list->items)
		return -ENOMEM;
	for (unsigned int i = 0; i < e->table_size; i++)
		if (e->table[i] && item_of(&list->items[list->nr], e->table[i]))
			list->nr++;
	return 0;
}

static int list_grants(const struct session *s, struct pv_list *list)
{
	list->items = calloc(s->nr_given + s->nr_grants + 1, sizeof(*list->items));
	if (!list->items)
		return -ENOMEM;
	for (unsigned int i = 0; i < s->nr_given; i++)
		list->items[list->nr++] = (struct shmipc_item){
			.kind = SHMIPC_ITEM_GRANT, .handle = s->given[i].segment,
			.slot = s->given[i].slot,
		};
	for (unsigned int i = 0; i < s->nr_grants; i++)
		list->items[list->nr++] = (struct shmipc_item){
			.kind = SHMIPC_ITEM_SLOT, .handle = s->object.handle,
			.slot = s->grants[i].slot, .length = s->grants[i].mapping.len,
			.offset = offset_of(s->object.handle, s->grants[i].slot),
		};
	return 0;
}

/* All comes in at the first one, of the endpoint. */
int embedded_list(struct provider *pv, uint32_t session, struct pv_list *list)
{
	struct embedded *e = embedded(pv);
	struct object *object;
	int err;

	*list = (struct pv_list){ 0 };
	if (!session) {
		err = take_all(e);
		return err ? err : list_objects(e, list);
	}
	object = object_find_locked(e, session, OBJECT_SESSION);
	return object ? list_grants(container_of(object, struct session, object), list) : -ENOENT;
}

/*
 * Read-only until COMMIT, and yet of a descriptor that may write: so that what makes it writable after
 * that can't fail for want of a descriptor, or of a right that only its former uid had.
 */
static int view_own(const struct segment *s, struct pv_mapping *mapping)
{
	char path[32];
	void *addr;
	int fd, err = 0;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", s->fd);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	addr = mmap(NULL, s->len, PROT_READ, MAP_SHARED, fd, 0);
	if (addr == MAP_FAILED || madvise(addr, s->len, MADV_DONTFORK))
		err = -errno;
	close(fd);
	if (!err)
		*mapping = (struct pv_mapping){ addr, s->len };
	else if (addr != MAP_FAILED)
		munmap(addr, s->len);
	return err;
}

int embedded_view(struct provider *pv, uint64_t offset, size_t len,
			 struct pv_mapping *mapping)
{
	uint32_t handle = (uint32_t)(offset >> 32), slot = (uint32_t)offset;
	struct segment *s;
	int err;

	if (slot != NO_SLOT)
		return embedded_segment_map(pv, handle, slot, mapping);
	s = segment_get(embedded(pv), handle);
	if (!s)
		return -EINVAL;
	err = s->len > len ? -EBADMSG : view_own(s, mapping);
	object_put(&s->object);
	return err;
}

/* ---- the successor: from COMMIT on -------------------------------------------- */

/* All that could fail for want of something comes before it is too late. */
static int watch_all(struct embedded *e)
{
	struct object *object;
	unsigned int at = 0;
	int err = 0;

	while (!err && (object = object_next(e, &at, OBJECT_SESSION)))
		err = session_watch(e, container_of(object, struct session, object));
	for (at = 0; !err && (object = object_next(e, &at, OBJECT_LISTENER));)
		err = watch_add(e, container_of(object, struct listener, object)->socket.fd,
				object->handle, WATCH_LISTENER);
	return err;
}

/*
 * Who connects watches the process that listened last, which is this one from here on. Those that came
 * before are told.
 */
static void listen_again_locked(struct embedded *e, struct listener *l, int pidfd)
{
	unsigned int rounds = l->backlog / ACCEPT_BUDGET + 2;

	listen(l->socket.fd, (int)l->backlog);
	do
		listener_pump_locked(e, l, false);
	while (l->starved && rounds--);
	for (struct list *pos = l->guests.next; pos != &l->guests; pos = pos->next)
		link_send(container_of(pos, struct session, guest)->link.fd, LINK_MOVED, 0, &pidfd, 1);
}

/* Said by this process itself, so that the kernel vouches for who it is. */
static void tell_changed(const struct embedded *e, int pidfd)
{
	struct object *object;
	unsigned int at = 0;

	while ((object = object_next(e, &at, OBJECT_SESSION))) {
		const struct session *s = container_of(object, struct session, object);
		int err = link_send(s->link.fd, LINK_CHANGED, e->handovers, &pidfd, 1);

		if (err && err != -EPIPE)
			log_warn("process %u could not be told who took over (errno %d)", s->now.pid, -err);
	}
}

static int request_commit(struct embedded *e, int pidfd)
{
	struct move move = move_about(MOVE_COMMIT, 0);
	int fds[MOVE_FDS] = { pidfd, -1, -1, -1 };
	int err = move_send(e->predecessor.fd, &move, fds, now_ns() + MOVE_STALL_NS);

	if (!err) {
		err = move_receive(e->predecessor.fd, &move, fds, now_ns() + MOVE_STALL_NS);
		move_close(fds);
	}
	return err || move.type != MOVE_DONE ? -ESTALE : 0;
}

int embedded_commit(struct provider *pv)
{
	struct embedded *e = embedded(pv);
	int pidfd = self_pidfd(), err;
	struct object *object;
	unsigned int at = 0;

	if (pidfd < 0)
		return pidfd;
	err = watch_all(e);
	if (!err)
		err = request_commit(e, pidfd);
	if (!err) {
		lock(&e->lock);
		e->quiet = false;
		while ((object = object_next(e, &at, OBJECT_LISTENER)))
			listen_again_locked(e, container_of(object, struct listener, object), pidfd);
		held_close(&e->predecessor);
		tell_changed(e, pidfd);
		unlock(&e->lock);
	}
	close(pidfd);
	return err;
}

int embedded_own(struct provider *pv, const struct pv_segment *segment, uint64_t offset)
{
	struct segment *s = segment_get(embedded(pv), segment->handle);
	int err = 0;

	(void)offset;
	if (!s)
		return -ENOENT;
	if (mprotect(segment->addr, segment->len, PROT_READ | PROT_WRITE))
		err = -errno;
	else
		s->addr = segment->addr;
	object_put(&s->object);
	return err;
}

int embedded_watch(struct provider *pv, uint32_t handle, const char *name, uint64_t cookie)
{
	struct embedded *e = embedded(pv);
	struct object *object;

	lock(&e->lock);
	object = object_find_locked(e, handle, name ? OBJECT_LISTENER : OBJECT_SESSION);
	if (object)
		object->cookie = cookie;
	unlock(&e->lock);
	return object ? 0 : -ENOENT;
}
