/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * layout.h - what lies in shared memory
 *
 * Each side of a session owns one first segment (slot 0) of this shape, and only its owner
 * writes it:
 *
 *	header | control words | ring | live table | return ring | stream table | arena
 *
 * Further segments are all arena (slots below BUF_SLOT_FIRST), or each a buffer of the program's
 * (the others). The ring carries frames to the peer, the return
 * ring tells the peer which of *its* frames are free again. docs/layout.md has the argument
 * for every order below.
 */
#ifndef SHMIPC_LAYOUT_H
#define SHMIPC_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LAYOUT_MAGIC	0x317063696d687373ULL	/* "sshmicp1" */
#define LAYOUT_VERSION	1

#define CACHE_LINE	64
#define INLINE_MAX	96	/* payload bytes that ride in a frame */
#define FRAME_SHARE	128	/* bytes that the smallest frame counts for in a window */

/*
 * A frame: one slot of the ring, and one entry of the live table. @seq is the commit point: the
 * slot is the peer's as soon as it holds the number that the peer expects there. User
 * bytes begin at 32, where no seq is ever read.
 */
struct frame {
	uint64_t seq;		/* store release / load acquire: covers all of the frame */
	uint16_t stream;	/* slot of the stream table; parity: who opened it */
	uint16_t live;		/* entry of the live table, named again by the return */
	uint32_t generation;	/* of the stream slot */
	uint64_t position;	/* stream position of the first payload byte */
	uint8_t kind;		/* FRAME_* */
	uint8_t flags;		/* FRAME_F_* */
	uint8_t length;		/* FRAME_INLINE: payload bytes; else 0 */
	uint8_t type;		/* reserved for the message's own type: 0 */
	uint32_t returns;	/* reserved for the frame that this one answers and returns: 0 */
	union {
		uint8_t data[INLINE_MAX];
		uint32_t code;		/* FRAME_RESET */
		struct {
			uint32_t slot;		/* of the segment */
			uint32_t serial;	/* FRAME_BUFFER: of the buffer in the slot; else 0 */
			uint64_t offset;	/* in the segment; FRAME_BUFFER: 0 */
			uint64_t length;
		} block;
	};
};

/* Inline payload in the first cache line. */
#define FRAME_FIRST	(CACHE_LINE - offsetof(struct frame, data))

/*
 * Copies inline payload by the cache lines of a frame that it takes. A length that the compiler
 * does not know would be a string instruction, which takes longer to begin than this to end. What
 * lies beyond @len goes along: older payload, or what was written into the same reservation.
 */
static inline void copy_inline(uint8_t *to, const uint8_t *from, size_t len)
{
	memcpy(to, from, FRAME_FIRST);
	if (len > FRAME_FIRST)
		memcpy(to + FRAME_FIRST, from + FRAME_FIRST, INLINE_MAX - FRAME_FIRST);
}

#define FRAME_INLINE	1	/* payload in @data */
#define FRAME_BLOCK	2	/* payload in an arena */
#define FRAME_FIN	3	/* the sender's direction ends */
#define FRAME_RESET	4	/* both directions end now */
#define FRAME_OPEN	5	/* nothing but its flags: the peer shall know of a stream, or of a cut */
#define FRAME_BUFFER	6	/* payload is a buffer, a segment of its own */

#define FRAME_F_OPEN	(1U << 0)	/* first frame of a stream that the sender opens */
#define FRAME_F_MORE	(1U << 1)	/* the message goes on in this stream's next frame */
#define FRAME_F_ABORT	(1U << 2)	/* the message before has no end: its sender died */
#define FRAME_F_GIVEN	(1U << 3)	/* FRAME_BUFFER: the receiver may take it for its own */

/* A return: one 8-byte store. @lap tells a new entry from the one it replaces. */
#define RETURN_WORD(lap, live, seq) \
	((uint64_t)(uint16_t)(lap) << 48 | (uint64_t)(uint16_t)(live) << 32 | (uint32_t)(seq))
#define RETURN_LAP(word)	((uint16_t)((word) >> 48))
#define RETURN_LIVE(word)	((uint16_t)((word) >> 32))
#define RETURN_SEQ(word)	((uint32_t)(word))

/* Of return number @n in a ring of @size words, a power of two; the first lap is 1. */
static inline uint16_t return_lap(uint32_t n, uint32_t size)
{
	return (n >> __builtin_ctz(size)) + 1;
}

/*
 * One record of the stream table: what a successor needs that no frame in the ring tells. What is
 * received is stored here before it is returned, what is sent after it was published.
 */
struct stream_record {
	uint32_t generation;
	uint32_t window;
	uint64_t change;	/* RECORD_CHANGE(); in force iff that frame is published */
	uint64_t sent;		/* payload bytes published; behind by one frame at most */
	uint64_t consumed;	/* payload bytes that were taken or dropped, in order */
	uint64_t tag;		/* reserved for a word of the application: 0 */
	uint32_t unfinished;	/* RECORD_*; of the last frame, or of the one that was to come */
	uint32_t code;		/* of RECORD_RESET */
	uint64_t end;		/* RECORD_END() of the peer's direction, if it was seen */
	uint64_t holder;	/* RECORD_CHANGE() of RECORD_WAITING to RECORD_CLOSED */
};

