/* The whole state of a vCPU and of the VM, as KVM gives and takes it: structs of its ABI, each an
 * item. Each function's thread is in arch.h.
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
#define CPUID_MAX	 256
#define XSAVE_MAX	 KIB(64)

#define APIC_TIMER_CURRENT 0x390

#define CR4_VMXE  (1u << 13)
#define EFER_SVME (1u << 12)
#define TSC_PPM	  250 /* how far a TSC's rate may be off, as NTP puts it right */

/* KVM has had KVM_GET_XSAVE2 and its capability since Linux 5.17. */
#ifndef KVM_CAP_XSAVE2
#define KVM_CAP_XSAVE2 208
#define KVM_GET_XSAVE2 _IOR(KVMIO, 0xcf, struct kvm_xsave)
#endif

enum { ITEM_VERSION = 1 };

struct saved_msr {
	uint32_t index, reserved;
	uint64_t value;
};

struct saved_tsc {
	uint64_t tsc;	   /* when the VM's clock was stopped */
	uint64_t deadline; /* 0: the timer has none */
	uint32_t khz;
	uint32_t reserved;
};

struct saved_clock {
	uint64_t guest_ns; /* kvmclock */
};

int arch_snapshot_check(const struct arch_vm *vm, struct error *err)
{
	if (vm->split_irqchip)
		return error_usage(err, "a machine with CPUs past local APIC id 254 can't be "
					"snapshotted yet: its IOAPIC's state isn't saved");
	return 0;
}

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
static int check_features(const struct arch_vm *vm, unsigned index, int fd,
			  const struct kvm_cpuid_entry2 *entry, unsigned count, const char *where,
			  struct error *err)
{
	CLEANUP_FREE struct kvm_cpuid2 *own = cpuid_of(vm, index), *taken = new_cpuid();
	const struct kvm_cpuid_entry2 *theirs, *ours;
	int r = own && taken ? kvm_ioctl(fd, KVM_SET_CPUID2, own) : -ENOMEM;

	if (r == 0)
		r = kvm_ioctl(fd, KVM_GET_CPUID2, taken);
	if (r < 0)
		return error_set(err, r, "reading this host's CPUID");
	theirs = find(entry, count, 0, 0);
	ours = find(own->entries, own->nent, 0, 0);
	if (!theirs || !ours || theirs->ebx != ours->ebx || theirs->ecx != ours->ecx ||
	    theirs->edx != ours->edx)
		return error_usage(err, "%s: cpuid: the CPU is of another vendor than this host's",
				   where);
	for (size_t i = 0; i < ARRAY_SIZE(feature_words); i++) {
		const struct feature_word *w = &feature_words[i];
		uint32_t lacks = word_of(entry, count, w) & ~word_of(own->entries, own->nent, w) &
				 ~word_of(taken->entries, taken->nent, w);

		if (lacks)
			return error_usage(err,
					   "%s: cpuid: this host lacks a CPU feature, "
					   "CPUID.%XH.%X:%s[bit %d]",
					   where, w->function, w->index, reg_names[w->reg],
					   __builtin_ctz(lacks));
	}
	return 0;
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
				ret[kept++] = (struct saved_msr){e->index, 0, e->data};
		}
		at += (unsigned)r + ((unsigned)r < count);
	}
	return (int)kept;
}

