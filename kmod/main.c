// SPDX-License-Identifier: GPL-2.0-only
#include <linux/compat.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/nospec.h>
#include <linux/pseudo_fs.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>

#include "account.h"
#include "connect.h"
#include "endpoint.h"
#include "give.h"
#include "handover.h"
#include "list.h"
#include "listener.h"
#include "main.h"
#include "offer.h"
#include "segment.h"
#include "session.h"
#include "sync.h"
#include "tests/run.h"
#include "view.h"

#define SHMIPC_FS_MAGIC	0x73686970	/* "ship" */

/* ---- requests ---- */

/* The size is read twice only by who passes another one; what was read first counts. */
int shmipc_call_read(struct shmipc_call *call, u32 min_size)
{
	u32 *size = call->arg;
	int err;

	if (likely(!copy_from_user(call->arg, call->uarg, call->size) && *size == call->size)) {
		call->usize = call->size;
		return 0;
	}
	if (get_user(call->usize, (u32 __user *)call->uarg))
		return -EFAULT;
	if (call->usize < min_size)
		return -EINVAL;
	if (call->usize > PAGE_SIZE)
		return -E2BIG;
	err = copy_struct_from_user(call->arg, call->size, call->uarg, call->usize);
	*size = call->usize;
	return err;
}

int shmipc_call_respond(struct shmipc_call *call)
{
	return copy_to_user(call->uarg, call->arg, min(call->usize, call->size)) ? -EFAULT : 0;
}

static int query(struct shmipc_call *call)
{
	struct shmipc_query *q = call->arg;
	u32 size = q->size;

	if (q->flags)
		return -EOPNOTSUPP;
	memset(q, 0, sizeof(*q));
	q->size = size;
	q->out_abi = SHMIPC_ABI;
	q->out_abi_oldest = SHMIPC_ABI_OLDEST;
	q->out_features = SHMIPC_FEATURE_STREAMS | SHMIPC_FEATURE_GIVE |
			  SHMIPC_FEATURE_HANDOVER;
	q->out_page_size = PAGE_SIZE;
	q->out_max_notify = SHMIPC_NOTIFY_MAX;
	q->out_max_segment = (u64)SHMIPC_SEGMENT_PAGES_MAX << PAGE_SHIFT;
	shmipc_account_query(call->att->user, q);
	strscpy(q->out_version, SHMIPC_VERSION, sizeof(q->out_version));
	return shmipc_call_respond(call);
}

/**
 * struct request - how a request is served
 * @size: of its struct now
 * @min_size: of its struct in the first version
 * @handler: what serves it
 * @also: holds beside ACTIVE that it is served under, a bit each
 */
struct request {
	u32 size;
	u32 min_size;
	int (*handler)(struct shmipc_call *call);
	u32 also;
};

