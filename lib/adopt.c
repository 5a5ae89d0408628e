// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * adopt.c - the successor's half of a handover, as docs/handover.md tells it
 *
 * Until COMMIT all is mapped read-only, and giving up harms nobody: the predecessor goes on, or the
 * orphan waits for another. After it nothing fails as a whole any more: a session that can't go on
 * is closed, which its peer sees. Nobody knows the endpoint yet, so no lock is needed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "error.h"
#include "handover.h"
#include "log.h"
#include "recover.h"

/* What is handed out afterwards. */
struct adopted {
	bool crashed;
	void *state;
	size_t len;
	struct shmipc_adopted *items;
	uint32_t nr, next;
};

/* A session on its way. */
struct heir {
	struct shmipc_item item;
	struct recovery from;
	struct pv_segment own[BUF_SLOT_FIRST];
	struct pv_mapping peers[BUF_SLOT_FIRST];
	uint64_t offsets[BUF_SLOT_FIRST];	/* of @own */
	struct shmipc_session *session;		/* NULL: it can't go on */
	int err;				/* why */
};

struct adoption {
	struct shmipc_endpoint *ep;
	struct adopted *adopted;
	struct pv_list list;
	struct heir **heirs;		/* by the item in @list */
	struct shmipc_buf **bufs;	/* likewise */
};

void adopted_free(struct shmipc_endpoint *ep)
{
	if (!ep->adopted)
		return;
	free(ep->adopted->state);
	free(ep->adopted->items);
	free(ep->adopted);
}

/* ---- before COMMIT --------------------------------------------------------- */

static const struct shmipc_item *find_segment(const struct pv_list *list, uint32_t handle)
{
	for (uint32_t i = 0; i < list->nr; i++)
		if (list->items[i].kind == SHMIPC_ITEM_SEGMENT && list->items[i].handle == handle)
			return &list->items[i];
	return NULL;
}

/*
 * The buffer that a segment is, made when it is first asked for. NULL: it was given, and the peer,
 * which goes on meanwhile, took it after it was listed.
 */
static int find_buffer(struct adoption *a, const struct shmipc_item *item,
		       struct shmipc_buf **buf)
{
	uint32_t i = item - a->list.items;
	struct pv_mapping view;
	int err;

	*buf = NULL;
	if (!a->bufs[i]) {
		err = a->ep->pv->ops->handover->view(a->ep->pv, item->offset, item->length, &view);
		if (err == -EINVAL && item->flags & SHMIPC_ITEM_GIVEN)
			return 0;
		if (err)
			return err;
		a->bufs[i] = buf_inherit(a->ep, &(struct pv_segment){
			item->handle, (void *)(uintptr_t)view.addr, view.len,
		}, item->flags & SHMIPC_ITEM_GIVEN);
		if (!a->bufs[i]) {
			a->ep->pv->ops->segment_unmap(a->ep->pv, &view);
			return -ENOMEM;
		}
	}
	*buf = a->bufs[i];
	return 0;
}

static int view_grant(struct adoption *a, struct heir *heir, const struct shmipc_item *item)
{
	struct provider *pv = a->ep->pv;
	const struct shmipc_item *segment = item;
	struct shmipc_buf *buf;
	struct pv_mapping view;
	int err;

	if (item->kind == SHMIPC_ITEM_GRANT)
		segment = find_segment(&a->list, item->handle);
	if (!segment)
		return 0;
	if (item->slot >= BUF_SLOT_FIRST) {
		/* A peer's is mapped when a frame names it, as ever. */
		if (item->kind == SHMIPC_ITEM_SLOT)
			return 0;
		err = find_buffer(a, segment, &buf);
		if (err || !buf)
			return err;
		return buf_inherit_grant(buf, &heir->from.bufs, item->slot);
	}
	err = pv->ops->handover->view(pv, segment->offset, segment->length, &view);
	/* Its peer, which goes on meanwhile, took it away after it was listed: the session misses it. */
	if (err == -EINVAL)
		return 0;
	if (err)
		return err;
	if (item->kind == SHMIPC_ITEM_SLOT) {
		heir->peers[item->slot] = view;
		if (heir->from.nr_peers <= item->slot)
			heir->from.nr_peers = item->slot + 1;
		return 0;
	}
	heir->own[item->slot] = (struct pv_segment){ item->handle, (void *)(uintptr_t)view.addr,
						     view.len };
	heir->offsets[item->slot] = segment->offset;
	if (heir->from.nr_own <= item->slot)
		heir->from.nr_own = item->slot + 1;
	return 0;
}

