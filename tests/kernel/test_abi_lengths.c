// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Every request with every length, flag, reserved field, handle and pointer that it must refuse,
 * from one table. A refusal leaves all counters as they were, and the request as it should be
 * still works. Also compiled for 32 bits.
 */
#define _GNU_SOURCE
#include "abi.h"

#define NAME	"test:lengths"
#define RW	(PROT_READ | PROT_WRITE)
#define ROOM	8192	/* for a request that is too long */
#define UNKNOWN	0xfffffe
#define KNOWN_CAUSES (ABI_CAUSES | SHMIPC_CAUSE_PEER_PAUSE | SHMIPC_CAUSE_USER)

struct world {
	struct abi_pair p;
	struct abi_seg spare;	/* of the server, granted to nobody */
	uint32_t waiting;	/* the connector's session, for ACCEPT */
	int offer;		/* an offer's file */
	struct abi_ep next;	/* who adopts, or its file alone */
	struct abi_ep other;	/* whom it adopts, if not the server */
	const char *name;	/* what is tried, for the one who reads a failure */
};

/**
 * struct request - how to ask, and what may not be in it
 * @name: for messages
 * @nr: of the ioctl
 * @size: of the struct
 * @first: its size in the first version, if that was another
 * @fill: makes it a good one, with all that it needs
 * @undo: gives back what was made, by it and for it
 * @flags: defined bits of flags
 * @causes: defined bits of the field at @causes_at, if that is not 0
 * @causes_at: see @causes
 * @reserved: words that must be 0
 * @outs: the first word and the number of words that are outputs, pairs
 * @handles: words that are handles, with the kinds that are right
 * @answers: it writes into the struct, from the byte @first_out on
 * @of_next: asked by who adopts
 * @first_out: see @answers
 */
struct request {
	const char *name;
	unsigned long nr;
	uint32_t size, first;
	void (*fill)(struct world *w, void *arg);
	void (*undo)(struct world *w, const void *arg, int ret);
	uint32_t flags, causes, causes_at;
	uint8_t reserved[4];
	uint8_t outs[8];
	struct {
		uint8_t word;
		char kind;	/* 's'egment, 'l'istener, 'c'onnection, 'w': either of these, '*' any */
		bool optional;
	} handles[3];
	bool answers, of_next;
	uint32_t first_out;
};

/* ---- good requests, and how they are taken back ---- */

static void nothing_to_undo(struct world *w, const void *arg, int ret)
{
	(void)w, (void)arg, (void)ret;
}

static void fill_query(struct world *w, void *arg)
{
	(void)w, (void)arg;
}

static void fill_sync(struct world *w, void *arg)
{
	struct shmipc_sync *a = arg;

	a->nr_notify = 1;
	a->one = (struct shmipc_notify){ w->p.at_server, 1 };
	a->max_events = 1;
}

/* A SYNC that failed in the end may have rung. */
static void undo_sync(struct world *w, const void *arg, int ret)
{
	struct shmipc_ready ev;

	(void)arg, (void)ret;
	abi_event(w->p.client.fd, 0, &ev);
}

static void fill_close(struct world *w, void *arg)
{
	struct shmipc_close *a = arg;
	struct abi_seg seg;

	must(abi_seg_create(w->p.server.fd, 1, &seg));
	a->handle = w->waiting = seg.handle;
}

static void undo_close(struct world *w, const void *arg, int ret)
{
	(void)arg;
	if (ret)
		must(abi_close(w->p.server.fd, w->waiting, 0));
}

static void fill_create(struct world *w, void *arg)
{
	struct shmipc_seg_create *a = arg;

	(void)w;
	a->length = 1;
}

static void undo_create(struct world *w, const void *arg, int ret)
{
	const struct shmipc_seg_create *a = arg;

	if (!ret)
		must(abi_close(w->p.server.fd, a->out_handle, 0));
}

