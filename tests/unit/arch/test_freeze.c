/* Clocks that stand still, on a VM of real KVM whose vCPU never runs: what a freeze takes down and
 * a thaw puts back, without a guest in the way. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <x86intrin.h>

#include <cmocka.h>

#include "arch/x86_64/machine.h"
#include "base/util.h"

#define FROZEN_US	   100000
#define FROZEN_NS	   100000000ull
#define MSR_TSC_DEADLINE   0x6E0
#define APIC_SPIV	   0xF0
#define APIC_LVT_TIMER	   0x320
#define APIC_TIMER_INITIAL 0x380
#define APIC_TIMER_CURRENT 0x390
#define APIC_TIMER_DIVIDE  0x3E0
#define DIVIDE_BY_1	   0xB
#define SPIV_ENABLED	   0x1FF
#define LVT_MASKED	   (1u << 16)
#define LVT_PERIODIC	   (1u << 17)
#define LVT_TSC_DEADLINE   (2u << 17)
#define PIT_LACKS	   (1u << 4) /* of arch_clock_lacks */

static struct rig {
	struct kvm kvm;
	struct arch_vm vm;
	int vcpu_fd;
	struct arch_clock clock;
	struct arch_vcpu_state state;
} rig;

static int open_rig(void **state UNUSED)
{
	struct error err = {0};

	memset(&rig, 0, sizeof(rig));
	rig.vm.kvm = &rig.kvm;
	if (kvm_open(&rig.kvm, "/dev/kvm", &err) < 0 || kvm_create_vm(&rig.kvm, 0, &err) < 0 ||
	    kvm_ioctl(rig.kvm.vm_fd, KVM_SET_TSS_ADDR, (void *)(uintptr_t)TSS_GPA) < 0 ||
	    kvm_ioctl(rig.kvm.vm_fd, KVM_CREATE_IRQCHIP, NULL) < 0)
		return -1;
	rig.vcpu_fd = kvm_ioctl(rig.kvm.vm_fd, KVM_CREATE_VCPU, NULL);
	return rig.vcpu_fd < 0 ? -1 : 0;
}

static int close_rig(void **state UNUSED)
{
	fd_close(&rig.vcpu_fd);
	kvm_close(&rig.kvm);
	return 0;
}

/* ---- KVM's state ------------------------------------------------------------------------- */

static uint64_t clock_now(void)
{
	struct kvm_clock_data data = {0};

	assert_int_equal(kvm_ioctl(rig.kvm.vm_fd, KVM_GET_CLOCK, &data), 0);
	return data.clock;
}

static uint32_t lapic_get(size_t at)
{
	struct kvm_lapic_state lapic;
	uint32_t v;

	assert_int_equal(kvm_ioctl(rig.vcpu_fd, KVM_GET_LAPIC, &lapic), 0);
	memcpy(&v, lapic.regs + at, sizeof(v));
	return v;
}

/* KVM takes the timer's count from its current count where a timer was counting, so both are set.
 * Before 5.10 it took the initial count. */
static void lapic_arm(uint32_t lvt, uint32_t initial, uint32_t current)
{
	const struct {
		size_t at;
		uint32_t v;
	} set[] = {
		{APIC_SPIV, SPIV_ENABLED},	  {APIC_LVT_TIMER, lvt},
		{APIC_TIMER_DIVIDE, DIVIDE_BY_1}, {APIC_TIMER_INITIAL, initial},
		{APIC_TIMER_CURRENT, current},
	};
	struct kvm_lapic_state lapic;

	assert_int_equal(kvm_ioctl(rig.vcpu_fd, KVM_GET_LAPIC, &lapic), 0);
	for (size_t i = 0; i < ARRAY_SIZE(set); i++)
		memcpy(lapic.regs + set[i].at, &set[i].v, sizeof(set[i].v));
	assert_int_equal(kvm_ioctl(rig.vcpu_fd, KVM_SET_LAPIC, &lapic), 0);
}

