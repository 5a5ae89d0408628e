/* SPDX-License-Identifier: MIT */
/*
 * hot_load [-c SESSIONS] [-n STREAMS] [-r REQUESTS] [NAME]: load for hot_server, and its judge
 *
 * Keeps some requests under way on each stream and looks at every answer: is it the next one, is
 * it right, does the server's count go on? An answer that comes a second time is doubled, unless
 * the server says that the request was delivered again, as after a crash; then it is dropped.
 *
 * For each byte on its input it prints "gap_us N" at the next answer: the longest time without
 * any answer since the byte before. At the end of the input, and after REQUESTS at least, it waits
 * for what is under way and prints a line of counts. Exits with 0 if all was well.
 * cc hot_load.c -lshmipc
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <shmipc/shmipc.h>
#include "hot_restart.h"

#define SECOND		1000000000LL
#define PATIENCE	(30 * SECOND)
#define DEPTH		4	/* requests under way on a stream */
#define EVENTS		64

struct stream {
	struct shmipc_stream *handle;
	uint64_t next;		/* request to send */
	uint64_t expected;	/* answer to come */
	uint64_t served;	/* as the last answer said */
};

static long nr_streams = 50, nr_sessions = 4, least = 10000;
static struct shmipc_endpoint *endpoint;
static struct stream *streams;
static uint64_t answers, first = UINT64_MAX, served, backwards, errors, lost, doubled, redelivered;
static int64_t last_answer, gap;
static bool stopping, mark;

static void die(const char *what, int error)
{
	const char *said = shmipc_last_error();

	fprintf(stderr, "hot_load: %s: %s\n", what, *said ? said : shmipc_strerror(error));
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * SECOND + ts.tv_nsec;
}

/* Of another stream or another number it would differ. */
static void fill(struct request *request, const struct stream *stream, uint64_t number)
{
	uint64_t x = number * 251 + (uint64_t)(stream - streams) * 7919;

	request->number = number;
	for (int i = 0; i < HOT_BODY; i++)
		request->body[i] = (unsigned char)(x >> i % 8 * 8) ^ (unsigned char)i;
}

static void ask(struct stream *stream)
{
	struct request request;
	ssize_t n;

	while (!stopping && stream->next - stream->expected < DEPTH) {
		fill(&request, stream, stream->next);
		n = shmipc_write(stream->handle, &request, sizeof(request), 0, 0);
		if (n == -EAGAIN)
			return; /* EV_WRITE will come */
		if (n != sizeof(request))
			die("write", n < 0 ? (int)n : -EIO);
		stream->next++;
	}
}

static void complain(const char *what, const struct stream *stream, uint64_t number)
{
	fprintf(stderr, "hot_load: stream %td: answer %llu is %s, expected was %llu\n",
		stream - streams, (unsigned long long)number, what,
		(unsigned long long)stream->expected);
}

static bool right(const struct stream *stream, const struct answer *answer)
{
	struct request request;

	fill(&request, stream, answer->number);
	for (int i = 0; i < HOT_BODY; i++)
		if (answer->body[i] != (unsigned char)~request.body[i])
			return false;
	return true;
}

/* Requests are answered in order, so what is neither the next nor a repetition tells of a loss. */
static void judge(struct stream *stream, const struct answer *answer)
{
	redelivered += answer->again;
	if (!right(stream, answer)) {
		complain("wrong", stream, answer->number);
		errors++;
	}
	backwards += answer->served <= stream->served;
	stream->served = answer->served;
	if (first > answer->served)
		first = answer->served;
	if (served < answer->served)
		served = answer->served;
	if (answer->number >= stream->next) {
		complain("to no request", stream, answer->number);
		errors++;
	} else if (answer->number >= stream->expected) {
		if (answer->number > stream->expected)
			complain("after a loss", stream, answer->number);
		lost += answer->number - stream->expected;
		stream->expected = answer->number + 1;
	} else if (!answer->again) {
		complain("doubled", stream, answer->number);
		doubled++;
	}
}

static void note_gap(void)
{
	int64_t now = now_ns();

	if (now - last_answer > gap)
		gap = now - last_answer;
	last_answer = now;
	if (!mark)
		return;
	printf("gap_us %lld\n", (long long)gap / 1000);
	fflush(stdout);
	gap = 0;
	mark = false;
}

