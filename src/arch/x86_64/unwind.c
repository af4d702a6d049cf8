/* Kernel frames of x86_64: by ORC, Linux's unwind tables; by rbp where none covers the code. Pure
 * but for what k reads. Any thread. An entry (arch/x86/include/asm/orc_types.h of Linux 6.12, and
 * before 6.4, where the last byte differs):
 *
 *   s16 sp_offset | s16 bp_offset | sp_reg 3:0, bp_reg 7:4 | type 2:0, signal 3   (type 1:0, end)
 */
#include <errno.h>
#include <string.h>

#include "arch/arch.h"

#define ORC_BYTES  6
#define TYPES_FROM 0x0604 /* the release that numbers types as below */

enum orc_type { ORC_UNDEFINED, ORC_END, ORC_CALL, ORC_REGS, ORC_REGS_PARTIAL };
enum orc_reg {
	REG_UNDEFINED,
	REG_PREV_SP,
	REG_DX,
	REG_DI,
	REG_BP,
	REG_SP,
	REG_R10,
	REG_R13,
	REG_BP_INDIRECT,
	REG_SP_INDIRECT,
};
enum extra { EXTRA_DX, EXTRA_DI, EXTRA_R10, EXTRA_R13 };

struct orc {
	int16_t sp_offset, bp_offset;
	uint8_t sp_reg, bp_reg, type;
	bool signal; /* the caller's address is an instruction that was interrupted */
};

/* struct pt_regs (arch/x86/include/asm/ptrace.h); the CPU itself pushes the last five. */
struct pt_regs {
	uint64_t r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax;
	struct iret_frame {
		uint64_t ip, cs, flags, sp, ss;
	} iret;
};

static bool read_word(const struct arch_unwind_kernel *k, uint64_t gva, uint64_t *ret_word)
{
	return k->read(k->arg, gva, ret_word, sizeof(*ret_word)) == 0;
}

/* ---- the tables -------------------------------------------------------------------------- */

/* The last entry at or before pc. A table out of order gives some entry, or none. */
static bool find_index(const struct arch_unwind_kernel *k, const struct arch_unwind_table *t,
		       uint64_t pc, uint32_t *ret_index)
{
	uint32_t low = 0, high = t->count; /* the first entry above pc is in [low, high] */

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		uint64_t at = t->place_gva + 4 * (uint64_t)mid;
		int32_t distance;

		if (k->read(k->arg, at, &distance, sizeof(distance)))
			return false;
		if (at + (uint64_t)(int64_t)distance <= pc)
			low = mid + 1;
		else
			high = mid;
	}
	*ret_index = low - 1;
	return low > 0;
}

static void decode(const uint8_t raw[ORC_BYTES], bool typed, struct orc *ret_orc)
{
	struct orc o = {.sp_reg = raw[4] & 0xf, .bp_reg = raw[4] >> 4};

	memcpy(&o.sp_offset, raw, 2);
	memcpy(&o.bp_offset, raw + 2, 2);
	if (typed) {
		o.type = raw[5] & 7;
		o.signal = raw[5] >> 3 & 1;
	} else if (o.sp_reg == REG_UNDEFINED) {
		o.type = raw[5] & 0xc ? ORC_END : ORC_UNDEFINED; /* 6.3 moved the bit */
	} else {
		o.type = (uint8_t)(ORC_CALL + (raw[5] & 3));
		o.signal = o.type != ORC_CALL;
	}
	*ret_orc = o;
}

/* False: no table covers the frame's code, or it can't be read. */
static bool find_orc(const struct arch_unwind *u, const struct arch_unwind_kernel *k,
		     struct orc *ret_orc)
{
	/* A call may be the last thing in its function. */
	uint64_t pc = u->exact ? u->pc : u->pc - 1;
	struct arch_unwind_table t;
	uint8_t raw[ORC_BYTES];
	uint32_t i;

	if (!k->table(k->arg, pc, &t) || !find_index(k, &t, pc, &i) ||
	    k->read(k->arg, t.entry_gva + ORC_BYTES * (uint64_t)i, raw, sizeof(raw)))
		return false;
	decode(raw, !k->release || k->release >= TYPES_FROM, ret_orc);
	return true;
}

