// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What a peer's frames and words do to the calls of an honest program: no event of a stream that
 * the program doesn't have, no memory that grows, no call that never comes back.
 */
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "barrier.h"
#include "duo.h"

static const struct shmipc_options small = {
	.size = sizeof(small), .window = 4096, .max_memory = 65536,
};

/* The next event, and the only one; type 0: none. */
static void expect(struct shmipc_endpoint *ep, uint32_t type, void *object)
{
	struct shmipc_event events[8];
	int n = shmipc_wait(ep, events, 8, 0);

	assert_int_equal(n, type ? 1 : 0);
	if (type) {
		assert_int_equal(events[0].type, type);
		assert_ptr_equal(events[0].object, object);
	}
}

/* ---- events -------------------------------------------------------------- */

/* Whatever the peer does to a stream that was closed: its owner forgot it, and hears nothing. */
static void test_closed_stream_is_silent(void **state)
{
	struct shmipc_stream *a[2], *b[2];
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	for (int i = 0; i < 2; i++)
		duo_stream(&d, &b[i], &a[i]);
	expect(d.a_ep, 0, NULL);
	shmipc_stream_close(a[0]);
	assert_int_equal(shmipc_reset(b[0], 1), 0);
	assert_int_equal(shmipc_reset(b[1], 2), 0);
	expect(d.a_ep, SHMIPC_EV_READ, a[1]);
	shmipc_stream_close(a[1]);
	expect(d.a_ep, 0, NULL);
	duo_close(&d);
}

static void test_closed_streams_of_an_ended_session(void **state)
{
	struct shmipc_stream *a[2], *b[2];
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	for (int i = 0; i < 2; i++)
		duo_stream(&d, &b[i], &a[i]);
	expect(d.a_ep, 0, NULL);
	shmipc_stream_close(a[0]);
	shmipc_session_close(d.b);
	/* The one that is open says that it ended, the other nothing. */
	struct shmipc_event events[8];
	int n = shmipc_wait(d.a_ep, events, 8, 0);

	assert_int_equal(n, 2);
	for (int i = 0; i < n; i++)
		assert_ptr_equal(events[i].object,
				 events[i].type == SHMIPC_EV_CLOSED ? (void *)d.a : a[1]);
	duo_close(&d);
}

/* EV_WRITE comes for a send that was told -EAGAIN, and for nothing else. */
static void test_write_is_owed(void **state)
{
	struct shmipc_stream *a[2], *b[2];
	struct duo d;
	char buf[1024] = { 0 };

	(void)state;
	duo_open(&d, &small);
	for (int i = 0; i < 2; i++)
		duo_stream(&d, &b[i], &a[i]);
	expect(d.a_ep, 0, NULL);
	assert_int_equal(shmipc_reset(b[0], 1), 0);
	expect(d.a_ep, SHMIPC_EV_READ, a[0]);
	shmipc_stream_close(a[0]);
	while (shmipc_write(a[1], buf, sizeof(buf), 0, 0) > 0)
		;
	expect(d.a_ep, 0, NULL);
	assert_int_equal(shmipc_reset(b[1], 1), 0);
	/* Each by itself: a stream may be closed at its event, and is not named after that. */
	expect(d.a_ep, SHMIPC_EV_WRITE, a[1]);
	expect(d.a_ep, SHMIPC_EV_READ, a[1]);
	shmipc_stream_close(a[1]);
	expect(d.a_ep, 0, NULL);
	duo_close(&d);
}

static void test_closed_with_an_event_to_come(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;
	char buf[1024] = { 0 };

	(void)state;
	duo_open(&d, &small);
	duo_stream(&d, &b, &a);
	expect(d.a_ep, 0, NULL);
	while (shmipc_write(a, buf, sizeof(buf), 0, 0) > 0)
		;
	assert_int_equal(shmipc_write(b, "x", 1, 0, 0), 1);
	assert_true(shmipc_read(b, buf, sizeof(buf), LIMIT) > 0);
	assert_true(shmipc_read(b, buf, sizeof(buf), LIMIT) > 0);
	expect(d.a_ep, SHMIPC_EV_WRITE, a);
	shmipc_stream_close(a);
	expect(d.a_ep, 0, NULL);
	duo_close(&d);
}

