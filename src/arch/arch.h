/* What an architecture gives: the whole contract, as one list. src/arch/<name>/ implements it.
 * Thread: control, unless a function says vCPU. */
#ifndef STASIS_ARCH_ARCH_H
#define STASIS_ARCH_ARCH_H

#include "arch/kvm.h"
#include "base/error.h"
#include "base/state_io.h"
#include "devices/bus.h"
#include "guest/memory.h"
#include "guest/reader.h"
#include "guest/topology.h"

extern const char arch_name[];		/* "x86_64", "aarch64" */
extern const uint16_t arch_elf_machine; /* e_machine of its core files */

/* ---- the host ---------------------------------------------------------------------------- */

/* How a host comes to have /dev/kvm. */
extern const char arch_kvm_hint[];

/* What a stock kernel needs of a KVM and a software back end may lack. */
struct arch_probe {
	bool runs_stock_kernel;
	char lacks[96]; /* the first thing that failed; empty if it runs */
};
/* Finds out by running a small guest in a VM of its own; bounded. kvm is open, without a VM. */
int arch_probe(const struct kvm *kvm, struct arch_probe *ret_probe, struct error *err) MUST_CHECK;

/* ---- the shape ------------------------------------------------------------------------- */

/* KVM's vcpu_id of vCPU index (x86: the APIC id; sparse). Pure. */
uint32_t arch_vcpu_id(const struct topology *t, unsigned index);
/* The number by which the guest's own tables call it: x2APIC id (MADT), MPIDR's affinity
 * (the device tree's reg). Ascends with index. Pure. */
uint32_t arch_vcpu_hardware_id(const struct topology *t, unsigned index);
/* The caches that the guest is told of, innermost first. */
enum arch_cache_scope { CACHE_OF_THREAD, CACHE_OF_CORE, CACHE_OF_LLC };
struct arch_cache {
	uint8_t level;
	char type;  /* 'd' data, 'i' instructions, 'u' both */
	uint8_t of; /* enum arch_cache_scope: whose threads share one */
	uint32_t bytes, ways, line_bytes;
};
extern const struct arch_cache arch_caches[];
extern const unsigned arch_cache_count;
/* RAM for each node around the architecture's holes. Refuses (contention) what lies past
 * phys_bits bits of guest physical address. Pure. */
int arch_memory_layout(const struct topology *t, unsigned phys_bits,
		       struct guest_layout *ret_layout, struct error *err) MUST_CHECK;

/* Where a device sits: fixed by the architecture, by kind and index. */
enum arch_device {
	ARCH_UART,
	ARCH_VIRTIO_MMIO,
	ARCH_I8042,
	ARCH_PVPANIC,
	ARCH_POWER,
	ARCH_VMGENID, /* no registers: base and size are of guest memory; not on a bus */
	ARCH_IOAPIC,  /* one in user space; present only where KVM's own can't reach every CPU */
};
struct arch_slot {
	enum arch_device kind;
	enum bus_space space;
	uint64_t base, size;
	uint32_t gsi; /* 0: no interrupt */
	bool present; /* false: a machine of this shape has no such device */
};
/* -ENOSPC past the last slot of the kind. Pure. */
int arch_slot(const struct topology *t, enum arch_device kind, unsigned index,
	      struct arch_slot *ret_slot) MUST_CHECK;

/* ---- the VM ---------------------------------------------------------------------------- */

struct arch_vm; /* opaque; owned by the control thread, read by vCPU threads in their set-up */

struct arch_vm_config {
	const struct topology *topology; /* outlives the VM */
	uint32_t halt_poll_ns;
	bool realtime_hint;	/* performance mode: KVM_HINTS_REALTIME */
	const char *cpu_vendor; /* tests, x86 only: "amd" or "intel" leaves; NULL: the host's */
};

/* Checks the host (capabilities; names all that lack), before a VM is created. Gives the guest's
 * physical address width for arch_memory_layout. */
int arch_host_check(struct kvm *kvm, unsigned *ret_phys_bits, struct error *err) MUST_CHECK;
/* The machine type that kvm_create_vm takes for such a layout. kvm was checked. Pure. */
unsigned long arch_vm_type(const struct kvm *kvm, const struct guest_layout *layout);
/* After kvm_create_vm, before the first vCPU: irqchip, timers, reserved pages. */
int arch_vm_new(struct kvm *kvm, struct guest_memory *mem, const struct arch_vm_config *config,
		struct arch_vm **ret_vm, struct error *err) MUST_CHECK;
