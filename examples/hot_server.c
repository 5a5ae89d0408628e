/* SPDX-License-Identifier: MIT */
/*
 * hot_server [-x drop|double|wrong] [NAME]: a server that is replaced under its clients
 *
 * SIGUSR2 starts its next version, which takes over the name, the sessions and all that lies in
 * them; the clients notice a pause. If it crashes, whoever starts it again (hot_server.service
 * shows how) makes it adopt what the dead one left. It is started in one way for all three.
 *
 * Between two versions, in good order, a request is answered once. After a crash it is answered at
 * least once: one that was answered, but not returned yet, comes again. It has the mark
 * SHMIPC_MSG_REDELIVERED, and here the answer passes the mark on, so that the client can tell. What
 * may be done twice must do no harm the second time: this answer has no effect but itself.
 *
 * -x makes a fault on purpose in every 1,000th answer, to see that hot_load finds it.
 * cc hot_server.c -lshmipc
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <shmipc/shmipc.h>
#include "hot_restart.h"

#define SECOND	1000000000LL
#define EVENTS	64

/* What one version tells the next. */
static struct state {
	uint64_t served;
} state;

static struct shmipc_options options = {
	.size = sizeof(options), .max_streams = 1024, .orphan_ms = 30000,
};
static struct shmipc_endpoint *endpoint;
static const char *name = "hot", *fault = "";
static unsigned long asked;
static char **arguments;
static pid_t next_version;

static const char *why(int error)
{
	const char *said = shmipc_last_error();

	return *said ? said : shmipc_strerror(error);
}

static void die(const char *what, int error)
{
	fprintf(stderr, "hot_server: %s: %s\n", what, why(error));
	exit(1);
}

/* Tells the service manager (sd_notify(3)): this is all of its protocol. */
static void notify(const char *format, ...)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	char text[256];
	va_list args;
	int fd;

	if (!path || strlen(path) >= sizeof(to.sun_path))
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	memcpy(to.sun_path, path, strlen(path));
	if (*path == '@')
		to.sun_path[0] = 0;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	sendto(fd, text, strlen(text), 0, (struct sockaddr *)&to,
	       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path)));
	close(fd);
}

/* ---- one version after another ---------------------------------------------- */

static pid_t start_next(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		execvp(arguments[0], arguments); /* what is at that path by now */
		_exit(127);
	}
	return pid;
}

static void complain(const char *what, const char *reason)
{
	fprintf(stderr, "hot_server: %s: %s\n", what, reason);
	notify("STATUS=%s: %s", what, reason);
}

/* SIGUSR2. It serves on; when the next version is ready, SHMIPC_EV_OFFER comes. */
static void upgrade(void)
{
	struct shmipc_offer_options offer = {
		.size = sizeof(offer), .flags = SHMIPC_OFFER_BY_NAME,
		.timeout_ns = 10 * SECOND, .state_max = sizeof(state),
	};
	int fd, err = shmipc_offer(endpoint, &offer, &fd);

	/* One that was started before, and ended before it adopted, has left its offer to another. */
	if (err == -EBUSY && kill(next_version, 0))
		err = 0;
	if (err)
		complain("no upgrade", why(err));
	else
		next_version = start_next();
}

/* Nothing is held or reserved here: between two messages is where the next version goes on. */
static void yield(void)
{
	int err = shmipc_yield(endpoint, &state, sizeof(state));

	if (err) {
		complain("serves on", shmipc_strerror(err));
		return;
	}
	/* Before this process ends, or its end looks like the service's. */
	notify("MAINPID=%d", (int)next_version);
	shmipc_close(endpoint);
	exit(0);
}

/* It may be busy for a moment: another adopts, or the one that offered has just died. */
static int adopt_when_free(void)
{
	int err, tries = 100;

	do
		err = shmipc_adopt(name, -1, &options, &endpoint, 10 * SECOND);
	while ((err == -EBUSY || err == -ECANCELED) && tries-- && !usleep(50000));
	return err;
}

/*
 * A version that crashed left no state: only what its streams tell, as far as they are still there.
 * Buffers this server has none; but the state of an upgrade that a crash cut short comes as one.
 */
static void go_on_with(const struct shmipc_adopted *item, int crashed)
{
	if (crashed && item->type == SHMIPC_ADOPTED_STREAM)
		state.served += item->sent / sizeof(struct answer);
	if (item->type == SHMIPC_ADOPTED_BUFFER)
		shmipc_buf_free(item->object);
}

/* Is there something to go on with, of a version that offers or of one that died? */
static const char *adopt(void)
{
	int crashed, err = adopt_when_free();
	struct shmipc_adopted item;
	const void *blob;
	size_t len;

	if (err == -ENOENT || err == -EOPNOTSUPP)
		return NULL;
	if (err)
		die("adopt", err);
	crashed = shmipc_adopted_state(endpoint, &blob, &len);
	if (!crashed && len == sizeof(state))
		memcpy(&state, blob, len);
	while (shmipc_adopted_next(endpoint, &item))
		go_on_with(&item, crashed);
	return crashed ? "recovered" : "took over";
}

