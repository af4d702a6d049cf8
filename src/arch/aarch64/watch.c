/* Watchpoints by DBGWVR and DBGWCR (ARM ARM D2.8). They trap before the store, so that one
 * instruction has to be stepped with the slot not armed. vCPU thread. */
#include "arch/aarch64/watch.h"

#include "arch/aarch64/machine.h"
#include "base/util.h"

bool arch_kernel_address(uint64_t gva)
{
	return gva >> 63;
}

int arch_vcpu_watch(int vcpu_fd, const struct arch_watch watch[ARCH_WATCHES],
		    enum arch_watch_how how, const struct kvm_run *run UNUSED)
{
	struct kvm_guest_debug debug = {0};

	for (unsigned n = 0; n < ARCH_WATCHES; n++) {
		if (!watch[n].bytes)
			continue;
		debug.arch.dbg_wvr[n] = watch_value(watch[n].gva);
		debug.arch.dbg_wcr[n] = watch_control(watch[n].gva, watch[n].bytes);
		debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW;
	}
	if (how == ARCH_WATCH_STEP)
		debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
	/* The guest's own exceptions are not taken from it. */
	return kvm_ioctl(vcpu_fd, KVM_SET_GUEST_DEBUG, &debug);
}

enum arch_debug arch_exit_debug(const struct kvm_run *run,
				const struct arch_watch watch[ARCH_WATCHES], uint32_t *ret_slots)
{
	return watch_debug(run->debug.arch.hsr, run->debug.arch.far, watch, ret_slots);
}
