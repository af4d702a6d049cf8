/* vCPU threads on real KVM: round trips, order, kicks against entry, stop in every state.
 * With --long: more kicks, more cycles, 1,024 vCPUs. */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "fake_arch.h"

#define WATCHDOG_S	 300
#define SECOND_NS	 1000000000u
#define KICK_LIMIT_NS	 (20ull * SECOND_NS)
#define ECHO_ROUNDS	 2000
#define STORM_ROUNDS_MAX 200000 /* seconds */

static bool long_run;

struct rig {
	struct kvm kvm;
	struct arch_vm vm;
	struct loop *loop;
	struct topology topology;
	struct vcpu_pool *pool;
	uint64_t served, wrong;
	uint8_t value; /* what port 0x30 reads, or the last one seen at 0x10 */
	uint32_t last_port;
	struct vcpu *failed;
	bool stop_in_serve, refuses;
	unsigned lasts_us; /* what an answer takes, at least */
	uint64_t answers, lasted_ns;
};

static struct rig rig;

/* ---- the devices ----------------------------------------------------------------------- */

static void serve_echo(struct rig *r, struct kvm_run *run, const struct arch_exit *exit)
{
	if (exit->wants_reply) {
		uint64_t from_ns = now_ns();

		if (r->lasts_us)
			usleep(r->lasts_us);
		r->lasted_ns += now_ns() - from_ns;
		r->answers++;
		r->value = (uint8_t)r->served;
		memcpy((uint8_t *)run + run->io.data_offset, &r->value, 1);
	} else {
		r->wrong += exit->data[0] != (uint8_t)(r->value + 3);
	}
}

static void serve(struct vcpu *vcpu, struct kvm_run *run, const struct arch_exit *exit, void *arg)
{
	struct rig *r = arg;

	r->served++;
	/* Only what waits lends its run page. */
	r->wrong += exit->reason != KVM_EXIT_IO || (run != NULL) != exit->wants_reply;
	switch (r->vm.program[vcpu->index]) {
	case FAKE_WRITES:
		r->wrong += exit->data[0] != (uint8_t)r->served;
		break;
	case FAKE_ECHO:
		serve_echo(r, run, exit);
		break;
	case FAKE_LEADER: /* the next number, after the follower's last */
		r->wrong += exit->data[0] != (uint8_t)(r->value + 1) || r->last_port == 0x10;
		r->value = exit->data[0];
		break;
	case FAKE_FOLLOWER: /* the same number, after the leader */
		r->wrong += exit->data[0] != r->value || r->last_port != 0x10;
		break;
	case FAKE_NMI:
		r->wrong += exit->addr != 0x20 || exit->data[0] != 'N';
		break;
	default:
		r->wrong++;
	}
	r->last_port = (uint32_t)exit->addr;
	if (r->stop_in_serve)
		vcpu_pool_stop(r->pool);
}

static void on_failed(struct vcpu *vcpu, void *arg)
{
	((struct rig *)arg)->failed = vcpu;
}

/* ---- the rig --------------------------------------------------------------------------- */

static struct vcpu_pool_config config_of(unsigned count)
{
	return (struct vcpu_pool_config){
		.count = count,
		.topology = &rig.topology,
		.serve = serve,
		.failed = on_failed,
		.arg = &rig,
	};
}

static struct rig *rig_open(bool immediate_exit)
{
	struct error err = {0};

	memset(&rig, 0, sizeof(rig));
	fake_vm_open(&rig.kvm, &rig.vm);
	rig.kvm.immediate_exit &= immediate_exit;
	assert_int_equal(loop_new(&rig.loop, &err), 0);
	alarm(WATCHDOG_S);
	return &rig;
}

static void rig_make(struct rig *r, unsigned count, enum fake_program program)
{
	struct vcpu_pool_config config = config_of(count);
	struct error err = {0};

	for (unsigned i = 0; i < count; i++)
		r->vm.program[i] = program;
	if (vcpu_pool_new(r->loop, &r->kvm, &config, &r->pool, &err) < 0)
		fail_msg("%s", err.what);
}

static void rig_start(struct rig *r)
{
	struct error err = {0};

	if (vcpu_pool_start(r->pool, &r->vm, &err) < 0)
		fail_msg("%s", err.what);
}

