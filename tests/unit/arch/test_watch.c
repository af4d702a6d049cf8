/* Watchpoints by debug registers: what KVM is asked for, and what its exits mean. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>

#include <cmocka.h>

#include "arch/x86_64/machine.h"
#include "base/util.h"

#define VCPU_FD 990 /* no descriptor */
#define GVA	UINT64_C(0xffff888000001000)

/* The KVM that is played: what it was told last, and which calls fail. */
static struct {
	struct kvm_guest_debug debug;
	struct kvm_debugregs regs;
	unsigned debug_calls, get_calls, set_calls;
	unsigned long fails;
	int code, times;
} kvm;

int __real_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, void *arg);

int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
	if (fd != VCPU_FD)
		return __real_ioctl(fd, request, arg);
	if (request == kvm.fails && kvm.times-- > 0) {
		errno = kvm.code;
		return -1;
	}
	if (request == KVM_SET_GUEST_DEBUG) {
		kvm.debug = *(const struct kvm_guest_debug *)arg;
		kvm.debug_calls++;
	} else if (request == KVM_GET_DEBUGREGS) {
		*(struct kvm_debugregs *)arg = kvm.regs;
		kvm.get_calls++;
	} else if (request == KVM_SET_DEBUGREGS) {
		kvm.regs = *(const struct kvm_debugregs *)arg;
		kvm.set_calls++;
	} else {
		fail();
	}
	return 0;
}

static int reset(void **state UNUSED)
{
	memset(&kvm, 0, sizeof(kvm));
	return 0;
}

static const struct arch_watch none[ARCH_WATCHES];

static void arm(const struct arch_watch watch[ARCH_WATCHES], enum arch_watch_how how)
{
	static const struct kvm_run run;

	assert_int_equal(arch_vcpu_watch(VCPU_FD, watch, how, &run), 0);
}

/* SDM vol. 3, figure 18-1: LEN 18 + 4n, R/W 16 + 4n (1: writes), 10 set, GE 9, LE 8, Gn 2n + 1. */
static void each_slot_and_size_has_its_word(void **state UNUSED)
{
	static const uint64_t words[ARCH_WATCHES][4] = {
		/* 1, 2, 4, 8 bytes */
		{0x10702, 0x50702, 0xd0702, 0x90702},
		{0x100708, 0x500708, 0xd00708, 0x900708},
		{0x1000720, 0x5000720, 0xd000720, 0x9000720},
		{0x10000780, 0x50000780, 0xd0000780, 0x90000780},
	};

	for (unsigned n = 0; n < ARCH_WATCHES; n++) {
		for (unsigned size = 0; size < 4; size++) {
			struct arch_watch watch[ARCH_WATCHES] = {0};

			watch[n] = (struct arch_watch){.gva = GVA + 8 * n, .bytes = 1u << size};
			arm(watch, ARCH_WATCH_RUN);
			assert_int_equal(kvm.debug.control,
					 KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP);
			assert_int_equal(kvm.debug.arch.debugreg[7], words[n][size]);
			for (unsigned i = 0; i < ARCH_WATCHES; i++)
				assert_int_equal(kvm.debug.arch.debugreg[i],
						 i == n ? GVA + 8 * n : 0);
		}
	}
	assert_int_equal(kvm.debug_calls, 16);
	assert_int_equal(kvm.get_calls + kvm.set_calls, 0);
}

static void all_slots_are_one_word(void **state UNUSED)
{
	static const struct arch_watch watch[ARCH_WATCHES] = {{GVA, 1},
							      {GVA + 2, 2},
							      {GVA + 4, 4},
							      {GVA + 8, 8}};

	arm(watch, ARCH_WATCH_RUN);
	assert_int_equal(kvm.debug.arch.debugreg[7], 0x9d5107aa);
	for (unsigned n = 0; n < ARCH_WATCHES; n++)
		assert_int_equal(kvm.debug.arch.debugreg[n], watch[n].gva);
}

static void none_leaves_nothing(void **state UNUSED)
{
	arm(none, ARCH_WATCH_RUN);
	assert_int_equal(kvm.debug.control, 0);
	assert_int_equal(kvm.debug.arch.debugreg[7], 0);
	arm(none, ARCH_WATCH_STEP);
	assert_int_equal(kvm.debug.control, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP);
	assert_int_equal(kvm.debug.arch.debugreg[7], 0);
}

