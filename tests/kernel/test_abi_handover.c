// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * An endpoint passes from one file to another: OFFER, ADOPT, LIST, YIELD, COMMIT; who is refused what
 * on the way; and each way in which it ends before COMMIT.
 */
#define _GNU_SOURCE
#include "handover.h"

#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/syscall.h>

/* ---- from step to step ---- */

static void test_planned(void **state)
{
	struct scene s = scene_offered(0);
	volatile uint8_t *map;

	(void)state;
	assert_int_equal(abi_poll(s.offer, 0), 0);
	s.p.server_seg.map[7] = 1;
	s.next = abi_ep_adopt(s.by.fd, s.offer);
	expect_event(s.p.server.fd, s.handle, SHMIPC_CAUSE_OFFER);
	assert_int_equal(abi_poll(s.offer, 0), POLLIN);
	assert_int_equal(s.next.anchor->state, SHMIPC_STATE_ADOPTING);
	/* It sees what the holder, which serves on, writes; and can't write. */
	map_view(&s);
	assert_int_equal(s.view.map[7], 1);
	s.p.server_seg.map[7] = 2;
	assert_int_equal(s.view.map[7], 2);
	fails(abi_map(s.next.fd, s.view.offset, s.view.length, RW, &map), EACCES);
	assert_int_equal(mprotect((void *)s.view.map, ABI_PAGE, RW), -1);
	assert_int_equal(abi_touch(s.view.map, true), SIGSEGV);
	expect_held(&s);

	assert_int_equal(abi_poll(s.next.fd, 0), 0);
	must(abi_yield(s.p.server.fd));
	assert_int_equal(abi_poll(s.next.fd, 0), POLLIN);
	assert_int_equal(s.p.server.anchor->state, SHMIPC_STATE_LIVE);
	assert_int_equal(abi_touch(s.p.server_seg.map, true), 0);
	must(abi_commit(s.next.fd));

	assert_int_equal(s.p.server.anchor->state, SHMIPC_STATE_MOVED);
	assert_int_equal(abi_touch(s.p.server_seg.map, false), SIGBUS);
	assert_int_equal(abi_touch(s.p.server_seg.map, true), SIGBUS);
	assert_int_equal(abi_poll(s.p.server.fd, 0), POLLHUP);
	assert_int_equal(abi_poll(s.offer, 0), POLLHUP);
	assert_int_equal(s.next.anchor->state, SHMIPC_STATE_LIVE);
	/* What was mapped to look stays that; over it comes what may be written, and the pointers stay. */
	assert_int_equal(s.view.map[7], 2);
	assert_int_equal(abi_touch(s.view.map, true), SIGSEGV);
	assert_ptr_equal(mmap((void *)s.view.map, s.view.length, RW, MAP_SHARED | MAP_FIXED,
			      s.next.fd, s.view.offset), (void *)s.view.map);
	assert_int_equal(s.view.map[7], 2);
	assert_int_equal(abi_touch(s.view.map, true), 0);

	expect_event(s.p.client.fd, s.p.at_client, SHMIPC_CAUSE_PEER_CHANGED);
	expect_event(s.next.fd, s.p.at_server, SHMIPC_CAUSE_PEER_CHANGED);
	must(abi_ring(s.next.fd, s.p.at_server, 2));
	expect_event(s.p.client.fd, s.p.at_client, 2);
	must(abi_ring(s.p.client.fd, s.p.at_client, 1));
	expect_event(s.next.fd, s.p.at_server, 1);
	abi_expect_quiet(s.next.fd);
	abi_expect_quiet(s.p.client.fd);
	scene_close(&s);
}

/* The former holder's process goes, and nothing happens. */
static void test_former_dies(void **state)
{
	struct scene s = scene_committed();
	struct abi_seg more;

	(void)state;
	expect_event(s.p.client.fd, s.p.at_client, SHMIPC_CAUSE_PEER_CHANGED);
	expect_event(s.next.fd, s.p.at_server, SHMIPC_CAUSE_PEER_CHANGED);
	abi_ep_close(&s.p.server);
	abi_expect_quiet(s.p.client.fd);
	must(abi_seg_create(s.next.fd, 1, &more));
	must(abi_ring(s.next.fd, s.p.at_server, 2));
	expect_event(s.p.client.fd, s.p.at_client, 2);
	/* But the new one's end is the endpoint's. */
	abi_ep_close(&s.next);
	expect_event(s.p.client.fd, s.p.at_client, SHMIPC_CAUSE_PEER_DIED);
	s.next.anchor = NULL;
	s.p.server = abi_ep_open();
	scene_close(&s);
}