/* Stop is bounded in every state. */
static void rig_close(struct rig *r)
{
	uint64_t begin_ns = now_ns();

	if (r->pool)
		vcpu_pool_stop(r->pool);
	assert_true(now_ns() - begin_ns < SECOND_NS);
	vcpu_pool_free(r->pool);
	loop_free(r->loop);
	fake_vm_close(&r->kvm, &r->vm);
	alarm(0);
	assert_int_equal(r->wrong, 0);
}

static void serve_until(struct rig *r, uint64_t n)
{
	while (r->served < n)
		loop_turn(r->loop, UINT64_MAX);
}

static bool *mode_of(void **state)
{
	return *state;
}

/* ---- exits ----------------------------------------------------------------------------- */

static void reads_get_what_was_answered(void **state)
{
	struct rig *r = rig_open(*mode_of(state));

	rig_make(r, 1, FAKE_ECHO);
	rig_start(r);
	serve_until(r, ECHO_ROUNDS);
	vcpu_pool_stop(r->pool);
	struct vcpu_stats *stats = &vcpu_pool_get(r->pool, 0)->stats;
	uint64_t exits = atomic_load(&stats->exits);

	assert_true(exits >= ECHO_ROUNDS);
	assert_int_equal(atomic_load(&stats->by_reason[KVM_EXIT_IO]), exits);
	assert_int_equal(atomic_load(&stats->posted) + atomic_load(&stats->handed_off), exits);
	assert_true(atomic_load(&stats->handed_off) >= ECHO_ROUNDS / 2);
	rig_close(r);
}

static void writes_arrive_in_order(void **state)
{
	struct rig *r = rig_open(*mode_of(state));

	rig_make(r, 1, FAKE_WRITES);
	rig_start(r);
	serve_until(r, 5000);
	vcpu_pool_stop(r->pool);
	assert_true(atomic_load(&vcpu_pool_get(r->pool, 0)->stats.posted) > 0);
	rig_close(r);
}

static void order_by_guest_memory_is_kept(void **state)
{
	struct rig *r = rig_open(*mode_of(state));

	rig_make(r, 2, FAKE_LEADER);
	r->vm.program[1] = FAKE_FOLLOWER;
	rig_start(r);
	serve_until(r, 2000);
	rig_close(r);
}

/* ---- kicks ----------------------------------------------------------------------------- */

/* Longest pause before each KVM_RUN, in turns of a spin: widens the gap between a vCPU thread's
 * look at its requests and its entry, where a kick could be lost. */
static _Atomic unsigned entry_pause;
static _Atomic unsigned nmi_calls; /* of KVM_NMI, and the last one's */
static _Atomic int nmi_fd, nmi_tid;

int __real_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, void *arg);

int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
	static _Thread_local unsigned seed = 11;
	unsigned longest = request == KVM_RUN ? atomic_load(&entry_pause) : 0;
	unsigned pause = longest ? (unsigned)rand_r(&seed) % longest : 0;

	for (unsigned i = 0; i < pause; i++)
		cpu_relax();
	if (request == KVM_NMI) {
		atomic_store(&nmi_fd, fd);
		atomic_store(&nmi_tid, gettid());
		atomic_fetch_add(&nmi_calls, 1);
	}
	return __real_ioctl(fd, request, arg);
}

/* Asks the vCPU to come out, and waits until it has. */
static void kick_and_wait(struct rig *r, struct vcpu *vcpu)
{
	uint64_t begin_ns = now_ns();

	atomic_fetch_or(&vcpu->requests, VCPU_REQ_LOOK);
	vcpu_kick(vcpu);
	while (atomic_load(&vcpu->requests) & VCPU_REQ_LOOK) {
		/* Tight first: the next kick shall find the vCPU thread between look and entry. */
		for (unsigned i = 0; i < 20000; i++) {
			if (!(atomic_load(&vcpu->requests) & VCPU_REQ_LOOK))
				return;
			cpu_relax();
		}
		loop_turn(r->loop, 0);
		if (now_ns() - begin_ns > KICK_LIMIT_NS)
			fail_msg("a kick of vCPU %u was lost", vcpu->index);
	}
}

