/* vCPUs on real KVM that are sampled: while they spin, halt, wait for answers, are parked. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "fake_arch.h"

#define WATCHDOG_S 120
#define MS_NS	   1000000u

struct rig {
	struct kvm kvm;
	struct arch_vm vm;
	struct loop *loop;
	struct topology topology;
	struct vcpu_pool *pool;
	struct loop_event parked;
	struct arch_clock clock;
	uint64_t served, wrong, seen, idle, halted, weight;
	uint32_t period, heaviest;
	uint8_t value;
	_Atomic uint64_t captures, outside;
};

static struct rig rig;

/* Echo: as test_kvm.c's. */
static void serve(struct vcpu *vcpu UNUSED, struct kvm_run *run, const struct arch_exit *exit,
		  void *arg)
{
	struct rig *r = arg;

	r->served++;
	if (exit->wants_reply) {
		r->value = (uint8_t)r->served;
		memcpy((uint8_t *)run + run->io.data_offset, &r->value, 1);
	} else {
		r->wrong += exit->data[0] != (uint8_t)(r->value + 3);
	}
}

static void on_failed(struct vcpu *vcpu UNUSED, void *arg)
{
	((struct rig *)arg)->wrong++;
}

static void capture(unsigned vcpu, const struct arch_vcpu_state *state, struct sample *sample,
		    void *arg)
{
	struct rig *r = arg;
	uint64_t start = FAKE_PROGRAM_GPA(r->vm.program[vcpu]);

	sample->kind = SAMPLE_KERNEL;
	sample->frames = 1;
	sample->frame[0] = state->regs.rip;
	atomic_fetch_add(&r->captures, 1);
	if (state->regs.rip < start || state->regs.rip >= start + FAKE_PROGRAM_BYTES)
		atomic_fetch_add(&r->outside, 1);
}

static void on_parked(struct loop_event *event UNUSED, uint64_t count UNUSED)
{
}

static struct rig *rig_start(unsigned count, enum fake_program program)
{
	const struct sampling sampling = {.capture = capture, .arg = &rig};
	struct vcpu_pool_config config = {.count = count,
					  .topology = &rig.topology,
					  .serve = serve,
					  .failed = on_failed,
					  .arg = &rig};
	struct error err = {0};

	memset(&rig, 0, sizeof(rig));
	fake_vm_open(&rig.kvm, &rig.vm);
	assert_int_equal(loop_new(&rig.loop, &err), 0);
	alarm(WATCHDOG_S);
	for (unsigned i = 0; i < count; i++)
		rig.vm.program[i] = program;
	rig.parked.fire = on_parked;
	if (loop_event_init(rig.loop, &rig.parked, &err) < 0 ||
	    vcpu_pool_new(rig.loop, &rig.kvm, &config, &rig.pool, &err) < 0)
		fail_msg("%s", err.what);
	vcpu_pool_set_rendezvous(rig.pool, &rig.parked, &rig.clock);
	if (vcpu_pool_start(rig.pool, &rig.vm, &err) < 0 ||
	    vcpu_pool_sample_init(rig.pool, &sampling, &err) < 0)
		fail_msg("%s", err.what);
	return &rig;
}

static void rig_close(struct rig *r)
{
	vcpu_pool_free(r->pool);
	loop_event_done(&r->parked);
	loop_free(r->loop);
	fake_vm_close(&r->kvm, &r->vm);
	alarm(0);
	assert_int_equal(r->wrong, 0);
	assert_int_equal(atomic_load(&r->outside), 0);
}

static void drain(struct rig *r)
{
	for (unsigned i = 0; i < vcpu_pool_count(r->pool); i++) {
		struct vcpu *vcpu = vcpu_pool_get(r->pool, i);
		const struct sample *s;

		while ((s = vcpu_sample_peek(vcpu))) {
			if (s->period == r->period) {
				r->seen++;
				r->weight += s->weight;
				r->heaviest = MAX(r->heaviest, s->weight);
				r->idle += s->kind == SAMPLE_IDLE;
				r->halted += s->halted && s->kind != SAMPLE_IDLE;
			}
			vcpu_sample_release(vcpu);
		}
	}
}

