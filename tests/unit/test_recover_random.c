// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Anything on both ends of a session, and now and then one end's process is replaced: killed between two
 * calls, or stopped in good order. A model says what each stream must bring: every byte once, in
 * order; after a crash also what was seen and not returned, and that is marked, and nothing else.
 *
 * Each session has a seed, which a failure names; SHMIPC_SEED=N runs that one alone.
 */
#include <unistd.h>
#include "barrier.h"
#include "reborn.h"

enum { STREAMS = 6, ITEMS = 3000, HOLDS = 24, STEPS = 500 };

/* A frame as it was sent; or the mark (@cut) that the message before it has no end. */
struct item {
	uint64_t position;
	uint32_t len, taken;
	bool more, cut;
	bool due;		/* to be delivered */
	bool seen;		/* was delivered to somebody */
	bool before;		/* was, to one who died */
	bool done;		/* returned */
	bool told;		/* of a cut: to one who died, so that it need not be told again */
};

/* What one side sends on a stream. */
struct way {
	struct item items[ITEMS];
	unsigned int nr;
	uint64_t sent, key;
	bool finished;
};

struct held {
	struct shmipc_message m;
	unsigned int first;	/* of its items */
};

struct side {
	struct shmipc_stream *st;
	bool known;		/* opened or accepted it */
	bool closed;
	bool reserved, adopted;
	unsigned int told;	/* -ECANCELED as an adopted reader */
	struct held held[HOLDS];
	unsigned int nr_held;
};

struct pipe {
	bool used;
	bool reset;		/* by whichever side: anything may be missing */
	uint16_t slot;
	uint32_t generation;
	struct way way[2];	/* by sender */
	struct side side[2];
};

struct world {
	struct duo d;
	uint64_t seed, rng, keys;
	struct pipe pipes[STREAMS];
	uint64_t frames, again, crashes, handovers, cuts, parked;
};

static const struct shmipc_options options = {
	.size = sizeof(options), .max_streams = 8, .window = 32768, .max_memory = 1 << 17,
};

#define must(w, cond)	must_be(w, cond, #cond, __LINE__)
static void must_be(const struct world *w, bool ok, const char *what, int line)
{
	if (ok)
		return;
	fprintf(stderr, "line %d: not so: %s (seed %lu)\n", line, what, w->seed);
	abort();
}

static uint64_t pick(struct world *w, uint64_t n)
{
	w->rng ^= w->rng << 13;
	w->rng ^= w->rng >> 7;
	w->rng ^= w->rng << 17;
	return (w->rng * 0x2545f4914f6cdd1dULL >> 16) % n;
}

static struct shmipc_session **session(struct world *w, int x)
{
	return x ? &w->d.b : &w->d.a;
}

static uint8_t byte_at(uint64_t key, uint64_t position)
{
	return (key * 0x9e3779b97f4a7c15ULL + position * 0x2545f4914f6cdd1dULL) >> 40;
}

/* ---- sending ------------------------------------------------------------------ */

static void item_add(struct world *w, struct way *way, uint32_t len, bool more, bool cut)
{
	must(w, way->nr < ITEMS);
	way->items[way->nr++] = (struct item){ .position = way->sent, .len = len, .more = more,
					       .cut = cut, .due = true };
	way->sent += len;
	w->frames += !cut;
}

static void open_pipe(struct world *w, struct pipe *p, int x)
{
	struct shmipc_stream *st;

	if (shmipc_stream_open(*session(w, x), &st))
		return;
	memset(p, 0, sizeof(*p));
	p->used = true;
	p->slot = st->slot;
	p->generation = st->generation;
	p->way[0].key = ++w->keys;
	p->way[1].key = ++w->keys;
	p->side[x].st = st;
	p->side[x].known = true;
	if (pick(w, 2))
		must(w, shmipc_flush(st) == 0);
}

static void accept_pipe(struct world *w, int x)
{
	struct shmipc_stream *st;

	if (shmipc_stream_accept(*session(w, x), &st, 0))
		return;
	for (int i = 0; i < STREAMS; i++) {
		struct pipe *p = &w->pipes[i];

		if (p->used && p->slot == st->slot && p->generation == st->generation) {
			must(w, !p->side[x].known);
			p->side[x].st = st;
			p->side[x].known = true;
			return;
		}
	}
	must(w, !"a stream that nobody opened");
}

static size_t any_length(struct world *w)
{
	switch (pick(w, 4)) {
	case 0: return 1 + pick(w, 8192);
	case 1: return 97 + pick(w, 1000);
	default: return 1 + pick(w, 96);
	}
}

