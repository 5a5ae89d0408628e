// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * kill -9 in the middle of an upgrade: of the old program, of its successor, or of both, before and
 * after each request to the module that moves the endpoint, and at random times from there.
 * Clients ask meanwhile, stay or come and go, and account for each answer: none is missing, none
 * comes twice but what was delivered again and says so, and no session ends.
 *
 * Each run has a seed, which is printed; SHMIPC_SEED=N repeats its choices. Over the module alone:
 * the embedded provider has no orphans.
 */
#include "pair.h"
#include "provider_kernel.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#define SECOND		((int64_t)1000000000)
#define SESSIONS	3	/* of the client that stays */
#define STREAMS		8	/* of each session */
#define DEPTH		8	/* requests under way on each */
#define LENGTH_MAX	3000
#define EVENTS		64
#define LATE_US		4000	/* at most, from a moment to the kill */
#define STEP		100	/* answers between two upgrades */

/* ---- when to die ------------------------------------------------------------- */

enum role { OLD, NEXT };

/* Before the first of such requests, or after one that was granted. */
struct moment {
	const char *name;
	enum role role;
	unsigned long request;
	bool after;
	unsigned int one_of;	/* which of them, is chosen */
};

static const struct moment moments[] = {
	{ "before OFFER", OLD, SHMIPC_IOC_OFFER, false, 1 },
	{ "after OFFER", OLD, SHMIPC_IOC_OFFER, true, 1 },
	{ "before ADOPT", NEXT, SHMIPC_IOC_ADOPT, false, 1 },
	{ "after ADOPT", NEXT, SHMIPC_IOC_ADOPT, true, 1 },
	{ "before YIELD", OLD, SHMIPC_IOC_YIELD, false, 1 },
	{ "after YIELD", OLD, SHMIPC_IOC_YIELD, true, 1 },
	{ "after LIST", NEXT, SHMIPC_IOC_LIST, true, 1 + SESSIONS },
	{ "before COMMIT", NEXT, SHMIPC_IOC_COMMIT, false, 1 },
	{ "after COMMIT", NEXT, SHMIPC_IOC_COMMIT, true, 1 },
	{ "after WATCH", NEXT, SHMIPC_IOC_WATCH, true, 1 + SESSIONS },
};

#define MOMENTS	(sizeof(moments) / sizeof(moments[0]))

struct fate {
	const struct moment *moment;	/* NULL: it lives */
	unsigned int nth, late_us;
};

static struct fate mine;

/* SIGKILL from a timer: it meets the process wherever it is by then. */
static void die_soon(void)
{
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL };
	struct itimerspec when = { .it_value.tv_nsec = (long)mine.late_us * 1000 };
	timer_t timer;

	mine.moment = NULL;
	if (!when.it_value.tv_nsec)
		kill(getpid(), SIGKILL);
	check_eq(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
	check_eq(timer_settime(timer, 0, &when, NULL), 0);
}

static int mortal_ioctl(int fd, unsigned long request, void *arg)
{
	const struct moment *moment = mine.moment;
	int ret;

	if (!moment || moment->request != request)
		return ioctl(fd, request, arg);
	if (!moment->after)
		die_soon();
	ret = ioctl(fd, request, arg);
	if (moment->after && !ret && !--mine.nth)
		die_soon();
	return ret;
}

/* ---- a version of the server --------------------------------------------------- */

/* What all processes know. */
struct world {
	char name[64];
	struct fate fate[2];			/* by role */
	atomic_bool stop;
	atomic_ulong answers, again, visits;	/* the clients' */
	atomic_uint planned, crashed;		/* adoptions */
};

static const struct shmipc_offer_options by_name = {
	.size = sizeof(by_name), .flags = SHMIPC_OFFER_BY_NAME, .timeout_ns = 30 * SECOND,
	.state_max = 64,
};

static const struct shmipc_options orphan = {
	.size = sizeof(orphan), .orphan_ms = 30000, .max_streams = 2 * STREAMS,
};

/* Of request and answer alike; fill()'s bytes follow. */
struct head {
	uint64_t number;
	uint64_t again;		/* an answer's: the request was delivered again */
};

