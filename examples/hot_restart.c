/* SPDX-License-Identifier: MIT */
/*
 * hot_restart [-u UPGRADES] [-k KILLS] [-r REQUESTS] [-s SEED] [-x FAULT]: hot_server, replaced
 * again and again under hot_load
 *
 * Plays the service manager: starts the server, listens to what it notifies, starts it again when
 * it died. Upgrades (SIGUSR2) and kills (SIGKILL) come in a random order and at random times. The
 * pause of each is the longest time in which the client got no answer at all, from before the
 * signal until the next server has said that it is ready and an answer came: the last line has
 * median, 99th percentile and maximum. Exits with 0 if all that was asked for was done, and the
 * client found nothing wrong. A provider that can't keep sessions through a crash gets no kills.
 * It takes hot_server and hot_load from where it is itself. cc hot_restart.c
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_S	60
#define BETWEEN_US	100000	/* at most, from one event to the next */

static long upgrades = 20, kills = 20, least = 10000, done_upgrades, done_kills;
static const char *fault;
static char name[64], server_path[4096], load_path[4096];
static struct sockaddr_un manager = { .sun_family = AF_UNIX };
static int notify_fd;
static pid_t server, load;
static FILE *to_load, *from_load;
static long *pauses;
static int nr_pauses;

static _Noreturn void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "hot_restart: FAILED: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
	if (load > 0 && !kill(load, SIGKILL))
		waitpid(load, NULL, 0);
	if (server > 0 && !kill(server, SIGKILL))
		waitpid(server, NULL, 0);
	exit(1);
}

/* ---- what a service manager does ---------------------------------------------- */

