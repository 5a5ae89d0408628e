/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* heat.h - making a session hot or idle, and seeing which it is */
#ifndef TESTS_HEAT_H
#define TESTS_HEAT_H

#include "duo.h"

bool is_hot(struct shmipc_session *s);
void heat(struct shmipc_session *s);
/* Takes bells that were rung before. Returns how many. */
int take_bells(struct shmipc_endpoint *ep);
/* Once in many polls, and in each tick, the provider is asked, and then all is armed: not what is looked at here. */
void no_sync_yet(struct shmipc_endpoint *ep);

#endif