static void unmap_heir(struct adoption *a, struct heir *heir)
{
	struct provider *pv = a->ep->pv;

	buf_free_slots(heir->from.bufs);
	heir->from.bufs = NULL;
	for (uint32_t i = 0; i < heir->from.nr_own; i++)
		if (heir->own[i].addr)
			munmap(heir->own[i].addr, heir->own[i].len);
	for (uint32_t i = 0; i < heir->from.nr_peers; i++)
		if (heir->peers[i].addr)
			pv->ops->segment_unmap(pv, &heir->peers[i]);
}

/* Only what this side lacks is an error: a session that can't go on must not stop the others. */
static int look_at_session(struct adoption *a, struct heir *heir)
{
	struct pv_list grants;
	int err;

	err = a->ep->pv->ops->handover->list(a->ep->pv, heir->item.handle, &grants);
	if (err)
		return err == -ENOENT ? 0 : err;
	for (uint32_t i = 0; i < grants.nr && !err; i++)
		err = view_grant(a, heir, &grants.items[i]);
	free(grants.items);
	if (err)
		return err;
	heir->from.role = !(heir->item.flags & SHMIPC_ITEM_CONNECTOR);
	heir->from.handle = heir->item.handle;
	heir->from.peer = heir->item.peer;
	heir->from.crashed = a->adopted->crashed;
	heir->from.own = heir->own;
	heir->from.peers = heir->peers;
	heir->from.cookie = endpoint_cookie(a->ep);
	if (!heir->from.cookie)
		return -ENOMEM;
	err = recover_session(a->ep, &heir->from, &heir->session);
	if (!err)
		return 0;
	endpoint_forget(a->ep, heir->from.cookie);
	heir->session = NULL;
	heir->err = err;
	return err == -ENOMEM ? err : 0;
}

static int look_at_blob(struct adoption *a, const struct shmipc_item *item)
{
	struct provider *pv = a->ep->pv;
	const struct blob *blob;
	struct pv_mapping view;
	uint64_t len;
	int err;

	if (item->length < sizeof(*blob))
		return 0;
	err = pv->ops->handover->view(pv, item->offset, item->length, &view);
	if (err)
		return err;
	blob = view.addr;
	len = __atomic_load_n(&blob->len, __ATOMIC_RELAXED);
	if (len > item->length - sizeof(*blob))
		len = 0;
	a->adopted->state = malloc(len ? len : 1);
	if (a->adopted->state)
		memcpy(a->adopted->state, blob->state, len);
	a->adopted->len = len;
	pv->ops->segment_unmap(pv, &view);
	return a->adopted->state ? 0 : -ENOMEM;
}

/* The session that has a segment for its frames' blocks; also one that can't go on. */
static const struct heir *arena_of(const struct adoption *a, uint32_t handle)
{
	for (uint32_t i = 0; i < a->list.nr; i++) {
		const struct heir *heir = a->heirs[i];

		for (uint32_t slot = 0; heir && slot < heir->from.nr_own; slot++)
			if (heir->own[slot].addr && heir->own[slot].handle == handle)
				return heir;
	}
	return NULL;
}

