/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * embedded.h - the objects of the embedded provider
 *
 * An endpoint has one epoll, in which every descriptor is edge-triggered: bells are never
 * read, sockets are read until they are empty. What epoll says is turned into causes of
 * objects, and objects with causes stand on the ready list until @sync hands them out.
 *
 * A session is a socket to the peer, a bell each way, and the peer's pidfd. At the acceptor's
 * it goes
 *
 *	SILENT -> WAITING -> LIVE
 *
 * connected and no HELLO yet; HELLO came, nobody accepted yet; accepted. The connector's is LIVE
 * when WELCOME has come. @end is the cause that reported its end; it stays until it is dropped,
 * because what the peer granted before can still be mapped.
 *
 * So that a successor can have what a peer granted, its descriptor is kept as long as the mapping, up to
 * a limit: a process of another user shall not take all descriptors of this one. A session with
 * one that was not kept can't be handed over (@stuck).
 *
 * One lock, embedded.lock, protects all that is not "(invariant)". No call that may block is made
 * under it, but for the log's lines when SHMIPC_LOG asks for them. Functions that need it end in
 * _locked.
 */
#ifndef SHMIPC_EMBEDDED_H
#define SHMIPC_EMBEDDED_H

#include <stdatomic.h>
#include <sys/socket.h>

#include "clock.h"
#include "embedded_link.h"
#include "embedded_name.h"
#include "list.h"
#include "lock.h"
#include "provider.h"

/*
 * Connections whose HELLO has not come: of one uid, in all, and for how long. When there are too
 * many, the oldest must go, but not before its process had a chance to run.
 */
#define SILENT_PER_UID	64
#define SILENT_MAX	512
#define SILENT_NS	((int64_t)5000000000)
#define SILENT_GRACE_NS	((int64_t)100000000)
#define TEND_NS		((int64_t)100000000)

/* Connections taken off a listener's socket at once: the lock is held for no longer. */
#define ACCEPT_BUDGET	64

/* Grants that are taken off the socket, and mapped, before anybody asks for them. */
#define GRANTS_AHEAD	64

/* Taken off a session's socket in one go: more than fit into it, unless they keep coming. */
#define MESSAGES_MAX	(2 * SHMIPC_SLOTS_MAX)

/*
 * Bytes of segments that one side of a session may have. What a peer grants is mapped: holes of many
 * TiB would cost it nothing, and this process its address space, or its memory when they are read.
 */
#define SESSION_BYTES_MAX	((size_t)64 << 30)

/* Descriptors kept of what a peer of another user granted, a session. */
#define KEPT_FOREIGN	16
#define KEPT_SHARE	4	/* and of all that this process may have, a uid so great a part */

enum object_kind { OBJECT_SEGMENT = 1, OBJECT_LISTENER, OBJECT_SESSION, OBJECT_OFFER };

struct object {
	enum object_kind kind;		/* (invariant) */
	uint32_t handle;		/* (invariant after it was added) */
	uint64_t cookie;
	uint32_t causes;
	struct list ready;		/* in embedded.ready if causes are pending */
	atomic_uint refs;		/* the table's, and callers outside the lock */
};

struct segment {
	struct object object;
	int fd;				/* read-only, for the peers (invariant) */
	void *addr;			/* NULL: adopted, and not taken yet */
	size_t len;
	bool blob;			/* of the offer that this endpoint came by (invariant) */
};

struct listener {
	struct object object;
	struct held socket;
	struct held marker;
	uint32_t mode;			/* (invariant), as uid, gid and the limits */
	uint32_t uid;
	uint32_t gid;
	uint32_t backlog;
	uint32_t max_per_uid;
	struct list guests;		/* sessions, SILENT and WAITING, oldest first */
	unsigned int waiting;
	bool starved;			/* connections may be left in the socket */
	char name[SHMIPC_NAME_MAX + 1];	/* (invariant) */
};

enum session_state { SESSION_SILENT, SESSION_WAITING, SESSION_LIVE };

/* Of a peer. */
struct grant {
	uint32_t slot;
	int fd;				/* -1: not kept */
	struct pv_mapping mapping;
	bool ahead;			/* counts in session.nr_ahead */
};

/* Of a segment to a peer. */
struct given {
	uint32_t slot;
	uint32_t segment;		/* its handle */
};

