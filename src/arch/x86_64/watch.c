/* Watchpoints by the debug registers DR0 to DR3 (SDM vol. 3, 18.2). They trap after the store.
 * vCPU thread. */
#include <errno.h>

#include "arch/x86_64/machine.h"
#include "base/util.h"

#define DB_VECTOR     1
#define DR7_FIXED     0x400u		/* bit 10 is always set */
#define DR7_EXACT     0x300u		/* LE and GE, which old processors want */
#define DR7_ENABLE(n) (2u << (2 * (n))) /* Gn */
#define DR7_SHIFT(n)  (16u + 4u * (n))	/* RWn and LENn */
#define DR7_WRITES    1u
#define DR6_SLOTS     0xfu
#define DR6_GUEST     0xe000u /* BD, BS, BT: no watch sets them, and nobody here steps */

unsigned arch_watches(const struct kvm *kvm UNUSED)
{
	return ARCH_WATCHES; /* DR0 to DR3 */
}

bool arch_kernel_address(uint64_t gva)
{
	return gva >> 63;
}

/* LENn: 1, 2, 8, 4 bytes are 0 to 3. */
static uint64_t control_bits(const struct arch_watch *watch, unsigned slot)
{
	uint64_t len = watch->bytes == 8 ? 2 : watch->bytes - 1;

	return DR7_ENABLE(slot) | (len << 2 | DR7_WRITES) << DR7_SHIFT(slot);
}

int arch_vcpu_watch(int vcpu_fd, const struct arch_watch watch[ARCH_WATCHES],
		    enum arch_watch_how how, const struct kvm_run *run)
{
	struct kvm_guest_debug debug = {0};
	struct kvm_debugregs regs;
	uint64_t dr7 = 0;
	int r;

	for (unsigned n = 0; n < ARCH_WATCHES; n++) {
		if (!watch[n].bytes)
			continue;
		debug.arch.debugreg[n] = watch[n].gva;
		dr7 |= control_bits(&watch[n], n);
	}
	if (dr7) {
		debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
		debug.arch.debugreg[7] = dr7 | DR7_FIXED | DR7_EXACT;
	}
	if (how == ARCH_WATCH_STEP)
		debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
	if (how == ARCH_WATCH_PASS_ON) {
		/* What its handler will ask DR6 for. The slots are not its own. */
		r = kvm_ioctl(vcpu_fd, KVM_GET_DEBUGREGS, &regs);
		if (r < 0)
			return r;
		regs.dr6 |= run->debug.arch.dr6 & ~(uint64_t)DR6_SLOTS;
		r = kvm_ioctl(vcpu_fd, KVM_SET_DEBUGREGS, &regs);
		if (r < 0)
			return r;
		debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_INJECT_DB;
	}
	return kvm_ioctl(vcpu_fd, KVM_SET_GUEST_DEBUG, &debug);
}

enum arch_debug arch_exit_debug(const struct kvm_run *run,
				const struct arch_watch watch[ARCH_WATCHES], uint32_t *ret_slots,
				uint32_t *ret_sure)
{
	uint32_t slots = 0;

	/* A bit may be set for a register that is not enabled (SDM vol. 3, 18.2.3). */
	for (unsigned n = 0; n < ARCH_WATCHES; n++)
		if (watch[n].bytes && run->debug.arch.dr6 & DR6_SLOTS & 1u << n)
			slots |= 1u << n;
	*ret_slots = *ret_sure = slots;
	/* One exception for both: what is its own would be lost (SDM vol. 3, 18.3.1.4). */
	if (slots && run->debug.arch.exception == DB_VECTOR && run->debug.arch.dr6 & DR6_GUEST)
		return ARCH_DEBUG_STORED_AND_GUEST;
	return slots || run->debug.arch.exception != DB_VECTOR ? ARCH_DEBUG_STORED
							       : ARCH_DEBUG_GUEST;
}

/* Traps come after the store: there is nothing to do for it. */
int arch_vcpu_store(int vcpu_fd UNUSED, const struct guest_memory *mem UNUSED,
		    struct arch_store *ret_store UNUSED)
{
	return -EOPNOTSUPP;
}

bool arch_vcpu_store_done(int vcpu_fd UNUSED, const struct arch_store *store UNUSED)
{
	return true;
}

int arch_vcpu_store_end(int vcpu_fd UNUSED, const struct arch_store *store UNUSED,
			bool stored UNUSED)
{
	return -EOPNOTSUPP;
}
