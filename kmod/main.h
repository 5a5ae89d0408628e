/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * main.h - what every part of the module shares
 *
 * An open of /dev/shmipc makes an endpoint (identity, handles, ready list) and its
 * attachment (file, address space, anchor page, inode, wait queue). Handles name three
 * kinds of objects: segments, listeners and sessions (one side each). A view is a
 * segment as one endpoint may map it.
 *
 * Locks, outermost first:
 *
 *	ep->lock			handle table against death and handover; never two
 *	  names->mutex			the names of a network namespace
 *	  segment->moves		ownership and grants of one segment (mutex, never two)
 *	    listener->lock		queue, quotas (spin)
 *	      session->lock		state of both sides, slots (spin)
 *	        ep->view_lock		offsets (spin, never two)
 *	        ep->ready_lock		ready list, causes, ep->att (spin, never two)
 *	          att->wq.lock		the core's
 *	        segment->lock		views of it, who is charged (spin)
 *	          ep->ready_lock	also ep->user
 *	  orphans_mutex			the list of orphans
 *
 *	mmap_lock, ep->lock, segment->moves
 *	  att->sem			rights of an attachment, against faults
 *	    view->sem			rights to a segment, likewise
 *	      page-table lock
 *	  ep->view_lock, ep->ready_lock
 *
 * What ->mmap, ->fault and vm_ops take (att->sem, view->sem, view_lock, ready_lock) is never held
 * across copy_*_user, allocation, fput or unmap_mapping_range. For segment->moves that is true but
 * for the last: who ends a right holds it until that is gone, and death waits for it. ep->lock is
 * held for as long as an endpoint's own process likes (a handover unmaps all that it has), so who
 * holds what others need, a namespace's names or a segment's moves, does not take it.
 *
 * RCU: endpoints, attachments, sessions, listeners and views are freed after a grace period, so
 * that ringing a doorbell takes no reference.
 */
#ifndef _SHMIPC_MAIN_H
#define _SHMIPC_MAIN_H

#include <linux/fs.h>
#include <linux/types.h>

#include "../uapi/shmipc.h"

struct shmipc_attachment;
struct shmipc_endpoint;

/**
 * struct shmipc_call - one request on its way
 * @att: through which it came
 * @ep: att's endpoint
 * @uarg: the caller's struct
 * @usize: its size
 * @size: the size of @arg
 * @arg: a private copy
 */
struct shmipc_call {
	struct shmipc_attachment *att;
	struct shmipc_endpoint *ep;
	void __user *uarg;
	u32 usize;
	u32 size;
	void *arg;
};

int shmipc_call_read(struct shmipc_call *call, u32 min_size);
/* Copies out what was answered. Before this, nothing that it names may be published. */
int shmipc_call_respond(struct shmipc_call *call);

extern const struct file_operations shmipc_fops;

/* An inode of the pseudo file system; pins it, and with it the module. */
struct inode *shmipc_inode_new(void);
void shmipc_inode_put(struct inode *inode);

#endif