/* Again and again, with the old processes' mappings still there. */
static void test_chain(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct abi_ep by = abi_ep_open(), now = p.server, next;
	volatile uint8_t *map[10];
	int i, offer;

	(void)state;
	for (i = 0; i < 10; i++) {
		must(abi_map(now.fd, p.server_seg.offset, p.server_seg.length, RW, &map[i]));
		*map[i] = i;
		offer = abi_offer(now.fd, 0, NULL);
		must(offer);
		next = abi_ep_adopt(by.fd, offer);
		must(abi_yield(now.fd));
		must(abi_commit(next.fd));
		close(offer);
		if (i)
			abi_ep_close(&now);
		now = next;
	}
	for (i = 0; i < 10; i++) {
		assert_int_equal(abi_touch(map[i], false), SIGBUS);
		munmap((void *)map[i], p.server_seg.length);
	}
	must(abi_map(now.fd, p.server_seg.offset, p.server_seg.length, RW, &map[0]));
	assert_int_equal(*map[0], 9);
	munmap((void *)map[0], p.server_seg.length);
	abi_ep_close(&now);
	abi_ep_close(&by);
	abi_pair_close(&p);
}

/* ---- who may ask what ---- */

static int every_mutation(int fd, struct scene *s, int err)
{
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_accept a = abi_accept_arg(s->p.listener);
	struct shmipc_bind b = abi_bind_arg("test:handover:more");
	struct shmipc_ready ev;
	struct abi_seg seg;

	fails(abi_seg_create(fd, 1, &seg), err);
	fails(abi_grant(fd, s->p.at_server, s->p.server_seg.handle, 7), err);
	fails(abi_revoke(fd, s->p.at_server, 0), err);
	fails(abi_ioctl(fd, SHMIPC_IOC_BIND, &b), err);
	fails(abi_ioctl(fd, SHMIPC_IOC_CONNECT, &c), err);
	fails(abi_ioctl(fd, SHMIPC_IOC_ACCEPT, &a), err);
	fails(abi_ring(fd, s->p.at_server, 1), err);
	fails(abi_event(fd, 0, &ev), err);
	fails(abi_close(fd, s->p.at_server, 0), err);
	fails(abi_close(fd, s->p.server_seg.handle, 0), err);
	fails(abi_watch(fd, s->p.at_server, 0, 1), err);
	fails(abi_yield(fd), err);
	fails(abi_offer(fd, 0, NULL), err);
	fails(abi_adopt(fd, s->offer), err);
	return err;
}

static void test_requests(void **state)
{
	struct scene s = scene_adopted();
	struct shmipc_seg_info info;
	struct shmipc_query q;

	(void)state;
	every_mutation(s.next.fd, &s, EBUSY);
	must(abi_query(s.next.fd, &q));
	must(abi_seg_info(s.next.fd, s.p.server_seg.handle, &info));
	assert_int_equal(info.out_rights, SHMIPC_RIGHT_READ);
	must(abi_peer_info(s.next.fd, s.p.at_server, 0, &info));
	assert_int_equal(info.out_rights, SHMIPC_RIGHT_READ);
	fails(abi_commit(s.next.fd), EAGAIN);
	fails(abi_commit(s.p.server.fd), ENOENT);
	fails(abi_commit(s.by.fd), ENOENT);
	fails(abi_yield(s.by.fd), ENOENT);
	expect_held(&s);

	must(abi_yield(s.p.server.fd));
	every_mutation(s.p.server.fd, &s, EBUSY);
	must(abi_query(s.p.server.fd, &q));
	must(abi_seg_info(s.p.server.fd, s.p.server_seg.handle, &info));
	assert_int_equal(info.out_rights, SHMIPC_RIGHT_READ | SHMIPC_RIGHT_WRITE);
	fails(abi_commit(s.p.server.fd), EBUSY);

	must(abi_commit(s.next.fd));
	every_mutation(s.p.server.fd, &s, ESTALE);
	fails(abi_query(s.p.server.fd, &q), ESTALE);
	fails(abi_close(s.p.server.fd, 0, 0), ESTALE);
	fails(abi_commit(s.next.fd), ENOENT);
	scene_close(&s);
}

