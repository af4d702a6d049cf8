/* The rendezvous and its state machine, with real vCPU threads and a KVM that the test plays. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "fake_kvm.h"
#include "freeze/freeze.h"

#define WATCHDOG_S 100
#define LATE_NS	   100000000u
#define CYCLES	   2000

struct waiter {
	struct freeze_wait wait;
	unsigned told;
	int code; /* what it was told last */
	char what[512];
};

struct rig {
	struct kvm kvm;
	struct arch_vm vm;
	struct loop *loop;
	struct topology topology;
	struct vcpu_pool *pool;
	struct freeze freeze;
	bool holds_late;	/* the test answers hold() */
	struct waiter *again;	/* release() freezes for it, once */
	unsigned late_parked;	/* vCPUs that had, when it was late */
	uint64_t late_captures; /* … what they had captured by then */
	unsigned holds, releases, overs;
	struct freeze_report last;
	struct vcpu *failed;
	uint64_t served;
};

static struct rig rig;

/* ---- the rig --------------------------------------------------------------------------- */

static void serve(struct vcpu *vcpu UNUSED, struct kvm_run *run UNUSED,
		  const struct arch_exit *exit UNUSED, void *arg)
{
	((struct rig *)arg)->served++;
}

static void on_failed(struct vcpu *vcpu, void *arg)
{
	((struct rig *)arg)->failed = vcpu;
}

static struct rig *rig_of(struct freeze *f)
{
	return container_of(f, struct rig, freeze);
}

static void hold(struct freeze *f)
{
	rig_of(f)->holds++;
	if (!rig_of(f)->holds_late)
		freeze_held(f);
}

static void release(struct freeze *f)
{
	struct waiter *again = rig_of(f)->again;

	rig_of(f)->releases++;
	rig_of(f)->again = NULL;
	if (again)
		assert_int_equal(freeze_start(f, "a device's", &again->wait, NULL), 0);
}

/* Who has parked holds still for as long as this looks. */
static void on_late(struct freeze *f)
{
	struct rig *r = rig_of(f);

	assert_int_equal(f->state, FREEZE_FREEZING);
	for (unsigned i = 0; i < vcpu_pool_count(f->config.pool); i++) {
		const struct vcpu *vcpu = vcpu_pool_get(f->config.pool, i);

		if (!vcpu_has_parked(vcpu))
			continue;
		r->late_parked++;
		/* As a late dump does. */
		r->late_captures += vcpu->state->captures;
	}
}

static void over(struct freeze *f, const struct freeze_report *report)
{
	rig_of(f)->overs++;
	rig_of(f)->last = *report;
}

static void on_done(struct freeze_wait *wait, const struct error *err)
{
	struct waiter *w = container_of(wait, struct waiter, wait);

	w->told++;
	w->code = err ? err->code : 0;
	snprintf(w->what, sizeof(w->what), "%s", err ? err->what : "");
}

#define WAITER                                                                                     \
	{                                                                                          \
		.wait = {.done = on_done }                                                         \
	}

/* count vCPUs, which do work[i % works]. */
static struct rig *rig_open(unsigned count, const enum fake_work *work, unsigned works,
			    uint64_t limit_ns)
{
	struct vcpu_pool_config pool = {
		.count = count,
		.topology = &rig.topology,
		.serve = serve,
		.failed = on_failed,
		.arg = &rig,
	};
	struct freeze_config config = {.vm = &rig.vm,
				       .limit_ns = limit_ns,
				       .hold = hold,
				       .release = release,
				       .late = on_late,
				       .over = over};
	struct error err = {0};

	memset(&rig, 0, sizeof(rig));
	fake_kvm_open(&rig.kvm, &rig.vm);
	for (unsigned i = 0; i < count; i++)
		rig.vm.work[i] = work[i % works];
	assert_int_equal(loop_new(&rig.loop, &err), 0);
	assert_int_equal(vcpu_pool_new(rig.loop, &rig.kvm, &pool, &rig.pool, &err), 0);
	config.loop = rig.loop;
	config.pool = rig.pool;
	assert_int_equal(freeze_init(&rig.freeze, &config, &err), 0);
	assert_int_equal(vcpu_pool_start(rig.pool, &rig.vm, &err), 0);
	alarm(WATCHDOG_S);
	return &rig;
}

static void rig_close(struct rig *r)
{
	freeze_kill(&r->freeze);
	vcpu_pool_stop(r->pool);
	freeze_done(&r->freeze);
	vcpu_pool_free(r->pool);
	loop_free(r->loop);
	fake_kvm_close(&r->kvm);
	alarm(0);
}

