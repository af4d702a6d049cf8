/* Watches from both sides: vCPU threads that store to a KVM that the test plays, in both ways
 * that processors tell of it, and the control thread that publishes, freezes and moves them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "fake_kvm.h"
#include "freeze/freeze.h"

#define WATCHDOG_S 100
#define PLENTY	   UINT64_C(1000000000)
#define HITS_MAX   4096u

struct hit {
	uint32_t slots;
	unsigned vcpu;
	struct vcpu_watch_hit of[ARCH_WATCHES];
};

/* States of tests: x86's way is none. */
static int before, vague;

static struct rig {
	struct kvm kvm;
	struct arch_vm vm;
	struct loop *loop;
	struct topology topology;
	struct vcpu_pool *pool;
	struct freeze freeze;
	struct freeze_wait wait;
	unsigned frozen; /* how often */
	bool go_on;	 /* serve unlatches */
	bool stop;	 /* serve begins a freeze */
	struct hit hit[HITS_MAX];
	unsigned hits;
	/* When published: the word's value, and the slot's stores. */
	uint64_t word0[ARCH_WATCHES], stores0[ARCH_WATCHES];
} rig;

/* ---- the rig --------------------------------------------------------------------------- */

static void begin_freeze(struct rig *r)
{
	struct error err = {0};

	assert_int_equal(freeze_start(&r->freeze, "watch", &r->wait, &err), 0);
}

static void serve(struct vcpu *vcpu, struct kvm_run *run, const struct arch_exit *exit,
		  void *arg UNUSED)
{
	struct hit *h = &rig.hit[rig.hits];

	assert_int_equal(exit->reason, KVM_EXIT_DEBUG);
	assert_true(run && exit->addr && exit->addr < 1u << ARCH_WATCHES);
	assert_true(rig.hits++ < HITS_MAX);
	h->slots = (uint32_t)exit->addr;
	h->vcpu = vcpu->index;
	for (unsigned n = 0; n < ARCH_WATCHES; n++) {
		if (!(h->slots & 1u << n))
			continue;
		assert_non_null(vcpu_watch_hit(rig.pool, n));
		h->of[n] = *vcpu_watch_hit(rig.pool, n);
		assert_int_equal(h->of[n].vcpu, vcpu->index);
		if (rig.go_on)
			vcpu_watch_unlatch(rig.pool, n);
	}
	if (rig.stop)
		begin_freeze(&rig);
}

static void on_failed(struct vcpu *vcpu UNUSED, void *arg UNUSED)
{
	fail();
}

static void hold(struct freeze *f)
{
	freeze_held(f);
}

static void release(struct freeze *f UNUSED)
{
}

static void over(struct freeze *f UNUSED, const struct freeze_report *report)
{
	assert_true(report->reached);
}

static void on_frozen(struct freeze_wait *wait UNUSED, const struct error *err)
{
	assert_null(err);
	rig.frozen++;
}

/* count vCPUs; vCPU i stores to words[i]; they have no ration yet. */
static struct rig *rig_open(void **state, unsigned count, const uint32_t *words)
{
	struct vcpu_pool_config pool = {.count = count,
					.topology = &rig.topology,
					.serve = serve,
					.failed = on_failed};
	struct freeze_config config = {.vm = &rig.vm,
				       .hold = hold,
				       .release = release,
				       .over = over};
	struct error err = {0};

