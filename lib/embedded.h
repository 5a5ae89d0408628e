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
 * when WELCOME has come. @ended says that its end was reported; it stays until it is dropped,
 * because what the peer granted before can still be mapped.
 *
 * One lock, embedded.lock, protects all that is not "(invariant)". No call that may block is made
 * under it, but for the log's lines when SHMIPC_LOG asks for them. Functions that need it end in
 * _locked.
 */
#ifndef SHMIPC_EMBEDDED_H
#define SHMIPC_EMBEDDED_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "embedded_link.h"
#include "embedded_name.h"
#include "list.h"
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

/*
 * Bytes of segments that one side of a session may have. What a peer grants is mapped: holes of many
 * TiB would cost it nothing, and this process its address space, or its memory when they are read.
 */
#define SESSION_BYTES_MAX	((size_t)64 << 30)

enum object_kind { OBJECT_SEGMENT = 1, OBJECT_LISTENER, OBJECT_SESSION };

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
	void *addr;
	size_t len;
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
};

enum session_state { SESSION_SILENT, SESSION_WAITING, SESSION_LIVE };

struct grant {
	uint32_t slot;
	struct pv_mapping mapping;
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
	bool ended;
	bool dead;			/* the peer is gone: all its grants may be taken */
	int pidfd;			/* or -1: not visible from here (invariant) */
	struct ucred peer;		/* (invariant) */
	int64_t since;			/* when it was connected (invariant) */
	struct grant *grants;		/* received and not asked for yet */
	unsigned int nr_grants, max_grants;
	size_t bytes_in, bytes_out;	/* granted by the peer, and to it */
	uint8_t slots_seen[SHMIPC_SLOTS_MAX / 8];
};

struct embedded {
	struct provider base;
	pthread_mutex_t lock;
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
};

/* What an epoll entry stands for; beside the handle in its data. */
enum watch { WATCH_KICK, WATCH_BELL, WATCH_LINK, WATCH_PIDFD, WATCH_LISTENER };

static inline struct embedded *embedded(struct provider *pv)
{
	return container_of(pv, struct embedded, base);
}

/* provider_embedded.c: the table, the ready list, descriptors in the epoll. */
int object_add_locked(struct embedded *e, struct object *object, enum object_kind kind);
struct object *object_find_locked(struct embedded *e, uint32_t handle, enum object_kind kind);
/* Takes it out of the table and puts the table's reference. */
void object_remove_locked(struct embedded *e, struct object *object);
void object_put(struct object *object);
/* @outside of sync: a thread may be asleep in it. */
void object_raise_locked(struct embedded *e, struct object *object, uint32_t causes, bool outside);
int watch_add(struct embedded *e, int fd, uint32_t handle, enum watch what);
/* By hand: closing a descriptor that the peer or a child shares leaves it in the epoll. */
void watch_del(struct embedded *e, int fd);
int64_t now_ns(void);

/* embedded_segment.c */
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
/* Says BYE or REFUSE, unless @quiet, and takes it out of everything. */
void session_drop_locked(struct embedded *e, struct session *session, uint32_t reason);
void session_refuse_locked(struct embedded *e, struct session *session, int error);
void session_free(struct session *session);
/* Takes what waits in the socket, until @want was granted if that is a slot. */
void session_pump_locked(struct embedded *e, struct session *session, bool outside, int want);
void session_died_locked(struct embedded *e, struct session *session);
void session_rang_locked(struct embedded *e, struct session *session);
int session_take_hello(struct session *session, const int fds[LINK_FDS]);

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
int embedded_connect(struct provider *pv, const struct pv_connect *connect, uint32_t *session,
		     struct shmipc_peer *peer);

#endif
