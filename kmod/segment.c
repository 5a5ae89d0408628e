// SPDX-License-Identifier: GPL-2.0-only
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "account.h"
#include "endpoint.h"
#include "segment.h"
#include "session.h"
#include "view.h"

#define CHUNK_ORDER	(21 - PAGE_SHIFT)	/* 2 MiB; larger is cleared too long at once */

/* ---- pages ---- */

static void pages_release(struct page **pages, unsigned long n)
{
	unsigned long i;

	for (i = 0; i < n; i++) {
		__free_page(pages[i]);
		if (i % 512 == 511)
			cond_resched();
	}
}

static void pages_free(struct page **pages, unsigned long n)
{
	pages_release(pages, n);
	kvfree(pages);
}

/* Large chunks only as long as they come for free: nothing is reclaimed or compacted for them. */
static struct page *alloc_chunk(unsigned int *order)
{
	gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN;
	struct page *page;

	while (*order) {
		page = alloc_pages((gfp & ~__GFP_RECLAIM) | __GFP_NORETRY, *order);
		if (page) {
			split_page(page, *order);
			return page;
		}
		--*order;
	}
	return alloc_page(gfp | __GFP_RETRY_MAYFAIL);
}

static int pages_fill(struct page **pages, unsigned long n)
{
	unsigned int order = CHUNK_ORDER;
	unsigned long i = 0, k;
	struct page *page;
	int err = -ENOMEM;

	while (i < n) {
		order = min_t(unsigned int, order, ilog2(n - i));
		if (fatal_signal_pending(current)) {
			err = -EINTR;
			goto undo;
		}
		page = alloc_chunk(&order);
		if (!page)
			goto undo;
		for (k = 0; k < 1UL << order; k++)
			pages[i++] = page + k;
		cond_resched();
	}
	return 0;

undo:
	pages_release(pages, i);
	return err;
}

static struct page **pages_alloc(unsigned long n)
{
	struct page **pages;
	int err;

	pages = kvmalloc_array(n, sizeof(*pages), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!pages)
		return ERR_PTR(-ENOMEM);
	err = pages_fill(pages, n);
	if (err) {
		kvfree(pages);
		return ERR_PTR(err);
	}
	return pages;
}

/* ---- life ---- */

/* Charged before anything is allocated; the caller publishes it. */
static struct shmipc_segment *segment_new(struct shmipc_attachment *att, unsigned long npages)
{
	struct shmipc_endpoint *ep = att->ep;
	struct shmipc_segment *seg;
	struct page **pages;
	int err;

	err = shmipc_charge(att->user, npages);
	if (err)
		return ERR_PTR(err);
	pages = pages_alloc(npages);
	if (IS_ERR(pages)) {
		err = PTR_ERR(pages);
		goto err_charge;
	}
	seg = kzalloc(sizeof(*seg), GFP_KERNEL_ACCOUNT);
	if (!seg) {
		err = -ENOMEM;
		goto err_pages;
	}
	refcount_set(&seg->ref, 1);
	seg->npages = npages;
	seg->pages = pages;
	mutex_init(&seg->moves);
	spin_lock_init(&seg->lock);
	seg->user = shmipc_user_get(att->user);
	seg->ep = shmipc_endpoint_get(ep);
	atomic_long_add(npages, &ep->pages);
	INIT_LIST_HEAD(&seg->views);
	shmipc_live_inc(segments);
	shmipc_total_inc(segments);
	return seg;

err_pages:
	pages_free(pages, npages);
err_charge:
	shmipc_uncharge(att->user, npages);
	return ERR_PTR(err);
}

/* Nobody has a right to them, or can get one, and nobody has them mapped. */
static void segment_release(struct shmipc_segment *seg)
{
	pages_free(seg->pages, seg->npages);
	seg->pages = NULL;
	shmipc_uncharge(seg->user, seg->npages);
	shmipc_user_put(seg->user);
	atomic_long_sub(seg->npages, &seg->ep->pages);
	shmipc_endpoint_put(seg->ep);
	shmipc_live_dec(segments);
}

struct shmipc_segment *shmipc_segment_get(struct shmipc_segment *seg)
{
	refcount_inc(&seg->ref);
	return seg;
}

void shmipc_segment_put(struct shmipc_segment *seg)
{
	if (!refcount_dec_and_test(&seg->ref))
		return;
	WARN_ON_ONCE(seg->pages || seg->given);
	kfree(seg);
}

/* Who has mapped it, or NULL. */
static struct shmipc_endpoint *mapper_of(struct shmipc_view *view)
{
	/* Pairs with the release when it was placed. */
	struct shmipc_endpoint *ep = smp_load_acquire(&view->obj.ep);

	return ep && READ_ONCE(view->mapped) ? ep : NULL;
}

