// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* SHMIPC_LOG: what is said, where to, how often; and that it is silence unless asked. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include <errno.h>
#include <shmipc/shmipc.h>
#include "log.h"

static char path[] = "/tmp/shmipc-log-XXXXXX";
static char text[65536];

static int make_file(void **state)
{
	int fd;

	(void)state;
	strcpy(path + sizeof(path) - 7, "XXXXXX");
	fd = mkstemp(path);
	return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
	(void)state;
	log_configure(NULL);
	return unlink(path);
}

/* All lines so far, of this process; the file is empty afterwards. */
static unsigned int lines(void)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	unsigned int n = 0;
	ssize_t len = read(fd, text, sizeof(text) - 1);

	assert_true(len >= 0);
	text[len] = 0;
	for (char *c = text; *c; c++)
		n += *c == '\n';
	assert_int_equal(ftruncate(fd, 0), 0);
	close(fd);
	return n;
}

static int to_file(const char *level)
{
	char value[100];

	snprintf(value, sizeof(value), "%s:%s", level, path);
	return log_configure(value);
}

static void say_all(void)
{
	log_error("an %s", "error");
	log_warn("a warning");
	log_info("an info");
	log_debug("a debug");
}

/* Each level says itself and what is worse, and nothing else. */
static void test_levels(void **state)
{
	static const char *const names[] = { "none", "error", "warn", "info", "debug" };
	static const char *const said[] = { "an error", "a warning", "an info", "a debug" };

	(void)state;
	for (unsigned int level = 0; level < 5; level++) {
		assert_int_equal(to_file(names[level]), 0);
		for (unsigned int l = 1; l < 5; l++)
			assert_int_equal(log_enabled(l), l <= level);
		say_all();
		assert_int_equal(lines(), level);
		for (unsigned int l = 0; l < 4; l++)
			assert_int_equal(strstr(text, said[l]) != NULL, l < level);
	}
}

static void test_form(void **state)
{
	char expected[64], more[1000];

	(void)state;
	assert_int_equal(to_file("warn"), 0);
	errno = 4711;
	log_warn("%d apples", 3);
	assert_int_equal(errno, 4711);
	assert_int_equal(lines(), 1);
	snprintf(expected, sizeof(expected), "shmipc[%d] warn: 3 apples\n", getpid());
	assert_string_equal(text, expected);
	/* What is too long for a line is cut, and ends it all the same. */
	memset(more, 'x', sizeof(more) - 1);
	more[sizeof(more) - 1] = 0;
	log_warn("%s", more);
	log_warn("next");
	assert_int_equal(lines(), 2);
	assert_non_null(strstr(text, "x\nshmipc["));
}

static void test_bad_values(void **state)
{
	static const char *const bad[] = {
		"loud", "warning", "WARN", "war", "warn ", " warn", ":", ":/dev/null", "1",
		"warn:", "warn:/no/such/folder/file",
	};

	(void)state;
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(to_file("debug"), 0);
		if (log_configure(bad[i]) != -EINVAL)
			fail_msg("\"%s\" was accepted", bad[i]);
		/* Nothing goes where the last value sent it. */
		if (strncmp(bad[i], "warn:", 5))
			assert_false(log_enabled(LOG_LEVEL_ERROR));
	}
	assert_int_equal(lines(), 0);
	assert_int_equal(log_configure(""), 0);
	assert_int_equal(log_configure("none"), 0);
	assert_false(log_enabled(LOG_LEVEL_ERROR));
}