static void fill_info(struct world *w, void *arg)
{
	struct shmipc_seg_info *a = arg;

	a->handle = w->p.server_seg.handle;
}

static void fill_grant(struct world *w, void *arg)
{
	struct shmipc_seg_grant *a = arg;

	a->session = w->p.at_server;
	a->segment = w->spare.handle;
	a->slot = 9;
}

static void undo_grant(struct world *w, const void *arg, int ret)
{
	(void)arg;
	if (!ret)
		must(abi_revoke(w->p.server.fd, w->p.at_server, 9));
}

static void fill_revoke(struct world *w, void *arg)
{
	struct shmipc_seg_revoke *a = arg;

	must(abi_grant(w->p.server.fd, w->p.at_server, w->spare.handle, 10));
	a->session = w->p.at_server;
	a->slot = 10;
}

static void undo_revoke(struct world *w, const void *arg, int ret)
{
	(void)arg;
	if (ret)
		must(abi_revoke(w->p.server.fd, w->p.at_server, 10));
}

static void fill_freeze(struct world *w, void *arg)
{
	struct shmipc_seg_freeze *a = arg;
	struct abi_seg seg;

	must(abi_seg_create(w->p.server.fd, 1, &seg));
	a->segment = w->waiting = seg.handle;
}

static void undo_freeze(struct world *w, const void *arg, int ret)
{
	(void)arg, (void)ret;
	must(abi_close(w->p.server.fd, w->waiting, 0));
}

static void fill_give(struct world *w, void *arg)
{
	struct shmipc_seg_give *a = arg;

	must(abi_grant(w->p.server.fd, w->p.at_server, w->spare.handle, 11));
	a->session = w->p.at_server;
	a->slot = 11;
}

static void undo_give(struct world *w, const void *arg, int ret)
{
	struct shmipc_ready ev;

	(void)arg;
	must(abi_revoke(w->p.server.fd, w->p.at_server, 11));
	if (ret)
		return;
	must(abi_event(w->p.client.fd, 0, &ev));
	must(abi_event(w->p.server.fd, 0, &ev));
}

/* The client gives, for what the table tries is the server's. */
static void fill_take(struct world *w, void *arg)
{
	struct shmipc_seg_take *a = arg;
	struct shmipc_ready ev;
	struct abi_seg seg;

	must(abi_seg_create(w->p.client.fd, 1, &seg));
	must(abi_grant(w->p.client.fd, w->p.at_client, seg.handle, 12));
	must(abi_give(w->p.client.fd, w->p.at_client, 12));
	must(abi_event(w->p.server.fd, 0, &ev));
	w->waiting = seg.handle;
	a->session = w->p.at_server;
	a->slot = 12;
}

static void undo_take(struct world *w, const void *arg, int ret)
{
	const struct shmipc_seg_take *a = arg;
	struct shmipc_ready ev;

	if (ret) {
		must(abi_revoke(w->p.client.fd, w->p.at_client, 12));
		must(abi_event(w->p.client.fd, 0, &ev));
	} else {
		must(abi_close(w->p.server.fd, a->out_handle, 0));
	}
	must(abi_close(w->p.client.fd, w->waiting, 0));
}

static void fill_bind(struct world *w, void *arg)
{
	struct shmipc_bind *a = arg;

	(void)w;
	*a = abi_bind_arg("test:lengths:bind");
}

static void undo_bind(struct world *w, const void *arg, int ret)
{
	const struct shmipc_bind *a = arg;

	if (!ret)
		must(abi_close(w->p.server.fd, a->out_handle, 0));
}

static void fill_connect(struct world *w, void *arg)
{
	struct shmipc_connect *a = arg;

	(void)w;
	*a = abi_connect_arg(NAME);
	a->flags = SHMIPC_CONNECT_NONBLOCK;
}

static void undo_connect(struct world *w, const void *arg, int ret)
{
	const struct shmipc_connect *a = arg;

	if (!ret)
		must(abi_close(w->p.server.fd, a->out_session, 0));
}

