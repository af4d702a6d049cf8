/* The host's check, and VM set-up around its vCPUs. Control thread. */
#include "arch/aarch64/machine.h"

#include <errno.h>
#include <stdlib.h>

#include "base/util.h"

const char arch_name[] = "aarch64";
const char arch_kvm_hint[] = "a kernel with CONFIG_KVM has it if it was started at EL2";

static const struct kvm_need needs[] = {
	{KVM_CAP_IOEVENTFD, "IOEVENTFD"},	{KVM_CAP_IRQFD, "IRQFD"},
	{KVM_CAP_IRQ_ROUTING, "IRQ_ROUTING"},	{KVM_CAP_USER_MEMORY, "USER_MEMORY"},
	{KVM_CAP_ONE_REG, "ONE_REG"},		{KVM_CAP_DEVICE_CTRL, "DEVICE_CTRL"},
	{KVM_CAP_ARM_PSCI_0_2, "ARM_PSCI_0_2"}, {KVM_CAP_MP_STATE, "MP_STATE"},
};

int arch_host_check(struct kvm *kvm, unsigned *ret_phys_bits, struct error *err)
{
	int r = kvm_require(kvm, needs, ARRAY_SIZE(needs), err);

	if (r < 0)
		return r;
	kvm->phys_bits = (unsigned)kvm_cap(kvm, KVM_CAP_ARM_VM_IPA_SIZE);
	*ret_phys_bits = kvm->phys_bits ?: IPA_BITS_DEFAULT;
	return 0;
}

/* What every vCPU is asked to have, of what this host has. */
static void choose_features(struct arch_vm *vm)
{
	const struct kvm *kvm = vm->kvm;
	uint32_t features = 1u << KVM_ARM_VCPU_PSCI_0_2;

	vm->has_stolen = kvm_cap(kvm, KVM_CAP_STEAL_TIME) > 0;
	if (kvm_cap(kvm, KVM_CAP_ARM_PMU_V3) > 0)
		features |= 1u << KVM_ARM_VCPU_PMU_V3;
	if (kvm_cap(kvm, KVM_CAP_ARM_SVE) > 0)
		features |= 1u << KVM_ARM_VCPU_SVE;
	/* Both or neither (KVM API, 4.82). */
	if (kvm_cap(kvm, KVM_CAP_ARM_PTRAUTH_ADDRESS) > 0 &&
	    kvm_cap(kvm, KVM_CAP_ARM_PTRAUTH_GENERIC) > 0)
		features |= 1u << KVM_ARM_VCPU_PTRAUTH_ADDRESS | 1u << KVM_ARM_VCPU_PTRAUTH_GENERIC;
	cpu_features(vm, features);
}

int arch_vm_new(struct kvm *kvm, struct guest_memory *mem, const struct arch_vm_config *config,
		struct arch_vm **ret_vm, struct error *err)
{
	unsigned vcpus = topology_vcpus(config->topology);
	struct kvm_vcpu_init preferred = {0};
	struct guest_layout layout;
	struct arch_vm *vm;
	int r;

	if (vcpus > GIC_MAX_VCPUS)
		return error_contention(err, "%u vCPUs are more than the %u of KVM on arm64", vcpus,
					GIC_MAX_VCPUS);
	vm = calloc(1, sizeof(*vm));
	if (!vm)
		return error_set(err, -ENOMEM, "making the machine");
	vm->kvm = kvm;
	vm->mem = mem;
	vm->topology = config->topology;
	vm->gic_fd = -1;
	choose_features(vm);
	if (!vm->has_stolen)
		log_info("this host's KVM has no stolen time; the guest goes without");
	layout_of(mem, &layout);
	r = ram_plan(&layout, vm->has_stolen, &vm->plan, err);
	if (r < 0)
		goto fail;
	r = kvm_ioctl(kvm->vm_fd, KVM_ARM_PREFERRED_TARGET, &preferred);
	if (r < 0) {
		error_set(err, r, "asking KVM for its preferred CPU");
		goto fail;
	}
	vm->target = preferred.target;
	vm->has_abort = kvm_cap(kvm, KVM_CAP_ARM_INJECT_EXT_DABT) > 0;
	/* An access that can't be taken apart is then an exit that says so, not ENOSYS. */
	if (kvm_cap(kvm, KVM_CAP_ARM_NISV_TO_USER) > 0) {
		r = kvm_enable_cap(kvm, KVM_CAP_ARM_NISV_TO_USER, 0);
		if (r < 0) {
			error_set(err, r, "asking KVM for accesses without a syndrome");
			goto fail;
		}
	}
	r = kvm_set_halt_poll(kvm, config->halt_poll_ns, err);
	if (r < 0)
		goto fail;
	*ret_vm = vm;
	return 0;
fail:
	arch_vm_free(vm);
	return r;
}

int arch_vm_vcpus_created(struct arch_vm *vm, struct error *err)
{
	int r = freeze_set_offset(vm, err);

	return r < 0 ? r : gic_create(vm, err);
}

void arch_vm_free(struct arch_vm *vm)
{
	if (!vm)
		return;
	fd_close(&vm->gic_fd);
	free(vm->restored_gic);
	free(vm);
}