static void kick_many(enum fake_program program, unsigned kicks, unsigned pause,
		      bool immediate_exit)
{
	struct rig *r = rig_open(immediate_exit);
	/* With fewer host CPUs than threads the time goes into waiting for a CPU. */
	unsigned vcpus = sysconf(_SC_NPROCESSORS_ONLN) > 2 ? 2 : 1;
	uint64_t begin_ns = now_ns();
	unsigned seed = 3;

	rig_make(r, vcpus, program);
	rig_start(r);
	atomic_store(&entry_pause, pause);
	alarm(long_run ? 6 * WATCHDOG_S : WATCHDOG_S);
	for (unsigned i = 0; i < kicks; i++) {
		/* Mostly around the length of the way from the look into KVM_RUN. */
		static const unsigned most[] = {8, 30, 8, 100, 8, 500, 8, 5000};
		unsigned delay = (unsigned)rand_r(&seed) % most[i % ARRAY_SIZE(most)];

		/* Every other time after a kick about nothing, which sends it round the loop: the
		 * next then also finds it before its look. */
		if (i / ARRAY_SIZE(most) % 2)
			vcpu_kick(vcpu_pool_get(r->pool, i % vcpus));
		for (unsigned k = 0; k < delay; k++)
			cpu_relax();
		kick_and_wait(r, vcpu_pool_get(r->pool, i % vcpus));
	}
	atomic_store(&entry_pause, 0);
	print_message("%u kicks, %llu ns each\n", kicks,
		      (unsigned long long)(now_ns() - begin_ns) / kicks);
	rig_close(r);
}

static void kicks_against_entry_are_never_lost(void **state)
{
	unsigned kicks = long_run ? 100000 : 2000;

	kick_many(FAKE_SPIN, kicks, 0, *mode_of(state));
	kick_many(FAKE_SPIN, kicks, 300, *mode_of(state));
	kick_many(FAKE_HALT, kicks, 0, *mode_of(state));
	kick_many(FAKE_HALT, kicks, 300, *mode_of(state));
	kick_many(FAKE_WRITES, kicks, 300, *mode_of(state));
	kick_many(FAKE_ECHO, kicks, 300, *mode_of(state));
}

/* True when served has reached n in time. */
static bool served_in_time(struct rig *r, uint64_t n)
{
	uint64_t end_ns = now_ns() + SECOND_NS;

	while (r->served < n && now_ns() < end_ns)
		loop_turn(r->loop, SECOND_NS / 1000);
	return r->served >= n;
}

/* Each is one call, by the vCPU's own thread, and wakes it from its halt; the other vCPU never
 * hears of it. A software back end may take the call and inject nothing. */
static void an_nmi_arrives_once(void **state)
{
	struct rig *r = rig_open(*mode_of(state));
	bool delivers = true;
	struct vcpu *vcpu;

	atomic_store(&nmi_calls, 0);
	rig_make(r, 2, FAKE_NMI);
	rig_start(r);
	vcpu = vcpu_pool_get(r->pool, 1);
	assert_true(vcpu->tid > 0 && vcpu->tid != gettid());
	for (unsigned i = 1; i <= 200; i++) {
		vcpu_nmi(vcpu);
		delivers = delivers && served_in_time(r, i);
		kick_and_wait(r, vcpu);
		assert_int_equal(atomic_load(&nmi_calls), i);
		assert_int_equal(atomic_load(&nmi_tid), vcpu->tid);
		assert_int_equal(atomic_load(&nmi_fd), vcpu->fd);
	}
	if (!delivers)
		print_message("this host's KVM drops NMIs: their arrival is not tested\n");
	assert_int_equal(r->served, delivers ? 200 : 0);
	assert_int_equal(atomic_load(&vcpu_pool_get(r->pool, 0)->stats.exits), 0);
	rig_close(r);
}

static _Atomic bool storm;

static void *storm_thread(void *arg)
{
	struct vcpu *vcpu = arg;

	while (atomic_load(&storm)) {
		pthread_kill(vcpu->thread, SIGRTMIN);
		usleep(20);
	}
	return NULL;
}

static void a_storm_of_signals_changes_nothing(void **state)
{
	struct rig *r = rig_open(*mode_of(state));
	pthread_t thread;

	rig_make(r, 1, FAKE_ECHO);
	rig_start(r);
	atomic_store(&storm, true);
	assert_int_equal(pthread_create(&thread, NULL, storm_thread, vcpu_pool_get(r->pool, 0)), 0);
	serve_until(r, ECHO_ROUNDS);
	/* On two busy CPUs the storm may not have broken yet. */
	while (atomic_load(&vcpu_pool_get(r->pool, 0)->stats.kicked) == 0 &&
	       r->served < STORM_ROUNDS_MAX)
		serve_until(r, r->served + 1);
	atomic_store(&storm, false);
	pthread_join(thread, NULL);
	assert_true(atomic_load(&vcpu_pool_get(r->pool, 0)->stats.kicked) > 0);
	rig_close(r);
}

