/* A vCPU's registers at a freeze, and time that stands still meanwhile: kvmclock, TSC, PIT, and the
 * local APIC's timer. Each function's thread is in arch.h. */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <x86intrin.h>

#include "arch/x86_64/machine.h"
#include "base/util.h"

#define MSR_TSC		 0x10
#define MSR_TSC_DEADLINE 0x6E0
#define MSR_EFER	 0xC0000080

/* Local APIC registers (SDM vol. 3, 11.5.4). */
#define APIC_LVT_TIMER	   0x320
#define APIC_TIMER_CURRENT 0x390
#define TIMER_MODE_SHIFT   17
#define TIMER_MODE_MASK	   3
#define TIMER_TSC_DEADLINE 2

/* PIT modes that go on and on (82C54, rate generator and square wave). */
#define PIT_RATE   2
#define PIT_SQUARE 3
#define PIT_NEVER  0xff /* KVM's: not programmed */
#define PIT_HZ	   1193182u
#define NS_PER_S   1000000000u

/* A freeze that a guest's watchdogs, which wait for seconds, could notice: longer than that. */
#define WATCHDOG_NS 100000000u

/* KVM takes a TSC that is written within a second of what it would be for an attempt to synchronise
 * vCPUs, and leaves it as it was (Linux, arch/x86/kvm/x86.c, kvm_synchronize_tsc). Twice that. */
#define TSC_SYNC_NS 2000000000u

/* SDM vol. 3, 2.5. */
#define CR0_PG	 (1u << 31)
#define CR4_LA57 (1u << 12)
#define EFER_LMA (1u << 10)
#define CR3_ROOT UINT64_C(0xffffffffff000)

enum lack { LACK_CLOCK, LACK_TSC_OFFSET, LACK_TSC, LACK_TIMER, LACK_PIT, LACK_TSC_SHORT };

const char *const arch_clock_lacks[] = {
	[LACK_CLOCK] = "freeze: kvmclock can't be set, so the guest sees frozen time pass",
	[LACK_TSC_OFFSET] = ("freeze: no KVM_VCPU_TSC_OFFSET, so TSCs are set back by value, and "
			     "may differ by microseconds"),
	[LACK_TSC] = "freeze: the TSC can't be set back, so the guest sees frozen time pass",
	[LACK_TIMER] = "freeze: the local APIC's timer can't be set back, and may fire early",
	[LACK_PIT] = "freeze: the PIT can't be set back, and makes up for ticks",
	[LACK_TSC_SHORT] = ("freeze: no KVM_VCPU_TSC_OFFSET, and KVM takes a TSC that is set back "
			    "by less than a second for one to synchronise, so the guest sees "
			    "such freezes pass"),
	NULL,
};

static void lack(struct arch_clock *clock, enum lack what)
{
	/* Relaxed: a note, read at leisure. */
	atomic_fetch_or_explicit(&clock->lacks, 1u << what, memory_order_relaxed);
}

/* ---- registers -------------------------------------------------------------------------- */

const size_t arch_vcpu_state_size = ALIGN_UP(sizeof(struct arch_vcpu_state), 16);

#define MSRS_MAX 3

/* KVM stops at the first that it does not know: returns how many it did, or a negative errno. */
static int msrs(int fd, unsigned long request, struct kvm_msr_entry *entry, unsigned count)
{
	_Alignas(struct kvm_msrs)
		uint8_t room[sizeof(struct kvm_msrs) + MSRS_MAX * sizeof(*entry)] = {0};
	struct kvm_msrs *list = (struct kvm_msrs *)room;
	int r;

	list->nmsrs = count;
	memcpy(list->entries, entry, count * sizeof(*entry));
	r = kvm_ioctl(fd, request, list);
	memcpy(entry, list->entries, count * sizeof(*entry));
	return r;
}