/* After the last vCPU was created, before any runs (aarch64: counters, GIC; x86: nothing). */
int arch_vm_vcpus_created(struct arch_vm *vm, struct error *err) MUST_CHECK;
void arch_vm_free(struct arch_vm *vm); /* accepts NULL */

/* ---- boot ------------------------------------------------------------------------------ */

struct arch_boot {
	const uint8_t *kernel; /* the file's bytes */
	size_t kernel_len;
	const char *kernel_name; /* for messages */
	uint64_t initrd_len;	 /* 0: none; room is kept at the address below */
	const char *cmdline;	 /* complete */
	const struct arch_slot *slots;
	size_t slot_count;
};

/* The architecture's part of the command line (console=…, reboot=…, …). Static storage. */
const char *arch_cmdline(bool verbose);
/* Where an initrd of len bytes goes: host-page aligned, as high as the kernel can reach. Usage
 * error if it doesn't fit. Before arch_boot_load, which tells the kernel of it. */
int arch_initrd_place(struct arch_vm *vm, uint64_t len, uint64_t *ret_gpa,
		      struct error *err) MUST_CHECK;
/* Checks and loads the kernel, writes boot parameters and tables (ACPI or FDT), and keeps the
 * entry state for arch_vcpu_setup. The file is hostile input: usage error, one line, that says
 * what is wrong with it. */
int arch_boot_load(struct arch_vm *vm, const struct arch_boot *boot, struct error *err) MUST_CHECK;
/* The tables alone, for `stasis topology`: path is a folder for many files (option "acpi") or one
 * file (option "fdt"). */
extern const char arch_tables_option[];
int arch_tables_write(const struct topology *t, const struct arch_slot *slots, size_t slot_count,
		      const char *path, struct error *err) MUST_CHECK;

/* ---- vCPUs ----------------------------------------------------------------------------- */

/* vCPU thread, before its first KVM_RUN (or control thread before the thread exists): CPUID or
 * features, registers, MSRs. Only vCPU 0 gets the boot entry; the others wait for start-up. */
int arch_vcpu_setup(struct arch_vm *vm, unsigned index, int vcpu_fd, struct error *err) MUST_CHECK;
/* Whether that vCPU, once set up so, may be in KVM_RUN while others are not: KVM waits there for
 * the guest to start it, and its first KVM_RUN fixes nothing of the VM. Pure. */
bool arch_vcpu_waits(unsigned index);

/* ---- exits ----------------------------------------------------------------------------- */

#define ARCH_EXIT_DATA 8

/* One exit as it travels from a vCPU thread to the control thread. */
struct arch_exit {
	uint64_t ticket;  /* global order of posting: see vcpu/exits.h */
	uint32_t reason;  /* KVM_EXIT_* */
	bool wants_reply; /* the vCPU waits; its run page belongs to the control thread meanwhile */
	uint8_t space;	  /* of a posted write: enum bus_space */
	uint8_t len;	  /* … its width in bytes */
	uint64_t addr;	  /* … its address */
	uint8_t data[ARCH_EXIT_DATA];
};

/* What becomes of the machine after an exit was served. */
enum arch_verdict {
	ARCH_CONTINUE,
	ARCH_SHUTDOWN, /* the guest powered off */
	ARCH_RESET,    /* the guest asked for a reset */
	ARCH_CRASHED,  /* it said that it crashed (system event) */
	ARCH_DIED,     /* triple fault, failed entry, internal error: text says which */
};

/* vCPU thread, right after KVM_RUN returned 0. Fills out (but the ticket) from the run page.
 * A write that fits is posted: copied whole, wants_reply false. Everything else waits. */
void arch_exit_capture(const struct kvm_run *run, struct arch_exit *out);
/* Control thread. Serves one exit against the bus; run is the vCPU's page where wants_reply, else
 * NULL. On any verdict but ARCH_CONTINUE, text (len bytes) says what happened, in one line, with
 * the reason code and, for a death, the instruction bytes. Never fails on guest data. */
