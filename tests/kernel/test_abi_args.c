// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What a request must refuse, with which errno, and that nothing half-made is left. */
#include "abi.h"

#define NAME	"test:args"
#define NOBODY	65534

/* ---- struct sizes ---- */

struct sized {
	const char *name;
	unsigned long nr;
	uint32_t size;
	uint32_t first;	/* size in the first version */
};

#define SIZED(nr, type)	{ #nr, SHMIPC_IOC_##nr, sizeof(struct type), sizeof(struct type) }

static const struct sized sizes[] = {
	SIZED(QUERY, shmipc_query),
	SIZED(SYNC, shmipc_sync),
	SIZED(CLOSE, shmipc_close),
	SIZED(SEG_CREATE, shmipc_seg_create),
	SIZED(SEG_INFO, shmipc_seg_info),
	SIZED(SEG_GRANT, shmipc_seg_grant),
	SIZED(SEG_REVOKE, shmipc_seg_revoke),
	SIZED(SEG_FREEZE, shmipc_seg_freeze),
	SIZED(SEG_GIVE, shmipc_seg_give),
	SIZED(SEG_TAKE, shmipc_seg_take),
	{ "BIND", SHMIPC_IOC_BIND, sizeof(struct shmipc_bind), 56 },
	SIZED(ACCEPT, shmipc_accept),
	SIZED(CONNECT, shmipc_connect),
	SIZED(OFFER, shmipc_offer),
	SIZED(ADOPT, shmipc_adopt),
	SIZED(LIST, shmipc_list),
	SIZED(YIELD, shmipc_yield),
	SIZED(COMMIT, shmipc_commit),
	SIZED(WATCH, shmipc_watch),
};

/* What a request says to a struct of this size that also asks for what does not exist. */
static int call_sized(int fd, const struct sized *s, uint32_t size, uint8_t tail)
{
	uint8_t buf[2 * 4096] __attribute__((aligned(8))) = {};

	/* An unknown flag: it is past the check of the size, and before anything is made. */
	((uint32_t *)buf)[0] = size;
	((uint32_t *)buf)[1] = 0x80000000;
	if (size > s->size && size <= sizeof(buf))
		buf[size - 1] = tail;
	return abi_ioctl(fd, s->nr, buf);
}

static void test_sizes(void **state)
{
	struct abi_ep ep = abi_ep_open();
	const struct sized *s;

	(void)state;
	for (s = sizes; s < sizes + sizeof(sizes) / sizeof(*sizes); s++) {
		print_message("%s\n", s->name);
		fails(call_sized(ep.fd, s, s->size, 0), EOPNOTSUPP);
		fails(call_sized(ep.fd, s, 0, 0), EINVAL);
		fails(call_sized(ep.fd, s, 4, 0), EINVAL);
		fails(call_sized(ep.fd, s, s->first - 1, 0), EINVAL);
		fails(call_sized(ep.fd, s, s->first, 0), EOPNOTSUPP);
		fails(call_sized(ep.fd, s, s->size + 1, 0), EOPNOTSUPP);
		fails(call_sized(ep.fd, s, s->size + 1, 1), E2BIG);
		fails(call_sized(ep.fd, s, s->size + 64, 0), EOPNOTSUPP);
		fails(call_sized(ep.fd, s, s->size + 64, 1), E2BIG);
		fails(call_sized(ep.fd, s, 4097, 0), E2BIG);
		fails(call_sized(ep.fd, s, ~0U, 0), E2BIG);
		fails(abi_ioctl(ep.fd, s->nr, NULL), EFAULT);
		fails(abi_ioctl(ep.fd, s->nr, (void *)~0xfffUL), EFAULT);
	}
	abi_ep_close(&ep);
}

/* A longer struct is served, and its size comes back as it was. */
static void test_longer_struct(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct {
		struct shmipc_query q;
		uint64_t more[3];
	} a = { .q.size = sizeof(a) };
	struct {
		struct shmipc_seg_create c;
		uint64_t more;
	} c = { .c = { .size = sizeof(c), .length = 1 } };

	(void)state;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_QUERY, &a));
	assert_int_equal(a.q.out_abi, SHMIPC_ABI);
	assert_int_equal(a.q.size, sizeof(a));
	assert_true(a.more[0] == 0);
	must(abi_ioctl(ep.fd, SHMIPC_IOC_SEG_CREATE, &c));
	assert_true(c.c.out_length == ABI_PAGE);
	abi_ep_close(&ep);
}

