/* Small guests that are run to find out what a KVM does; they may hang. Private to src/arch. Any
 * thread without vCPUs of its own. */
#ifndef STASIS_ARCH_PROBE_GUEST_H
#define STASIS_ARCH_PROBE_GUEST_H

#include "arch/kvm.h"

struct probe_guest {
	unsigned long type; /* kvm_create_vm's */
	uint64_t ram_gpa;
	size_t ram_size; /* bytes */
	void (*fill)(uint8_t *ram);
	/* The only vCPU's registers, and what else it needs. Negative errno. */
	int (*set_up)(const struct kvm *vm, int vcpu, void *arg);
	/* After each KVM_RUN that returned 0: true to run on. */
	bool (*step)(const struct kvm_run *run, void *arg);
	void *arg;
};

/* Runs it until step is false, it fails, or PROBE_LIMIT_S are over: what step has seen says which.
 * For that time SIGALRM is its. kvm is open; the VM is the guest's own. An error: it could not be
 * made. */
#define PROBE_LIMIT_S 2
int probe_guest_run(const struct kvm *kvm, const struct probe_guest *guest,
		    struct error *err) MUST_CHECK;

#endif
