/* SPDX-License-Identifier: MIT */
/*
 * stream_load [-n STREAMS] [-c SESSIONS] [-s SECONDS] [-b BYTES] [NAME]: load for stream_server
 *
 * Keeps one request under way on each stream, checks every byte of each reply, prints the requests
 * a second, and at the end how many were under way at once at most. Exits with 0 if every request
 * was answered, and rightly.
 * cc stream_load.c -lshmipc
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <shmipc/shmipc.h>

#define SECOND		1000000000LL
#define MESSAGE_MAX	1024
#define EVENTS		64
#define PATIENCE	(30 * SECOND)

struct stream {
	struct shmipc_stream *handle;
	uint64_t number;	/* of the request, over all streams */
	bool waiting;		/* for its reply */
};

static long nr_streams = 500, nr_sessions = 1, seconds = 10, bytes = 64;
static struct shmipc_endpoint *endpoint;
static struct stream *streams;
static uint64_t requests, replies;
static long outstanding, most;
static bool stopping;

static void die(const char *what, int error)
{
	const char *why = shmipc_last_error();

	fprintf(stderr, "stream_load: %s: %s\n", what, *why ? why : shmipc_strerror(error));
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * SECOND + ts.tv_nsec;
}

/* What request @number holds: of another stream or another time, it would differ. */
static void fill(unsigned char *data, uint64_t number)
{
	memset(data, (int)(number % 251), (size_t)bytes);
	memcpy(data, &number, sizeof(number));
}

static void request(struct stream *stream)
{
	unsigned char data[MESSAGE_MAX];
	ssize_t n;

	fill(data, requests);
	n = shmipc_write(stream->handle, data, (size_t)bytes, SHMIPC_CORK, 0);
	if (n == -EAGAIN)
		return; /* EV_WRITE will come */
	if (n != bytes)
		die("write", n < 0 ? (int)n : -EIO);
	stream->number = requests++;
	stream->waiting = true;
	if (++outstanding > most)
		most = outstanding;
}

static void reply(struct stream *stream)
{
	unsigned char data[MESSAGE_MAX + 1], right[MESSAGE_MAX];
	ssize_t n = shmipc_read(stream->handle, data, sizeof(data), 0);

	if (n == -EAGAIN)
		return;
	if (n <= 0)
		die("read", n ? (int)n : -EPIPE);
	fill(right, stream->number);
	right[0]++;
	if (!stream->waiting || n != bytes || memcmp(data, right, (size_t)bytes) != 0) {
		fprintf(stderr, "stream_load: wrong reply to request %llu: %zd bytes\n",
			(unsigned long long)stream->number, n);
		exit(1);
	}
	stream->waiting = false;
	outstanding--;
	replies++;
	if (!stopping)
		request(stream);
}

static void handle(const struct shmipc_event *event)
{
	struct stream *stream = event->user;

	if (event->type == SHMIPC_EV_CLOSED)
		die("session", shmipc_session_error(event->object));
	if (event->type == SHMIPC_EV_READ)
		reply(stream);
	else if (event->type == SHMIPC_EV_WRITE && !stream->waiting && !stopping)
		request(stream);
}

/* Until @deadline, or until nothing is outstanding. */
static void run(int64_t deadline)
{
	struct shmipc_event events[EVENTS];
	int64_t left;
	int n;

	while (outstanding && (left = deadline - now_ns()) > 0) {
		n = shmipc_wait(endpoint, events, EVENTS, left);
		if (n < 0)
			die("wait", n);
		for (int i = 0; i < n; i++)
			handle(&events[i]);
	}
}

static void open_all(const char *name)
{
	struct shmipc_options options = { .size = sizeof(options) };
	struct shmipc_session *session = NULL;
	long each = (nr_streams + nr_sessions - 1) / nr_sessions;
	int err;

	/* Each side may open half of them. */
	options.max_streams = each * 2 > 128 ? (uint32_t)each * 2 : 128;
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

static long number(const char *arg, long min, long max)
{
	char *end;
	long n = strtol(arg, &end, 10);

	if (*end || n < min || n > max) {
		fprintf(stderr, "stream_load: %s is not a number from %ld to %ld\n", arg, min, max);
		exit(2);
	}
	return n;
}

int main(int argc, char **argv)
{
	uint64_t before = 0;
	int64_t second;
	int c, err;

	while ((c = getopt(argc, argv, "n:c:s:b:")) != -1)
		switch (c) {
		case 'n': nr_streams = number(optarg, 1, 100000); break;
		case 'c': nr_sessions = number(optarg, 1, 10000); break;
		case 's': seconds = number(optarg, 1, 1000000); break;
		case 'b': bytes = number(optarg, sizeof(uint64_t), MESSAGE_MAX); break;
		default: return 2;
		}
	if ((err = shmipc_open(&endpoint, 0)))
		die("open", err);
	open_all(optind < argc ? argv[optind] : "streams");

	second = now_ns();
	for (long i = 0; i < nr_streams; i++)
		request(&streams[i]);
	for (long i = 0; i < seconds; i++) {
		second += SECOND;
		run(second);
		printf("%llu requests/s\n", (unsigned long long)(replies - before));
		fflush(stdout);
		before = replies;
	}
	stopping = true;
	run(now_ns() + PATIENCE);
	if (outstanding)
		die("replies are missing", -ETIMEDOUT);
	printf("%llu requests on %ld streams of %ld sessions, up to %ld at once, all answered\n",
	       (unsigned long long)replies, nr_streams, nr_sessions, most);
	shmipc_close(endpoint);
	return 0;
}
