/* A vCPU before its first KVM_RUN: features, MPIDR, caches, PMU, stolen time, and the boot
 * registers of the first. vCPU thread; of the struct arch_vm it writes its own entry of vcpu_fd,
 * and the counter's offset, which is vCPU 0's to note. */
#include <errno.h>

#include "arch/aarch64/machine.h"
#include "arch/aarch64/regs.h"

/* regs.h has its own words for these, because it is read on other machines, too. */
_Static_assert(REG_PC == (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE |
			  KVM_REG_ARM_CORE_REG(regs.pc)),
	       "PC");
_Static_assert(REG_X(3) == (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE |
			    KVM_REG_ARM_CORE_REG(regs.regs[3])),
	       "X3");
_Static_assert(REG_PSTATE == (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE |
			      KVM_REG_ARM_CORE_REG(regs.pstate)),
	       "PSTATE");
_Static_assert(REG_SP_EL1 == (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE |
			      KVM_REG_ARM_CORE_REG(sp_el1)),
	       "SP_EL1");
_Static_assert(REG_ELR_EL1 == (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE |
			       KVM_REG_ARM_CORE_REG(elr_el1)),
	       "ELR_EL1");
_Static_assert(REG_SPSR_EL1 == (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE |
				KVM_REG_ARM_CORE_REG(spsr[KVM_SPSR_EL1])),
	       "SPSR_EL1");
_Static_assert(REG_MPIDR_EL1 == ARM64_SYS_REG(3, 0, 0, 0, 5), "MPIDR_EL1");
_Static_assert(REG_TCR_EL1 == ARM64_SYS_REG(3, 0, 2, 0, 2), "TCR_EL1");
_Static_assert(REG_CCSIDR(0) == (KVM_REG_ARM64 | KVM_REG_SIZE_U32 | KVM_REG_ARM_DEMUX |
				 KVM_REG_ARM_DEMUX_ID_CCSIDR),
	       "CCSIDR");

static int init(const struct arch_vm *vm, unsigned index, int fd)
{
	struct kvm_vcpu_init vcpu = {
		.target = vm->target,
		.features = {vm->features | (index > 0 ? 1u << KVM_ARM_VCPU_POWER_OFF : 0)},
	};
	int sve = KVM_ARM_VCPU_SVE, r = kvm_ioctl(fd, KVM_ARM_VCPU_INIT, &vcpu);

	/* KVM takes lengths until then, and all other registers of SVE after it. */
	if (r == 0 && vm->has_sve && vm->has_lengths)
		r = register_set(fd, KVM_REG_ARM64_SVE_VLS, vm->sve_lengths);
	if (r == 0 && vm->has_sve)
		r = kvm_ioctl(fd, KVM_ARM_VCPU_FINALIZE, &sve);
	return r;
}

/* As the device tree says. KVM before Linux 6.3 shows the host's own caches, and takes no others:
 * Linux believes the device tree, so that is no failure. */
static int set_caches(int fd)
{
	uint64_t clidr = CLIDR_VALUE;
	int r = register_set(fd, REG_CLIDR_EL1, &clidr);

	for (unsigned i = 0; r == 0 && i < arch_cache_count; i++) {
		const struct arch_cache *c = &arch_caches[i];
		uint32_t value = ccsidr_value(c->bytes, c->ways, c->line_bytes);

		r = register_set(fd, REG_CCSIDR(ccsidr_select(c->level, c->type == 'i')), &value);
	}
	return r == -EINVAL ? 0 : r;
}

/* KVM's device attributes of a vCPU: the interrupt first, then INIT, after the GIC's. */
static int set_pmu(int fd)
{
	int intid = PPI_INTID(PMU_PPI);
	int r = kvm_set_attr(fd, KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PMU_V3_IRQ, &intid);

	return r < 0 ? r
		     : kvm_set_attr(fd, KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PMU_V3_INIT, NULL);
}

static int set_stolen_time(const struct arch_vm *vm, unsigned index, int fd)
{
	uint64_t gpa = vm->plan.stolen_gpa + index * STOLEN_SLOT;

	return kvm_set_attr(fd, KVM_ARM_VCPU_PVTIME_CTRL, KVM_ARM_VCPU_PVTIME_IPA, &gpa);
}

/* booting.rst, "Call the kernel image": EL1, all masked, MMU off as after reset, x0 the tree. */
static int set_entry(const struct arch_vm *vm, int fd)
{
	uint64_t pstate = PSTATE_EL1H | PSTATE_MASKED;
	int r = register_set(fd, REG_PSTATE, &pstate);

	if (r == 0)
		r = register_set(fd, REG_PC, &vm->entry_gpa);
	return r < 0 ? r : register_set(fd, REG_X(0), &vm->plan.fdt_gpa);
}

int cpu_abort(const struct arch_vm *vm, unsigned index)
{
	struct kvm_vcpu_events events = {.exception.ext_dabt_pending = 1};

	return kvm_ioctl(vm->vcpu_fd[index], KVM_SET_VCPU_EVENTS, &events);
}

void cpu_features(struct arch_vm *vm, uint32_t features)
{
	vm->features = features;
	vm->has_pmu = features >> KVM_ARM_VCPU_PMU_V3 & 1;
	vm->has_sve = features >> KVM_ARM_VCPU_SVE & 1;
}

int cpu_init(struct arch_vm *vm, unsigned index, int vcpu_fd, struct error *err)
{
	uint64_t mpidr = MPIDR_RES1 | mpidr_affinity(vm->topology, index);
	int r = init(vm, index, vcpu_fd);

	vm->vcpu_fd[index] = vcpu_fd;
	if (r < 0)
		return error_set_shortage(err, r, "initialising vCPU %u", index);
	r = register_set(vcpu_fd, REG_MPIDR_EL1, &mpidr);
	if (r < 0)
		return error_set(err, r, "setting MPIDR_EL1 of vCPU %u", index);
	r = set_caches(vcpu_fd);
	if (r < 0)
		return error_set_shortage(err, r, "setting the caches of vCPU %u", index);
	if (vm->has_pmu) {
		r = set_pmu(vcpu_fd);
		if (r < 0)
			return error_set_shortage(err, r, "setting up the PMU of vCPU %u", index);
	}
	if (vm->plan.stolen_gpa) {
		r = set_stolen_time(vm, index, vcpu_fd);
		if (r < 0)
			return error_set_shortage(err, r, "setting up the stolen time of vCPU %u",
						  index);
	}
	return 0;
}

int arch_vcpu_setup(struct arch_vm *vm, unsigned index, int vcpu_fd, struct error *err)
{
	int r = cpu_init(vm, index, vcpu_fd, err);

	/* The others are powered off, and wait for PSCI's CPU_ON. */
	if (r < 0 || index > 0)
		return r;
	r = set_entry(vm, vcpu_fd);
	if (r == 0)
		r = freeze_note_offset(vm, vcpu_fd);
	return r < 0 ? error_set(err, r, "setting the registers of vCPU %u", index) : 0;
}

/* The first KVM_RUN of any settles the GIC and the table of all MPIDRs (Linux,
 * arch/arm64/kvm/arm.c: kvm_arch_vcpu_run_pid_change), so all have to be set up. */
bool arch_vcpu_waits(unsigned index UNUSED)
{
	return false;
}
