// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Listeners of the embedded provider. Connections are taken off the socket as they come and wait
 * here, first for their HELLO, then for accept(). Nothing waits for a client: one that
 * connects and says nothing costs a descriptor, of which each uid gets a few, for a while.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "embedded.h"
#include "log.h"
#include "provider_error.h"

#define GROUPS_MAX	1024

/* ---- its end ---------------------------------------------------------------- */

void listener_free(struct listener *listener)
{
	held_close(&listener->marker);
	held_close(&listener->socket);
	free(listener);
}

void listener_drop_locked(struct embedded *e, struct listener *listener)
{
	struct list *pos, *n;

	list_for_each_safe(pos, n, &listener->guests)
		session_refuse_locked(e, container_of(pos, struct session, guest), -ECONNREFUSED);
	if (listener->starved)
		e->starved--;
	watch_del(e, listener->socket.fd);
	/* The name is free when this returns, whoever still has a reference. */
	held_close(&listener->marker);
	held_close(&listener->socket);
	object_remove_locked(e, &listener->object);
}

/* ---- who may ----------------------------------------------------------------- */

static bool in_group(int sock, const struct ucred *peer, uint32_t gid)
{
	gid_t groups[GROUPS_MAX];
	socklen_t len = sizeof(groups);

	if (peer->gid == gid)
		return true;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERGROUPS, groups, &len))
		return false;
	for (size_t i = 0; i < len / sizeof(groups[0]); i++)
		if (groups[i] == gid)
			return true;
	return false;
}

/* As a file's write permission: the first class that fits decides, and root may all. */
static bool may_connect(const struct listener *listener, const struct session *session)
{
	const struct ucred *peer = &session->peer;

	if (!peer->uid)
		return true;
	if (peer->uid == listener->uid)
		return listener->mode & 0200;
	if (in_group(session->link.fd, peer, listener->gid))
		return listener->mode & 0020;
	return listener->mode & 0002;
}

static unsigned int sessions_of(struct embedded *e, const struct listener *listener, uid_t uid)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < e->table_size; i++) {
		struct object *object = e->table[i];
		struct session *session;

		if (!object || object->kind != OBJECT_SESSION)
			continue;
		session = container_of(object, struct session, object);
		if (session->listener == listener->object.handle && session->peer.uid == uid &&
		    session->state != SESSION_SILENT)
			count++;
	}
	return count;
}

/* ---- guests -------------------------------------------------------------------- */

/* The oldest of that uid, or of any if @uid is SHMIPC_UID_ANY; or NULL. */
static struct session *oldest_silent(const struct listener *listener, uid_t uid)
{
	for (struct list *pos = listener->guests.next; pos != &listener->guests; pos = pos->next) {
		struct session *session = container_of(pos, struct session, guest);

		if (session->state == SESSION_SILENT &&
		    (uid == SHMIPC_UID_ANY || session->peer.uid == uid))
			return session;
	}
	return NULL;
}

/* Likewise, whichever listener's it is: they are counted together. */
static struct session *oldest_of_all(const struct embedded *e)
{
	struct session *oldest = NULL;
	struct object *object;
	unsigned int at = 0;

	while ((object = object_next(e, &at, OBJECT_LISTENER))) {
		struct session *session = oldest_silent(container_of(object, struct listener, object),
							SHMIPC_UID_ANY);

		if (session && (!oldest || session->since < oldest->since))
			oldest = session;
	}
	return oldest;
}

/* It must go. False: there is none, or it came just now. */
static bool evict_locked(struct embedded *e, struct session *session)
{
	if (!session || now_ns() - session->since < SILENT_GRACE_NS)
		return false;
	log_limited(LOG_LEVEL_WARN, "process %d (uid %u) connected and said nothing",
		    session->peer.pid, session->peer.uid);
	session_refuse_locked(e, session, -ETIMEDOUT);
	return true;
}

static unsigned int silent_of(const struct listener *listener, uid_t uid)
{
	unsigned int count = 0;

	for (struct list *pos = listener->guests.next; pos != &listener->guests; pos = pos->next) {
		struct session *session = container_of(pos, struct session, guest);

		count += session->state == SESSION_SILENT && session->peer.uid == uid;
	}
	return count;
}

static bool room_for_silent_locked(struct embedded *e, struct listener *listener, uid_t uid)
{
	if (silent_of(listener, uid) >= SILENT_PER_UID)
		return evict_locked(e, oldest_silent(listener, uid));
	return e->silent < SILENT_MAX || evict_locked(e, oldest_of_all(e));
}

