/* The aarch64 machine: its memory map, and what the files of this folder share. */
#ifndef STASIS_ARCH_AARCH64_MACHINE_H
#define STASIS_ARCH_AARCH64_MACHINE_H

#include "arch/arch.h"
#include "base/log.h"

/* clang-format off */
/* Guest physical memory: devices below 1 GiB, RAM above.
 *
 *   0x0800_0000  GICv3 distributor, 64 KiB
 *   0x0801_0000  its redistributors, 128 KiB for each vCPU: room for 512
 *   0x0D00_0000  UARTs, then pvpanic: a page for each
 *   0x0D01_0000  virtio-mmio windows, a page each
 *   0x4000_0000  RAM: kernel at its start; at its end the initrd, the device tree, and 64 KiB
 *                that the device tree leaves out: stolen-time slots, and in the last page the
 *                generation id
 */
/* clang-format on */
#define GICD_GPA      UINT64_C(0x08000000)
#define GICD_SIZE     UINT64_C(0x10000)
#define GICR_GPA      UINT64_C(0x08010000)
#define GICR_SIZE     UINT64_C(0x20000) /* of one vCPU */
#define GIC_MAX_VCPUS 512u
#define UART_GPA      UINT64_C(0x0D000000)
#define PVPANIC_GPA   UINT64_C(0x0D002000)
#define VIRTIO_GPA    UINT64_C(0x0D010000)
#define WINDOW_SIZE   UINT64_C(0x1000)
#define RAM_GPA	      UINT64_C(0x40000000)

#define UARTS	       2u
#define UART_SPI       1u /* interrupts 33 and 34 */
#define VIRTIO_SPI     3u /* … 35 and up */
#define VIRTIO_WINDOWS 29u
#define VMGENID_SPI    (VIRTIO_SPI + VIRTIO_WINDOWS)
#define GIC_IRQS       96u /* with the 32 of each CPU; KVM has 64 and more, by 32s */

_Static_assert(GICD_GPA + GICD_SIZE <= GICR_GPA, "the distributor ends before the redistributors");
/* KVM's frames go before user space's: one over a device would hide it. */
_Static_assert(GICR_GPA + GIC_MAX_VCPUS * GICR_SIZE <= UART_GPA, "no redistributor hides a device");
_Static_assert(UART_GPA + UARTS * WINDOW_SIZE <= PVPANIC_GPA, "UARTs end before pvpanic");
_Static_assert(PVPANIC_GPA + WINDOW_SIZE <= VIRTIO_GPA, "pvpanic ends before virtio");
_Static_assert(VIRTIO_GPA + VIRTIO_WINDOWS * WINDOW_SIZE <= RAM_GPA, "devices end before RAM");
_Static_assert(32 + VMGENID_SPI < GIC_IRQS, "an interrupt for each window, and one more");
_Static_assert(UART_SPI + UARTS <= VIRTIO_SPI, "UARTs' interrupts are their own");
_Static_assert(GIC_IRQS % 32 == 0 && GIC_IRQS >= 64, "what KVM takes");

#define FDT_MAX_BYTES MIB(2) /* Documentation/arch/arm64/booting.rst; aligned to as much here */
/* Kernel, initrd and device tree lie within the first 32 GiB (booting.rst, of the initrd). */
#define BOOT_WINDOW	 GIB(32)
#define CMDLINE_MAX	 2048	      /* COMMAND_LINE_SIZE of arm64, with the NUL */
#define STOLEN_SLOT	 UINT64_C(64) /* Arm DEN0057, PV_TIME_ST */
#define SHARED_SIZE	 KIB(64)      /* the largest page that a guest's kernel may use */
#define VMGENID_SIZE	 KIB(4)
#define IPA_BITS_DEFAULT 40u
#define SVE_LENGTH_WORDS 8 /* of the register KVM_REG_ARM64_SVE_VLS: a bit for each */

_Static_assert(GIC_MAX_VCPUS *STOLEN_SLOT + VMGENID_SIZE <= SHARED_SIZE, "room for both");

/* Where things lie in the RAM of one machine. */
struct ram_plan {
	uint64_t end;	     /* of the RAM that the guest is told of */
	uint64_t stolen_gpa; /* == end, of SHARED_SIZE; 0: no slots */
	uint64_t fdt_gpa;
};

struct arch_vm {
	struct kvm *kvm;
	struct guest_memory *mem;
	const struct topology *topology;
	int gic_fd;	   /* or -1 */
	uint32_t target;   /* KVM_ARM_VCPU_INIT's */
	uint32_t features; /* … first word, of vCPU 0 */
	bool has_pmu, has_sve, has_stolen;
	/* Of a restore with SVE: the vector lengths that vCPUs are to have. */
	bool has_lengths;
	uint64_t sve_lengths[SVE_LENGTH_WORDS];
	bool has_abort; /* KVM can give a vCPU an external abort */
	/* Each set by its thread before any vCPU runs; the control thread's while that waits for
	 * it. */
	int vcpu_fd[GIC_MAX_VCPUS];
	struct ram_plan plan;
	uint64_t initrd_gpa, initrd_len;
	uint64_t entry_gpa;	 /* of vCPU 0; x0 is plan.fdt_gpa */
	bool has_counter_offset; /* KVM takes one for the VM */
	uint64_t counter_offset; /* the host's counter less the guest's, before any freeze */
	uint64_t unknown_events; /* system events that mean nothing here; control thread */
	struct log_limit event_log;
	uint64_t aborts; /* accesses that no device could take; control thread */
	/* Of a restore, until the vCPUs are there: the control thread's. */
	uint64_t restored_count; /* the guest's counter */
	uint64_t *restored_gic;	 /* owned: see gic_state */
};

