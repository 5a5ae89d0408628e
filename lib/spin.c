// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* spin.c - the policy of adaptive spinning */
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
