// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * kill -9 at any moment. The survivor gets all that was published, then -EPIPE; it learns that
 * the other died, not closed; and it can begin anew with the same name.
 */
#include "checker.h"
#include "pair.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define CHUNK	3000

/* What the victim did, where its death can't take it away. */
struct deeds {
	volatile uint64_t sent;		/* bytes whose write returned */
	volatile uint64_t read;
	volatile pid_t grandchild;
};

static struct deeds *deeds;

static void share_deeds(void)
{
	if (!deeds)
		deeds = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(deeds != MAP_FAILED);
	memset(deeds, 0, sizeof(*deeds));
}

static size_t length_at(uint64_t position)
{
	return position * 2654435761U % 7 ? 1 + position % 90 : 1 + position % CHUNK;
}

/* Both directions at once, of a stream each, until one side dies. */
static int traffic(struct shmipc_stream *out, struct shmipc_stream *in, struct deeds *mine,
		   uint64_t key, struct checker *theirs)
{
	char buf[CHUNK];
	uint64_t sent = 0;
	ssize_t n;

	for (;;) {
		size_t len = length_at(sent);

		fill(buf, len, key, sent);
		n = shmipc_write(out, buf, len, 0, 0);
		if (n < 0 && n != -EAGAIN)
			return n;
		sent += n > 0 ? n : 0;
		if (mine)
			mine->sent = sent;
		n = shmipc_read(in, buf, sizeof(buf), n > 0 ? 0 : MS);
		if (n == -EAGAIN || n == -ETIMEDOUT)
			continue;
		if (n <= 0)
			return n;
		check(!checker_take(theirs, buf, n));
		if (mine)
			mine->read = theirs->position;
	}
}

static void victim(struct pair *p, void *arg)
{
	struct checker theirs = { .key = 6 };
	struct shmipc_stream *out, *in;

	(void)arg;
	check_eq(shmipc_stream_open(p->session, &out), 0);
	check_eq(shmipc_write(out, "!", 1, 0, LIMIT), 1);
	check_eq(shmipc_stream_accept(p->session, &in, LIMIT), 0);
	check_eq(shmipc_read(in, (char[1]){ 0 }, 1, LIMIT), 1);
	traffic(out, in, deeds, 7, &theirs);
	check(!"it was to be killed");
}

static void *killer(void *arg)
{
	struct pair *p = arg;

	usleep(random() % 3000);
	kill(p->child, SIGKILL);
	return NULL;
}

/* What must still come, comes; then -EPIPE, which it stays. */
static void last_words(struct pair *p, struct shmipc_stream *out, struct shmipc_stream *in,
		       struct checker *c)
{
	char buf[CHUNK];
	ssize_t n;

	while ((n = shmipc_read(in, buf, sizeof(buf), LIMIT)) > 0)
		check(!checker_take(c, buf, n));
	check_eq(n, -EPIPE);
	check(c->position >= deeds->sent);
	check_eq(shmipc_session_error(p->session), -EOWNERDEAD);
	check_eq(shmipc_write(out, "x", 1, 0, LIMIT), -EPIPE);
	check_eq(shmipc_read(in, buf, 1, 0), -EPIPE);
	check_eq(shmipc_stream_open(p->session, &out), -EOWNERDEAD);
	check_eq(shmipc_stream_accept(p->session, &out, LIMIT), -EOWNERDEAD);
}

static void one_kill(unsigned int flags)
{
	struct shmipc_stream *out, *in;
	struct shmipc_endpoint *ep;
	struct shmipc_listener *listener;
	struct checker theirs = { .key = 7 };
	pthread_t thread;
	char c, name[64];
	struct pair p;
	int err;

	share_deeds();
	pair_start(&p, NULL, flags, victim, NULL);
	check_eq(shmipc_stream_open(p.session, &out), 0);
	check_eq(shmipc_write(out, "!", 1, 0, LIMIT), 1);
	check_eq(shmipc_stream_accept(p.session, &in, LIMIT), 0);
	check_eq(shmipc_read(in, &c, 1, LIMIT), 1);
	pthread_create(&thread, NULL, killer, &p);
	err = traffic(out, in, NULL, 6, &theirs);
	check_eq(err, -EPIPE);
	pthread_join(thread, NULL);
	pair_kill(&p);
	last_words(&p, out, in, &theirs);
	strcpy(name, p.name);
	pair_close(&p);

	/* Nothing of the name is left, whoever had it. */
	check_eq(shmipc_open(&ep, 0), 0);
	check_eq(shmipc_listen(ep, name, NULL, &listener), 0);
	shmipc_close(ep);
}