enum arch_verdict arch_exit_serve(struct arch_vm *vm, struct bus *bus, unsigned vcpu_index,
				  struct kvm_run *run, const struct arch_exit *exit, char *text,
				  size_t len);

/* ---- a frozen machine --------------------------------------------------------------------- */

/* How kernel addresses become guest physical ones. Plain data from the guest, so it may lie: a
 * walk through it is bounded, and fails where it leads nowhere. */
struct arch_paging {
	uint64_t root_gpa; /* the top table, as a CPU is given it */
	uint64_t
		symbol_gpa; /* arch_paging_kernel: of swapper_pg_dir, whose end alone may be used */
	uint64_t not_address; /* bits of an entry that are no address (memory encryption) */
	unsigned levels;
	uint8_t page_shift, va_bits; /* aarch64: what its kernels choose among */
	bool user;		     /* aarch64: of the lower half of addresses */
};

/* One vCPU's registers, as a dump and a thaw need them. Its size is the architecture's; zeroed
 * before its first use, and kept from one freeze to the next. */
struct arch_vcpu_state;
extern const size_t arch_vcpu_state_size; /* a multiple of 16 */
/* What to ask for in kvm_valid_regs of a run page, so that KVM_RUN leaves there some of the
 * registers that arch_vcpu_capture reads (x86: KVM_CAP_SYNC_REGS); 0: nothing can be. */
uint64_t arch_run_registers(const struct kvm *kvm);
/* vCPU thread, before each KVM_RUN: what the last one left is old from now on. */
void arch_run_forget(struct kvm_run *run);
/* vCPU thread, out of KVM_RUN with nothing left to complete. run: registers that the last KVM_RUN
 * left there are not asked for again; may be NULL. Negative errno. */
int arch_vcpu_capture(int vcpu_fd, const struct kvm_run *run,
		      struct arch_vcpu_state *state) MUST_CHECK;
/* The same, but only registers and whether it runs, for a look in passing: not for a thaw.
 * run_registers: what arch_run_registers said; with it run is changed, immediate_exit among it. */
int arch_vcpu_sample(int vcpu_fd, struct kvm_run *run, uint64_t run_registers,
		     struct arch_vcpu_state *state) MUST_CHECK;
/* Whether it was halted, where KVM says so, or never started; its registers may then be old. */
bool arch_vcpu_idle(const struct arch_vcpu_state *state);
/* Whether it is idle by that, but was halted with interrupts off: as one is that waits for a spin
 * lock, or that is gone for good. Its registers are there. */
bool arch_vcpu_halted_deaf(const struct arch_vcpu_state *state);
/* vCPU thread, out of KVM_RUN: whether it still waits for the guest to start it. */
bool arch_vcpu_unstarted(int vcpu_fd);
/* Whether it ran at the kernel's privilege. */
bool arch_vcpu_in_kernel(const struct arch_vcpu_state *state);
/* The root of the page tables that the kernel's addresses go through (x86: CR3, flags and all;
 * aarch64: TTBR1_EL1's address). */
uint64_t arch_vcpu_root(const struct arch_vcpu_state *state);
/* Those tables, for who knows nothing of the kernel. -ENOENT: paging is off, or not understood. */
int arch_vcpu_paging(const struct arch_vcpu_state *state,
		     struct arch_paging *ret_paging) MUST_CHECK;
/* The tables that user addresses go through, of a vCPU that is in user mode. -ENOENT as above, or
 * its frames are not known (aarch64: 32-bit code). */
int arch_vcpu_user_paging(const struct arch_vcpu_state *state,
			  struct arch_paging *ret_paging) MUST_CHECK;
/* Calls each for every register that a dump shows, by the names that dumps use: the ones above
 * first (instruction_pointer, stack_pointer, page_table_root, …), then the general ones. */
void arch_vcpu_registers(const struct arch_vcpu_state *state,
			 void (*each)(const char *name, uint64_t value, void *arg), void *arg);

/* A note's elf_prstatus (ELF core files, NT_PRSTATUS), arch_prstatus_size bytes, with the registers
 * of the level that the vCPU ran at. False: it never started, and has none; out is untouched. */
#define ARCH_PRSTATUS_MAX 512
extern const size_t arch_prstatus_size;
bool arch_vcpu_prstatus(const struct arch_vcpu_state *state, uint32_t pid, void *out);

