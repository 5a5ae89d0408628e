/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * log.h - what the library says when SHMIPC_LOG=level[:file] asks it to
 *
 * Silent by default. One line is one write(), so that threads and processes don't mix theirs.
 */
#ifndef SHMIPC_LOG_H
#define SHMIPC_LOG_H

#include <stdbool.h>

enum log_level {
	LOG_LEVEL_NONE,
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

/* True when a line of that level would be written. */
bool log_enabled(enum log_level level);

void log_line(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* For lines that a peer can provoke: at most a few a second, then one that counts the rest. */
void log_limited(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#define log_error(...)	log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)	log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)	log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)	log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* Reads a SHMIPC_LOG value; NULL or "" is silence. Returns 0 or -EINVAL. Not thread-safe. */
int log_configure(const char *value);

#endif