/* The struct lies before an unmapped page: no byte after its end is touched. */
static void test_struct_at_edge(void **state)
{
	uint8_t *two = mmap(NULL, 2 * ABI_PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct abi_ep ep = abi_ep_open();
	struct shmipc_query *q;
	uint32_t *size;

	(void)state;
	munmap(two + ABI_PAGE, ABI_PAGE);
	q = (void *)(two + ABI_PAGE - sizeof(*q));
	q->size = sizeof(*q);
	must(abi_ioctl(ep.fd, SHMIPC_IOC_QUERY, q));
	size = (void *)(two + ABI_PAGE - sizeof(*size));
	*size = sizeof(*size);
	fails(abi_ioctl(ep.fd, SHMIPC_IOC_QUERY, size), EINVAL);
	*size = sizeof(*q);
	fails(abi_ioctl(ep.fd, SHMIPC_IOC_QUERY, size), EFAULT);
	munmap(two, ABI_PAGE);
	abi_ep_close(&ep);
}

static void test_unknown_requests(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct shmipc_query q = { .size = sizeof(q) };
	unsigned int nr;

	(void)state;
	for (nr = 0x0a; nr < 0x100; nr++) {
		if ((nr < 0x10 || nr > 0x12) && (nr < 0x20 || nr > 0x25))
			fails(abi_ioctl(ep.fd, SHMIPC_IOC(nr), &q), ENOTTY);
	}
	fails(abi_ioctl(ep.fd, _IO(0xe8, 0), &q), ENOTTY);
	fails(abi_ioctl(ep.fd, _IOWR(SHMIPC_IOC_MAGIC, 0, struct shmipc_query), &q), ENOTTY);
	must(abi_query(ep.fd, &q));
	abi_ep_close(&ep);
}

/* ---- before and without the anchor ---- */

static void test_no_anchor(void **state)
{
	struct shmipc_query q;
	struct abi_seg seg;
	int fd = abi_open_raw();
	const struct sized *s;

	(void)state;
	must(fd);
	must(abi_query(fd, &q));
	for (s = sizes + 1; s < sizes + sizeof(sizes) / sizeof(*sizes); s++)
		fails(call_sized(fd, s, s->size, 0), EINVAL);
	fails(abi_seg_create(fd, 1, &seg), EINVAL);
	close(fd);
}

static void test_open_modes(void **state)
{
	int fd;

	(void)state;
	assert_int_equal(open(ABI_DEVICE, O_RDONLY | O_CLOEXEC), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(open(ABI_DEVICE, O_WRONLY | O_CLOEXEC), -1);
	assert_int_equal(errno, EINVAL);
	fd = abi_open_raw();
	must(fd);
	close(fd);
}

/* ---- QUERY ---- */

static void test_query(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct shmipc_query q, after;
	struct abi_seg seg;

	(void)state;
	must(abi_query(ep.fd, &q));
	assert_int_equal(q.out_abi, 1);
	assert_int_equal(q.out_abi_oldest, 1);
	assert_int_equal(q.out_page_size, sysconf(_SC_PAGESIZE));
	assert_int_equal(q.out_max_notify, 1024);
	assert_true(q.out_features & SHMIPC_FEATURE_STREAMS);
	assert_true(q.out_user_pages_max > 0 && q.out_total_pages_max > q.out_user_pages_max);
	assert_true(memchr(q.out_version, 0, sizeof(q.out_version)) != NULL);
	assert_string_equal((char *)q.out_version, SHMIPC_VERSION);
	must(abi_seg_create(ep.fd, 5 * ABI_PAGE, &seg));
	must(abi_query(ep.fd, &after));
	assert_true(after.out_user_pages == q.out_user_pages + 5);
	assert_true(after.out_total_pages == q.out_total_pages + 5);
	abi_ep_close(&ep);
}

/* ---- fdinfo ---- */

static void test_fdinfo(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	char path[64], text[512];
	FILE *f;

	(void)state;
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", p.server.fd);
	f = fopen(path, "r");
	assert_non_null(f);
	text[fread(text, 1, sizeof(text) - 1, f)] = 0;
	fclose(f);
	assert_non_null(strstr(text, "shmipc-state:\tlive\n"));
	assert_non_null(strstr(text, "shmipc-segments:\t1\n"));
	assert_non_null(strstr(text, "shmipc-listeners:\t1\n"));
	assert_non_null(strstr(text, "shmipc-sessions:\t1\n"));
	assert_non_null(strstr(text, "shmipc-user-pages:\t5\n"));
	abi_pair_close(&p);
}

/* ---- flags, reserved fields, values ---- */

#define refuse(fd, nr, arg, err) do {						\
	typeof(arg) copy = (arg);						\
	long before = abi_alive();						\
	fails(abi_ioctl((fd), (nr), &copy), (err));				\
	assert_int_equal(abi_alive(), before);					\
} while (0)

static void test_seg_create(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct shmipc_seg_create good = { .size = sizeof(good), .length = 1 }, a;
	struct shmipc_query q;

	(void)state;
	must(abi_query(ep.fd, &q));
	a = good, a.flags = SHMIPC_SEG_PINNABLE;
	refuse(ep.fd, SHMIPC_IOC_SEG_CREATE, a, EOPNOTSUPP);
	a = good, a.__reserved = 1;
	refuse(ep.fd, SHMIPC_IOC_SEG_CREATE, a, EINVAL);
	a = good, a.length = 0;
	refuse(ep.fd, SHMIPC_IOC_SEG_CREATE, a, EINVAL);
	a.length = q.out_max_segment + 1;
	refuse(ep.fd, SHMIPC_IOC_SEG_CREATE, a, EINVAL);
	a.length = 1ULL << 63;
	refuse(ep.fd, SHMIPC_IOC_SEG_CREATE, a, EINVAL);
	a.length = ~0ULL;
	refuse(ep.fd, SHMIPC_IOC_SEG_CREATE, a, EOVERFLOW);
	a.length = ~0ULL - ABI_PAGE + 2;
	refuse(ep.fd, SHMIPC_IOC_SEG_CREATE, a, EOVERFLOW);
	/* More than any machine that runs this: the machine's cap, also for root. */
	a.length = q.out_max_segment;
	refuse(ep.fd, SHMIPC_IOC_SEG_CREATE, a, ENOSPC);
	must(abi_ioctl(ep.fd, SHMIPC_IOC_SEG_CREATE, &good));
	abi_ep_close(&ep);
}

/* A struct that can be read and not written: what was made for it goes again. */
static void test_answer_faults(void **state)
{
	struct abi_ep ep = abi_ep_open();
	uint8_t *page = mmap(NULL, ABI_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			     -1, 0);
	struct shmipc_seg_create *seg = (void *)page;
	struct shmipc_bind *bind = (void *)(page + 256);
	struct shmipc_connect *c = (void *)(page + 512);
	struct shmipc_accept *a = (void *)(page + 1024);
	struct shmipc_connect waiting = abi_connect_arg(NAME);
	uint32_t listener;
	long before;

	(void)state;
	*seg = (struct shmipc_seg_create){ .size = sizeof(*seg), .length = 1 };
	*bind = abi_bind_arg(NAME);
	*c = abi_connect_arg(NAME);
	c->flags = SHMIPC_CONNECT_NONBLOCK;
	listener = abi_bind(ep.fd, NAME);
	*a = abi_accept_arg(listener);
	must(abi_close(ep.fd, listener, 0));
	mprotect(page, ABI_PAGE, PROT_READ);
	before = abi_alive();
	fails(abi_ioctl(ep.fd, SHMIPC_IOC_SEG_CREATE, seg), EFAULT);
	fails(abi_ioctl(ep.fd, SHMIPC_IOC_BIND, bind), EFAULT);
	expect_alive(before);

	listener = abi_bind(ep.fd, NAME);
	before = abi_alive();
	fails(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, c), EFAULT);
	expect_alive(before);

	waiting.flags = SHMIPC_CONNECT_NONBLOCK;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &waiting));
	mprotect(page, ABI_PAGE, PROT_READ | PROT_WRITE);
	a->listener = listener;
	mprotect(page, ABI_PAGE, PROT_READ);
	before = abi_alive();
	fails(abi_ioctl(ep.fd, SHMIPC_IOC_ACCEPT, a), EFAULT);
	expect_alive(before);
	mprotect(page, ABI_PAGE, PROT_READ | PROT_WRITE);
	/* It is still in the queue. */
	must(abi_ioctl(ep.fd, SHMIPC_IOC_ACCEPT, a));
	munmap(page, ABI_PAGE);
	abi_ep_close(&ep);
}

