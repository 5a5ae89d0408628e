// SPDX-License-Identifier: GPL-2.0-only
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/sched.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

#include "account.h"
#include "connect.h"
#include "endpoint.h"
#include "listener.h"
#include "segment.h"
#include "session.h"
#include "view.h"

/* A view of @handle's segment for whoever will be the peer; NULL for handle 0. */
static struct shmipc_view *view_of_handle(struct shmipc_endpoint *ep, u32 handle)
{
	struct shmipc_object *obj;
	struct shmipc_view *view;

	if (!handle)
		return NULL;
	obj = shmipc_handle_get(ep, handle, SHMIPC_KIND_SEGMENT);
	if (IS_ERR(obj))
		return ERR_CAST(obj);
	view = shmipc_view_grant(shmipc_view_of(obj));
	shmipc_object_put(obj);
	return view;
}

/* ---- CONNECT ---- */

#define CONNECT_FLAGS	(SHMIPC_CONNECT_NONBLOCK | SHMIPC_CONNECT_EXPECT_UID | \
			 SHMIPC_CONNECT_ZERO_REVOKED)

static int connect_check(const struct shmipc_connect *arg)
{
	if (arg->flags & ~CONNECT_FLAGS ||
	    arg->causes & ~SHMIPC_SESSION_CAUSES)
		return -EOPNOTSUPP;
	if (!(arg->flags & SHMIPC_CONNECT_EXPECT_UID) && arg->expect_uid)
		return -EINVAL;
	if (arg->meta_len > SHMIPC_META_MAX || (arg->meta_len && !arg->meta))
		return -EINVAL;
	return 0;
}

static struct shmipc_listener *connect_find(struct shmipc_call *call,
					    const struct shmipc_connect *arg)
{
	struct shmipc_listener *l;
	char name[SHMIPC_NAME_MAX];
	bool allowed;
	int err;

	err = shmipc_name_read(name, arg->name, arg->name_len);
	if (err)
		return ERR_PTR(err);
	l = shmipc_listener_find(name, arg->name_len);
	if (!l)
		return ERR_PTR(-ENOENT);
	allowed = shmipc_listener_permits(l, call->att);
	if (arg->flags & SHMIPC_CONNECT_EXPECT_UID)
		allowed &= uid_eq(shmipc_endpoint_uid(l->obj.ep),
				  make_kuid(current_user_ns(), arg->expect_uid));
	if (!allowed) {
		shmipc_object_put(&l->obj);
		return ERR_PTR(-EACCES);
	}
	return l;
}

/* All that may fail for want of something. Both sides' references are the caller's. */
static int connect_prepare(struct shmipc_call *call, struct shmipc_session *s)
{
	const struct shmipc_connect *arg = call->arg;
	struct shmipc_quota *quota;
	struct shmipc_view *view;
	int err;

	if (arg->meta_len && copy_from_user(s->meta, u64_to_user_ptr(arg->meta), arg->meta_len))
		return -EFAULT;
	quota = shmipc_quota_get(s->listener, call->att->user);
	if (IS_ERR(quota))
		return PTR_ERR(quota);
	s->quota = quota;
	view = view_of_handle(call->ep, arg->segment);
	if (IS_ERR(view))
		return PTR_ERR(view);
	s->first = view;
	/* Room for the grants of the acceptance, which must not fail for want of it. */
	err = xa_reserve(&s->side[0].slots, 0, GFP_KERNEL_ACCOUNT) ?:
	      xa_reserve(&s->side[1].slots, 0, GFP_KERNEL_ACCOUNT);
	if (err)
		return err;
	err = shmipc_handle_reserve(call->ep, &s->side[0].obj.handle);
	if (!err)
		s->side[0].ready.handle = s->side[0].obj.handle;
	return err;
}

/* From here on death finds the session. */
static int connect_publish(struct shmipc_call *call, struct shmipc_session *s)
{
	int err;

	err = shmipc_holder_lock(call->att);
	if (err)
		return err;
	err = shmipc_listener_enqueue(s->listener, s);
	mutex_unlock(&call->ep->lock);
	return err;
}

static bool answered(const struct shmipc_session *s)
{
	return READ_ONCE(s->state) != SHMIPC_SESSION_PENDING;
}

static int connect_wait(struct shmipc_session *s, u64 timeout_ns)
{
	ktime_t timeout = timeout_ns < KTIME_MAX ? (ktime_t)timeout_ns : KTIME_MAX;
	long ret;

	ret = wait_event_interruptible_hrtimeout(s->answered, answered(s), timeout);
	/* An answer counts, whatever ended the wait. */
	switch (smp_load_acquire(&s->state)) {
	case SHMIPC_SESSION_LIVE:
		return 0;
	case SHMIPC_SESSION_OVER:
		/* Refused, or closed by another thread. */
		return -ECONNREFUSED;
	default:
		return ret == -ETIME ? -ETIMEDOUT : -EINTR;
	}
}

