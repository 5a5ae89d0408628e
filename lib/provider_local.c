// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The provider for ThreadSanitizer: all endpoints are in this process, and a segment has one
 * address, the same for its owner and for its peers. One lock for all of it: nothing here is
 * meant to be fast, only to order no more than the other providers do.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "error.h"
#include "list.h"
#include "provider.h"

#define PAGE 4096

enum kind { KIND_SEGMENT = 1, KIND_LISTENER, KIND_SIDE };

struct local;

struct thing {
	enum kind kind;
	uint32_t handle;
	struct local *owner;
	struct list node;		/* in local.things */
	struct list ready;		/* in local.ready */
	uint64_t cookie;
	uint32_t causes;
};

/* Memory outlives its segment while somebody maps it. */
struct memory {
	struct list node;		/* in memories */
	void *addr;
	size_t len;
	unsigned int refs;
};

struct segment {
	struct thing thing;
	struct memory *memory;
};

struct listener {
	struct thing thing;
	struct list node;		/* in listeners */
	struct list queue;		/* of side.queue: who waits for accept */
	unsigned int waiting, backlog;
	char name[SHMIPC_NAME_MAX + 1];
};

struct grant {
	struct list node;
	uint32_t slot;
	struct memory *memory;
};

struct side {
	struct thing thing;
	struct side *peer;		/* NULL: not accepted yet, refused, or gone */
	struct list queue;
	struct list grants;		/* what the peer granted to this side */
	struct memory *first;		/* of a connector: for slot 0 */
	bool refused;
};

struct local {
	struct provider base;
	pthread_cond_t cond;
	struct list things;
	struct list ready;
	bool kicked;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct list listeners = { &listeners, &listeners };
static struct list memories = { &memories, &memories };
static uint32_t last_handle;

static struct local *local(struct provider *pv)
{
	return container_of(pv, struct local, base);
}

static void add(struct local *l, struct thing *thing, enum kind kind, uint64_t cookie)
{
	thing->kind = kind;
	thing->handle = ++last_handle;
	thing->owner = l;
	thing->cookie = cookie;
	list_init(&thing->ready);
	list_add_tail(&thing->node, &l->things);
}

static struct thing *find(struct local *l, uint32_t handle, enum kind kind)
{
	for (struct list *pos = l->things.next; pos != &l->things; pos = pos->next) {
		struct thing *thing = container_of(pos, struct thing, node);

		if (thing->handle == handle && thing->kind == kind)
			return thing;
	}
	return NULL;
}

static struct side *find_side(struct local *l, uint32_t handle)
{
	struct thing *thing = find(l, handle, KIND_SIDE);

	return thing ? container_of(thing, struct side, thing) : NULL;
}

/* poll() on it says that there is something. */
static void set_readable(struct local *l)
{
	static const uint64_t one = 1;
	ssize_t done = write(l->base.fd, &one, sizeof(one));

	(void)done;
}

static void raise_causes(struct thing *thing, uint32_t causes)
{
	struct local *l = thing->owner;

	if (list_empty(&l->ready))
		set_readable(l);
	thing->causes |= causes;
	if (list_empty(&thing->ready))
		list_add_tail(&thing->ready, &l->ready);
	pthread_cond_broadcast(&l->cond);
}

static void forget(struct thing *thing)
{
	list_del(&thing->node);
	list_del(&thing->ready);
}

static void put_memory(struct memory *memory)
{
	if (!memory || --memory->refs)
		return;
	list_del(&memory->node);
	free(memory->addr);
	free(memory);
}

/* ---- waiting ------------------------------------------------------------------ */

static struct timespec deadline_in(int64_t ns)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	at.tv_sec += ns / 1000000000;
	at.tv_nsec += ns % 1000000000;
	if (at.tv_nsec >= 1000000000) {
		at.tv_nsec -= 1000000000;
		at.tv_sec++;
	}
	return at;
}

/* 0, or ETIMEDOUT; @at counts unless @timeout_ns is for ever. */
static int wait_for(struct local *l, int64_t timeout_ns, const struct timespec *at)
{
	return timeout_ns < 0 ? pthread_cond_wait(&l->cond, &lock) :
	       pthread_cond_timedwait(&l->cond, &lock, at);
}

static int take_ready(struct local *l, struct pv_sync *sync)
{
	unsigned int n = 0;
	uint64_t count;
	ssize_t done;

	if (l->kicked && sync->max_events) {
		l->kicked = false;
		sync->events[n++] = (struct shmipc_ready){ 0 };
	}
	while (n < sync->max_events && !list_empty(&l->ready)) {
		struct thing *thing = container_of(l->ready.next, struct thing, ready);

		list_del(&thing->ready);
		sync->events[n++] = (struct shmipc_ready){ thing->cookie, thing->handle,
							   thing->causes };
		thing->causes = 0;
	}
	if (n && list_empty(&l->ready)) {
		done = read(l->base.fd, &count, sizeof(count));
		(void)done;
	}
	return (int)n;
}

