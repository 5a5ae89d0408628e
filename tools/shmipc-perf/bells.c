// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * bells.c - what waking many sleepers costs who wakes them
 *
 * So many peers sleep, all with their message there and the doorbell put off; then one call rings.
 * They are processes with an endpoint each, or sessions of one endpoint, which is one sleeper.
 * Beside it, as many processes that sleep on an eventfd each, woken by a write each. The time is
 * that of the calls that ring alone: the peers are of a scheduling class that does not preempt.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <shmipc/shmipc.h>
#include "bells.h"
#include "perf.h"
#include "transport.h"

#define EVENTS	64

static const struct shmipc_options options = {
	.size = sizeof(options), .max_per_uid = 2 * CHANNELS_MAX,
};

static _Atomic(unsigned int) *woken;	/* times, by all peers */
static pid_t pids[CHANNELS_MAX];
static unsigned int nr_pids;
static int bells[CHANNELS_MAX];
static struct shmipc_endpoint *ringer;
static struct shmipc_stream *streams[CHANNELS_MAX];
static char name[64];

/* ---- peers ----------------------------------------------------------------------- */

static void connect_peer(struct shmipc_endpoint *ep)
{
	struct shmipc_session *session;
	struct shmipc_stream *stream;
	int err = shmipc_connect(ep, name, &options, &session, SHMIPC_FOREVER);

	if (!err)
		err = shmipc_stream_open(session, &stream);
	if (!err)
		err = shmipc_flush(stream);
	if (err)
		die("connect", err);
}

static void take(struct shmipc_stream *stream)
{
	uint64_t word;

	if (shmipc_read(stream, &word, sizeof(word), 0) == sizeof(word))
		(*woken)++;
}

static _Noreturn void sleep_on_endpoint(unsigned int sessions)
{
	struct shmipc_event events[EVENTS];
	struct shmipc_endpoint *ep;
	int n = shmipc_open(&ep, 0);

	if (n)
		die("open", n);
	while (sessions--)
		connect_peer(ep);
	while ((n = shmipc_wait(ep, events, EVENTS, SHMIPC_FOREVER)) > 0)
		for (int i = 0; i < n; i++)
			if (events[i].type == SHMIPC_EV_READ)
				take(events[i].object);
	die("wait", n);
}

static _Noreturn void sleep_on_eventfd(int fd)
{
	eventfd_t n;

	while (!eventfd_read(fd, &n))
		(*woken)++;
	die("eventfd", 0);
}

/* True in the child. */
static bool start_peer(void)
{
	static const struct sched_param none;
	pid_t child = fork();

	if (child < 0)
		die("fork", 0);
	if (child) {
		pids[nr_pids++] = child;
		return false;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (sched_setscheduler(0, SCHED_BATCH, &none))
		die("sched_setscheduler", 0);
	return true;
}

static void end_peers(void)
{
	for (; nr_pids; nr_pids--) {
		kill(pids[nr_pids - 1], SIGKILL);
		waitpid(pids[nr_pids - 1], NULL, 0);
	}
}

/* ---- who rings -------------------------------------------------------------------- */

static bool asleep(pid_t pid)
{
	char path[64], state = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f)
		die(path, 0);
	if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
		state = 0;
	fclose(f);
	if (state == 'Z')
		die("a peer has ended", -EPIPE);
	return state == 'S';
}

/* Until all have had what was rung for, and sleep again. */
static void settle(unsigned int count)
{
	while (*woken != count)
		sched_yield();
	for (unsigned int i = 0; i < nr_pids; i++)
		while (!asleep(pids[i]))
			sched_yield();
}

static void ring_eventfds(unsigned int peers)
{
	for (unsigned int i = 0; i < peers; i++)
		if (eventfd_write(bells[i], 1))
			die("eventfd", 0);
}

static void cork(unsigned int peers)
{
	uint64_t word = 1;

	for (unsigned int i = 0; i < peers; i++)
		if (shmipc_write(streams[i], &word, sizeof(word), SHMIPC_CORK, 0) != sizeof(word))
			die("write", -EIO);
}

/* The call that rings for all sessions of an endpoint is the one that looks for events. */
static void ring_streams(unsigned int peers)
{
	struct shmipc_event event;
	int n = shmipc_wait(ringer, &event, 1, 0);

	(void)peers;
	if (n)
		die("an event", n < 0 ? n : -EBADMSG);
}

static void nothing(unsigned int peers)
{
	(void)peers;
}

static void time_rings(const char *what, unsigned int peers, unsigned int runs,
		       void (*prepare)(unsigned int peers), void (*ring)(unsigned int peers))
{
	double times[RUNS_MAX] = { 0 };

	*woken = 0;
	settle(0);
	/* The first is not counted. */
	for (unsigned int run = 0; run <= runs; run++) {
		double start;

		prepare(peers);
		start = now();
		ring(peers);
		times[run ? run - 1 : 0] = now() - start;
		settle((run + 1) * peers);
	}
	printf("bells: %u %s:", peers, what);
	report(times, runs, "");
	end_peers();
}

static void accept_all(struct shmipc_listener *listener, unsigned int peers)
{
	for (unsigned int i = 0; i < peers; i++) {
		struct shmipc_session *session;
		int err = shmipc_accept(listener, &session, SHMIPC_FOREVER);

		if (!err)
			err = shmipc_stream_accept(session, &streams[i], SHMIPC_FOREVER);
		if (err)
			die("accept", err);
	}
}

/* @together: all sessions are of one endpoint. */
static void time_streams(unsigned int peers, unsigned int runs, bool together)
{
	struct shmipc_listener *listener = NULL;
	int err = shmipc_open(&ringer, 0);

	if (!err)
		err = shmipc_listen(ringer, name, &options, &listener);
	if (err)
		die("listen", err);
	for (unsigned int i = 0; i < (together ? 1 : peers); i++)
		if (start_peer())
			sleep_on_endpoint(together ? peers : 1);
	accept_all(listener, peers);
	shmipc_listener_close(listener);
	time_rings(together ? "sessions of one endpoint" : "sessions of as many endpoints", peers,
		   runs, cork, ring_streams);
	shmipc_close(ringer);
}

void measure_bells(unsigned int peers, unsigned int runs)
{
	void *shared = mmap(NULL, sizeof(*woken), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (shared == MAP_FAILED)
		die("mmap", 0);
	woken = shared;
	snprintf(name, sizeof(name), "shmipc-perf/%d", getpid());
	for (unsigned int i = 0; i < peers; i++) {
		bells[i] = eventfd(0, 0);
		if (bells[i] < 0)
			die("eventfd", 0);
		if (start_peer())
			sleep_on_eventfd(bells[i]);
	}
	time_rings("eventfds", peers, runs, nothing, ring_eventfds);
	time_streams(peers, runs, false);
	time_streams(peers, runs, true);
}
