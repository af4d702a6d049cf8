/* Sources: posts from a thread that rings only while they are armed, and their place in a turn. */
#include "helper.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#define ROUNDS 100000u
#define ORDERS 20000u

/* A mailbox of a count. The poster adds one and rings only if the owner sleeps. */
struct inbox {
	struct loop_source source;
	struct loop_event bell;
	_Atomic uint32_t posted;
	_Atomic uint32_t served; /* written by the loop's thread */
	_Atomic bool asleep;
	unsigned rings; /* poster's */
	unsigned polls, arms, disarms, misuse;
	bool armed, polling;
	struct loop *turns; /* in poll */
};

static bool poll_inbox(struct loop_source *source)
{
	struct inbox *in = container_of(source, struct inbox, source);
	/* Acquire: pairs with the poster's increment. */
	uint32_t posted = atomic_load_explicit(&in->posted, memory_order_acquire);
	bool found = posted != atomic_load_explicit(&in->served, memory_order_relaxed);

	in->polls++;
	in->misuse += in->armed || in->polling;
	in->polling = true;
	if (in->turns && found)
		in->misuse += loop_turn(in->turns, MS) < 0;
	in->polling = false;
	/* Release: pairs with the poster's wait. */
	atomic_store_explicit(&in->served, posted, memory_order_release);
	return found;
}

static bool arm_inbox(struct loop_source *source)
{
	struct inbox *in = container_of(source, struct inbox, source);

	in->arms++;
	in->misuse += in->armed || in->polling;
	in->armed = true;
	/* Sequentially consistent, as the poster's pair of accesses the other way round: at least
	 * one of the two sees the other. */
	atomic_store(&in->asleep, true);
	return atomic_load(&in->posted) != atomic_load_explicit(&in->served, memory_order_relaxed);
}

static void disarm_inbox(struct loop_source *source)
{
	struct inbox *in = container_of(source, struct inbox, source);

	in->disarms++;
	in->misuse += !in->armed;
	in->armed = false;
	atomic_store(&in->asleep, false);
}

static void post(struct inbox *in)
{
	atomic_fetch_add(&in->posted, 1);
	if (atomic_exchange(&in->asleep, false)) {
		in->rings++;
		loop_event_signal(&in->bell);
	}
}

static void bell_rang(struct loop_event *bell, uint64_t count)
{
	(void)bell;
	(void)count;
}

static void open_inbox(struct loop *loop, struct inbox *in)
{
	struct error err = {0};

	*in = (struct inbox){
		.source = {.poll = poll_inbox, .arm = arm_inbox, .disarm = disarm_inbox},
		.bell.fire = bell_rang,
	};
	assert_int_equal(loop_event_init(loop, &in->bell, &err), 0);
	loop_add_source(loop, &in->source);
}

static void close_inbox(struct loop *loop, struct inbox *in)
{
	loop_remove_source(loop, &in->source);
	loop_event_done(&in->bell);
	assert_int_equal(in->misuse, 0);
	assert_int_equal(in->arms, in->disarms);
}

static void *post_and_wait(void *arg)
{
	struct inbox *in = arg;
	unsigned bits = 1;

	for (uint32_t n = 1; n <= ROUNDS; n++) {
		post(in);
		/* Acquire: pairs with the release in poll_inbox. */
		while (atomic_load_explicit(&in->served, memory_order_acquire) != n)
			sched_yield();
		/* Meets the loop at all points of its way to sleep. */
		bits = bits * 1103515245u + 12345u;
		for (unsigned i = (bits >> 16) % 512; i; i--)
			cpu_relax();
	}
	return NULL;
}

/* Each post is waited for before the next: one lost wake-up stops the show. */
static void no_wake_is_lost(struct loop *loop, uint64_t spin_ns)
{
	static struct inbox in;
	pthread_t poster;
	bool lost = false;

	open_inbox(loop, &in);
	loop_set_spin(loop, spin_ns);
	assert_int_equal(pthread_create(&poster, NULL, post_and_wait, &in), 0);
	while (atomic_load_explicit(&in.served, memory_order_relaxed) < ROUNDS) {
		uint64_t start = now_ns();

		if (loop_turn(loop, 5 * S) == 0 && now_ns() - start >= 5 * S)
			lost = true;
	}
	assert_int_equal(pthread_join(poster, NULL), 0);
	assert_false(lost);
	assert_true(in.rings <= in.arms);
	close_inbox(loop, &in);
}

