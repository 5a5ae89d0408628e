// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* One thread in shmipc_wait(), or in poll() on shmipc_fd(), and others beside it that block. */
#include "duo.h"

/* ---- a provider that does something in between ------------------------------------ */

static struct provider_ops hooked;
static const struct provider_ops *real_ops;

/* Its calls but for those that a test replaces in @hooked. */
static void hook(struct shmipc_endpoint *ep)
{
	real_ops = ep->pv->ops;
	hooked = *real_ops;
	ep->pv->ops = &hooked;
}

/* ---- a session that ends ------------------------------------------------------------ */

static struct shmipc_endpoint *dropping;
static int seen_at_drop;

/* As another thread's shmipc_wait() may come while the session is closed. */
static void wait_then_drop(struct provider *pv, uint32_t handle, uint32_t reason)
{
	struct shmipc_event events[4];

	seen_at_drop = shmipc_wait(dropping, events, 4, 0);
	real_ops->drop(pv, handle, reason);
}

static void test_close_beside_wait(void **state)
{
	struct shmipc_stream *a, *b;
	struct shmipc_event event;
	struct duo d;

	(void)state;
	duo_open(&d, NULL);
	duo_stream(&d, &b, &a);
	assert_int_equal(shmipc_write(b, "x", 1, 0, 0), 1);
	assert_int_equal(shmipc_wait(d.a_ep, &event, 1, LIMIT), 1);
	assert_ptr_equal(event.object, a);
	dropping = d.a_ep;
	hook(d.a_ep);
	hooked.drop = wait_then_drop;
	seen_at_drop = -1;
	shmipc_session_close(d.a);
	/* The stream that had data is gone, and no event speaks of it. */
	assert_int_equal(seen_at_drop, 0);
	duo_close(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_close_beside_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
