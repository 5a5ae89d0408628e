// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* session.c - making, polling and ending a session */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include "barrier.h"
#include "error.h"
#include "log.h"
#include "recover.h"
#include "session.h"

#define SEGMENT_MIN	(128 << 10)	/* 1,000 sessions of two sides are 256 MiB */
#define ARENA_MIN	(32 << 10)
#define PEER_CAUSES	(SHMIPC_CAUSE_PEER_CHANGED | SHMIPC_CAUSE_PEER_LOST | \
			 SHMIPC_CAUSE_PEER_PAUSE)

/* ---- making ------------------------------------------------------------- */

void session_place(struct shmipc_session *s, const struct geometry *geo)
{
	char *base = s->tx.segments[0].addr;

	s->tx.ring = (void *)(base + geo->ring);
	s->tx.live_table = (void *)(base + geo->live_table);
	s->tx.records = (void *)(base + geo->stream_table);
	s->tx.control = s->rx.control = (void *)(base + geo->control);
	s->rx.returns = (void *)(base + geo->return_ring);
	s->nr_streams = geo->streams;
}

static int make_segment(struct shmipc_session *s, uint32_t streams)
{
	struct provider *pv = s->ep->pv;
	struct pv_segment *segment = &s->tx.segments[0];
	struct segment_header *header;
	struct geometry geo;
	size_t size;
	int err;

	geometry_for(&geo, streams);
	size = geo.arena + ARENA_MIN;
	err = pv->ops->segment_create(pv, size > SEGMENT_MIN ? size : SEGMENT_MIN, s->tx.sealed,
				      segment);
	if (err)
		return err;
	s->tx.nr_segments = 1;
	count(&s->ep->segments, 1);
	session_place(s, &geo);

	/* Armed for the first frame; nothing else is waited for. Nobody else sees it yet. */
	s->rx.control->rx_cursor = 1;
	s->rx.control->rx_event = 1;
	s->rx.control->cpu = CPU_UNKNOWN;
	s->tx.control->tx_event = UINT32_MAX;
	s->tx.control->slot_event = 0;
	header = segment->addr;
	header->window = s->tx.window;
	header->max_memory = s->tx.max_memory;
	geometry_write(&geo, header);
	return arena_add(&s->tx.arena, 0, segment->addr, geo.arena, segment->len - geo.arena);
}

struct shmipc_session *session_alloc(struct shmipc_endpoint *ep,
				     const struct shmipc_options *options, unsigned int role)
{
	struct shmipc_session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->ep = ep;
	s->role = role;
	list_init(&s->node);
	list_init(&s->hot);
	list_init(&s->corked);
	source_init(&s->source, SOURCE_SESSION, s);
	tx_init(s, options);
	if (rx_init(s)) {
		rx_destroy(s);
		free(s);
		return NULL;
	}
	return s;
}

int session_prepare(struct shmipc_endpoint *ep, const struct shmipc_options *options,
		    unsigned int role, struct shmipc_session **session)
{
	struct shmipc_session *s = session_alloc(ep, options, role);
	int err;

	if (!s)
		return -ENOMEM;
	err = make_segment(s, options->max_streams);
	if (!err) {
		s->cookie = endpoint_cookie(ep);
		err = s->cookie ? 0 : -ENOMEM;
	}
	if (err) {
		session_destroy(s);
		return err;
	}
	*session = s;
	return 0;
}

int session_connect(struct shmipc_session *s, const struct geometry *peer)
{
	int err;

	if (peer->streams < s->nr_streams)
		s->nr_streams = peer->streams;
	s->streams = calloc(s->nr_streams, sizeof(*s->streams));
	s->generations = calloc(s->nr_streams, sizeof(*s->generations));
	s->next_slot = s->role;
	if (!s->streams || !s->generations)
		return -ENOMEM;
	err = tx_connect(s, peer, s->rx.mappings[0].addr);
	return err ? err : rx_connect(s, peer, &s->rx.mappings[0]);
}