/* One that shmipc_stream_accept() has not handed out is nobody's, also when its slot is used anew. */
static void test_never_handed_out(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;
	char buf[8];

	(void)state;
	duo_open(&d, NULL);
	expect(d.a_ep, 0, NULL);
	assert_int_equal(shmipc_stream_open(d.b, &b), 0);
	assert_int_equal(shmipc_write(b, "x", 1, 0, LIMIT), 1);
	expect(d.a_ep, SHMIPC_EV_STREAM, d.a);
	assert_int_equal(shmipc_reset(b, 3), 0);
	shmipc_stream_close(b);
	duo_drain(d.a);
	expect(d.a_ep, SHMIPC_EV_STREAM, d.a);
	lock(&d.b->rx.lock);
	stream_sweep(d.b);
	unlock(&d.b->rx.lock);
	assert_int_equal(shmipc_stream_open(d.b, &b), 0);
	assert_int_equal(b->generation, 2);
	assert_int_equal(shmipc_write(b, "y", 1, 0, LIMIT), 1);
	duo_drain(d.a);
	expect(d.a_ep, SHMIPC_EV_STREAM, d.a);
	while (shmipc_stream_accept(d.a, &a, 0) == 0 && a->generation != 2)
		shmipc_stream_close(a);
	expect(d.a_ep, SHMIPC_EV_READ, a);
	assert_int_equal(shmipc_read(a, buf, 1, 0), 1);
	assert_int_equal(*buf, 'y');
	duo_close(&d);
}

static void test_session_ends_before_accept(void **state)
{
	struct shmipc_event events[8];
	struct shmipc_stream *b;
	struct duo d;
	int n;

	(void)state;
	duo_open(&d, NULL);
	expect(d.a_ep, 0, NULL);
	assert_int_equal(shmipc_stream_open(d.b, &b), 0);
	assert_int_equal(shmipc_write(b, "x", 1, 0, LIMIT), 1);
	shmipc_session_close(d.b);
	for (int i = 0; i < 3; i++) {
		n = shmipc_wait(d.a_ep, events, 8, 0);
		assert_true(n > 0);
		for (int j = 0; j < n; j++)
			assert_ptr_equal(events[j].object, d.a);
	}
	assert_int_equal(shmipc_session_error(d.a), -EPIPE);
	duo_close(&d);
}

/* ---- memory --------------------------------------------------------------- */

static unsigned int list_length(const struct list *head)
{
	unsigned int n = 0;

	for (const struct list *pos = head->next; pos != head; pos = pos->next)
		n++;
	return n;
}

static bool no_mappings;
#define SLOT_TABLES	(SHMIPC_SLOTS_MAX * sizeof(struct pv_mapping) + BUF_SLOTS * sizeof(struct rx_buf))

/* The library's as well: it is linked in. As lib/table.c gets its memory. */
#ifdef __SANITIZE_ADDRESS__
void *calloc(size_t nr, size_t size)
{
	static void *(*real)(size_t nr, size_t size);

	if (no_mappings && nr == 1 && size == SLOT_TABLES)
		return NULL;
	if (!real)
		real = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
	return real(nr, size);
}
#else
void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	if (no_mappings && len == SLOT_TABLES) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, offset);
}
#endif

/* No memory for one of a session's tables: the call says so, and the endpoint lives. */
static void test_no_memory_for_a_session(void **state)
{
	struct shmipc_session *s;
	struct shmipc_stats stats;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	no_mappings = true;
	assert_int_equal(shmipc_connect(d.a_ep, "test.none", NULL, &s, LIMIT), -ENOMEM);
	no_mappings = false;
	stats = duo_stats(d.a_ep);
	assert_int_equal(shmipc_connect(d.a_ep, "test.none", NULL, &s, LIMIT), -ENOENT);
	assert_int_equal(duo_stats(d.a_ep).segments, stats.segments + 1);
	duo_close(&d);
}

static int no_segment(struct provider *pv, size_t len, bool sealed, struct pv_segment *segment)
{
	(void)pv;
	(void)len;
	(void)sealed;
	(void)segment;
	return -EDQUOT;
}

static int no_grant(struct provider *pv, uint32_t session, const struct pv_segment *segment,
		    uint32_t slot)
{
	(void)pv;
	(void)session;
	(void)segment;
	(void)slot;
	return -ENOSPC;
}

/* However often a segment could not be had: when it can, it is. */
static void test_no_segment_for_a_while(void **state)
{
	struct provider_ops failing[2];
	const struct provider_ops *ops;
	struct shmipc_stream *a, *b;
	struct duo d;
	void *data;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	ops = d.b_ep->pv->ops;
	failing[0] = failing[1] = *ops;
	failing[0].segment_create = no_segment;
	failing[1].segment_grant = no_grant;
	for (int i = 0; i < 2 * ARENA_EXTENTS; i++) {
		d.b_ep->pv->ops = &failing[i % 2];
		assert_int_equal(shmipc_reserve(b, 500000, &data, 0), i % 2 ? -ENOSPC : -EDQUOT);
	}
	d.b_ep->pv->ops = ops;
	duo_send(b, a, 250000);
	assert_int_equal(d.b->tx.nr_segments, 2);
	duo_close(&d);
}

