// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* duo.c - two endpoints of the local provider, connected */
#include <pthread.h>
#include <unistd.h>
#include "barrier.h"
#include "duo.h"

struct connecting {
	struct shmipc_endpoint *ep;
	const char *name;
	const struct shmipc_options *options;
	struct shmipc_session *session;
	int err;
};

static void *connect_thread(void *arg)
{
	struct connecting *c = arg;

	c->err = shmipc_connect(c->ep, c->name, c->options, &c->session, LIMIT);
	return NULL;
}

void duo_connect(struct shmipc_endpoint *a_ep, struct shmipc_endpoint *b_ep,
		 const struct shmipc_options *options, struct shmipc_session **a,
		 struct shmipc_session **b)
{
	static unsigned int n;
	struct connecting c = { .ep = b_ep, .options = options };
	struct shmipc_listener *listener;
	pthread_t thread;
	char name[64];

	snprintf(name, sizeof(name), "test.duo.%d.%u", getpid(), n++);
	assert_int_equal(shmipc_listen(a_ep, name, options, &listener), 0);
	c.name = name;
	pthread_create(&thread, NULL, connect_thread, &c);
	assert_int_equal(shmipc_accept(listener, a, LIMIT), 0);
	pthread_join(thread, NULL);
	assert_int_equal(c.err, 0);
	*b = c.session;
	/* It would go on reporting that one may wait. */
	shmipc_listener_close(listener);
}

void duo_open(struct duo *d, const struct shmipc_options *options)
{
	setenv("SHMIPC_PROVIDER", "local", 1);
	memset(d, 0, sizeof(*d));
	assert_int_equal(shmipc_open(&d->a_ep, 0), 0);
	assert_int_equal(shmipc_open(&d->b_ep, 0), 0);
	duo_connect(d->a_ep, d->b_ep, options, &d->a, &d->b);
}

/* Only where nothing was sent yet. Slots hold the seq of the lap before, as they would. */
static void age(struct shmipc_session *from, struct shmipc_session *to, uint64_t seq)
{
	struct tx *tx = &from->tx;

	tx->next = tx->flushed = seq;
	tx->cursor = seq;
	to->rx.next = seq;
	to->rx.published = seq;
	to->rx.control->rx_cursor = seq;
	to->rx.control->rx_event = seq;
	tx->control->slot_event = seq - 1;
	for (uint64_t old = seq - tx->slots; old < seq; old++)
		tx->ring[old & (tx->slots - 1)].seq = old;
}

void duo_open_at(struct duo *d, const struct shmipc_options *options, uint64_t seq)
{
	duo_open(d, options);
	age(d->a, d->b, seq);
	age(d->b, d->a, seq);
}

void duo_close(struct duo *d)
{
	shmipc_close(d->a_ep);
	shmipc_close(d->b_ep);
}

void duo_stream(struct duo *d, struct shmipc_stream **b, struct shmipc_stream **a)
{
	char c;

	assert_int_equal(shmipc_stream_open(d->b, b), 0);
	assert_int_equal(shmipc_write(*b, "!", 1, 0, LIMIT), 1);
	assert_int_equal(shmipc_stream_accept(d->a, a, LIMIT), 0);
	assert_int_equal(shmipc_read(*a, &c, 1, LIMIT), 1);
}

void duo_stream_at(struct shmipc_stream *from, struct shmipc_stream *to, uint64_t position)
{
	assert_int_equal(duo_reap(from->session), 0);
	assert_int_equal(from->out_data, 0);
	from->tx_position = position;
	from->session->tx.records[from->slot].sent = position;
	to->rx_position = position;
	to->session->tx.records[to->slot].consumed = position;
}

void duo_fill(uint8_t *buf, size_t len, unsigned int key)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (i * 31 + key * 7 + (i >> 8)) & 0xff;
}

void duo_send(struct shmipc_stream *from, struct shmipc_stream *to, size_t len)
{
	uint8_t *out = malloc(len), *in = calloc(1, len + 1);
	static unsigned int key;

	duo_fill(out, len, ++key);
	assert_int_equal(shmipc_write(from, out, len, 0, LIMIT), len);
	assert_int_equal(shmipc_read(to, in, len + 1, LIMIT), len);
	assert_memory_equal(in, out, len);
	free(out);
	free(in);
}

void duo_elsewhere(struct shmipc_session *s)
{
	store_relaxed(&s->rx.control->cpu, UINT32_MAX - 1);
}

void duo_drain(struct shmipc_session *s)
{
	while (rx_drain(s, DRAIN_BUDGET) > 0)
		;
	lock(&s->rx.lock);
	rx_publish_cursor(s);
	unlock(&s->rx.lock);
}

int duo_reap(struct shmipc_session *s)
{
	int err;

	lock(&s->tx.lock);
	err = tx_reap(s);
	unlock(&s->tx.lock);
	return err;
}

/* Its live entry is the last one, which nobody else takes that soon. */
struct frame duo_frame(struct shmipc_stream *st)
{
	struct shmipc_session *s = st->session;
	struct frame frame = {
		.stream = st->slot,
		.live = s->tx.nr_live - 1,
		.generation = st->generation,
		.position = st->tx_position,
		.kind = FRAME_INLINE,
		.flags = st->opened || (st->slot & 1) != s->role ? 0 : FRAME_F_OPEN,
		.length = 1,
		.data = "?",
	};

	return frame;
}

void duo_inject(struct shmipc_session *from, const struct frame *frame)
{
	struct tx *tx = &from->tx;
	struct frame *to = &tx->ring[tx->next & (tx->slots - 1)];

	memcpy((char *)to + sizeof(to->seq), (const char *)frame + sizeof(to->seq),
	       sizeof(*to) - sizeof(to->seq));
	store_release(&to->seq, tx->next++);
}

struct shmipc_stats duo_stats(struct shmipc_endpoint *ep)
{
	struct shmipc_stats stats;

	assert_int_equal(shmipc_get_stats(ep, &stats, sizeof(stats)), 0);
	return stats;
}
