/* Numbers that KVM and the architecture fix: register ids, MPIDR, interrupts, caches.
 * Pure. Written out here, because other machines' kernel headers lack them; cpu.c holds them to
 * the kernel's own. Any thread. */
#ifndef STASIS_ARCH_AARCH64_REGS_H
#define STASIS_ARCH_AARCH64_REGS_H

#include "guest/topology.h"

/* KVM API, 4.68 (KVM_SET_ONE_REG): | arch 63:56 | size 55:52 | … | group 27:16 | index 15:0 | */
#define REG_ARM64	  UINT64_C(0x6000000000000000)
#define REG_SIZE_U32	  UINT64_C(0x0020000000000000)
#define REG_SIZE_U64	  UINT64_C(0x0030000000000000)
#define REG_GROUP_CORE	  UINT64_C(0x00100000)
#define REG_GROUP_CCSIDR  UINT64_C(0x00110000)
#define REG_GROUP_SYSREG  UINT64_C(0x00130000)
#define REG_CORE(word32)  (REG_ARM64 | REG_SIZE_U64 | REG_GROUP_CORE | (word32))
#define REG_CCSIDR(which) (REG_ARM64 | REG_SIZE_U32 | REG_GROUP_CCSIDR | (which))
/* | op0 15:14 | op1 13:11 | CRn 10:7 | CRm 6:3 | op2 2:0 | */
#define REG_SYS(op0, op1, crn, crm, op2)                                                           \
	(REG_ARM64 | REG_SIZE_U64 | REG_GROUP_SYSREG | (uint64_t)(op0) << 14 |                     \
	 (uint64_t)(op1) << 11 | (uint64_t)(crn) << 7 | (uint64_t)(crm) << 3 | (uint64_t)(op2))

/* struct kvm_regs in words of 32 bits: x0…x30, sp (EL0's), pc, pstate, sp_el1. */
#define REG_X(n)     REG_CORE(2u * (n))
#define REG_SP_EL0   REG_CORE(62)
#define REG_PC	     REG_CORE(64)
#define REG_PSTATE   REG_CORE(66)
#define REG_SP_EL1   REG_CORE(68)
#define REG_ELR_EL1  REG_CORE(70)
#define REG_SPSR_EL1 REG_CORE(72)

#define REG_MPIDR_EL1 REG_SYS(3, 0, 0, 0, 5)
#define REG_SCTLR_EL1 REG_SYS(3, 0, 1, 0, 0)
#define REG_TTBR0_EL1 REG_SYS(3, 0, 2, 0, 0)
#define REG_TTBR1_EL1 REG_SYS(3, 0, 2, 0, 1)
#define REG_TCR_EL1   REG_SYS(3, 0, 2, 0, 2)
#define REG_ESR_EL1   REG_SYS(3, 0, 5, 2, 0)
#define REG_VBAR_EL1  REG_SYS(3, 0, 12, 0, 0)
#define REG_CLIDR_EL1 REG_SYS(3, 1, 0, 0, 1)

/* ARM ARM, C5.2.2: | 3:2 exception level | 0 SP: the level's own stack pointer |; EL1h and EL0t. */
#define PSTATE_USES_SP_EL1(p) (((p)&15) == 5)
#define PSTATE_IS_AARCH32(p)  (((p) >> 4 & 1) != 0)
#define PSTATE_EL1H	      UINT64_C(5)
#define PSTATE_MASKED	      UINT64_C(0x3c0) /* D, A, I, F */

/* What taking a synchronous exception to EL1 makes of a vCPU (ARM ARM, D1.3.1 and D1.3.5). Kept:
 * the conditions (31:28), DIT 24 and TCO 25; PAN 22 is set unless SCTLR_EL1.SPAN (23) is, SSBS 12
 * is SCTLR_EL1.DSSBS (44). */
static inline uint64_t exception_pstate(uint64_t pstate, uint64_t sctlr)
{
	uint64_t kept = UINT64_C(0xf3400000), pan = ~sctlr >> 23 & 1, ssbs = sctlr >> 44 & 1;

	return (pstate & kept) | pan << 22 | ssbs << 12 | PSTATE_MASKED | PSTATE_EL1H;
}

