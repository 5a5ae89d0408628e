// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * pause.c - how long a planned handover keeps a client waiting
 *
 * A server with many sessions and mapped buffers is replaced by a new process of this program, once a run.
 * Before that its client asks as often as it was told to, and then once more: this request lies
 * there when the server calls shmipc_yield(), and its successor answers it. The pause is the time
 * from that call to that answer.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <shmipc/shmipc.h>
#include "perf.h"

#define SESSIONS_MAX	1024
#define MIB_MAX		4096
#define BUFFER_MIB	16		/* of a buffer, at most */
#define BUFFERS_MAX	(MIB_MAX / BUFFER_MIB)
#define EVENTS		64
#define SECOND		((int64_t)1000000000)
#define PATIENCE	(60 * SECOND)
#define PAGE		4096
#define ROUND		512		/* requests that take each ring of a session once round */

enum request { ASK, MOVE, END };

/* Between processes: when each of a handover's steps was. Also across exec, by the descriptor. */
static struct steps {
	double yielding, adopted;
} *steps;
static int steps_fd;

static const struct shmipc_options options = {
	.size = sizeof(options), .backlog = 16, .max_per_uid = SESSIONS_MAX,
};

int pause_parse(const char *text, struct pause_size *size)
{
	char rest;

	if (sscanf(text, "%u,%u,%lu%c", &size->sessions, &size->mib, &size->requests, &rest) != 3 ||
	    !size->sessions || size->sessions > SESSIONS_MAX || size->mib > MIB_MAX)
		return -1;
	return 0;
}

/* ---- server ------------------------------------------------------------------ */

struct server {
	struct shmipc_endpoint *ep;
	struct shmipc_buf *bufs[BUFFERS_MAX];
	unsigned int nr_bufs;
};

static _Noreturn void serve(struct server *server);

static void make_buffers(struct server *server, unsigned int mib)
{
	while (mib) {
		unsigned int part = mib < BUFFER_MIB ? mib : BUFFER_MIB;
		int err = shmipc_buf_new(server->ep, (size_t)part << 20,
					 &server->bufs[server->nr_bufs++]);

		if (err)
			die("buffer", err);
		mib -= part;
	}
}

/* A page that nobody touched is not mapped, and would cost the pause nothing. */
static void map_all(struct server *server)
{
	struct shmipc_adopted item;

	while (shmipc_adopted_next(server->ep, &item))
		if (item.type == SHMIPC_ADOPTED_BUFFER && server->nr_bufs < BUFFERS_MAX)
			server->bufs[server->nr_bufs++] = item.object;
	for (unsigned int i = 0; i < server->nr_bufs; i++) {
		volatile char *data = shmipc_buf_data(server->bufs[i]);

		for (size_t at = 0; at < shmipc_buf_size(server->bufs[i]); at += PAGE)
			data[at]++;
	}
}

static void await_event(struct shmipc_endpoint *ep, uint32_t type)
{
	struct shmipc_event event;
	int n;

	do {
		n = shmipc_wait(ep, &event, 1, PATIENCE);
		if (n <= 0)
			die("wait", n ? n : -ETIMEDOUT);
	} while (event.type != type);
}

static void answer(struct shmipc_stream *stream, uint64_t request)
{
	ssize_t n = shmipc_write(stream, &request, sizeof(request), 0, PATIENCE);

	if (n != sizeof(request))
		die("answer", (int)n);
}

static void map_steps(void)
{
	steps = mmap(NULL, sizeof(*steps), PROT_READ | PROT_WRITE, MAP_SHARED, steps_fd, 0);
	if (steps == MAP_FAILED)
		die("mmap", 0);
}

/* As an upgrade does it: nothing of the old program's memory, which a fork would have to copy. */
static void exec_successor(int fd)
{
	char fds[32];

	snprintf(fds, sizeof(fds), "%d,%d", fd, steps_fd);
	if (fcntl(fd, F_SETFD, 0) || fcntl(steps_fd, F_SETFD, 0))
		die("fcntl", 0);
	execl("/proc/self/exe", "shmipc-perf", "--successor", fds, (char *)NULL);
	die("exec", 0);
}

void pause_succeed(const char *fds)
{
	struct server server = { 0 };
	int fd, err;

	if (sscanf(fds, "%d,%d", &fd, &steps_fd) != 2)
		die("--successor", -EINVAL);
	map_steps();
	err = shmipc_adopt(NULL, fd, &options, &server.ep, PATIENCE);
	if (err)
		die("adopt", err);
	steps->adopted = now();
	close(fd);
	serve(&server);
}

static void move(struct server *server, struct shmipc_stream *stream)
{
	struct shmipc_offer_options offer = { .size = sizeof(offer), .timeout_ns = PATIENCE };
	int fd, err;
	pid_t child;

	map_all(server);
	err = shmipc_offer(server->ep, &offer, &fd);
	if (err)
		die("offer", err);
	child = fork();
	if (child < 0)
		die("fork", 0);
	if (!child)
		exec_successor(fd);
	await_event(server->ep, SHMIPC_EV_OFFER);
	answer(stream, MOVE);
	/* The next request is there, and its client sleeps. */
	await_event(server->ep, SHMIPC_EV_READ);
	steps->yielding = now();
	err = shmipc_yield(server->ep, NULL, 0);
	if (err)
		die("yield", err);
	shmipc_close(server->ep);
	exit(0);
}