static void kills(unsigned int flags)
{
	unsigned int n = pair_scale(20, 100, 1000);
	int64_t start = pair_now();
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < n; i++) {
		one_kill(flags);
		bytes += deeds->sent;
	}
	print_message("%u kills in %lld ms, %llu bytes sent before them\n", n,
		      (long long)((pair_now() - start) / MS), (unsigned long long)bytes);
	check(bytes > n * 100);
}

static void test_kill_connector(void **state)
{
	(void)state;
	kills(0);
}

static void test_kill_listener(void **state)
{
	(void)state;
	kills(CHILD_LISTENS);
}

/* ---- asleep in each kind of wait --------------------------------------------- */

static void sleeper(struct pair *p, void *arg)
{
	struct shmipc_stream *st;

	(void)arg;
	check_eq(shmipc_stream_open(p->session, &st), 0);
	check_eq(shmipc_write(st, "last", 4, 0, LIMIT), 4);
	pair_tell(p);
	pause();
}

static void *kill_later(void *arg)
{
	usleep(20000);
	kill(((struct pair *)arg)->child, SIGKILL);
	return NULL;
}

static void slept(struct pair *p, pthread_t thread, struct shmipc_stream *st, int64_t result)
{
	char buf[8];

	check_eq(result, -EPIPE);
	pthread_join(thread, NULL);
	pair_kill(p);
	if (!st)
		check_eq(shmipc_stream_accept(p->session, &st, 0), 0);
	check_eq(shmipc_read(st, buf, sizeof(buf), 0), 4);
	check_eq(shmipc_read(st, buf, sizeof(buf), 0), -EPIPE);
	pair_close(p);
}

static struct shmipc_stream *met(struct pair *p, pthread_t *thread)
{
	struct shmipc_stream *st;

	pair_start(p, NULL, 0, sleeper, NULL);
	check_eq(shmipc_stream_accept(p->session, &st, LIMIT), 0);
	pair_hear(p);
	pthread_create(thread, NULL, kill_later, p);
	return st;
}

static void test_while_reading(void **state)
{
	struct shmipc_stream *st;
	struct shmipc_message m;
	pthread_t thread;
	struct pair p;

	(void)state;
	st = met(&p, &thread);
	check_eq(shmipc_peek(st, &m, LIMIT), 1);
	/* Held over the death of its sender: memory stays. */
	struct shmipc_message next;
	int result = shmipc_peek(st, &next, LIMIT);

	check_eq(result, -EPIPE);
	check_eq(m.len, 4);
	check(!memcmp(m.spans[0].data, "last", 4));
	check_eq(shmipc_return(st, &m), 0);
	pthread_join(thread, NULL);
	pair_kill(&p);
	pair_close(&p);
}

static void test_while_writing(void **state)
{
	static char buf[100000];
	struct shmipc_stream *st;
	pthread_t thread;
	struct pair p;
	ssize_t n;

	(void)state;
	st = met(&p, &thread);
	do {
		n = shmipc_write(st, buf, sizeof(buf), 0, LIMIT);
	} while (n == sizeof(buf));
	slept(&p, thread, st, n);
}

static void await_closed(struct pair *p)
{
	struct shmipc_event events[4];

	for (;;) {
		int n = shmipc_wait(p->ep, events, 4, LIMIT);

		check(n > 0);
		for (int i = 0; i < n; i++)
			if (events[i].type == SHMIPC_EV_CLOSED && events[i].object == p->session)
				return;
	}
}