static int local_sync(struct provider *pv, struct pv_sync *sync)
{
	struct timespec at = deadline_in(sync->timeout_ns > 0 ? sync->timeout_ns : 0);
	struct local *l = local(pv);
	int n;

	pthread_mutex_lock(&lock);
	for (unsigned int i = 0; i < sync->nr_notify; i++) {
		struct side *side = find_side(l, sync->notify[i].handle);

		if (side && side->peer)
			raise_causes(&side->peer->thing, sync->notify[i].bits & SHMIPC_CAUSE_USER);
	}
	n = take_ready(l, sync);
	while (!n && sync->max_events && sync->wait && !wait_for(l, sync->timeout_ns, &at))
		n = take_ready(l, sync);
	pthread_mutex_unlock(&lock);
	return n;
}

static void local_kick(struct provider *pv)
{
	struct local *l = local(pv);

	pthread_mutex_lock(&lock);
	l->kicked = true;
	set_readable(l);
	pthread_cond_broadcast(&l->cond);
	pthread_mutex_unlock(&lock);
}

/* ---- segments ------------------------------------------------------------------- */

static int local_segment_create(struct provider *pv, size_t len, bool sealed,
				struct pv_segment *segment)
{
	struct memory *memory = calloc(1, sizeof(*memory));
	struct segment *s = calloc(1, sizeof(*s));

	(void)sealed;
	len = (len + PAGE - 1) & ~(size_t)(PAGE - 1);
	if (memory)
		memory->addr = aligned_alloc(PAGE, len);
	if (!s || !memory || !memory->addr) {
		free(memory);
		free(s);
		return error_set(-ENOMEM, "no memory for a segment of %zu bytes", len);
	}
	memset(memory->addr, 0, len);
	memory->len = len;
	memory->refs = 1;
	s->memory = memory;
	pthread_mutex_lock(&lock);
	list_add_tail(&memory->node, &memories);
	add(local(pv), &s->thing, KIND_SEGMENT, 0);
	*segment = (struct pv_segment){ s->thing.handle, memory->addr, len };
	pthread_mutex_unlock(&lock);
	return 0;
}

static void drop_segment(struct segment *segment)
{
	forget(&segment->thing);
	put_memory(segment->memory);
	free(segment);
}

static void local_segment_destroy(struct provider *pv, struct pv_segment *segment)
{
	struct thing *thing;

	pthread_mutex_lock(&lock);
	thing = find(local(pv), segment->handle, KIND_SEGMENT);
	if (thing)
		drop_segment(container_of(thing, struct segment, thing));
	pthread_mutex_unlock(&lock);
	*segment = (struct pv_segment){ 0 };
}

static struct grant *find_grant(struct side *side, uint32_t slot)
{
	for (struct list *pos = side->grants.next; pos != &side->grants; pos = pos->next) {
		struct grant *grant = container_of(pos, struct grant, node);

		if (grant->slot == slot)
			return grant;
	}
	return NULL;
}

static int give_grant(struct side *to, uint32_t slot, struct memory *memory)
{
	struct grant *grant;

	if (find_grant(to, slot))
		return -EEXIST;
	grant = calloc(1, sizeof(*grant));
	if (!grant)
		return -ENOMEM;
	grant->slot = slot;
	grant->memory = memory;
	memory->refs++;
	list_add_tail(&grant->node, &to->grants);
	return 0;
}

static int grant_segment(struct local *l, uint32_t session, uint32_t segment, uint32_t slot)
{
	struct side *side = find_side(l, session);
	struct thing *thing = find(l, segment, KIND_SEGMENT);

	if (!side || !thing)
		return -ENOENT;
	if (!slot || slot >= SHMIPC_SLOTS_MAX)
		return -EINVAL;
	if (!side->peer)
		return -EPIPE;
	return give_grant(side->peer, slot, container_of(thing, struct segment, thing)->memory);
}

static int local_segment_grant(struct provider *pv, uint32_t session,
			       const struct pv_segment *segment, uint32_t slot)
{
	int err;

	pthread_mutex_lock(&lock);
	err = grant_segment(local(pv), session, segment->handle, slot);
	pthread_mutex_unlock(&lock);
	return err;
}

static int local_segment_map(struct provider *pv, uint32_t session, uint32_t slot,
			     struct pv_mapping *mapping)
{
	struct grant *grant = NULL;
	struct side *side;

