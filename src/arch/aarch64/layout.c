/* The machine's fixed places: ids, RAM, device windows, caches. Pure. Any thread. */
#include <errno.h>

#include "arch/aarch64/machine.h"
#include "arch/aarch64/regs.h"
#include "base/util.h"

#define LINE_BYTES 64

/* What cpu.c puts into CLIDR_EL1 and CCSIDR_EL1, and tables.c into the device tree, where the first
 * level is a cpu node's own (Linux: cache_setup_of_node) and no two threads can share it. */
const struct arch_cache arch_caches[] = {
	{1, 'd', CACHE_OF_THREAD, 64u << 10, 4, LINE_BYTES},
	{1, 'i', CACHE_OF_THREAD, 64u << 10, 4, LINE_BYTES},
	{2, 'u', CACHE_OF_CORE, 1u << 20, 8, LINE_BYTES},
	{3, 'u', CACHE_OF_LLC, 16u << 20, 16, LINE_BYTES},
};
const unsigned arch_cache_count = ARRAY_SIZE(arch_caches);

/* KVM makes MPIDR of the id, and before Linux 6.10 does so again whenever the vCPU is reset, by
 * PSCI's CPU_ON among others. So the id has the affinity, where all of them are ids that KVM takes;
 * else MPIDR is set, and an older KVM forgets it. */
uint32_t arch_vcpu_id(const struct topology *t, unsigned index)
{
	uint32_t last = mpidr_vcpu_id(mpidr_affinity(t, topology_vcpus(t) - 1));

	return last < GIC_MAX_VCPUS ? mpidr_vcpu_id(mpidr_affinity(t, index)) : index;
}

uint32_t arch_vcpu_hardware_id(const struct topology *t, unsigned index)
{
	return (uint32_t)mpidr_affinity(t, index);
}

int arch_memory_layout(const struct topology *t, unsigned phys_bits,
		       struct guest_layout *ret_layout, struct error *err)
{
	struct guest_layout layout = {0};
	uint64_t limit = phys_bits >= 63 ? UINT64_MAX : UINT64_C(1) << phys_bits;
	uint64_t gpa = RAM_GPA, mib = 0, end = RAM_GPA;
	bool wraps = false;

	for (unsigned n = 0; n < t->nodes; n++) {
		mib += t->node[n].memory_bytes >> 20;
		wraps |= __builtin_add_overflow(end, t->node[n].memory_bytes, &end);
	}
	if (wraps || end > limit)
		return error_contention(err,
					"%llu MiB of memory end past this host's %u bits of guest "
					"physical address",
					(unsigned long long)mib, phys_bits);
	for (unsigned n = 0; n < t->nodes; n++) {
		if (t->node[n].memory_bytes == 0)
			continue;
		layout.range[layout.count++] = (struct guest_range){.gpa = gpa,
								    .size = t->node[n].memory_bytes,
								    .node = n};
		gpa += t->node[n].memory_bytes;
	}
	*ret_layout = layout;
	return 0;
}
_Static_assert(TOPOLOGY_MAX_NODES <= GUEST_MAX_REGIONS, "a range for each node");

unsigned long arch_vm_type(const struct kvm *kvm, const struct guest_layout *layout)
{
	uint64_t end = RAM_GPA;
	unsigned bits;

	if (!kvm->phys_bits)
		return 0; /* a KVM that knows no other: 40 bits */
	for (unsigned i = 0; i < layout->count; i++)
		end = MAX(end, layout->range[i].gpa + layout->range[i].size);
	bits = 64 - (unsigned)__builtin_clzll(end - 1);
	/* More bits than needed may cost a level of the second stage's tables. */
	return MIN(MAX(bits, IPA_BITS_DEFAULT), kvm->phys_bits);
}

static int too_small(struct error *err)
{
	return error_usage(err, "a guest needs more than 4 MiB of memory; give more with -m");
}

int ram_plan(const struct guest_layout *layout, bool stolen, struct ram_plan *ret_plan,
	     struct error *err)
{
	const struct guest_range *last;
	struct ram_plan plan = {0};
	uint64_t window;

	if (layout->count == 0)
		return too_small(err);
	last = &layout->range[layout->count - 1];
	/* Off the last range, which must not vanish. */
	if (last->size <= SHARED_SIZE)
		return too_small(err);
	plan.end = last->gpa + last->size - SHARED_SIZE;
	if (stolen)
		plan.stolen_gpa = plan.end;
	window = MIN(plan.end, RAM_GPA + BOOT_WINDOW);
	if (window < RAM_GPA + 2 * FDT_MAX_BYTES)
		return too_small(err);
	plan.fdt_gpa = ALIGN_DOWN(window - FDT_MAX_BYTES, FDT_MAX_BYTES);
	*ret_plan = plan;
	return 0;
}

void layout_of(const struct guest_memory *mem, struct guest_layout *ret_layout)
{
	ret_layout->count = mem->count;
	for (unsigned i = 0; i < mem->count; i++)
		ret_layout->range[i] = mem->region[i].range;
}

static uint64_t ram_end(const struct topology *t)
{
	uint64_t end = RAM_GPA;

	for (unsigned n = 0; n < t->nodes; n++)
		end += t->node[n].memory_bytes;
	return end;
}

int arch_slot(const struct topology *t, enum arch_device kind, unsigned index,
	      struct arch_slot *ret_slot)
{
	struct arch_slot slot = {.kind = kind, .space = BUS_MMIO, .present = true};
	unsigned count = 1;

	switch (kind) {
	case ARCH_UART:
		count = UARTS;
		slot.base = UART_GPA + index * WINDOW_SIZE;
		slot.size = 8; /* what is past the registers is nobody's */
		slot.gsi = UART_SPI + index;
		break;
	case ARCH_VIRTIO_MMIO:
		count = VIRTIO_WINDOWS;
		slot.base = VIRTIO_GPA + index * WINDOW_SIZE;
		slot.size = WINDOW_SIZE;
		slot.gsi = VIRTIO_SPI + index;
		break;
	case ARCH_PVPANIC:
		slot.base = PVPANIC_GPA;
		slot.size = 2;
		break;
	case ARCH_VMGENID:
		/* A guest maps it uncached, and KVM cleans a page when a guest first touches it, or
		 * need not: the number changes before a machine runs only. */
		slot.base = ram_end(t) - VMGENID_SIZE;
		slot.size = VMGENID_SIZE;
		slot.gsi = VMGENID_SPI;
		break;
	case ARCH_I8042: /* PSCI ends machines, and the GIC is KVM's */
	case ARCH_POWER:
	case ARCH_IOAPIC:
		slot.present = false;
		break;
	}
	if (index >= count)
		return -ENOSPC;
	*ret_slot = slot;
	return 0;
}
