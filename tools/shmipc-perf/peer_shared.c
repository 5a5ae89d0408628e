// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * peer_shared.c - shared memory that both trust, a message each way: the floors
 *
 * What differs is how the other learns of a message: by an eventfd, by a futex, or by looking at a
 * word until it changes, which costs what a cache line takes from one CPU to the other.
 */
#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "perf.h"
#include "transport.h"

static struct words {
	uint32_t there __attribute__((aligned(128)));	/* messages that the client sent */
	uint32_t back __attribute__((aligned(128)));	/* and the server */
	char end __attribute__((aligned(128)));
} *words;
static char *data[2];		/* the client's message, and the server's */
static uint32_t *mine, *theirs, seen;
static enum end self;
static int bells[2];

static void *shared(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap", 0);
	return p;
}

static void shared_make(void)
{
	words = shared(sizeof(*words));
	data[CLIENT] = shared(setup.size);
	data[SERVER] = shared(setup.reply);
}

static void shared_attach(enum end end)
{
	self = end;
	mine = end == CLIENT ? &words->there : &words->back;
	theirs = end == CLIENT ? &words->back : &words->there;
}

static void *shared_reserve(unsigned int channel, size_t size)
{
	(void)channel;
	(void)size;
	return data[self];
}

static void shared_release(unsigned int channel)
{
	(void)channel;
}

static void eventfd_make(void)
{
	shared_make();
	bells[CLIENT] = eventfd(0, 0);
	bells[SERVER] = eventfd(0, 0);
	if (bells[CLIENT] < 0 || bells[SERVER] < 0)
		die("eventfd", 0);
}

static void eventfd_commit(unsigned int channel, size_t size, bool answered)
{
	(void)channel;
	(void)size;
	(void)answered;
	if (eventfd_write(bells[!self], 1))
		die("eventfd", 0);
}

static const void *eventfd_receive(unsigned int channel, size_t size)
{
	eventfd_t n;

	(void)channel;
	(void)size;
	if (eventfd_read(bells[self], &n))
		die("eventfd", 0);
	return data[!self];
}

static void futex_commit(unsigned int channel, size_t size, bool answered)
{
	(void)channel;
	(void)size;
	(void)answered;
	__atomic_fetch_add(mine, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, mine, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static const void *futex_receive(unsigned int channel, size_t size)
{
	(void)channel;
	(void)size;
	while (__atomic_load_n(theirs, __ATOMIC_ACQUIRE) == seen)
		syscall(SYS_futex, theirs, FUTEX_WAIT, seen, NULL, NULL, 0);
	seen++;
	return data[!self];
}

static void spin_commit(unsigned int channel, size_t size, bool answered)
{
	(void)channel;
	(void)size;
	(void)answered;
	__atomic_store_n(mine, *mine + 1, __ATOMIC_RELEASE);
}

static const void *spin_receive(unsigned int channel, size_t size)
{
	(void)channel;
	(void)size;
	while (__atomic_load_n(theirs, __ATOMIC_ACQUIRE) == seen)
		;
	seen++;
	return data[!self];
}

#define SHARED_OPS .attach = shared_attach, .reserve = shared_reserve, .release = shared_release

const struct transport peer_eventfd = {
	.name = "eventfd", .flags = ECHOES | SLEEPS, .make = eventfd_make, SHARED_OPS,
	.commit = eventfd_commit, .receive = eventfd_receive,
};

const struct transport peer_futex = {
	.name = "futex", .flags = ECHOES | SLEEPS | BUFFERS, .make = shared_make, SHARED_OPS,
	.commit = futex_commit, .receive = futex_receive,
};

const struct transport peer_spin = {
	.name = "spin", .flags = ECHOES | SPINS, .make = shared_make, SHARED_OPS,
	.commit = spin_commit, .receive = spin_receive,
};
