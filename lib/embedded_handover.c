// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * embedded_handover.c - an endpoint of the embedded provider passes to another process
 *
 * All that it has is in the holder: it sends the successor every descriptor, and what it knows of each.
 * The successor looks, reading only. When it commits the holder gives up its own mappings
 * and tells the peers, in this order, and that is the moment: before it the holder goes on if anything
 * fails, after it the successor owns all.
 *
 * There is nobody else. What a holder leaves that dies is gone with it; and if it dies between COMMIT
 * and DONE, sessions whose peers it had not told yet end.
 *
 * Who asks must be of the holder's uid: it opens the holder's segments anew, through /proc, to write.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "embedded.h"
#include "embedded_move.h"
#include "error.h"
#include "log.h"

#define CANDIDATES	64			/* taken off an offer's socket at once */
#define STALL_NS	((int64_t)10000000000)	/* the other one is stopped, or worse */

static int self_pidfd(void)
{
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	return fd < 0 ? -errno : fd;
}

static bool hung_up(int sock)
{
	struct pollfd end = { .fd = sock };

	return poll(&end, 1, 0) > 0 && end.revents & POLLHUP;
}

/* ---- the offer ------------------------------------------------------------- */

static void refuse(int channel, int why)
{
	struct move move = { .type = MOVE_REFUSE, .error = why };

	move_send(channel, &move, NULL, 0);
}

static void over_locked(struct embedded *e, struct embedded_offer *offer)
{
	if (e->offer != offer)
		return;
	e->offer = NULL;
	close(offer->timer);
	offer->timer = -1;
	watch_del(e, offer->door.fd);
	if (offer->channel.fd >= 0) {
		watch_del(e, offer->channel.fd);
		if (!e->quiet)
			refuse(offer->channel.fd, -ECANCELED);
	}
	held_close(&offer->channel);
	/* The program's end of it polls HUP from now on. */
	held_close(&offer->door);
}

void offer_free(struct embedded_offer *offer)
{
	held_close(&offer->channel);
	held_close(&offer->door);
	if (offer->timer >= 0)
		close(offer->timer);
	free(offer);
}

void offer_drop_locked(struct embedded *e, struct embedded_offer *offer)
{
	over_locked(e, offer);
	object_remove_locked(e, &offer->object);
}