static void turn_for(struct rig *r, uint64_t ns)
{
	uint64_t end_ns = now_ns() + ns;

	while (now_ns() < end_ns) {
		loop_turn(r->loop, 2 * MS_NS);
		drain(r);
	}
}

/* Until so many were seen: how long it takes is the host's. */
static void turn_until(struct rig *r, uint64_t seen)
{
	while (r->seen < seen)
		turn_for(r, 2 * MS_NS);
}

static void a_tight_loop_is_sampled(void **state)
{
	struct rig *r = rig_start(2, FAKE_SPIN);

	(void)state;
	r->period = vcpu_pool_sample_start(r->pool, MS_NS / 2);
	turn_until(r, 200);
	assert_int_equal(r->idle, 0);
	assert_int_equal(r->heaviest, 1);
	assert_true(atomic_load(&r->captures) >= r->seen);
	rig_close(r);
}

/* Who halts with interrupts off may wait for a lock: its place is looked at. */
static void a_deaf_halt_is_looked_at_and_sampled_less(void **state)
{
	struct rig *r = rig_start(1, FAKE_HALT);

	(void)state;
	fake_deaf = true;
	turn_for(r, 100 * MS_NS);
	r->period = vcpu_pool_sample_start(r->pool, MS_NS);
	turn_until(r, 60);
	assert_int_equal(r->idle, 0);
	assert_int_equal(r->halted, r->seen);
	assert_true(atomic_load(&r->captures) >= r->seen);
	assert_int_equal(r->heaviest, SAMPLE_HALTED_MAX);
	rig_close(r);
	fake_deaf = false;
}

static void a_halt_is_idle_and_sampled_less(void **state)
{
	struct rig *r = rig_start(1, FAKE_HALT);
	uint64_t begin_ns, ns;

	(void)state;
	turn_for(r, 100 * MS_NS); /* it has come to its halt */
	begin_ns = now_ns();
	r->period = vcpu_pool_sample_start(r->pool, MS_NS);
	turn_until(r, 60);
	ns = now_ns() - begin_ns;
	assert_int_equal(r->idle, r->seen);
	assert_int_equal(r->heaviest, SAMPLE_HALTED_MAX);
	assert_int_equal(atomic_load(&r->captures), 0);
	/* They weigh what they stand for: never more time than went by, but for chance. */
	assert_true(r->weight > 4 * r->seen);
	assert_true((double)r->weight < 2.0 * (double)ns / MS_NS);
	rig_close(r);
}

/* An exit under way is completed first, and nothing is done twice. */
static void answers_are_as_without(void **state)
{
	struct rig *r = rig_start(1, FAKE_ECHO);

	(void)state;
	r->period = vcpu_pool_sample_start(r->pool, MS_NS / 10);
	while (r->served < 4000 || r->seen < 200) {
		loop_turn(r->loop, 2 * MS_NS);
		drain(r);
	}
	rig_close(r);
}

static void it_stops_and_starts_anew(void **state)
{
	struct rig *r = rig_start(2, FAKE_SPIN);
	uint64_t captures;

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		r->period = vcpu_pool_sample_start(r->pool, MS_NS / 4);
		turn_until(r, r->seen + 40);
		vcpu_pool_sample_stop(r->pool);
		turn_for(r, 50 * MS_NS); /* each sees it */
		captures = atomic_load(&r->captures);
		turn_for(r, 50 * MS_NS);
		assert_int_equal(atomic_load(&r->captures), captures);
	}
	vcpu_pool_sample_stop(r->pool);
	rig_close(r);
}