/* ---- steps ------------------------------------------------------------------------------- */

/* Into what was interrupted. 0: that was user mode. */
static int enter_interrupted(struct arch_unwind *u, const struct iret_frame *f)
{
	if (f->cs & 3 || !f->ip)
		return 0;
	u->pc = f->ip;
	u->sp = f->sp;
	u->exact = true;
	return 1;
}

static int enter_regs(struct arch_unwind *u, const struct arch_unwind_kernel *k, uint64_t gva)
{
	struct pt_regs regs;
	int r;

	if (k->read(k->arg, gva, &regs, sizeof(regs)))
		return -ENOENT;
	r = enter_interrupted(u, &regs.iret);
	if (r > 0) {
		if (!k->function(k->arg, u->pc))
			return -ENOENT;
		u->fp = regs.bp;
		u->extra[EXTRA_DX] = regs.dx;
		u->extra[EXTRA_DI] = regs.di;
		u->extra[EXTRA_R10] = regs.r10;
		u->extra[EXTRA_R13] = regs.r13;
		u->extra_known = true;
	}
	return r;
}

/* The stack pointer of the caller, or where it is kept. */
static bool frame_base(const struct arch_unwind *u, const struct arch_unwind_kernel *k,
		       const struct orc *o, uint64_t *ret_base)
{
	static const uint8_t extra_of[] = {
		[REG_DX] = EXTRA_DX,
		[REG_DI] = EXTRA_DI,
		[REG_R10] = EXTRA_R10,
		[REG_R13] = EXTRA_R13,
	};
	uint64_t offset = (uint64_t)(int64_t)o->sp_offset;

	switch (o->sp_reg) {
	case REG_SP:
		*ret_base = u->sp + offset;
		return true;
	case REG_BP:
		*ret_base = u->fp + offset;
		return true;
	case REG_SP_INDIRECT:
		if (!read_word(k, u->sp, ret_base))
			return false;
		*ret_base += offset;
		return true;
	case REG_BP_INDIRECT:
		return read_word(k, u->fp + offset, ret_base);
	case REG_DX:
	case REG_DI:
	case REG_R10:
	case REG_R13:
		*ret_base = u->extra[extra_of[o->sp_reg]];
		return u->extra_known;
	default:
		return false;
	}
}

/* The caller's rbp, where the frame has put it away; else u->fp stays. */
static bool restore_fp(struct arch_unwind *u, const struct arch_unwind_kernel *k,
		       const struct orc *o, uint64_t base)
{
	uint64_t offset = (uint64_t)(int64_t)o->bp_offset;

	if (o->bp_reg == REG_UNDEFINED)
		return true;
	if (o->bp_reg == REG_PREV_SP)
		return read_word(k, base + offset, &u->fp);
	return o->bp_reg == REG_BP && read_word(k, u->fp + offset, &u->fp);
}

static int next_by_orc(struct arch_unwind *u, const struct arch_unwind_kernel *k,
		       const struct orc *o)
{
	struct iret_frame iret;
	uint64_t base;
	int r = 1;

	if (o->type == ORC_END)
		return 0;
	if (!frame_base(u, k, o, &base))
		return -ENOENT;
	switch (o->type) {
	case ORC_CALL:
		if (!read_word(k, base - 8, &u->pc) || !k->function(k->arg, u->pc - 1))
			return -ENOENT;
		u->sp = base;
		u->exact = false;
		u->extra_known = false;
		break;
	case ORC_REGS:
		r = enter_regs(u, k, base);
		break;
	case ORC_REGS_PARTIAL:
		if (k->read(k->arg, base, &iret, sizeof(iret)))
			return -ENOENT;
		r = enter_interrupted(u, &iret);
		if (r > 0 && !k->function(k->arg, u->pc))
			return -ENOENT;
		break;
	default:
		return -ENOENT;
	}
	if (r > 0) {
		u->exact = o->signal;
		if (!restore_fp(u, k, o, base))
			return -ENOENT;
	}
	return r;
}

