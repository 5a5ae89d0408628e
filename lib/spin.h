/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * spin.h - how long to look before sleeping
 *
 * Spinning pays when the partner answers sooner than a wake-up would take, and burns a CPU
 * otherwise. The policy learns from what the last waits took; it reads no clock itself. Where it
 * pays at all it is worth its full time: who gives up early, in a wait that is longer than usual,
 * costs both ends a wake-up, and those make the next waits long as well.
 *
 * Where both share a CPU, looking keeps the partner from running. There a wait first gives the CPU
 * away, as sched_yield() does. Two programs that have the CPU to themselves take turns so, and neither sleeps.
 * A third that wants it all would get it for a millisecond or three at each yield, where a wake is
 * served sooner: so yields are timed, one in two while all is well, and after one that took long, for
 * what it brought, the next is a thousand waits away, or fewer that find many frames each; after several many.
 */
#ifndef SHMIPC_SPIN_H
#define SHMIPC_SPIN_H

#include <stdbool.h>
#include <stdint.h>

#define SPIN_MAX_NS	50000	/* never longer than this: twice what a wake-up costs */
#define SPIN_WAKE_NS	25000	/* what waking another CPU costs, about */
#define SPIN_JUMP_NS	100000	/* a clock step inside a spin that means: preempted, and not just interrupted */
#define SPIN_RETRY	64	/* one wait in so many is tried though it did not pay before */
#define SPIN_SKIP	16	/* waits without a spin after a preemption */
#define YIELD_TRIES	2	/* in a wait: the first may find a partner in the midst of its answer */
#define YIELD_LONG_NS	400000	/* a yield that takes longer: somebody else had the CPU for a slice, or the partner works for long */
#define YIELD_FOUND_NS	2000	/* longer by this for each frame that it brought: without it a bell would have been rung for each */
#define YIELD_SAMPLE	2	/* one yield in so many is timed while none takes long: reading the clock costs */
#define YIELD_SKIP	64	/* at most, waits without a yield after some that found nothing, which cost little */
#define YIELD_REST	1024	/* at least, after one that took long: what it cost is as much as so many yields save */
#define YIELD_REST_MAX	16384

enum spin_yield { YIELD_NOT, YIELD, YIELD_TIMED };

struct spin {
	uint32_t average_ns;	/* moving average of the waits */
	uint32_t limit_ns;	/* halved by each preemption, grows back */
	uint32_t skip;
	uint32_t waits;
	uint32_t yields;
	uint32_t yield_pause;	/* waits between two of them; one in which frames were found counts as so many */
	uint32_t yield_skip;	/* until the next */
	uint32_t found;		/* when the last wait began */
};

void spin_init(struct spin *spin);
/* Nanoseconds to spin in the wait that begins now; 0: sleep at once. */
uint32_t spin_budget(struct spin *spin);
/* The wait took this long, spinning and sleeping together. */
void spin_learn(struct spin *spin, uint64_t wait_ns);
void spin_preempted(struct spin *spin);

/* May the wait that begins now yield? @found: frames, ever. */
enum spin_yield spin_may_yield(struct spin *spin, uint32_t found);
/* It did, had the CPU again after @took_ns, or 0: not timed, and found so many frames. */
void spin_yielded(struct spin *spin, unsigned int found, uint64_t took_ns);

#endif