	pthread_mutex_lock(&lock);
	side = find_side(local(pv), session);
	if (side)
		grant = find_grant(side, slot);
	if (grant) {
		grant->memory->refs++;
		*mapping = (struct pv_mapping){ grant->memory->addr, grant->memory->len };
	}
	pthread_mutex_unlock(&lock);
	return grant ? 0 : -ENOENT;
}

static void local_segment_unmap(struct provider *pv, struct pv_mapping *mapping)
{
	struct list *pos, *n;

	(void)pv;
	pthread_mutex_lock(&lock);
	list_for_each_safe(pos, n, &memories) {
		struct memory *memory = container_of(pos, struct memory, node);

		if (memory->addr == mapping->addr) {
			put_memory(memory);
			break;
		}
	}
	pthread_mutex_unlock(&lock);
	*mapping = (struct pv_mapping){ 0 };
}

/* ---- names and sessions ------------------------------------------------------------ */

static struct listener *find_name(const char *name)
{
	for (struct list *pos = listeners.next; pos != &listeners; pos = pos->next) {
		struct listener *listener = container_of(pos, struct listener, node);

		if (!strcmp(listener->name, name))
			return listener;
	}
	return NULL;
}

static int local_bind(struct provider *pv, const struct pv_bind *bind, uint32_t *handle)
{
	struct listener *listener;
	int err = provider_check_name(bind->name);

	if (err)
		return err;
	listener = calloc(1, sizeof(*listener));
	if (!listener)
		return -ENOMEM;
	memcpy(listener->name, bind->name, strlen(bind->name) + 1);
	listener->backlog = bind->backlog;
	list_init(&listener->queue);
	pthread_mutex_lock(&lock);
	if (find_name(bind->name)) {
		err = -EADDRINUSE;
	} else {
		add(local(pv), &listener->thing, KIND_LISTENER, bind->cookie);
		list_add_tail(&listener->node, &listeners);
		*handle = listener->thing.handle;
	}
	pthread_mutex_unlock(&lock);
	if (err) {
		free(listener);
		error_set(err, "another listener has the name \"%s\"", bind->name);
	}
	return err;
}

static void refuse(struct side *side)
{
	list_del(&side->queue);
	side->refused = true;
	pthread_cond_broadcast(&side->thing.owner->cond);
}

static void drop_listener(struct listener *listener)
{
	struct list *pos, *n;

	list_for_each_safe(pos, n, &listener->queue)
		refuse(container_of(pos, struct side, queue));
	list_del(&listener->node);
	forget(&listener->thing);
	free(listener);
}

static struct side *new_side(struct local *l, uint64_t cookie)
{
	struct side *side = calloc(1, sizeof(*side));

	if (!side)
		return NULL;
	list_init(&side->queue);
	list_init(&side->grants);
	add(l, &side->thing, KIND_SIDE, cookie);
	return side;
}

static void drop_side(struct side *side)
{
	struct list *pos, *n;

	if (side->peer) {
		raise_causes(&side->peer->thing, SHMIPC_CAUSE_PEER_CLOSED);
		side->peer->peer = NULL;
	}
	list_for_each_safe(pos, n, &side->grants) {
		struct grant *grant = container_of(pos, struct grant, node);

		put_memory(grant->memory);
		free(grant);
	}
	list_del(&side->queue);
	put_memory(side->first);
	forget(&side->thing);
	free(side);
}

static void whoami(struct shmipc_peer *peer)
{
	*peer = (struct shmipc_peer){.uid = geteuid(), .gid = getegid(), .pid = (uint32_t)getpid()};
}

static int accept_side(struct local *l, struct listener *listener, struct memory *memory,
		       uint64_t cookie, uint32_t *session)
{
	struct side *mine, *theirs;
	int err;

	if (list_empty(&listener->queue))
		return -EAGAIN;
	theirs = container_of(listener->queue.next, struct side, queue);
	mine = new_side(l, cookie);
	err = mine ? give_grant(mine, 0, theirs->first) : -ENOMEM;
	if (!err)
		err = give_grant(theirs, 0, memory);
	if (err) {
		if (mine)
			drop_side(mine);
		return err;
	}
	list_del(&theirs->queue);
	listener->waiting--;
	mine->peer = theirs;
	theirs->peer = mine;
	*session = mine->thing.handle;
	pthread_cond_broadcast(&theirs->thing.owner->cond);
	return 0;
}

static int local_accept(struct provider *pv, uint32_t handle, const struct pv_segment *segment,
			uint64_t cookie, uint32_t *session, struct shmipc_peer *peer)
{
	struct local *l = local(pv);
	struct thing *listener, *own;
	int err = -ENOENT;

	pthread_mutex_lock(&lock);
	listener = find(l, handle, KIND_LISTENER);
	own = find(l, segment->handle, KIND_SEGMENT);
	if (listener && own)
		err = accept_side(l, container_of(listener, struct listener, thing),
				  container_of(own, struct segment, thing)->memory, cookie,
				  session);
	pthread_mutex_unlock(&lock);
	whoami(peer);
	return err;
}

