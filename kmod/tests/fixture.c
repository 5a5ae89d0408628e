// SPDX-License-Identifier: GPL-2.0-only
#include <linux/anon_inodes.h>
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/fdtable.h>
#include <linux/fcntl.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "../account.h"
#include "fixture.h"
#include "run.h"

#define USER_SIZE	(3 * PAGE_SIZE)
#define ALL_CAUSES	(SHMIPC_CAUSE_USER | SHMIPC_CAUSE_CONNECTED | \
			 SHMIPC_CAUSE_PEER_CLOSED | SHMIPC_CAUSE_PEER_DIED | \
			 SHMIPC_CAUSE_PEER_CHANGED | SHMIPC_CAUSE_PEER_LOST | \
			 SHMIPC_CAUSE_GIVEN | SHMIPC_CAUSE_RETURNED)

/* The address space of the running suite's cases. */
static struct mm_struct *suite_mm;

static const struct file_operations no_fops;

/* ---- suites of a module ---- */

#ifdef MODULE
#define SUITE_POINTER(name)	&shmipc_suite_##name,
static struct kunit_suite *const suites[] = { SHMIPC_TEST_SUITES(SUITE_POINTER) };

void shmipc_tests_run(void)
{
	__kunit_test_suites_init(suites, ARRAY_SIZE(suites));
}

void shmipc_tests_exit(void)
{
	__kunit_test_suites_exit((struct kunit_suite **)suites, ARRAY_SIZE(suites));
}
#endif

/* ---- address space ---- */

#ifdef MODULE
/* insmod's: suites of a module run in its context. */
static struct mm_struct *mm_for_tests(void)
{
	return get_task_mm(current);
}
#else
static struct mm_struct *mm_for_tests(void)
{
	struct mm_struct *mm = mm_alloc();

	if (mm)
		arch_pick_mmap_layout(mm, &current->signal->rlim[RLIMIT_STACK]);
	return mm;
}
#endif

int shmipc_test_suite_init(struct kunit_suite *suite)
{
	suite_mm = mm_for_tests();
	return suite_mm ? 0 : -ENOMEM;
}

void shmipc_test_suite_exit(struct kunit_suite *suite)
{
	if (suite_mm)
		mmput(suite_mm);
	suite_mm = NULL;
}

int shmipc_test_init(struct kunit *test)
{
	struct shmipc_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	if (!t)
		return -ENOMEM;
	test->priv = t;
	/* A failed assertion ends the thread, which then drops this reference itself. */
	mmget(suite_mm);
	kthread_use_mm(suite_mm);
	t->user = vm_mmap(NULL, 0, USER_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, 0);
	return IS_ERR_VALUE(t->user) ? (int)t->user : 0;
}

static void check_counters(struct kunit *test)
{
	struct shmipc_query q = {};
	struct shmipc_user *user = shmipc_user_find(GLOBAL_ROOT_UID);
	int i;

	KUNIT_ASSERT_NOT_NULL(test, user);
	shmipc_account_query(user, &q);
	shmipc_user_put(user);
	KUNIT_EXPECT_EQ(test, q.out_total_pages, 0ULL);
	for (i = 0; i < SHMIPC_LIVE_NR; i++)
		KUNIT_EXPECT_EQ_MSG(test, atomic_long_read(&shmipc_live[i]), 0L,
				    "live counter %d", i);
}

/*
 * The thread of a case that gave up is gone, and whose this is has no address space when the kernel
 * boots. The mappings, and with them what is counted, last until the suite ends.
 */
static void drop_files(struct shmipc_test *t)
{
	for (int i = 0; i < SHMIPC_TEST_FILES; i++)
		if (t->files[i])
			fput(t->files[i]);
}

void shmipc_test_exit(struct kunit *test)
{
	struct shmipc_test *t = test->priv;
	int i;

	if (!t)
		return;
	if (current->mm != suite_mm) {
		drop_files(t);
		return;
	}
	shmipc_test_restore(test);
	for (i = 0; i < SHMIPC_TEST_FILES; i++)
		if (t->files[i])
			shmipc_test_release(test, t->files[i]);
	vm_munmap(t->user, USER_SIZE);
	check_counters(test);
	if (current->flags & PF_KTHREAD) {
		kthread_unuse_mm(suite_mm);
		mmput(suite_mm);
	}
}

/* ---- who asks ---- */

void shmipc_test_become(struct kunit *test, uid_t uid, gid_t gid)
{
	struct shmipc_test *t = test->priv;
	struct cred *cred;

	shmipc_test_restore(test);
	cred = prepare_creds();
	KUNIT_ASSERT_NOT_NULL(test, cred);
	cred->euid = make_kuid(&init_user_ns, uid);
	cred->egid = make_kgid(&init_user_ns, gid);
	cap_clear(cred->cap_effective);
	cap_clear(cred->cap_permitted);
	t->mine = cred;
	t->former = override_creds(cred);
}

