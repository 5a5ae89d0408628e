// SPDX-License-Identifier: GPL-2.0-only
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/pid.h>
#include <linux/seq_file.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/user_namespace.h>

#include "account.h"
#include "endpoint.h"
#include "handle.h"
#include "listener.h"
#include "segment.h"
#include "session.h"
#include "view.h"

/* Own queue: exit waits for it, and it makes progress when memory is short, for it frees memory. */
static struct workqueue_struct *death_wq;

/* ---- endpoint ---- */

static void endpoint_die(struct work_struct *work);

static struct shmipc_endpoint *endpoint_new(struct file *file)
{
	struct shmipc_endpoint *ep;
	int err = -ENOMEM;

	ep = kzalloc(sizeof(*ep), GFP_KERNEL_ACCOUNT);
	if (!ep)
		return ERR_PTR(-ENOMEM);
	ep->user = shmipc_user_find(file->f_cred->euid);
	if (!ep->user)
		goto err_free;
	err = shmipc_endpoint_charge(ep->user);
	if (err)
		goto err_user;
	kref_init(&ep->ref);
	ep->cred = get_cred(file->f_cred);
	mutex_init(&ep->lock);
	xa_init_flags(&ep->handles, XA_FLAGS_ALLOC1 | XA_FLAGS_ACCOUNT);
	spin_lock_init(&ep->ready_lock);
	INIT_LIST_HEAD(&ep->ready);
	spin_lock_init(&ep->view_lock);
	ep->views = RB_ROOT;
	INIT_WORK(&ep->death, endpoint_die);
	init_completion(&ep->over);
	shmipc_live_inc(endpoints);
	shmipc_total_inc(endpoints);
	return ep;

err_user:
	shmipc_user_put(ep->user);
err_free:
	kfree(ep);
	return ERR_PTR(err);
}

static void endpoint_free(struct kref *ref)
{
	struct shmipc_endpoint *ep = container_of(ref, struct shmipc_endpoint, ref);

	WARN_ON_ONCE(!RB_EMPTY_ROOT(&ep->views) || !list_empty(&ep->ready) || ep->att);
	xa_destroy(&ep->handles);
	put_cred(ep->cred);
	shmipc_user_put(ep->user);
	kfree_rcu(ep, rcu);
	shmipc_live_dec(endpoints);
}

void shmipc_endpoint_put(struct shmipc_endpoint *ep)
{
	kref_put(&ep->ref, endpoint_free);
}

void shmipc_endpoint_end(struct shmipc_endpoint *ep, enum shmipc_ending how)
{
	struct shmipc_attachment *att;

	if (atomic_cmpxchg(&ep->ending, SHMIPC_ENDING_NOT, how) != SHMIPC_ENDING_NOT)
		return;
	rcu_read_lock();
	spin_lock(&ep->ready_lock);
	att = ep->att;
	/* Pairs with the acquire of who polls the anchor. */
	if (att)
		smp_store_release(&att->anchor->state, SHMIPC_STATE_DEAD);
	spin_unlock(&ep->ready_lock);
	if (att)
		wake_up_all(&att->wq);
	rcu_read_unlock();
	shmipc_endpoint_get(ep);
	queue_work(death_wq, &ep->death);
}

/* Uses up the table's reference. */
static void close_object(struct shmipc_object *obj, u32 flags, u32 reason, bool died)
{
	switch (obj->kind) {
	case SHMIPC_KIND_SEGMENT:
		shmipc_view_drop(shmipc_view_of(obj));
		return;
	case SHMIPC_KIND_LISTENER:
		shmipc_listener_close(shmipc_listener_of(obj), died);
		break;
	case SHMIPC_KIND_SESSION:
		shmipc_side_close(shmipc_side_of(obj), flags, reason, died);
		break;
	}
	shmipc_object_put(obj);
}

