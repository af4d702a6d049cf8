/* The host's check, the machine's fixed places, and VM set-up before the first vCPU.
 * Control thread. */
#include "arch/x86_64/machine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

const char arch_name[] = "x86_64";
const char arch_kvm_hint[] = "modprobe kvm_amd or kvm_intel";

static const struct kvm_need needs[] = {
	{KVM_CAP_IRQCHIP, "IRQCHIP"},
	{KVM_CAP_IOEVENTFD, "IOEVENTFD"},
	{KVM_CAP_IRQFD, "IRQFD"},
	{KVM_CAP_USER_MEMORY, "USER_MEMORY"},
	{KVM_CAP_SET_TSS_ADDR, "SET_TSS_ADDR"},
	{KVM_CAP_PIT2, "PIT2"},
	{KVM_CAP_PIT_STATE2, "PIT_STATE2"},
	{KVM_CAP_ADJUST_CLOCK, "ADJUST_CLOCK"},
	{KVM_CAP_DEBUGREGS, "DEBUGREGS"},
	{KVM_CAP_MP_STATE, "MP_STATE"},
	{KVM_CAP_VCPU_EVENTS, "VCPU_EVENTS"},
	{KVM_CAP_XSAVE, "XSAVE"},
	{KVM_CAP_EXT_CPUID, "EXT_CPUID"},
};
static const struct kvm_need xsave_needs[] = {{KVM_CAP_XCRS, "XCRS"}};
static const struct kvm_need split_needs[] = {
	{KVM_CAP_SPLIT_IRQCHIP, "SPLIT_IRQCHIP"},
	{KVM_CAP_X2APIC_API, "X2APIC_API"},
	{KVM_CAP_SIGNAL_MSI, "SIGNAL_MSI"},
};

/* KVM_GET_SUPPORTED_CPUID says E2BIG until there is room. */
static int read_supported(const struct kvm *kvm, struct kvm_cpuid2 **ret_cpuid, struct error *err)
{
	enum { MOST = 4096 };

	for (uint32_t room = 128; room <= MOST; room *= 2) {
		struct kvm_cpuid2 *cpuid =
			calloc(1, sizeof(*cpuid) + room * sizeof(cpuid->entries[0]));
		int r;

		if (!cpuid)
			return error_set(err, -ENOMEM, "reading the host's CPUID");
		cpuid->nent = room;
		r = kvm_ioctl(kvm->fd, KVM_GET_SUPPORTED_CPUID, cpuid);
		if (r == 0) {
			*ret_cpuid = cpuid;
			return 0;
		}
		free(cpuid);
		if (r != -E2BIG)
			return error_set(err, r, "reading the host's CPUID");
	}
	return error_set(err, -E2BIG, "reading the host's CPUID");
}

int arch_host_check(struct kvm *kvm, unsigned *ret_phys_bits, struct error *err)
{
	struct kvm_cpuid2 *cpuid;
	const struct kvm_cpuid_entry2 *leaf;
	int r = kvm_require(kvm, needs, ARRAY_SIZE(needs), err);

	if (r == 0)
		r = read_supported(kvm, &cpuid, err);
	if (r < 0)
		return r;
	/* It takes KVM 0.3 ms where CPUID traps, so once has to do. */
	free(kvm->host);
	kvm->host = cpuid;
	leaf = cpuid_find(cpuid, 1);
	if (leaf && (leaf->ecx & (1u << 26))) {
		r = kvm_require(kvm, xsave_needs, ARRAY_SIZE(xsave_needs), err);
		if (r < 0)
			return r;
	}
	*ret_phys_bits = cpuid_phys_bits(cpuid);
	return 0;
}

/* ---- the shape ------------------------------------------------------------------------------- */

static unsigned bits_for(unsigned count)
{
	return count <= 1 ? 0 : 32 - (unsigned)__builtin_clz(count - 1);
}

struct apic_fields apic_fields(const struct topology *t)
{
	return (struct apic_fields){
		.thread_bits = bits_for(t->threads_per_core),
		.core_bits = bits_for(t->cores_per_llc),
	};
}

uint32_t arch_vcpu_id(const struct topology *t, unsigned index)
{
	struct topology_place place = topology_locate(t, index);
	struct apic_fields fields = apic_fields(t);

	return (place.llc << fields.core_bits | place.core) << fields.thread_bits | place.thread;
}