/* What the peer's first segment says, checked once; then the smaller of both sides' counts. */
static int meet_peer(struct shmipc_session *s)
{
	struct provider *pv = s->ep->pv;
	struct geometry peer;
	int err;

	err = pv->ops->segment_map(pv, s->handle, 0, &s->rx.mappings[0]);
	/* What this side lacks is its own error; all else the peer did. */
	if (err && err != -ENOMEM && err != -EMFILE && err != -ENFILE && err != -ESTALE)
		return error_set(-EBADMSG, "the peer gave no segment that can be mapped (%s): it "
				 "left at once, or does not use this library",
				 shmipc_strerror(err));
	if (err)
		return error_set(err == -ENOENT ? -EBADMSG : err,	/* granted, and taken away */
				 "the peer's first segment can't be mapped: %s",
				 shmipc_strerror(err));
	if (!geometry_read(&peer, s->rx.mappings[0].addr, s->rx.mappings[0].len))
		return error_set(-EBADMSG, "the peer's segment is not one of this library's layout "
				 "%u: use the same version on both sides", LAYOUT_VERSION);
	return session_connect(s, &peer);
}

bool session_event(struct shmipc_session *s, uint32_t causes)
{
	bool bell = causes & (BELL_DATA | BELL_SPACE);

	if (causes & SHMIPC_CAUSE_PEER_DIED)
		s->ending = -EOWNERDEAD;
	else if (causes & SHMIPC_CAUSE_PEER_CLOSED && !s->ending)
		s->ending = -EPIPE;
	if (session_error(s)) {
		count(&s->ep->empty_bells, bell);
		return false;
	}
	/* What it waited for may have been told to its predecessor, which is no more. */
	if (causes & SHMIPC_CAUSE_PEER_CHANGED)
		session_ring(s, BELL_DATA | BELL_SPACE);
	if (causes & PEER_CAUSES)
		peer_event(s);
	s->rung |= bell;
	endpoint_heat(s->ep, s);
	return s->empty_bells < EMPTY_BELLS || causes & ~(BELL_DATA | BELL_SPACE);
}

void session_begin(struct shmipc_session *s, uint32_t causes)
{
	struct shmipc_endpoint *ep = s->ep;
	uint32_t early;

	session_tell_cpu(s, sched_getcpu());
	lock(&ep->poll_lock);
	lock(&ep->lock);
	list_add_tail(&s->node, &ep->sessions);
	unlock(&ep->lock);
	early = endpoint_attach(ep, s->cookie, s, NULL);
	session_event(s, early | causes);
	unlock(&ep->poll_lock);
	/* Its bell may have been taken already, by a leader that did not know it. */
	endpoint_kick(ep);
}

int session_complete(struct shmipc_session *s, uint32_t handle, const struct shmipc_peer *peer)
{
	int err;

	s->handle = handle;
	s->peer = *peer;
	err = meet_peer(s);
	if (err)
		return err;
	session_begin(s, 0);
	error_clear();
	return 0;
}

/* ---- polling ------------------------------------------------------------ */

/*
 * Was there a reason for the bell? An honest peer rings for what it published, and each such bell
 * finds that something was published since the one before, whoever took it off the ring. A liar
 * gets no more than one look of ours for each of its system calls.
 */
static void judge_bell(struct shmipc_session *s, uint64_t progress)
{
	s->rung = false;
	if (progress != s->heard) {
		s->heard = progress;
		s->empty_bells = 0;
		return;
	}
	count(&s->ep->empty_bells, 1);
	if (++s->empty_bells == EMPTY_BELLS)
		log_limited(LOG_LEVEL_WARN,
			    "session with pid %u: rang %u times and had nothing to tell",
			    session_pid(s), EMPTY_BELLS);
}

/* What is sent: returns that came in, and who waited for them. Judges the bell on the way. */
static unsigned int poll_tx(struct shmipc_session *s)
{
	struct tx *tx = &s->tx;
	uint64_t progress = 0;
	unsigned int n = 0;
	bool waits, ring = false;
	int err = 0;

	if (s->rung) {
		lock(&s->rx.lock);
		progress = s->rx.next;
		unlock(&s->rx.lock);
	}
	lock(&tx->lock);
	waits = tx_waited_for(s);
	if (waits || s->rung)
		err = tx_reap(s);
	if (s->rung)
		progress += tx_progress(s);
	if (waits) {
		n = tx_unblock(s);
		/* What was owed is published now; the peer may sleep for it. */
		ring = n && tx_bell_due(s);
	}
	unlock(&tx->lock);
	if (s->rung)
		judge_bell(s, progress);
	if (ring)
		session_ring(s, BELL_DATA);
	if (err) {
		session_fail(s, err);
		return 1;
	}
	return n;
}

void session_drain(struct shmipc_session *s)
{
	int n = rx_drain(s, DRAIN_BUDGET);

	if (n > 0)
		store_relaxed(&s->drained, true);
	else if (n == -EBADMSG)
		session_fail(s, n);
}

