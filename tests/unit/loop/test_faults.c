/* A kernel that refuses: set-up modes, shortages of submission by count, a ring that breaks. */
#include "helper.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loop/ring.h"

/* The linker sends the loop's calls of X to __wrap_X, and __real_X is the library's. */
int __real_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
				      struct io_uring_params *p);
int __real_io_uring_submit_and_get_events(struct io_uring *ring);
int __real_io_uring_submit_and_wait_timeout(struct io_uring *ring, struct io_uring_cqe **cqe,
					    unsigned wait_nr, struct __kernel_timespec *ts,
					    sigset_t *sigmask);
int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
				      struct io_uring_params *p);
int __wrap_io_uring_submit_and_get_events(struct io_uring *ring);
int __wrap_io_uring_submit_and_wait_timeout(struct io_uring *ring, struct io_uring_cqe **cqe,
					    unsigned wait_nr, struct __kernel_timespec *ts,
					    sigset_t *sigmask);

static struct {
	unsigned setups, setup_failures;
	int setup_result;
	unsigned features_hidden;
	unsigned enter_failures; /* of the next calls */
	int enter_result;
	unsigned entered;
} fault;

int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
				      struct io_uring_params *p)
{
	int r;

	fault.setups++;
	if (fault.setup_failures) {
		fault.setup_failures--;
		return fault.setup_result;
	}
	r = __real_io_uring_queue_init_params(entries, ring, p);
	p->features &= ~fault.features_hidden;
	return r;
}

static bool enter_fails(void)
{
	fault.entered++;
	if (!fault.enter_failures)
		return false;
	fault.enter_failures--;
	return true;
}

int __wrap_io_uring_submit_and_get_events(struct io_uring *ring)
{
	return enter_fails() ? fault.enter_result : __real_io_uring_submit_and_get_events(ring);
}

int __wrap_io_uring_submit_and_wait_timeout(struct io_uring *ring, struct io_uring_cqe **cqe,
					    unsigned wait_nr, struct __kernel_timespec *ts,
					    sigset_t *sigmask)
{
	if (enter_fails())
		return fault.enter_result;
	return __real_io_uring_submit_and_wait_timeout(ring, cqe, wait_nr, ts, sigmask);
}

static void fail_enters(unsigned n, int result)
{
	fault.enter_failures = n;
	fault.enter_result = result;
}

static int setup(void **state)
{
	memset(&fault, 0, sizeof(fault));
	return setup_loop(state);
}

static int teardown(void **state)
{
	memset(&fault, 0, sizeof(fault));
	return free_loop(state);
}

struct counted {
	struct loop_event event;
	unsigned sum;
};

static void add_up(struct loop_event *event, uint64_t count)
{
	container_of(event, struct counted, event)->sum += (unsigned)count;
}

struct counted_timer {
	struct loop_timer timer;
	unsigned fires;
};

static void count_fire(struct loop_timer *timer)
{
	container_of(timer, struct counted_timer, timer)->fires++;
}

static void everything_works(struct loop *loop)
{
	struct counted_timer t = {.timer.fire = count_fire};
	struct counted e = {.event.fire = add_up};
	struct noted read_end = NOTED, poll_end = NOTED;
	struct error err = {0};
	int ends[2];
	char c;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(loop_event_init(loop, &e.event, &err), 0);
	assert_int_equal(loop_timer_set(loop, &t.timer, now_ns() + 5 * MS), 0);
	assert_int_equal(loop_read(loop, &read_end.op, ends[0], &c, 1, (uint64_t)-1), 0);
	assert_int_equal(loop_poll_fd(loop, &poll_end.op, ends[1], POLLERR), 0);
	assert_int_equal(loop_turn(loop, 0), 0);
	turn_until(loop, &t.fires, 1);
	loop_event_signal(&e.event);
	turn_until(loop, &e.sum, 1);
	assert_int_equal(write(ends[1], "x", 1), 1);
	turn_until(loop, &read_end.ends, 1);
	assert_int_equal(read_end.res, 1);
	loop_cancel(loop, &poll_end.op);
	turn_until(loop, &poll_end.ends, 1);
	assert_int_equal(poll_end.res, -ECANCELED);
	loop_event_done(&e.event);
	fd_close(&ends[0]);
	fd_close(&ends[1]);
}

static void older_kernels_get_fewer_flags(void **state)
{
	(void)state;
	for (unsigned refused = 0; refused < 3; refused++) {
		struct error err = {0};
		struct loop *loop;

		memset(&fault, 0, sizeof(fault));
		fault.setup_failures = refused;
		fault.setup_result = -EINVAL;
		assert_int_equal(loop_new(&loop, &err), 0);
		assert_int_equal(fault.setups, refused + 1);
		everything_works(loop);
		loop_free(loop);
	}
}