static void fill_accept(struct world *w, void *arg)
{
	struct shmipc_accept *a = arg;
	struct shmipc_connect c = abi_connect_arg(NAME);

	c.flags = SHMIPC_CONNECT_NONBLOCK;
	must(abi_ioctl(w->p.client.fd, SHMIPC_IOC_CONNECT, &c));
	w->waiting = c.out_session;
	*a = abi_accept_arg(w->p.listener);
	a->segment = w->p.server_seg.handle;
}

/* What was refused is still in the queue. */
static void undo_accept(struct world *w, const void *arg, int ret)
{
	struct shmipc_accept again = abi_accept_arg(w->p.listener);

	if (ret)
		must(abi_ioctl(w->p.server.fd, SHMIPC_IOC_ACCEPT, &again));
	else
		again = *(const struct shmipc_accept *)arg;
	must(abi_close(w->p.server.fd, again.out_session, 0));
	must(abi_close(w->p.client.fd, w->waiting, 0));
}

static void fill_offer(struct world *w, void *arg)
{
	(void)w;
	*(struct shmipc_offer *)arg = abi_offer_arg();
}

static void undo_offer(struct world *w, const void *arg, int ret)
{
	(void)w;
	if (!ret)
		close(((const struct shmipc_offer *)arg)->out_fd);
}

static void fill_adopt(struct world *w, void *arg)
{
	struct shmipc_adopt *a = arg;

	w->offer = abi_offer(w->p.client.fd, 0, NULL);
	must(w->offer);
	a->offer_fd = w->offer;
}

static void undo_adopt(struct world *w, const void *arg, int ret)
{
	struct shmipc_ready ev;

	if (!ret) {
		/* The client is told, and then tells nobody else. */
		must(abi_event(w->p.client.fd, 0, &ev));
		close(((const struct shmipc_adopt *)arg)->out_fd);
	}
	close(w->offer);
}

static void fill_list(struct world *w, void *arg)
{
	static struct shmipc_item items[4];

	(void)w;
	*(struct shmipc_list *)arg = abi_list_arg(items, 4);
}

static void fill_yield(struct world *w, void *arg)
{
	struct shmipc_ready ev;

	(void)arg;
	w->offer = abi_offer(w->p.server.fd, 0, NULL);
	must(w->offer);
	w->next.fd = abi_adopt(w->p.client.fd, w->offer);
	must(w->next.fd);
	must(abi_event(w->p.server.fd, 0, &ev));
}

static void undo_yield(struct world *w, const void *arg, int ret)
{
	(void)arg, (void)ret;
	close(w->next.fd);
	close(w->offer);
}

static void fill_commit(struct world *w, void *arg)
{
	(void)arg;
	w->other = abi_ep_open();
	w->offer = abi_offer(w->other.fd, 0, NULL);
	must(w->offer);
	w->next = abi_ep_adopt(w->p.client.fd, w->offer);
	must(abi_yield(w->other.fd));
}

static void undo_commit(struct world *w, const void *arg, int ret)
{
	(void)arg, (void)ret;
	abi_ep_close(&w->next);
	abi_ep_close(&w->other);
	close(w->offer);
}

static void fill_watch(struct world *w, void *arg)
{
	((struct shmipc_watch *)arg)->handle = w->p.at_server;
}

#define WORD(type, field)	(offsetof(struct type, field) / 4)
#define OUTS(type, from, last)	WORD(type, from), \
	(offsetof(struct type, last) + sizeof(((struct type *)0)->last)) / 4 - WORD(type, from)
#define REQUEST(NAME, type, fill_, undo_) \
	.name = #NAME, .nr = SHMIPC_IOC_##NAME, .size = sizeof(struct type), \
	.fill = fill_, .undo = undo_

