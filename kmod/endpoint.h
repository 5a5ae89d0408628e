/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * endpoint.h - endpoints, and the attachments through which processes hold them
 *
 * An endpoint is an identity: the credentials at open, handles and what they name, a
 * ready list. Its attachment is how a process holds it now: file, address space, anchor page,
 * inode, wait queue. They are apart because a handover changes the second and not the first.
 *
 *	UNBOUND --mmap of the anchor--> LIVE --the anchor's VMA goes--> ENDING --work--> DEAD
 *	   \                              \--CLOSE of handle 0------------^
 *	    \--release-----------------------------------------------------^
 *
 * ENDING is set once, under whatever lock the caller has, and only marks, wakes and queues.
 * The work then runs without locks: names go, mappings are zapped, peers are told, memory is
 * given back. Nothing in it allocates or fails. release() and CLOSE wait for it; what is left then
 * is the memory of the struct, until the last peer lets go of its session.
 */
#ifndef _SHMIPC_ENDPOINT_H
#define _SHMIPC_ENDPOINT_H

#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/cred.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/rbtree.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "handle.h"
#include "main.h"

struct seq_file;
struct shmipc_user;

/**
 * struct shmipc_attachment - how a process holds an endpoint
 * @ref: the file's, and one for each zap under way
 * @ep: referenced (invariant)
 * @file: not referenced: the attachment is the file's (invariant)
 * @inode: its mappings are this attachment's, and nobody else's (invariant)
 * @mm: address space that the endpoint belongs to, NULL before the anchor (set once under
 *	ep->ready_lock)
 * @pid: the process that mapped the anchor (like @mm)
 * @anchor: the page that user space reads (written under ep->ready_lock)
 * @anchors: VMAs of the anchor; 2 for a moment in mremap
 * @wq: SYNC's waiters and pollers
 */
struct shmipc_attachment {
	refcount_t ref;
	struct shmipc_endpoint *ep;
	struct file *file;
	struct inode *inode;
	struct mm_struct *mm;
	struct pid *pid;
	struct shmipc_anchor *anchor;
	atomic_t anchors;
	wait_queue_head_t wq;
	struct rcu_head rcu;
};

enum shmipc_ending {
	SHMIPC_ENDING_NOT,
	SHMIPC_ENDING_DIED,
	SHMIPC_ENDING_CLOSED,
};

/**
 * struct shmipc_endpoint - an identity and what it has
 * @ref: attachment, objects, views, death work
 * @ending: enum shmipc_ending, leaves NOT once
 * @cred: at open (invariant)
 * @user: of cred->euid (invariant)
 * @lock: see main.h
 * @dead: nothing is published any more (protected by @lock)
 * @handles: handle to object (publication under @lock, lookup under RCU)
 * @objects: how many handles there are of each kind
 * @pages: of the segments that it owns, or was the last to own, and that are still there
 * @limbo: how many of those it has given and nobody has taken
 * @next_handle: where allocation goes on (protected by xa_lock of @handles)
 * @ready_lock: see ready.h
 * @ready: objects with causes (protected by @ready_lock)
 * @att: NULL after release (protected by @ready_lock)
 * @view_lock: see view.h
 * @views: by offset (protected by @view_lock)
 * @view_cursor: where the search for an offset goes on (protected by @view_lock)
 * @views_closed: no more views (protected by @view_lock)
 * @death: the work of ENDING
 * @over: it is done
 */
struct shmipc_endpoint {
	struct kref ref;
	atomic_t ending;
	const struct cred *cred;
	struct shmipc_user *user;

	struct mutex lock;
	bool dead;
	struct xarray handles;
	atomic_t objects[SHMIPC_KINDS];
	atomic_long_t pages;
	atomic_t limbo;
	u32 next_handle;

	spinlock_t ready_lock;
	struct list_head ready;
	struct shmipc_attachment *att;

	spinlock_t view_lock;
	struct rb_root views;
	unsigned long view_cursor;
	bool views_closed;

	struct work_struct death;
	struct completion over;
	struct rcu_head rcu;
};

static inline struct shmipc_endpoint *shmipc_endpoint_get(struct shmipc_endpoint *ep)
{
	kref_get(&ep->ref);
	return ep;
}

void shmipc_endpoint_put(struct shmipc_endpoint *ep);

static inline bool shmipc_endpoint_ending(struct shmipc_endpoint *ep)
{
	return atomic_read(&ep->ending) != SHMIPC_ENDING_NOT;
}

static inline bool shmipc_endpoint_died(struct shmipc_endpoint *ep)
{
	return atomic_read(&ep->ending) == SHMIPC_ENDING_DIED;
}

/* Safe under any lock but ready_lock. Only the first call of an endpoint counts. */
void shmipc_endpoint_end(struct shmipc_endpoint *ep, enum shmipc_ending how);
/* What a peer may know, translated for current. */
void shmipc_endpoint_describe(struct shmipc_endpoint *ep, struct shmipc_peer *peer);

/* For fdinfo. */
void shmipc_endpoint_show(struct shmipc_endpoint *ep, struct seq_file *m);

/* NULL after release: then no mapping is left either. */
struct shmipc_attachment *shmipc_attachment_get(struct shmipc_endpoint *ep);
void shmipc_attachment_put(struct shmipc_attachment *att);

/* May current use it? */
static inline int shmipc_attachment_check(struct shmipc_attachment *att)
{
	/* Pairs with the release at binding. */
	struct mm_struct *mm = smp_load_acquire(&att->mm);

	if (unlikely(!mm))
		return -EINVAL;
	if (unlikely(mm != current->mm))
		return -EPERM;
	if (unlikely(shmipc_endpoint_ending(att->ep)))
		return -ESTALE;
	return 0;
}

int shmipc_attachment_open(struct file *file);
int shmipc_attachment_release(struct file *file);
int shmipc_anchor_mmap(struct shmipc_attachment *att, struct vm_area_struct *vma);

int shmipc_close(struct shmipc_call *call);

int shmipc_endpoint_init(void);
void shmipc_endpoint_exit(void);

#endif
