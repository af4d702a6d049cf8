/* The exit hand-off without KVM: threads stand in for vCPUs, the test's main thread is the
 * control thread. Order, back-pressure, replies, wake-ups, cost. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "vcpu/exits.h"

#define WATCHDOG_S  120
#define TURN_NS	    20000000000u /* longer than any wake-up that was not lost */
#define VCPUS_MAX   1024
#define ORDER_VCPUS 6
#define ORDER_POSTS 20000
#define WAKE_ROUNDS 100000

struct bench {
	struct loop *loop;
	struct vcpu_exits_hub hub;
	struct vcpu_exits *vcpu;
	unsigned vcpus;
	void (*on_serve)(struct bench *b, unsigned vcpu, const struct arch_exit *exit);
	uint64_t served;
	uint64_t next[VCPUS_MAX]; /* per vCPU: what exit.addr must be */
	bool out_of_order;
};

static struct bench bench;

static void serve(struct vcpu_exits *from, const struct arch_exit *exit)
{
	unsigned vcpu = (unsigned)(from - bench.vcpu);

	bench.served++;
	bench.out_of_order |= exit->addr != bench.next[vcpu]++;
	if (bench.on_serve)
		bench.on_serve(&bench, vcpu, exit);
}

static struct bench *bench_start(unsigned vcpus, bool may_spin)
{
	struct error err = {0};

	memset(&bench, 0, sizeof(bench));
	assert_int_equal(loop_new(&bench.loop, &err), 0);
	bench.vcpus = vcpus;
	bench.vcpu = aligned_alloc(CACHE_LINE, vcpus * sizeof(*bench.vcpu));
	assert_non_null(bench.vcpu);
	assert_int_equal(vcpu_exits_hub_init(&bench.hub, bench.loop, vcpus, serve, &err), 0);
	bench.hub.may_spin = may_spin;
	loop_set_spin(bench.loop, may_spin ? VCPU_EXITS_SPIN_NS : 0);
	for (unsigned i = 0; i < vcpus; i++)
		vcpu_exits_init(&bench.vcpu[i], &bench.hub);
	alarm(WATCHDOG_S);
	return &bench;
}

static void bench_stop(struct bench *b)
{
	assert_false(b->out_of_order);
	vcpu_exits_hub_done(&b->hub);
	loop_free(b->loop);
	free(b->vcpu);
	alarm(0);
}

/* Turns until n exits were served. Each turn must serve something before TURN_NS is over. */
static void serve_until(struct bench *b, uint64_t n)
{
	while (b->served < n) {
		uint64_t begin_ns = now_ns();

		loop_turn(b->loop, TURN_NS);
		assert_true(now_ns() - begin_ns < TURN_NS);
	}
}

/* ---- back-pressure --------------------------------------------------------------------- */

struct poster {
	struct vcpu_exits *e;
	uint64_t posts;
	_Atomic uint64_t begun, done;
	uint64_t waits;
	pthread_t thread;
};

static void *post_many(void *arg)
{
	struct poster *p = arg;

	for (uint64_t i = 0; i < p->posts; i++) {
		const struct arch_exit exit = {.addr = i};

		atomic_store(&p->begun, i + 1);
		p->waits += vcpu_exits_post(p->e, &exit) != VCPU_EXITS_WENT_ON;
		atomic_store(&p->done, i + 1);
	}
	return NULL;
}

static void a_full_ring_waits(void **state)
{
	struct bench *b = bench_start(1, false);
	struct poster p = {.e = &b->vcpu[0], .posts = 10 * VCPU_EXITS_RING};

	(void)state;
	assert_int_equal(pthread_create(&p.thread, NULL, post_many, &p), 0);
	while (atomic_load(&p.begun) < VCPU_EXITS_RING)
		usleep(100);
	usleep(20000);
	/* The last free slot was taken by a post that waits, and nothing was lost. */
	assert_int_equal(atomic_load(&p.done), VCPU_EXITS_RING - 1);
	assert_int_equal(atomic_load(&p.begun), VCPU_EXITS_RING);
	assert_int_equal(b->served, 0);
	serve_until(b, p.posts);
	pthread_join(p.thread, NULL);
	assert_true(p.waits >= 1);
	assert_int_equal(b->served, p.posts);
	bench_stop(b);
}

/* ---- replies and releases -------------------------------------------------------------- */

struct asker {
	struct vcpu_exits *e;
	unsigned rounds;
	unsigned slept;
	uint32_t most_spin_ns;
	uint32_t page; /* stands for the run page: passes with post and reply, no atomics */
	unsigned wrong;
	pthread_t thread;
};

