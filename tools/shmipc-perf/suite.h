/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* suite.h - the whole benchmark, and what is written of it */
#ifndef SHMIPC_PERF_SUITE_H
#define SHMIPC_PERF_SUITE_H

#include <stdbool.h>
#include <stdio.h>
#include "rows.h"
#include "verdict.h"

struct suite {
	bool quick;		/* seconds instead of minutes: that it works, not what it takes */
	unsigned int runs;	/* repetitions that each row gets of one class */
	const char *only;	/* this workload; NULL: all */
	char **names;		/* of the transports; @nr_names 0: all */
	int nr_names;
};

/* Is there a workload of that name? */
bool suite_has(const char *workload);
/* suite.c: fills in rows[]; calls @row of each as its group is done. */
void suite_run(const struct suite *suite, void (*row)(const struct row *row));

/* machine.c: what it ran on; "key: value" lines, or a JSON object's members. */
struct machine {
	char cpu[96], kernel[96], caches[96], hypervisor[32], date[32];
	long cpus, mib;
	const char *provider;
};
void machine_look(struct machine *machine);

/* report.c */
void report_row(const struct row *row);
void report_verdicts(FILE *to, const struct verdict *verdicts, unsigned int nr);
void report_markdown(FILE *to, const struct machine *machine, const struct suite *suite,
		     const struct verdict *verdicts, unsigned int nr);

/* json.c */
void report_json(FILE *to, const struct machine *machine, const struct suite *suite,
		 const struct verdict *verdicts, unsigned int nr);

/* plot.c: a gnuplot script with its data, at @path, that makes @path.svg and @path.png; runs it. */
int report_plots(const char *path);

#endif
