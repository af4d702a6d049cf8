/* The whole state of a vCPU and of the VM, as KVM gives and takes it: structs of its ABI, each a
 * section, by one function that saves and restores. Each function's thread is in arch.h.
 *
 * Restored in this order, since each needs what stands before it: CPUID decides what the others may
 * hold; the special registers say which mode the APIC is in; the TSC's deadline needs the APIC's
 * timer and the TSC; events come last, as the others drop what is pending. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/x86_64/machine.h"
#include "base/util.h"

#define MSR_TSC		 0x10
#define MSR_TSC_DEADLINE 0x6E0
#define MSRS_AT_ONCE	 256 /* KVM's own limit (arch/x86/kvm/x86.c, MAX_IO_MSRS) */
#define MSRS_MAX	 4096
#define UNLISTED_MAX	 32

#define APIC_TIMER_CURRENT 0x390

#define CR4_VMXE  (1u << 13)
#define EFER_SVME (1u << 12)
#define TSC_PPM	  250 /* how far a TSC's rate may be off, as NTP puts it right */

/* KVM has had KVM_GET_XSAVE2 and its capability since Linux 5.17. */
#ifndef KVM_CAP_XSAVE2
#define KVM_CAP_XSAVE2 208
#define KVM_GET_XSAVE2 _IOR(KVMIO, 0xcf, struct kvm_xsave)
#endif

enum { VERSION = 1 };

struct saved_msr {
	uint32_t index;
	uint64_t value;
};

/* ---- what CPUs have ------------------------------------------------------------------------- */

enum reg { EAX, EBX, ECX, EDX };
static const char reg_names[][4] = {"EAX", "EBX", "ECX", "EDX"};

/* Where CPUID says what a CPU can, a bit each (SDM vol. 2, CPUID; APM vol. 3, appendix E; KVM's
 * cpuid.rst). not: bits that follow what the guest does, or say whose id it is. */
static const struct feature_word {
	uint32_t function, index;
	enum reg reg;
	uint32_t not ;
} feature_words[] = {
	{0x1, 0, ECX, 1u << 27 /* OSXSAVE */ | 1u << 3 /* MONITOR, by MISC_ENABLE */},
	{0x1, 0, EDX, 1u << 9 /* APIC, by its base */},
	{0x7, 0, EBX, 0},
	{0x7, 0, ECX, 1u << 4 /* OSPKE */},
	{0x7, 0, EDX, 0},
	{0x7, 1, EAX, 0},
	{0x7, 1, EDX, 0},
	{0xd, 0, EAX, 0},
	{0xd, 1, EAX, 0},
	{0x40000001, 0, EAX, 0},
	{0x80000001, 0, ECX, 0},
	{0x80000001, 0, EDX, 1u << 9},
	{0x80000007, 0, EDX, 0},
	{0x80000008, 0, EBX, 0},
};

static const struct kvm_cpuid_entry2 *find(const struct kvm_cpuid_entry2 *entry, unsigned count,
					   uint32_t function, uint32_t index)
{
	for (unsigned i = 0; i < count; i++)
		if (entry[i].function == function && entry[i].index == index)
			return &entry[i];
	return NULL;
}

static uint32_t word_of(const struct kvm_cpuid_entry2 *entry, unsigned count,
			const struct feature_word *w)
{
	const struct kvm_cpuid_entry2 *e = find(entry, count, w->function, w->index);
	uint32_t value;

	if (!e)
		return 0;
	value = w->reg == EAX ? e->eax : w->reg == EBX ? e->ebx : w->reg == ECX ? e->ecx : e->edx;
	return value & ~w->not ;
}

void arch_vm_features(const struct arch_vm *vm,
		      void (*each)(const char *name, uint32_t bits, void *arg), void *arg)
{
	CLEANUP_FREE struct kvm_cpuid2 *cpuid = cpuid_of(vm, 0);
	char name[32];

	for (size_t i = 0; cpuid && i < ARRAY_SIZE(feature_words); i++) {
		const struct feature_word *w = &feature_words[i];

		snprintf(name, sizeof(name), "CPUID.%XH.%X:%s", w->function, w->index,
			 reg_names[w->reg]);
		each(name, word_of(cpuid->entries, cpuid->nent, w), arg);
	}
}

