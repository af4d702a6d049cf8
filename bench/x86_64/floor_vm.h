/* A VM made by the fewest system calls: what floors run their guests in. The threads are the
 * floors' own; all else is the main thread's. */
#ifndef STASIS_BENCH_FLOOR_VM_H
#define STASIS_BENCH_FLOOR_VM_H

#include <linux/kvm.h>
#include <pthread.h>

#include "bench.h"
#include "guest.h"

struct floor_vcpu {
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	struct guest_area *area;
};

struct floor_vm {
	int kvm_fd, fd;
	uint8_t *ram;
	size_t run_bytes;
	unsigned count;
	struct floor_vcpu *vcpu; /* owned */
};

/* With count vCPUs that begin program when they are run. On failure nothing is left. */
int floor_vm_open(struct floor_vm *vm, unsigned count, enum guest_program program,
		  struct error *err) MUST_CHECK;
/* No thread runs any more. Accepts one that isn't open (zeroed). */
void floor_vm_close(struct floor_vm *vm);

/* The parts, for floors that measure them. */
int floor_vm_create(struct floor_vm *vm, unsigned count, struct error *err) MUST_CHECK;
int floor_vcpu_create(struct floor_vm *vm, unsigned index, struct error *err) MUST_CHECK;
struct kvm_cpuid2 *floor_cpuid(int kvm_fd); /* malloc'ed, or NULL */
/* Tells of what a floor's thread found: failed is its negative errno, or -EPROTO where KVM made no
 * error and yet not what was asked of it, or the guest left by another exit than its program has.
 * Returns failed. */
int floor_failed(int failed, const char *doing, struct error *err);
/* KVM_GET_MSRS or KVM_SET_MSRS of one register. -EPROTO where KVM doesn't do it. Any thread. */
int floor_msr(int vcpu_fd, unsigned long request, uint32_t index, uint64_t *value) MUST_CHECK;

#endif
