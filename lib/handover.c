// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * handover.c - the old program's half of a handover
 *
 * An offer goes on beside the program's work; shmipc_yield() is the pause. That it is a call of the
 * program's, which no other call runs beside, is what makes the message boundary: nothing has to
 * be stopped, and no lock is held over the wait. The successor rebuilds sessions from what lies in
 * the segments between two calls (recover.h).
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "error.h"
#include "handover.h"
#include "log.h"
#include "session.h"

#define STATE_MAX	(1U << 20)

int handover_unsupported(void)
{
	return error_set(-EOPNOTSUPP, "this provider can't hand an endpoint over: use "
			 "SHMIPC_PROVIDER=kernel or embedded");
}

void offer_end(struct shmipc_endpoint *ep)
{
	struct offer *offer = &ep->offer;

	if (!offer->open)
		return;
	offer->open = false;
	source_remove(ep, &offer->source);
	close(offer->fd);
	ep->pv->ops->drop(ep->pv, offer->handle, 0);
	if (offer->blob.addr)
		ep->pv->ops->segment_destroy(ep->pv, &offer->blob);
}

static int check_options(const struct shmipc_offer_options *options)
{
	if (options->size != sizeof(*options))
		return error_set(-EINVAL, "set size in struct shmipc_offer_options to its sizeof");
	if (options->flags & ~SHMIPC_OFFER_BY_NAME)
		return error_set(-EINVAL, "unknown flag in struct shmipc_offer_options");
	if (options->timeout_ns <= 0 || options->timeout_ns > (int64_t)SHMIPC_OFFER_NS_MAX)
		return error_set(-EINVAL, "an offer's timeout is more than 0 and at most an hour");
	if (options->state_max > STATE_MAX)
		return error_set(-EINVAL, "the state may have %u bytes at most", STATE_MAX);
	return 0;
}

int shmipc_offer(struct shmipc_endpoint *ep, const struct shmipc_offer_options *options, int *fd)
{
	struct pv_offer req = { .by_name = options->flags & SHMIPC_OFFER_BY_NAME,
				.timeout_ns = options->timeout_ns };
	struct offer *offer = &ep->offer;
	int err;

	if (endpoint_foreign(ep))
		return endpoint_refusal(ep);
	if (!ep->pv->ops->handover)
		return handover_unsupported();
	err = check_options(options);
	if (err)
		return err;
	if (offer->open && ep->pv->ops->handover->over(ep->pv, offer->fd))
		offer_end(ep);
	if (offer->open)
		return error_set(-EBUSY, "the endpoint is offered already");
	if (options->state_max)
		err = ep->pv->ops->segment_create(ep->pv, sizeof(struct blob) + options->state_max,
						  false, &offer->blob);
	if (err)
		return err;
	req.blob = offer->blob.handle;
	err = ep->pv->ops->handover->offer(ep->pv, &req);
	if (err) {
		if (offer->blob.addr)
			ep->pv->ops->segment_destroy(ep->pv, &offer->blob);
		return err;
	}
	offer->handle = req.handle;
	offer->fd = req.fd;
	offer->open = true;
	*fd = req.fd;
	return 0;
}

int shmipc_offer_cancel(struct shmipc_endpoint *ep)
{
	if (endpoint_foreign(ep))
		return endpoint_refusal(ep);
	if (!ep->offer.open)
		return error_set(-ENOENT, "nothing is offered: call shmipc_offer() first");
	offer_end(ep);
	return 0;
}

/* ---- the pause ------------------------------------------------------------ */

/* Is there a frame that was taken off the ring and not returned? */
static bool holds_frames(const struct shmipc_session *s)
{
	if (!list_empty(&s->rx.closed) || !list_empty(&s->rx.detached))
		return true;
	for (uint32_t i = 0; i < s->nr_streams; i++)
		if (s->streams[i] && s->streams[i]->held)
			return true;
	return false;
}

/* Does the program have pointers into the session's memory? */
static bool session_lent(struct shmipc_session *s)
{
	bool lent = false, holds;

	lock(&s->rx.lock);
	holds = holds_frames(s);
	for (uint32_t i = 0; holds && i < s->rx.nr_live; i++)
		lent |= s->rx.nodes[i].stream && s->rx.nodes[i].leased;
	lock(&s->tx.lock);
	lent |= s->tx.reserved > 0;
	for (uint32_t i = 0; i < s->nr_streams; i++)
		lent |= s->streams[i] && s->streams[i]->reservation;
	unlock(&s->tx.lock);
	unlock(&s->rx.lock);
	return lent;
}

static int check_quiet(struct shmipc_endpoint *ep)
{
	struct list *pos, *n;
	bool busy;

	lock(&ep->lock);
	busy = ep->leading || !list_empty(&ep->followers);
	unlock(&ep->lock);
	if (busy)
		return error_set(-EBUSY, "another thread waits on the endpoint: let it return "
				 "first");
	list_for_each_safe(pos, n, &ep->sessions)
		if (session_lent(container_of(pos, struct shmipc_session, node)))
			return error_set(-EBUSY, "a message or a reservation is out: return or "
					 "commit it first");
	buf_sweep(ep);
	return 0;
}

static void write_state(const struct offer *offer, const void *state, size_t len)
{
	struct blob *blob = offer->blob.addr;

	if (!blob)
		return;
	blob->len = len;
	if (len)
		memcpy(blob->state, state, len);
}

int shmipc_yield(struct shmipc_endpoint *ep, const void *state, size_t len)
{
	struct offer *offer = &ep->offer;
	int err;

	if (endpoint_foreign(ep))
		return endpoint_refusal(ep);
	if (!offer->open)
		return error_set(-ENOENT, "nothing is offered: call shmipc_offer() first");
	if (len && (!offer->blob.addr || len > offer->blob.len - sizeof(struct blob)))
		return error_set(-EMSGSIZE, "%zu bytes of state are more than state_max", len);
	err = check_quiet(ep);
	if (err)
		return err;
	endpoint_flush(ep);
	write_state(offer, state, len);
	err = ep->pv->ops->handover->yield(ep->pv, offer->fd);
	if (!err) {
		log_info("the endpoint was handed over");
		ep->moved = ep->process;
		/* A value that no process has: every call sees it before it touches anything. */
		ep->process = ~ep->moved ? ~ep->moved : 1;
	}
	if (!err || err == -ECANCELED)
		offer_end(ep);
	if (err == -ECANCELED)
		error_set(err, "the offer is over: its time has passed, or the successor gave up");
	return err;
}