static uint64_t deadline_msr(unsigned long request, uint64_t value, int *ret_done)
{
	_Alignas(struct kvm_msrs)
		uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)] = {0};
	struct kvm_msrs *msrs = (struct kvm_msrs *)room;

	msrs->nmsrs = 1;
	msrs->entries[0] = (struct kvm_msr_entry){.index = MSR_TSC_DEADLINE, .data = value};
	*ret_done = kvm_ioctl(rig.vcpu_fd, request, msrs);
	return msrs->entries[0].data;
}

/* CPUID 1, ECX bit 24: without it the timer's mode is none of these. */
static void allow_deadlines(void)
{
	_Alignas(struct kvm_cpuid2)
		uint8_t room[sizeof(struct kvm_cpuid2) + sizeof(struct kvm_cpuid_entry2)] = {0};
	struct kvm_cpuid2 *cpuid = (struct kvm_cpuid2 *)room;

	cpuid->nent = 1;
	cpuid->entries[0] =
		(struct kvm_cpuid_entry2){.function = 1, .ecx = 1u << 24, .edx = 1u << 9};
	assert_int_equal(kvm_ioctl(rig.vcpu_fd, KVM_SET_CPUID2, cpuid), 0);
}

static void freeze(unsigned us)
{
	assert_int_equal(arch_vcpu_capture(rig.vcpu_fd, NULL, &rig.state), 0);
	arch_clock_stop(&rig.vm, &rig.clock);
	usleep(us);
}

static void thaw(void)
{
	arch_clock_go_on(&rig.vm, &rig.clock);
	arch_vcpu_timer_go_on(rig.vcpu_fd, &rig.state, &rig.clock);
	arch_clock_ticks_go_on(&rig.vm, &rig.clock);
	arch_vcpu_go_on(rig.vcpu_fd, &rig.state, &rig.clock);
}

/* ---- tests --------------------------------------------------------------------------------- */

static void registers_are_captured(void **state UNUSED)
{
	struct kvm_regs regs = {.rflags = 2, .rip = 0x1234, .rsp = 0x5678, .r15 = 15};
	struct arch_unwind at;

	assert_int_equal(kvm_ioctl(rig.vcpu_fd, KVM_SET_REGS, &regs), 0);
	assert_int_equal(arch_vcpu_capture(rig.vcpu_fd, NULL, &rig.state), 0);
	arch_vcpu_unwind(&rig.state, &at);
	assert_int_equal(at.pc, 0x1234);
	assert_int_equal(at.sp, 0x5678);
	assert_int_equal(rig.state.regs.r15, 15);
	assert_int_equal(rig.state.sregs.cs.selector, 0xf000);
	assert_int_equal(rig.state.mp.mp_state, KVM_MP_STATE_RUNNABLE);
	assert_true(arch_vcpu_state_size >= sizeof(struct arch_vcpu_state));
	assert_int_equal(arch_vcpu_state_size % 16, 0);
	assert_true(arch_vcpu_capture(-1, NULL, &rig.state) < 0);
}

static void enter_long_mode(uint64_t r15)
{
	struct kvm_regs regs = {.rflags = 2, .r15 = r15};
	struct kvm_sregs sregs;

	assert_int_equal(kvm_ioctl(rig.vcpu_fd, KVM_GET_SREGS, &sregs), 0);
	sregs.cr0 = 0x80000033;
	sregs.cr4 = 0x220;
	sregs.efer = 0x500;
	sregs.cs.l = 1;
	sregs.cs.db = 0;
	assert_int_equal(kvm_ioctl(rig.vcpu_fd, KVM_SET_SREGS, &sregs), 0);
	assert_int_equal(kvm_ioctl(rig.vcpu_fd, KVM_SET_REGS, &regs), 0);
}

static uint64_t captured_r15(const struct kvm_run *run)
{
	assert_int_equal(arch_vcpu_capture(rig.vcpu_fd, run, &rig.state), 0);
	return rig.state.regs.r15;
}