static void answer(struct shmipc_stream *st)
{
	char buf[LENGTH_MAX];
	struct head *head = (struct head *)buf;
	struct shmipc_message m;
	int n = shmipc_peek(st, &m, 0);

	/* A visitor that has left: SHMIPC_EV_CLOSED comes. */
	if (n == -EAGAIN || n == -EPIPE)
		return;
	check(n >= 0);
	if (!n) {
		shmipc_stream_close(st);
		return;
	}
	check_eq(m.nspans, 1);
	check(m.len >= sizeof(*head) && m.len <= sizeof(buf));
	memcpy(buf, m.spans[0].data, m.len);
	head->again = m.flags & SHMIPC_MSG_REDELIVERED ? 1 : 0;
	check_eq(shmipc_write(st, buf, m.len, 0, LIMIT), m.len);
	check_eq(shmipc_return(st, &m), 0);
}

/* True: a successor is ready. */
static bool serve_batch(const struct shmipc_event *events, int n)
{
	struct shmipc_session *session;
	struct shmipc_stream *st;
	bool ready = false;

	for (int i = 0; i < n; i++) {
		const struct shmipc_event *event = &events[i];

		if (event->type == SHMIPC_EV_ACCEPT)
			while (!shmipc_accept(event->object, &session, 0))
				;
		else if (event->type == SHMIPC_EV_STREAM)
			while (!shmipc_stream_accept(event->object, &st, 0))
				;
		else if (event->type == SHMIPC_EV_READ)
			answer(event->object);
		ready |= event->type == SHMIPC_EV_OFFER;
	}
	/* Their streams may be named above. */
	for (int i = 0; i < n; i++)
		if (events[i].type == SHMIPC_EV_CLOSED)
			shmipc_session_close(events[i].object);
	return ready;
}

static void yield_to(struct shmipc_endpoint *ep, int *offer)
{
	int err = shmipc_yield(ep, NULL, 0);

	if (!err) {
		shmipc_close(ep);
		exit(0);
	}
	/* That one has died: the next may come. */
	check(err == -ECANCELED || err == -EAGAIN);
	*offer = -1;
}

/* It is told once that there is a next version, and then offers until one took over. */
static void serve(struct pair *p, struct world *w, struct shmipc_endpoint *ep)
{
	struct shmipc_event events[EVENTS];
	struct pollfd fds[3] = {
		{ .fd = shmipc_fd(ep), .events = POLLIN }, { .fd = p->wire, .events = POLLIN },
		{ .fd = -1 },
	};
	bool told = false;

	for (;;) {
		int n = shmipc_wait(ep, events, EVENTS, 0);

		check(n >= 0);
		if (serve_batch(events, n))
			yield_to(ep, &fds[2].fd);
		if (told && (fds[2].fd < 0 || fds[2].revents & POLLHUP))
			check_eq(shmipc_offer(ep, &by_name, &fds[2].fd), 0);
		check(poll(fds, 3, n ? 0 : 30000) >= 0);
		if (!fds[1].revents)
			continue;
		pair_hear(p);
		if (atomic_load(&w->stop))
			return;
		told = true;
		mine = w->fate[OLD];
	}
}

/* The old one has not offered yet, or has just died, or another is still dying. */
static struct shmipc_endpoint *adopt(struct world *w)
{
	int64_t last = pair_now() + LIMIT;
	struct shmipc_adopted item;
	struct shmipc_endpoint *ep;
	const void *blob;
	size_t len;
	int err;

	while ((err = shmipc_adopt(w->name, -1, &orphan, &ep, LIMIT)) == -EBUSY ||
	       err == -ECANCELED) {
		check(pair_now() < last);
		usleep(200);
	}
	check_eq(err, 0);
	if (shmipc_adopted_state(ep, &blob, &len))
		atomic_fetch_add(&w->crashed, 1);
	else
		atomic_fetch_add(&w->planned, 1);
	/* The state of an offer that a crash cut short comes as a buffer. */
	while (shmipc_adopted_next(ep, &item))
		if (item.type == SHMIPC_ADOPTED_BUFFER)
			shmipc_buf_free(item.object);
	return ep;
}

static void first_server(struct pair *p, void *arg)
{
	struct shmipc_listener *listener;
	struct world *w = arg;

	provider_kernel_ioctl = mortal_ioctl;
	check_eq(shmipc_open(&p->ep, 0), 0);
	check_eq(shmipc_listen(p->ep, w->name, &orphan, &listener), 0);
	pair_tell(p);
	serve(p, w, p->ep);
}

