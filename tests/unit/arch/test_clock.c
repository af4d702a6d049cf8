/* A freeze's clocks on a KVM that is played: its time is the test's, each call takes some, and it
 * lacks what a test says. What needs no playing is in test_freeze.c. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "arch/x86_64/machine.h"
#include "base/util.h"

#define VM_FD	  1000 /* no descriptors */
#define VCPU_FD	  1001
#define NS_PER_MS UINT64_C(1000000)
#define TSC_MHZ	  2100u
#define CALL_NS	  700u	 /* each ioctl takes so long */
#define LOOP_NS	  40123u /* KVM_SET_CLOCK: its loop over the vCPUs, after kvmclock has started */

/* Of arch_clock_lacks. */
#define LACK_TSC_OFFSET (1u << 1)
#define LACK_TSC	(1u << 2)
#define LACK_TSC_SHORT	(1u << 5)

static struct {
	uint64_t ns;	      /* the host's time */
	int64_t clock_offset; /* kvmclock's, from that */
	uint32_t jitter;
	unsigned told_watchdogs; /* KVM_KVMCLOCK_CTRL */
	struct kvm_pit_state2 pit;
	uint64_t pit_began_ns;
	unsigned ticks, tick_calls; /* on GSI 0: all; of those, by KVM_IRQ_LINE */
	enum tsc_kind {
		TSC_BY_OFFSET,
		TSC_BY_VALUE,	/* no KVM_VCPU_TSC_OFFSET: KVM before 5.16 */
		TSC_TAKES_NONE, /* … and takes no value either */
		TSC_TAKES_ALL,	/* takes every call, and does nothing */
	} tsc_kind;
	uint64_t tsc_offset;
	unsigned scale_percent; /* of the host's rate; 0: as that */
} kvm_of_ours;

static struct kvm kvm = {.fd = -1, .vm_fd = VM_FD};
static struct arch_vm vm;
static struct arch_clock arch_clock;
static struct arch_vcpu_state state;

static uint64_t tsc(void)
{
	return kvm_of_ours.ns * TSC_MHZ / 1000;
}

static uint64_t guest_tsc(void)
{
	return tsc() * (kvm_of_ours.scale_percent ?: 100) / 100 + kvm_of_ours.tsc_offset;
}

/* As the vCPU would see them. */
static uint64_t guest_clock_ns(void)
{
	return kvm_of_ours.ns + (uint64_t)kvm_of_ours.clock_offset;
}

/* Time that a call takes: never the same, so that no error is hidden by being even. */
static void pass(uint64_t ns)
{
	kvm_of_ours.jitter = kvm_of_ours.jitter * 1103515245 + 12345;
	kvm_of_ours.ns += ns + (kvm_of_ours.jitter >> 16) % 97;
}

int __wrap_clock_gettime(clockid_t id, struct timespec *ts);
int __wrap_clock_gettime(clockid_t id UNUSED, struct timespec *ts)
{
	ts->tv_sec = (time_t)(kvm_of_ours.ns / 1000000000u);
	ts->tv_nsec = (long)(kvm_of_ours.ns % 1000000000u);
	return 0;
}

/* ---- the calls ------------------------------------------------------------------------------ */

static int refuse(int code)
{
	errno = code;
	return -1;
}

static int get_clock(struct kvm_clock_data *data)
{
	*data = (struct kvm_clock_data){
		.clock = guest_clock_ns(),
		.host_tsc = tsc(),
		.flags = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC,
	};
	return 0;
}

/* Starts at once, and then has to tell every vCPU. */
static int set_clock(const struct kvm_clock_data *data)
{
	kvm_of_ours.clock_offset = (int64_t)(data->clock - kvm_of_ours.ns);
	pass(LOOP_NS);
	return 0;
}

static uint64_t pit_period_ns(void)
{
	return (uint64_t)kvm_of_ours.pit.channels[0].count * 1000000000u / 1193182u;
}

/* What it did since it was set, and another period from now on. */
static int set_pit(const struct kvm_pit_state2 *pit)
{
	if (kvm_of_ours.pit.channels[0].mode == 2)
		kvm_of_ours.ticks +=
			(unsigned)((kvm_of_ours.ns - kvm_of_ours.pit_began_ns) / pit_period_ns());
	kvm_of_ours.pit = *pit;
	kvm_of_ours.pit_began_ns = kvm_of_ours.ns;
	return 0;
}

