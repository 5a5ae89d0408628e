// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* waiters.c - threads that wait on one endpoint of a duo */
#include <time.h>
#include <unistd.h>
#include "waiters.h"

/* ---- states to wait for ------------------------------------------------------------ */

int64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* One leads and sleeps, having slept @sleeps times and more; @followers follow. */
static bool settled(struct shmipc_endpoint *ep, uint64_t sleeps, unsigned int followers)
{
	bool leading;

	lock(&ep->lock);
	leading = ep->leading;
	unlock(&ep->lock);
	return leading && duo_stats(ep).sleeps >= sleeps &&
	       atomic_load(&ep->nr_followers) == followers;
}

void await_settled(struct shmipc_endpoint *ep, uint64_t sleeps, unsigned int followers)
{
	int64_t until = now() + LIMIT;

	while (!settled(ep, sleeps, followers) && now() < until)
		usleep(100);
	assert_true(settled(ep, sleeps, followers));
}

/* ---- threads ----------------------------------------------------------------------- */

void *wait_thread(void *arg)
{
	struct thread *t = arg;
	int64_t begun = now();

	t->result = shmipc_wait(t->ep, &t->event, 1, IN_TIME);
	t->took = now() - begun;
	return NULL;
}

void *read_thread(void *arg)
{
	struct thread *t = arg;
	char c;
	int64_t begun = now();

	t->result = shmipc_read(t->st, &c, 1, IN_TIME);
	t->took = now() - begun;
	return NULL;
}

void spawn(struct thread *t, void *(*run)(void *), struct shmipc_endpoint *ep,
	   struct shmipc_stream *st)
{
	*t = (struct thread){ .ep = ep, .st = st };
	assert_int_equal(pthread_create(&t->id, NULL, run, t), 0);
}

/* Until it leads and sleeps: nothing but the provider wakes it then. */
void spawn_leader(struct thread *t, void *(*run)(void *), struct shmipc_endpoint *ep,
		  struct shmipc_stream *st)
{
	uint64_t sleeps = duo_stats(ep).sleeps;

	spawn(t, run, ep, st);
	await_settled(ep, sleeps + 1, 0);
}

void spawn_follower(struct thread *t, void *(*run)(void *), struct shmipc_endpoint *ep,
		    struct shmipc_stream *st)
{
	spawn(t, run, ep, st);
	await_settled(ep, 1, 1);
}

void join(struct thread *t, ssize_t result)
{
	pthread_join(t->id, NULL);
	assert_int_equal(t->result, result);
	assert_true(t->took < IN_TIME);
}

void join_event(struct thread *t, uint32_t type, void *object)
{
	join(t, 1);
	assert_int_equal(t->event.type, type);
	assert_ptr_equal(t->event.object, object);
}

/* ---- a provider that does something in between ------------------------------------ */

struct shmipc_endpoint *hooked_ep;
struct provider_ops hooked;
const struct provider_ops *real_ops;

/* Its calls but for those that a test replaces in @hooked. */
void hook(struct shmipc_endpoint *ep)
{
	hooked_ep = ep;
	real_ops = ep->pv->ops;
	hooked = *real_ops;
	ep->pv->ops = &hooked;
}

/* Accepts, and has said all that it will ever say before the other side's connect returns. */
void *peer_thread(void *arg)
{
	struct peer *p = arg;
	struct shmipc_stream *st;

	p->err = shmipc_accept(p->listener, &p->s, LIMIT);
	if (!p->err && p->close)
		shmipc_session_close(p->s);
	else if (!p->err && (shmipc_stream_open(p->s, &st) ||
			     shmipc_write(st, "x", 1, 0, 0) != 1))
		p->err = -EIO;
	return NULL;
}