static void refuse_locked(struct embedded *e, struct session *session, int error)
{
	log_limited(LOG_LEVEL_WARN, "process %d (uid %u) was refused (errno %d)",
		    session->peer.pid, session->peer.uid, -error);
	session_refuse_locked(e, session, error);
}

/* Its HELLO is most often there already: who connects sends it at once. */
static int add_guest_locked(struct embedded *e, struct listener *listener, int sock, bool outside)
{
	struct session *session;
	struct object *object;
	struct ucred peer;
	socklen_t len = sizeof(peer);
	uint32_t handle;
	bool room;
	int err;

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len)) {
		close(sock);
		return 0;
	}
	session = session_new(sock, &peer, &err);
	if (!session)
		return err;
	session->listener = listener->object.handle;
	session->state = SESSION_SILENT;
	session->since = now_ns();
	err = session_add_locked(e, session);
	if (err) {
		session_free(session);
		return err;
	}
	room = room_for_silent_locked(e, listener, peer.uid);
	list_add_tail(&session->guest, &listener->guests);
	e->silent++;
	/* Who may not connect is not listened to: no descriptor of its choice comes into this process. */
	if (!may_connect(listener, session) && peer.uid != geteuid()) {
		refuse_locked(e, session, -EACCES);
		return 0;
	}
	handle = session->object.handle;
	listener_guest_spoke_locked(e, session, outside);
	/* Unless it spoke at once: then it may even be gone. */
	object = room ? NULL : object_find_locked(e, handle, OBJECT_SESSION);
	if (object && container_of(object, struct session, object)->state == SESSION_SILENT)
		session_refuse_locked(e, session, -EAGAIN);
	return 0;
}

static void starve_locked(struct embedded *e, struct listener *listener, bool starved)
{
	if (listener->starved != starved)
		e->starved += starved ? 1U : -1U;
	listener->starved = starved;
}

