/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* rows.h - what was measured, and how rows are compared */
#ifndef SHMIPC_PERF_ROWS_H
#define SHMIPC_PERF_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include "pair.h"

#define SAMPLES_MAX	101
#define BENCH_RUNS_MAX	24		/* there may be twice as many samples, for their classes */
#define ROWS_MAX	1024

struct workload;

/* One transport in one setting. */
struct row {
	const char *workload, *variant, *transport;
	enum place place;
	unsigned int channels, busy;
	unsigned int group;		/* rows of a group were measured in turns */
	size_t size;
	unsigned int nr;
	bool spin;
	bool failed;			/* a pair ended badly: nothing is just not there */
	struct sample samples[SAMPLES_MAX];
	double calls;			/* system calls for an operation; negative: not known */
	double foreign;			/* part of the machine's time that others had meanwhile */
	char missing[128];		/* why there is no sample, or "" */
	const struct workload *work;
	const struct transport *t;
};

extern struct row rows[ROWS_MAX];
extern unsigned int nr_rows;

/* Fields of a sample, for the functions below. */
#define FIELD(f)	offsetof(struct sample, f)

/*
 * Runs over two CPUs are classified by the probe beside them: only those of one class compare,
 * since the host moves CPUs near each other and apart.
 */
int sample_class(const struct row *row, const struct sample *sample);
/* The class that most samples are of. */
int row_class(const struct row *row);
unsigned int row_count(const struct row *row, int class);
/* Of the samples of one class; @class -1: of all. */
double row_median(const struct row *row, size_t field, int class);
/* What 99 of 100 samples are not above; negative: there are less than 100. */
double row_p99(const struct row *row, size_t field);
void row_range(const struct row *row, size_t field, double *least, double *most);
/* Median of @a by that of @b, in the class that both have most of; negative: in none @least. */
double row_ratio(const struct row *a, const struct row *b, size_t field, unsigned int least);

#endif
