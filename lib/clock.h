/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* clock.h - the one clock that timeouts and spinning go by */
#ifndef SHMIPC_CLOCK_H
#define SHMIPC_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

static inline int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

/* The time of the kernel's last tick, some milliseconds ago at most: it asks no hardware clock. */
static inline int64_t coarse_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

/* When @timeout_ns > 0 have passed; far away for what would be after the end of time. */
static inline int64_t deadline_after(int64_t timeout_ns)
{
	int64_t now = now_ns();

	return timeout_ns > INT64_MAX - now ? INT64_MAX : now + timeout_ns;
}

/* What is left of a call's timeout that may wait several times. */
struct budget {
	int64_t timeout, deadline;
};

static inline struct budget budget_start(int64_t timeout_ns)
{
	struct budget b = { timeout_ns, timeout_ns > 0 ? deadline_after(timeout_ns) : 0 };

	return b;
}

static inline int64_t budget_left(const struct budget *b)
{
	int64_t left;

	if (b->timeout <= 0)
		return b->timeout;
	left = b->deadline - now_ns();
	return left > 0 ? left : 1;
}

static inline bool budget_spent(const struct budget *b)
{
	return b->timeout > 0 && now_ns() >= b->deadline;
}

#endif
