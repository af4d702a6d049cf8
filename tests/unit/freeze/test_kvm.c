/* Freezes of guests on real KVM, thousands of them: none lost, none late, registers sane, memory
 * flat, time hidden. With --long: 100,000 on 64 vCPUs, and a million. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <x86intrin.h>

#include <cmocka.h>

#include "base/util.h"
#include "freeze/freeze.h"
#include "real_clock.h"
#include "unit/vcpu/fake_arch.h"

#define WATCHDOG_S 240
#define LONG_S	   7000
#define FLAT_PAGES 256 /* 1 MiB: what the C library may take for itself */
#define FROZEN_US  300000

/* A sanitizer's own memory grows. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED 0
#endif

static bool long_run;

struct rig {
	struct kvm kvm;
	struct arch_vm vm;
	struct loop *loop;
	struct topology topology;
	struct vcpu_pool *pool;
	struct freeze freeze;
	struct freeze_wait wait;
	unsigned told, not_frozen, overs;
	struct freeze_report last;
	uint64_t served;
};

static struct rig rig;

static void serve(struct vcpu *vcpu UNUSED, struct kvm_run *run UNUSED,
		  const struct arch_exit *exit UNUSED, void *arg)
{
	((struct rig *)arg)->served++;
}

static void on_failed(struct vcpu *vcpu, void *arg UNUSED)
{
	fail_msg("%s", vcpu->error.what);
}

static void hold(struct freeze *f)
{
	freeze_held(f);
}

static void release(struct freeze *f UNUSED)
{
}

static void over(struct freeze *f, const struct freeze_report *report)
{
	struct rig *r = container_of(f, struct rig, freeze);

	r->last = *report;
	r->overs++;
}

static void on_done(struct freeze_wait *wait, const struct error *err)
{
	struct rig *r = container_of(wait, struct rig, wait);

	r->told++;
	if (err) {
		print_error("%s\n", err->what);
		r->not_frozen++;
	}
}

static struct rig *rig_open(unsigned count, const enum fake_program *program, unsigned programs,
			    bool immediate_exit)
{
	struct vcpu_pool_config pool = {
		.count = count,
		.topology = &rig.topology,
		.serve = serve,
		.failed = on_failed,
		.arg = &rig,
	};
	struct freeze_config config = {.hold = hold, .release = release, .over = over};
	struct error err = {0};

	memset(&rig, 0, sizeof(rig));
	fake_vm_open(&rig.kvm, &rig.vm);
	rig.kvm.immediate_exit &= immediate_exit;
	rig.wait.done = on_done;
	for (unsigned i = 0; i < count; i++)
		rig.vm.program[i] = program[i % programs];
	assert_int_equal(loop_new(&rig.loop, &err), 0);
	if (vcpu_pool_new(rig.loop, &rig.kvm, &pool, &rig.pool, &err) < 0)
		fail_msg("%s", err.what);
	config.loop = rig.loop;
	config.pool = rig.pool;
	config.vm = real_clock_vm(&rig.kvm);
	assert_int_equal(freeze_init(&rig.freeze, &config, &err), 0);
	if (vcpu_pool_start(rig.pool, &rig.vm, &err) < 0)
		fail_msg("%s", err.what);
	alarm(long_run ? LONG_S : WATCHDOG_S);
	return &rig;
}

static void rig_close(struct rig *r)
{
	freeze_kill(&r->freeze);
	vcpu_pool_stop(r->pool);
	freeze_done(&r->freeze);
	vcpu_pool_free(r->pool);
	loop_free(r->loop);
	fake_vm_close(&r->kvm, &r->vm);
	alarm(0);
}

static void freeze_now(struct rig *r)
{
	unsigned told = r->told;
	struct error err = {0};

	assert_int_equal(freeze_start(&r->freeze, "test", &r->wait, &err), 0);
	while (r->told == told)
		assert_true(loop_turn(r->loop, UINT64_MAX) >= 0);
	assert_int_equal(r->not_frozen, 0);
}

static void thaw_now(struct rig *r)
{
	assert_int_equal(freeze_thaw(&r->freeze), 0);
}

static long resident_pages(void)
{
	long size = 0, resident = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%ld %ld", &size, &resident), 2);
	fclose(f);
	return resident;
}

/* Every vCPU has parked in this turn, with registers that its program can have. */
static void expect_sane(struct rig *r)
{
	for (unsigned i = 0; i < vcpu_pool_count(r->pool); i++) {
		struct vcpu *vcpu = vcpu_pool_get(r->pool, i);
		enum fake_program program = r->vm.program[i];
		uint64_t pc = arch_vcpu_pc(vcpu->state);
		uint64_t begin = program == FAKE_WAITS ? 0xfff0 : FAKE_PROGRAM_GPA(program);

		assert_true(vcpu_has_parked(vcpu));
		assert_int_equal(vcpu->capture_error, 0);
		if (pc < begin || pc >= begin + FAKE_PROGRAM_BYTES)
			fail_msg("vCPU %u, program %d: pc %#llx", i, program,
				 (unsigned long long)pc);
	}
}

static const enum fake_program every[] = {FAKE_SPIN,   FAKE_HALT,  FAKE_ECHO,
					  FAKE_WRITES, FAKE_WAITS, FAKE_CLOCK};