static const char *begin(void)
{
	struct shmipc_listener *listener;
	int err;

	if ((err = shmipc_open(&endpoint, 0)))
		die("open", err);
	err = shmipc_listen(endpoint, name, &options, &listener);
	if (!err)
		return "started";
	if (err != -EOPNOTSUPP)
		die(name, err);
	fprintf(stderr, "hot_server: a crash will end all sessions: %s\n", why(err));
	options.orphan_ms = 0;
	if ((err = shmipc_listen(endpoint, name, &options, &listener)))
		die(name, err);
	return "started without orphans";
}

/* ---- serving ----------------------------------------------------------------- */

static void fill(struct answer *answer, const struct shmipc_message *message)
{
	const struct request *request = message->spans[0].data;

	answer->number = request->number;
	answer->served = ++state.served;
	answer->again = message->flags & SHMIPC_MSG_REDELIVERED ? 1 : 0;
	for (int i = 0; i < HOT_BODY; i++)
		answer->body[i] = (unsigned char)~request->body[i];
}

/* -x: with the fault the answer of a server that nobody wants, else just sends it. */
static void send_answer(struct shmipc_stream *stream, struct answer *answer)
{
	struct answer twice = *answer;
	bool faulty = *fault && ++asked % 1000 == 0;

	if (faulty && !strcmp(fault, "wrong"))
		answer->body[7]++;
	if (faulty && !strcmp(fault, "drop"))
		shmipc_cancel(stream);
	else
		shmipc_commit(stream, sizeof(*answer), 0);
	twice.served++;
	if (faulty && !strcmp(fault, "double"))
		shmipc_write(stream, &twice, sizeof(twice), 0, SECOND);
}

/*
 * First the room for the answer; without it the request stays unread until EV_WRITE says that there
 * is some. Then the request, held until its answer is out: only then is it done with.
 */
static void serve(struct shmipc_stream *stream)
{
	struct shmipc_message message;
	void *answer;
	int n = shmipc_reserve(stream, sizeof(struct answer), &answer, 0);

	if (n == -EAGAIN) {
		shmipc_stream_pause(stream, 1);
		return;
	}
	if (!n)
		n = shmipc_peek(stream, &message, 0);
	if (n == 1 && message.len == sizeof(struct request) && message.nspans == 1) {
		fill(answer, &message);
		/* If this fails, the next look at the stream says so. */
		send_answer(stream, answer);
		shmipc_return(stream, &message);
		return;
	}
	shmipc_cancel(stream);
	if (n != -EAGAIN && n != -ECANCELED)
		shmipc_stream_close(stream);
}

static void handle(const struct shmipc_event *event)
{
	struct shmipc_session *session;
	struct shmipc_stream *stream;

	switch (event->type) {
	case SHMIPC_EV_ACCEPT:
		while (shmipc_accept(event->object, &session, 0) == 0)
			;
		break;
	case SHMIPC_EV_STREAM:
		while (shmipc_stream_accept(event->object, &stream, 0) == 0)
			;
		break;
	case SHMIPC_EV_READ:
		serve(event->object);
		break;
	case SHMIPC_EV_WRITE:
		shmipc_stream_pause(event->object, 0);
		break;
	}
}

/* Closing a session frees its streams, which later events of the batch may name: it goes last. */
static void handle_all(const struct shmipc_event *events, int n)
{
	for (int i = 0; i < n; i++)
		handle(&events[i]);
	for (int i = 0; i < n; i++)
		if (events[i].type == SHMIPC_EV_CLOSED)
			shmipc_session_close(events[i].object);
	for (int i = 0; i < n; i++)
		if (events[i].type == SHMIPC_EV_OFFER)
			yield();
}

/* Through a descriptor: blocked, also across exec, they can't meet a new version too early. */
static int signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGCHLD, SIG_IGN);
	return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

static void run(int signal_fd)
{
	struct pollfd fds[2] = {
		{ .fd = shmipc_fd(endpoint), .events = POLLIN },
		{ .fd = signal_fd, .events = POLLIN },
	};
	struct signalfd_siginfo info;
	struct shmipc_event events[EVENTS];

	for (;;) {
		int n = shmipc_wait(endpoint, events, EVENTS, 0);

		if (n < 0)
			die("wait", n);
		handle_all(events, n);
		poll(fds, 2, n ? 0 : -1);
		if (!fds[1].revents || read(signal_fd, &info, sizeof(info)) != sizeof(info))
			continue;
		if (info.ssi_signo == SIGTERM)
			return;
		upgrade();
	}
}

int main(int argc, char **argv)
{
	const char *how;
	int c, signal_fd = signals();

	arguments = argv;
	while ((c = getopt(argc, argv, "x:")) != -1) {
		if (c != 'x')
			return 2;
		fault = optarg;
	}
	if (optind < argc)
		name = argv[optind];
	how = adopt();
	if (!how)
		how = begin();
	notify("READY=1\nMAINPID=%d\nSTATUS=%s", (int)getpid(), how);
	run(signal_fd);
	/* In good order: nobody is to adopt this. */
	shmipc_close(endpoint);
	return 0;
}