/* ---- accounts -------------------------------------------------------------------------- */

/* What each vCPU's time went into is as long as the test itself saw its threads run. */
static void accounts_add_up_to_wall_time(void **state)
{
	struct rig *r = rig_open(*mode_of(state));
	uint64_t first_ns, begun_ns, end_ns, last_ns;

	rig_make(r, 2, FAKE_ECHO);
	r->vm.program[1] = FAKE_HALT;
	first_ns = now_ns();
	rig_start(r);
	/* A busy host lets their threads run when it can. */
	for (unsigned i = 0; i < 2; i++) {
		struct account_times t;

		do {
			loop_turn(r->loop, SECOND_NS / 1000);
			account_times(vcpu_pool_get(r->pool, i)->account, &t);
		} while (t.wall == 0);
	}
	begun_ns = now_ns();
	for (end_ns = begun_ns + SECOND_NS; now_ns() < end_ns;)
		serve_until(r, r->served + 100);
	end_ns = now_ns();
	vcpu_pool_stop(r->pool);
	last_ns = now_ns();
	for (unsigned i = 0; i < 2; i++) {
		const struct vcpu *vcpu = vcpu_pool_get(r->pool, i);
		struct account_times t;
		uint64_t sum = 0, exits = 0;
		double ns;

		account_times(vcpu->account, &t);
		for (unsigned k = 0; k < ACCOUNT_PHASES; k++)
			sum += t.spent[k];
		for (unsigned k = 0; k < vcpu->account->keys; k++)
			if (vcpu->account->exit[k].key.reason == KVM_EXIT_IO)
				exits += vcpu->account->exit[k].count;
		ns = (double)sum / ticks_per_ns();
		print_message("vCPU %u: %.3f ms of %.3f to %.3f\n", i, ns / 1e6,
			      (double)(end_ns - begun_ns) / 1e6,
			      (double)(last_ns - first_ns) / 1e6);
		assert_true(ns >= 0.99 * (double)(end_ns - begun_ns));
		assert_true(ns <= 1.01 * (double)(last_ns - first_ns));
		assert_true(i > 0 || (t.spent[ACCOUNT_GUEST] > 0 && t.spent[ACCOUNT_WAITING] > 0));
		assert_true(exits == atomic_load(&vcpu->stats.exits));
	}
	rig_close(r);
}

/* Until a vCPU waits that has seen the end of all answers, which it may be late to: the last one is
 * in its account. */
static void wait_for_wait(const struct rig *r, const struct account *a)
{
	uint64_t least_ns = r->lasted_ns - MIN(r->lasted_ns, r->lasts_us * UINT64_C(500));
	struct account_times t;

	do {
		sched_yield();
		account_times(a, &t);
	} while ((double)t.spent[ACCOUNT_SERVED] < (double)least_ns * ticks_per_ns());
	while (atomic_load(&a->clock.phase) != ACCOUNT_WAITING)
		sched_yield();
}

/* The vCPU is known to wait, is left waiting, and is served, for as long as the test sees it: each
 * time is at least what it is of, and at most what is not another's. */
static void a_wait_and_an_answer_last_as_long_as_they_do(void **state)
{
	struct rig *r = rig_open(*mode_of(state));
	uint64_t begin_ns, waited_ns = 0, turns_ns = 0, all_ns, from_ns;
	struct account_times t;
	struct account *a;
	double waiting, served, hand_off;

	rig_make(r, 1, FAKE_ECHO);
	r->lasts_us = 4000;
	a = vcpu_pool_get(r->pool, 0)->account;
	begin_ns = now_ns();
	rig_start(r);
	for (uint64_t answers = 0; answers < 25; answers = r->answers) {
		wait_for_wait(r, a);
		from_ns = now_ns();
		usleep(3000);
		waited_ns += now_ns() - from_ns;
		from_ns = now_ns();
		while (r->answers == answers)
			loop_turn(r->loop, UINT64_MAX);
		turns_ns += now_ns() - from_ns;
	}
	vcpu_pool_stop(r->pool);
	all_ns = now_ns() - begin_ns;
	account_times(a, &t);
	waiting = (double)t.spent[ACCOUNT_WAITING] / ticks_per_ns();
	served = (double)t.spent[ACCOUNT_SERVED] / ticks_per_ns();
	hand_off = (double)t.spent[ACCOUNT_HAND_OFF] / ticks_per_ns();
	print_message("waiting %.3f ms of %.3f, served %.3f of %.3f to %.3f, hand-off %.3f\n",
		      waiting / 1e6, (double)waited_ns / 1e6, served / 1e6,
		      (double)r->lasted_ns / 1e6, (double)turns_ns / 1e6, hand_off / 1e6);
	assert_true(served >= 0.99 * (double)r->lasted_ns);
	assert_true(served <= 1.01 * (double)turns_ns);
	assert_true(waiting >= 0.99 * (double)waited_ns);
	assert_true(waiting <= 1.01 * (double)(all_ns - r->lasted_ns));
	assert_true(hand_off <= 1.01 * (double)(all_ns - r->lasted_ns - waited_ns));
	rig_close(r);
}