static int save_msrs(const struct arch_vm *vm, int fd, struct items_out *out)
{
	CLEANUP_FREE struct kvm_msr_list *list = NULL;
	CLEANUP_FREE struct saved_msr *saved = NULL;
	int r = list_msrs(vm->kvm, &list);

	if (r < 0)
		return r;
	saved = calloc(list->nmsrs + 1, sizeof(*saved));
	if (!saved)
		return -ENOMEM;
	r = read_msrs(fd, list, saved);
	if (r < 0)
		return r;
	items_put(out, "msrs", ITEM_VERSION, saved, (size_t)r * sizeof(*saved));
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
static int restore_msrs(int fd, struct items_in *in, struct error *err)
{
	CLEANUP_FREE struct kvm_msrs *block = new_msrs(MSRS_AT_ONCE);
	const uint8_t *data = NULL;
	size_t len = 0, count, at = 0;
	int r = items_view(in, "msrs", ITEM_VERSION, &data, &len, err);

	if (r < 0)
		return r;
	count = len / sizeof(struct saved_msr);
	if (len % sizeof(struct saved_msr) || count > MSRS_MAX + UNLISTED_MAX)
		return error_usage(err, "%s: msrs: %zu bytes", in->where, len);
	if (!block)
		return error_set(err, -ENOMEM, "restoring MSRs");
	while (at < count) {
		unsigned n = (unsigned)MIN(count - at, (size_t)MSRS_AT_ONCE);
		uint64_t value = 0;

		block->nmsrs = n;
		for (unsigned i = 0; i < n; i++) {
			struct saved_msr saved;

			memcpy(&saved, data + (at + i) * sizeof(saved), sizeof(saved));
			block->entries[i] =
				(struct kvm_msr_entry){.index = saved.index, .data = saved.value};
		}
		r = kvm_ioctl(fd, KVM_SET_MSRS, block);
		if (r < 0)
			return error_set(err, r, "restoring MSRs");
		at += (unsigned)r;
		if ((unsigned)r == n)
			continue;
		if (one_msr(fd, KVM_GET_MSRS, block->entries[r].index, &value) < 0 ||
		    value != block->entries[r].data)
			return error_usage(err, "%s: msrs: this host's KVM takes no %#llx for %#x",
					   in->where, (unsigned long long)block->entries[r].data,
					   block->entries[r].index);
		at++;
	}
	return 0;
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
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_irqchip irqchip;
	struct kvm_pit_state2 pit;
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
static const struct part_kind lapic_part =
	PART("lapic", KVM_GET_LAPIC, KVM_SET_LAPIC, struct kvm_lapic_state);
static const struct part_kind mp_part =
	PART("mp", KVM_GET_MP_STATE, KVM_SET_MP_STATE, struct kvm_mp_state);
static const struct part_kind events_part =
	PART("events", KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, struct kvm_vcpu_events);

static int save_part(int fd, const struct part_kind *kind, struct items_out *out)
{
	union part part = {0};
	int r = kvm_ioctl(fd, kind->get, &part);

	if (r == 0)
		items_put(out, kind->name, ITEM_VERSION, &part, kind->size);
	return r;
}

static int restore_part(int fd, const struct part_kind *kind, struct items_in *in,
			struct error *err)
{
	union part part = {0};
	int r = items_get(in, kind->name, ITEM_VERSION, &part, kind->size, err);

	if (r < 0)
		return r;
	r = kvm_ioctl(fd, kind->set, &part);
	return r < 0 ? error_set(err, r, "%s: %s: KVM does not take it", in->where, kind->name) : 0;
}

/* ---- those of a size of their own ------------------------------------------------------------
 */

static int save_cpuid(int fd, struct items_out *out)
{
	CLEANUP_FREE struct kvm_cpuid2 *cpuid = new_cpuid();
	int r;

	if (!cpuid)
		return -ENOMEM;
	r = kvm_ioctl(fd, KVM_GET_CPUID2, cpuid);
	if (r == 0)
		items_put(out, "cpuid", ITEM_VERSION, cpuid->entries,
			  cpuid->nent * sizeof(cpuid->entries[0]));
	return r;
}

static int restore_cpuid(const struct arch_vm *vm, unsigned index, int fd, struct items_in *in,
			 struct error *err)
{
	CLEANUP_FREE struct kvm_cpuid2 *cpuid = new_cpuid();
	const uint8_t *data = NULL;
	size_t len = 0;
	int r = items_view(in, "cpuid", ITEM_VERSION, &data, &len, err);

	if (r < 0)
		return r;
	if (!cpuid)
		return error_set(err, -ENOMEM, "restoring the CPUID");
	if (len % sizeof(cpuid->entries[0]) || len / sizeof(cpuid->entries[0]) > CPUID_MAX)
		return error_usage(err, "%s: cpuid: %zu bytes", in->where, len);
	cpuid->nent = (uint32_t)(len / sizeof(cpuid->entries[0]));
	memcpy(cpuid->entries, data, len);
	r = check_features(vm, index, fd, cpuid->entries, cpuid->nent, in->where, err);
	if (r < 0)
		return r;
	r = kvm_ioctl(fd, KVM_SET_CPUID2, cpuid);
	return r < 0 ? error_set(err, r, "%s: cpuid: KVM does not take it", in->where) : 0;
}

/* Bytes that KVM gives and takes. */
static size_t xsave_size(const struct arch_vm *vm, bool *ret_new)
{
	int size = kvm_cap(vm->kvm, KVM_CAP_XSAVE2);

	*ret_new = size >= (int)sizeof(struct kvm_xsave);
	return *ret_new ? (size_t)size : sizeof(struct kvm_xsave);
}

static int save_xsave(const struct arch_vm *vm, int fd, struct items_out *out)
{
	bool new;
	size_t size = xsave_size(vm, &new);
	CLEANUP_FREE void *xsave = calloc(1, size);
	int r = xsave ? kvm_ioctl(fd, new ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, xsave) : -ENOMEM;

	if (r == 0)
		items_put(out, "xsave", ITEM_VERSION, xsave, size);
	return r;
}

static int restore_xsave(const struct arch_vm *vm, int fd, struct items_in *in, struct error *err)
{
	bool new;
	size_t size = xsave_size(vm, &new), len = 0;
	const uint8_t *data = NULL;
	uint8_t *xsave;
	int r = items_view(in, "xsave", ITEM_VERSION, &data, &len, err);

	if (r < 0)
		return r;
	if (len < sizeof(struct kvm_xsave) || len > XSAVE_MAX || len > size)
		return error_usage(err, "%s: xsave: %zu bytes, and this host's KVM takes %zu",
				   in->where, len, size);
	xsave = calloc(1, size);
	if (!xsave)
		return error_set(err, -ENOMEM, "restoring extended state");
	memcpy(xsave, data, len);
	r = kvm_ioctl(fd, KVM_SET_XSAVE, xsave);
	free(xsave);
	return r < 0 ? error_set(err, r, "%s: xsave: KVM does not take it", in->where) : 0;
}

/* Interrupts as they are now; a timer that counts, as it was. */
static int save_lapic(int fd, const struct arch_vcpu_state *state, struct items_out *out)
{
	struct kvm_lapic_state lapic;
	int r = kvm_ioctl(fd, KVM_GET_LAPIC, &lapic);

	if (r < 0)
		return r;
	if (state->counts)
		memcpy(lapic.regs + APIC_TIMER_CURRENT, state->lapic.regs + APIC_TIMER_CURRENT,
		       sizeof(uint32_t));
	items_put(out, lapic_part.name, ITEM_VERSION, &lapic, sizeof(lapic));
	return 0;
}

static void save_tsc(int fd, const struct arch_vcpu_state *state, const struct arch_clock *clock,
		     struct items_out *out)
{
	int khz = kvm_ioctl(fd, KVM_GET_TSC_KHZ, NULL);
	const struct saved_tsc saved = {
		.tsc = clock_saved_tsc(fd, state, clock),
		.deadline = state->deadline,
		.khz = khz > 0 ? (uint32_t)khz : 0,
	};

	items_put(out, "tsc", ITEM_VERSION, &saved, sizeof(saved));
}

static int restore_tsc(const struct arch_vm *vm, int fd, struct arch_clock *clock,
		       struct items_in *in, uint64_t *ret_deadline, struct error *err)
{
	struct saved_tsc saved;
	int khz = kvm_ioctl(fd, KVM_GET_TSC_KHZ, NULL);
	int r = items_get(in, "tsc", ITEM_VERSION, &saved, sizeof(saved), err);
	uint64_t apart;

	if (r < 0)
		return r;
	apart = khz > 0 && saved.khz
			? (uint64_t)llabs((long long)khz - saved.khz) * 1000000 / saved.khz
			: 0;
	if (apart > TSC_PPM && kvm_ioctl(fd, KVM_SET_TSC_KHZ, (void *)(uintptr_t)saved.khz) < 0)
		return error_usage(err,
				   "%s: tsc: it runs at %u kHz, and this host's at %d kHz can't "
				   "be scaled",
				   in->where, saved.khz, khz);
	clock_restore_tsc(fd, saved.tsc, vm->restored_tsc, clock);
	*ret_deadline = saved.deadline;
	return 0;
}

/* ---- one vCPU -------------------------------------------------------------------------------- */

static bool has_xcrs(const struct arch_vm *vm)
{
	return kvm_cap(vm->kvm, KVM_CAP_XCRS) > 0;
}

int arch_vcpu_save(const struct arch_vm *vm, int fd, const struct arch_vcpu_state *state,
		   const struct arch_clock *clock, struct items_out *out, struct error *err)
{
	int r;

	if ((state->sregs.efer & EFER_SVME) || (state->sregs.cr4 & CR4_VMXE))
		return error_usage(err, "a guest that runs virtual machines of its own can't be "
					"snapshotted yet");
	r = save_cpuid(fd, out);
	if (r == 0)
		r = save_part(fd, &sregs_part, out);
	if (r == 0)
		r = save_part(fd, &regs_part, out);
	if (r == 0)
		r = save_xsave(vm, fd, out);
	if (r == 0 && has_xcrs(vm))
		r = save_part(fd, &xcrs_part, out);
	if (r == 0)
		r = save_part(fd, &debug_part, out);
	if (r == 0)
		r = save_lapic(fd, state, out);
	if (r == 0)
		r = save_msrs(vm, fd, out);
	if (r == 0)
		save_tsc(fd, state, clock, out);
	if (r == 0)
		r = save_part(fd, &mp_part, out);
	if (r == 0)
		r = save_part(fd, &events_part, out);
	return r < 0 ? error_set(err, r, "reading a vCPU's state") : 0;
}

int arch_vcpu_restore(struct arch_vm *vm, unsigned index, int fd, struct arch_clock *clock,
		      struct items_in *in, struct error *err)
{
	uint64_t deadline = 0;
	int r = restore_cpuid(vm, index, fd, in, err);

	if (r == 0)
		r = restore_part(fd, &sregs_part, in, err);
	if (r == 0)
		r = restore_part(fd, &regs_part, in, err);
	if (r == 0)
		r = restore_xsave(vm, fd, in, err);
	if (r == 0 && has_xcrs(vm))
		r = restore_part(fd, &xcrs_part, in, err);
	if (r == 0)
		r = restore_part(fd, &debug_part, in, err);
	if (r == 0)
		r = restore_part(fd, &lapic_part, in, err);
	if (r == 0)
		r = restore_msrs(fd, in, err);
	if (r == 0)
		r = restore_tsc(vm, fd, clock, in, &deadline, err);
	if (r == 0 && deadline && one_msr(fd, KVM_SET_MSRS, MSR_TSC_DEADLINE, &deadline) < 0)
		r = error_usage(err, "%s: tsc: this host's KVM has no deadline timer", in->where);
	if (r == 0)
		r = restore_part(fd, &mp_part, in, err);
	if (r == 0)
		r = restore_part(fd, &events_part, in, err);
	return r < 0 ? r : items_end(in, err);
}

/* ---- the VM ---------------------------------------------------------------------------------- */

static const char *const chip_names[] = {
	[KVM_IRQCHIP_PIC_MASTER] = "pic-master",
	[KVM_IRQCHIP_PIC_SLAVE] = "pic-slave",
	[KVM_IRQCHIP_IOAPIC] = "ioapic",
};

int arch_vm_save(struct arch_vm *vm, const struct arch_clock *clock, struct items_out *out,
		 struct error *err)
{
	const struct saved_clock saved = {.guest_ns = clock->guest_ns};
	struct kvm_pit_state2 pit = vm->pit.was;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < ARRAY_SIZE(chip_names); i++) {
		struct kvm_irqchip chip = {.chip_id = i};

		r = kvm_ioctl(vm->kvm->vm_fd, KVM_GET_IRQCHIP, &chip);
		items_put(out, chip_names[i], ITEM_VERSION, &chip, sizeof(chip));
	}
	/* A freeze stops one that ticks. */
	if (r == 0 && !vm->pit.stopped)
		r = kvm_ioctl(vm->kvm->vm_fd, KVM_GET_PIT2, &pit);
	if (r < 0)
		return error_set(err, r, "reading the interrupt controllers' state");
	items_put(out, "pit", ITEM_VERSION, &pit, sizeof(pit));
	items_put(out, "clock", ITEM_VERSION, &saved, sizeof(saved));
	return 0;
}

int arch_vm_restore(struct arch_vm *vm, struct arch_clock *clock, struct items_in *in,
		    struct error *err)
{
	struct saved_clock saved;
	int r = arch_snapshot_check(vm, err);

	for (uint32_t i = 0; r == 0 && i < ARRAY_SIZE(chip_names); i++) {
		struct kvm_irqchip chip;

		r = items_get(in, chip_names[i], ITEM_VERSION, &chip, sizeof(chip), err);
		if (r == 0 && chip.chip_id != i)
			r = error_usage(err, "%s: %s: it is chip %u", in->where, chip_names[i],
					chip.chip_id);
		if (r < 0)
			return r;
		r = kvm_ioctl(vm->kvm->vm_fd, KVM_SET_IRQCHIP, &chip);
		if (r < 0)
			return error_set(err, r, "%s: %s: KVM does not take it", in->where,
					 chip_names[i]);
	}
	if (r == 0)
		r = items_get(in, "pit", ITEM_VERSION, &vm->pit.was, sizeof(vm->pit.was), err);
	if (r == 0)
		r = items_get(in, "clock", ITEM_VERSION, &saved, sizeof(saved), err);
	if (r == 0)
		r = items_end(in, err);
	if (r < 0)
		return r;
	/* It ticks when the vCPUs go: arch_clock_ticks_go_on. */
	vm->pit.stopped = true;
	vm->restored_tsc = clock_restore(vm, saved.guest_ns, clock);
	return 0;
}
