// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* report.c - a run as text, a line a row, and as Markdown, a table a workload */
#include <stdio.h>
#include <string.h>
#include <shmipc/shmipc.h>
#include "suite.h"
#include "workload.h"

static void size_text(char *text, size_t len, size_t size)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB" };
	unsigned int unit = 0;

	for (; size >= 1024 && size % 1024 == 0 && unit < 3; unit++)
		size /= 1024;
	snprintf(text, len, "%zu %s", size, units[unit]);
}

static void time_text(char *text, size_t len, double ns)
{
	if (ns < 1e3)
		snprintf(text, len, "%.*f ns", ns < 100 ? 1 : 0, ns);
	else if (ns < 1e6)
		snprintf(text, len, "%.*f us", ns < 1e5 ? 2 : 0, ns / 1e3);
	else
		snprintf(text, len, "%.*f ms", ns < 1e8 ? 2 : 0, ns / 1e6);
}

static bool same_table(const struct row *a, const struct row *b)
{
	return !strcmp(a->workload, b->workload) && !strcmp(a->variant, b->variant) &&
	       a->place == b->place && a->spin == b->spin;
}

/* What tells the columns of a table from each other. */
static bool same_column(const struct row *a, const struct row *b)
{
	return same_table(a, b) && a->size == b->size && a->channels == b->channels;
}

static bool in_channels(const struct row *row)
{
	return row->work == &channels || row->work == &handover;
}

static void column_text(char *text, size_t len, const struct row *row)
{
	char size[16];

	size_text(size, sizeof(size), row->size);
	if (row->work == &handover)
		snprintf(text, len, "%u x, %s", row->channels, size);
	else if (in_channels(row))
		snprintf(text, len, "%u", row->channels);
	else
		snprintf(text, len, "%s", size);
}

static void title(FILE *to, const struct row *row)
{
	fprintf(to, "%s%s%s, %s, %s, a %s", row->workload, row->variant[0] ? ", " : "",
		row->variant, row->spin ? "spinning" : "blocking", place_names[row->place],
		row->work->op);
}

void report_row(const struct row *row)
{
	static const struct row *last;
	char text[4][64];
	double least, most;

	if (!last || !same_table(last, row)) {
		printf("\n");
		title(stdout, row);
		printf("\n%-10s %12s %10s %23s %10s %7s %7s %9s %s\n", "", "", "median",
		       "(least to most)", "CPU", "sleeps", "calls", "KiB", "class");
	}
	last = row;
	column_text(text[0], sizeof(text[0]), row);
	printf("%-10s %12s ", row->transport, text[0]);
	if (!row->nr) {
		printf("missing: %s\n", row->missing);
		fflush(stdout);
		return;
	}
	row_range(row, FIELD(ns), &least, &most);
	time_text(text[0], sizeof(text[0]), row_median(row, FIELD(ns), row_class(row)));
	time_text(text[1], sizeof(text[1]), least);
	time_text(text[2], sizeof(text[2]), most);
	time_text(text[3], sizeof(text[3]), row_median(row, FIELD(cpu), row_class(row)));
	printf("%10s (%9s to %9s) %10s %7.2f ", text[0], text[1], text[2], text[3],
	       row_median(row, FIELD(sleeps), row_class(row)));
	if (row->calls >= 0)
		printf("%7.2f", row->calls);
	else
		printf("%7s", "-");
	printf(" %9.0f %d: %u of %u%s\n", row_median(row, FIELD(kib), row_class(row)),
	       row_class(row), row_count(row, row_class(row)), row->nr,
	       row->foreign > 0.1 ? ", busy machine" : "");
	fflush(stdout);
}

void report_verdicts(FILE *to, const struct verdict *verdicts, unsigned int nr)
{
	fprintf(to, "\n| target | | wanted | measured | |\n|---|---|---|---|---|\n");
	for (unsigned int i = 0; i < nr; i++) {
		const struct verdict *v = &verdicts[i];

		fprintf(to, "| %s | %s | %s %g | ", v->number, v->what,
			v->least ? ">=" : "<=", v->limit);
		if (v->value < 0)
			fprintf(to, "- | %s |\n", state_names[v->state]);
		else
			fprintf(to, "%.3g | %s |\n", v->value, state_names[v->state]);
	}
}