uint32_t arch_vcpu_hardware_id(const struct topology *t, unsigned index)
{
	return arch_vcpu_id(t, index);
}

/* Appends [*gpa, *gpa + bytes) for a node, split around the hole, and moves *gpa on. */
static int add_ranges(struct guest_layout *layout, uint64_t *gpa, uint64_t bytes, unsigned node)
{
	while (bytes > 0) {
		uint64_t room = *gpa < HOLE_GPA ? HOLE_GPA - *gpa : UINT64_MAX;
		uint64_t size = MIN(bytes, room);

		if (layout->count == GUEST_MAX_REGIONS)
			return -ENOSPC;
		layout->range[layout->count++] =
			(struct guest_range){.gpa = *gpa, .size = size, .node = node};
		*gpa += size;
		bytes -= size;
		if (*gpa == HOLE_GPA)
			*gpa = HIGH_RAM_GPA;
	}
	return 0;
}

int arch_memory_layout(const struct topology *t, unsigned phys_bits,
		       struct guest_layout *ret_layout, struct error *err)
{
	struct guest_layout layout = {0};
	uint64_t gpa = 0, mib = 0, top = 0;
	uint64_t limit = phys_bits >= 63 ? UINT64_MAX : 1ull << phys_bits;
	bool wraps = false;

	for (unsigned n = 0; n < t->nodes; n++) {
		mib += t->node[n].memory_bytes >> 20;
		wraps |= __builtin_add_overflow(top, t->node[n].memory_bytes, &top);
	}
	if (wraps || top > HOLE_GPA)
		wraps |= __builtin_add_overflow(top, HIGH_RAM_GPA - HOLE_GPA, &top);
	if (wraps || top > limit)
		return error_contention(err,
					"%llu MiB of memory end past this host's %u bits of guest "
					"physical address",
					(unsigned long long)mib, phys_bits);
	for (unsigned n = 0; n < t->nodes; n++)
		if (add_ranges(&layout, &gpa, t->node[n].memory_bytes, n) < 0)
			return error_contention(err, "more memory ranges than %d",
						GUEST_MAX_REGIONS);
	*ret_layout = layout;
	return 0;
}

unsigned long arch_vm_type(const struct kvm *kvm UNUSED, const struct guest_layout *layout UNUSED)
{
	return 0;
}

bool needs_split_irqchip(const struct topology *t)
{
	return arch_vcpu_id(t, topology_vcpus(t) - 1) > XAPIC_LAST_ID;
}

int arch_slot(const struct topology *t, enum arch_device kind, unsigned index,
	      struct arch_slot *ret_slot)
{
	struct arch_slot slot = {.kind = kind, .present = true};
	/* GSIs of the windows: 5 and up, but for 8 and 13, which Linux reserves on a PC. */
	static const uint8_t virtio_gsi[] = {5,	 6,  7,	 9,  10, 11, 12, 14,
					     15, 16, 17, 18, 19, 20, 21, 22};

	switch (kind) {
	case ARCH_UART:
		if (index >= 2)
			return -ENOSPC;
		slot.space = BUS_PIO;
		slot.base = index == 0 ? 0x3F8 : 0x2F8;
		slot.size = 8;
		slot.gsi = index == 0 ? 4 : 3;
		break;
	case ARCH_VIRTIO_MMIO:
		if (index >= ARRAY_SIZE(virtio_gsi))
			return -ENOSPC;
		slot.space = BUS_MMIO;
		slot.base = HOLE_GPA + index * 0x1000ull;
		slot.size = 0x1000;
		slot.gsi = virtio_gsi[index];
		break;
	case ARCH_I8042:
		slot.space = BUS_PIO;
		slot.base = 0x60;
		slot.size = 5;
		break;
	case ARCH_PVPANIC:
		slot.space = BUS_PIO;
		slot.base = 0x505;
		slot.size = 1;
		break;
	case ARCH_POWER:
		slot.space = BUS_PIO;
		slot.base = POWER_PORT;
		slot.size = 3;
		break;
	case ARCH_VMGENID:
		slot.base = VMGENID_GPA;
		slot.size = VMGENID_SIZE;
		slot.gsi = EVENTS_GSI;
		break;
	case ARCH_IOAPIC:
		slot.space = BUS_MMIO;
		slot.base = IOAPIC_GPA;
		slot.size = IOAPIC_SIZE;
		slot.present = needs_split_irqchip(t);
		break;
	}
	if (index > 0 && kind != ARCH_UART && kind != ARCH_VIRTIO_MMIO)
		return -ENOSPC;
	*ret_slot = slot;
	return 0;
}

