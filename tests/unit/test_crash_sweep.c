// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A writer that dies after each of its stores.
 *
 * For each path that writes: a child makes one call under ptrace, instruction by instruction. After each
 * that changed the child's own segment, another process takes copies of the segments, recovers the
 * writer's end from them, and looks that every stream still brings what it must. Segments are
 * shared memory here, at one address in all of these processes.
 */
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>
#include "barrier.h"
#include "reborn.h"

/* ---- memory that processes share -------------------------------------------------- */

enum { MAPS = 16 };

static struct {
	void *addr;
	size_t len;
} maps[MAPS];
static unsigned int nr_maps;

/* Instead of the C library's, for page-aligned memory: that is what the local provider asks for. */
void *aligned_alloc(size_t align, size_t len)
{
	void *addr = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	(void)align;
	if (addr == MAP_FAILED || nr_maps == MAPS)
		return NULL;
	maps[nr_maps].addr = addr;
	maps[nr_maps++].len = len;
	return addr;
}

/* What happens to them from now on happens in this process alone. */
static void unshare_memory(void)
{
	for (unsigned int i = 0; i < nr_maps; i++) {
		void *copy = malloc(maps[i].len);

		memcpy(copy, maps[i].addr, maps[i].len);
		if (mmap(maps[i].addr, maps[i].len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
			_exit(99);
		memcpy(maps[i].addr, copy, maps[i].len);
		free(copy);
	}
}

/* ---- what goes on around the call -------------------------------------------------- */

/*
 * The writer is b. One stream is opened by each side; what was sent on them before is seq 1 to
 * @laps. The rest says what the call changes, and what both ends may bring afterwards.
 */
struct scene {
	struct duo d;
	struct shmipc_stream *a, *b;	/* opened by b */
	struct shmipc_stream *a2, *b2;	/* opened by a */
	struct shmipc_message held;	/* by b, from a2 */
	struct shmipc_stream *fresh;
	struct recovery from;		/* what a successor of b is told */
};

#define must(cond)	must_be(cond, #cond, __LINE__)
static void must_be(bool ok, const char *what, int line)
{
	if (ok)
		return;
	fprintf(stderr, "line %d: not so: %s\n", line, what);
	_exit(1);
}

static uint8_t bytes[8192];

static void open_scene(struct scene *sc, unsigned int before)
{
	static const struct shmipc_options options = {
		.size = sizeof(options), .max_streams = 8, .window = 65536,
		.max_memory = 1 << 18,
	};
	char c;

	memset(sc, 0, sizeof(*sc));
	duo_fill(bytes, sizeof(bytes), 5);
	duo_open(&sc->d, &options);
	duo_stream(&sc->d, &sc->b, &sc->a);
	assert_int_equal(shmipc_stream_open(sc->d.a, &sc->a2), 0);
	assert_int_equal(shmipc_write(sc->a2, "!", 1, 0, 0), 1);
	assert_int_equal(shmipc_stream_accept(sc->d.b, &sc->b2, LIMIT), 0);
	assert_int_equal(shmipc_read(sc->b2, &c, 1, 0), 1);
	for (unsigned int i = 0; i < before; i++)
		duo_send(sc->b, sc->a, 1 + i % 300);
	duo_drain(sc->d.a);
	assert_int_equal(duo_reap(sc->d.b), 0);
}

/* All that comes next on @st: messages that are parts of @bytes, from @position on. */
static size_t take_all(struct shmipc_stream *st, int64_t *end, uint32_t *flags)
{
	struct shmipc_message m;
	size_t got = 0;

	*flags = 0;
	while ((*end = shmipc_peek(st, &m, 0)) == 1) {
		for (uint32_t i = 0; i < m.nspans; i++) {
			must(got + m.spans[i].len <= sizeof(bytes));
			must(!memcmp(m.spans[i].data, bytes + got, m.spans[i].len));
			got += m.spans[i].len;
		}
		*flags |= m.flags;
		must(shmipc_return(st, &m) == 0);
	}
	return got;
}

static void expect_send(struct shmipc_stream *from, struct shmipc_stream *to)
{
	char in[8];

	must(shmipc_write(from, "go on!", 6, 0, 0) == 6);
	must(shmipc_read(to, in, sizeof(in), 0) == 6 && !memcmp(in, "go on!", 6));
}

/* ---- the calls --------------------------------------------------------------------- */

static void none(struct scene *sc)
{
	(void)sc;
}

static void send_inline(struct scene *sc)
{
	shmipc_write(sc->b, bytes, 50, 0, 0);
}

static void send_arena(struct scene *sc)
{
	shmipc_write(sc->b, bytes, 1000, 0, 0);
}

/* All of it or nothing, wherever it died; and the stream goes on both ways. */
static void sent(struct scene *sc, size_t len)
{
	uint32_t flags;
	int64_t end;
	size_t got = take_all(sc->a, &end, &flags);

	must(end == -EAGAIN && (got == 0 || got == len) && !flags);
	expect_send(sc->b, sc->a);
	expect_send(sc->a, sc->b);
}

static void sent_inline(struct scene *sc)
{
	sent(sc, 50);
}

static void sent_arena(struct scene *sc)
{
	sent(sc, 1000);
}

static void send_parts(struct scene *sc)
{
	shmipc_write(sc->b, bytes, 60, SHMIPC_MORE, 0);
	shmipc_write(sc->b, bytes + 60, 200, SHMIPC_MORE, 0);
	shmipc_write(sc->b, bytes + 260, 30, 0, 0);
}

/* The reader takes nothing before: no part of it is seen unless the whole is there. */
static void sent_parts(struct scene *sc)
{
	uint32_t flags;
	int64_t end;
	size_t got;

	duo_drain(sc->d.a);
	got = take_all(sc->a, &end, &flags);
	must(end == -EAGAIN && (got == 0 || got == 290) && !flags);
	expect_send(sc->b, sc->a);
}

/* The slot's last frame is held by a, so it is parked first; a's successor finds it, too. */
static void hold_and_lap(struct scene *sc)
{
	duo_drain(sc->d.a);
	assert_int_equal(shmipc_write(sc->b, bytes, 77, 0, 0), 77);
	assert_int_equal(shmipc_write(sc->b, bytes + 77, 500, 0, 0), 500);
	duo_drain(sc->d.a);
	while (sc->d.b->tx.next < sc->a->head->seq + sc->d.b->tx.slots) {
		assert_int_equal(shmipc_write(sc->b2, "x", 1, 0, 0), 1);
		assert_int_equal(shmipc_read(sc->a2, &(char){ 0 }, 1, 0), 1);
	}
	duo_drain(sc->d.a);
}

static void send_twice(struct scene *sc)
{
	shmipc_write(sc->b2, bytes, 50, 0, 0);
	shmipc_write(sc->b2, bytes + 50, 700, 0, 0);
}

static void sent_twice(struct scene *sc)
{
	uint32_t flags;
	int64_t end;
	size_t got = take_all(sc->a2, &end, &flags);

	must(end == -EAGAIN && (got == 0 || got == 50 || got == 750) && !flags);
	/* The other end is replaced as well, which knows of the parked ones from b's table alone. */
	sc->a = (void *)(uintptr_t)sc->a->slot;
	must(reborn(&sc->d.a, true) == 0);
	sc->a = reborn_stream(sc->d.a, 0, 1);
	sc->a2 = reborn_stream(sc->d.a, 1, 1);
	must(sc->a && sc->a2);
	got = take_all(sc->a, &end, &flags);
	must(end == -EAGAIN && got == 577 && !flags);
	expect_send(sc->b, sc->a);
	expect_send(sc->b2, sc->a2);
}

static void hold(struct scene *sc)
{
	assert_int_equal(shmipc_write(sc->a2, bytes, 400, 0, 0), 400);
	assert_int_equal(shmipc_peek(sc->b2, &sc->held, 0), 1);
}

static void give_back(struct scene *sc)
{
	shmipc_return(sc->b2, &sc->held);
}

/* Once more and marked, or never again. */
static void given_back(struct scene *sc)
{
	uint32_t flags;
	int64_t end;
	size_t got = take_all(sc->b2, &end, &flags);

	must(end == -EAGAIN && ((got == 0 && !flags) ||
				(got == 400 && flags == SHMIPC_MSG_REDELIVERED)));
	expect_send(sc->a2, sc->b2);
}

static void say(struct scene *sc)
{
	assert_int_equal(shmipc_write(sc->a2, bytes, 40, 0, 0), 40);
	assert_int_equal(shmipc_write(sc->a2, bytes + 40, 400, 0, 0), 400);
	assert_int_equal(shmipc_finish(sc->a2), 0);
}

static void read_to_end(struct scene *sc)
{
	static uint8_t buf[500];

	while (shmipc_read(sc->b2, buf, sizeof(buf), 0) > 0)
		;
}

/* What was read is gone or comes again, from the front; then the end, once and for all. */
static void was_read(struct scene *sc)
{
	struct shmipc_message m;
	uint64_t at = 1;
	int n;

	while ((n = shmipc_peek(sc->b2, &m, 0)) == 1) {
		must(at == 1 || m.position == at);
		must(m.position == 1 || m.position == 41);
		at = m.position + m.len;
		must(!memcmp(m.spans[0].data, bytes + m.position - 1, m.len));
		must(shmipc_return(sc->b2, &m) == 0);
	}
	must(n == 0 && (at == 1 || at == 441));
	must(shmipc_peek(sc->b2, &m, 0) == 0);
	expect_send(sc->b2, sc->a2);
}

static void finish(struct scene *sc)
{
	shmipc_finish(sc->b);
}

static void finished(struct scene *sc)
{
	uint32_t flags;
	int64_t end;

	must(take_all(sc->a, &end, &flags) == 0 && (end == 0 || end == -EAGAIN));
	if (end)
		must(shmipc_finish(sc->b) == 0);
	else
		must(shmipc_write(sc->b, "x", 1, 0, 0) == -ESHUTDOWN);
	must(take_all(sc->a, &end, &flags) == 0 && end == 0);
	expect_send(sc->a, sc->b);
}

/* With something unread in it, both ways. */
static void fill(struct scene *sc)
{
	assert_int_equal(shmipc_write(sc->a, bytes, 300, 0, 0), 300);
	assert_int_equal(shmipc_write(sc->b, bytes, 300, 0, 0), 300);
	duo_drain(sc->d.a);
	duo_drain(sc->d.b);
}

static void reset(struct scene *sc)
{
	shmipc_reset(sc->b, 42);
}

/* Either nothing happened, or it is reset at both ends. */
static void was_reset(struct scene *sc)
{
	uint32_t flags;
	int64_t end;
	size_t got;

	duo_drain(sc->d.a);
	got = take_all(sc->a, &end, &flags);
	must((end == -EAGAIN && got == 300) || (end == -ECONNRESET && got == 0));
	got = take_all(sc->b, &end, &flags);
	if (got) {
		must(end == -EAGAIN && got == 300);
		must(shmipc_reset(sc->b, 42) == 0);
		duo_drain(sc->d.a);
	} else {
		must(end == -ECONNRESET);
	}
	must(take_all(sc->a, &end, &flags) == 0 && end == -ECONNRESET);
	must(shmipc_stream_reset_code(sc->a) == 42);
	expect_send(sc->b2, sc->a2);
}

static void close_stream(struct scene *sc)
{
	shmipc_stream_close(sc->b);
}

/* The successor goes through with it, once it had begun. */
static void was_closed(struct scene *sc)
{
	uint32_t flags;
	int64_t end;

	duo_drain(sc->d.a);
	if (sc->b) {
		must(take_all(sc->b, &end, &flags) == 300 && end == -EAGAIN);
		must(take_all(sc->a, &end, &flags) == 300 && end == -EAGAIN);
		expect_send(sc->b, sc->a);
	} else {
		take_all(sc->a, &end, &flags);
		must(end == -ECONNRESET);
	}
	expect_send(sc->a2, sc->b2);
}

static void open_stream(struct scene *sc)
{
	static struct shmipc_stream *st;

	if (!shmipc_stream_open(sc->d.b, &st))
		shmipc_flush(st);
}

/* It may be there or not. If it is, it is good for something. */
static void was_opened(struct scene *sc)
{
	struct shmipc_stream *b = reborn_stream(sc->d.b, 2, 1), *a;

	if (!b)
		must(shmipc_stream_open(sc->d.b, &b) == 0);
	must(shmipc_flush(b) == 0);
	duo_drain(sc->d.a);
	must(shmipc_stream_accept(sc->d.a, &a, 0) == 0);
	must(a->slot == b->slot && a->generation == b->generation);
	expect_send(a, b);
	expect_send(b, a);
	must(shmipc_stream_accept(sc->d.a, &a, 0) == -EAGAIN);
}

static void offer_stream(struct scene *sc)
{
	assert_int_equal(shmipc_stream_open(sc->d.a, &sc->fresh), 0);
	assert_int_equal(shmipc_write(sc->fresh, bytes, 5, 0, 0), 5);
	duo_drain(sc->d.b);
}

/* The stream's record is made by who takes the frame off the ring. */
static void hear_of_stream(struct scene *sc)
{
	assert_int_equal(shmipc_stream_open(sc->d.a, &sc->fresh), 0);
	assert_int_equal(shmipc_write(sc->fresh, bytes, 5, 0, 0), 5);
}

static void drain(struct scene *sc)
{
	duo_drain(sc->d.b);
}

static void accept_stream(struct scene *sc)
{
	static struct shmipc_stream *st;

	shmipc_stream_accept(sc->d.b, &st, 0);
}

/* Somebody has it: the program, or who accepts next. */
static void was_accepted(struct scene *sc)
{
	struct shmipc_stream *b = reborn_stream(sc->d.b, sc->fresh->slot, sc->fresh->generation);
	uint32_t flags;
	int64_t end;

	if (!b)
		must(shmipc_stream_accept(sc->d.b, &b, 0) == 0);
	must(b->slot == sc->fresh->slot);
	must(take_all(b, &end, &flags) == 5 && end == -EAGAIN && !flags);
	must(shmipc_stream_accept(sc->d.b, &b, 0) == -EAGAIN);
	expect_send(b, sc->fresh);
}

/*
 * Dead, with something of all that a successor settles: a message in parts, one held, one parked and
 * returned since, ends that are owed to a full ring.
 */
static void leave_all(struct scene *sc)
{
	static struct pv_segment own[ARENA_EXTENTS];
	static struct pv_mapping peers[SHMIPC_SLOTS_MAX];
	uint32_t flags;
	int64_t end;

	hold_and_lap(sc);
	assert_int_equal(take_all(sc->a, &end, &flags), 577);
	hold(sc);
	assert_int_equal(shmipc_write(sc->b, bytes, 60, SHMIPC_MORE, 0), 60);
	duo_drain(sc->d.a);
	assert_int_equal(shmipc_stream_open(sc->d.b, &sc->fresh), 0);
	assert_int_equal(shmipc_write(sc->fresh, "?", 1, 0, 0), 1);
	lock(&sc->d.b->tx.lock);
	while (tx_control(sc->d.b, sc->b2, FRAME_OPEN))
		;
	unlock(&sc->d.b->tx.lock);
	assert_int_equal(shmipc_finish(sc->fresh), 0);
	assert_false(list_empty(&sc->fresh->owing));
	duo_drain(sc->d.a);
	reborn_describe(sc->d.b, true, &sc->from, own, peers);
}

/* As reborn() does it; the predecessor's books are not stepped through. */
static void recover(struct scene *sc)
{
	struct shmipc_session *s;

	if (!recover_session(sc->d.b->ep, &sc->from, &s))
		recover_resume(s, 0);
}

static void was_recovered(struct scene *sc)
{
	struct shmipc_stream *fresh;
	uint32_t flags;
	int64_t end;

	duo_drain(sc->d.a);
	must(take_all(sc->a, &end, &flags) == 0 && end == -EAGAIN);
	must(take_all(sc->b2, &end, &flags) == 400 && end == -EAGAIN &&
	     flags == SHMIPC_MSG_REDELIVERED);
	must(shmipc_stream_accept(sc->d.a, &fresh, 0) == 0);
	must(shmipc_read(fresh, &(char){ 0 }, 1, 0) == 1);
	must(shmipc_read(fresh, &(char){ 0 }, 1, 0) == 0);
	expect_send(sc->b, sc->a);
	expect_send(sc->b2, sc->a2);
}

static const struct path {
	const char *name;
	unsigned int before;		/* messages before it */
	void (*prepare)(struct scene *sc);
	void (*call)(struct scene *sc);
	void (*check)(struct scene *sc);
} paths[] = {
	{ "send inline", 3, none, send_inline, sent_inline },
	{ "send inline, second lap", 200, none, send_inline, sent_inline },
	{ "send from the arena", 3, none, send_arena, sent_arena },
	{ "send in parts", 3, none, send_parts, sent_parts },
	{ "send where others are held", 3, hold_and_lap, send_twice, sent_twice },
	{ "return", 3, hold, give_back, given_back },
	{ "read", 3, say, read_to_end, was_read },
	{ "finish", 3, none, finish, finished },
	{ "reset", 3, fill, reset, was_reset },
	{ "close", 3, fill, close_stream, was_closed },
	{ "open", 3, none, open_stream, was_opened },
	{ "hear of a stream", 3, hear_of_stream, drain, was_accepted },
	{ "recover", 3, leave_all, recover, was_recovered },
	{ "accept", 3, offer_stream, accept_stream, was_accepted },
};

/* ---- the sweep --------------------------------------------------------------------- */

/* The writer is dead, and this is what it left. */
static void look_at(struct scene *sc, const struct path *path)
{
	uint16_t slot = sc->b->slot, slot2 = sc->b2->slot;
	uint32_t generation = sc->b->generation, generation2 = sc->b2->generation;

	alarm(20);
	unshare_memory();
	must(reborn(&sc->d.b, true) == 0);
	sc->b = reborn_stream(sc->d.b, slot, generation);
	sc->b2 = reborn_stream(sc->d.b, slot2, generation2);
	must(sc->b2 && (sc->b || path->call == close_stream));
	path->check(sc);
	must(!shmipc_session_error(sc->d.a) && !shmipc_session_error(sc->d.b));
	reborn_expect_quiet(&sc->d);
	/* And once more, from what the first successor left. */
	must(reborn(&sc->d.b, true) == 0);
	must(reborn(&sc->d.a, true) == 0);
	_exit(0);
}

/* A fork that goes on in its parent's place: the library would refuse to work in it. */
static pid_t fork_in_place(struct scene *sc)
{
	pid_t pid = fork();

	if (!pid)
		*process_word = sc->d.b_ep->process;
	return pid;
}

static bool survives(struct scene *sc, const struct path *path)
{
	pid_t pid = fork_in_place(sc);
	int status;

	if (!pid)
		look_at(sc, path);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

static pid_t start_writer(struct scene *sc, const struct path *path)
{
	pid_t pid = fork_in_place(sc);
	int status;

	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		path->call(sc);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSTOPPED(status));
	return pid;
}

/* In memory that is shared: each path has a process of its own, which ends with all that it made. */
struct score {
	unsigned int points, bad, done;
};

static bool step(pid_t pid)
{
	int status;

	assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSTOPPED(status);
}

static void sweep(const struct path *path, struct score *score)
{
	const struct pv_segment *own;
	struct scene sc;
	uint8_t *seen;
	pid_t pid;

	open_scene(&sc, path->before);
	path->prepare(&sc);
	own = &sc.d.b->tx.segments[0];
	seen = malloc(own->len);
	memcpy(seen, own->addr, own->len);
	must(survives(&sc, path));
	pid = start_writer(&sc, path);
	while (step(pid)) {
		if (!memcmp(seen, own->addr, own->len))
			continue;
		memcpy(seen, own->addr, own->len);
		score->points++;
		if (!survives(&sc, path)) {
			print_error("%s: dead after store %u\n", path->name, score->points);
			score->bad++;
		}
	}
	/* The whole call was made. */
	must(survives(&sc, path));
	score->done = 1;
}

static void test_every_store(void **state)
{
	struct score *score = mmap(NULL, sizeof(*score), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned int bad = 0, points = 0;

	(void)state;
	for (unsigned int i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		pid_t pid;

		*score = (struct score){ 0 };
		fflush(NULL);
		pid = fork();
		if (!pid) {
			sweep(&paths[i], score);
			_exit(0);
		}
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		print_message("%s: %u kill points\n", paths[i].name, score->points);
		/* A path that stores nothing is not what it is meant to be. */
		assert_true(score->done && score->points >= 1);
		points += score->points;
		bad += score->bad;
	}
	munmap(score, sizeof(*score));
	print_message("%u kill points\n", points);
	assert_int_equal(bad, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_store) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
