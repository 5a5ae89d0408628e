// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Sessions of the embedded provider: what comes out of the socket, and how a peer's end is told. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "embedded.h"
#include "log.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

/*
 * SO_PEERPIDFD (Linux 6.5) names the very process that connected or listened; before, its number
 * is looked up, and a number that was reused in between would be watched in its place: then the end
 * of the socket still tells.
 */
int session_pidfd(int sock, pid_t pid, int *fd)
{
	socklen_t len = sizeof(*fd);

	if (!getsockopt(sock, SOL_SOCKET, SO_PEERPIDFD, fd, &len))
		return 0;
	*fd = -1;
	if (errno == EMFILE || errno == ENFILE)
		return -errno;
	if (pid <= 0)
		return 0;
	*fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (*fd >= 0)
		return 0;
	*fd = -1;
	return errno == ESRCH || errno == EMFILE || errno == ENFILE ? -errno : 0;
}

/* Takes over @sock, also when it fails. */
struct session *session_new(int sock, const struct ucred *peer, int *err)
{
	struct session *session = calloc(1, sizeof(*session));

	*err = -ENOMEM;
	if (!session)
		goto no_session;
	session->bell_in = session->bell_out = session->pidfd = -1;
	list_init(&session->guest);
	list_init(&session->object.ready);
	session->object.kind = OBJECT_SESSION;
	session->expect_uid = SHMIPC_UID_ANY;
	session->peer = *peer;
	session->now = (struct shmipc_peer){ .uid = peer->uid, .gid = peer->gid,
					     .pid = (uint32_t)peer->pid };
	session->foreign = peer->uid != geteuid();
	*err = session_pidfd(sock, peer->pid, &session->pidfd);
	if (!*err)
		*err = held_init(&session->link, sock);
	if (!*err)
		return session;
	if (session->pidfd >= 0)
		close(session->pidfd);
	free(session);
no_session:
	close(sock);
	return NULL;
}

void session_free(struct session *session)
{
	held_close(&session->link);
	if (session->bell_in >= 0)
		close(session->bell_in);
	if (session->bell_out >= 0)
		close(session->bell_out);
	if (session->pidfd >= 0)
		close(session->pidfd);
	for (unsigned int i = 0; i < session->nr_grants; i++) {
		const struct grant *grant = &session->grants[i];

		if (grant->mapping.addr)
			munmap((void *)(uintptr_t)grant->mapping.addr, grant->mapping.len);
		if (grant->fd >= 0)
			close(grant->fd);
	}
	/* What was taken is unmapped by who took it. */
	for (unsigned int i = 0; i < session->nr_taken; i++)
		close(session->taken[i].fd);
	free(session->grants);
	free(session->taken);
	free(session->given);
	free(session);
}

void session_forget(struct session *session)
{
	for (unsigned int i = 0; i < session->nr_grants; i++)
		session->grants[i].mapping.addr = NULL;
}

int session_watch(struct embedded *e, struct session *session)
{
	uint32_t handle = session->object.handle;
	int err;

	err = watch_add(e, session->link.fd, handle, WATCH_LINK);
	if (!err && session->bell_in >= 0)
		err = watch_add(e, session->bell_in, handle, WATCH_BELL);
	if (!err && session->pidfd >= 0)
		err = watch_add(e, session->pidfd, handle, WATCH_PIDFD);
	return err;
}

void session_unwatch(struct embedded *e, struct session *session)
{
	watch_del(e, session->link.fd);
	if (session->bell_in >= 0)
		watch_del(e, session->bell_in);
	if (session->pidfd >= 0)
		watch_del(e, session->pidfd);
}

/* Edge-triggered entries tell at once what is there already: no bell of before is lost. */
int session_add_locked(struct embedded *e, struct session *session)
{
	int err = object_add_locked(e, &session->object, OBJECT_SESSION);

	if (err)
		return err;
	err = session_watch(e, session);
	if (!err)
		return 0;
	/* One more reference: the caller still has the session, and frees it. */
	atomic_fetch_add_explicit(&session->object.refs, 1, memory_order_relaxed);
	session_unwatch(e, session);
	object_remove_locked(e, &session->object);
	return err;
}