#define REQUEST(type, last, fn, ...) \
	{ sizeof(struct type), offsetofend(struct type, last), fn, ##__VA_ARGS__ }

#define YIELDED		BIT(SHMIPC_HOLD_YIELDED)
#define ADOPTING	BIT(SHMIPC_HOLD_ADOPTING)

/* SYNC is not here: it is served apart. */
static const struct request requests[] = {
	[_IOC_NR(SHMIPC_IOC_QUERY)] = REQUEST(shmipc_query, out_version, query,
					YIELDED | ADOPTING),
	[_IOC_NR(SHMIPC_IOC_CLOSE)] = REQUEST(shmipc_close, reason, shmipc_close,
					YIELDED | ADOPTING),
	[_IOC_NR(SHMIPC_IOC_SEG_CREATE)] = REQUEST(shmipc_seg_create, __reserved,
						   shmipc_seg_create),
	[_IOC_NR(SHMIPC_IOC_SEG_INFO)] = REQUEST(shmipc_seg_info, out_grants, shmipc_seg_info,
					   YIELDED | ADOPTING),
	[_IOC_NR(SHMIPC_IOC_SEG_GRANT)] = REQUEST(shmipc_seg_grant, __reserved, shmipc_seg_grant),
	[_IOC_NR(SHMIPC_IOC_SEG_REVOKE)] = REQUEST(shmipc_seg_revoke, slot, shmipc_seg_revoke),
	[_IOC_NR(SHMIPC_IOC_SEG_FREEZE)] = REQUEST(shmipc_seg_freeze, __reserved,
						   shmipc_seg_freeze),
	[_IOC_NR(SHMIPC_IOC_SEG_GIVE)] = REQUEST(shmipc_seg_give, slot, shmipc_seg_give),
	[_IOC_NR(SHMIPC_IOC_SEG_TAKE)] = REQUEST(shmipc_seg_take, __reserved, shmipc_seg_take),
	[_IOC_NR(SHMIPC_IOC_BIND)] = REQUEST(shmipc_bind, cookie, shmipc_bind),
	[_IOC_NR(SHMIPC_IOC_ACCEPT)] = REQUEST(shmipc_accept, out_peer, shmipc_accept),
	[_IOC_NR(SHMIPC_IOC_CONNECT)] = REQUEST(shmipc_connect, out_peer, shmipc_connect),
	[_IOC_NR(SHMIPC_IOC_OFFER)] = REQUEST(shmipc_offer, out_fd, shmipc_offer),
	[_IOC_NR(SHMIPC_IOC_ADOPT)] = REQUEST(shmipc_adopt, __reserved, shmipc_adopt),
	[_IOC_NR(SHMIPC_IOC_LIST)] = REQUEST(shmipc_list, out_remaining_ns, shmipc_list,
					YIELDED | ADOPTING),
	[_IOC_NR(SHMIPC_IOC_YIELD)] = REQUEST(shmipc_yield, flags, shmipc_yield),
	[_IOC_NR(SHMIPC_IOC_COMMIT)] = REQUEST(shmipc_commit, flags, shmipc_commit, ADOPTING),
	[_IOC_NR(SHMIPC_IOC_WATCH)] = REQUEST(shmipc_watch, cookie, shmipc_watch),
};

union any_request {
	struct shmipc_query query;
	struct shmipc_close close;
	struct shmipc_seg_create seg_create;
	struct shmipc_seg_info seg_info;
	struct shmipc_seg_grant seg_grant;
	struct shmipc_seg_revoke seg_revoke;
	struct shmipc_seg_freeze seg_freeze;
	struct shmipc_seg_give seg_give;
	struct shmipc_seg_take seg_take;
	struct shmipc_bind bind;
	struct shmipc_accept accept;
	struct shmipc_connect connect;
	struct shmipc_offer offer;
	struct shmipc_adopt adopt;
	struct shmipc_list list;
	struct shmipc_yield yield;
	struct shmipc_commit commit;
	struct shmipc_watch watch;
};

static long dispatch(struct shmipc_attachment *att, unsigned int cmd, void __user *uarg)
{
	unsigned int nr = _IOC_NR(cmd);
	union any_request arg;
	struct shmipc_call call = { .att = att, .ep = att->ep, .uarg = uarg, .arg = &arg };
	u32 hold;
	int err;

	if (cmd != SHMIPC_IOC(nr) || nr >= ARRAY_SIZE(requests))
		return -ENOTTY;
	nr = array_index_nospec(nr, ARRAY_SIZE(requests));
	if (!requests[nr].handler)
		return -ENOTTY;
	/* Read once: a COMMIT may change it. Whatever changes anything looks again, locked. */
	hold = READ_ONCE(att->hold);
	err = shmipc_attachment_mine(att) ?: shmipc_hold_status(hold);
	if (err == -EBUSY && requests[nr].also & BIT(hold))
		err = 0;
	if (err && !(cmd == SHMIPC_IOC_QUERY && err == -EINVAL))
		return err;
	call.size = requests[nr].size;
	err = shmipc_call_read(&call, requests[nr].min_size);
	return err ?: requests[nr].handler(&call);
}

static long shmipc_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct shmipc_attachment *att = file->private_data;

	if (likely(cmd == SHMIPC_IOC_SYNC))
		return shmipc_sync(att, (void __user *)arg);
	return dispatch(att, cmd, (void __user *)arg);
}