/* The note "QEMU" of type 0 that goes with it, arch_qemu_note_size bytes (0: this architecture has
 * none): what marks a core as one of a guest that had not crashed, for crash. */
#define ARCH_QEMU_NOTE_MAX 512
extern const size_t arch_qemu_note_size;
void arch_vcpu_qemu_note(const struct arch_vcpu_state *state, void *out);

/* The guest's clocks, which stand still while it is frozen. Zeroed at first. The control thread
 * writes while every vCPU is parked; vCPU threads read after they were let go. */
struct arch_clock {
	uint64_t guest_ns;  /* the VM's clock at the stop: kvmclock, or the guest's counter */
	uint64_t host;	    /* the host's counter at the stop */
	uint64_t host_ns;   /* … and its time (now_ns) */
	uint64_t frozen_ns; /* how long the last stop was */
	uint64_t skipped;   /* ticks of the counter that the guest has not seen, in all freezes */
	/* x86: where KVM scales the guest's counter, its rate << 32 | the host's, in kHz; else 0.
	 * Any thread, relaxed: each vCPU sets the same before it needs it. */
	_Atomic uint64_t scale;
	uint64_t guest_count; /* aarch64: its counter at the stop, to be set by a vCPU; 0: it is */
	_Atomic uint32_t
		lacks; /* bit n: this host can't do arch_clock_lacks[n]; any thread, relaxed */
	bool stopped;
};
/* What a host may lack to hide frozen time, in words; NULL-terminated. */
extern const char *const arch_clock_lacks[];
/* Control thread, when the last vCPU has parked. */
void arch_clock_stop(struct arch_vm *vm, struct arch_clock *clock);
/* Control thread, all vCPUs still parked: the VM's clocks go on from the stop. */
void arch_clock_go_on(struct arch_vm *vm, struct arch_clock *clock);
/* … and then for each vCPU: timers whose restoring would lose an interrupt that came meanwhile, so
 * that nothing may send one. */
void arch_vcpu_timer_go_on(int vcpu_fd, const struct arch_vcpu_state *state,
			   struct arch_clock *clock);
/* … and last: what interrupts vCPUs without being theirs. */
void arch_clock_ticks_go_on(struct arch_vm *vm, struct arch_clock *clock);
/* vCPU thread, let go and before its next KVM_RUN: its own counter and timers. */
void arch_vcpu_go_on(int vcpu_fd, struct arch_vcpu_state *state, struct arch_clock *clock);

/* ---- a frozen machine's state, for a snapshot ------------------------------------------------ */

/* What of its CPUs a snapshot's host has to have, in words and as bits: for people. */
void arch_vm_features(const struct arch_vm *vm,
		      void (*each)(const char *name, uint32_t bits, void *arg), void *arg);
/* What fails in these is in io: state_result. Restoring, what is read is hostile, and refused by
 * name. */
/* Control thread, the clock stopped: what is the VM's, not a vCPU's. */
void arch_vm_save(struct arch_vm *vm, const struct arch_clock *clock, struct state_io *io);
/* Control thread, after the vCPUs were created and before any is set up. x86: the VM's clocks go on
 * from the snapshot's instant. Then each vCPU, arch_vm_vcpus_restored, arch_clock_ticks_go_on. */
void arch_vm_restore(struct arch_vm *vm, struct arch_clock *clock, struct state_io *io);
/* Control thread, after each vCPU was restored and before any runs (aarch64: the GIC, and the
 * counter, which goes on; x86: nothing). */
int arch_vm_vcpus_restored(struct arch_vm *vm, struct error *err) MUST_CHECK;
/* Whether an edge on it would be lost now, because a controller of KVM's has it masked. Any thread.
 */
bool arch_edge_is_lost(const struct kvm *kvm, uint32_t gsi);
/* vCPU thread, parked: everything of one vCPU. state: of that park. */
void arch_vcpu_save(struct arch_vm *vm, unsigned index, int vcpu_fd,
		    const struct arch_vcpu_state *state, struct arch_clock *clock,
		    struct state_io *io);
/* vCPU thread, instead of arch_vcpu_setup. Refuses what this host's CPUs lack, by name. A vCPU that
 * never ran stays so. */
void arch_vcpu_restore(struct arch_vm *vm, unsigned index, int vcpu_fd, struct arch_clock *clock,
		       struct state_io *io);

