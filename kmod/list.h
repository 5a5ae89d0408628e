/* SPDX-License-Identifier: GPL-2.0-only */
/* list.h - what an endpoint has, and what its holder wants to hear of it */
#ifndef _SHMIPC_LIST_H
#define _SHMIPC_LIST_H

#include "main.h"

int shmipc_list(struct shmipc_call *call);
int shmipc_watch(struct shmipc_call *call);

#endif
