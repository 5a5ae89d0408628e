/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * view.h - a segment as one endpoint may map it
 *
 * The owner has a view that can be written, each grant is a view of the endpoint that it was
 * made to, read-only. A view has a place in its endpoint's space of mmap offsets.
 *
 *	new --place--> placed --drop--> revoked, zapped, then off the offsets
 *	   \------------drop----------------^
 *
 * A VMA holds no reference to anything: it stores the view's id by value. Pages get into it by
 * ->fault alone, which looks the view up by offset, compares the id and holds view->sem while it
 * looks at the rights and makes page-table entries. To revoke is to take the sem for writing, clear
 * the rights, release, then zap: a fault either comes before, and is zapped, or sees no right. An
 * offset is given to another view only after the zap, and the segment is kept until then.
 */
#ifndef _SHMIPC_VIEW_H
#define _SHMIPC_VIEW_H

#include <linux/mm_types.h>
#include <linux/rbtree.h>
#include <linux/refcount.h>
#include <linux/rwsem.h>

#include "main.h"

struct shmipc_segment;

/**
 * struct shmipc_view - a segment as one endpoint may map it
 * @ref: owner or slot, and faults under way
 * @node: in ep->views (protected by ep->view_lock)
 * @start: offset in pages (invariant after placing)
 * @npages: length (invariant)
 * @id: unique for ever (invariant)
 * @ep: who may map it, referenced; NULL before placing
 * @segment: referenced (invariant)
 * @sem: against faults
 * @rights: SHMIPC_RIGHT_* (written under @sem, cleared once)
 * @link: in segment->views (protected by segment->lock)
 */
struct shmipc_view {
	refcount_t ref;
	struct rb_node node;
	unsigned long start;
	unsigned long npages;
	u64 id;
	struct shmipc_endpoint *ep;
	struct shmipc_segment *segment;
	struct rw_semaphore sem;
	u32 rights;
	struct list_head link;
	struct rcu_head rcu;
};

/* Of all that the module maps: no pin, no fork, no dump, no growth, no merge. */
#define SHMIPC_VM_FLAGS	(VM_PFNMAP | VM_IO | VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP)

struct shmipc_view *shmipc_view_new(struct shmipc_segment *segment, u32 rights);
/* Allocates nothing. -ESTALE when @ep has ended, -ENOSPC without room. */
int shmipc_view_place(struct shmipc_view *view, struct shmipc_endpoint *ep);
/* The caller's reference goes. When it returns, nobody has it mapped. */
void shmipc_view_drop(struct shmipc_view *view);
/* Takes every right of an endpoint that ends, and zaps all. */
void shmipc_views_close(struct shmipc_endpoint *ep);
int shmipc_view_mmap(struct shmipc_attachment *att, struct vm_area_struct *vma);

#endif
