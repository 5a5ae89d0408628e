/* SPDX-License-Identifier: MIT */
/*
 * stream_server [NAME]: one thread that answers hundreds of streams of many sessions
 *
 * Each message comes back with its first byte raised by one. The server keeps no list and no
 * buffer: what it cannot answer yet stays unread, which in the end makes that client wait.
 * Try it with stream_load. cc stream_server.c -lshmipc
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <shmipc/shmipc.h>

#define MESSAGE_MAX	1024	/* a longer one is answered in parts */
#define EVENTS		64

static void die(const char *what, int error)
{
	const char *why = shmipc_last_error();

	fprintf(stderr, "stream_server: %s: %s\n", what, *why ? why : shmipc_strerror(error));
	exit(1);
}

static void new_session(struct shmipc_listener *listener)
{
	struct shmipc_session *session;
	int err = shmipc_accept(listener, &session, 0);

	/* A connection that failed is its client's trouble. */
	if (err && err != -EAGAIN)
		fprintf(stderr, "stream_server: accept: %s\n", shmipc_strerror(err));
}

static void new_streams(struct shmipc_session *session)
{
	struct shmipc_stream *stream;

	/* From here on the stream's events come by themselves. */
	while (shmipc_stream_accept(session, &stream, 0) == 0)
		;
}

/*
 * One message: a stream with more is reported again, after the others had their turn. The room
 * for the answer comes first. Without it the message stays unread until EV_WRITE says that there
 * is some, and meanwhile needn't be reported.
 */
static void answer(struct shmipc_stream *stream)
{
	void *data;
	ssize_t n;
	int err;

	err = shmipc_reserve(stream, MESSAGE_MAX, &data, 0);
	if (err == -EAGAIN) {
		shmipc_stream_pause(stream, 1);
		return;
	}
	if (err) {
		shmipc_stream_close(stream);
		return;
	}
	n = shmipc_read(stream, data, MESSAGE_MAX, 0);
	if (n > 0) {
		++*(unsigned char *)data;
		/* If this fails, the next look at the stream says so. */
		shmipc_commit(stream, (size_t)n, SHMIPC_CORK);
		return;
	}
	shmipc_cancel(stream);
	/* Its end, in order or not; else somebody was faster than the event. */
	if (n != -EAGAIN)
		shmipc_stream_close(stream);
}

static void handle(const struct shmipc_event *event)
{
	switch (event->type) {
	case SHMIPC_EV_ACCEPT:
		new_session(event->object);
		break;
	case SHMIPC_EV_STREAM:
		new_streams(event->object);
		break;
	case SHMIPC_EV_READ:
		answer(event->object);
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
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "streams";
	/* Each side may open half of max_streams. */
	struct shmipc_options options = {
		.size = sizeof(options), .max_streams = 2048, .max_per_uid = 1024,
	};
	struct shmipc_event events[EVENTS];
	struct shmipc_endpoint *endpoint;
	struct shmipc_listener *listener;
	int n;

	if ((n = shmipc_open(&endpoint, 0)))
		die("open", n);
	if ((n = shmipc_listen(endpoint, name, &options, &listener)))
		die(name, n);
	while ((n = shmipc_wait(endpoint, events, EVENTS, SHMIPC_FOREVER)) >= 0)
		handle_all(events, n);
	die("wait", n);
}