/* Of an endpoint that was handed over meanwhile the session is the successor's. */
static bool connect_take(struct shmipc_attachment *att, struct shmipc_object *obj)
{
	bool taken;

	mutex_lock(&att->ep->lock);
	taken = (shmipc_attachment_status(att) != -ESTALE || shmipc_endpoint_ending(att->ep)) &&
		shmipc_handle_take(att->ep, obj);
	mutex_unlock(&att->ep->lock);
	return taken;
}

/* The caller has a reference to side 0 beside the table's. */
static int connect_finish(struct shmipc_call *call, struct shmipc_session *s)
{
	struct shmipc_connect *arg = call->arg;
	struct shmipc_side *side = &s->side[0];
	int err;

	err = connect_wait(s, arg->timeout_ns);
	if (err && shmipc_attachment_status(call->att) == -ESTALE)
		err = -ESTALE;
	if (!err) {
		/* Perhaps not who had the name then: it was handed over, or has a home. */
		shmipc_endpoint_describe(s->side[1].obj.ep, &arg->out_peer);
		err = shmipc_call_respond(call);
	}
	if (err && connect_take(call->att, &side->obj)) {
		shmipc_side_close(side, SHMIPC_CLOSE_REVOKE, 0, false);
		shmipc_object_put(&side->obj);
	}
	return err;
}

/* Nobody else knows the session yet. */
static void connect_abort(struct shmipc_call *call, struct shmipc_session *s)
{
	if (s->side[0].obj.handle)
		shmipc_handle_unreserve(call->ep, s->side[0].obj.handle);
	shmipc_side_close(&s->side[0], 0, 0, false);
	shmipc_object_put(&s->side[1].obj);
	shmipc_object_put(&s->side[0].obj);
}

static int connect_session(struct shmipc_call *call, struct shmipc_session *s)
{
	struct shmipc_connect *arg = call->arg;
	struct shmipc_listener *l = s->listener;
	struct shmipc_object *obj = &s->side[0].obj;
	int err;

	err = connect_prepare(call, s);
	if (err)
		goto abort;
	arg->out_session = obj->handle;
	shmipc_endpoint_describe(l->obj.ep, &arg->out_peer);
	err = s->blocking ? 0 : shmipc_call_respond(call);
	if (err)
		goto abort;
	refcount_inc(&obj->ref);
	err = connect_publish(call, s);
	if (err) {
		shmipc_object_put(obj);
		goto abort;
	}
	shmipc_ready_ring(l->obj.ep, &l->ready, SHMIPC_CAUSE_ACCEPT, s->blocking);
	if (s->blocking)
		err = connect_finish(call, s);
	shmipc_object_put(obj);
	return err;

abort:
	connect_abort(call, s);
	return err;
}

int shmipc_connect(struct shmipc_call *call)
{
	const struct shmipc_connect *arg = call->arg;
	struct shmipc_listener *l;
	struct shmipc_session *s;
	int err;

	err = connect_check(arg);
	if (err)
		return err;
	l = connect_find(call, arg);
	if (IS_ERR(l))
		return PTR_ERR(l);
	s = shmipc_session_new(call->att, arg, arg->meta_len);
	if (IS_ERR(s)) {
		shmipc_object_put(&l->obj);
		return PTR_ERR(s);
	}
	/* Our reference to the listener is the session's from here on. */
	s->listener = l;
	return connect_session(call, s);
}

/* ---- ACCEPT ---- */

/**
 * struct accept - an ACCEPT under way
 * @listener: referenced
 * @home: the attachment whose endpoint gets the session, kept by @home_file or by the call
 * @home_file: referenced, or NULL
 * @view: the acceptor's segment, or NULL
 */
struct accept {
	struct shmipc_listener *listener;
	struct shmipc_attachment *home;
	struct file *home_file;
	struct shmipc_view *view;
};

static int accept_home(struct shmipc_call *call, struct accept *a)
{
	const struct shmipc_accept *arg = call->arg;
	struct shmipc_attachment *att;
	int err;

	a->home = call->att;
	if (!(arg->flags & SHMIPC_ACCEPT_HOME))
		return arg->home_fd ? -EINVAL : 0;
	a->home_file = fget(arg->home_fd);
	if (!a->home_file)
		return -EBADF;
	if (a->home_file->f_op != &shmipc_fops)
		return -EBADF;
	att = a->home_file->private_data;
	err = shmipc_attachment_check(att);
	if (err)
		return err;
	/* The connector was told who the listener is. */
	if (!uid_eq(att->file->f_cred->euid, call->att->file->f_cred->euid))
		return -EACCES;
	a->home = att;
	return 0;
}