static const struct request requests[] = {
	{ REQUEST(QUERY, shmipc_query, fill_query, nothing_to_undo), .answers = true,
	  .outs = { OUTS(shmipc_query, out_abi, out_version) } },
	{ REQUEST(SYNC, shmipc_sync, fill_sync, undo_sync), .answers = true,
	  .flags = SHMIPC_SYNC_WAIT, .reserved = { WORD(shmipc_sync, __reserved) },
	  .first_out = offsetof(struct shmipc_sync, wait_on),
	  .outs = { WORD(shmipc_sync, out_nr_events), 1, OUTS(shmipc_sync, out_one, out_index) },
	  .handles = { { WORD(shmipc_sync, wait_on), 'c', true } } },
	{ REQUEST(CLOSE, shmipc_close, fill_close, undo_close), .flags = SHMIPC_CLOSE_REVOKE,
	  .reserved = { WORD(shmipc_close, reason) },	/* of what is no session */
	  .handles = { { WORD(shmipc_close, handle), '*', false } } },
	{ REQUEST(SEG_CREATE, shmipc_seg_create, fill_create, undo_create), .answers = true,
	  .reserved = { WORD(shmipc_seg_create, __reserved) },
	  .outs = { OUTS(shmipc_seg_create, out_length, out_handle) } },
	{ REQUEST(SEG_INFO, shmipc_seg_info, fill_info, nothing_to_undo), .answers = true,
	  .flags = SHMIPC_SEG_OF_PEER, .reserved = { WORD(shmipc_seg_info, slot) },
	  .outs = { OUTS(shmipc_seg_info, out_length, out_grants) },
	  .handles = { { WORD(shmipc_seg_info, handle), 's', false } } },
	{ REQUEST(SEG_GRANT, shmipc_seg_grant, fill_grant, undo_grant),
	  .reserved = { WORD(shmipc_seg_grant, __reserved) },
	  .handles = { { WORD(shmipc_seg_grant, session), 'c', false },
		       { WORD(shmipc_seg_grant, segment), 's', false } } },
	{ REQUEST(SEG_REVOKE, shmipc_seg_revoke, fill_revoke, undo_revoke),
	  .handles = { { WORD(shmipc_seg_revoke, session), 'c', false } } },
	{ REQUEST(SEG_FREEZE, shmipc_seg_freeze, fill_freeze, undo_freeze),
	  .reserved = { WORD(shmipc_seg_freeze, __reserved) },
	  .handles = { { WORD(shmipc_seg_freeze, segment), 's', false } } },
	{ REQUEST(SEG_GIVE, shmipc_seg_give, fill_give, undo_give),
	  .handles = { { WORD(shmipc_seg_give, session), 'c', false } } },
	{ REQUEST(SEG_TAKE, shmipc_seg_take, fill_take, undo_take), .answers = true,
	  .flags = SHMIPC_TAKE_REFUSE, .reserved = { WORD(shmipc_seg_take, __reserved) },
	  .outs = { OUTS(shmipc_seg_take, out_length, out_handle) },
	  .handles = { { WORD(shmipc_seg_take, session), 'c', false } } },
	{ REQUEST(BIND, shmipc_bind, fill_bind, undo_bind), .answers = true, .first = 56,
	  .flags = SHMIPC_BIND_OWNER | SHMIPC_BIND_FRESH,
	  .reserved = { WORD(shmipc_bind, uid), WORD(shmipc_bind, gid) },
	  .causes = SHMIPC_CAUSE_ACCEPT, .causes_at = WORD(shmipc_bind, causes),
	  .outs = { OUTS(shmipc_bind, out_handle, out_handle) } },
	{ REQUEST(ACCEPT, shmipc_accept, fill_accept, undo_accept), .answers = true,
	  .flags = SHMIPC_ACCEPT_HOME | SHMIPC_ACCEPT_ZERO_REVOKED,
	  .reserved = { WORD(shmipc_accept, __reserved), WORD(shmipc_accept, home_fd) },
	  .causes = KNOWN_CAUSES, .causes_at = WORD(shmipc_accept, causes),
	  .outs = { OUTS(shmipc_accept, out_meta_len, out_session),
		    OUTS(shmipc_accept, out_peer, out_peer) },
	  .handles = { { WORD(shmipc_accept, listener), 'l', false },
		       { WORD(shmipc_accept, segment), 's', true } } },
	{ REQUEST(CONNECT, shmipc_connect, fill_connect, undo_connect), .answers = true,
	  .flags = SHMIPC_CONNECT_NONBLOCK | SHMIPC_CONNECT_EXPECT_UID |
		   SHMIPC_CONNECT_ZERO_REVOKED,
	  .reserved = { WORD(shmipc_connect, expect_uid) },
	  .causes = KNOWN_CAUSES, .causes_at = WORD(shmipc_connect, causes),
	  .outs = { OUTS(shmipc_connect, out_session, out_peer) },
	  .handles = { { WORD(shmipc_connect, segment), 's', true } } },
	{ REQUEST(OFFER, shmipc_offer, fill_offer, undo_offer), .answers = true,
	  .flags = SHMIPC_OFFER_KEEP, .outs = { OUTS(shmipc_offer, out_handle, out_fd) },
	  .handles = { { WORD(shmipc_offer, blob), 's', true } } },
	{ REQUEST(ADOPT, shmipc_adopt, fill_adopt, undo_adopt), .answers = true,
	  .reserved = { WORD(shmipc_adopt, __reserved), WORD(shmipc_adopt, name) },
	  .outs = { OUTS(shmipc_adopt, out_fd, out_fd) } },
	{ REQUEST(LIST, shmipc_list, fill_list, nothing_to_undo), .answers = true,
	  .outs = { OUTS(shmipc_list, out_nr, out_remaining_ns) },
	  .handles = { { WORD(shmipc_list, session), 'c', true } } },
	{ REQUEST(YIELD, shmipc_yield, fill_yield, undo_yield) },
	{ REQUEST(COMMIT, shmipc_commit, fill_commit, undo_commit), .of_next = true },
	{ REQUEST(WATCH, shmipc_watch, fill_watch, nothing_to_undo),
	  .causes = KNOWN_CAUSES, .causes_at = WORD(shmipc_watch, causes),
	  .handles = { { WORD(shmipc_watch, handle), 'w', false } } },
};

