/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * reborn.h - one end of a duo is taken over: what its process knew is thrown away, and made anew from
 * its segments alone
 */
#ifndef TESTS_REBORN_H
#define TESTS_REBORN_H

#include "duo.h"
#include "recover.h"

/* What a provider would tell of @s. @own and @peers have room for all slots. */
void reborn_describe(struct shmipc_session *s, bool crashed, struct recovery *from,
		     struct pv_segment *own, struct pv_mapping *peers);
/*
 * *@s becomes the successor, whose streams have other addresses: 0. Or -errno, and *@s is what it
 * was. In the segments nothing changes before the successor has all that it needs.
 */
int reborn(struct shmipc_session **s, bool crashed);
/* Frees what @s knows, and touches nothing that another has too. */
void reborn_forget(struct shmipc_session *s);
/* The stream of that name that the application of @s has; NULL: none. */
struct shmipc_stream *reborn_stream(struct shmipc_session *s, uint16_t slot, uint32_t generation);
/* Once all frames are taken off the rings nothing is out either way, and the books say so. */
void reborn_expect_quiet(struct duo *d);

#endif