static void close_all(struct shmipc_endpoint *ep, enum shmipc_kind kind, bool died)
{
	struct shmipc_object *obj;
	unsigned long handle;

	/*
	 * Another thread's CLOSE may take an object and free it while we look: it is read again,
	 * with a reference, before it is touched.
	 */
	xa_for_each(&ep->handles, handle, obj) {
		obj = shmipc_handle_get(ep, handle, kind);
		if (IS_ERR(obj))
			continue;
		if (shmipc_handle_take(ep, obj))
			close_object(obj, 0, 0, died);
		shmipc_object_put(obj);
		cond_resched();
	}
}

/* In this order: nobody new comes, the memory is out of reach, peers know, memory is given back. */
static void endpoint_die(struct work_struct *work)
{
	struct shmipc_endpoint *ep = container_of(work, struct shmipc_endpoint, death);
	bool died = shmipc_endpoint_died(ep);
	struct shmipc_attachment *att;

	mutex_lock(&ep->lock);
	ep->dead = true;
	mutex_unlock(&ep->lock);

	close_all(ep, SHMIPC_KIND_LISTENER, died);
	shmipc_views_close(ep);
	close_all(ep, SHMIPC_KIND_SESSION, died);
	att = shmipc_attachment_get(ep);
	if (att) {
		wake_up_all(&att->wq);
		shmipc_attachment_put(att);
	}
	close_all(ep, SHMIPC_KIND_SEGMENT, died);
	shmipc_endpoint_uncharge(ep->user);
	if (died)
		shmipc_total_inc(deaths);
	complete_all(&ep->over);
	shmipc_endpoint_put(ep);
}

void shmipc_endpoint_describe(struct shmipc_endpoint *ep, struct shmipc_peer *peer)
{
	struct user_namespace *ns = current_user_ns();

	peer->uid = from_kuid_munged(ns, ep->cred->euid);
	peer->gid = from_kgid_munged(ns, ep->cred->egid);
	/* The number may be another process's by now, when ours is gone and its memory lives on. */
	rcu_read_lock();
	spin_lock(&ep->ready_lock);
	if (ep->att && pid_task(ep->att->pid, PIDTYPE_TGID))
		peer->pid = pid_vnr(ep->att->pid);
	else
		peer->pid = 0;
	spin_unlock(&ep->ready_lock);
	rcu_read_unlock();
	peer->__reserved = 0;
}

void shmipc_endpoint_show(struct shmipc_endpoint *ep, struct seq_file *m)
{
	static const char *const states[] = { "live", "died", "closed" };

	seq_printf(m, "shmipc-state:\t%s\n", states[atomic_read(&ep->ending)]);
	seq_printf(m, "shmipc-segments:\t%d\n", atomic_read(&ep->objects[SHMIPC_KIND_SEGMENT]));
	seq_printf(m, "shmipc-listeners:\t%d\n", atomic_read(&ep->objects[SHMIPC_KIND_LISTENER]));
	seq_printf(m, "shmipc-sessions:\t%d\n", atomic_read(&ep->objects[SHMIPC_KIND_SESSION]));
	seq_printf(m, "shmipc-limbo:\t%d\n", atomic_read(&ep->limbo));
	seq_printf(m, "shmipc-pages:\t%ld\n", atomic_long_read(&ep->pages));
	seq_printf(m, "shmipc-user-pages:\t%ld\n", atomic_long_read(&ep->user->pages));
}

/* ---- attachment ---- */

struct shmipc_attachment *shmipc_attachment_get(struct shmipc_endpoint *ep)
{
	struct shmipc_attachment *att;

	spin_lock(&ep->ready_lock);
	att = ep->att;
	if (att)
		refcount_inc(&att->ref);
	spin_unlock(&ep->ready_lock);
	return att;
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
	shmipc_endpoint_put(att->ep);
	kfree_rcu(att, rcu);
	shmipc_live_dec(attachments);
}

