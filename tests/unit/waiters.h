/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * waiters.h - threads that wait on one endpoint of a duo, and how far they are
 *
 * A test goes on when a thread is known to sleep, never after a while. All is of one test at a
 * time.
 */
#ifndef TESTS_WAITERS_H
#define TESTS_WAITERS_H

#include <pthread.h>
#include "duo.h"

/*
 * Long enough for any machine. When it is over the library looks once more: who finds something
 * only then was not woken for it.
 */
#define IN_TIME	(LIMIT / 3)

struct thread {
	pthread_t id;
	struct shmipc_endpoint *ep;
	struct shmipc_stream *st;
	struct shmipc_event event;
	ssize_t result;
	int64_t took;
};

/* What threads run: shmipc_wait() on @ep, a read of one byte from @st. */
void *wait_thread(void *arg);
void *read_thread(void *arg);

void spawn(struct thread *t, void *(*run)(void *), struct shmipc_endpoint *ep,
	   struct shmipc_stream *st);
/* Until it leads and sleeps: nothing but the provider wakes it then. */
void spawn_leader(struct thread *t, void *(*run)(void *), struct shmipc_endpoint *ep,
		  struct shmipc_stream *st);
void spawn_follower(struct thread *t, void *(*run)(void *), struct shmipc_endpoint *ep,
		    struct shmipc_stream *st);
/* It ended in time, with this result; or with this event. */
void join(struct thread *t, ssize_t result);
void join_event(struct thread *t, uint32_t type, void *object);

int64_t now(void);
/* Somebody leads and sleeps, having slept @sleeps times and more; @followers follow. */
void await_settled(struct shmipc_endpoint *ep, uint64_t sleeps, unsigned int followers);

/* An endpoint whose provider does something in between: what a test puts into @hooked. */
extern struct shmipc_endpoint *hooked_ep;
extern struct provider_ops hooked;
extern const struct provider_ops *real_ops;
void hook(struct shmipc_endpoint *ep);

/* Accepts on @listener, and then opens a stream with a byte on it, or closes. */
struct peer {
	pthread_t id;
	struct shmipc_listener *listener;
	struct shmipc_session *s;
	bool close;
	int err;
};

void *peer_thread(void *arg);

#endif