/* What KVM_RUN left is marked here, so that it shows where the capture has it from. */
static void registers_that_kvm_run_left_are_taken(void **state UNUSED)
{
	int size = kvm_ioctl(rig.kvm.fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	uint64_t wanted = arch_run_registers(&rig.kvm);
	struct kvm_run *run;

	if (!wanted)
		skip();
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, rig.vcpu_fd, 0);
	assert_true(run != MAP_FAILED);
	enter_long_mode(15);
	arch_run_forget(run);
	assert_int_equal(captured_r15(run), 15);
	run->kvm_valid_regs = wanted;
	run->immediate_exit = 1;
	assert_int_equal(ioctl(rig.vcpu_fd, KVM_RUN, 0), -1);
	assert_int_equal(run->s.regs.regs.r15, 15);
	run->s.regs.regs.r15 = 16;
	assert_int_equal(captured_r15(run), 16);
	/* An INIT would have changed it since. */
	run->s.regs.sregs.efer ^= 1;
	assert_int_equal(captured_r15(run), 15);
	run->s.regs.sregs.efer ^= 1;
	assert_int_equal(captured_r15(NULL), 15);
	arch_run_forget(run);
	assert_int_equal(captured_r15(run), 15);
	munmap(run, (size_t)size);
}

static void kvmclock_goes_on_from_the_stop(void **state UNUSED)
{
	usleep(20000); /* so that it has something on its clock */
	for (unsigned i = 0; i < 3; i++) {
		uint64_t before, after;

		freeze(FROZEN_US);
		before = rig.clock.guest_ns;
		assert_true(before > 10000000);
		thaw();
		after = clock_now();
		assert_true(after >= before);
		assert_true(after - before < FROZEN_NS / 2);
	}
}

static void the_skipped_ticks_add_up(void **state UNUSED)
{
	uint64_t first, host = __rdtsc();

	freeze(FROZEN_US);
	thaw();
	first = rig.clock.skipped;
	assert_true(first > 0);
	/* A thaw without a stop, for a rendezvous that was given up, tells vCPUs nothing. */
	thaw();
	assert_int_equal(rig.clock.skipped, first);
	freeze(FROZEN_US);
	thaw();
	assert_true(rig.clock.skipped > first);
	assert_true(rig.clock.skipped <= __rdtsc() - host);
	assert_int_equal(rig.state.skipped, rig.clock.skipped);
}

static void kvmclock_and_tsc_go_on_together(void **state UNUSED)
{
	struct kvm_clock_data a = {0}, b = {0}, c = {0};
	double ticks_per_ns, clock_ns, tsc_ns;

	freeze(0);
	thaw();
	assert_int_equal(kvm_ioctl(rig.kvm.vm_fd, KVM_GET_CLOCK, &a), 0);
	if (!(a.flags & KVM_CLOCK_HOST_TSC))
		skip();
	usleep(FROZEN_US);
	assert_int_equal(kvm_ioctl(rig.kvm.vm_fd, KVM_GET_CLOCK, &b), 0);
	ticks_per_ns = (double)(b.host_tsc - a.host_tsc) / (double)(b.clock - a.clock);
	rig.clock.skipped = 0;
	for (unsigned i = 0; i < 5000; i++) {
		freeze(0);
		thaw();
	}
	assert_int_equal(kvm_ioctl(rig.kvm.vm_fd, KVM_GET_CLOCK, &c), 0);
	clock_ns = (double)(c.clock - b.clock);
	tsc_ns = (double)(c.host_tsc - b.host_tsc - rig.clock.skipped) / ticks_per_ns;
	print_message("5000 freezes: kvmclock went on by %.0f ns, the TSC by %.0f\n", clock_ns,
		      tsc_ns);
	assert_true(clock_ns - tsc_ns < 50000 && tsc_ns - clock_ns < 50000);
}

