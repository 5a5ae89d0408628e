/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* races.h - what test_abi_races.c lets race: operations on the two ends of a session */
#ifndef SHMIPC_TESTS_RACES_H
#define SHMIPC_TESTS_RACES_H

#include "abi.h"

#define NAME	"test:races"
#define SLOT	5

/* What a round works on. The server grants, listens and accepts; the client is the other end. */
struct ring {
	struct abi_ep server, client;
	struct abi_seg seg, extra;	/* the server's and the client's */
	struct abi_seg first;		/* what the client connects with: granted from the start */
	uint32_t listener, at_server, at_client;
	uint64_t offset, length;	/* of the server's segment, at the client */
	volatile uint8_t *map;		/* there, or NULL */
	struct abi_ep next;		/* who adopts the server */
	int offer;			/* its file, if there is one */
	uint32_t offered;		/* its handle */
};

/* 0 or -errno. */
typedef int (*operation)(struct ring *r);

/* ---- operations ---- */

static int server_rings(struct ring *r)
{
	return abi_ring(r->server.fd, r->at_server, 1);
}

static int client_rings(struct ring *r)
{
	return abi_ring(r->client.fd, r->at_client, 1);
}

static int client_takes(struct ring *r)
{
	struct shmipc_ready ev;

	return abi_event(r->client.fd, 0, &ev);
}

/* Neither rings nor takes. */
static int client_syncs(struct ring *r)
{
	struct shmipc_sync s = { .size = sizeof(s) };

	return abi_ioctl(r->client.fd, SHMIPC_IOC_SYNC, &s);
}

static int server_takes(struct ring *r)
{
	struct shmipc_ready ev;

	return abi_event(r->server.fd, 0, &ev);
}

static int server_closes(struct ring *r)
{
	return abi_close(r->server.fd, r->at_server, 0);
}

static int server_closes_revoking(struct ring *r)
{
	return abi_close(r->server.fd, r->at_server, SHMIPC_CLOSE_REVOKE);
}

static int client_closes(struct ring *r)
{
	return abi_close(r->client.fd, r->at_client, 0);
}

static int server_closes_listener(struct ring *r)
{
	return abi_close(r->server.fd, r->listener, 0);
}

static int server_closes_segment(struct ring *r)
{
	return abi_close(r->server.fd, r->seg.handle, 0);
}

static int server_grants(struct ring *r)
{
	return abi_grant(r->server.fd, r->at_server, r->seg.handle, SLOT);
}

static int server_revokes(struct ring *r)
{
	return abi_revoke(r->server.fd, r->at_server, SLOT);
}

static int client_grants(struct ring *r)
{
	return abi_grant(r->client.fd, r->at_client, r->extra.handle, SLOT);
}

static int client_revokes(struct ring *r)
{
	return abi_revoke(r->client.fd, r->at_client, SLOT);
}

static int client_revokes_first(struct ring *r)
{
	return abi_revoke(r->client.fd, r->at_client, 0);
}

static int server_gives(struct ring *r)
{
	return abi_give(r->server.fd, r->at_server, SLOT);
}

static int client_takes_gift(struct ring *r)
{
	struct abi_seg seg;

	return abi_take(r->client.fd, r->at_client, SLOT, &seg);
}

static int client_refuses(struct ring *r)
{
	return abi_refuse(r->client.fd, r->at_client, SLOT);
}

static int server_freezes(struct ring *r)
{
	return abi_freeze(r->server.fd, r->seg.handle);
}

static int server_accepts(struct ring *r)
{
	struct shmipc_accept a = abi_accept_arg(r->listener);

	a.segment = r->seg.handle;
	return abi_ioctl(r->server.fd, SHMIPC_IOC_ACCEPT, &a);
}

static int client_connects(struct ring *r)
{
	struct shmipc_connect c = abi_connect_arg(NAME);

	c.flags = SHMIPC_CONNECT_NONBLOCK;
	c.segment = r->first.handle;
	return abi_ioctl(r->client.fd, SHMIPC_IOC_CONNECT, &c);
}

/* Reads one byte; EFAULT where it is gone. Each thread jumps for itself. */
static int touch(volatile uint8_t *map)
{
	if (sigsetjmp(abi_jump, 1))
		return -EFAULT;
	(void)*map;
	return 0;
}

static int poke(volatile uint8_t *map)
{
	if (sigsetjmp(abi_jump, 1))
		return -EFAULT;
	*map = 1;
	return 0;
}

static int server_writes(struct ring *r)
{
	return poke(r->map);
}