static void test_bind(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct shmipc_bind good = abi_bind_arg(NAME), a;
	const char *good_bytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				 "0123456789._:/-";
	char name[80];
	int c;

	(void)state;
	a = good, a.flags = 4;
	refuse(ep.fd, SHMIPC_IOC_BIND, a, EOPNOTSUPP);
	a = good, a.adopt = SHMIPC_ADOPT_HOLDER;
	refuse(ep.fd, SHMIPC_IOC_BIND, a, EOPNOTSUPP);
	a = good, a.adopt = 3;
	refuse(ep.fd, SHMIPC_IOC_BIND, a, EOPNOTSUPP);
	a = good, a.causes = SHMIPC_CAUSE_PEER_DIED;
	refuse(ep.fd, SHMIPC_IOC_BIND, a, EOPNOTSUPP);
	a = good, a.mode = 0644;
	refuse(ep.fd, SHMIPC_IOC_BIND, a, EINVAL);
	a = good, a.backlog = 0;
	refuse(ep.fd, SHMIPC_IOC_BIND, a, EINVAL);
	a = good, a.backlog = SHMIPC_BACKLOG_MAX + 1;
	refuse(ep.fd, SHMIPC_IOC_BIND, a, EINVAL);
	a = good, a.uid = 1;
	refuse(ep.fd, SHMIPC_IOC_BIND, a, EINVAL);
	a = good, a.flags = SHMIPC_BIND_OWNER, a.uid = ~0U;
	refuse(ep.fd, SHMIPC_IOC_BIND, a, EINVAL);
	a = good, a.name = 8;
	refuse(ep.fd, SHMIPC_IOC_BIND, a, EFAULT);
	a = good, a.name_len = 0;
	refuse(ep.fd, SHMIPC_IOC_BIND, a, EINVAL);
	memset(name, 'x', sizeof(name));
	a = good, a.name = (uintptr_t)name, a.name_len = SHMIPC_NAME_MAX + 1;
	refuse(ep.fd, SHMIPC_IOC_BIND, a, EINVAL);
	a.name_len = SHMIPC_NAME_MAX;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_BIND, &a));
	a.name_len = 1;
	for (c = 0; c < 256; c++) {
		name[0] = c;
		if (c && strchr(good_bytes, c))
			must(abi_ioctl(ep.fd, SHMIPC_IOC_BIND, &a));
		else
			refuse(ep.fd, SHMIPC_IOC_BIND, a, EINVAL);
	}
	must(abi_ioctl(ep.fd, SHMIPC_IOC_BIND, &good));
	refuse(ep.fd, SHMIPC_IOC_BIND, good, EADDRINUSE);
	must(abi_close(ep.fd, good.out_handle, 0));
	must(abi_ioctl(ep.fd, SHMIPC_IOC_BIND, &good));
	abi_ep_close(&ep);
}

