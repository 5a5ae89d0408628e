// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* pair.c - forking, meeting, reaping, and looking for what was left behind */
#include "pair.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define CHILDREN_MAX	256

static bool in_child;
static pid_t children[CHILDREN_MAX];
static unsigned int fds_before, maps_before;

/* ---- checks ------------------------------------------------------------- */

static void failed(const char *file, int line)
{
	if (in_child || syscall(SYS_gettid) != getpid())
		_exit(1);
	_fail(file, line);
}

void pair_check(bool ok, const char *what, const char *file, int line)
{
	if (ok)
		return;
	fprintf(stderr, "%s:%d: %s: not so: %s (last error: %s)\n", file, line,
		in_child ? "child" : "parent", what, shmipc_last_error());
	failed(file, line);
}

void pair_check_eq(int64_t a, int64_t b, const char *what, const char *want, const char *file,
		   int line)
{
	if (a == b)
		return;
	fprintf(stderr, "%s:%d: %s: %s is %lld, not %s = %lld (last error: %s)\n", file, line,
		in_child ? "child" : "parent", what, (long long)a, want, (long long)b,
		shmipc_last_error());
	failed(file, line);
}

/* ---- processes ---------------------------------------------------------- */

static void child_add(pid_t pid)
{
	for (int i = 0; i < CHILDREN_MAX; i++) {
		if (!children[i]) {
			children[i] = pid;
			return;
		}
	}
	check(!"room for another child");
}

static void child_gone(pid_t pid)
{
	for (int i = 0; i < CHILDREN_MAX; i++)
		if (children[i] == pid)
			children[i] = 0;
}

static void meet(struct pair *p, bool listen)
{
	check_eq(shmipc_open(&p->ep, 0), 0);
	if (listen) {
		check_eq(shmipc_listen(p->ep, p->name, p->options, &p->listener), 0);
		pair_tell(p);
		check_eq(shmipc_accept(p->listener, &p->session, LIMIT), 0);
	} else {
		pair_hear(p);
		check_eq(shmipc_connect(p->ep, p->name, p->options, &p->session, LIMIT), 0);
	}
}

void pair_close(struct pair *p)
{
	shmipc_session_close(p->session);
	shmipc_listener_close(p->listener);
	shmipc_close(p->ep);
	close(p->wire);
	p->session = NULL;
	p->listener = NULL;
	p->ep = NULL;
	p->wire = -1;
}

static void start(struct pair *p, const struct shmipc_options *options, unsigned int flags,
		  bool connect, pair_child child, void *arg)
{
	int wire[2];
	pid_t parent = getpid();

	memset(p, 0, sizeof(*p));
	pair_unique(p->name);
	p->options = options;
	check_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, wire), 0);
	fflush(NULL);
	p->child = fork();
	check(p->child >= 0);
	if (!p->child) {
		in_child = true;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		memset(children, 0, sizeof(children));
		close(wire[0]);
		p->wire = wire[1];
		if (connect)
			meet(p, flags & CHILD_LISTENS);
		child(p, arg);
		pair_close(p);
		_exit(0);
	}
	child_add(p->child);
	close(wire[1]);
	p->wire = wire[0];
	if (connect)
		meet(p, !(flags & CHILD_LISTENS));
}

void pair_start(struct pair *p, const struct shmipc_options *options, unsigned int flags,
		pair_child child, void *arg)
{
	start(p, options, flags, true, child, arg);
}

void pair_fork(struct pair *p, pair_child child, void *arg)
{
	start(p, NULL, 0, false, child, arg);
}

static int reap(pid_t pid)
{
	int64_t until = pair_now() + LIMIT;
	int status;
	pid_t got;

	while (!(got = waitpid(pid, &status, WNOHANG)) && pair_now() < until)
		usleep(200);
	check_eq(got, pid);
	child_gone(pid);
	return status;
}

int pair_status(struct pair *p)
{
	return reap(p->child);
}

void pair_wait(struct pair *p)
{
	int status = reap(p->child);

	check(WIFEXITED(status));
	check_eq(WEXITSTATUS(status), 0);
}

void pair_end(struct pair *p)
{
	pair_close(p);
	pair_wait(p);
}

void pair_kill(struct pair *p)
{
	int status;

	kill(p->child, SIGKILL);
	status = reap(p->child);
	check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

void pair_tell(struct pair *p)
{
	check_eq(send(p->wire, "", 1, MSG_NOSIGNAL), 1);
}

void pair_hear(struct pair *p)
{
	struct pollfd pfd = { .fd = p->wire, .events = POLLIN };
	char c;

	check_eq(poll(&pfd, 1, LIMIT / MS), 1);
	check_eq(read(p->wire, &c, 1), 1);
}

/* ---- around a test ------------------------------------------------------ */

static unsigned int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int n = 0;

	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n;
}

