/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * error.h - the sentence behind an errno value
 *
 * Each thread keeps the sentence of its own last failure: what went wrong, and the next step.
 */
#ifndef SHMIPC_ERROR_H
#define SHMIPC_ERROR_H

/*
 * Keeps the sentence and returns @error, so that a failing path is one line:
 * return error_set(-ENOENT, "nobody listens on \"%s\"; start the server first", name);
 */
int error_set(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

void error_clear(void);

#endif
