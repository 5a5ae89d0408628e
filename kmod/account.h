/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * account.h - who pays, what is capped, what is counted
 *
 * Three bounds on pages: the creator's memory cgroup (by the allocation itself), a
 * counter per user and one of the machine. A user is the euid at open. When the
 * owner of a segment goes and a peer keeps it mapped, the charge moves to the peer's user if
 * that stays below its cap: who maps, pays, but nobody can fill another's cap.
 *
 * Endpoints, sessions and listeners are counted likewise, so that no user can take them all.
 *
 * CAP_SYS_RESOURCE in the initial namespace is exempt from the user's caps and may use the
 * machine's reserve of pages.
 */
#ifndef _SHMIPC_ACCOUNT_H
#define _SHMIPC_ACCOUNT_H

#include <linux/atomic.h>
#include <linux/list.h>
#include <linux/percpu.h>
#include <linux/refcount.h>
#include <linux/uidgid.h>

struct shmipc_query;

/* Objects that exist now. Each must come back to 0. */
#define SHMIPC_LIVE_COUNTERS(X)	\
	X(endpoints)		\
	X(attachments)		\
	X(segments)		\
	X(views)		\
	X(grants)		\
	X(sessions)		\
	X(sides)		\
	X(listeners)		\
	X(names)		\
	X(quotas)		\
	X(offers)		\
	X(orphans)		\
	X(users)		\
	X(limbo)

/* What happened since the module was loaded. */
#define SHMIPC_TOTAL_COUNTERS(X)	\
	X(endpoints)			\
	X(deaths)			\
	X(segments)			\
	X(grants)			\
	X(revokes)			\
	X(freezes)			\
	X(gives)			\
	X(takes)			\
	X(returns)			\
	X(sessions)			\
	X(listeners)			\
	X(offers)			\
	X(adoptions)			\
	X(commits)			\
	X(orphans)			\
	X(expiries)			\
	X(doorbells)			\
	X(syncs)			\
	X(sleeps)			\
	X(wakeups)			\
	X(faults)

#define SHMIPC_LIVE_ENUM(name)	SHMIPC_LIVE_##name,
enum shmipc_live { SHMIPC_LIVE_COUNTERS(SHMIPC_LIVE_ENUM) SHMIPC_LIVE_NR };

#define SHMIPC_TOTAL_ENUM(name)	SHMIPC_TOTAL_##name,
enum shmipc_total { SHMIPC_TOTAL_COUNTERS(SHMIPC_TOTAL_ENUM) SHMIPC_TOTAL_NR };

struct shmipc_totals {
	u64 v[SHMIPC_TOTAL_NR];
};

extern atomic_long_t shmipc_live[SHMIPC_LIVE_NR];
DECLARE_PER_CPU(struct shmipc_totals, shmipc_totals);

#define shmipc_live_inc(name)	atomic_long_inc(&shmipc_live[SHMIPC_LIVE_##name])
#define shmipc_live_dec(name)	atomic_long_dec(&shmipc_live[SHMIPC_LIVE_##name])
#define shmipc_total_inc(name)	this_cpu_inc(shmipc_totals.v[SHMIPC_TOTAL_##name])

/**
 * struct shmipc_user - what one uid holds
 * @node: in the table (protected by its mutex)
 * @uid: whose (invariant after init)
 * @ref: endpoints, segments, quotas
 * @pages: charged to it
 * @endpoints: open
 * @sessions: that it asked for, until both sides have closed
 * @listeners: bound
 */
struct shmipc_user {
	struct hlist_node node;
	kuid_t uid;
	refcount_t ref;
	atomic_long_t pages;
	atomic_long_t endpoints;
	atomic_long_t sessions;
	atomic_long_t listeners;
};

struct shmipc_user *shmipc_user_find(kuid_t uid);
struct shmipc_user *shmipc_user_get(struct shmipc_user *user);
void shmipc_user_put(struct shmipc_user *user);

int shmipc_charge(struct shmipc_user *user, unsigned long pages);
void shmipc_uncharge(struct shmipc_user *user, unsigned long pages);
/* False: it would be over the cap of @to, who is not @exempt from it, and stays where it is. */
bool shmipc_charge_move(struct shmipc_user *from, struct shmipc_user *to, unsigned long pages,
			bool exempt);
/* Is current exempt from its user's caps? Asked only when one was met: that leaves its mark. */
bool shmipc_charge_exempt(void);

int shmipc_endpoint_charge(struct shmipc_user *user);
void shmipc_endpoint_uncharge(struct shmipc_user *user);
int shmipc_session_charge(struct shmipc_user *user);
void shmipc_session_uncharge(struct shmipc_user *user);
int shmipc_listener_charge(struct shmipc_user *user);
void shmipc_listener_uncharge(struct shmipc_user *user);

/**
 * struct shmipc_holdings - what an endpoint's user is charged for
 * @pages: of its segments
 * @endpoints: itself
 * @sessions: that it asked for
 * @listeners: of its own
 */
struct shmipc_holdings {
	unsigned long pages;
	unsigned long endpoints;
	unsigned long sessions;
	unsigned long listeners;
};

/*
 * Charges @user with what is charged to another already: only the user's own caps count. All or
 * nothing. -EDQUOT.
 */
int shmipc_holdings_reserve(struct shmipc_user *user, const struct shmipc_holdings *h);
/* Of one user, while it stays charged to another. */
void shmipc_holdings_release(struct shmipc_user *user, const struct shmipc_holdings *h);

void shmipc_account_query(struct shmipc_user *user, struct shmipc_query *q);

int shmipc_account_init(void);
void shmipc_account_exit(void);

#endif