static struct kvm_cpuid2 *new_cpuid(void)
{
	struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + CPUID_MAX * sizeof(cpuid->entries[0]));

	if (cpuid)
		cpuid->nent = CPUID_MAX;
	return cpuid;
}

/* Against what a new machine would be given here, and what KVM makes of that: a software back end
 * adds what it can't hide. */
static void check_features(const struct arch_vm *vm, unsigned index, int fd,
			   const struct kvm_cpuid_entry2 *entry, unsigned count,
			   struct state_io *io)
{
	CLEANUP_FREE struct kvm_cpuid2 *own = cpuid_of(vm, index), *taken = new_cpuid();
	const struct kvm_cpuid_entry2 *theirs, *ours;
	int r = own && taken ? kvm_ioctl(fd, KVM_SET_CPUID2, own) : -ENOMEM;

	if (r == 0)
		r = kvm_ioctl(fd, KVM_GET_CPUID2, taken);
	if (r < 0) {
		state_fail(io, r, "reading this host's CPUID");
		return;
	}
	theirs = find(entry, count, 0, 0);
	ours = find(own->entries, own->nent, 0, 0);
	if (!theirs || !ours || theirs->ebx != ours->ebx || theirs->ecx != ours->ecx ||
	    theirs->edx != ours->edx)
		state_refuse(io, "", "the CPU is of another vendor than this host's");
	for (size_t i = 0; i < ARRAY_SIZE(feature_words); i++) {
		const struct feature_word *w = &feature_words[i];
		uint32_t lacks = word_of(entry, count, w) & ~word_of(own->entries, own->nent, w) &
				 ~word_of(taken->entries, taken->nent, w);

		if (lacks)
			state_refuse(io, "",
				     "this host lacks a CPU feature, CPUID.%XH.%X:%s[bit %d]",
				     w->function, w->index, reg_names[w->reg],
				     __builtin_ctz(lacks));
	}
}

/* ---- MSRs ----------------------------------------------------------------------------------- */

/* The memory types of ranges, which KVM has and does not list (SDM vol. 3, 12.11). */
static const struct {
	uint32_t first, count;
} unlisted[] = {{0x200, 16}, {0x250, 1}, {0x258, 2}, {0x268, 8}, {0x2ff, 1}};

static bool is_listed(const struct kvm_msr_list *list, uint32_t index)
{
	for (unsigned i = 0; i < list->nmsrs; i++)
		if (list->indices[i] == index)
			return true;
	return false;
}

/* Every one that KVM lists, and those that it should. The caller frees it. */
static int list_msrs(const struct kvm *kvm, struct kvm_msr_list **ret_list)
{
	struct kvm_msr_list *list =
		calloc(1, sizeof(*list) + (MSRS_MAX + UNLISTED_MAX) * sizeof(uint32_t));
	int r;

	if (!list)
		return -ENOMEM;
	list->nmsrs = MSRS_MAX;
	r = kvm_ioctl(kvm->fd, KVM_GET_MSR_INDEX_LIST, list);
	if (r < 0) {
		free(list);
		return r;
	}
	for (size_t i = 0; i < ARRAY_SIZE(unlisted); i++)
		for (uint32_t n = 0; n < unlisted[i].count; n++)
			if (!is_listed(list, unlisted[i].first + n))
				list->indices[list->nmsrs++] = unlisted[i].first + n;
	*ret_list = list;
	return 0;
}

static struct kvm_msrs *new_msrs(unsigned room)
{
	struct kvm_msrs *msrs = NULL;

	return calloc(1, sizeof(*msrs) + room * sizeof(msrs->entries[0]));
}

/* KVM stops at the first that this CPU doesn't have: each such is left out. Returns how many were
 * kept, or a negative errno. */
