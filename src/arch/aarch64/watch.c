/* Watchpoints by DBGWVR and DBGWCR (ARM ARM D2.8). They trap before the store, so that one
 * instruction has to be stepped with the slot not armed. vCPU thread. */
#include "arch/aarch64/machine.h"
#include "arch/aarch64/regs.h"
#include "base/util.h"

/* FAR is any of the addresses that the instruction stores to (ARM ARM D2.8.8): the longest store,
 * DC ZVA, has so many bytes on common processors. */
#define STORE_MAX 64u

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

static bool within(uint64_t far, const struct arch_watch *watch, uint64_t margin)
{
	uint64_t first = watch_value(watch->gva) - margin;

	return watch->bytes && far - first < WATCH_BLOCK + 2 * margin;
}

enum arch_debug arch_exit_debug(const struct kvm_run *run,
				const struct arch_watch watch[ARCH_WATCHES], uint32_t *ret_slots)
{
	uint32_t class = ESR_CLASS(run->debug.arch.hsr), exact = 0, near = 0;

	for (unsigned n = 0; n < ARCH_WATCHES; n++) {
		exact |= (uint32_t)within(run->debug.arch.far, &watch[n], 0) << n;
		near |= (uint32_t)within(run->debug.arch.far, &watch[n], STORE_MAX) << n;
	}
	*ret_slots = 0;
	if (class == ESR_CLASS_STEP_LOWER)
		return ARCH_DEBUG_STEPPED;
	/* Another slot that the same instruction stores to traps in the step. */
	if (class == ESR_CLASS_WATCH_LOWER)
		*ret_slots = exact ? exact : near;
	return ARCH_DEBUG_STORING;
}