/* ---- registers.c -------------------------------------------------------------------------------
 */

/* One register by KVM's id (KVM API, 4.68), of the bytes that the id says. The vCPU's thread, or
 * any while it is parked. Negative errno. */
int register_get(int vcpu_fd, uint64_t id, void *ret_value) MUST_CHECK;
int register_set(int vcpu_fd, uint64_t id, const void *value) MUST_CHECK;
/* The section of every register that the vCPU has, but for its counters: they are the VM's. vCPU
 * thread. Restored after KVM_ARM_VCPU_INIT; one that this host can't have so is refused by name. */
void registers_state(int vcpu_fd, struct state_io *io);
/* See arch_vm_features; of a vCPU that is parked. */
void registers_features(int vcpu_fd, void (*each)(const char *name, uint32_t bits, void *arg),
			void *arg);

/* ---- cpu.c -------------------------------------------------------------------------------------
 */

/* vCPU thread: all of a vCPU but where it begins. */
int cpu_init(struct arch_vm *vm, unsigned index, int vcpu_fd, struct error *err) MUST_CHECK;
/* What the machine's vCPUs are asked to have: KVM_ARM_VCPU_INIT's first word. Control thread,
 * before they are set up. */
void cpu_features(struct arch_vm *vm, uint32_t features);

/* Control thread, while the vCPU waits for it: gives it an external data abort (KVM API, 4.32).
 * Only where has_abort. Negative errno. */
int cpu_abort(const struct arch_vm *vm, unsigned index) MUST_CHECK;

/* ---- freeze.c ----------------------------------------------------------------------------------
 */

struct arch_vcpu_state {
	uint64_t x[31], pc, pstate, sp_el0, sp_el1, ttbr0, ttbr1, tcr;
	struct kvm_mp_state mp;
};
/* After the last vCPU was created: the counters begin, where KVM takes an offset for them. */
int freeze_set_offset(struct arch_vm *vm, struct error *err) MUST_CHECK;
/* vCPU 0's thread, in its set-up: notes the offset that KVM chose, where it takes none. */
int freeze_note_offset(struct arch_vm *vm, int vcpu_fd) MUST_CHECK;
/* The guest's counter at a stop, in ticks of its rate: freeze_counter_hz. Control thread. */
uint64_t freeze_guest_count(const struct arch_vm *vm, const struct arch_clock *clock);
uint64_t freeze_counter_hz(void);
/* Control thread, every vCPU set up and none running: the counter goes on from count. */
int freeze_set_count(struct arch_vm *vm, uint64_t count) MUST_CHECK;

/* ---- layout.c ----------------------------------------------------------------------------------
 */

/* Pure. Usage error if the RAM is too small for its own furniture. */
int ram_plan(const struct guest_layout *layout, bool stolen, struct ram_plan *ret_plan,
	     struct error *err) MUST_CHECK;
/* Of the RAM that mem has. */
void layout_of(const struct guest_memory *mem, struct guest_layout *ret_layout);

/* ---- kernel_image.c ----------------------------------------------------------------------------
 */

struct kernel_image {
	const uint8_t *data; /* the Image's bytes: the file's, or unpacked's */
	size_t len;
	uint8_t *unpacked;    /* owned, or NULL */
	uint64_t text_offset; /* from a 2 MiB boundary */
	uint64_t image_size;  /* bytes that it takes in memory */
};
/* Takes a file apart: Image, gzip of one, EFI zboot. Hostile: usage error. name is for it. */
int kernel_image_read(const uint8_t *file, size_t len, const char *name,
		      struct kernel_image *ret_image, struct error *err) MUST_CHECK;
void kernel_image_done(struct kernel_image *image);
/* Whether the first bytes of a file look like something that kernel_image_read takes. A gzip file
 * may hold anything. */
bool kernel_image_looks(const uint8_t *head, size_t len);

/* ---- tables.c ----------------------------------------------------------------------------------
 */

struct fdt_request {
	const struct topology *topology;
	const struct guest_layout *layout;
	uint64_t ram_end; /* RAM past it is not told of */
	const struct arch_slot *slots;
	size_t slot_count;
	const char *cmdline;		 /* or NULL */
	uint64_t initrd_gpa, initrd_len; /* 0: none */
	bool has_pmu;
	bool has_seeds;
	uint64_t kaslr_seed;
	uint8_t rng_seed[64];
};
/* Pure. *ret_fdt is malloc'ed, at most FDT_MAX_BYTES. */
int fdt_build(const struct fdt_request *q, uint8_t **ret_fdt, size_t *ret_len,
	      struct error *err) MUST_CHECK;

/* ---- gic.c -------------------------------------------------------------------------------------
 */

/* After the last vCPU was created: GICv3, its frames, and a route for each SPI. */
int gic_create(struct arch_vm *vm, struct error *err) MUST_CHECK;

/* ---- gic_state.c -------------------------------------------------------------------------------
 */

/* Its sections: the distributor, then the redistributor and the CPU interface of each vCPU. Saving:
 * every vCPU is parked. Restoring: kept in vm->restored_gic. Control thread. */
void gic_state(struct arch_vm *vm, struct state_io *io);
/* Every vCPU has its MPIDR, and none has run: the GIC is as gic_state has read. Frees what that
 * kept. Control thread. */
int gic_restore(struct arch_vm *vm, struct error *err) MUST_CHECK;

#endif
