// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* arena.c - a buddy allocator with last-in-first-out lists and merging on demand */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "arena.h"

#define ARENA_FREE	0x80
#define TAG_ORDER(tag)	(((tag) & ~ARENA_FREE) - 1U)

/* A list link: extent + 1 in the upper half, so that 0 ends the list. */
#define LINK(extent, unit)	((uint64_t)((extent) + 1) << 32 | (unit))
#define LINK_EXTENT(link)	((uint32_t)((link) >> 32) - 1)
#define LINK_UNIT(link)		((uint32_t)(link))

static unsigned int order_of(uint64_t len)
{
	uint64_t units = (len + ARENA_UNIT - 1) / ARENA_UNIT;

	return units <= 1 ? 0 : 64 - __builtin_clzll(units - 1);
}

uint64_t arena_size(uint64_t len)
{
	unsigned int order;

	if (len > (uint64_t)ARENA_UNIT << (ARENA_ORDERS - 1))
		return 0;
	order = order_of(len);
	return (uint64_t)ARENA_UNIT << order;
}

void arena_init(struct arena *arena)
{
	memset(arena, 0, sizeof(*arena));
}

void arena_destroy(struct arena *arena)
{
	for (uint32_t i = 0; i < arena->nr_extents; i++) {
		free(arena->extents[i].tags);
		free(arena->extents[i].next);
	}
	arena_init(arena);
}

static void push(struct arena *arena, uint32_t extent, uint32_t unit, unsigned int order)
{
	struct arena_extent *ext = &arena->extents[extent];

	ext->tags[unit] = (order + 1) | ARENA_FREE;
	ext->next[unit] = arena->heads[order];
	arena->heads[order] = LINK(extent, unit);
}

/* Cuts the extent into the largest blocks that lie on a multiple of their size. */
static void carve(struct arena *arena, uint32_t extent)
{
	uint32_t units = arena->extents[extent].units, unit = 0;

	while (unit < units) {
		unsigned int order = unit ? __builtin_ctz(unit) : ARENA_ORDERS - 5;

		while (order >= 32 || unit + (1ULL << order) > units)
			order--;
		push(arena, extent, unit, order);
		unit += 1U << order;
	}
}

int arena_add(struct arena *arena, uint32_t slot, void *base, uint64_t offset, uint64_t len)
{
	struct arena_extent *ext = &arena->extents[arena->nr_extents];

	if (arena->nr_extents == ARENA_EXTENTS || len / ARENA_UNIT > UINT32_MAX)
		return -ENOSPC;
	ext->units = len / ARENA_UNIT;
	ext->tags = calloc(ext->units + 1ULL, sizeof(*ext->tags));
	/* calloc of a large array is untouched zero pages: only free blocks' links cost memory. */
	ext->next = calloc(ext->units + 1ULL, sizeof(*ext->next));
	if (!ext->tags || !ext->next) {
		free(ext->tags);
		free(ext->next);
		return -ENOMEM;
	}
	ext->base = base;
	ext->offset = offset;
	ext->slot = slot;
	carve(arena, arena->nr_extents++);
	arena->bytes += (uint64_t)ext->units * ARENA_UNIT;
	return 0;
}

/* Takes the newest free block of @order or, cutting it down, of the next larger one. */
static bool take(struct arena *arena, unsigned int order, struct arena_block *block)
{
	unsigned int from = order;
	uint64_t link;

	while (from < ARENA_ORDERS && !arena->heads[from])
		from++;
	if (from == ARENA_ORDERS)
		return false;
	link = arena->heads[from];
	block->extent = LINK_EXTENT(link);
	block->unit = LINK_UNIT(link);
	arena->heads[from] = arena->extents[block->extent].next[block->unit];
	while (from > order) {
		from--;
		push(arena, block->extent, block->unit + (uint32_t)(1ULL << from), from);
	}
	arena->extents[block->extent].tags[block->unit] = order + 1;
	return true;
}

/* One pass from left to right; a merged pair is tried again with its own, larger buddy. */
static void merge_extent(struct arena_extent *ext)
{
	uint32_t unit = 0;

	while (unit < ext->units) {
		uint8_t tag = ext->tags[unit];
		unsigned int order = TAG_ORDER(tag);
		uint32_t buddy = unit ^ (1U << order);

		if ((tag & ARENA_FREE) && (uint64_t)buddy + (1U << order) <= ext->units &&
		    ext->tags[buddy] == tag) {
			uint32_t left = unit < buddy ? unit : buddy;

			ext->tags[unit ^ buddy ^ left] = 0;
			ext->tags[left] = (order + 2) | ARENA_FREE;
			unit = left;
		} else {
			unit += 1U << order;
		}
	}
}

void arena_merge(struct arena *arena)
{
	memset(arena->heads, 0, sizeof(arena->heads));
	for (uint32_t i = 0; i < arena->nr_extents; i++) {
		struct arena_extent *ext = &arena->extents[i];

		merge_extent(ext);
		for (uint32_t unit = 0; unit < ext->units;) {
			unsigned int order = TAG_ORDER(ext->tags[unit]);

			if (ext->tags[unit] & ARENA_FREE)
				push(arena, i, unit, order);
			unit += 1U << order;
		}
	}
	arena->mergeable = false;
}

bool arena_alloc(struct arena *arena, uint64_t len, struct arena_block *block)
{
	unsigned int order = order_of(len);

	if (order >= ARENA_ORDERS)
		return false;
	if (take(arena, order, block))
		return true;
	if (!arena->mergeable)
		return false;
	arena_merge(arena);
	return take(arena, order, block);
}

/* The free block that @unit lies in. */
static bool find_free(const struct arena_extent *ext, uint32_t unit, uint32_t *first,
		      unsigned int *order)
{
	for (*order = 0; *order < 32; ++*order) {
		*first = unit & ~(uint32_t)((1ULL << *order) - 1);
		if (ext->tags[*first] == ((*order + 1) | ARENA_FREE))
			return true;
	}
	return false;
}

bool arena_claim(struct arena *arena, uint32_t slot, uint64_t offset, uint64_t len,
		 struct arena_block *block)
{
	unsigned int order = order_of(len), from;
	struct arena_extent *ext;
	uint32_t i = 0, first;

	while (i < arena->nr_extents && arena->extents[i].slot != slot)
		i++;
	if (i == arena->nr_extents || order >= 32)
		return false;
	ext = &arena->extents[i];
	if (offset < ext->offset || (offset - ext->offset) % ARENA_UNIT ||
	    (offset - ext->offset) / ARENA_UNIT >= ext->units)
		return false;
	*block = (struct arena_block){ i, (offset - ext->offset) / ARENA_UNIT };
	if (block->unit & ((1U << order) - 1) || !find_free(ext, block->unit, &first, &from) ||
	    from < order)
		return false;
	while (from > order) {
		uint32_t half;

		from--;
		half = first + (1U << from);
		if (block->unit >= half) {
			ext->tags[first] = (from + 1) | ARENA_FREE;
			first = half;
		} else {
			ext->tags[half] = (from + 1) | ARENA_FREE;
		}
	}
	ext->tags[first] = order + 1;
	return true;
}

void arena_free(struct arena *arena, struct arena_block block)
{
	uint8_t tag = arena->extents[block.extent].tags[block.unit];

	push(arena, block.extent, block.unit, TAG_ORDER(tag));
	arena->mergeable = true;
}
