// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* peer_mq.c - POSIX message queues */
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "perf.h"
#include "transport.h"

#define MESSAGES	10	/* that a queue holds; what everyone may have */

static mqd_t queues[2], in, out;
static void *private;

static const char *mq_absent(void)
{
	static char why[64];
	FILE *f = fopen("/proc/sys/fs/mqueue/msgsize_max", "re");
	size_t most = 0;

	if (!f)
		return "no POSIX message queues in this kernel";
	if (fscanf(f, "%zu", &most) != 1)
		most = 0;
	fclose(f);
	snprintf(why, sizeof(why), "messages of %zu bytes at most", most);
	return setup.size > most || setup.reply > most ? why : NULL;
}

static void mq_make(void)
{
	size_t most = setup.size > setup.reply ? setup.size : setup.reply;
	struct mq_attr attr = { .mq_maxmsg = MESSAGES, .mq_msgsize = (long)most };

	for (int i = 0; i < 2; i++) {
		char name[64];

		snprintf(name, sizeof(name), "/shmipc-perf-%d-%d", getpid(), i);
		queues[i] = mq_open(name, O_CREAT | O_EXCL | O_RDWR |
				    (setup.spin ? O_NONBLOCK : 0), 0600, &attr);
		if (queues[i] < 0)
			die("mq_open", 0);
		mq_unlink(name);
	}
	private = malloc(most);
	if (!private)
		die("malloc", 0);
}

static void mq_attach(enum end end)
{
	in = queues[end];
	out = queues[!end];
}

static void *mq_reserve(unsigned int channel, size_t size)
{
	(void)channel;
	(void)size;
	return private;
}

static void mq_commit(unsigned int channel, size_t size, bool answered)
{
	(void)channel;
	(void)answered;
	while (mq_send(out, private, size, 0))
		if (errno != EAGAIN)
			die("mq_send", 0);
}

static const void *mq_take(unsigned int channel, size_t size)
{
	size_t most = setup.size > setup.reply ? setup.size : setup.reply;

	(void)channel;
	(void)size;
	while (mq_receive(in, private, most, NULL) < 0)
		if (errno != EAGAIN)
			die("mq_receive", 0);
	return private;
}

static void mq_release(unsigned int channel)
{
	(void)channel;
}

const struct transport peer_mq = {
	.name = "mq", .flags = ECHOES | STREAMS | SPINS | SLEEPS, .absent = mq_absent,
	.make = mq_make, .attach = mq_attach, .reserve = mq_reserve, .commit = mq_commit,
	.receive = mq_take, .release = mq_release,
};
