// SPDX-License-Identifier: GPL-2.0-only
#include <linux/mm.h>
#include <linux/rbtree_augmented.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "account.h"
#include "endpoint.h"
#include "segment.h"
#include "view.h"

/* The first 2 MiB of offsets are the anchor's and what else is special. */
#define OFFSET_FIRST	(1UL << (21 - PAGE_SHIFT))
#define OFFSET_END	(1UL << (44 - PAGE_SHIFT))

static atomic64_t last_id;

/* ---- life ---- */

static struct shmipc_view *view_new(struct shmipc_segment *segment, u32 rights)
{
	struct shmipc_view *view = kzalloc(sizeof(*view), GFP_KERNEL_ACCOUNT);

	if (!view)
		return NULL;
	shmipc_object_init(&view->obj, SHMIPC_KIND_SEGMENT, NULL);
	view->npages = segment->npages;
	view->id = atomic64_inc_return(&last_id);
	init_rwsem(&view->sem);
	view->rights = rights;
	INIT_LIST_HEAD(&view->link);
	view->segment = shmipc_segment_get(segment);
	shmipc_live_inc(views);
	return view;
}

struct shmipc_view *shmipc_view_new(struct shmipc_segment *segment)
{
	struct shmipc_view *view = view_new(segment, SHMIPC_RIGHT_READ | SHMIPC_RIGHT_WRITE);

	if (view)
		segment->owner = view;
	return view;
}

struct shmipc_view *shmipc_view_grant(struct shmipc_view *owner)
{
	struct shmipc_view *view = view_new(owner->segment, SHMIPC_RIGHT_READ);
	int err;

	if (!view)
		return ERR_PTR(-ENOMEM);
	err = shmipc_segment_add_grant(owner, view);
	if (!err)
		return view;
	shmipc_view_put(view);
	return ERR_PTR(err);
}

void shmipc_view_free(struct shmipc_view *view)
{
	if (view->obj.ep)
		shmipc_endpoint_put(view->obj.ep);
	shmipc_segment_put(view->segment);
	kfree_rcu(view, rcu);
	shmipc_live_dec(views);
}

bool shmipc_view_tryget(struct shmipc_view *view)
{
	return refcount_inc_not_zero(&view->obj.ref);
}

void shmipc_view_put(struct shmipc_view *view)
{
	shmipc_object_put(&view->obj);
}

static void take_rights(struct shmipc_view *view)
{
	down_write(&view->sem);
	view->rights = 0;
	WRITE_ONCE(view->revoked, true);
	up_write(&view->sem);
}

static void view_zap(struct shmipc_view *view)
{
	shmipc_endpoint_zap(view->obj.ep, view->start, view->npages);
}

void shmipc_view_revoke(struct shmipc_view *view)
{
	take_rights(view);
	/* Pairs with the release when it was placed. */
	if (smp_load_acquire(&view->obj.ep))
		view_zap(view);
}

/* Also where there was no right before: a reader may have zeros mapped that stood in for it. */
void shmipc_view_change(struct shmipc_view *view, u32 rights)
{
	u32 former;

	down_write(&view->sem);
	former = view->rights;
	if (!view->revoked)
		view->rights = rights;
	up_write(&view->sem);
	if (!former || former & ~rights)
		view_zap(view);
}

/* ---- offsets ---- */

/*
 * Views by offset, each with the gap before it and the largest gap below it, so that room is found
 * in a number of steps that the number of views hardly changes: the lock is a spinlock, and who
 * fills an endpoint's offsets is its peer.
 */
static unsigned long view_gap(struct shmipc_view *view)
{
	return view->gap;
}

RB_DECLARE_CALLBACKS_MAX(static, gaps, struct shmipc_view, node, unsigned long, max_gap, view_gap)

static struct shmipc_view *view_at(struct rb_node *n)
{
	return rb_entry_safe(n, struct shmipc_view, node);
}

static unsigned long view_end(const struct shmipc_view *view)
{
	return view ? view->start + view->npages : OFFSET_FIRST;
}

static void set_gap(struct shmipc_view *view, const struct shmipc_view *before)
{
	view->gap = view->start - view_end(before);
	gaps_propagate(&view->node, NULL);
}

/* The first view that ends after @at. */
static struct shmipc_view *view_after(struct shmipc_endpoint *ep, unsigned long at)
{
	struct rb_node *n = ep->views.rb_node;
	struct shmipc_view *best = NULL, *view;

	while (n) {
		view = rb_entry(n, struct shmipc_view, node);
		if (view_end(view) > at) {
			best = view;
			n = n->rb_left;
		} else {
			n = n->rb_right;
		}
	}
	return best;
}

static bool subtree_has(struct rb_node *n, unsigned long npages)
{
	return n && view_at(n)->max_gap >= npages;
}

/* Of a subtree that has one. */
static struct shmipc_view *leftmost_with_gap(struct rb_node *n, unsigned long npages)
{
	for (;;) {
		while (subtree_has(n->rb_left, npages))
			n = n->rb_left;
		if (view_at(n)->gap >= npages)
			return view_at(n);
		n = n->rb_right;
	}
}

/* The first view behind @view that has @npages before it. */
static struct shmipc_view *next_with_gap(struct shmipc_view *view, unsigned long npages)
{
	struct rb_node *n = &view->node, *parent;