static void start(struct rig *r, struct waiter *w)
{
	struct error err = {0};

	assert_int_equal(freeze_start(&r->freeze, "test", w ? &w->wait : NULL, &err), 0);
}

static void turn_until(struct rig *r, struct waiter *w, unsigned told)
{
	while (w->told < told)
		assert_true(loop_turn(r->loop, UINT64_MAX) >= 0);
}

static void freeze_now(struct rig *r)
{
	struct waiter w = WAITER;

	start(r, &w);
	assert_int_equal(w.told, 0);
	turn_until(r, &w, 1);
	assert_int_equal(w.code, 0);
	assert_int_equal(r->freeze.state, FREEZE_FROZEN);
}

static void thaw_now(struct rig *r)
{
	assert_int_equal(freeze_thaw(&r->freeze), 0);
	assert_int_equal(r->freeze.state, FREEZE_RUNNING);
}

static void expect_still(void)
{
	uint64_t steps = atomic_load(&fake_steps);

	usleep(3000);
	assert_int_equal(atomic_load(&fake_steps), steps);
}

/* The control thread may read what parked vCPUs captured. */
static void expect_captured(struct rig *r, uint64_t times)
{
	for (unsigned i = 0; i < vcpu_pool_count(r->pool); i++) {
		struct vcpu *vcpu = vcpu_pool_get(r->pool, i);

		assert_true(vcpu_has_parked(vcpu));
		assert_int_equal(vcpu->state->captures, times);
		assert_int_equal(vcpu->state->incomplete, 0);
	}
}

static const enum fake_work every[] = {WORK_SPIN, WORK_HALT, WORK_START, WORK_READS, WORK_WRITES};

/* ---- tests ----------------------------------------------------------------------------- */

static void every_kind_of_vcpu_parks(void **state UNUSED)
{
	struct rig *r = rig_open(10, every, ARRAY_SIZE(every), 0);

	usleep(5000);
	for (unsigned i = 1; i <= 20; i++) {
		freeze_now(r);
		expect_still();
		expect_captured(r, i);
		for (unsigned k = 0; k < 10; k++)
			assert_int_equal(vcpu_pool_get(r->pool, k)->state->skipped, i - 1);
		thaw_now(r);
		assert_true(r->last.reached);
		assert_string_equal(r->last.cause, "test");
		assert_true(r->last.rendezvous_ns > 0 && r->last.frozen_ns >= 3000000);
	}
	assert_int_equal(r->holds, 20);
	assert_int_equal(r->releases, 20);
	assert_int_equal(fake_stops, 20);
	assert_int_equal(fake_goes_on, 20);
	assert_int_equal(fake_ticks_go_on, 20);
	rig_close(r);
}

/* Nobody serves until the freeze is asked for: all wait for a reply, or for room. */
static void vcpus_in_a_wait_park_once_served(void **state UNUSED)
{
	static const enum fake_work work[] = {WORK_READS, WORK_WRITES};
	struct rig *r = rig_open(6, work, 2, 0);

	usleep(20000);
	freeze_now(r);
	expect_captured(r, 1);
	assert_true(r->served >= 3 * VCPU_EXITS_RING);
	thaw_now(r);
	rig_close(r);
}

static void a_second_freeze_joins_the_first(void **state UNUSED)
{
	struct rig *r = rig_open(4, every, ARRAY_SIZE(every), 0);
	struct waiter a = WAITER, b = WAITER, c = WAITER;

	start(r, &a);
	start(r, &b);
	turn_until(r, &a, 1);
	assert_int_equal(b.told, 1);
	start(r, &c);
	assert_int_equal(c.told, 0);
	turn_until(r, &c, 1);
	assert_int_equal(a.told + b.told + c.told, 3);
	assert_int_equal(a.code | b.code | c.code, 0);
	assert_int_equal(r->freeze.freezes, 1);
	expect_captured(r, 1);
	thaw_now(r);
	assert_int_equal(freeze_thaw(&r->freeze), -EALREADY);
	assert_int_equal(r->overs, 1);
	rig_close(r);
}

static void a_thaw_gives_up_the_way_there(void **state UNUSED)
{
	struct rig *r = rig_open(8, every, ARRAY_SIZE(every), 0);

	for (unsigned i = 0; i < 300; i++) {
		struct waiter w = WAITER;

		start(r, &w);
		if (i % 3 == 1)
			usleep(i % 50);
		else if (i % 3 == 2)
			loop_turn(r->loop, 0);
		/* Told already where it was quick. */
		thaw_now(r);
		assert_int_equal(w.told, 1);
		assert_true(w.code == -ECANCELED || w.code == 0);
	}
	freeze_now(r);
	expect_still();
	thaw_now(r);
	assert_int_equal(r->overs, 301);
	rig_close(r);
}

