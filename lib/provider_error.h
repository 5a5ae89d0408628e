/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * provider_error.h - the sentences that the providers share
 *
 * Each keeps the sentence for @error about @name, with the next step, and returns @error.
 */
#ifndef SHMIPC_PROVIDER_ERROR_H
#define SHMIPC_PROVIDER_ERROR_H

int provider_bind_error(int error, const char *name);
int provider_connect_error(int error, const char *name);

#endif