/* ---- stop ------------------------------------------------------------------------------ */

static void stop_ends_a(enum fake_program program, bool immediate_exit, unsigned wait_us)
{
	struct rig *r = rig_open(immediate_exit);

	rig_make(r, 3, program);
	rig_start(r);
	usleep(wait_us);
	rig_close(r);
}

static void stop_ends_a_tight_loop(void **state)
{
	stop_ends_a(FAKE_SPIN, *mode_of(state), 20000);
}

static void stop_ends_a_halt(void **state)
{
	stop_ends_a(FAKE_HALT, *mode_of(state), 20000);
}

static void stop_ends_a_wait_for_a_reply(void **state)
{
	/* Nothing turns the loop: the read is never answered. */
	stop_ends_a(FAKE_ECHO, *mode_of(state), 20000);
}

static void stop_ends_a_wait_for_room(void **state)
{
	stop_ends_a(FAKE_WRITES, *mode_of(state), 20000);
}

static void stop_ends_a_wait_for_start_up(void **state)
{
	stop_ends_a(FAKE_WAITS, *mode_of(state), 20000);
}

static void stop_before_start_is_fine(void **state)
{
	struct rig *r = rig_open(*mode_of(state));

	rig_make(r, 3, FAKE_SPIN);
	vcpu_kick(vcpu_pool_get(r->pool, 1));
	vcpu_pool_stop(r->pool);
	vcpu_pool_stop(r->pool);
	rig_close(r);
}

static void stop_ends_one_that_is_about_to_enter(void **state)
{
	static const enum fake_program programs[] = {FAKE_SPIN, FAKE_HALT, FAKE_ECHO, FAKE_WRITES,
						     FAKE_WAITS};
	unsigned rounds = long_run ? 2000 : 60;

	for (unsigned i = 0; i < rounds; i++)
		stop_ends_a(programs[i % ARRAY_SIZE(programs)], *mode_of(state), i * 7 % 300);
}

static void stop_works_inside_serve(void **state)
{
	struct rig *r = rig_open(*mode_of(state));

	r->stop_in_serve = true;
	rig_make(r, 2, FAKE_ECHO);
	rig_start(r);
	serve_until(r, 1);
	loop_turn(r->loop, 0);
	assert_int_equal(r->served, 1);
	rig_close(r);
}

/* ---- failures -------------------------------------------------------------------------- */

static void a_failing_run_is_told(void **state)
{
	struct rig *r = rig_open(*mode_of(state));

	rig_make(r, 2, FAKE_HALT);
	r->vm.program[1] = FAKE_BROKEN;
	/* Without, set-up itself would use the broken descriptor. */
	if (!r->kvm.immediate_exit) {
		print_message("skipped: no KVM_CAP_IMMEDIATE_EXIT\n");
		rig_close(r);
		skip();
	}
	rig_start(r);
	while (!r->failed)
		loop_turn(r->loop, UINT64_MAX);
	assert_ptr_equal(r->failed, vcpu_pool_get(r->pool, 1));
	assert_int_equal(r->failed->error.code, -ENOTTY);
	assert_non_null(strstr(r->failed->error.what, "vCPU 1"));
	rig_close(r);
}

static void a_failing_set_up_is_told(void **state)
{
	struct rig *r = rig_open(*mode_of(state));
	struct error err = {0};

	rig_make(r, 4, FAKE_SPIN);
	r->vm.program[2] = FAKE_REFUSED;
	assert_int_equal(vcpu_pool_start(r->pool, &r->vm, &err), -EINVAL);
	assert_non_null(strstr(err.what, "fake set-up of vCPU 2"));
	rig_close(r);
}

