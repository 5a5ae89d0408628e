// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* shmipc_accept() and shmipc_connect() when the provider or the peer does not play along. */
#include <unistd.h>
#include "waiters.h"

static const char *name;

static void listen_on(struct duo *d, const char *as, struct shmipc_listener **listener)
{
	name = as;
	duo_open(d, NULL);
	assert_int_equal(shmipc_listen(d->a_ep, name, NULL, listener), 0);
}

/* ---- a peer without a segment ----------------------------------------------------------- */

static int map_error;

static int no_segment(struct provider *pv, uint32_t session, uint32_t slot,
		      struct pv_mapping *mapping)
{
	return map_error ? map_error : real_ops->segment_map(pv, session, slot, mapping);
}

static void *connect_thread(void *arg)
{
	struct thread *t = arg;
	struct shmipc_session *s;

	t->result = shmipc_connect(t->ep, name, NULL, &s, IN_TIME);
	return NULL;
}

static void test_peer_without_segment(void **state)
{
	/* What the peer did, and what this side lacks. */
	static const int errors[][2] = {
		{ -ENOENT, -EBADMSG }, { -EPIPE, -EBADMSG }, { -EACCES, -EBADMSG },
		{ -ENOMEM, -ENOMEM }, { -EMFILE, -EMFILE }, { -ENFILE, -ENFILE }, { 0, 0 },
	};
	struct shmipc_listener *listener;
	struct shmipc_session *s;
	struct thread client;
	struct duo d;

	(void)state;
	listen_on(&d, "test.segment", &listener);
	hook(d.a_ep);
	hooked.segment_map = no_segment;
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		map_error = errors[i][0];
		spawn(&client, connect_thread, d.b_ep, NULL);
		assert_int_equal(shmipc_accept(listener, &s, LIMIT), errors[i][1]);
		pthread_join(client.id, NULL);
		assert_int_equal(client.result, 0);
	}
	duo_close(&d);
}

/* ---- an accept that fails ----------------------------------------------------------------- */

static int accept_error;

static int failing_accept(struct provider *pv, uint32_t listener, const struct pv_segment *segment,
			  uint64_t cookie, uint32_t *session, struct shmipc_peer *who)
{
	return accept_error ? accept_error :
	       real_ops->accept(pv, listener, segment, cookie, session, who);
}

/* The connection is there still, and no new event of the provider will say so. */
static void test_accept_again(void **state)
{
	struct shmipc_listener *listener;
	struct shmipc_session *s;
	struct shmipc_event event;
	struct thread client;
	struct duo d;

	(void)state;
	listen_on(&d, "test.again", &listener);
	hook(d.a_ep);
	hooked.accept = failing_accept;
	spawn(&client, connect_thread, d.b_ep, NULL);
	assert_int_equal(shmipc_wait(d.a_ep, &event, 1, LIMIT), 1);
	accept_error = -ENOMEM;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(shmipc_accept(listener, &s, 0), -ENOMEM);
		assert_int_equal(shmipc_wait(d.a_ep, &event, 1, 0), 1);
		assert_int_equal(event.type, SHMIPC_EV_ACCEPT);
		assert_ptr_equal(event.object, listener);
	}
	accept_error = 0;
	assert_int_equal(shmipc_accept(listener, &s, 0), 0);
	assert_int_equal(shmipc_accept(listener, &s, 0), -EAGAIN);
	assert_int_equal(shmipc_wait(d.a_ep, &event, 1, 0), 0);
	pthread_join(client.id, NULL);
	assert_int_equal(client.result, 0);
	duo_close(&d);
}

/* ---- vain wakes ----------------------------------------------------------------------------- */

static struct shmipc_listener *woken;
static int vain;

static int nobody_there(struct provider *pv, uint32_t listener, const struct pv_segment *segment,
			uint64_t cookie, uint32_t *session, struct shmipc_peer *who)
{
	(void)pv;
	(void)listener;
	(void)segment;
	(void)cookie;
	(void)session;
	(void)who;
	/* A wait that starts anew each time never ends: this ends the test. */
	return ++vain > 2000 ? -ENOMEM : -EAGAIN;
}

static int connection_that_left(struct provider *pv, struct pv_sync *sync)
{
	if (!sync->wait)
		return real_ops->sync(pv, sync);
	usleep(2000);
	listener_event(woken);
	return 0;
}

static void test_vain_wakes(void **state)
{
	struct shmipc_session *s;
	struct duo d;

	(void)state;
	listen_on(&d, "test.vain", &woken);
	hook(d.a_ep);
	hooked.accept = nobody_there;
	hooked.sync = connection_that_left;
	vain = 0;
	assert_int_equal(shmipc_accept(woken, &s, 50 * MS), -ETIMEDOUT);
	assert_true(vain > 1);
	duo_close(&d);
}

/* ---- a timeout beyond the end of time ------------------------------------------------- */

static void *patient_thread(void *arg)
{
	struct shmipc_session *s;
	struct thread *t = arg;

	t->result = shmipc_accept(woken, &s, INT64_MAX);
	return NULL;
}

static void test_longest_timeout(void **state)
{
	struct shmipc_session *s;
	struct thread server;
	struct duo d;

	(void)state;
	listen_on(&d, "test.longest", &woken);
	spawn_leader(&server, patient_thread, d.a_ep, NULL);
	assert_int_equal(shmipc_connect(d.b_ep, name, NULL, &s, INT64_MAX), 0);
	join(&server, 0);
	duo_close(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_peer_without_segment), cmocka_unit_test(test_accept_again),
		cmocka_unit_test(test_vain_wakes), cmocka_unit_test(test_longest_timeout),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