/* Takes over @channel if it is the first that may. */
static int candidate_locked(struct embedded *e, int channel, bool by_name, uid_t uid)
{
	struct embedded_offer *offer = e->offer;
	struct ucred who;
	socklen_t len = sizeof(who);
	int err;

	if (getsockopt(channel, SOL_SOCKET, SO_PEERCRED, &who, &len))
		return -errno;
	/* Both who came and who made the socket that it brought. */
	if (uid != geteuid() || who.uid != geteuid())
		return -EACCES;
	if (!offer || offer->channel.fd >= 0)
		return -EBUSY;
	if (by_name && !offer->by_name)
		return -EACCES;
	err = watch_add(e, channel, offer->object.handle, WATCH_OFFER);
	if (!err)
		err = held_init(&offer->channel, channel);
	if (err)
		return err;
	object_raise_locked(e, &offer->object, SHMIPC_CAUSE_OFFER, true);
	/* The program's end polls IN. Nobody reads it. */
	send(offer->door.fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	log_info("process %d adopts this endpoint", who.pid);
	return 0;
}

static void visit_locked(struct embedded *e, int channel, bool by_name, uid_t uid)
{
	int err = link_check_channel(channel);

	if (!err) {
		err = candidate_locked(e, channel, by_name, uid);
		if (err)
			refuse(channel, err);
	}
	if (err)
		close(channel);
}

void offer_visitor_locked(struct embedded *e, int channel, uid_t uid)
{
	if (e->offer)
		offer_pump_locked(e, e->offer);
	visit_locked(e, channel, true, uid);
}

void offer_pump_locked(struct embedded *e, struct embedded_offer *offer)
{
	struct link_message message;
	int fds[LINK_FDS], ret = 1, budget = CANDIDATES;

	if (e->offer != offer)
		return;
	while (ret != -EAGAIN && ret && budget--) {
		ret = link_receive(offer->door.fd, &message, fds);
		if (ret != 1)
			continue;
		if (message.type == LINK_ADOPT) {
			visit_locked(e, fds[0], false, geteuid());
			continue;
		}
		for (int i = 0; i < LINK_FDS; i++)
			if (fds[i] >= 0)
				close(fds[i]);
	}
	/* Nobody has its other end; it never stops; the successor died; or nobody came in time. */
	if (ret != -EAGAIN || (offer->channel.fd >= 0 && hung_up(offer->channel.fd)) ||
	    now_ns() >= offer->until)
		over_locked(e, offer);
}

static int offer_timer(uint64_t ns)
{
	struct itimerspec in = { .it_value = { .tv_sec = (time_t)(ns / 1000000000),
					       .tv_nsec = (long)(ns % 1000000000) } };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	if (fd >= 0 && !timerfd_settime(fd, 0, &in, NULL))
		return fd;
	if (fd >= 0)
		close(fd);
	return -errno;
}

static int add_offer_locked(struct embedded *e, struct embedded_offer *offer)
{
	int err = object_add_locked(e, &offer->object, OBJECT_OFFER);

	if (err)
		return err;
	err = watch_add(e, offer->door.fd, offer->object.handle, WATCH_OFFER);
	if (!err)
		err = watch_add(e, offer->timer, offer->object.handle, WATCH_OFFER);
	if (!err) {
		e->offer = offer;
		return 0;
	}
	atomic_fetch_add_explicit(&offer->object.refs, 1, memory_order_relaxed);
	object_remove_locked(e, &offer->object);
	return err;
}

static int new_offer(const struct pv_offer *req, int door, struct embedded_offer **out)
{
	struct embedded_offer *offer = calloc(1, sizeof(*offer));

	if (!offer)
		return -ENOMEM;
	offer->by_name = req->by_name;
	offer->blob = req->blob;
	offer->until = now_ns() + (int64_t)req->timeout_ns;
	held_init(&offer->channel, -1);
	offer->timer = offer_timer(req->timeout_ns);
	if (offer->timer < 0) {
		int err = offer->timer;

		free(offer);
		return err;
	}
	held_init(&offer->door, door);
	*out = offer;
	return 0;
}

static int embedded_offer(struct provider *pv, struct pv_offer *req)
{
	struct embedded *e = embedded(pv);
	struct embedded_offer *offer;
	int pair[2], err;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
		return -errno;
	err = new_offer(req, pair[0], &offer);
	if (err) {
		close(pair[0]);
		close(pair[1]);
		return err;
	}
	pthread_mutex_lock(&e->lock);
	err = add_offer_locked(e, offer);
	pthread_mutex_unlock(&e->lock);
	if (err) {
		offer_free(offer);
		close(pair[1]);
		return err;
	}
	req->handle = offer->object.handle;
	req->fd = pair[1];
	return 0;
}

static bool embedded_over(struct provider *pv, int fd)
{
	struct embedded *e = embedded(pv);
	bool over;

	(void)fd;
	pthread_mutex_lock(&e->lock);
	if (e->offer)
		offer_pump_locked(e, e->offer);
	over = !e->offer;
	pthread_mutex_unlock(&e->lock);
	return over;
}

/* ---- the holder ------------------------------------------------------------ */

/* In the pause no other call of the program runs, so that nothing here needs the lock to stay as it is. */

static struct object *next_object(const struct embedded *e, unsigned int *at, enum object_kind kind)
{
	while (*at < e->table_size) {
		struct object *object = e->table[(*at)++];

		if (object && object->kind == kind)
			return object;
	}
	return NULL;
}

/* Its fields of before, with those of the next kind in them, must not be sent. */
static struct move about(enum move_type type, uint32_t handle)
{
	return (struct move){ .type = (uint16_t)type, .handle = handle };
}

static int send_segment(int channel, const struct segment *s, bool blob, int64_t until)
{
	struct move move = about(MOVE_SEGMENT, s->object.handle);

	move.segment.blob = blob;
	return move_send(channel, &move, (int[MOVE_FDS]){ s->fd, -1, -1, -1 }, until);
}

static int send_listener(int channel, const struct listener *l, int64_t until)
{
	struct move move = about(MOVE_LISTENER, l->object.handle);

	move.listener.mode = l->mode;
	move.listener.uid = l->uid;
	move.listener.gid = l->gid;
	move.listener.backlog = l->backlog;
	move.listener.max_per_uid = l->max_per_uid;
	memcpy(move.listener.name, l->name, sizeof(l->name));
	return move_send(channel, &move, (int[MOVE_FDS]){ l->socket.fd, l->marker.fd, -1, -1 }, until);
}

static int send_grants(int channel, const struct session *s, int64_t until)
{
	struct move move;
	int err = 0;

	for (unsigned int i = 0; i < s->nr_given && !err; i++) {
		move = about(MOVE_GIVEN, s->object.handle);
		move.grant.slot = s->given[i].slot;
		move.grant.segment = s->given[i].segment;
		err = move_send(channel, &move, NULL, until);
	}
	for (unsigned int i = 0; i < s->nr_taken + s->nr_grants && !err; i++) {
		const struct grant *grant = i < s->nr_taken ? &s->taken[i] :
							      &s->grants[i - s->nr_taken];

		move = about(MOVE_GRANTED, s->object.handle);
		move.grant.slot = grant->slot;
		err = move_send(channel, &move, (int[MOVE_FDS]){ grant->fd, -1, -1, -1 }, until);
	}
	return err;
}

static int send_session(int channel, const struct session *s, int64_t until)
{
	struct move move = about(MOVE_SESSION, s->object.handle);
	int err;

	if (s->stuck)
		return 0;
	move.session.state = s->state;
	move.session.listener = s->listener;
	move.session.causes = s->object.causes;
	move.session.end = s->end;
	move.session.pid = (uint32_t)s->peer.pid;
	move.session.uid = s->peer.uid;
	move.session.gid = s->peer.gid;
	move.session.datagram_in = s->datagram_in;
	move.session.datagram_out = s->datagram_out;
	move.session.foreign = s->foreign;
	move.session.dead = s->dead;
	move.session.since = s->since;
	move.session.bytes_in = s->bytes_in;
	move.session.bytes_out = s->bytes_out;
	memcpy(move.session.slots_seen, s->slots_seen, sizeof(s->slots_seen));
	err = move_send(channel, &move,
			(int[MOVE_FDS]){ s->link.fd, s->bell_in, s->bell_out, s->pidfd }, until);
	return err ? err : send_grants(channel, s, until);
}

/* Guests as they came. */
static int send_sessions(const struct embedded *e, int channel, int64_t until)
{
	struct object *object;
	unsigned int at = 0;
	int err = 0;

	while (!err && (object = next_object(e, &at, OBJECT_SESSION)))
		if (container_of(object, struct session, object)->state == SESSION_LIVE)
			err = send_session(channel, container_of(object, struct session, object), until);
	for (at = 0; !err && (object = next_object(e, &at, OBJECT_LISTENER));) {
		const struct listener *l = container_of(object, struct listener, object);

		for (struct list *pos = l->guests.next; !err && pos != &l->guests; pos = pos->next)
			err = send_session(channel, container_of(pos, struct session, guest), until);
	}
	return err;
}

static int send_all(const struct embedded *e, const struct embedded_offer *offer)
{
	int channel = offer->channel.fd, err;
	int64_t until = offer->until;
	struct object *object;
	struct move move = about(MOVE_BEGIN, 0);
	unsigned int at = 0;

	err = move_send(channel, &move, NULL, until);
	while (!err && (object = next_object(e, &at, OBJECT_SEGMENT)))
		err = send_segment(channel, container_of(object, struct segment, object),
				   object->handle == offer->blob, until);
	for (at = 0; !err && (object = next_object(e, &at, OBJECT_LISTENER));)
		err = send_listener(channel, container_of(object, struct listener, object), until);
	if (!err)
		err = send_sessions(e, channel, until);
	move = about(MOVE_END, 0);
	return err ? err : move_send(channel, &move, NULL, until);
}

/* The memory is the successor's: who still has a pointer into it gets SIGBUS. */
static void give_up_memory(struct segment *segment)
{
	int empty = memfd_create("shmipc-moved", MFD_CLOEXEC);
	void *addr = MAP_FAILED;

	/* It was adopted, and could not be mapped here. */
	if (!segment->addr) {
		close(empty);
		return;
	}
	if (empty >= 0) {
		addr = mmap(segment->addr, segment->len, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_FIXED, empty, 0);
		close(empty);
	}
	if (addr == MAP_FAILED)
		(void)mmap(segment->addr, segment->len, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
}

static void tell_peer(const struct session *s, int pidfd)
{
	int err;

	if (s->stuck) {
		log_warn("the session with process %d (uid %u) ends: its peer granted more than is "
			 "kept for a successor", s->peer.pid, s->peer.uid);
		link_send(s->link.fd, s->state == SESSION_LIVE ? LINK_BYE : LINK_REFUSE, 0, NULL, 0);
		return;
	}
	err = link_send(s->link.fd, LINK_MOVED, 0, &pidfd, 1);
	if (err && err != -EPIPE)
		log_warn("process %d could not be told of the successor (errno %d): it will see "
			 "this process end", s->peer.pid, -err);
}

/* What COMMIT decides. Nothing here fails. */
static void hand_over_locked(struct embedded *e, int channel, int pidfd)
{
	struct move done = about(MOVE_DONE, 0);
	struct object *object;
	unsigned int at = 0;
	int fds[MOVE_FDS];

	while ((object = next_object(e, &at, OBJECT_SEGMENT)))
		give_up_memory(container_of(object, struct segment, object));
	for (at = 0; (object = next_object(e, &at, OBJECT_SESSION));)
		tell_peer(container_of(object, struct session, object), pidfd);
	e->quiet = true;
	if (!move_send(channel, &done, NULL, now_ns() + STALL_NS))
		/* Until it has told those that are just connecting, this process must not end. */
		if (!move_receive(channel, &done, fds, now_ns() + STALL_NS))
			move_close(fds);
	for (at = 0; (object = next_object(e, &at, OBJECT_LISTENER));)
		listener_drop_locked(e, container_of(object, struct listener, object));
	for (at = 0; (object = next_object(e, &at, OBJECT_SESSION));)
		session_drop_locked(e, container_of(object, struct session, object), 0);
}

static int await_commit(const struct embedded_offer *offer, int *pidfd)
{
	int fds[MOVE_FDS];
	struct move move;
	int err = move_receive(offer->channel.fd, &move, fds, offer->until);

	if (err)
		return err;
	/* Whoever closed meanwhile did not wait for the answer: it would get what it doesn't know of. */
	err = hung_up(offer->channel.fd) ? -ECANCELED : 0;
	if (!err && (move.type != MOVE_COMMIT || move.fds != 1 || link_check_pidfd(fds[0])))
		err = -EBADMSG;
	if (err)
		move_close(fds);
	else
		*pidfd = fds[0];
	return err;
}

/* A sealed segment can't be mapped to write again, by nobody. */
static int check_seals(const struct embedded *e)
{
	struct object *object;
	unsigned int at = 0;

	while ((object = next_object(e, &at, OBJECT_SEGMENT))) {
		const struct segment *s = container_of(object, struct segment, object);

		if (fcntl(s->fd, F_GET_SEALS) & F_SEAL_FUTURE_WRITE)
			return error_set(-EOPNOTSUPP, "what was made with SHMIPC_SEALED can't be handed "
					 "over by the embedded provider: load the shmipc module");
	}
	return 0;
}

static int embedded_yield(struct provider *pv, int fd)
{
	struct embedded *e = embedded(pv);
	struct embedded_offer *offer;
	int err, pidfd = -1;

	(void)fd;
	pthread_mutex_lock(&e->lock);
	if (e->offer)
		offer_pump_locked(e, e->offer);
	offer = e->offer;
	pthread_mutex_unlock(&e->lock);
	if (!offer)
		return -ECANCELED;
	if (offer->channel.fd < 0)
		return -EAGAIN;
	err = check_seals(e);
	if (err)
		return err;
	err = send_all(e, offer);
	if (!err)
		err = await_commit(offer, &pidfd);
	pthread_mutex_lock(&e->lock);
	if (!err)
		hand_over_locked(e, offer->channel.fd, pidfd);
	over_locked(e, offer);
	pthread_mutex_unlock(&e->lock);
	if (pidfd >= 0)
		close(pidfd);
	return err ? -ECANCELED : 0;
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

static int embedded_adopt(struct provider *by, const char *name, int fd, struct provider **pv)
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

static int embedded_pause(struct provider *pv, int64_t timeout_ns)
{
	int64_t until = timeout_ns < 0 ? INT64_MAX : now_ns() + timeout_ns;
	int fds[MOVE_FDS];
	struct move move;
	int err = move_receive(embedded(pv)->predecessor.fd, &move, fds, until);

	move_close(fds);
	switch (err) {
	case 0:
		return move.type == MOVE_BEGIN ? 0 : -EBADMSG;
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

static int check_session(const struct embedded *e, const struct move *move, const int fds[MOVE_FDS])
{
	bool guest = move->session.state != SESSION_LIVE;

	if (move->session.state > SESSION_LIVE || link_check_channel(fds[0]) ||
	    move->session.bytes_in > SESSION_BYTES_MAX ||
	    move->session.bytes_out > SESSION_BYTES_MAX)
		return -EBADMSG;
	if (guest && !object_find_locked((struct embedded *)e, move->session.listener, OBJECT_LISTENER))
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
	err = session_grant(s, move->grant.slot, fds[0], SESSION_BYTES_MAX);
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
		err = move_receive(e->predecessor.fd, &move, fds, now_ns() + STALL_NS);
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
	item->peer = (struct shmipc_peer){ .uid = s->peer.uid, .gid = s->peer.gid,
					   .pid = (uint32_t)s->peer.pid };
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
static int embedded_list(struct provider *pv, uint32_t session, struct pv_list *list)
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

static int embedded_view(struct provider *pv, uint64_t offset, size_t len,
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
	err = segment_map(s->fd, len, mapping);
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

	while (!err && (object = next_object(e, &at, OBJECT_SESSION)))
		err = session_watch(e, container_of(object, struct session, object));
	for (at = 0; !err && (object = next_object(e, &at, OBJECT_LISTENER));)
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

static int request_commit(struct embedded *e, int pidfd)
{
	struct move move = about(MOVE_COMMIT, 0);
	int fds[MOVE_FDS] = { pidfd, -1, -1, -1 };
	int err = move_send(e->predecessor.fd, &move, fds, now_ns() + STALL_NS);

	if (!err) {
		err = move_receive(e->predecessor.fd, &move, fds, now_ns() + STALL_NS);
		move_close(fds);
	}
	return err || move.type != MOVE_DONE ? -ESTALE : 0;
}

static int embedded_commit(struct provider *pv)
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
		pthread_mutex_lock(&e->lock);
		e->quiet = false;
		while ((object = next_object(e, &at, OBJECT_LISTENER)))
			listen_again_locked(e, container_of(object, struct listener, object), pidfd);
		held_close(&e->predecessor);
		pthread_mutex_unlock(&e->lock);
	}
	close(pidfd);
	return err;
}

static int embedded_own(struct provider *pv, const struct pv_segment *segment, uint64_t offset)
{
	struct segment *s = segment_get(embedded(pv), segment->handle);
	char path[32];
	void *addr;
	int fd, err = 0;

	(void)offset;
	if (!s)
		return -ENOENT;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", s->fd);
	fd = open(path, O_RDWR | O_CLOEXEC);
	addr = fd < 0 ? MAP_FAILED : mmap(segment->addr, segment->len, PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_FIXED, fd, 0);
	if (addr == MAP_FAILED || madvise(addr, segment->len, MADV_DONTFORK))
		err = -errno;
	else
		s->addr = addr;
	if (fd >= 0)
		close(fd);
	object_put(&s->object);
	return err;
}

static int embedded_watch(struct provider *pv, uint32_t handle, const char *name, uint64_t cookie)
{
	struct embedded *e = embedded(pv);
	struct object *object;

	pthread_mutex_lock(&e->lock);
	object = object_find_locked(e, handle, name ? OBJECT_LISTENER : OBJECT_SESSION);
	if (object)
		object->cookie = cookie;
	pthread_mutex_unlock(&e->lock);
	return object ? 0 : -ENOENT;
}

const struct handover_ops embedded_handover = {
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