static int read_msrs(int fd, const struct kvm_msr_list *list, struct saved_msr *ret)
{
	CLEANUP_FREE struct kvm_msrs *block = new_msrs(MSRS_AT_ONCE);
	unsigned at = 0, kept = 0;

	if (!block)
		return -ENOMEM;
	while (at < list->nmsrs) {
		unsigned count = MIN(list->nmsrs - at, (unsigned)MSRS_AT_ONCE);
		int r;

		block->nmsrs = count;
		for (unsigned i = 0; i < count; i++)
			block->entries[i] = (struct kvm_msr_entry){.index = list->indices[at + i]};
		r = kvm_ioctl(fd, KVM_GET_MSRS, block);
		if (r < 0)
			return r;
		for (int i = 0; i < r; i++) {
			const struct kvm_msr_entry *e = &block->entries[i];

			/* They have an item of their own. */
			if (e->index != MSR_TSC && e->index != MSR_TSC_DEADLINE)
				ret[kept++] = (struct saved_msr){e->index, e->data};
		}
		at += (unsigned)r + ((unsigned)r < count);
	}
	return (int)kept;
}

static void msr_list_state(struct state_io *io, struct saved_msr *msr, uint32_t *count)
{
	state_u32(io, "count", count);
	state_check(io, "count", *count <= MSRS_MAX + UNLISTED_MAX);
	for (uint32_t i = 0; !io->err.code && i < *count; i++) {
		state_u32(io, "index", &msr[i].index);
		state_u64(io, "value", &msr[i].value);
	}
}

static int get_msrs(const struct arch_vm *vm, int fd, struct saved_msr *msr, uint32_t *ret_count)
{
	CLEANUP_FREE struct kvm_msr_list *list = NULL;
	int r = list_msrs(vm->kvm, &list);

	if (r == 0)
		r = read_msrs(fd, list, msr);
	if (r < 0)
		return r;
	*ret_count = (uint32_t)r;
	return 0;
}

static int one_msr(int fd, unsigned long request, uint32_t index, uint64_t *value)
{
	CLEANUP_FREE struct kvm_msrs *block = new_msrs(1);
	int r;

	if (!block)
		return -ENOMEM;
	block->nmsrs = 1;
	block->entries[0] = (struct kvm_msr_entry){.index = index, .data = *value};
	r = kvm_ioctl(fd, request, block);
	*value = block->entries[0].data;
	return r < 0 ? r : r == 1 ? 0 : -ENODEV;
}

/* KVM stops at the first that it doesn't take: one that can't be written is right if it has that
 * value. */
static void set_msrs(int fd, const struct saved_msr *msr, uint32_t count, struct state_io *io)
{
	CLEANUP_FREE struct kvm_msrs *block = new_msrs(MSRS_AT_ONCE);
	uint32_t at = 0;

	if (!block)
		state_fail(io, -ENOMEM, "restoring MSRs");
	while (!io->err.code && at < count) {
		uint32_t n = MIN(count - at, (uint32_t)MSRS_AT_ONCE);
		uint64_t value = 0;
		int r;

		block->nmsrs = n;
		for (uint32_t i = 0; i < n; i++)
			block->entries[i] = (struct kvm_msr_entry){.index = msr[at + i].index,
								   .data = msr[at + i].value};
		r = kvm_ioctl(fd, KVM_SET_MSRS, block);
		if (r < 0) {
			state_fail(io, r, "restoring MSRs");
			break;
		}
		at += (uint32_t)r;
		if ((uint32_t)r == n)
			continue;
		if (one_msr(fd, KVM_GET_MSRS, msr[at].index, &value) < 0 || value != msr[at].value)
			state_refuse(io, "", "this host's KVM takes no %#llx for %#x",
				     (unsigned long long)msr[at].value, msr[at].index);
		at++;
	}
}

static void msrs_state(const struct arch_vm *vm, int fd, struct state_io *io)
{
	CLEANUP_FREE struct saved_msr *msr = calloc(MSRS_MAX + UNLISTED_MAX, sizeof(*msr));
	uint32_t count = 0;
	int r = !msr ? -ENOMEM : io->restoring ? 0 : get_msrs(vm, fd, msr, &count);

	if (r < 0)
		state_fail(io, r, "reading MSRs");
	if (state_begin(io, "msrs", VERSION)) {
		msr_list_state(io, msr, &count);
		if (state_restoring(io))
			set_msrs(fd, msr, count, io);
	}
	state_end(io);
}

/* ---- structs of fixed size -------------------------------------------------------------------
 */

/* room: as aligned as any of them needs. */
union part {
	struct kvm_mp_state mp;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_vcpu_events events;
};