	if (subtree_has(n->rb_right, npages))
		return leftmost_with_gap(n->rb_right, npages);
	for (; (parent = rb_parent(n)); n = parent) {
		if (n != parent->rb_left)
			continue;
		if (view_at(parent)->gap >= npages)
			return view_at(parent);
		if (subtree_has(parent->rb_right, npages))
			return leftmost_with_gap(parent->rb_right, npages);
	}
	return NULL;
}

/* Where @npages are free from @low on; perhaps not before OFFSET_END. */
static unsigned long gap_from(struct shmipc_endpoint *ep, unsigned long npages, unsigned long low)
{
	struct shmipc_view *view = view_after(ep, low);

	if (!view || (view->start > low && view->start - low >= npages))
		return low;
	view = next_with_gap(view, npages);
	return view ? view->start - view->gap : view_end(view_at(rb_last(&ep->views)));
}

/* Next fit, so that offsets are not used again soon. 0: no room. */
static unsigned long find_gap(struct shmipc_endpoint *ep, unsigned long npages)
{
	/* Large ones at 2 MiB, so that page tables can be filled as a whole. */
	unsigned long align = npages >= OFFSET_FIRST ? OFFSET_FIRST : 1;
	unsigned long need = npages + align - 1;
	unsigned long at;

	at = gap_from(ep, need, max(ep->view_cursor, OFFSET_FIRST));
	if (need > OFFSET_END - at)
		at = gap_from(ep, need, OFFSET_FIRST);
	return need > OFFSET_END - at ? 0 : ALIGN(at, align);
}

static void insert_locked(struct shmipc_endpoint *ep, struct shmipc_view *view)
{
	struct rb_node **link = &ep->views.rb_node, *parent = NULL;
	struct shmipc_view *before = NULL, *after = NULL;

	lockdep_assert_held(&ep->view_lock);
	while (*link) {
		parent = *link;
		if (view->start < view_at(parent)->start) {
			after = view_at(parent);
			link = &parent->rb_left;
		} else {
			before = view_at(parent);
			link = &parent->rb_right;
		}
	}
	if (after)
		set_gap(after, view);
	rb_link_node(&view->node, parent, link);
	view->max_gap = 0;
	set_gap(view, before);
	rb_insert_augmented(&view->node, &ep->views, &gaps);
}

static void view_unplace(struct shmipc_view *view)
{
	struct shmipc_endpoint *ep = view->obj.ep;
	struct shmipc_view *before, *after;

	spin_lock(&ep->view_lock);
	before = view_at(rb_prev(&view->node));
	after = view_at(rb_next(&view->node));
	rb_erase_augmented(&view->node, &ep->views, &gaps);
	if (after)
		set_gap(after, before);
	spin_unlock(&ep->view_lock);
}

int shmipc_view_place(struct shmipc_view *view, struct shmipc_endpoint *ep)
{
	int err = 0;

	spin_lock(&ep->view_lock);
	if (ep->views_closed) {
		err = -ESTALE;
		goto out;
	}
	view->start = find_gap(ep, view->npages);
	if (!view->start) {
		err = -ENOSPC;
		goto out;
	}
	/* Pairs with the looks for an heir and for what to zap, which have not our lock. */
	smp_store_release(&view->obj.ep, shmipc_endpoint_get(ep));
	ep->view_cursor = view->start + view->npages;
	insert_locked(ep, view);
out:
	spin_unlock(&ep->view_lock);
	return err;
}

void shmipc_view_drop(struct shmipc_view *view)
{
	shmipc_view_revoke(view);
	if (view->obj.ep)
		view_unplace(view);
	/* A fault that still holds the view sees no right, and touches no page. */
	shmipc_segment_remove_view(view->segment, view);
	shmipc_view_put(view);
}

struct shmipc_view *shmipc_view_find(struct shmipc_endpoint *ep, unsigned long pgoff)
{
	struct shmipc_view *view;

	spin_lock(&ep->view_lock);
	view = view_after(ep, pgoff);
	if (view && (view->start > pgoff || !shmipc_view_tryget(view)))
		view = NULL;
	spin_unlock(&ep->view_lock);
	return view;
}

/* The first view from @pgoff on that was not revoked, with a reference. */
static struct shmipc_view *view_not_revoked(struct shmipc_endpoint *ep, unsigned long pgoff)
{
	struct shmipc_view *view;
	struct rb_node *n;

	spin_lock(&ep->view_lock);
	view = view_after(ep, pgoff);
	while (view && (READ_ONCE(view->revoked) || !shmipc_view_tryget(view))) {
		n = rb_next(&view->node);
		view = view_at(n);
	}
	spin_unlock(&ep->view_lock);
	return view;
}

void shmipc_views_close(struct shmipc_endpoint *ep)
{
	struct shmipc_view *view;
	unsigned long at = 0;

	spin_lock(&ep->view_lock);
	ep->views_closed = true;
	spin_unlock(&ep->view_lock);
	while ((view = view_not_revoked(ep, at))) {
		at = view->start + view->npages;
		take_rights(view);
		shmipc_view_put(view);
		cond_resched();
	}
	shmipc_endpoint_zap(ep, 0, 0);
}

#ifdef CONFIG_SHMIPC_KUNIT_TEST
#include "tests/view_test.c"
#endif