static void *ask(void *arg)
{
	struct asker *a = arg;

	for (unsigned i = 0; i < a->rounds; i++) {
		struct arch_exit exit = {.addr = i, .wants_reply = true};
		void *page = &a->page;

		memcpy(exit.data, &page, sizeof(page));
		a->page = i;
		a->slept += vcpu_exits_post(a->e, &exit) == VCPU_EXITS_SLEPT;
		a->most_spin_ns = MAX(a->most_spin_ns, a->e->spin_ns);
		a->wrong += a->page != i * 3 + 1;
	}
	return NULL;
}

static uint32_t *page_of(const struct arch_exit *exit)
{
	uint32_t *page;

	memcpy(&page, exit->data, sizeof(page));
	return page;
}

static void answer(struct bench *b, unsigned vcpu, const struct arch_exit *exit)
{
	uint32_t *page = page_of(exit);

	(void)b;
	(void)vcpu;
	*page = *page * 3 + 1;
}

static void answer_late(struct bench *b, unsigned vcpu, const struct arch_exit *exit)
{
	usleep(2000);
	answer(b, vcpu, exit);
}

static void replies_arrive(void **state)
{
	struct bench *b = bench_start(3, true);
	struct asker a[3] = {{.rounds = 20000}, {.rounds = 20000}, {.rounds = 20000}};

	(void)state;
	b->on_serve = answer;
	for (unsigned i = 0; i < 3; i++) {
		a[i].e = &b->vcpu[i];
		assert_int_equal(pthread_create(&a[i].thread, NULL, ask, &a[i]), 0);
	}
	serve_until(b, 60000);
	for (unsigned i = 0; i < 3; i++) {
		pthread_join(a[i].thread, NULL);
		assert_int_equal(a[i].wrong, 0);
	}
	bench_stop(b);
}

static void late_replies_find_a_sleeper(void **state)
{
	struct bench *b = bench_start(1, true);
	struct asker a = {.e = &b->vcpu[0], .rounds = 50};

	(void)state;
	b->on_serve = answer_late;
	assert_int_equal(pthread_create(&a.thread, NULL, ask, &a), 0);
	serve_until(b, a.rounds);
	pthread_join(a.thread, NULL);
	assert_int_equal(a.wrong, 0);
	/* 2 ms is past the limit of any spin, and the bound has learnt that. A few times the host
	 * may have put the asker off before it slept, for longer than that. */
	assert_true(a.slept >= a.rounds - a.rounds / 5);
	assert_true(b->vcpu[0].spin_ns < 5000);
	bench_stop(b);
}

static void a_spin_that_pays_grows(void **state)
{
	struct bench *b = bench_start(1, true);
	struct asker a = {.e = &b->vcpu[0], .rounds = 20000};
	uint32_t at_start = b->vcpu[0].spin_ns;

	(void)state;
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
		print_message("skipped: spinning needs two CPUs\n");
		skip();
	}
	b->on_serve = answer;
	assert_int_equal(pthread_create(&a.thread, NULL, ask, &a), 0);
	serve_until(b, a.rounds);
	pthread_join(a.thread, NULL);
	print_message("slept in %u of %u rounds, bound %u ns\n", a.slept, a.rounds,
		      b->vcpu[0].spin_ns);
	/* On a busy machine some replies come late, maybe the last; most do not. */
	if (a.slept < a.rounds / 10)
		assert_true(a.most_spin_ns > at_start);
	bench_stop(b);
}

static void nobody_spins_when_told_not_to(void **state)
{
	struct bench *b = bench_start(1, false);
	struct asker a = {.e = &b->vcpu[0], .rounds = 2000};
	uint32_t at_start = b->vcpu[0].spin_ns;

	(void)state;
	b->on_serve = answer;
	assert_int_equal(pthread_create(&a.thread, NULL, ask, &a), 0);
	serve_until(b, a.rounds);
	pthread_join(a.thread, NULL);
	assert_int_equal(b->vcpu[0].spin_ns, at_start);
	assert_int_equal(a.wrong, 0);
	bench_stop(b);
}

static void a_release_ends_every_wait(void **state)
{
	struct bench *b = bench_start(1, false);
	struct asker a = {.e = &b->vcpu[0], .rounds = 100};
	const struct arch_exit ask_more = {.addr = 1, .wants_reply = true};

	(void)state;
	assert_int_equal(pthread_create(&a.thread, NULL, ask, &a), 0);
	usleep(20000);
	vcpu_exits_hub_close(&b->hub);
	vcpu_exits_release(&b->vcpu[0]);
	/* It waits no more, now or later, even with its ring full. */
	pthread_join(a.thread, NULL);
	assert_int_equal(vcpu_exits_post(&b->vcpu[0], &ask_more), VCPU_EXITS_WAITED);
	loop_turn(b->loop, 0);
	assert_int_equal(b->served, 0);
	bench_stop(b);
}