struct session {
	struct object object;
	enum session_state state;
	struct list guest;		/* in listener.guests */
	uint32_t listener;		/* its handle; 0 at the connector's */
	struct held link;
	int bell_in;			/* the peer rings it (invariant) */
	int bell_out;			/* rings the peer (invariant once LIVE) */
	bool datagram_in, datagram_out;
	bool foreign;			/* another uid (invariant) */
	bool dead;			/* the peer is gone: all its grants may be taken */
	bool stuck;			/* a descriptor that a successor needs was not kept */
	bool watched;			/* causes for @paused are wanted */
	bool paused;			/* the peer has stopped for a handover */
	bool told;			/* the peer knows that this end has */
	bool moved;			/* MOVED came, and no CHANGED yet */
	uint32_t end;			/* SHMIPC_CAUSE_PEER_*; 0: it goes on */
	int pidfd;			/* or -1: not visible from here; another's after MOVED */
	uint32_t expect_uid;		/* (invariant) the peer must be of it, or SHMIPC_UID_ANY */
	struct ucred peer;		/* whom it was made with (invariant) */
	struct shmipc_peer now;		/* who that is now */
	int64_t since;			/* when it was connected (invariant) */
	struct grant *grants;		/* received and not asked for yet */
	unsigned int nr_grants, max_grants;
	unsigned int nr_ahead;		/* of them, those that nobody has asked for when they came */
	struct grant *taken;		/* those that were */
	unsigned int nr_taken, max_taken;
	struct given *given;
	unsigned int nr_given, max_given;
	size_t bytes_in, bytes_out;	/* granted by the peer, and to it */
	uint8_t slots_seen[SHMIPC_SLOTS_MAX / 8];
};

/* embedded_offer.c: an offer of this endpoint, until it is over. */
struct embedded_offer {
	struct object object;
	struct held door;		/* ADOPT comes in here; the other end is the program's */
	struct held channel;		/* to the successor, -1: none yet */
	int timer;
	int64_t until;
	bool by_name;			/* (invariant), as blob */
	uint32_t blob;
};

struct embedded {
	struct provider base;
	struct lock lock;
	int kick;			/* eventfd: wakes for causes that epoll doesn't know */
	struct object **table;		/* by the low half of a handle, less 1 */
	unsigned int table_size;
	unsigned int next_index;
	uint16_t generation;
	struct list ready;
	bool kicked;			/* a sync shall return */
	unsigned int silent;		/* sessions in that state */
	unsigned int starved;		/* listeners that are */
	int64_t tend_at;		/* when guests and starved listeners are next looked at */
	struct embedded_offer *offer;	/* the one that is open */
	struct held predecessor;	/* the channel to it, until COMMIT; else -1 */
	bool quiet;			/* it is another's: no peer is told of what ends here */
	uint32_t handovers;		/* of this endpoint, until it came here (invariant) */
};

/* What an epoll entry stands for; beside the handle in its data. */
enum watch { WATCH_KICK, WATCH_BELL, WATCH_LINK, WATCH_PIDFD, WATCH_LISTENER, WATCH_OFFER };

static inline struct embedded *embedded(struct provider *pv)
{
	return container_of(pv, struct embedded, base);
}

/* provider_embedded.c: the table, the ready list, descriptors in the epoll. */
int object_add_locked(struct embedded *e, struct object *object, enum object_kind kind);
/* With the handle that it had with another. -EBADMSG: it is in use. */
int object_place_locked(struct embedded *e, struct object *object, enum object_kind kind,
			uint32_t handle);
struct object *object_find_locked(struct embedded *e, uint32_t handle, enum object_kind kind);
/* The first of @kind from index @at on, which then is past it, or NULL. */
struct object *object_next(const struct embedded *e, unsigned int *at, enum object_kind kind);
/* Takes it out of the table and puts the table's reference. */
void object_remove_locked(struct embedded *e, struct object *object);
void object_put(struct object *object);
/* @outside of sync: a thread may be asleep in it. */
void object_raise_locked(struct embedded *e, struct object *object, uint32_t causes, bool outside);
int watch_add(struct embedded *e, int fd, uint32_t handle, enum watch what);
/* By hand: closing a descriptor that the peer or a child shares leaves it in the epoll. */
void watch_del(struct embedded *e, int fd);

/* embedded_segment.c */
/* A file without a byte, which may be sealed and is closed by exec; or -1 and errno. */
int embedded_memfd(void);
int embedded_segment_create(struct provider *pv, size_t len, bool sealed,
			    struct pv_segment *segment);
void embedded_segment_destroy(struct provider *pv, struct pv_segment *segment);
int embedded_segment_grant(struct provider *pv, uint32_t session, const struct pv_segment *segment,
			   uint32_t slot);
int embedded_segment_map(struct provider *pv, uint32_t session, uint32_t slot,
			 struct pv_mapping *mapping);