static void test_while_waiting(void **state)
{
	struct shmipc_stream *st;
	pthread_t thread;
	struct pair p;
	char buf[8];

	(void)state;
	st = met(&p, &thread);
	check_eq(shmipc_read(st, buf, sizeof(buf), LIMIT), 4);
	await_closed(&p);
	check_eq(shmipc_session_error(p.session), -EOWNERDEAD);
	pthread_join(thread, NULL);
	pair_kill(&p);
	pair_close(&p);
}

/* Told that it died, and all that it had published is there still: nobody looked in between. */
#define MESSAGES	40

static void writer(struct pair *p, void *arg)
{
	struct shmipc_stream *st;

	(void)arg;
	check_eq(shmipc_stream_open(p->session, &st), 0);
	check_eq(shmipc_write(st, "!", 1, 0, LIMIT), 1);
	pair_hear(p);
	for (unsigned int i = 0; i < MESSAGES; i++)
		check_eq(shmipc_write(st, &i, sizeof(i), 0, LIMIT), sizeof(i));
	pair_tell(p);
	pause();
}

static void test_unread_at_death(void **state)
{
	struct shmipc_stream *st;
	unsigned int word;
	struct pair p;
	char c;

	(void)state;
	pair_start(&p, NULL, 0, writer, NULL);
	check_eq(shmipc_stream_accept(p.session, &st, LIMIT), 0);
	check_eq(shmipc_read(st, &c, 1, LIMIT), 1);
	/* It sleeps, and so leaves it to the bell to say that there is something. */
	check_eq(shmipc_read(st, &c, 1, 5000000), -ETIMEDOUT);
	pair_tell(&p);
	pair_hear(&p);
	pair_kill(&p);
	await_closed(&p);
	for (unsigned int i = 0; i < MESSAGES; i++) {
		check_eq(shmipc_read(st, &word, sizeof(word), 0), sizeof(word));
		check_eq(word, i);
	}
	check_eq(shmipc_read(st, &word, sizeof(word), 0), -EPIPE);
	pair_close(&p);
}

/* ---- a child of the dead ------------------------------------------------------- */

static void parent_of_sleeper(struct pair *p, void *arg)
{
	(void)arg;
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, 0);
		for (;;)
			pause();
	}
	deeds->grandchild = pid;
	pair_tell(p);
	pause();
}

/* It holds every descriptor of the victim, but not its memory: dead is dead. */
static void with_forked_child(unsigned int flags)
{
	struct shmipc_listener *listener;
	struct shmipc_stream *st;
	struct shmipc_endpoint *ep;
	struct pair p;
	char name[64], c;
	int err;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	share_deeds();
	pair_start(&p, NULL, flags, parent_of_sleeper, NULL);
	pair_hear(&p);
	check_eq(shmipc_stream_open(p.session, &st), 0);
	pair_kill(&p);
	check_eq(shmipc_read(st, &c, 1, LIMIT), -EPIPE);
	check_eq(shmipc_session_error(p.session), -EOWNERDEAD);
	strcpy(name, p.name);
	pair_close(&p);
	check_eq(shmipc_open(&ep, 0), 0);
	err = shmipc_listen(ep, name, NULL, &listener);
	print_message("the name of a listener whose forked child lives: %s\n",
		      shmipc_strerror(err));
	check_eq(err, 0);
	shmipc_close(ep);
	check(deeds->grandchild > 0);
	kill(deeds->grandchild, SIGKILL);
	check_eq(waitpid(deeds->grandchild, NULL, 0), deeds->grandchild);
}

static void test_forked_child_connector(void **state)
{
	(void)state;
	with_forked_child(0);
}

static void test_forked_child_listener(void **state)
{
	(void)state;
	with_forked_child(CHILD_LISTENS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		pair_test(test_kill_connector), pair_test(test_kill_listener),
		pair_test(test_while_reading), pair_test(test_while_writing),
		pair_test(test_while_waiting), pair_test(test_unread_at_death),
		pair_test(test_forked_child_connector), pair_test(test_forked_child_listener),
	};

	srandom(time(NULL));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
