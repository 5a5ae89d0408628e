// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * shmipc-perf - round trips between two processes, by shmipc and by what else the system has
 *
 * Every transport is measured the same way: both ends are processes, the sender writes all bytes
 * of the payload and the receiver reads all of them inside the timed part, and each
 * waits by sleeping in the kernel if the other is not there yet.
 */
#include <errno.h>
#include <getopt.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <shmipc/shmipc.h>
#include "shmipc-perf/perf.h"

#define SIZE_MAX_BYTES	(4 << 20)

static size_t size = 64;
static unsigned long rounds = 20000;
static unsigned int runs = 5;

void die(const char *what, int err)
{
	const char *why = shmipc_last_error();

	fprintf(stderr, "shmipc-perf: %s: %s\n", what,
		*why ? why : err < 0 ? shmipc_strerror(err) : strerror(errno));
	exit(1);
}

double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

/* The payload is really written and really read, eight bytes at a time: small sizes stay cheap. */
static void produce(void *data, unsigned long round)
{
	uint64_t *p = data;

	for (size_t i = 0; i < size / sizeof(*p); i++)
		p[i] = round;
}

static void consume(const void *data, unsigned long round)
{
	const uint64_t *p = data;
	uint64_t differs = 0;

	for (size_t i = 0; i < size / sizeof(*p); i++)
		differs |= p[i] ^ round;
	if (differs) {
		fprintf(stderr, "shmipc-perf: wrong bytes in round %lu\n", round);
		exit(1);
	}
}

/* ---- transports --------------------------------------------------------- */

/*
 * What a transport needs is made before the fork. @client does one round trip with buf; @server
 * echoes until the client is gone.
 */
struct transport {
	const char *name;
	void (*make)(void);
	void (*connect)(void);		/* in the client, after the fork; may be NULL */
	void (*client)(unsigned long round);
	void (*server)(void);
};

static char *buffer;	/* private */

static void put_all(int fd)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = write(fd, buffer + done, size - done);

		if (n <= 0)
			die("write", 0);
		done += n;
	}
}

static int get_all(int fd)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = read(fd, buffer + done, size - done);

		if (n <= 0)
			return 0;
		done += n;
	}
	return 1;
}

static int sockets[2];

static void unix_make(void)
{
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets))
		die("socketpair", 0);
}

static void unix_client(unsigned long round)
{
	produce(buffer, round);
	put_all(sockets[0]);
	if (!get_all(sockets[0]))
		die("read", 0);
	consume(buffer, round);
}

static void unix_server(void)
{
	close(sockets[0]);
	for (unsigned long round = 0; get_all(sockets[1]); round++) {
		consume(buffer, round);
		produce(buffer, round);
		put_all(sockets[1]);
	}
}

/* Shared memory for the two floors: a buffer and a word each way. */
static struct shared {
	uint32_t word[2][16];
	char data[2][SIZE_MAX_BYTES];
} *shared;

static void shared_make(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	if (shared == MAP_FAILED)
		die("mmap", 0);
}

static int bells[2];

static void eventfd_make(void)
{
	shared_make();
	bells[0] = eventfd(0, 0);
	bells[1] = eventfd(0, 0);
	if (bells[0] < 0 || bells[1] < 0)
		die("eventfd", 0);
}

static void eventfd_ring(int fd)
{
	if (eventfd_write(fd, 1))
		die("eventfd", 0);
}

static void eventfd_sleep(int fd)
{
	eventfd_t n;

	if (eventfd_read(fd, &n))
		die("eventfd", 0);
}

static void eventfd_client(unsigned long round)
{
	produce(shared->data[0], round);
	eventfd_ring(bells[0]);
	eventfd_sleep(bells[1]);
	consume(shared->data[1], round);
}

static void eventfd_server(void)
{
	for (unsigned long round = 0;; round++) {
		eventfd_sleep(bells[0]);
		consume(shared->data[0], round);
		produce(shared->data[1], round);
		eventfd_ring(bells[1]);
	}
}

static void futex_ring(uint32_t *word)
{
	__atomic_fetch_add(word, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void futex_sleep(uint32_t *word, uint32_t seen)
{
	while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == seen)
		syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0);
}

static void futex_client(unsigned long round)
{
	uint32_t seen = __atomic_load_n(&shared->word[1][0], __ATOMIC_ACQUIRE);

	produce(shared->data[0], round);
	futex_ring(&shared->word[0][0]);
	futex_sleep(&shared->word[1][0], seen);
	consume(shared->data[1], round);
}

static void futex_server(void)
{
	for (uint32_t round = 0;; round++) {
		futex_sleep(&shared->word[0][0], round);
		consume(shared->data[0], round);
		produce(shared->data[1], round);
		futex_ring(&shared->word[1][0]);
	}
}

/* ---- shmipc ------------------------------------------------------------- */

static char name[64];
static struct shmipc_endpoint *ep;
static struct shmipc_session *session;
static struct shmipc_stream *stream;

static void shmipc_make(void)
{
	snprintf(name, sizeof(name), "shmipc-perf/%d", getpid());
}

/*
 * Request and reply: the doorbell is put off to the read that follows, so that ringing and
 * sleeping are one system call.
 */
static void send_payload(unsigned long round)
{
	void *data;
	int err = shmipc_reserve(stream, size, &data, SHMIPC_FOREVER);

	if (err)
		die("reserve", err);
	produce(data, round);
	err = shmipc_commit(stream, size, SHMIPC_CORK);
	if (err)
		die("commit", err);
}

static int receive_payload(unsigned long round)
{
	struct shmipc_message message;
	int n = shmipc_peek(stream, &message, SHMIPC_FOREVER);

	if (n <= 0)
		return n;
	consume(message.spans[0].data, round);
	return shmipc_return(stream, &message) ? 0 : 1;
}

