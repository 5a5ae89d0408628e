// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* verdict.c - what has to be reached, nearly all as ratios within one run */
#include <string.h>
#include "verdict.h"

const char *const state_names[] = { "reached", "missed", "void", "absent" };

#define KIB	((size_t)1 << 10)
#define MIB	((size_t)1 << 20)
#define GIB	((size_t)1 << 30)
#define THINK	1e6	/* nanoseconds that a partner works in the variant "1 ms think time" */

struct key {
	const char *workload, *variant, *transport;
	enum place place;
	bool spin;
	size_t size;
	unsigned int channels;
};

enum measure {
	TIME,		/* of @a by that of @b */
	RATE,		/* likewise: time of @b by that of @a */
	CPU,		/* processor time of both ends of @a by that of @b: one that sleeps while
			   the other spins is not cheaper */
	SHARE,		/* of a CPU that the client of @a used, waiting */
	P99,		/* of @a, in milliseconds: all others are ratios */
};

/* Which sanity a target hangs on. */
enum floor { EVENTFD, RING_ONE, RING_TWO, FLOORS, NO_FLOOR = FLOORS };

struct target {
	const char *number, *what;
	enum measure measure;
	enum floor floor;
	double limit;
	struct key a, b;
};

#define PING_PONG(t, p, s)	{ "ping-pong", "", t, p, false, s, 1 }
#define SPINNING(t, p, s)	{ "ping-pong", "", t, p, true, s, 1 }
#define THINKING(t)		{ "ping-pong", "1 ms think time", t, TWO_CPUS, false, 64, 1 }
#define ONE_WAY(t, p, s)	{ "one-way", "", t, p, false, s, 1 }
#define PARALLEL(t, p)		{ "channels", "streams of one session", t, p, false, 64, 64 }
#define SESSIONS(n)		{ "channels", "sessions, 10 busy", "shmipc", ONE_CPU, false, 64, n }

#define HANDOVER	{ "handover", "until answered", "shmipc", ANY_CPU, false, MIB, 16 }

/* If these fail, the machine is not as it should be, and what hangs on them is void. */
static const struct target floors[FLOORS] = {
	[EVENTFD] = { "floor", "64 B ping-pong, one CPU: eventfd to Unix socket, time",
		TIME, EVENTFD, 0.6,
		PING_PONG("eventfd", ONE_CPU, 64), PING_PONG("unix", ONE_CPU, 64) },
	[RING_ONE] = { "floor", "64 B one-way, one CPU: futex ring to Unix socket, rate",
		RATE, RING_ONE, 8,
		ONE_WAY("ring", ONE_CPU, 64), ONE_WAY("unix", ONE_CPU, 64) },
	[RING_TWO] = { "floor", "64 B one-way, two CPUs: futex ring to Unix socket, rate",
		RATE, RING_TWO, 8,
		ONE_WAY("ring", TWO_CPUS, 64), ONE_WAY("unix", TWO_CPUS, 64) },
};

