/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* clock.h - the one clock that timeouts and spinning go by */
#ifndef SHMIPC_CLOCK_H
#define SHMIPC_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

#endif
