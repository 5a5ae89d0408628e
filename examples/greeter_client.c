/* SPDX-License-Identifier: MIT */
/* greeter_client WHO [NAME]: asks greeter_server for a greeting. cc greeter_client.c -lshmipc */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <shmipc/shmipc.h>

#define SECOND 1000000000LL /* timeouts are nanoseconds */

static void die(const char *what, int error)
{
	/* A sentence about what went wrong, where the library has one. */
	const char *why = shmipc_last_error();

	fprintf(stderr, "%s: %s\n", what, *why ? why : shmipc_strerror(error));
	exit(1);
}

int main(int argc, char **argv)
{
	const char *who = argc > 1 ? argv[1] : "world";
	const char *name = argc > 2 ? argv[2] : "greeter";
	struct shmipc_endpoint *endpoint;
	struct shmipc_session *session;
	struct shmipc_stream *stream;
	struct shmipc_message message;
	ssize_t sent;
	int err;

	if (!*who || strlen(who) > 63) {
		fprintf(stderr, "usage: greeter_client WHO [NAME]: 1 to 63 bytes\n");
		return 2;
	}
	if ((err = shmipc_open(&endpoint, 0)))
		die("open", err);
	if ((err = shmipc_connect(endpoint, name, NULL, &session, 5 * SECOND)))
		die("connect", err);
	if ((err = shmipc_stream_open(session, &stream)))
		die("stream", err);
	sent = shmipc_write(stream, who, strlen(who), 0, SECOND);
	if (sent < 0)
		die("write", (int)sent);

	/* The reply is read where it lies in shared memory, and then given back. */
	err = shmipc_peek(stream, &message, 5 * SECOND);
	if (err <= 0)
		die("no reply", err ? err : -EPIPE);
	printf("%.*s\n", (int)message.spans[0].len, (const char *)message.spans[0].data);
	shmipc_return(stream, &message);

	shmipc_stream_close(stream);
	shmipc_session_close(session);
	shmipc_close(endpoint);
	return 0;
}
