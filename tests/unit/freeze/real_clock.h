/* x86's own clocks for a VM that fake_arch.c made: their struct arch_vm is not the fake's. */
#ifndef STASIS_TEST_REAL_CLOCK_H
#define STASIS_TEST_REAL_CLOCK_H

#include "arch/arch.h"

/* One at a time. */
struct arch_vm *real_clock_vm(struct kvm *kvm);

#endif
