// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* workload.c - what is done with a transport */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "pair.h"
#include "payload.h"
#include "perf.h"
#include "transport.h"
#include "workload.h"

#define LARGE	((size_t)16 << 20)

static uint64_t word;	/* of the client's next message */

static void put(void *data, size_t size, uint64_t value)
{
	if (control->check)
		payload_write_pattern(data, size, value);
	else
		payload_write(data, size, value);
}

static uint64_t get(const void *data, size_t size)
{
	return control->check ? payload_read_pattern(data, size) : payload_read(data, size);
}

static void ask(const struct transport *t, unsigned int channel, uint64_t value, bool answered)
{
	put(t->reserve(channel, setup.size), setup.written, value);
	t->commit(channel, setup.size, answered);
}

static uint64_t take_answer(const struct transport *t, unsigned int channel)
{
	const void *data = t->receive(channel, setup.reply);
	uint64_t value;

	if (!data)
		die("the server is gone", -EPIPE);
	value = get(data, setup.reply);
	t->release(channel);
	return value;
}

static void expect(uint64_t value, uint64_t wanted)
{
	if (value != wanted)
		die("an answer to another message", -EBADMSG);
}

/* The server's part. False: the client is gone. */
static bool take(const struct transport *t, unsigned int channel, uint64_t *value)
{
	const void *data = t->receive(channel, setup.size);

	if (!data)
		return false;
	*value = get(data, setup.read);
	t->release(channel);
	return true;
}

static void answer(const struct transport *t, unsigned int channel, uint64_t value)
{
	put(t->reserve(channel, setup.reply), setup.reply, value);
	t->commit(channel, setup.reply, true);
}

/* ---- ping-pong --------------------------------------------------------------- */

static bool echoes(const struct transport *t)
{
	return t->flags & ECHOES;
}

static void ping_pong_ops(const struct transport *t, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		ask(t, 0, ++word, true);
		expect(take_answer(t, 0), word);
	}
}

static void ping_pong_client(const struct transport *t)
{
	t->attach(CLIENT);
	/* One of the largest takes long enough. */
	measure_ops(t, ping_pong_ops, setup.size > LARGE ? 1 : 2);
	/* What the server worked meanwhile is not the transport's. */
	control->sample.ns -= control->think_ns;
}

static void think(void)
{
	double until = now() + control->think_ns;

	while (control->think_ns && now() < until)
		;
}

static void ping_pong_server(const struct transport *t)
{
	uint64_t value;

	t->attach(SERVER);
	while (take(t, 0, &value)) {
		think();
		answer(t, 0, value);
	}
}

const struct workload ping_pong = {
	"ping-pong", "round trip", echoes, ping_pong_client, ping_pong_server,
};

/* ---- one-way ------------------------------------------------------------------- */

static bool streams(const struct transport *t)
{
	return t->flags & STREAMS;
}

/* Until the server says that it has read the last one. */
static void one_way_ops(const struct transport *t, uint64_t n)
{
	/* Seen by the server after the first message: that is sent later. */
	__atomic_store_n(&control->count, n, __ATOMIC_RELEASE);
	for (uint64_t i = 0; i < n; i++)
		ask(t, 0, ++word, false);
	expect(take_answer(t, 0), word);
}

static void one_way_client(const struct transport *t)
{
	t->attach(CLIENT);
	measure_ops(t, one_way_ops, 2 * setup.depth);
}

static void one_way_server(const struct transport *t)
{
	uint64_t value, next = 1;

	t->attach(SERVER);
	while (take(t, 0, &value)) {
		uint64_t left = __atomic_load_n(&control->count, __ATOMIC_ACQUIRE);

		for (;;) {
			if (value != next++)
				die("a message out of order", -EBADMSG);
			if (!--left)
				break;
			if (!take(t, 0, &value))
				return;
		}
		answer(t, 0, value);
	}
}

const struct workload one_way = {
	"one-way", "message", streams, one_way_client, one_way_server,
};

/* ---- many channels ------------------------------------------------------------- */

static uint64_t words[CHANNELS_MAX];	/* what each channel's answer shall be */

static bool multiplexes(const struct transport *t)
{
	return t->ready;
}

static void channels_ops(const struct transport *t, uint64_t n)
{
	unsigned int ready[64];
	uint64_t asked = 0, answered = 0;

	for (; asked < setup.busy && asked < n; asked++)
		ask(t, asked, words[asked] = ++word, true);
	while (answered < n) {
		unsigned int nr = t->ready(ready, 64);

		if (!nr)
			die("the server is gone", -EPIPE);
		for (unsigned int i = 0; i < nr; i++, answered++) {
			expect(take_answer(t, ready[i]), words[ready[i]]);
			if (asked < n) {
				ask(t, ready[i], words[ready[i]] = ++word, true);
				asked++;
			}
		}
	}
}

static void channels_client(const struct transport *t)
{
	t->attach(CLIENT);
	measure_ops(t, channels_ops, 4 * setup.busy);
}

static void channels_server(const struct transport *t)
{
	unsigned int ready[64], nr;
	uint64_t value;

	t->attach(SERVER);
	while ((nr = t->ready(ready, 64)))
		for (unsigned int i = 0; i < nr; i++) {
			if (!take(t, ready[i], &value))
				return;
			answer(t, ready[i], value);
		}
}

const struct workload channels = {
	"channels", "round trip", multiplexes, channels_client, channels_server,
};

/* ---- connections ---------------------------------------------------------------- */

static bool connects(const struct transport *t)
{
	return t->visit;
}

static void connecting_ops(const struct transport *t, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		t->visit(++word);
}

static void connecting_client(const struct transport *t)
{
	measure_ops(t, connecting_ops, 2);
}

static void connecting_server(const struct transport *t)
{
	t->serve();
}

const struct workload connecting = {
	"connect", "connection", connects, connecting_client, connecting_server,
};

/* ---- copies ----------------------------------------------------------------------- */

static void *from, *to;

static bool copies(const struct transport *t)
{
	return t->flags & COPIES;
}

static void copying_ops(const struct transport *t, uint64_t n)
{
	(void)t;
	for (uint64_t i = 0; i < n; i++) {
		memcpy(to, from, setup.size);
		/* It has to be done, each time. */
		__asm__ volatile("" : : "r"(to), "r"(from) : "memory");
	}
}

static void copying_client(const struct transport *t)
{
	from = malloc(setup.size);
	to = malloc(setup.size);
	if (!from || !to)
		die("malloc", 0);
	payload_write(from, setup.size, 1);
	measure_ops(t, copying_ops, 2);
	if (payload_read(to, setup.size) != 1)
		die("memcpy", -EBADMSG);
}

const struct workload copying = { "memcpy", "copy", copies, copying_client, NULL };

const struct workload handover = { "handover", "handover", NULL, NULL, NULL };
