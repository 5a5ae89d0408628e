// SPDX-License-Identifier: GPL-2.0-only
/* mapping.c - views in page tables: mmap, faults, debuggers. See view.h for what holds. */
#include <linux/mm.h>

#include "account.h"
#include "endpoint.h"
#include "segment.h"
#include "view.h"

static struct shmipc_view *view_of_vma(struct vm_area_struct *vma, unsigned long pgoff)
{
	struct shmipc_attachment *att = vma->vm_file->private_data;
	struct shmipc_view *view = shmipc_view_find(att->ep, pgoff);

	/* The VMA may be older than the view that has its offset now. */
	if (view && view->id != (u64)(uintptr_t)vma->vm_private_data) {
		shmipc_view_put(view);
		return NULL;
	}
	return view;
}

#ifdef SHMIPC_HAVE_PTE_SPECIAL
/**
 * struct fill - page-table entries to make
 * @vma: where
 * @prot: what they allow
 * @page: of the next entry
 * @touched: the address that faulted
 * @present: it has an entry now
 */
struct fill {
	struct vm_area_struct *vma;
	pgprot_t prot;
	struct page **page;
	unsigned long touched;
	bool present;
};

static int fill_one(pte_t *pte, unsigned long addr, void *data)
{
	struct fill *fill = data;
	unsigned long pfn = page_to_pfn(*fill->page++);

	if (pte_none(ptep_get(pte)))
		set_pte_at(fill->vma->vm_mm, addr, pte, pte_mkspecial(pfn_pte(pfn, fill->prot)));
	if (addr == fill->touched)
		fill->present = pte_present(ptep_get(pte));
	return 0;
}

/* Page tables, before view->sem is taken: their allocation may wait for memory. */
static vm_fault_t fill_prepare(struct vm_area_struct *vma, unsigned long start, unsigned long end)
{
	return apply_to_page_range(vma->vm_mm, start, end - start, NULL, NULL) ? VM_FAULT_OOM : 0;
}

/* A marker that userfaultfd left where a page should be can't be resolved here: not for ever. */
static vm_fault_t fill_range(struct vm_area_struct *vma, pgprot_t prot, struct page **page,
			     unsigned long start, unsigned long end, unsigned long touched)
{
	struct fill fill = { .vma = vma, .prot = prot, .page = page, .touched = touched };

	if (apply_to_page_range(vma->vm_mm, start, end - start, fill_one, &fill))
		return VM_FAULT_OOM;
	return fill.present ? VM_FAULT_NOPAGE : VM_FAULT_SIGBUS;
}
#else
static vm_fault_t fill_prepare(struct vm_area_struct *vma, unsigned long start, unsigned long end)
{
	return 0;
}

static vm_fault_t fill_range(struct vm_area_struct *vma, pgprot_t prot, struct page **page,
			     unsigned long start, unsigned long end, unsigned long touched)
{
	vm_fault_t ret = VM_FAULT_NOPAGE;

	for (; start < end && ret == VM_FAULT_NOPAGE; start += PAGE_SIZE)
		ret = vmf_insert_pfn_prot(vma, start, page_to_pfn(*page++), prot);
	return ret;
}
#endif

/*
 * What an entry of @vma may allow. vm_page_prot is no answer: since there is a ->pfn_mkwrite, it
 * never allows to write.
 */
static pgprot_t prot_for(const struct vm_area_struct *vma, u32 rights)
{
	vm_flags_t flags = vma->vm_flags;

	return vm_get_page_prot(rights & SHMIPC_RIGHT_WRITE ? flags : flags & ~VM_WRITE);
}

/* A page that stands in for those to which there is no right. */
static vm_fault_t fill_zero(struct vm_fault *vmf)
{
	struct page *zero = ZERO_PAGE(vmf->address);
	unsigned long addr = vmf->address & PAGE_MASK;

	return fill_range(vmf->vma, prot_for(vmf->vma, 0), &zero, addr, addr + PAGE_SIZE, addr);
}

/**
 * struct window - what a VMA has of the page table that covers an address: 2 MiB at most
 * @start: first address
 * @end: behind the last
 * @pgoff: offset of @start
 */
struct window {
	unsigned long start, end, pgoff;
};

static struct window window_of(const struct vm_fault *vmf)
{
	unsigned long addr = vmf->address & PAGE_MASK;
	struct window w = {
		.start = max(addr & PMD_MASK, vmf->vma->vm_start),
		.end = min((addr & PMD_MASK) + PMD_SIZE, vmf->vma->vm_end),
	};