static int set_line(const struct kvm_irq_level *line)
{
	assert_int_equal(line->irq, 0);
	kvm_of_ours.ticks += line->level;
	kvm_of_ours.tick_calls += line->level;
	return 0;
}

static int device_attr(unsigned long request, const struct kvm_device_attr *attr)
{
	uint64_t *offset = (uint64_t *)(uintptr_t)attr->addr;

	if (kvm_of_ours.tsc_kind == TSC_BY_VALUE || kvm_of_ours.tsc_kind == TSC_TAKES_NONE)
		return refuse(ENXIO);
	if (request == KVM_GET_DEVICE_ATTR)
		*offset = kvm_of_ours.tsc_offset;
	else if (kvm_of_ours.tsc_kind == TSC_BY_OFFSET)
		kvm_of_ours.tsc_offset = *offset;
	return 0;
}

/* The TSC only. What is within a second of what it is anyway is to synchronise, and keeps the
 * offset. */
static int set_msrs(const struct kvm_msrs *msrs)
{
	int64_t back = (int64_t)(guest_tsc() - msrs->entries[0].data);

	if (kvm_of_ours.tsc_kind == TSC_BY_VALUE && llabs(back) >= TSC_MHZ * 1000000)
		kvm_of_ours.tsc_offset -= (uint64_t)back;
	return 1;
}

static int get_msrs(struct kvm_msrs *msrs)
{
	msrs->entries[0].data = guest_tsc();
	return 1;
}

int __wrap_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd UNUSED, unsigned long request, void *arg)
{
	int r;

	pass(CALL_NS);
	switch (request) {
	case KVM_GET_CLOCK:
		r = get_clock(arg);
		break;
	case KVM_SET_CLOCK:
		r = set_clock(arg);
		break;
	case KVM_GET_PIT2:
		*(struct kvm_pit_state2 *)arg = kvm_of_ours.pit;
		r = 0;
		break;
	case KVM_SET_PIT2:
		r = set_pit(arg);
		break;
	case KVM_IRQ_LINE:
		r = set_line(arg);
		break;
	case KVM_GET_DEVICE_ATTR:
	case KVM_SET_DEVICE_ATTR:
		r = device_attr(request, arg);
		break;
	case KVM_GET_MSRS:
		r = get_msrs(arg);
		break;
	case KVM_SET_MSRS:
		r = set_msrs(arg);
		break;
	case KVM_KVMCLOCK_CTRL:
		kvm_of_ours.told_watchdogs++;
		r = 0;
		break;
	default:
		r = refuse(ENOTTY);
	}
	pass(CALL_NS);
	return r;
}

/* ---- the rig ----------------------------------------------------------------------------- */

static int open_rig(void **unused UNUSED)
{
	memset(&kvm_of_ours, 0, sizeof(kvm_of_ours));
	kvm_of_ours.ns = 5000000000000;
	kvm_of_ours.clock_offset = -4990000000000;
	vm = (struct arch_vm){.kvm = &kvm, .split_irqchip = true};
	memset(&arch_clock, 0, sizeof(arch_clock));
	memset(&state, 0, sizeof(state));
	return 0;
}

static void freeze(uint64_t ns)
{
	arch_clock_stop(&vm, &arch_clock);
	pass(ns);
	arch_clock_go_on(&vm, &arch_clock);
	arch_clock_ticks_go_on(&vm, &arch_clock);
}

/* The guest sets the PIT, to tick each count of its own 1193182 Hz. */
static void program_pit(uint8_t mode, uint32_t count)
{
	struct kvm_pit_state2 pit = {.channels[0] = {.mode = mode, .count = count}};

	vm.split_irqchip = false;
	set_pit(&pit);
	kvm_of_ours.ticks = 0;
}

/* ---- tests ------------------------------------------------------------------------------- */

/* How far kvmclock is ahead of a TSC whose offset went back by what was skipped, in ns. */
static int64_t ahead_ns(uint64_t clock_0, uint64_t tsc_0)
{
	uint64_t ticks = tsc() - arch_clock.skipped - tsc_0;

	return (int64_t)(guest_clock_ns() - clock_0) - (int64_t)(ticks * 1000 / TSC_MHZ);
}

