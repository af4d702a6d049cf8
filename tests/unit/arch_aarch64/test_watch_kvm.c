/* What KVM is told of watches, and how many it can have. aarch64. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "arch/aarch64/machine.h"
#include "arch/aarch64/regs.h"
#include "arch/aarch64/watch.h"

#define VCPU_FD 1001 /* no descriptor */
#define GVA	UINT64_C(0xffff800080001000)
#define VECTORS UINT64_C(0xffff800080010800)

static struct {
	int watchpoints;
	uint64_t pc, elr;
	struct kvm_guest_debug debug;
} kvm_of_ours;

static int get_reg(const struct kvm_one_reg *reg)
{
	uint64_t *value = (uint64_t *)(uintptr_t)reg->addr;

	assert_true(reg->id == REG_PC || reg->id == REG_ELR_EL1 || reg->id == REG_VBAR_EL1);
	*value = reg->id == REG_PC	  ? kvm_of_ours.pc
		 : reg->id == REG_ELR_EL1 ? kvm_of_ours.elr
					  : VECTORS;
	return 0;
}

int __wrap_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
	switch (request) {
	case KVM_CHECK_EXTENSION:
		assert_int_equal((long)arg, KVM_CAP_GUEST_DEBUG_HW_WPS);
		return kvm_of_ours.watchpoints;
	case KVM_GET_ONE_REG:
		return get_reg(arg);
	case KVM_SET_GUEST_DEBUG:
		assert_int_equal(fd, VCPU_FD);
		memcpy(&kvm_of_ours.debug, arg, sizeof(kvm_of_ours.debug));
		return 0;
	}
	errno = EINVAL;
	return -1;
}

/* Any two slots fit a host that has two: only the address tells of them. */
static void slots_take_the_first_registers(void **state UNUSED)
{
	static const struct arch_watch watch[ARCH_WATCHES] = {[1] = {GVA, 4}, [3] = {GVA + 12, 4}};
	const struct kvm_guest_debug_arch *is = &kvm_of_ours.debug.arch;

	assert_int_equal(arch_vcpu_watch(VCPU_FD, watch, ARCH_WATCH_RUN, NULL), 0);
	assert_int_equal(is->dbg_wvr[0], GVA);
	assert_int_equal(is->dbg_wcr[0], watch_control(GVA, 4));
	assert_int_equal(is->dbg_wvr[1], GVA + 8);
	assert_int_equal(is->dbg_wcr[1], watch_control(GVA + 12, 4));
	for (unsigned n = 2; n < ARRAY_SIZE(is->dbg_wcr); n++)
		assert_int_equal(is->dbg_wcr[n], 0);
}

#define PC     UINT64_C(0xffff800080020000)
#define VECTOR UINT64_C(0xffff800080010a80) /* an interrupt's */

/* An interrupt may come before it, or be taken right behind it, in the same step. */
static void a_step_is_done_or_not(void **state UNUSED)
{
	static const struct {
		uint64_t pc, elr;
		bool done;
	} cases[] = {
		{PC + 4, PC, true},	{PC + 4, 0, true},   {VECTOR, PC, false},
		{VECTOR, PC + 4, true}, {PC, PC + 8, false}, {VECTOR + 4, PC, false},
		{PC + 8, PC, true},	{PC + 64, 0, true},  {VECTOR + 4, PC + 4, true},
	};
	const struct arch_store store = {.pc = PC};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		kvm_of_ours.pc = cases[i].pc;
		kvm_of_ours.elr = cases[i].elr;
		assert_int_equal(arch_vcpu_store_done(VCPU_FD, &store), cases[i].done);
	}
}

static void a_host_has_so_many(void **state UNUSED)
{
	static const struct {
		int host;
		unsigned most;
	} cases[] = {{2, 2}, {3, 3}, {4, 4}, {16, ARCH_WATCHES}, {0, 0}};
	const struct kvm kvm = {.fd = 1000, .vm_fd = -1};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		kvm_of_ours.watchpoints = cases[i].host;
		assert_int_equal(arch_watches(&kvm), cases[i].most);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(slots_take_the_first_registers),
		cmocka_unit_test(a_step_is_done_or_not),
		cmocka_unit_test(a_host_has_so_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