	memset(&rig, 0, sizeof(rig));
	rig.wait.done = on_frozen;
	fake_kvm_open(&rig.kvm, &rig.vm);
	rig.vm.traps_before = *state != NULL;
	for (unsigned i = 0; i < count; i++) {
		rig.vm.work[i] = words[i] ? WORK_STORES : WORK_DEBUGS;
		rig.vm.stores[i] = words[i];
	}
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

static void turn(struct rig *r)
{
	assert_true(loop_turn(r->loop, 1000000) >= 0);
}

static void wait_frozen(struct rig *r, unsigned times)
{
	while (r->frozen < times)
		turn(r);
	assert_int_equal(r->freeze.state, FREEZE_FROZEN);
	for (unsigned i = 0; i < vcpu_pool_count(r->pool); i++)
		assert_int_equal(vcpu_pool_get(r->pool, i)->state->incomplete, 0);
}

static void freeze_now(struct rig *r)
{
	unsigned times = r->frozen + 1;

	begin_freeze(r);
	wait_frozen(r, times);
}

static void thaw(struct rig *r)
{
	assert_int_equal(freeze_thaw(&r->freeze), 0);
}

static void feed(unsigned vcpu, uint64_t instructions)
{
	atomic_store(&fake_ration[vcpu], instructions);
}

static void feed_all(struct rig *r, uint64_t instructions)
{
	for (unsigned i = 0; i < vcpu_pool_count(r->pool); i++)
		feed(i, instructions);
}

/* Serves until so many more instructions are done. */
static void run_steps(struct rig *r, uint64_t steps)
{
	uint64_t end = atomic_load(&fake_steps) + steps;

	while (atomic_load(&fake_steps) < end)
		turn(r);
}

/* The guest is frozen. */
static void publish(struct rig *r, unsigned slot, unsigned word, struct watch_test test,
		    bool tell_all)
{
	vcpu_watch_publish(r->pool, slot,
			   &(struct vcpu_watch){.gva = FAKE_WORD_GVA(word),
						.bytes = 8,
						.host = (const uint8_t *)&fake_word[word],
						.test = test,
						.tell_all = tell_all});
	r->word0[slot] = atomic_load(&fake_word[word]);
	r->stores0[slot] = vcpu_watch_stores(r->pool, slot);
}

/* … Since slot was published to watch word, each store was seen once. */
static void expect_all_seen(struct rig *r, unsigned slot, unsigned word)
{
	assert_int_equal(vcpu_watch_stores(r->pool, slot) - r->stores0[slot],
			 atomic_load(&fake_word[word]) - r->word0[slot]);
}

static uint64_t exits_of_all(struct rig *r)
{
	uint64_t exits = 0;

	for (unsigned i = 0; i < vcpu_pool_count(r->pool); i++)
		exits += atomic_load(&vcpu_pool_get(r->pool, i)->stats.exits);
	return exits;
}

static const struct watch_test any = {.op = WATCH_ANY};

static struct watch_test equals(uint64_t value)
{
	return (struct watch_test){.op = WATCH_EQ, .value = value};
}

/* ---- tests ----------------------------------------------------------------------------- */

static const uint32_t eight[8] = {1, 1, 1, 1, 1, 1, 1, 1};

static void stores_of_many_are_one_hit(void **state)
{
	struct rig *r = rig_open(state, 8, eight);

	freeze_now(r);
	publish(r, 1, 0, any, false);
	assert_null(vcpu_watch_hit(r->pool, 1));
	thaw(r);
	feed_all(r, PLENTY);
	run_steps(r, 400);
	assert_int_equal(r->hits, 1);
	assert_int_equal(r->hit[0].slots, 1u << 1);
	assert_non_null(vcpu_watch_hit(r->pool, 1));
	/* … and one more when there may be. */
	vcpu_watch_unlatch(r->pool, 1);
	run_steps(r, 400);
	assert_int_equal(r->hits, 2);
	assert_true(r->hit[1].of[1].after > r->hit[0].of[1].after);
	freeze_now(r);
	expect_all_seen(r, 1, 0);
	rig_close(r);
}

static void a_miss_posts_nothing(void **state)
{
	static const uint32_t one[] = {1};
	struct rig *r = rig_open(state, 1, one);
	struct vcpu_stats *stats = &vcpu_pool_get(r->pool, 0)->stats;

	r->go_on = true;
	freeze_now(r);
	publish(r, 2, 0, equals(60), false);
	thaw(r);
	feed(0, 100);
	run_steps(r, 100);
	freeze_now(r);
	assert_int_equal(r->hits, 1);
	assert_int_equal(r->hit[0].slots, 1u << 2);
	assert_int_equal(r->hit[0].of[2].before, 59);
	assert_int_equal(r->hit[0].of[2].after, 60);
	assert_true(r->hit[0].of[2].passed);
	assert_int_equal(vcpu_watch_stores(r->pool, 2), 100);
	assert_int_equal(atomic_load(&stats->exits), *state ? 200 : 100);
	assert_int_equal(atomic_load(&stats->posted) + atomic_load(&stats->handed_off), 1);
	rig_close(r);
}

static void all_are_told_if_wanted(void **state)
{
	static const uint32_t one[] = {1};
	struct rig *r = rig_open(state, 1, one);

	r->go_on = true;
	freeze_now(r);
	publish(r, 0, 0, equals(3), true);
	thaw(r);
	feed(0, 5);
	run_steps(r, 5);
	freeze_now(r);
	assert_int_equal(r->hits, 5);
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(r->hit[i].of[0].before, i);
		assert_int_equal(r->hit[i].of[0].after, i + 1);
		assert_int_equal(r->hit[i].of[0].passed, i + 1 == 3);
	}
	rig_close(r);
}