static void a_full_ring_drops_and_counts(void **state)
{
	struct rig *r = rig_start(1, FAKE_SPIN);
	struct vcpu *vcpu = vcpu_pool_get(r->pool, 0);
	uint64_t begin_ns;

	(void)state;
	r->period = vcpu_pool_sample_start(r->pool, MS_NS / 10);
	while (vcpu_samples_dropped(vcpu) < 20)
		loop_turn(r->loop, MS_NS);
	begin_ns = now_ns();
	drain(r);
	/* And those that came as it was emptied, where the host put us off in that. */
	assert_in_range(r->seen, SAMPLE_RING,
			SAMPLE_RING + 8 + 2 * (now_ns() - begin_ns) / (MS_NS / 10));
	turn_until(r, r->seen + 20);
	rig_close(r);
}

static void a_failing_capture_is_told(void **state)
{
	struct rig *r = rig_start(1, FAKE_SPIN);
	struct vcpu *vcpu = vcpu_pool_get(r->pool, 0);

	(void)state;
	fake_capture_result = -EIO;
	r->period = vcpu_pool_sample_start(r->pool, MS_NS);
	while (vcpu_sample_error(vcpu, r->period) == 0)
		loop_turn(r->loop, MS_NS);
	assert_int_equal(vcpu_sample_error(vcpu, r->period), -EIO);
	assert_int_equal(vcpu_sample_error(vcpu, r->period + 2), 0);
	assert_int_equal(atomic_load(&r->captures), 0);
	vcpu_pool_sample_stop(r->pool);
	turn_for(r, 50 * MS_NS); /* it sees that */
	fake_capture_result = 0;
	/* The next has none of it. */
	r->period = vcpu_pool_sample_start(r->pool, MS_NS);
	turn_until(r, 5);
	assert_int_equal(vcpu_sample_error(vcpu, r->period), 0);
	rig_close(r);
}

/* While it is parked none is due, nor one for that time afterwards: where it stood would get the
 * freeze's length. Samples of twenty parks, each of twenty mean intervals, would be twenty. */
static void a_park_is_no_time(void **state)
{
	struct rig *r = rig_start(1, FAKE_SPIN);
	unsigned at_once = 0;

	(void)state;
	r->period = vcpu_pool_sample_start(r->pool, 10 * MS_NS);
	turn_until(r, 2);
	for (unsigned i = 0; i < 20; i++) {
		uint64_t captures, before_ns;

		vcpu_pool_park(r->pool);
		while (vcpu_pool_unparked(r->pool))
			loop_turn(r->loop, MS_NS);
		captures = atomic_load(&r->captures);
		turn_for(r, 200 * MS_NS);
		assert_int_equal(atomic_load(&r->captures), captures);
		before_ns = now_ns();
		vcpu_pool_unpark(r->pool);
		turn_for(r, MS_NS);
		/* A host that was away for longer tells nothing. */
		at_once += atomic_load(&r->captures) > captures && now_ns() - before_ns < 3 * MS_NS;
	}
	assert_true(at_once < 12);
	rig_close(r);
}

/* Kicks of the control thread come as well. */
static void kicks_and_samples_mix(void **state)
{
	struct rig *r = rig_start(1, FAKE_SPIN);
	struct vcpu *vcpu = vcpu_pool_get(r->pool, 0);

	(void)state;
	r->period = vcpu_pool_sample_start(r->pool, MS_NS / 10);
	for (unsigned i = 0; i < 300; i++) {
		atomic_fetch_or(&vcpu->requests, VCPU_REQ_LOOK);
		vcpu_kick(vcpu);
		while (atomic_load(&vcpu->requests) & VCPU_REQ_LOOK)
			loop_turn(r->loop, 0);
		drain(r);
	}
	turn_until(r, 100);
	rig_close(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_tight_loop_is_sampled),
		cmocka_unit_test(a_deaf_halt_is_looked_at_and_sampled_less),
		cmocka_unit_test(a_halt_is_idle_and_sampled_less),
		cmocka_unit_test(answers_are_as_without),
		cmocka_unit_test(it_stops_and_starts_anew),
		cmocka_unit_test(a_full_ring_drops_and_counts),
		cmocka_unit_test(a_failing_capture_is_told),
		cmocka_unit_test(kicks_and_samples_mix),
		cmocka_unit_test(a_park_is_no_time),
	};

	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		printf("skipped: /dev/kvm: %s\n", strerror(errno));
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
