// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LIMITED_LINES	10	/* a second, of all that peers can provoke */

static const char *const level_names[] = {
	[LOG_LEVEL_NONE] = "none",
	[LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_WARN] = "warn",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static enum log_level threshold = LOG_LEVEL_NONE;
static int log_fd = STDERR_FILENO;

int log_configure(const char *value)
{
	const char *colon;
	size_t len;
	int fd;

	if (log_fd != STDERR_FILENO)
		close(log_fd);
	log_fd = STDERR_FILENO;
	threshold = LOG_LEVEL_NONE;
	if (!value || !*value)
		return 0;
	colon = strchr(value, ':');
	len = colon ? (size_t)(colon - value) : strlen(value);
	for (int i = LOG_LEVEL_NONE; i <= LOG_LEVEL_DEBUG; i++)
		if (strlen(level_names[i]) == len && !memcmp(level_names[i], value, len))
			threshold = (enum log_level)i;
	if (threshold == LOG_LEVEL_NONE)
		return len == 4 && !memcmp(value, "none", 4) ? 0 : -EINVAL;
	if (!colon)
		return 0;
	fd = open(colon + 1, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
	if (fd >= 0)
		log_fd = fd;
	return fd >= 0 ? 0 : -EINVAL;
}

static void configure_once(void)
{
	/* Not from a set-uid program's caller, who could have it write to any file. */
	log_configure(secure_getenv("SHMIPC_LOG"));
}

bool log_enabled(enum log_level level)
{
	pthread_once(&once, configure_once);
	return level <= threshold;
}

static void write_line(enum log_level level, const char *format, va_list args)
{
	int saved = errno;
	char line[512];
	ssize_t done;
	int at, n;

	at = snprintf(line, sizeof(line), "shmipc[%d] %s: ", getpid(), level_names[level]);
	n = vsnprintf(line + at, sizeof(line) - (size_t)at - 1, format, args);
	at += n < 0 ? 0 : n;
	if (at > (int)sizeof(line) - 2)
		at = sizeof(line) - 2;
	line[at++] = '\n';
	done = write(log_fd, line, (size_t)at);
	(void)done;	/* nobody to tell that telling failed */
	errno = saved;
}

void log_line(enum log_level level, const char *format, ...)
{
	va_list args;

	if (!log_enabled(level))
		return;
	va_start(args, format);
	write_line(level, format, args);
	va_end(args);
}

/* The second in the upper half, how many lines it had in the lower. */
static _Atomic uint64_t bucket;

void log_limited(enum log_level level, const char *format, ...)
{
	struct timespec now;
	uint64_t old, new;
	uint32_t count;
	va_list args;

	if (!log_enabled(level))
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	old = atomic_load_explicit(&bucket, memory_order_relaxed);
	do {
		count = old >> 32 == (uint32_t)now.tv_sec ? (uint32_t)old : 0;
		new = (uint64_t)(uint32_t)now.tv_sec << 32 | (count + 1);
	} while (!atomic_compare_exchange_weak_explicit(&bucket, &old, new, memory_order_relaxed,
							 memory_order_relaxed));
	if (!count && (uint32_t)old > LIMITED_LINES)
		log_line(level, "%u lines like the last were left out",
			 (uint32_t)old - LIMITED_LINES);
	if (count >= LIMITED_LINES)
		return;
	va_start(args, format);
	write_line(level, format, args);
	va_end(args);
}
