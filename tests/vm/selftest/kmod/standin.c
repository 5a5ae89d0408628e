// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A module that misbehaves when asked: what the rig must catch. It takes the place of the real one in
 * selftest.sh; writing a fault's name to its parameter "fault" commits it.
 */
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

static struct dentry *dir;
static unsigned int live;
module_param(live, uint, 0644);
MODULE_PARM_DESC(live, "what the counter segments_live shows");

/* The pointer is gone from registers and stack when a scan comes. */
static noinline void leak(void)
{
	memset(kmalloc(4711, GFP_KERNEL), 0x5a, 4711);
}

static int fault_set(const char *name, const struct kernel_param *param)
{
	if (sysfs_streq(name, "warn"))
		WARN_ON(1);
	else if (sysfs_streq(name, "oops"))
		WRITE_ONCE(*(volatile int *)8, 1);
	else if (sysfs_streq(name, "panic"))
		panic("asked for");
	else if (sysfs_streq(name, "leak"))
		leak();
	else if (sysfs_streq(name, "refuse-unload"))
		__module_get(THIS_MODULE);
	else
		return -EINVAL;
	return 0;
}

static const struct kernel_param_ops fault_ops = { .set = fault_set };

module_param_cb(fault, &fault_ops, NULL, 0200);
MODULE_PARM_DESC(fault, "warn, oops, panic, leak or refuse-unload, at once");

static int counters_show(struct seq_file *seq, void *unused)
{
	seq_printf(seq, "segments_live %u\npages 0\nsegments_total 5\n", live);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(counters);

static int __init standin_init(void)
{
	dir = debugfs_create_dir("shmipc", NULL);
	debugfs_create_file("counters", 0400, dir, NULL, &counters_fops);
	return 0;
}

static void __exit standin_exit(void)
{
	debugfs_remove_recursive(dir);
}

module_init(standin_init);
module_exit(standin_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("Stand-in for shmipc that misbehaves when asked");
