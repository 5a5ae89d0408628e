// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Big buffers, where one thread is in the midst of something and the peer, or another thread, goes on. */
#include <sys/mman.h>
#include "reborn.h"
#include "waiters.h"

#define BIG	((size_t)64 << 20)

/* ---- a buffer is copied out of while its slot is wanted for another --------------------- */

struct reader {
	struct shmipc_stream *st;
	uint8_t *to;
	ssize_t result;
};

static void *reader_thread(void *arg)
{
	struct reader *r = arg;

	r->result = shmipc_read(r->st, r->to, BIG, LIMIT);
	return NULL;
}

/* Not the first byte, which may be written last. */
static void wait_for_byte(const volatile uint8_t *to)
{
	int64_t end = now() + LIMIT;

	while (!*to)
		assert_true(now() < end);
}

/* False: the reader was through before the peer had its turn. Side b is the peer, and lies. */
static bool read_while_reset(void)
{
	struct shmipc_options options = { .size = sizeof(options), .max_memory = 2 * BIG };
	struct shmipc_stream *a, *b, *a2, *b2;
	struct reader r;
	struct shmipc_buf *buf;
	struct frame frame;
	pthread_t thread;
	struct duo d;

	assert_int_equal(shmipc_open(&d.a_ep, 0), 0);
	assert_int_equal(shmipc_open(&d.b_ep, 0), 0);
	duo_connect(d.a_ep, d.b_ep, &options, &d.a, &d.b);
	duo_stream(&d, &b, &a);
	duo_stream(&d, &b2, &a2);
	assert_int_equal(shmipc_buf_new(d.b_ep, BIG, &buf), 0);
	memset(shmipc_buf_data(buf), 7, BIG);
	assert_int_equal(shmipc_buf_send(b, buf, BIG, 0, LIMIT), 0);
	r = (struct reader){ .st = a, .to = calloc(1, BIG) };
	assert_int_equal(pthread_create(&thread, NULL, reader_thread, &r), 0);
	wait_for_byte(r.to + BIG / 8);
	/* It gives the stream up, and names the slot for another buffer, which it does not have. */
	assert_int_equal(shmipc_reset(b, 1), 0);
	frame = duo_frame(b2);
	frame.kind = FRAME_BUFFER;
	frame.length = 0;
	memset(frame.data, 0, sizeof(frame.data));
	frame.block.slot = BUF_SLOT_FIRST;
	frame.block.serial = 2;
	frame.block.length = BIG;
	duo_inject(d.b, &frame);
	/* One takes the RESET, the next one looks at what comes after it. */
	session_drain(d.a);
	session_drain(d.a);
	assert_int_equal(pthread_join(thread, NULL), 0);
	/* All of it was there to be read; what was read of a stream that was reset is nothing. */
	assert_int_equal(r.to[BIG - 1], 7);
	assert_true(r.result == BIG || r.result == -ECONNRESET || r.result == -EBADMSG);
	free(r.to);
	duo_close(&d);
	return r.result < 0;
}

/* With the embedded provider, which really unmaps. */
static void test_read_of_reset(void **state)
{
	int tries = 0;

	(void)state;
	setenv("SHMIPC_PROVIDER", "embedded", 1);
	while (!read_while_reset())
		assert_true(++tries < 50);
	setenv("SHMIPC_PROVIDER", "local", 1);
}

/* ---- a buffer is waited for while a session that has it is closed ---------------------- */

static struct shmipc_buf *waited;

/* As another thread may, while the session is half closed. */
static void wait_then_drop(struct provider *pv, uint32_t handle, uint32_t reason)
{
	assert_int_equal(shmipc_buf_wait(waited, 0), 0);
	real_ops->drop(pv, handle, reason);
}