/* 0, or -ENODEV where KVM does not know the register. */
static int msr(int fd, unsigned long request, uint32_t index, uint64_t *value)
{
	struct kvm_msr_entry entry = {.index = index, .data = *value};
	int r = msrs(fd, request, &entry, 1);

	if (r != 1)
		return r < 0 ? r : -ENODEV;
	*value = entry.data;
	return 0;
}

static uint32_t lapic_register(const struct kvm_lapic_state *lapic, size_t at)
{
	uint32_t value;

	memcpy(&value, lapic->regs + at, sizeof(value));
	return value;
}

/* The TSC, and the timer: an armed deadline says which mode it is; otherwise the LAPIC has to be
 * asked. What can't be had is none; ret_efer: all ones. */
static int capture_clocks(int fd, struct arch_vcpu_state *s, uint64_t *ret_efer)
{
	struct kvm_msr_entry entry[MSRS_MAX] = {{.index = MSR_TSC},
						{.index = MSR_EFER},
						{.index = MSR_TSC_DEADLINE}};
	int r = msrs(fd, KVM_GET_MSRS, entry, MSRS_MAX);

	s->tsc = r >= 1 ? entry[0].data : 0;
	*ret_efer = r >= 2 ? entry[1].data : UINT64_MAX;
	s->deadline = r >= 3 ? entry[2].data : 0;
	s->counts = false;
	if (s->deadline)
		return 0;
	r = kvm_ioctl(fd, KVM_GET_LAPIC, &s->lapic);
	if (r < 0)
		return r;
	s->counts = (lapic_register(&s->lapic, APIC_LVT_TIMER) >> TIMER_MODE_SHIFT &
		     TIMER_MODE_MASK) != TIMER_TSC_DEADLINE &&
		    lapic_register(&s->lapic, APIC_TIMER_CURRENT) > 0;
	return 0;
}

/* Bit 1 of RFLAGS is always set: none that KVM wrote is 0. */
void arch_run_forget(struct kvm_run *run)
{
	run->s.regs.regs.rflags = 0;
}

/* Whether the run page has the registers of now. An INIT that came since was taken in by
 * KVM_GET_MP_STATE: it has cleared EFER, which before long mode doesn't tell. */
static bool run_has_registers(const struct kvm_run *run, uint64_t efer)
{
	return run && run->s.regs.regs.rflags && run->s.regs.sregs.efer == efer && efer & EFER_LMA;
}

int arch_vcpu_capture(int vcpu_fd, const struct kvm_run *run, struct arch_vcpu_state *s)
{
	/* First: it takes in INIT and start-up, which change the others. */
	int r = kvm_ioctl(vcpu_fd, KVM_GET_MP_STATE, &s->mp);
	uint64_t efer;
	/* Even so: the thaw goes by them, and must not by the last freeze's. */
	int clocks = capture_clocks(vcpu_fd, s, &efer);

	if (r == 0 && clocks == 0 && run_has_registers(run, efer)) {
		s->regs = run->s.regs.regs;
		s->sregs = run->s.regs.sregs;
		return 0;
	}
	if (r == 0)
		r = kvm_ioctl(vcpu_fd, KVM_GET_REGS, &s->regs);
	if (r == 0)
		r = kvm_ioctl(vcpu_fd, KVM_GET_SREGS, &s->sregs);
	return r < 0 ? r : clocks;
}

/* Both sets of registers by one call instead of two: with immediate_exit KVM_RUN ends before it
 * begins, and leaves them in the run page. False: it did not. */
