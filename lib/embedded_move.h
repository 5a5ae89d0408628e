/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * embedded_move.h - what passes between holder and successor of the embedded provider
 *
 * The socket is the successor's, which made a pair and sent the other end with ADOPT (embedded_link.h).
 *
 *	holder				successor
 *	REFUSE errno		->			at any time before DONE: all is as it was
 *	BEGIN			->			the holder has stopped
 *	SEGMENT, LISTENER,
 *	SESSION, of each its
 *	GIVEN and GRANTED	->			looks at what they show
 *	END			->
 *				<-	COMMIT {pidfd}	or its end: it gave up
 *	DONE			->			the holder can't write any more, and the
 *							peers know who goes on
 *				<-	its end		those that connect know it, too
 */
#ifndef SHMIPC_EMBEDDED_MOVE_H
#define SHMIPC_EMBEDDED_MOVE_H

#include <stdint.h>
#include <uapi/shmipc.h>

#define MOVE_MAGIC	0x76706873U
#define MOVE_VERSION	2
#define MOVE_FDS	4	/* descriptors a message, at most */

enum move_type {
	MOVE_REFUSE = 1,
	MOVE_BEGIN,
	MOVE_SEGMENT,	/* its descriptor */
	MOVE_LISTENER,	/* socket, marker */
	MOVE_SESSION,	/* link, bell in, bell out, pidfd */
	MOVE_GIVEN,
	MOVE_GRANTED,	/* the segment's descriptor */
	MOVE_END,
	MOVE_COMMIT,	/* pidfd */
	MOVE_DONE,
};

struct move {
	uint32_t magic;
	uint16_t version;
	uint16_t type;
	uint32_t fds;		/* bit i: the i-th descriptor is there */
	uint32_t handle;	/* GIVEN, GRANTED: of the session */
	union {
		int32_t error;			/* REFUSE: -errno */
		uint32_t handovers;		/* BEGIN: as in struct embedded */
		struct {
			uint32_t blob;
		} segment;
		struct {
			uint32_t mode, uid, gid;
			uint32_t backlog, max_per_uid;
			char name[SHMIPC_NAME_MAX + 1];
		} listener;
		struct {
			uint32_t state, listener;
			uint32_t causes, end;
			uint32_t pid, uid, gid;
			uint32_t expect_uid;
			struct shmipc_peer now;
			uint8_t datagram_in, datagram_out, foreign, dead, paused, moved;
			int64_t since;
			uint64_t bytes_in, bytes_out;
			uint8_t slots_seen[SHMIPC_SLOTS_MAX / 8];
		} session;
		struct {
			uint32_t slot;
			uint32_t segment;	/* GIVEN: its handle */
		} grant;
	};
};

/* The other one is stopped, or worse. */
#define MOVE_STALL_NS	((int64_t)10000000000)

/* Its fields of before, with those of the next kind in them, must not be sent. */
static inline struct move move_about(enum move_type type, uint32_t handle)
{
	return (struct move){ .type = (uint16_t)type, .handle = handle };
}

/*
 * Sends @move with those of @fds that are not -1, or with none; waits until @until (of now_ns()) if
 * the other doesn't read. Returns 0; -ETIMEDOUT; -EPIPE it is gone.
 */
int move_send(int sock, struct move *move, const int fds[MOVE_FDS], int64_t until);

/*
 * Waits for the next message. @fds are the caller's from then on, those that did not come -1.
 * Returns 0; -ETIMEDOUT; -EPIPE the end; -EBADMSG; what REFUSE said.
 */
int move_receive(int sock, struct move *move, int fds[MOVE_FDS], int64_t until);

void move_close(const int fds[MOVE_FDS]);

#endif
