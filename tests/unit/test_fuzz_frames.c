// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A peer that writes anything into its segment: mutated honest frames, frames of its own making,
 * control words, return words, and bytes anywhere, while the victim uses every call.
 *
 * What the victim may see is data, the end or the reset of a stream, and -EBADMSG. It must not crash
 * or hang, and its session with an honest neighbour must go on. Each session begins with a seed of
 * its own, which a failure names; SHMIPC_FUZZ_SEED=N begins with that one. SHMIPC_FUZZ_SECONDS is how
 * long each test takes, else SHMIPC_TEST_SCALE says.
 */
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "barrier.h"
#include "duo.h"

enum { STREAMS = 8, STEPS = 400, HANG_SECONDS = 30 };

/* Seen by the parent, whatever becomes of its child. */
struct score {
	uint64_t seed, sessions, broken, data, mutations;
};

struct victim {
	struct shmipc_stream *st;
	struct shmipc_message held;
	bool holds, finished;
};

struct fuzz {
	struct duo d;			/* a is the victim */
	struct shmipc_endpoint *good_ep;
	struct shmipc_session *a2, *good;
	struct shmipc_stream *honest_a, *honest;
	struct victim v[STREAMS];
	struct shmipc_stream *b[STREAMS];
	struct score *score;
	uint64_t rng;
};

static const struct shmipc_options options = {
	.size = sizeof(options), .max_streams = 16, .window = 32768, .max_memory = 1 << 20,
};

#define must(f, cond)	must_be(f, cond, #cond, __LINE__)
static void must_be(const struct fuzz *f, bool ok, const char *what, int line)
{
	if (ok)
		return;
	fprintf(stderr, "line %d: not so: %s (seed %lu, last error: %s)\n", line, what,
		f->score->seed, shmipc_last_error());
	_exit(1);
}

static uint64_t rnd(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state * 0x2545f4914f6cdd1dULL >> 16;
}

static uint64_t pick(struct fuzz *f, uint64_t n)
{
	return rnd(&f->rng) % n;
}

/* ---- the liar ----------------------------------------------------------------- */

/* Small, at an edge, near an honest value, or anything. */
static uint64_t value(uint64_t *rng, uint64_t honest)
{
	static const uint64_t edges[] = {
		0, 1, 2, 95, 96, 97, 127, 128, 1 << 15, 0xffff, 1 << 16, 1ULL << 31, 0xffffffff,
		1ULL << 32, 1ULL << 63, -1ULL,
	};

	switch (rnd(rng) % 4) {
	case 0:
		return edges[rnd(rng) % (sizeof(edges) / sizeof(edges[0]))];
	case 1:
		return honest ^ 1ULL << rnd(rng) % 64;
	case 2:
		return rnd(rng);
	default:
		return honest + rnd(rng) % 5 - 2;
	}
}

static void change_frame(uint64_t *rng, struct frame *frame)
{
	switch (rnd(rng) % 12) {
	case 0: frame->seq = value(rng, frame->seq); break;
	case 1: frame->stream = value(rng, frame->stream); break;
	case 2: frame->live = value(rng, frame->live); break;
	case 3: frame->generation = value(rng, frame->generation); break;
	case 4: frame->position = value(rng, frame->position); break;
	case 5: frame->kind = 1 + rnd(rng) % 5; break;
	case 6: frame->flags = value(rng, frame->flags); break;
	case 7: frame->length = value(rng, frame->length); break;
	case 8: frame->block.slot = value(rng, frame->block.slot); break;
	case 9: frame->block.offset = value(rng, frame->block.offset); break;
	case 10: frame->block.length = value(rng, frame->block.length); break;
	default: ((uint8_t *)frame)[rnd(rng) % sizeof(*frame)] = rnd(rng); break;
	}
}

static void lie_in_control(uint64_t *rng, struct shmipc_session *b)
{
	struct control *c = b->rx.control;

	switch (rnd(rng) % 5) {
	case 0: store_relaxed(&c->rx_cursor, value(rng, b->rx.published)); break;
	case 1: store_relaxed(&c->rx_event, value(rng, (uint32_t)b->rx.next)); break;
	case 2: store_relaxed(&c->tx_event, value(rng, b->tx.reaped)); break;
	case 3: store_relaxed(&c->slot_event, value(rng, b->tx.cursor)); break;
	default: store_relaxed(&c->cpu, value(rng, 0)); break;
	}
}