int shmipc_attachment_open(struct file *file)
{
	struct shmipc_attachment *att;
	int err = -ENOMEM;

	att = kzalloc(sizeof(*att), GFP_KERNEL_ACCOUNT);
	if (!att)
		return -ENOMEM;
	att->anchor = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!att->anchor)
		goto err_att;
	att->inode = shmipc_inode_new();
	if (IS_ERR(att->inode)) {
		err = PTR_ERR(att->inode);
		goto err_anchor;
	}
	att->ep = endpoint_new(file);
	if (IS_ERR(att->ep)) {
		err = PTR_ERR(att->ep);
		goto err_inode;
	}
	refcount_set(&att->ref, 1);
	init_waitqueue_head(&att->wq);
	att->file = file;
	att->ep->att = att;
	file->f_mapping = att->inode->i_mapping;
	file->private_data = att;
	shmipc_live_inc(attachments);
	return 0;

err_inode:
	shmipc_inode_put(att->inode);
err_anchor:
	free_page((unsigned long)att->anchor);
err_att:
	kfree(att);
	return err;
}

/* No mapping is left: each of them held the file. */
int shmipc_attachment_release(struct file *file)
{
	struct shmipc_attachment *att = file->private_data;
	struct shmipc_endpoint *ep = att->ep;

	shmipc_endpoint_end(ep, SHMIPC_ENDING_DIED);
	wait_for_completion(&ep->over);
	spin_lock(&ep->ready_lock);
	ep->att = NULL;
	spin_unlock(&ep->ready_lock);
	shmipc_attachment_put(att);
	return 0;
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
		shmipc_endpoint_end(att->ep, SHMIPC_ENDING_DIED);
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

/* Binds the endpoint to current's address space, once. */
static int attachment_bind(struct shmipc_attachment *att, struct mm_struct *mm)
{
	struct shmipc_endpoint *ep = att->ep;
	int err = 0;

	spin_lock(&ep->ready_lock);
	if (att->mm) {
		err = att->mm == mm ? -EBUSY : -EPERM;
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
	if (att->mm == vma->vm_mm && shmipc_endpoint_ending(att->ep))
		return -ESTALE;
	err = attachment_bind(att, vma->vm_mm);
	if (err)
		return err;
	vm_flags_set(vma, SHMIPC_VM_FLAGS);
	vm_flags_clear(vma, VM_MAYWRITE | VM_MAYEXEC);
	vma->vm_ops = &anchor_vm_ops;
	return 0;
}

/* ---- CLOSE ---- */

/* Returns when everything has been given back; peers learn that it was meant. */
static int close_endpoint(struct shmipc_endpoint *ep, const struct shmipc_close *arg)
{
	if (arg->flags || arg->reason)
		return -EINVAL;
	shmipc_endpoint_end(ep, SHMIPC_ENDING_CLOSED);
	wait_for_completion(&ep->over);
	return 0;
}

int shmipc_close(struct shmipc_call *call)
{
	const struct shmipc_close *arg = call->arg;
	struct shmipc_object *obj;
	int err = 0;

	if (arg->flags & ~SHMIPC_CLOSE_REVOKE)
		return -EOPNOTSUPP;
	if (!arg->handle)
		return close_endpoint(call->ep, arg);
	obj = shmipc_handle_get_any(call->ep, arg->handle);
	if (IS_ERR(obj))
		return PTR_ERR(obj);
	if (obj->kind != SHMIPC_KIND_SESSION && (arg->flags || arg->reason))
		err = -EINVAL;
	else if (!shmipc_handle_take(call->ep, obj))
		err = -ENOENT;
	else
		close_object(obj, arg->flags, arg->reason, false);
	shmipc_object_put(obj);
	return err;
}

int shmipc_endpoint_init(void)
{
	death_wq = alloc_workqueue("shmipc", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	return death_wq ? 0 : -ENOMEM;
}

/* The last death may still be at work. */
void shmipc_endpoint_exit(void)
{
	destroy_workqueue(death_wq);
}

#ifdef CONFIG_SHMIPC_KUNIT_TEST
#include "tests/endpoint_test.c"
#endif
