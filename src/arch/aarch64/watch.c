/* Watchpoints by DBGWVR and DBGWCR (ARM ARM D2.8). They trap before the store, so that one
 * instruction has to be stepped with the slot not armed. vCPU thread. */
#include "arch/aarch64/watch.h"

#include "arch/aarch64/machine.h"
#include "arch/aarch64/regs.h"
#include "base/util.h"

bool arch_kernel_address(uint64_t gva)
{
	return gva >> 63;
}

struct reg {
	uint64_t id, value;
};

static int registers(int fd, unsigned long request, struct reg *regs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct kvm_one_reg one = {.id = regs[i].id, .addr = (uintptr_t)&regs[i].value};
		int r = kvm_ioctl(fd, request, &one);

		if (r < 0)
			return r;
	}
	return 0;
}

/* KVM takes each of the guest's breakpoint instructions from it while it is watched, WARN's and
 * BUG's among them: here it gets the exception that they are. */
static int take_breakpoint(int fd, const struct kvm_run *run)
{
	enum { PC, PSTATE, VBAR, SCTLR };
	struct reg is[] = {[PC] = {.id = REG_PC},
			   [PSTATE] = {.id = REG_PSTATE},
			   [VBAR] = {.id = REG_VBAR_EL1},
			   [SCTLR] = {.id = REG_SCTLR_EL1}};
	int r = registers(fd, KVM_GET_ONE_REG, is, ARRAY_SIZE(is));
	struct reg then[] = {
		{REG_ELR_EL1, is[PC].value},
		{REG_SPSR_EL1, is[PSTATE].value},
		{REG_ESR_EL1, run->debug.arch.hsr},
		{REG_PSTATE, exception_pstate(is[PSTATE].value, is[SCTLR].value)},
		{REG_PC, exception_vector(is[VBAR].value, is[PSTATE].value)},
	};

	return r < 0 ? r : registers(fd, KVM_SET_ONE_REG, then, ARRAY_SIZE(then));
}

int arch_vcpu_watch(int vcpu_fd, const struct arch_watch watch[ARCH_WATCHES],
		    enum arch_watch_how how, const struct kvm_run *run)
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
	if (how == ARCH_WATCH_PASS_ON) {
		int r = take_breakpoint(vcpu_fd, run);

		if (r < 0)
			return r;
	}
	return kvm_ioctl(vcpu_fd, KVM_SET_GUEST_DEBUG, &debug);
}

enum arch_debug arch_exit_debug(const struct kvm_run *run,
				const struct arch_watch watch[ARCH_WATCHES], uint32_t *ret_slots)
{
	return watch_debug(run->debug.arch.hsr, run->debug.arch.far, watch, ret_slots);
}
