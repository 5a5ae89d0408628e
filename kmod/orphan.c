// SPDX-License-Identifier: GPL-2.0-only
#include <linux/capability.h>
#include <linux/jiffies.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>

#include "account.h"
#include "endpoint.h"
#include "handover.h"
#include "listener.h"
#include "offer.h"
#include "orphan.h"
#include "session.h"

static DEFINE_MUTEX(orphans_mutex);
static LIST_HEAD(orphans);

/* ---- the parameter ---- */

static uint orphan_max_ms = 60000;

static struct shmipc_endpoint *orphan_pop(void)
{
	struct shmipc_endpoint *ep;

	mutex_lock(&orphans_mutex);
	ep = list_first_entry_or_null(&orphans, struct shmipc_endpoint, orphan.link);
	if (ep) {
		list_del_init(&ep->orphan.link);
		shmipc_endpoint_get(ep);
	}
	mutex_unlock(&orphans_mutex);
	return ep;
}

/* Also those that are just being adopted. */
static void orphans_flush(void)
{
	struct shmipc_endpoint *ep;
	bool ends;

	while ((ep = orphan_pop())) {
		mutex_lock(&ep->lock);
		ends = ep->orphan.is;
		if (ends)
			shmipc_endpoint_end(ep, SHMIPC_ENDING_DIED);
		mutex_unlock(&ep->lock);
		if (ends)
			wait_for_completion(&ep->over);
		shmipc_endpoint_put(ep);
	}
}

static int orphan_max_set(const char *value, const struct kernel_param *kp)
{
	int err = param_set_uint(value, kp);

	if (!err && !orphan_max_ms)
		orphans_flush();
	return err;
}

static const struct kernel_param_ops orphan_max_ops = {
	.set = orphan_max_set,
	.get = param_get_uint,
};
module_param_cb(orphan_max_ms, &orphan_max_ops, &orphan_max_ms, 0644);
MODULE_PARM_DESC(orphan_max_ms, "how long an endpoint may wait for a successor; 0: none, end all now");

/* ---- reasons ---- */

bool shmipc_outlives_locked(struct shmipc_endpoint *ep)
{
	lockdep_assert_held(&ep->ready_lock);
	return READ_ONCE(orphan_max_ms) &&
	       (atomic_read(&ep->orphan.reasons) || (ep->offer && ep->offer->keep));
}

/* The time of its listeners; 0 if none has one. */
static u64 orphan_time_locked(struct shmipc_endpoint *ep)
{
	struct shmipc_object *obj;
	unsigned long handle;
	u32 ms = 0;

	xa_for_each(&ep->handles, handle, obj) {
		if (obj->kind == SHMIPC_KIND_LISTENER)
			ms = max(ms, shmipc_listener_of(obj)->orphan_ms);
		cond_resched();
	}
	return msecs_to_jiffies(min(ms, READ_ONCE(orphan_max_ms)));
}

u64 shmipc_orphan_until_locked(struct shmipc_endpoint *ep)
{
	lockdep_assert_held(&ep->lock);
	return ep->orphan.is ? ep->orphan.until : 0;
}

/* ---- namespaces ---- */

void shmipc_orphan_drop_nets_locked(struct shmipc_endpoint *ep)
{
	struct shmipc_object *obj;
	unsigned long handle;

	lockdep_assert_held(&ep->lock);
	xa_for_each(&ep->handles, handle, obj) {
		if (obj->kind == SHMIPC_KIND_LISTENER)
			shmipc_listener_drop_net(shmipc_listener_of(obj));
		cond_resched();
	}
}

int shmipc_orphan_keep_nets_locked(struct shmipc_endpoint *ep)
{
	struct shmipc_object *obj;
	unsigned long handle;

	lockdep_assert_held(&ep->lock);
	xa_for_each(&ep->handles, handle, obj) {
		cond_resched();
		if (obj->kind != SHMIPC_KIND_LISTENER ||
		    shmipc_listener_keep_net(shmipc_listener_of(obj)))
			continue;
		shmipc_orphan_drop_nets_locked(ep);
		return -ENOENT;
	}
	return 0;
}

