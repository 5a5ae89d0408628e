// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* lock.c - waiting for a lock, and futex calls */
#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "barrier.h"
#include "lock.h"

#define LOCK_SPINS	100	/* looks before sleeping: holders are quick */

bool futex_wait(atomic_uint *word, unsigned int value, const struct timespec *until)
{
	long rc = syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, value, until,
			  NULL, FUTEX_BITSET_MATCH_ANY);

	return rc == 0 || errno != ETIMEDOUT;
}

void futex_wake(atomic_uint *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0);
}

void lock_wait(struct lock *lock)
{
	for (int i = 0; i < LOCK_SPINS; i++) {
		unsigned int free = 0;

		if (atomic_compare_exchange_weak_explicit(&lock->word, &free, 1,
							  memory_order_acquire,
							  memory_order_relaxed))
			return;
		cpu_relax();
	}
	/* Whoever slept takes it as 2: others may sleep still. */
	while (atomic_exchange_explicit(&lock->word, 2, memory_order_acquire))
		futex_wait(&lock->word, 2, NULL);
}

void lock_wake(struct lock *lock)
{
	futex_wake(&lock->word);
}
