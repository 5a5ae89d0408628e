// SPDX-License-Identifier: GPL-2.0-only
#include <linux/mm.h>

#ifndef CONFIG_ARCH_HAS_PTE_SPECIAL
#error no special page-table entries
#endif

static int fill(pte_t *pte, unsigned long addr, void *data)
{
	struct vm_area_struct *vma = data;

	if (pte_none(ptep_get(pte)))
		set_pte_at(vma->vm_mm, addr, pte, pte_mkspecial(pfn_pte(0, vma->vm_page_prot)));
	return 0;
}

int probe(struct vm_area_struct *vma);
int probe(struct vm_area_struct *vma)
{
	return apply_to_page_range(vma->vm_mm, 0, PAGE_SIZE, fill, vma);
}
