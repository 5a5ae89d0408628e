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
static struct shmipc_segment *segment_new(struct shmipc_endpoint *ep, unsigned long npages)
{
	struct shmipc_segment *seg;
	struct page **pages;
	int err;

	err = shmipc_charge(ep->user, npages);
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
	shmipc_object_init(&seg->obj, SHMIPC_KIND_SEGMENT, ep);
	seg->npages = npages;
	seg->pages = pages;
	spin_lock_init(&seg->lock);
	seg->owned = true;
	seg->user = shmipc_user_get(ep->user);
	atomic_long_add(npages, &ep->pages);
	INIT_LIST_HEAD(&seg->views);
	shmipc_live_inc(segments);
	shmipc_total_inc(segments);
	return seg;

err_pages:
	pages_free(pages, npages);
err_charge:
	shmipc_uncharge(ep->user, npages);
	return ERR_PTR(err);
}

void shmipc_segment_free(struct shmipc_segment *seg)
{
	pages_free(seg->pages, seg->npages);
	shmipc_uncharge(seg->user, seg->npages);
	shmipc_user_put(seg->user);
	atomic_long_sub(seg->npages, &seg->obj.ep->pages);
	shmipc_endpoint_put(seg->obj.ep);
	kfree_rcu(seg, rcu);
	shmipc_live_dec(segments);
}

/* Who has mapped it, or NULL. */
static struct shmipc_user *user_of_view(struct shmipc_view *view)
{
	/* Pairs with the release when it was placed. */
	struct shmipc_endpoint *ep = smp_load_acquire(&view->ep);

	return ep && READ_ONCE(view->mapped) ? ep->user : NULL;
}

/*
 * Who maps it still pays, once the owner has gone; not who was merely granted it, for nobody can
 * refuse a grant. The former user's reference is the caller's.
 */
static struct shmipc_user *charge_heir_locked(struct shmipc_segment *seg)
{
	struct shmipc_user *from = seg->user, *heir;
	struct shmipc_view *view;

	lockdep_assert_held(&seg->lock);
	if (seg->owned)
		return NULL;
	list_for_each_entry(view, &seg->views, link) {
		if (user_of_view(view) == from)
			return NULL;
	}
	list_for_each_entry(view, &seg->views, link) {
		heir = user_of_view(view);
		if (!heir || !shmipc_charge_move(from, heir, seg->npages))
			continue;
		seg->user = shmipc_user_get(heir);
		return from;
	}
	return NULL;
}

void shmipc_segment_add_view(struct shmipc_segment *seg, struct shmipc_view *view)
{
	refcount_inc(&seg->obj.ref);
	view->segment = seg;
	spin_lock(&seg->lock);
	if (view->rights & SHMIPC_RIGHT_WRITE) {
		INIT_LIST_HEAD(&view->link);
		seg->owner = view;
	} else {
		list_add_tail(&view->link, &seg->views);
		seg->nr_grants++;
		shmipc_live_inc(grants);
		shmipc_total_inc(grants);
	}
	spin_unlock(&seg->lock);
}

void shmipc_segment_remove_view(struct shmipc_segment *seg, struct shmipc_view *view)
{
	struct shmipc_user *former;

	spin_lock(&seg->lock);
	if (seg->owner == view) {
		seg->owner = NULL;
		seg->owned = false;
	} else {
		list_del_init(&view->link);
		seg->nr_grants--;
		shmipc_live_dec(grants);
	}
	former = charge_heir_locked(seg);
	spin_unlock(&seg->lock);
	if (former)
		shmipc_user_put(former);
	shmipc_object_put(&seg->obj);
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

void shmipc_segment_settle(struct shmipc_segment *seg)
{
	struct shmipc_user *former;

	spin_lock(&seg->lock);
	former = charge_heir_locked(seg);
	spin_unlock(&seg->lock);
	if (former)
		shmipc_user_put(former);
}

/* Called by who took the handle off the table. */
void shmipc_segment_close(struct shmipc_segment *seg)
{
	shmipc_view_drop(seg->owner);
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
static int create_publish(struct shmipc_call *call, struct shmipc_segment *seg)
{
	struct shmipc_seg_create *arg = call->arg;
	int err;

	err = shmipc_handle_reserve(call->ep, &seg->obj.handle);
	if (err)
		return err;
	arg->out_handle = seg->obj.handle;
	arg->out_length = (u64)seg->npages << PAGE_SHIFT;
	arg->out_offset = (u64)seg->owner->start << PAGE_SHIFT;
	err = shmipc_call_respond(call);
	if (!err)
		err = shmipc_handle_publish(call->ep, &seg->obj);
	if (err)
		shmipc_handle_unreserve(call->ep, seg->obj.handle);
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
	seg = segment_new(call->ep, npages);
	if (IS_ERR(seg))
		return PTR_ERR(seg);
	view = shmipc_view_new(seg, SHMIPC_RIGHT_READ | SHMIPC_RIGHT_WRITE);
	if (!view) {
		err = -ENOMEM;
		goto err_segment;
	}
	err = shmipc_view_place(view, call->ep);
	if (!err)
		err = create_publish(call, seg);
	if (!err)
		return 0;
	shmipc_view_drop(view);
err_segment:
	shmipc_object_put(&seg->obj);
	return err;
}

static int info_own(struct shmipc_call *call, struct shmipc_seg_info *arg)
{
	struct shmipc_object *obj;
	struct shmipc_segment *seg;
	int err = 0;

	if (arg->slot)
		return -EINVAL;
	obj = shmipc_handle_get(call->ep, arg->handle, SHMIPC_KIND_SEGMENT);
	if (IS_ERR(obj))
		return PTR_ERR(obj);
	seg = shmipc_segment_of(obj);
	arg->out_length = (u64)seg->npages << PAGE_SHIFT;
	spin_lock(&seg->lock);
	if (seg->owner) {
		arg->out_offset = (u64)seg->owner->start << PAGE_SHIFT;
		arg->out_rights = READ_ONCE(seg->owner->rights);
		arg->out_grants = seg->nr_grants;
	} else {
		err = -ENOENT;
	}
	spin_unlock(&seg->lock);
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
	return err ?: shmipc_call_respond(call);
}

#ifdef CONFIG_SHMIPC_KUNIT_TEST
#include "tests/segment_test.c"
#endif
