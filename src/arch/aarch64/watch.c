/* Watchpoints by DBGWVR and DBGWCR (ARM ARM D2.8). They trap before the store, so that one
 * instruction has to be stepped with the slot not armed. vCPU thread. */
#include "arch/aarch64/watch.h"

#include <errno.h>

#include "arch/aarch64/machine.h"
#include "arch/aarch64/regs.h"
#include "arch/aarch64/walk.h"
#include "base/util.h"

/* ID_AA64DFR0_EL1.WRPs: a CPU has 2 to 16. */
unsigned arch_watches(const struct kvm *kvm)
{
	return MIN((unsigned)kvm_cap(kvm, KVM_CAP_GUEST_DEBUG_HW_WPS), (unsigned)ARCH_WATCHES);
}

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
	unsigned used = 0;

	/* Without USE_HW the guest's own debug registers would be in force, and could end each step
	 * before it begins. */
	if (how == ARCH_WATCH_STEP)
		debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW | KVM_GUESTDBG_SINGLESTEP;

	/* The first registers, whichever slots: there may be fewer of them. */
	for (unsigned n = 0; n < ARCH_WATCHES; n++) {
		if (!watch[n].bytes)
			continue;
		debug.arch.dbg_wvr[used] = watch_value(watch[n].gva);
		debug.arch.dbg_wcr[used++] = watch_control(watch[n].gva, watch[n].bytes);
		debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW;
	}
	if (how == ARCH_WATCH_PASS_ON) {
		int r = take_breakpoint(vcpu_fd, run);

		if (r < 0)
			return r;
	}
	return kvm_ioctl(vcpu_fd, KVM_SET_GUEST_DEBUG, &debug);
}

enum arch_debug arch_exit_debug(const struct kvm_run *run,
				const struct arch_watch watch[ARCH_WATCHES], uint32_t *ret_slots,
				uint32_t *ret_sure)
{
	return watch_debug(run->debug.arch.hsr, run->debug.arch.far, watch, ret_slots, ret_sure);
}

/* ---- the store itself -------------------------------------------------------------------------
 */

#define INSN_BYTES 4u
#define ZR	   31u

static int get_register(int fd, uint64_t id, uint64_t *ret_value)
{
	struct reg r = {.id = id};
	int rc = registers(fd, KVM_GET_ONE_REG, &r, 1);

	if (rc == 0)
		*ret_value = r.value;
	return rc;
}

/* The kernel's own tables, as they are at this instruction. */
static int kernel_paging(int fd, struct arch_paging *ret_paging)
{
	struct reg is[] = {{.id = REG_TTBR1_EL1}, {.id = REG_TCR_EL1}};
	int r = registers(fd, KVM_GET_ONE_REG, is, ARRAY_SIZE(is));

	return r < 0 ? r : paging_of(is[0].value, is[1].value, ret_paging);
}

static int fetch(const struct arch_paging *paging, const struct guest_reader *reader, uint64_t pc,
		 uint32_t *ret_insn)
{
	uint64_t gpa, len;
	int r = arch_walk(paging, reader, pc, &gpa, &len);

	return r < 0 ? r : guest_reader_read(reader, gpa, ret_insn, sizeof(*ret_insn));
}

static int read_exclusive(int fd, uint32_t insn, struct arch_store *store)
{
	struct exclusive_insn e;
	uint64_t value = 0, second = 0;
	int r = 0;

	if (!exclusive_decode(insn, &e))
		return 0;
	store->exclusive = true;
	store->bytes = e.bytes;
	store->status = e.status;
	store->gva = store->context; /* SP */
	if (e.base != ZR)
		r = get_register(fd, REG_X(e.base), &store->gva);
	if (r == 0 && e.value != ZR)
		r = get_register(fd, REG_X(e.value), &value);
	if (r == 0 && e.second != ZR)
		r = get_register(fd, REG_X(e.second), &second);
	if (e.pair && e.bytes == 8)
		store->value = (uint32_t)value | second << 32;
	else
		store->value = value | (unsigned __int128)second << 64;
	return r;
}

int arch_vcpu_store(int vcpu_fd, const struct guest_memory *mem, struct arch_store *ret_store)
{
	enum { PC, PSTATE, SP_EL0, SP_EL1 };
	struct reg is[] = {[PC] = {.id = REG_PC},
			   [PSTATE] = {.id = REG_PSTATE},
			   [SP_EL0] = {.id = REG_SP_EL0},
			   [SP_EL1] = {.id = REG_SP_EL1}};
	int r = registers(vcpu_fd, KVM_GET_ONE_REG, is, ARRAY_SIZE(is));
	struct arch_store store = {.pc = is[PC].value};
	struct guest_reader reader;
	struct arch_paging paging;
	uint32_t insn;
	uint64_t len;

	if (r < 0)
		return r;
	store.context = PSTATE_USES_SP_EL1(is[PSTATE].value) ? is[SP_EL1].value : is[SP_EL0].value;
	guest_reader_init(&reader, mem);
	r = kernel_paging(vcpu_fd, &paging);
	if (r == 0)
		r = fetch(&paging, &reader, store.pc, &insn);
	if (r == 0)
		r = read_exclusive(vcpu_fd, insn, &store);
	/* Where it is now: since the watch was armed, its page may have become another. */
	if (r == 0 && store.exclusive)
		r = arch_walk(&paging, &reader, store.gva, &store.gpa, &len);
	if (r == 0)
		*ret_store = store;
	return r;
}

bool arch_vcpu_store_done(int vcpu_fd, const struct arch_store *store)
{
	enum { PC, ELR, VBAR };
	struct reg is[] =
		{[PC] = {.id = REG_PC}, [ELR] = {.id = REG_ELR_EL1}, [VBAR] = {.id = REG_VBAR_EL1}};

	if (registers(vcpu_fd, KVM_GET_ONE_REG, is, ARRAY_SIZE(is)) < 0)
		return true;
	/* Not where an exception came before it, and its handler will return there. KVM before
	 * Linux 6.1 may step once more, so where else the vCPU is says nothing. */
	return is[PC].value != store->pc &&
	       (is[ELR].value != store->pc || is[PC].value - is[VBAR].value >= VECTORS_BYTES);
}

int arch_vcpu_store_end(int vcpu_fd, const struct arch_store *store, bool stored)
{
	struct reg then[] = {{REG_PC, store->pc + INSN_BYTES},
			     {REG_X(store->status), stored ? 0 : 1}};

	return registers(vcpu_fd, KVM_SET_ONE_REG, then, store->status == ZR ? 1 : 2);
}
