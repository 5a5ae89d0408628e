// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* listener.c - taking a name and accepting connections; options and their defaults */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "clock.h"
#include "error.h"
#include "log.h"
#include "session.h"

/* ---- options ------------------------------------------------------------ */

static const struct shmipc_options defaults = {
	.size = sizeof(struct shmipc_options),
	.mode = 0600,
	.backlog = 64,
	.max_per_uid = 64,
	.max_streams = 128,
	.window = 1 << 20,
	.max_memory = 16 << 20,
};

#define OPTIONS_OLDEST	40	/* sizeof(struct shmipc_options) in version 0.1 */
#define WINDOW_MIN	4096

static int options_check(const struct shmipc_options *opt)
{
	if (opt->flags & ~(SHMIPC_EXPECT_UID | SHMIPC_SEALED | SHMIPC_FRESH))
		return error_set(-EINVAL, "unknown flag in struct shmipc_options");
	if (opt->reserved)
		return error_set(-EINVAL, "set reserved in struct shmipc_options to 0");
	if (opt->mode & ~0777U)
		return error_set(-EINVAL, "mode %#o has other bits than permissions", opt->mode);
	if (opt->backlog > SHMIPC_BACKLOG_MAX)
		return error_set(-EINVAL, "a backlog of %u is more than %u", opt->backlog,
				 SHMIPC_BACKLOG_MAX);
	if (opt->max_streams < 2 || opt->max_streams > STREAMS_MAX)
		return error_set(-EINVAL, "max_streams is %u, it must be 2 to %u",
				 opt->max_streams, STREAMS_MAX);
	if (opt->window < WINDOW_MIN || opt->max_memory < opt->window)
		return error_set(-EINVAL, "a window of %u bytes must be %u at least, and not more "
				 "than max_memory", opt->window, WINDOW_MIN);
	return 0;
}

int options_resolve(struct shmipc_options *out, const struct shmipc_options *in)
{
	struct shmipc_options opt = { 0 };

	if (in && in->size < OPTIONS_OLDEST)
		return error_set(-EINVAL, "set size in struct shmipc_options to its sizeof");
	if (in)
		memcpy(&opt, in, in->size < sizeof(opt) ? in->size : sizeof(opt));
	opt.size = sizeof(opt);
	opt.mode = opt.mode ? opt.mode : defaults.mode;
	opt.backlog = opt.backlog ? opt.backlog : defaults.backlog;
	opt.max_per_uid = opt.max_per_uid ? opt.max_per_uid : defaults.max_per_uid;
	opt.max_streams = opt.max_streams ? opt.max_streams & ~1U : defaults.max_streams;
	opt.window = opt.window ? opt.window : defaults.window;
	opt.max_memory = opt.max_memory ? opt.max_memory : defaults.max_memory;
	if (opt.max_memory < opt.window && in && !in->max_memory)
		opt.max_memory = 16ULL * opt.window;
	*out = opt;
	return options_check(out);
}

/* ---- listening ---------------------------------------------------------- */

void listener_event(struct shmipc_listener *listener)
{
	atomic_store(&listener->pending, true);
	endpoint_post(listener->ep, &listener->source, 0);
	endpoint_poke(listener->ep, listener);
}

struct shmipc_listener *listener_new(struct shmipc_endpoint *ep,
				     const struct shmipc_options *options)
{
	struct shmipc_listener *listener = calloc(1, sizeof(*listener));

	if (!listener)
		return NULL;
	listener->ep = ep;
	listener->options = *options;
	source_init(&listener->source, SOURCE_LISTENER, listener);
	listener->cookie = endpoint_cookie(ep);
	if (listener->cookie)
		return listener;
	free(listener);
	return NULL;
}

void listener_begin(struct shmipc_listener *listener, bool waits)
{
	struct shmipc_endpoint *ep = listener->ep;

	lock(&ep->lock);
	list_add_tail(&listener->node, &ep->listeners);
	unlock(&ep->lock);
	lock(&ep->poll_lock);
	if (endpoint_attach(ep, listener->cookie, NULL, listener) || waits)
		listener_event(listener);
	unlock(&ep->poll_lock);
}

