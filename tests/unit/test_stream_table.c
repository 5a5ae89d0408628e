// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Slots and generations of streams, and the records that a successor would read. */
#include "barrier.h"
#include "duo.h"

static struct stream_record *record(const struct shmipc_stream *st)
{
	return &st->session->tx.records[st->slot];
}

static void test_parity(void **state)
{
	struct shmipc_stream *st;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	for (int i = 0; i < 64; i++) {
		assert_int_equal(shmipc_stream_open(d.a, &st), 0);
		assert_int_equal(st->slot & 1, 1);
		assert_int_equal(shmipc_write(st, "a", 1, 0, 0), 1);
		assert_int_equal(shmipc_stream_open(d.b, &st), 0);
		assert_int_equal(st->slot & 1, 0);
		assert_int_equal(shmipc_write(st, "b", 1, 0, 0), 1);
	}
	assert_int_equal(shmipc_stream_open(d.a, &st), -EMFILE);
	assert_int_equal(shmipc_stream_open(d.b, &st), -EMFILE);
	assert_non_null(strstr(shmipc_last_error(), "max_streams"));
	for (int i = 0; i < 64; i++) {
		assert_int_equal(shmipc_stream_accept(d.a, &st, LIMIT), 0);
		assert_int_equal(st->slot, 2 * i);
		assert_int_equal(shmipc_stream_accept(d.b, &st, LIMIT), 0);
		assert_int_equal(st->slot, 2 * i + 1);
	}
	duo_close(&d);
}

/* The smaller of both sides counts, for both. */
static void test_fewest_streams(void **state)
{
	struct shmipc_options few = { .size = sizeof(few), .max_streams = 6 };
	struct shmipc_stream *st;
	struct duo d;

	(void)state;
	duo_open(&d, &few);
	assert_int_equal(d.a->nr_streams, 6);
	for (int i = 0; i < 3; i++)
		assert_int_equal(shmipc_stream_open(d.a, &st), 0);
	assert_int_equal(shmipc_stream_open(d.a, &st), -EMFILE);
	/* One that nobody ever heard of is free again at once. */
	shmipc_stream_close(st);
	duo_close(&d);
}

static void test_records(void **state)
{
	struct shmipc_stream *a, *b;
	struct stream_record *ra, *rb;
	struct duo d;
	char buf[8];

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	ra = record(a);
	rb = record(b);
	assert_true(rb->change == RECORD_CHANGE(RECORD_OPEN, 0));
	assert_int_equal(rb->generation, b->generation);
	assert_int_equal(rb->window, 1 << 20);
	assert_int_equal(rb->sent, 1);
	assert_true(ra->change == RECORD_CHANGE(RECORD_OPEN, 0));
	assert_int_equal(ra->generation, b->generation);
	assert_int_equal(ra->consumed, 1);
	assert_int_equal(ra->sent, 0);
	assert_int_equal(shmipc_write(b, "abc", 3, SHMIPC_MORE, 0), 3);
	assert_int_equal(rb->unfinished, 1);
	assert_int_equal(rb->sent, 4);
	assert_int_equal(shmipc_write(b, "d", 1, 0, 0), 1);
	assert_int_equal(rb->unfinished, 0);
	assert_int_equal(shmipc_read(a, buf, 2, 0), 2);
	assert_int_equal(ra->consumed, 3);
	assert_int_equal(shmipc_read(a, buf, 2, 0), 1);
	assert_int_equal(ra->consumed, 4);
	assert_int_equal(shmipc_finish(b), 0);
	assert_int_equal(RECORD_STATE(rb->change), RECORD_FINISHED);
	assert_true(RECORD_SEQ(rb->change) == d.b->tx.next - 1);
	assert_int_equal(shmipc_reset(a, 5), 0);
	assert_int_equal(RECORD_STATE(ra->change), RECORD_RESET);
	assert_true(RECORD_SEQ(ra->change) == d.a->tx.next - 1);
	assert_int_equal(ra->code, 5);
	assert_true(ra->holder == RECORD_CHANGE(RECORD_HELD, 0));
	assert_true(rb->holder == RECORD_CHANGE(RECORD_HELD, 0));
	assert_true(!ra->end && !rb->end);
	duo_drain(d.b);
	assert_true(rb->end == RECORD_END(FRAME_RESET, 5));
	/* Reserved is what no version has written yet. */
	assert_true(!ra->tag && !rb->tag);
	duo_close(&d);
}

