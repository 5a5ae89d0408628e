/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * provider_error.h - the sentences that the providers share
 *
 * Each keeps the sentence for @error, with the next step, and returns @error.
 */
#ifndef SHMIPC_PROVIDER_ERROR_H
#define SHMIPC_PROVIDER_ERROR_H

#include <stddef.h>

/* Opening the module's @device. What says that there is none becomes -ENODEV, no right -EACCES. */
int provider_open_error(int error, const char *device);
/* About the name @name. */
int provider_bind_error(int error, const char *name);
int provider_connect_error(int error, const char *name);
/* -EAGAIN, nobody waits, has none. */
int provider_accept_error(int error);
/* Making a segment of @len bytes. */
int provider_memory_error(int error, size_t len);

#endif
