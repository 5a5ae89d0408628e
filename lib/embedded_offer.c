// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * embedded_offer.c - the holder's half of a handover of the embedded provider
 *
 * All that an endpoint has is in its holder: it sends the successor every descriptor, and what it knows
 * of each. The successor looks, reading only. When it commits the holder gives up its own mappings
 * and tells the peers, in this order, and that is the moment: before it the holder goes on if anything
 * fails, after it the successor owns all.
 *
 * There is nobody else. What a holder leaves that dies is gone with it; and if it dies between COMMIT
 * and DONE, sessions whose peers it had not told yet end.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "embedded.h"
#include "embedded_move.h"
#include "error.h"
#include "log.h"

#define CANDIDATES	64	/* taken off an offer's socket at once */

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

int embedded_offer(struct provider *pv, struct pv_offer *req)
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
	lock(&e->lock);
	err = add_offer_locked(e, offer);
	unlock(&e->lock);
	if (err) {
		offer_free(offer);
		close(pair[1]);
		return err;
	}
	req->handle = offer->object.handle;
	req->fd = pair[1];
	return 0;
}

bool embedded_over(struct provider *pv, int fd)
{
	struct embedded *e = embedded(pv);
	bool over;

	(void)fd;
	lock(&e->lock);
	if (e->offer)
		offer_pump_locked(e, e->offer);
	over = !e->offer;
	unlock(&e->lock);
	return over;
}

/* ---- the holder ------------------------------------------------------------ */

/* In the pause no other call of the program runs, so that nothing here needs the lock to stay as it is. */

static int send_segment(int channel, const struct segment *s, bool blob, int64_t until)
{
	struct move move = move_about(MOVE_SEGMENT, s->object.handle);

	move.segment.blob = blob;
	return move_send(channel, &move, (int[MOVE_FDS]){ s->fd, -1, -1, -1 }, until);
}

static int send_listener(int channel, const struct listener *l, int64_t until)
{
	struct move move = move_about(MOVE_LISTENER, l->object.handle);

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
		move = move_about(MOVE_GIVEN, s->object.handle);
		move.grant.slot = s->given[i].slot;
		move.grant.segment = s->given[i].segment;
		err = move_send(channel, &move, NULL, until);
	}
	for (unsigned int i = 0; i < s->nr_taken + s->nr_grants && !err; i++) {
		const struct grant *grant = i < s->nr_taken ? &s->taken[i] :
							      &s->grants[i - s->nr_taken];

		move = move_about(MOVE_GRANTED, s->object.handle);
		move.grant.slot = grant->slot;
		err = move_send(channel, &move, (int[MOVE_FDS]){ grant->fd, -1, -1, -1 }, until);
	}
	return err;
}

