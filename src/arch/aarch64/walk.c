/* Page walks over a guest's tables (ARM ARM, D8.2 and D8.3). Pure but for the reader. Any
 * thread.
 *
 *   granule   page offset   bits a level   levels for 39, 48, 52 bits   blocks
 *   4 KiB     12            9              3, 4, 5                      1 GiB, 2 MiB
 *   16 KiB    14            11             -, 4, 4                      32 MiB
 *   64 KiB    16            13             -, 3, 3                      512 MiB */
#include <errno.h>

#include "arch/aarch64/regs.h"
#include "arch/aarch64/walk.h"

#define ENTRY_VALID   UINT64_C(1)
#define ENTRY_TABLE   UINT64_C(2) /* at the last level: a page */
#define VA_BITS_SMALL 48

unsigned arch_paging_va_bits(const struct arch_paging *p)
{
	return p->va_bits;
}

/* The output address of an entry. With 52 bits (FEAT_LPA, FEAT_LPA2) the top four bits lie among
 * the low ones: D8.3.1, figures "VMSAv8-64 Table descriptor formats". */
static uint64_t entry_address(const struct arch_paging *p, uint64_t entry)
{
	uint64_t low = (UINT64_C(1) << p->page_shift) - 1;

	if (p->page_shift == 16)
		return (entry & UINT64_C(0x0000ffffffff0000)) | (entry >> 12 & 0xf) << 48;
	if (p->va_bits > VA_BITS_SMALL) /* TCR_EL1.DS */
		return (entry & UINT64_C(0x0003fffffffff000) & ~low) | (entry >> 8 & 3) << 50;
	return entry & UINT64_C(0x0000fffffffff000) & ~low;
}

static bool is_granule(uint64_t bytes)
{
	return bytes == KIB(4) || bytes == KIB(16) || bytes == KIB(64);
}

/* (va_bits - page_shift) / (page_shift - 3), rounded up. */
static unsigned levels(const struct arch_paging *p)
{
	return (p->va_bits - 4u) / (p->page_shift - 3u);
}

int arch_paging_kernel(const struct arch_kernel_info *info, struct arch_paging *ret_paging)
{
	uint64_t symbol, root, voffset, t1sz, va_bits, built_bits, page = 0;

	if (!info->number(info->arg, "SYMBOL(swapper_pg_dir)", &symbol) ||
	    !info->number(info->arg, "NUMBER(kimage_voffset)", &voffset) ||
	    !info->number(info->arg, "NUMBER(VA_BITS)", &built_bits))
		return -ENOENT;
	va_bits = built_bits;
	/* What the CPU at hand can do, of what the kernel was built for. */
	if (info->number(info->arg, "NUMBER(TCR_EL1_T1SZ)", &t1sz)) {
		if (t1sz > 64)
			return -ENOENT;
		va_bits = 64 - t1sz;
	}
	info->number(info->arg, "PAGESIZE", &page);
	if (!is_granule(page) || va_bits < 36 || va_bits > 52)
		return -ENOENT;
	symbol -= voffset;
	root = symbol;
	/* 64 KiB pages built for 52 bits, on a CPU with 48: only the table's end is used
	 * (TTBR1_BADDR_4852_OFFSET, arch/arm64/include/asm/pgtable-hwdef.h). */
	if (page == KIB(64) && built_bits == 52 && va_bits == VA_BITS_SMALL)
		root += (1024 - 64) * 8;
	if (root >> 52 || root % 64)
		return -ENOENT;
	*ret_paging = (struct arch_paging){
		.root_gpa = root,
		.symbol_gpa = symbol,
		.page_shift = (uint8_t)__builtin_ctzll(page),
		.va_bits = (uint8_t)va_bits,
	};
	ret_paging->levels = levels(ret_paging);
	return 0;
}