/* ---- Markdown --------------------------------------------------------------------------- */

static bool first_of(const struct row *row, bool (*same)(const struct row *a, const struct row *b))
{
	for (const struct row *other = rows; other < row; other++)
		if (same(other, row))
			return false;
	return true;
}

static const struct row *cell(const struct row *column, const char *transport)
{
	for (const struct row *row = rows; row < rows + nr_rows; row++)
		if (same_column(row, column) && !strcmp(row->transport, transport))
			return row;
	return NULL;
}

static void markdown_cell(FILE *to, const struct row *row)
{
	char text[64];

	if (!row || !row->nr) {
		fprintf(to, " %s |", row ? "missing" : "");
		return;
	}
	time_text(text, sizeof(text), row_median(row, FIELD(ns), row_class(row)));
	/* Who asks for throughput asks for it where messages follow each other. */
	if (row->work == &one_way || row->work == &copying)
		fprintf(to, " %s, %.3g GB/s |", text,
			row->size / row_median(row, FIELD(ns), row_class(row)));
	else
		fprintf(to, " %s |", text);
}

static bool same_line(const struct row *a, const struct row *b)
{
	return same_table(a, b) && !strcmp(a->transport, b->transport);
}

static void markdown_table(FILE *to, const struct row *first)
{
	unsigned int nr_columns = 0;
	char text[64];

	fprintf(to, "\n## ");
	title(to, first);
	fprintf(to, "\n\n| |");
	for (const struct row *row = first; row < rows + nr_rows; row++)
		if (same_table(row, first) && first_of(row, same_column)) {
			column_text(text, sizeof(text), row);
			fprintf(to, " %s |", text);
			nr_columns++;
		}
	fprintf(to, "\n|---|");
	while (nr_columns--)
		fprintf(to, "---|");
	fprintf(to, "\n");
	for (const struct row *line = first; line < rows + nr_rows; line++) {
		if (!same_table(line, first) || !first_of(line, same_line))
			continue;
		fprintf(to, "| %s |", line->transport);
		for (const struct row *row = first; row < rows + nr_rows; row++)
			if (same_table(row, first) && first_of(row, same_column))
				markdown_cell(to, cell(row, line->transport));
		fprintf(to, "\n");
	}
}

static void markdown_missing(FILE *to)
{
	bool any = false;

	for (const struct row *row = rows; row < rows + nr_rows; row++) {
		char text[64];

		if (row->nr)
			continue;
		if (!any)
			fprintf(to, "\n## Missing\n\n");
		any = true;
		column_text(text, sizeof(text), row);
		fprintf(to, "- ");
		title(to, row);
		fprintf(to, ", %s, %s: %s\n", text, row->transport, row->missing);
	}
}

void report_markdown(FILE *to, const struct machine *machine, const struct suite *suite,
		     const struct verdict *verdicts, unsigned int nr)
{
	double foreign = 0;

	for (const struct row *row = rows; row < rows + nr_rows; row++)
		foreign = row->foreign > foreign ? row->foreign : foreign;
	fprintf(to, "# shmipc %s, %s\n\n", shmipc_version(), machine->date);
	fprintf(to,
		"%s, %ld CPUs, %s, %ld MiB, %s, hypervisor: %s; provider %s; CPUs %d and %d; "
		"medians of "
		"%u repetitions%s. Most that other programs and the host took of the machine while "
		"a group "
		"was measured: %.0f %%.\n",
		machine->cpu, machine->cpus, machine->caches, machine->mib, machine->kernel,
		machine->hypervisor, machine->provider, cpus[0], cpus[1], suite->runs,
		suite->quick ? " (quick: that it works, not what it takes)" : "", foreign * 100);
	report_verdicts(to, verdicts, nr);
	for (const struct row *row = rows; row < rows + nr_rows; row++)
		if (first_of(row, same_table))
			markdown_table(to, row);
	markdown_missing(to);
}