/* ---- life ---- */

static void orphan_enter_locked(struct shmipc_endpoint *ep)
{
	u64 now = get_jiffies_64();

	/* The file of who was lost has the module until its release, and that waits for us. */
	__module_get(THIS_MODULE);
	ep->orphan.is = true;
	ep->orphan.until = now + orphan_time_locked(ep);
	if (ep->offer)
		ep->offer->until = min(ep->offer->until,
				       now + msecs_to_jiffies(READ_ONCE(orphan_max_ms)));
	mutex_lock(&orphans_mutex);
	list_add_tail(&ep->orphan.link, &orphans);
	mutex_unlock(&orphans_mutex);
	shmipc_live_inc(orphans);
	shmipc_total_inc(orphans);
}

void shmipc_orphan_begin_locked(struct shmipc_endpoint *ep)
{
	struct shmipc_attachment *att[2];
	bool outlives;

	lockdep_assert_held(&ep->lock);
	if (ep->offer && !ep->offer->keep)
		shmipc_withdraw_locked(ep);
	spin_lock(&ep->ready_lock);
	outlives = shmipc_outlives_locked(ep);
	spin_unlock(&ep->ready_lock);
	if (!outlives) {
		shmipc_endpoint_end(ep, SHMIPC_ENDING_DIED);
		return;
	}
	shmipc_attachments_get(ep, att);
	shmipc_attachment_revoke(att[0]);
	spin_lock(&ep->ready_lock);
	ep->att = NULL;
	spin_unlock(&ep->ready_lock);
	orphan_enter_locked(ep);
	if (!att[1])
		shmipc_orphan_drop_nets_locked(ep);
	shmipc_deadline_arm_locked(ep);
	shmipc_sessions_tell_locked(ep, SHMIPC_CAUSE_PEER_LOST);
	shmipc_attachment_put(att[0]);
	if (att[1]) {
		/* It may COMMIT now. */
		wake_up_all(&att[1]->wq);
		shmipc_attachment_put(att[1]);
	}
}

void shmipc_orphan_end(struct shmipc_endpoint *ep)
{
	if (!ep->orphan.is)
		return;
	ep->orphan.is = false;
	mutex_lock(&orphans_mutex);
	list_del_init(&ep->orphan.link);
	mutex_unlock(&orphans_mutex);
	shmipc_live_dec(orphans);
	module_put(THIS_MODULE);
}

int shmipc_orphan_expire(struct shmipc_endpoint *ep)
{
	int err = 0;

	mutex_lock(&ep->lock);
	if (ep->next)
		err = -EBUSY;
	else if (!ep->orphan.is)
		err = -ESTALE;
	else
		shmipc_endpoint_end(ep, SHMIPC_ENDING_DIED);
	mutex_unlock(&ep->lock);
	if (!err)
		wait_for_completion(&ep->over);
	return err;
}

bool shmipc_orphan_permits(struct shmipc_listener *l, struct shmipc_attachment *att)
{
	return (l->adopt == SHMIPC_ADOPT_EUID && shmipc_same_user(att, l->obj.ep)) ||
	       file_ns_capable(att->file, &init_user_ns, CAP_SYS_ADMIN);
}

int shmipc_orphan_give_way(struct shmipc_listener *l, struct shmipc_attachment *att, bool fresh)
{
	struct shmipc_endpoint *ep = l->obj.ep;
	bool orphan;
	int err;

	/* A holder that is dead is an orphan after this. */
	flush_work(&ep->settle);
	mutex_lock(&ep->lock);
	orphan = ep->orphan.is;
	mutex_unlock(&ep->lock);
	if (!orphan || !shmipc_orphan_permits(l, att))
		return -EADDRINUSE;
	if (!fresh)
		return -EOWNERDEAD;
	err = shmipc_orphan_expire(ep);
	/* It was adopted, or came to its end, meanwhile. */
	return err == -ESTALE ? 0 : err;
}
