/* Watchpoints: their registers, and what a debug exception says of them. Pure, so that it is tested
 * on every architecture. Any thread. */
#ifndef STASIS_ARCH_AARCH64_WATCH_H
#define STASIS_ARCH_AARCH64_WATCH_H

#include "arch/arch.h"

#define WATCH_BLOCK 8u

/* DBGWCR<n>_EL1 for a write watch of len bytes at gva, from EL1 and EL0 (ARM ARM, D23.3.11: E 0,
 * PAC 2:1, LSC 4:3, BAS 12:5), or 0 where one slot can't hold it: len is 1, 2, 4 or 8 and the
 * bytes lie in one aligned block of 8. DBGWVR<n>_EL1 is that block's address. */
static inline uint64_t watch_control(uint64_t gva, unsigned len)
{
	unsigned offset = (unsigned)(gva % WATCH_BLOCK);

	if ((len != 1 && len != 2 && len != 4 && len != 8) || offset + len > WATCH_BLOCK)
		return 0;
	return 1 | 3 << 1 | 2 << 3 | ((UINT64_C(1) << len) - 1) << offset << 5;
}

static inline uint64_t watch_value(uint64_t gva)
{
	return gva & ~(uint64_t)(WATCH_BLOCK - 1);
}

/* ESR_ELx.EC, bits 31:26 (ARM ARM, D23.2.40). */
#define ESR_CLASS(esr)	      ((uint32_t)(esr) >> 26 & 0x3f)
#define ESR_CLASS_STEP_LOWER  0x32u
#define ESR_CLASS_WATCH_LOWER 0x34u
#define ESR_CLASS_BKPT32      0x38u /* breakpoint instructions, from any level */
#define ESR_CLASS_BRK64	      0x3cu

/* FAR is any of the addresses that the instruction stores to (ARM ARM D2.8.8): the longest store,
 * DC ZVA, has so many bytes on common processors. */
#define WATCH_STORE_MAX 64u

/* From one address to another. The kernel's may have a tag in their top byte (KASAN_SW_TAGS). */
static inline uint64_t watch_distance(uint64_t from, uint64_t to)
{
	return (to - from) & (UINT64_MAX >> 8);
}

static inline bool watch_is_at(uint64_t far, const struct arch_watch *watch)
{
	return watch_distance(watch->gva, far) < watch->bytes;
}

static inline bool watch_is_near(uint64_t far, const struct arch_watch *watch)
{
	uint64_t first = watch_value(watch->gva) - WATCH_STORE_MAX;

	return watch->bytes && watch_distance(first, far) < WATCH_BLOCK + 2 * WATCH_STORE_MAX;
}

/* arch_exit_debug, by ESR_EL2 and FAR_EL2. Another slot that the same instruction stores to traps
 * in the step. What is sure: slots that FAR lies in, or the one that there is near it; of several
 * near ones, any may be meant. */
static inline enum arch_debug watch_debug(uint64_t esr, uint64_t far,
					  const struct arch_watch watch[ARCH_WATCHES],
					  uint32_t *ret_slots, uint32_t *ret_sure)
{
	uint32_t at = 0, near = 0, armed = 0, slots;

	*ret_slots = *ret_sure = 0;
	if (ESR_CLASS(esr) == ESR_CLASS_STEP_LOWER)
		return ARCH_DEBUG_STEPPED;
	if (ESR_CLASS(esr) == ESR_CLASS_BRK64 || ESR_CLASS(esr) == ESR_CLASS_BKPT32)
		return ARCH_DEBUG_GUEST;
	for (unsigned n = 0; n < ARCH_WATCHES; n++) {
		armed |= (uint32_t)(watch[n].bytes != 0) << n;
		at |= (uint32_t)watch_is_at(far, &watch[n]) << n;
		near |= (uint32_t)watch_is_near(far, &watch[n]) << n;
	}
	if (ESR_CLASS(esr) == ESR_CLASS_WATCH_LOWER) {
		/* Some slot it was: with none to step over, it would trap for ever. */
		slots = at ? at : near ? near : armed;
		*ret_slots = slots;
		*ret_sure = at || !(slots & (slots - 1)) ? slots : 0;
	}
	return ARCH_DEBUG_STORING;
}

/* STXR, STLXR and their kin of 1 to 4 bytes (ARM ARM, C4.1.94, "Load/store exclusive register"):
 * | 31:30 log2(bytes) | 29:21 001000000 | 20:16 status | 15 release | 14:10 ones | 9:5 base | 4:0
 * value | and of two registers, STXP, STLXP ("Load/store exclusive pair"): | 31 1 | 30 of 8 bytes
 * each, else of 4 | 29:21 001000001 | … | 14:10 second | … */
struct exclusive_insn {
	unsigned bytes, status, base, value; /* numbers of registers; 31: zero, or (base) SP */
	unsigned second;		     /* the upper half; 31 where there is none */
	bool pair;
};

static inline bool exclusive_decode(uint32_t insn, struct exclusive_insn *ret)
{
	bool pair = (insn & 0xbfe00000) == 0x88200000;

	if (!pair && (insn & 0x3fe07c00) != 0x08007c00)
		return false;
	*ret = (struct exclusive_insn){.bytes = pair ? 8u << (insn >> 30 & 1) : 1u << (insn >> 30),
				       .status = insn >> 16 & 31,
				       .base = insn >> 5 & 31,
				       .value = insn & 31,
				       .second = insn >> 10 & 31,
				       .pair = pair};
	return true;
}

#endif