static int look_before_they_go(void *arg, struct error *err)
{
	struct rig *r = arg;

	usleep(20000); /* time enough for one that did not wait */
	for (unsigned i = 0; i < vcpu_pool_count(r->pool); i++)
		/* Relaxed: of a thread that is to have done nothing. */
		r->wrong += atomic_load_explicit(&vcpu_pool_get(r->pool, i)->stats.exits,
						 memory_order_relaxed) != 0;
	r->value++;
	return r->refuses ? error_usage(err, "not so") : 0;
}

static void none_goes_before_all_is_ready(void **state)
{
	struct rig *r = rig_open(*mode_of(state));
	struct vcpu_pool_config config = config_of(4);
	struct error err = {0};

	config.all_set_up = look_before_they_go;
	for (unsigned i = 0; i < config.count; i++)
		r->vm.program[i] = FAKE_WRITES;
	if (vcpu_pool_new(r->loop, &r->kvm, &config, &r->pool, &err) < 0)
		fail_msg("%s", err.what);
	rig_start(r);
	assert_int_equal(r->value, 1);
	assert_int_equal(r->wrong, 0);
	rig_close(r);
}

static void who_looks_then_may_refuse(void **state)
{
	struct rig *r = rig_open(*mode_of(state));
	struct vcpu_pool_config config = config_of(2);
	struct error err = {0};

	config.all_set_up = look_before_they_go;
	r->refuses = true;
	if (vcpu_pool_new(r->loop, &r->kvm, &config, &r->pool, &err) < 0)
		fail_msg("%s", err.what);
	assert_true(vcpu_pool_start(r->pool, &r->vm, &err) < 0);
	assert_string_equal(err.what, "not so");
	for (unsigned i = 0; i < config.count; i++)
		/* Relaxed: its thread has ended. */
		assert_int_equal(atomic_load_explicit(&vcpu_pool_get(r->pool, i)->stats.exits,
						      memory_order_relaxed),
				 0);
	rig_close(r);
}

/* Whether it left KVM_RUN for a kick, within so many milliseconds and more. */
static bool answers(struct vcpu *vcpu, unsigned ms)
{
	for (unsigned i = 0; i < ms; i++) {
		vcpu_kick(vcpu);
		usleep(1000);
		/* Relaxed: a count. */
		if (atomic_load_explicit(&vcpu->stats.kicked, memory_order_relaxed) > 0)
			return true;
	}
	return false;
}

static int kick_both(void *arg, struct error *err UNUSED)
{
	struct rig *r = arg;

	r->value = answers(vcpu_pool_get(r->pool, 0), 100);
	r->wrong = !answers(vcpu_pool_get(r->pool, 1), 5000);
	return 0;
}

static void who_has_to_be_started_does_not_wait_for_the_others(void **state)
{
	struct rig *r = rig_open(*mode_of(state));
	struct vcpu_pool_config config = config_of(2);
	struct error err = {0};

	config.all_set_up = kick_both;
	r->vm.program[0] = FAKE_SPIN;
	r->vm.program[1] = FAKE_WAITS;
	if (vcpu_pool_new(r->loop, &r->kvm, &config, &r->pool, &err) < 0)
		fail_msg("%s", err.what);
	fake_waits = true;
	rig_start(r);
	assert_int_equal(r->value, 0);
	assert_int_equal(r->wrong, 0);
	rig_close(r);
	fake_waits = false;
}

static void limits_are_named(void **state)
{
	struct rig *r = rig_open(*mode_of(state));
	struct vcpu_pool_config config = config_of(5);
	struct error err = {0};

	r->kvm.max_vcpus = 4;
	assert_true(vcpu_pool_new(r->loop, &r->kvm, &config, &r->pool, &err) < 0);
	assert_int_equal(err.kind, ERROR_CONTENTION);
	assert_non_null(strstr(err.what, "5 vCPUs"));
	err = (struct error){0};
	r->kvm.max_vcpus = 8;
	r->kvm.max_vcpu_id = 4;
	assert_true(vcpu_pool_new(r->loop, &r->kvm, &config, &r->pool, &err) < 0);
	assert_int_equal(err.kind, ERROR_CONTENTION);
	assert_non_null(strstr(err.what, "id 4"));
	/* Two with one id: a half-built pool comes down. */
	err = (struct error){0};
	r->kvm.max_vcpu_id = 8;
	fake_vcpu_id = 3;
	assert_int_equal(vcpu_pool_new(r->loop, &r->kvm, &config, &r->pool, &err), -EEXIST);
	assert_non_null(strstr(err.what, "vCPU 1"));
	assert_null(r->pool);
	rig_close(r);
}