static void the_oldest_are_refused(void **state)
{
	struct loop *loop = NULL;
	struct error err = {0};
	int before = dup(STDIN_FILENO), after;

	(void)state;
	close(before);
	memset(&fault, 0, sizeof(fault));
	fault.features_hidden = IORING_FEAT_EXT_ARG;
	assert_true(loop_new(&loop, &err) < 0);
	assert_null(loop);
	assert_int_equal(error_exit_status(&err), 77);
	assert_non_null(strstr(err.what, "too old"));
	/* The ring's descriptor is not left open. */
	after = dup(STDIN_FILENO);
	close(after);
	assert_int_equal(after, before);
}

static void refusals_are_explained(void **state)
{
	static const struct {
		int code;
		const char *disabled;
		const char *what, *hint;
		int status;
	} rows[] = {
		{-EPERM, "2\n", "io_uring is disabled on this host",
		 "sysctl kernel.io_uring_disabled=0", 77},
		{-EPERM, "1\n", "disabled for this user", "sysctl kernel.io_uring_disabled=0", 77},
		{-EPERM, "0\n", "seccomp", "io_uring_setup", 77},
		{-EPERM, "", "seccomp", "io_uring_setup", 77},
		{-ENOSYS, "", "no io_uring", "CONFIG_IO_URING", 77},
		{-EMFILE, "0\n", "Too many open files", "", 77},
		{-ENOMEM, "0\n", "Cannot allocate memory", "", 77},
		{-EFAULT, "0\n", "Bad address", "", 125},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct error err = {0};

		assert_true(loop_explain_setup(rows[i].code, rows[i].disabled, &err) < 0);
		if (!strstr(err.what, rows[i].what) || !strstr(err.hint, rows[i].hint))
			fail_msg("row %zu: \"%s\", \"%s\"", i, err.what, err.hint);
		assert_int_equal(error_exit_status(&err), rows[i].status);
	}
}

static void a_refused_setup_leaves_nothing(void **state)
{
	static const int codes[] = {-EPERM, -ENOSYS, -ENOMEM, -EMFILE, -EINVAL};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		struct error err = {0};
		struct loop *loop = (struct loop *)&err;

		memset(&fault, 0, sizeof(fault));
		fault.setup_failures = 10;
		fault.setup_result = codes[i];
		assert_true(loop_new(&loop, &err) < 0);
		assert_ptr_equal(loop, &err);
		assert_true(err.code < 0 && err.what[0]);
	}
}

/* Each kind of shortage, lasting for 1, 2, … calls, at every call of a session. */
static void shortages_pass(void **state)
{
	static const int codes[] = {-EAGAIN, -EBUSY, -ENOMEM, -EINTR};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		for (unsigned n = 1; n <= 8; n++) {
			struct error err = {0};
			struct loop *loop;

			memset(&fault, 0, sizeof(fault));
			assert_int_equal(loop_new(&loop, &err), 0);
			fail_enters(n, codes[i]);
			everything_works(loop);
			assert_int_equal(fault.enter_failures, 0);
			fail_enters(n, codes[i]);
			loop_free(loop);
		}
	}
}

static void a_full_queue_refuses_and_recovers(void **state)
{
	struct noted *n = calloc(2 * LOOP_SQ_ENTRIES, sizeof(*n));
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	struct loop *loop = *state;
	unsigned taken = 0;

	assert_true(n && null >= 0);
	fail_enters(UINT32_MAX, -EAGAIN);
	for (unsigned i = 0; i < 2 * LOOP_SQ_ENTRIES; i++) {
		int r;

		n[i].op.done = note_end;
		r = loop_write(loop, &n[i].op, null, "x", 1, 0);
		assert_int_equal(n[i].op.active, r == 0);
		assert_true(r == 0 || r == -ENOMEM);
		taken += r == 0;
	}
	assert_int_equal(taken, LOOP_SQ_ENTRIES);
	assert_int_equal(loop_turn(loop, 0), 0);
	/* A turn that may wait does so, briefly, instead of going round at full speed. */
	fault.entered = 0;
	for (uint64_t end_ns = now_ns() + 20 * MS; now_ns() < end_ns;)
		assert_int_equal(loop_turn(loop, UINT64_MAX), 0);
	assert_in_range(fault.entered, 1, 40);
	fail_enters(0, 0);
	for (unsigned i = 0; i < taken; i++)
		turn_until(loop, &n[i].ends, 1);
	for (unsigned i = taken; i < 2 * LOOP_SQ_ENTRIES; i++)
		assert_int_equal(n[i].ends, 0);
	assert_int_equal(loop_write(loop, &n[taken].op, null, "x", 1, 0), 0);
	turn_until(loop, &n[taken].ends, 1);
	fd_close(&null);
	free(n);
}