int shmipc_listen(struct shmipc_endpoint *ep, const char *name,
		  const struct shmipc_options *options, struct shmipc_listener **out)
{
	struct shmipc_listener *listener;
	struct shmipc_options opt = { 0 };
	int err;

	if (endpoint_foreign(ep))
		return endpoint_refusal(ep);
	err = options_resolve(&opt, options);
	if (err)
		return err;
	listener = listener_new(ep, &opt);
	if (!listener)
		return -ENOMEM;

	struct pv_bind bind = {
		.name = name,
		.mode = opt.mode,
		.backlog = opt.backlog,
		.max_per_uid = opt.max_per_uid,
		.cookie = listener->cookie,
		.orphan_ms = opt.orphan_ms,
		.fresh = opt.flags & SHMIPC_FRESH,
	};
	err = ep->pv->ops->bind(ep->pv, &bind, &listener->handle);
	if (err) {
		endpoint_forget(ep, listener->cookie);
		free(listener);
		return err;
	}
	listener_begin(listener, false);
	error_clear();
	*out = listener;
	return 0;
}

void shmipc_listener_close(struct shmipc_listener *listener)
{
	struct shmipc_endpoint *ep;

	if (!listener || endpoint_foreign(listener->ep))
		return;
	ep = listener->ep;
	lock(&ep->poll_lock);
	lock(&ep->lock);
	list_del(&listener->node);
	unlock(&ep->lock);
	source_remove(ep, &listener->source);
	endpoint_forget(ep, listener->cookie);
	unlock(&ep->poll_lock);
	ep->pv->ops->drop(ep->pv, listener->handle, 0);
	free(listener);
}

void shmipc_listener_set_user(struct shmipc_listener *listener, void *user)
{
	if (endpoint_foreign(listener->ep))
		return;
	lock(&listener->ep->lock);
	listener->source.user = user;
	unlock(&listener->ep->lock);
}

/* ---- accepting ---------------------------------------------------------- */

static bool accept_ready(void *arg)
{
	return atomic_load(&((struct shmipc_listener *)arg)->pending);
}

/* One try. -EAGAIN: nobody waits. */
static int accept_one(struct shmipc_listener *listener, struct shmipc_session *s)
{
	struct provider *pv = listener->ep->pv;
	struct shmipc_peer peer;
	uint32_t handle;
	int err;

	/* Cleared before the try: an event that comes after the try sets it again. */
	atomic_store(&listener->pending, false);
	err = pv->ops->accept(pv, listener->handle, &s->tx.segments[0], s->cookie, &handle, &peer);
	if (err == -EAGAIN)
		return err;
	/* More may wait, or one that could not be taken still does: the next call finds out. */
	listener_event(listener);
	if (err)
		return err;
	return session_complete(s, handle, &peer);
}

int shmipc_accept(struct shmipc_listener *listener, struct shmipc_session **session,
		  int64_t timeout_ns)
{
	struct waiter w = { .key = listener, .ready = accept_ready, .arg = listener };
	struct budget budget = budget_start(timeout_ns);
	struct shmipc_endpoint *ep = listener->ep;
	struct shmipc_session *s;
	int err;

	if (endpoint_foreign(ep))
		return endpoint_refusal(ep);
	err = session_prepare(ep, &listener->options, 1, &s);
	if (err)
		return err;
	for (;;) {
		err = accept_one(listener, s);
		if (err != -EAGAIN)
			break;
		/* One that left again, or that another thread took, is no reason to start anew. */
		err = budget_spent(&budget) ? -ETIMEDOUT :
		      endpoint_wait(ep, &w, budget_left(&budget));
		if (err)
			break;
	}
	if (err) {
		session_destroy(s);
		return err;
	}
	*session = s;
	return 0;
}