/* Opened, reset and opened anew before anybody accepted it: only the last one is there. */
static void test_opened_and_reset(void **state)
{
	struct shmipc_stream *a, *b;
	struct frame f;
	struct duo d;
	char buf[8];

	(void)state;
	duo_open(&d, NULL);
	assert_int_equal(shmipc_stream_open(d.b, &b), 0);
	f = duo_frame(b);
	for (int i = 0; i < 1000; i++) {
		f.kind = FRAME_RESET;
		f.length = 0;
		f.code = i;
		duo_inject(d.b, &f);
		duo_drain(d.a);
		f.generation++;
	}
	assert_true(d.a->rx.next == d.b->tx.next);
	assert_int_equal(list_length(&d.a->rx.accept), 1);
	assert_int_equal(list_length(&d.a->rx.detached), 0);
	assert_int_equal(shmipc_stream_accept(d.a, &a, 0), 0);
	assert_int_equal(shmipc_read(a, buf, 1, 0), -ECONNRESET);
	assert_int_equal(shmipc_stream_reset_code(a), 999);
	/* One that was handed out is kept until it is closed, or its session is. */
	duo_inject(d.b, &f);
	duo_drain(d.a);
	assert_int_equal(shmipc_stream_reset_code(a), 999);
	assert_int_equal(list_length(&d.a->rx.detached), 1);
	assert_int_equal(list_length(&d.a->rx.accept), 1);
	assert_int_equal(shmipc_session_error(d.a), 0);
	duo_close(&d);
}

/* ---- calls that have to come back ------------------------------------------- */

#define NEVER	30	/* seconds after which a call that may not block is dead */

/* Blocks a's stream: nobody returns anything. */
static void fill_window(struct shmipc_stream *a)
{
	char buf[1024] = { 0 };

	while (shmipc_write(a, buf, sizeof(buf), 0, 0) > 0)
		;
}

/* A cursor that no honest peer has: behind what it told before, or beyond what was sent. */
static void test_cursor_lie(void **state)
{
	static const uint32_t lies[] = { 1000, 0x80000000, -1U };
	struct shmipc_event event;
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	for (unsigned int i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		duo_open(&d, &small);
		duo_stream(&d, &b, &a);
		fill_window(a);
		/* One that is true does no harm. */
		store_release(&d.b->rx.control->rx_cursor, (uint32_t)d.a->tx.next);
		session_ring(d.b, BELL_SPACE);
		assert_int_equal(shmipc_wait(d.a_ep, &event, 1, 0), 0);
		assert_int_equal(shmipc_session_error(d.a), 0);
		store_release(&d.b->rx.control->rx_cursor, (uint32_t)d.a->tx.next + lies[i]);
		session_ring(d.b, BELL_SPACE);
		alarm(NEVER);
		while (shmipc_wait(d.a_ep, &event, 1, 0) && event.type != SHMIPC_EV_CLOSED)
			;
		alarm(0);
		assert_int_equal(shmipc_session_error(d.a), -EBADMSG);
		assert_int_equal(shmipc_write(a, "x", 1, 0, 0), -EBADMSG);
		duo_close(&d);
	}
}

/* Also for who only tries to send, and never waits. */
static void test_cursor_lie_to_a_sender(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	duo_open(&d, &small);
	duo_stream(&d, &b, &a);
	fill_window(a);
	assert_int_equal(shmipc_write(a, "x", 1, 0, 0), -EAGAIN);
	store_release(&d.b->rx.control->rx_cursor, (uint32_t)d.a->tx.next + 1);
	assert_int_equal(shmipc_write(a, "x", 1, 0, 0), -EBADMSG);
	assert_int_equal(shmipc_session_error(d.a), -EBADMSG);
	duo_close(&d);
}

struct pest {
	struct duo d;
	struct frame frame;
	unsigned int rounds;
	bool ring, fill;
};

/* Asked once a round, and never satisfied: by then the peer has made news again. */
static bool pester(void *arg)
{
	struct pest *p = arg;
	struct tx *tx = &p->d.b->tx;

	p->rounds++;
	if (p->ring)
		session_ring(p->d.b, BELL_DATA);
	while (p->fill && tx->next - p->d.a->rx.next < tx->slots - 1)
		duo_inject(p->d.b, &p->frame);
	return false;
}