static void test_one_offer_one_successor(void **state)
{
	struct scene s = scene_offered(0);
	struct abi_ep by = abi_ep_open();
	int fd;

	(void)state;
	fails(abi_offer(s.p.server.fd, 0, NULL), EBUSY);
	fails(abi_yield(s.p.server.fd), EAGAIN);
	s.next = abi_ep_adopt(s.by.fd, s.offer);
	fails(abi_adopt(by.fd, s.offer), EBUSY);
	map_view(&s);
	/* What one has begun another process, or one that has the fd, does not end. */
	fails(abi_adopt(by.fd, s.next.fd), EBADF);
	fails(abi_adopt(by.fd, 12345), EBADF);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	fails(abi_adopt(by.fd, fd), EBADF);
	close(fd);
	expect_event(s.p.server.fd, s.handle, SHMIPC_CAUSE_OFFER);
	must(abi_yield(s.p.server.fd));
	must(abi_commit(s.next.fd));
	fails(abi_adopt(by.fd, s.offer), ESTALE);
	abi_ep_close(&by);
	scene_close(&s);
}

static void test_offer_arguments(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct shmipc_offer good = abi_offer_arg(), a;
	struct shmipc_adopt ad;
	long before = abi_alive();
	int fd;

	(void)state;
	a = good, a.adopt = SHMIPC_ADOPT_NOBODY;
	fails(abi_ioctl(p.server.fd, SHMIPC_IOC_OFFER, &a), EOPNOTSUPP);
	a = good, a.adopt = 3;
	fails(abi_ioctl(p.server.fd, SHMIPC_IOC_OFFER, &a), EOPNOTSUPP);
	a = good, a.timeout_ns = 0;
	fails(abi_ioctl(p.server.fd, SHMIPC_IOC_OFFER, &a), EINVAL);
	a.timeout_ns = SHMIPC_OFFER_NS_MAX + 1;
	fails(abi_ioctl(p.server.fd, SHMIPC_IOC_OFFER, &a), EINVAL);
	a = good, a.blob = p.at_server;
	fails(abi_ioctl(p.server.fd, SHMIPC_IOC_OFFER, &a), EBADF);
	assert_int_equal(abi_alive(), before);
	good.timeout_ns = SHMIPC_OFFER_NS_MAX;
	must(abi_ioctl(p.server.fd, SHMIPC_IOC_OFFER, &good));
	assert_int_equal(fcntl(good.out_fd, F_GETFD), FD_CLOEXEC);
	ad = (struct shmipc_adopt){ .size = sizeof(ad), .offer_fd = good.out_fd,
				    .name = (uintptr_t)NAME, .name_len = strlen(NAME) };
	fails(abi_ioctl(p.client.fd, SHMIPC_IOC_ADOPT, &ad), EINVAL);
	ad.offer_fd = 0, ad.name = 8;
	fails(abi_ioctl(p.client.fd, SHMIPC_IOC_ADOPT, &ad), EFAULT);
	/* The handle says which, and is no other object's. */
	fails(abi_grant(p.server.fd, p.at_server, good.out_handle, 3), EBADF);
	fails(abi_watch(p.server.fd, good.out_handle, 0, 0), EBADF);
	fd = abi_adopt(p.client.fd, good.out_fd);
	must(fd);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(fd);
	close(good.out_fd);
	abi_pair_close(&p);
}

/* ---- LIST ---- */

