/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * table.h - a session's private tables, of which most entries are never used
 *
 * They are as large as the peer may make it necessary, and a session that is new, or that has just
 * been taken over, uses some entries of each. So they are the kernel's zero pages, not the C
 * library's memory: a page that is not touched costs nothing, and nobody has to write zeros. One that is
 * only read costs a fault, too.
 */
#ifndef SHMIPC_TABLE_H
#define SHMIPC_TABLE_H

#include <stddef.h>

/* @n entries of @size bytes, all zero. NULL: no memory. */
void *table_alloc(size_t n, size_t size);
/* @table: NULL or what table_alloc() returned for the same @n and @size. */
void table_free(void *table, size_t n, size_t size);

#endif
