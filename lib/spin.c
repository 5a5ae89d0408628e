// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* spin.c - the policy of adaptive spinning, and of giving way */
#include "spin.h"

#define AVERAGE_CAP_NS	1000000	/* one long wait is forgotten within a few short ones */

void spin_init(struct spin *spin)
{
	*spin = (struct spin){ .average_ns = SPIN_WAKE_NS, .limit_ns = SPIN_MAX_NS };
}

uint32_t spin_budget(struct spin *spin)
{
	spin->waits++;
	if (spin->skip) {
		spin->skip--;
		return 0;
	}
	if (spin->average_ns > 2 * SPIN_WAKE_NS && spin->waits % SPIN_RETRY)
		return 0;
	return spin->limit_ns;
}

void spin_learn(struct spin *spin, uint64_t wait_ns)
{
	uint32_t wait = wait_ns < AVERAGE_CAP_NS ? wait_ns : AVERAGE_CAP_NS;

	spin->average_ns = spin->average_ns - spin->average_ns / 8 + wait / 8;
	if (spin->limit_ns < SPIN_MAX_NS)
		spin->limit_ns += (SPIN_MAX_NS - spin->limit_ns + 15) / 16;
}

void spin_preempted(struct spin *spin)
{
	spin->limit_ns /= 2;
	spin->skip = SPIN_SKIP;
}

enum spin_yield spin_may_yield(struct spin *spin, uint32_t found)
{
	uint32_t frames = found - spin->found;

	spin->found = found;
	if (spin->yield_skip) {
		spin->yield_skip -= !frames ? 1 : frames < spin->yield_skip ? frames : spin->yield_skip;
		return YIELD_NOT;
	}
	return spin->yields++ % YIELD_SAMPLE && !spin->yield_pause ? YIELD : YIELD_TIMED;
}

/* @pause, some times longer, within these; longer than that it stays as it is. */
static uint32_t longer(uint32_t pause, uint32_t times, uint32_t least, uint32_t most)
{
	if (pause >= most)
		return pause;
	pause *= times;
	return pause < least ? least : pause < most ? pause : most;
}

void spin_yielded(struct spin *spin, unsigned int found, uint64_t took_ns)
{
	if (took_ns > YIELD_LONG_NS + (uint64_t)found * YIELD_FOUND_NS)
		spin->yield_pause = longer(spin->yield_pause, 4, YIELD_REST, YIELD_REST_MAX);
	else if (!found)
		spin->yield_pause = longer(spin->yield_pause, 2, 1, YIELD_SKIP);
	else
		spin->yield_pause /= 2;
	spin->yield_skip = spin->yield_pause;
}