static int queue_side(struct local *l, const struct pv_connect *connect, struct side **out)
{
	struct listener *listener = find_name(connect->name);
	struct thing *own = find(l, connect->segment->handle, KIND_SEGMENT);
	struct side *side;

	if (!listener || !own)
		return -ENOENT;
	if (connect->check_uid && connect->expect_uid != geteuid())
		return -EACCES;
	if (listener->waiting >= listener->backlog)
		return -EAGAIN;
	side = new_side(l, connect->cookie);
	if (!side)
		return -ENOMEM;
	side->first = container_of(own, struct segment, thing)->memory;
	side->first->refs++;
	list_add_tail(&side->queue, &listener->queue);
	listener->waiting++;
	raise_causes(&listener->thing, SHMIPC_CAUSE_ACCEPT);
	*out = side;
	return 0;
}

static int await_peer(struct local *l, struct side *side, const struct pv_connect *connect)
{
	struct timespec at = deadline_in(connect->timeout_ns > 0 ? connect->timeout_ns : 0);
	struct listener *listener;
	int err = 0;

	/* Its peer may have come and gone: then the grant is there. */
	while (!side->refused && !find_grant(side, 0) && !err)
		err = wait_for(l, connect->timeout_ns, &at);
	if (find_grant(side, 0))
		return 0;
	listener = side->refused ? NULL : find_name(connect->name);
	if (listener)
		listener->waiting--;
	return side->refused ? -ECONNREFUSED : -ETIMEDOUT;
}

static int local_connect(struct provider *pv, const struct pv_connect *connect,
			 uint32_t *session, struct shmipc_peer *peer)
{
	struct local *l = local(pv);
	struct side *side = NULL;
	int err = provider_check_name(connect->name);

	if (err)
		return err;
	pthread_mutex_lock(&lock);
	err = queue_side(l, connect, &side);
	if (!err)
		err = await_peer(l, side, connect);
	if (!err)
		*session = side->thing.handle;
	else if (side)
		drop_side(side);
	pthread_mutex_unlock(&lock);
	whoami(peer);
	return err ? error_set(err, "connecting to \"%s\" failed (errno %d)", connect->name, -err)
		   : 0;
}

static void drop_thing(struct thing *thing)
{
	if (thing->kind == KIND_SEGMENT)
		drop_segment(container_of(thing, struct segment, thing));
	else if (thing->kind == KIND_LISTENER)
		drop_listener(container_of(thing, struct listener, thing));
	else
		drop_side(container_of(thing, struct side, thing));
}

static void local_drop(struct provider *pv, uint32_t handle, uint32_t reason)
{
	struct thing *thing;

	(void)reason;
	pthread_mutex_lock(&lock);
	thing = find(local(pv), handle, KIND_SIDE);
	if (!thing)
		thing = find(local(pv), handle, KIND_LISTENER);
	if (thing)
		drop_thing(thing);
	pthread_mutex_unlock(&lock);
}

static int local_open(struct provider **pv)
{
	struct local *l = calloc(1, sizeof(*l));
	pthread_condattr_t attr;

	if (!l)
		return error_set(-ENOMEM, "no memory for an endpoint");
	l->base.ops = &provider_local;
	l->base.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->base.fd < 0) {
		free(l);
		return error_set(-errno, "no descriptor left for an endpoint");
	}
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&l->cond, &attr);
	pthread_condattr_destroy(&attr);
	list_init(&l->things);
	list_init(&l->ready);
	*pv = &l->base;
	return 0;
}

static void local_close(struct provider *pv, bool in_child)
{
	struct local *l = local(pv);
	struct list *pos, *n;

	/* A child keeps its copy of it all, for nobody to use; it ends with the child. */
	if (in_child)
		return;
	pthread_mutex_lock(&lock);
	list_for_each_safe(pos, n, &l->things)
		drop_thing(container_of(pos, struct thing, node));
	pthread_mutex_unlock(&lock);
	pthread_cond_destroy(&l->cond);
	close(l->base.fd);
	free(l);
}

const struct provider_ops provider_local = {
	.name = "local",
	.open = local_open,
	.close = local_close,
	.segment_create = local_segment_create,
	.segment_destroy = local_segment_destroy,
	.segment_grant = local_segment_grant,
	.segment_map = local_segment_map,
	.segment_unmap = local_segment_unmap,
	.bind = local_bind,
	.accept = local_accept,
	.connect = local_connect,
	.sync = local_sync,
	.kick = local_kick,
	.drop = local_drop,
};