/* Names that begin with a uid belong to that uid, for root as well. */
static void test_reserved_names(void **state)
{
	static const char *const mine[] = { "u0/x", "u00/x", "u", "u0", "user/x", "u/x", "ux1/y",
					    "u4294967295x", "u99999999999999999999" };
	static const char *const not_mine[] = { "u1/x", "u65534/x", "u99999999999999999999/x",
						"u4294967295/x", "u01/x" };
	struct abi_ep ep = abi_ep_open();
	struct shmipc_bind a;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(mine) / sizeof(*mine); i++)
		abi_bind(ep.fd, mine[i]);
	for (i = 0; i < sizeof(not_mine) / sizeof(*not_mine); i++) {
		a = abi_bind_arg(not_mine[i]);
		refuse(ep.fd, SHMIPC_IOC_BIND, a, EACCES);
	}
	abi_ep_close(&ep);
}

static void test_connect(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct shmipc_connect good = abi_connect_arg(NAME), a;
	struct abi_seg seg;
	uint32_t listener = abi_bind(ep.fd, NAME);

	(void)state;
	good.flags = SHMIPC_CONNECT_NONBLOCK;
	must(abi_seg_create(ep.fd, 1, &seg));
	a = good, a.flags |= 8;
	refuse(ep.fd, SHMIPC_IOC_CONNECT, a, EOPNOTSUPP);
	a = good, a.causes = SHMIPC_CAUSE_ACCEPT;
	refuse(ep.fd, SHMIPC_IOC_CONNECT, a, EOPNOTSUPP);
	a = good, a.expect_uid = 1;
	refuse(ep.fd, SHMIPC_IOC_CONNECT, a, EINVAL);
	a = good, a.name_len = 0;
	refuse(ep.fd, SHMIPC_IOC_CONNECT, a, EINVAL);
	a = good, a.name_len = 64;
	refuse(ep.fd, SHMIPC_IOC_CONNECT, a, EINVAL);
	a = good, a.name = 0;
	refuse(ep.fd, SHMIPC_IOC_CONNECT, a, EFAULT);
	a = abi_connect_arg("no:such"), a.flags = SHMIPC_CONNECT_NONBLOCK;
	refuse(ep.fd, SHMIPC_IOC_CONNECT, a, ENOENT);
	a = good, a.meta_len = SHMIPC_META_MAX + 1, a.meta = (uintptr_t)&a;
	refuse(ep.fd, SHMIPC_IOC_CONNECT, a, EINVAL);
	a = good, a.meta_len = 1;
	refuse(ep.fd, SHMIPC_IOC_CONNECT, a, EINVAL);
	a = good, a.meta_len = 1, a.meta = 8;
	refuse(ep.fd, SHMIPC_IOC_CONNECT, a, EFAULT);
	a = good, a.segment = 12345;
	refuse(ep.fd, SHMIPC_IOC_CONNECT, a, ENOENT);
	a = good, a.segment = listener;
	refuse(ep.fd, SHMIPC_IOC_CONNECT, a, EBADF);
	a = good, a.flags |= SHMIPC_CONNECT_EXPECT_UID, a.expect_uid = NOBODY;
	refuse(ep.fd, SHMIPC_IOC_CONNECT, a, EACCES);
	a.expect_uid = ~0U;
	refuse(ep.fd, SHMIPC_IOC_CONNECT, a, EACCES);
	a.expect_uid = 0;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &a));
	assert_int_equal(a.out_peer.uid, 0);
	assert_int_equal(a.out_peer.pid, getpid());
	good.segment = seg.handle;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_CONNECT, &good));
	abi_ep_close(&ep);
}

