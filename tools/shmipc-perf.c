// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * shmipc-perf - what shmipc takes on this machine, and beside it what else the system has
 *
 * Every transport is measured the same way: both ends are processes, the sender writes all bytes
 * of the payload and the receiver reads all of them inside the timed part.
 *
 * Here are the options, and the plain round trip; the whole benchmark is in shmipc-perf/suite.c.
 */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <shmipc/shmipc.h>
#include "shmipc-perf/bells.h"
#include "shmipc-perf/pair.h"
#include "shmipc-perf/payload.h"
#include "shmipc-perf/perf.h"
#include "shmipc-perf/suite.h"
#include "shmipc-perf/transport.h"

#define SIZE_MAX_BYTES	(4 << 20)

static unsigned long rounds = 20000;
static unsigned int runs = 5;

void die(const char *what, int err)
{
	const char *why = shmipc_last_error();

	if (!*why)
		why = err < 0 ? shmipc_strerror(err) : strerror(errno);
	if (control && !control->error[0])
		snprintf(control->error, sizeof(control->error), "%s: %s", what, why);
	fprintf(stderr, "shmipc-perf: %s: %s\n", what, why);
	exit(1);
}

double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double report(double *times, unsigned int nr, const char *of)
{
	qsort(times, nr, sizeof(times[0]), by_value);
	printf(" %12.0f ns%s (%.0f to %.0f)\n", times[nr / 2], of, times[0], times[nr - 1]);
	fflush(stdout);
	return times[nr / 2];
}

/* ---- round trips ---------------------------------------------------------- */

static void echo(const struct transport *t)
{
	const void *data;

	t->attach(SERVER);
	while ((data = t->receive(0, setup.size))) {
		uint64_t word = payload_read(data, setup.size);

		t->release(0);
		payload_write(t->reserve(0, setup.size), setup.size, word);
		t->commit(0, setup.size, true);
	}
}

static void round_trip(const struct transport *t, uint64_t round)
{
	const void *data;

	payload_write(t->reserve(0, setup.size), setup.size, round);
	t->commit(0, setup.size, true);
	data = t->receive(0, setup.size);
	if (!data)
		die("the server is gone", -EPIPE);
	if (payload_read(data, setup.size) != round)
		die("an answer to another message", -EBADMSG);
	t->release(0);
}

static void measure(const struct transport *t)
{
	double times[RUNS_MAX] = { 0 };
	uint64_t round = 0;

	t->attach(CLIENT);
	for (unsigned long i = 0; i < rounds / 10 + 10; i++)
		round_trip(t, round++);
	for (unsigned int run = 0; run < runs; run++) {
		double start = now();

		for (unsigned long i = 0; i < rounds; i++)
			round_trip(t, round++);
		times[run] = (now() - start) / rounds;
	}
	printf("%-8s %8zu bytes", t->name, setup.size);
	control->sample.ns = report(times, runs, " a round trip");
}

/* Without any named: these four, and a line of their medians. */
static const struct transport *const usual[] = {&peer_shmipc, &peer_unix, &peer_eventfd,
						&peer_futex};

static const struct transport *chosen(const char *name)
{
	const struct transport *t = transport_find(name);

	return t && t->flags & ECHOES ? t : NULL;
}

static int measure_one(const struct transport *t)
{
	const char *why = t->absent ? t->absent() : NULL;

	if (why) {
		fprintf(stderr, "shmipc-perf: %s: %s\n", t->name, why);
		return -1;
	}
	return pair_run(t, ANY_CPU, measure, echo);
}

static int round_trips(int nr, char **names)
{
	double medians[4];

	for (int i = 0; i < nr; i++)
		if (measure_one(chosen(names[i])))
			return 1;
	for (int i = 0; i < 4 && !nr; i++) {
		if (measure_one(usual[i]))
			return 1;
		medians[i] = control->sample.ns;
	}
	if (!nr)
		printf("shmipc: %.0f unix: %.0f eventfd: %.0f futex: %.0f ns per round trip\n",
		       medians[0], medians[1], medians[2], medians[3]);
	return 0;
}

static int pauses(const struct pause_size *size)
{
	double times[RUNS_MAX] = { 0 }, adopting[RUNS_MAX] = { 0 };

	measure_pause(size, runs, times, adopting);
	printf("pause: %u sessions, %u MiB, %lu requests before:", size->sessions, size->mib,
	       size->requests);
	report(times, runs, "");
	printf("adopt: %u sessions, %u MiB, %lu requests before:", size->sessions, size->mib,
	       size->requests);
	report(adopting, runs, "");
	return 0;
}

/* ---- the whole ------------------------------------------------------------- */

static bool json;

static void show_row(const struct row *row)
{
	if (!json)
		report_row(row);
}

static FILE *create(const char *dir, const char *name)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "we");
	if (!f)
		die(path, 0);
	return f;
}

static void write_report(const char *dir, const struct machine *machine, const struct suite *suite,
			 const struct verdict *verdicts, unsigned int nr)
{
	char path[4096];
	FILE *f;
	int err;

	if (mkdir(dir, 0777) && errno != EEXIST)
		die(dir, 0);
	f = create(dir, "report.json");
	report_json(f, machine, suite, verdicts, nr);
	if (fclose(f))
		die(dir, 0);
	f = create(dir, "report.md");
	report_markdown(f, machine, suite, verdicts, nr);
	if (fclose(f))
		die(dir, 0);
	snprintf(path, sizeof(path), "%s/report", dir);
	err = report_plots(path);
	if (err)
		fprintf(stderr, "shmipc-perf: no plots: %s\n", err == -ENOENT ?
			"gnuplot is not installed" : "gnuplot failed");
}