void embedded_segment_unmap(struct provider *pv, struct pv_mapping *mapping);
/* Maps what a peer granted, of at most @max bytes. @fd stays the caller's: a mapping needs none. */
int segment_map(int fd, size_t max, struct pv_mapping *mapping);
/* Remembers a grant, for a successor. */
int segment_given(struct session *session, const struct segment *segment, uint32_t slot);
void segment_free(struct segment *segment);
/* With a reference, or NULL. */
struct segment *segment_get(struct embedded *e, uint32_t handle);

/* embedded_session.c */
/*
 * The process behind a socket's other end: 0 and @fd, which is -1 when it can't be seen from this
 * namespace; -ESRCH when it is dead already; -EMFILE, -ENFILE.
 */
int session_pidfd(int sock, pid_t pid, int *fd);
struct session *session_new(int sock, const struct ucred *peer, int *err);
int session_add_locked(struct embedded *e, struct session *session);
int session_watch(struct embedded *e, struct session *session);
void session_unwatch(struct embedded *e, struct session *session);
/* Maps what was granted, for segment_map() to find. Takes over @fd unless it fails. */
int session_grant_locked(const struct embedded *e, struct session *session, uint32_t slot, int fd, size_t max);
/* MOVED came: from now on the peer is the process of @pidfd, which is taken over unless it fails. */
int session_moved(struct session *session, int pidfd);
/*
 * CHANGED came, from @who: likewise. -EACCES: of another uid than the session is for; -EBADMSG also where
 * the kernel does not say who.
 */
int session_changed(struct session *session, const struct ucred *who, int pidfd);
int embedded_peer(struct provider *pv, uint32_t session, struct shmipc_peer *peer, bool *paused);
int embedded_peer_watch(struct provider *pv, uint32_t session, uint64_t cookie, bool on);
/* Says BYE or REFUSE, unless @quiet, and takes it out of everything. */
void session_drop_locked(struct embedded *e, struct session *session, uint32_t reason);
void session_refuse_locked(struct embedded *e, struct session *session, int error);
void session_free(struct session *session);
/* In a child: what is mapped in the parent is not mapped here. */
void session_forget(struct session *session);
/* Takes what waits in the socket, until @want was granted if that is a slot. */
void session_pump_locked(struct embedded *e, struct session *session, bool outside, int want);
void session_died_locked(struct embedded *e, struct session *session);
void session_rang_locked(struct embedded *e, struct session *session);
int session_take_hello_locked(const struct embedded *e, struct session *session,
			      const struct link_message *message, const int fds[LINK_FDS]);

/* embedded_bind.c */
int embedded_bind(struct provider *pv, const struct pv_bind *bind, uint32_t *listener);

/* embedded_listener.c */
int embedded_accept(struct provider *pv, uint32_t listener, const struct pv_segment *segment,
		    uint64_t cookie, uint32_t *session, struct shmipc_peer *peer);
void listener_pump_locked(struct embedded *e, struct listener *listener, bool outside);
void listener_guest_spoke_locked(struct embedded *e, struct session *session, bool outside);
void listener_drop_locked(struct embedded *e, struct listener *listener);
void listener_free(struct listener *listener);
/* Drops guests that were silent for too long, retries what was starved. */
void listener_tend_locked(struct embedded *e);

/* embedded_connect.c */
/* A socket to who listens on @name, connected, or -errno. */
int embedded_dial(const char *name);
int embedded_connect(struct provider *pv, const struct pv_connect *connect, uint32_t *session,
		     struct shmipc_peer *peer);

/* embedded_offer.c: the holder's half of a handover */
int embedded_offer(struct provider *pv, struct pv_offer *req);
bool embedded_over(struct provider *pv, int fd);
int embedded_yield(struct provider *pv, int fd);
/* Something came for the offer, or its time is over. */
void offer_pump_locked(struct embedded *e, struct embedded_offer *offer);
/* A successor that came by a name. Takes over @channel. */
void offer_visitor_locked(struct embedded *e, int channel, uid_t uid);
void offer_drop_locked(struct embedded *e, struct embedded_offer *offer);
void offer_free(struct embedded_offer *offer);

/* embedded_adopt.c: the successor's */
int embedded_adopt(struct provider *by, const char *name, int fd, struct provider **pv);
int embedded_pause(struct provider *pv, int64_t timeout_ns);
int embedded_list(struct provider *pv, uint32_t session, struct pv_list *list);
int embedded_view(struct provider *pv, uint64_t offset, size_t len, struct pv_mapping *mapping);
int embedded_commit(struct provider *pv);
int embedded_own(struct provider *pv, const struct pv_segment *segment, uint64_t offset);
int embedded_watch(struct provider *pv, uint32_t handle, const char *name, uint64_t cookie);

#endif