unsigned int session_poll(struct shmipc_session *s)
{
	int n = rx_drain(s, DRAIN_BUDGET);

	if (n < 0 && n != -ENOMEM) {
		session_fail(s, n);
		return 1;
	}
	if (n < 0)
		n = 0;
	n += poll_tx(s);
	if (atomic_load_explicit(&s->ep->bufs_litter, memory_order_relaxed))
		buf_sweep(s->ep);
	if (!n && s->ending) {
		session_fail(s, s->ending);
		return 1;
	}
	return n;
}

/* Stores of both directions, one fence, looks at both. */
static bool arm(struct shmipc_session *s, uint32_t *bits)
{
	uint32_t cursor;
	bool found;

	lock(&s->rx.lock);
	lock(&s->tx.lock);
	cursor = rx_ask(s);
	session_tell_cpu(s, sched_getcpu());
	found = tx_ask(s);
	full_fence();
	found |= rx_look(s, cursor, bits);
	found |= tx_look(s, bits);
	unlock(&s->tx.lock);
	if (!list_empty(&s->rx.closed))
		stream_sweep(s);
	unlock(&s->rx.lock);
	return found;
}

bool session_arm(struct shmipc_session *s, uint32_t *bits)
{
	/* One whose peer left is polled to its last frame, and then ended. */
	if (!session_error(s) && (s->ending || arm(s, bits)))
		return true;
	list_del(&s->hot);
	return false;
}

/* ---- ringing ------------------------------------------------------------ */

void session_ring(struct shmipc_session *s, uint32_t bits)
{
	struct shmipc_notify notify = { .handle = s->handle, .bits = bits };
	struct pv_sync sync = { .notify = &notify, .nr_notify = 1 };

	/* Who only sends never waits, and would not tell otherwise. */
	session_tell_cpu(s, sched_getcpu());
	count(&s->ep->doorbells, 1);
	s->ep->pv->ops->sync(s->ep->pv, &sync);
}

void session_cork(struct shmipc_session *s)
{
	lock(&s->ep->lock);
	if (list_empty(&s->corked))
		list_add_tail(&s->corked, &s->ep->corked);
	unlock(&s->ep->lock);
}

uint32_t session_take_bells(struct shmipc_session *s)
{
	uint32_t bits;

	lock(&s->rx.lock);
	bits = rx_bell_due(s) ? BELL_SPACE : 0;
	unlock(&s->rx.lock);
	lock(&s->tx.lock);
	bits |= tx_bell_due(s) ? BELL_DATA : 0;
	unlock(&s->tx.lock);
	return bits;
}

/* ---- ending ------------------------------------------------------------- */

/* A line may block for as long as who reads the log likes: copied first, then told. */
static void log_fault(struct shmipc_session *s)
{
	uint32_t pid = session_pid(s);
	const char *wrong;
	struct frame bad;
	uint64_t word;
	bool cursor;

	lock(&s->rx.lock);
	wrong = s->rx.wrong;
	bad = s->rx.bad;
	unlock(&s->rx.lock);
	lock(&s->tx.lock);
	word = s->tx.bad_return;
	cursor = s->tx.bad_cursor;
	unlock(&s->tx.lock);
	if (wrong)
		log_warn("session with pid %u: %s (seq %llu, stream %u.%u, kind %u)", pid,
			 wrong, (unsigned long long)bad.seq, bad.stream, bad.generation, bad.kind);
	if (word)
		log_warn("peer %u returned entry %u, seq %u, which is not out", pid,
			 RETURN_LIVE(word), RETURN_SEQ(word));
	if (cursor)
		log_warn("peer %u says that it took what was not sent", pid);
}

void session_fail(struct shmipc_session *s, int error)
{
	struct shmipc_endpoint *ep = s->ep;
	int none = 0;

	if (!atomic_compare_exchange_strong(&s->error, &none, error))
		return;
	if (error == -EBADMSG)
		log_fault(s);
	log_info("session with pid %u ended: %s", session_pid(s), shmipc_strerror(error));
	endpoint_post(ep, &s->source, SHMIPC_EV_CLOSED);
	lock(&s->rx.lock);
	lock(&s->tx.lock);
	for (uint32_t i = 0; i < s->nr_streams; i++)
		if (s->streams[i])
			stream_post_end(s->streams[i]);
	tx_release_bufs(s);
	unlock(&s->tx.lock);
	unlock(&s->rx.lock);
	endpoint_poke(ep, NULL);
}