static void take(struct stream *stream)
{
	struct answer answer;
	ssize_t n = shmipc_read(stream->handle, &answer, sizeof(answer), 0);

	if (n == -EAGAIN)
		return;
	if (n != sizeof(answer))
		die("read", n < 0 ? (int)n : -EIO);
	answers++;
	judge(stream, &answer);
	note_gap();
	ask(stream);
}

static void handle(const struct shmipc_event *event)
{
	if (event->type == SHMIPC_EV_CLOSED)
		die("session", shmipc_session_error(event->object));
	if (event->type == SHMIPC_EV_READ)
		take(event->user);
	else if (event->type == SHMIPC_EV_WRITE)
		ask(event->user);
}

static uint64_t under_way(void)
{
	uint64_t n = 0;

	for (long i = 0; i < nr_streams; i++)
		n += streams[i].next - streams[i].expected;
	return n;
}

/* True: there was one. */
static bool read_mark(void)
{
	char byte;

	mark = read(STDIN_FILENO, &byte, 1) == 1;
	return mark;
}

static void run(void)
{
	struct pollfd fds[2] = {
		{ .fd = shmipc_fd(endpoint), .events = POLLIN },
		{ .fd = STDIN_FILENO, .events = POLLIN },
	};
	struct shmipc_event events[EVENTS];

	last_answer = now_ns();
	for (long i = 0; i < nr_streams; i++)
		ask(&streams[i]);
	while (!stopping || under_way()) {
		int n = shmipc_wait(endpoint, events, EVENTS, 0);

		if (n < 0)
			die("wait", n);
		for (int i = 0; i < n; i++)
			handle(&events[i]);
		poll(fds, 2, n ? 0 : 1000);
		if (fds[1].revents && !read_mark())
			fds[1].fd = -1;
		stopping = fds[1].fd < 0 && answers >= (uint64_t)least;
		if (now_ns() - last_answer > PATIENCE)
			break;
	}
}

static void open_all(const char *name)
{
	struct shmipc_options options = { .size = sizeof(options), .max_streams = 1024 };
	struct shmipc_session *session = NULL;
	long each = (nr_streams + nr_sessions - 1) / nr_sessions;
	int err;

	streams = calloc((size_t)nr_streams, sizeof(*streams));
	if (!streams)
		die("memory", -ENOMEM);
	for (long i = 0; i < nr_streams; i++) {
		if (i % each == 0 &&
		    (err = shmipc_connect(endpoint, name, &options, &session, PATIENCE)))
			die(name, err);
		if ((err = shmipc_stream_open(session, &streams[i].handle)))
			die("stream", err);
		shmipc_stream_set_user(streams[i].handle, &streams[i]);
	}
}

int main(int argc, char **argv)
{
	int c, err;

	while ((c = getopt(argc, argv, "c:n:r:")) != -1)
		switch (c) {
		case 'c': nr_sessions = atol(optarg); break;
		case 'n': nr_streams = atol(optarg); break;
		case 'r': least = atol(optarg); break;
		default: return 2;
		}
	if ((err = shmipc_open(&endpoint, 0)))
		die("open", err);
	open_all(optind < argc ? argv[optind] : "hot");
	run();
	lost += under_way();
	/*
	 * It counted every answer that came, through all upgrades and crashes, and no other: where
	 * this was its first client, for after a crash it knows only of streams that are still there.
	 */
	if (first == 1 && (served != answers || backwards)) {
		fprintf(stderr, "hot_load: the server counted %llu answers, %llu came, %llu times back\n",
			(unsigned long long)served, (unsigned long long)answers,
			(unsigned long long)backwards);
		errors++;
	}
	printf("provider: %s requests: %llu errors: %llu lost: %llu doubled: %llu redelivered: %llu\n",
	       shmipc_provider(endpoint), (unsigned long long)answers, (unsigned long long)errors,
	       (unsigned long long)lost, (unsigned long long)doubled,
	       (unsigned long long)redelivered);
	shmipc_close(endpoint);
	return errors || lost || doubled;
}
