// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The module stays as long as anything of it is held, however, and goes when nothing is. */
#define _GNU_SOURCE
#include "abi.h"

#include <sys/syscall.h>

#define MODULE		"shmipc"
#define MODULE_FILE	"/shmipc.ko"
#define NAME		"test:module"

static int module_unload(void)
{
	return syscall(SYS_delete_module, MODULE, O_NONBLOCK) < 0 ? -errno : 0;
}

static int module_load(void)
{
	int fd = open(MODULE_FILE, O_RDONLY | O_CLOEXEC), ret;

	if (fd < 0)
		return -errno;
	ret = syscall(SYS_finit_module, fd, "", 0) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

/* The last reference may be dropped by a worker, after whoever held it has returned. */
static void unload_within_limit(void)
{
	int ret, tries = 0;

	do {
		ret = module_unload();
		if (ret == -EAGAIN)
			abi_sleep_ms(10);
	} while (ret == -EAGAIN && tries++ < 3000);
	must(ret);
}

/* Free again: it goes, takes its device along, and comes back working. */
static void expect_free(void)
{
	struct shmipc_query q;
	struct abi_ep ep;

	unload_within_limit();
	assert_int_equal(access(ABI_DEVICE, F_OK), -1);
	fails(module_unload(), ENOENT);
	must(module_load());
	fails(module_load(), EEXIST);
	ep = abi_ep_open();
	must(abi_query(ep.fd, &q));
	abi_ep_close(&ep);
}

/* More than once: the first refusal must not have begun to take it down. */
static void expect_held(void)
{
	int i;

	for (i = 0; i < 3; i++) {
		fails(module_unload(), EAGAIN);
		abi_sleep_ms(20);
	}
}

/* Whatever a test leaves, those that follow find the module. */
static int loaded(void **state)
{
	if (access(ABI_DEVICE, F_OK))
		must(module_load());
	return abi_nothing_left(state);
}

static void test_open_file(void **state)
{
	int fd = abi_open_raw();
	struct shmipc_query q;

	(void)state;
	must(fd);
	expect_held();
	must(abi_query(fd, &q));
	close(fd);
	expect_free();
}

static void test_live_endpoint(void **state)
{
	struct abi_pair p = abi_pair_open(NAME);

	(void)state;
	expect_held();
	must(abi_ring(p.server.fd, p.at_server, 1));
	expect_event(p.client.fd, p.at_client, 1);
	abi_pair_close(&p);
	expect_free();
}

/* Only a mapping: of the anchor, then of a segment after the anchor has gone. */
static void test_mapping_alone(void **state)
{
	struct abi_ep ep = abi_ep_open();
	struct abi_seg seg = abi_seg_new(ep.fd, ABI_PAGE);

	(void)state;
	seg.map[0] = 7;
	close(ep.fd);
	expect_held();
	assert_int_equal(ep.anchor->state, SHMIPC_STATE_LIVE);
	assert_int_equal(seg.map[0], 7);
	munmap((void *)ep.anchor, ABI_PAGE);
	expect_held();
	assert_int_equal(abi_touch(seg.map, false), SIGBUS);
	abi_unmap(&seg);
	expect_free();
}

/* The endpoint is dead and its memory given back; a child of its maker sleeps on the file. */
static void test_dead_endpoint(void **state)
{
	int told[2], go[2];
	pid_t pid, child;

	(void)state;
	assert_int_equal(pipe(told), 0);
	assert_int_equal(pipe(go), 0);
	pid = abi_fork();
	if (!pid) {
		struct abi_ep ep = abi_ep_open();

		abi_seg_new(ep.fd, 4 * ABI_PAGE);
		child = abi_fork();
		if (!child) {
			close(go[1]);
			/* The end of the pipe is the end of this process. */
			while (read(go[0], told, 1) > 0)
				;
			_exit(0);
		}
		assert_int_equal(write(told[1], &child, sizeof(child)), sizeof(child));
		for (;;)
			pause();
	}
	close(told[1]);	/* a child that fails is the end of it */
	assert_int_equal(read(told[0], &child, sizeof(child)), sizeof(child));
	assert_int_equal(abi_counter("pages"), 4);
	kill(pid, SIGKILL);
	assert_int_equal(abi_reap(pid), 128 + SIGKILL);
	expect_alive(3);	/* the endpoint without its segment, its attachment, its user */
	assert_int_equal(abi_counter("pages"), 0);
	assert_int_equal(abi_counter("attachments_live"), 1);
	expect_held();
	close(go[1]);
	close(go[0]), close(told[0]);
	expect_free();
}

/* No process has anything of it any more: what an orphan keeps is its own. */
static void bind_and_die(void *unused)
{
	struct shmipc_bind b = abi_bind_arg(NAME);
	struct abi_ep ep = abi_ep_open();

	(void)unused;
	abi_seg_new(ep.fd, 4 * ABI_PAGE);
	b.orphan_ms = ABI_LIMIT / 1000000;
	must(abi_ioctl(ep.fd, SHMIPC_IOC_BIND, &b));
	kill(getpid(), SIGKILL);
}

static void test_orphan(void **state)
{
	(void)state;
	assert_int_equal(abi_reap(abi_spawn(bind_and_die, NULL)), 128 + SIGKILL);
	expect_held();
	assert_int_equal(abi_counter("pages"), 4);
	assert_int_equal(abi_counter("attachments_live"), 0);
	abi_param("orphan_max_ms", 0, NULL);
	expect_free();
}

/* ---- unloading against opening ---- */

#define UNLOADS	5

struct opener {
	volatile bool stop;
	volatile long opened, refused, wrong;
};

/* What an open may answer while the device comes and goes. */
static bool no_device(int err)
{
	return err == -ENOENT || err == -ENODEV || err == -ENXIO;
}

static void open_all_the_time(void *arg)
{
	struct opener *o = arg;
	volatile struct shmipc_anchor *anchor;
	unsigned int seed = 7;
	int fd;

	while (!o->stop) {
		fd = abi_open_raw();
		if (fd >= 0) {
			anchor = abi_anchor(fd);
			o->wrong += !anchor;
			o->opened++;
			if (anchor)
				munmap((void *)anchor, ABI_PAGE);
			close(fd);
		} else if (no_device(fd)) {
			o->refused++;
		} else {
			o->wrong++;
		}
		abi_nap(&seed, 200);
	}
}

static void test_unload_races_open(void **state)
{
	struct opener *o = mmap(NULL, ABI_PAGE, PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int done = 0, held = 0, ret;
	unsigned int seed = 8;
	time_t end = time(NULL) + 30;
	long refused;
	pid_t pid;

	(void)state;
	pid = abi_spawn(open_all_the_time, o);
	while ((done < UNLOADS || !held) && time(NULL) < end) {
		abi_nap(&seed, 200);
		ret = module_unload();
		if (ret == -EAGAIN) {
			held++;
			continue;
		}
		must(ret);
		/* It must meet the hole as well. */
		refused = o->refused;
		while (o->refused == refused && time(NULL) < end)
			abi_nap(&seed, 200);
		must(module_load());
		done++;
	}
	o->stop = true;
	assert_int_equal(abi_reap(pid), 0);
	print_message("unloaded %d, held %d; opened %ld, no device %ld\n", done, held, o->opened,
		      o->refused);
	assert_true(done >= UNLOADS && held > 0);
	assert_true(o->opened > 0 && o->refused > 0);
	assert_int_equal(o->wrong, 0);
	munmap(o, ABI_PAGE);
}

#define module_test(fn)	cmocka_unit_test_teardown(fn, loaded)

static const struct CMUnitTest tests[] = {
	module_test(test_open_file),
	module_test(test_live_endpoint),
	module_test(test_mapping_alone),
	module_test(test_dead_endpoint),
	module_test(test_orphan),
	module_test(test_unload_races_open),
};

/* Where it could not be put back, it is not taken away. */
int main(void)
{
	if (access(ABI_DEVICE, F_OK) || access(MODULE_FILE, R_OK)) {
		puts("no " ABI_DEVICE " or no " MODULE_FILE " to load again");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, abi_nothing_left);
}