static void tsc_and_kvmclock_stay_together(void **unused UNUSED)
{
	static const uint64_t frozen_ns[] = {20000, 300000, 10 * NS_PER_MS, 7000 * NS_PER_MS};
	uint64_t clock_0 = guest_clock_ns(), tsc_0 = tsc();
	int64_t ahead;

	for (unsigned i = 0; i < 100000; i++) {
		freeze(frozen_ns[i % ARRAY_SIZE(frozen_ns)]);
		pass(NS_PER_MS);
	}
	ahead = ahead_ns(clock_0, tsc_0);
	print_message("after 100000 freezes kvmclock is %lld ns ahead\n", (long long)ahead);
	/* Not a part of LOOP_NS for each: what is left is rounding, either way. */
	assert_true(llabs(ahead) < 2000);
	assert_int_equal(atomic_load(&arch_clock.lacks), 0);
}

/* A watch on a pointer that moves freezes every 10 ms: a guest that is told each time never
 * reports a lockup of its own. */
static void watchdogs_hear_of_long_freezes_only(void **unused UNUSED)
{
	for (unsigned i = 0; i < 100; i++) {
		freeze(99 * NS_PER_MS);
		arch_vcpu_go_on(VCPU_FD, &state, &arch_clock);
	}
	assert_int_equal(kvm_of_ours.told_watchdogs, 0);
	freeze(101 * NS_PER_MS);
	arch_vcpu_go_on(VCPU_FD, &state, &arch_clock);
	assert_int_equal(kvm_of_ours.told_watchdogs, 1);
	/* Let go of a rendezvous that stopped no clocks. */
	arch_vcpu_go_on(VCPU_FD, &state, &arch_clock);
	assert_int_equal(kvm_of_ours.told_watchdogs, 1);
}

static void freezes_leave_the_pit_its_ticks(void **unused UNUSED)
{
	uint64_t ran_ns = 0, began_ns;

	program_pit(2, 11932); /* 10 ms */
	for (unsigned i = 0; i < 1000; i++) {
		began_ns = kvm_of_ours.ns;
		pass(i % 10 < 5 ? 7 * NS_PER_MS : i % 10 < 8 ? NS_PER_MS : 23 * NS_PER_MS);
		ran_ns += kvm_of_ours.ns - began_ns;
		freeze(3 * NS_PER_MS);
		assert_int_equal(kvm_of_ours.pit.channels[0].mode, 2);
	}
	print_message("%u ticks in %llu ms, %u of them made up for\n", kvm_of_ours.ticks,
		      (unsigned long long)(ran_ns / NS_PER_MS), kvm_of_ours.tick_calls);
	/* The calls of a thaw take a little of the guest's time as well. */
	assert_in_range(kvm_of_ours.ticks, ran_ns / pit_period_ns() - 2,
			(ran_ns + 1000 * 20 * CALL_NS) / pit_period_ns() + 1);
	assert_in_range(kvm_of_ours.tick_calls, 300, kvm_of_ours.ticks - 400);
	assert_int_equal(atomic_load(&arch_clock.lacks), 0);
}

static void another_period_owes_nothing(void **unused UNUSED)
{
	program_pit(2, 11932);
	for (unsigned i = 0; i < 2; i++) {
		freeze(NS_PER_MS);
		pass(8 * NS_PER_MS);
	}
	/* 8 ms are owed as soon as it is frozen once more, 16 the next time. */
	program_pit(2, 2386); /* 2 ms */
	for (unsigned i = 0; i < 3; i++) {
		freeze(NS_PER_MS);
		pass(NS_PER_MS / 4);
	}
	assert_int_equal(kvm_of_ours.tick_calls, 0);
	/* One shot: not touched, and its end not made up for. */
	program_pit(4, 11932);
	for (unsigned i = 0; i < 10; i++) {
		freeze(NS_PER_MS);
		pass(8 * NS_PER_MS);
	}
	assert_int_equal(kvm_of_ours.tick_calls, 0);
}

/* Freezes for so long, and gives by how much more the guest's TSC went back. */
static uint64_t tsc_back_by(uint64_t ns)
{
	uint64_t offset = kvm_of_ours.tsc_offset;

	state.tsc = tsc() + offset;
	freeze(ns);
	arch_vcpu_go_on(VCPU_FD, &state, &arch_clock);
	return offset - kvm_of_ours.tsc_offset;
}