static void the_last_keeper_thaws(void **state UNUSED)
{
	struct rig *r = rig_open(4, every, ARRAY_SIZE(every), 0);
	struct waiter second = WAITER;

	freeze_now(r);
	start(r, &second);
	freeze_leave(&r->freeze);
	assert_int_equal(r->freeze.state, FREEZE_FROZEN);
	freeze_rename(&r->freeze, "renamed");
	freeze_leave(&r->freeze);
	assert_int_equal(r->freeze.state, FREEZE_RUNNING);
	assert_string_equal(r->last.cause, "renamed");
	/* Nobody is left to leave: no harm. */
	freeze_leave(&r->freeze);
	assert_int_equal(r->overs, 1);
	rig_close(r);
}

/* What a device does when it goes on may need the next freeze at once. */
static void a_release_may_freeze_again(void **state UNUSED)
{
	struct rig *r = rig_open(4, every, ARRAY_SIZE(every), 0);
	struct waiter again = WAITER;

	freeze_now(r);
	r->again = &again;
	assert_int_equal(freeze_thaw(&r->freeze), 0);
	assert_int_equal(r->overs, 1);
	assert_int_equal(again.told, 0);
	while (!again.told)
		assert_true(loop_turn(r->loop, UINT64_MAX) >= 0);
	assert_int_equal(again.code, 0);
	assert_int_equal(r->freeze.state, FREEZE_FROZEN);
	expect_still();
	thaw_now(r);
	assert_string_equal(r->last.cause, "a device's");
	rig_close(r);
}

static void the_late_are_named(void **state UNUSED)
{
	static const enum fake_work work[] = {WORK_SPIN, WORK_HALT, WORK_STUCK};
	struct rig *r = rig_open(3, work, 3, LATE_NS);
	struct waiter w = WAITER;
	uint64_t steps;

	while (atomic_load(&fake_runs) < 3)
		usleep(100);
	start(r, &w);
	turn_until(r, &w, 1);
	assert_int_equal(w.code, -ETIMEDOUT);
	assert_non_null(strstr(w.what, "100 ms: vCPU 2:"));
	assert_string_equal(r->last.why, w.what);
	assert_false(r->last.reached);
	assert_true(r->last.rendezvous_ns >= LATE_NS);
	assert_int_equal(r->freeze.state, FREEZE_RUNNING);
	assert_int_equal(r->freeze.late, 1);
	assert_int_equal(r->late_parked, 2);
	assert_int_equal(r->late_captures, 2);
	/* The guest goes on, and no clock was touched. */
	assert_int_equal(fake_stops + fake_goes_on + r->holds + r->releases, 0);
	steps = atomic_load(&fake_steps);
	while (atomic_load(&fake_steps) == steps)
		usleep(100);
	/* Who comes late to one rendezvous counts for the next only if it parks in that. */
	fake_unstick();
	for (unsigned i = 0; i < 10; i++) {
		freeze_now(r);
		expect_still();
		thaw_now(r);
	}
	rig_close(r);
}

static void many_late_are_counted(void **state UNUSED)
{
	static const enum fake_work work[] = {WORK_STUCK};
	struct rig *r = rig_open(12, work, 1, LATE_NS);
	struct waiter w = WAITER;

	while (atomic_load(&fake_runs) < 12)
		usleep(100);
	start(r, &w);
	turn_until(r, &w, 1);
	assert_non_null(strstr(w.what, "vCPU 0, 1, 2, 3, 4, 5, 6, 7 and 4 more"));
	fake_unstick();
	rig_close(r);
}

static void devices_come_after_vcpus(void **state UNUSED)
{
	struct rig *r = rig_open(3, every, 3, LATE_NS);
	struct waiter w = WAITER, late = WAITER;

	r->holds_late = true;
	start(r, &w);
	while (!r->holds)
		loop_turn(r->loop, UINT64_MAX);
	assert_int_equal(r->freeze.state, FREEZE_FREEZING);
	assert_int_equal(vcpu_pool_unparked(r->pool), 0);
	loop_turn(r->loop, 0);
	assert_int_equal(w.told, 0);
	freeze_held(&r->freeze);
	freeze_held(&r->freeze);
	assert_int_equal(w.told, 0);
	turn_until(r, &w, 1);
	thaw_now(r);
	freeze_held(&r->freeze); /* too late to mean anything */
	assert_int_equal(r->freeze.state, FREEZE_RUNNING);

	start(r, &late);
	turn_until(r, &late, 1);
	assert_int_equal(late.code, -ETIMEDOUT);
	assert_non_null(strstr(late.what, "a device"));
	assert_int_equal(r->releases, 2);
	assert_int_equal(fake_goes_on, 2);
	rig_close(r);
}