static void next_server(struct pair *p, void *arg)
{
	struct world *w = arg;

	provider_kernel_ioctl = mortal_ioctl;
	mine = w->fate[NEXT];
	p->ep = adopt(w);
	pair_tell(p);
	serve(p, w, p->ep);
}

/* ---- clients -------------------------------------------------------------------- */

struct line {
	struct shmipc_stream *st;
	uint64_t key, next, expected;
};

static size_t length_of(uint64_t number)
{
	uint64_t x = number * 2654435761U >> 8;

	return sizeof(struct head) + (x % 5 ? x % 100 : x % (LENGTH_MAX - sizeof(struct head)));
}

static void ask(struct line *line)
{
	char buf[LENGTH_MAX];
	struct head head = { 0 };

	while (line->next - line->expected < DEPTH) {
		size_t len = length_of(line->next);
		ssize_t n;

		head.number = line->next;
		memcpy(buf, &head, sizeof(head));
		fill(buf + sizeof(head), len - sizeof(head), line->key, line->next * LENGTH_MAX);
		n = shmipc_write(line->st, buf, len, 0, 0);
		if (n == -EAGAIN)
			return;
		check_eq(n, len);
		line->next++;
	}
}

/* False: there was none. */
static bool take(struct line *line, struct world *w)
{
	const struct head *head;
	struct shmipc_message m;
	int n = shmipc_peek(line->st, &m, 0);

	if (n == -EAGAIN)
		return false;
	check_eq(n, 1);
	check_eq(m.nspans, 1);
	head = m.spans[0].data;
	check(m.len >= sizeof(*head));
	check_eq(m.len, length_of(head->number));
	check(same(head + 1, m.len - sizeof(*head), line->key, head->number * LENGTH_MAX));
	atomic_fetch_add(&w->again, head->again);
	/* Missing are those between; doubled is what came before and does not say why. */
	if (head->number >= line->expected) {
		check_eq(head->number, line->expected);
		line->expected++;
	} else {
		check(head->again);
	}
	check_eq(shmipc_return(line->st, &m), 0);
	return true;
}

static void open_lines(struct shmipc_endpoint *ep, struct world *w, struct line *lines,
		       struct shmipc_session **sessions, unsigned int nr)
{
	static uint64_t key;

	for (unsigned int i = 0; i < nr; i++) {
		check_eq(shmipc_connect(ep, w->name, &orphan, &sessions[i], LIMIT), 0);
		for (unsigned int j = 0; j < STREAMS; j++) {
			struct line *line = &lines[i * STREAMS + j];

			*line = (struct line){ .key = ++key };
			check_eq(shmipc_stream_open(sessions[i], &line->st), 0);
		}
	}
}

/* Until @enough answers came on each; or, as long as the servers are upgraded. */
static void run_lines(struct shmipc_endpoint *ep, struct world *w, struct line *lines,
		      unsigned int nr, uint64_t enough)
{
	struct shmipc_event events[EVENTS];
	int64_t last = pair_now() + LIMIT;
	bool more = true;

	while (more) {
		more = !enough && !atomic_load(&w->stop);
		for (unsigned int i = 0; i < nr; i++) {
			if (enough ? lines[i].next < enough : more)
				ask(&lines[i]);
			while (take(&lines[i], w)) {
				last = pair_now() + LIMIT;
				atomic_fetch_add(&w->answers, 1);
			}
			more |= lines[i].next < enough || lines[i].expected < lines[i].next;
		}
		check(shmipc_wait(ep, events, EVENTS, more ? MS : 0) >= 0);
		check(pair_now() < last);
	}
}

/* In good order: the servers have seen all, and end each stream themselves. */
static void close_lines(struct line *lines, struct shmipc_session **sessions, unsigned int nr)
{
	for (unsigned int i = 0; i < nr * STREAMS; i++)
		check_eq(shmipc_finish(lines[i].st), 0);
	for (unsigned int i = 0; i < nr * STREAMS; i++)
		check_eq(shmipc_read(lines[i].st, &(char){ 0 }, 1, LIMIT), 0);
	for (unsigned int i = 0; i < nr; i++) {
		check_eq(shmipc_session_error(sessions[i]), 0);
		shmipc_session_close(sessions[i]);
	}
}

static void resident(struct pair *p, void *arg)
{
	struct shmipc_session *sessions[SESSIONS];
	struct line lines[SESSIONS * STREAMS];
	struct world *w = arg;

	check_eq(shmipc_open(&p->ep, 0), 0);
	open_lines(p->ep, w, lines, sessions, SESSIONS);
	run_lines(p->ep, w, lines, SESSIONS * STREAMS, 0);
	close_lines(lines, sessions, SESSIONS);
}

