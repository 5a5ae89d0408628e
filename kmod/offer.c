// SPDX-License-Identifier: GPL-2.0-only
/* offer.c - OFFER, and the file that it makes */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/jiffies.h>
#include <linux/poll.h>
#include <linux/slab.h>

#include "account.h"
#include "endpoint.h"
#include "handover.h"
#include "offer.h"

/* ---- its end ---- */

void shmipc_offer_over_locked(struct shmipc_endpoint *ep)
{
	struct shmipc_offering *offer = ep->offer;

	lockdep_assert_held(&ep->lock);
	if (!offer)
		return;
	spin_lock(&ep->ready_lock);
	ep->offer = NULL;
	spin_unlock(&ep->ready_lock);
	shmipc_ready_off(ep, &offer->ready);
	WRITE_ONCE(offer->over, true);
	wake_up_poll(&offer->wq, EPOLLHUP);
	if (shmipc_handle_take(ep, &offer->obj))
		shmipc_object_put(&offer->obj);
}

/* ---- OFFER ---- */

static struct shmipc_offering *offer_new(struct shmipc_attachment *att,
					 const struct shmipc_offer *arg)
{
	struct shmipc_offering *offer = kzalloc(sizeof(*offer), GFP_KERNEL_ACCOUNT);

	if (!offer)
		return NULL;
	shmipc_object_init(&offer->obj, SHMIPC_KIND_OFFER, att->ep);
	shmipc_ready_init(&offer->ready, arg->cookie, SHMIPC_CAUSE_OFFER);
	offer->adopt = arg->adopt;
	offer->keep = arg->flags & SHMIPC_OFFER_KEEP;
	offer->blob = arg->blob;
	offer->until = get_jiffies_64() + nsecs_to_jiffies64(arg->timeout_ns) + 1;
	init_waitqueue_head(&offer->wq);
	shmipc_live_inc(offers);
	return offer;
}

void shmipc_offer_free(struct shmipc_offering *offer)
{
	shmipc_endpoint_put(offer->obj.ep);
	kfree_rcu(offer, rcu);
	shmipc_live_dec(offers);
}

void shmipc_offer_close(struct shmipc_offering *offer)
{
	struct shmipc_endpoint *ep = offer->obj.ep;

	mutex_lock(&ep->lock);
	if (ep->offer == offer)
		shmipc_withdraw_locked(ep);
	mutex_unlock(&ep->lock);
}

static int offer_release(struct inode *inode, struct file *file)
{
	struct shmipc_offering *offer = file->private_data;

	shmipc_offer_close(offer);
	shmipc_object_put(&offer->obj);
	return 0;
}

static __poll_t offer_poll(struct file *file, struct poll_table_struct *wait)
{
	struct shmipc_offering *offer = file->private_data;

	poll_wait(file, &offer->wq, wait);
	/* Orders our place on the queue before the look, as prepare_to_wait() does. */
	smp_mb();
	if (READ_ONCE(offer->over))
		return EPOLLHUP;
	return READ_ONCE(offer->obj.ep->next) ? EPOLLIN | EPOLLRDNORM : 0;
}

static const struct file_operations offer_fops = {
	.owner = THIS_MODULE,
	.release = offer_release,
	.poll = offer_poll,
	.llseek = noop_llseek,
};

struct shmipc_offering *shmipc_offer_get(int fd)
{
	struct shmipc_offering *offer = ERR_PTR(-EBADF);
	struct file *file = fget(fd);

	if (!file)
		return offer;
	if (file->f_op == &offer_fops) {
		offer = file->private_data;
		refcount_inc(&offer->obj.ref);
	}
	fput(file);
	return offer;
}

static int offer_check(struct shmipc_call *call)
{
	const struct shmipc_offer *arg = call->arg;
	struct shmipc_object *blob;

	if (arg->flags & ~SHMIPC_OFFER_KEEP)
		return -EOPNOTSUPP;
	if (arg->adopt != SHMIPC_ADOPT_HOLDER && arg->adopt != SHMIPC_ADOPT_EUID)
		return -EOPNOTSUPP;
	if (!arg->timeout_ns || arg->timeout_ns > SHMIPC_OFFER_NS_MAX)
		return -EINVAL;
	if (!arg->blob)
		return 0;
	blob = shmipc_handle_get(call->ep, arg->blob, SHMIPC_KIND_SEGMENT);
	if (IS_ERR(blob))
		return PTR_ERR(blob);
	shmipc_object_put(blob);
	return 0;
}

static int offer_publish(struct shmipc_attachment *att, struct shmipc_offering *offer)
{
	struct shmipc_endpoint *ep = att->ep;
	int err;

	mutex_lock(&ep->lock);
	err = ep->dead ? -ESTALE : shmipc_attachment_status(att);
	if (!err && ep->offer)
		err = -EBUSY;
	if (!err) {
		refcount_inc(&offer->obj.ref);
		shmipc_handle_publish_locked(ep, &offer->obj);
		spin_lock(&ep->ready_lock);
		ep->offer = offer;
		ep->blob = offer->blob;
		spin_unlock(&ep->ready_lock);
		shmipc_deadline_arm_locked(ep);
		shmipc_total_inc(offers);
	}
	mutex_unlock(&ep->lock);
	return err;
}

/* With a handle reserved, and a file that has the reference of the caller. */
static int offer_tell(struct shmipc_call *call, struct shmipc_offering *offer, struct file *file)
{
	struct shmipc_offer *arg = call->arg;
	int fd, err;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	arg->out_fd = fd;
	arg->out_handle = offer->obj.handle;
	err = shmipc_call_respond(call) ?: offer_publish(call->att, offer);
	if (err)
		put_unused_fd(fd);
	else
		fd_install(fd, file);
	return err;
}

int shmipc_offer(struct shmipc_call *call)
{
	struct shmipc_offering *offer;
	struct file *file;
	int err;

	err = offer_check(call);
	if (err)
		return err;
	offer = offer_new(call->att, call->arg);
	if (!offer)
		return -ENOMEM;
	err = shmipc_handle_reserve(call->ep, &offer->obj.handle);
	if (err) {
		shmipc_object_put(&offer->obj);
		return err;
	}
	offer->ready.handle = offer->obj.handle;
	file = anon_inode_getfile("[shmipc-offer]", &offer_fops, offer, O_RDWR);
	if (IS_ERR(file)) {
		err = PTR_ERR(file);
		shmipc_handle_unreserve(call->ep, offer->obj.handle);
		shmipc_object_put(&offer->obj);
		return err;
	}
	err = offer_tell(call, offer, file);
	if (err) {
		shmipc_handle_unreserve(call->ep, offer->obj.handle);
		fput(file);
	}
	return err;
}
