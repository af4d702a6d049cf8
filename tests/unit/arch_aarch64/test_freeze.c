/* A guest's counter over freezes, on a KVM that is played: one that has an offset for the VM, one
 * that has not, and ones that refuse. The counter is the machine's own; aarch64. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "arch/aarch64/machine.h"

#define VM_FD		   1000 /* no descriptors */
#define VCPU_FD		   1001
#define VCPUS		   3
#define CAP_COUNTER_OFFSET 227
#define SET_COUNTER_OFFSET _IOW(KVMIO, 0xb5, uint64_t[2])

static struct {
	bool has_offset;
	int fails; /* errno of the calls that set the counter */
	unsigned offsets, counts;
	uint64_t offset; /* the host's counter less the guest's */
} kvm_of_ours;

static struct kvm kvm = {.fd = -1, .vm_fd = VM_FD};
static struct arch_vm vm;
static struct arch_clock arch_clock;
static struct arch_vcpu_state state;

static uint64_t counter(void)
{
	uint64_t count;

	__asm__ volatile("isb; mrs %0, cntvct_el0" : "=r"(count)::"memory");
	return count;
}

static uint64_t guest(void)
{
	return counter() - kvm_of_ours.offset;
}

static int one_reg(unsigned long request, const struct kvm_one_reg *reg)
{
	uint64_t *value = (uint64_t *)(uintptr_t)reg->addr;

	assert_int_equal(reg->id, KVM_REG_ARM_TIMER_CNT);
	if (request == KVM_GET_ONE_REG) {
		*value = guest();
		return 0;
	}
	kvm_of_ours.counts++;
	/* KVM takes it, and does nothing, where there was an offset before. */
	if (kvm_of_ours.offsets == 0 && !kvm_of_ours.fails)
		kvm_of_ours.offset = counter() - *value;
	errno = kvm_of_ours.fails;
	return errno ? -1 : 0;
}

int __wrap_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
	if (request == KVM_CHECK_EXTENSION)
		return (long)arg == CAP_COUNTER_OFFSET && kvm_of_ours.has_offset;
	if (request == KVM_GET_ONE_REG || request == KVM_SET_ONE_REG) {
		assert_in_range(fd, VCPU_FD, VCPU_FD + VCPUS - 1);
		return one_reg(request, arg);
	}
	assert_int_equal(fd, VM_FD);
	assert_int_equal(request, SET_COUNTER_OFFSET);
	errno = kvm_of_ours.has_offset ? kvm_of_ours.fails : EINVAL; /* as KVM of any it lacks */
	if (errno)
		return -1;
	kvm_of_ours.offsets++;
	memcpy(&kvm_of_ours.offset, arg, sizeof(kvm_of_ours.offset));
	return 0;
}

static void set_up(bool has_offset)
{
	struct error err = {0};

	memset(&kvm_of_ours, 0, sizeof(kvm_of_ours));
	memset(&vm, 0, sizeof(vm));
	memset(&arch_clock, 0, sizeof(arch_clock));
	kvm_of_ours.has_offset = has_offset;
	kvm_of_ours.offset = counter(); /* as KVM sets it for a new vCPU */
	vm.kvm = &kvm;
	assert_int_equal(freeze_set_offset(&vm, &err), 0);
	assert_int_equal(freeze_note_offset(&vm, VCPU_FD), 0);
}

/* As the freezer does. The guest's counts around it. */
static void freeze(uint64_t *before, uint64_t *after)
{
	const struct timespec pause = {.tv_nsec = 20000000};

	*before = guest();
	arch_clock_stop(&vm, &arch_clock);
	nanosleep(&pause, NULL);
	arch_clock_go_on(&vm, &arch_clock);
	for (int i = 0; i < VCPUS; i++)
		arch_vcpu_timer_go_on(VCPU_FD + i, &state, &arch_clock);
	arch_clock_ticks_go_on(&vm, &arch_clock);
	for (int i = 0; i < VCPUS; i++)
		arch_vcpu_go_on(VCPU_FD + i, &state, &arch_clock);
	*after = guest();
}

/* The guest sees less than half of each pause, on a host that is loaded of one at least; and never
 * a step back. */
