/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * barrier.h - the atomics of the data path, named by their order
 *
 * Shared memory has one writer a word, so plain loads and stores in a stated order are all there
 * is: no read-modify-write touches a segment.
 */
#ifndef SHMIPC_BARRIER_H
#define SHMIPC_BARRIER_H

#include <stdint.h>

#if !defined(__LP64__)
#error "libshmipc needs 64-bit loads and stores that do not tear"
#endif

#define load_relaxed(p)		__atomic_load_n(p, __ATOMIC_RELAXED)
#define load_acquire(p)		__atomic_load_n(p, __ATOMIC_ACQUIRE)
#define store_relaxed(p, v)	__atomic_store_n(p, v, __ATOMIC_RELAXED)
#define store_release(p, v)	__atomic_store_n(p, v, __ATOMIC_RELEASE)

/*
 * Keeps the compiler from moving a store up over an earlier one, which a release does not forbid.
 * No more is needed for who reads a process's memory after its death: all its stores are there.
 */
#define program_order()		__atomic_signal_fence(__ATOMIC_SEQ_CST)

/*
 * Keeps earlier stores before later ones for who reads both while this process lives. Nothing on
 * x86. ThreadSanitizer ignores fences, and what is read so is no synchronisation to it.
 */
static inline void store_fence(void)
{
#ifdef __SANITIZE_THREAD__
	program_order();
#else
	__atomic_thread_fence(__ATOMIC_RELEASE);
#endif
}

/* Keeps earlier loads before later ones: the other side of store_fence(). */
static inline void load_fence(void)
{
#ifdef __SANITIZE_THREAD__
	program_order();
#else
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
#endif
}

/*
 * Orders a store before a later load (publish, then look whether somebody sleeps; say that one
 * sleeps, then look again). ThreadSanitizer ignores fences: there it is a read-modify-write. On x86
 * some compilers lock the word at the top of the stack, which the next pop or ret reads and then waits for;
 * so a word of the red zone, which hardly anybody reads (docs/performance.md).
 */
#ifdef __SANITIZE_THREAD__
extern uint32_t tsan_fence_word;
static inline void full_fence(void)
{
	__atomic_fetch_add(&tsan_fence_word, 1, __ATOMIC_SEQ_CST);
}
#elif defined(__x86_64__)
static inline void full_fence(void)
{
	__asm__ volatile("lock addl $0, -64(%%rsp)" : : : "memory", "cc");
}
#else
static inline void full_fence(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}
#endif

/* A hint: this CPU is going to write the line. The compiler's own would fetch it for reading. */
static inline void prefetch_write(const void *line)
{
#if defined(__x86_64__)
	__asm__ volatile("prefetchw %0" : : "m"(*(const char *)line));
#else
	__builtin_prefetch(line, 1);
#endif
}

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/*
 * Was @event published by the step from @before to @now? Indices run modulo 2^32 (the rule of
 * virtio's event index): true iff @before <= @event < @now.
 */
static inline int event_due(uint32_t event, uint32_t before, uint32_t now)
{
	return (uint32_t)(now - event - 1) < (uint32_t)(now - before);
}

#endif
