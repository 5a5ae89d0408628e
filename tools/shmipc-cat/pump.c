// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * pump.c - the two directions of shmipc-cat
 *
 * No copy of its own: read(2) fills memory that the library lends for sending, write(2) empties
 * memory that the peer filled.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/uio.h>
#include <unistd.h>
#include "cat.h"

#define EVENTS	8

/* A stream says only that its session is over; the session knows how it ended. */
static void die_of(const struct cat *cat, const char *what, int err)
{
	int session = err == -EPIPE ? shmipc_session_error(cat->session) : 0;

	cat_die(what, session ? session : err);
}

/* ---- session to standard output ----------------------------------------- */

/* What was not written yet goes on at @iov. */
static uint32_t advance(struct iovec *iov, uint32_t n, size_t done)
{
	uint32_t skip = 0;

	while (skip < n && done >= iov[skip].iov_len)
		done -= iov[skip++].iov_len;
	for (uint32_t i = skip; i < n; i++)
		iov[i - skip] = iov[i];
	if (skip < n) {
		iov[0].iov_base = (char *)iov[0].iov_base + done;
		iov[0].iov_len -= done;
	}
	return n - skip;
}

/* Standard output is another's too, and may have been made non-blocking. */
static int write_out(struct iovec *iov, uint32_t n)
{
	struct pollfd out = { .fd = STDOUT_FILENO, .events = POLLOUT };
	ssize_t done;

	while (n) {
		done = writev(STDOUT_FILENO, iov, (int)n);
		if (done >= 0)
			n = advance(iov, n, done);
		else if (errno == EAGAIN)
			poll(&out, 1, -1);
		else if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static int write_message(const struct cat *cat, const struct shmipc_message *message)
{
	struct iovec iov[SHMIPC_SPANS_MAX];

	if (cat->by_position && lseek(STDOUT_FILENO, (off_t)message->position, SEEK_SET) < 0)
		return -errno;
	for (uint32_t i = 0; i < message->nspans; i++) {
		iov[i].iov_base = (void *)message->spans[i].data;
		iov[i].iov_len = message->spans[i].len;
	}
	return write_out(iov, message->nspans);
}

static void *receive(void *arg)
{
	struct cat *cat = arg;
	struct shmipc_message message;
	int err;

	while ((err = shmipc_peek(cat->stream, &message, SHMIPC_FOREVER)) > 0) {
		err = write_message(cat, &message);
		if (err) {
			/* First: once the stream is reset the other thread may end it all. */
			errno = -err;
			cat_complain("standard output", 0);
			shmipc_reset(cat->stream, -err);
			_exit(1);
		}
		shmipc_return(cat->stream, &message);
	}
	if (err < 0)
		die_of(cat, "receiving", err);
	atomic_store(&cat->received, true);
	if (write(cat->wake[1], "", 1) != 1)
		cat_die("pipe", 0);
	return NULL;
}

/* ---- standard input to session ------------------------------------------ */

/*
 * The receiver is done and calls the library no more. It is here that the peer's death or reset
 * is seen, also while nobody types. Other streams of the peer are no use to us.
 */
static void watch_session(struct cat *cat)
{
	struct shmipc_event events[EVENTS];
	struct shmipc_message message;
	struct shmipc_stream *other;
	int n, err;

	do {
		n = shmipc_wait(cat->ep, events, EVENTS, 0);
		while (shmipc_stream_accept(cat->session, &other, 0) == 0)
			shmipc_stream_close(other);
		err = shmipc_session_error(cat->session);
		if (!err)
			err = shmipc_peek(cat->stream, &message, 0);
		if (err)
			die_of(cat, "sending", err);
	} while (n > 0);
}

/* Until standard input has something, or its end. */
static void wait_input(struct cat *cat)
{
	struct pollfd fds[2] = {
		{ .fd = STDIN_FILENO, .events = POLLIN },
		{ .events = POLLIN },
	};

	do {
		if (atomic_load(&cat->received)) {
			fds[1].fd = shmipc_fd(cat->ep);
			watch_session(cat);
		} else {
			fds[1].fd = cat->wake[0];
		}
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			cat_die("poll", 0);
	} while (!fds[0].revents);
}

static ssize_t read_in(struct cat *cat, void *data)
{
	ssize_t n;

	do {
		wait_input(cat);
		n = read(STDIN_FILENO, data, PIECE);
	} while (n < 0 && (errno == EAGAIN || errno == EINTR));
	return n;
}

/* One piece. False: the end. */
static bool send_piece(struct cat *cat)
{
	void *data;
	ssize_t n;
	int err;

	err = shmipc_reserve(cat->stream, PIECE, &data, SHMIPC_FOREVER);
	/* By a predecessor. */
	if (err == -ESHUTDOWN)
		return false;
	if (err)
		die_of(cat, "sending", err);
	n = read_in(cat, data);
	if (n < 0) {
		err = errno;
		cat_complain("standard input", 0);
		shmipc_reset(cat->stream, err);
		_exit(1);
	}
	err = n ? shmipc_commit(cat->stream, n, 0) : shmipc_cancel(cat->stream);
	if (err)
		die_of(cat, "sending", err);
	return n > 0;
}

void cat_pump(struct cat *cat)
{
	pthread_t receiver;
	int err;

	if (pipe(cat->wake))
		cat_die("pipe", 0);
	errno = pthread_create(&receiver, NULL, receive, cat);
	if (errno)
		cat_die("thread", 0);
	while (send_piece(cat))
		;
	err = shmipc_finish(cat->stream);
	if (err && err != -ESHUTDOWN)
		die_of(cat, "sending", err);
	pthread_join(receiver, NULL);
}