/* The first alone stores to word 0. */
static void who_hit_stands_behind_its_store(void **state)
{
	static const uint32_t words[] = {1, 2, 2, 2};
	struct rig *r = rig_open(state, 4, words);

	freeze_now(r);
	publish(r, 0, 0, any, false);
	thaw(r);
	r->stop = true;
	feed_all(r, PLENTY);
	for (unsigned i = 1; i <= 20; i++) {
		wait_frozen(r, 1 + i);
		assert_int_equal(r->hits, i);
		assert_int_equal(r->hit[i - 1].vcpu, 0);
		assert_int_equal(r->hit[i - 1].of[0].before, i - 1);
		assert_int_equal(r->hit[i - 1].of[0].after, i);
		assert_int_equal(atomic_load(&fake_word[0]), i);
		usleep(2000);
		assert_int_equal(atomic_load(&fake_word[0]), i);
		vcpu_watch_unlatch(r->pool, 0);
		thaw(r);
	}
	r->stop = false;
	rig_close(r);
}

/* Each instruction stores to words 0, 1 and 2. */
static void several_slots_are_one_exit(void **state)
{
	static const uint32_t three[] = {7};
	struct rig *r = rig_open(state, 1, three);

	r->vm.vague = *state == &vague;
	r->go_on = true;
	freeze_now(r);
	publish(r, 0, 0, equals(10), false);
	publish(r, 1, 0, equals(20), false);
	publish(r, 2, 1, equals(10), false);
	publish(r, 3, 2, equals(0), false);
	thaw(r);
	feed(0, 30);
	run_steps(r, 30);
	freeze_now(r);
	assert_int_equal(r->hits, 2);
	assert_int_equal(r->hit[0].slots, 1u << 0 | 1u << 2);
	assert_int_equal(r->hit[0].of[0].after, 10);
	assert_int_equal(r->hit[0].of[2].after, 10);
	assert_int_equal(r->hit[1].slots, 1u << 1);
	assert_int_equal(r->hit[1].of[1].after, 20);
	for (unsigned n = 0; n < ARCH_WATCHES; n++)
		assert_int_equal(vcpu_watch_stores(r->pool, n), 30);
	rig_close(r);
}

/* The step ends in the interrupt's handler, and the store traps anew. */
static void an_interrupt_puts_a_store_off(void **state)
{
	static const uint32_t one[] = {1};
	struct rig *r = rig_open(state, 1, one);

	r->vm.interrupts = true;
	r->go_on = true;
	freeze_now(r);
	publish(r, 1, 0, any, false);
	thaw(r);
	feed(0, 50);
	run_steps(r, 50);
	freeze_now(r);
	assert_int_equal(r->hits, 50);
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(r->hit[i].of[1].after, i + 1);
	expect_all_seen(r, 1, 0);
	assert_int_equal(exits_of_all(r), 200);
	rig_close(r);
}

/* Where it traps before the store, vCPUs park between the two, too. */
static void hold_before_stores(struct rig *r, bool on)
{
	if (!r->vm.traps_before)
		return;
	atomic_store(&fake_hold, on);
	while (on && !atomic_load(&fake_held))
		turn(r);
}

static void a_withdrawn_one_exits_no_more(void **state)
{
	struct rig *r = rig_open(state, 4, eight);
	uint64_t exits, stores;

	r->go_on = true;
	freeze_now(r);
	publish(r, 3, 0, any, false);
	thaw(r);
	feed_all(r, PLENTY);
	run_steps(r, 40);
	hold_before_stores(r, true);
	freeze_now(r);
	hold_before_stores(r, false);
	expect_all_seen(r, 3, 0);
	vcpu_watch_withdraw(r->pool, 3);
	vcpu_watch_withdraw(r->pool, 3);
	exits = exits_of_all(r);
	stores = vcpu_watch_stores(r->pool, 3);
	thaw(r);
	run_steps(r, 100);
	freeze_now(r);
	assert_int_equal(exits_of_all(r), exits);
	assert_int_equal(vcpu_watch_stores(r->pool, 3), stores);
	/* Anew, at the value of now. */
	publish(r, 3, 0, any, false);
	r->hits = 0;
	thaw(r);
	run_steps(r, 40);
	freeze_now(r);
	assert_true(r->hits > 0);
	assert_true(r->hit[0].of[3].before >= r->word0[3]);
	expect_all_seen(r, 3, 0);
	rig_close(r);
}

/* Two store to word 0, one to word 1. Each store to where the slot is, is seen; no other is. */
static void a_slot_moves_without_false_hits_or_gaps(void **state)
{
	static const uint32_t words[] = {1, 1, 2};
	struct rig *r = rig_open(state, 3, words);

	r->go_on = true;
	freeze_now(r);
	feed_all(r, PLENTY);
	for (unsigned i = 0; i < 60; i++) {
		publish(r, 1, i % 2, any, false);
		r->hits = 0;
		thaw(r);
		run_steps(r, 10);
		/* At the start of a turn nobody is stopped before a store that it had. */
		if (i % 3)
			hold_before_stores(r, true);
		freeze_now(r);
		hold_before_stores(r, false);
		expect_all_seen(r, 1, i % 2);
		for (unsigned k = 0; k < r->hits; k++)
			assert_int_equal(r->hit[k].vcpu == 2, i % 2);
		vcpu_watch_withdraw(r->pool, 1);
	}
	rig_close(r);
}

