/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * handle.h - handles and the objects that they name
 *
 *	reserved --publish--> live --take--> gone
 *	    \--unreserve--> gone
 *
 * A handle is reserved first (may fail), the caller learns it, then it is published (fails
 * only if the endpoint has died, or is no longer held by who asks). A live handle holds one
 * reference to its object; who takes the handle off the table, and only one can, gets that
 * reference and closes the object.
 */
#ifndef _SHMIPC_HANDLE_H
#define _SHMIPC_HANDLE_H

#include <linux/refcount.h>
#include <linux/types.h>

struct shmipc_attachment;
struct shmipc_endpoint;

enum shmipc_kind {
	SHMIPC_KIND_SEGMENT = 1,
	SHMIPC_KIND_LISTENER,
	SHMIPC_KIND_SESSION,
	SHMIPC_KIND_OFFER,
	SHMIPC_KINDS
};

/**
 * struct shmipc_object - the head of what a handle names
 * @ref: references
 * @kind: enum shmipc_kind (invariant after init)
 * @handle: in @ep's table (invariant after publication)
 * @ep: the endpoint that it belongs to, referenced (invariant after publication)
 */
struct shmipc_object {
	refcount_t ref;
	u8 kind;
	u32 handle;
	struct shmipc_endpoint *ep;
};

void shmipc_object_init(struct shmipc_object *obj, enum shmipc_kind kind,
			struct shmipc_endpoint *ep);
void shmipc_object_put(struct shmipc_object *obj);

/* With a reference, or -ENOENT, or -EBADF when it is of another kind. */
struct shmipc_object *shmipc_handle_get(struct shmipc_endpoint *ep, u32 handle,
					enum shmipc_kind kind);
struct shmipc_object *shmipc_handle_get_any(struct shmipc_endpoint *ep, u32 handle);
int shmipc_handle_reserve(struct shmipc_endpoint *ep, u32 *handle);
void shmipc_handle_unreserve(struct shmipc_endpoint *ep, u32 handle);
/* With ep->lock held and the attachment's status checked; spinlocks may be held too. */
void shmipc_handle_publish_locked(struct shmipc_endpoint *ep, struct shmipc_object *obj);
int shmipc_handle_publish(struct shmipc_attachment *att, struct shmipc_object *obj);
/* True: the caller has the table's reference now. */
bool shmipc_handle_take(struct shmipc_endpoint *ep, struct shmipc_object *obj);

#endif
