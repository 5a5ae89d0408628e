// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* table.c - zero pages for a session's private tables */
#include <stdlib.h>
#include <sys/mman.h>
#include "table.h"

/* A sanitizer knows where the C library's memory ends, but not where a table does. */
#ifdef __SANITIZE_ADDRESS__

void *table_alloc(size_t n, size_t size)
{
	return calloc(n, size);
}

void table_free(void *table, size_t n, size_t size)
{
	(void)n;
	(void)size;
	free(table);
}

#else

/* A few thousand entries of a hundred bytes: the product is far from too large. */
void *table_alloc(size_t n, size_t size)
{
	void *table = mmap(NULL, n * size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return table == MAP_FAILED ? NULL : table;
}

void table_free(void *table, size_t n, size_t size)
{
	/* In the midst of a neighbour's pages that splits a mapping, of which there may be no more. */
	if (table && munmap(table, n * size))
		madvise(table, n * size, MADV_DONTNEED);
}

#endif
