/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * compat.h - included before everything else, by the compiler's command line
 *
 * The module is written for the newest kernel; what an older one lacks is here. What there is has
 * been found by compiling probe/NAME.c, never by comparing versions: distributions carry changes
 * back.
 */
#ifndef _SHMIPC_COMPAT_H
#define _SHMIPC_COMPAT_H

#include <linux/mm.h>

#ifndef SHMIPC_HAVE_VM_FLAGS_SET
static inline void vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags |= flags;
}

static inline void vm_flags_clear(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags &= ~flags;
}
#endif

#endif
