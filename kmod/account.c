// SPDX-License-Identifier: GPL-2.0-only
#include <linux/capability.h>
#include <linux/debugfs.h>
#include <linux/hashtable.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "account.h"
#include "main.h"

/* Caps. Pages: 0 at load means the default, computed from the memory's size. */
static ulong user_pages_max;
module_param(user_pages_max, ulong, 0644);
MODULE_PARM_DESC(user_pages_max, "pages a user may have charged (default: 1/8 of memory)");
static ulong total_pages_max;
module_param(total_pages_max, ulong, 0644);
MODULE_PARM_DESC(total_pages_max, "pages charged on the machine (default: 1/2 of memory)");
static ulong reserve_pages;
module_param(reserve_pages, ulong, 0644);
MODULE_PARM_DESC(reserve_pages, "of total_pages_max, for CAP_SYS_RESOURCE only (default: 1/16)");
static ulong endpoints_max = 1024;
module_param(endpoints_max, ulong, 0644);
MODULE_PARM_DESC(endpoints_max, "open endpoints");
static ulong sessions_max = 16384;
module_param(sessions_max, ulong, 0644);
MODULE_PARM_DESC(sessions_max, "sessions, waiting ones included");
static ulong listeners_max = 4096;
module_param(listeners_max, ulong, 0644);
MODULE_PARM_DESC(listeners_max, "listeners");
static uint user_share = 75;
module_param(user_share, uint, 0644);
MODULE_PARM_DESC(user_share, "percent of each of these for a user without CAP_SYS_RESOURCE");

atomic_long_t shmipc_live[SHMIPC_LIVE_NR];
DEFINE_PER_CPU(struct shmipc_totals, shmipc_totals);

static atomic_long_t total_pages;
static atomic_long_t total_endpoints;
static atomic_long_t total_sessions;
static atomic_long_t total_listeners;

static DEFINE_MUTEX(users_mutex);
static DEFINE_HASHTABLE(users, 6);
static struct dentry *debug_dir;

#define COUNTER_NAME(name)	#name,
static const char *const live_names[] = { SHMIPC_LIVE_COUNTERS(COUNTER_NAME) };
static const char *const total_names[] = { SHMIPC_TOTAL_COUNTERS(COUNTER_NAME) };

/* ---- users ---- */

static struct shmipc_user *user_lookup(kuid_t uid)
{
	struct shmipc_user *user;

	hash_for_each_possible(users, user, node, __kuid_val(uid)) {
		if (uid_eq(user->uid, uid))
			return user;
	}
	return NULL;
}

/* Found or made; NULL without memory. */
struct shmipc_user *shmipc_user_find(kuid_t uid)
{
	struct shmipc_user *user, *fresh;

	/* Before the mutex: who waits for memory must not make everybody wait. */
	fresh = kzalloc(sizeof(*fresh), GFP_KERNEL_ACCOUNT);
	if (!fresh)
		return NULL;
	mutex_lock(&users_mutex);
	user = user_lookup(uid);
	if (user) {
		refcount_inc(&user->ref);
	} else {
		user = fresh;
		fresh = NULL;
		user->uid = uid;
		refcount_set(&user->ref, 1);
		hash_add(users, &user->node, __kuid_val(uid));
		shmipc_live_inc(users);
	}
	mutex_unlock(&users_mutex);
	kfree(fresh);
	return user;
}

struct shmipc_user *shmipc_user_get(struct shmipc_user *user)
{
	refcount_inc(&user->ref);
	return user;
}

void shmipc_user_put(struct shmipc_user *user)
{
	if (!refcount_dec_and_mutex_lock(&user->ref, &users_mutex))
		return;
	hash_del(&user->node);
	mutex_unlock(&users_mutex);
	WARN_ON_ONCE(atomic_long_read(&user->pages));
	kfree(user);
	shmipc_live_dec(users);
}

/* ---- caps ---- */

/*
 * Adds only what stays within @max; a sum that is over for a moment would refuse others. Nothing
 * can always be added, also where the cap was lowered below what is there.
 */
static bool add_below(atomic_long_t *sum, unsigned long add, unsigned long max)
{
	long now = atomic_long_read(sum);

	if (!add)
		return true;
	do {
		if ((unsigned long)now > max || add > max - (unsigned long)now)
			return false;
	} while (!atomic_long_try_cmpxchg(sum, &now, now + add));
	return true;
}

bool shmipc_charge_exempt(void)
{
	return capable(CAP_SYS_RESOURCE);
}

static bool charge_total(unsigned long pages)
{
	unsigned long max = READ_ONCE(total_pages_max);
	unsigned long reserve = min(READ_ONCE(reserve_pages), max);

	return add_below(&total_pages, pages, max - reserve) ||
	       (shmipc_charge_exempt() && add_below(&total_pages, pages, max));
}

static bool charge_pages(struct shmipc_user *user, unsigned long pages)
{
	return add_below(&user->pages, pages, READ_ONCE(user_pages_max)) ||
	       (shmipc_charge_exempt() && add_below(&user->pages, pages, LONG_MAX));
}

int shmipc_charge(struct shmipc_user *user, unsigned long pages)
{
	if (!charge_total(pages))
		return -ENOSPC;
	if (charge_pages(user, pages))
		return 0;
	atomic_long_sub(pages, &total_pages);
	return -EDQUOT;
}

