// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * pump.c - the two directions of shmipc-cat
 *
 * No copy of its own: read(2) fills memory that the library lends for sending, write(2) empties
 * memory that the peer filled.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/uio.h>
#include <unistd.h>
#include "cat.h"

#define EVENTS	8
/*
 * Nothing but time ends a wait in the library early. So a thread that waits there looks this often
 * whether there is to be an upgrade.
 */
#define TICK_NS	200000000
/* What the receiver writes when it ends. */
#define ENDED	"e"	/* it has seen the end of the stream */
#define STOPPED	"s"

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

/* The next message, unless this is to stop first: -EINTR. */
static int next_message(struct cat *cat, struct shmipc_message *message)
{
	int err = -ETIMEDOUT;

	while (err == -ETIMEDOUT && !atomic_load(&cat->stop))
		err = shmipc_peek(cat->stream, message, TICK_NS);
	return err == -ETIMEDOUT ? -EINTR : err;
}

static void *receive(void *arg)
{
	struct cat *cat = arg;
	struct shmipc_message message;
	int err;

	while ((err = next_message(cat, &message)) > 0) {
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
	if (err < 0 && err != -EINTR)
		die_of(cat, "receiving", err);
	if (write(cat->wake[1], err ? STOPPED : ENDED, 1) != 1)
		cat_die("pipe", 0);
	return NULL;
}

static void start_receiver(struct cat *cat)
{
	errno = pthread_create(&cat->receiver, NULL, receive, cat);
	if (errno)
		cat_die("thread", 0);
	cat->receiving = true;
}

static void join_receiver(struct cat *cat)
{
	char how;

	if (read(cat->wake[0], &how, 1) != 1)
		cat_die("pipe", 0);
	pthread_join(cat->receiver, NULL);
	cat->receiving = false;
	cat->received = how == *ENDED;
}

/* ---- standard input to session ------------------------------------------ */

/*
 * Calls the library while the receiver does not, or not for sure. When the receiver is done it is here
 * that the peer's death or reset is seen, also while nobody types. While there is an offer a successor
 * is let in by such calls, and the receiver may have enough to read without waiting in one, or wait
 * for whoever reads standard output. Other streams of the peer are no use to us.
 */
static void attend(const struct cat *cat)
{
	struct shmipc_event events[EVENTS];
	struct shmipc_message message;
	struct shmipc_stream *other;
	int n, err = 0;

	do {
		n = shmipc_wait(cat->ep, events, EVENTS, 0);
		while (shmipc_stream_accept(cat->session, &other, 0) == 0)
			shmipc_stream_close(other);
		if (cat->received)
			err = shmipc_session_error(cat->session);
		if (cat->received && !err)
			err = shmipc_peek(cat->stream, &message, 0);
		if (err)
			die_of(cat, "sending", err);
	} while (n > 0);
}

/* Waits until there is something to do; does what is not the sender's. Is it the sender's? */
static bool wait_input(struct cat *cat, int ms)
{
	enum { INPUT, RECEIVER, LIBRARY, SIGNALS, OFFER, NR };
	struct pollfd fds[NR] = {
		[INPUT] = { .fd = cat->finished ? -1 : STDIN_FILENO, .events = POLLIN },
		[RECEIVER] = { .fd = cat->received ? -1 : cat->wake[0], .events = POLLIN },
		[LIBRARY] = { .fd = -1, .events = POLLIN },
		[SIGNALS] = { .fd = cat->signals, .events = POLLIN },
		/* That a successor is ready is news once; the offer's end comes unasked. */
		[OFFER] = { .fd = cat->offer, .events = atomic_load(&cat->stop) ? 0 : POLLIN },
	};

	if (cat->received || cat->offer >= 0) {
		fds[LIBRARY].fd = shmipc_fd(cat->ep);
		attend(cat);
	}
	if (poll(fds, NR, ms) < 0 && errno != EINTR)
		cat_die("poll", 0);
	if (cat->receiving && fds[RECEIVER].revents)
		join_receiver(cat);
	upgrade_look(cat, fds[SIGNALS].revents, fds[OFFER].revents);
	return fds[INPUT].revents;
}

/* The end of standard input. */
static void finish(struct cat *cat)
{
	int err = shmipc_finish(cat->stream);

	/* Or a predecessor's. */
	if (err && err != -ESHUTDOWN)
		die_of(cat, "sending", err);
	cat->finished = true;
}

/* Standard input has something, or its end. */
static void fill_and_send(struct cat *cat, void *data)
{
	ssize_t n = read(STDIN_FILENO, data, PIECE);
	int err = errno;

	if (n < 0 && err != EAGAIN && err != EINTR) {
		cat_complain("standard input", 0);
		shmipc_reset(cat->stream, err);
		_exit(1);
	}
	err = n > 0 ? shmipc_commit(cat->stream, n, 0) : shmipc_cancel(cat->stream);
	if (err)
		die_of(cat, "sending", err);
	if (n == 0)
		finish(cat);
}

/* What is read is sent: between two calls nothing of the input is here. */
static void send_piece(struct cat *cat)
{
	void *data;
	int err = shmipc_reserve(cat->stream, PIECE, &data, TICK_NS);

	if (err == -ESHUTDOWN)
		finish(cat);
	else if (err == -ETIMEDOUT)
		wait_input(cat, 0);
	else if (err)
		die_of(cat, "sending", err);
	else if (wait_input(cat, -1))
		fill_and_send(cat, data);
	else
		shmipc_cancel(cat->stream);
}

void cat_pump(struct cat *cat)
{
	if (pipe2(cat->wake, O_CLOEXEC))
		cat_die("pipe", 0);
	/* Who reads it waits for it, and not for events. */
	shmipc_stream_pause(cat->stream, 1);
	while (!cat->finished || !cat->received) {
		if (!cat->receiving && atomic_load(&cat->stop))
			upgrade_hand_over(cat);
		if (!cat->receiving && !cat->received)
			start_receiver(cat);
		if (cat->finished)
			wait_input(cat, -1);
		else
			send_piece(cat);
	}
	upgrade_end(cat);
}
