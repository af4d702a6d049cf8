/* Probe guests that may hang: a vCPU run under an alarm. Private to src/arch. */
#ifndef STASIS_ARCH_PROBE_LIMIT_H
#define STASIS_ARCH_PROBE_LIMIT_H

#include <linux/kvm.h>

#include "base/compiler.h"

/* Calls step after each KVM_RUN that returned 0, until it returns a number of 0 or more, the guest
 * fails or PROBE_LIMIT_S are over; returns that number, else -1. For that time SIGALRM is its. Any
 * thread without vCPUs of its own. */
#define PROBE_LIMIT_S 2
int probe_run(int vcpu, const struct kvm_run *run,
	      int (*step)(const struct kvm_run *run, void *arg), void *arg) MUST_CHECK;

#endif