/* As systemd: a datagram socket, whose name is in the environment of what is started. */
static void begin_manager(void)
{
	struct timeval patience = { .tv_sec = PATIENCE_S };
	char path[64];
	int n = snprintf(path, sizeof(path), "@hot_restart-%d", (int)getpid());

	memcpy(manager.sun_path + 1, path + 1, (size_t)n - 1);
	notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (bind(notify_fd, (struct sockaddr *)&manager,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n)))
		die("%s: %s", path, strerror(errno));
	setsockopt(notify_fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setenv("NOTIFY_SOCKET", path, 1);
	/* Servers whose parent has ended become ours. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
}

static void start_server(void)
{
	char *argv[] = { server_path, name, fault ? "-x" : NULL, (char *)fault, NULL };

	server = fork();
	if (server == 0) {
		execv(server_path, argv);
		_exit(127);
	}
}

/* Until a server is ready, which has to say @how: then it is the one. False: it refused. */
static bool await_server(const char *how)
{
	char text[512], *status;
	int pid;

	for (;;) {
		ssize_t n = recv(notify_fd, text, sizeof(text) - 1, 0);

		if (n < 0)
			die("no server has \"%s\" in %d s", how, PATIENCE_S);
		text[n] = 0;
		if (sscanf(text, "READY=1\nMAINPID=%d", &pid) == 1)
			break;
		if (!strncmp(text, "STATUS=", 7)) {
			fprintf(stderr, "hot_restart: FAILED: %s\n", text + 7);
			return false;
		}
	}
	server = pid;
	status = strstr(text, "STATUS=");
	if (!status || strncmp(status + 7, how, strlen(how)) != 0)
		die("a server has \"%s\" instead of \"%s\"", status, how);
	if (strstr(text, "without orphans"))
		kills = 0;
	return true;
}

/* ---- the client ---------------------------------------------------------------- */

static void start_load(void)
{
	int in[2], out[2];
	char requests[32];

	snprintf(requests, sizeof(requests), "%ld", least);
	/* Not for the servers, which come and go: the client waits for the end of its input. */
	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		die("pipe: %s", strerror(errno));
	load = fork();
	if (load == 0) {
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		execl(load_path, load_path, "-r", requests, name, (char *)NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	to_load = fdopen(in[1], "w");
	from_load = fdopen(out[0], "r");
}

/* The longest time without an answer since it was last asked. */
static long ask_gap(void)
{
	char line[256];
	long gap;

	fputc('\n', to_load);
	fflush(to_load);
	if (!fgets(line, sizeof(line), from_load) || sscanf(line, "gap_us %ld", &gap) != 1)
		die("the client has ended");
	return gap;
}

/* ---- events -------------------------------------------------------------------- */

static void wait_for(pid_t pid, int want)
{
	int status;

	if (waitpid(pid, &status, 0) != pid || status != want)
		die("a server ended with status %#x", status);
}

static bool upgrade(void)
{
	pid_t old = server;

	kill(old, SIGUSR2);
	if (!await_server("took over"))
		return false;
	wait_for(old, 0);
	done_upgrades++;
	return true;
}

static bool crash(void)
{
	kill(server, SIGKILL);
	wait_for(server, SIGKILL);
	start_server();
	if (!await_server("recovered"))
		return false;
	done_kills++;
	return true;
}

/* False: it was refused. */
static bool one_event(void)
{
	long left = upgrades - done_upgrades + kills - done_kills;
	bool planned = random() % left < upgrades - done_upgrades;

	usleep((useconds_t)(random() % BETWEEN_US));
	ask_gap();
	if (planned ? !upgrade() : !crash())
		return false;
	pauses[nr_pauses] = ask_gap();
	printf("%s: %ld us\n", planned ? "upgrade" : "kill", pauses[nr_pauses++]);
	fflush(stdout);
	return true;
}

static int by_size(const void *a, const void *b)
{
	return *(const long *)a < *(const long *)b ? -1 : *(const long *)a > *(const long *)b;
}

static long percentile(int percent)
{
	return nr_pauses ? pauses[(nr_pauses - 1) * percent / 100] : 0;
}

/* What the client counted, and the events. */
static bool report(void)
{
	long requests;
	char line[256] = "";
	int status;

	fclose(to_load);
	if (!fgets(line, sizeof(line), from_load))
		die("the client has no result");
	if (waitpid(load, &status, 0) != load)
		die("wait: %s", strerror(errno));
	line[strcspn(line, "\n")] = 0;
	qsort(pauses, (size_t)nr_pauses, sizeof(*pauses), by_size);
	printf("%s upgrades: %ld kills: %ld pause_us: %ld %ld %ld\n", line, done_upgrades,
	       done_kills, percentile(50), percentile(99), percentile(100));
	return status == 0 && sscanf(line, "provider: %*s requests: %ld", &requests) == 1 &&
	       requests >= least;
}

static void beside_us(char *path, size_t size, const char *self, const char *program)
{
	const char *slash = strrchr(self, '/');
	int dir = slash ? (int)(slash - self) : 1;

	snprintf(path, size, "%.*s/%s", dir, slash ? self : ".", program);
}

int main(int argc, char **argv)
{
	unsigned int seed = (unsigned int)time(NULL) ^ (unsigned int)getpid();
	bool good = true;
	int c;

	while ((c = getopt(argc, argv, "u:k:r:s:x:")) != -1)
		switch (c) {
		case 'u': upgrades = atol(optarg); break;
		case 'k': kills = atol(optarg); break;
		case 'r': least = atol(optarg); break;
		case 's': seed = (unsigned int)atol(optarg); break;
		case 'x': fault = optarg; break;
		default: return 2;
		}
	printf("seed %u\n", seed);
	srandom(seed);
	snprintf(name, sizeof(name), "hot-%d", (int)getpid());
	beside_us(server_path, sizeof(server_path), argv[0], "hot_server");
	beside_us(load_path, sizeof(load_path), argv[0], "hot_load");
	pauses = calloc((size_t)(upgrades + kills) + 1, sizeof(*pauses));
	if (!pauses)
		die("memory");
	begin_manager();
	start_server();
	await_server("started");
	start_load();
	while (good && (done_upgrades < upgrades || done_kills < kills))
		good = one_event();
	good &= report();
	kill(server, SIGTERM);
	wait_for(server, 0);
	return !good;
}