static void test_list(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct abi_seg blob = abi_seg_new(p.server.fd, 5 * ABI_PAGE);
	struct shmipc_connect c = abi_connect_arg(NAME);
	struct shmipc_offer o = abi_offer_arg();
	struct shmipc_seg_info info;
	struct shmipc_item items[ITEMS];
	const struct shmipc_item *it;
	struct abi_ep next;
	uint32_t flags;
	int n;

	(void)state;
	must(abi_grant(p.server.fd, p.at_server, blob.handle, 1000));
	/* It connects to itself, and leaves that waiting. */
	c.flags = SHMIPC_CONNECT_NONBLOCK;
	must(abi_ioctl(p.server.fd, SHMIPC_IOC_CONNECT, &c));
	must(abi_ring(p.client.fd, p.at_client, 0x40));
	o.blob = blob.handle;
	must(abi_ioctl(p.server.fd, SHMIPC_IOC_OFFER, &o));
	next = abi_ep_adopt(p.client.fd, o.out_fd);

	n = abi_list(next.fd, 0, items, ITEMS, &flags);
	assert_int_equal(n, 5);
	assert_int_equal(flags, 0);
	it = find(items, n, SHMIPC_ITEM_SEGMENT, p.server_seg.handle);
	assert_true(it->length == p.server_seg.length && it->offset == p.server_seg.offset);
	assert_int_equal(it->flags, 0);
	assert_int_equal(it->count, 1);
	it = find(items, n, SHMIPC_ITEM_SEGMENT, blob.handle);
	assert_int_equal(it->flags, SHMIPC_ITEM_BLOB);
	it = find(items, n, SHMIPC_ITEM_LISTENER, p.listener);
	assert_int_equal(it->name_len, strlen(NAME));
	assert_memory_equal(it->name, NAME, strlen(NAME));
	assert_int_equal(it->count, 1);
	assert_int_equal(it->causes, SHMIPC_CAUSE_ACCEPT);
	assert_int_equal(it->enabled, SHMIPC_CAUSE_ACCEPT);
	it = find(items, n, SHMIPC_ITEM_SESSION, p.at_server);
	assert_int_equal(it->flags, 0);
	assert_int_equal(it->count, 3);
	assert_int_equal(it->causes, 0x40);
	assert_int_equal(it->enabled, ABI_CAUSES | SHMIPC_CAUSE_USER);
	assert_int_equal(it->peer.pid, getpid());
	assert_int_equal(it->peer.uid, getuid());
	it = find(items, n, SHMIPC_ITEM_SESSION, c.out_session);
	assert_int_equal(it->flags, SHMIPC_ITEM_CONNECTOR | SHMIPC_ITEM_PENDING);

	n = abi_list(next.fd, p.at_server, items, ITEMS, NULL);
	assert_int_equal(n, 3);
	assert_true(items[0].kind == SHMIPC_ITEM_GRANT && items[0].slot == 0 &&
		    items[0].handle == p.server_seg.handle);
	assert_true(items[1].kind == SHMIPC_ITEM_GRANT && items[1].slot == 1000 &&
		    items[1].handle == blob.handle && items[1].length == blob.length);
	must(abi_peer_info(p.server.fd, p.at_server, 0, &info));
	assert_true(items[2].kind == SHMIPC_ITEM_SLOT && items[2].slot == 0 &&
		    items[2].offset == info.out_offset && items[2].length == info.out_length);
	fails(abi_list(next.fd, blob.handle, items, ITEMS, NULL), EBADF);
	fails(abi_list(next.fd, 0xfffff, items, ITEMS, NULL), ENOENT);
	assert_int_equal(abi_list(next.fd, c.out_session, items, ITEMS, NULL), 0);

	/* What has ended in the pause is told as well, and so is the holder's state. */
	must(abi_yield(p.server.fd));
	must(abi_close(p.client.fd, p.at_client, 0));
	n = abi_list(next.fd, 0, items, ITEMS, &flags);
	assert_int_equal(flags, SHMIPC_LIST_YIELDED);
	it = find(items, n, SHMIPC_ITEM_SESSION, p.at_server);
	assert_int_equal(it->flags, SHMIPC_ITEM_PEER_CLOSED);
	assert_int_equal(it->causes, 0x40 | SHMIPC_CAUSE_PEER_CLOSED);
	assert_int_equal(it->count, 3);
	/* What it lived in is still known, though it is granted to nobody any more. */
	n = abi_list(next.fd, p.at_server, items, ITEMS, NULL);
	assert_int_equal(n, 3);
	assert_true(items[0].kind == SHMIPC_ITEM_GRANT && items[0].slot == 0 &&
		    items[0].handle == p.server_seg.handle && !items[0].length);
	assert_true(items[1].kind == SHMIPC_ITEM_GRANT && items[1].slot == 1000 &&
		    items[1].handle == blob.handle && !items[1].length);
	assert_true(items[2].kind == SHMIPC_ITEM_SLOT && items[2].length == info.out_length);
	must(abi_commit(next.fd));
	expect_event(next.fd, p.listener, SHMIPC_CAUSE_ACCEPT);
	expect_event(next.fd, p.at_server,
		     0x40 | SHMIPC_CAUSE_PEER_CLOSED | SHMIPC_CAUSE_PEER_CHANGED);
	/* The blob is a segment as any other. */
	must(abi_close(next.fd, blob.handle, 0));
	abi_ep_close(&next);
	close(o.out_fd);
	abi_unmap(&blob);
	abi_pair_close(&p);
}

