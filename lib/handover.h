/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* handover.h - what both ends of a handover share: handover.c offers, adopt.c takes */
#ifndef SHMIPC_HANDOVER_H
#define SHMIPC_HANDOVER_H

#include "endpoint.h"

/* The segment with the program's state. The successor believes @len no further than the segment. */
struct blob {
	uint64_t len;
	uint8_t state[];
};

/* -EOPNOTSUPP, with a sentence that tells what it needs. */
int handover_unsupported(void);
/* Ends what shmipc_offer() began, if there is anything. */
void offer_end(struct shmipc_endpoint *ep);
/* What shmipc_adopt() found. */
void adopted_free(struct shmipc_endpoint *ep);

#endif