static void the_guests_own_goes_back(void **state UNUSED)
{
	static const struct arch_watch watch[ARCH_WATCHES] = {[1] = {GVA, 4}};
	struct kvm_run run = {.debug.arch = {.exception = 1, .dr6 = 0xffff4ff0}};

	kvm.regs = (struct kvm_debugregs){.db = {1, 2, 3, 4}, .dr6 = 0xffff0ff1, .dr7 = 0x402};
	assert_int_equal(arch_vcpu_watch(VCPU_FD, watch, ARCH_WATCH_PASS_ON, &run), 0);
	/* Its handler finds why in DR6; all else is as it was. */
	assert_int_equal(kvm.regs.dr6, 0xffff4ff1);
	assert_int_equal(kvm.regs.dr7, 0x402);
	assert_int_equal(kvm.regs.db[3], 4);
	assert_int_equal(kvm.debug.control,
			 KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP | KVM_GUESTDBG_INJECT_DB);
	assert_int_equal(kvm.debug.arch.debugreg[7], 0xd00708);
	/* With none armed any more, too. */
	assert_int_equal(arch_vcpu_watch(VCPU_FD, none, ARCH_WATCH_PASS_ON, &run), 0);
	assert_int_equal(kvm.debug.control, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_INJECT_DB);
}

static void failures_are_told_and_kicks_are_none(void **state UNUSED)
{
	static const struct arch_watch watch[ARCH_WATCHES] = {{GVA, 8}};
	static const unsigned long requests[] = {KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS,
						 KVM_SET_GUEST_DEBUG};
	struct kvm_run run = {0};

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		reset(NULL);
		kvm.fails = requests[i];
		kvm.code = EINVAL;
		kvm.times = 1;
		assert_int_equal(arch_vcpu_watch(VCPU_FD, watch, ARCH_WATCH_PASS_ON, &run),
				 -EINVAL);
		assert_int_equal(kvm.debug_calls, 0);
		kvm.code = EINTR;
		kvm.times = 3;
		assert_int_equal(arch_vcpu_watch(VCPU_FD, watch, ARCH_WATCH_PASS_ON, &run), 0);
		assert_int_equal(kvm.debug_calls, 1);
	}
}

static void an_exit_names_its_slots(void **state UNUSED)
{
	static const struct arch_watch all[ARCH_WATCHES] = {{GVA, 1},
							    {GVA + 2, 2},
							    {GVA + 4, 4},
							    {GVA + 8, 8}};
	static const struct arch_watch two[ARCH_WATCHES] = {[1] = {GVA, 4}, [3] = {GVA, 8}};
	static const struct {
		const struct arch_watch *watch;
		uint64_t dr6;
		uint32_t exception;
		enum arch_debug is;
		uint32_t slots;
	} cases[] = {
		{all, 0xffff0ff1, 1, ARCH_DEBUG_STORED, 1},
		{all, 0xffff0ff8, 1, ARCH_DEBUG_STORED, 8},
		{all, 0xffff0fff, 1, ARCH_DEBUG_STORED, 15},
		{all, 0xffff0ff6, 1, ARCH_DEBUG_STORED, 6},
		/* Bits of registers that are not armed. */
		{two, 0xffff0ff7, 1, ARCH_DEBUG_STORED, 2},
		{two, 0xffff0fff, 1, ARCH_DEBUG_STORED, 10},
		{two, 0xffff0ff5, 1, ARCH_DEBUG_GUEST, 0},
		{none, 0xffff0fff, 1, ARCH_DEBUG_GUEST, 0},
		/* A single step; access to debug registers; nothing. */
		{all, 0xffff4ff0, 1, ARCH_DEBUG_GUEST, 0},
		{all, 0xffff2ff0, 1, ARCH_DEBUG_GUEST, 0},
		{all, 0xffff0ff0, 1, ARCH_DEBUG_GUEST, 0},
		/* A step and a store at once. */
		{all, 0xffff4ff2, 1, ARCH_DEBUG_STORED_AND_GUEST, 2},
		/* A breakpoint instruction. */
		{all, 0, 3, ARCH_DEBUG_STORED, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct kvm_run run = {
			.debug.arch = {.exception = cases[i].exception, .dr6 = cases[i].dr6}};
		uint32_t slots = 99, sure = 99;

		if (arch_exit_debug(&run, cases[i].watch, &slots, &sure) != cases[i].is ||
		    slots != cases[i].slots || sure != slots)
			fail_msg("case %zu: slots %x", i, slots);
	}
}

static void the_upper_half_is_the_kernels(void **state UNUSED)
{
	assert_true(arch_kernel_address(UINT64_C(0xffff800000000000)));
	assert_true(arch_kernel_address(UINT64_C(0xff11000000000000)));
	assert_true(arch_kernel_address(UINT64_MAX));
	assert_false(arch_kernel_address(0));
	assert_false(arch_kernel_address(UINT64_C(0x00007fffffffffff)));
	assert_false(arch_kernel_address(UINT64_C(0x00ffffffffffffff)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(each_slot_and_size_has_its_word, reset),
		cmocka_unit_test_setup(all_slots_are_one_word, reset),
		cmocka_unit_test_setup(none_leaves_nothing, reset),
		cmocka_unit_test_setup(the_guests_own_goes_back, reset),
		cmocka_unit_test_setup(failures_are_told_and_kicks_are_none, reset),
		cmocka_unit_test_setup(an_exit_names_its_slots, reset),
		cmocka_unit_test(the_upper_half_is_the_kernels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
