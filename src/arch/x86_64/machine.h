/* The x86_64 machine: its memory map, and what the files of this folder share. */
#ifndef STASIS_ARCH_X86_64_MACHINE_H
#define STASIS_ARCH_X86_64_MACHINE_H

#include "arch/arch.h"
#include "base/log.h"

/* clang-format off */
/* Guest physical memory. Below 1 MiB as the boot protocol lets a loader choose
 * (Documentation/arch/x86/boot.rst); the controllers where the SDM (vol. 3, 11.4.1) and the 82093AA
 * put them; KVM's own pages as KVM API 4.35 and 4.41 want them: in the first 4 GiB, not RAM.
 *
 *   0x0000_0500  GDT and IDT of the entry
 *   0x0000_7000  boot parameters: struct boot_params, or hvm_start_info and its lists
 *   0x0000_9000  page tables of the 64-bit entry: the first GiB, one to one
 *   0x0002_0000  command line, 4 KiB
 *   0x0009_FC00  end of low RAM (where an EBDA would begin)
 *   0x000E_0000  ACPI tables; reserved in the map that the kernel is told
 *   0x000F_F000  VM generation id; likewise
 *   0x0010_0000  kernel; the initrd ends the RAM that the kernel can load it from
 *   0xC000_0000  hole: virtio-mmio windows, IOAPIC, LAPIC, KVM's identity map and TSS
 *   0x1_0000_0000  RAM
 */
/* clang-format on */
#define GDT_GPA		 0x500
#define IDT_GPA		 0x520
#define BOOT_PARAMS_GPA	 0x7000
#define PAGE_TABLES_GPA	 0x9000
#define CMDLINE_GPA	 0x20000
#define CMDLINE_MAX	 4096 /* bytes, with the NUL */
#define EBDA_GPA	 0x9FC00
#define ACPI_GPA	 0xE0000
#define VMGENID_GPA	 0xFF000
#define VMGENID_SIZE	 16
#define HIGH_GPA	 0x100000
#define HOLE_GPA	 0xC0000000
#define HIGH_RAM_GPA	 0x100000000
#define IOAPIC_GPA	 0xFEC00000
#define LAPIC_GPA	 0xFEE00000
#define TSS_GPA		 0xFFFBD000 /* three pages */
#define IDENTITY_MAP_GPA (TSS_GPA + 3 * 0x1000)
#define IOAPIC_SIZE	 0x1000
#define IOAPIC_EOI	 0x40 /* its EOI register */
#define IOAPIC_GSIS	 24   /* its pins */
#define XAPIC_LAST_ID	 254

#define POWER_PORT 0x600 /* sleep control, sleep status, reset: devices/legacy.h */
/* What the device there takes; a test holds them to its own. */
#define ACPI_SLP_TYP_S5	 5
#define ACPI_RESET_VALUE 1
#define VIRTIO_GSI	 5  /* of the first window */
#define EVENTS_GSI	 23 /* of the generic event device (ACPI 6.5, 5.6.9) */

enum cpu_vendor { CPU_VENDOR_INTEL, CPU_VENDOR_AMD };

/* How the first vCPU begins. */
struct cpu_entry {
	bool long_mode; /* bzImage; else PVH: 32-bit, flat */
	uint64_t rip;
	uint64_t params_gpa; /* RSI, or EBX for PVH */
};

/* The PIT, whose ticks KVM makes by itself. Control thread. */
struct pit_at_freeze {
	struct kvm_pit_state2 was; /* at the last freeze */
	bool stopped;		   /* KVM's own is, until the thaw: it ticks over and over */
	uint64_t since_ns;	   /* when a thaw began a period (now_ns); 0: none did */
	uint64_t owed_ns;	   /* what had run of periods that freezes cut off */
};

struct arch_vm {
	struct kvm *kvm;
	struct guest_memory *mem;
	const struct topology *topology;
	struct kvm_cpuid2 *supported; /* KVM_GET_SUPPORTED_CPUID, read once */
	bool realtime_hint;
	bool tsc_deadline;
	bool split_irqchip; /* the IOAPIC is the board's, interrupts are routed as messages */
	bool have_vendor;   /* vendor was asked for, whatever the host is */
	enum cpu_vendor vendor;
	uint64_t initrd_gpa, initrd_len;
	struct cpu_entry entry;
	struct pit_at_freeze pit;
	uint64_t restored_tsc;	 /* the host's TSC at the instant that a snapshot goes on from */
	uint64_t unknown_events; /* system events that mean nothing here; control thread */
	struct log_limit event_log;
};