#define each_request(r) \
	for ((r) = requests; (r) < requests + sizeof(requests) / sizeof(*requests); (r)++)

/* ---- one attempt ---- */

struct attempt {
	uint32_t word[ROOM / 4] __attribute__((aligned(8)));
};

static void start(struct world *w, const struct request *r, struct attempt *t, const char *what)
{
	w->name = what;
	memset(t, 0, sizeof(*t));
	r->fill(w, t->word);
	t->word[0] = r->size;
}

static void wrong(struct world *w, const struct request *r, int ret, int expected)
{
	print_error("%s, %s: %s, expected %s\n", r->name, w->name, strerror(-ret),
		    strerror(expected));
	fail();
}

/* Asks with the struct at @arg, which is @t or was copied from it. Counters tell what is left. */
static void attempt_at(struct world *w, const struct request *r, void *arg, int expected)
{
	struct abi_counts before = abi_counts();
	int ret = abi_ioctl(r->of_next ? w->next.fd : w->p.server.fd, r->nr, arg);

	if (ret != -expected)
		wrong(w, r, ret, expected);
	if (ret)
		assert_string_equal(abi_counts().text, before.text);
	r->undo(w, arg, ret);
}

static void attempt(struct world *w, const struct request *r, struct attempt *t, int expected)
{
	attempt_at(w, r, t->word, expected);
}

static void expect_good(struct world *w, const struct request *r)
{
	struct attempt t;

	start(w, r, &t, "as it should be");
	attempt(w, r, &t, 0);
}

