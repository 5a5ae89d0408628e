/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * view.h - a segment as one endpoint may map it (view.c: its life and its place; mapping.c: mmap)
 *
 * The owner has a view that can be written, each grant is a view of the endpoint that it was
 * made to, read-only. A view has a place in its endpoint's space of mmap offsets.
 *
 *	new --place--> placed --drop--> revoked, zapped, then off the offsets
 *	   \------------drop----------------^
 *
 * A handle of a segment names the view of its owner: of the maker's from the start, of a receiver's
 * from its TAKE on. A giver keeps its own, without any right, until it closes it.
 *
 * A VMA holds no reference to anything: it stores the view's id by value. Pages get into it by
 * ->fault alone, which looks the view up by offset, compares the id and holds view->sem while it
 * looks at the rights and makes page-table entries. To revoke is to take the sem for writing, clear
 * the rights, release, then zap: a fault either comes before, and is zapped, or sees no right. An
 * offset is given to another view only after the zap, and the pages are kept until then. A VMA that
 * may be written, of a view that may not any more, gets entries for reading alone; nothing but
 * ->fault and ->pfn_mkwrite makes one that can be written. What an attachment may have at all is
 * att->rights, under att->sem, in the same way.
 *
 * A touch without a right is SIGBUS, or, where the reader asked for it when the session was made,
 * finds zeros: else a peer could kill it by a revoke that comes at the wrong moment. Likewise
 * what a successor maps before COMMIT, whose offer may end while it looks.
 */
#ifndef _SHMIPC_VIEW_H
#define _SHMIPC_VIEW_H

#include <linux/mm_types.h>
#include <linux/rbtree.h>
#include <linux/rwsem.h>

#include "handle.h"
#include "main.h"

struct shmipc_segment;
struct shmipc_side;

/**
 * struct shmipc_view - a segment as one endpoint may map it
 * @obj: its head; references are the handle's or the slot's, and those of faults under way; @ep is
 *	who may map it, NULL before placing; @handle is the owner's or former owner's, else 0
 * @node: in ep->views (protected by ep->view_lock)
 * @gap: free pages between this view and the one before it (protected by ep->view_lock)
 * @max_gap: the largest @gap of the subtree below @node (protected by ep->view_lock)
 * @start: offset in pages (invariant after placing)
 * @npages: length (invariant)
 * @id: unique for ever (invariant)
 * @segment: referenced (invariant)
 * @granter: the side that granted it; of grants alone (invariant after placing)
 * @sem: against faults
 * @rights: SHMIPC_RIGHT_* (written under @sem)
 * @revoked: they are gone for good (protected by @sem)
 * @zero: what was revoked reads as zeros (invariant after placing)
 * @mapped: it was mmapped once: who has it pays for it, if its owner goes (set once)
 * @vmas: that map it
 * @link: in segment->views, of grants alone (protected by segment->lock)
 */
struct shmipc_view {
	struct shmipc_object obj;
	struct rb_node node;
	unsigned long gap;
	unsigned long max_gap;
	unsigned long start;
	unsigned long npages;
	u64 id;
	struct shmipc_segment *segment;
	struct shmipc_side *granter;
	struct rw_semaphore sem;
	u32 rights;
	bool revoked;
	bool zero;
	bool mapped;
	atomic_t vmas;
	struct list_head link;
	struct rcu_head rcu;
};

/* Of all that the module maps: no pin, no fork, no dump, no growth, no merge. */
#define SHMIPC_VM_FLAGS	(VM_PFNMAP | VM_IO | VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP)

/* A view can be mapped so often at once: what a revoke has to zap must not be its peer's choice. */
#define SHMIPC_VIEW_VMAS_MAX	16
/* Those that were cut into pieces included. */
#define SHMIPC_VIEW_PIECES_MAX	64

static inline struct shmipc_view *shmipc_view_of(struct shmipc_object *obj)
{
	return container_of(obj, struct shmipc_view, obj);
}

/* The owner's, of a segment that nobody else knows. NULL without memory. */
struct shmipc_view *shmipc_view_new(struct shmipc_segment *segment);
/* For a grant by who has @owner. -ESTALE: that is the owner's no more, -EBUSY: it is given. */
struct shmipc_view *shmipc_view_grant(struct shmipc_view *owner);
void shmipc_view_free(struct shmipc_view *view);
/* Allocates nothing. -ESTALE when @ep has ended, -ENOSPC without room. */
int shmipc_view_place(struct shmipc_view *view, struct shmipc_endpoint *ep);
/* Under RCU: a reference, unless it is on its way to be freed. */
bool shmipc_view_tryget(struct shmipc_view *view);
void shmipc_view_put(struct shmipc_view *view);
/* When it returns, nobody has it mapped. Any number may do it, in any order with drop. */
void shmipc_view_revoke(struct shmipc_view *view);
/* Other rights, unless it was revoked. When it returns, nobody can do what they do not allow. */
void shmipc_view_change(struct shmipc_view *view, u32 rights);
/* Revokes, and gives back the place and the caller's reference. */
void shmipc_view_drop(struct shmipc_view *view);
/* Takes every right of an endpoint that ends, and zaps all. */
void shmipc_views_close(struct shmipc_endpoint *ep);
/* The view that has the page at offset @pgoff, with a reference, or NULL. */
struct shmipc_view *shmipc_view_find(struct shmipc_endpoint *ep, unsigned long pgoff);
int shmipc_view_mmap(struct shmipc_attachment *att, struct vm_area_struct *vma);

#endif