static void free_streams(struct shmipc_session *s)
{
	struct list *pos, *n;

	for (uint32_t i = 0; s->streams && i < s->nr_streams; i++)
		if (s->streams[i])
			stream_free(s->streams[i]);
	list_for_each_safe(pos, n, &s->rx.closed)
		stream_free(container_of(pos, struct shmipc_stream, accept));
	list_for_each_safe(pos, n, &s->rx.accept)
		stream_free(container_of(pos, struct shmipc_stream, accept));
	list_for_each_safe(pos, n, &s->rx.detached)
		stream_free(container_of(pos, struct shmipc_stream, accept));
}

/*
 * Takes the session out of every list in which another thread could find it, and its streams with
 * it: shmipc_wait() looks at their sources under poll_lock alone.
 */
static void unlink_session(struct shmipc_session *s)
{
	struct shmipc_endpoint *ep = s->ep;

	lock(&ep->poll_lock);
	list_del(&s->hot);
	lock(&ep->lock);
	list_del(&s->node);
	list_del(&s->corked);
	ep->gone.messages_sent += s->tx.messages;
	ep->gone.bytes_sent += s->tx.payload;
	ep->gone.parked += s->tx.parked;
	ep->gone.messages_received += s->rx.messages;
	ep->gone.bytes_received += s->rx.bytes;
	unlock(&ep->lock);
	source_remove(ep, &s->source);
	free_streams(s);
	if (s->cookie)
		endpoint_forget(ep, s->cookie);
	unlock(&ep->poll_lock);
}

void session_destroy(struct shmipc_session *s)
{
	struct provider *pv = s->ep->pv;

	/* First: who waits for a buffer looks at the streams and the segments of sessions that have it. */
	buf_forget_session(s);
	unlink_session(s);
	if (s->handle)
		pv->ops->drop(pv, s->handle, 0);
	rx_destroy(s);
	for (uint32_t i = 0; i < s->tx.nr_segments; i++)
		if (s->tx.segments[i].addr)
			pv->ops->segment_destroy(pv, &s->tx.segments[i]);
	tx_destroy(s);
	recover_forget(s);
	free(s->streams);
	free(s->generations);
	free(s);
}

/* ---- public ------------------------------------------------------------- */

int shmipc_connect(struct shmipc_endpoint *ep, const char *name,
		   const struct shmipc_options *options, struct shmipc_session **session,
		   int64_t timeout_ns)
{
	struct shmipc_options opt;
	struct shmipc_session *s;
	struct shmipc_peer peer;
	uint32_t handle;
	int err;

	if (endpoint_foreign(ep))
		return endpoint_refusal(ep);
	if (!timeout_ns)
		return error_set(-EINVAL, "a connect has to wait for the other side: give it time");
	err = options_resolve(&opt, options);
	if (!err)
		err = session_prepare(ep, &opt, 0, &s);
	if (err)
		return err;

	struct pv_connect connect = {
		.name = name,
		.segment = &s->tx.segments[0],
		.check_uid = opt.flags & SHMIPC_EXPECT_UID,
		.expect_uid = opt.expect_uid,
		.cookie = s->cookie,
		.timeout_ns = timeout_ns,
	};
	endpoint_flush(ep);
	err = ep->pv->ops->connect(ep->pv, &connect, &handle, &peer);
	if (!err)
		err = session_complete(s, handle, &peer);
	if (err) {
		session_destroy(s);
		return err;
	}
	*session = s;
	return 0;
}

void shmipc_session_close(struct shmipc_session *s)
{
	uint32_t bits;

	if (!s || endpoint_foreign(s->ep))
		return;
	lock(&s->tx.lock);
	tx_unblock(s);
	unlock(&s->tx.lock);
	bits = session_take_bells(s);
	if (bits)
		session_ring(s, bits);
	session_destroy(s);
}

void shmipc_session_set_user(struct shmipc_session *s, void *user)
{
	if (endpoint_foreign(s->ep))
		return;
	lock(&s->ep->lock);
	s->source.user = user;
	unlock(&s->ep->lock);
}

int shmipc_session_error(const struct shmipc_session *s)
{
	return endpoint_foreign(s->ep) ? endpoint_refusal(s->ep) : session_error(s);
}

uint64_t shmipc_session_id(const struct shmipc_session *s)
{
	return s->handle;
}
