/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * listener.h - names, and who may connect to them
 *
 *	new --BIND--> named --CLOSE or death--> closed
 *
 * A name lives in the network namespace of its binder, which the listener keeps, unless its
 * endpoint is an orphan (orphan.h). Connectors queue
 * up to the backlog; a listener that closes refuses those who wait. A quota counts the sessions of
 * one user on one listener, from CONNECT until both sides have closed.
 */
#ifndef _SHMIPC_LISTENER_H
#define _SHMIPC_LISTENER_H

#include <linux/list.h>
#include <linux/spinlock.h>
#include <linux/uidgid.h>

#include "handle.h"
#include "main.h"
#include "ready.h"

struct net;
struct shmipc_session;
struct shmipc_user;

/**
 * struct shmipc_quota - sessions of a user on a listener
 * @link: in listener->quotas (protected by listener->lock)
 * @user: whose, referenced
 * @sessions: how many (protected by listener->lock)
 */
struct shmipc_quota {
	struct list_head link;
	struct shmipc_user *user;
	u32 sessions;
};

/**
 * struct shmipc_listener - a name and its queue
 * @obj: its head
 * @ready: its causes
 * @hash: among the names (protected by names->mutex)
 * @net: where the name is (invariant)
 * @keeps_net: it has a reference to @net (written under ep->lock)
 * @user: charged for it, referenced (written under ep->lock, while it has the handle)
 * @adopt: SHMIPC_ADOPT_*: who may adopt the endpoint by this name (invariant)
 * @orphan_ms: how long it outlives who holds it (invariant)
 * @uid: owner, for @mode (invariant)
 * @gid: group, for @mode (invariant)
 * @mode: 0222 bits (invariant)
 * @backlog: length of @queue at most (invariant)
 * @max_per_uid: sessions of a user at most (invariant)
 * @lock: protects what follows
 * @closed: refuses (protected by @lock)
 * @queued: length of @queue (protected by @lock)
 * @queue: PENDING sessions (protected by @lock)
 * @quotas: see above (protected by @lock)
 * @name_len: length of @name (invariant)
 * @name: not terminated (invariant)
 */
struct shmipc_listener {
	struct shmipc_object obj;
	struct shmipc_source ready;
	struct hlist_node hash;
	struct net *net;
	bool keeps_net;
	struct shmipc_user *user;
	u32 adopt;
	u32 orphan_ms;
	kuid_t uid;
	kgid_t gid;
	u16 mode;
	u32 backlog;
	u32 max_per_uid;
	spinlock_t lock;
	bool closed;
	u32 queued;
	struct list_head queue;
	struct list_head quotas;
	struct rcu_head rcu;
	u8 name_len;
	char name[SHMIPC_NAME_MAX];
};

static inline struct shmipc_listener *shmipc_listener_of(struct shmipc_object *obj)
{
	return container_of(obj, struct shmipc_listener, obj);
}

void shmipc_listener_free(struct shmipc_listener *l);
/* Called by who took the handle off the table. */
void shmipc_listener_close(struct shmipc_listener *l, bool died);

/* @name has room for SHMIPC_NAME_MAX bytes. */
int shmipc_name_read(char *name, u64 uptr, u32 len);
/* In current's network namespace, with a reference; NULL if there is none. */
struct shmipc_listener *shmipc_listener_find(const char *name, u32 len);
bool shmipc_listener_permits(struct shmipc_listener *l, struct shmipc_attachment *att);

struct shmipc_quota *shmipc_quota_get(struct shmipc_listener *l, struct shmipc_user *user);
void shmipc_quota_put(struct shmipc_listener *l, struct shmipc_quota *quota);

/*
 * -ECONNREFUSED, -EAGAIN. The queue gets the reference of side 1. Publishes side 0, with its
 * endpoint's lock held and the endpoint not dead: the session has its handle while it waits.
 */
int shmipc_listener_enqueue(struct shmipc_listener *l, struct shmipc_session *s);
/* The caller gets that reference; NULL if nobody waits. */
struct shmipc_session *shmipc_listener_dequeue(struct shmipc_listener *l);
/* Back to the head; false: closed, the caller keeps the reference. */
bool shmipc_listener_requeue(struct shmipc_listener *l, struct shmipc_session *s);
/* True: it was queued, the caller has the reference now. */
bool shmipc_listener_unqueue(struct shmipc_listener *l, struct shmipc_session *s);

/* A name of an endpoint that nobody holds keeps no namespace; false: that has ended. */
bool shmipc_listener_keep_net(struct shmipc_listener *l);
void shmipc_listener_drop_net(struct shmipc_listener *l);

int shmipc_bind(struct shmipc_call *call);

int shmipc_listener_init(void);
void shmipc_listener_exit(void);

#endif
