/* SPDX-License-Identifier: MIT */
/* hot_restart.h - what hot_load asks, and what hot_server answers */
#include <stdint.h>

#define HOT_BODY	200

/* Each stream's requests are numbered from 0, so that either side knows one that comes twice. */
struct request {
	uint64_t number;
	unsigned char body[HOT_BODY];
};

struct answer {
	uint64_t number;	/* the request's */
	uint64_t served;	/* answers of this server and all before it, this one included */
	uint64_t again;		/* the request was delivered again: it may have been answered before */
	unsigned char body[HOT_BODY];	/* the request's, each bit turned over */
};
