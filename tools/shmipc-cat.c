// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * shmipc-cat - standard input and output over a stream between two processes
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "shmipc-cat/cat.h"

#define SECOND		1000000000LL
#define RETRY_NS	10000000L

static struct {
	const char *name;
	bool listen, adopt;
	bool stats;
	const char *input, *output;	/* instead of the standard ones */
	uint32_t orphan_ms;
	unsigned int mode;
	int64_t timeout;	/* nanoseconds, or SHMIPC_FOREVER */
	int offer;		/* or -1 */
} opt = { .timeout = SHMIPC_FOREVER, .offer = -1 };

static const char help[] =
	"usage: shmipc-cat [-l [-m MODE] [--orphan=SECONDS] [-a]] [-i FILE] [-o FILE]\n"
	"                  [-w SECONDS] [--stats] NAME\n"
	"Connect to NAME; send standard input to it and write what comes to standard output.\n"
	"\n"
	"  -l, --listen        take NAME and wait for one connection instead\n"
	"  -m, --mode=MODE     with -l: who may connect, as a file's mode (octal; default 600)\n"
	"      --orphan=SECONDS  with -l: if this process dies, the connection waits that long\n"
	"                      for another with -a (needs the module)\n"
	"  -a, --adopt         with -l, -i and -o: go on where the one that died stopped\n"
	"  -i, --input=FILE    instead of standard input; one can seek in it\n"
	"  -o, --output=FILE   instead of standard output; likewise\n"
	"  -w, --wait=SECONDS  how long to wait for the connection; a connecting side\n"
	"                      also waits for NAME to appear\n"
	"      --stats         at the end, print on standard error what was carried\n"
	"      --offer=FD      go on where the process stops that offers its connection there;\n"
	"                      SIGUSR2 starts such a successor\n"
	"      --help, --version\n"
	"\n"
	"Exit status: 0 if both directions ended in order, 1 if not, 2 for a wrong option.\n"
	"SHMIPC_PROVIDER=kernel or =embedded in the environment forces a provider.\n";

void cat_complain(const char *what, int error)
{
	if (error)
		fprintf(stderr, "shmipc-cat: %s: %s\n", what, shmipc_strerror(error));
	else
		fprintf(stderr, "shmipc-cat: %s: %m\n", what);
}

/* At once, since the other thread may be in the middle of a call: the peer sees that we died. */
void cat_die(const char *what, int error)
{
	cat_complain(what, error);
	_exit(1);
}

/* Before and after cat_pump() there is one thread: NOLINTBEGIN(concurrency-mt-unsafe) */

/* For what shmipc_last_error() explains. */
static void die_explained(const char *what, int error)
{
	const char *why = shmipc_last_error();

	fprintf(stderr, "shmipc-cat: %s: %s\n", what, *why ? why : shmipc_strerror(error));
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * SECOND + ts.tv_nsec;
}

/* ---- options ------------------------------------------------------------ */

static void usage_error(const char *what)
{
	fprintf(stderr, "shmipc-cat: %s\n%s", what, help);
	exit(2);
}

static int64_t parse_seconds(const char *arg)
{
	char *end;
	double seconds = strtod(arg, &end);

	if (end == arg || *end || !(seconds > 0 && seconds < 1e9))
		usage_error("a number of seconds above 0 is wanted");
	return (int64_t)(seconds * (double)SECOND);
}

static uint32_t parse_orphan(const char *arg)
{
	int64_t ms = parse_seconds(arg) / 1000000;

	if (!ms || ms > UINT32_MAX)
		usage_error("--orphan wants a millisecond at least, and 49 days at most");
	return ms;
}

static unsigned int parse_mode(const char *arg)
{
	char *end;
	unsigned long mode = strtoul(arg, &end, 8);

	if (end == arg || *end || !mode || mode > 0777)
		usage_error("-m wants an octal mode, 1 to 777");
	return mode;
}

static int parse_offer(const char *arg)
{
	char *end;
	long fd = strtol(arg, &end, 10);

	if (end == arg || *end || fd <= STDERR_FILENO || fd > INT_MAX)
		usage_error("--offer wants the number of a descriptor");
	return (int)fd;
}

enum { OPT_STATS = 256, OPT_ORPHAN, OPT_OFFER, OPT_HELP, OPT_VERSION };

