// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* plot.c - latency and throughput against size: a gnuplot script with its data */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "suite.h"
#include "transport.h"
#include "workload.h"

struct panel {
	const char *title, *axis;
	const struct workload *work;
	enum place place;
	bool rate;
};

static const struct panel panels[] = {
	{ "ping-pong, blocking, one CPU", "us a round trip", &ping_pong, ONE_CPU, false },
	{ "ping-pong, blocking, two CPUs", "us a round trip", &ping_pong, TWO_CPUS, false },
	{ "one-way, one CPU", "GB/s", &one_way, ONE_CPU, true },
	{ "one-way, two CPUs", "GB/s", &one_way, TWO_CPUS, true },
};

#define PANELS	(sizeof(panels) / sizeof(panels[0]))

static bool shown(const struct row *row, const struct panel *panel, const struct transport *t)
{
	return row->work == panel->work && !row->variant[0] && row->place == panel->place &&
	       !row->spin && row->nr && row->t == t;
}

/* How many points; @to: where they are written, or NULL. */
static unsigned int points(FILE *to, const struct panel *panel, const struct transport *t)
{
	unsigned int n = 0;

	for (const struct row *row = rows; row < rows + nr_rows; row++) {
		double ns;

		if (!shown(row, panel, t))
			continue;
		n++;
		ns = row_median(row, FIELD(ns), row_class(row));
		if (to)
			fprintf(to, "%zu %g\n", row->size, panel->rate ? row->size / ns : ns / 1e3);
	}
	return n;
}

static void write_data(FILE *to)
{
	for (unsigned int p = 0; p < PANELS; p++)
		for (unsigned int t = 0; transports[t]; t++) {
			if (!points(NULL, &panels[p], transports[t]))
				continue;
			fprintf(to, "$d%u_%u << EOD\n", p, t);
			points(to, &panels[p], transports[t]);
			fprintf(to, "EOD\n");
		}
}

static void write_panels(FILE *to)
{
	for (unsigned int p = 0; p < PANELS; p++) {
		const char *separator = "plot ";

		fprintf(to, "set title '%s'\nset ylabel '%s'\n", panels[p].title, panels[p].axis);
		for (unsigned int t = 0; transports[t]; t++) {
			if (!points(NULL, &panels[p], transports[t]))
				continue;
			fprintf(to, "%s$d%u_%u with linespoints title '%s'%s", separator, p, t,
				transports[t]->name, transports[t] == &peer_shmipc ? " lw 3" : "");
			separator = ", \\\n\t";
		}
		fprintf(to, "\n");
	}
}

static void write_script(FILE *to, const char *path)
{
	static const char *const terminals[][2] = {
		{ "svg size 1200,900 background 'white'", "svg" },
		{ "pngcairo size 1200,900", "png" },
	};

	fprintf(to, "# gnuplot: latency and throughput by size, in one run of shmipc-perf\n");
	write_data(to);
	fprintf(to, "set logscale x 2\nset logscale y\nset xlabel 'bytes'\nset grid\nset key "
		    "outside\n");
	for (unsigned int i = 0; i < 2; i++) {
		fprintf(to, "set terminal %s\nset output '%s.%s'\nset multiplot layout 2,2\n",
			terminals[i][0], path, terminals[i][1]);
		write_panels(to);
		fprintf(to, "unset multiplot\n");
	}
}

int report_plots(const char *path)
{
	char script[4096];
	int status;
	pid_t child;
	FILE *to;

	snprintf(script, sizeof(script), "%s.gp", path);
	to = fopen(script, "we");
	if (!to)
		return -errno;
	write_script(to, path);
	if (fclose(to))
		return -errno;
	child = fork();
	if (child < 0)
		return -errno;
	if (!child) {
		execlp("gnuplot", "gnuplot", script, NULL);
		_exit(127);
	}
	if (waitpid(child, &status, 0) != child ||
	    (WIFEXITED(status) && WEXITSTATUS(status) == 127))
		return -ENOENT;
	return status ? -EIO : 0;
}