struct part_kind {
	const char *name;
	unsigned long get, set;
	size_t size;
};
#define PART(name, GET, SET, type)                                                                 \
	{                                                                                          \
		name, GET, SET, sizeof(type)                                                       \
	}
static const struct part_kind sregs_part =
	PART("sregs", KVM_GET_SREGS, KVM_SET_SREGS, struct kvm_sregs);
static const struct part_kind regs_part = PART("regs", KVM_GET_REGS, KVM_SET_REGS, struct kvm_regs);
static const struct part_kind xcrs_part = PART("xcrs", KVM_GET_XCRS, KVM_SET_XCRS, struct kvm_xcrs);
static const struct part_kind debug_part =
	PART("debugregs", KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, struct kvm_debugregs);
static const struct part_kind mp_part =
	PART("mp", KVM_GET_MP_STATE, KVM_SET_MP_STATE, struct kvm_mp_state);
static const struct part_kind events_part =
	PART("events", KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, struct kvm_vcpu_events);

static void part_state(int fd, const struct part_kind *kind, struct state_io *io)
{
	union part part = {0};
	int r = io->restoring ? 0 : kvm_ioctl(fd, kind->get, &part);

	if (state_begin(io, kind->name, VERSION))
		state_bytes(io, "struct", &part, kind->size);
	if (state_restoring(io))
		r = kvm_ioctl(fd, kind->set, &part);
	if (r < 0)
		state_fail(io, r, io->restoring ? "KVM does not take it" : "reading it");
	state_end(io);
}

/* ---- those of a size of their own ------------------------------------------------------------
 */

static void cpuid_state(const struct arch_vm *vm, unsigned index, int fd, struct state_io *io)
{
	CLEANUP_FREE struct kvm_cpuid2 *cpuid = new_cpuid();
	int r = !cpuid ? -ENOMEM : io->restoring ? 0 : kvm_ioctl(fd, KVM_GET_CPUID2, cpuid);

	if (r < 0)
		state_fail(io, r, "reading the CPUID");
	if (state_begin(io, "cpuid", VERSION)) {
		state_u32(io, "entries", &cpuid->nent);
		state_check(io, "entries", cpuid->nent <= CPUID_MAX);
		state_bytes(io, "entry", cpuid->entries,
			    io->err.code ? 0 : cpuid->nent * sizeof(cpuid->entries[0]));
		if (state_restoring(io))
			check_features(vm, index, fd, cpuid->entries, cpuid->nent, io);
		r = state_restoring(io) ? kvm_ioctl(fd, KVM_SET_CPUID2, cpuid) : 0;
		if (r < 0)
			state_fail(io, r, "KVM does not take it");
	}
	state_end(io);
}

/* Bytes that KVM gives and takes. */
static size_t xsave_size(const struct arch_vm *vm, bool *ret_new)
{
	int size = kvm_cap(vm->kvm, KVM_CAP_XSAVE2);

	*ret_new = size >= (int)sizeof(struct kvm_xsave);
	return *ret_new ? (size_t)size : sizeof(struct kvm_xsave);
}

static void xsave_state(const struct arch_vm *vm, int fd, struct state_io *io)
{
	bool new;
	size_t size = xsave_size(vm, &new);
	CLEANUP_FREE void *xsave = calloc(1, size);
	uint32_t bytes = (uint32_t)size;
	int r = !xsave		? -ENOMEM
		: io->restoring ? 0
				: kvm_ioctl(fd, new ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, xsave);

	if (r < 0)
		state_fail(io, r, "reading extended state");
	if (state_begin(io, "xsave", VERSION)) {
		state_u32(io, "bytes", &bytes);
		if (bytes < sizeof(struct kvm_xsave) || bytes > size)
			state_refuse(io, "", "it has %u bytes, and this host's KVM takes %zu",
				     bytes, size);
		state_bytes(io, "area", xsave, io->err.code ? 0 : bytes);
		r = state_restoring(io) ? kvm_ioctl(fd, KVM_SET_XSAVE, xsave) : 0;
		if (r < 0)
			state_fail(io, r, "KVM does not take it");
	}
	state_end(io);
}