/* ---- the VM ---------------------------------------------------------------------------------- */

/* Only the local APICs are KVM's; the IOAPIC is devices/ioapic.c's, and there is no PIC nor PIT
 * (KVM API, 7.5 and 7.8). Before the first vCPU. */
static int split_irqchip(struct kvm *kvm, struct error *err)
{
	int r = kvm_require(kvm, split_needs, ARRAY_SIZE(split_needs), err);

	if (r < 0)
		return r;
	r = kvm_enable_cap(kvm, KVM_CAP_SPLIT_IRQCHIP, IOAPIC_GSIS);
	if (r == 0)
		/* Ids of 32 bits, and 255 is a CPU, not all of them. */
		r = kvm_enable_cap(kvm, KVM_CAP_X2APIC_API,
				   KVM_X2APIC_API_USE_32BIT_IDS |
					   KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
	return r < 0 ? error_set_shortage(err, r, "splitting the interrupt controller") : 0;
}

/* All of the interrupt controllers in KVM. */
static int full_irqchip(struct kvm *kvm, struct error *err)
{
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	int r = kvm_ioctl(kvm->vm_fd, KVM_CREATE_IRQCHIP, NULL);

	if (r < 0)
		return error_set_shortage(err, r, "creating the interrupt controllers");
	r = kvm_ioctl(kvm->vm_fd, KVM_CREATE_PIT2, &pit);
	return r < 0 ? error_set_shortage(err, r, "creating the timer (PIT)") : 0;
}

int arch_vm_new(struct kvm *kvm, struct guest_memory *mem, const struct arch_vm_config *config,
		struct arch_vm **ret_vm, struct error *err)
{
	uint64_t identity_map = IDENTITY_MAP_GPA;
	struct arch_vm *vm = calloc(1, sizeof(*vm));
	int r;

	if (!vm)
		return error_set(err, -ENOMEM, "making the machine");
	vm->kvm = kvm;
	vm->mem = mem;
	vm->topology = config->topology;
	vm->realtime_hint = config->realtime_hint;
	vm->tsc_deadline = kvm_cap(kvm, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	vm->supported = kvm->host;
	kvm->host = NULL;
	r = vm->supported ? 0 : read_supported(kvm, &vm->supported, err);
	if (r < 0)
		goto fail;
	vm->vendor = cpuid_vendor(vm->supported);
	if (config->cpu_vendor) {
		vm->have_vendor = true;
		vm->vendor = !strcmp(config->cpu_vendor, "amd") ? CPU_VENDOR_AMD : CPU_VENDOR_INTEL;
	}
	/* Intel without unrestricted guest needs both, and before the first vCPU (KVM API, 4.35).
	 */
	r = kvm_ioctl(kvm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
	if (r == 0)
		r = kvm_ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR, (void *)(uintptr_t)TSS_GPA);
	if (r < 0) {
		error_set_shortage(err, r, "reserving KVM's own pages");
		goto fail;
	}
	vm->split_irqchip = needs_split_irqchip(vm->topology);
	r = vm->split_irqchip ? split_irqchip(kvm, err) : full_irqchip(kvm, err);
	if (r < 0)
		goto fail;
	r = kvm_set_halt_poll(kvm, config->halt_poll_ns, err);
	if (r < 0)
		goto fail;
	*ret_vm = vm;
	return 0;
fail:
	arch_vm_free(vm);
	return r;
}

uint64_t arch_run_registers(const struct kvm *kvm)
{
	const uint64_t wanted = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;

	return ((uint64_t)kvm_cap(kvm, KVM_CAP_SYNC_REGS) & wanted) == wanted ? wanted : 0;
}

int arch_vm_vcpus_created(struct arch_vm *vm UNUSED, struct error *err UNUSED)
{
	return 0;
}

void arch_vm_free(struct arch_vm *vm)
{
	if (!vm)
		return;
	free(vm->supported);
	free(vm);
}
