// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * peer_shmipc.c - shmipc's streams, with its default options where the workload lets them be
 *
 * Messages are written and read in place. Whoever waits without sleeping asks for a message with
 * no timeout again and again; else the library spins or sleeps as it thinks right.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <shmipc/shmipc.h>
#include "perf.h"
#include "transport.h"

#define PATIENCE	((int64_t)20000000000)
#define EVENTS		64
#define WINDOW		((size_t)1 << 20)	/* the default */
#define MAX_STREAMS	128			/* likewise */
#define VISIT		64

static char name[64];
static struct shmipc_endpoint *ep;
static struct shmipc_listener *listener;
static struct shmipc_stream *streams[CHANNELS_MAX];
static struct shmipc_message messages[CHANNELS_MAX];
static struct shmipc_buf *buf;

static void options(struct shmipc_options *opt)
{
	size_t window = setup.size * setup.depth;

	*opt = (struct shmipc_options){ .size = sizeof(*opt), .max_per_uid = 2 * CHANNELS_MAX };
	if (setup.depth > 1 && window > WINDOW)
		opt->window = window;
	/* Half of them are the client's. */
	if (!setup.sessions && 2 * setup.channels > MAX_STREAMS)
		opt->max_streams = 2 * setup.channels;
}

static void shmipc_make(void)
{
	snprintf(name, sizeof(name), "shmipc-perf/%d", getpid());
}

static void open_endpoint(void)
{
	int err = shmipc_open(&ep, 0);

	if (err)
		die("open", err);
}

static struct shmipc_session *connect_session(void)
{
	struct shmipc_session *session;
	struct shmipc_options opt;
	int err, tries = 0;

	options(&opt);
	/* The server may not have the name yet. */
	while ((err = shmipc_connect(ep, name, &opt, &session, PATIENCE)) == -ENOENT &&
	       tries++ < 100000)
		usleep(200);
	if (err)
		die("connect", err);
	return session;
}

static void client_attach(void)
{
	struct shmipc_session *session = NULL;
	int err = 0;

	for (unsigned int i = 0; i < setup.channels && !err; i++) {
		if (!i || setup.sessions)
			session = connect_session();
		err = shmipc_stream_open(session, &streams[i]);
		if (!err)
			err = shmipc_flush(streams[i]);
	}
	if (!err && setup.buffer)
		err = shmipc_buf_new(ep, setup.size, &buf);
	if (err)
		die("stream", err);
}

static void start_listening(void)
{
	struct shmipc_options opt;
	int err;

	options(&opt);
	err = shmipc_listen(ep, name, &opt, &listener);
	if (err)
		die("listen", err);
}

static void server_attach(void)
{
	struct shmipc_session *session = NULL;
	int err = 0;

	start_listening();
	for (unsigned int i = 0; i < setup.channels && !err; i++) {
		if (!i || setup.sessions)
			err = shmipc_accept(listener, &session, SHMIPC_FOREVER);
		if (!err)
			err = shmipc_stream_accept(session, &streams[i], SHMIPC_FOREVER);
	}
	if (err)
		die("accept", err);
	/* Nobody else shall come, and no event tell of it. */
	shmipc_listener_close(listener);
}

static void shmipc_attach(enum end end)
{
	open_endpoint();
	if (end == CLIENT)
		client_attach();
	else
		server_attach();
	for (unsigned int i = 0; i < setup.channels; i++)
		shmipc_stream_set_user(streams[i], &streams[i]);
}

static int64_t timeout(void)
{
	return setup.spin ? 0 : SHMIPC_FOREVER;
}

static void *shmipc_take_memory(unsigned int channel, size_t size)
{
	void *data;
	int err;

	if (buf)
		return shmipc_buf_data(buf);
	while ((err = shmipc_reserve(streams[channel], size, &data, timeout())))
		if (err != -EAGAIN || !setup.spin)
			die("reserve", err);
	return data;
}