/* Bells without end, or frames that mean nothing: the look ends, and is known not to have ended. */
static void never_quiet(bool ring, bool fill)
{
	struct pest p = { .ring = ring, .fill = fill };
	struct waiter w = { .key = &p, .ready = pester, .arg = &p, .arm = true };
	struct shmipc_stream *a, *b;
	struct shmipc_event event;
	struct pollfd pfd;

	duo_open(&p.d, NULL);
	duo_stream(&p.d, &b, &a);
	pfd = (struct pollfd){ .fd = shmipc_fd(p.d.a_ep), .events = POLLIN };
	assert_int_equal(shmipc_wait(p.d.a_ep, &event, 1, 0), 0);
	assert_int_equal(poll(&pfd, 1, 0), 0);
	p.frame = duo_frame(b);
	p.frame.kind = FRAME_OPEN;
	p.frame.length = 0;
	pester(&p);
	session_ring(p.d.b, BELL_DATA);
	alarm(NEVER);
	assert_int_equal(endpoint_wait(p.d.a_ep, &w, 0), -EAGAIN);
	alarm(0);
	print_message("%u rounds\n", p.rounds);
	assert_in_range(p.rounds, 3, 1000);
	assert_int_equal(poll(&pfd, 1, 0), 1);
	/* The peer lets off. */
	assert_int_equal(shmipc_wait(p.d.a_ep, &event, 1, 0), 0);
	assert_int_equal(poll(&pfd, 1, 0), 0);
	assert_true(p.d.a->rx.next == p.d.b->tx.next);
	assert_int_equal(shmipc_session_error(p.d.a), 0);
	duo_close(&p.d);
}

static void test_never_quiet(void **state)
{
	(void)state;
	never_quiet(true, false);
	never_quiet(false, true);
	never_quiet(true, true);
}

/* A frame that no honest peer sends, for a program that only tries. */
static void inject_bad(struct shmipc_session *from, struct shmipc_stream *st)
{
	struct frame f = duo_frame(st);

	f.kind = 99;
	duo_inject(from, &f);
}

static void test_bad_frame_for_a_sender(void **state)
{
	struct shmipc_stream *a, *b;
	struct duo d;
	ssize_t n;

	(void)state;
	duo_open(&d, &small);
	duo_stream(&d, &b, &a);
	fill_window(a);
	assert_int_equal(shmipc_write(a, "x", 1, 0, 0), -EAGAIN);
	inject_bad(d.b, b);
	n = shmipc_write(a, "x", 1, 0, 0);
	assert_int_equal(n, -EBADMSG);
	assert_int_equal(shmipc_session_error(d.a), -EBADMSG);
	duo_close(&d);
}

/* The first part of a message is there; the look for the next one meets a lie. */
static void test_bad_frame_for_a_peek(void **state)
{
	struct shmipc_stream *a, *b;
	struct shmipc_message m;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	assert_int_equal(shmipc_write(b, "x", 1, SHMIPC_MORE, 0), 1);
	duo_drain(d.a);
	inject_bad(d.b, b);
	assert_int_equal(shmipc_peek(a, &m, 0), 1);
	assert_int_equal(shmipc_session_error(d.a), -EBADMSG);
	assert_int_equal(shmipc_return(a, &m), 0);
	assert_int_equal(shmipc_peek(a, &m, 0), -EBADMSG);
	duo_close(&d);
}

static void test_returned_twice(void **state)
{
	struct shmipc_message m, copy;
	struct shmipc_stream *a, *b;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	assert_int_equal(shmipc_write(b, "x", 1, 0, 0), 1);
	assert_int_equal(shmipc_peek(a, &m, LIMIT), 1);
	copy = m;
	assert_int_equal(shmipc_return(a, &m), 0);
	assert_int_equal(shmipc_return(a, &m), -EINVAL);
	assert_int_equal(shmipc_return(a, &copy), -EINVAL);
	assert_int_equal(shmipc_session_error(d.a), 0);
	duo_send(b, a, 10);
	duo_close(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_closed_stream_is_silent),
		cmocka_unit_test(test_closed_streams_of_an_ended_session),
		cmocka_unit_test(test_write_is_owed),
		cmocka_unit_test(test_closed_with_an_event_to_come),
		cmocka_unit_test(test_never_handed_out),
		cmocka_unit_test(test_session_ends_before_accept),
		cmocka_unit_test(test_no_memory_for_a_session),
		cmocka_unit_test(test_no_segment_for_a_while),
		cmocka_unit_test(test_opened_and_reset),
		cmocka_unit_test(test_cursor_lie),
		cmocka_unit_test(test_cursor_lie_to_a_sender),
		cmocka_unit_test(test_never_quiet),
		cmocka_unit_test(test_bad_frame_for_a_sender),
		cmocka_unit_test(test_bad_frame_for_a_peek),
		cmocka_unit_test(test_returned_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
