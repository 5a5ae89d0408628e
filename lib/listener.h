/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* listener.h - a name, and the connections that wait at it */
#ifndef SHMIPC_LISTENER_H
#define SHMIPC_LISTENER_H

#include "endpoint.h"

struct shmipc_listener {
	struct shmipc_endpoint *ep;
	struct list node;		/* in endpoint.listeners (endpoint.lock) */
	struct source source;
	struct shmipc_options options;	/* (invariant) defaults filled in */
	uint64_t cookie;
	uint32_t handle;
	atomic_bool pending;		/* the provider said that one waits */
};

/* One with a cookie, that nobody knows yet. NULL: no memory. */
struct shmipc_listener *listener_new(struct shmipc_endpoint *ep,
				     const struct shmipc_options *options);
/* The provider has it as @handle: it can be used from now on. @waits: somebody may wait already. */
void listener_begin(struct shmipc_listener *listener, bool waits);
/* A connection waits. poll_lock held, or the listener is the caller's. */
void listener_event(struct shmipc_listener *listener);

/* Fills in defaults. Returns 0, or -EINVAL with a sentence. */
int options_resolve(struct shmipc_options *out, const struct shmipc_options *in);

#endif
