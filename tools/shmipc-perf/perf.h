/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* perf.h - what the parts of shmipc-perf share */
#ifndef SHMIPC_PERF_H
#define SHMIPC_PERF_H

#define RUNS_MAX	101

/* Ends the program: @err is -errno of the library, or 0 and errno tells. */
_Noreturn void die(const char *what, int err);
double now(void);	/* nanoseconds */
/* Sorts @times; prints their median in nanoseconds, @of what, with the least and the greatest. */
double report(double *times, unsigned int nr, const char *of);

/* pause.c */
struct pause_size {
	unsigned int sessions, mib;
	unsigned long requests;
};

/* Takes SESSIONS,MIB,REQUESTS. -1: that is none, or too much. */
int pause_parse(const char *text, struct pause_size *size);
/* Of --successor, which measure_pause() runs: a server that takes over. Does not return. */
_Noreturn void pause_succeed(const char *fds);
/* Nanoseconds of each of so many handovers: until a client has its answer, and until adopted. */
void measure_pause(const struct pause_size *size, unsigned int runs, double *pauses,
		   double *adopting);

#endif
