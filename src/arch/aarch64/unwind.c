/* Kernel frames of aarch64, by x29's chain of records (AAPCS64, 6.4.6). Pure but for what k reads.
 * Any thread. Linux ends the chain with a record of zeros; from 6.13 on such a record may also mean
 * an exception's registers (arch/arm64/include/asm/stacktrace/frame.h), told by a third word:
 *
 *   fp ─► [ caller's x29 | return address ]     fp ─► [ 0 | 0 | 1: the end, 2: registers ] */
#include <errno.h>

#include "arch/arch.h"

#define META_FROM 0x060d
#define META_REGS 2

/* From that record back to members of its struct pt_regs (arch/arm64/include/asm/ptrace.h). */
#define REGS_BACK (33 * 8 + 32) /* x0 to x30, sp, pc; pstate, orig_x0, syscallno and pmr, ttbr1 */
#define REGS_X29  (29 * 8)
#define REGS_X30  (30 * 8)
#define REGS_PC	  (32 * 8)

#define KERNEL_HALF (UINT64_C(1) << 55)

/* Takes a pointer authentication code off: above the address's bits, but for bit 55. */
static uint64_t strip(const struct arch_unwind_kernel *k, uint64_t pc)
{
	if (k->va_bits < 32 || k->va_bits > 55)
		return pc;
	return pc & KERNEL_HALF ? pc | UINT64_MAX << k->va_bits : pc;
}

static bool read_words(const struct arch_unwind_kernel *k, uint64_t gva, uint64_t *words, size_t n)
{
	return k->read(k->arg, gva, words, n * sizeof(*words)) == 0;
}

/* Whether x30 is the way back of a function that has no record: it leads into another function,
 * and is not what the record of this one says. After a call it leads into the function itself. */
static bool has_no_record(const struct arch_unwind *u, const struct arch_unwind_kernel *k)
{
	uint64_t lr = strip(k, u->extra[0]), here = k->function(k->arg, u->pc), record[2], from;

	if (!u->extra_known || !u->exact || !here)
		return false;
	from = k->function(k->arg, lr - 1);
	if (!from || from == here)
		return false;
	return !read_words(k, u->fp, record, 2) || strip(k, record[1]) != lr;
}

/* Into what an exception interrupted. */
static int enter_regs(struct arch_unwind *u, const struct arch_unwind_kernel *k)
{
	uint64_t regs = u->fp - REGS_BACK, words[2];

	if (!read_words(k, regs + REGS_X29, words, 2) ||
	    !read_words(k, regs + REGS_PC, &u->pc, 1) || !k->function(k->arg, u->pc))
		return -ENOENT;
	u->sp = u->fp + 24;
	u->fp = words[0];
	u->extra[0] = words[1];
	u->extra_known = true;
	u->exact = true;
	return 1;
}

int arch_unwind_next(struct arch_unwind *u, const struct arch_unwind_kernel *k,
		     enum arch_unwind_by *ret_by)
{
	uint64_t record[3];

	if (has_no_record(u, k)) {
		u->pc = strip(k, u->extra[0]);
		u->extra_known = false;
		u->exact = false;
		*ret_by = ARCH_BY_LINK_REGISTER;
		return 1;
	}
	if (!u->fp)
		return 0;
	if (u->fp % 8 || !read_words(k, u->fp, record, 2))
		return -ENOENT;
	if (!record[0] && !record[1]) {
		struct arch_unwind next = *u;

		if (k->release < META_FROM || !read_words(k, u->fp + 16, &record[2], 1) ||
		    record[2] != META_REGS)
			return 0;
		if (enter_regs(&next, k) < 0)
			return -ENOENT;
		*u = next;
	} else {
		uint64_t pc = strip(k, record[1]);

		if (!k->function(k->arg, pc - 1))
			return -ENOENT;
		u->pc = pc;
		u->sp = u->fp + 16;
		u->fp = record[0];
		u->extra_known = false;
		u->exact = false;
	}
	*ret_by = ARCH_BY_FRAME_RECORD;
	return 1;
}

/* BL, BLR and its authenticated kin (ARM ARM, C6.2). */
bool arch_unwind_after_call(const uint8_t code[ARCH_CALL_BYTES])
{
	const uint8_t *at = code + ARCH_CALL_BYTES - 4;
	uint32_t insn = (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
			(uint32_t)at[3] << 24;

	return (insn & 0xfc000000) == 0x94000000 || (insn & 0xfefff000) == 0xd63f0000;
}