/* New, and writable. */
static int server_maps(struct ring *r)
{
	volatile uint8_t *map;
	int ret = abi_map(r->server.fd, r->seg.offset, r->length, PROT_READ | PROT_WRITE, &map);

	if (ret)
		return ret;
	ret = poke(map);
	munmap((void *)map, r->length);
	return ret;
}

static int map_and_touch(struct ring *r, uint64_t offset, uint64_t length)
{
	volatile uint8_t *map;
	int ret = abi_map(r->client.fd, offset, length, PROT_READ, &map);

	if (ret)
		return ret;
	ret = touch(map);
	munmap((void *)map, length);
	return ret;
}

static int client_maps(struct ring *r)
{
	return map_and_touch(r, r->offset, r->length);
}

/* By its slot, which may not be granted yet. */
static int client_maps_slot(struct ring *r, uint32_t slot)
{
	struct shmipc_seg_info info;
	int ret = abi_peer_info(r->client.fd, r->at_client, slot, &info);

	return ret ? ret : map_and_touch(r, info.out_offset, info.out_length);
}

static int client_maps_grant(struct ring *r)
{
	return client_maps_slot(r, SLOT);
}

static int client_maps_first(struct ring *r)
{
	return client_maps_slot(r, 0);
}

/* Reads what is mapped, then unmaps it. */
static int client_unmaps(struct ring *r)
{
	int ret = touch(r->map);

	munmap((void *)r->map, r->length);
	r->map = NULL;
	return ret;
}

static int unmap_anchor(struct abi_ep *ep)
{
	int ret = munmap((void *)ep->anchor, ABI_PAGE) ? -errno : 0;

	ep->anchor = NULL;
	return ret;
}

static int client_unmaps_anchor(struct ring *r)
{
	return unmap_anchor(&r->client);
}

static int server_unmaps_anchor(struct ring *r)
{
	return unmap_anchor(&r->server);
}

static int client_maps_anchor(struct ring *r)
{
	r->client.anchor = abi_anchor(r->client.fd);
	return r->client.anchor ? 0 : -errno;
}

static int client_maps_anchor_too(struct ring *r)
{
	r->length = ABI_PAGE;
	return abi_map(r->client.fd, 0, ABI_PAGE, PROT_READ, &r->map);
}

static int server_offers(struct ring *r)
{
	int fd = abi_offer(r->server.fd, 0, NULL);

	if (fd < 0)
		return fd;
	/* Not closed before the other one has tried. */
	r->offer = fd;
	return 0;
}

static int somebody_adopts(struct ring *r)
{
	int fd = abi_adopt(r->client.fd, r->offer);

	if (fd < 0)
		return fd;
	/* Not closed before the other one has tried. */
	r->next.fd = fd;
	return 0;
}

static int server_yields(struct ring *r)
{
	return abi_yield(r->server.fd);
}

static int next_commits(struct ring *r)
{
	return abi_commit(r->next.fd);
}

static int next_lists(struct ring *r)
{
	struct shmipc_item items[8];
	struct shmipc_list a = abi_list_arg(items, 8);

	return abi_ioctl(r->next.fd, SHMIPC_IOC_LIST, &a);
}

static int next_gives_up(struct ring *r)
{
	return abi_close(r->next.fd, 0, 0);
}

static int next_unmaps_anchor(struct ring *r)
{
	return unmap_anchor(&r->next);
}

static int server_cancels(struct ring *r)
{
	return abi_close(r->server.fd, r->offered, 0);
}

static int server_ends(struct ring *r)
{
	return abi_close(r->server.fd, 0, 0);
}

static int server_creates(struct ring *r)
{
	struct abi_seg seg;

	return abi_seg_create(r->server.fd, 1, &seg);
}

/* Of the process that has it: its own. */
static int exits(struct ring *r)
{
	(void)r;
	_exit(0);
}

/* ---- what they work on ---- */

static void open_server(struct ring *r)
{
	r->server = abi_ep_open();
	must(abi_seg_create(r->server.fd, 2 * ABI_PAGE, &r->seg));
	r->listener = abi_bind(r->server.fd, NAME);
}

static void open_client(struct ring *r)
{
	r->client = abi_ep_open();
	must(abi_seg_create(r->client.fd, ABI_PAGE, &r->extra));
	must(abi_seg_create(r->client.fd, ABI_PAGE, &r->first));
}

