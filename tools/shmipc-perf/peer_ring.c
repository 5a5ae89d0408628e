// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * peer_ring.c - a bare ring in shared memory each way: the floor of one-way streams
 *
 * As many slots as shmipc has under way, payload in the slot. Published by a number in the slot,
 * freed by the reader's count of what it has read. Whoever finds nothing sets its word, looks
 * again and sleeps on that word; who has news for it clears the same word, so that no wake is lost.
 * A writer that found no room is woken at the next quarter of the ring.
 */
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "lib/barrier.h"
#include "perf.h"
#include "transport.h"

#define HEAD	32	/* bytes of a slot before its payload: the number, and nothing else there */

struct ring {
	uint32_t read __attribute__((aligned(128)));	/* slots, by the reader */
	uint32_t reader_sleeps __attribute__((aligned(128)));
	uint32_t writer_sleeps __attribute__((aligned(128)));
	char slots[] __attribute__((aligned(128)));
};

static struct side {
	struct ring *ring;
	size_t stride;
	uint32_t at,
		room; /* next slot, counted from 0; where the writer must look at @read again */
} sides[2], *rx, *tx;

static void ring_make(void)
{
	for (int i = 0; i < 2; i++) {
		size_t stride = ((i ? setup.reply : setup.size) + HEAD + 63) / 64 * 64;
		void *p = mmap(NULL, sizeof(struct ring) + stride * setup.depth,
			       PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED)
			die("mmap", 0);
		sides[i] = (struct side){ p, stride, 0, setup.depth };
	}
}

static void ring_attach(enum end end)
{
	tx = &sides[end];
	rx = &sides[!end];
}

static uint32_t *slot(const struct side *side)
{
	return (uint32_t *)(side->ring->slots + side->stride * (side->at % setup.depth));
}

static void sleep_on(uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAIT, 1, NULL, NULL, 0);
}

static void wake(uint32_t *word)
{
	/* Published before looked at: the sleeper sets and looks in the other order. */
	full_fence();
	if (__atomic_load_n(word, __ATOMIC_RELAXED) &&
	    __atomic_exchange_n(word, 0, __ATOMIC_SEQ_CST))
		syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static bool has_room(void)
{
	tx->room = __atomic_load_n(&tx->ring->read, __ATOMIC_ACQUIRE) + setup.depth;
	return tx->at != tx->room;
}

static void *ring_reserve(unsigned int channel, size_t size)
{
	uint32_t *word = &tx->ring->writer_sleeps;

	(void)channel;
	(void)size;
	while (tx->at == tx->room && !has_room()) {
		if (setup.spin)
			continue;
		__atomic_store_n(word, 1, __ATOMIC_SEQ_CST);
		if (has_room()) {
			__atomic_store_n(word, 0, __ATOMIC_RELAXED);
			break;
		}
		sleep_on(word);
	}
	return (char *)slot(tx) + HEAD;
}

static void ring_commit(unsigned int channel, size_t size, bool answered)
{
	(void)channel;
	(void)size;
	(void)answered;
	__atomic_store_n(slot(tx), tx->at + 1, __ATOMIC_RELEASE);
	tx->at++;
	if (!setup.spin)
		wake(&tx->ring->reader_sleeps);
}

static bool is_there(void)
{
	return __atomic_load_n(slot(rx), __ATOMIC_SEQ_CST) == rx->at + 1;
}

static const void *ring_receive(unsigned int channel, size_t size)
{
	uint32_t *word = &rx->ring->reader_sleeps;

	(void)channel;
	(void)size;
	while (!is_there()) {
		if (setup.spin)
			continue;
		__atomic_store_n(word, 1, __ATOMIC_SEQ_CST);
		if (is_there()) {
			__atomic_store_n(word, 0, __ATOMIC_RELAXED);
			break;
		}
		sleep_on(word);
	}
	return (char *)slot(rx) + HEAD;
}

static void ring_release(unsigned int channel)
{
	uint32_t quarter = setup.depth < 4 ? 1 : setup.depth / 4;

	(void)channel;
	__atomic_store_n(&rx->ring->read, ++rx->at, __ATOMIC_RELEASE);
	if (!setup.spin && rx->at % quarter == 0)
		wake(&rx->ring->writer_sleeps);
}

const struct transport peer_ring = {
	.name = "ring", .flags = STREAMS | SPINS | SLEEPS, .make = ring_make, .attach = ring_attach,
	.reserve = ring_reserve, .commit = ring_commit, .receive = ring_receive,
	.release = ring_release,
};
