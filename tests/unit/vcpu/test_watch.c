/* What a vCPU thread makes of a debug exit, on calls of KVM's that are written down: DR6 is the
 * test's. No /dev/kvm; x86. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "vcpu/pool.h"

#define VCPU_FD	   1001 /* no descriptor */
#define GVA	   0xffffffff81234560
#define DB_VECTOR  1
#define BP_VECTOR  3
#define DR6_ALWAYS 0xffff0ff0u /* bits that read as 1 */
#define DR6_BD	   (1u << 13)
#define DR6_BS	   (1u << 14)

static struct {
	struct kvm_debugregs regs; /* the guest's own */
	unsigned injected;	   /* debug exceptions */
	struct kvm_guest_debug debug;
} kvm_of_ours;

static struct vcpu_pool pool;
static struct kvm_run run;
static struct vcpu vcpu;
static uint32_t word; /* the watched one, in slots 0 and 2 */

int __wrap_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
	assert_int_equal(fd, VCPU_FD);
	switch (request) {
	case KVM_GET_DEBUGREGS:
		memcpy(arg, &kvm_of_ours.regs, sizeof(kvm_of_ours.regs));
		return 0;
	case KVM_SET_DEBUGREGS:
		memcpy(&kvm_of_ours.regs, arg, sizeof(kvm_of_ours.regs));
		return 0;
	case KVM_SET_GUEST_DEBUG:
		memcpy(&kvm_of_ours.debug, arg, sizeof(kvm_of_ours.debug));
		kvm_of_ours.injected += !!(kvm_of_ours.debug.control & KVM_GUESTDBG_INJECT_DB);
		return 0;
	}
	errno = ENOTTY;
	return -1;
}

static int open_rig(void **state UNUSED)
{
	const struct vcpu_watch watch = {.gva = GVA, .bytes = 4, .host = (const uint8_t *)&word};

	memset(&kvm_of_ours, 0, sizeof(kvm_of_ours));
	memset(&pool, 0, sizeof(pool));
	memset(&run, 0, sizeof(run));
	memset(&vcpu, 0, sizeof(vcpu));
	word = 0;
	kvm_of_ours.regs.dr6 = DR6_ALWAYS;
	pool.vcpu = &vcpu;
	pool.count = 1;
	vcpu.pool = &pool;
	vcpu.fd = VCPU_FD;
	vcpu.run = &run;
	vcpu_watch_publish(&pool, 0, &watch);
	vcpu_watch_publish(&pool, 2, &watch);
	vcpu_watch_arm(&vcpu);
	return 0;
}

/* Slots that hit. */
static uint32_t debug_exit(uint32_t exception, uint64_t dr6)
{
	run.exit_reason = KVM_EXIT_DEBUG;
	run.debug.arch.exception = exception;
	run.debug.arch.dr6 = DR6_ALWAYS | dr6;
	return vcpu_watch_exit(&vcpu);
}

/* ---- tests ------------------------------------------------------------------------------- */

static void a_store_is_ours_alone(void **state UNUSED)
{
	word = 7;
	/* A bit of a slot that is not armed means nothing. */
	assert_int_equal(debug_exit(DB_VECTOR, 1u << 0 | 1u << 1), 1u << 0);
	assert_int_equal(vcpu_watch_hit(&pool, 0)->after, 7);
	assert_null(vcpu_watch_hit(&pool, 2));
	assert_int_equal(kvm_of_ours.injected, 0);
	assert_int_equal(kvm_of_ours.regs.dr6, DR6_ALWAYS);
}

static void a_guests_own_step_is_passed_on(void **state UNUSED)
{
	assert_int_equal(debug_exit(DB_VECTOR, DR6_BS), 0);
	assert_int_equal(kvm_of_ours.injected, 1);
	assert_int_equal(kvm_of_ours.regs.dr6, DR6_ALWAYS | DR6_BS);
	/* A move to a debug register that is guarded. */
	assert_int_equal(debug_exit(DB_VECTOR, DR6_BD), 0);
	assert_int_equal(kvm_of_ours.injected, 2);
	/* A breakpoint's exit is nobody's here. */
	assert_int_equal(debug_exit(BP_VECTOR, DR6_BS), 0);
	assert_int_equal(kvm_of_ours.injected, 2);
}

static void a_guests_step_over_a_watched_store_is_both(void **state UNUSED)
{
	word = 9;
	assert_int_equal(debug_exit(DB_VECTOR, DR6_BS | 1u << 0 | 1u << 2), 1u << 0 | 1u << 2);
	assert_int_equal(vcpu_watch_hit(&pool, 0)->after, 9);
	assert_int_equal(vcpu_watch_hit(&pool, 2)->after, 9);
	assert_int_equal(kvm_of_ours.injected, 1);
	/* Its handler sees a step, and nothing of our slots. */
	assert_int_equal(kvm_of_ours.regs.dr6, DR6_ALWAYS | DR6_BS);
	/* They stay armed. */
	assert_true(kvm_of_ours.debug.control & KVM_GUESTDBG_USE_HW_BP);
	assert_int_equal(kvm_of_ours.debug.arch.debugreg[2], GVA);
	assert_int_equal(vcpu_watch_error(&pool), 0);
}

#define TEST(f) cmocka_unit_test_setup(f, open_rig)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_store_is_ours_alone),
		TEST(a_guests_own_step_is_passed_on),
		TEST(a_guests_step_over_a_watched_store_is_both),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