static void serve_stream(struct server *server, struct shmipc_stream *stream)
{
	uint64_t request;
	ssize_t n = shmipc_read(stream, &request, sizeof(request), 0);

	if (n == -EAGAIN)
		return;
	if (n != sizeof(request))
		die("request", (int)n);
	if (request == MOVE)
		move(server, stream);
	answer(stream, request);
	if (request != END)
		return;
	shmipc_close(server->ep);
	exit(0);
}

static void serve_event(struct server *server, const struct shmipc_event *event)
{
	struct shmipc_session *session;
	struct shmipc_stream *stream;

	if (event->type == SHMIPC_EV_ACCEPT)
		while (!shmipc_accept(event->object, &session, 0))
			;
	else if (event->type == SHMIPC_EV_STREAM)
		while (!shmipc_stream_accept(event->object, &stream, 0))
			;
	else if (event->type == SHMIPC_EV_READ)
		serve_stream(server, event->object);
	else if (event->type == SHMIPC_EV_CLOSED)
		exit(1);	/* the client failed, and has said why */
}

static _Noreturn void serve(struct server *server)
{
	struct shmipc_event events[EVENTS];

	for (;;) {
		int n = shmipc_wait(server->ep, events, EVENTS, SHMIPC_FOREVER);

		if (n < 0)
			die("wait", n);
		for (int i = 0; i < n; i++)
			serve_event(server, &events[i]);
	}
}

static void first_server(const char *name, unsigned int mib)
{
	struct shmipc_listener *listener;
	struct server server = { 0 };
	int err = shmipc_open(&server.ep, 0);

	if (err)
		die("open", err);
	make_buffers(&server, mib);
	err = shmipc_listen(server.ep, name, &options, &listener);
	if (err)
		die("listen", err);
	serve(&server);
}

/* ---- client ------------------------------------------------------------------ */

static void ask(struct shmipc_stream *stream, uint64_t request)
{
	uint64_t word = request;
	ssize_t n = shmipc_write(stream, &word, sizeof(word), SHMIPC_CORK, PATIENCE);

	if (n == sizeof(word))
		n = shmipc_read(stream, &word, sizeof(word), PATIENCE);
	if (n == -EPIPE)
		exit(1);	/* the server failed, and has said why */
	if (n != sizeof(word) || word != request)
		die("answer", n < 0 ? (int)n : -EIO);
}

static void connect_all(struct shmipc_endpoint *ep, const char *name,
			struct shmipc_stream **streams, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		struct shmipc_session *session;
		int err, tries = 0;

		/* The server may not have the name yet. */
		while ((err = shmipc_connect(ep, name, &options, &session, PATIENCE)) == -ENOENT &&
		       tries++ < 3000)
			usleep(10000);
		if (!err)
			err = shmipc_stream_open(session, &streams[i]);
		if (err)
			die("connect", err);
		ask(streams[i], ASK);
	}
}

static void ask_all(struct shmipc_stream **streams, unsigned int nr, unsigned long requests)
{
	for (unsigned long i = 0; i < requests; i++)
		ask(streams[i % nr], ASK);
}

/* One handover after so many requests. */
static void pass_on(struct shmipc_stream **streams, const struct pause_size *size, double *pause,
		    double *adopting)
{
	ask_all(streams, size->sessions, size->requests);
	ask(streams[0], MOVE);
	ask(streams[0], ASK);
	*pause = now() - steps->yielding;
	*adopting = steps->adopted - steps->yielding;
}

void measure_pause(const struct pause_size *size, unsigned int runs, double *pauses,
		   double *adopting)
{
	static struct shmipc_stream *streams[SESSIONS_MAX];
	struct shmipc_endpoint *ep;
	char name[64];
	pid_t child;
	int err;

	snprintf(name, sizeof(name), "shmipc-perf/%d", getpid());
	if (access("/proc/self/exe", X_OK))
		die("/proc/self/exe", 0);
	steps_fd = memfd_create("shmipc-perf", MFD_CLOEXEC);
	if (steps_fd < 0 || ftruncate(steps_fd, sizeof(*steps)))
		die("memfd", 0);
	map_steps();
	/* A server's successor is its child, and ours once that one has ended. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	child = fork();
	if (child < 0)
		die("fork", 0);
	if (!child)
		first_server(name, size->mib);
	err = shmipc_open(&ep, 0);
	if (err)
		die("open", err);
	connect_all(ep, name, streams, size->sessions);
	/* Rings that were never full are looked at sooner: all runs find them alike. */
	if (size->requests)
		ask_all(streams, size->sessions, (unsigned long)ROUND * size->sessions);
	/* The first server was never a successor: what it hands over is not counted. */
	for (unsigned int i = 0; i <= runs; i++)
		pass_on(streams, size, &pauses[i ? i - 1 : 0], &adopting[i ? i - 1 : 0]);
	ask(streams[0], END);
	shmipc_close(ep);
	while (wait(NULL) > 0)
		;
	munmap(steps, sizeof(*steps));
	close(steps_fd);
}