static void visitor(struct pair *p, void *arg)
{
	struct shmipc_session *session;
	struct line lines[STREAMS];
	struct world *w = arg;

	check_eq(shmipc_open(&p->ep, 0), 0);
	while (!atomic_load(&w->stop)) {
		open_lines(p->ep, w, lines, &session, 1);
		run_lines(p->ep, w, lines, STREAMS, 1 + random() % 10);
		close_lines(lines, &session, 1);
		atomic_fetch_add(&w->visits, 1);
	}
}

/* ---- upgrade after upgrade ------------------------------------------------------- */

static struct fate fate_at(const struct moment *moment, bool late)
{
	return (struct fate){
		.moment = moment, .nth = 1 + random() % moment->one_of,
		.late_us = late ? 1 + random() % LATE_US : 0,
	};
}

/* Each moment in turn, at once and then late; now and then the other of the two has one, too. */
static void choose(struct world *w, size_t round)
{
	const struct moment *moment = &moments[round % MOMENTS];
	const struct moment *other = &moments[random() % MOMENTS];

	memset(w->fate, 0, sizeof(w->fate));
	w->fate[moment->role] = fate_at(moment, round / MOMENTS % 2);
	if (random() % 4 == 0 && other->role != moment->role)
		w->fate[other->role] = fate_at(other, true);
}

static void await_answers(struct world *w)
{
	unsigned long enough = atomic_load(&w->answers) + STEP;
	int64_t last = pair_now() + LIMIT;

	while (atomic_load(&w->answers) < enough) {
		check(pair_now() < last);
		usleep(200);
	}
}

static bool was_killed(struct pair *p)
{
	int status = pair_status(p);

	pair_close(p);
	if (status)
		check_eq(status, SIGKILL);
	return status;
}

/* @server is the one that serves: at first the old one, then its successor, or that one's. */
static void upgrade(struct world *w, struct pair *server, unsigned int kills[2])
{
	bool old_dies = w->fate[OLD].moment, next_dies = w->fate[NEXT].moment, killed;
	struct pair old = *server;

	pair_fork(server, next_server, w);
	pair_tell(&old);
	if (next_dies) {
		check(was_killed(server));
		kills[NEXT]++;
		w->fate[NEXT].moment = NULL;
		pair_fork(server, next_server, w);
	}
	pair_hear(server);
	/* Its time may come too late: then it has ended by itself. */
	killed = was_killed(&old);
	check(old_dies || !killed);
	kills[OLD] += killed;
	await_answers(w);
}

static void test_killed(void **state)
{
	size_t rounds = pair_scale(2 * MOMENTS, 6 * MOMENTS, 60 * MOMENTS);
	const char *given = getenv("SHMIPC_SEED");
	unsigned int seed = given ? strtoul(given, NULL, 0) : (unsigned int)pair_now();
	struct pair server, clients[2];
	unsigned int kills[2] = { 0 };
	struct world *w;

	(void)state;
	w = mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(w != MAP_FAILED);
	print_message("SHMIPC_SEED=%u\n", seed);
	srandom(seed);
	pair_unique(w->name);
	pair_fork(&server, first_server, w);
	pair_hear(&server);
	pair_fork(&clients[0], resident, w);
	pair_fork(&clients[1], visitor, w);
	await_answers(w);
	for (size_t i = 0; i < rounds; i++) {
		choose(w, i);
		upgrade(w, &server, kills);
	}
	atomic_store(&w->stop, true);
	pair_end(&clients[0]);
	pair_end(&clients[1]);
	pair_tell(&server);
	pair_end(&server);
	print_message("%zu upgrades, killed: %u old, %u new; adoptions: %u planned, %u after a "
		      "crash; %lu answers, %lu of them again, %lu visits\n", rounds, kills[OLD],
		      kills[NEXT], w->planned, w->crashed, w->answers, w->again, w->visits);
	/* Both ends of an upgrade were met, and both ways out of it. */
	check(kills[OLD] && kills[NEXT] && w->planned && w->crashed && w->visits);
	munmap(w, sizeof(*w));
}

int main(void)
{
	const struct CMUnitTest tests[] = { pair_test(test_killed) };

	if (!pair_is_kernel()) {
		puts("skip: over the module alone");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
