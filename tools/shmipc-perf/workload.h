/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* workload.h - what is done with a transport; the two ends of each */
#ifndef SHMIPC_PERF_WORKLOAD_H
#define SHMIPC_PERF_WORKLOAD_H

#include <stdbool.h>

struct transport;

struct workload {
	const char *name;
	const char *op;			/* what one operation is */
	bool (*fits)(const struct transport *t);
	void (*client)(const struct transport *t);
	void (*server)(const struct transport *t);	/* or NULL */
};

extern const struct workload ping_pong;		/* one message there, one back */
extern const struct workload one_way;		/* messages one way, until all are read */
extern const struct workload channels;		/* ping-pong on many channels at once */
extern const struct workload connecting;	/* connect, a request, its answer, close */
extern const struct workload copying;		/* memcpy() in one process */
extern const struct workload handover;		/* what pause.c measures; run by suite.c */

#endif
