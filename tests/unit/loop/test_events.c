/* Events signalled by many threads, host signals, and their end at awkward moments. */
#include "helper.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define THREADS		   4
#define SIGNALS_PER_THREAD 20000

struct test_event {
	struct loop_event event;
	uint64_t sum;
	unsigned fires;
	bool closes;		       /* itself, when it fires */
	struct test_event *closes_too; /* and this one */
	struct loop *turns;	       /* when it fires */
};

static void fire(struct loop_event *event, uint64_t count)
{
	struct test_event *e = container_of(event, struct test_event, event);

	e->fires++;
	e->sum += count;
	if (e->turns)
		assert_int_equal(loop_turn(e->turns, 5 * MS), 0);
	if (e->closes)
		loop_event_done(event);
	if (e->closes_too)
		loop_event_done(&e->closes_too->event);
}

static void open_event(struct loop *loop, struct test_event *e)
{
	struct error err = {0};

	*e = (struct test_event){.event.fire = fire};
	assert_int_equal(loop_event_init(loop, &e->event, &err), 0);
	assert_true(e->event.fd >= 0);
	assert_int_equal(fcntl(e->event.fd, F_GETFD), FD_CLOEXEC);
}

static void counts_add_up(void **state)
{
	struct loop *loop = *state;
	struct test_event e;
	uint64_t seven = 7;

	open_event(loop, &e);
	assert_int_equal(loop_turn(loop, 5 * MS), 0);
	for (unsigned i = 0; i < 5; i++)
		loop_event_signal(&e.event);
	turn_until(loop, &e.fires, 1);
	assert_int_equal(e.sum, 5);
	assert_int_equal(loop_turn(loop, 5 * MS), 0);
	/* As an ioeventfd would; again, so that it was armed again. */
	assert_int_equal(write(e.event.fd, &seven, sizeof(seven)), sizeof(seven));
	turn_until(loop, &e.fires, 2);
	assert_int_equal(e.sum, 12);
	loop_event_done(&e.event);
	loop_event_done(&e.event);
	assert_int_equal(e.event.fd, -1);
}

static void *signal_often(void *arg)
{
	for (unsigned i = 0; i < SIGNALS_PER_THREAD; i++)
		loop_event_signal(arg);
	return NULL;
}

static void threads_signal_and_none_is_lost(void **state)
{
	struct loop *loop = *state;
	pthread_t thread[THREADS];
	uint64_t end_ns = now_ns() + 20 * S;
	struct test_event e;

	open_event(loop, &e);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, signal_often, &e.event), 0);
	while (e.sum < THREADS * SIGNALS_PER_THREAD && now_ns() < end_ns)
		assert_true(loop_turn(loop, S) >= 0);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	assert_int_equal(e.sum, THREADS * SIGNALS_PER_THREAD);
	assert_int_equal(loop_turn(loop, 5 * MS), 0);
	loop_event_done(&e.event);
}

static void a_done_event_is_silent_and_its_memory_free(void **state)
{
	struct loop *loop = *state;
	struct test_event *e = calloc(1, sizeof(*e));
	int fd, writer;

	assert_non_null(e);
	open_event(loop, e);
	fd = e->event.fd;
	/* Signalled, and closed before it could fire: in the ring, or still on the way there. */
	for (unsigned i = 0; i < 2; i++) {
		if (i) {
			open_event(loop, e);
			assert_int_equal(loop_turn(loop, 0), 0);
			fd = e->event.fd;
		}
		writer = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		assert_true(writer >= 0);
		loop_event_signal(&e->event);
		loop_event_done(&e->event);
		assert_int_equal(e->fires, 0);
		/* Nothing of it is used any more. */
		memset(e, 0x5a, sizeof(*e));
		for (unsigned k = 0; k < 10; k++)
			assert_true(loop_turn(loop, MS) >= 0);
		assert_int_equal(fcntl(fd, F_GETFD), -1);
		fd_close(&writer);
	}
	free(e);
}

static void fire_closes_itself_and_others(void **state)
{
	struct loop *loop = *state;
	struct test_event *a = calloc(1, sizeof(*a)), *b = calloc(1, sizeof(*b));
	int a_fd, b_fd;

	assert_true(a && b);
	open_event(loop, a);
	open_event(loop, b);
	a_fd = a->event.fd;
	b_fd = b->event.fd;
	a->closes = true;
	a->closes_too = b;
	/* Both are complete when the first fires; the other must not. */
	loop_event_signal(&a->event);
	turn_until(loop, &a->fires, 1);
	assert_int_equal(b->fires, 0);
	free(a);
	free(b);
	for (unsigned k = 0; k < 10; k++)
		assert_true(loop_turn(loop, MS) >= 0);
	assert_int_equal(fcntl(a_fd, F_GETFD), -1);
	assert_int_equal(fcntl(b_fd, F_GETFD), -1);
}

static void of_two_that_are_ready_one_closes_the_other(void **state)
{
	struct loop *loop = *state;
	struct test_event a, b;

	open_event(loop, &a);
	open_event(loop, &b);
	assert_int_equal(loop_turn(loop, 0), 0);
	a.closes_too = &b;
	b.closes_too = &a;
	loop_event_signal(&a.event);
	loop_event_signal(&b.event);
	for (unsigned k = 0; k < 10; k++)
		assert_true(loop_turn(loop, MS) >= 0);
	assert_int_equal(a.fires + b.fires, 1);
	loop_event_done(&a.event);
	loop_event_done(&b.event);
}