static void a_release_races_with_posts(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 300; round++) {
		struct bench *b = bench_start(1, round % 2);
		struct asker a = {.e = &b->vcpu[0], .rounds = 1000};

		b->on_serve = answer;
		assert_int_equal(pthread_create(&a.thread, NULL, ask, &a), 0);
		serve_until(b, round % 7);
		vcpu_exits_hub_close(&b->hub);
		vcpu_exits_release(&b->vcpu[0]);
		pthread_join(a.thread, NULL);
		bench_stop(b);
	}
}

/* ---- turns inside serve ---------------------------------------------------------------- */

static void turn_within(struct bench *b, unsigned vcpu, const struct arch_exit *exit)
{
	uint64_t served = b->served;

	(void)vcpu;
	(void)exit;
	loop_turn(b->loop, 0);
	b->out_of_order |= b->served != served;
}

static void a_nested_turn_serves_nothing(void **state)
{
	struct bench *b = bench_start(2, false);

	(void)state;
	b->on_serve = turn_within;
	for (uint64_t i = 0; i < 5; i++) {
		const struct arch_exit exit = {.addr = i};

		vcpu_exits_post(&b->vcpu[0], &exit);
		vcpu_exits_post(&b->vcpu[1], &exit);
	}
	loop_turn(b->loop, 0);
	assert_int_equal(b->served, 10);
	bench_stop(b);
}

/* ---- order ----------------------------------------------------------------------------- */

/* A clock that the "guests" read before and after each post. If one post was over (end) before
 * another began (begin), it must be served first. */
static _Atomic uint64_t guest_clock;

struct order_post {
	uint64_t begin, end;
};

static struct order_post order_post[ORDER_VCPUS][ORDER_POSTS];
static const struct order_post *order_served[ORDER_VCPUS * ORDER_POSTS];

static void *post_in_order(void *arg)
{
	struct vcpu_exits *e = arg;
	struct order_post *posts = order_post[e - bench.vcpu];
	unsigned seed = (unsigned)(e - bench.vcpu) + 1;

	for (uint64_t i = 0; i < ORDER_POSTS; i++) {
		struct arch_exit exit = {.addr = i, .wants_reply = rand_r(&seed) % 16 == 0};

		posts[i].begin = atomic_fetch_add(&guest_clock, 1);
		vcpu_exits_post(e, &exit);
		posts[i].end = atomic_fetch_add(&guest_clock, 1);
		if (rand_r(&seed) % 64 == 0)
			sched_yield();
	}
	return NULL;
}

static void note_order(struct bench *b, unsigned vcpu, const struct arch_exit *exit)
{
	order_served[b->served - 1] = &order_post[vcpu][exit->addr];
}

static void what_a_guest_can_order_is_served_in_order(void **state)
{
	const unsigned all = ORDER_VCPUS * ORDER_POSTS;
	struct bench *b = bench_start(ORDER_VCPUS, true);
	pthread_t thread[ORDER_VCPUS];
	uint64_t earliest_end = UINT64_MAX;
	unsigned violations = 0;

	(void)state;
	b->on_serve = note_order;
	for (unsigned i = 0; i < ORDER_VCPUS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, post_in_order, &b->vcpu[i]), 0);
	while (b->served < all) {
		loop_turn(b->loop, TURN_NS);
		if (b->hub.takes % 5 == 0)
			sched_yield();
	}
	for (unsigned i = 0; i < ORDER_VCPUS; i++)
		pthread_join(thread[i], NULL);
	/* From the last served to the first: none of those after it may have ended before it began.
	 */
	for (unsigned i = all; i-- > 0;) {
		violations += earliest_end < order_served[i]->begin;
		earliest_end = MIN(earliest_end, order_served[i]->end);
	}
	assert_int_equal(violations, 0);
	print_message("%u exits in %llu takes\n", all, (unsigned long long)b->hub.takes);
	bench_stop(b);
}

/* While a take is under way vCPU 2 posts, then vCPU 0, which the take is still reading. */
static void post_within(struct bench *b, unsigned vcpu, const struct arch_exit *exit)
{
	const struct arch_exit first = {.addr = 0}, second = {.addr = 4};

	order_served[b->served - 1] = &order_post[vcpu][exit->addr];
	if (b->served == 2) {
		vcpu_exits_post(&b->vcpu[2], &first);
		vcpu_exits_post(&b->vcpu[0], &second);
	}
}