static int accept_prepare(struct shmipc_call *call, struct accept *a)
{
	const struct shmipc_accept *arg = call->arg;
	struct shmipc_object *obj;
	struct shmipc_view *view;
	int err;

	obj = shmipc_handle_get(call->ep, arg->listener, SHMIPC_KIND_LISTENER);
	if (IS_ERR(obj))
		return PTR_ERR(obj);
	a->listener = shmipc_listener_of(obj);
	err = accept_home(call, a);
	if (err)
		return err;
	view = view_of_handle(a->home->ep, arg->segment);
	if (IS_ERR(view))
		return PTR_ERR(view);
	a->view = view;
	return 0;
}

static int accept_respond(struct shmipc_call *call, struct shmipc_session *s)
{
	struct shmipc_accept *arg = call->arg;
	u32 len = min(arg->meta_len, s->meta_len);

	if (arg->meta && len && copy_to_user(u64_to_user_ptr(arg->meta), s->meta, len))
		return -EFAULT;
	arg->out_meta_len = s->meta_len;
	arg->out_session = s->side[1].obj.handle;
	shmipc_endpoint_describe(s->side[0].obj.ep, &arg->out_peer);
	return shmipc_call_respond(call);
}

/*
 * From here the session is the home's, or the connector had left. Where the listener is another's
 * by now, this one may not serve it any more.
 */
static int accept_publish(struct shmipc_call *call, struct accept *a, struct shmipc_session *s)
{
	struct shmipc_endpoint *home = a->home->ep;
	int err;

	err = shmipc_holder_lock(a->home);
	if (err)
		return err;
	err = shmipc_attachment_status(call->att);
	if (!err)
		err = shmipc_session_accept_locked(s, home, a->view);
	mutex_unlock(&home->lock);
	return err;
}

/* Others may have been told in between that nobody waits: they are rung again. */
static void accept_requeue(struct shmipc_listener *l, struct shmipc_session *s, int err)
{
	if (err != -EPIPE && shmipc_listener_requeue(l, s))
		shmipc_ready_ring(l->obj.ep, &l->ready, SHMIPC_CAUSE_ACCEPT, false);
	else
		shmipc_session_refuse(s, shmipc_endpoint_died(l->obj.ep));
}

/* Has the reference of side 1; passes it to the handle, back to the queue, or drops it. */
static int accept_session(struct shmipc_call *call, struct accept *a, struct shmipc_session *s)
{
	const struct shmipc_accept *arg = call->arg;
	struct shmipc_side *side = &s->side[1];
	int err;

	err = shmipc_handle_reserve(a->home->ep, &side->obj.handle);
	if (err)
		goto requeue;
	side->ready.cookie = arg->cookie;
	side->ready.enabled = SHMIPC_CAUSE_USER | arg->causes;
	side->ready.handle = side->obj.handle;
	side->zero = arg->flags & SHMIPC_ACCEPT_ZERO_REVOKED;
	err = accept_respond(call, s);
	if (err)
		goto unreserve;
	/* The connector may leave as soon as it is told; the acceptor may close as well. */
	refcount_inc(&side->obj.ref);
	err = accept_publish(call, a, s);
	if (err) {
		shmipc_object_put(&side->obj);
		goto unreserve;
	}
	a->view = NULL;
	if (s->blocking)
		wake_up_all(&s->answered);
	else
		shmipc_ready_ring(s->side[0].obj.ep, &s->side[0].ready, SHMIPC_CAUSE_CONNECTED,
				  false);
	shmipc_object_put(&side->obj);
	return 0;

unreserve:
	shmipc_handle_unreserve(a->home->ep, side->obj.handle);
requeue:
	accept_requeue(a->listener, s, err);
	return err;
}

/* Those who have left are passed over. */
static int accept_next(struct shmipc_call *call, struct accept *a)
{
	struct shmipc_session *s;
	int err;

	do {
		s = shmipc_listener_dequeue(a->listener);
		if (!s)
			return -EAGAIN;
		err = accept_session(call, a, s);
	} while (err == -EPIPE);
	return err;
}

int shmipc_accept(struct shmipc_call *call)
{
	const struct shmipc_accept *arg = call->arg;
	struct accept a = {};
	int err;

	if (arg->flags & ~(SHMIPC_ACCEPT_HOME | SHMIPC_ACCEPT_ZERO_REVOKED) ||
	    arg->causes & ~SHMIPC_SESSION_CAUSES)
		return -EOPNOTSUPP;
	if (arg->__reserved)
		return -EINVAL;
	err = accept_prepare(call, &a);
	if (!err)
		err = accept_next(call, &a);
	if (a.view)
		shmipc_view_drop(a.view);
	if (a.home_file)
		fput(a.home_file);
	if (a.listener)
		shmipc_object_put(&a.listener->obj);
	return err;
}