/* As at each freeze while it stays: what is under way is seen once. */
static void publishing_anew_loses_nothing(void **state)
{
	struct rig *r = rig_open(state, 3, eight);
	uint64_t start;

	r->go_on = true;
	freeze_now(r);
	publish(r, 0, 0, any, false);
	start = r->word0[0];
	feed_all(r, PLENTY);
	for (unsigned i = 0; i < 30; i++) {
		r->hits = 0;
		thaw(r);
		run_steps(r, 10);
		hold_before_stores(r, true);
		freeze_now(r);
		hold_before_stores(r, false);
		expect_all_seen(r, 0, 0);
		vcpu_watch_withdraw(r->pool, 0);
		publish(r, 0, 0, any, false);
	}
	assert_int_equal(vcpu_watch_stores(r->pool, 0), atomic_load(&fake_word[0]) - start);
	rig_close(r);
}

/* How often word is in the lines that f writes to standard error. */
static unsigned logged(const char *word, void (*f)(struct rig *r), struct rig *r)
{
	int old = dup(STDERR_FILENO), file = memfd_create("log", MFD_CLOEXEC);
	char text[4096];
	unsigned count = 0;
	ssize_t n;

	assert_true(old >= 0 && file >= 0);
	assert_true(dup2(file, STDERR_FILENO) >= 0);
	f(r);
	assert_true(dup2(old, STDERR_FILENO) >= 0);
	n = pread(file, text, sizeof(text) - 1, 0);
	assert_true(n >= 0);
	text[n] = '\0';
	for (const char *at = text; (at = strstr(at, word)); at++)
		count++;
	close(old);
	close(file);
	return count;
}

static void run_some(struct rig *r)
{
	thaw(r);
	feed_all(r, PLENTY);
	run_steps(r, 100);
	freeze_now(r);
	publish(r, 2, 1, any, false);
	thaw(r);
	run_steps(r, 100);
	freeze_now(r);
}

static void who_cannot_arm_is_told_once(void **state)
{
	struct rig *r = rig_open(state, 4, eight);

	r->go_on = true;
	freeze_now(r);
	publish(r, 0, 0, any, false);
	assert_int_equal(vcpu_watch_error(r->pool), 0);
	atomic_store(&fake_watch_result[1], -EINVAL);
	atomic_store(&fake_watch_result[3], -EINVAL);
	assert_int_equal(logged("arming watchpoints on vCPU", run_some, r), 1);
	assert_int_equal(vcpu_watch_error(r->pool), -EINVAL);
	/* The others have them. */
	assert_true(r->hits > 0);
	for (unsigned i = 0; i < r->hits; i++)
		assert_true(r->hit[i].vcpu == 0 || r->hit[i].vcpu == 2);
	rig_close(r);
}

static void the_guest_keeps_its_debug_exceptions(void **state)
{
	static const uint32_t words[] = {0, 1, 0};
	struct rig *r = rig_open(state, 3, words);

	r->go_on = true;
	freeze_now(r);
	publish(r, 0, 0, equals(5), false);
	thaw(r);
	feed(0, 50);
	feed(1, 50);
	feed(2, 50);
	run_steps(r, 150);
	freeze_now(r);
	assert_int_equal(atomic_load(&fake_passed_on), 100);
	assert_int_equal(atomic_load(&fake_lost), 0);
	assert_int_equal(r->hits, 1);
	expect_all_seen(r, 0, 0);
	rig_close(r);
}

/* clang-format off */
#define BOTH(test) {#test ": after", test, NULL, NULL, NULL}, \
		   {#test ": before", test, NULL, NULL, &before}
/* clang-format on */

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(stores_of_many_are_one_hit),
		BOTH(a_miss_posts_nothing),
		BOTH(all_are_told_if_wanted),
		BOTH(who_hit_stands_behind_its_store),
		BOTH(several_slots_are_one_exit),
		{"several_slots_are_one_exit: vague", several_slots_are_one_exit, NULL, NULL,
		 &vague},
		{"an_interrupt_puts_a_store_off", an_interrupt_puts_a_store_off, NULL, NULL,
		 &before},
		BOTH(a_withdrawn_one_exits_no_more),
		BOTH(a_slot_moves_without_false_hits_or_gaps),
		BOTH(publishing_anew_loses_nothing),
		BOTH(who_cannot_arm_is_told_once),
		/* arm64's never come out of KVM_RUN. */
		cmocka_unit_test(the_guest_keeps_its_debug_exceptions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
