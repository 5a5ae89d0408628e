// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * event.c - shmipc_wait(): what happened on all that an endpoint has
 *
 * A source is on the endpoint's list if it may have something. Whether it has is asked when its
 * turn comes, and if so it goes to the list's end: level-triggered, at the cost of
 * the busy sources alone.
 */
#include <errno.h>
#include <unistd.h>
#include "clock.h"
#include "error.h"
#include "session.h"

static void want(struct shmipc_endpoint *ep, struct source *source)
{
	if (list_empty(&source->node))
		list_add_tail(&source->node, &ep->sources);
}

/* The first call: from now on sources are posted; what there is already is listed here. */
static void want_events(struct shmipc_endpoint *ep)
{
	struct list *pos, *n;

	lock(&ep->poll_lock);
	atomic_store(&ep->want_events, true);
	list_for_each_safe(pos, n, &ep->sessions) {
		struct shmipc_session *s = container_of(pos, struct shmipc_session, node);

		lock(&s->rx.lock);
		lock(&ep->lock);
		want(ep, &s->source);
		for (uint32_t i = 0; i < s->nr_streams; i++)
			if (s->streams[i] && s->streams[i]->visible)
				want(ep, &s->streams[i]->source);
		unlock(&ep->lock);
		unlock(&s->rx.lock);
	}
	lock(&ep->lock);
	want(ep, &ep->offer.source);
	list_for_each_safe(pos, n, &ep->listeners)
		want(ep, &container_of(pos, struct shmipc_listener, node)->source);
	unlock(&ep->lock);
	unlock(&ep->poll_lock);
}

static uint32_t session_level(struct shmipc_session *s)
{
	bool streams;

	lock(&s->rx.lock);
	streams = !list_empty(&s->rx.accept);
	unlock(&s->rx.lock);
	return (streams ? 1U << SHMIPC_EV_STREAM : 0) | peer_level(s);
}

static uint32_t stream_level(struct shmipc_stream *st)
{
	bool waits;

	lock(&st->session->rx.lock);
	waits = st->paused;
	unlock(&st->session->rx.lock);
	return !waits && stream_readable(st) ? 1U << SHMIPC_EV_READ : 0;
}

static uint32_t level(const struct source *source)
{
	switch (source->kind) {
	case SOURCE_LISTENER:
		return atomic_load(&((struct shmipc_listener *)source->object)->pending) ?
		       1U << SHMIPC_EV_ACCEPT : 0;
	case SOURCE_SESSION:
		return session_level(source->object);
	case SOURCE_ENDPOINT:
		return 0;
	default:
		return stream_level(source->object);
	}
}

/* The next source to ask, with its one-time events. poll_lock held: it can't be freed. */
static struct source *take_source(struct shmipc_endpoint *ep, const struct source *last,
				  uint32_t *once)
{
	struct source *source = NULL;

	lock(&ep->lock);
	if (!list_empty(&ep->sources)) {
		source = container_of(ep->sources.next, struct source, node);
		if (source == last) {
			source = NULL;
		} else {
			list_del(&source->node);
			*once = source->once;
			source->once = 0;
		}
	}
	unlock(&ep->lock);
	return source;
}

/* Takes the bits that it had room for out of @bits. */
static unsigned int emit(const struct source *source, uint32_t *bits, struct shmipc_event *events,
			 unsigned int room)
{
	unsigned int n = 0;

	for (uint32_t type = SHMIPC_EV_ACCEPT; type <= SHMIPC_EV_PEER_CHANGED && n < room; type++) {
		if (!(*bits & 1U << type))
			continue;
		*bits &= ~(1U << type);
		events[n++] = (struct shmipc_event){
			.type = type, .object = source->object, .user = source->user,
		};
	}
	return n;
}