static void lie_in_return(uint64_t *rng, struct shmipc_session *b)
{
	struct rx *rx = &b->rx;
	uint32_t at = rx->returned - rnd(rng) % 2, n = rx->nr_returns;
	uint64_t word = RETURN_WORD(at / n + 1, rnd(rng) % rx->nr_live, rx->next - rnd(rng) % 4);

	store_release(&rx->returns[at & (n - 1)], rnd(rng) % 2 ? word : value(rng, word));
}

static void lie_anywhere(uint64_t *rng, struct shmipc_session *b)
{
	uint8_t *base = b->tx.segments[0].addr;

	base[rnd(rng) % ((char *)b->tx.records - (char *)base + 1024)] = rnd(rng);
}

/* Frames that the victim may not have taken yet: the liar still writes there. */
static struct frame *last_frame(struct shmipc_session *b, unsigned int back)
{
	return &b->tx.ring[(load_relaxed(&b->tx.next) - 1 - back) & (b->tx.slots - 1)];
}

static void lie(struct fuzz *f)
{
	struct shmipc_session *b = f->d.b;
	struct shmipc_stream *st = f->b[pick(f, STREAMS)];
	struct frame frame;

	f->score->mutations++;
	switch (pick(f, 8)) {
	case 0:
	case 1:
		change_frame(&f->rng, last_frame(b, 0));
		break;
	case 2:
		if (!st)
			break;
		frame = duo_frame(st);
		change_frame(&f->rng, &frame);
		duo_inject(b, &frame);
		break;
	case 3:
		lie_in_return(&f->rng, b);
		break;
	case 4:
		lie_anywhere(&f->rng, b);
		break;
	default:
		lie_in_control(&f->rng, b);
		break;
	}
}

/* What an honest program does there. Of what becomes of it nothing is expected. */
static void liars_program(struct fuzz *f)
{
	static char buf[20000];
	unsigned int i = pick(f, STREAMS);
	struct shmipc_stream **st = &f->b[i];

	if (!*st) {
		if (shmipc_stream_open(f->d.b, st))
			*st = NULL;
		return;
	}
	switch (pick(f, 24)) {
	case 0: shmipc_finish(*st); break;
	case 1: shmipc_reset(*st, pick(f, 9)); break;
	case 2: shmipc_stream_close(*st); *st = NULL; break;
	case 3: shmipc_wait(f->d.b_ep, &(struct shmipc_event){ 0 }, 1, 0); break;
	default:
		if (pick(f, 2))
			shmipc_write(*st, buf, 1 + pick(f, pick(f, 2) ? 100 : sizeof(buf)),
				     pick(f, 4), 0);
		else
			shmipc_read(*st, buf, sizeof(buf), 0);
	}
}

/* ---- the victim ---------------------------------------------------------------- */

static bool bad(const struct fuzz *f, int64_t err)
{
	return err == -EBADMSG && shmipc_session_error(f->d.a) == -EBADMSG;
}

/* All of it is there to be read. */
static void touch(const struct shmipc_span *span)
{
	const volatile uint8_t *data = span->data;

	for (size_t i = 0; i < span->len; i++)
		(void)data[i];
}

static void victim_receives(struct fuzz *f, struct victim *v)
{
	static uint8_t buf[20000];
	int64_t n;

	if (v->holds) {
		must(f, shmipc_return(v->st, &v->held) == 0);
		v->holds = false;
		return;
	}
	if (pick(f, 2)) {
		n = shmipc_peek(v->st, &v->held, 0);
		v->holds = n == 1;
		for (uint32_t i = 0; n == 1 && i < v->held.nspans; i++)
			touch(&v->held.spans[i]);
	} else {
		n = shmipc_read(v->st, buf, 1 + pick(f, sizeof(buf)), 0);
	}
	f->score->data += n > 0;
	/* A frame may say that the message before it will never be complete. */
	must(f, n >= 0 || n == -EAGAIN || n == -ECONNRESET || n == -ECANCELED || bad(f, n));
}