/* Interrupts as they are now; a timer that counts, as it was. state: NULL to restore. */
static void lapic_state(int fd, const struct arch_vcpu_state *state, struct state_io *io)
{
	struct kvm_lapic_state lapic = {0};
	int r = io->restoring ? 0 : kvm_ioctl(fd, KVM_GET_LAPIC, &lapic);

	if (state && state->counts)
		memcpy(lapic.regs + APIC_TIMER_CURRENT, state->lapic.regs + APIC_TIMER_CURRENT,
		       sizeof(uint32_t));
	if (state_begin(io, "lapic", VERSION))
		state_bytes(io, "struct", &lapic, sizeof(lapic));
	if (state_restoring(io))
		r = kvm_ioctl(fd, KVM_SET_LAPIC, &lapic);
	if (r < 0)
		state_fail(io, r, io->restoring ? "KVM does not take it" : "reading it");
	state_end(io);
}

struct tsc {
	uint64_t tsc;	   /* when the VM's clock was stopped */
	uint64_t deadline; /* 0: the timer has none */
	uint32_t khz;
};

static void restore_tsc(const struct arch_vm *vm, int fd, struct arch_clock *clock,
			const struct tsc *saved, int khz, struct state_io *io)
{
	uint64_t deadline = saved->deadline, apart = 0;

	if (khz > 0 && saved->khz)
		apart = (uint64_t)llabs((long long)khz - saved->khz) * 1000000 / saved->khz;
	if (apart > TSC_PPM && kvm_ioctl(fd, KVM_SET_TSC_KHZ, (void *)(uintptr_t)saved->khz) < 0) {
		state_refuse(io, "", "it runs at %u kHz, and this host's at %d kHz can't be scaled",
			     saved->khz, khz);
		return;
	}
	if (apart > TSC_PPM)
		clock_scale_tsc(clock, saved->khz, (uint32_t)khz);
	clock_restore_tsc(fd, saved->tsc, vm->restored_tsc, clock);
	if (deadline && one_msr(fd, KVM_SET_MSRS, MSR_TSC_DEADLINE, &deadline) < 0)
		state_refuse(io, "", "this host's KVM has no deadline timer");
}

static void tsc_state(const struct arch_vm *vm, int fd, const struct arch_vcpu_state *state,
		      struct arch_clock *clock, struct state_io *io)
{
	int khz = kvm_ioctl(fd, KVM_GET_TSC_KHZ, NULL);
	struct tsc tsc = {.khz = khz > 0 ? (uint32_t)khz : 0};

	if (state) {
		tsc.tsc = clock_saved_tsc(fd, state, clock);
		tsc.deadline = state->deadline;
	}
	if (state_begin(io, "tsc", VERSION)) {
		state_u64(io, "tsc", &tsc.tsc);
		state_u64(io, "deadline", &tsc.deadline);
		state_u32(io, "khz", &tsc.khz);
		if (state_restoring(io))
			restore_tsc(vm, fd, clock, &tsc, khz, io);
	}
	state_end(io);
}

/* ---- one vCPU -------------------------------------------------------------------------------- */

static bool has_xcrs(const struct arch_vm *vm)
{
	return kvm_cap(vm->kvm, KVM_CAP_XCRS) > 0;
}

/* state: what was captured; NULL to restore. */
static void vcpu_state(const struct arch_vm *vm, unsigned index, int fd,
		       const struct arch_vcpu_state *state, struct arch_clock *clock,
		       struct state_io *io)
{
	cpuid_state(vm, index, fd, io);
	part_state(fd, &sregs_part, io);
	part_state(fd, &regs_part, io);
	xsave_state(vm, fd, io);
	if (has_xcrs(vm))
		part_state(fd, &xcrs_part, io);
	part_state(fd, &debug_part, io);
	lapic_state(fd, state, io);
	msrs_state(vm, fd, io);
	tsc_state(vm, fd, state, clock, io);
	part_state(fd, &mp_part, io);
	part_state(fd, &events_part, io);
}

void arch_vcpu_save(struct arch_vm *vm, unsigned index, int fd, const struct arch_vcpu_state *state,
		    struct arch_clock *clock, struct state_io *io)
{
	struct kvm_mp_state mp;