static void fire_does_not_nest(void **state)
{
	struct loop *loop = *state;
	struct test_event e;

	open_event(loop, &e);
	e.turns = loop;
	loop_event_signal(&e.event);
	turn_until(loop, &e.fires, 1);
	loop_event_signal(&e.event);
	turn_until(loop, &e.fires, 2);
	loop_event_done(&e.event);
}

static void freeing_the_loop_closes_events(void **state)
{
	struct test_event armed, queued;
	struct error err = {0};
	struct loop *loop;
	int fd;

	(void)state;
	assert_int_equal(loop_new(&loop, &err), 0);
	open_event(loop, &armed);
	assert_int_equal(loop_turn(loop, 0), 0);
	open_event(loop, &queued);
	fd = armed.event.fd;
	loop_event_signal(&armed.event);
	loop_free(loop);
	assert_int_equal(armed.fires + queued.fires, 0);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	/* A late destructor finds nothing to do. */
	loop_event_done(&armed.event);
	loop_event_done(&queued.event);
}

static void what_never_came_up_may_be_done(void **state)
{
	struct loop_event event = {0};
	struct loop_signals signals = {0};

	(void)state;
	loop_event_done(&event);
	loop_signals_done(&signals);
}

static void descriptors_run_out(void **state)
{
	struct loop *loop = *state;
	struct loop_event event = {.fire = fire};
	struct loop_signals signals = {0};
	struct error err = {0}, err2 = {0};
	struct rlimit all, none;
	int r, r2, signo = SIGUSR1;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &all), 0);
	none = (struct rlimit){0, all.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	r = loop_event_init(loop, &event, &err);
	r2 = loop_signals_init(loop, &signals, &signo, 1, &err2);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &all), 0);
	assert_int_equal(r, -EMFILE);
	assert_int_equal(r2, -EMFILE);
	assert_int_equal(error_exit_status(&err), 77);
	loop_event_done(&event);
	loop_signals_done(&signals);
}

struct test_signals {
	struct loop_signals signals;
	unsigned count;
	int seen[256];
	bool closes;
};

static void on_signal(struct loop_signals *signals, int signo)
{
	struct test_signals *s = container_of(signals, struct test_signals, signals);

	if (s->count < ARRAY_SIZE(s->seen))
		s->seen[s->count] = signo;
	s->count++;
	if (s->closes)
		loop_signals_done(signals);
}

static void signals_come_one_by_one(void **state)
{
	struct loop *loop = *state;
	struct test_signals s = {.signals.fire = on_signal};
	const int signos[] = {SIGUSR1, SIGUSR2, SIGRTMIN};
	struct error err = {0};

	assert_int_equal(loop_signals_init(loop, &s.signals, signos, 3, &err), 0);
	assert_int_equal(loop_turn(loop, 5 * MS), 0);
	assert_int_equal(kill(getpid(), SIGUSR2), 0);
	turn_until(loop, &s.count, 1);
	assert_int_equal(s.seen[0], SIGUSR2);

	/* Also what is meant for this thread alone. */
	assert_int_equal(raise(SIGUSR1), 0);
	turn_until(loop, &s.count, 2);
	assert_int_equal(s.seen[1], SIGUSR1);

	/* Several at once, more than one turn takes. */
	for (unsigned i = 0; i < 150; i++)
		assert_int_equal(sigqueue(getpid(), SIGRTMIN, (union sigval){0}), 0);
	assert_int_equal(kill(getpid(), SIGUSR1), 0);
	turn_until(loop, &s.count, 153);
	assert_int_equal(loop_turn(loop, 5 * MS), 0);
	loop_signals_done(&s.signals);
	assert_int_equal(s.signals.fd, -1);
}

static void signals_close_inside_fire(void **state)
{
	struct loop *loop = *state;
	struct test_signals s = {.signals.fire = on_signal, .closes = true};
	const int signos[] = {SIGUSR1, SIGUSR2};
	const struct timespec none = {0};
	struct error err = {0};
	sigset_t set;

	assert_int_equal(loop_signals_init(loop, &s.signals, signos, 2, &err), 0);
	assert_int_equal(kill(getpid(), SIGUSR1), 0);
	assert_int_equal(kill(getpid(), SIGUSR2), 0);
	turn_until(loop, &s.count, 1);
	for (unsigned k = 0; k < 5; k++)
		assert_true(loop_turn(loop, MS) >= 0);
	assert_int_equal(s.count, 1);
	/* The other is still pending. */
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	assert_int_equal(sigtimedwait(&set, NULL, &none), SIGUSR2);
}

static void a_wrong_signal_is_refused(void **state)
{
	struct test_signals s = {.signals.fire = on_signal};
	struct error err = {0};
	int signo = 4000;

	assert_int_equal(loop_signals_init(*state, &s.signals, &signo, 1, &err), -EINVAL);
	assert_true(err.code);
	loop_signals_done(&s.signals);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		LOOP_TEST(counts_add_up),
		LOOP_TEST(threads_signal_and_none_is_lost),
		LOOP_TEST(a_done_event_is_silent_and_its_memory_free),
		LOOP_TEST(fire_closes_itself_and_others),
		LOOP_TEST(of_two_that_are_ready_one_closes_the_other),
		LOOP_TEST(fire_does_not_nest),
		cmocka_unit_test(freeing_the_loop_closes_events),
		cmocka_unit_test(what_never_came_up_may_be_done),
		LOOP_TEST(descriptors_run_out),
		LOOP_TEST(signals_come_one_by_one),
		LOOP_TEST(signals_close_inside_fire),
		LOOP_TEST(a_wrong_signal_is_refused),
	};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGRTMIN);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	return cmocka_run_group_tests_name("events", tests, NULL, NULL);
}