static const struct option options[] = {
	{ "listen", no_argument, NULL, 'l' },
	{ "mode", required_argument, NULL, 'm' },
	{ "orphan", required_argument, NULL, OPT_ORPHAN },
	{ "adopt", no_argument, NULL, 'a' },
	{ "input", required_argument, NULL, 'i' },
	{ "output", required_argument, NULL, 'o' },
	{ "wait", required_argument, NULL, 'w' },
	{ "stats", no_argument, NULL, OPT_STATS },
	{ "offer", required_argument, NULL, OPT_OFFER },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ NULL, 0, NULL, 0 },
};

static void parse_option(int c)
{
	switch (c) {
	case 'l': opt.listen = true; break;
	case 'm': opt.mode = parse_mode(optarg); break;
	case 'a': opt.adopt = true; break;
	case 'i': opt.input = optarg; break;
	case 'o': opt.output = optarg; break;
	case 'w': opt.timeout = parse_seconds(optarg); break;
	case OPT_ORPHAN: opt.orphan_ms = parse_orphan(optarg); break;
	case OPT_OFFER: opt.offer = parse_offer(optarg); break;
	case OPT_STATS: opt.stats = true; break;
	case OPT_HELP: fputs(help, stdout); exit(0);
	case OPT_VERSION: printf("shmipc-cat %s\n", SHMIPC_VERSION); exit(0);
	default: usage_error("see above");
	}
}

static void parse(int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, "lm:ai:o:w:", options, NULL)) != -1)
		parse_option(c);
	if (argc - optind != 1)
		usage_error("one NAME is needed");
	if ((opt.mode || opt.orphan_ms || opt.adopt) && !opt.listen)
		usage_error("-m, --orphan and -a go with -l");
	if (opt.adopt && !(opt.input && opt.output))
		usage_error("-a wants files, by -i and -o, in which it can find its place");
	opt.name = argv[optind];
}

/*
 * Else the library's first descriptors would be taken for standard input and output. Opened the
 * wrong way round, so that using them is still an error.
 */
static void fill_standard_descriptors(void)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd ? O_RDONLY : O_WRONLY) != fd)
			exit(1);
}

/* What was written before stays where it goes on behind it. */
static void open_files(void)
{
	int fd;

	if (opt.input) {
		fd = open(opt.input, O_RDONLY);
		if (fd < 0 || dup2(fd, STDIN_FILENO) < 0 || close(fd))
			cat_die(opt.input, 0);
	}
	if (opt.output) {
		fd = open(opt.output, O_WRONLY | O_CREAT | (opt.adopt ? 0 : O_TRUNC), 0666);
		if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || close(fd))
			cat_die(opt.output, 0);
	}
}

/* ---- the session -------------------------------------------------------- */

static void open_endpoint(struct cat *cat)
{
	int err = shmipc_open(&cat->ep, 0);

	if (err)
		die_explained("opening shmipc", err);
}

static void accept_one(struct cat *cat, struct shmipc_listener *listener)
{
	int err;

	/* A connection that was no good is not the one that is waited for. */
	do
		err = shmipc_accept(listener, &cat->session, opt.timeout);
	while (err == -EBADMSG);
	if (err)
		die_explained(opt.name, err);
}

static void accept_stream(struct cat *cat)
{
	int err = shmipc_stream_accept(cat->session, &cat->stream, opt.timeout);

	if (err)
		die_explained("waiting for a stream", err);
}

static void do_listen(struct cat *cat)
{
	struct shmipc_options options = { .size = sizeof(options), .mode = opt.mode,
					  .orphan_ms = opt.orphan_ms };
	struct shmipc_listener *listener;
	int err;

	open_endpoint(cat);
	err = shmipc_listen(cat->ep, opt.name, &options, &listener);
	if (err)
		die_explained(opt.name, err);
	accept_one(cat, listener);
	/* A successor would ask for the name. */
	if (!opt.orphan_ms)
		shmipc_listener_close(listener);
	accept_stream(cat);
}

/*
 * Bytes by their position: what the predecessor's library had taken off the ring and its program
 * had not read is counted there, and here again. Of one that died nothing else is known, and this
 * one counts anew.
 */
static void take_totals(struct cat *cat, const struct shmipc_adopted *stream)
{
	const void *state;
	size_t len;

	if (shmipc_adopted_state(cat->ep, &state, &len) || !len)
		return;
	memcpy(&cat->before, state, len < sizeof(cat->before) ? len : sizeof(cat->before));
	cat->before.bytes_sent = stream->sent;
	cat->before.bytes_received = stream->received;
}

/*
 * Of one that died, what was sent is in the input up to there, and what comes tells where it goes
 * in the output. One that offered has left both where they go on.
 */