static void test_accept(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct shmipc_accept good = abi_accept_arg(p.listener), a;
	struct shmipc_connect c = abi_connect_arg(NAME);
	int unbound, other;

	(void)state;
	refuse(p.server.fd, SHMIPC_IOC_ACCEPT, good, EAGAIN);
	c.flags = SHMIPC_CONNECT_NONBLOCK;
	must(abi_ioctl(p.client.fd, SHMIPC_IOC_CONNECT, &c));
	a = good, a.flags = 4;
	refuse(p.server.fd, SHMIPC_IOC_ACCEPT, a, EOPNOTSUPP);
	a = good, a.causes = SHMIPC_CAUSE_ACCEPT;
	refuse(p.server.fd, SHMIPC_IOC_ACCEPT, a, EOPNOTSUPP);
	a = good, a.__reserved = 1;
	refuse(p.server.fd, SHMIPC_IOC_ACCEPT, a, EINVAL);
	a = good, a.home_fd = 1;
	refuse(p.server.fd, SHMIPC_IOC_ACCEPT, a, EINVAL);
	a = good, a.listener = 0;
	refuse(p.server.fd, SHMIPC_IOC_ACCEPT, a, ENOENT);
	a = good, a.listener = p.at_server;
	refuse(p.server.fd, SHMIPC_IOC_ACCEPT, a, EBADF);
	a = good, a.segment = p.listener;
	refuse(p.server.fd, SHMIPC_IOC_ACCEPT, a, EBADF);
	a = good, a.segment = 9999;
	refuse(p.server.fd, SHMIPC_IOC_ACCEPT, a, ENOENT);
	a = good, a.meta = 8, a.meta_len = 256;
	must(abi_ioctl(p.server.fd, SHMIPC_IOC_ACCEPT, &a));	/* there is no metadata to copy */
	must(abi_ioctl(p.client.fd, SHMIPC_IOC_CONNECT, &c));
	a = good, a.flags = SHMIPC_ACCEPT_HOME, a.home_fd = -1;
	refuse(p.server.fd, SHMIPC_IOC_ACCEPT, a, EBADF);
	a.home_fd = other = open("/dev/null", O_RDWR | O_CLOEXEC);
	refuse(p.server.fd, SHMIPC_IOC_ACCEPT, a, EBADF);
	close(other);
	a.home_fd = unbound = abi_open_raw();
	refuse(p.server.fd, SHMIPC_IOC_ACCEPT, a, EINVAL);
	close(unbound);
	a.home_fd = p.client.fd;
	must(abi_ioctl(p.server.fd, SHMIPC_IOC_ACCEPT, &a));
	must(abi_close(p.client.fd, a.out_session, 0));
	abi_pair_close(&p);
}

/* ---- handles ---- */

