/* SPDX-License-Identifier: MIT */
/* greeter_server [NAME [CLIENTS]]: greets each client by name. cc greeter_server.c -lshmipc */
#include <stdio.h>
#include <stdlib.h>
#include <shmipc/shmipc.h>

#define SECOND 1000000000LL /* timeouts are nanoseconds */

static void die(const char *what, int error)
{
	/* A sentence about what went wrong, where the library has one. */
	const char *why = shmipc_last_error();

	fprintf(stderr, "%s: %s\n", what, *why ? why : shmipc_strerror(error));
	exit(1);
}

static int greet(struct shmipc_session *session)
{
	struct shmipc_stream *stream;
	char name[64], reply[80];
	int len, err;

	/* The client opens the stream. One that never does is waited for a second, no longer. */
	err = shmipc_stream_accept(session, &stream, SECOND);
	if (err)
		return err;
	len = (int)shmipc_read(stream, name, sizeof(name), SECOND);
	if (len > 0) {
		len = snprintf(reply, sizeof(reply), "Hello, %.*s!", len, name);
		len = (int)shmipc_write(stream, reply, (size_t)len, 0, SECOND);
	}
	shmipc_stream_close(stream); /* finishes it: the client reads the reply, then the end */
	return len < 0 ? len : 0;
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "greeter";
	long clients = argc > 2 ? atol(argv[2]) : -1; /* -1: for ever */
	struct shmipc_endpoint *endpoint;
	struct shmipc_listener *listener;
	struct shmipc_session *session;
	int err;

	if ((err = shmipc_open(&endpoint, 0)))
		die("open", err);
	if ((err = shmipc_listen(endpoint, name, NULL, &listener)))
		die("listen", err);
	for (; clients; clients -= clients > 0) {
		if ((err = shmipc_accept(listener, &session, SHMIPC_FOREVER)))
			die("accept", err);
		if ((err = greet(session)))
			fprintf(stderr, "a client: %s\n", shmipc_strerror(err));
		shmipc_session_close(session);
	}
	shmipc_close(endpoint); /* and all that is still open on it */
	return 0;
}