static void do_adopt(struct cat *cat)
{
	struct shmipc_listener *listener = NULL;
	struct shmipc_adopted item, stream = { 0 };
	int err;

	err = shmipc_adopt(opt.offer < 0 ? opt.name : NULL, opt.offer, NULL, &cat->ep, opt.timeout);
	if (err)
		die_explained(opt.name, err);
	while (shmipc_adopted_next(cat->ep, &item)) {
		if (item.type == SHMIPC_ADOPTED_LISTENER) {
			listener = item.object;
		} else if (item.type == SHMIPC_ADOPTED_SESSION) {
			cat->session = item.object;
		} else if (item.type == SHMIPC_ADOPTED_STREAM) {
			cat->stream = item.object;
			stream = item;
		}
	}
	if (!cat->session)
		accept_one(cat, listener);
	if (!cat->stream)
		accept_stream(cat);
	take_totals(cat, &stream);
	if (opt.offer >= 0)
		close(opt.offer);
	else if (lseek(STDIN_FILENO, (off_t)stream.sent, SEEK_SET) < 0)
		cat_die(opt.input, 0);
}

/* Nobody has the name yet, or whoever has it is busy or just ending. */
static bool may_come(int err)
{
	return err == -ENOENT || err == -EAGAIN || err == -ECONNREFUSED;
}

static void do_connect(struct cat *cat)
{
	const struct timespec pause = { .tv_nsec = RETRY_NS };
	int64_t deadline = opt.timeout > 0 ? now_ns() + opt.timeout : 0;
	int64_t left = opt.timeout;
	int err;

	open_endpoint(cat);
	while ((err = shmipc_connect(cat->ep, opt.name, NULL, &cat->session, left))) {
		if (!deadline || !may_come(err))
			die_explained(opt.name, err);
		nanosleep(&pause, NULL);
		left = deadline - now_ns();
		if (left <= 0)
			die_explained(opt.name, err);
	}
	/* Flushed, so that the peer knows of it and may speak first. */
	err = shmipc_stream_open(cat->session, &cat->stream);
	if (!err)
		err = shmipc_flush(cat->stream);
	if (err)
		die_explained("opening a stream", err);
}

struct totals cat_totals(const struct cat *cat)
{
	struct totals totals = cat->before;
	struct shmipc_stats s;

	if (shmipc_get_stats(cat->ep, &s, sizeof(s)) == 0) {
		totals.bytes_sent += s.bytes_sent;
		totals.messages_sent += s.messages_sent;
		totals.bytes_received += s.bytes_received;
		totals.messages_received += s.messages_received;
		totals.wakeups += s.wakeups;
	}
	return totals;
}

static void print_stats(const struct cat *cat)
{
	struct totals t = cat_totals(cat);
	double seconds = (double)(now_ns() - t.start_ns) / (double)SECOND;
	uint64_t messages = t.messages_sent + t.messages_received;

	fprintf(stderr, "shmipc-cat: %s: sent %llu bytes in %llu messages, "
		"received %llu bytes in %llu messages, %.3f s, %.3f GB/s, "
		"%.1f wakeups per 1,000 messages\n",
		shmipc_provider(cat->ep),
		(unsigned long long)t.bytes_sent, (unsigned long long)t.messages_sent,
		(unsigned long long)t.bytes_received, (unsigned long long)t.messages_received,
		seconds, (double)(t.bytes_sent + t.bytes_received) / 1e9 / seconds,
		messages ? (double)t.wakeups * 1000 / (double)messages : 0.0);
}

int main(int argc, char **argv)
{
	struct cat cat = { 0 };

	fill_standard_descriptors();
	parse(argc, argv);
	upgrade_init(&cat, argv);
	/* A successor has what its predecessor opened. */
	if (opt.offer < 0)
		open_files();
	cat.by_position = opt.output;
	/* A reader that went away is an error of write(2), with a message and exit status. */
	signal(SIGPIPE, SIG_IGN);
	if (opt.adopt || opt.offer >= 0)
		do_adopt(&cat);
	else if (opt.listen)
		do_listen(&cat);
	else
		do_connect(&cat);
	if (!cat.before.start_ns)
		cat.before.start_ns = now_ns();
	cat_pump(&cat);
	if (opt.stats)
		print_stats(&cat);
	shmipc_session_close(cat.session);
	shmipc_close(cat.ep);
	return 0;
}
/* NOLINTEND(concurrency-mt-unsafe) */