static void sleeping_loses_no_wake(void **state)
{
	no_wake_is_lost(*state, 0);
}

static void spinning_a_little_loses_no_wake(void **state)
{
	no_wake_is_lost(*state, 2000);
}

static void *post_once(void *arg)
{
	post(arg);
	return NULL;
}

static void posts_while_it_spins_need_no_bell(void **state)
{
	struct loop *loop = *state;
	static struct inbox in;
	pthread_t poster;

	open_inbox(loop, &in);
	loop_set_spin(loop, 20 * S);
	assert_int_equal(pthread_create(&poster, NULL, post_once, &in), 0);
	assert_true(loop_turn(loop, UINT64_MAX) > 0);
	assert_int_equal(pthread_join(poster, NULL), 0);
	assert_int_equal(atomic_load(&in.served), 1);
	assert_int_equal(in.rings, 0);
	assert_int_equal(in.arms, 0);
	close_inbox(loop, &in);
}

static void note_fire(struct loop_timer *timer)
{
	timer->deadline_ns = 0;
}

static void *ring_bell(void *arg)
{
	struct inbox *in = arg;
	struct timespec wait = {.tv_nsec = 5 * (long)MS};

	nanosleep(&wait, NULL);
	loop_event_signal(&in->bell);
	return NULL;
}

static void spinning_sees_the_ring_the_clock_and_its_limit(void **state)
{
	struct loop *loop = *state;
	static struct inbox in;
	struct loop_timer timer = {.fire = note_fire};
	uint64_t start = now_ns();
	pthread_t ringer;

	open_inbox(loop, &in);
	loop_set_spin(loop, 20 * S);
	assert_int_equal(loop_timer_set(loop, &timer, start + 5 * MS), 0);
	assert_int_equal(loop_turn(loop, UINT64_MAX), 1);
	assert_int_equal(timer.deadline_ns, 0);
	assert_int_equal(loop_turn(loop, 5 * MS), 0);
	assert_int_equal(pthread_create(&ringer, NULL, ring_bell, &in), 0);
	assert_int_equal(loop_turn(loop, UINT64_MAX), 1);
	assert_int_equal(pthread_join(ringer, NULL), 0);
	assert_true(now_ns() - start >= 15 * MS);
	assert_true(now_ns() - start < 5 * S);
	assert_int_equal(in.arms, 0);

	/* For ever is no overflow. */
	loop_set_spin(loop, UINT64_MAX);
	assert_int_equal(loop_turn(loop, MS), 0);
	assert_int_equal(in.arms, 0);

	/* Past its limit it sleeps, with the source armed. */
	loop_set_spin(loop, 1000);
	assert_int_equal(loop_turn(loop, 5 * MS), 0);
	assert_int_equal(in.arms, 1);
	close_inbox(loop, &in);
}

/* Counts how often it is asked; finds something once, when it was asked find_at times. */
struct counter {
	struct loop_source source;
	unsigned polls, find_at;
};

static bool poll_counter(struct loop_source *source)
{
	struct counter *c = container_of(source, struct counter, source);

	return ++c->polls == c->find_at;
}

static bool arm_counter(struct loop_source *source UNUSED)
{
	return false;
}

static void disarm_counter(struct loop_source *source UNUSED)
{
}

/* Whether a turn that finds nothing, or something at its n-th look, spins: it looks eight times at
 * least before it asks for the time. */
static bool turn_spins(struct loop *loop, struct counter *c, unsigned n)
{
	c->polls = 0;
	c->find_at = n;
	assert_int_equal(loop_turn(loop, 2 * MS), n ? 1 : 0);
	return c->polls >= 8;
}