/* Cancellations and events that find the queue full are made up for. */
static void what_is_owed_is_made_up_for(void **state)
{
	struct noted waiting = NOTED, late = NOTED, *fill = calloc(LOOP_SQ_ENTRIES, sizeof(*fill));
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	struct counted e = {.event.fire = add_up}, closed = e;
	struct loop *loop = *state;
	struct error err = {0};
	int ends[2];
	char c[2];

	assert_true(fill && null >= 0);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(loop_read(loop, &waiting.op, ends[0], &c[0], 1, (uint64_t)-1), 0);
	assert_int_equal(loop_read(loop, &late.op, ends[0], &c[1], 1, (uint64_t)-1), 0);
	assert_int_equal(loop_turn(loop, 0), 0);
	fail_enters(UINT32_MAX, -EAGAIN);
	for (unsigned i = 0; i < LOOP_SQ_ENTRIES; i++) {
		fill[i].op.done = note_end;
		assert_int_equal(loop_write(loop, &fill[i].op, null, "x", 1, 0), 0);
	}
	loop_cancel(loop, &waiting.op);
	loop_cancel(loop, &waiting.op);
	loop_cancel(loop, &late.op);
	assert_int_equal(loop_event_init(loop, &e.event, &err), 0);
	assert_int_equal(loop_event_init(loop, &closed.event, &err), 0);
	loop_event_signal(&e.event);
	loop_event_signal(&closed.event);
	assert_int_equal(loop_turn(loop, MS), 0);
	loop_event_done(&closed.event);
	fail_enters(0, 0);
	turn_until(loop, &e.sum, 1);
	turn_until(loop, &waiting.ends, 1);
	turn_until(loop, &late.ends, 1);
	assert_int_equal(waiting.res, -ECANCELED);
	assert_int_equal(late.res, -ECANCELED);
	assert_int_equal(closed.sum, 0);
	assert_int_equal(loop->cancels_owed, 0);
	assert_int_equal(loop->watches_owed, 0);
	for (unsigned i = 0; i < LOOP_SQ_ENTRIES; i++)
		turn_until(loop, &fill[i].ends, 1);
	loop_event_done(&e.event);
	fd_close(&ends[0]);
	fd_close(&ends[1]);
	fd_close(&null);
	free(fill);
}

static void a_broken_ring_ends_the_run(void **state)
{
	struct loop *loop = *state;

	fail_enters(1, -EBADF);
	assert_int_equal(loop_run(loop), -EBADF);
}

static void freeing_gives_up_in_time(void **state)
{
	static struct noted stuck = NOTED;
	struct error err = {0};
	struct loop *loop;
	uint64_t start;
	int ends[2];
	static char c;

	(void)state;
	memset(&fault, 0, sizeof(fault));
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(loop_new(&loop, &err), 0);
	assert_int_equal(loop_read(loop, &stuck.op, ends[0], &c, 1, (uint64_t)-1), 0);
	assert_int_equal(loop_turn(loop, 0), 0);
	fail_enters(UINT32_MAX, -EAGAIN);
	start = now_ns();
	loop_free(loop);
	assert_true(now_ns() - start >= LOOP_FREE_LIMIT_NS);
	assert_true(now_ns() - start < 2ull * LOOP_FREE_LIMIT_NS);
	assert_int_equal(stuck.ends, 0);
	fail_enters(0, 0);
	fd_close(&ends[0]);
	fd_close(&ends[1]);
}

/* As the kernel leaves it where a completion's listing and its mark lie on both sides of an entry.
 */
static void a_mark_left_behind_makes_nobody_spin(void **state)
{
	const uint64_t wait_ns = 20 * MS;
	struct loop *loop = *state;
	struct noted n = NOTED;
	int ends[2];
	char c = 0;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(loop_read(loop, &n.op, ends[0], &c, 1, (uint64_t)-1), 0);
	assert_int_equal(loop_turn(loop, 0), 0);
	for (uint64_t spin_ns = 0; spin_ns <= 10 * S; spin_ns += 10 * S) {
		unsigned turns = 0;
		uint64_t begin_ns = now_ns();

		loop_set_spin(loop, spin_ns);
		__atomic_or_fetch(loop->ring.sq.kflags, IORING_SQ_TASKRUN, __ATOMIC_RELAXED);
		for (; now_ns() - begin_ns < 5 * wait_ns; turns++)
			assert_int_equal(loop_turn(loop, wait_ns), 0);
		assert_in_range(turns, 1, 6);
	}
	/* What comes ends the wait, and takes the mark away. */
	assert_int_equal(write(ends[1], "x", 1), 1);
	turn_until(loop, &n.ends, 1);
	assert_int_equal(n.res, 1);
	assert_int_equal(loop_turn(loop, 0), 0);
	assert_false(*loop->ring.sq.kflags & IORING_SQ_TASKRUN);
	fd_close(&ends[0]);
	fd_close(&ends[1]);
}

#define FAULT_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(older_kernels_get_fewer_flags),
		cmocka_unit_test(the_oldest_are_refused),
		cmocka_unit_test(refusals_are_explained),
		cmocka_unit_test(a_refused_setup_leaves_nothing),
		cmocka_unit_test(shortages_pass),
		FAULT_TEST(a_full_queue_refuses_and_recovers),
		FAULT_TEST(what_is_owed_is_made_up_for),
		FAULT_TEST(a_broken_ring_ends_the_run),
		FAULT_TEST(a_mark_left_behind_makes_nobody_spin),
		cmocka_unit_test(freeing_gives_up_in_time),
	};

	return cmocka_run_group_tests_name("faults", tests, NULL, NULL);
}
