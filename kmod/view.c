// SPDX-License-Identifier: GPL-2.0-only
#include <linux/mm.h>
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

struct shmipc_view *shmipc_view_new(struct shmipc_segment *segment, u32 rights)
{
	struct shmipc_view *view = kzalloc(sizeof(*view), GFP_KERNEL_ACCOUNT);

	if (!view)
		return NULL;
	refcount_set(&view->ref, 1);
	RB_CLEAR_NODE(&view->node);
	view->npages = segment->npages;
	view->id = atomic64_inc_return(&last_id);
	init_rwsem(&view->sem);
	view->rights = rights;
	shmipc_segment_add_view(segment, view);
	shmipc_live_inc(views);
	return view;
}

static void view_put(struct shmipc_view *view)
{
	if (!refcount_dec_and_test(&view->ref))
		return;
	if (view->ep)
		shmipc_endpoint_put(view->ep);
	kfree_rcu(view, rcu);
	shmipc_live_dec(views);
}

static void view_revoke(struct shmipc_view *view)
{
	down_write(&view->sem);
	view->rights = 0;
	up_write(&view->sem);
}

/* The attachment is gone only after its mappings: then there is nothing to zap. */
static void view_zap(struct shmipc_view *view)
{
	struct shmipc_attachment *att = shmipc_attachment_get(view->ep);

	if (!att)
		return;
	unmap_mapping_range(att->inode->i_mapping, (loff_t)view->start << PAGE_SHIFT,
			    (loff_t)view->npages << PAGE_SHIFT, 1);
	shmipc_attachment_put(att);
}

static void view_unplace(struct shmipc_view *view)
{
	struct shmipc_endpoint *ep = view->ep;

	spin_lock(&ep->view_lock);
	rb_erase(&view->node, &ep->views);
	RB_CLEAR_NODE(&view->node);
	spin_unlock(&ep->view_lock);
}

void shmipc_view_drop(struct shmipc_view *view)
{
	view_revoke(view);
	if (view->ep) {
		view_zap(view);
		view_unplace(view);
	}
	/* A fault that still holds the view sees no right, and touches no page. */
	shmipc_segment_remove_view(view->segment, view);
	view_put(view);
}

/* ---- offsets ---- */

/* The first view that ends after @at. */
static struct shmipc_view *view_after(struct shmipc_endpoint *ep, unsigned long at)
{
	struct rb_node *n = ep->views.rb_node;
	struct shmipc_view *best = NULL, *view;

	while (n) {
		view = rb_entry(n, struct shmipc_view, node);
		if (view->start + view->npages > at) {
			best = view;
			n = n->rb_left;
		} else {
			n = n->rb_right;
		}
	}
	return best;
}

/* Next fit, so that offsets are not used again soon. 0: no room. */
static unsigned long find_gap(struct shmipc_endpoint *ep, unsigned long npages)
{
	/* Large ones at 2 MiB, so that page tables can be filled as a whole. */
	unsigned long align = npages >= OFFSET_FIRST ? OFFSET_FIRST : 1;
	unsigned long at = max(ep->view_cursor, OFFSET_FIRST);
	struct shmipc_view *next;
	bool wrapped = false;

	for (;;) {
		at = ALIGN(at, align);
		if (npages > OFFSET_END - at) {
			if (wrapped)
				return 0;
			wrapped = true;
			at = OFFSET_FIRST;
			continue;
		}
		next = view_after(ep, at);
		if (!next || next->start >= at + npages)
			return at;
		at = next->start + next->npages;
	}
}

static void insert_locked(struct shmipc_endpoint *ep, struct shmipc_view *view)
{
	struct rb_node **link = &ep->views.rb_node, *parent = NULL;

	lockdep_assert_held(&ep->view_lock);
	while (*link) {
		parent = *link;
		if (view->start < rb_entry(parent, struct shmipc_view, node)->start)
			link = &parent->rb_left;
		else
			link = &parent->rb_right;
	}
	rb_link_node(&view->node, parent, link);
	rb_insert_color(&view->node, &ep->views);
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
	/* Pairs with the look for an heir, which has not our lock. */
	smp_store_release(&view->ep, shmipc_endpoint_get(ep));
	ep->view_cursor = view->start + view->npages;
	insert_locked(ep, view);
out:
	spin_unlock(&ep->view_lock);
	return err;
}

/* The view that has the page at offset @pgoff, with a reference. */
static struct shmipc_view *view_find(struct shmipc_endpoint *ep, unsigned long pgoff)
{
	struct shmipc_view *view;

	spin_lock(&ep->view_lock);
	view = view_after(ep, pgoff);
	if (view && (view->start > pgoff || !refcount_inc_not_zero(&view->ref)))
		view = NULL;
	spin_unlock(&ep->view_lock);
	return view;
}

/* The first view from @pgoff on that has a right, with a reference. */
static struct shmipc_view *view_with_right(struct shmipc_endpoint *ep, unsigned long pgoff)
{
	struct shmipc_view *view;
	struct rb_node *n;

	spin_lock(&ep->view_lock);
	view = view_after(ep, pgoff);
	while (view && (!READ_ONCE(view->rights) || !refcount_inc_not_zero(&view->ref))) {
		n = rb_next(&view->node);
		view = n ? rb_entry(n, struct shmipc_view, node) : NULL;
	}
	spin_unlock(&ep->view_lock);
	return view;
}

void shmipc_views_close(struct shmipc_endpoint *ep)
{
	struct shmipc_attachment *att;
	struct shmipc_view *view;
	unsigned long at = 0;

	spin_lock(&ep->view_lock);
	ep->views_closed = true;
	spin_unlock(&ep->view_lock);
	while ((view = view_with_right(ep, at))) {
		at = view->start + view->npages;
		view_revoke(view);
		view_put(view);
		cond_resched();
	}
	att = shmipc_attachment_get(ep);
	if (!att)
		return;
	unmap_mapping_range(att->inode->i_mapping, 0, 0, 1);
	shmipc_attachment_put(att);
}