static struct world world_open(void)
{
	struct world w = { .p = abi_pair_open(NAME) };

	must(abi_seg_create(w.p.server.fd, 1, &w.spare));
	return w;
}

/* Runs @fn for every request, each followed by a good one. */
static void for_each_request(void (*fn)(struct world *w, const struct request *r))
{
	struct world w = world_open();
	const struct request *r;
	struct abi_counts before;

	each_request(r) {
		before = abi_counts();
		fn(&w, r);
		expect_good(&w, r);
		assert_string_equal(abi_counts().text, before.text);
	}
	abi_pair_close(&w.p);
}

/* ---- lengths ---- */

static void try_length(struct world *w, const struct request *r, uint32_t size, int expected)
{
	struct attempt t;

	start(w, r, &t, "length");
	t.word[0] = size;
	attempt(w, r, &t, expected);
}

/* Each byte of an unknown tail counts. */
static void try_tail(struct world *w, const struct request *r, uint32_t size, uint32_t at)
{
	struct attempt t;

	start(w, r, &t, "unknown tail");
	t.word[0] = size;
	((uint8_t *)t.word)[at] = 0x80;
	attempt(w, r, &t, E2BIG);
}

static void lengths(struct world *w, const struct request *r)
{
	static const uint32_t too_long[] = { 4097, 8192, 0x80000000, ~0U };
	uint32_t least = r->first ? r->first : r->size;
	uint32_t i;

	for (i = 0; i < least; i += i < least - 8 ? 4 : 1)
		try_length(w, r, i, EINVAL);
	try_length(w, r, least, 0);
	try_length(w, r, r->size, 0);
	for (i = 1; i <= 9; i++)
		try_length(w, r, r->size + i, 0);
	try_length(w, r, 4096, 0);
	for (i = 0; i < 9; i++)
		try_tail(w, r, r->size + 9, r->size + i);
	try_tail(w, r, 4096, 4095);
	for (i = 0; i < sizeof(too_long) / sizeof(*too_long); i++)
		try_length(w, r, too_long[i], E2BIG);
}

static void test_lengths(void **state)
{
	(void)state;
	for_each_request(lengths);
}

/* ---- flags, causes, reserved fields ---- */

static void try_bits(struct world *w, const struct request *r, uint32_t word, uint32_t defined)
{
	struct attempt t;
	int bit;

	for (bit = 0; bit < 32; bit++) {
		if (defined & 1U << bit)
			continue;
		start(w, r, &t, word == 1 ? "an unknown flag" : "an unknown cause");
		t.word[word] |= 1U << bit;
		attempt(w, r, &t, EOPNOTSUPP);
	}
}

static void flags(struct world *w, const struct request *r)
{
	try_bits(w, r, 1, r->flags);
	if (r->causes_at)
		try_bits(w, r, r->causes_at, r->causes);
}

static void test_flags(void **state)
{
	(void)state;
	for_each_request(flags);
}

static void reserved(struct world *w, const struct request *r)
{
	static const uint32_t values[] = { 1, 0x80000000, ~0U };
	struct attempt t;
	size_t i, k;

	for (i = 0; i < sizeof(r->reserved) && r->reserved[i]; i++) {
		for (k = 0; k < sizeof(values) / sizeof(*values); k++) {
			start(w, r, &t, "a reserved field");
			t.word[r->reserved[i]] = values[k];
			attempt(w, r, &t, EINVAL);
		}
	}
	/* Outputs are not read. */
	start(w, r, &t, "outputs with something in them");
	for (i = 0; i < sizeof(r->outs) && r->outs[i]; i += 2)
		memset(t.word + r->outs[i], 0xff, r->outs[i + 1] * 4);
	attempt(w, r, &t, 0);
}

static void test_reserved(void **state)
{
	(void)state;
	for_each_request(reserved);
}

/* ---- handles ---- */

