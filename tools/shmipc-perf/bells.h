/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* bells.h - what waking many sleepers costs who wakes them */
#ifndef SHMIPC_PERF_BELLS_H
#define SHMIPC_PERF_BELLS_H

/* Wakes so many, so often, in each of three ways; prints the medians. */
void measure_bells(unsigned int peers, unsigned int runs);

#endif
