/* Page walks over a guest's tables (SDM volume 3, 4.5). Pure but for the reader. Any thread.
 *
 *   bit  63    57 56   48 47   39 38   30 29   21 20   12 11          0
 *        [ sign  ][ PML5 ][ PML4 ][ PDPT ][  PD  ][  PT  ][ byte       ]
 *                                  1 GiB    2 MiB  4 KiB   pages */
#include <errno.h>

#include "arch/arch.h"

#define KERNEL_MAP    UINT64_C(0xffffffff80000000) /* __START_KERNEL_map */
#define ENTRY_PRESENT UINT64_C(1)
#define ENTRY_LARGE   (UINT64_C(1) << 7)
#define ENTRY_ADDRESS UINT64_C(0x000ffffffffff000)

#define PAGE_SHIFT  12
#define LEVEL_SHIFT 9

unsigned arch_paging_va_bits(const struct arch_paging *p)
{
	return PAGE_SHIFT + LEVEL_SHIFT * p->levels;
}

int arch_paging_kernel(const struct arch_kernel_info *info, struct arch_paging *ret_paging)
{
	uint64_t root, phys_base, five = 0, sme = 0;

	if (!info->number(info->arg, "SYMBOL(swapper_pg_dir)", &root) &&
	    !info->number(info->arg, "SYMBOL(init_top_pgt)", &root))
		return -ENOENT;
	if (!info->number(info->arg, "NUMBER(phys_base)", &phys_base))
		return -ENOENT;
	/* Neither line is there on kernels that can't do it. */
	info->number(info->arg, "NUMBER(pgtable_l5_enabled)", &five);
	info->number(info->arg, "NUMBER(sme_mask)", &sme);
	if (root < KERNEL_MAP)
		return -ENOENT;
	/* phys_base may be negative: the sum wraps on purpose. */
	root = root - KERNEL_MAP + phys_base;
	if (root & ~ENTRY_ADDRESS)
		return -ENOENT;
	*ret_paging = (struct arch_paging){
		.root_gpa = root,
		.symbol_gpa = root,
		.not_address = sme,
		.levels = five ? 5 : 4,
	};
	return 0;
}

static bool canonical(uint64_t gva, unsigned va_bits)
{
	uint64_t top = gva >> (va_bits - 1);

	return top == 0 || top == UINT64_MAX >> (va_bits - 1);
}

uint64_t arch_user_address(const struct arch_paging *user UNUSED, uint64_t word, bool code UNUSED)
{
	return word;
}

int arch_walk(const struct arch_paging *p, const struct guest_reader *mem, uint64_t gva,
	      uint64_t *ret_gpa, uint64_t *ret_len)
{
	uint64_t table = p->root_gpa & ENTRY_ADDRESS & ~p->not_address;

	if ((p->levels != 4 && p->levels != 5) || !canonical(gva, arch_paging_va_bits(p)))
		return -EFAULT;
	for (unsigned level = p->levels; level; level--) {
		unsigned shift = PAGE_SHIFT + LEVEL_SHIFT * (level - 1);
		uint64_t size = UINT64_C(1) << shift;
		uint64_t index = gva >> shift & ((1u << LEVEL_SHIFT) - 1);
		uint64_t entry;

		if (guest_reader_read(mem, table + index * sizeof(entry), &entry, sizeof(entry)) ||
		    !(entry & ENTRY_PRESENT))
			return -EFAULT;
		uint64_t address = entry & ENTRY_ADDRESS & ~p->not_address;
		if (level == 1 || (entry & ENTRY_LARGE)) {
			/* Above 1 GiB the bit is reserved: the CPU would fault. */
			if (level > 3)
				return -EFAULT;
			/* A large page has PAT and reserved bits below its address. */
			*ret_gpa = ALIGN_DOWN(address, size) | (gva & (size - 1));
			*ret_len = size - (gva & (size - 1));
			return 0;
		}
		table = address;
	}
	return -EFAULT;
}