	/* First: it takes in INIT and start-up, which change the others. None comes later, since
	 * every vCPU is parked. */
	if (kvm_ioctl(fd, KVM_GET_MP_STATE, &mp) < 0)
		state_refuse(io, "mp", "KVM does not give it");
	else if ((state->sregs.efer & EFER_SVME) || (state->sregs.cr4 & CR4_VMXE))
		state_refuse(io, "",
			     "a guest that runs virtual machines of its own can't be "
			     "snapshotted yet");
	else
		vcpu_state(vm, index, fd, state, clock, io);
}

void arch_vcpu_restore(struct arch_vm *vm, unsigned index, int fd, struct arch_clock *clock,
		       struct state_io *io)
{
	vcpu_state(vm, index, fd, NULL, clock, io);
}

/* ---- the VM ---------------------------------------------------------------------------------- */

static const char *const chip_names[] = {
	[KVM_IRQCHIP_PIC_MASTER] = "pic-master",
	[KVM_IRQCHIP_PIC_SLAVE] = "pic-slave",
	[KVM_IRQCHIP_IOAPIC] = "ioapic",
};

static void chip_state(int vm_fd, uint32_t id, struct state_io *io)
{
	struct kvm_irqchip chip = {.chip_id = id};
	int r = io->restoring ? 0 : kvm_ioctl(vm_fd, KVM_GET_IRQCHIP, &chip);

	if (state_begin(io, chip_names[id], VERSION)) {
		state_bytes(io, "struct", &chip, sizeof(chip));
		state_check(io, "chip_id", chip.chip_id == id);
	}
	if (state_restoring(io))
		r = kvm_ioctl(vm_fd, KVM_SET_IRQCHIP, &chip);
	if (r < 0)
		state_fail(io, r, io->restoring ? "KVM does not take it" : "reading it");
	state_end(io);
}

bool arch_edge_is_lost(const struct kvm *kvm, uint32_t gsi)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};

	return gsi < KVM_IOAPIC_NUM_PINS && kvm_ioctl(kvm->vm_fd, KVM_GET_IRQCHIP, &chip) == 0 &&
	       chip.chip.ioapic.redirtbl[gsi].fields.mask;
}

static void pit_state(struct arch_vm *vm, struct state_io *io)
{
	struct kvm_pit_state2 pit = vm->pit.was;
	int r = 0;

	/* A freeze stops one that ticks. */
	if (!io->restoring && !vm->pit.stopped)
		r = kvm_ioctl(vm->kvm->vm_fd, KVM_GET_PIT2, &pit);
	if (r < 0)
		state_fail(io, r, "reading the PIT");
	if (state_begin(io, "pit", VERSION))
		state_bytes(io, "struct", &pit, sizeof(pit));
	state_end(io);
	if (state_restoring(io))
		vm->pit.was = pit;
}

static void clock_state(uint64_t *guest_ns, struct state_io *io)
{
	if (state_begin(io, "clock", VERSION))
		state_u64(io, "guest_ns", guest_ns);
	state_end(io);
}

/* With the IOAPIC in user space KVM has no other, and no PIT: it is the board's then. */
static void controllers_state(struct arch_vm *vm, struct state_io *io)
{
	if (vm->split_irqchip)
		return;
	for (uint32_t i = 0; i < ARRAY_SIZE(chip_names); i++)
		chip_state(vm->kvm->vm_fd, i, io);
	pit_state(vm, io);
}

void arch_vm_save(struct arch_vm *vm, const struct arch_clock *clock, struct state_io *io)
{
	uint64_t guest_ns = clock->guest_ns;

	controllers_state(vm, io);
	clock_state(&guest_ns, io);
}

void arch_vm_restore(struct arch_vm *vm, struct arch_clock *clock, struct state_io *io)
{
	uint64_t guest_ns = 0;

	controllers_state(vm, io);
	clock_state(&guest_ns, io);
	/* All of it was there, before the clock goes on. */
	if (state_result(io, NULL) < 0)
		return;
	/* It ticks when the vCPUs go: arch_clock_ticks_go_on. */
	vm->pit.stopped = !vm->split_irqchip;
	vm->restored_tsc = clock_restore(vm, guest_ns, clock);
}

int arch_vm_vcpus_restored(struct arch_vm *vm UNUSED, struct error *err UNUSED)
{
	return 0;
}
