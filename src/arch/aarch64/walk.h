/* The tables as a vCPU has them. Pure. Any thread. */
#ifndef STASIS_ARCH_AARCH64_WALK_H
#define STASIS_ARCH_AARCH64_WALK_H

#include "arch/arch.h"

/* By TTBR1_EL1 and TCR_EL1. -ENOENT: paging is off, or not understood. */
int paging_of(uint64_t ttbr1, uint64_t tcr, struct arch_paging *ret_paging) MUST_CHECK;
/* The lower half's, by TTBR0_EL1: user space's while a vCPU is there. -ENOENT as above, or they are
 * turned off. */
int user_paging_of(uint64_t ttbr0, uint64_t tcr, struct arch_paging *ret_paging) MUST_CHECK;

#endif
