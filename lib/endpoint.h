/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * endpoint.h - a program's door: one provider, and all the sessions behind it
 *
 * Waiting. The library has no thread of its own. Of the threads that block on one endpoint one is
 * the *leader*: it polls the rings, spins, and sleeps in the provider's sync. The others are
 * *followers* and sleep on a condition each. What the leader finds for a follower it delivers
 * and pokes him; when it leaves, whatever the reason, it pokes another follower, who then leads.
 *
 * A thread that sleeps in poll() on shmipc_fd() is no follower: nothing here knows it. When
 * shmipc_wait() found nothing it leaves word (@polled); whoever then lists a source, or takes a
 * bell and would leave a session hot that nobody polls, makes the descriptor readable.
 *
 * Sessions are *hot* (polled by the leader, doorbell not armed) or idle (armed: the peer
 * rings). A session becomes hot when its bell is taken, or a send is about to wait on it; idle when
 * the leader arms it, which it does before it sleeps, or when polls keep finding nothing.
 *
 * Locks, outermost first. None is held over user code or a copy beyond INLINE_MAX, nor over a
 * system call that may block. What they are held over is bounded, and by no peer: a futex call
 * that wakes a follower (one for each that waits for the object, and only if some do) or whoever
 * waits for one of these locks, and the allocator's for memory of this process. @poll_lock, which a
 * spinning leader keeps while it looks, @buf_lock, tx.grow_lock and rx.map_lock are also held over
 * ringing, making and mapping segments, ends of rights, looks at peers, and log lines; calls that
 * only send or receive take none of these, but to wait, to ask again and again, or for memory and
 * buffers:
 *
 *	endpoint.poll_lock	the hot list; that a session or stream found there is not freed
 *	  endpoint.buf_lock	buffers: what they are granted to, who owns them
 *	  session.tx.grow_lock	one thread makes a segment
 *	  session.rx.map_lock	one thread maps a segment that the peer added
 *	  session.rx.lock	frames coming in, returns going out, the table of streams
 *	    session.tx.lock	frames going out, returns coming in
 *	      endpoint.lock	lists of sessions and listeners, leader and followers, events, bells
 */
#ifndef SHMIPC_ENDPOINT_H
#define SHMIPC_ENDPOINT_H

#include "lock.h"
#include <errno.h>
#include <stdatomic.h>
#include <shmipc/shmipc.h>
#include "list.h"
#include "provider.h"
#include "spin.h"

/* Something that shmipc_wait() may report. (protected by endpoint.lock) */
struct source {
	struct list node;		/* in endpoint.sources, if it may have something */
	uint32_t once;			/* bits of 1 << SHMIPC_EV_* to report once */
	enum { SOURCE_LISTENER = 1, SOURCE_SESSION, SOURCE_STREAM, SOURCE_ENDPOINT } kind;
	void *object;
	void *user;
};

/* A thread that blocks; on its own stack. */
struct waiter {
	struct list node;		/* in endpoint.followers (endpoint.lock) */
	const void *key;		/* the object whose change it waits for */
	bool (*ready)(void *arg);	/* called without locks */
	void *arg;
	atomic_uint poked;		/* futex; set under endpoint.lock */
	bool looked;			/* it has just looked for itself: enough for most asks */
	bool arm;			/* don't say "nothing" before the doorbells are armed */
};

/* What a provider's event is about. */
struct cookie_entry {
	uint32_t generation;		/* odd: in use */
	uint32_t early;			/* causes that came before the object was ready */
	struct shmipc_session *session;
	struct shmipc_listener *listener;
};

/* handover.c: what shmipc_offer() began. Used by one thread, but for @source. */
struct offer {
	struct pv_segment blob;		/* struct blob; addr NULL: none */
	struct source source;		/* SHMIPC_EV_OFFER */
	int fd;
	uint32_t handle;
	bool open;
};

/*
 * What the thread in shmipc_wait() does, if it may sleep in poll() next: takes a last look; was
 * given news in that look; sleeps.
 */
enum { POLL_NONE, POLL_LOOKS, POLL_NEWS, POLL_SLEEPS };

struct shmipc_endpoint {
	struct provider *pv;		/* (invariant) */
	uint32_t process;		/* who may use this; none once it was handed over */
	atomic_int dead;		/* -errno once the provider says so */

	struct lock poll_lock;
	struct list hot;		/* (poll_lock) */
	uint32_t found;			/* frames, by all polls; written under poll_lock, read without it */
	struct spin spin;		/* (leader) */
	uint32_t seen_ready;		/* (leader) the anchor's ready word before the last sync */
	unsigned int since_sync;	/* (leader) polls since the last sync */
	atomic_bool asked;		/* something was sent since the last spin; a hint */
	int64_t synced;			/* (leader) when the last sync was; without an anchor */

	struct lock buf_lock;
	atomic_uint bufs_freed;		/* those that the program freed, and that are out */
	struct list bufs;		/* (buf_lock) */

	struct lock lock;
	struct list sessions;		/* (lock) */
	struct list listeners;		/* (lock) */
	struct list followers;		/* (lock) */
	atomic_uint nr_followers;	/* written under lock, read without it */
	bool leading;			/* (lock) */
	_Atomic(const void *) asleep;	/* the leader's key while it sleeps in sync, else NULL */
	struct list corked;		/* (lock) sessions that may have to ring */
	struct list sources;		/* (lock) */
	atomic_bool want_events;	/* shmipc_wait() was called once; written under lock */
	atomic_bool bufs_litter;	/* one of @bufs_freed may have come back */
	atomic_bool news_rung;		/* @news is to be read */
	atomic_int poll_fd;		/* shmipc_fd()'s: an epoll of pv->fd and @news; -1: none yet */
	int news;			/* eventfd (invariant once poll_fd is set) */
	atomic_int polled;		/* POLL_*: whether the next news goes to @news */
	struct cookie_entry *cookies;	/* (lock) */
	uint32_t nr_cookies;
	uint32_t moved;			/* @process before it was handed over, else 0 */

