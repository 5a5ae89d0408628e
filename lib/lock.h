/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * lock.h - a lock that costs one atomic instruction each way while nobody waits, and none in a
 * program of one thread
 *
 * The data path takes several short locks a message, nearly always alone; a pthread mutex there
 * was a sixth of all instructions of a round trip. The word is 0 free, 1 taken, 2 taken and
 * perhaps waited for. Process-private, not recursive, not fair.
 *
 * The C library says whether there is a second thread. Without one there is nobody to lock out. No
 * lock is held while code of the program's runs, which alone could make a thread: so none appears
 * between lock() and unlock(), though the last other one may end there. Threads made behind the C
 * library's back (a bare clone(2)) are not supported, there as here. These locks order nothing
 * between processes: what does is in barrier.h.
 */
#ifndef SHMIPC_LOCK_H
#define SHMIPC_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/single_threaded.h>
#include <time.h>

struct lock {
	atomic_uint word;
};

/* The slow paths, and the futex calls that waiters use too. */
void lock_wait(struct lock *lock);
void lock_wake(struct lock *lock);

/* Sleeps while *word == value, until the CLOCK_MONOTONIC time @until (NULL: for ever). False: late. */
bool futex_wait(atomic_uint *word, unsigned int value, const struct timespec *until);
void futex_wake(atomic_uint *word);

/* Acquire, pairs with unlock(). */
static inline void lock(struct lock *lock)
{
	unsigned int free = 0;

	if (__libc_single_threaded)
		return;
	if (!atomic_compare_exchange_strong_explicit(&lock->word, &free, 1, memory_order_acquire,
						     memory_order_relaxed))
		lock_wait(lock);
}

/* Release, pairs with lock(). */
static inline void unlock(struct lock *lock)
{
	if (__libc_single_threaded)
		atomic_store_explicit(&lock->word, 0, memory_order_relaxed);
	else if (atomic_exchange_explicit(&lock->word, 0, memory_order_release) == 2)
		lock_wake(lock);
}

#endif