static void test_list_arguments(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct shmipc_item items[2];
	struct shmipc_list good = abi_list_arg(items, 2), a;
	struct abi_seg seg;

	(void)state;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_LIST, &good));
	assert_int_equal(good.out_nr, 0);
	must(abi_seg_create(ep.fd, 1, &seg));
	good = abi_list_arg(items, 2);
	a = good, a.item_size--;
	fails(abi_ioctl(ep.fd, SHMIPC_IOC_LIST, &a), EINVAL);
	a = good, a.max = 0;
	fails(abi_ioctl(ep.fd, SHMIPC_IOC_LIST, &a), EINVAL);
	a = good, a.max = SHMIPC_EVENTS_MAX + 1;
	fails(abi_ioctl(ep.fd, SHMIPC_IOC_LIST, &a), EINVAL);
	a = good, a.items = 8;
	fails(abi_ioctl(ep.fd, SHMIPC_IOC_LIST, &a), EFAULT);
	a = good, a.cursor = ~0U;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_LIST, &a));
	assert_int_equal(a.out_nr, 0);
	abi_ep_close(&ep);
}

/* ---- the ends before COMMIT ---- */

static void by_handle(struct scene *s)
{
	must(abi_close(s->p.server.fd, s->handle, 0));
	fails(abi_close(s->p.server.fd, s->handle, 0), ENOENT);
}

/* The last of its file: the one that stays is a copy. */
static void by_file(struct scene *s)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	close(s->offer);
	s->offer = -1;
	close(null);
}

static void by_successor_giving_up(struct scene *s)
{
	must(abi_close(s->next.fd, 0, 0));
}