static void a_counting_timer_goes_on_from_its_count(void **state UNUSED)
{
	static const uint32_t modes[] = {0, LVT_PERIODIC};

	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
		const uint32_t count = 2000000000; /* ns, at KVM's 1 GHz: 2 s */
		uint32_t before, after;

		lapic_arm(LVT_MASKED | modes[i] | 0x40, count, count);
		freeze(FROZEN_US);
		assert_true(rig.state.counts);
		memcpy(&before, rig.state.lapic.regs + APIC_TIMER_CURRENT, sizeof(before));
		thaw();
		after = lapic_get(APIC_TIMER_CURRENT);
		print_message("count %u, %u ns later %u\n", before, FROZEN_US * 1000, after);
		assert_true(after <= before);
		assert_true(before - after < FROZEN_NS / 2);
		assert_int_equal(lapic_get(APIC_TIMER_INITIAL), count);
	}
}

/* A capture that fails leaves nothing of the one before for a thaw to write. */
static void a_failed_capture_keeps_no_clocks(void **state UNUSED)
{
	lapic_arm(LVT_MASKED | 0x40, 2000000000, 2000000000);
	assert_int_equal(arch_vcpu_capture(rig.vcpu_fd, NULL, &rig.state), 0);
	assert_true(rig.state.counts && rig.state.tsc);
	rig.state.deadline = 1;
	assert_true(arch_vcpu_capture(-1, NULL, &rig.state) < 0);
	assert_false(rig.state.counts);
	assert_true(rig.state.tsc == 0 && rig.state.deadline == 0);
}

static void a_stopped_timer_is_left_alone(void **state UNUSED)
{
	lapic_arm(LVT_MASKED | 0x40, 0, 0);
	freeze(0);
	assert_false(rig.state.counts);
	thaw();
	assert_int_equal(lapic_get(APIC_TIMER_CURRENT), 0);
}

static void a_deadline_is_kept(void **state UNUSED)
{
	uint64_t far = __rdtsc() + (1ull << 40), seen;
	int done;

	allow_deadlines();
	lapic_arm(LVT_MASKED | LVT_TSC_DEADLINE | 0x40, 0, 0);
	deadline_msr(KVM_SET_MSRS, far, &done);
	seen = deadline_msr(KVM_GET_MSRS, 0, &done);
	if (done != 1 || seen != far) {
		print_message("skipped: this KVM has no TSC deadline\n");
		skip();
	}
	freeze(FROZEN_US);
	assert_int_equal(rig.state.deadline, far);
	assert_false(rig.state.counts);
	/* As if it had fired meanwhile. */
	deadline_msr(KVM_SET_MSRS, 0, &done);
	thaw();
	assert_int_equal(deadline_msr(KVM_GET_MSRS, 0, &done), far);
}

/* Its channel 0, which interrupts. */
static struct kvm_pit_channel_state pit_get(void)
{
	struct kvm_pit_state2 pit;

	assert_int_equal(kvm_ioctl(rig.kvm.vm_fd, KVM_GET_PIT2, &pit), 0);
	return pit.channels[0];
}

static bool pit_set(uint8_t mode, uint32_t count)
{
	struct kvm_pit_config config = {0};
	struct kvm_pit_state2 pit;

	if (kvm_ioctl(rig.kvm.vm_fd, KVM_CREATE_PIT2, &config) < 0)
		return false;
	assert_int_equal(kvm_ioctl(rig.kvm.vm_fd, KVM_GET_PIT2, &pit), 0);
	pit.channels[0].mode = mode;
	pit.channels[0].count = count;
	assert_int_equal(kvm_ioctl(rig.kvm.vm_fd, KVM_SET_PIT2, &pit), 0);
	return true;
}

static void the_pit_ticks_not_while_frozen(void **state UNUSED)
{
	struct kvm_pit_channel_state before, after;

	if (!pit_set(2, 11932))
		skip();
	before = pit_get();
	assert_int_equal(before.mode, 2);
	freeze(0);
	assert_int_equal(pit_get().mode, 0xff);
	usleep(FROZEN_US);
	thaw();
	after = pit_get();
	assert_int_equal(after.mode, before.mode);
	assert_int_equal(after.count, before.count);
	assert_int_equal(atomic_load(&rig.clock.lacks) & PIT_LACKS, 0);
}