static void leave_listener_locked(struct embedded *e, struct session *session)
{
	struct object *object;

	if (session->state == SESSION_SILENT)
		e->silent--;
	if (session->state == SESSION_WAITING) {
		object = object_find_locked(e, session->listener, OBJECT_LISTENER);
		if (object)
			container_of(object, struct listener, object)->waiting--;
	}
	list_del(&session->guest);
}

static void remove_locked(struct embedded *e, struct session *session)
{
	leave_listener_locked(e, session);
	session_unwatch(e, session);
	object_remove_locked(e, &session->object);
}

void session_drop_locked(struct embedded *e, struct session *session, uint32_t reason)
{
	if (!e->quiet)
		link_send(session->link.fd, LINK_BYE, reason, NULL, 0);
	remove_locked(e, session);
}

void session_refuse_locked(struct embedded *e, struct session *session, int error)
{
	if (!e->quiet)
		link_send(session->link.fd, LINK_REFUSE, (uint32_t)-error, NULL, 0);
	remove_locked(e, session);
}

static void end_locked(struct embedded *e, struct session *session, uint32_t cause, bool outside)
{
	if (session->end)
		return;
	session->end = cause;
	object_raise_locked(e, &session->object, cause, outside);
}

/* ---- what comes out of the socket -------------------------------------------- */

struct news {
	struct link_message message;
	int fds[LINK_FDS];
	struct ucred who;
	bool outside;			/* as of object_raise_locked() */
};

/* Descriptors kept of what this uid granted, in all sessions. */
static unsigned int kept_of_locked(const struct embedded *e, uint32_t uid)
{
	unsigned int at = 0, kept = 0;
	struct object *object;

	while ((object = object_next(e, &at, OBJECT_SESSION))) {
		const struct session *session = container_of(object, struct session, object);

		if (session->now.uid == uid)
			kept += session->nr_grants + session->nr_taken;
	}
	return kept;
}

/*
 * May another descriptor be kept? Not all of this process's for who grants what no frame names, in one
 * session or in many.
 */
static bool may_keep_locked(const struct embedded *e, const struct session *session)
{
	struct rlimit files;

	if (!session->foreign)
		return true;
	return session->nr_grants + session->nr_taken < KEPT_FOREIGN &&
	       (getrlimit(RLIMIT_NOFILE, &files) ||
		kept_of_locked(e, session->now.uid) < files.rlim_cur / KEPT_SHARE);
}

int session_grant_locked(const struct embedded *e, struct session *session, uint32_t slot, int fd, size_t max)
{
	struct pv_mapping mapping;
	struct grant *grants;
	int err;

	if (session->nr_grants == session->max_grants) {
		unsigned int more = session->max_grants ? session->max_grants * 2 : 2;

		grants = realloc(session->grants, more * sizeof(*grants));
		if (!grants)
			return -ENOMEM;
		session->grants = grants;
		session->max_grants = more;
	}
	err = segment_map(fd, max, &mapping);
	if (err)
		return err;
	if (!may_keep_locked(e, session)) {
		session->stuck = true;
		close(fd);
		fd = -1;
	}
	session->grants[session->nr_grants++] = (struct grant){ slot, fd, mapping, false };
	return 0;
}

static int keep_grant_locked(const struct embedded *e, struct session *session, uint32_t slot, int fd)
{
	int err;

	if (slot >= SHMIPC_SLOTS_MAX || session->slots_seen[slot / 8] & 1U << slot % 8)
		return -EBADMSG;
	err = session_grant_locked(e, session, slot, fd, SESSION_BYTES_MAX - session->bytes_in);
	if (err)
		return err;
	session->grants[session->nr_grants - 1].ahead = true;
	session->nr_ahead++;
	session->bytes_in += session->grants[session->nr_grants - 1].mapping.len;
	session->slots_seen[slot / 8] |= (uint8_t)(1U << slot % 8);
	return 0;
}