/* Who has it, and that the peer's direction ended, is there before the frame that says so is not. */
static void test_holders_and_ends(void **state)
{
	struct shmipc_stream *a, *b;
	struct stream_record *ra, *rb;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	assert_int_equal(shmipc_stream_open(d.b, &b), 0);
	rb = record(b);
	assert_true(rb->change == RECORD_CHANGE(RECORD_OPEN, 0));
	assert_int_equal(shmipc_flush(b), 0);
	assert_true(rb->change == RECORD_CHANGE(RECORD_OPEN, 1));
	duo_drain(d.a);
	ra = &d.a->tx.records[b->slot];
	assert_true(ra->holder == RECORD_CHANGE(RECORD_WAITING, 1));
	assert_int_equal(shmipc_stream_accept(d.a, &a, LIMIT), 0);
	assert_true(ra->holder == RECORD_CHANGE(RECORD_HELD, 0));
	assert_int_equal(shmipc_finish(b), 0);
	assert_int_equal(shmipc_read(a, &(char){ 0 }, 1, LIMIT), 0);
	assert_true(ra->end == RECORD_END(FRAME_FIN, 0));
	shmipc_stream_close(b);
	assert_true(rb->holder == RECORD_CHANGE(RECORD_CLOSED, 0));
	/* The peer never hears of it; a successor does. */
	assert_int_equal(shmipc_stream_open(d.b, &b), 0);
	assert_int_equal(shmipc_reset(b, 3), 0);
	assert_true(record(b)->change == RECORD_CHANGE(RECORD_RESET, 0));
	duo_close(&d);
}

/* ---- again and again -------------------------------------------------------------- */

static void one_life(struct duo *d, unsigned int i, uint32_t *generation)
{
	struct shmipc_stream *a, *b;
	char buf[8];

	duo_stream(d, &b, &a);
	assert_int_equal(a->generation, b->generation);
	if (b->slot == 0)
		*generation = b->generation;
	switch (i % 4) {
	case 0:			/* both finish */
		assert_int_equal(shmipc_finish(b), 0);
		assert_int_equal(shmipc_read(a, buf, 1, LIMIT), 0);
		break;
	case 1:			/* one resets */
		assert_int_equal(shmipc_reset(b, i), 0);
		assert_int_equal(shmipc_read(a, buf, 1, LIMIT), -ECONNRESET);
		assert_int_equal(shmipc_stream_reset_code(a), i);
		break;
	case 2:			/* closed with data unread */
		assert_int_equal(shmipc_write(b, "unread", 6, 0, LIMIT), 6);
		break;
	}
	shmipc_stream_close(a);
	shmipc_stream_close(b);
	/* Nobody waits here, so nobody looks: each side learns of the other's end now. */
	duo_drain(d->a);
	duo_drain(d->b);
	duo_drain(d->a);
}

static void test_churn(void **state)
{
	struct shmipc_options few = { .size = sizeof(few), .max_streams = 4 };
	uint32_t generation = 0;
	struct duo d;

	(void)state;
	duo_open(&d, &few);
	for (unsigned int i = 0; i < 100000; i++)
		one_life(&d, i, &generation);
	assert_int_equal(shmipc_session_error(d.a), 0);
	assert_int_equal(shmipc_session_error(d.b), 0);
	/* Two slots took turns. */
	assert_in_range(generation, 40000, 60001);
	assert_int_equal(duo_reap(d.b), 0);
	assert_int_equal(d.b->tx.nr_live - d.b->tx.nr_free, d.b->tx.shared_entries);
	duo_close(&d);
}

/* A generation is 32 bits; they wrap like everything else. */
static void test_generations_wrap(void **state)
{
	struct shmipc_options few = { .size = sizeof(few), .max_streams = 2 };
	uint32_t generation = 1;
	struct duo d;

	(void)state;
	duo_open(&d, &few);
	d.a->generations[0] = d.b->generations[0] = UINT32_MAX - 5;
	for (unsigned int i = 0; i < 20; i++)
		one_life(&d, i, &generation);
	assert_int_equal(shmipc_session_error(d.a), 0);
	assert_int_equal(generation, 14);
	duo_close(&d);
}