	w.pgoff = vmf->pgoff - ((addr - w.start) >> PAGE_SHIFT);
	return w;
}

static vm_fault_t view_fill(struct shmipc_view *view, struct vm_fault *vmf, bool or_zero)
{
	struct shmipc_attachment *att = vmf->vma->vm_file->private_data;
	u32 need = vmf->flags & FAULT_FLAG_WRITE ? SHMIPC_RIGHT_WRITE : SHMIPC_RIGHT_READ;
	struct vm_area_struct *vma = vmf->vma;
	struct window w = window_of(vmf);
	vm_fault_t ret;
	u32 rights;

	ret = fill_prepare(vma, w.start, w.end);
	if (ret)
		return ret;
	ret = VM_FAULT_SIGBUS;
	down_read(&att->sem);
	down_read(&view->sem);
	rights = view->rights & att->rights;
	if (rights & need)
		ret = fill_range(vma, prot_for(vma, rights),
				 view->segment->pages + w.pgoff - view->start, w.start, w.end,
				 vmf->address & PAGE_MASK);
	else if (or_zero)
		ret = fill_zero(vmf);
	up_read(&view->sem);
	up_read(&att->sem);
	return ret;
}

static vm_fault_t view_fault(struct vm_fault *vmf, bool or_zero)
{
	struct shmipc_view *view = view_of_vma(vmf->vma, vmf->pgoff);
	vm_fault_t ret;

	if (!view)
		return or_zero ? fill_zero(vmf) : VM_FAULT_SIGBUS;
	shmipc_total_inc(faults);
	ret = view_fill(view, vmf, or_zero);
	shmipc_view_put(view);
	return ret;
}

static vm_fault_t view_vm_fault(struct vm_fault *vmf)
{
	return view_fault(vmf, false);
}

/* Of a reader who would rather see zeros than a signal when its right is gone. */
static vm_fault_t view_vm_fault_zero(struct vm_fault *vmf)
{
	return view_fault(vmf, true);
}

/*
 * A write where an entry is for reading. Either the segment is frozen, and that is that; or
 * mprotect() has added VM_WRITE since: then the entry goes and the right one comes. It is never
 * made writable as it stands, which is what the core does after a return of 0: it could not tell
 * it from one that came after a freeze.
 */
static vm_fault_t view_vm_pfn_mkwrite(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct shmipc_attachment *att = vma->vm_file->private_data;
	struct shmipc_view *view = view_of_vma(vma, vmf->pgoff);
	struct window w = window_of(vmf);
	u32 rights;

	if (!view)
		return VM_FAULT_SIGBUS;
	rights = READ_ONCE(view->rights) & READ_ONCE(att->rights);
	shmipc_view_put(view);
	if (!(rights & SHMIPC_RIGHT_WRITE))
		return VM_FAULT_SIGBUS;
	unmap_mapping_range(vma->vm_file->f_mapping, (loff_t)w.pgoff << PAGE_SHIFT,
			    w.end - w.start, 1);
	return VM_FAULT_NOPAGE;
}

/* One VMA more: a split, or a move that is about to end the other. */
static void view_vm_open(struct vm_area_struct *vma)
{
	struct shmipc_view *view = view_of_vma(vma, vma->vm_pgoff);

	if (!view)
		return;
	atomic_inc(&view->vmas);
	shmipc_view_put(view);
}

/* Pieces count as mappings do: what a revoke has to undo stays bounded. */
static int view_vm_may_split(struct vm_area_struct *vma, unsigned long addr)
{
	struct shmipc_view *view = view_of_vma(vma, vma->vm_pgoff);
	int err;

	if (!view)
		return 0;
	err = atomic_read(&view->vmas) < SHMIPC_VIEW_PIECES_MAX ? 0 : -ENOMEM;
	shmipc_view_put(view);
	return err;
}

static void view_vm_close(struct vm_area_struct *vma)
{
	struct shmipc_view *view = view_of_vma(vma, vma->vm_pgoff);

	if (!view)
		return;
	atomic_dec(&view->vmas);
	shmipc_view_put(view);
}

/* For debuggers, which cannot pin. They may read. */
static int view_vm_access(struct vm_area_struct *vma, unsigned long addr, void *buf, int len,
			  int write)
{
	unsigned long pgoff = ((addr - vma->vm_start) >> PAGE_SHIFT) + vma->vm_pgoff;
	struct shmipc_attachment *att = vma->vm_file->private_data;
	struct shmipc_view *view;
	int ret = -EACCES;

	if (write)
		return -EACCES;
	view = view_of_vma(vma, pgoff);
	if (!view)
		return -EACCES;
	len = min_t(unsigned long, len, PAGE_SIZE - offset_in_page(addr));
	down_read(&att->sem);
	down_read(&view->sem);
	if (view->rights & att->rights & SHMIPC_RIGHT_READ) {
		memcpy(buf, page_address(view->segment->pages[pgoff - view->start]) +
		       offset_in_page(addr), len);
		ret = len;
	}
	up_read(&view->sem);
	up_read(&att->sem);
	shmipc_view_put(view);
	return ret;
}