/* Is it, or with @move can it be, charged to @ep's user, below that one's cap? */
static bool is_charged_to(struct shmipc_segment *seg, struct shmipc_endpoint *ep, bool move)
{
	struct shmipc_user *from = seg->user;
	bool yes;

	/* Keeps ep->user where it is. */
	spin_lock(&ep->ready_lock);
	if (move && shmipc_charge_move(from, ep->user, seg->npages, false))
		seg->user = shmipc_user_get(ep->user);
	yes = seg->user == ep->user;
	spin_unlock(&ep->ready_lock);
	return yes;
}

/*
 * Who maps it still pays, once the owner has gone; not who was merely granted it, for nobody can
 * refuse a grant. The former user's reference is the caller's.
 */
static struct shmipc_user *charge_heir_locked(struct shmipc_segment *seg)
{
	struct shmipc_user *from = seg->user;
	struct shmipc_endpoint *ep;
	struct shmipc_view *view;

	lockdep_assert_held(&seg->lock);
	if (seg->owner)
		return NULL;
	list_for_each_entry(view, &seg->views, link) {
		ep = mapper_of(view);
		if (ep && is_charged_to(seg, ep, false))
			return NULL;
	}
	list_for_each_entry(view, &seg->views, link) {
		ep = mapper_of(view);
		if (ep && is_charged_to(seg, ep, true))
			return from;
	}
	return NULL;
}

int shmipc_segment_check_locked(struct shmipc_segment *seg, const struct shmipc_view *view)
{
	lockdep_assert_held(&seg->lock);
	if (seg->owner != view)
		return READ_ONCE(view->revoked) ? -ENOENT : -ESTALE;
	return seg->given ? -EBUSY : 0;
}

u32 shmipc_segment_rights(const struct shmipc_segment *seg)
{
	return READ_ONCE(seg->frozen) ? SHMIPC_RIGHT_READ : SHMIPC_RIGHT_READ | SHMIPC_RIGHT_WRITE;
}

int shmipc_segment_add_grant(struct shmipc_view *owner, struct shmipc_view *view)
{
	struct shmipc_segment *seg = owner->segment;
	int err;

	spin_lock(&seg->lock);
	err = shmipc_segment_check_locked(seg, owner);
	if (!err) {
		list_add_tail(&view->link, &seg->views);
		seg->nr_grants++;
		shmipc_live_inc(grants);
		shmipc_total_inc(grants);
	}
	spin_unlock(&seg->lock);
	return err;
}

static void unlink_grant_locked(struct shmipc_segment *seg, struct shmipc_view *view)
{
	lockdep_assert_held(&seg->lock);
	if (list_empty(&view->link))
		return;
	list_del_init(&view->link);
	seg->nr_grants--;
	shmipc_live_dec(grants);
}

/* A former owner's was no part of it any more. */
void shmipc_segment_remove_view(struct shmipc_segment *seg, struct shmipc_view *view)
{
	bool part, last;
	struct shmipc_user *former;

	spin_lock(&seg->lock);
	part = seg->owner == view || !list_empty(&view->link);
	if (seg->owner == view)
		seg->owner = NULL;
	unlink_grant_locked(seg, view);
	former = charge_heir_locked(seg);
	last = part && !seg->owner && list_empty(&seg->views);
	spin_unlock(&seg->lock);
	if (former)
		shmipc_user_put(former);
	if (last)
		segment_release(seg);
}

/* The former payer's reference is the caller's; NULL: over the cap of @user. */
static struct shmipc_user *pays_locked(struct shmipc_segment *seg, struct shmipc_user *user,
				       bool exempt)
{
	struct shmipc_user *former = seg->user;

	lockdep_assert_held(&seg->lock);
	/* The same user's is not counted twice, not even for a moment. */
	if (former != user && !shmipc_charge_move(former, user, seg->npages, exempt))
		return NULL;
	seg->user = shmipc_user_get(user);
	return former;
}

static int move(struct shmipc_view *view, struct shmipc_user *user, bool exempt)
{
	struct shmipc_segment *seg = view->segment;
	struct shmipc_endpoint *from = seg->ep;
	struct shmipc_user *former;
	bool given = seg->given;

	spin_lock(&seg->lock);
	former = pays_locked(seg, user, exempt);
	if (former) {
		unlink_grant_locked(seg, view);
		seg->owner = view;
		WRITE_ONCE(seg->given, NULL);
		seg->ep = shmipc_endpoint_get(view->obj.ep);
	}
	spin_unlock(&seg->lock);
	if (!former)
		return -EDQUOT;
	shmipc_user_put(former);
	if (given) {
		atomic_dec(&from->limbo);
		shmipc_live_dec(limbo);
	}
	atomic_long_add(seg->npages, &view->obj.ep->pages);
	atomic_long_sub(seg->npages, &from->pages);
	shmipc_endpoint_put(from);
	return 0;
}