static void victim_sends(struct fuzz *f, struct victim *v)
{
	static uint8_t buf[40000];
	size_t len = 1 + pick(f, pick(f, 2) ? 100 : sizeof(buf));
	int64_t n = shmipc_write(v->st, buf, len, pick(f, 4), 0);

	must(f, (n > 0 && n <= (int64_t)len) || n == -EAGAIN || n == -ECONNRESET || bad(f, n) ||
		(n == -ESHUTDOWN && v->finished));
}

static void victim_ends(struct fuzz *f, struct victim *v)
{
	int err = 0;

	switch (pick(f, 3)) {
	case 0:
		err = shmipc_finish(v->st);
		must(f, !err || err == -ECONNRESET || bad(f, err) ||
			(err == -ESHUTDOWN && v->finished));
		v->finished = true;
		return;
	case 1:
		err = shmipc_reset(v->st, 7);
		must(f, !err || bad(f, err));
		/* fallthrough */
	default:
		shmipc_stream_close(v->st);
		*v = (struct victim){ 0 };
	}
}

static void victim_step(struct fuzz *f)
{
	struct victim *v = &f->v[pick(f, STREAMS)];
	int64_t n;

	if (!v->st) {
		n = pick(f, 2) ? shmipc_stream_accept(f->d.a, &v->st, 0) :
		    shmipc_stream_open(f->d.a, &v->st);
		must(f, !n || n == -EAGAIN || n == -EMFILE || bad(f, n));
		if (n)
			v->st = NULL;
		return;
	}
	switch (pick(f, 16)) {
	case 0:
		victim_ends(f, v);
		break;
	case 1:
		must(f, shmipc_flush(v->st) == 0);
		break;
	case 2:
	case 3:
		must(f, shmipc_wait(f->d.a_ep, (struct shmipc_event[4]){ 0 }, 4, 0) >= 0);
		break;
	case 4:
	case 5:
	case 6:
	case 7:
		victim_sends(f, v);
		break;
	default:
		victim_receives(f, v);
		break;
	}
}

/* Whatever the liar does, this goes on. */
static void neighbour(struct fuzz *f)
{
	uint64_t out = rnd(&f->rng), in = 0;

	must(f, shmipc_write(f->honest, &out, sizeof(out), 0, LIMIT) == sizeof(out));
	must(f, shmipc_read(f->honest_a, &in, sizeof(in), LIMIT) == sizeof(in) && in == out);
	must(f, shmipc_write(f->honest_a, &in, sizeof(in), 0, LIMIT) == sizeof(in));
	must(f, shmipc_read(f->honest, &out, sizeof(out), LIMIT) == sizeof(out) && in == out);
}

/* ---- sessions ------------------------------------------------------------------- */

static void open_all(struct fuzz *f)
{
	char c;

	duo_open(&f->d, &options);
	must(f, shmipc_open(&f->good_ep, 0) == 0);
	duo_connect(f->d.a_ep, f->good_ep, &options, &f->a2, &f->good);
	must(f, shmipc_stream_open(f->good, &f->honest) == 0);
	must(f, shmipc_write(f->honest, "!", 1, 0, LIMIT) == 1);
	must(f, shmipc_stream_accept(f->a2, &f->honest_a, LIMIT) == 0);
	must(f, shmipc_read(f->honest_a, &c, 1, LIMIT) == 1);
}

static void close_all(struct fuzz *f)
{
	struct shmipc_stream *st;

	if (shmipc_session_error(f->d.a)) {
		f->score->broken++;
		must(f, shmipc_session_error(f->d.a) == -EBADMSG);
		must(f, shmipc_stream_open(f->d.a, &st) == -EBADMSG);
		must(f, shmipc_wait(f->d.a_ep, (struct shmipc_event[4]){ 0 }, 4, 0) >= 0);
	}
	neighbour(f);
	duo_close(&f->d);
	shmipc_close(f->good_ep);
	f->score->sessions++;
}

static void begin_session(struct fuzz *f, struct score *score)
{
	*f = (struct fuzz){ .score = score, .rng = (score->seed + 1) * 0x9e3779b97f4a7c15ULL };
	alarm(HANG_SECONDS);
	open_all(f);
}

