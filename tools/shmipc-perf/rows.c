// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* rows.c - medians and ratios */
#include <stdlib.h>
#include <string.h>
#include "rows.h"

#define NEAR_NS	90	/* the first class ends at twice that, each further one at twice as much */
#define CLASSES	16

struct row rows[ROWS_MAX];
unsigned int nr_rows;

int sample_class(const struct row *row, const struct sample *sample)
{
	int class = 0;

	if (row->place == ONE_CPU)
		return 0;
	for (double ns = sample->probe; ns >= 2 * NEAR_NS && class < CLASSES - 1; ns /= 2)
		class++;
	return class;
}

unsigned int row_count(const struct row *row, int class)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < row->nr; i++)
		n += sample_class(row, &row->samples[i]) == class;
	return n;
}

int row_class(const struct row *row)
{
	int best = 0;

	for (int class = 1; class < CLASSES; class++)
		if (row_count(row, class) > row_count(row, best))
			best = class;
	return best;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double value(const struct sample *sample, size_t field)
{
	double v;

	memcpy(&v, (const char *)sample + field, sizeof(v));
	return v;
}

/* Rising. Returns how many. */
static unsigned int sorted(const struct row *row, size_t field, int class,
			   double values[SAMPLES_MAX])
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < row->nr; i++)
		if (class < 0 || sample_class(row, &row->samples[i]) == class)
			values[n++] = value(&row->samples[i], field);
	qsort(values, n, sizeof(values[0]), by_value);
	return n;
}

double row_median(const struct row *row, size_t field, int class)
{
	double values[SAMPLES_MAX] = { 0 };
	unsigned int n = sorted(row, field, class, values);

	if (!n)
		return 0;
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

double row_p99(const struct row *row, size_t field)
{
	double values[SAMPLES_MAX] = { 0 };
	unsigned int n = sorted(row, field, -1, values);

	return n < 100 ? -1 : values[(n * 99 + 99) / 100 - 1];
}

void row_range(const struct row *row, size_t field, double *least, double *most)
{
	*least = *most = 0;
	for (unsigned int i = 0; i < row->nr; i++) {
		double v = value(&row->samples[i], field);

		if (!i || v < *least)
			*least = v;
		if (!i || v > *most)
			*most = v;
	}
}

double row_ratio(const struct row *a, const struct row *b, size_t field, unsigned int least)
{
	unsigned int most = 0;
	int best = -1;
	double below;

	for (int class = 0; class < CLASSES; class++) {
		unsigned int na = row_count(a, class), nb = row_count(b, class);
		unsigned int n = na < nb ? na : nb;

		if (n >= least && n > most) {
			most = n;
			best = class;
		}
	}
	if (best < 0)
		return -1;
	below = row_median(b, field, best);
	return below > 0 ? row_median(a, field, best) / below : -1;
}