static void a_pit_that_ticks_once_is_left_alone(void **state UNUSED)
{
	if (!pit_set(4, 11932))
		skip();
	freeze(0);
	assert_int_equal(pit_get().mode, 4);
	/* As if the guest were to find it so: a thaw does not start it anew. */
	rig.vm.pit.was.channels[0].count = 1;
	thaw();
	assert_int_equal(pit_get().mode, 4);
	assert_int_equal(pit_get().count, 11932);
}

/* Where KVM has set the TSC back by itself, the thaw does not do it once more. Played by a park at
 * which the TSC was what it is now. */
static void a_tsc_that_stood_still_is_left(void **state UNUSED)
{
	uint64_t offset = 0, after;
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)&offset,
	};

	if (kvm_ioctl(rig.vcpu_fd, KVM_GET_DEVICE_ATTR, &attr) < 0)
		skip();
	freeze(FROZEN_US);
	assert_true(rig.state.tsc != 0);
	rig.state.tsc = __rdtsc() + offset;
	thaw();
	attr.addr = (uintptr_t)&after;
	assert_int_equal(kvm_ioctl(rig.vcpu_fd, KVM_GET_DEVICE_ATTR, &attr), 0);
	assert_int_equal(after, offset);
	assert_int_equal(rig.state.skipped, rig.clock.skipped);
	assert_true(rig.clock.skipped > 0);
}

static void a_tsc_that_went_on_is_set_back(void **state UNUSED)
{
	uint64_t offset = 0, after;
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)&offset,
	};

	if (kvm_ioctl(rig.vcpu_fd, KVM_GET_DEVICE_ATTR, &attr) < 0)
		skip();
	freeze(FROZEN_US);
	thaw();
	attr.addr = (uintptr_t)&after;
	assert_int_equal(kvm_ioctl(rig.vcpu_fd, KVM_GET_DEVICE_ATTR, &attr), 0);
	if (after == offset) /* a software back end: said */
		assert_true(atomic_load(&rig.clock.lacks) != 0);
	else
		assert_int_equal(offset - after, rig.clock.skipped);
}

static void every_lack_has_words(void **state UNUSED)
{
	unsigned n = 0;

	while (arch_clock_lacks[n])
		assert_non_null(strstr(arch_clock_lacks[n++], "freeze: "));
	assert_true(n > 0 && n < 32);
	/* A VM that can't be asked is said to be so, and time goes on. */
	fd_close(&rig.kvm.vm_fd);
	arch_clock_stop(&rig.vm, &rig.clock);
	arch_clock_go_on(&rig.vm, &rig.clock);
	assert_true(atomic_load(&rig.clock.lacks) != 0);
	assert_false(rig.clock.stopped);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_rig, close_rig)

/* ---- samples ----------------------------------------------------------------------------- */