/*
 * State and seq in one store. Seq 0, which no frame has: in force by itself. RECORD_OWED, which no
 * frame reaches: asked for, and not in the ring yet.
 */
#define RECORD_SEQ(change)		((change) & ((1ULL << 56) - 1))
#define RECORD_STATE(change)		((unsigned int)((change) >> 56))
#define RECORD_CHANGE(state, seq)	((uint64_t)(state) << 56 | RECORD_SEQ(seq))
#define RECORD_OWED			((1ULL << 56) - 1)

#define RECORD_FREE	0
#define RECORD_OPEN	1
#define RECORD_FINISHED	2	/* this side sent its FIN */
#define RECORD_RESET	3	/* this side sent its RESET */

/* Who has a stream that is not free, and in the place of a seq: */
#define RECORD_WAITING	1	/* nobody yet, it waits for accept; the frame that opened it */
#define RECORD_HELD	2	/* the application; the position that one which died had reached */
#define RECORD_CLOSED	3	/* nobody any more; 0 */

/* Was the last frame the last one of its message? */
#define RECORD_WHOLE	0
#define RECORD_PART	1	/* it had FRAME_F_MORE */
#define RECORD_CUT	2	/* it had; a successor told the peer that no more will come */

/* How the peer's direction ended: 0, FRAME_FIN, or FRAME_RESET with its code. */
#define RECORD_END(kind, code)	((uint64_t)(kind) << 32 | (uint32_t)(code))
#define RECORD_END_KIND(end)	((uint32_t)((end) >> 32))
#define RECORD_END_CODE(end)	((uint32_t)(end))

#define CPU_UNKNOWN	UINT32_MAX

/* Words that the peer polls, a cache line for each reason to write. All modulo 2^32. */
struct control {
	/* Written by the receiver of frames when it passes slots. */
	uint32_t rx_cursor __attribute__((aligned(CACHE_LINE)));
	/* Written before the first return of a lap: it. A word in the ring has 16 bits of that. */
	uint64_t return_lap;
	/* Written before its sleep: the seq whose publication shall ring. Its CPU also when it begins, waits or rings. */
	uint32_t rx_event __attribute__((aligned(CACHE_LINE)));
	uint32_t cpu;		/* CPU_UNKNOWN before the session begins on its side */
	/* Written by a blocked sender: the return count, and the cursor, that shall ring. */
	uint32_t tx_event __attribute__((aligned(CACHE_LINE)));
	uint32_t slot_event;
};

struct segment_header {
	uint64_t magic;
	uint32_t version;
	uint32_t slots;		/* frames in the ring, a power of two */
	uint32_t live;		/* entries of the live table */
	uint32_t returns;	/* words of the return ring, a power of two */
	uint32_t streams;	/* records of the stream table */
	/* For a successor of the owner alone: */
	uint32_t window;	/* bytes that a stream may have out */
	uint64_t max_memory;	/* bytes that all streams may have out */
	uint32_t buf_serial;	/* the last that a buffer's frames got: none is used twice */
	uint32_t reserved[5];
};

_Static_assert(sizeof(struct frame) == 2 * CACHE_LINE, "a frame is two cache lines");
_Static_assert(offsetof(struct frame, data) == 32, "user bytes begin at 32");
_Static_assert(offsetof(struct frame, returns) == 28, "a return beside the payload");
_Static_assert(INLINE_MAX <= UINT8_MAX, "its length fits");
_Static_assert(sizeof(struct stream_record) == CACHE_LINE, "a record is a cache line");
_Static_assert(sizeof(struct segment_header) == CACHE_LINE, "the header is a cache line");

#define PAYLOAD_ALIGN	16	/* of payload in memory, so that a struct can be used where it lies */
#define BUF_SLOT_FIRST	256	/* segment slots from here on are buffers' */

#define STREAMS_MAX	16384
#define SLOTS_MIN	128
#define SLOTS_MAX	1024

/*
 * Sizes and offsets of a first segment, all computed from its counts. Read from a peer's header
 * once, when the session is made, and never again.
 */
struct geometry {
	uint32_t slots, live, returns, streams;
	size_t control, ring, live_table, return_ring, stream_table, arena;
};

/* For a segment of our own that carries @streams streams. */
void geometry_for(struct geometry *geo, uint32_t streams);
/* Last of all that is in the header: then it has its magic. */
void geometry_write(const struct geometry *geo, void *segment);
/* False: it is of another layout, which geometry_read() can't read. */
bool geometry_known(const void *segment, size_t len);
/* Reads a peer's header. False when no honest library wrote it into @len bytes. */
bool geometry_read(struct geometry *geo, const void *segment, size_t len);

#endif
