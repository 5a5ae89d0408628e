// SPDX-License-Identifier: GPL-2.0-only
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/ctype.h>
#include <linux/hashtable.h>
#include <linux/jhash.h>
#include <linux/mutex.h>
#include <linux/nsproxy.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <net/net_namespace.h>
#include <net/netns/generic.h>

#include "account.h"
#include "endpoint.h"
#include "listener.h"
#include "orphan.h"
#include "session.h"

#define DEFAULT_PER_UID	64

/**
 * struct shmipc_names - the names of a network namespace
 * @mutex: see main.h
 * @seed: of the hash, so that nobody can choose names that collide (invariant)
 * @table: listeners by name (protected by @mutex)
 */
struct shmipc_names {
	struct mutex mutex;
	u32 seed;
	DECLARE_HASHTABLE(table, 8);
};

static unsigned int names_id;

static struct shmipc_names *names_of(struct net *net)
{
	return net_generic(net, names_id);
}

/* ---- names ---- */

int shmipc_name_read(char *name, u64 uptr, u32 len)
{
	u32 i;

	if (!len || len > SHMIPC_NAME_MAX)
		return -EINVAL;
	if (copy_from_user(name, u64_to_user_ptr(uptr), len))
		return -EFAULT;
	for (i = 0; i < len; i++) {
		if (!isascii(name[i]) || (!isalnum(name[i]) && !memchr("._:/-", name[i], 5)))
			return -EINVAL;
	}
	return 0;
}

static struct shmipc_listener *name_lookup(struct shmipc_names *names, const char *name, u32 len)
{
	struct shmipc_listener *l;

	hash_for_each_possible(names->table, l, hash, jhash(name, len, names->seed)) {
		if (l->name_len == len && !memcmp(l->name, name, len))
			return l;
	}
	return NULL;
}

struct shmipc_listener *shmipc_listener_find(const char *name, u32 len)
{
	struct shmipc_names *names = names_of(current->nsproxy->net_ns);
	struct shmipc_listener *l;

	mutex_lock(&names->mutex);
	l = name_lookup(names, name, len);
	/* A hashed listener has its handle's reference, or its closer has that. */
	if (l)
		refcount_inc(&l->obj.ref);
	mutex_unlock(&names->mutex);
	return l;
}

/*
 * The handle and the name appear at once: who is rung for the first connection can accept it.
 * name_unhash() of whoever takes the handle comes after us, by the mutex. -EADDRINUSE: the name is
 * @taken's, referenced.
 */
static int name_publish(struct shmipc_attachment *att, struct shmipc_listener *l,
			struct shmipc_listener **taken)
{
	struct shmipc_names *names = names_of(l->net);
	struct shmipc_listener *other;
	int err;

	err = shmipc_holder_lock(att);
	if (err)
		return err;
	mutex_lock(&names->mutex);
	other = name_lookup(names, l->name, l->name_len);
	if (other) {
		err = -EADDRINUSE;
		refcount_inc(&other->obj.ref);
		*taken = other;
	} else {
		shmipc_handle_publish_locked(att->ep, &l->obj);
		hash_add(names->table, &l->hash, jhash(l->name, l->name_len, names->seed));
		if (l->orphan_ms)
			atomic_inc(&l->obj.ep->orphan.reasons);
		shmipc_live_inc(names);
	}
	mutex_unlock(&names->mutex);
	mutex_unlock(&att->ep->lock);
	return err;
}

static void name_unhash(struct shmipc_listener *l)
{
	struct shmipc_names *names = names_of(l->net);

	mutex_lock(&names->mutex);
	if (!hlist_unhashed(&l->hash)) {
		hash_del(&l->hash);
		if (l->orphan_ms)
			atomic_dec(&l->obj.ep->orphan.reasons);
		shmipc_live_dec(names);
	}
	mutex_unlock(&names->mutex);
	shmipc_listener_drop_net(l);
}

bool shmipc_listener_keep_net(struct shmipc_listener *l)
{
	if (!l->keeps_net)
		l->keeps_net = maybe_get_net(l->net);
	return l->keeps_net;
}