static bool is_buffer(const struct adoption *a, const struct shmipc_item *item)
{
	return item->kind == SHMIPC_ITEM_SEGMENT &&
	       !(item->flags & (SHMIPC_ITEM_BLOB | SHMIPC_ITEM_TAKEN)) && !arena_of(a, item->handle);
}

/* One look at all, in the pause: what came before it would have to be looked at again. */
static int look(struct adoption *a)
{
	struct provider *pv = a->ep->pv;
	struct shmipc_buf *buf;
	int err = pv->ops->handover->list(pv, 0, &a->list);

	if (err)
		return err;
	a->adopted->crashed = a->list.flags & SHMIPC_LIST_ORPHAN;
	a->heirs = calloc(a->list.nr + 1, sizeof(*a->heirs));
	a->bufs = calloc(a->list.nr + 1, sizeof(*a->bufs));
	if (!a->heirs || !a->bufs)
		return -ENOMEM;
	for (uint32_t i = 0; i < a->list.nr && !err; i++) {
		const struct shmipc_item *item = &a->list.items[i];

		/* Of one that died the state may be half written. */
		if (item->kind == SHMIPC_ITEM_SEGMENT && item->flags & SHMIPC_ITEM_BLOB &&
		    !a->adopted->crashed)
			err = look_at_blob(a, item);
		if (item->kind != SHMIPC_ITEM_SESSION)
			continue;
		a->heirs[i] = calloc(1, sizeof(**a->heirs));
		if (!a->heirs[i])
			return -ENOMEM;
		a->heirs[i]->item = *item;
		err = look_at_session(a, a->heirs[i]);
	}
	/* What no session has is a buffer, too, that was never sent, or was taken from a peer. */
	for (uint32_t i = 0; i < a->list.nr && !err; i++)
		if (is_buffer(a, &a->list.items[i]))
			err = find_buffer(a, &a->list.items[i], &buf);
	return err;
}

/* ---- after COMMIT ---------------------------------------------------------- */

static int own_session(struct adoption *a, struct heir *heir)
{
	struct provider *pv = a->ep->pv;
	int err = 0;

	for (uint32_t i = 0; i < heir->from.nr_own && !err; i++)
		if (heir->own[i].addr)
			err = pv->ops->handover->own(pv, &heir->own[i], heir->offsets[i]);
	if (!err)
		err = pv->ops->handover->watch(pv, heir->item.handle, NULL, heir->from.cookie);
	return err;
}

static void begin_session(struct adoption *a, struct heir *heir)
{
	uint32_t causes = heir->item.causes;
	int err;

	if (!heir->session) {
		/* The kernel provider wakes its own threads by a session without memory. */
		if (heir->from.nr_own)
			log_warn("session with pid %u can't go on: %s", heir->item.peer.pid,
				 shmipc_strerror(heir->err));
		unmap_heir(a, heir);
		a->ep->pv->ops->drop(a->ep->pv, heir->item.handle, 0);
		return;
	}
	err = own_session(a, heir);
	if (err) {
		log_warn("session with pid %u can't go on: %s", heir->item.peer.pid,
			 shmipc_strerror(err));
		session_destroy(heir->session);
		heir->session = NULL;
		return;
	}
	if (heir->item.flags & SHMIPC_ITEM_PEER_DIED)
		causes |= SHMIPC_CAUSE_PEER_DIED;
	else if (heir->item.flags & SHMIPC_ITEM_PEER_CLOSED)
		causes |= SHMIPC_CAUSE_PEER_CLOSED;
	recover_resume(heir->session, causes);
}