static void one_session(struct score *score)
{
	struct fuzz f;

	begin_session(&f, score);
	/* Some are nearly honest, some not at all. */
	unsigned int honesty = 1 + pick(&f, 60);

	for (int i = 0; i < STEPS && !shmipc_session_error(f.d.a); i++) {
		if (!shmipc_session_error(f.d.b))
			liars_program(&f);
		if (!pick(&f, honesty))
			lie(&f);
		victim_step(&f);
		if (i % 64 == 0)
			neighbour(&f);
	}
	close_all(&f);
}

/* ---- at the same time ------------------------------------------------------------ */

struct scribbler {
	pthread_t thread;
	struct shmipc_session *b;
	uint64_t rng;
	atomic_bool stop;
};

/* Between the victim's look at a word and its use: whatever it reads twice differs. */
static void *scribble(void *arg)
{
	struct scribbler *s = arg;

	while (!atomic_load_explicit(&s->stop, memory_order_relaxed)) {
		struct frame *frame = last_frame(s->b, rnd(&s->rng) % 4), was = *frame;

		if (rnd(&s->rng) % 4) {
			change_frame(&s->rng, frame);
			/* Long enough to be seen. */
			for (int i = rnd(&s->rng) % 64; i; i--)
				cpu_relax();
			full_fence();
			*frame = was;
		} else {
			lie_in_control(&s->rng, s->b);
		}
	}
	return NULL;
}

static void one_race(struct score *score)
{
	struct scribbler s = { 0 };
	struct fuzz f;

	begin_session(&f, score);
	s.b = f.d.b;
	s.rng = f.rng + 1;
	pthread_create(&s.thread, NULL, scribble, &s);
	for (int i = 0; i < STEPS && !shmipc_session_error(f.d.a); i++) {
		if (!shmipc_session_error(f.d.b))
			liars_program(&f);
		score->mutations++;
		victim_step(&f);
		victim_step(&f);
	}
	atomic_store(&s.stop, true);
	pthread_join(s.thread, NULL);
	close_all(&f);
}

/* ---- in a process of its own ------------------------------------------------------ */

static unsigned int seconds(void)
{
	const char *own = getenv("SHMIPC_FUZZ_SECONDS"), *scale = getenv("SHMIPC_TEST_SCALE");

	if (own)
		return atoi(own);
	if (!scale || !strcmp(scale, "quick"))
		return 2;
	if (strcmp(scale, "long"))
		return 15;
#ifdef __SANITIZE_ADDRESS__
	/* It is there that it sees most. */
	return 300;
#endif
	return 60;
}

static void child(struct score *score, void (*session)(struct score *score))
{
	time_t until = time(NULL) + seconds();

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	do {
		session(score);
		score->seed++;
	} while (time(NULL) < until);
	/* Not _exit(): a leak is reported there. */
	exit(0);
}

static void fuzz(void (*session)(struct score *score))
{
	struct score *score = mmap(NULL, sizeof(*score), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const char *seed = getenv("SHMIPC_FUZZ_SEED");
	uint64_t first;
	int status = -1;
	pid_t pid;

	assert_true(score != MAP_FAILED);
	first = score->seed = seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL) << 20;
	fflush(NULL);
	pid = fork();
	if (!pid)
		child(score, session);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	print_message("seeds from %lu: %lu sessions, %lu lies, %lu reads of data, %lu times -EBADMSG\n",
		      first, score->sessions, score->mutations, score->data, score->broken);
	if (status)
		fail_msg("SHMIPC_FUZZ_SEED=%lu: %s %d", score->seed,
			 WIFSIGNALED(status) ? "killed by signal" : "exit",
			 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	/* Much of it got somewhere, and much was found out. */
	assert_true(score->data > score->sessions);
	assert_true(score->broken > score->sessions / 50);
	munmap(score, sizeof(*score));
}

static void test_in_turn(void **state)
{
	(void)state;
	fuzz(one_session);
}

static void test_at_once(void **state)
{
	(void)state;
	fuzz(one_race);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_turn), cmocka_unit_test(test_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