/* Only its owner reads it, it is added to, and a child does not inherit it over exec. */
static void test_file(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(unlink(path), 0);
	assert_int_equal(to_file("info"), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	log_info("first");
	assert_int_equal(to_file("info"), 0);
	log_info("second");
	assert_int_equal(lines(), 2);
	assert_true(strstr(text, "first") < strstr(text, "second"));
}

static void await_new_second(void)
{
	struct timespec ts;
	time_t second;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	second = ts.tv_sec;
	while (ts.tv_sec == second)
		clock_gettime(CLOCK_MONOTONIC, &ts);
}

/* What a peer can provoke: ten lines a second, and how many more there were. */
static void test_limited(void **state)
{
	unsigned int said, left_out = 0;

	(void)state;
	assert_int_equal(to_file("warn"), 0);
	await_new_second();
	for (int i = 0; i < 1000; i++)
		log_limited(LOG_LEVEL_WARN, "provoked");
	said = lines();
	/* A slow machine may see the next second begin meanwhile. */
	assert_in_range(said, 10, 10 * 11 + 10);
	await_new_second();
	log_limited(LOG_LEVEL_WARN, "provoked again");
	assert_true(lines() >= 1);
	if (strstr(text, "left out")) {
		assert_int_equal(sscanf(strchr(text, ':') + 2, "%u lines like the last", &left_out), 1);
		assert_in_range(left_out, 1, 990);
	}
	if (said == 10)
		assert_int_equal(left_out, 990);
	assert_non_null(strstr(text, "provoked again"));
	/* Others are not limited, and a level that is off costs nothing of it. */
	for (int i = 0; i < 100; i++)
		log_warn("not provoked");
	assert_int_equal(lines(), 100);
	for (int i = 0; i < 100; i++)
		log_limited(LOG_LEVEL_DEBUG, "off");
	assert_int_equal(lines(), 0);
}

/* ---- the environment, in a program of its own ------------------------------------- */

enum { SAYS_NOTHING = 3, SAYS_IT };

/* This program again, as "says": opens an endpoint with a name that is told of at level info. */
static int says(void)
{
	if (log_enabled(LOG_LEVEL_DEBUG))
		log_debug("it says");
	return log_enabled(LOG_LEVEL_DEBUG) ? SAYS_IT : SAYS_NOTHING;
}

static int run(const char *program, const char *value, bool other_uid)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (value)
			setenv("SHMIPC_LOG", value, 1);
		else
			unsetenv("SHMIPC_LOG");
		if (other_uid && setuid(65534))
			_exit(1);
		execl(program, program, "says", NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_environment(void **state)
{
	char value[100];

	(void)state;
	snprintf(value, sizeof(value), "debug:%s", path);
	assert_int_equal(run("/proc/self/exe", NULL, false), SAYS_NOTHING);
	assert_int_equal(run("/proc/self/exe", "", false), SAYS_NOTHING);
	assert_int_equal(run("/proc/self/exe", "warn", false), SAYS_NOTHING);
	assert_int_equal(lines(), 0);
	assert_int_equal(run("/proc/self/exe", value, false), SAYS_IT);
	assert_int_equal(lines(), 1);
	assert_non_null(strstr(text, "debug: it says\n"));
}

static void copy_program(const char *to, mode_t mode)
{
	int in = open("/proc/self/exe", O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_EXCL, 0700);
	char buf[65536];
	ssize_t n;

	assert_true(in >= 0 && out >= 0);
	while ((n = read(in, buf, sizeof(buf))) > 0)
		assert_int_equal(write(out, buf, n), n);
	assert_int_equal(fchmod(out, mode), 0);
	close(in);
	close(out);
}

/* Who starts a set-uid program can't have it write to files. */
static void test_set_uid(void **state)
{
	char program[sizeof(path) + 8], value[100];

	(void)state;
	if (geteuid()) {
		print_message("skip: only root can become another user\n");
		skip();
	}
	snprintf(program, sizeof(program), "%s.exe", path);
	snprintf(value, sizeof(value), "debug:%s", path);
	assert_int_equal(chmod(path, 0666), 0);
	/* The control: the same program, user and value, without the bit. */
	copy_program(program, 0755);
	assert_int_equal(run(program, value, true), SAYS_IT);
	assert_int_equal(lines(), 1);
	assert_int_equal(chmod(program, 04755), 0);
	assert_int_equal(run(program, value, true), SAYS_NOTHING);
	assert_int_equal(lines(), 0);
	unlink(program);
}

#define log_test(f) cmocka_unit_test_setup_teardown(f, make_file, remove_file)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		log_test(test_levels), log_test(test_form), log_test(test_bad_values),
		log_test(test_file), log_test(test_limited), log_test(test_environment),
		log_test(test_set_uid),
	};

	if (argc > 1 && !strcmp(argv[1], "says"))
		return says();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