static void test_wait_beside_close(void **state)
{
	struct shmipc_stream *a, *b;
	struct shmipc_message m;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	assert_int_equal(shmipc_buf_new(d.b_ep, 4096, &waited), 0);
	assert_int_equal(shmipc_buf_send(b, waited, 100, 0, 0), 0);
	/* It came back, and b has not seen that yet. */
	assert_int_equal(shmipc_peek(a, &m, 0), 1);
	assert_int_equal(shmipc_return(a, &m), 0);
	hook(d.b_ep);
	hooked.drop = wait_then_drop;
	shmipc_session_close(d.b);
	assert_true(list_empty(&waited->grants));
	duo_close(&d);
}

/* ---- a buffer is taken while the peer names it once more ------------------------------ */

static void test_named_while_taken(void **state)
{
	struct shmipc_stream *a, *b;
	struct shmipc_message m;
	struct shmipc_buf *buf;
	struct frame frame;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	assert_int_equal(shmipc_buf_new(d.b_ep, 4096, &buf), 0);
	assert_int_equal(shmipc_buf_send(b, buf, 100, 0, 0), 0);
	assert_int_equal(shmipc_peek(a, &m, 0), 1);
	/* As shmipc_buf_take() says while it asks the provider. */
	d.a->rx.bufs[0].taking = true;
	frame = duo_frame(b);
	frame.kind = FRAME_BUFFER;
	frame.length = 0;
	memset(frame.data, 0, sizeof(frame.data));
	frame.block.slot = BUF_SLOT_FIRST;
	frame.block.serial = 1;
	frame.block.length = 100;
	duo_inject(d.b, &frame);
	session_drain(d.a);
	assert_int_equal(shmipc_session_error(d.a), -EBADMSG);
	duo_close(&d);
}

/* ---- a slot is used up for every successor --------------------------------------------- */

/* b's endpoint passes on, with @buf granted in the first slot. */
static void pass_on(struct shmipc_session **s, struct shmipc_buf *buf)
{
	static struct pv_segment own[ARENA_EXTENTS];
	static struct pv_mapping peers[SHMIPC_SLOTS_MAX];
	struct shmipc_session *successor;
	struct buf_slot *slots = NULL;
	struct recovery from;

	reborn_describe(*s, false, &from, own, peers);
	assert_int_equal(buf_inherit_grant(buf, &slots, BUF_SLOT_FIRST), 0);
	from.bufs = slots;
	assert_int_equal(recover_session((*s)->ep, &from, &successor), 0);
	reborn_forget(*s);
	recover_resume(successor, 0);
	*s = successor;
}

static void send_and_return(struct shmipc_stream *b, struct shmipc_stream *a, struct shmipc_buf *buf,
			    unsigned int key)
{
	struct shmipc_message m;

	memset(shmipc_buf_data(buf), key, 100);
	assert_int_equal(shmipc_buf_send(b, buf, 100, 0, 0), 0);
	assert_int_equal(shmipc_peek(a, &m, 0), 1);
	assert_int_equal(*(const uint8_t *)m.spans[0].data, key);
	assert_int_equal(shmipc_return(a, &m), 0);
}

static void test_used_up(void **state)
{
	struct shmipc_stream *a, *b;
	struct shmipc_buf *buf[3], *news;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(shmipc_buf_new(d.b_ep, 4096, &buf[i]), 0);
		send_and_return(b, a, buf[i], 10 + i);
	}
	for (int i = 0; i < 2; i++) {
		uint16_t slot = b->slot;
		uint32_t generation = b->generation;

		pass_on(&d.b, buf[0]);
		b = reborn_stream(d.b, slot, generation);
		assert_non_null(b);
		/* The one that is granted has its slot, and the others theirs for ever. */
		assert_true(d.b->tx.bufs[1].used_up && d.b->tx.bufs[2].used_up);
		send_and_return(b, a, buf[0], 20 + i);
	}
	assert_int_equal(shmipc_buf_new(d.b_ep, 4096, &news), 0);
	send_and_return(b, a, news, 30);
	assert_ptr_equal(d.b->tx.bufs[3].grant->buf, news);
	duo_close(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_of_reset), cmocka_unit_test(test_wait_beside_close),
		cmocka_unit_test(test_named_while_taken), cmocka_unit_test(test_used_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