void listener_pump_locked(struct embedded *e, struct listener *listener, bool outside)
{
	int sock, err = 0, budget = ACCEPT_BUDGET;

	do {
		sock = accept4(listener->socket.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (sock >= 0)
			err = add_guest_locked(e, listener, sock, outside);
		else if (errno != ECONNABORTED && errno != EINTR)
			err = -errno;
	} while ((!err || err == -ESRCH) && --budget);
	/* The edge is gone and connections may be there: another turn, or after a while. */
	starve_locked(e, listener, err != -EAGAIN);
	if (!budget) {
		e->tend_at = 0;
		link_ring(e->kick, false);
	} else if (err != -EAGAIN)
		log_limited(LOG_LEVEL_ERROR, "a connection could not be taken (errno %d)", -err);
}

/* HELLO came. Returns 0 or why it is refused. */
static int check_hello_locked(struct embedded *e, struct listener *listener,
			      struct session *session, const struct link_message *message,
			      const int fds[LINK_FDS])
{
	int err = session_take_hello_locked(e, session, message, fds);

	if (err)
		return err;
	if (!may_connect(listener, session))
		return -EACCES;
	if (sessions_of(e, listener, session->peer.uid) >= listener->max_per_uid)
		return -EDQUOT;
	return listener->waiting >= listener->backlog ? -EAGAIN : 0;
}

static void first_message_locked(struct embedded *e, struct listener *listener,
				 struct session *session, bool outside)
{
	struct link_message message = { 0 };
	int fds[LINK_FDS];
	int ret = link_receive(session->link.fd, &message, fds);

	if (ret == -EAGAIN)
		return;
	if (ret == 1 && message.type == LINK_ADOPT) {
		offer_visitor_locked(e, fds[0], session->peer.uid);
		session_drop_locked(e, session, 0);
		return;
	}
	if (ret == 1 && message.type != LINK_HELLO) {
		link_close(fds, LINK_FDS);
		ret = -EBADMSG;
	}
	if (ret == 1)
		ret = check_hello_locked(e, listener, session, &message, fds);
	else if (!ret)
		ret = -ECONNREFUSED;
	if (ret) {
		refuse_locked(e, session, ret);
		return;
	}
	e->silent--;
	session->state = SESSION_WAITING;
	listener->waiting++;
	object_raise_locked(e, &listener->object, SHMIPC_CAUSE_ACCEPT, outside);
}

void listener_guest_spoke_locked(struct embedded *e, struct session *session, bool outside)
{
	struct object *object = object_find_locked(e, session->listener, OBJECT_LISTENER);
	char byte;

	if (!object)
		return;
	if (session->state == SESSION_SILENT)
		first_message_locked(e, container_of(object, struct listener, object), session,
				     outside);
	/* One that waits has nothing to say but that it left; anything is left where it is. */
	else if (recv(session->link.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 ||
		 errno == ECONNRESET)
		session_refuse_locked(e, session, -ECONNREFUSED);
}

void listener_tend_locked(struct embedded *e)
{
	int64_t now = now_ns();

	if (now < e->tend_at)
		return;
	e->tend_at = now + TEND_NS;
	for (unsigned int i = 0; i < e->table_size; i++) {
		struct object *object = e->table[i];
		struct session *session;

		if (!object)
			continue;
		if (object->kind == OBJECT_LISTENER) {
			struct listener *listener = container_of(object, struct listener, object);

			if (listener->starved)
				listener_pump_locked(e, listener, false);
			continue;
		}
		if (object->kind != OBJECT_SESSION)
			continue;
		session = container_of(object, struct session, object);
		if (session->state == SESSION_SILENT &&
		    now - session->since >= SILENT_NS)
			session_refuse_locked(e, session, -ETIMEDOUT);
	}
}

/* ---- accept ----------------------------------------------------------------------- */

static struct session *next_waiting(const struct listener *listener)
{
	for (struct list *pos = listener->guests.next; pos != &listener->guests; pos = pos->next) {
		struct session *session = container_of(pos, struct session, guest);

		if (session->state == SESSION_WAITING)
			return session;
	}
	return NULL;
}

/* The bell is made here and not before: a connection that only waits costs less. */
static int welcome_locked(struct embedded *e, struct session *session,
			  const struct segment *segment)
{
	/*
	 * A connector that takes this process for another user's brought a datagram bell and wants one
	 * back. It may be wrong: a listener's socket keeps the uid that it was made with, and this process
	 * may have dropped root since.
	 */
	bool datagram = session->foreign || session->datagram_out;
	int fds[LINK_FDS] = { segment->fd, -1 };
	int err;

	if (session->bell_in < 0) {
		int mine;

		err = link_make_bell(datagram, &mine, &fds[1]);
		if (err)
			return err;
		session->bell_in = mine;
		session->datagram_in = datagram;
		session->bytes_out = segment->len;
		err = segment_given(session, segment, 0);
		if (!err)
			err = watch_add(e, mine, session->object.handle, WATCH_BELL);
		if (!err)
			err = link_send(session->link.fd, LINK_WELCOME, e->handovers, fds,
					LINK_FDS);
		if (datagram)
			close(fds[1]);
		return err;
	}
	return -EBUSY;
}

static int accept_locked(struct embedded *e, struct listener *listener,
			 const struct segment *segment, uint64_t cookie, struct session **out)
{
	struct session *session;
	int err;

	listener_pump_locked(e, listener, true);
	while ((session = next_waiting(listener))) {
		err = welcome_locked(e, session, segment);
		if (!err) {
			listener->waiting--;
			list_del(&session->guest);
			session->state = SESSION_LIVE;
			session->object.cookie = cookie;
			*out = session;
			return 0;
		}
		/* -EPIPE: it left while it waited. */
		session_refuse_locked(e, session, err == -EPIPE ? -ECONNREFUSED : -EAGAIN);
		if (err != -EPIPE)
			return err;
	}
	return -EAGAIN;
}

int embedded_accept(struct provider *pv, uint32_t listener, const struct pv_segment *segment,
		    uint64_t cookie, uint32_t *session, struct shmipc_peer *peer)
{
	struct embedded *e = embedded(pv);
	struct segment *own = segment_get(e, segment->handle);
	struct session *s = NULL;
	struct object *object;
	int err = -ENOENT;

	if (!own)
		return -ENOENT;
	lock(&e->lock);
	object = object_find_locked(e, listener, OBJECT_LISTENER);
	if (object)
		err = accept_locked(e, container_of(object, struct listener, object), own, cookie,
				    &s);
	if (s) {
		*session = s->object.handle;
		*peer = s->now;
		/* A BYE that came while it waited was left in the socket. */
		session_pump_locked(e, s, true, -1);
	}
	if (object && next_waiting(container_of(object, struct listener, object)))
		object_raise_locked(e, object, SHMIPC_CAUSE_ACCEPT, true);
	else if (object)
		object->causes &= ~SHMIPC_CAUSE_ACCEPT;
	unlock(&e->lock);
	object_put(&own->object);
	return err ? provider_accept_error(err) : 0;
}
