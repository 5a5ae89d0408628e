// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* json.c - a run as JSON: one object, a row a line */
#include <shmipc/shmipc.h>
#include "suite.h"
#include "workload.h"

static void string(FILE *to, const char *text)
{
	fputc('"', to);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fputc('\\', to);
		fputc((unsigned char)*text < ' ' ? ' ' : *text, to);
	}
	fputc('"', to);
}

static void member(FILE *to, const char *key, const char *text)
{
	fprintf(to, "\"%s\":", key);
	string(to, text);
	fputc(',', to);
}

/* Of the class that most of the samples are of; the range is that of all. */
static void spread(FILE *to, const char *key, const struct row *row, size_t field)
{
	double least, most;

	row_range(row, field, &least, &most);
	fprintf(to, "\"%s\":{\"median\":%.4g,\"min\":%.4g,\"max\":%.4g},", key,
		row_median(row, field, row_class(row)), least, most);
}

static void samples(FILE *to, const struct row *row)
{
	fputs("\"samples\":[", to);
	for (unsigned int i = 0; i < row->nr; i++)
		fprintf(to, "%s{\"ns\":%.6g,\"probe_ns\":%.4g}", i ? "," : "", row->samples[i].ns,
			row->samples[i].probe);
	fputs("]", to);
}

static void json_row(FILE *to, const struct row *row)
{
	fputs("{", to);
	member(to, "workload", row->workload);
	member(to, "variant", row->variant);
	member(to, "operation", row->work->op);
	member(to, "transport", row->transport);
	member(to, "place", place_names[row->place]);
	fprintf(to, "\"waiting\":\"%s\",\"bytes\":%zu,\"channels\":%u,\"busy\":%u,\"group\":%u,",
		row->spin ? "spinning" : "blocking", row->size, row->channels, row->busy,
		row->group);
	if (!row->nr) {
		fputs("\"missing\":", to);
		string(to, row->missing);
		fputs("}", to);
		return;
	}
	spread(to, "ns", row, FIELD(ns));
	spread(to, "cpu_ns", row, FIELD(cpu));
	spread(to, "client_cpu_ns", row, FIELD(client_cpu));
	spread(to, "sleeps", row, FIELD(sleeps));
	spread(to, "kib", row, FIELD(kib));
	if (row->calls >= 0)
		fprintf(to, "\"system_calls\":%.4g,", row->calls);
	fprintf(to, "\"class\":%d,\"in_class\":%u,\"foreign\":%.3f,", row_class(row),
		row_count(row, row_class(row)), row->foreign);
	samples(to, row);
	fputs("}", to);
}

static void json_verdict(FILE *to, const struct verdict *v)
{
	fputs("{", to);
	member(to, "number", v->number);
	member(to, "what", v->what);
	fprintf(to, "\"%s\":%g,", v->least ? "at_least" : "at_most", v->limit);
	if (v->value >= 0)
		fprintf(to, "\"value\":%.4g,", v->value);
	fprintf(to, "\"state\":\"%s\"}", state_names[v->state]);
}

void report_json(FILE *to, const struct machine *machine, const struct suite *suite,
		 const struct verdict *verdicts, unsigned int nr)
{
	fputs("{", to);
	member(to, "version", shmipc_version());
	fputs("\n\"machine\":{", to);
	member(to, "cpu", machine->cpu);
	member(to, "caches", machine->caches);
	member(to, "kernel", machine->kernel);
	member(to, "hypervisor", machine->hypervisor);
	member(to, "date", machine->date);
	member(to, "provider", machine->provider);
	fprintf(to,
		"\"cpus\":%ld,\"mib\":%ld},\n\"quick\":%s,\"runs\":%u,\"pinned\":[%d,%d],"
		"\n\"rows\":[",
		machine->cpus, machine->mib, suite->quick ? "true" : "false", suite->runs, cpus[0],
		cpus[1]);
	for (unsigned int i = 0; i < nr_rows; i++) {
		fputs(i ? ",\n" : "\n", to);
		json_row(to, &rows[i]);
	}
	fputs("\n],\n\"verdicts\":[", to);
	for (unsigned int i = 0; i < nr; i++) {
		fputs(i ? ",\n" : "\n", to);
		json_verdict(to, &verdicts[i]);
	}
	fputs("\n]}\n", to);
}