static int whole(const struct suite *suite, const char *dir)
{
	struct verdict verdicts[VERDICTS_MAX];
	struct machine machine;
	int failed = 0;
	unsigned int nr;

	machine_look(&machine);
	suite_run(suite, show_row);
	/* Of a quick run, whose figures say nothing, it shows that it judges. */
	nr = judge(verdicts, suite->quick ? 1 : 3);
	if (json)
		report_json(stdout, &machine, suite, verdicts, nr);
	else
		report_verdicts(stdout, verdicts, nr);
	if (dir)
		write_report(dir, &machine, suite, verdicts, nr);
	for (unsigned int i = 0; i < nr_rows; i++)
		failed |= rows[i].failed;
	return failed;
}

/* ---- options ----------------------------------------------------------------- */

static void usage(FILE *to)
{
	fputs("usage: shmipc-perf [-s BYTES] [-n ROUND_TRIPS] [-r RUNS] [-c CPU] [TRANSPORT...]\n"
	      "       shmipc-perf [-r RUNS] [-c CPU] --pause SESSIONS,MIB,REQUESTS\n"
	      "       shmipc-perf [-r RUNS] [-c CPU] --bells PEERS\n"
	      "       shmipc-perf --bench [-r RUNS] [-c CPU] [--quick] [--only WORKLOAD] [--json]\n"
	      "                   [--report DIR] [TRANSPORT...]\n"
	      "Measures blocking round trips between two processes (shmipc, unix, eventfd, futex;\n"
	      "also seqpacket, tcp, pipe, mq, libqb, zeromq, nng); or how long a client of\n"
	      "so many sessions waits when its server, with so many MiB in buffers, is handed\n"
	      "over after so many requests; or what ringing for so many sleeping peers takes; or\n"
	      "all of the first and more, with spin, ring and memcpy, in minutes.\n"
	      "  -s        payload each way, a multiple of 8 up to 4194304 (64)\n"
	      "  -n        round trips a run (20000)\n"
	      "  -r        runs, of which the median counts (5)\n"
	      "  -c        pin both ends to this CPU\n"
	      "  --quick   a few seconds: that all works, not what it takes\n"
	      "  --only    ping-pong, one-way, channels, connect, memcpy or handover\n"
	      "  --json    JSON instead of text\n"
	      "  --report  also write report.json, report.md, report.svg and report.png there\n",
	      to);
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("-c", 0);
}

struct options {
	struct pause_size pause;
	struct suite suite;
	const char *dir;
	unsigned long bells;
	bool bench, good;
	int help;	/* 'h' or 'V' */
};

static void parse(int argc, char **argv, struct options *opt)
{
	static const struct option options[] = {
		{ "version", no_argument, NULL, 'V' }, { "help", no_argument, NULL, 'h' },
		{ "pause", required_argument, NULL, 'p' }, { "bench", no_argument, NULL, 'b' },
		{ "quick", no_argument, NULL, 'q' }, { "json", no_argument, NULL, 'j' },
		{ "report", required_argument, NULL, 'R' },
		{ "only", required_argument, NULL, 'o' },
		{ "bells", required_argument, NULL, 'B' },
		/* For itself. */
		{ "successor", required_argument, NULL, 'S' }, { 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "s:n:r:c:h", options, NULL)) != -1)
		switch (c) {
		case 'V': case 'h': opt->help = c; break;
		case 's': setup.size = strtoul(optarg, NULL, 0); break;
		case 'n': rounds = strtoul(optarg, NULL, 0); break;
		case 'r': runs = strtoul(optarg, NULL, 0); break;
		case 'c': pin(atoi(optarg)); break;
		case 'b': opt->bench = true; break;
		case 'o': opt->suite.only = optarg; break;
		case 'B': opt->good &= (opt->bells = strtoul(optarg, NULL, 0)) > 0; break;
		case 'q': opt->suite.quick = true; break;
		case 'j': json = true; break;
		case 'R': opt->dir = optarg; break;
		case 'S': pause_succeed(optarg); break;
		case 'p': opt->good &= !pause_parse(optarg, &opt->pause); break;
		default: opt->good = false;
		}
}

static bool sane(int argc, char **argv, const struct options *opt)
{
	for (int i = optind; i < argc; i++)
		if (opt->pause.sessions || opt->bells ||
		    !(opt->bench ? transport_find(argv[i]) : chosen(argv[i])))
			return false;
	if (!opt->bench && (opt->suite.quick || opt->suite.only || json || opt->dir))
		return false;
	if (opt->suite.only && !suite_has(opt->suite.only))
		return false;
	return opt->good && setup.size && setup.size % 8 == 0 && setup.size <= SIZE_MAX_BYTES &&
	       rounds && runs && runs <= (opt->bench ? BENCH_RUNS_MAX : RUNS_MAX) &&
	       opt->bells <= CHANNELS_MAX &&
	       opt->bench + (opt->bells > 0) + (opt->pause.sessions > 0) <= 1;
}

int main(int argc, char **argv)
{
	struct options opt = { .good = true };

	parse(argc, argv, &opt);
	if (opt.help == 'V')
		return printf("shmipc-perf %s\n", shmipc_version()) < 0;
	if (opt.help) {
		usage(stdout);
		return 0;
	}
	if (!sane(argc, argv, &opt)) {
		usage(stderr);
		return 2;
	}
	place_init();
	if (opt.pause.sessions)
		return pauses(&opt.pause);
	if (opt.bells) {
		measure_bells(opt.bells, runs);
		return 0;
	}
	control_make();
	opt.suite.runs = runs;
	opt.suite.names = argv + optind;
	opt.suite.nr_names = argc - optind;
	if (opt.bench)
		return whole(&opt.suite, opt.dir);
	setup.reply = setup.size;
	return round_trips(argc - optind, argv + optind);
}
