/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * segment.h - pinned, zeroed, charged pages
 *
 *	owned --close or death of the owner--> kept by grants --last one--> freed
 *	    \------------------no grants-------------------------------------^
 *
 * The pages go with the last of owner and grants, the struct with the last view: a former owner may
 * still have a handle. The charge is the owner's; when he goes and somebody has it mapped, it moves
 * to that one's user, unless it would be over his cap. How ownership moves is in give.h.
 */
#ifndef _SHMIPC_SEGMENT_H
#define _SHMIPC_SEGMENT_H

#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/spinlock.h>

#include "main.h"
#include "view.h"

struct shmipc_side;
struct shmipc_user;

/**
 * struct shmipc_segment - pinned pages
 * @ref: views, and their maker until there is one
 * @npages: length (invariant)
 * @pages: the pages; they are there as long as @owner or a grant is
 * @moves: held by who moves ownership, or ends a grant (mutex; see main.h)
 * @frozen: the owner may not write (protected by @moves)
 * @lock: protects what follows
 * @owner: the owner's view; NULL when he has gone (protected by @lock)
 * @given: the grant to which it is given, and in limbo; or NULL (written under @moves and @lock)
 * @user: charged (protected by @lock)
 * @ep: the owner's, or the last owner's, which counts the pages; referenced (like @given)
 * @views: the grants (protected by @lock)
 * @nr_grants: length of @views (protected by @lock)
 */
struct shmipc_segment {
	refcount_t ref;
	unsigned long npages;
	struct page **pages;
	struct mutex moves;
	bool frozen;
	spinlock_t lock;
	struct shmipc_view *owner;
	struct shmipc_view *given;
	struct shmipc_user *user;
	struct shmipc_endpoint *ep;
	struct list_head views;
	u32 nr_grants;
};

#define SHMIPC_SEGMENT_PAGES_MAX	(1UL << 26)

/* Of the handle of an owner, or of a former one. */
static inline struct shmipc_segment *shmipc_segment_of(struct shmipc_object *obj)
{
	return shmipc_view_of(obj)->segment;
}

struct shmipc_segment *shmipc_segment_get(struct shmipc_segment *seg);
void shmipc_segment_put(struct shmipc_segment *seg);

/*
 * Is @view, of a handle, the owner's? -ENOENT: it was closed, -ESTALE: another has taken it,
 * -EBUSY: it is given.
 */
int shmipc_segment_check_locked(struct shmipc_segment *seg, const struct shmipc_view *view);

/* What its owner may do when it is not given; without seg->moves a freeze may be under way. */
u32 shmipc_segment_rights(const struct shmipc_segment *seg);

/* For views alone. */
int shmipc_segment_add_grant(struct shmipc_view *owner, struct shmipc_view *view);
void shmipc_segment_remove_view(struct shmipc_segment *seg, struct shmipc_view *view);
/* Has @granter granted it already? */
bool shmipc_segment_granted(struct shmipc_segment *seg, const struct shmipc_side *granter);

/* Of who owns it; 0: nobody, it was closed. */
u32 shmipc_segment_handle(struct shmipc_segment *seg);

/* After a view was mapped: the owner may have gone before there was anybody who could pay. */
void shmipc_segment_settle(struct shmipc_segment *seg);

/*
 * The one place where ownership moves, with seg->moves held: @view, the owner's or a grant, is the
 * owner's from now on, given to nobody, and @user pays. What @view may do is the caller's. -EDQUOT:
 * nothing moved.
 */
int shmipc_segment_move(struct shmipc_view *view, struct shmipc_user *user);

int shmipc_seg_create(struct shmipc_call *call);
int shmipc_seg_info(struct shmipc_call *call);

#endif