static void by_successor_dying(struct scene *s)
{
	void *again;

	munmap((void *)s->next.anchor, ABI_PAGE);
	again = mmap((void *)s->next.anchor, ABI_PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	assert_ptr_equal(again, (void *)s->next.anchor);
	((uint32_t *)again)[1] = SHMIPC_STATE_DEAD;
	/* The conclusion is a worker's. */
	abi_wait_hup(s->offer);
}

static void (*const ways[])(struct scene *s) = {
	by_handle, by_file, by_successor_giving_up, by_successor_dying,
};

#define NR_WAYS	((int)(sizeof(ways) / sizeof(*ways)))

static void cancel_by(void (*way)(struct scene *s), struct scene s)
{
	way(&s);
	if (s.offer < 0) {
		expect_blank(&s.view);
		assert_int_equal(abi_poll(s.next.fd, 0), POLLHUP);
		fails(abi_commit(s.next.fd), ESTALE);
	} else {
		expect_gone(&s, SHMIPC_STATE_DEAD);
	}
	expect_held(&s);
	/* And it can be offered again. */
	must(abi_close(s.next.fd, 0, 0) == -ESTALE ? 0 : -1);
	if (s.offer >= 0)
		close(s.offer);
	s.offer = abi_offer(s.p.server.fd, 0, NULL);
	must(s.offer);
	scene_close(&s);
}

static void test_cancelled(void **state)
{
	int i;

	(void)state;
	for (i = 0; i < NR_WAYS; i++)
		cancel_by(ways[i], scene_adopted());
}

static void test_cancelled_in_the_pause(void **state)
{
	int i;

	(void)state;
	for (i = 0; i < NR_WAYS; i++)
		cancel_by(ways[i], scene_yielded());
}

static void test_deadline(void **state)
{
	struct scene s = { .p = abi_pair_open(NAME), .by = abi_ep_open() };
	struct shmipc_offer a = abi_offer_arg();
	struct shmipc_item items[ITEMS];
	struct shmipc_list l = abi_list_arg(items, ITEMS);

	(void)state;
	a.timeout_ns = ABI_SECOND / 5;
	must(abi_ioctl(s.p.server.fd, SHMIPC_IOC_OFFER, &a));
	s.offer = a.out_fd;
	s.next = abi_ep_adopt(s.by.fd, s.offer);
	expect_event(s.p.server.fd, a.out_handle, SHMIPC_CAUSE_OFFER);
	map_view(&s);
	must(abi_ioctl(s.next.fd, SHMIPC_IOC_LIST, &l));
	assert_true(l.out_remaining_ns > 0 && l.out_remaining_ns <= ABI_SECOND / 4);
	must(abi_yield(s.p.server.fd));
	/* It is over, not merely adopted. */
	abi_wait_hup(s.offer);
	expect_gone(&s, SHMIPC_STATE_DEAD);
	expect_held(&s);
	fails(abi_close(s.p.server.fd, a.out_handle, 0), ENOENT);
	scene_close(&s);
}

/* The holder ends; without KEEP, and without an orphan's time, that is the end. */
static void test_holder_ends(void **state)
{
	struct scene s = scene_yielded();

	(void)state;
	must(abi_close(s.p.server.fd, 0, 0));
	expect_gone(&s, SHMIPC_STATE_DEAD);
	expect_event(s.p.client.fd, s.p.at_client, SHMIPC_CAUSE_PEER_CLOSED);
	scene_close(&s);
}

static void test_holder_dies(void **state)
{
	struct scene s = scene_adopted();

	(void)state;
	abi_ep_close(&s.p.server);
	expect_event(s.p.client.fd, s.p.at_client, SHMIPC_CAUSE_PEER_DIED);
	expect_gone(&s, SHMIPC_STATE_DEAD);
	s.p.server = abi_ep_open();
	scene_close(&s);
}

/* Cancelled before anybody came. */
static void test_offer_alone(void **state)
{
	struct scene s = scene_offered(0);

	(void)state;
	must(abi_close(s.p.server.fd, s.handle, 0));
	assert_int_equal(abi_poll(s.offer, 0), POLLHUP);
	fails(abi_adopt(s.by.fd, s.offer), ESTALE);
	fails(abi_yield(s.p.server.fd), ENOENT);
	expect_held(&s);
	scene_close(&s);
}

/* An adopter that never maps its anchor can do nothing, and ends with its file. */
static void test_no_anchor(void **state)
{
	struct scene s = scene_offered(0);
	int fd = abi_adopt(s.by.fd, s.offer);

	(void)state;
	must(fd);
	fails(abi_commit(fd), EINVAL);
	must(abi_yield(s.p.server.fd));
	close(fd);
	assert_int_equal(abi_poll(s.offer, 0), POLLHUP);
	must(abi_event(s.p.server.fd, 0, &(struct shmipc_ready){}) == -ETIMEDOUT ? 0 : -1);
	expect_held(&s);
	scene_close(&s);
}

/* ---- seeing it ---- */

static void state_of(int fd, char *text, size_t size)
{
	char path[64], line[128];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "r");
	assert_non_null(f);
	text[0] = 0;
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, "shmipc-state:\t", 14))
			snprintf(text, size, "%.*s", (int)strcspn(line + 14, "\n"), line + 14);
	}
	fclose(f);
}

#define expect_state(fd, want) do {						\
	char text[32];								\
	state_of((fd), text, sizeof(text));					\
	assert_string_equal(text, (want));					\
} while (0)

static void test_fdinfo_and_counters(void **state)
{
	struct scene s = scene_adopted();
	long commits = abi_counter("commits_total");

	(void)state;
	assert_int_equal(abi_counter("offers_live"), 1);
	expect_state(s.p.server.fd, "offered");
	expect_state(s.next.fd, "adopting");
	must(abi_yield(s.p.server.fd));
	expect_state(s.p.server.fd, "yielded");
	must(abi_commit(s.next.fd));
	expect_state(s.p.server.fd, "moved");
	expect_state(s.next.fd, "live");
	assert_int_equal(abi_counter("commits_total"), commits + 1);
	close(s.offer);
	s.offer = -1;
	assert_int_equal(abi_counter("offers_live"), 0);
	scene_close(&s);
}

/* ---- a request that was long on its way ---- */

/**
 * struct late - a thread whose request is read from a page that is not there yet
 * @page: where
 * @request: its number
 * @fd: of the holder
 * @err: of it
 */
struct late {
	void *page;
	unsigned long request;
	int fd, err;
};

