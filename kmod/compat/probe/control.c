// SPDX-License-Identifier: GPL-2.0-only
#include <linux/mm.h>

int probe(struct vm_area_struct *vma);
int probe(struct vm_area_struct *vma)
{
	return vma->vm_start == 0;
}