static void begin_listener(struct adoption *a, const struct shmipc_item *item,
			   const struct shmipc_options *options)
{
	struct shmipc_listener *listener = listener_new(a->ep, options);
	struct provider *pv = a->ep->pv;
	struct shmipc_adopted *out = &a->adopted->items[a->adopted->nr];
	int err = listener ? 0 : -ENOMEM;

	memcpy(out->name, item->name, item->name_len);
	if (!err)
		err = pv->ops->handover->watch(pv, item->handle, out->name, listener->cookie);
	if (err) {
		log_warn("the listener \"%s\" can't go on: %s", out->name, shmipc_strerror(err));
		if (listener)
			endpoint_forget(a->ep, listener->cookie);
		free(listener);
		pv->ops->drop(pv, item->handle, 0);
		return;
	}
	listener->handle = item->handle;
	listener_begin(listener, true);
	out->type = SHMIPC_ADOPTED_LISTENER;
	out->object = listener;
	a->adopted->nr++;
}

static void tell_session(struct adopted *adopted, struct shmipc_session *s)
{
	adopted->items[adopted->nr++] = (struct shmipc_adopted){
		.type = SHMIPC_ADOPTED_SESSION, .object = s, .id = shmipc_session_id(s),
	};
	for (uint32_t i = 0; i < s->nr_streams; i++) {
		struct shmipc_stream *st = s->streams[i];

		if (!st || !st->visible)
			continue;
		adopted->items[adopted->nr++] = (struct shmipc_adopted){
			.type = SHMIPC_ADOPTED_STREAM, .object = st, .id = shmipc_stream_id(st),
			.received = st->resumed, .sent = st->tx_position,
		};
	}
}

/* Room for all that may be told: made before COMMIT, after which nothing may fail. */
static int make_items(struct adoption *a)
{
	size_t n = 1;

	for (uint32_t i = 0; i < a->list.nr; i++) {
		n += a->list.items[i].kind == SHMIPC_ITEM_LISTENER || a->bufs[i];
		if (a->heirs[i] && a->heirs[i]->session)
			n += 1 + a->heirs[i]->session->nr_streams;
	}
	a->adopted->items = calloc(n, sizeof(*a->adopted->items));
	return a->adopted->items ? 0 : -ENOMEM;
}

/* Nobody here has it: the state, what a peer took, what was of a session that can't go on. */
static bool is_litter(const struct adoption *a, uint32_t i)
{
	const struct heir *heir = arena_of(a, a->list.items[i].handle);

	return a->list.items[i].kind == SHMIPC_ITEM_SEGMENT && !a->bufs[i] &&
	       !(heir && heir->session);
}

/* It is where it was seen, writable now. */
static void begin_buffer(struct adoption *a, uint32_t i)
{
	struct adopted *adopted = a->adopted;
	struct shmipc_buf *buf = a->bufs[i];
	int err = a->ep->pv->ops->handover->own(a->ep->pv, &buf->segment, a->list.items[i].offset);

	if (err) {
		/* What was given may have been taken since it was seen. */
		if (!(a->list.items[i].flags & SHMIPC_ITEM_GIVEN))
			log_warn("a buffer of %zu bytes can't go on: %s", buf->segment.len,
				 shmipc_strerror(err));
		shmipc_buf_free(buf);
		return;
	}
	adopted->items[adopted->nr++] = (struct shmipc_adopted){
		.type = SHMIPC_ADOPTED_BUFFER, .object = buf, .id = shmipc_buf_id(buf),
	};
}

static void begin(struct adoption *a, const struct shmipc_options *options)
{
	struct provider *pv = a->ep->pv;

	for (uint32_t i = 0; i < a->list.nr; i++)
		if (a->list.items[i].kind == SHMIPC_ITEM_LISTENER)
			begin_listener(a, &a->list.items[i], options);
	for (uint32_t i = 0; i < a->list.nr; i++) {
		if (!a->heirs[i])
			continue;
		begin_session(a, a->heirs[i]);
		if (a->heirs[i]->session)
			tell_session(a->adopted, a->heirs[i]->session);
	}
	for (uint32_t i = 0; i < a->list.nr; i++) {
		if (is_litter(a, i))
			pv->ops->drop(pv, a->list.items[i].handle, 0);
		else if (a->bufs[i])
			begin_buffer(a, i);
	}
}