/* BPF programs and trampolines, and whole kernels with CONFIG_FRAME_POINTER. There, code that an
 * interrupt entered has 1 + the address of its pt_regs in rbp (ENCODE_FRAME_POINTER). */
static int next_by_fp(struct arch_unwind *u, const struct arch_unwind_kernel *k)
{
	struct {
		uint64_t fp, pc;
	} frame;

	/* At its first instruction a function has no frame yet. */
	if (u->exact && k->function(k->arg, u->pc) == u->pc) {
		if (!read_word(k, u->sp, &frame.pc) || !k->function(k->arg, frame.pc - 1))
			return -ENOENT;
		frame.fp = u->fp;
		u->sp += 8;
	} else if (u->fp & 1) {
		return enter_regs(u, k, u->fp & ~UINT64_C(1));
	} else {
		if (k->read(k->arg, u->fp, &frame, sizeof(frame)) ||
		    !k->function(k->arg, frame.pc - 1))
			return -ENOENT;
		u->sp = u->fp + sizeof(frame);
	}
	u->pc = frame.pc;
	u->fp = frame.fp;
	u->exact = false;
	u->extra_known = false;
	return 1;
}

/* Where the table has no word: above all retpolines (arch/x86/lib/retpoline.S), which for most of
 * their time have their own return address on top of the caller's. Nothing is guessed at: the word
 * is behind a call that leads to this function. */
static int next_by_call(struct arch_unwind *u, const struct arch_unwind_kernel *k)
{
	uint64_t here = k->function(k->arg, u->pc);

	for (unsigned i = 0; u->exact && here && i < 2; i++) {
		uint64_t pc;
		uint8_t code[5];
		int32_t distance;

		if (!read_word(k, u->sp + 8 * (uint64_t)i, &pc))
			break;
		if (!k->function(k->arg, pc - 1) ||
		    k->read(k->arg, pc - sizeof(code), code, sizeof(code)) || code[0] != 0xe8)
			continue;
		memcpy(&distance, code + 1, sizeof(distance));
		if (pc + (uint64_t)(int64_t)distance != here)
			continue;
		u->pc = pc;
		u->sp += 8 * (uint64_t)(i + 1);
		u->exact = false;
		u->extra_known = false;
		return 1;
	}
	return -ENOENT;
}

int arch_unwind_next(struct arch_unwind *u, const struct arch_unwind_kernel *k,
		     enum arch_unwind_by *ret_by)
{
	struct arch_unwind next = *u;
	struct orc orc;
	bool by_orc = find_orc(u, k, &orc);
	bool by_call = by_orc && orc.type == ORC_UNDEFINED;
	int r = by_call	 ? next_by_call(&next, k)
		: by_orc ? next_by_orc(&next, k, &orc)
			 : next_by_fp(&next, k);

	if (r > 0) {
		*u = next;
		*ret_by = by_call ? ARCH_BY_CALL : by_orc ? ARCH_BY_ORC : ARCH_BY_FRAME_POINTER;
	}
	return r;
}

/* E8 and a distance; or FF /2 with a register, or memory with nothing, a SIB byte, 1 or 4 bytes of
 * displacement, or both (SDM volume 2, CALL). */
bool arch_unwind_after_call(const uint8_t code[ARCH_CALL_BYTES])
{
	if (code[ARCH_CALL_BYTES - 5] == 0xe8)
		return true;
	for (unsigned len = 2; len <= 7; len++) {
		uint8_t modrm = code[ARCH_CALL_BYTES - len + 1];
		uint8_t mod = modrm >> 6, base = modrm & 7;
		unsigned wants = 2;

		if (code[ARCH_CALL_BYTES - len] != 0xff || (modrm >> 3 & 7) != 2)
			continue;
		if (mod != 3) {
			if (base == 4 && len > 2) {
				wants++;
				base = code[ARCH_CALL_BYTES - len + 2] & 7;
			}
			wants += mod == 1 ? 1 : mod == 2 || (mod == 0 && base == 5) ? 4 : 0;
		}
		if (wants == len)
			return true;
	}
	return false;
}
