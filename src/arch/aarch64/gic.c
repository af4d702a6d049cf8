/* KVM's GICv3 (Documentation/virt/kvm/devices/arm-vgic-v3.rst). After the vCPUs were created, and
 * before any runs. Control thread. */
#include <errno.h>
#include <stdlib.h>

#include "arch/aarch64/machine.h"
#include "base/util.h"

/* | count 63:52 | base 51:16 | flags 15:12 | index 11:0 | */
#define REDIST_REGION(gpa, count) ((uint64_t)(count) << 52 | (gpa))

/* GSI n is SPI n. Without a table, irqfd delivers nothing. */
static int route(const struct arch_vm *vm)
{
	const uint32_t spis = GIC_IRQS - 32;
	CLEANUP_FREE struct kvm_irq_routing *table =
		calloc(1, sizeof(*table) + spis * sizeof(table->entries[0]));

	if (!table)
		return -ENOMEM;
	table->nr = spis;
	for (uint32_t i = 0; i < spis; i++)
		table->entries[i] = (struct kvm_irq_routing_entry){
			.gsi = i,
			.type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = {.irqchip = 0, .pin = i},
		};
	return kvm_ioctl(vm->kvm->vm_fd, KVM_SET_GSI_ROUTING, table);
}

int gic_create(struct arch_vm *vm, struct error *err)
{
	struct kvm_create_device device = {.type = KVM_DEV_TYPE_ARM_VGIC_V3};
	uint64_t distributor = GICD_GPA;
	uint64_t redistributors = REDIST_REGION(GICR_GPA, topology_vcpus(vm->topology));
	uint32_t irqs = GIC_IRQS;
	int r = kvm_ioctl(vm->kvm->vm_fd, KVM_CREATE_DEVICE, &device);

	if (r == -ENODEV)
		return error_contention(err, "this host's KVM has no GICv3 for guests");
	if (r < 0)
		return error_set_shortage(err, r, "creating the interrupt controller");
	vm->gic_fd = (int)device.fd;
	r = kvm_set_attr(vm->gic_fd, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &irqs);
	if (r == 0)
		r = kvm_set_attr(vm->gic_fd, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_DIST,
				 &distributor);
	if (r == 0)
		r = kvm_set_attr(vm->gic_fd, KVM_DEV_ARM_VGIC_GRP_ADDR,
				 KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION, &redistributors);
	if (r == 0)
		r = kvm_set_attr(vm->gic_fd, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT,
				 NULL);
	if (r < 0)
		return error_set_shortage(err, r, "setting up the interrupt controller");
	r = route(vm);
	return r < 0 ? error_set_shortage(err, r, "routing interrupts") : 0;
}