static void *late_thread(void *arg)
{
	struct late *l = arg;

	l->err = ioctl(l->fd, l->request, l->page) < 0 ? -errno : 0;
	return NULL;
}

/* Who serves the faults of @page, and has seen the first. */
static int page_missing(void *page)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .range = { (uintptr_t)page, ABI_PAGE },
				       .mode = UFFDIO_REGISTER_MODE_MISSING };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	must(fd < 0 ? -errno : 0);
	assert_int_equal(ioctl(fd, UFFDIO_API, &api), 0);
	assert_int_equal(ioctl(fd, UFFDIO_REGISTER, &reg), 0);
	return fd;
}

static void page_arrives(int uffd, void *page, const void *bytes, size_t len)
{
	static _Alignas(4096) uint8_t from[4096];
	struct uffdio_copy copy = { .dst = (uintptr_t)page, .src = (uintptr_t)from,
				    .len = ABI_PAGE };

	memcpy(from, bytes, len);
	assert_int_equal(ioctl(uffd, UFFDIO_COPY, &copy), 0);
}

/* The holder's request @bytes begins before the COMMIT, and comes to be served after it. */
static int served_late(struct scene *s, unsigned long request, const void *bytes, size_t len)
{
	void *page = mmap(NULL, ABI_PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct late late = { .page = page, .request = request, .fd = s->p.server.fd };
	int uffd = page_missing(page);
	struct uffd_msg message;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, late_thread, &late), 0);
	assert_int_equal(read(uffd, &message, sizeof(message)), sizeof(message));
	must(abi_yield(s->p.server.fd));
	must(abi_commit(s->next.fd));
	page_arrives(uffd, page, bytes, len);
	assert_int_equal(pthread_join(thread, NULL), 0);
	close(uffd);
	munmap(page, ABI_PAGE);
	return late.err;
}

static void test_late_requests(void **state)
{
	struct shmipc_seg_freeze freeze = { .size = sizeof(freeze) };
	struct shmipc_seg_give give = { .size = sizeof(give) };
	struct shmipc_seg_revoke revoke = { .size = sizeof(revoke) };
	struct shmipc_item items[ITEMS];
	const struct shmipc_item *it;
	struct scene s;
	int n;

	(void)state;
	s = scene_adopted();
	freeze.segment = s.p.server_seg.handle;
	fails(served_late(&s, SHMIPC_IOC_SEG_FREEZE, &freeze, sizeof(freeze)), ESTALE);
	n = abi_list(s.next.fd, 0, items, ITEMS, NULL);
	it = find(items, n, SHMIPC_ITEM_SEGMENT, s.p.server_seg.handle);
	assert_int_equal(it->flags, 0);
	scene_close(&s);

	s = scene_adopted();
	give.session = s.p.at_server;
	fails(served_late(&s, SHMIPC_IOC_SEG_GIVE, &give, sizeof(give)), ESTALE);
	n = abi_list(s.next.fd, 0, items, ITEMS, NULL);
	it = find(items, n, SHMIPC_ITEM_SEGMENT, s.p.server_seg.handle);
	assert_int_equal(it->flags, 0);
	scene_close(&s);

	s = scene_adopted();
	revoke.session = s.p.at_server;
	fails(served_late(&s, SHMIPC_IOC_SEG_REVOKE, &revoke, sizeof(revoke)), ESTALE);
	n = abi_list(s.next.fd, s.p.at_server, items, ITEMS, NULL);
	assert_int_equal(find(items, n, SHMIPC_ITEM_GRANT, s.p.server_seg.handle)->slot, 0);
	scene_close(&s);
}

static const struct CMUnitTest tests[] = {
	abi_test(test_planned),
	abi_test(test_former_dies),
	abi_test(test_chain),
	abi_test(test_requests),
	abi_test(test_one_offer_one_successor),
	abi_test(test_offer_arguments),
	abi_test(test_list),
	abi_test(test_list_arguments),
	abi_test(test_cancelled),
	abi_test(test_cancelled_in_the_pause),
	abi_test(test_deadline),
	abi_test(test_holder_ends),
	abi_test(test_holder_dies),
	abi_test(test_offer_alone),
	abi_test(test_no_anchor),
	abi_test(test_fdinfo_and_counters),
	abi_test(test_late_requests),
};

abi_main(tests)