static bool run_leaves_registers(int vcpu_fd, struct kvm_run *run, uint64_t which)
{
	arch_run_forget(run);
	/* Relaxed: a freeze that asks for the same meanwhile may lose it, which only costs time. */
	__atomic_store_n(&run->kvm_valid_regs, which, __ATOMIC_RELAXED);
	/* Whoever cleared it looks at the requests before the guest runs again. */
	__atomic_store_n(&run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	/* EINTR is what it says. */
	(void)!ioctl(vcpu_fd, KVM_RUN, 0);
	__atomic_store_n(&run->kvm_valid_regs, 0, __ATOMIC_RELAXED);
	return run->s.regs.regs.rflags != 0;
}

int arch_vcpu_sample(int vcpu_fd, struct kvm_run *run, uint64_t run_registers,
		     struct arch_vcpu_state *s)
{
	int r = kvm_ioctl(vcpu_fd, KVM_GET_MP_STATE, &s->mp);

	if (r == 0 && s->mp.mp_state == KVM_MP_STATE_HALTED)
		r = kvm_ioctl(vcpu_fd, KVM_GET_REGS, &s->regs);
	if (r < 0 || (arch_vcpu_idle(s) && !arch_vcpu_halted_deaf(s)))
		return r;
	if (arch_vcpu_idle(s))
		return kvm_ioctl(vcpu_fd, KVM_GET_SREGS, &s->sregs);
	if (run_registers && run_leaves_registers(vcpu_fd, run, run_registers)) {
		s->regs = run->s.regs.regs;
		s->sregs = run->s.regs.sregs;
		return 0;
	}
	r = kvm_ioctl(vcpu_fd, KVM_GET_REGS, &s->regs);
	return r < 0 ? r : kvm_ioctl(vcpu_fd, KVM_GET_SREGS, &s->sregs);
}

bool arch_vcpu_idle(const struct arch_vcpu_state *state)
{
	return state->mp.mp_state == KVM_MP_STATE_HALTED ||
	       state->mp.mp_state == KVM_MP_STATE_UNINITIALIZED ||
	       state->mp.mp_state == KVM_MP_STATE_INIT_RECEIVED;
}

/* SDM volume 1, 3.4.3. */
#define RFLAGS_IF UINT64_C(0x200)

bool arch_vcpu_halted_deaf(const struct arch_vcpu_state *state)
{
	return state->mp.mp_state == KVM_MP_STATE_HALTED && !(state->regs.rflags & RFLAGS_IF);
}

bool arch_vcpu_unstarted(int vcpu_fd)
{
	struct kvm_mp_state mp;

	return kvm_ioctl(vcpu_fd, KVM_GET_MP_STATE, &mp) == 0 &&
	       (mp.mp_state == KVM_MP_STATE_UNINITIALIZED ||
		mp.mp_state == KVM_MP_STATE_INIT_RECEIVED);
}

bool arch_vcpu_in_kernel(const struct arch_vcpu_state *state)
{
	return state->sregs.cs.dpl == 0;
}

uint64_t arch_vcpu_root(const struct arch_vcpu_state *state)
{
	return state->sregs.cr3;
}

int arch_vcpu_paging(const struct arch_vcpu_state *state, struct arch_paging *ret_paging)
{
	const struct kvm_sregs *s = &state->sregs;

	if (!(s->cr0 & CR0_PG) || !(s->efer & EFER_LMA))
		return -ENOENT;
	*ret_paging = (struct arch_paging){
		.root_gpa = s->cr3 & CR3_ROOT,
		.levels = s->cr4 & CR4_LA57 ? 5 : 4,
	};
	return 0;
}

int arch_vcpu_user_paging(const struct arch_vcpu_state *state, struct arch_paging *ret_paging)
{
	return arch_vcpu_paging(state, ret_paging);
}

uint64_t arch_vcpu_task(const struct arch_vcpu_state *state UNUSED)
{
	return 0; /* it is a per-CPU variable */
}

void arch_vcpu_unwind(const struct arch_vcpu_state *state, struct arch_unwind *ret_u)
{
	const struct kvm_regs *r = &state->regs;

	*ret_u = (struct arch_unwind){
		.pc = r->rip,
		.sp = r->rsp,
		.fp = r->rbp,
		.extra = {r->rdx, r->rdi, r->r10, r->r13},
		.extra_known = true,
		.exact = true,
	};
}

void arch_vcpu_registers(const struct arch_vcpu_state *s,
			 void (*each)(const char *name, uint64_t value, void *arg), void *arg)
{
	const struct kvm_regs *r = &s->regs;
	const struct kvm_sregs *sr = &s->sregs;
	const struct {
		const char *name;
		uint64_t value;
	} all[] = {
		{"instruction_pointer", r->rip},
		{"stack_pointer", r->rsp},
		{"page_table_root", sr->cr3},
		{"rax", r->rax},
		{"rbx", r->rbx},
		{"rcx", r->rcx},
		{"rdx", r->rdx},
		{"rsi", r->rsi},
		{"rdi", r->rdi},
		{"rbp", r->rbp},
		{"r8", r->r8},
		{"r9", r->r9},
		{"r10", r->r10},
		{"r11", r->r11},
		{"r12", r->r12},
		{"r13", r->r13},
		{"r14", r->r14},
		{"r15", r->r15},
		{"rflags", r->rflags},
		{"cs", sr->cs.selector},
		{"ss", sr->ss.selector},
		{"fs_base", sr->fs.base},
		{"gs_base", sr->gs.base},
		{"cr0", sr->cr0},
		{"cr2", sr->cr2},
		{"cr4", sr->cr4},
		{"efer", sr->efer},
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		each(all[i].name, all[i].value, arg);
}

/* ---- the VM's clocks -------------------------------------------------------------------- */

static uint64_t pit_period_ns(const struct kvm_pit_channel_state *channel)
{
	return (channel->count ? (uint64_t)channel->count : 0x10000) * NS_PER_S / PIT_HZ;
}

/* Beyond 7: never programmed. */
static bool pit_is_periodic(const struct kvm_pit_channel_state *channel)
{
	uint8_t mode = channel->mode & 3;

	return channel->mode <= 7 && (mode == PIT_RATE || mode == PIT_SQUARE);
}

/* The period that the freeze cuts off began at a whole number of them after the thaw, if the guest
 * has not begun another since; to the same count would be a period of error at most. */
static void pit_note_part(struct pit_at_freeze *pit, const struct kvm_pit_channel_state *before)
{
	const struct kvm_pit_channel_state *now = &pit->was.channels[0];

	if (pit->since_ns && now->mode == before->mode && now->count == before->count)
		pit->owed_ns += (now_ns() - pit->since_ns) % pit_period_ns(now);
	else
		pit->owed_ns = 0;
}

/* While it ticks it can be neither set back nor kept from interrupting a vCPU whose local APIC is
 * being set (arch_vcpu_timer_go_on), which would lose the tick and all that wait for its end. One
 * that ticks once is left to run. */
static void pit_stop(struct arch_vm *vm, struct arch_clock *clock)
{
	struct pit_at_freeze *pit = &vm->pit;
	struct kvm_pit_channel_state before = pit->was.channels[0];
	struct kvm_pit_state2 still;

	pit->stopped = false;
	if (vm->split_irqchip)
		return; /* there is none */
	if (kvm_ioctl(vm->kvm->vm_fd, KVM_GET_PIT2, &pit->was) < 0) {
		lack(clock, LACK_PIT);
		return;
	}
	still = pit->was;
	if (!pit_is_periodic(&still.channels[0])) {
		pit->since_ns = 0;
		return;
	}
	pit_note_part(pit, &before);
	still.channels[0].mode = PIT_NEVER;
	if (kvm_ioctl(vm->kvm->vm_fd, KVM_SET_PIT2, &still) < 0)
		lack(clock, LACK_PIT);
	else
		pit->stopped = true;
}

/* As the PIT does it: GSI 0, an edge. */
static int pit_tick(struct arch_vm *vm)
{
	struct kvm_irq_level line = {.irq = 0, .level = 1};
	int r = kvm_ioctl(vm->kvm->vm_fd, KVM_IRQ_LINE, &line);

	line.level = 0;
	return r < 0 ? r : kvm_ioctl(vm->kvm->vm_fd, KVM_IRQ_LINE, &line);
}

void arch_clock_ticks_go_on(struct arch_vm *vm, struct arch_clock *clock)
{
	struct pit_at_freeze *pit = &vm->pit;
	uint64_t period_ns = pit_period_ns(&pit->was.channels[0]);

	if (!pit->stopped)
		return;
	/* What was cut off has come to a whole period: freezes that are closer together than the
	 * PIT's ticks would leave the guest without any. */
	if (pit->owed_ns >= period_ns) {
		pit->owed_ns -= period_ns;
		if (pit_tick(vm) < 0)
			lack(clock, LACK_PIT);
	}
	/* Starts the period anew, as KVM takes no part of one; and drops the ticks that are owed
	 * by KVM itself. */
	if (kvm_ioctl(vm->kvm->vm_fd, KVM_SET_PIT2, &pit->was) < 0)
		lack(clock, LACK_PIT);
	pit->since_ns = now_ns();
	pit->stopped = false;
}

/* kvmclock and the host's TSC, at one instant where KVM says both; else the TSC is a little later,
 * and by as much each time. Fails with a clock of 0. */
static struct kvm_clock_data clock_read(struct arch_vm *vm)
{
	struct kvm_clock_data data = {0};

	if (kvm_ioctl(vm->kvm->vm_fd, KVM_GET_CLOCK, &data) < 0)
		data = (struct kvm_clock_data){0};
	if (!(data.flags & KVM_CLOCK_HOST_TSC))
		data.host_tsc = __rdtsc();
	return data;
}

void arch_clock_stop(struct arch_vm *vm, struct arch_clock *clock)
{
	struct kvm_clock_data data = clock_read(vm);

	if (data.clock == 0)
		lack(clock, LACK_CLOCK);
	clock->host = data.host_tsc;
	clock->host_ns = now_ns();
	clock->guest_ns = data.clock;
	pit_stop(vm, clock);
	clock->stopped = true;
}

/* Ticks that kvmclock has run since it was set to what it was at the stop, by after: it starts
 * somewhere in KVM_SET_CLOCK, which then goes through all vCPUs. KVM's own rate is seen in the
 * freeze, before which it had not been set. */
static uint64_t ticks_since_set(const struct arch_clock *clock, const struct kvm_clock_data *before,
				const struct kvm_clock_data *after)
{
	uint64_t ran_ns = after->clock - clock->guest_ns;
	uint64_t frozen_ns = before->clock - clock->guest_ns;
	uint64_t most = after->host_tsc - before->host_tsc;
	uint64_t ticks;

	if (before->clock <= clock->guest_ns || after->clock <= clock->guest_ns)
		return 0;
	/* To the nearest: what is cut off each time would add up too. */
	ticks = (uint64_t)(((unsigned __int128)ran_ns * (before->host_tsc - clock->host) +
			    frozen_ns / 2) /
			   frozen_ns);
	return ticks < most ? ticks : most;
}

void arch_clock_go_on(struct arch_vm *vm, struct arch_clock *clock)
{
	/* No flags: KVM_CLOCK_REALTIME would add the time that has gone by (KVM API, 4.30). */
	struct kvm_clock_data data = {.clock = clock->guest_ns};
	struct kvm_clock_data before, after;
	bool set;

	if (!clock->stopped)
		return;
	clock->frozen_ns = now_ns() - clock->host_ns;
	before = clock_read(vm);
	set = data.clock && kvm_ioctl(vm->kvm->vm_fd, KVM_SET_CLOCK, &data) == 0;
	after = clock_read(vm);
	clock->skipped += after.host_tsc - clock->host;
	/* The TSC is to have run as long as kvmclock has: what they differ by adds up. */
	if (set)
		clock->skipped -= ticks_since_set(clock, &before, &after);
	else
		lack(clock, LACK_CLOCK);
	clock->stopped = false;
}

/* ---- a vCPU's clocks --------------------------------------------------------------------- */

void arch_vcpu_timer_go_on(int vcpu_fd, const struct arch_vcpu_state *state,
			   struct arch_clock *clock)
{
	struct kvm_lapic_state lapic;

	if (!state->counts)
		return;
	/* Interrupts that came during the freeze are in there; only the timer is the old one's. */
	if (kvm_ioctl(vcpu_fd, KVM_GET_LAPIC, &lapic) == 0) {
		memcpy(lapic.regs + APIC_TIMER_CURRENT, state->lapic.regs + APIC_TIMER_CURRENT,
		       sizeof(uint32_t));
		if (kvm_ioctl(vcpu_fd, KVM_SET_LAPIC, &lapic) == 0)
			return;
	}
	lack(clock, LACK_TIMER);
}

void clock_scale_tsc(struct arch_clock *clock, uint32_t guest_khz, uint32_t host_khz)
{
	atomic_store_explicit(&clock->scale, (uint64_t)guest_khz << 32 | host_khz,
			      memory_order_relaxed);
}

/* What a guest's TSC without an offset says when the host's says tsc. KVM rounds its ratio to 32 or
 * 48 bits, by vendor: so this is off by some microseconds, and for all vCPUs by the same. */
static uint64_t scaled(const struct arch_clock *clock, uint64_t tsc)
{
	uint64_t scale = atomic_load_explicit(&clock->scale, memory_order_relaxed);

	if (!scale)
		return tsc;
	return (uint64_t)((unsigned __int128)tsc * (scale >> 32) / (uint32_t)scale);
}

/* Whether KVM has set it back by itself: where the host's TSC is unstable, it gives a vCPU that it
 * loads, so at every ioctl, the TSC that it last left the guest with. Half: host CPUs' may differ.
 */
static bool tsc_stood_still(const struct arch_vcpu_state *state, uint64_t tsc, uint64_t ticks)
{
	return (int64_t)(tsc - state->tsc) < (int64_t)(ticks / 2);
}

/* KVM_VCPU_TSC_OFFSET (Documentation/virt/kvm/devices/vcpu.rst, 4.1). */
static int tsc_offset(int fd, uint64_t *ret_offset)
{
	return kvm_get_attr(fd, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, ret_offset);
}

static int set_tsc_offset(int fd, uint64_t offset)
{
	return kvm_set_attr(fd, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, &offset);
}

/* The same for all vCPUs, so that TSCs which agreed still do. */
static int tsc_offset_back(int fd, const struct arch_vcpu_state *state, uint64_t ticks,
			   const struct arch_clock *clock)
{
	uint64_t offset, wanted;
	int r = tsc_offset(fd, &offset);

	if (r < 0)
		return r;
	/* All the same it is set, to what it is: KVM lets such a TSC catch up with the time since
	 * it was set last, which must not have the freeze in it. What is read back is another. */
	if (tsc_stood_still(state, scaled(clock, __rdtsc()) + offset, ticks))
		return set_tsc_offset(fd, offset);
	wanted = offset -= ticks;
	r = set_tsc_offset(fd, offset);
	if (r == 0)
		r = tsc_offset(fd, &offset);
	/* A software back end takes it, and does nothing. */
	return r < 0 ? r : offset == wanted ? 0 : -ENODEV;
}

/* -ENODEV: nothing has come of it. */
static int tsc_value_back(int fd, const struct arch_vcpu_state *state, uint64_t ticks)
{
	uint64_t value = 0, before;
	int r = msr(fd, KVM_GET_MSRS, MSR_TSC, &value);

	if (r < 0)
		return r;
	if (tsc_stood_still(state, value, ticks))
		return msr(fd, KVM_SET_MSRS, MSR_TSC, &value);
	before = value;
	value -= ticks;
	r = msr(fd, KVM_SET_MSRS, MSR_TSC, &value);
	if (r == 0)
		r = msr(fd, KVM_GET_MSRS, MSR_TSC, &value);
	return r < 0 ? r : value < before ? 0 : -ENODEV;
}

/* What this host was seen to lack is not tried again: each try loads the vCPU's state. */
static void tsc_back(int fd, const struct arch_vcpu_state *state, uint64_t ticks,
		     struct arch_clock *clock)
{
	/* Relaxed: who does not see it yet finds out for itself. */
	uint32_t lacks = atomic_load_explicit(&clock->lacks, memory_order_relaxed);
	int offset = -ENXIO, value;

	if (lacks & 1u << LACK_TSC)
		return;
	if (!(lacks & 1u << LACK_TSC_OFFSET)) {
		offset = tsc_offset_back(fd, state, ticks, clock);
		if (offset == 0)
			return;
	}
	value = tsc_value_back(fd, state, ticks);
	/* A KVM that takes an offset and does nothing is no KVM that synchronises. */
	if (value == -ENODEV && offset != -ENODEV && clock->frozen_ns < TSC_SYNC_NS) {
		lack(clock, LACK_TSC_SHORT);
		value = 0; /* a longer freeze will tell */
	}
	lack(clock, value < 0 ? LACK_TSC : LACK_TSC_OFFSET);
}

void arch_vcpu_go_on(int vcpu_fd, struct arch_vcpu_state *state, struct arch_clock *clock)
{
	uint64_t ticks = scaled(clock, clock->skipped) - scaled(clock, state->skipped);

	if (clock->skipped == state->skipped)
		return; /* it was let go before the clocks stopped */
	state->skipped = clock->skipped;
	tsc_back(vcpu_fd, state, ticks, clock);
	/* After the TSC: KVM then works out the host's time of it anew. What fired meanwhile is
	 * taken back by this, and what had fired before is past, and fires at once. */
	if (state->deadline && msr(vcpu_fd, KVM_SET_MSRS, MSR_TSC_DEADLINE, &state->deadline) < 0)
		lack(clock, LACK_TIMER);
	/* Tells the guest's watchdogs, which then forget what they had seen: not for each of many
	 * short ones. -EINVAL: it has no kvmclock, or not yet. */
	if (clock->frozen_ns > WATCHDOG_NS)
		(void)!kvm_ioctl(vcpu_fd, KVM_KVMCLOCK_CTRL, NULL);
}

/* ---- a snapshot's ------------------------------------------------------------------------ */

uint64_t clock_saved_tsc(int vcpu_fd, const struct arch_vcpu_state *state,
			 const struct arch_clock *clock)
{
	uint64_t offset = 0;

	/* By one stamp for all vCPUs, so that TSCs which agree do so afterwards. Where KVM lets a
	 * TSC stand still by itself, its offset is of another instant: never back. */
	if (tsc_offset(vcpu_fd, &offset) < 0)
		return state->tsc;
	return MAX(scaled(clock, clock->host) + offset, state->tsc);
}

void clock_restore_tsc(int vcpu_fd, uint64_t tsc, uint64_t host_tsc, struct arch_clock *clock)
{
	uint64_t offset = tsc - scaled(clock, host_tsc), wanted = offset, value;

	if (set_tsc_offset(vcpu_fd, offset) == 0 && tsc_offset(vcpu_fd, &offset) == 0 &&
	    offset == wanted)
		return;
	lack(clock, LACK_TSC_OFFSET);
	value = tsc + scaled(clock, __rdtsc() - host_tsc);
	if (msr(vcpu_fd, KVM_SET_MSRS, MSR_TSC, &value) < 0)
		lack(clock, LACK_TSC);
}

uint64_t clock_restore(struct arch_vm *vm, uint64_t guest_ns, struct arch_clock *clock)
{
	struct kvm_clock_data data = {.clock = guest_ns}, after;

	if (!guest_ns || kvm_ioctl(vm->kvm->vm_fd, KVM_SET_CLOCK, &data) < 0)
		lack(clock, LACK_CLOCK);
	after = clock_read(vm);
	return after.host_tsc;
}
