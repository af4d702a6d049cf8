/* A vCPU's registers at a freeze, and a counter that stands still meanwhile. KVM puts away and
 * takes up a vCPU's timer by its compare value, in the guest's count: with the counter's offset
 * moved, nothing else has to be. Each function's thread is in arch.h. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "arch/aarch64/machine.h"
#include "arch/aarch64/regs.h"
#include "arch/aarch64/walk.h"
#include "base/util.h"

/* KVM API, 4.143 and 8.42; kernel headers before 6.4 lack it. */
struct counter_offset {
	uint64_t offset, reserved;
};
#define SET_COUNTER_OFFSET _IOW(KVMIO, 0xb5, struct counter_offset)
#define CAP_COUNTER_OFFSET 227

enum lack { LACK_COUNTER };

const char *const arch_clock_lacks[] = {
	[LACK_COUNTER] = "freeze: KVM did not set the counter back, so the guest sees frozen time "
			 "pass",
	NULL,
};

const size_t arch_vcpu_state_size = ALIGN_UP(sizeof(struct arch_vcpu_state), 16);

uint64_t arch_run_registers(const struct kvm *kvm UNUSED)
{
	return 0; /* KVM_CAP_SYNC_REGS is not for arm64 */
}

void arch_run_forget(struct kvm_run *run UNUSED)
{
}

int arch_vcpu_capture(int vcpu_fd, const struct kvm_run *run UNUSED, struct arch_vcpu_state *s)
{
	const struct {
		uint64_t id;
		uint64_t *to;
	} parts[] = {
		{REG_PC, &s->pc},	  {REG_PSTATE, &s->pstate},   {REG_SP_EL0, &s->sp_el0},
		{REG_SP_EL1, &s->sp_el1}, {REG_TTBR0_EL1, &s->ttbr0}, {REG_TTBR1_EL1, &s->ttbr1},
		{REG_TCR_EL1, &s->tcr},
	};
	int r = kvm_ioctl(vcpu_fd, KVM_GET_MP_STATE, &s->mp);

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(parts); i++)
		r = register_get(vcpu_fd, parts[i].id, parts[i].to);
	for (unsigned i = 0; r == 0 && i < ARRAY_SIZE(s->x); i++)
		r = register_get(vcpu_fd, REG_X(i), &s->x[i]);
	return r;
}

int arch_vcpu_sample(int vcpu_fd, struct kvm_run *run UNUSED, uint64_t run_registers UNUSED,
		     struct arch_vcpu_state *s)
{
	return arch_vcpu_capture(vcpu_fd, NULL, s);
}

/* KVM keeps no state for a wait for an interrupt: that is known by its place. */
bool arch_vcpu_idle(const struct arch_vcpu_state *state)
{
	return state->mp.mp_state == KVM_MP_STATE_STOPPED;
}

bool arch_vcpu_halted_deaf(const struct arch_vcpu_state *state UNUSED)
{
	return false; /* no lock halts there */
}

bool arch_vcpu_unstarted(int vcpu_fd)
{
	struct kvm_mp_state mp;

	return kvm_ioctl(vcpu_fd, KVM_GET_MP_STATE, &mp) == 0 &&
	       mp.mp_state == KVM_MP_STATE_STOPPED;
}

bool arch_vcpu_in_kernel(const struct arch_vcpu_state *state)
{
	return (state->pstate >> 2 & 3) != 0; /* PSTATE's exception level (ARM ARM C5.2.2) */
}

uint64_t arch_vcpu_root(const struct arch_vcpu_state *state)
{
	return ttbr_root(state->ttbr1);
}

int arch_vcpu_paging(const struct arch_vcpu_state *state, struct arch_paging *ret_paging)
{
	return paging_of(state->ttbr1, state->tcr, ret_paging);
}

int arch_vcpu_user_paging(const struct arch_vcpu_state *state, struct arch_paging *ret_paging)
{
	if (PSTATE_IS_AARCH32(state->pstate))
		return -ENOENT; /* x29 is none of its registers */
	return user_paging_of(state->ttbr0, state->tcr, ret_paging);
}

uint64_t arch_vcpu_task(const struct arch_vcpu_state *state)
{
	/* Linux keeps it there while it is at EL1 (arch/arm64/include/asm/current.h). */
	return arch_vcpu_in_kernel(state) ? state->sp_el0 : 0;
}

void arch_vcpu_unwind(const struct arch_vcpu_state *state, struct arch_unwind *ret_u)
{
	*ret_u = (struct arch_unwind){
		.pc = state->pc,
		.sp = arch_vcpu_in_kernel(state) ? state->sp_el1 : state->sp_el0,
		.fp = state->x[29],
		.extra = {state->x[30]},
		.extra_known = true,
		.exact = true,
	};
}

void arch_vcpu_registers(const struct arch_vcpu_state *s,
			 void (*each)(const char *name, uint64_t value, void *arg), void *arg)
{
	char name[8];

	each("instruction_pointer", s->pc, arg);
	each("stack_pointer", s->sp_el1, arg);
	each("page_table_root", s->ttbr1, arg);
	each("user_page_table_root", s->ttbr0, arg);
	each("tcr_el1", s->tcr, arg);
	for (unsigned i = 0; i < ARRAY_SIZE(s->x); i++) {
		snprintf(name, sizeof(name), "x%u", i);
		each(name, s->x[i], arg);
	}
	each("sp_el0", s->sp_el0, arg);
	each("pstate", s->pstate, arg);
}

