/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * connect.h - the two requests that make a session, see session.h and listener.h
 */
#ifndef _SHMIPC_CONNECT_H
#define _SHMIPC_CONNECT_H

#include "main.h"

int shmipc_connect(struct shmipc_call *call);
int shmipc_accept(struct shmipc_call *call);

#endif