static void send(struct world *w, struct pipe *p, int x)
{
	static uint8_t buf[8192];
	struct side *side = &p->side[x];
	struct way *way = &p->way[x];
	size_t len = any_length(w);
	bool more = !pick(w, 4);
	ssize_t n;

	if (side->reserved) {
		must(w, shmipc_cancel(side->st) == 0 || p->reset);
		side->reserved = false;
	}
	if (way->nr > ITEMS - 4)
		return;
	for (size_t i = 0; i < len; i++)
		buf[i] = byte_at(way->key, way->sent + i);
	n = shmipc_write(side->st, buf, len, (more ? SHMIPC_MORE : 0) | (pick(w, 2) ? SHMIPC_CORK : 0), 0);
	if (n > 0) {
		must(w, (size_t)n == len);
		item_add(w, way, len, more, false);
		return;
	}
	must(w, n == -EAGAIN || (n == -ECONNRESET && p->reset) || (n == -ESHUTDOWN && way->finished));
}

static void reserve(struct world *w, struct pipe *p, int x)
{
	struct side *side = &p->side[x];
	size_t len = any_length(w);
	void *data;

	if (side->reserved || shmipc_reserve(side->st, len, &data, 0))
		return;
	memset(data, 0xee, len);
	side->reserved = true;
}

static void finish(struct world *w, struct pipe *p, int x)
{
	int err = shmipc_finish(p->side[x].st);

	if (!err)
		p->way[x].finished = true;
	must(w, !err || (err == -EBUSY && p->side[x].reserved) || err == -ECONNRESET ||
		(err == -ESHUTDOWN && p->way[x].finished));
}

/* ---- receiving ----------------------------------------------------------------- */

static struct item *next_due(struct way *way)
{
	for (unsigned int i = 0; i < way->nr; i++)
		if (way->items[i].due)
			return &way->items[i];
	return NULL;
}

/*
 * Passes the next mark of a cut, and what is due before it: parts of the message that is cut. Returns
 * whether the reader has one and was not told.
 */
static bool pass_cut(struct world *w, struct pipe *p, int x)
{
	struct way *way = &p->way[!x];
	struct item *mark = next_due(way), *item;
	bool has_part = false, told;

	while (mark && !mark->cut && mark->more)
		mark = mark + 1 < way->items + way->nr ? mark + 1 : NULL;
	must(w, mark && mark->cut);
	told = mark->told;
	mark->due = false;
	mark->told = true;
	for (item = mark; item-- > way->items && item->more;) {
		has_part |= item->seen || item->taken;
		item->done |= item->due;
		item->due = false;
	}
	w->cuts++;
	return has_part && !told;
}

/*
 * -ECANCELED: a cut comes next of which the reader was not told. An adopted reader can't know of which
 * message it has a part, and may be told once too often: what follows shows which cuts were passed.
 */
static void be_told(struct world *w, struct pipe *p, int x)
{
	struct way *way = &p->way[!x];
	const struct item *end = way->items + way->nr;
	struct item *mark = next_due(way);

	if (p->side[x].adopted) {
		p->side[x].told++;
		return;
	}
	while (mark && mark < end && (!mark->due || mark->told || mark->more))
		mark++;
	must(w, mark && mark < end && mark->cut);
	while (mark->due)
		pass_cut(w, p, x);
}

/* One that the reader should have been told of, if it has a part. */
static void pass_unless_begun(struct world *w, struct pipe *p, int x)
{
	if (!pass_cut(w, p, x))
		return;
	must(w, p->side[x].told > 0);
	p->side[x].told--;
}

/* The item that bytes at @position begin with. */
static struct item *arrive(struct world *w, struct pipe *p, int x, uint64_t position)
{
	struct item *item = next_due(&p->way[!x]);

	/* A message of which nobody saw a part may have been cut without a word. */
	while (item && (item->cut || item->position + item->taken != position)) {
		pass_unless_begun(w, p, x);
		item = next_due(&p->way[!x]);
	}
	must(w, item != NULL);
	return item;
}

static bool same(const struct way *way, const uint8_t *data, size_t len, uint64_t position)
{
	size_t i = 0;

	while (i < len && data[i] == byte_at(way->key, position + i))
		i++;
	return i == len;
}

static void check_message(struct world *w, struct pipe *p, int x, struct held *held)
{
	const struct shmipc_message *m = &held->m;
	struct way *way = &p->way[!x];
	uint64_t position = m->position;
	bool again = false, more = false;

	for (uint32_t i = 0; i < m->nspans; i++) {
		struct item *item;

		must(w, same(way, m->spans[i].data, m->spans[i].len, position));
		/* What may be missing of it has no place among the items. */
		if (p->reset)
			return;
		item = arrive(w, p, x, position);
		if (!i)
			held->first = item - way->items;
		must(w, item == &way->items[held->first + i]);
		must(w, m->spans[i].len == item->len - item->taken);
		must(w, !i || more);
		position += m->spans[i].len;
		again |= item->before;
		more = item->more;
		item->seen = true;
		item->due = false;
	}
	w->again += again;
	must(w, again == !!(m->flags & SHMIPC_MSG_REDELIVERED));
	must(w, more == !!(m->flags & SHMIPC_MSG_MORE));
}