void shmipc_uncharge(struct shmipc_user *user, unsigned long pages)
{
	atomic_long_sub(pages, &user->pages);
	atomic_long_sub(pages, &total_pages);
}

bool shmipc_charge_move(struct shmipc_user *from, struct shmipc_user *to, unsigned long pages,
			bool exempt)
{
	if (!add_below(&to->pages, pages, exempt ? LONG_MAX : READ_ONCE(user_pages_max)))
		return false;
	atomic_long_sub(pages, &from->pages);
	return true;
}

/* Of a cap of the machine. */
static unsigned long user_max(unsigned long max)
{
	unsigned int share = READ_ONCE(user_share);

	return max / 100 * share + max % 100 * share / 100;
}

static bool share_charge(atomic_long_t *mine, unsigned long n, unsigned long max)
{
	return add_below(mine, n, user_max(max)) ||
	       (shmipc_charge_exempt() && add_below(mine, n, LONG_MAX));
}

static int object_charge(atomic_long_t *total, atomic_long_t *mine, unsigned long max)
{
	if (!add_below(total, 1, max))
		return -ENOSPC;
	if (share_charge(mine, 1, max))
		return 0;
	atomic_long_dec(total);
	return -EDQUOT;
}

int shmipc_endpoint_charge(struct shmipc_user *user)
{
	return object_charge(&total_endpoints, &user->endpoints, READ_ONCE(endpoints_max));
}

void shmipc_endpoint_uncharge(struct shmipc_user *user)
{
	atomic_long_dec(&user->endpoints);
	atomic_long_dec(&total_endpoints);
}

int shmipc_session_charge(struct shmipc_user *user)
{
	return object_charge(&total_sessions, &user->sessions, READ_ONCE(sessions_max));
}

void shmipc_session_uncharge(struct shmipc_user *user)
{
	atomic_long_dec(&user->sessions);
	atomic_long_dec(&total_sessions);
}

int shmipc_listener_charge(struct shmipc_user *user)
{
	return object_charge(&total_listeners, &user->listeners, READ_ONCE(listeners_max));
}

void shmipc_listener_uncharge(struct shmipc_user *user)
{
	atomic_long_dec(&user->listeners);
	atomic_long_dec(&total_listeners);
}

int shmipc_holdings_reserve(struct shmipc_user *user, const struct shmipc_holdings *h)
{
	if (!charge_pages(user, h->pages))
		return -EDQUOT;
	if (!share_charge(&user->endpoints, h->endpoints, READ_ONCE(endpoints_max)))
		goto err_pages;
	if (!share_charge(&user->sessions, h->sessions, READ_ONCE(sessions_max)))
		goto err_endpoints;
	if (!share_charge(&user->listeners, h->listeners, READ_ONCE(listeners_max)))
		goto err_sessions;
	return 0;

err_sessions:
	atomic_long_sub(h->sessions, &user->sessions);
err_endpoints:
	atomic_long_sub(h->endpoints, &user->endpoints);
err_pages:
	atomic_long_sub(h->pages, &user->pages);
	return -EDQUOT;
}

void shmipc_holdings_release(struct shmipc_user *user, const struct shmipc_holdings *h)
{
	atomic_long_sub(h->pages, &user->pages);
	atomic_long_sub(h->endpoints, &user->endpoints);
	atomic_long_sub(h->sessions, &user->sessions);
	atomic_long_sub(h->listeners, &user->listeners);
}

void shmipc_account_query(struct shmipc_user *user, struct shmipc_query *q)
{
	q->out_user_pages = atomic_long_read(&user->pages);
	q->out_user_pages_max = READ_ONCE(user_pages_max);
	q->out_total_pages = atomic_long_read(&total_pages);
	q->out_total_pages_max = READ_ONCE(total_pages_max);
	q->out_endpoints_max = min_t(ulong, READ_ONCE(endpoints_max), U32_MAX);
	q->out_sessions_max = min_t(ulong, READ_ONCE(sessions_max), U32_MAX);
}

/* ---- counters ---- */

static u64 total_read(enum shmipc_total which)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu(shmipc_totals, cpu).v[which];
	return sum;
}

static int counters_show(struct seq_file *m, void *unused)
{
	int i;

	for (i = 0; i < SHMIPC_LIVE_NR; i++)
		seq_printf(m, "%s_live %ld\n", live_names[i], atomic_long_read(&shmipc_live[i]));
	seq_printf(m, "pages %ld\n", atomic_long_read(&total_pages));
	for (i = 0; i < SHMIPC_TOTAL_NR; i++)
		seq_printf(m, "%s_total %llu\n", total_names[i], total_read(i));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(counters);

int shmipc_account_init(void)
{
	unsigned long ram = totalram_pages();

	if (!user_pages_max)
		user_pages_max = ram / 8;
	if (!total_pages_max)
		total_pages_max = ram / 2;
	if (!reserve_pages)
		reserve_pages = total_pages_max / 16;
	debug_dir = debugfs_create_dir("shmipc", NULL);
	debugfs_create_file("counters", 0400, debug_dir, NULL, &counters_fops);
	return 0;
}

/* After the last object is gone. */
void shmipc_account_exit(void)
{
	debugfs_remove(debug_dir);
	WARN_ON(!hash_empty(users));
	WARN_ON(atomic_long_read(&total_pages));
}

#ifdef CONFIG_SHMIPC_KUNIT_TEST
#include "tests/account_test.c"
#endif
