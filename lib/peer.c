// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * peer.c - who is at the other end, and what shmipc_wait() reports of a peer that is handed over
 *
 * The provider's causes are hints that something has changed; what there is now is asked for then.
 * Reported is what differs from what was reported last, so that a program that comes late, after two
 * handovers or a pause that is over, is told what is, and not what was.
 */
#include "session.h"

/* poll_lock held. */
uint32_t peer_level(const struct shmipc_session *s)
{
	if (!s->peer_watched || session_error(s))
		return 0;
	if (s->peer_told != s->peer.generation)
		return 1U << SHMIPC_EV_PEER_CHANGED;
	if (s->peer_told_paused != s->peer_paused)
		return 1U << (s->peer_paused ? SHMIPC_EV_PEER_PAUSED : SHMIPC_EV_PEER_RESUMED);
	return 0;
}

/* Whoever took over goes on; if that one pauses, too, the next look tells. */
void peer_told(struct shmipc_session *s, uint32_t bits)
{
	if (bits & 1U << SHMIPC_EV_PEER_CHANGED) {
		s->peer_told = s->peer.generation;
		s->peer_told_paused = false;
	}
	if (bits & 1U << SHMIPC_EV_PEER_PAUSED)
		s->peer_told_paused = true;
	if (bits & 1U << SHMIPC_EV_PEER_RESUMED)
		s->peer_told_paused = false;
}

/* Of one that has ended, or is between two processes, the last that was there is remembered. */
static void look(struct shmipc_session *s)
{
	struct provider *pv = s->ep->pv;
	struct shmipc_peer now;
	bool paused;

	if (!pv->ops->peer || pv->ops->peer(pv, s->handle, &now, &paused))
		return;
	lock(&s->ep->lock);
	if (s->peer.generation != now.generation)
		s->peer = now;
	unlock(&s->ep->lock);
	s->peer_paused = paused;
}

static void post_level(struct shmipc_session *s)
{
	if (!peer_level(s))
		return;
	endpoint_post(s->ep, &s->source, 0);
	endpoint_poke(s->ep, s);
}

void peer_event(struct shmipc_session *s)
{
	look(s);
	post_level(s);
}

uint32_t session_pid(const struct shmipc_session *s)
{
	uint32_t pid;

	lock(&s->ep->lock);
	pid = s->peer.pid;
	unlock(&s->ep->lock);
	return pid;
}

/* ---- public ------------------------------------------------------------- */

int shmipc_session_peer(const struct shmipc_session *s, struct shmipc_peer_info *peer)
{
	if (endpoint_foreign(s->ep))
		return endpoint_refusal(s->ep);
	lock(&s->ep->lock);
	*peer = (struct shmipc_peer_info){
		.uid = s->peer.uid, .gid = s->peer.gid, .pid = s->peer.pid,
		.generation = s->peer.generation,
	};
	unlock(&s->ep->lock);
	return 0;
}

int shmipc_session_watch_peer(struct shmipc_session *s, int on)
{
	struct provider *pv = s->ep->pv;
	int err = 0;

	if (endpoint_foreign(s->ep))
		return endpoint_refusal(s->ep);
	lock(&s->ep->poll_lock);
	if (pv->ops->peer_watch)
		err = pv->ops->peer_watch(pv, s->handle, s->cookie, on);
	if (!err && on && !s->peer_watched) {
		/* After it was enabled: what comes now raises a cause. */
		look(s);
		s->peer_told = s->peer.generation;
		s->peer_told_paused = false;
	}
	if (!err) {
		s->peer_watched = on;
		post_level(s);
	}
	unlock(&s->ep->poll_lock);
	return err;
}