/* Segments are memfds, or mappings of the module's. */
static unsigned int count_maps(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];
	unsigned int n = 0;

	while (maps && fgets(line, sizeof(line), maps))
		n += strstr(line, "/memfd:") || strstr(line, "anon_inode:") ||
		     strstr(line, "/dev/shmipc");
	if (maps)
		fclose(maps);
	return n;
}

int pair_setup(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	fds_before = count_fds();
	maps_before = count_maps();
	return 0;
}

int pair_teardown(void **state)
{
	unsigned int fds = count_fds(), maps = count_maps(), left = 0;

	(void)state;
	for (int i = 0; i < CHILDREN_MAX; i++) {
		if (!children[i])
			continue;
		left++;
		kill(children[i], SIGKILL);
		waitpid(children[i], NULL, 0);
		children[i] = 0;
	}
	if (left || fds != fds_before || maps != maps_before)
		print_error("left behind: %u children, %d descriptors, %d mappings\n", left,
			    (int)(fds - fds_before), (int)(maps - maps_before));
	return left || fds != fds_before || maps != maps_before ? -1 : 0;
}

/* ---- small things ------------------------------------------------------- */

void pair_unique(char name[64])
{
	static unsigned int n;

	snprintf(name, 64, "test.%d.%u", getpid(), n++);
}

int64_t pair_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Built with a sanitizer, or over a kernel made to find faults. */
static bool is_slow(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return true;
#else
	return pair_is_kernel() && !access("/sys/kernel/debug/kmemleak", F_OK);
#endif
}

size_t pair_scale(size_t quick, size_t usual, size_t longer)
{
	const char *scale = getenv("SHMIPC_TEST_SCALE");

	if (!scale || !strcmp(scale, "quick"))
		return quick;
	if (strcmp(scale, "check") && strcmp(scale, "long"))
		check(!"SHMIPC_TEST_SCALE is quick, check or long");
	return is_slow() ? quick : *scale == 'c' ? usual : longer;
}

void pair_need_files(unsigned int n)
{
	struct rlimit limit;

	check_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_cur >= n)
		return;
	limit.rlim_cur = n;
	if (limit.rlim_max < n)
		limit.rlim_max = n;
	check_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

bool pair_is_kernel(void)
{
	static int is = -1;
	struct shmipc_endpoint *ep;

	if (is < 0) {
		check_eq(shmipc_open(&ep, 0), 0);
		is = !strcmp(shmipc_provider(ep), "kernel");
		shmipc_close(ep);
	}
	return is;
}

/* 8 bytes at a time where they are aligned in the stream: tests move megabytes. */
static uint64_t word_at(uint64_t key, uint64_t n)
{
	uint64_t x = (n + 1) * 0x9e3779b97f4a7c15ULL ^ key * 0xc2b2ae3d27d4eb4fULL;

	return x ^ x >> 29;
}

static uint8_t byte_at(uint64_t key, uint64_t position)
{
	return word_at(key, position / 8) >> position % 8 * 8;
}

void fill(void *buf, size_t len, uint64_t key, uint64_t position)
{
	uint8_t *p = buf, *end = p + len;

	for (; p < end && position % 8; position++)
		*p++ = byte_at(key, position);
	for (; end - p >= 8; position += 8, p += 8) {
		uint64_t word = word_at(key, position / 8);

		memcpy(p, &word, 8);
	}
	for (; p < end; position++)
		*p++ = byte_at(key, position);
}

bool same(const void *buf, size_t len, uint64_t key, uint64_t position)
{
	const uint8_t *p = buf, *end = p + len;

	for (; p < end && position % 8; position++)
		if (*p++ != byte_at(key, position))
			return false;
	for (; end - p >= 8; position += 8, p += 8) {
		uint64_t word = word_at(key, position / 8);

		if (memcmp(p, &word, 8))
			return false;
	}
	for (; p < end; position++)
		if (*p++ != byte_at(key, position))
			return false;
	return true;
}

void send_all(struct shmipc_stream *st, const void *buf, size_t len)
{
	check_eq(shmipc_write(st, buf, len, 0, LIMIT), len);
}

void read_all(struct shmipc_stream *st, void *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = shmipc_read(st, (char *)buf + done, len - done, LIMIT);

		if (n <= 0)
			fprintf(stderr, "after %zu of %zu: %zd\n", done, len, n);
		check(n > 0);
		done += n;
	}
}
