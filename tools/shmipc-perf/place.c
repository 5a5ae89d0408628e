// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* place.c - CPUs, and how far they are from each other at the moment */
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "pair.h"
#include "perf.h"

#define PROBES	1000	/* round trips of a part */
#define PARTS	5 /* the least of so many counts: a probe is to see the distance, not the load */

const char *const place_names[] = { "one CPU", "two CPUs", "unpinned" };
int cpus[2] = { -1, -1 };
static cpu_set_t allowed;

/* Do both share a core? Then they are no two CPUs for this purpose, if others are there. */
static int siblings(int a, int b)
{
	char path[96], list[64] = "";
	int first = -1, last = -1;
	FILE *f;

	snprintf(path, sizeof(path),
		 "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", a);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (!fgets(list, sizeof(list), f))
		list[0] = 0;
	fclose(f);
	/* "0,4" or "0-1" */
	if (sscanf(list, "%d%*c%d", &first, &last) != 2)
		return 0;
	return b == first || b == last;
}

void place_init(void)
{
	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		die("sched_getaffinity", 0);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &allowed))
			continue;
		if (cpus[0] < 0)
			cpus[0] = cpu;
		else if (cpus[1] < 0 || (siblings(cpus[0], cpus[1]) && !siblings(cpus[0], cpu)))
			cpus[1] = cpu;
	}
}

void place_end(enum place place, int end)
{
	cpu_set_t set = allowed;

	if (place != ANY_CPU) {
		CPU_ZERO(&set);
		CPU_SET(cpus[place == TWO_CPUS ? end : 0], &set);
	}
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity", 0);
}

struct line {
	uint32_t there __attribute__((aligned(128)));
	uint32_t back __attribute__((aligned(128)));
	char end __attribute__((aligned(128)));
};

static _Noreturn void echo_line(struct line *line)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	place_end(TWO_CPUS, 1);
	for (uint32_t i = 1;; i++) {
		while (__atomic_load_n(&line->there, __ATOMIC_ACQUIRE) != i)
			;
		__atomic_store_n(&line->back, i, __ATOMIC_RELEASE);
	}
}

double place_probe(void)
{
	static struct line *line;
	double best = 0;
	uint32_t i = 1;
	pid_t child;

	if (cpus[1] < 0)
		return 0;
	if (!line)
		line = mmap(NULL, sizeof(*line), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (line == MAP_FAILED)
		die("mmap", 0);
	line->there = line->back = 0;
	child = fork();
	if (child < 0)
		die("fork", 0);
	if (!child)
		echo_line(line);
	place_end(TWO_CPUS, 0);
	for (int part = 0; part < PARTS; part++) {
		double start = now(), took;

		for (int n = 0; n < PROBES; n++, i++) {
			__atomic_store_n(&line->there, i, __ATOMIC_RELEASE);
			while (__atomic_load_n(&line->back, __ATOMIC_ACQUIRE) != i)
				;
		}
		took = (now() - start) / PROBES;
		if (!part || took < best)
			best = took;
	}
	place_end(ANY_CPU, 0);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return best;
}
