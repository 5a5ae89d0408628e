// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* measure.c - the timed part, and what both ends used for it */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "pair.h"
#include "perf.h"
#include "transport.h"

struct usage {
	double cpu[2], sleeps;
};

/* Processor time of a process, its ended threads too; the kernel's own precision. */
static double cpu_of(pid_t pid)
{
	struct timespec ts;
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &ts))
		return 0;
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

/* Sum of the numbers behind @key in a file of /proc/@pid. */
static double number(pid_t pid, const char *file, const char *key)
{
	char path[96], line[128];
	double sum = 0, value;
	size_t len = strlen(key);
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, key, len) && sscanf(line + len, "%lf", &value) == 1)
			sum += value;
	fclose(f);
	return sum;
}

/* Voluntary switches of all threads. */
static double sleeps_of(pid_t pid)
{
	struct dirent *entry;
	double sum = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (!dir)
		return 0;
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "task/%.20s/status", entry->d_name);
		sum += number(pid, path, "voluntary_ctxt_switches:");
	}
	closedir(dir);
	return sum;
}

static void look(struct usage *usage)
{
	usage->sleeps = sleeps_of(getpid());
	usage->cpu[SERVER] = 0;
	if (control->server) {
		usage->sleeps += sleeps_of(control->server);
		usage->cpu[SERVER] = cpu_of(control->server);
	}
	usage->cpu[CLIENT] = cpu_of(getpid());
}

/* How many operations take the time that there is. */
static uint64_t calibrate(const struct transport *t,
			  void (*ops)(const struct transport *t, uint64_t n), uint64_t least)
{
	uint64_t n = least;
	double took;

	/* Also what warms up: caches, windows, the averages by which a library spins. */
	for (;;) {
		double start = now();

		ops(t, n);
		took = now() - start;
		if (took * 8 > control->time_ns)
			break;
		n *= 2;
	}
	n = n / took * control->time_ns;
	return n > least ? n : least;
}

void measure_ops(const struct transport *t, void (*ops)(const struct transport *t, uint64_t n),
		 uint64_t least)
{
	struct sample *sample = &control->sample;
	uint64_t n = control->fixed_ops;
	struct usage before, after;
	double start, took;

	control->check = true;
	ops(t, least);
	control->check = false;
	if (n)
		ops(t, n);
	else
		n = calibrate(t, ops, least);
	look(&before);
	count_mark();
	start = now();
	ops(t, n);
	took = now() - start;
	count_mark();
	look(&after);
	sample->ns = took / n;
	sample->client_cpu = (after.cpu[CLIENT] - before.cpu[CLIENT]) / n;
	sample->cpu = sample->client_cpu + (after.cpu[SERVER] - before.cpu[SERVER]) / n;
	sample->sleeps = (after.sleeps - before.sleeps) / n;
	sample->kib = number(getpid(), "smaps_rollup", "Pss:");
	if (control->server)
		sample->kib += number(control->server, "smaps_rollup", "Pss:");
}