/* Bit widths of the fields of an APIC id: | cache | core | thread |. A cache is a package. */
struct apic_fields {
	unsigned thread_bits, core_bits;
};
struct apic_fields apic_fields(const struct topology *t);
/* Whether a CPU lies past what KVM's own IOAPIC can address. */
bool needs_split_irqchip(const struct topology *t);

/* ---- cpuid.c ----------------------------------------------------------------------------- */

struct cpuid_request {
	const struct kvm_cpuid2 *supported;
	const struct topology *topology;
	unsigned index; /* of the vCPU */
	enum cpu_vendor vendor;
	bool override_vendor; /* say that vendor, whatever the host is */
	bool realtime_hint, tsc_deadline;
	bool msi_ext_dest_id; /* messages can name ids of 15 bits */
};
/* Room that cpuid_build needs, in entries. */
unsigned cpuid_room(const struct kvm_cpuid2 *supported);
/* What KVM_SET_CPUID2 takes (Linux, KVM_MAX_CPUID_ENTRIES). */
#define CPUID_MAX 256
/* Pure: the CPUID of one vCPU. ret has cpuid_room entries. */
void cpuid_build(const struct cpuid_request *q, struct kvm_cpuid2 *ret);
/* What vCPU index of this machine is told. NULL when out of memory; the caller frees it. */
struct kvm_cpuid2 *cpuid_of(const struct arch_vm *vm, unsigned index);
/* Whose topology leaves the host's kind of CPU has. Hygon speaks AMD's; all others Intel's. */
enum cpu_vendor cpuid_vendor(const struct kvm_cpuid2 *supported);
/* Bits of guest physical address that RAM may use. */
unsigned cpuid_phys_bits(const struct kvm_cpuid2 *supported);
/* A leaf's first entry (index 0), or NULL. */
const struct kvm_cpuid_entry2 *cpuid_find(const struct kvm_cpuid2 *cpuid, uint32_t function);

/* ---- freeze.c ------------------------------------------------------------------------------ */

struct arch_vcpu_state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_mp_state mp;
	uint64_t skipped;	      /* of arch_clock.skipped, how much its TSC has been told */
	uint64_t tsc;		      /* at the park */
	uint64_t deadline;	      /* IA32_TSC_DEADLINE; 0: not armed, or another mode */
	bool counts;		      /* the LAPIC's timer counts, in another mode */
	struct kvm_lapic_state lapic; /* only where counts */
};

/* vCPU thread: KVM scales its TSC from now on, as it does all others'. Both are above 0. */
void clock_scale_tsc(struct arch_clock *clock, uint32_t guest_khz, uint32_t host_khz);
/* vCPU thread: its TSC is to be tsc when the host's is host_tsc. A clock notes what can't be. */
void clock_restore_tsc(int vcpu_fd, uint64_t tsc, uint64_t host_tsc, struct arch_clock *clock);
/* … and was so much when the clock was stopped. state: of the park. */
uint64_t clock_saved_tsc(int vcpu_fd, const struct arch_vcpu_state *state,
			 const struct arch_clock *clock);
/* The kvmclock goes on from guest_ns; the host's TSC at that instant. */
uint64_t clock_restore(struct arch_vm *vm, uint64_t guest_ns, struct arch_clock *clock);

/* ---- boot.c, tables.c ----------------------------------------------------------------------- */

/* One e820 entry or its kin of PVH. type: 1 RAM, 2 reserved, 3 ACPI. */
struct map_entry {
	uint64_t gpa, size;
	uint32_t type;
};
#define MAP_MAX (GUEST_MAX_REGIONS + 4)
/* The memory map that a kernel is told; returns how many entries. */
unsigned memory_map(const struct guest_memory *mem, struct map_entry map[MAP_MAX]);

struct acpi_tables {
	uint8_t *data; /* owned; to be placed at gpa */
	size_t len;
	uint64_t gpa, rsdp_gpa;
	struct acpi_table {
		char signature[5];
		size_t at, len;
	} table[8]; /* for files; the RSDP is not among them */
	unsigned count;
};
int acpi_build(const struct topology *t, const struct guest_layout *layout,
	       const struct arch_slot *slots, size_t slot_count, uint64_t gpa,
	       struct acpi_tables *ret_tables, struct error *err) MUST_CHECK;
void acpi_done(struct acpi_tables *tables);

#endif
