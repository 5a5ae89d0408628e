/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * pair.h - two processes, the CPUs that they run on, and what was measured of them
 *
 * The coordinator (this program) starts one pair at a time: a client, which makes what both need,
 * and its child, the server. The client measures, for both. All that they share beside the
 * transport is *control.
 */
#ifndef SHMIPC_PERF_PAIR_H
#define SHMIPC_PERF_PAIR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct transport;

/* What one repetition said. All but the last two for one operation. */
struct sample {
	double ns;
	double client_cpu, cpu;		/* processor time of it, of both ends; ns, all threads */
	double sleeps;			/* of both ends: voluntary switches */
	double probe;			/* ns that a cache line took there and back, beside it */
	double kib;			/* memory of both ends in use, shared pages once */
};

struct control {
	char error[128];		/* of whoever failed first, or "" */
	pid_t server;
	bool check;			/* what follows has the pattern that is checked */
	uint64_t count;			/* messages of a stream, of which the last is answered */
	uint64_t think_ns;		/* that the server works before it answers */
	uint64_t fixed_ops;		/* operations to do, or 0: as many as the time allows */
	double time_ns;			/* for the timed part */
	struct sample sample;
};

extern struct control *control;

enum place { ONE_CPU, TWO_CPUS, ANY_CPU };

/* place.c */
extern const char *const place_names[];
extern int cpus[2];
/* Finds two CPUs; where there is but one, cpus[1] is -1. A program may be told which. */
void place_init(void);
void place_end(enum place place, int end);
/* Nanoseconds of a round trip of one cache line between both CPUs, now. */
double place_probe(void);

/* pair.c */
void control_make(void);
/*
 * Runs one pair. @server NULL: there is none. 0, or -1 and control->error says why.
 */
int pair_run(const struct transport *t, enum place place, void (*client)(const struct transport *t),
	     void (*server)(const struct transport *t));

/* measure.c: in the client. @ops does so many operations; it is called with @least or more. */
void measure_ops(const struct transport *t, void (*ops)(const struct transport *t, uint64_t n),
		 uint64_t least);

/* trace.c: as pair_run(); system calls for one operation; negative: they can't be had. */
double count_calls(const struct transport *t, enum place place,
		   void (*client)(const struct transport *t),
		   void (*server)(const struct transport *t));
/* In the client: counting begins, and ends. */
void count_mark(void);

#endif
