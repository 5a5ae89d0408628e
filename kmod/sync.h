/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * sync.h - the hot call: ring doorbells, then wait for events
 *
 * See ready.h for what is rung and taken. The form with one notify entry and one event copies the
 * struct in once and out once and allocates nothing.
 */
#ifndef _SHMIPC_SYNC_H
#define _SHMIPC_SYNC_H

#include <linux/poll.h>

#include "main.h"

long shmipc_sync(struct shmipc_attachment *att, void __user *uarg);
__poll_t shmipc_poll(struct file *file, struct poll_table_struct *wait);

#endif
