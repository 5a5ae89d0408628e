// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* heat.c - making a session hot or idle, and seeing which it is */
#include "heat.h"

bool is_hot(struct shmipc_session *s)
{
	return !list_empty(&s->hot);
}

void heat(struct shmipc_session *s)
{
	lock(&s->ep->poll_lock);
	endpoint_heat(s->ep, s);
	unlock(&s->ep->poll_lock);
}

int take_bells(struct shmipc_endpoint *ep)
{
	struct shmipc_ready events[8];
	struct pv_sync sync = { .events = events, .max_events = 8 };
	int n = ep->pv->ops->sync(ep->pv, &sync);

	lock(&ep->poll_lock);
	for (int i = 0; i < n; i++)
		endpoint_event(ep, &events[i]);
	unlock(&ep->poll_lock);
	return n;
}

void no_sync_yet(struct shmipc_endpoint *ep)
{
	ep->synced = INT64_MAX;
}