void shmipc_test_restore(struct kunit *test)
{
	struct shmipc_test *t = test->priv;

	if (!t->mine)
		return;
	revert_creds(t->former);
	put_cred(t->mine);
	t->mine = NULL;
}

/* ---- files ---- */

/* Room for one that is to be released. */
static struct file **files_room(struct kunit *test)
{
	struct shmipc_test *t = test->priv;
	int i;

	for (i = 0; i < SHMIPC_TEST_FILES && t->files[i]; i++)
		;
	KUNIT_ASSERT_LT(test, i, SHMIPC_TEST_FILES);
	return &t->files[i];
}

struct file *shmipc_test_file(struct kunit *test, int fd)
{
	struct file **room = files_room(test);

	KUNIT_ASSERT_GE(test, fd, 0);
	*room = fget(fd);
	KUNIT_ASSERT_NOT_NULL(test, *room);
	close_fd(fd);
	return *room;
}

struct file *shmipc_test_open_unbound(struct kunit *test)
{
	struct file *file, **room = files_room(test);
	int err;

	file = anon_inode_getfile("[shmipc-test]", &shmipc_fops, NULL, O_RDWR);
	if (IS_ERR(file))
		return file;
	err = shmipc_attachment_open(file);
	if (err) {
		/* Its release would look for what was not made. */
		replace_fops(file, &no_fops);
		__fput_sync(file);
		return ERR_PTR(err);
	}
	*room = file;
	return file;
}

struct file *shmipc_test_open(struct kunit *test)
{
	struct file *file = shmipc_test_open_unbound(test);
	long addr;

	KUNIT_ASSERT_FALSE(test, IS_ERR(file));
	addr = shmipc_test_mmap(file, 0, PAGE_SIZE, PROT_READ);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(addr));
	return file;
}

/* What the case's address space has of @file. */
static void unmap_all(struct file *file)
{
	struct address_space *mapping = file->f_mapping;
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	unsigned long at = 0, start, end;

	for (;;) {
		mmap_read_lock(mm);
		vma = find_vma(mm, at);
		while (vma && !(vma->vm_file && vma->vm_file->f_mapping == mapping))
			vma = find_vma(mm, vma->vm_end);
		start = vma ? vma->vm_start : 0;
		end = vma ? vma->vm_end : 0;
		mmap_read_unlock(mm);
		if (!vma)
			return;
		vm_munmap(start, end - start);
		at = end;
	}
}

void shmipc_test_release(struct kunit *test, struct file *file)
{
	struct shmipc_test *t = test->priv;
	int i;

	for (i = 0; i < SHMIPC_TEST_FILES; i++)
		if (t->files[i] == file)
			t->files[i] = NULL;
	unmap_all(file);
	/* A kernel thread's fput() is delayed; the mappings were files too. */
	flush_delayed_fput();
	__fput_sync(file);
}

/* ---- requests ---- */

long shmipc_test_ioctl(struct kunit *test, struct file *file, unsigned int cmd, void *arg)
{
	struct shmipc_test *t = test->priv;
	u32 size = *(u32 *)arg;
	long ret;

	KUNIT_ASSERT_EQ(test, copy_to_user((void __user *)t->user, arg, size), 0UL);
	ret = shmipc_fops.unlocked_ioctl(file, cmd, t->user);
	KUNIT_ASSERT_EQ(test, copy_from_user(arg, (void __user *)t->user, size), 0UL);
	return ret;
}

u64 shmipc_test_user(struct kunit *test, const void *from, size_t len)
{
	struct shmipc_test *t = test->priv;
	unsigned long at = t->user + PAGE_SIZE;

	KUNIT_ASSERT_EQ(test, copy_to_user((void __user *)at, from, len), 0UL);
	return at;
}

long shmipc_test_mmap(struct file *file, u64 offset, size_t len, unsigned long prot)
{
	return vm_mmap(file, 0, len, prot, MAP_SHARED, offset);
}

int shmipc_test_peek(unsigned long addr, u32 *value)
{
	return get_user(*value, (u32 __user *)addr);
}

int shmipc_test_poke(unsigned long addr, u32 value)
{
	return put_user(value, (u32 __user *)addr);
}

long shmipc_test_segment(struct kunit *test, struct file *file, u64 length, u64 *offset)
{
	struct shmipc_seg_create arg = { .size = sizeof(arg), .length = length };
	long err = shmipc_test_ioctl(test, file, SHMIPC_IOC_SEG_CREATE, &arg);

	if (offset)
		*offset = arg.out_offset;
	return err ?: arg.out_handle;
}