/* An error or an end: is it in its place? */
static void check_end(struct world *w, struct pipe *p, int x, int64_t n)
{
	struct item *item;

	if (n == -ECANCELED) {
		if (!p->reset)
			be_told(w, p, x);
		return;
	}
	if (n == -EAGAIN)
		return;
	must(w, n == 0 || n == -ECONNRESET);
	must(w, n == 0 || p->reset);
	if (p->reset)
		return;
	must(w, p->way[!x].finished);
	while ((item = next_due(&p->way[!x])))
		pass_unless_begun(w, p, x);
}

static void peek(struct world *w, struct pipe *p, int x)
{
	struct side *side = &p->side[x];
	struct held *held = &side->held[side->nr_held];
	int n;

	if (side->nr_held == HOLDS)
		return;
	n = shmipc_peek(side->st, &held->m, 0);
	if (n != 1) {
		check_end(w, p, x, n);
		return;
	}
	check_message(w, p, x, held);
	side->nr_held++;
}

static void give_back(struct world *w, struct pipe *p, int x, unsigned int i)
{
	struct side *side = &p->side[x];
	struct held *held = &side->held[i];

	for (uint32_t k = 0; k < held->m.nspans; k++)
		p->way[!x].items[held->first + k].done = true;
	must(w, shmipc_return(side->st, &held->m) == 0);
	*held = side->held[--side->nr_held];
}

static void read_some(struct world *w, struct pipe *p, int x)
{
	static uint8_t buf[8192];
	struct way *way = &p->way[!x];
	struct item *item = next_due(way);
	int64_t n;

	/* It does not say where it is: not where a cut may be passed, then. */
	while (item && item->more && item + 1 < way->items + way->nr)
		item++;
	if (item && item->cut) {
		peek(w, p, x);
		return;
	}
	n = shmipc_read(p->side[x].st, buf, 1 + pick(w, pick(w, 2) ? 50 : sizeof(buf)), 0);

	if (n <= 0) {
		check_end(w, p, x, n);
		return;
	}
	if (p->reset)
		return;
	item = next_due(way);
	must(w, item && n <= item->len - item->taken &&
		same(way, buf, n, item->position + item->taken));
	item->taken += n;
	if (item->taken == item->len) {
		item->due = false;
		item->seen = item->done = true;
	}
}

/* ---- ending ---------------------------------------------------------------------- */

static void reset(struct world *w, struct pipe *p, int x)
{
	p->reset = true;
	p->side[x].reserved = false;
	must(w, shmipc_reset(p->side[x].st, 3) == 0);
}

static void close_pipe(struct world *w, struct pipe *p, int x)
{
	struct side *side = &p->side[x];

	(void)w;
	/* With anything unread, or still to come, that is a reset. */
	if (!p->way[!x].finished || next_due(&p->way[!x]))
		p->reset = true;
	p->way[x].finished = true;
	shmipc_stream_close(side->st);
	side->st = NULL;
	side->closed = true;
	side->nr_held = 0;
}

/* ---- one end dies ----------------------------------------------------------------- */

static void survive(struct world *w, struct pipe *p, int x, bool crashed)
{
	struct side *side = &p->side[x];
	struct way *in = &p->way[!x], *out = &p->way[x];

	if (side->closed || !side->known)
		return;
	side->st = reborn_stream(*session(w, x), p->slot, p->generation);
	/* Its slot may have another life when it was over, though it was not closed yet. */
	must(w, side->st || p->reset || (in->finished && out->finished && p->side[!x].closed &&
					 !next_due(in)));
	if (!side->st)
		side->closed = true;
	side->nr_held = 0;
	side->reserved = false;
	side->adopted = true;
	for (unsigned int i = 0; i < in->nr; i++) {
		struct item *item = &in->items[i];

		if (item->cut)
			item->due = true;
		if (item->done || item->cut)
			continue;
		item->due = true;
		if (crashed)
			item->before |= item->seen || item->taken;
		if (item->before || item->seen)
			item->taken = 0;
	}
	if (crashed && out->nr && out->items[out->nr - 1].more && !out->finished)
		item_add(w, out, 0, false, true);
}

static void replace(struct world *w, int x)
{
	bool crashed = pick(w, 2);

	w->parked += (*session(w, x))->tx.parked;
	must(w, reborn(session(w, x), crashed) == 0);
	for (int i = 0; i < STREAMS; i++)
		if (w->pipes[i].used)
			survive(w, &w->pipes[i], x, crashed);
	w->crashes += crashed;
	w->handovers += !crashed;
}

/* ---- all of it ------------------------------------------------------------------- */