/* What HELLO and WELCOME bring: the peer's first segment and its bell. Takes over both. */
int session_take_hello_locked(const struct embedded *e, struct session *session,
			      const struct link_message *message, const int fds[LINK_FDS])
{
	/* Root takes this process for its own kind, if that has dropped root since: it means no harm. */
	bool suspect = session->foreign && session->peer.uid;
	int err = link_check_bell(fds[1], suspect, &session->datagram_out);

	if (!err)
		err = keep_grant_locked(e, session, 0, fds[0]);
	if (err) {
		link_close(fds, LINK_FDS);
		return err;
	}
	session->bell_out = fds[1];
	session->now.generation = message->value;
	return 0;
}

static void put_pidfd(struct session *session, int pidfd)
{
	if (session->pidfd >= 0)
		close(session->pidfd);
	session->pidfd = pidfd;
}

int session_moved(struct session *session, int pidfd)
{
	int err = link_check_pidfd(pidfd);

	if (!err)
		err = link_ask_who(session->link.fd);
	if (err)
		return err;
	put_pidfd(session, pidfd);
	session->moved = true;
	return 0;
}

/*
 * The kernel says nothing of what was sent before it was asked, and not which process it is that can't be
 * seen from here. Of such a one nothing is believed but what was known before.
 */
static bool vouched(const struct session *session, const struct ucred *who)
{
	const struct shmipc_peer *now = &session->now;

	return who->pid || (!now->pid && who->uid == now->uid && who->gid == now->gid);
}

int session_changed(struct session *session, const struct ucred *who, int pidfd)
{
	if (!session->moved || !vouched(session, who) || link_check_pidfd(pidfd))
		return -EBADMSG;
	if (session->expect_uid != SHMIPC_UID_ANY && session->expect_uid != who->uid)
		return -EACCES;
	put_pidfd(session, pidfd);
	session->now.uid = who->uid;
	session->now.gid = who->gid;
	session->now.pid = (uint32_t)who->pid;
	session->now.generation++;
	session->moved = false;
	session->paused = false;
	return 0;
}

static int take_moved_locked(struct embedded *e, struct session *session, int pidfd)
{
	int old = session->pidfd, err;

	if (old >= 0)
		watch_del(e, old);
	err = session_moved(session, pidfd);
	/* Without it the end of the socket still tells. */
	if (!err)
		watch_add(e, pidfd, session->object.handle, WATCH_PIDFD);
	return err;
}

static int take_changed_locked(struct embedded *e, struct session *session, const struct news *news)
{
	uint32_t was = session->now.pid;
	int old = session->pidfd, err;

	if (news->message.value != session->now.generation + 1)
		return -EBADMSG;
	if (old >= 0)
		watch_del(e, old);
	err = session_changed(session, &news->who, news->fds[0]);
	if (err)
		return err;
	log_limited(LOG_LEVEL_INFO, "the other end of a session with process %u is process %u now",
		    was, session->now.pid);
	watch_add(e, session->pidfd, session->object.handle, WATCH_PIDFD);
	object_raise_locked(e, &session->object, SHMIPC_CAUSE_PEER_CHANGED, news->outside);
	return 0;
}

static void take_pause_locked(struct embedded *e, struct session *session, bool paused, bool outside)
{
	session->paused = paused;
	if (session->watched)
		object_raise_locked(e, &session->object, SHMIPC_CAUSE_PEER_PAUSE, outside);
}

static int take_message_locked(struct embedded *e, struct session *session, const struct news *news)
{
	const struct link_message *message = &news->message;
	const int *fds = news->fds;
	int err;

	switch (message->type) {
	case LINK_GRANT:
		err = keep_grant_locked(e, session, message->value, fds[0]);
		break;
	case LINK_MOVED:
		err = take_moved_locked(e, session, fds[0]);
		break;
	case LINK_CHANGED:
		err = take_changed_locked(e, session, news);
		break;
	case LINK_PAUSED:
	case LINK_RESUMED:
		take_pause_locked(e, session, message->type == LINK_PAUSED, news->outside);
		return 0;
	case LINK_BYE:
		return -EPIPE;
	default:
		err = -EBADMSG;
	}
	if (err)
		link_close(fds, LINK_FDS);
	return err;
}