long shmipc_test_bind(struct kunit *test, struct file *file, const char *name, u32 backlog)
{
	struct shmipc_bind arg = {
		.size = sizeof(arg),
		.name = shmipc_test_user(test, name, strlen(name)),
		.name_len = strlen(name),
		.mode = 0222,
		.backlog = backlog,
		.causes = SHMIPC_CAUSE_ACCEPT,
	};
	long err = shmipc_test_ioctl(test, file, SHMIPC_IOC_BIND, &arg);

	return err ?: arg.out_handle;
}

long shmipc_test_connect(struct kunit *test, struct file *file, const char *name, u32 segment)
{
	struct shmipc_connect arg = {
		.size = sizeof(arg),
		.flags = SHMIPC_CONNECT_NONBLOCK,
		.name = shmipc_test_user(test, name, strlen(name)),
		.name_len = strlen(name),
		.segment = segment,
		.causes = ALL_CAUSES,
	};
	long err = shmipc_test_ioctl(test, file, SHMIPC_IOC_CONNECT, &arg);

	return err ?: arg.out_session;
}

long shmipc_test_accept(struct kunit *test, struct file *file, u32 listener, u32 segment)
{
	struct shmipc_accept arg = {
		.size = sizeof(arg),
		.listener = listener,
		.segment = segment,
		.causes = ALL_CAUSES,
	};
	long err = shmipc_test_ioctl(test, file, SHMIPC_IOC_ACCEPT, &arg);

	return err ?: arg.out_session;
}

long shmipc_test_close(struct kunit *test, struct file *file, u32 handle, u32 flags)
{
	struct shmipc_close arg = { .size = sizeof(arg), .flags = flags, .handle = handle };

	return shmipc_test_ioctl(test, file, SHMIPC_IOC_CLOSE, &arg);
}

long shmipc_test_grant(struct kunit *test, struct file *file, u32 session, u32 segment, u32 slot)
{
	struct shmipc_seg_grant arg = {
		.size = sizeof(arg), .session = session, .segment = segment, .slot = slot,
	};

	return shmipc_test_ioctl(test, file, SHMIPC_IOC_SEG_GRANT, &arg);
}

long shmipc_test_revoke(struct kunit *test, struct file *file, u32 session, u32 slot)
{
	struct shmipc_seg_revoke arg = { .size = sizeof(arg), .session = session, .slot = slot };

	return shmipc_test_ioctl(test, file, SHMIPC_IOC_SEG_REVOKE, &arg);
}

/* 0, or the error of the one entry, negative. */
long shmipc_test_ring(struct kunit *test, struct file *file, u32 session, u32 bits)
{
	struct shmipc_sync arg = {
		.size = sizeof(arg), .nr_notify = 1, .one = { .handle = session, .bits = bits },
	};
	long err = shmipc_test_ioctl(test, file, SHMIPC_IOC_SYNC, &arg);

	return err ?: -(long)arg.out_errno;
}

u32 shmipc_test_causes(struct kunit *test, struct file *file, u32 handle)
{
	struct shmipc_sync arg = { .size = sizeof(arg), .max_events = 1 };

	KUNIT_ASSERT_EQ(test, shmipc_test_ioctl(test, file, SHMIPC_IOC_SYNC, &arg), 0L);
	if (!arg.out_nr_events)
		return 0;
	KUNIT_EXPECT_EQ(test, arg.out_one.handle, handle);
	KUNIT_EXPECT_TRUE(test, list_empty(&shmipc_test_ep(file)->ready));
	return arg.out_one.causes;
}

s64 shmipc_test_slot(struct kunit *test, struct file *file, u32 session, u32 slot)
{
	struct shmipc_seg_info arg = {
		.size = sizeof(arg), .flags = SHMIPC_SEG_OF_PEER, .handle = session, .slot = slot,
	};
	long err = shmipc_test_ioctl(test, file, SHMIPC_IOC_SEG_INFO, &arg);

	return err ?: (s64)arg.out_offset;
}

void shmipc_test_pair(struct kunit *test, struct shmipc_test_pair *p, const char *name)
{
	p->a = shmipc_test_open(test);
	p->b = shmipc_test_open(test);
	p->listener = shmipc_test_bind(test, p->a, name, 8);
	p->ga = shmipc_test_segment(test, p->a, PAGE_SIZE, NULL);
	p->gb = shmipc_test_segment(test, p->b, PAGE_SIZE, NULL);
	p->sb = shmipc_test_connect(test, p->b, name, p->gb);
	KUNIT_ASSERT_EQ(test, shmipc_test_causes(test, p->a, p->listener), SHMIPC_CAUSE_ACCEPT);
	p->sa = shmipc_test_accept(test, p->a, p->listener, p->ga);
	KUNIT_ASSERT_GT(test, (s32)p->sa, 0);
	KUNIT_ASSERT_EQ(test, shmipc_test_causes(test, p->b, p->sb), SHMIPC_CAUSE_CONNECTED);
}