static void prepare_listener(struct ring *r)
{
	struct shmipc_bind b = abi_bind_arg(NAME);

	r->server = abi_ep_open();
	must(abi_seg_create(r->server.fd, 2 * ABI_PAGE, &r->seg));
	b.backlog = 1;
	must(abi_ioctl(r->server.fd, SHMIPC_IOC_BIND, &b));
	r->listener = b.out_handle;
	open_client(r);
}

static void client_queues(struct ring *r)
{
	struct shmipc_connect c = abi_connect_arg(NAME);

	c.flags = SHMIPC_CONNECT_NONBLOCK;
	c.segment = r->first.handle;
	must(abi_ioctl(r->client.fd, SHMIPC_IOC_CONNECT, &c));
	r->at_client = c.out_session;
}

static void prepare_queued(struct ring *r)
{
	open_server(r);
	open_client(r);
	client_queues(r);
}

/* A session; nothing is pending on either side. */
static void prepare_session(struct ring *r)
{
	struct shmipc_accept a;

	prepare_queued(r);
	a = abi_accept_arg(r->listener);
	must(abi_ioctl(r->server.fd, SHMIPC_IOC_ACCEPT, &a));
	r->at_server = a.out_session;
	expect_event(r->client.fd, r->at_client, SHMIPC_CAUSE_CONNECTED);
	expect_event(r->server.fd, r->listener, SHMIPC_CAUSE_ACCEPT);
}

static void client_looks_up(struct ring *r)
{
	struct shmipc_seg_info info;

	must(abi_peer_info(r->client.fd, r->at_client, SLOT, &info));
	r->offset = info.out_offset;
	r->length = info.out_length;
}

static void prepare_grant(struct ring *r)
{
	prepare_session(r);
	must(server_grants(r));
	client_looks_up(r);
}

static void prepare_gift(struct ring *r)
{
	prepare_grant(r);
	must(server_gives(r));
	expect_event(r->client.fd, r->at_client, SHMIPC_CAUSE_GIVEN);
}

/* The owner has it mapped, and has written. */
static void prepare_owner_touched(struct ring *r)
{
	prepare_grant(r);
	must(abi_map(r->server.fd, r->seg.offset, r->length, PROT_READ | PROT_WRITE, &r->map));
	assert_int_equal(poke(r->map), 0);
}

static void prepare_client_grant(struct ring *r)
{
	prepare_session(r);
	must(client_grants(r));
}

/* Mapped, and not touched: the first touch is a fault. */
static void prepare_mapping(struct ring *r)
{
	prepare_grant(r);
	must(abi_map(r->client.fd, r->offset, r->length, PROT_READ, &r->map));
}

/* Mapped and touched: whoever takes it away must take page-table entries away. */
static void prepare_touched(struct ring *r)
{
	prepare_mapping(r);
	assert_int_equal(touch(r->map), 0);
}

/* A client that has no anchor yet. */
static void prepare_file(struct ring *r)
{
	r->client.fd = abi_open_raw();
	must(r->client.fd);
}

static void prepare_file_and_name(struct ring *r)
{
	open_server(r);
	prepare_file(r);
}

static void prepare_offer(struct ring *r)
{
	prepare_session(r);
	r->offer = abi_offer(r->server.fd, 0, &r->offered);
	must(r->offer);
}

static void prepare_adopted(struct ring *r)
{
	struct shmipc_ready ev;

	prepare_offer(r);
	r->next = abi_ep_adopt(r->client.fd, r->offer);
	must(abi_event(r->server.fd, 0, &ev));
}

static void prepare_yielded(struct ring *r)
{
	prepare_adopted(r);
	must(server_yields(r));
}

/* The server's own mapping, not touched yet. */
static void prepare_writer(struct ring *r)
{
	prepare_yielded(r);
	r->length = r->seg.length;
	must(abi_map(r->server.fd, r->seg.offset, r->length, PROT_READ | PROT_WRITE, &r->map));
}

static void prepare_pause_grant(struct ring *r)
{
	prepare_grant(r);
	r->offer = abi_offer(r->server.fd, 0, &r->offered);
	must(r->offer);
	r->next = abi_ep_adopt(r->client.fd, r->offer);
	must(server_yields(r));
}

static void ring_close(struct ring *r)
{
	if (r->offer > 0)
		close(r->offer);
	if (r->next.anchor)
		munmap((void *)r->next.anchor, ABI_PAGE);
	if (r->next.fd > 0)
		close(r->next.fd);
	if (r->map)
		munmap((void *)r->map, r->length);
	if (r->client.fd >= 0)
		abi_ep_close(&r->client);
	if (r->server.fd >= 0)
		abi_ep_close(&r->server);
}

#endif