static void posts_during_a_take_keep_their_order(void **state)
{
	struct bench *b = bench_start(3, false);

	(void)state;
	b->on_serve = post_within;
	for (uint64_t i = 0; i < 4; i++) {
		const struct arch_exit exit = {.addr = i};

		vcpu_exits_post(&b->vcpu[0], &exit);
	}
	while (b->served < 6)
		loop_turn(b->loop, 0);
	assert_ptr_equal(order_served[4], &order_post[2][0]);
	assert_ptr_equal(order_served[5], &order_post[0][4]);
	bench_stop(b);
}

/* ---- wake-ups -------------------------------------------------------------------------- */

/* Posts with pauses around the length of the control thread's way to sleep and back. */
static void *post_with_pauses(void *arg)
{
	struct vcpu_exits *e = arg;
	unsigned seed = 7;

	for (uint64_t i = 0; i < WAKE_ROUNDS; i++) {
		struct arch_exit exit = {.addr = i, .wants_reply = rand_r(&seed) % 4 == 0};
		unsigned pause = (unsigned)rand_r(&seed) % 2000;

		vcpu_exits_post(e, &exit);
		for (unsigned k = 0; k < pause; k++)
			cpu_relax();
	}
	return NULL;
}

static void no_wake_up_is_lost(void **state)
{
	static const uint64_t spin_ns[] = {0, 3000, VCPU_EXITS_SPIN_NS};
	struct bench *b = bench_start(2, true);
	pthread_t thread[2];
	unsigned turn = 0;

	(void)state;
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, post_with_pauses, &b->vcpu[i]),
				 0);
	while (b->served < 2 * WAKE_ROUNDS) {
		uint64_t begin_ns = now_ns();

		loop_set_spin(b->loop, spin_ns[turn++ / 100 % ARRAY_SIZE(spin_ns)]);
		loop_turn(b->loop, TURN_NS);
		assert_true(now_ns() - begin_ns < TURN_NS);
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	bench_stop(b);
}

/* ---- cost ------------------------------------------------------------------------------ */

static void a_take_touches_the_posters_only(void **state)
{
	struct bench *b = bench_start(VCPUS_MAX, false);

	(void)state;
	/* Everyone has posted once. */
	for (unsigned i = 0; i < VCPUS_MAX; i++) {
		const struct arch_exit exit = {.addr = 0};

		vcpu_exits_post(&b->vcpu[i], &exit);
	}
	loop_turn(b->loop, 0);
	assert_int_equal(b->served, VCPUS_MAX);
	assert_int_equal(b->hub.touched, VCPUS_MAX);
	for (uint64_t i = 1; i <= 1000; i++) {
		const struct arch_exit exit = {.addr = i};

		vcpu_exits_post(&b->vcpu[VCPUS_MAX / 2], &exit);
		loop_turn(b->loop, 0);
	}
	assert_int_equal(b->served, VCPUS_MAX + 1000);
	assert_int_equal(b->hub.touched, VCPUS_MAX + 1000);
	/* A turn with nothing posted looks at nobody. */
	loop_turn(b->loop, 0);
	assert_int_equal(b->hub.touched, VCPUS_MAX + 1000);
	bench_stop(b);
}

static void posts_to_an_awake_thread_ring_no_bell(void **state)
{
	struct bench *b = bench_start(1, false);
	struct pollfd bell = {.fd = b->hub.doorbell.fd, .events = POLLIN};

	(void)state;
	for (uint64_t i = 0; i < 20; i++) {
		const struct arch_exit exit = {.addr = i};

		vcpu_exits_post(&b->vcpu[0], &exit);
	}
	/* Nothing reads the doorbell before the first turn, and nothing was written to it. */
	assert_int_equal(poll(&bell, 1, 0), 0);
	loop_turn(b->loop, 0);
	assert_int_equal(b->served, 20);
	bench_stop(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_ring_waits),
		cmocka_unit_test(replies_arrive),
		cmocka_unit_test(late_replies_find_a_sleeper),
		cmocka_unit_test(a_spin_that_pays_grows),
		cmocka_unit_test(nobody_spins_when_told_not_to),
		cmocka_unit_test(a_release_ends_every_wait),
		cmocka_unit_test(a_release_races_with_posts),
		cmocka_unit_test(a_nested_turn_serves_nothing),
		cmocka_unit_test(what_a_guest_can_order_is_served_in_order),
		cmocka_unit_test(posts_during_a_take_keep_their_order),
		cmocka_unit_test(no_wake_up_is_lost),
		cmocka_unit_test(a_take_touches_the_posters_only),
		cmocka_unit_test(posts_to_an_awake_thread_ring_no_bell),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