/* ---- mappings ---- */

static struct shmipc_view *view_of_vma(struct vm_area_struct *vma, unsigned long pgoff)
{
	struct shmipc_attachment *att = vma->vm_file->private_data;
	struct shmipc_view *view = view_find(att->ep, pgoff);

	/* The VMA may be older than the view that has its offset now. */
	if (view && view->id != (u64)(uintptr_t)vma->vm_private_data) {
		view_put(view);
		return NULL;
	}
	return view;
}

#ifdef SHMIPC_HAVE_PTE_SPECIAL
struct fill {
	struct vm_area_struct *vma;
	struct page **page;
};

static int fill_one(pte_t *pte, unsigned long addr, void *data)
{
	struct fill *fill = data;
	unsigned long pfn = page_to_pfn(*fill->page++);

	if (pte_none(ptep_get(pte)))
		set_pte_at(fill->vma->vm_mm, addr, pte,
			   pte_mkspecial(pfn_pte(pfn, fill->vma->vm_page_prot)));
	return 0;
}

static vm_fault_t fill_range(struct vm_area_struct *vma, struct page **page,
			     unsigned long start, unsigned long end)
{
	struct fill fill = { .vma = vma, .page = page };
	int err;

	err = apply_to_page_range(vma->vm_mm, start, end - start, fill_one, &fill);
	if (err)
		return err == -ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
	return VM_FAULT_NOPAGE;
}
#else
static vm_fault_t fill_range(struct vm_area_struct *vma, struct page **page,
			     unsigned long start, unsigned long end)
{
	vm_fault_t ret = VM_FAULT_NOPAGE;

	for (; start < end && ret == VM_FAULT_NOPAGE; start += PAGE_SIZE)
		ret = vmf_insert_pfn(vma, start, page_to_pfn(*page++));
	return ret;
}
#endif

/* Fills what the VMA has of the page table that covers the address: 2 MiB at most. */
static vm_fault_t view_fill(struct shmipc_view *view, struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	unsigned long addr = vmf->address & PAGE_MASK;
	unsigned long start = max(addr & PMD_MASK, vma->vm_start);
	unsigned long end = min((addr & PMD_MASK) + PMD_SIZE, vma->vm_end);
	unsigned long first = vmf->pgoff - view->start - ((addr - start) >> PAGE_SHIFT);

	return fill_range(vma, view->segment->pages + first, start, end);
}

static vm_fault_t view_vm_fault(struct vm_fault *vmf)
{
	u32 need = vmf->vma->vm_flags & VM_WRITE ? SHMIPC_RIGHT_WRITE : SHMIPC_RIGHT_READ;
	struct shmipc_view *view = view_of_vma(vmf->vma, vmf->pgoff);
	vm_fault_t ret = VM_FAULT_SIGBUS;

	if (!view)
		return VM_FAULT_SIGBUS;
	shmipc_total_inc(faults);
	down_read(&view->sem);
	if (view->rights & need)
		ret = view_fill(view, vmf);
	up_read(&view->sem);
	view_put(view);
	return ret;
}

/* For debuggers, which cannot pin. They may read. */
static int view_vm_access(struct vm_area_struct *vma, unsigned long addr, void *buf, int len,
			  int write)
{
	unsigned long pgoff = ((addr - vma->vm_start) >> PAGE_SHIFT) + vma->vm_pgoff;
	struct shmipc_view *view;
	int ret = -EACCES;

	if (write)
		return -EACCES;
	view = view_of_vma(vma, pgoff);
	if (!view)
		return -EACCES;
	len = min_t(unsigned long, len, PAGE_SIZE - offset_in_page(addr));
	down_read(&view->sem);
	if (view->rights & SHMIPC_RIGHT_READ) {
		memcpy(buf, page_address(view->segment->pages[pgoff - view->start]) +
		       offset_in_page(addr), len);
		ret = len;
	}
	up_read(&view->sem);
	view_put(view);
	return ret;
}

static const struct vm_operations_struct view_vm_ops = {
	.fault = view_vm_fault,
	.access = view_vm_access,
};

/* Checks and records; the VMA is not yet where a revoke would find its entries. */
int shmipc_view_mmap(struct shmipc_attachment *att, struct vm_area_struct *vma)
{
	struct shmipc_view *view;
	int err;

	err = shmipc_attachment_check(att);
	if (err)
		return err;
	view = view_find(att->ep, vma->vm_pgoff);
	if (!view)
		return -EINVAL;
	if (!READ_ONCE(view->rights) ||
	    vma_pages(vma) > view->start + view->npages - vma->vm_pgoff) {
		err = -EINVAL;
	} else if (vma->vm_flags & VM_WRITE && !(READ_ONCE(view->rights) & SHMIPC_RIGHT_WRITE)) {
		err = -EACCES;
	} else {
		vm_flags_set(vma, SHMIPC_VM_FLAGS);
		vm_flags_clear(vma, VM_MAYEXEC);
		if (!(READ_ONCE(view->rights) & SHMIPC_RIGHT_WRITE))
			vm_flags_clear(vma, VM_MAYWRITE);
		BUILD_BUG_ON(sizeof(vma->vm_private_data) < sizeof(view->id));
		vma->vm_private_data = (void *)(uintptr_t)view->id;
		vma->vm_ops = &view_vm_ops;
	}
	view_put(view);
	return err;
}

#ifdef CONFIG_SHMIPC_KUNIT_TEST
#include "tests/view_test.c"
#endif