static void the_counter_stands_still(bool has_offset)
{
	unsigned short_ones = 0;

	set_up(has_offset);
	assert_int_equal(kvm_of_ours.offsets, has_offset);
	for (unsigned n = 1; n <= 5; n++) {
		uint64_t before, after, skipped = arch_clock.skipped;

		freeze(&before, &after);
		assert_true(after >= before);
		short_ones += after - before < (arch_clock.skipped - skipped) / 2;
		assert_int_equal(kvm_of_ours.offsets, has_offset ? n + 1 : 0);
		assert_int_equal(kvm_of_ours.counts, has_offset ? 0 : n); /* one for all vCPUs */
	}
	assert_true(short_ones > 0);
	assert_int_equal(atomic_load(&arch_clock.lacks), 0);
}

static void by_an_offset_of_the_vm(void **state_ UNUSED)
{
	the_counter_stands_still(true);
}

static void by_the_count_itself(void **state_ UNUSED)
{
	the_counter_stands_still(false);
}

/* From its start on, so that the first freeze does not move one counter against the other. */
static void the_counters_are_set_before_the_guest_runs(void **state_ UNUSED)
{
	struct error err = {0};

	set_up(true);
	assert_int_equal(kvm_of_ours.offsets, 1);
	assert_int_equal(kvm_of_ours.offset, vm.counter_offset);
	kvm_of_ours.fails = EBUSY;
	assert_int_equal(freeze_set_offset(&vm, &err), -EBUSY);
}

static void what_was_not_moved_is_not_skipped(void **state_ UNUSED)
{
	for (unsigned has_offset = 0; has_offset < 2; has_offset++) {
		uint64_t before, after, offset;

		set_up(has_offset);
		freeze(&before, &after);
		offset = vm.counter_offset + arch_clock.skipped;
		kvm_of_ours.fails = EBUSY;
		freeze(&before, &after);
		assert_true(atomic_load(&arch_clock.lacks) != 0);
		assert_int_equal(vm.counter_offset + arch_clock.skipped, offset);
		/* The next one hides its own time, and no more. */
		kvm_of_ours.fails = 0;
		freeze(&before, &after);
		assert_true(after >= before);
	}
}

static void what_lacks_has_words(void **state_ UNUSED)
{
	for (unsigned n = 0; arch_clock_lacks[n]; n++)
		assert_non_null(strstr(arch_clock_lacks[n], "freeze: "));
}

/* User code has its own stack pointer and tables; 32-bit code has no frames to be followed. */
static void a_user_vcpu_has_its_own_stack(void **state_ UNUSED)
{
	struct arch_vcpu_state s = {.pc = 0xaaaa0000,
				    .sp_el0 = 0xffff1000,
				    .sp_el1 = UINT64_C(0xffff800080001000),
				    .ttbr0 = UINT64_C(0x0042000041a79000),
				    .ttbr1 = 0x40a00000,
				    .tcr = UINT64_C(2) << 30 | 16 << 16 | 16};
	struct arch_paging p;
	struct arch_unwind u;

	s.x[29] = 0xffff1040;
	arch_vcpu_unwind(&s, &u);
	assert_false(arch_vcpu_in_kernel(&s));
	assert_true(u.sp == s.sp_el0 && u.fp == s.x[29] && u.pc == s.pc);
	assert_int_equal(arch_vcpu_user_paging(&s, &p), 0);
	assert_true(p.user && p.root_gpa == 0x41a79000 && p.va_bits == 48);
	s.pstate = 0x10; /* AArch32, user */
	assert_int_equal(arch_vcpu_user_paging(&s, &p), -ENOENT);
	s.pstate = 5; /* EL1h */
	arch_vcpu_unwind(&s, &u);
	assert_true(arch_vcpu_in_kernel(&s) && u.sp == s.sp_el1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_an_offset_of_the_vm),
		cmocka_unit_test(by_the_count_itself),
		cmocka_unit_test(the_counters_are_set_before_the_guest_runs),
		cmocka_unit_test(what_was_not_moved_is_not_skipped),
		cmocka_unit_test(what_lacks_has_words),
		cmocka_unit_test(a_user_vcpu_has_its_own_stack),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