/* It was not to be: what the predecessor has stays as it is. */
static void give_up(struct adoption *a)
{
	for (uint32_t i = 0; a->heirs && i < a->list.nr; i++) {
		struct heir *heir = a->heirs[i];

		if (heir && heir->session)
			session_destroy(heir->session);
		else if (heir)
			unmap_heir(a, heir);
	}
}

static int take_over(struct shmipc_endpoint *ep, const struct shmipc_options *options,
		     int64_t timeout_ns)
{
	struct adoption a = { .ep = ep, .adopted = ep->adopted };
	int err = ep->pv->ops->handover->pause(ep->pv, timeout_ns);

	if (!err)
		err = look(&a);
	if (!err)
		err = make_items(&a);
	if (!err)
		err = ep->pv->ops->handover->commit(ep->pv);
	if (!err)
		begin(&a, options);
	else
		give_up(&a);
	for (uint32_t i = 0; a.heirs && i < a.list.nr; i++)
		free(a.heirs[i]);
	free(a.heirs);
	free(a.bufs);
	free(a.list.items);
	if (err == -ESTALE)
		return error_set(-ECANCELED, "the offer ended before it was taken: try again");
	return err;
}

/* ---- public ---------------------------------------------------------------- */

static int adopt_error(int err)
{
	switch (err) {
	case -ESTALE:
		return error_set(-ECANCELED, "the offer is over");
	case -EBUSY:
		return error_set(err, "it is neither offered nor left by a program that died, or "
				 "another program adopts it: try again");
	default:
		return err;
	}
}

/* Asks with an endpoint of its own, whose credentials count. */
static int begin_adoption(const char *name, int fd, struct shmipc_endpoint **ep)
{
	struct provider *by, *pv = NULL;
	int err = provider_open(&by);

	if (err)
		return err;
	if (!by->ops->handover) {
		by->ops->close(by, false);
		handover_unsupported();
		return -EOPNOTSUPP;
	}
	err = adopt_error(by->ops->handover->adopt(by, name, fd, &pv));
	by->ops->close(by, false);
	if (err)
		return err;
	err = endpoint_new(pv, ep);
	if (err)
		pv->ops->close(pv, false);
	return err;
}

int shmipc_adopt(const char *name, int fd, const struct shmipc_options *options,
		 struct shmipc_endpoint **out, int64_t timeout_ns)
{
	struct shmipc_endpoint *ep;
	struct shmipc_options opt;
	int err = options_resolve(&opt, options);

	if (!err && !timeout_ns)
		err = error_set(-EINVAL, "an adoption has to wait for the other program: "
				"give it time");
	if (!err && !name == (fd < 0))
		err = error_set(-EINVAL, "give a name, or the fd of an offer, and -1 with a name");
	if (!err)
		err = begin_adoption(name, fd, &ep);
	if (err)
		return err;
	ep->adopted = calloc(1, sizeof(*ep->adopted));
	err = ep->adopted ? take_over(ep, &opt, timeout_ns) : -ENOMEM;
	if (err) {
		shmipc_close(ep);
		return err;
	}
	error_clear();
	*out = ep;
	return 0;
}

int shmipc_adopted_next(struct shmipc_endpoint *ep, struct shmipc_adopted *item)
{
	struct adopted *adopted = ep->adopted;

	if (endpoint_foreign(ep))
		return endpoint_refusal(ep);
	if (!adopted || adopted->next == adopted->nr)
		return 0;
	*item = adopted->items[adopted->next++];
	return 1;
}

int shmipc_adopted_state(struct shmipc_endpoint *ep, const void **state, size_t *len)
{
	if (endpoint_foreign(ep))
		return endpoint_refusal(ep);
	if (!ep->adopted)
		return -ENOENT;
	*state = ep->adopted->state;
	*len = ep->adopted->len;
	return ep->adopted->crashed;
}