/* D1.3.1.5: 16 vectors of 128 bytes; by where it is taken from. */
#define VECTORS_BYTES 2048u
static inline uint64_t exception_vector(uint64_t vbar, uint64_t pstate)
{
	if (pstate >> 4 & 1)
		return vbar + 0x600; /* AArch32 */
	if ((pstate >> 2 & 3) == 0)
		return vbar + 0x400; /* EL0 */
	return vbar + (pstate & 1 ? 0x200 : 0);
}

/* ARM ARM, D23.2.1: | 39:32 Aff3 | 31 RES1 | 30 U | 24 MT | 23:16 Aff2 | 15:8 Aff1 | 7:0 Aff0 | */
#define MPIDR_RES1     (UINT64_C(1) << 31)
#define MPIDR_AFFINITY UINT64_C(0xffffff)
#define AFF0_CPUS      16u

/* Affinity of vCPU index: its last-level cache's CPUs in groups of 16, groups numbered over all
 * caches in Aff1 and Aff2. An SGI names 16 CPUs by Aff0 (GICv3, ICC_SGI1R_EL1), each of which
 * costs one trap; Aff3 stays 0, because KVM's GICR_TYPER leaves it out. */
static inline uint64_t mpidr_affinity(const struct topology *t, unsigned index)
{
	unsigned cpus = t->cores_per_llc * t->threads_per_core;
	unsigned groups = (cpus + AFF0_CPUS - 1) / AFF0_CPUS;
	uint64_t group = index / cpus * groups + index % cpus / AFF0_CPUS;

	return group << 8 | index % cpus % AFF0_CPUS;
}

/* The vCPU whose MPIDR KVM makes so (arch/arm64/kvm/sys_regs.c, reset_mpidr): | Aff1 and up | 3:0
 * Aff0 |. */
static inline uint32_t mpidr_vcpu_id(uint64_t affinity)
{
	return (uint32_t)(affinity >> 8) * AFF0_CPUS | (affinity & 0xff);
}

/* TTBR1_EL1 (ARM ARM, D23.2): | 63:48 ASID | 47:6 the table | 5:2 its bits 51:48 or 0 | 0 CnP | */
static inline uint64_t ttbr_root(uint64_t ttbr)
{
	return (ttbr & UINT64_C(0x0000ffffffffffc0)) | (ttbr >> 2 & 0xf) << 48;
}

/* ---- interrupts --------------------------------------------------------------------------------
 */

/* GICv3, 2.2.1: PPIs are interrupts 16 to 31, SPIs 32 and up. */
#define PPI_INTID(ppi) (16u + (ppi))
#define SPI_INTID(spi) (32u + (spi))
#define PMU_PPI	       7u
/* Of the timer in a device tree (devicetree bindings, timer/arm,arch_timer). */
#define TIMER_PPI_SECURE     13u
#define TIMER_PPI_NON_SECURE 14u
#define TIMER_PPI_VIRTUAL    11u
#define TIMER_PPI_HYPERVISOR 10u

/* ---- caches
 * -------------------------------------------------------------------------------------- */

/* CLIDR_EL1 (ARM ARM, D23.2.27): Ctype<n> 3 bits each from bit 0 (3 separate, 4 unified), LoUIS
 * 23:21, LoC 26:24, LoUU 29:27: here L1 apart, L2 and L3 unified; level 3 is coherent. */
#define CLIDR_VALUE                                                                                \
	(UINT64_C(3) | UINT64_C(4) << 3 | UINT64_C(4) << 6 | UINT64_C(1) << 21 |                   \
	 UINT64_C(3) << 24 | UINT64_C(1) << 27)
/* Which cache, as CSSELR_EL1 has it: | Level - 1, 3:1 | InD 0 |. */
static inline uint32_t ccsidr_select(unsigned level, bool instructions)
{
	return (level - 1) << 1 | instructions;
}
/* CCSIDR_EL1 without FEAT_CCIDX: | NumSets - 1, 27:13 | Associativity - 1, 12:3 | log2(line) - 4 |
 */
static inline uint32_t ccsidr_value(uint32_t bytes, uint32_t ways, uint32_t line_bytes)
{
	uint32_t sets = bytes / (ways * line_bytes);

	return (sets - 1) << 13 | (ways - 1) << 3 | ((uint32_t)__builtin_ctz(line_bytes) - 4);
}

#endif