/* ---- data watchpoints ------------------------------------------------------------------------ */

#define ARCH_WATCHES 4

struct arch_watch {
	uint64_t gva;	/* aligned to bytes */
	uint32_t bytes; /* 1, 2, 4 or 8; 0: no watch */
};

/* How many of them this host can have armed at once, at most ARCH_WATCHES. */
unsigned arch_watches(const struct kvm *kvm);
/* Whether gva lies in the half of addresses that is the kernel's. Pure. */
bool arch_kernel_address(uint64_t gva);

enum arch_watch_how {
	ARCH_WATCH_RUN,
	ARCH_WATCH_STEP,    /* … and stop after one instruction */
	ARCH_WATCH_PASS_ON, /* … and let the guest have the debug exception that was its own */
};
/* vCPU thread, out of KVM_RUN: stores to these end KVM_RUN with KVM_EXIT_DEBUG from now on. All
 * none: as before the first call. While any is armed, the guest's own watchpoints don't work. run
 * is what ARCH_WATCH_PASS_ON is about. Negative errno. */
int arch_vcpu_watch(int vcpu_fd, const struct arch_watch watch[ARCH_WATCHES],
		    enum arch_watch_how how, const struct kvm_run *run) MUST_CHECK;

/* What a KVM_EXIT_DEBUG was. */
enum arch_debug {
	ARCH_DEBUG_STORED,  /* a store to the slots has been done */
	ARCH_DEBUG_STORING, /* the next instruction does it: step it, with those slots not armed */
	ARCH_DEBUG_STEPPED, /* it has been stepped */
	ARCH_DEBUG_GUEST,   /* the guest debugs itself: arm with ARCH_WATCH_PASS_ON */
	ARCH_DEBUG_STORED_AND_GUEST, /* both at once, as when it steps over such a store */
};
/* vCPU thread, after KVM_RUN. watch: what was armed in it. *ret_slots: bit n for slot n, several at
 * once for one store; *ret_sure: those of them that it is to, whatever it stores. */
enum arch_debug arch_exit_debug(const struct kvm_run *run,
				const struct arch_watch watch[ARCH_WATCHES], uint32_t *ret_slots,
				uint32_t *ret_sure);

/* The instruction that is to do a store, where ARCH_DEBUG_STORING is. */
struct arch_store {
	uint64_t pc;
	uint64_t
		context; /* no two threads of the guest's have the same at the same pc: the stack */
	/* The second of a pair with a load before it, which any exception takes apart: stepped, it
	 * would fail for ever. The rest is of such a store only. */
	bool exclusive;
	uint32_t bytes; /* 1, 2, 4, 8 or 16 */
	uint64_t gva;	/* aligned to bytes; its top byte may be a tag */
	uint64_t gpa;	/* of its first byte */
	unsigned __int128 value;
	uint64_t status; /* the architecture's */
};
/* vCPU thread, at ARCH_DEBUG_STORING; mem has the guest's code. Negative errno: not to be had. */
int arch_vcpu_store(int vcpu_fd, const struct guest_memory *mem,
		    struct arch_store *ret_store) MUST_CHECK;
/* vCPU thread, at ARCH_DEBUG_STEPPED: false where an interrupt came before it. */
bool arch_vcpu_store_done(int vcpu_fd, const struct arch_store *store);
/* vCPU thread: goes on behind an exclusive store, which has been done for it or has failed. */
int arch_vcpu_store_end(int vcpu_fd, const struct arch_store *store, bool stored) MUST_CHECK;

/* Whether this KVM ends KVM_RUN at a watched store: a software back end may take the request and
 * do nothing. Runs a small guest; as arch_probe. */
int arch_probe_watch(const struct kvm *kvm, bool *ret_fires, struct error *err) MUST_CHECK;

/* ---- looking into a guest's kernel ---------------------------------------------------------- */

/* One line of the kernel's VMCOREINFO as a number, by its key ("NUMBER(phys_base)"); false: none.
 * Symbols' addresses are hexadecimal there, numbers decimal and perhaps negative. */
struct arch_kernel_info {
	bool (*number)(const void *arg, const char *key, uint64_t *ret_value);
	const void *arg;
};

