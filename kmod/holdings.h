/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * holdings.h - the charges of a whole endpoint move to another user
 *
 * ADOPT reserves, and YIELD what was made since: the successor's user is charged with what is in
 * the handle table while the holder's still is. COMMIT moves: each object names its new payer, and
 * the former user's charge ends. Where the user is the same, all of this does nothing.
 *
 * All with ep->lock held, which keeps the table as it is.
 */
#ifndef _SHMIPC_HOLDINGS_H
#define _SHMIPC_HOLDINGS_H

struct shmipc_endpoint;
struct shmipc_user;

/* Charges @user with what of the endpoint is not reserved yet: all or nothing. -EDQUOT. */
int shmipc_reserve_locked(struct shmipc_endpoint *ep, struct shmipc_user *user);
void shmipc_unreserve_locked(struct shmipc_endpoint *ep, struct shmipc_user *user);
/* To @to, for whom it is reserved. ep->user is still the former one. */
void shmipc_recharge_locked(struct shmipc_endpoint *ep, struct shmipc_user *to);

#endif