int shmipc_segment_move(struct shmipc_view *view, struct shmipc_user *user)
{
	int err;

	lockdep_assert_held(&view->segment->moves);
	err = move(view, user, false);
	if (err == -EDQUOT && shmipc_charge_exempt())
		err = move(view, user, true);
	return err;
}

bool shmipc_segment_granted(struct shmipc_segment *seg, const struct shmipc_side *granter)
{
	struct shmipc_view *view;
	bool granted = false;

	spin_lock(&seg->lock);
	list_for_each_entry(view, &seg->views, link)
		granted |= view->granter == granter;
	spin_unlock(&seg->lock);
	return granted;
}

u32 shmipc_segment_handle(struct shmipc_segment *seg)
{
	u32 handle;

	spin_lock(&seg->lock);
	handle = seg->owner ? seg->owner->obj.handle : 0;
	spin_unlock(&seg->lock);
	return handle;
}

void shmipc_segment_settle(struct shmipc_segment *seg)
{
	struct shmipc_user *former;

	spin_lock(&seg->lock);
	former = charge_heir_locked(seg);
	spin_unlock(&seg->lock);
	if (former)
		shmipc_user_put(former);
}

/* ---- requests ---- */

static int create_check(const struct shmipc_seg_create *arg, unsigned long *npages)
{
	u64 end;

	if (arg->flags)
		return -EOPNOTSUPP;
	if (arg->__reserved || !arg->length)
		return -EINVAL;
	if (check_add_overflow(arg->length, (u64)PAGE_SIZE - 1, &end))
		return -EOVERFLOW;
	if (end >> PAGE_SHIFT > SHMIPC_SEGMENT_PAGES_MAX)
		return -EINVAL;
	*npages = end >> PAGE_SHIFT;
	return 0;
}

/* From here on the segment is closed as a whole. */
static int create_publish(struct shmipc_call *call, struct shmipc_view *view)
{
	struct shmipc_seg_create *arg = call->arg;
	int err;

	err = shmipc_handle_reserve(call->ep, &view->obj.handle);
	if (err)
		return err;
	arg->out_handle = view->obj.handle;
	arg->out_length = (u64)view->npages << PAGE_SHIFT;
	arg->out_offset = (u64)view->start << PAGE_SHIFT;
	err = shmipc_call_respond(call);
	if (!err)
		err = shmipc_handle_publish(call->att, &view->obj);
	if (err)
		shmipc_handle_unreserve(call->ep, view->obj.handle);
	return err;
}

int shmipc_seg_create(struct shmipc_call *call)
{
	struct shmipc_segment *seg;
	struct shmipc_view *view;
	unsigned long npages;
	int err;

	err = create_check(call->arg, &npages);
	if (err)
		return err;
	seg = segment_new(call->att, npages);
	if (IS_ERR(seg))
		return PTR_ERR(seg);
	view = shmipc_view_new(seg);
	if (view) {
		err = shmipc_view_place(view, call->ep);
		if (!err)
			err = create_publish(call, view);
		if (err)
			shmipc_view_drop(view);
	} else {
		err = -ENOMEM;
		segment_release(seg);
	}
	shmipc_segment_put(seg);
	return err;
}

static int info_own(struct shmipc_call *call, struct shmipc_seg_info *arg)
{
	struct shmipc_object *obj;
	struct shmipc_segment *seg;
	struct shmipc_view *view;
	int err;

	if (arg->slot)
		return -EINVAL;
	obj = shmipc_handle_get(call->ep, arg->handle, SHMIPC_KIND_SEGMENT);
	if (IS_ERR(obj))
		return PTR_ERR(obj);
	view = shmipc_view_of(obj);
	seg = view->segment;
	arg->out_length = (u64)view->npages << PAGE_SHIFT;
	arg->out_offset = (u64)view->start << PAGE_SHIFT;
	spin_lock(&seg->lock);
	arg->out_rights = READ_ONCE(view->rights);
	arg->out_grants = seg->nr_grants;
	err = shmipc_segment_check_locked(seg, view);
	spin_unlock(&seg->lock);
	/* What is given is still its owner's, who has no right to it. */
	if (err == -EBUSY)
		err = 0;
	shmipc_object_put(obj);
	return err;
}

int shmipc_seg_info(struct shmipc_call *call)
{
	struct shmipc_seg_info *arg = call->arg;
	int err;

	if (arg->flags & ~SHMIPC_SEG_OF_PEER)
		return -EOPNOTSUPP;
	err = arg->flags & SHMIPC_SEG_OF_PEER ? shmipc_side_info(call, arg) :
						info_own(call, arg);
	/* A successor may look, and no more. */
	if (!(READ_ONCE(call->att->rights) & SHMIPC_RIGHT_WRITE))
		arg->out_rights &= ~SHMIPC_RIGHT_WRITE;
	return err ?: shmipc_call_respond(call);
}

#ifdef CONFIG_SHMIPC_KUNIT_TEST
#include "tests/segment_test.c"
#endif