/* The kernel's own tables. -ENOENT if the lines that it takes are not there or make no sense. */
int arch_paging_kernel(const struct arch_kernel_info *info,
		       struct arch_paging *ret_paging) MUST_CHECK;
/* Where the kernel maps RAM as a whole: guest physical address gpa is at *ret_base + gpa (modulo
 * 2^64). variable reads a kernel variable of 8 bytes, and is false where there is none. It is what
 * the guest says: check it by a walk. -ENOENT: it doesn't say. */
int arch_direct_map(const struct arch_kernel_info *info,
		    bool (*variable)(void *arg, const char *name, uint64_t *ret_value), void *arg,
		    uint64_t *ret_base) MUST_CHECK;
/* Bits of a virtual address that mean something: 48, 57. Pure. */
unsigned arch_paging_va_bits(const struct arch_paging *p);
/* A word from a user's register or stack as the address that it is: without a tag and, if it is of
 * code, a signature (aarch64). Pure. */
uint64_t arch_user_address(const struct arch_paging *user, uint64_t word, bool code);
/* Walks to gva. *ret_len: bytes from there to the end of its page (huge pages are one page).
 * -EFAULT where nothing is mapped. The address may lie outside of RAM. Any thread. */
int arch_walk(const struct arch_paging *p, const struct guest_reader *mem, uint64_t gva,
	      uint64_t *ret_gpa, uint64_t *ret_len) MUST_CHECK;

/* ---- unwinding a guest kernel's stack ------------------------------------------------------- */

/* How a frame's address was found, given the frame above it. */
enum arch_unwind_by {
	ARCH_BY_REGISTERS,     /* the vCPU's own program counter */
	ARCH_BY_ORC,	       /* x86: the kernel's unwind tables */
	ARCH_BY_CALL,	       /* x86: where those have none, by the call that led here */
	ARCH_BY_FRAME_POINTER, /* x86: rbp, where no table covers the code */
	ARCH_BY_FRAME_RECORD,  /* aarch64: x29 */
	ARCH_BY_LINK_REGISTER, /* aarch64: x30, of a function without a record */
	ARCH_BY_GUESS,	       /* a word on the stack that looks like a return address */
};

/* Where an unwinding is: the registers of one frame. Plain data. */
struct arch_unwind {
	uint64_t pc, sp, fp;
	uint64_t extra[4]; /* x86: rdx, rdi, r10, r13; aarch64: x30 */
	bool extra_known;
	bool exact; /* pc is an instruction to run; false: an address to return to */
};

/* The unwind table that covers some code (x86: ORC). */
struct arch_unwind_table {
	uint64_t place_gva; /* s32[count]: code's address minus the word's own; ascending */
	uint64_t entry_gva; /* as many entries */
	uint32_t count;
};

/* What an unwinder asks of whoever knows the kernel. The answers come from the guest. */
struct arch_unwind_kernel {
	/* All of it, or a negative errno. */
	int (*read)(const void *arg, uint64_t gva, void *dst, size_t len);
	/* Where the function that gva is in begins; 0: gva is no code. */
	uint64_t (*function)(const void *arg, uint64_t gva);
	/* False: no table covers gva. */
	bool (*table)(const void *arg, uint64_t gva, struct arch_unwind_table *ret_table);
	const void *arg;
	unsigned release; /* 0x060c for 6.12; 0: not known */
	unsigned va_bits;
};

/* The first frame: where the vCPU is. */
void arch_vcpu_unwind(const struct arch_vcpu_state *state, struct arch_unwind *ret_u);
/* The task that a vCPU in kernel mode says it runs; 0: it is not in a register. */
uint64_t arch_vcpu_task(const struct arch_vcpu_state *state);
/* Goes to the caller's frame, and says how. 1: it is there; 0: there is none, the stack is
 * complete; -ENOENT: there is no way on, u is as it was. Each call reads a bounded amount; that
 * the stack grows and ends is the caller's to see to. Pure but for k. Any thread. */
int arch_unwind_next(struct arch_unwind *u, const struct arch_unwind_kernel *k,
		     enum arch_unwind_by *ret_by) MUST_CHECK;
/* Whether a call may end at the end of code. Pure. */
#define ARCH_CALL_BYTES 8
bool arch_unwind_after_call(const uint8_t code[ARCH_CALL_BYTES]);

#endif
