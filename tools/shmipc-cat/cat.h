/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * cat.h - what the two files of shmipc-cat share
 *
 * The main thread carries standard input to the session, a second thread carries the session to
 * standard output: neither direction waits for the other.
 */
#ifndef SHMIPC_CAT_H
#define SHMIPC_CAT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <shmipc/shmipc.h>

#define PIECE	(128 << 10)	/* bytes a message at most; half a window is in flight */

struct cat {
	struct shmipc_endpoint *ep;
	struct shmipc_session *session;
	struct shmipc_stream *stream;
	bool by_position;		/* each message has its place in the output */
	atomic_bool received;		/* the receiver has seen the end */
	int wake[2];			/* pipe: readable from then on */
};

/* Prints what was done to no avail, and why: an error of shmipc's, or errno. */
void cat_complain(const char *what, int error);
/* Likewise; doesn't return. */
void cat_die(const char *what, int error) __attribute__((noreturn));

/* Both directions, until both have ended in order. */
void cat_pump(struct cat *cat);

#endif /* SHMIPC_CAT_H */