/* ---- the device ---- */

static int shmipc_open(struct inode *inode, struct file *file)
{
	if ((file->f_mode & (FMODE_READ | FMODE_WRITE)) != (FMODE_READ | FMODE_WRITE))
		return -EINVAL;
	return shmipc_attachment_open(file);
}

static int shmipc_release(struct inode *inode, struct file *file)
{
	return shmipc_attachment_release(file);
}

/* MAP_PRIVATE of page frames would be a bug of the kernel's to trip over. */
static int shmipc_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct shmipc_attachment *att = file->private_data;

	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC)
		return -EACCES;
	return vma->vm_pgoff ? shmipc_view_mmap(att, vma) : shmipc_anchor_mmap(att, vma);
}

static void shmipc_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct shmipc_attachment *att = file->private_data;

	shmipc_attachment_show(att, m);
}

const struct file_operations shmipc_fops = {
	.owner = THIS_MODULE,
	.open = shmipc_open,
	.release = shmipc_release,
	.unlocked_ioctl = shmipc_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = shmipc_mmap,
	.poll = shmipc_poll,
	.show_fdinfo = shmipc_show_fdinfo,
	.llseek = noop_llseek,
};

static struct miscdevice shmipc_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "shmipc",
	.fops = &shmipc_fops,
	.mode = 0666,
};

/* ---- inodes ---- */

static int fs_init_context(struct fs_context *fc)
{
	return init_pseudo(fc, SHMIPC_FS_MAGIC) ? 0 : -ENOMEM;
}

static struct file_system_type shmipc_fs = {
	.name = "shmipc",
	.owner = THIS_MODULE,
	.init_fs_context = fs_init_context,
	.kill_sb = kill_anon_super,
};

static struct vfsmount *fs_mount;
static int fs_pins;

struct inode *shmipc_inode_new(void)
{
	struct inode *inode;
	int err;

	err = simple_pin_fs(&shmipc_fs, &fs_mount, &fs_pins);
	if (err)
		return ERR_PTR(err);
	inode = alloc_anon_inode(fs_mount->mnt_sb);
	if (IS_ERR(inode))
		simple_release_fs(&fs_mount, &fs_pins);
	return inode;
}

void shmipc_inode_put(struct inode *inode)
{
	iput(inode);
	simple_release_fs(&fs_mount, &fs_pins);
}

/* ---- module ---- */

static int __init shmipc_init(void)
{
	int err;

	err = shmipc_account_init();
	if (err)
		return err;
	err = shmipc_endpoint_init();
	if (err)
		goto err_account;
	err = shmipc_listener_init();
	if (err)
		goto err_endpoint;
	err = misc_register(&shmipc_device);
	if (!err) {
		shmipc_tests_run();
		return 0;
	}
	shmipc_listener_exit();
err_endpoint:
	shmipc_endpoint_exit();
err_account:
	shmipc_account_exit();
	return err;
}

/* No file is open, so that no request runs; the last death and the last grace period may. */
static void __exit shmipc_exit(void)
{
	shmipc_tests_exit();
	misc_deregister(&shmipc_device);
	shmipc_endpoint_exit();
	shmipc_listener_exit();
	rcu_barrier();
	shmipc_account_exit();
}

module_init(shmipc_init);
module_exit(shmipc_exit);
MODULE_DESCRIPTION("shared memory with an owner, for interprocess communication");
MODULE_AUTHOR("the shmipc authors");
MODULE_LICENSE("GPL");
MODULE_VERSION(SHMIPC_VERSION);