static const struct target targets[] = {
	{ "1", "64 B ping-pong, blocking, one CPU: to eventfd, time",
	  TIME, EVENTFD, 1.3,
	  PING_PONG("shmipc", ONE_CPU, 64), PING_PONG("eventfd", ONE_CPU, 64) },
	{ "1", "64 B ping-pong, blocking, one CPU: to Unix socket, time",
	  TIME, EVENTFD, 0.55,
	  PING_PONG("shmipc", ONE_CPU, 64), PING_PONG("unix", ONE_CPU, 64) },
	{ "2", "64 B ping-pong, default settings, two CPUs: to Unix socket, time",
	  TIME, EVENTFD, 0.2,
	  PING_PONG("shmipc", TWO_CPUS, 64), PING_PONG("unix", TWO_CPUS, 64) },
	{ "2", "64 B ping-pong, default settings, two CPUs: to Unix socket, processor time",
	  CPU, EVENTFD, 1,
	  PING_PONG("shmipc", TWO_CPUS, 64), PING_PONG("unix", TWO_CPUS, 64) },
	{ "2", "64 B ping-pong, two CPUs, 1 ms think time: to Unix socket, time beside thinking",
	  TIME, EVENTFD, 1.2,
	  THINKING("shmipc"), THINKING("unix") },
	{ "2", "64 B ping-pong, two CPUs, 1 ms think time: share of a CPU that waiting takes",
	  SHARE, EVENTFD, 0.1,
	  THINKING("shmipc"), THINKING("shmipc") },
	{ "3", "64 B ping-pong, spinning, two CPUs: to a cache line, time",
	  TIME, EVENTFD, 1.5,
	  SPINNING("shmipc", TWO_CPUS, 64), SPINNING("spin", TWO_CPUS, 64) },
	{ "4", "1 MiB ping-pong, blocking, one CPU: to futex, time",
	  TIME, EVENTFD, 1.1,
	  PING_PONG("shmipc", ONE_CPU, MIB), PING_PONG("futex", ONE_CPU, MIB) },
	{ "5", "64 B one-way, two CPUs: to futex ring, rate",
	  RATE, RING_TWO, 1,
	  ONE_WAY("shmipc", TWO_CPUS, 64), ONE_WAY("ring", TWO_CPUS, 64) },
	{ "5", "64 B one-way, two CPUs: to Unix socket, rate",
	  RATE, RING_TWO, 12,
	  ONE_WAY("shmipc", TWO_CPUS, 64), ONE_WAY("unix", TWO_CPUS, 64) },
	{ "5", "64 B one-way, one CPU: to futex ring, rate",
	  RATE, RING_ONE, 0.75,
	  ONE_WAY("shmipc", ONE_CPU, 64), ONE_WAY("ring", ONE_CPU, 64) },
	{ "6", "64 KiB one-way, two CPUs: to futex ring, rate",
	  RATE, RING_TWO, 0.8,
	  ONE_WAY("shmipc", TWO_CPUS, 64 * KIB), ONE_WAY("ring", TWO_CPUS, 64 * KIB) },
	{ "6", "1 MiB one-way, two CPUs: to futex ring, rate",
	  RATE, RING_TWO, 0.8,
	  ONE_WAY("shmipc", TWO_CPUS, MIB), ONE_WAY("ring", TWO_CPUS, MIB) },
	{ "7", "1 GiB buffer, descriptor only, one CPU: to 64 B ping-pong, time",
	  TIME, EVENTFD, 1.1,
	  { "buffer", "descriptor only", "shmipc", ONE_CPU, false, GIB, 1 },
	  { "ping-pong", "beside the buffers", "shmipc", ONE_CPU, false, 64, 1 } },
	{ "10", "64 streams on one session, one CPU: to 64 Unix sockets with epoll, rate",
	  RATE, EVENTFD, 3,
	  PARALLEL("shmipc", ONE_CPU), PARALLEL("unix", ONE_CPU) },
	{ "10", "64 streams on one session, two CPUs: to 64 Unix sockets with epoll, rate",
	  RATE, EVENTFD, 3,
	  PARALLEL("shmipc", TWO_CPUS), PARALLEL("unix", TWO_CPUS) },
	{ "11", "1,000 sessions, 10 busy, one CPU: to 10 sessions, time",
	  TIME, EVENTFD, 1.2,
	  SESSIONS(1000), SESSIONS(10) },
	{ "12", "planned handover, 16 sessions, 1 MiB, until answered: p99 in ms",
	  P99, NO_FLOOR, 5,
	  HANDOVER, HANDOVER },
};

static bool same(const char *a, const char *b)
{
	return !strcmp(a, b);
}

static const struct row *find(const struct key *key)
{
	for (const struct row *row = rows; row < rows + nr_rows; row++)
		if (same(row->workload, key->workload) && same(row->variant, key->variant) &&
		    same(row->transport, key->transport) && row->place == key->place &&
		    row->spin == key->spin && row->size == key->size &&
		    row->channels == key->channels)
			return row;
	return NULL;
}

static double measure(const struct target *target, unsigned int samples)
{
	const struct row *a = find(&target->a), *b = find(&target->b);

	if (!a || !b || a->nr < samples || b->nr < samples)
		return -1;
	switch (target->measure) {
	case TIME:
		return row_ratio(a, b, FIELD(ns), samples);
	case RATE:
		return row_ratio(b, a, FIELD(ns), samples);
	case CPU:
		return row_ratio(a, b, FIELD(cpu), samples);
	case SHARE:
		return row_median(a, FIELD(client_cpu), -1) /
		       (row_median(a, FIELD(ns), -1) + THINK);
	case P99:
		return row_p99(a, FIELD(ns)) / 1e6;
	}
	return -1;
}

static void judge_one(const struct target *target, struct verdict *verdict, unsigned int samples)
{
	bool good;

	*verdict = (struct verdict){ target->number, target->what, target->limit,
				     measure(target, samples), target->measure == RATE, ABSENT };
	if (verdict->value < 0)
		return;
	good = verdict->least ? verdict->value >= verdict->limit : verdict->value <= verdict->limit;
	verdict->state = good ? REACHED : MISSED;
}

unsigned int judge(struct verdict *verdicts, unsigned int samples)
{
	unsigned int n = 0;

	for (; n < FLOORS; n++)
		judge_one(&floors[n], &verdicts[n], samples);
	for (unsigned int i = 0; i < sizeof(targets) / sizeof(targets[0]); i++, n++) {
		judge_one(&targets[i], &verdicts[n], samples);
		/* A floor that was not measured vouches for nothing either. */
		if (verdicts[n].state != ABSENT && targets[i].floor != NO_FLOOR &&
		    verdicts[targets[i].floor].state != REACHED)
			verdicts[n].state = VOID;
	}
	return n;
}

_Static_assert(FLOORS + sizeof(targets) / sizeof(targets[0]) <= VERDICTS_MAX, "all fit");