static void cycle(unsigned vcpus, unsigned cycles, bool immediate_exit)
{
	struct rig *r = rig_open(vcpus, every, ARRAY_SIZE(every), immediate_exit);
	uint64_t begin_ns = now_ns(), worst_ns = 0, sum_ns = 0;
	long pages = 0;

	for (unsigned i = 0; i < cycles; i++) {
		freeze_now(r);
		expect_sane(r);
		thaw_now(r);
		worst_ns = MAX(worst_ns, r->last.rendezvous_ns);
		sum_ns += r->last.rendezvous_ns;
		if (i == cycles / 10)
			pages = resident_pages();
		/* The guests get somewhere, too. */
		if (i % 16 == 0)
			loop_turn(r->loop, 0);
	}
	assert_int_equal(r->freeze.late, 0);
	assert_int_equal(r->overs, cycles);
	assert_int_equal(r->freeze.freezes, cycles);
	if (!SANITIZED)
		assert_true(resident_pages() - pages < FLAT_PAGES);
	assert_true(r->served > 0);
	print_message("%u vCPUs, %u cycles in %llu ms; to a rendezvous %llu us on average, %llu us "
		      "at most; %llu exits served\n",
		      vcpus, cycles, (unsigned long long)(now_ns() - begin_ns) / 1000000,
		      (unsigned long long)sum_ns / cycles / 1000,
		      (unsigned long long)worst_ns / 1000, (unsigned long long)r->served);
	rig_close(r);
}

static void cycles_lose_nobody(void **state)
{
	cycle(6, 2000, *(bool *)*state);
}

static void many_vcpus_park(void **state)
{
	cycle(64, 60, *(bool *)*state);
}

static void a_hundred_thousand_on_64(void **state UNUSED)
{
	cycle(64, 100000, true);
}

static void a_million(void **state UNUSED)
{
	cycle(3, 1000000, true);
}

/* While it is frozen nothing that it can write changes. */
static void memory_is_still(void **state)
{
	static const enum fake_program program[] = {FAKE_CLOCK, FAKE_LEADER, FAKE_FOLLOWER};
	struct rig *r = rig_open(3, program, 3, *(bool *)*state);
	uint8_t before[FAKE_RAM_BYTES], after[FAKE_RAM_BYTES];

	for (unsigned i = 0; i < 20; i++) {
		freeze_now(r);
		memcpy(before, r->vm.ram, sizeof(before));
		usleep(2000);
		memcpy(after, r->vm.ram, sizeof(after));
		assert_memory_equal(before, after, sizeof(before));
		thaw_now(r);
		usleep(500);
	}
	rig_close(r);
}

static uint64_t guest_tsc(struct rig *r)
{
	return __atomic_load_n((uint64_t *)(void *)(r->vm.ram + FAKE_CLOCK_GPA), __ATOMIC_RELAXED);
}

/* Whether the freeze has said that TSCs can't be set back. */
static bool tsc_is_lacking(struct rig *r)
{
	uint32_t lacks = atomic_load(&r->freeze.clock.lacks);

	for (unsigned i = 0; arch_clock_lacks[i]; i++)
		if ((lacks & 1u << i) && strstr(arch_clock_lacks[i], "the TSC can't be set back"))
			return true;
	return false;
}

/* The guest's TSC goes on from where it stood: less than a twentieth of the freeze is to be seen,
 * or it is said that this host can't do it.
 */
static void the_guest_sees_no_frozen_time(void **state)
{
	static const enum fake_program program[] = {FAKE_CLOCK};
	struct rig *r = rig_open(1, program, 1, *(bool *)*state);
	uint64_t host, frozen_ticks, at_freeze, after;

	while (guest_tsc(r) == 0)
		usleep(100);
	for (unsigned i = 0; i < 3; i++) {
		freeze_now(r);
		at_freeze = guest_tsc(r);
		host = __rdtsc();
		usleep(FROZEN_US);
		frozen_ticks = __rdtsc() - host;
		thaw_now(r);
		/* Until it writes again. */
		do
			after = guest_tsc(r);
		while (after == at_freeze);
		print_message("%llu of %llu ticks seen\n", (unsigned long long)(after - at_freeze),
			      (unsigned long long)frozen_ticks);
		assert_true(after > at_freeze);
		if (after - at_freeze >= frozen_ticks / 20)
			assert_true(tsc_is_lacking(r));
	}
	if (tsc_is_lacking(r))
		print_message("this host's KVM sets no TSC back, and it was said\n");
	else
		assert_int_equal(atomic_load(&r->freeze.clock.lacks), 0);
	rig_close(r);
}

#define TEST(f)                                                                                    \
	{#f, f, NULL, NULL, &immediate},                                                           \
	{                                                                                          \
#f " (signal mask)", f, NULL, NULL, &masked                                        \
	}

int main(int argc, char **argv)
{
	static bool immediate = true, masked = false;
	const struct CMUnitTest tests[] = {
		TEST(cycles_lose_nobody),
		TEST(many_vcpus_park),
		TEST(memory_is_still),
		{"the_guest_sees_no_frozen_time", the_guest_sees_no_frozen_time, NULL, NULL,
		 &immediate},
	};
	const struct CMUnitTest long_tests[] = {
		cmocka_unit_test(a_hundred_thousand_on_64),
		cmocka_unit_test(a_million),
	};

	long_run = argc > 1 && strcmp(argv[1], "--long") == 0;
	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		printf("skipped: /dev/kvm: %s\n", strerror(errno));
		return 77;
	}
	if (long_run)
		return cmocka_run_group_tests(long_tests, NULL, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
