/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * checker.h - is what comes out of a stream what went in?
 *
 * For streams whose bytes are fill()'s: what is lost, comes twice, overtakes or is changed is not what
 * belongs there. test_checker plants each of them.
 */
#ifndef TESTS_CHECKER_H
#define TESTS_CHECKER_H

#include <stddef.h>
#include <stdint.h>

enum fault {
	FAULT_NONE,
	FAULT_MISSING,	/* bytes of a later position: something was lost, or overtaken */
	FAULT_AGAIN,	/* bytes of an earlier position: something comes twice, or late */
	FAULT_WRONG,	/* no bytes of this stream */
};

struct checker {
	uint64_t key;		/* fill()'s */
	uint64_t position;	/* of the next byte */
};

/* Looks at the next bytes, and passes them. What is wrong with them it prints too. */
enum fault checker_take(struct checker *c, const void *buf, size_t len);

#endif
