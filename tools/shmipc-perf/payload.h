/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * payload.h - bytes that are really written and really read
 *
 * A payload is a multiple of eight bytes, at any address.
 */
#ifndef SHMIPC_PERF_PAYLOAD_H
#define SHMIPC_PERF_PAYLOAD_H

#include <stddef.h>
#include <stdint.h>

/* In the timed part: @word in each eight bytes, as fast as plain stores and loads go. */
void payload_write(void *data, size_t size, uint64_t word);
/* Reads all of it; ends the program where it is not one word throughout. Returns that. */
uint64_t payload_read(const void *data, size_t size);

/* Outside it: each eight bytes differ from all others, so that none can stand for another. */
void payload_write_pattern(void *data, size_t size, uint64_t word);
uint64_t payload_read_pattern(const void *data, size_t size);

#endif
