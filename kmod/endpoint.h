/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * endpoint.h - endpoints, and the attachments through which processes hold them
 *
 * An endpoint is an identity: the credentials at open, handles and what they name, a
 * ready list. Its attachment is how a process holds it now: file, address space, anchor page,
 * inode, wait queue. They are apart because a handover changes the second and not the first:
 * handover.h has the states of attachments, orphan.h those of an endpoint that nobody holds.
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
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "account.h"
#include "handle.h"
#include "main.h"
#include "orphan.h"

struct seq_file;
struct shmipc_offering;
struct shmipc_user;

/* What an attachment is to its endpoint. See handover.h for who leads from one to another. */
enum shmipc_hold {
	SHMIPC_HOLD_ACTIVE,
	SHMIPC_HOLD_YIELDED,
	SHMIPC_HOLD_ADOPTING,
	SHMIPC_HOLD_GONE,
};

/**
 * struct shmipc_attachment - how a process holds an endpoint
 * @ref: the file's, ep->next's, and one for each zap under way
 * @ep: referenced (invariant)
 * @file: not referenced: the attachment is the file's (invariant)
 * @user: of the file's credentials: who pays for what is made through it (invariant)
 * @hold: enum shmipc_hold (written under ep->ready_lock; to and from YIELDED, to ADOPTING and
 *	ACTIVE under ep->lock too)
 * @sem: against faults
 * @rights: SHMIPC_RIGHT_* that its mappings can have at all (written under @sem)
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
	struct shmipc_user *user;
	u32 hold;
	struct rw_semaphore sem;
	u32 rights;
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
 * @ref: attachments, objects, views, works under way
 * @ending: enum shmipc_ending, leaves NOT once (written under @ready_lock)
 * @cred: of the open that it is held by (written under @lock and @ready_lock)
 * @generation: COMMITs until now (like @cred)
 * @user: of cred->euid (like @cred)
 * @lock: see main.h
 * @dead: nothing is published any more (protected by @lock)
 * @handles: handle to object (publication under @lock, lookup under RCU)
 * @objects: how many handles there are of each kind
 * @pages: of the segments that it owns, or was the last to own, and that are still there
 * @limbo: how many of those it has given and nobody has taken
 * @next_handle: where allocation goes on (protected by xa_lock of @handles)
 * @ready_lock: see ready.h
 * @ready: objects with causes (protected by @ready_lock)
 * @att: who holds it; NULL of an orphan and after release (protected by @ready_lock)
 * @next: who adopts it, referenced, or NULL (written under @lock and @ready_lock)
 * @offer: an open offer, or NULL (like @next)
 * @blob: handle of the segment with the state, of the last offer, or 0 (like @next)
 * @reserve: what the adopter's user was charged in advance (protected by @lock)
 * @orphan: see orphan.h
 * @settle: what to do when an attachment was lost
 * @timer: the deadline of the offer, or the end of the orphan's time
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
	u32 generation;
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
	struct shmipc_attachment *next;
	struct shmipc_offering *offer;
	u32 blob;

	struct shmipc_holdings reserve;
	struct shmipc_orphan orphan;
	struct work_struct settle;
	struct delayed_work timer;

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

struct shmipc_endpoint *shmipc_endpoint_new(const struct cred *cred, struct shmipc_user *user);
/* Safe under any lock but ready_lock. Only the first call of an endpoint counts. */
void shmipc_endpoint_end(struct shmipc_endpoint *ep, enum shmipc_ending how);
void shmipc_endpoint_end_locked(struct shmipc_endpoint *ep, enum shmipc_ending how);
kuid_t shmipc_endpoint_uid(struct shmipc_endpoint *ep);
/* Takes the pages at @start (0, 0: all) out of every mapping that there is of this endpoint. */
void shmipc_endpoint_zap(struct shmipc_endpoint *ep, unsigned long start, unsigned long npages);
/* What a peer may know, translated for current. True: nobody goes on with it just now. */
bool shmipc_endpoint_describe(struct shmipc_endpoint *ep, struct shmipc_peer *peer);

/* For fdinfo. */
void shmipc_attachment_show(struct shmipc_attachment *att, struct seq_file *m);

struct shmipc_attachment *shmipc_attachment_new(const struct cred *cred);
void shmipc_attachment_install(struct shmipc_attachment *att, struct file *file);
/* Who holds @ep and who adopts it, each referenced, or NULL. */
void shmipc_attachments_get(struct shmipc_endpoint *ep, struct shmipc_attachment *att[2]);
void shmipc_attachment_put(struct shmipc_attachment *att);

/* May its requests be served? With ep->lock held that stays so, unless its anchor is lost. */
static inline int shmipc_hold_status(u32 hold)
{
	if (likely(hold == SHMIPC_HOLD_ACTIVE))
		return 0;
	return hold == SHMIPC_HOLD_GONE ? -ESTALE : -EBUSY;
}

static inline int shmipc_attachment_status(const struct shmipc_attachment *att)
{
	return shmipc_hold_status(READ_ONCE(att->hold));
}

/* Is it current's? */
static inline int shmipc_attachment_mine(struct shmipc_attachment *att)
{
	/* Pairs with the release at binding. */
	struct mm_struct *mm = smp_load_acquire(&att->mm);

	if (unlikely(!mm))
		return -EINVAL;
	return unlikely(mm != current->mm) ? -EPERM : 0;
}

/* May current use it? */
static inline int shmipc_attachment_check(struct shmipc_attachment *att)
{
	return shmipc_attachment_mine(att) ?: shmipc_attachment_status(att);
}

/* Changes what faults may do from here on; those under way are over when it returns. */
void shmipc_attachment_set_rights(struct shmipc_attachment *att, u32 rights);
/* Takes all rights, and zaps. */
void shmipc_attachment_revoke(struct shmipc_attachment *att);
/*
 * Takes ep->lock for a change that only the holder may make: a request may have been long on its
 * way, and the endpoint is another's by now. On an error it is not taken.
 */
int shmipc_holder_lock(struct shmipc_attachment *att);
void shmipc_attachment_gone_locked(struct shmipc_attachment *att, u32 state);
/* It was lost or closed, and perhaps the endpoint with it. -ESTALE: before that already. */
int shmipc_attachment_end(struct shmipc_attachment *att, enum shmipc_ending how);

int shmipc_attachment_open(struct file *file);
int shmipc_attachment_release(struct file *file);
int shmipc_anchor_mmap(struct shmipc_attachment *att, struct vm_area_struct *vma);

int shmipc_close(struct shmipc_call *call);

/* Of the works of endpoints: exit waits for it, and it makes progress when memory is short. */
extern struct workqueue_struct *shmipc_wq;

int shmipc_endpoint_init(void);
void shmipc_endpoint_exit(void);

#endif
