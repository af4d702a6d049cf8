/* Snapshots: a vCPU's registers are whatever KVM_GET_REG_LIST names, but an interrupt controller's
 * are not saved yet, so that such a machine is refused. Each function's thread is in arch.h. */
#include "arch/aarch64/machine.h"

int arch_snapshot_check(const struct arch_vm *vm UNUSED, struct error *err)
{
	return error_usage(err, "a machine of aarch64 can't be snapshotted yet: its interrupt "
				"controller's state isn't saved");
}

void arch_vm_features(const struct arch_vm *vm UNUSED,
		      void (*each)(const char *name, uint32_t bits, void *arg) UNUSED,
		      void *arg UNUSED)
{
}

static void refuse(const struct arch_vm *vm, struct state_io *io)
{
	struct error err = {0};

	(void)!arch_snapshot_check(vm, &err);
	state_refuse(io, "", "%s", err.what);
}

void arch_vm_save(struct arch_vm *vm, const struct arch_clock *clock UNUSED, struct state_io *io)
{
	refuse(vm, io);
}

void arch_vm_restore(struct arch_vm *vm, struct arch_clock *clock UNUSED, struct state_io *io)
{
	refuse(vm, io);
}

void arch_vcpu_save(struct arch_vm *vm, unsigned index UNUSED, int vcpu_fd UNUSED,
		    const struct arch_vcpu_state *state UNUSED, struct arch_clock *clock UNUSED,
		    struct state_io *io)
{
	refuse(vm, io);
}

void arch_vcpu_restore(struct arch_vm *vm, unsigned index UNUSED, int vcpu_fd UNUSED,
		       struct arch_clock *clock UNUSED, struct state_io *io)
{
	refuse(vm, io);
}

/* A GIC keeps the edge of an interrupt that is not enabled (IHI 0069, 4.1.2). */
bool arch_edge_is_lost(const struct kvm *kvm UNUSED, uint32_t gsi UNUSED)
{
	return false;
}