int paging_of(uint64_t ttbr1, uint64_t tcr, struct arch_paging *ret_paging)
{
	static const uint8_t page_shift[] = {0, 14, 12, 16}; /* by TCR_EL1.TG1 */
	struct arch_paging p = {.root_gpa = ttbr_root(ttbr1),
				.page_shift = page_shift[tcr >> 30 & 3],
				.va_bits = (uint8_t)(64 - (tcr >> 16 & 0x3f))};

	if (!p.page_shift || p.va_bits < 36 || p.va_bits > 52)
		return -ENOENT;
	p.levels = levels(&p);
	*ret_paging = p;
	return 0;
}

/* TCR_EL1 (ARM ARM, D23.2): | 51 TBID0 | 37 TBI0 | 15:14 TG0 | 7 EPD0: no walks | 5:0 T0SZ |. */
int user_paging_of(uint64_t ttbr0, uint64_t tcr, struct arch_paging *ret_paging)
{
	static const uint8_t page_shift[] = {12, 16, 14, 0}; /* by TG0: not as TG1 */
	struct arch_paging p = {.root_gpa = ttbr_root(ttbr0),
				.page_shift = page_shift[tcr >> 14 & 3],
				.va_bits = (uint8_t)(64 - (tcr & 0x3f)),
				.user = true};

	if (tcr >> 7 & 1 || !p.page_shift || p.va_bits < 36 || p.va_bits > 52)
		return -ENOENT;
	p.levels = levels(&p);
	*ret_paging = p;
	return 0;
}

/* D8.8 and D8.10: the top byte is a tag, as Linux has it for all of user space (TCR_EL1.TBI0); a
 * pointer authentication code is between it and the address, but for bit 55. */
uint64_t arch_user_address(const struct arch_paging *user, uint64_t word, bool code)
{
	if (word >> 55 & 1)
		return word; /* the kernel's half */
	return word & ((UINT64_C(1) << (code ? user->va_bits : 56)) - 1);
}

/* The bits above an address say whose half it is in, or are a tag. False: it is of the other half,
 * or of none. */
static bool in_half(const struct arch_paging *p, uint64_t *gva)
{
	uint64_t above = p->user ? 0 : UINT64_MAX >> p->va_bits;

	if ((*gva >> 55 & 1) == p->user)
		return false;
	/* Also above a kernel address (TCR_EL1.TBI1: KASAN by tags). */
	if (p->user)
		*gva &= ~(UINT64_C(0xff) << 56);
	else
		*gva |= UINT64_C(0xff) << 56;
	return *gva >> p->va_bits == above;
}

int arch_walk(const struct arch_paging *p, const struct guest_reader *mem, uint64_t gva,
	      uint64_t *ret_gpa, uint64_t *ret_len)
{
	uint64_t table = p->root_gpa;
	unsigned level_shift;

	if (p->page_shift > 16 || !is_granule(UINT64_C(1) << p->page_shift) || p->va_bits > 52 ||
	    p->va_bits <= p->page_shift || p->levels != levels(p))
		return -EFAULT;
	level_shift = p->page_shift - 3u;
	if (!in_half(p, &gva))
		return -EFAULT;
	for (unsigned level = p->levels; level; level--) {
		unsigned shift = p->page_shift + level_shift * (level - 1);
		uint64_t size = UINT64_C(1) << shift;
		unsigned bits = MIN(level_shift, p->va_bits - shift);
		uint64_t index = gva >> shift & ((UINT64_C(1) << bits) - 1);
		uint64_t entry;

		if (guest_reader_read(mem, table + index * sizeof(entry), &entry, sizeof(entry)) ||
		    !(entry & ENTRY_VALID))
			return -EFAULT;
		if (level == 1 && !(entry & ENTRY_TABLE))
			return -EFAULT; /* reserved */
		if (level == 1 || !(entry & ENTRY_TABLE)) {
			/* Blocks: the two levels above pages with 4 KiB, else one; the ones that
			 * 52 bits add are left out, since Linux makes none. */
			if (level > (p->page_shift == 12 ? 3u : 2u))
				return -EFAULT;
			*ret_gpa = ALIGN_DOWN(entry_address(p, entry), size) | (gva & (size - 1));
			*ret_len = size - (gva & (size - 1));
			return 0;
		}
		table = entry_address(p, entry);
	}
	return -EFAULT;
}