/*
 * Request and reply: the doorbell is put off to the call that waits for the answer, so that
 * ringing and sleeping are one system call.
 */
static void shmipc_send(unsigned int channel, size_t size, bool answered)
{
	unsigned int flags = answered && !setup.spin ? SHMIPC_CORK : 0;
	int err = buf ? shmipc_buf_send(streams[channel], buf, size, flags, SHMIPC_FOREVER) :
			shmipc_commit(streams[channel], size, flags);

	if (err)
		die("commit", err);
}

static const void *shmipc_receive(unsigned int channel, size_t size)
{
	struct shmipc_message *message = &messages[channel];
	int n;

	while ((n = shmipc_peek(streams[channel], message, timeout())) == -EAGAIN && setup.spin)
		;
	if (n == 0 || n == -EPIPE)
		return NULL;
	if (n < 0)
		die("peek", n);
	if (message->len != size || message->nspans != 1)
		die("message", -EBADMSG);
	return message->spans[0].data;
}

static void shmipc_release(unsigned int channel)
{
	int err = shmipc_return(streams[channel], &messages[channel]);

	if (err)
		die("return", err);
}

static unsigned int shmipc_ready(unsigned int *channels, unsigned int max)
{
	struct shmipc_event events[EVENTS];
	unsigned int found = 0;

	while (!found) {
		int n = shmipc_wait(ep, events, max < EVENTS ? max : EVENTS, SHMIPC_FOREVER);

		if (n < 0)
			die("wait", n);
		for (int i = 0; i < n; i++) {
			if (events[i].type == SHMIPC_EV_CLOSED)
				return 0;
			if (events[i].type == SHMIPC_EV_READ)
				channels[found++] =
					(struct shmipc_stream **)events[i].user - streams;
		}
	}
	return found;
}

static void answer(struct shmipc_stream *stream)
{
	char data[VISIT];
	ssize_t n = shmipc_read(stream, data, sizeof(data), PATIENCE);

	if (n == sizeof(data))
		n = shmipc_write(stream, data, sizeof(data), 0, PATIENCE);
	/* Its end, which the client sends by closing. */
	if (n == sizeof(data))
		(void)shmipc_read(stream, data, sizeof(data), PATIENCE);
	else
		die("answer", (int)n);
}

static void shmipc_serve(void)
{
	open_endpoint();
	start_listening();
	for (;;) {
		struct shmipc_session *session;
		struct shmipc_stream *stream = NULL;
		int err = shmipc_accept(listener, &session, SHMIPC_FOREVER);

		if (!err)
			err = shmipc_stream_accept(session, &stream, PATIENCE);
		if (err)
			die("accept", err);
		answer(stream);
		shmipc_session_close(session);
	}
}

static void shmipc_visit(uint64_t word)
{
	uint64_t data[VISIT / sizeof(uint64_t)] = { word };
	struct shmipc_session *session;
	struct shmipc_stream *stream;
	ssize_t n;
	int err;

	if (!ep)
		open_endpoint();
	session = connect_session();
	err = shmipc_stream_open(session, &stream);
	if (err)
		die("stream", err);
	n = shmipc_write(stream, data, sizeof(data), SHMIPC_CORK, PATIENCE);
	data[0] = 0;
	if (n == sizeof(data))
		n = shmipc_read(stream, data, sizeof(data), PATIENCE);
	if (n != sizeof(data) || data[0] != word)
		die("visit", n < 0 ? (int)n : -EBADMSG);
	shmipc_session_close(session);
}

const struct transport peer_shmipc = {
	.name = "shmipc", .flags = ECHOES | STREAMS | SPINS | SLEEPS | BUFFERS, .make = shmipc_make,
	.attach = shmipc_attach, .reserve = shmipc_take_memory, .commit = shmipc_send,
	.receive = shmipc_receive, .release = shmipc_release, .ready = shmipc_ready,
	.serve = shmipc_serve, .visit = shmipc_visit,
};