static unsigned int collect(struct shmipc_endpoint *ep, struct shmipc_event *events,
			    unsigned int max)
{
	struct source *source, *first = NULL;
	unsigned int n = 0;
	uint32_t once;

	lock(&ep->poll_lock);
	/* The first source that was put back ends the round. */
	while (n < max) {
		uint32_t now, bits, told;

		source = take_source(ep, first, &once);
		if (!source)
			break;
		now = level(source);
		bits = now | once;
		if (!bits)
			continue;
		/* In a batch once, so that its owner may close it there: READ comes next time. */
		if (once && source->kind == SOURCE_STREAM)
			bits = once;
		told = bits;
		n += emit(source, &bits, events + n, max - n);
		if (source->kind == SOURCE_SESSION)
			peer_told(source->object, told & ~bits);
		/* Put back in any case: posted by another thread it must not come a second time. */
		if (!first)
			first = source;
		lock(&ep->lock);
		source->once |= bits & once;
		want(ep, source);
		unlock(&ep->lock);
	}
	unlock(&ep->poll_lock);
	return n;
}

static bool never(void *arg)
{
	(void)arg;
	return false;
}

static bool any_source(void *arg)
{
	struct shmipc_endpoint *ep = arg;
	bool any;

	lock(&ep->lock);
	any = !list_empty(&ep->sources);
	unlock(&ep->lock);
	return any;
}

/* The caller is awake: it need not be told. */
static void poll_ends(struct shmipc_endpoint *ep)
{
	uint64_t count;
	ssize_t done;

	if (atomic_load_explicit(&ep->polled, memory_order_relaxed))
		atomic_store_explicit(&ep->polled, POLL_NONE, memory_order_relaxed);
	if (atomic_load(&ep->news_rung)) {
		atomic_store(&ep->news_rung, false);
		done = read(ep->news, &count, sizeof(count));
		(void)done;
	}
}

/* Nothing was found. News of the last look that it did not find are told as later ones are. */
static void poll_begins(struct shmipc_endpoint *ep)
{
	int polled = POLL_LOOKS;

	if (atomic_compare_exchange_strong(&ep->polled, &polled, POLL_SLEEPS))
		return;
	atomic_store(&ep->polled, POLL_SLEEPS);
	endpoint_tell_poller(ep);
}

static int wait_events(struct shmipc_endpoint *ep, struct shmipc_event *events, unsigned int max,
		       int64_t timeout_ns, bool polls)
{
	struct waiter look = { .key = ep, .ready = never };
	struct waiter w = { .key = ep, .ready = any_source, .arg = ep, .arm = true };
	int64_t deadline = 0, left = timeout_ns;
	int n, err;

	/* Old news must not keep new frames from being seen. */
	endpoint_wait(ep, &look, 0);
	for (;;) {
		n = collect(ep, events, max);
		if (n)
			return n;
		if (timeout_ns > 0) {
			deadline = deadline ? deadline : deadline_after(timeout_ns);
			left = deadline - now_ns();
			if (left <= 0)
				return 0;
		}
		/* Before the last look: what comes after it makes shmipc_fd() readable. */
		if (polls)
			atomic_store(&ep->polled, POLL_LOOKS);
		err = endpoint_wait(ep, &w, left);
		if (err == -EAGAIN || err == -ETIMEDOUT)
			return 0;
		if (err)
			return err;
	}
}

int shmipc_wait(struct shmipc_endpoint *ep, struct shmipc_event *events, unsigned int max,
		int64_t timeout_ns)
{
	bool polls;
	int n;

	if (endpoint_foreign(ep))
		return endpoint_refusal(ep);
	if (!max)
		return -EINVAL;
	if (!atomic_load(&ep->want_events))
		want_events(ep);
	polls = atomic_load_explicit(&ep->poll_fd, memory_order_acquire) >= 0;
	if (polls)
		poll_ends(ep);
	polls &= !timeout_ns;
	n = wait_events(ep, events, max, timeout_ns, polls);
	if (polls && n)
		atomic_store_explicit(&ep->polled, POLL_NONE, memory_order_relaxed);
	else if (polls)
		poll_begins(ep);
	return n;
}