static void test_handles(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);
	struct abi_seg spare;
	struct shmipc_seg_info info;
	struct shmipc_close c = { .size = sizeof(c) };
	int fd = p.server.fd;

	(void)state;
	must(abi_seg_info(fd, p.server_seg.handle, &info));
	fails(abi_seg_info(fd, p.at_server, &info), EBADF);
	fails(abi_seg_info(fd, 77, &info), ENOENT);
	fails(abi_seg_info(fd, 0, &info), ENOENT);
	fails(abi_seg_info(fd, ~0U, &info), ENOENT);
	info = (struct shmipc_seg_info){ .size = sizeof(info), .slot = 1,
					 .handle = p.server_seg.handle };
	refuse(fd, SHMIPC_IOC_SEG_INFO, info, EINVAL);
	fails(abi_peer_info(fd, p.server_seg.handle, 0, &info), EBADF);
	fails(abi_peer_info(fd, p.at_server, 1, &info), ENOENT);
	must(abi_peer_info(fd, p.at_server, 0, &info));

	must(abi_seg_create(fd, 1, &spare));
	fails(abi_grant(fd, p.server_seg.handle, spare.handle, 1), EBADF);
	fails(abi_grant(fd, p.at_server, p.at_server, 1), EBADF);
	fails(abi_grant(fd, 99, spare.handle, 1), ENOENT);
	fails(abi_grant(fd, p.at_server, 99, 1), ENOENT);
	fails(abi_grant(fd, p.at_server, spare.handle, SHMIPC_SLOTS_MAX), EINVAL);
	fails(abi_grant(fd, p.at_server, spare.handle, 0), EEXIST);
	/* Once a session and direction. */
	fails(abi_grant(fd, p.at_server, p.server_seg.handle, 1), EEXIST);
	must(abi_grant(fd, p.at_server, spare.handle, SHMIPC_SLOTS_MAX - 1));
	fails(abi_revoke(fd, p.at_server, 1), ENOENT);
	fails(abi_revoke(fd, p.at_server, SHMIPC_SLOTS_MAX), EINVAL);
	fails(abi_revoke(fd, p.server_seg.handle, 0), EBADF);
	must(abi_revoke(fd, p.at_server, SHMIPC_SLOTS_MAX - 1));
	fails(abi_revoke(fd, p.at_server, SHMIPC_SLOTS_MAX - 1), ENOENT);

	fails(abi_close(fd, 1234, 0), ENOENT);
	fails(abi_close(fd, p.server_seg.handle, SHMIPC_CLOSE_REVOKE), EINVAL);
	fails(abi_close(fd, p.at_server, 2), EOPNOTSUPP);
	c.handle = p.listener, c.reason = 1;
	refuse(fd, SHMIPC_IOC_CLOSE, c, EINVAL);
	c.handle = 0;
	refuse(fd, SHMIPC_IOC_CLOSE, c, EINVAL);
	c.handle = p.at_server;
	must(abi_ioctl(fd, SHMIPC_IOC_CLOSE, &c));
	fails(abi_close(fd, p.at_server, 0), ENOENT);
	abi_pair_close(&p);
}

/* A handle means nothing on another endpoint, and does not come back soon. */
static void test_handles_are_local(void **state)
{
	struct abi_ep one = abi_ep_open(), two = abi_ep_open();
	struct shmipc_seg_info info;
	struct abi_seg seg, next;
	int i;

	(void)state;
	must(abi_seg_create(one.fd, 1, &seg));
	fails(abi_seg_info(two.fd, seg.handle, &info), ENOENT);
	for (i = 0; i < abi_rounds(1000); i++) {
		must(abi_seg_create(two.fd, 1, &next));
		must(abi_close(two.fd, next.handle, 0));
		must(abi_seg_create(two.fd, 1, &seg));
		assert_true(seg.handle > next.handle);
		must(abi_close(two.fd, seg.handle, 0));
	}
	abi_ep_close(&one);
	abi_ep_close(&two);
}

static const struct CMUnitTest tests[] = {
	abi_test(test_sizes),
	abi_test(test_longer_struct),
	abi_test(test_struct_at_edge),
	abi_test(test_unknown_requests),
	abi_test(test_no_anchor),
	abi_test(test_open_modes),
	abi_test(test_query),
	abi_test(test_fdinfo),
	abi_test(test_seg_create),
	abi_test(test_answer_faults),
	abi_test(test_bind),
	abi_test(test_reserved_names),
	abi_test(test_connect),
	abi_test(test_accept),
	abi_test(test_handles),
	abi_test(test_handles_are_local),
};

abi_main(tests)