static void too_few_descriptors_is_contention(void **state)
{
	struct rig *r = rig_open(*mode_of(state));
	struct vcpu_pool_config config = config_of(64);
	struct error err = {0};
	struct rlimit old, low = {.rlim_cur = 32, .rlim_max = 32};

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	assert_int_equal(vcpu_pool_new(r->loop, &r->kvm, &config, &r->pool, &err), -EMFILE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(err.kind, ERROR_CONTENTION);
	rig_close(r);
}

static void a_missing_host_cpu_is_contention(void **state)
{
	struct rig *r = rig_open(*mode_of(state));
	int pin[2] = {-1, 60000};
	struct vcpu_pool_config config = config_of(2);
	struct error err = {0};

	config.pin = pin;
	r->vm.program[0] = r->vm.program[1] = FAKE_HALT;
	assert_int_equal(vcpu_pool_new(r->loop, &r->kvm, &config, &r->pool, &err), 0);
	assert_true(vcpu_pool_start(r->pool, &r->vm, &err) < 0);
	assert_int_equal(err.kind, ERROR_CONTENTION);
	assert_non_null(strstr(err.what, "60000"));
	rig_close(r);
}

/* ---- many ------------------------------------------------------------------------------ */

static void a_thousand_start_and_stop(void **state)
{
	struct rlimit files;
	struct rig *r = rig_open(*mode_of(state));
	unsigned count = MIN(FAKE_VCPUS_MAX, r->kvm.max_vcpus);
	uint64_t begin_ns, made_ns, started_ns;

	if (!long_run)
		count = MIN(count, 32);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	files.rlim_cur = MIN(files.rlim_max, 4096);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	begin_ns = now_ns();
	rig_make(r, count, FAKE_HALT);
	r->vm.program[count / 2] = FAKE_ECHO;
	made_ns = now_ns();
	rig_start(r);
	started_ns = now_ns();
	serve_until(r, 200);
	/* The halted ones cost nothing. */
	assert_true(vcpu_pool_count(r->pool) == count);
	print_message("%u vCPUs: %llu us to make, %llu us to start\n", count,
		      (unsigned long long)(made_ns - begin_ns) / 1000,
		      (unsigned long long)(started_ns - made_ns) / 1000);
	begin_ns = now_ns();
	vcpu_pool_stop(r->pool);
	print_message("%llu us to stop\n", (unsigned long long)(now_ns() - begin_ns) / 1000);
	assert_true(now_ns() - begin_ns < SECOND_NS);
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
		TEST(reads_get_what_was_answered),
		TEST(writes_arrive_in_order),
		TEST(order_by_guest_memory_is_kept),
		TEST(accounts_add_up_to_wall_time),
		TEST(a_wait_and_an_answer_last_as_long_as_they_do),
		TEST(stop_ends_a_tight_loop),
		TEST(stop_ends_a_halt),
		TEST(stop_ends_a_wait_for_a_reply),
		TEST(stop_ends_a_wait_for_room),
		TEST(stop_ends_a_wait_for_start_up),
		TEST(stop_before_start_is_fine),
		TEST(stop_ends_one_that_is_about_to_enter),
		TEST(stop_works_inside_serve),
		{"a_failing_run_is_told", a_failing_run_is_told, NULL, NULL, &immediate},
		TEST(a_failing_set_up_is_told),
		TEST(none_goes_before_all_is_ready),
		TEST(who_looks_then_may_refuse),
		TEST(who_has_to_be_started_does_not_wait_for_the_others),
		TEST(limits_are_named),
		TEST(too_few_descriptors_is_contention),
		TEST(a_missing_host_cpu_is_contention),
		TEST(an_nmi_arrives_once),
		TEST(a_storm_of_signals_changes_nothing),
		TEST(a_thousand_start_and_stop),
		TEST(kicks_against_entry_are_never_lost),
	};

	long_run = argc > 1 && strcmp(argv[1], "--long") == 0;
	if (access("/dev/kvm", R_OK | W_OK) < 0) {
		printf("skipped: /dev/kvm: %s\n", strerror(errno));
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