static uint32_t lacks(void)
{
	return atomic_load(&arch_clock.lacks);
}

/* Once the first short freeze decided that a TSC can't be set back, and later ones were seen. */
static void a_short_freeze_does_not_condemn_the_tsc(void **unused UNUSED)
{
	kvm_of_ours.tsc_kind = TSC_BY_VALUE;
	assert_int_equal(tsc_back_by(10 * NS_PER_MS), 0);
	assert_int_equal(lacks(), LACK_TSC_OFFSET | LACK_TSC_SHORT);
	assert_in_range(tsc_back_by(5000 * NS_PER_MS), 4999ull * 1000 * TSC_MHZ,
			5001ull * 1000 * TSC_MHZ);
	assert_int_equal(tsc_back_by(900 * NS_PER_MS), 0);
	assert_in_range(tsc_back_by(2500 * NS_PER_MS), 2499ull * 1000 * TSC_MHZ,
			2501ull * 1000 * TSC_MHZ);
	assert_int_equal(lacks(), LACK_TSC_OFFSET | LACK_TSC_SHORT);
}

static void a_long_freeze_does(void **unused UNUSED)
{
	kvm_of_ours.tsc_kind = TSC_TAKES_NONE;
	assert_int_equal(tsc_back_by(10 * NS_PER_MS), 0);
	assert_int_equal(lacks() & LACK_TSC, 0);
	assert_int_equal(tsc_back_by(5000 * NS_PER_MS), 0);
	assert_int_equal(lacks() & LACK_TSC, LACK_TSC);
}

static void a_back_end_that_does_nothing_is_seen_at_once(void **unused UNUSED)
{
	kvm_of_ours.tsc_kind = TSC_TAKES_ALL;
	assert_int_equal(tsc_back_by(10 * NS_PER_MS), 0);
	assert_int_equal(lacks(), LACK_TSC);
}

static void an_offset_goes_back_by_what_was_skipped(void **unused UNUSED)
{
	uint64_t back = tsc_back_by(10 * NS_PER_MS);

	assert_int_equal(back, arch_clock.skipped);
	assert_in_range(back, 10 * 1000 * TSC_MHZ, 11 * 1000 * TSC_MHZ);
	assert_int_equal(lacks(), 0);
}

/* One that goes on here from a host of half the rate, is frozen, and is saved once more: its TSC is
 * the same at the end of each as at its beginning. */
static void a_scaled_tsc_stands_still(void **unused UNUSED)
{
	const uint64_t saved = 123456789012, host = tsc();
	uint64_t skipped, offset;

	kvm_of_ours.scale_percent = 50;
	clock_scale_tsc(&arch_clock, 1000000, 2000000);
	clock_restore_tsc(VCPU_FD, saved, host, &arch_clock);
	assert_int_equal(host / 2 + kvm_of_ours.tsc_offset, saved);

	skipped = arch_clock.skipped;
	offset = kvm_of_ours.tsc_offset;
	state.tsc = guest_tsc();
	freeze(10 * NS_PER_MS);
	arch_vcpu_go_on(VCPU_FD, &state, &arch_clock);
	assert_in_range(offset - kvm_of_ours.tsc_offset, (arch_clock.skipped - skipped) / 2,
			(arch_clock.skipped - skipped) / 2 + 1);

	state.tsc = 0;
	arch_clock_stop(&vm, &arch_clock);
	assert_int_equal(clock_saved_tsc(VCPU_FD, &state, &arch_clock),
			 arch_clock.host / 2 + kvm_of_ours.tsc_offset);
	assert_int_equal(lacks(), 0);
}

#define TEST(f) cmocka_unit_test_setup(f, open_rig)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(tsc_and_kvmclock_stay_together),
		TEST(watchdogs_hear_of_long_freezes_only),
		TEST(freezes_leave_the_pit_its_ticks),
		TEST(another_period_owes_nothing),
		TEST(a_short_freeze_does_not_condemn_the_tsc),
		TEST(a_long_freeze_does),
		TEST(a_back_end_that_does_nothing_is_seen_at_once),
		TEST(an_offset_goes_back_by_what_was_skipped),
		TEST(a_scaled_tsc_stands_still),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