static void try_handle(struct world *w, const struct request *r, int word, uint32_t value,
		       int expected)
{
	struct attempt t;

	start(w, r, &t, "a wrong handle");
	t.word[word] = value;
	attempt(w, r, &t, expected);
}

static void handles(struct world *w, const struct request *r)
{
	static const uint32_t nobodys[] = { UNKNOWN, 1 << 24, 0x80000000, ~0U };
	struct abi_pair *p = &w->p;
	size_t i, k;

	for (i = 0; i < 3 && r->handles[i].word; i++) {
		int word = r->handles[i].word;
		char kind = r->handles[i].kind;

		for (k = 0; k < sizeof(nobodys) / sizeof(*nobodys); k++)
			try_handle(w, r, word, nobodys[k], ENOENT);
		if (kind == '*')
			continue;	/* 0 would end the endpoint */
		try_handle(w, r, word, 0, r->handles[i].optional ? 0 : ENOENT);
		if (kind != 's')
			try_handle(w, r, word, p->server_seg.handle, EBADF);
		if (kind != 'l' && kind != 'w')
			try_handle(w, r, word, p->listener, EBADF);
		if (kind != 'c' && kind != 'w')
			try_handle(w, r, word, p->at_server, EBADF);
	}
}

static void test_handles(void **state)
{
	(void)state;
	for_each_request(handles);
}

/* ---- pointers ---- */

static void pointers(struct world *w, const struct request *r)
{
	uint8_t *none = mmap(NULL, ABI_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *const bad[] = { NULL, (void *)8, none, (void *)~0xfffUL, (void *)(~0UL / 2 + 1) };
	struct attempt t;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		start(w, r, &t, "a bad pointer");
		attempt_at(w, r, bad[i], EFAULT);
	}
	munmap(none, ABI_PAGE);
}

static void test_pointers(void **state)
{
	(void)state;
	for_each_request(pointers);
}

/*
 * The struct across the border of two pages with these protections; PROT_NONE of either is EFAULT,
 * and so is one without PROT_WRITE that an output lies on.
 */
static void try_split(struct world *w, const struct request *r, uint32_t first, int prot[2])
{
	uint8_t *two = mmap(NULL, 2 * ABI_PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *at = two + ABI_PAGE - first;
	struct attempt t;
	int expected = 0;

	if (!prot[0] || !prot[1])
		expected = EFAULT;
	else if (r->answers && (!(prot[1] & PROT_WRITE) ||
				(!(prot[0] & PROT_WRITE) && first > r->first_out)))
		expected = EFAULT;
	start(w, r, &t, "across pages");
	memcpy(at, t.word, r->size);
	assert_int_equal(mprotect(two, ABI_PAGE, prot[0]), 0);
	assert_int_equal(mprotect(two + ABI_PAGE, ABI_PAGE, prot[1]), 0);
	attempt_at(w, r, at, expected);
	munmap(two, 2 * ABI_PAGE);
}

static void across(struct world *w, const struct request *r)
{
	static int prots[][2] = { { RW, RW }, { RW, PROT_NONE }, { PROT_NONE, RW },
				  { RW, PROT_READ }, { PROT_READ, RW }, { PROT_READ, PROT_READ } };
	uint32_t first, step = abi_slow() ? 12 : 3;	/* not only at whole words */
	size_t i;

	for (i = 0; i < sizeof(prots) / sizeof(*prots); i++) {
		for (first = 1; first < r->size; first += step)
			try_split(w, r, first, prots[i]);
		try_split(w, r, r->size - 1, prots[i]);
	}
}

static void test_across_pages(void **state)
{
	(void)state;
	for_each_request(across);
}

static const struct CMUnitTest tests[] = {
	abi_test(test_lengths),
	abi_test(test_flags),
	abi_test(test_reserved),
	abi_test(test_handles),
	abi_test(test_pointers),
	abi_test(test_across_pages),
};

abi_main(tests)
