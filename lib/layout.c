// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* layout.c - how large the parts of a first segment are, and where they lie */
#include <string.h>
#include "barrier.h"
#include "layout.h"

#define ARENA_ALIGN	4096

static uint32_t power_of_two(uint32_t n)
{
	uint32_t p = 1;

	while (p < n)
		p <<= 1;
	return p;
}

static size_t align(size_t n, size_t to)
{
	return (n + to - 1) & ~(to - 1);
}

static void geometry_place(struct geometry *geo)
{
	geo->control = sizeof(struct segment_header);
	geo->ring = align(geo->control + sizeof(struct control), sizeof(struct frame));
	geo->live_table = geo->ring + geo->slots * sizeof(struct frame);
	geo->return_ring = geo->live_table + geo->live * sizeof(struct frame);
	geo->stream_table = geo->return_ring + geo->returns * sizeof(uint64_t);
	geo->arena = align(geo->stream_table + geo->streams * sizeof(struct stream_record),
			   ARENA_ALIGN);
}

/*
 * Live entries: one of data and one of control for each stream, which is what keeps a stalled
 * stream from starving another, and as many again as the ring has slots for all to share.
 *
 * Returns: the peer's live entries and its ring together, so that a return is still there
 * as long as its frame is in the ring (recovery scans both). The peer's counts are the same
 * function of its streams; where they differ, session_negotiate() takes the smaller.
 */
void geometry_for(struct geometry *geo, uint32_t streams)
{
	uint32_t slots = power_of_two(streams);

	if (slots < SLOTS_MIN)
		slots = SLOTS_MIN;
	if (slots > SLOTS_MAX)
		slots = SLOTS_MAX;
	geo->streams = streams;
	geo->slots = slots;
	geo->live = 2 * streams + slots;
	geo->returns = power_of_two(geo->live + slots);
	geometry_place(geo);
}

void geometry_write(const struct geometry *geo, void *segment)
{
	struct segment_header *header = segment;

	header->version = LAYOUT_VERSION;
	header->slots = geo->slots;
	header->live = geo->live;
	header->returns = geo->returns;
	header->streams = geo->streams;
	/* No release needed: the peer gets the segment by a system call after this. */
	header->magic = LAYOUT_MAGIC;
}

bool geometry_known(const void *segment, size_t len)
{
	const struct segment_header *shared = segment;

	return len < sizeof(*shared) || load_relaxed(&shared->magic) != LAYOUT_MAGIC ||
	       load_relaxed(&shared->version) == LAYOUT_VERSION;
}

bool geometry_read(struct geometry *geo, const void *segment, size_t len)
{
	const struct segment_header *shared = segment;
	struct geometry honest;

	if (len < sizeof(*shared) || load_relaxed(&shared->magic) != LAYOUT_MAGIC ||
	    load_relaxed(&shared->version) != LAYOUT_VERSION)
		return false;
	geo->slots = load_relaxed(&shared->slots);
	geo->live = load_relaxed(&shared->live);
	geo->returns = load_relaxed(&shared->returns);
	geo->streams = load_relaxed(&shared->streams);
	if (geo->streams < 2 || geo->streams > STREAMS_MAX)
		return false;
	geometry_for(&honest, geo->streams);
	if (geo->slots != honest.slots || geo->live != honest.live ||
	    geo->returns != honest.returns)
		return false;
	geometry_place(geo);
	return geo->arena <= len;
}