/* Two vCPUs' worth of registers, each taken both ways; what a way before has left must not do. */
static void a_sample_has_the_registers_of_now(void **state UNUSED)
{
	uint64_t which = arch_run_registers(&rig.kvm);
	int bytes = kvm_ioctl(rig.kvm.fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	struct kvm_run *run;

	assert_true(bytes > 0);
	run = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, rig.vcpu_fd, 0);
	assert_true(run != MAP_FAILED);
	for (uint64_t turn = 1; turn < 3; turn++) {
		struct kvm_regs regs = {.rip = 0x1000 * turn, .rsp = 0x77 * turn, .rflags = 2};
		struct kvm_sregs sregs;

		regs.rbp = regs.rdx = 0x1234567 * turn;
		assert_int_equal(kvm_ioctl(rig.vcpu_fd, KVM_GET_SREGS, &sregs), 0);
		sregs.fs.base = 0x5000 * turn;
		assert_int_equal(kvm_ioctl(rig.vcpu_fd, KVM_SET_SREGS, &sregs), 0);
		assert_int_equal(kvm_ioctl(rig.vcpu_fd, KVM_SET_REGS, &regs), 0);
		for (unsigned way = 0; way < 2; way++) {
			memset(&rig.state, 0, sizeof(rig.state));
			assert_int_equal(arch_vcpu_sample(rig.vcpu_fd, run, way ? which : 0,
							  &rig.state),
					 0);
			assert_false(arch_vcpu_idle(&rig.state));
			assert_memory_equal(&rig.state.regs, &regs, sizeof(regs));
			assert_true(rig.state.sregs.fs.base == sregs.fs.base);
			assert_true(rig.state.sregs.cr0 == sregs.cr0);
			/* Exits of the guest's own are not made dearer. */
			assert_true(run->kvm_valid_regs == 0);
		}
	}
	/* Where the run page has them, it was this that was taken. */
	assert_true(!which || run->s.regs.regs.rip == 0x2000);
	munmap(run, (size_t)bytes);
}

/* A halt has its interrupts on; a lock's wait has them off. */
static void a_halt_says_whether_it_hears(void **state UNUSED)
{
	struct kvm_mp_state halted = {.mp_state = KVM_MP_STATE_HALTED};
	struct kvm_regs regs = {.rip = 0x3000, .rflags = 2};
	struct kvm_sregs sregs;
	int bytes = kvm_ioctl(rig.kvm.fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	struct kvm_run *run;

	assert_true(bytes > 0);
	run = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, rig.vcpu_fd, 0);
	assert_true(run != MAP_FAILED);
	assert_int_equal(kvm_ioctl(rig.vcpu_fd, KVM_SET_MP_STATE, &halted), 0);
	assert_int_equal(kvm_ioctl(rig.vcpu_fd, KVM_SET_REGS, &regs), 0);
	assert_int_equal(kvm_ioctl(rig.vcpu_fd, KVM_GET_SREGS, &sregs), 0);
	memset(&rig.state, 0, sizeof(rig.state));
	assert_int_equal(arch_vcpu_sample(rig.vcpu_fd, run, arch_run_registers(&rig.kvm),
					  &rig.state),
			 0);
	assert_true(arch_vcpu_idle(&rig.state));
	assert_true(arch_vcpu_halted_deaf(&rig.state));
	assert_true(rig.state.regs.rip == 0x3000);
	assert_true(rig.state.sregs.cr0 == sregs.cr0);
	regs.rflags |= 0x200;
	assert_int_equal(kvm_ioctl(rig.vcpu_fd, KVM_SET_REGS, &regs), 0);
	assert_int_equal(arch_vcpu_sample(rig.vcpu_fd, run, arch_run_registers(&rig.kvm),
					  &rig.state),
			 0);
	assert_true(arch_vcpu_idle(&rig.state));
	assert_false(arch_vcpu_halted_deaf(&rig.state));
	munmap(run, (size_t)bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_sample_has_the_registers_of_now),
		TEST(a_halt_says_whether_it_hears),
		TEST(registers_are_captured),
		TEST(registers_that_kvm_run_left_are_taken),
		TEST(kvmclock_goes_on_from_the_stop),
		TEST(a_failed_capture_keeps_no_clocks),
		TEST(kvmclock_and_tsc_go_on_together),
		TEST(the_skipped_ticks_add_up),
		TEST(a_counting_timer_goes_on_from_its_count),
		TEST(a_stopped_timer_is_left_alone),
		TEST(a_deadline_is_kept),
		TEST(the_pit_ticks_not_while_frozen),
		TEST(a_pit_that_ticks_once_is_left_alone),
		TEST(a_tsc_that_stood_still_is_left),
		TEST(a_tsc_that_went_on_is_set_back),
		TEST(every_lack_has_words),
	};

	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		printf("skipped: /dev/kvm: %s\n", strerror(errno));
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