/* A slot is used again only when all of it has come back. */
static void test_no_reuse_while_held(void **state)
{
	struct shmipc_options few = { .size = sizeof(few), .max_streams = 2 };
	struct shmipc_stream *a, *b, *next;
	struct shmipc_message m;
	struct duo d;
	char buf[8];

	(void)state;
	duo_open(&d, &few);
	duo_stream(&d, &b, &a);
	assert_int_equal(shmipc_write(b, "held", 4, 0, LIMIT), 4);
	assert_int_equal(shmipc_peek(a, &m, LIMIT), 1);
	shmipc_stream_close(b);
	assert_int_equal(shmipc_read(a, buf, 1, LIMIT), 0);
	assert_int_equal(shmipc_finish(a), 0);
	assert_int_equal(shmipc_stream_accept(d.b, &next, 0), -EAGAIN);
	assert_int_equal(shmipc_stream_open(d.b, &next), -EMFILE);
	assert_int_equal(shmipc_return(a, &m), 0);
	shmipc_stream_close(a);
	assert_int_equal(shmipc_stream_accept(d.b, &next, 0), -EAGAIN);
	assert_int_equal(shmipc_stream_open(d.b, &next), 0);
	duo_close(&d);
}

/* An old handle keeps its answers while its slot has a new life. */
static void test_old_handle(void **state)
{
	struct shmipc_options few = { .size = sizeof(few), .max_streams = 2 };
	struct shmipc_stream *a, *b, *a2, *b2;
	struct shmipc_message m;
	struct duo d;
	char buf[8];

	(void)state;
	duo_open(&d, &few);
	duo_stream(&d, &b, &a);
	assert_int_equal(shmipc_write(b, "held", 4, 0, LIMIT), 4);
	assert_int_equal(shmipc_peek(a, &m, LIMIT), 1);
	assert_int_equal(shmipc_return(a, &m), 0);
	assert_int_equal(shmipc_reset(b, 9), 0);
	shmipc_stream_close(b);
	assert_int_equal(shmipc_read(a, buf, 1, LIMIT), -ECONNRESET);
	/* a is not closed; b opens the slot anew. */
	duo_stream(&d, &b2, &a2);
	assert_int_equal(b2->slot, 0);
	assert_ptr_not_equal(a2, a);
	assert_int_equal(shmipc_read(a, buf, 1, LIMIT), -ECONNRESET);
	assert_int_equal(shmipc_stream_reset_code(a), 9);
	assert_int_equal(shmipc_write(a, "x", 1, 0, LIMIT), -ECONNRESET);
	duo_send(b2, a2, 100);
	shmipc_stream_close(a);
	duo_send(a2, b2, 100);
	duo_send(b2, a2, 100);
	duo_close(&d);
}

/* What is done with an old handle is not said of the stream that has its slot by now. */
static void test_old_handle_is_reset(void **state)
{
	struct shmipc_options few = { .size = sizeof(few), .max_streams = 2 };
	struct shmipc_stream *a, *b, *a2, *b2;
	struct duo d;
	char c;

	(void)state;
	duo_open(&d, &few);
	duo_stream(&d, &b, &a);
	assert_int_equal(shmipc_finish(b), 0);
	assert_int_equal(shmipc_finish(a), 0);
	assert_int_equal(shmipc_read(a, &c, 1, LIMIT), 0);
	assert_int_equal(shmipc_read(b, &c, 1, LIMIT), 0);
	shmipc_stream_close(b);
	duo_stream(&d, &b2, &a2);
	assert_int_equal(a2->slot, a->slot);
	assert_false(a->attached);
	assert_int_equal(shmipc_reset(a, 7), 0);
	assert_int_equal(RECORD_STATE(record(a2)->change), RECORD_OPEN);
	assert_int_equal(record(a2)->code, 0);
	shmipc_stream_close(a);
	assert_int_equal(RECORD_STATE(record(a2)->change), RECORD_OPEN);
	duo_send(b2, a2, 100);
	duo_send(a2, b2, 100);
	duo_close(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parity), cmocka_unit_test(test_fewest_streams),
		cmocka_unit_test(test_records), cmocka_unit_test(test_holders_and_ends),
		cmocka_unit_test(test_churn),
		cmocka_unit_test(test_generations_wrap),
		cmocka_unit_test(test_no_reuse_while_held), cmocka_unit_test(test_old_handle),
		cmocka_unit_test(test_old_handle_is_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
