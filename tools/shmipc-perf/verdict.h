/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* verdict.h - what has to be reached, nearly all as ratios within one run */
#ifndef SHMIPC_PERF_VERDICT_H
#define SHMIPC_PERF_VERDICT_H

#include "rows.h"

enum state {
	REACHED,
	MISSED,
	VOID, /* a floor that it is compared with, or that says whether the run is sane, is not */
	ABSENT, /* a row is missing, or has too few samples of one class */
};

extern const char *const state_names[];

struct verdict {
	const char *number;	/* of the target, "1"; of a floor "floor" */
	const char *what;
	double limit, value;	/* @value negative: none */
	bool least;		/* at least @limit, else at most */
	enum state state;
};

#define VERDICTS_MAX	32

/* Of all rows. @samples: that a class must have. Returns how many. */
unsigned int judge(struct verdict *verdicts, unsigned int samples);

#endif