static void spins_in_vain_become_rare(void **state)
{
	struct loop *loop = *state;
	static struct counter c = {
		.source = {.poll = poll_counter, .arm = arm_counter, .disarm = disarm_counter}};

	loop_add_source(loop, &c.source);
	loop_set_spin(loop, MS / 10);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 3; i++)
			assert_true(turn_spins(loop, &c, 0));
		for (unsigned i = 0; i < 15; i++)
			assert_false(turn_spins(loop, &c, 0));
		/* One try; nothing, and it goes on as before. */
		assert_true(turn_spins(loop, &c, 0));
		for (unsigned i = 0; i < 15; i++)
			assert_false(turn_spins(loop, &c, 0));
		/* The next finds something: it spins again. */
		assert_true(turn_spins(loop, &c, 8));
	}
	loop_remove_source(loop, &c.source);
}

/* Work that comes just when arm() looks. */
static bool arm_late(struct loop_source *source)
{
	struct inbox *in = container_of(source, struct inbox, source);

	if (in->arms == 0)
		atomic_fetch_add(&in->posted, 1);
	return arm_inbox(source);
}

static void work_that_comes_with_arming_prevents_sleep(void **state)
{
	struct loop *loop = *state;
	static struct inbox before, late, after;
	uint64_t start = now_ns();

	open_inbox(loop, &after);
	open_inbox(loop, &late);
	open_inbox(loop, &before);
	late.source.arm = arm_late;
	assert_int_equal(loop_turn(loop, 5 * S), 1);
	assert_true(now_ns() - start < 4 * S);
	assert_int_equal(atomic_load(&late.served), 1);
	/* In the order of looking: those behind were not armed at all. */
	assert_int_equal(before.arms, 1);
	assert_int_equal(after.arms, 0);
	close_inbox(loop, &before);
	close_inbox(loop, &late);
	close_inbox(loop, &after);
}

static void a_turn_inside_poll_leaves_sources_alone(void **state)
{
	struct loop *loop = *state;
	static struct inbox in;

	open_inbox(loop, &in);
	in.turns = loop;
	post(&in);
	assert_true(loop_turn(loop, S) > 0);
	assert_int_equal(atomic_load(&in.served), 1);
	close_inbox(loop, &in);
}

/* Posts, then signals something else, as a guest that writes a register before it kicks a queue. */
struct ordered {
	struct inbox *in;
	struct loop_event kick;
	uint64_t kicks;
	unsigned early;
};

static void kicked(struct loop_event *kick, uint64_t count)
{
	struct ordered *o = container_of(kick, struct ordered, kick);

	o->kicks += count;
	if (atomic_load_explicit(&o->in->served, memory_order_relaxed) < o->kicks)
		o->early++;
}

static void *post_and_kick(void *arg)
{
	struct ordered *o = arg;

	for (unsigned i = 0; i < ORDERS; i++) {
		post(o->in);
		loop_event_signal(&o->kick);
		if (i % 16 == 0)
			sched_yield();
	}
	return NULL;
}

static void what_was_posted_before_an_event_is_served_first(void **state)
{
	struct loop *loop = *state;
	static struct inbox in;
	struct ordered o = {.in = &in, .kick.fire = kicked};
	struct error err = {0};
	uint64_t end_ns = now_ns() + 20 * S;
	pthread_t poster;

	open_inbox(loop, &in);
	assert_int_equal(loop_event_init(loop, &o.kick, &err), 0);
	assert_int_equal(pthread_create(&poster, NULL, post_and_kick, &o), 0);
	while (o.kicks < ORDERS && now_ns() < end_ns)
		assert_true(loop_turn(loop, S) >= 0);
	assert_int_equal(pthread_join(poster, NULL), 0);
	assert_int_equal(o.kicks, ORDERS);
	assert_int_equal(o.early, 0);
	loop_event_done(&o.kick);
	close_inbox(loop, &in);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		LOOP_TEST(sleeping_loses_no_wake),
		LOOP_TEST(spinning_a_little_loses_no_wake),
		LOOP_TEST(posts_while_it_spins_need_no_bell),
		LOOP_TEST(spinning_sees_the_ring_the_clock_and_its_limit),
		LOOP_TEST(spins_in_vain_become_rare),
		LOOP_TEST(work_that_comes_with_arming_prevents_sleep),
		LOOP_TEST(a_turn_inside_poll_leaves_sources_alone),
		LOOP_TEST(what_was_posted_before_an_event_is_served_first),
	};

	return cmocka_run_group_tests_name("sources", tests, NULL, NULL);
}
