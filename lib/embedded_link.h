/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * embedded_link.h - the messages of the embedded provider's socket, and what comes with them
 *
 *	connector			acceptor
 *	HELLO {segment, bell}  ->
 *			       <-	WELCOME {segment, bell}, or REFUSE errno
 *	GRANT slot {segment}  <->	GRANT slot {segment}
 *	BYE reason	      <->	BYE reason
 *	PAUSED, RESUMED	      <->	PAUSED, RESUMED
 *	MOVED {pidfd}	      <->	MOVED {pidfd}
 *	CHANGED count {pidfd} <->	CHANGED count {pidfd}
 *
 * An end that is handed over says PAUSED, then RESUMED if nothing came of it, else MOVED: it is the
 * process of this pidfd from here on, and what the old one does means nothing. That one says CHANGED, to
 * which the kernel puts who sent it; @count is how often the endpoint was handed over, as in HELLO and
 * WELCOME. A write, to which somebody may be led, can't say it: it takes the descriptor, too.
 *
 * A successor sends ADOPT {socket} in place of HELLO, or over the descriptor of an offer; what
 * goes through that socket is embedded_move.h's.
 *
 * A *bell* is the descriptor that the peer rings. Between processes of one uid it is an eventfd.
 * Whoever shares an eventfd can make a write to it block, so that processes of different
 * uids ring by a datagram, which each call can forbid to block. The acceptor answers a datagram
 * with one: the connector may see another uid than its own where the acceptor does not.
 *
 * All that is received is checked here; what fails a check is -EBADMSG and was closed.
 */
#ifndef SHMIPC_EMBEDDED_LINK_H
#define SHMIPC_EMBEDDED_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum link_type {
	LINK_HELLO = 1,
	LINK_WELCOME,
	LINK_REFUSE,
	LINK_GRANT,
	LINK_BYE,
	LINK_MOVED,
	LINK_ADOPT,
	LINK_PAUSED,
	LINK_RESUMED,
	LINK_CHANGED,
};

#define LINK_MAGIC	0x6d687369U
#define LINK_VERSION	3
#define LINK_FDS	2	/* descriptors a message, at most */

struct link_message {
	uint32_t magic;
	uint16_t version;
	uint16_t type;
	uint32_t value;		/* errno, slot, reason or count */
	uint32_t nr_fds;
};

/* Of what a peer sent, and that this process does not want: those that are not -1. */
void link_close(const int *fds, unsigned int nr);
/* Never blocks: -EAGAIN when the peer doesn't read, -EPIPE when it is gone. */
int link_send(int sock, enum link_type type, uint32_t value, const int *fds, unsigned int nr);

/*
 * Takes the next message. @fds are the caller's from then on, the rest of them -1. Returns 1;
 * 0 at the end; -EAGAIN; -EBADMSG; -EPROTONOSUPPORT a HELLO or WELCOME of another version.
 */
int link_receive(int sock, struct link_message *message, int fds[LINK_FDS]);

/*
 * The same, and @who sent it, as the kernel says once link_ask_who() was called; else, or if it says nothing
 * of the message, pid 0 and a uid that means nothing.
 */
int link_receive_from(int sock, struct link_message *message, int fds[LINK_FDS],
		      struct ucred *who);
int link_ask_who(int sock);

/* A segment's descriptor must be a sealed memfd, readable only. Fills in its size. */
int link_check_segment(int fd, size_t *len);

/* MOVED brings a pidfd, ADOPT a socket that keeps messages apart: anything else is -EBADMSG. */
int link_check_pidfd(int fd);
int link_check_channel(int fd);

/* Bells: @foreign between different uids. */
int link_make_bell(bool foreign, int *mine, int *theirs);
int link_check_bell(int fd, bool foreign, bool *datagram);
void link_ring(int bell, bool datagram);
/* Empties a datagram bell; an eventfd is never read. */
void link_quiet(int bell);

#endif
