// SPDX-License-Identifier: GPL-2.0-only
/* attachment.c - how a process holds an endpoint: see endpoint.h, and handover.h for the states */
#include <linux/mm.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "account.h"
#include "endpoint.h"
#include "handover.h"
#include "view.h"

/* ---- life ---- */

void shmipc_attachments_get(struct shmipc_endpoint *ep, struct shmipc_attachment *att[2])
{
	int i;

	spin_lock(&ep->ready_lock);
	att[0] = ep->att;
	att[1] = ep->next;
	for (i = 0; i < 2; i++) {
		if (att[i])
			refcount_inc(&att[i]->ref);
	}
	spin_unlock(&ep->ready_lock);
}

/* Sleeps when it is the last. */
void shmipc_attachment_put(struct shmipc_attachment *att)
{
	if (!refcount_dec_and_test(&att->ref))
		return;
	shmipc_inode_put(att->inode);
	free_page((unsigned long)att->anchor);
	put_pid(att->pid);
	if (att->mm)
		mmdrop(att->mm);
	if (att->ep)
		shmipc_endpoint_put(att->ep);
	shmipc_user_put(att->user);
	kfree_rcu(att, rcu);
	shmipc_live_dec(attachments);
}

struct shmipc_attachment *shmipc_attachment_new(const struct cred *cred)
{
	struct shmipc_attachment *att;
	int err = -ENOMEM;

	att = kzalloc(sizeof(*att), GFP_KERNEL_ACCOUNT);
	if (!att)
		return ERR_PTR(-ENOMEM);
	att->user = shmipc_user_find(cred->euid);
	if (!att->user)
		goto err_att;
	att->anchor = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!att->anchor)
		goto err_user;
	att->inode = shmipc_inode_new();
	if (IS_ERR(att->inode)) {
		err = PTR_ERR(att->inode);
		goto err_anchor;
	}
	refcount_set(&att->ref, 1);
	init_rwsem(&att->sem);
	init_waitqueue_head(&att->wq);
	shmipc_live_inc(attachments);
	return att;

err_anchor:
	free_page((unsigned long)att->anchor);
err_user:
	shmipc_user_put(att->user);
err_att:
	kfree(att);
	return ERR_PTR(err);
}

/* The file's from here on. */
void shmipc_attachment_install(struct shmipc_attachment *att, struct file *file)
{
	att->file = file;
	file->f_mapping = att->inode->i_mapping;
	file->private_data = att;
}

int shmipc_attachment_open(struct file *file)
{
	struct shmipc_attachment *att = shmipc_attachment_new(file->f_cred);
	struct shmipc_endpoint *ep;

	if (IS_ERR(att))
		return PTR_ERR(att);
	ep = shmipc_endpoint_new(file->f_cred, att->user);
	if (IS_ERR(ep)) {
		shmipc_attachment_put(att);
		return PTR_ERR(ep);
	}
	att->ep = ep;
	att->rights = SHMIPC_RIGHT_READ | SHMIPC_RIGHT_WRITE;
	ep->att = att;
	shmipc_attachment_install(att, file);
	return 0;
}

/* No mapping is left: each of them held the file. */
int shmipc_attachment_release(struct file *file)
{
	struct shmipc_attachment *att = file->private_data;
	struct shmipc_endpoint *ep = att->ep;
	bool held;

	shmipc_attachment_end(att, SHMIPC_ENDING_DIED);
	/* What becomes of the endpoint is known when that is done. */
	flush_work(&ep->settle);
	spin_lock(&ep->ready_lock);
	/* While a COMMIT takes the endpoint from us it has its own reference. */
	held = ep->att == att && shmipc_endpoint_ending(ep);
	spin_unlock(&ep->ready_lock);
	if (held) {
		/* Its own reference included: nothing is counted any more when the file is gone. */
		flush_work(&ep->death);
		spin_lock(&ep->ready_lock);
		ep->att = NULL;
		spin_unlock(&ep->ready_lock);
	}
	shmipc_attachment_put(att);
	return 0;
}

/* ---- who holds it ---- */

int shmipc_holder_lock(struct shmipc_attachment *att)
{
	struct shmipc_endpoint *ep = att->ep;
	int err;

	mutex_lock(&ep->lock);
	err = ep->dead ? -ESTALE : shmipc_attachment_status(att);
	if (err)
		mutex_unlock(&ep->lock);
	return err;
}

/* ---- rights ---- */

void shmipc_attachment_set_rights(struct shmipc_attachment *att, u32 rights)
{
	down_write(&att->sem);
	att->rights = rights;
	up_write(&att->sem);
}