static int send_session(int channel, const struct session *s, int64_t until)
{
	struct move move = move_about(MOVE_SESSION, s->object.handle);
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
	move.session.expect_uid = s->expect_uid;
	move.session.now = s->now;
	move.session.paused = s->paused;
	move.session.moved = s->moved;
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

	while (!err && (object = object_next(e, &at, OBJECT_SESSION)))
		if (container_of(object, struct session, object)->state == SESSION_LIVE)
			err = send_session(channel, container_of(object, struct session, object), until);
	for (at = 0; !err && (object = object_next(e, &at, OBJECT_LISTENER));) {
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
	struct move move = move_about(MOVE_BEGIN, 0);
	unsigned int at = 0;

	move.handovers = e->handovers;
	err = move_send(channel, &move, NULL, until);
	while (!err && (object = object_next(e, &at, OBJECT_SEGMENT)))
		err = send_segment(channel, container_of(object, struct segment, object),
				   object->handle == offer->blob, until);
	for (at = 0; !err && (object = object_next(e, &at, OBJECT_LISTENER));)
		err = send_listener(channel, container_of(object, struct listener, object), until);
	if (!err)
		err = send_sessions(e, channel, until);
	move = move_about(MOVE_END, 0);
	return err ? err : move_send(channel, &move, NULL, until);
}

/*
 * The memory is the successor's: who still has a pointer into it gets SIGBUS. @empty: a file without a
 * byte, or -1.
 */
static void give_up_memory(struct segment *segment, int empty)
{
	void *addr = MAP_FAILED;

	/* It was adopted, and could not be mapped here. */
	if (!segment->addr)
		return;
	if (empty >= 0)
		addr = mmap(segment->addr, segment->len, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_FIXED, empty, 0);
	if (addr == MAP_FAILED)
		addr = mmap(segment->addr, segment->len, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
	/* Under a limit of locked memory neither may be made. That one can: it is what counts. */
	if (addr == MAP_FAILED)
		mprotect(segment->addr, segment->len, PROT_NONE);
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
	struct move done = move_about(MOVE_DONE, 0);
	struct object *object;
	unsigned int at = 0;
	int fds[MOVE_FDS], empty = embedded_memfd();

	while ((object = object_next(e, &at, OBJECT_SEGMENT)))
		give_up_memory(container_of(object, struct segment, object), empty);
	if (empty >= 0)
		close(empty);
	for (at = 0; (object = object_next(e, &at, OBJECT_SESSION));)
		tell_peer(container_of(object, struct session, object), pidfd);
	e->quiet = true;
	if (!move_send(channel, &done, NULL, now_ns() + MOVE_STALL_NS))
		/* Until it has told those that are just connecting, this process must not end. */
		if (!move_receive(channel, &done, fds, now_ns() + MOVE_STALL_NS))
			move_close(fds);
	for (at = 0; (object = object_next(e, &at, OBJECT_LISTENER));)
		listener_drop_locked(e, container_of(object, struct listener, object));
	for (at = 0; (object = object_next(e, &at, OBJECT_SESSION));)
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

/*
 * A peer that has no room for PAUSED is not one that waits for it. It is not told that it is over either: so
 * one that never reads keeps room for what must reach it.
 */
static void tell_pause(const struct embedded *e, bool paused)
{
	struct object *object;
	unsigned int at = 0;

	while ((object = object_next(e, &at, OBJECT_SESSION))) {
		struct session *s = container_of(object, struct session, object);

		if (s->state != SESSION_LIVE || s->end)
			continue;
		if (paused)
			s->told = !link_send(s->link.fd, LINK_PAUSED, 0, NULL, 0);
		else if (s->told)
			link_send(s->link.fd, LINK_RESUMED, 0, NULL, 0);
	}
}

/* A sealed segment can't be mapped to write again, by nobody. */
static int check_seals(const struct embedded *e)
{
	struct object *object;
	unsigned int at = 0;

	while ((object = object_next(e, &at, OBJECT_SEGMENT))) {
		const struct segment *s = container_of(object, struct segment, object);

		if (fcntl(s->fd, F_GET_SEALS) & F_SEAL_FUTURE_WRITE)
			return error_set(-EOPNOTSUPP, "what was made with SHMIPC_SEALED can't be handed "
					 "over by the embedded provider: load the shmipc module");
	}
	return 0;
}

int embedded_yield(struct provider *pv, int fd)
{
	struct embedded *e = embedded(pv);
	struct embedded_offer *offer;
	int err, pidfd = -1;

	(void)fd;
	lock(&e->lock);
	if (e->offer)
		offer_pump_locked(e, e->offer);
	offer = e->offer;
	unlock(&e->lock);
	if (!offer)
		return -ECANCELED;
	if (offer->channel.fd < 0)
		return -EAGAIN;
	err = check_seals(e);
	if (err)
		return err;
	tell_pause(e, true);
	err = send_all(e, offer);
	if (!err)
		err = await_commit(offer, &pidfd);
	lock(&e->lock);
	if (!err)
		hand_over_locked(e, offer->channel.fd, pidfd);
	else
		tell_pause(e, false);
	over_locked(e, offer);
	unlock(&e->lock);
	if (pidfd >= 0)
		close(pidfd);
	return err ? -ECANCELED : 0;
}