/* ---- the counter ------------------------------------------------------------------------------
 */

/* A host's own virtual counter is the one that KVM takes a guest's offset from. */
static uint64_t host_counter(void)
{
	uint64_t count;

	__asm__ volatile("isb; mrs %0, cntvct_el0" : "=r"(count)::"memory");
	return count;
}

static int set_offset(const struct arch_vm *vm, uint64_t ticks)
{
	struct counter_offset offset = {.offset = ticks};

	/* EBUSY if a vCPU runs. */
	return kvm_ioctl(vm->kvm->vm_fd, SET_COUNTER_OFFSET, &offset);
}

/* KVM gives new vCPUs such an offset itself, but to the virtual counter alone; this one is of the
 * physical counter, too, and would step back at the first freeze. */
int freeze_set_offset(struct arch_vm *vm, struct error *err)
{
	int r = 0;

	vm->has_counter_offset = kvm_cap(vm->kvm, CAP_COUNTER_OFFSET) > 0;
	if (vm->has_counter_offset) {
		vm->counter_offset = host_counter();
		r = set_offset(vm, vm->counter_offset);
	}
	return r < 0 ? error_set(err, r, "setting the guest's counter") : 0;
}

int freeze_note_offset(struct arch_vm *vm, int vcpu_fd)
{
	/* Before: what passes until KVM's answer makes the guest's time a little longer, not less.
	 */
	uint64_t host = host_counter(), guest;
	int r;

	if (vm->has_counter_offset)
		return 0;
	r = register_get(vcpu_fd, KVM_REG_ARM_TIMER_CNT, &guest);
	if (r == 0)
		vm->counter_offset = host - guest;
	return r;
}

uint64_t freeze_counter_hz(void)
{
	uint64_t hz;

	__asm__("mrs %0, cntfrq_el0" : "=r"(hz));
	return hz;
}

/* By the rate of every counter of the host and the guest. */
static uint64_t counter_ns(uint64_t ticks)
{
	uint64_t hz = freeze_counter_hz();

	return hz ? (uint64_t)((unsigned __int128)ticks * 1000000000 / hz) : 0;
}

uint64_t freeze_guest_count(const struct arch_vm *vm, const struct arch_clock *clock)
{
	return clock->host - vm->counter_offset - clock->skipped;
}

int freeze_set_count(struct arch_vm *vm, uint64_t count)
{
	vm->counter_offset = host_counter() - count;
	return vm->has_counter_offset ? set_offset(vm, vm->counter_offset)
				      : register_set(vm->vcpu_fd[0], KVM_REG_ARM_TIMER_CNT, &count);
}

void arch_clock_stop(struct arch_vm *vm, struct arch_clock *clock)
{
	clock->host = host_counter();
	clock->host_ns = now_ns();
	clock->guest_ns = counter_ns(freeze_guest_count(vm, clock));
	clock->stopped = true;
}

/* KVM was asked for an offset that is larger by ticks, and answered r. */
static void skip(struct arch_clock *clock, uint64_t ticks, int r)
{
	uint32_t lack = 1u << LACK_COUNTER;

	if (r >= 0)
		clock->skipped += ticks;
	/* Relaxed: a note, read at leisure. */
	else if (!(atomic_fetch_or_explicit(&clock->lacks, lack, memory_order_relaxed) & lack))
		log_warn("setting the guest's counter back: %s", strerror(-r));
}

void arch_clock_go_on(struct arch_vm *vm, struct arch_clock *clock)
{
	uint64_t ticks;

	if (!clock->stopped)
		return;
	clock->stopped = false;
	clock->frozen_ns = now_ns() - clock->host_ns;
	if (vm->has_counter_offset) {
		ticks = host_counter() - clock->host;
		skip(clock, ticks, set_offset(vm, vm->counter_offset + clock->skipped + ticks));
	} else {
		clock->guest_count = freeze_guest_count(vm, clock);
	}
}

/* The timer compares with the counter. KVM before 6.4 has one offset for the VM as well, which each
 * vCPU's count sets. */
void arch_vcpu_timer_go_on(int vcpu_fd, const struct arch_vcpu_state *state UNUSED,
			   struct arch_clock *clock)
{
	uint64_t ticks;

	if (!clock->guest_count)
		return;
	/* Before: as in freeze_note_offset. */
	ticks = host_counter() - clock->host;
	skip(clock, ticks, register_set(vcpu_fd, KVM_REG_ARM_TIMER_CNT, &clock->guest_count));
	clock->guest_count = 0;
}

void arch_clock_ticks_go_on(struct arch_vm *vm UNUSED, struct arch_clock *clock UNUSED)
{
	/* There is none. */
}

void arch_vcpu_go_on(int vcpu_fd UNUSED, struct arch_vcpu_state *state UNUSED,
		     struct arch_clock *clock UNUSED)
{
	/* The counter's offset is the VM's. */
}
