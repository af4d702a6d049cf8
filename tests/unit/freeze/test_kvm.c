/* Freezes of guests on real KVM, thousands of them: none lost, none late, registers sane, memory
 * and descriptors flat, time hidden. With --long: 100,000 on 64 vCPUs, and a million.
 * usage: test-freeze-kvm [--long [TEST [CYCLES]]] */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
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
#define VCPUS_MAX  64

/* A sanitizer's own memory grows. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED 0
#endif

static bool long_run;
static unsigned long_cycles; /* asked for; 0: as many as the test says */

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

static unsigned descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* Every vCPU has parked in this turn, with registers that its program can have. */
static void expect_sane(struct rig *r)
{
	for (unsigned i = 0; i < vcpu_pool_count(r->pool); i++) {
		struct vcpu *vcpu = vcpu_pool_get(r->pool, i);
		enum fake_program program = r->vm.program[i];
		struct arch_unwind at;
		uint64_t begin = program == FAKE_WAITS ? 0xfff0 : FAKE_PROGRAM_GPA(program);

		assert_true(vcpu_has_parked(vcpu));
		assert_int_equal(vcpu->capture_error, 0);
		arch_vcpu_unwind(vcpu->state, &at);
		if (at.pc < begin || at.pc >= begin + FAKE_PROGRAM_BYTES)
			fail_msg("vCPU %u, program %d: pc %#llx", i, program,
				 (unsigned long long)at.pc);
	}
}

static const enum fake_program every[] = {FAKE_SPIN,   FAKE_HALT,  FAKE_ECHO,
					  FAKE_WRITES, FAKE_WAITS, FAKE_CLOCK};

/* What ten samples of a run say. */
struct flat {
	long pages_first, pages_most; /* resident */
	unsigned fds;
};

static void sample(struct flat *flat, unsigned done, uint64_t begin_ns, const struct rig *r)
{
	long pages = resident_pages();
	unsigned fds = descriptors();

	if (!flat->pages_first) {
		flat->pages_first = pages;
		flat->fds = fds;
	}
	flat->pages_most = MAX(flat->pages_most, pages);
	assert_int_equal(fds, flat->fds);
	if (!SANITIZED)
		assert_true(flat->pages_most - flat->pages_first < FLAT_PAGES);
	if (long_run)
		print_message("%u cycles in %llu s: %ld pages, %u descriptors, %llu exits\n", done,
			      (unsigned long long)((now_ns() - begin_ns) / 1000000000), pages, fds,
			      (unsigned long long)r->served);
}

/* The first `busy` vCPUs do one thing each of every; the others halt, or wait to be started. */
static void cycle(unsigned vcpus, unsigned busy, unsigned cycles, bool immediate_exit)
{
	enum fake_program program[VCPUS_MAX];
	struct rig *r;
	uint64_t begin_ns = now_ns(), worst_ns = 0, sum_ns = 0, thaws_ns = 0;
	struct flat flat = {0};

	for (unsigned i = 0; i < vcpus; i++)
		program[i] = i < busy ? every[i % ARRAY_SIZE(every)]
			     : i % 2  ? FAKE_WAITS
				      : FAKE_HALT;
	r = rig_open(vcpus, program, vcpus, immediate_exit);
	for (unsigned i = 0; i < cycles; i++) {
		uint64_t thaw_ns;

		freeze_now(r);
		expect_sane(r);
		thaw_ns = now_ns();
		thaw_now(r);
		thaws_ns += now_ns() - thaw_ns;
		worst_ns = MAX(worst_ns, r->last.rendezvous_ns);
		sum_ns += r->last.rendezvous_ns;
		if ((i + 1) % (cycles / 10) == 0)
			sample(&flat, i + 1, begin_ns, r);
		/* The guests get somewhere, too. */
		if (i % 16 == 0)
			loop_turn(r->loop, 0);
	}
	assert_int_equal(r->freeze.late, 0);
	assert_int_equal(r->overs, cycles);
	assert_int_equal(r->freeze.freezes, cycles);
	assert_true(r->served > 0);
	print_message("%u vCPUs, %u cycles in %llu ms; to a rendezvous %llu us on average, %llu us "
		      "at most; thaw %llu us on average; %llu exits served; %ld to %ld pages, %u "
		      "descriptors\n",
		      vcpus, cycles, (unsigned long long)(now_ns() - begin_ns) / 1000000,
		      (unsigned long long)sum_ns / cycles / 1000,
		      (unsigned long long)worst_ns / 1000,
		      (unsigned long long)thaws_ns / cycles / 1000, (unsigned long long)r->served,
		      flat.pages_first, flat.pages_most, flat.fds);
	rig_close(r);
}

static void cycles_lose_nobody(void **state)
{
	cycle(6, 6, 2000, *(bool *)*state);
}

static void many_vcpus_park(void **state)
{
	cycle(64, 64, 60, *(bool *)*state);
}

/* Few are busy: the host shares its CPUs out among those that are, and beside twenty to a CPU the
 * control thread gets the 2 ms that it takes to wake and to kick 64 threads in 60 ms. */
