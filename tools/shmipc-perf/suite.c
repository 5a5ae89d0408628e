// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * suite.c - the whole benchmark
 *
 * Rows that are compared form a group, and are measured in turns: a repetition of each, then the
 * next of each. Each repetition is a pair of processes of its own.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "perf.h"
#include "suite.h"
#include "transport.h"
#include "workload.h"

#define KIB		((size_t)1 << 10)
#define MIB		((size_t)1 << 20)
#define RING_SLOTS	128		/* shmipc's, with its default options */
#define WINDOW		MIB		/* likewise */
#define FULL_NS		40e6		/* of the timed part */
#define QUICK_NS	1e6
#define COUNTED_OPS	64
#define THINK_NS	1000000
#define SPARE_MIB	512		/* that a big buffer has to leave free */

static const struct suite *suite;
static unsigned int group;

/* ---- rows ------------------------------------------------------------------------ */

struct kind {
	const struct workload *work;
	const char *variant;
	bool spin;
};

bool suite_has(const char *workload)
{
	static const struct workload *const all[] = {
		&ping_pong, &one_way, &channels, &connecting, &copying, &handover,
	};

	for (unsigned int i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (!strcmp(workload, all[i]->name))
			return true;
	return false;
}

static bool wanted(const struct workload *work, const struct transport *t)
{
	if (suite->only && strcmp(suite->only, work->name) != 0)
		return false;
	for (int i = 0; i < suite->nr_names; i++)
		if (!strcmp(suite->names[i], t->name))
			return true;
	return !suite->nr_names;
}

static void add_row(const struct kind *kind, const struct transport *t, enum place place,
		    size_t size, unsigned int nr_channels, unsigned int busy)
{
	struct row *row = &rows[nr_rows];

	if (!wanted(kind->work, t))
		return;
	if (nr_rows == ROWS_MAX)
		die("too many rows", -ENOSPC);
	nr_rows++;
	*row = (struct row){
		.workload = kind->work->name, .variant = kind->variant, .transport = t->name,
		.place = place, .spin = kind->spin, .size = size, .channels = nr_channels,
		.busy = busy, .group = group, .calls = -1, .work = kind->work, .t = t,
	};
	if (place == TWO_CPUS && cpus[1] < 0)
		snprintf(row->missing, sizeof(row->missing), "one CPU only");
}

/* A row of each transport that can do it. */
static void add(const struct kind *kind, enum place place, size_t size, unsigned int nr_channels,
		unsigned int busy)
{
	unsigned int waits = kind->spin ? SPINS : SLEEPS;

	for (const struct transport *const *t = transports; *t; t++)
		if (kind->work->fits(*t) && (kind->work == &copying || (*t)->flags & waits))
			add_row(kind, *t, place, size, nr_channels, busy);
	group++;
}

static void add_ping_pong(void)
{
	static const size_t sizes[] = { 64, 4 * KIB, 64 * KIB, MIB, 4 * MIB };
	const struct kind blocking = { &ping_pong, "", false }, spinning = { &ping_pong, "", true };

	for (unsigned int i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		if (suite->quick && i % 2)
			continue;
		if (suite->quick && sizes[i] > MIB)
			break;
		for (enum place place = ONE_CPU; place <= (suite->quick ? TWO_CPUS : ANY_CPU);
		     place++) {
			add(&blocking, place, sizes[i], 1, 1);
			/* On one CPU whoever spins keeps the other from running. */
			if (place != ONE_CPU)
				add(&spinning, place, sizes[i], 1, 1);
		}
	}
}

static void add_one_way(void)
{
	static const size_t sizes[] = { 64, KIB, 64 * KIB, MIB };
	const struct kind blocking = { &one_way, "", false }, spinning = { &one_way, "", true };

	for (unsigned int i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		if (suite->quick && i % 2)
			continue;
		add(&blocking, ONE_CPU, sizes[i], 1, 1);
		add(&blocking, TWO_CPUS, sizes[i], 1, 1);
		add(&spinning, TWO_CPUS, sizes[i], 1, 1);
	}
}

static const char streams_variant[] = "streams of one session";
static const char sessions_variant[] = "sessions";
static const char busy_variant[] = "sessions, 10 busy";
static const char think_variant[] = "1 ms think time";
static const char first_variant[] = "beside the buffers";
static const char descriptor_variant[] = "descriptor only";
static const char written_variant[] = "written";
static const char read_variant[] = "written and read";

static void add_channels(void)
{
	static const unsigned int streams[] = {1, 8, 64, 500}, sessions[] = {1, 16, 64, 256, 1000};
	const struct kind of_one = { &channels, streams_variant, false };
	const struct kind of_many = { &channels, sessions_variant, false };
	const struct kind few_busy = { &channels, busy_variant, false };

	for (unsigned int i = 0; i < 4 && streams[i] <= (suite->quick ? 8 : 500); i++) {
		add(&of_one, ONE_CPU, 64, streams[i], streams[i]);
		add(&of_one, TWO_CPUS, 64, streams[i], streams[i]);
	}
	for (unsigned int i = 0; i < 5 && sessions[i] <= (suite->quick ? 16 : 1000); i++)
		add(&of_many, ONE_CPU, 64, sessions[i], sessions[i]);
	add(&few_busy, ONE_CPU, 64, 10, 10);
	group--;
	add(&few_busy, ONE_CPU, 64, suite->quick ? 16 : 1000, 10);
}

static void add_buffers(void)
{
	const struct kind first = { &ping_pong, first_variant, false };
	const struct kind kinds[] = { { &ping_pong, descriptor_variant, false },
		{ &ping_pong, written_variant, false }, { &ping_pong, read_variant, false } };
	size_t most = suite->quick ? MIB : PAYLOAD_MAX;

	add_row(&first, &peer_shmipc, ONE_CPU, 64, 1, 1);
	for (int i = 0; i < 3; i++) {
		for (size_t size = MIB; size <= most;
		     size = size < 256 * MIB ? size * 16 : size * 4) {
			add_row(&kinds[i], &peer_shmipc, ONE_CPU, size, 1, 1);
			add_row(&kinds[i], &peer_futex, ONE_CPU, size, 1, 1);
			/* It reads and writes all there is to a message, whoever asks. */
			if (i == 2)
				add_row(&kinds[i], &peer_unix, ONE_CPU, size, 1, 1);
			/* The first kind is compared across sizes. */
			if (i)
				group++;
		}
		group++;
	}
	/* That is the name of the workload, too. */
	for (struct row *row = rows; row < rows + nr_rows; row++)
		for (int i = 0; i < 3; i++)
			if (row->variant == kinds[i].variant)
				row->workload = "buffer";
}

static void add_copies(void)
{
	const struct kind kind = { &copying, "", false };

	for (size_t size = 4 * KIB; size <= (suite->quick ? 4 * KIB : 64 * MIB); size *= 16)
		add(&kind, ONE_CPU, size, 1, 1);
}

static void add_others(void)
{
	const struct kind thinking = { &ping_pong, think_variant, false };
	const struct kind connects = { &connecting, "", false };

	add(&thinking, TWO_CPUS, 64, 1, 1);
	add(&connects, ONE_CPU, 64, 1, 1);
	add(&connects, TWO_CPUS, 64, 1, 1);
}

/* ---- one repetition ----------------------------------------------------------------- */

static unsigned int depth_of(const struct row *row)
{
	size_t most = WINDOW / row->size;

	if (row->work != &one_way)
		return 1;
	if (most < 4)
		return 4;
	return most < RING_SLOTS ? most : RING_SLOTS;
}

static void set_up(const struct row *row)
{
	bool buffer = !strcmp(row->workload, "buffer");

	setup = (struct setup){
		.size = row->size, .written = row->size, .read = row->size, .depth = depth_of(row),
		.channels = row->channels, .busy = row->busy, .spin = row->spin, .buffer = buffer,
		.sessions = row->variant == sessions_variant || row->variant == busy_variant,
		/* The answer to a stream says that all was read, that to a buffer likewise. */
		.reply = row->work == &one_way || buffer ? 64 : row->size,
	};
	if (row->variant == descriptor_variant)
		setup.written = 64;
	if (row->variant == descriptor_variant || row->variant == written_variant)
		setup.read = 64;
	control->think_ns = row->variant == think_variant ? THINK_NS : 0;
	control->fixed_ops = 0;
	control->time_ns = suite->quick ? QUICK_NS : FULL_NS;
}

static long available_mib(void)
{
	long kib = 0;
	char line[128];
	FILE *f = fopen("/proc/meminfo", "re");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %ld", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib / 1024;
}

/* Sets row->missing where it can't be had. */
static void look_for(struct row *row)
{
	const char *why = NULL;

	if (row->missing[0])
		return;
	set_up(row);
	if (row->t->absent)
		why = row->t->absent();
	if (setup.buffer && available_mib() < (long)(2 * row->size / MIB) + SPARE_MIB)
		why = "not enough memory";
	if (why)
		snprintf(row->missing, sizeof(row->missing), "%s", why);
}

static void run_once(struct row *row)
{
	double probe;

	if (row->missing[0] || row->nr == SAMPLES_MAX)
		return;
	set_up(row);
	probe = row->place == ONE_CPU ? 0 : place_probe();
	if (pair_run(row->t, row->place, row->work->client, row->work->server)) {
		snprintf(row->missing, sizeof(row->missing), "%s", control->error);
		row->failed = true;
		row->nr = 0;
		return;
	}
	control->sample.probe = probe;
	row->samples[row->nr++] = control->sample;
}

static void count_once(struct row *row)
{
	if (row->missing[0] || row->place != ONE_CPU || row->spin)
		return;
	if (suite->quick && (row->size != 64 || row->busy > 1))
		return;
	set_up(row);
	/* Nothing that takes long, and each of the channels has its turn. */
	if (row->size > MIB)
		return;
	control->fixed_ops = COUNTED_OPS > row->busy ? COUNTED_OPS : row->busy;
	row->calls = count_calls(row->t, row->place, row->work->client, row->work->server);
}

/* ---- groups ---------------------------------------------------------------------------- */

/* Ticks that all CPUs were busy, the host's too, less those of this program. */
static double foreign_ticks(void)
{
	double user, nice, system, idle, wait, irq, soft, steal = 0, own;
	struct rusage self, children;
	FILE *f = fopen("/proc/stat", "re");
	int n;

	if (!f)
		return 0;
	n = fscanf(f, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", &user, &nice, &system, &idle, &wait,
		   &irq, &soft, &steal);
	fclose(f);
	if (n < 7 || getrusage(RUSAGE_SELF, &self) || getrusage(RUSAGE_CHILDREN, &children))
		return 0;
	own = self.ru_utime.tv_sec + self.ru_stime.tv_sec + children.ru_utime.tv_sec +
	      children.ru_stime.tv_sec + (self.ru_utime.tv_usec + self.ru_stime.tv_usec +
	      children.ru_utime.tv_usec + children.ru_stime.tv_usec) / 1e6;
	return user + nice + system + irq + soft + steal - own * sysconf(_SC_CLK_TCK);
}

/* Has each row enough samples of the class that most of its group's are of? */
static bool enough(const struct row *first, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		if (!first[i].missing[0] &&
		    row_count(&first[i], row_class(&first[0])) < suite->runs)
			return false;
	return true;
}

static void run_group(struct row *first, unsigned int n, void (*row)(const struct row *row))
{
	double start = now(), before = foreign_ticks(), foreign;

	for (unsigned int i = 0; i < n; i++)
		look_for(&first[i]);
	for (unsigned int run = 0; run < 2 * suite->runs; run++) {
		if (run >= suite->runs && (suite->quick || enough(first, n)))
			break;
		for (unsigned int i = 0; i < n; i++)
			run_once(&first[i]);
	}
	foreign = (foreign_ticks() - before) / sysconf(_SC_CLK_TCK) /
		  ((now() - start) / 1e9 * sysconf(_SC_NPROCESSORS_ONLN));
	for (unsigned int i = 0; i < n; i++) {
		first[i].foreign = foreign > 0 ? foreign : 0;
		count_once(&first[i]);
		row(&first[i]);
	}
}

/* ---- handover ------------------------------------------------------------------------------ */

struct pauses {
	double pauses[RUNS_MAX], adopting[RUNS_MAX];
};

/* In a process of its own, whose children are all its. */
static int pause_apart(const struct pause_size *size, unsigned int runs, struct pauses *result)
{
	int status;
	pid_t child;

	fflush(NULL);
	child = fork();
	if (child < 0)
		die("fork", 0);
	if (!child) {
		measure_pause(size, runs, result->pauses, result->adopting);
		_exit(0);
	}
	return waitpid(child, &status, 0) == child && !status ? 0 : -1;
}

static void run_handovers(void (*row)(const struct row *row))
{
	static const struct pause_size sizes[] = {
		{1, 1, 128}, {1, 64, 128}, {16, 1, 2048}, {16, 64, 2048}, {256, 1, 2048}, {256, 64, 2048},
	};
	const unsigned int nr = sizeof(sizes) / sizeof(sizes[0]);
	static const char *const variants[] = { "until answered", "until adopted" };
	struct pauses *result = mmap(NULL, sizeof(*result), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (result == MAP_FAILED)
		die("mmap", 0);
	for (unsigned int i = 0; i < (suite->quick ? 1 : nr); i++, group++) {
		struct row *first = &rows[nr_rows];
		/* Of the one with a target also what one in a hundred takes. */
		bool many = !suite->quick && sizes[i].sessions == 16 && sizes[i].mib == 1;
		unsigned int runs = many ? SAMPLES_MAX : suite->runs;
		int failed = pause_apart(&sizes[i], runs, result);

		for (int v = 0; v < 2; v++) {
			const struct kind kind = { &handover, variants[v], false };

			add_row(&kind, &peer_shmipc, ANY_CPU, (size_t)sizes[i].mib << 20,
				sizes[i].sessions, sizes[i].sessions);
			first[v].failed = failed;
			if (failed)
				snprintf(first[v].missing, sizeof(first[v].missing), "it failed");
			for (unsigned int n = 0; n < runs && !failed; n++)
				first[v].samples[first[v].nr++] = (struct sample){
					.ns = v ? result->adopting[n] : result->pauses[n] };
			row(&first[v]);
		}
	}
	munmap(result, sizeof(*result));
}

static void more_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

void suite_run(const struct suite *how, void (*row)(const struct row *row))
{
	suite = how;
	more_descriptors();
	add_ping_pong();
	add_one_way();
	add_channels();
	add_buffers();
	add_copies();
	add_others();
	for (unsigned int i = 0, n; i < nr_rows; i += n) {
		for (n = 1; i + n < nr_rows && rows[i + n].group == rows[i].group; n++)
			;
		run_group(&rows[i], n, row);
	}
	if (wanted(&handover, &peer_shmipc))
		run_handovers(row);
}