static void shmipc_client(unsigned long round)
{
	int n;

	send_payload(round);
	n = receive_payload(round);
	if (n <= 0)
		die("peek", n);
}

static void shmipc_connect_to(void)
{
	struct shmipc_options opt = { .size = sizeof(opt), .window = 2 * SIZE_MAX_BYTES };
	int err = shmipc_open(&ep, 0);

	if (err)
		die("open", err);
	for (int tries = 0; tries < 3000; tries++) {
		err = shmipc_connect(ep, name, &opt, &session, 10000000000LL);
		if (err != -ENOENT)
			break;
		usleep(10000);
	}
	if (err)
		die("connect", err);
	err = shmipc_stream_open(session, &stream);
	if (err)
		die("stream", err);
}

static void shmipc_server(void)
{
	struct shmipc_options opt = { .size = sizeof(opt), .window = 2 * SIZE_MAX_BYTES };
	struct shmipc_listener *listener;
	int err = shmipc_open(&ep, 0);

	if (err)
		die("open", err);
	err = shmipc_listen(ep, name, &opt, &listener);
	if (err)
		die("listen", err);
	err = shmipc_accept(listener, &session, SHMIPC_FOREVER);
	if (!err)
		err = shmipc_stream_accept(session, &stream, SHMIPC_FOREVER);
	if (err)
		die("accept", err);
	for (unsigned long round = 0; receive_payload(round) > 0; round++)
		send_payload(round);
	shmipc_close(ep);
}

static const struct transport transports[] = {
	{ "shmipc", shmipc_make, shmipc_connect_to, shmipc_client, shmipc_server },
	{ "unix", unix_make, NULL, unix_client, unix_server },
	{ "eventfd", eventfd_make, NULL, eventfd_client, eventfd_server },
	{ "futex", shared_make, NULL, futex_client, futex_server },
};

/* ---- measuring ---------------------------------------------------------- */

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

/* Median of the runs, in nanoseconds a round trip. */
static double measure(const struct transport *t)
{
	double times[RUNS_MAX];
	unsigned long round = 0;
	pid_t child;

	t->make();
	child = fork();
	if (child < 0)
		die("fork", 0);
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		t->server();
		exit(0);
	}
	if (t->connect)
		t->connect();
	for (unsigned long i = 0; i < rounds / 10 + 10; i++)
		t->client(round++);
	for (unsigned int run = 0; run < runs; run++) {
		double start = now();

		for (unsigned long i = 0; i < rounds; i++)
			t->client(round++);
		times[run] = (now() - start) / rounds;
	}
	if (ep)
		shmipc_close(ep);
	ep = NULL;
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	printf("%-8s %8zu bytes", t->name, size);
	return report(times, runs, " a round trip");
}

static void usage(FILE *to)
{
	fprintf(to, "usage: shmipc-perf [-s BYTES] [-n ROUND_TRIPS] [-r RUNS] [-c CPU] [TRANSPORT...]\n"
		"       shmipc-perf [-r RUNS] [-c CPU] --pause SESSIONS,MIB,REQUESTS\n"
		"Measures blocking round trips between two processes: shmipc, unix, eventfd, futex;\n"
		"or how long a client of so many sessions waits when its server, with so many MiB\n"
		"in buffers, is handed over after so many requests.\n"
		"  -s  payload each way, a multiple of 8 up to %d (64)\n"
		"  -n  round trips a run (20000)\n"
		"  -r  runs, of which the median counts (5)\n"
		"  -c  pin both ends to this CPU\n", SIZE_MAX_BYTES);
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("-c", 0);
}

static int wanted(const struct transport *t, int argc, char **argv)
{
	for (int i = optind; i < argc; i++)
		if (!strcmp(argv[i], t->name))
			return 1;
	return optind == argc;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "version", no_argument, NULL, 'V' }, { "help", no_argument, NULL, 'h' },
		{ "pause", required_argument, NULL, 'p' }, { 0 },
	};
	struct pause_size pause_size = { 0 };
	double medians[sizeof(transports) / sizeof(transports[0])];
	unsigned int nr = sizeof(transports) / sizeof(transports[0]), all = 1;
	int c;

	while ((c = getopt_long(argc, argv, "s:n:r:c:h", options, NULL)) != -1) {
		if (c == 'V')
			return printf("shmipc-perf %s\n", shmipc_version()) < 0;
		if (c == 'h') {
			usage(stdout);
			return 0;
		}
		if (c == 's')
			size = strtoul(optarg, NULL, 0);
		else if (c == 'n')
			rounds = strtoul(optarg, NULL, 0);
		else if (c == 'r')
			runs = strtoul(optarg, NULL, 0);
		else if (c == 'c')
			pin(atoi(optarg));
		else if (c != 'p' || pause_parse(optarg, &pause_size))
			size = 0;
	}
	if (!size || size % 8 || size > SIZE_MAX_BYTES || !rounds || !runs || runs > RUNS_MAX) {
		usage(stderr);
		return 2;
	}
	if (pause_size.sessions) {
		measure_pause(&pause_size, runs);
		return 0;
	}
	buffer = malloc(size);
	if (!buffer)
		die("malloc", 0);
	for (unsigned int i = 0; i < nr; i++) {
		if (wanted(&transports[i], argc, argv))
			medians[i] = measure(&transports[i]);
		else
			all = 0;
	}
	if (all)
		printf("shmipc: %.0f unix: %.0f eventfd: %.0f futex: %.0f ns per round trip\n",
		       medians[0], medians[1], medians[2], medians[3]);
	return 0;
}