void shmipc_attachment_revoke(struct shmipc_attachment *att)
{
	shmipc_attachment_set_rights(att, 0);
	unmap_mapping_range(att->inode->i_mapping, 0, 0, 1);
}

void shmipc_endpoint_zap(struct shmipc_endpoint *ep, unsigned long start, unsigned long npages)
{
	struct shmipc_attachment *att[2];
	int i;

	shmipc_attachments_get(ep, att);
	for (i = 0; i < 2; i++) {
		if (!att[i])
			continue;
		unmap_mapping_range(att[i]->inode->i_mapping, (loff_t)start << PAGE_SHIFT,
				    (loff_t)npages << PAGE_SHIFT, 1);
		shmipc_attachment_put(att[i]);
	}
}

/* ---- end ---- */

void shmipc_attachment_gone_locked(struct shmipc_attachment *att, u32 state)
{
	lockdep_assert_held(&att->ep->ready_lock);
	WRITE_ONCE(att->hold, SHMIPC_HOLD_GONE);
	/* Pairs with the acquire of who polls the anchor. */
	smp_store_release(&att->anchor->state, state);
}

/* Under mmap_lock, from vm_ops; what must sleep is left to the works. */
int shmipc_attachment_end(struct shmipc_attachment *att, enum shmipc_ending how)
{
	struct shmipc_endpoint *ep = att->ep;
	int err = 0;

	spin_lock(&ep->ready_lock);
	if (att->hold == SHMIPC_HOLD_GONE) {
		err = -ESTALE;
	} else if (ep->att == att && (how == SHMIPC_ENDING_CLOSED || !shmipc_outlives_locked(ep))) {
		shmipc_endpoint_end_locked(ep, how);
	} else {
		shmipc_attachment_gone_locked(att, SHMIPC_STATE_DEAD);
		shmipc_settle(ep);
	}
	spin_unlock(&ep->ready_lock);
	wake_up_all(&att->wq);
	return err;
}

/* ---- anchor ---- */

static void anchor_vm_open(struct vm_area_struct *vma)
{
	struct shmipc_attachment *att = vma->vm_file->private_data;

	atomic_inc(&att->anchors);
}

/* Under mmap_lock. */
static void anchor_vm_close(struct vm_area_struct *vma)
{
	struct shmipc_attachment *att = vma->vm_file->private_data;

	if (atomic_dec_and_test(&att->anchors))
		shmipc_attachment_end(att, SHMIPC_ENDING_DIED);
}

/* Also after death, so that who polls it learns of that. */
static vm_fault_t anchor_vm_fault(struct vm_fault *vmf)
{
	struct shmipc_attachment *att = vmf->vma->vm_file->private_data;

	return vmf_insert_pfn(vmf->vma, vmf->address, page_to_pfn(virt_to_page(att->anchor)));
}

static const struct vm_operations_struct anchor_vm_ops = {
	.open = anchor_vm_open,
	.close = anchor_vm_close,
	.fault = anchor_vm_fault,
};

/* Binds the attachment to current's address space, once. */
static int attachment_bind(struct shmipc_attachment *att, struct mm_struct *mm)
{
	struct shmipc_endpoint *ep = att->ep;
	int err = 0;

	spin_lock(&ep->ready_lock);
	if (att->mm) {
		err = att->mm == mm ? -EBUSY : -EPERM;
	} else if (att->hold == SHMIPC_HOLD_GONE) {
		err = -ESTALE;
	} else {
		mmgrab(mm);
		att->pid = get_pid(task_tgid(current));
		atomic_set(&att->anchors, 1);
		/* Pairs with shmipc_attachment_check(). */
		smp_store_release(&att->mm, mm);
	}
	spin_unlock(&ep->ready_lock);
	return err;
}

int shmipc_anchor_mmap(struct shmipc_attachment *att, struct vm_area_struct *vma)
{
	int err;

	if (vma_pages(vma) != 1)
		return -EINVAL;
	if (vma->vm_flags & VM_WRITE)
		return -EACCES;
	if (att->mm == vma->vm_mm && READ_ONCE(att->hold) == SHMIPC_HOLD_GONE)
		return -ESTALE;
	err = attachment_bind(att, vma->vm_mm);
	if (err)
		return err;
	vm_flags_set(vma, SHMIPC_VM_FLAGS);
	vm_flags_clear(vma, VM_MAYWRITE | VM_MAYEXEC);
	vma->vm_ops = &anchor_vm_ops;
	return 0;
}
