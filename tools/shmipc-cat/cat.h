/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * cat.h - what the files of shmipc-cat share
 *
 * The main thread carries standard input to the session, a second thread, the receiver, carries the
 * session to standard output: neither direction waits for the other. All but @stop is the main
 * thread's.
 */
#ifndef SHMIPC_CAT_H
#define SHMIPC_CAT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>
#include <shmipc/shmipc.h>

#define PIECE	(128 << 10)	/* bytes a message at most; half a window is in flight */

/*
 * What one process of an upgrade tells the next: all that is neither in the session nor in the
 * pipes. Another version may have more: new fields come last, and what is missing is 0.
 */
struct totals {
	int64_t start_ns;	/* CLOCK_MONOTONIC; 0: now */
	uint64_t bytes_sent, messages_sent;
	uint64_t bytes_received, messages_received;
	uint64_t wakeups;
};

struct cat {
	struct shmipc_endpoint *ep;
	struct shmipc_session *session;
	struct shmipc_stream *stream;
	bool by_position;	/* each message has its place in the output */
	bool finished;		/* standard input has ended */
	bool received;		/* the stream has ended */
	bool receiving;		/* the receiver runs */
	pthread_t receiver;
	int wake[2];		/* pipe: a byte, when the receiver ends */
	atomic_bool stop;	/* it is to end at a message boundary: a successor is ready */
	char **argv;
	int signals;		/* signalfd */
	int offer;		/* or -1 */
	pid_t successor;	/* or 0 */
	struct totals before;	/* of the processes before this one */
};

/* Prints what was done to no avail, and why: an error of shmipc's, or errno. */
void cat_complain(const char *what, int error);
/* Likewise; doesn't return. */
void cat_die(const char *what, int error) __attribute__((noreturn));
/* What was carried until now. */
struct totals cat_totals(const struct cat *cat);

/* Both directions, until both have ended in order. */
void cat_pump(struct cat *cat);

/* ---- upgrade.c ------------------------------------------------------------ */

/* Before any thread is made: from here on signals wait for upgrade_look(). */
void upgrade_init(struct cat *cat, char **argv);
/* What poll(2) says of @signals and @offer. */
void upgrade_look(struct cat *cat, short signals, short offer);
/* Nothing is held or reserved, and the receiver has ended. Returns if it was to no avail. */
void upgrade_hand_over(struct cat *cat);
/* The transfer has ended. */
void upgrade_end(struct cat *cat);

#endif /* SHMIPC_CAT_H */