	atomic_uint_least64_t doorbells, sleeps, wakeups, stalls, segments, empty_bells;
	struct shmipc_stats gone;	/* (lock) what closed sessions had counted */

	struct offer offer;
	struct adopted *adopted;	/* (invariant) adopt.c; NULL: it was opened */
};

/* Relaxed: only sums. Without a second thread no atomic instruction (lock.h). */
static inline void count(atomic_uint_least64_t *counter, uint64_t n)
{
	if (__libc_single_threaded)
		atomic_store_explicit(counter, n + atomic_load_explicit(counter, memory_order_relaxed),
				      memory_order_relaxed);
	else
		atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* The word that a fork sets to 0 in the child; an endpoint remembers its own process's value. */
extern uint32_t *process_word;
static inline bool endpoint_foreign(const struct shmipc_endpoint *ep)
{
	return __atomic_load_n(process_word, __ATOMIC_RELAXED) != ep->process;
}

/* Handed over by this process: then its memory is not to be touched, but all can be freed. */
static inline bool endpoint_moved(const struct shmipc_endpoint *ep)
{
	return ep->moved && __atomic_load_n(process_word, __ATOMIC_RELAXED) == ep->moved;
}

/* What calls answer on an endpoint that is foreign. */
static inline int endpoint_refusal(const struct shmipc_endpoint *ep)
{
	return endpoint_moved(ep) ? -ESTALE : -EPERM;
}

/* One that has nothing, for @pv, which is its own then. */
int endpoint_new(struct provider *pv, struct shmipc_endpoint **ep);

/*
 * Waits until @w->ready() says so. Returns 0, -EAGAIN (timeout 0), -ETIMEDOUT, or the endpoint's
 * -errno. The caller holds no lock.
 */
int endpoint_wait(struct shmipc_endpoint *ep, struct waiter *w, int64_t timeout_ns);

/*
 * Wakes whoever sleeps for @key (all with NULL), followers and leader. It was changed under a lock
 * that their ready() takes too, or by a seq_cst store. Any lock of the order above may be held.
 */
void endpoint_poke_waiters(struct shmipc_endpoint *ep, const void *key);
static inline void endpoint_poke(struct shmipc_endpoint *ep, const void *key)
{
	/* Mostly there is nobody, and each frame that comes asks. */
	if (atomic_load(&ep->asleep) || atomic_load(&ep->nr_followers))
		endpoint_poke_waiters(ep, key);
}

/* Somebody shall look at the hot list again: a leader that sleeps, or who polls shmipc_fd(). */
void endpoint_kick(struct shmipc_endpoint *ep);

/* endpoint.c; for who polls shmipc_fd() */
void endpoint_tell_poller(struct shmipc_endpoint *ep);

/* Reports @event (0: look at its level) of @source at the next shmipc_wait(). */
void endpoint_list_source(struct shmipc_endpoint *ep, struct source *source, uint32_t event);
static inline void endpoint_post(struct shmipc_endpoint *ep, struct source *source, uint32_t event)
{
	/* Programs that never call shmipc_wait() pay one load. */
	if (event || atomic_load_explicit(&ep->want_events, memory_order_relaxed))
		endpoint_list_source(ep, source, event);
}

void source_init(struct source *source, int kind, void *object);
void source_remove(struct shmipc_endpoint *ep, struct source *source);

/*
 * Cookies name sessions and listeners to the provider, and outlive them without harm. One is
 * taken (0: no memory) before the provider can know it; events that come before the object
 * is attached are kept, and returned by the attach.
 */
uint64_t endpoint_cookie(struct shmipc_endpoint *ep);
uint32_t endpoint_attach(struct shmipc_endpoint *ep, uint64_t cookie,
			 struct shmipc_session *session, struct shmipc_listener *listener);
void endpoint_forget(struct shmipc_endpoint *ep, uint64_t cookie);

/* Rings for all that was corked, for a thread that is about to sleep elsewhere. No lock held. */
void endpoint_flush(struct shmipc_endpoint *ep);

/*
 * Adds a session to those that the leader polls, one whose bells are empty for a single poll.
 * poll_lock held.
 */
void endpoint_heat(struct shmipc_endpoint *ep, struct shmipc_session *session);

/*
 * For a thread that is about to wait: makes a session hot if nobody leads. True: then whoever leads next
 * looks at it, and arms it before it sleeps. No lock held.
 */
bool endpoint_heat_for_wait(struct shmipc_endpoint *ep, struct shmipc_session *session);

/* poll_lock held. False: not worth another turn, as session_event(). */
bool endpoint_event(struct shmipc_endpoint *ep, const struct shmipc_ready *event);
/*
 * Whom to ring for what was corked: fills in up to @max entries, returns how many. With @found not
 * NULL those of them that are hot are armed on the way, and *@found is set if there was something.
 * poll_lock held.
 */
unsigned int endpoint_bells(struct shmipc_endpoint *ep, struct shmipc_notify *notify,
			    unsigned int max, bool *found);

#endif