static void a_hundred_thousand_on_64(void **state UNUSED)
{
	cycle(64, 6, long_cycles ? long_cycles : 100000, true);
}

static void a_million(void **state UNUSED)
{
	cycle(3, 3, long_cycles ? long_cycles : 1000000, true);
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

static _Atomic unsigned errands[VCPUS_MAX];
static unsigned errands_told;

static void on_errand(struct vcpu *vcpu, void *arg)
{
	assert_ptr_equal(arg, &rig);
	/* Its own thread's. */
	assert_int_equal(gettid(), vcpu->tid);
	atomic_fetch_add(&errands[vcpu->index], 1);
}

static void on_errand_over(struct loop_event *event UNUSED, uint64_t count)
{
	errands_told += (unsigned)count;
}

/* Each parked thread does each errand once, and stays parked. */
static void errands_are_done_by_each(void **state)
{
	struct rig *r = rig_open(6, every, ARRAY_SIZE(every), *(bool *)*state);
	struct loop_event over = {.fire = on_errand_over, .fd = -1};
	struct error err = {0};

	memset(errands, 0, sizeof(errands));
	errands_told = 0;
	assert_int_equal(loop_event_init(r->loop, &over, &err), 0);
	for (unsigned n = 1; n <= 300; n++) {
		if (n % 3 == 1)
			freeze_now(r);
		vcpu_pool_errand(r->pool, on_errand, r, &over);
		while (errands_told < n)
			assert_true(loop_turn(r->loop, UINT64_MAX) >= 0);
		assert_true(vcpu_pool_errand_over(r->pool));
		assert_int_equal(vcpu_pool_unparked(r->pool), 0);
		for (unsigned i = 0; i < 6; i++)
			assert_int_equal(atomic_load(&errands[i]), n);
		if (n % 3 == 0)
			thaw_now(r);
	}
	assert_int_equal(errands_told, 300);
	/* Before the event: the last who signalled it may not have come back from that. */
	vcpu_pool_stop(r->pool);
	loop_event_done(&over);
	rig_close(r);
}

/* Of the host's TSC and the guest's: in steps of the latter's. */
static uint32_t host_clock(void)
{
	return (uint32_t)(__rdtsc() >> FAKE_CLOCK_SHIFT);
}

static uint32_t guest_clock(const struct rig *r)
{
	return __atomic_load_n((uint32_t *)(void *)(r->vm.ram + FAKE_CLOCK_GPA), __ATOMIC_RELAXED);
}

/* Until the guest has written another value than before; returns it. */
static uint32_t guest_writes(const struct rig *r, uint32_t before)
{
	uint32_t now;

	while ((now = guest_clock(r)) == before)
		usleep(20);
	return now;
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

struct times {
	uint32_t seen;	 /* by the guest, across a freeze */
	uint32_t ran;	 /* may have run at most, by the host's TSC */
	uint32_t frozen; /* was frozen at least */
};

/* All bounds are the host's stamps around what happened, so that no load of the host breaks them:
 *
 *   begin        | freeze   | still      | go on     | thaw     | end
 *   <- ran ----------------->  <- frozen ->  <- ran ------------>
 */
static struct times freeze_for(struct rig *r, useconds_t us)
{
	uint32_t begin, still, go_on, end, before, after;

	/* The second write's time was taken after the first was seen, hence after begin. */
	begin = host_clock();
	guest_writes(r, guest_writes(r, guest_clock(r)));
	freeze_now(r);
	still = host_clock();
	before = guest_clock(r);
	usleep(us);
	go_on = host_clock();
	thaw_now(r);
	after = guest_writes(r, before);
	end = host_clock();
	/* Each stamp is cut off by less than a step. */
	return (struct times){.seen = after - before,
			      .ran = still - begin + end - go_on + 3,
			      .frozen = go_on - still - 1};
}

/* The guest's TSC goes on from where it stood: it sees no more than it may have run, or it is said
 * that this host can't do it. */
static void the_guest_sees_no_frozen_time(void **state)
{
	static const enum fake_program program[] = {FAKE_CLOCK};
	struct rig *r = rig_open(1, program, 1, *(bool *)*state);
	useconds_t us = FROZEN_US;
	unsigned telling = 0;

	guest_writes(r, 0);
	while (telling < 3) {
		struct times t = freeze_for(r, us);

		print_message("%u steps seen, %u run at most, %u frozen\n", t.seen, t.ran,
			      t.frozen);
		if (!tsc_is_lacking(r))
			assert_true(t.seen <= t.ran);
		/* On a busy host one can't tell, unless it is frozen for longer. */
		if (t.ran < t.frozen)
			telling++;
		else
			us *= 2;
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
		TEST(errands_are_done_by_each),
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
	if (argc > 2)
		cmocka_set_test_filter(argv[2]);
	if (argc > 3)
		long_cycles = MAX((unsigned)strtoul(argv[3], NULL, 10), 10u);
	if (long_run)
		return cmocka_run_group_tests(long_tests, NULL, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
