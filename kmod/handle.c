// SPDX-License-Identifier: GPL-2.0-only
#include <linux/rcupdate.h>
#include <linux/xarray.h>

#include "endpoint.h"
#include "handle.h"
#include "listener.h"
#include "offer.h"
#include "segment.h"
#include "session.h"
#include "view.h"

/* 24 bits keep the table flat, and are long enough that no handle comes again soon. */
#define HANDLE_LIMIT	XA_LIMIT(1, (1 << 24) - 1)

/* @ep may come later, at publication. */
void shmipc_object_init(struct shmipc_object *obj, enum shmipc_kind kind,
			struct shmipc_endpoint *ep)
{
	refcount_set(&obj->ref, 1);
	obj->kind = kind;
	obj->ep = ep ? shmipc_endpoint_get(ep) : NULL;
}

void shmipc_object_put(struct shmipc_object *obj)
{
	if (!refcount_dec_and_test(&obj->ref))
		return;
	switch (obj->kind) {
	case SHMIPC_KIND_SEGMENT:
		shmipc_view_free(shmipc_view_of(obj));
		break;
	case SHMIPC_KIND_LISTENER:
		shmipc_listener_free(shmipc_listener_of(obj));
		break;
	case SHMIPC_KIND_SESSION:
		shmipc_side_free(shmipc_side_of(obj));
		break;
	case SHMIPC_KIND_OFFER:
		shmipc_offer_free(shmipc_offer_of(obj));
		break;
	}
}

struct shmipc_object *shmipc_handle_get_any(struct shmipc_endpoint *ep, u32 handle)
{
	struct shmipc_object *obj;

	rcu_read_lock();
	obj = xa_load(&ep->handles, handle);
	if (!obj || !refcount_inc_not_zero(&obj->ref))
		obj = ERR_PTR(-ENOENT);
	rcu_read_unlock();
	return obj;
}

struct shmipc_object *shmipc_handle_get(struct shmipc_endpoint *ep, u32 handle,
					enum shmipc_kind kind)
{
	struct shmipc_object *obj = shmipc_handle_get_any(ep, handle);

	if (!IS_ERR(obj) && obj->kind != kind) {
		shmipc_object_put(obj);
		return ERR_PTR(-EBADF);
	}
	return obj;
}

/* @handle is written on success only: an id that could not be stored may be another's by now. */
int shmipc_handle_reserve(struct shmipc_endpoint *ep, u32 *handle)
{
	u32 id;
	int err;

	err = xa_alloc_cyclic(&ep->handles, &id, NULL, HANDLE_LIMIT, &ep->next_handle,
			      GFP_KERNEL_ACCOUNT);
	if (err == -EBUSY)
		return -ENOSPC;
	if (err < 0)
		return err;
	*handle = id;
	return 0;
}

void shmipc_handle_unreserve(struct shmipc_endpoint *ep, u32 handle)
{
	xa_erase(&ep->handles, handle);
}

void shmipc_handle_publish_locked(struct shmipc_endpoint *ep, struct shmipc_object *obj)
{
	lockdep_assert_held(&ep->lock);
	/* Can't fail, nor allocate: the reservation has made room. */
	WARN_ON_ONCE(xa_is_err(xa_store(&ep->handles, obj->handle, obj, GFP_NOWAIT)));
	atomic_inc(&ep->objects[obj->kind]);
}

int shmipc_handle_publish(struct shmipc_attachment *att, struct shmipc_object *obj)
{
	int err;

	err = shmipc_holder_lock(att);
	if (err)
		return err;
	shmipc_handle_publish_locked(att->ep, obj);
	mutex_unlock(&att->ep->lock);
	return 0;
}

bool shmipc_handle_take(struct shmipc_endpoint *ep, struct shmipc_object *obj)
{
	if (xa_cmpxchg(&ep->handles, obj->handle, obj, NULL, 0) != obj)
		return false;
	atomic_dec(&ep->objects[obj->kind]);
	return true;
}

#ifdef CONFIG_SHMIPC_KUNIT_TEST
#include "tests/handle_test.c"
#endif