void shmipc_listener_drop_net(struct shmipc_listener *l)
{
	if (l->keeps_net)
		put_net(l->net);
	l->keeps_net = false;
}

/* Names under "u<uid>/" are that uid's, as the namespace that owns the names counts uids. */
static bool name_permitted(const struct shmipc_listener *l, const struct cred *cred)
{
	struct user_namespace *ns = current->nsproxy->net_ns->user_ns;
	u64 uid = 0;
	u32 i;

	if (l->name[0] != 'u')
		return true;
	for (i = 1; i < l->name_len && isdigit(l->name[i]); i++) {
		uid = uid * 10 + l->name[i] - '0';
		/* Nobody's, and it stays that: the name is reserved only if a slash follows. */
		uid = min_t(u64, uid, (uid_t)-1);
	}
	if (i == 1 || i == l->name_len || l->name[i] != '/')
		return true;
	return uid_eq(make_kuid(ns, uid), cred->euid);
}

/* ---- rights ---- */

/* As in_egroup_p(), for the opener and not for current. group_info is sorted. */
static bool in_group(const struct cred *cred, kgid_t gid)
{
	const struct group_info *groups = cred->group_info;
	int low = 0, high = groups->ngroups, mid;

	if (gid_eq(cred->egid, gid))
		return true;
	while (low < high) {
		mid = (low + high) / 2;
		if (gid_eq(groups->gid[mid], gid))
			return true;
		if (gid_lt(groups->gid[mid], gid))
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

bool shmipc_listener_permits(struct shmipc_listener *l, struct shmipc_attachment *att)
{
	const struct cred *cred = att->file->f_cred;
	u16 need = 0002;

	if (uid_eq(cred->euid, l->uid))
		need = 0200;
	else if (in_group(cred, l->gid))
		need = 0020;
	return l->mode & need || file_ns_capable(att->file, &init_user_ns, CAP_DAC_OVERRIDE);
}

static int set_owner(struct shmipc_listener *l, const struct shmipc_bind *arg,
		     const struct cred *cred)
{
	l->uid = cred->euid;
	l->gid = cred->egid;
	if (!(arg->flags & SHMIPC_BIND_OWNER))
		return arg->uid || arg->gid ? -EINVAL : 0;
	l->uid = make_kuid(current_user_ns(), arg->uid);
	l->gid = make_kgid(current_user_ns(), arg->gid);
	if (!uid_valid(l->uid) || !gid_valid(l->gid))
		return -EINVAL;
	if (uid_eq(l->uid, cred->euid) && in_group(cred, l->gid))
		return 0;
	return capable(CAP_CHOWN) ? 0 : -EACCES;
}

/* ---- quotas ---- */

static struct shmipc_quota *quota_find_locked(struct shmipc_listener *l, struct shmipc_user *user)
{
	struct shmipc_quota *quota;

	lockdep_assert_held(&l->lock);
	list_for_each_entry(quota, &l->quotas, link) {
		if (quota->user == user)
			return quota;
	}
	return NULL;
}

static void quota_free(struct shmipc_quota *quota)
{
	shmipc_user_put(quota->user);
	kfree(quota);
	shmipc_live_dec(quotas);
}

struct shmipc_quota *shmipc_quota_get(struct shmipc_listener *l, struct shmipc_user *user)
{
	struct shmipc_quota *quota, *fresh;

	fresh = kzalloc(sizeof(*fresh), GFP_KERNEL_ACCOUNT);
	if (!fresh)
		return ERR_PTR(-ENOMEM);
	fresh->user = shmipc_user_get(user);
	shmipc_live_inc(quotas);

	spin_lock(&l->lock);
	quota = quota_find_locked(l, user);
	if (!quota) {
		quota = fresh;
		fresh = NULL;
		list_add(&quota->link, &l->quotas);
	}
	if (quota->sessions < l->max_per_uid)
		quota->sessions++;
	else
		quota = ERR_PTR(-EDQUOT);
	spin_unlock(&l->lock);
	if (fresh)
		quota_free(fresh);
	return quota;
}

void shmipc_quota_put(struct shmipc_listener *l, struct shmipc_quota *quota)
{
	spin_lock(&l->lock);
	if (--quota->sessions)
		quota = NULL;
	else
		list_del(&quota->link);
	spin_unlock(&l->lock);
	if (quota)
		quota_free(quota);
}

/* ---- queue ---- */

int shmipc_listener_enqueue(struct shmipc_listener *l, struct shmipc_session *s)
{
	int err = 0;

	spin_lock(&l->lock);
	if (l->closed) {
		err = -ECONNREFUSED;
	} else if (l->queued >= l->backlog) {
		err = -EAGAIN;
	} else {
		shmipc_handle_publish_locked(s->side[0].obj.ep, &s->side[0].obj);
		list_add_tail(&s->queued, &l->queue);
		l->queued++;
	}
	spin_unlock(&l->lock);
	return err;
}

struct shmipc_session *shmipc_listener_dequeue(struct shmipc_listener *l)
{
	struct shmipc_session *s;

	spin_lock(&l->lock);
	s = list_first_entry_or_null(&l->queue, struct shmipc_session, queued);
	if (s) {
		list_del_init(&s->queued);
		l->queued--;
	}
	spin_unlock(&l->lock);
	return s;
}

bool shmipc_listener_requeue(struct shmipc_listener *l, struct shmipc_session *s)
{
	bool open;

	spin_lock(&l->lock);
	open = !l->closed;
	if (open) {
		list_add(&s->queued, &l->queue);
		l->queued++;
	}
	spin_unlock(&l->lock);
	return open;
}

bool shmipc_listener_unqueue(struct shmipc_listener *l, struct shmipc_session *s)
{
	bool queued;

	spin_lock(&l->lock);
	queued = !list_empty(&s->queued);
	if (queued) {
		list_del_init(&s->queued);
		l->queued--;
	}
	spin_unlock(&l->lock);
	return queued;
}

/* ---- life ---- */

static struct shmipc_listener *listener_new(struct shmipc_attachment *att,
					    const struct shmipc_bind *arg)
{
	struct shmipc_listener *l;
	int err;

	err = shmipc_listener_charge(att->user);
	if (err)
		return ERR_PTR(err);
	l = kzalloc(sizeof(*l), GFP_KERNEL_ACCOUNT);
	if (!l) {
		shmipc_listener_uncharge(att->user);
		return ERR_PTR(-ENOMEM);
	}
	shmipc_object_init(&l->obj, SHMIPC_KIND_LISTENER, att->ep);
	l->user = shmipc_user_get(att->user);
	shmipc_ready_init(&l->ready, arg->cookie, arg->causes);
	l->net = get_net(current->nsproxy->net_ns);
	l->keeps_net = true;
	l->adopt = arg->adopt;
	l->orphan_ms = arg->orphan_ms;
	l->mode = arg->mode;
	l->backlog = arg->backlog;
	l->max_per_uid = arg->max_per_uid ?: DEFAULT_PER_UID;
	spin_lock_init(&l->lock);
	INIT_LIST_HEAD(&l->queue);
	INIT_LIST_HEAD(&l->quotas);
	shmipc_live_inc(listeners);
	shmipc_total_inc(listeners);
	return l;
}

void shmipc_listener_free(struct shmipc_listener *l)
{
	WARN_ON_ONCE(!list_empty(&l->queue) || !list_empty(&l->quotas));
	shmipc_endpoint_put(l->obj.ep);
	shmipc_user_put(l->user);
	kfree_rcu(l, rcu);
	shmipc_live_dec(listeners);
}

void shmipc_listener_close(struct shmipc_listener *l, bool died)
{
	struct shmipc_session *s;

	name_unhash(l);
	spin_lock(&l->lock);
	l->closed = true;
	spin_unlock(&l->lock);
	shmipc_ready_off(l->obj.ep, &l->ready);
	while ((s = shmipc_listener_dequeue(l))) {
		shmipc_session_refuse(s, died);
		cond_resched();
	}
	/* Sessions may keep the struct for long; it takes nobody's share of the names. */
	shmipc_listener_uncharge(l->user);
}

/* ---- BIND ---- */

static int bind_check(const struct shmipc_bind *arg)
{
	if (arg->flags & ~(SHMIPC_BIND_OWNER | SHMIPC_BIND_FRESH) ||
	    arg->causes & ~SHMIPC_CAUSE_ACCEPT)
		return -EOPNOTSUPP;
	if (arg->adopt != SHMIPC_ADOPT_NOBODY && arg->adopt != SHMIPC_ADOPT_EUID)
		return -EOPNOTSUPP;
	if (arg->mode & ~0222 || !arg->backlog || arg->backlog > SHMIPC_BACKLOG_MAX)
		return -EINVAL;
	return 0;
}

/* With FRESH an orphan that has the name ends first. */
static int bind_name(struct shmipc_call *call, struct shmipc_listener *l)
{
	const struct shmipc_bind *arg = call->arg;
	struct shmipc_listener *taken;
	int err;

	do {
		err = name_publish(call->att, l, &taken);
		if (err != -EADDRINUSE)
			return err;
		err = shmipc_orphan_give_way(taken, call->att, arg->flags & SHMIPC_BIND_FRESH);
		shmipc_object_put(&taken->obj);
	} while (!err);
	return err;
}

static int bind_publish(struct shmipc_call *call, struct shmipc_listener *l)
{
	struct shmipc_bind *arg = call->arg;
	int err;

	err = shmipc_handle_reserve(call->ep, &l->obj.handle);
	if (err)
		return err;
	l->ready.handle = l->obj.handle;
	arg->out_handle = l->obj.handle;
	err = shmipc_call_respond(call);
	if (!err)
		err = bind_name(call, l);
	if (err)
		shmipc_handle_unreserve(call->ep, l->obj.handle);
	return err;
}

int shmipc_bind(struct shmipc_call *call)
{
	const struct shmipc_bind *arg = call->arg;
	struct shmipc_listener *l;
	int err;

	err = bind_check(arg);
	if (err)
		return err;
	l = listener_new(call->att, arg);
	if (IS_ERR(l))
		return PTR_ERR(l);
	l->name_len = arg->name_len;
	err = shmipc_name_read(l->name, arg->name, arg->name_len);
	if (!err)
		err = set_owner(l, arg, call->att->file->f_cred);
	if (!err && !name_permitted(l, call->att->file->f_cred))
		err = -EACCES;
	if (!err)
		err = bind_publish(call, l);
	if (!err)
		return 0;
	shmipc_listener_close(l, false);
	shmipc_object_put(&l->obj);
	return err;
}

/* ---- namespaces ---- */

static int __net_init names_init(struct net *net)
{
	struct shmipc_names *names = names_of(net);

	mutex_init(&names->mutex);
	names->seed = get_random_u32();
	hash_init(names->table);
	return 0;
}

static struct shmipc_endpoint *names_any(struct shmipc_names *names)
{
	struct shmipc_endpoint *ep = NULL;
	struct shmipc_listener *l;
	int bucket;

	mutex_lock(&names->mutex);
	hash_for_each(names->table, bucket, l, hash) {
		ep = shmipc_endpoint_get(l->obj.ep);
		break;
	}
	mutex_unlock(&names->mutex);
	return ep;
}

/* Each name keeps its namespace, but for those of orphans: these end with it. */
static void __net_exit names_exit(struct net *net)
{
	struct shmipc_endpoint *ep;

	while ((ep = names_any(names_of(net)))) {
		/* -ESTALE: it has just come to its end. */
		WARN_ON(shmipc_orphan_expire(ep) == -EBUSY);
		shmipc_endpoint_put(ep);
		cond_resched();
	}
}

static struct pernet_operations names_ops = {
	.init = names_init,
	.exit = names_exit,
	.id = &names_id,
	.size = sizeof(struct shmipc_names),
};

int shmipc_listener_init(void)
{
	return register_pernet_subsys(&names_ops);
}

void shmipc_listener_exit(void)
{
	unregister_pernet_subsys(&names_ops);
}

#ifdef CONFIG_SHMIPC_KUNIT_TEST
#include "tests/listener_test.c"
#endif
