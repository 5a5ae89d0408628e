/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * segment.h - pinned, zeroed, charged pages
 *
 *	owned --close or death of the owner--> kept by grants --last one--> freed
 *	    \------------------no grants-------------------------------------^
 *
 * The owner's handle and every view hold a reference; the pages go with the last. The charge is the
 * creator's; when the owner goes and somebody has it mapped, it moves to that one's user, unless it
 * would be over his cap.
 */
#ifndef _SHMIPC_SEGMENT_H
#define _SHMIPC_SEGMENT_H

#include <linux/list.h>
#include <linux/spinlock.h>

#include "handle.h"
#include "main.h"

struct shmipc_side;
struct shmipc_user;
struct shmipc_view;

/**
 * struct shmipc_segment - pinned pages
 * @obj: its head; obj.ep is the creator's
 * @npages: length (invariant)
 * @pages: the pages (invariant)
 * @owner: the owner's view (invariant; dropped by who takes the handle)
 * @lock: protects what follows
 * @owned: the owner has not gone (protected by @lock)
 * @user: charged (protected by @lock)
 * @views: the grants (protected by @lock)
 * @nr_grants: length of @views (protected by @lock)
 */
struct shmipc_segment {
	struct shmipc_object obj;
	unsigned long npages;
	struct page **pages;
	struct shmipc_view *owner;
	spinlock_t lock;
	bool owned;
	struct shmipc_user *user;
	struct list_head views;
	u32 nr_grants;
	struct rcu_head rcu;
};

#define SHMIPC_SEGMENT_PAGES_MAX	(1UL << 26)

static inline struct shmipc_segment *shmipc_segment_of(struct shmipc_object *obj)
{
	return container_of(obj, struct shmipc_segment, obj);
}

void shmipc_segment_free(struct shmipc_segment *seg);
void shmipc_segment_close(struct shmipc_segment *seg);

/* For views alone. */
void shmipc_segment_add_view(struct shmipc_segment *seg, struct shmipc_view *view);
void shmipc_segment_remove_view(struct shmipc_segment *seg, struct shmipc_view *view);
/* Has @granter granted it already? */
bool shmipc_segment_granted(struct shmipc_segment *seg, const struct shmipc_side *granter);

/* After a view was mapped: the owner may have gone before there was anybody who could pay. */
void shmipc_segment_settle(struct shmipc_segment *seg);

int shmipc_seg_create(struct shmipc_call *call);
int shmipc_seg_info(struct shmipc_call *call);

#endif
