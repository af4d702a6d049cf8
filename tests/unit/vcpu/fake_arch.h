/* Stands in for src/arch in the tests of src/vcpu: guests of a few real-mode instructions. */
#ifndef STASIS_TEST_FAKE_ARCH_H
#define STASIS_TEST_FAKE_ARCH_H

#include "vcpu/vcpu.h"

#define FAKE_RAM_BYTES	 0x10000u
#define FAKE_VCPUS_MAX	 1024
#define FAKE_CLOCK_GPA	 0x8010u
#define FAKE_CLOCK_SHIFT 16
/* Where a program is, and how long it can be. */
#define FAKE_PROGRAM_GPA(program) (0x1000u + 0x100u * (unsigned)(program))
#define FAKE_PROGRAM_BYTES	  32u

/* What a vCPU does. */
enum fake_program {
	FAKE_SPIN,     /* jumps to itself */
	FAKE_HALT,     /* halts in the kernel, interrupts off */
	FAKE_WRITES,   /* posts AL to port 0x10, 1, 2, 3 … */
	FAKE_ECHO,     /* reads port 0x30, adds 3, writes it there */
	FAKE_LEADER,   /* writes n to port 0x10, tells the follower by memory, waits for it */
	FAKE_FOLLOWER, /* … which then writes n to port 0x11 */
	FAKE_NMI,      /* halts; each NMI writes 'N' to port 0x20 */
	FAKE_CLOCK,    /* keeps 32 bits of its TSC, from FAKE_CLOCK_SHIFT on, at FAKE_CLOCK_GPA */
	FAKE_WAITS,    /* not a program: waits for its start-up IPI */
	FAKE_BROKEN,   /* set-up replaces the descriptor, so that KVM_RUN fails */
	FAKE_REFUSED,  /* set-up fails */
};

struct arch_vm {
	uint8_t *ram;
	enum fake_program program[FAKE_VCPUS_MAX];
};

#ifndef FAKE_ARCH_REAL_FREEZE
/* A parked vCPU's registers. With the macro, src/arch's own are linked. */
struct arch_vcpu_state {
	struct kvm_regs regs;
	struct kvm_mp_state mp;
	uint64_t captures; /* by its thread */
	uint64_t resumes;
};
/* What captures return. */
extern _Atomic int fake_capture_result;
/* Whether interrupts of a halted vCPU count as off. */
extern bool fake_deaf;
#endif

/* 0: ids are the indexes; else every id. */
extern uint32_t fake_vcpu_id;
/* Whether all but the first wait in KVM_RUN to be started: arch_vcpu_waits. */
extern bool fake_waits;

/* Opens /dev/kvm, makes a VM with its irqchip in the kernel and FAKE_RAM_BYTES of RAM. Aborts on
 * any failure: the test's main has checked for /dev/kvm. */
void fake_vm_open(struct kvm *kvm, struct arch_vm *vm);
void fake_vm_close(struct kvm *kvm, struct arch_vm *vm);

#endif
