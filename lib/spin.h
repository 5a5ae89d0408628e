/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * spin.h - how long to look before sleeping
 *
 * Spinning pays when the partner answers sooner than a wake-up would take, and burns a CPU
 * otherwise. The policy learns from what the last waits took; it reads no clock itself. Where it
 * pays at all it is worth its full time: who gives up early, in a wait that is longer than usual,
 * costs both ends a wake-up, and those make the next waits long as well.
 */
#ifndef SHMIPC_SPIN_H
#define SHMIPC_SPIN_H

#include <stdint.h>

#define SPIN_MAX_NS	50000	/* never longer than this: twice what a wake-up costs */
#define SPIN_WAKE_NS	25000	/* what waking another CPU costs, about */
#define SPIN_JUMP_NS	100000	/* a clock step inside a spin that means: preempted, and not just interrupted */
#define SPIN_RETRY	64	/* one wait in so many is tried though it did not pay before */
#define SPIN_SKIP	16	/* waits without a spin after a preemption */

struct spin {
	uint32_t average_ns;	/* moving average of the waits */
	uint32_t limit_ns;	/* halved by each preemption, grows back */
	uint32_t skip;
	uint32_t waits;
};

void spin_init(struct spin *spin);
/* Nanoseconds to spin in the wait that begins now; 0: sleep at once. */
uint32_t spin_budget(struct spin *spin);
/* The wait took this long, spinning and sleeping together. */
void spin_learn(struct spin *spin, uint64_t wait_ns);
void spin_preempted(struct spin *spin);

#endif
