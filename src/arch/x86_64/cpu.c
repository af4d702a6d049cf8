/* A vCPU before its first KVM_RUN: CPUID, MSRs, and the boot registers of the first.
 * vCPU thread; the struct arch_vm is read only. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arch/x86_64/machine.h"
#include "base/util.h"

#define MSR_APIC_BASE	  0x1B
#define MSR_MISC_ENABLE	  0x1A0
#define MSR_MTRR_DEF_TYPE 0x2FF
#define APIC_BASE_BSP	  (1u << 8)
#define APIC_BASE_X2APIC  (1u << 10)
#define APIC_BASE_ENABLED (1u << 11)
#define MISC_FAST_STRING  1u
#define MTRR_ON_WB	  0x806u /* enabled, default write-back */

#define CR0_PE	 (1ull << 0)
#define CR0_ET	 (1ull << 4)
#define CR0_PG	 (1ull << 31)
#define CR4_PAE	 (1ull << 5)
#define EFER_LME (1ull << 8)
#define EFER_LMA (1ull << 10)

static void build_cpuid(const struct arch_vm *vm, unsigned index, struct kvm_cpuid2 *ret)
{
	const struct cpuid_request request = {
		.supported = vm->supported,
		.topology = vm->topology,
		.index = index,
		.vendor = vm->vendor,
		.override_vendor = vm->have_vendor,
		.realtime_hint = vm->realtime_hint,
		.tsc_deadline = vm->tsc_deadline,
		.msi_ext_dest_id = vm->split_irqchip,
	};

	cpuid_build(&request, ret);
}

struct kvm_cpuid2 *cpuid_of(const struct arch_vm *vm, unsigned index)
{
	unsigned room = cpuid_room(vm->supported);
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + room * sizeof(cpuid->entries[0]));

	if (cpuid)
		build_cpuid(vm, index, cpuid);
	return cpuid;
}

/* On the stack: a thread's first malloc makes it an arena, which takes longer than all else here.
 */
static int set_cpuid(const struct arch_vm *vm, unsigned index, int fd)
{
	_Alignas(struct kvm_cpuid2) uint8_t
		room[sizeof(struct kvm_cpuid2) + CPUID_MAX * sizeof(struct kvm_cpuid_entry2)];
	struct kvm_cpuid2 *cpuid = (struct kvm_cpuid2 *)room;

	if (cpuid_room(vm->supported) > CPUID_MAX)
		return -E2BIG;
	memset(cpuid, 0, sizeof(*cpuid));
	build_cpuid(vm, index, cpuid);
	return kvm_ioctl(fd, KVM_SET_CPUID2, cpuid);
}

/* The APIC's mode comes last, since only some shapes set it: where ids lie past xAPIC's reach,
 * firmware hands over in x2APIC mode, and Linux passes by the MADT's far entries if it didn't. */
static int set_msrs(const struct arch_vm *vm, unsigned index, int fd)
{
	const struct kvm_msr_entry entries[] = {
		{.index = MSR_MISC_ENABLE, .data = MISC_FAST_STRING},
		{.index = MSR_MTRR_DEF_TYPE, .data = MTRR_ON_WB},
		{.index = MSR_APIC_BASE,
		 .data = LAPIC_GPA | APIC_BASE_ENABLED | APIC_BASE_X2APIC |
			 (index == 0 ? APIC_BASE_BSP : 0)},
	};
	unsigned n = ARRAY_SIZE(entries) - !vm->split_irqchip;
	_Alignas(struct kvm_msrs) uint8_t room[sizeof(struct kvm_msrs) + sizeof(entries)];
	struct kvm_msrs *msrs = (struct kvm_msrs *)room;
	int r;

	*msrs = (struct kvm_msrs){.nmsrs = n};
	memcpy(msrs->entries, entries, sizeof(entries));
	r = kvm_ioctl(fd, KVM_SET_MSRS, msrs);
	return r < 0 ? r : (unsigned)r == n ? 0 : -EPROTO;
}

static struct kvm_segment flat(uint16_t selector, uint8_t type, bool code64)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.s = 1,
		.g = 1,
		.l = code64,
		.db = !code64,
	};
}

/* Boot protocol, "64-bit boot protocol": flat segments at selectors 10h and 18h, paging one to
 * one. PVH: 32-bit flat, paging off, a valid TR (Xen, docs/misc/pvh). */
static int set_entry(const struct cpu_entry *entry, int fd)
{
	struct kvm_regs regs = {.rflags = 2, .rip = entry->rip};
	struct kvm_sregs sregs;
	int r = kvm_ioctl(fd, KVM_GET_SREGS, &sregs);

	if (r < 0)
		return r;
	sregs.cs = flat(0x10, 11, entry->long_mode);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat(0x18, 3, false);
	sregs.tr = (struct kvm_segment){.limit = 0x67, .selector = 0x20, .type = 11, .present = 1};
	sregs.gdt = (struct kvm_dtable){.base = GDT_GPA, .limit = 5 * 8 - 1};
	sregs.idt = (struct kvm_dtable){.base = IDT_GPA, .limit = 0};
	sregs.cr0 = CR0_PE | CR0_ET;
	if (entry->long_mode) {
		sregs.cr0 |= CR0_PG;
		sregs.cr3 = PAGE_TABLES_GPA;
		sregs.cr4 |= CR4_PAE;
		sregs.efer |= EFER_LME | EFER_LMA;
		regs.rsi = entry->params_gpa;
	} else {
		regs.rbx = entry->params_gpa;
	}
	r = kvm_ioctl(fd, KVM_SET_SREGS, &sregs);
	return r < 0 ? r : kvm_ioctl(fd, KVM_SET_REGS, &regs);
}

int arch_vcpu_setup(struct arch_vm *vm, unsigned index, int vcpu_fd, struct error *err)
{
	int r = set_cpuid(vm, index, vcpu_fd);

	if (r < 0)
		return error_set_shortage(err, r, "setting the CPUID of vCPU %u", index);
	r = set_msrs(vm, index, vcpu_fd);
	if (r < 0)
		return error_set(err, r, "setting the MSRs of vCPU %u", index);
	/* KVM starts vCPU 0, its LINT0 open for the PIC's interrupts as firmware leaves it, and
	 * lets the others wait for INIT and SIPI. LINT1 stays masked until a kernel does with it
	 * what the MADT says. */
	if (index > 0)
		return 0;
	r = set_entry(&vm->entry, vcpu_fd);
	return r < 0 ? error_set(err, r, "setting the registers of vCPU %u", index) : 0;
}

bool arch_vcpu_waits(unsigned index)
{
	return index > 0;
}
