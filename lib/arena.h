/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * arena.h - payload blocks inside the segments that a side owns
 *
 * A buddy allocator whose books are in process memory: nothing of it lies in shared memory, where
 * a peer could read it or a crash could leave it half-changed. A freed block goes on the
 * list of its size, last in first out, so that the next message of that size finds it in the
 * cache; buddies are merged only when a request finds nothing.
 *
 * Not thread-safe: the session's transmit lock guards it.
 */
#ifndef SHMIPC_ARENA_H
#define SHMIPC_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARENA_UNIT	128	/* bytes of the smallest block */
#define ARENA_ORDERS	36	/* the largest block is ARENA_UNIT << 35 */
#define ARENA_EXTENTS	256

struct arena_block {
	uint32_t extent;
	uint32_t unit;		/* first unit of the block */
};

struct arena_extent {
	uint8_t *base;		/* of the segment */
	uint64_t offset;	/* of unit 0 in the segment */
	uint32_t slot;		/* the segment's name to the peer */
	uint32_t units;
	uint8_t *tags;		/* a unit: 0 not a block's first; else order + 1, | ARENA_FREE */
	uint64_t *next;		/* a free block's successor on its list */
};

struct arena {
	uint32_t nr_extents;
	bool mergeable;		/* something was freed since the last merge */
	uint64_t bytes;		/* in all extents */
	uint64_t heads[ARENA_ORDERS];
	struct arena_extent extents[ARENA_EXTENTS];
};

void arena_init(struct arena *arena);
void arena_destroy(struct arena *arena);
/* Adds @len bytes at @offset of the segment at @base. -ENOMEM, -ENOSPC (too many extents). */
int arena_add(struct arena *arena, uint32_t slot, void *base, uint64_t offset, uint64_t len);
bool arena_alloc(struct arena *arena, uint64_t len, struct arena_block *block);
void arena_free(struct arena *arena, struct arena_block block);

/*
 * For who rebuilds the books of an arena that has just been made: the block of @len bytes at
 * @offset of the segment @slot is in use. False: that is no block, or a part of it is in use already.
 * After the last one arena_merge() makes the lists; nothing may be allocated before.
 */
bool arena_claim(struct arena *arena, uint32_t slot, uint64_t offset, uint64_t len,
		 struct arena_block *block);
void arena_merge(struct arena *arena);

static inline uint64_t arena_offset(const struct arena *arena, struct arena_block block)
{
	return arena->extents[block.extent].offset + (uint64_t)block.unit * ARENA_UNIT;
}

static inline void *arena_address(const struct arena *arena, struct arena_block block)
{
	return arena->extents[block.extent].base + arena_offset(arena, block);
}

static inline uint32_t arena_slot(const struct arena *arena, struct arena_block block)
{
	return arena->extents[block.extent].slot;
}

/* Bytes that a block for @len really takes; 0 if no block is that large. */
uint64_t arena_size(uint64_t len);

#endif