static void kill_wins(void **state UNUSED)
{
	for (unsigned i = 0; i < 60; i++) {
		struct rig *r = rig_open(5, every, ARRAY_SIZE(every), 0);
		struct waiter w = WAITER;
		struct error err = {0};
		uint64_t begin_ns;

		start(r, &w);
		if (i % 3 == 1)
			usleep(i * 7);
		else if (i % 3 == 2)
			turn_until(r, &w, 1);
		begin_ns = now_ns();
		freeze_kill(&r->freeze);
		vcpu_pool_stop(r->pool);
		assert_true(now_ns() - begin_ns < 1000000000u);
		assert_int_equal(w.told, 1);
		assert_int_equal(w.code, i % 3 == 2 ? 0 : -ESHUTDOWN);
		assert_int_equal(r->overs, 1);
		assert_int_equal(r->last.reached, i % 3 == 2);
		freeze_kill(&r->freeze);
		assert_int_equal(r->freeze.state, FREEZE_KILLED);
		assert_int_equal(freeze_thaw(&r->freeze), -ESHUTDOWN);
		assert_int_equal(freeze_start(&r->freeze, "no", NULL, &err), -ESHUTDOWN);
		/* A signal may still be on its way. */
		loop_turn(r->loop, 0);
		rig_close(r);
	}
}

static void a_failed_vcpu_is_told_while_freezing(void **state UNUSED)
{
	static const enum fake_work work[] = {WORK_SPIN, WORK_FAILS};
	struct rig *r = rig_open(2, work, 2, LATE_NS);
	struct waiter w = WAITER;

	while (atomic_load(&fake_runs) < 2)
		usleep(100);
	start(r, &w);
	turn_until(r, &w, 1);
	assert_ptr_equal(r->failed, vcpu_pool_get(r->pool, 1));
	assert_non_null(strstr(w.what, "vCPU 1:"));
	rig_close(r);
}

static void a_failed_capture_is_kept(void **state UNUSED)
{
	struct rig *r = rig_open(2, every, 2, 0);

	atomic_store(&fake_capture_result, -EIO);
	freeze_now(r);
	assert_int_equal(vcpu_pool_get(r->pool, 0)->capture_error, -EIO);
	assert_int_equal(vcpu_pool_get(r->pool, 1)->capture_error, -EIO);
	thaw_now(r);
	atomic_store(&fake_capture_result, 0);
	freeze_now(r);
	assert_int_equal(vcpu_pool_get(r->pool, 0)->capture_error, 0);
	rig_close(r);
}

static void many_cycles_lose_nobody(void **state UNUSED)
{
	struct rig *r = rig_open(8, every, ARRAY_SIZE(every), 0);
	uint64_t worst_ns = 0;

	for (unsigned i = 1; i <= CYCLES; i++) {
		freeze_now(r);
		expect_captured(r, i);
		thaw_now(r);
		worst_ns = MAX(worst_ns, r->last.rendezvous_ns);
	}
	assert_int_equal(r->freeze.late, 0);
	assert_int_equal(r->overs, CYCLES);
	print_message("%u cycles, at most %llu us to a rendezvous\n", CYCLES,
		      (unsigned long long)worst_ns / 1000);
	rig_close(r);
}

static void states_have_names(void **state UNUSED)
{
	assert_string_equal(freeze_state_name(FREEZE_RUNNING), "running");
	assert_string_equal(freeze_state_name(FREEZE_FREEZING), "freezing");
	assert_string_equal(freeze_state_name(FREEZE_FROZEN), "frozen");
	assert_string_equal(freeze_state_name(FREEZE_THAWING), "thawing");
	assert_string_equal(freeze_state_name(FREEZE_KILLED), "killed");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind_of_vcpu_parks),
		cmocka_unit_test(vcpus_in_a_wait_park_once_served),
		cmocka_unit_test(a_second_freeze_joins_the_first),
		cmocka_unit_test(a_thaw_gives_up_the_way_there),
		cmocka_unit_test(the_last_keeper_thaws),
		cmocka_unit_test(a_release_may_freeze_again),
		cmocka_unit_test(the_late_are_named),
		cmocka_unit_test(many_late_are_counted),
		cmocka_unit_test(devices_come_after_vcpus),
		cmocka_unit_test(kill_wins),
		cmocka_unit_test(a_failed_vcpu_is_told_while_freezing),
		cmocka_unit_test(a_failed_capture_is_kept),
		cmocka_unit_test(many_cycles_lose_nobody),
		cmocka_unit_test(states_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