/* One message. 1: it was kept; else why there is no more, 0 being the end. */
static int pump_one_locked(struct embedded *e, struct session *session, bool outside, uint32_t *slot)
{
	struct news news = { .outside = outside };
	int ret = link_receive_from(session->link.fd, &news.message, news.fds, &news.who);

	if (ret <= 0)
		return ret;
	if (news.message.type == LINK_GRANT)
		*slot = news.message.value;
	ret = take_message_locked(e, session, &news);
	return ret ? ret : 1;
}

static void link_ended_locked(struct embedded *e, struct session *session, int why, bool outside)
{
	if (why == -EPIPE) {
		end_locked(e, session, SHMIPC_CAUSE_PEER_CLOSED, outside);
	} else if (!why) {
		end_locked(e, session, SHMIPC_CAUSE_PEER_DIED, outside);
	} else if (why == -EACCES) {
		log_limited(LOG_LEVEL_WARN,
			    "who took over from process %u is not of uid %u, as the session requires: it ends",
			    session->now.pid, session->expect_uid);
		end_locked(e, session, SHMIPC_CAUSE_PEER_CLOSED, outside);
	} else if (!session->end) {
		log_limited(LOG_LEVEL_WARN,
			    "process %d (uid %u) sent a malformed message, or there was "
			    "no descriptor left for what came with it: its session ends",
			    session->peer.pid, session->peer.uid);
		end_locked(e, session, SHMIPC_CAUSE_PEER_CLOSED, outside);
	}
}

void session_pump_locked(struct embedded *e, struct session *session, bool outside, int want)
{
	unsigned int most = session->dead || want >= 0 ? SHMIPC_SLOTS_MAX : GRANTS_AHEAD;
	unsigned int rounds = MESSAGES_MAX;
	uint32_t slot;
	int ret;

	if (session->state != SESSION_LIVE) {
		listener_guest_spoke_locked(e, session, outside);
		return;
	}
	if (session->end && !session->dead && want < 0)
		return;
	while (session->nr_ahead < most) {
		slot = SHMIPC_SLOTS_MAX;
		ret = rounds-- ? pump_one_locked(e, session, outside, &slot) : -EBADMSG;
		if (ret == -EAGAIN)
			return;
		if (ret != 1) {
			link_ended_locked(e, session, ret, outside);
			return;
		}
		/* The wanted one came: from here on no more ahead than anybody. */
		if (want >= 0 && slot == (uint32_t)want)
			most = GRANTS_AHEAD;
	}
}

static bool process_ended(int pidfd)
{
	struct pollfd end = { .fd = pidfd, .events = POLLIN };

	return poll(&end, 1, 0) == 1;
}

void session_died_locked(struct embedded *e, struct session *session)
{
	if (session->state != SESSION_LIVE) {
		session_refuse_locked(e, session, -ECONNREFUSED);
		return;
	}
	/* A peer that closed and then ended said BYE before: that stands. */
	session->dead = true;
	session_pump_locked(e, session, false, -1);
	/* Or it said that it is another process from now on. */
	session->dead = session->pidfd >= 0 && process_ended(session->pidfd);
	if (session->dead)
		end_locked(e, session, SHMIPC_CAUSE_PEER_DIED, false);
}

void session_rang_locked(struct embedded *e, struct session *session)
{
	if (session->datagram_in)
		link_quiet(session->bell_in);
	object_raise_locked(e, &session->object, BELL_DATA | BELL_SPACE, false);
}

/* ---- who it is ------------------------------------------------------------------- */

int embedded_peer(struct provider *pv, uint32_t session, struct shmipc_peer *peer, bool *paused)
{
	struct embedded *e = embedded(pv);
	struct object *object;

	lock(&e->lock);
	object = object_find_locked(e, session, OBJECT_SESSION);
	if (object) {
		*peer = container_of(object, struct session, object)->now;
		*paused = container_of(object, struct session, object)->paused;
	}
	unlock(&e->lock);
	return object ? 0 : -ENOENT;
}

int embedded_peer_watch(struct provider *pv, uint32_t session, uint64_t cookie, bool on)
{
	struct embedded *e = embedded(pv);
	struct object *object;

	(void)cookie;
	lock(&e->lock);
	object = object_find_locked(e, session, OBJECT_SESSION);
	if (object)
		container_of(object, struct session, object)->watched = on;
	unlock(&e->lock);
	return object ? 0 : -ENOENT;
}