/* Many that are taken at once: the ring comes round to what others hold. */
static void burst(struct world *w, struct pipe *p, int x)
{
	for (int i = 0; i < 60 && p->side[!x].st; i++) {
		unsigned int held = p->side[!x].nr_held;

		send(w, p, x);
		peek(w, p, !x);
		if (p->side[!x].nr_held > held)
			give_back(w, p, !x, held);
	}
}

static void step(struct world *w)
{
	struct pipe *p = &w->pipes[pick(w, STREAMS)];
	int x = pick(w, 2);
	struct side *side = &p->side[x];

	if (!p->used || (p->side[0].closed && p->side[1].closed)) {
		open_pipe(w, p, x);
		return;
	}
	if (!side->st) {
		accept_pipe(w, x);
		return;
	}
	switch (pick(w, 60)) {
	case 0: finish(w, p, x); break;
	case 1: if (!pick(w, 4)) reset(w, p, x); break;
	case 2: if (!pick(w, 2)) close_pipe(w, p, x); break;
	case 3: replace(w, x); break;
	case 4: reserve(w, p, x); break;
	case 5: shmipc_wait(x ? w->d.b_ep : w->d.a_ep, &(struct shmipc_event){ 0 }, 1, 0); break;
	case 7: burst(w, p, x); break;
	case 6: must(w, shmipc_flush(side->st) == 0); break;
	default:
		switch (pick(w, 8)) {
		case 0: if (side->nr_held) give_back(w, p, x, pick(w, side->nr_held)); break;
		case 1: peek(w, p, x); break;
		case 2: read_some(w, p, x); break;
		default: send(w, p, x); break;
		}
	}
	must(w, !shmipc_session_error(w->d.a) && !shmipc_session_error(w->d.b));
}

/* Reads all that is there, and gives everything back. */
static void drain_side(struct world *w, struct pipe *p, int x)
{
	struct side *side = &p->side[x];

	while (side->st && !side->known)
		accept_pipe(w, x);
	if (!side->st)
		return;
	if (side->reserved)
		shmipc_cancel(side->st);
	side->reserved = false;
	while (side->nr_held)
		give_back(w, p, x, 0);
	for (unsigned int idle = 0; idle < 3;) {
		struct held *held = &side->held[0];
		int n = shmipc_peek(side->st, &held->m, 0);

		if (n == 1) {
			check_message(w, p, x, held);
			side->nr_held = 1;
			give_back(w, p, x, 0);
			continue;
		}
		check_end(w, p, x, n);
		idle += n != -ECANCELED;
	}
}

/* Nothing is lost: what is still due can only be marks of cuts of which nobody has a part. */
static void expect_all(struct world *w)
{
	/* Of what was corked last nobody was told, and accept alone does not look for it. */
	endpoint_flush(w->d.a_ep);
	endpoint_flush(w->d.b_ep);
	for (int i = 0; i < 100; i++) {
		accept_pipe(w, 0);
		accept_pipe(w, 1);
	}
	for (int turn = 0; turn < 6; turn++)
		for (int i = 0; i < STREAMS; i++)
			for (int x = 0; x < 2; x++)
				if (w->pipes[i].used)
					drain_side(w, &w->pipes[i], x);
	for (int i = 0; i < STREAMS; i++)
		for (int x = 0; x < 2; x++) {
			struct pipe *p = &w->pipes[i];

			if (!p->used || p->reset || !p->side[x].st)
				continue;
			while (next_due(&p->way[!x]))
				pass_unless_begun(w, p, x);
		}
	reborn_expect_quiet(&w->d);
}

static void one_world(struct world *w, uint64_t seed)
{
	memset(w->pipes, 0, sizeof(w->pipes));
	w->keys = 0;
	w->seed = seed;
	w->rng = (seed + 1) * 0x9e3779b97f4a7c15ULL;
	duo_open(&w->d, &options);
	for (int i = 0; i < STEPS; i++)
		step(w);
	expect_all(w);
	duo_close(&w->d);
}

static void test_random(void **state)
{
	static struct world w;
	const char *scale = getenv("SHMIPC_TEST_SCALE"), *one = getenv("SHMIPC_SEED");
	uint64_t n = !scale || *scale == 'q' ? 1000 : *scale == 'c' ? 10000 : 100000;

	(void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	n = 300;
#endif
	if (one) {
		one_world(&w, strtoull(one, NULL, 0));
		return;
	}
	for (uint64_t seed = 0; seed < n; seed++)
		one_world(&w, seed);
	print_message("%lu sessions: %lu frames, %lu messages again, %lu crashes, %lu handovers, %lu cuts, "
		      "%lu parked\n", n, w.frames, w.again, w.crashes, w.handovers, w.cuts, w.parked);
	assert_true(w.again > n && w.crashes > n && w.handovers > n && w.cuts > n && w.parked > n / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_random) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