static const struct vm_operations_struct view_vm_ops = {
	.open = view_vm_open,
	.close = view_vm_close,
	.may_split = view_vm_may_split,
	.fault = view_vm_fault,
	.pfn_mkwrite = view_vm_pfn_mkwrite,
	.access = view_vm_access,
};

/* For those that can never be written. */
static const struct vm_operations_struct view_vm_ops_zero = {
	.open = view_vm_open,
	.close = view_vm_close,
	.may_split = view_vm_may_split,
	.fault = view_vm_fault_zero,
	.access = view_vm_access,
};

static int mmap_check(const struct shmipc_view *view, struct vm_area_struct *vma, u32 rights)
{
	if (!rights || vma_pages(vma) > view->start + view->npages - vma->vm_pgoff)
		return -EINVAL;
	if (vma->vm_flags & VM_WRITE && !(rights & SHMIPC_RIGHT_WRITE))
		return -EACCES;
	return 0;
}

/*
 * What a mapping of @view may come to. What is given may come back: who holds its handle, also a
 * successor, maps it as it will be then, and finds no right in ->fault until then.
 */
static u32 view_prospect(struct shmipc_view *view)
{
	struct shmipc_segment *seg = view->segment;
	u32 rights = READ_ONCE(view->rights);

	spin_lock(&seg->lock);
	if (seg->owner == view && seg->given)
		rights = shmipc_segment_rights(seg);
	spin_unlock(&seg->lock);
	return rights;
}

static int view_record(struct shmipc_view *view, struct vm_area_struct *vma,
		       struct shmipc_attachment *att)
{
	/* A successor looks at what it may lose at any moment: when the offer is over. */
	bool zero = view->zero || READ_ONCE(att->hold) == SHMIPC_HOLD_ADOPTING;
	u32 rights = READ_ONCE(att->rights) & view_prospect(view);
	int err;

	err = mmap_check(view, vma, rights);
	if (err)
		return err;
	if (atomic_inc_return(&view->vmas) > SHMIPC_VIEW_VMAS_MAX) {
		atomic_dec(&view->vmas);
		return -ENOSPC;
	}
	vm_flags_set(vma, SHMIPC_VM_FLAGS);
	vm_flags_clear(vma, VM_MAYEXEC);
	if (!(rights & SHMIPC_RIGHT_WRITE))
		vm_flags_clear(vma, VM_MAYWRITE);
	BUILD_BUG_ON(sizeof(vma->vm_private_data) < sizeof(view->id));
	vma->vm_private_data = (void *)(uintptr_t)view->id;
	/* What was granted may have been taken: then its owner is told like any other. */
	vma->vm_ops = zero && !(vma->vm_flags & VM_MAYWRITE) ? &view_vm_ops_zero : &view_vm_ops;
	if (!READ_ONCE(view->mapped)) {
		WRITE_ONCE(view->mapped, true);
		shmipc_segment_settle(view->segment);
	}
	return 0;
}

/* Without a right because it is out since it was let in? */
static bool gone_since(const struct shmipc_attachment *att)
{
	/* First it is out, then its rights go (adoption_over_locked()): in the other order here. */
	smp_rmb();
	return READ_ONCE(att->hold) == SHMIPC_HOLD_GONE;
}

/* Checks and records; the VMA is not yet where a revoke would find its entries. */
int shmipc_view_mmap(struct shmipc_attachment *att, struct vm_area_struct *vma)
{
	struct shmipc_view *view;
	int err;

	err = shmipc_attachment_mine(att);
	if (!err && READ_ONCE(att->hold) == SHMIPC_HOLD_GONE)
		err = -ESTALE;
	if (err)
		return err;
	view = shmipc_view_find(att->ep, vma->vm_pgoff);
	if (!view)
		return gone_since(att) ? -ESTALE : -EINVAL;
	err = view_record(view, vma, att);
	shmipc_view_put(view);
	return err == -EINVAL && gone_since(att) ? -ESTALE : err;
}

#ifdef CONFIG_SHMIPC_KUNIT_TEST
#include "tests/mapping_test.c"
#endif
