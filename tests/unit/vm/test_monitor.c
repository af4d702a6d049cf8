/* Rounds of looks over the tiny kernel: what is told, written and added up, and how long a turn is
 * held. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "queues_fake.h"
#include "vm/monitor.h"

#define MS UINT64_C(1000000)

/* A machine, as far as a monitor asks. */
static struct kernel_fake fake;
static struct inspect *in;
static struct loop *loop;
static struct monitor *monitor;
static int csv;
static uint64_t ran_ns, freezes_begun;
static bool frozen, knows_ran, moves_meanwhile;
static unsigned asked, stalls;
static struct monitor_stall last_stall;

static bool ran(unsigned cpu, uint64_t *ret_ns, void *arg)
{
	assert_ptr_equal(arg, &fake);
	assert_int_equal(cpu, 0); /* nobody else has work */
	asked++;
	if (moves_meanwhile)
		queues_fake_set(&fake, 0, QUEUE_CLOCK, 7000 + asked, 8);
	*ret_ns = ran_ns;
	return knows_ran;
}

static uint64_t freezes(bool *ret_frozen, void *arg)
{
	assert_ptr_equal(arg, &fake);
	*ret_frozen = frozen;
	return freezes_begun;
}

static void stalled(const struct monitor_stall *stall, void *arg)
{
	assert_ptr_equal(arg, &fake);
	stalls++;
	last_stall = *stall;
}

static unsigned looks, told_of;

static void looked(unsigned cpu, uint64_t at_ns, const struct runqueues_sample *s, void *arg)
{
	assert_ptr_equal(arg, &fake);
	assert_true(at_ns <= now_ns());
	assert_int_equal(s->value[RUNQUEUES_RUNNING], monitor->cpu[cpu].last.value[0]);
	looks++;
	told_of |= 1u << cpu % 32;
}

static void begin(unsigned cpus)
{
	const struct monitor_config config = {.loop = loop,
					      .inspect = in,
					      .cpus = cpus,
					      .interval_ns = 10 * MS,
					      .began_ns = now_ns(),
					      .csv_path = "x.csv",
					      .csv_fd = csv,
					      .ran = ran,
					      .freezes = freezes,
					      .looked = looked,
					      .stalled = stalled,
					      .arg = &fake};
	struct error err = {0};

	if (monitor_new(&config, &monitor, &err) < 0)
		fail_msg("%s", err.what);
	if (monitor_start(monitor, &err) < 0)
		fail_msg("%s", err.what);
}

static int set_up(void **state)
{
	struct error err = {0};

	(void)state;
	if (loop_new(&loop, &err) < 0) {
		print_message("%s\n", err.what);
		return -1;
	}
	in = queues_fake_open(&fake);
	csv = memfd_create("csv", MFD_CLOEXEC);
	ran_ns = freezes_begun = 0;
	frozen = moves_meanwhile = false;
	knows_ran = true;
	asked = stalls = looks = told_of = 0;
	return csv < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	(void)state;
	/* The monitor closes its own. */
	if (!monitor_free(monitor, 1000 * MS))
		return -1;
	monitor = NULL;
	inspect_free(in);
	loop_free(loop);
	return 0;
}

static int64_t number(const json_t *json, const char *key)
{
	return json_integer_value(json_object_get(json, key));
}

/* Until so many rounds are through, 5 s at most. */
static void turn(uint64_t rounds)
{
	uint64_t end_ns = now_ns() + 5000 * MS;

	while (monitor->rounds < rounds && now_ns() < end_ns)
		assert_true(loop_turn(loop, 100 * MS) >= 0);
	assert_true(monitor->rounds >= rounds);
}

/* A round at a time: the vCPU of CPU 0 ran for so long in each. */
static void rounds_that_run(unsigned n, uint64_t each_ns)
{
	while (n--) {
		turn(monitor->rounds + 1);
		ran_ns += each_ns;
	}
}

static void a_stall_is_told_within_its_time(void **state)
{
	json_t *json;

	(void)state;
	begin(2);
	/* 40 ms at 15 in each: the fourth look behind the first sees 45. */
	rounds_that_run(3, 15 * MS);
	assert_int_equal(stalls, 0);
	rounds_that_run(3, 15 * MS);
	assert_int_equal(stalls, 1);
	assert_int_equal(last_stall.cpu, 0);
	assert_true(last_stall.stood_ns >= 20 * MS);
	rounds_that_run(4, 15 * MS);
	assert_int_equal(stalls, 1);
	/* It moves, and stands again. */
	queues_fake_set(&fake, 0, QUEUE_CLOCK, 5000, 8);
	rounds_that_run(6, 15 * MS);
	assert_int_equal(stalls, 2);
	assert_int_equal(last_stall.nth, 2);
	json = monitor_json(monitor, false);
	assert_int_equal(number(json, "stall_count"), 2);
	assert_int_equal(number(json_array_get(json_object_get(json, "stalls"), 1), "clock_ns"),
			 5000);
	json_decref(json);
}

/* We lost our host CPU between the look and the question, and the vCPU had one. */
static void a_clock_that_goes_on_behind_our_back_is_no_stall(void **state)
{
	(void)state;
	begin(2);
	rounds_that_run(2, 1 * MS);
	moves_meanwhile = true;
	rounds_that_run(1, 100 * MS);
	assert_true(asked > 0);
	rounds_that_run(6, 100 * MS);
	assert_int_equal(stalls, 0);
	/* It really stands from here on. */
	moves_meanwhile = false;
	rounds_that_run(3, 100 * MS);
	assert_int_equal(stalls, 1);
}

static void nothing_else_is_a_stall(void **state)
{
	(void)state;
	begin(2);
	rounds_that_run(6, 1 * MS); /* preempted, mostly */
	assert_int_equal(stalls, 0);
	freezes_begun++;
	rounds_that_run(1, 100 * MS);
	freezes_begun++;
	rounds_that_run(1, 100 * MS);
	freezes_begun++;
	rounds_that_run(1, 0);
	assert_int_equal(stalls, 0);
	knows_ran = false;
	rounds_that_run(4, 100 * MS);
	assert_int_equal(stalls, 0);
	knows_ran = true;
	queues_fake_set(&fake, 0, QUEUE_CURR, FAKE_INIT_TASK, 8);
	asked = 0;
	rounds_that_run(4, 100 * MS);
	assert_int_equal(stalls, 0);
	assert_int_equal(asked, 0); /* nor is the host asked */
	assert_true(monitor->cpu[0].idle_with_work > 0);
}

static void a_frozen_guest_is_not_looked_at(void **state)
{
	uint64_t samples, end_ns;

	(void)state;
	begin(2);
	turn(2);
	frozen = true;
	samples = monitor->cpu[0].samples;
	for (end_ns = now_ns() + 50 * MS; now_ns() < end_ns;)
		assert_true(loop_turn(loop, 10 * MS) >= 0);
	assert_int_equal(monitor->cpu[0].samples, samples);
	assert_true(monitor->frozen_rounds > 0);
	frozen = false;
	turn(monitor->rounds + 2);
	assert_true(monitor->cpu[0].samples > samples);
	/* Whoever listens has heard of each look. */
	assert_int_equal(looks, monitor->cpu[0].samples + monitor->cpu[1].samples);
	assert_int_equal(told_of, 3);
}

static char *lines(size_t *ret_n)
{
	static char text[65536];
	ssize_t len = pread(csv, text, sizeof(text) - 1, 0);

	assert_true(len > 0);
	text[len] = '\0';
	*ret_n = 0;
	for (const char *p = text; *p; p++)
		*ret_n += *p == '\n';
	return text;
}

static void lines_are_written(void **state)
{
	unsigned columns = 1;
	size_t n, head;
	char *text, *line;

	(void)state;
	memcpy(kernel_fake_at(&fake, FAKE_WORKER + 16), "a\"b,c", 6);
	begin(2);
	turn(3);
	monitor_stop(monitor);
	monitor_look(monitor);
	monitor_flush(monitor, 1000 * MS);
	assert_int_equal(monitor_lost(monitor), 0);
	text = lines(&n);
	assert_int_equal(n, 1 + monitor->lines);
	assert_int_equal(monitor->lines, monitor->cpu[0].samples + monitor->cpu[1].samples);
	head = strlen(monitor_csv_head);
	assert_memory_equal(text, monitor_csv_head, head);
	for (const char *p = monitor_csv_head; *p; p++)
		columns += *p == ',';
	assert_int_equal(columns, 2 + RUNQUEUES_FIELDS + 4);
	line = strchr(text + head, ',');
	assert_memory_equal(line, ",0,3,1000,500,60,40,123456789,0,0,5,4,1,77,\"a\"\"b,c\",0,0\n",
			    56);
}

/* A line that does not fit is left out whole. */
static void lines_that_do_not_fit_are_counted(void **state)
{
	struct stream_out *out;
	char last = 0;

	(void)state;
	begin(2);
	out = &monitor->csv;
	turn(1);
	monitor_flush(monitor, 1000 * MS);
	assert_int_equal(monitor->lines, 2);
	/* As if the disk took nothing. */
	out->polling = true;
	out->tail = out->head + STREAM_OUT_SIZE - 1;
	monitor_look(monitor);
	assert_int_equal(monitor->lines, 2);
	assert_int_equal(monitor->lines_dropped, 2);
	assert_int_equal(out->dropped, 0);
	assert_true(monitor_lost(monitor) > 0);
	out->tail = out->head;
	out->polling = false;
	assert_int_equal(pread(csv, &last, 1, lseek(csv, 0, SEEK_END) - 1), 1);
	assert_int_equal(last, '\n');
}

static void the_report_adds_up(void **state)
{
	json_t *json, *cpu, *level;

	(void)state;
	begin(2);
	turn(2);
	queues_fake_set(&fake, 0, QUEUE_RUNNING, 5, 4);
	queues_fake_set(&fake, 0, QUEUE_SWITCHES, 1500, 8);
	turn(monitor->rounds + 2);
	json = monitor_json(monitor, true);
	assert_non_null(json);
	assert_int_equal(number(json, "interval_ns"), 10 * MS);
	assert_int_equal(number(json, "samples"),
			 monitor->cpu[0].samples + monitor->cpu[1].samples);
	assert_int_equal(number(json, "torn"), 0);
	assert_int_equal(number(json, "unread"), 0);
	cpu = json_array_get(json_object_get(json, "cpus"), 0);
	assert_int_equal(number(cpu, "running_max"), 5);
	assert_true(json_real_value(json_object_get(cpu, "running_mean")) > 3);
	assert_true(json_real_value(json_object_get(cpu, "running_mean")) < 5);
	assert_true(json_real_value(json_object_get(cpu, "switches_per_s")) > 0);
	assert_int_equal(number(json_object_get(cpu, "last"), "switches"), 1500);
	assert_string_equal(json_string_value(
				    json_object_get(json_object_get(cpu, "last"), "comm")),
			    "worker");
	/* Both CPUs' levels are alike: the first one's are there. */
	assert_int_equal(json_array_size(json_object_get(json, "domains")), 1);
	level = json_array_get(json_object_get(json_array_get(json_object_get(json, "domains"), 0),
					       "levels"),
			       1);
	assert_string_equal(json_string_value(json_object_get(level, "name")), "PKG");
	assert_string_equal(json_string_value(json_object_get(level, "span")), "0-1");
	assert_string_equal(json_string_value(json_array_get(json_object_get(level, "flags"), 1)),
			    "SD_NUMA");
	assert_non_null(json_object_get(json, "sched_ext"));
	json_decref(json);
}

static const json_t *dispatch_queue(const json_t *json, size_t n)
{
	return json_array_get(json_object_get(json_object_get(json, "sched_ext"), "queues"), n);
}

static void dispatch_queues_are_added_up(void **state)
{
	uint64_t rounds;
	json_t *json;

	(void)state;
	begin(2);
	turn(1);
	rounds = monitor->rounds;
	/* 7 grows, 9 goes, and with it what was behind it in the bucket: nothing. */
	kernel_fake_put(&fake, FAKE_DSQ(2) + DSQ_NR, 40, 4);
	kernel_fake_put(&fake, FAKE_DSQ(2) + DSQ_NODE, 1, 8);
	turn(rounds + 1);
	kernel_fake_put(&fake, FAKE_DSQ(2) + DSQ_NR, 1, 4);
	turn(monitor->rounds + 1);
	monitor_stop(monitor);
	json = monitor_json(monitor, true);
	assert_int_equal(json_array_size(
				 json_object_get(json_object_get(json, "sched_ext"), "queues")),
			 5);
	assert_string_equal(json_string_value(json_object_get(dispatch_queue(json, 1), "kind")),
			    "global");
	assert_int_equal(number(dispatch_queue(json, 1), "node"), 2);
	assert_int_equal(number(dispatch_queue(json, 1), "tasks"), FAKE_TASKS(1));
	assert_int_equal(number(dispatch_queue(json, 2), "id"), 7);
	assert_int_equal(number(dispatch_queue(json, 2), "tasks"), 1);
	assert_int_equal(number(dispatch_queue(json, 2), "tasks_max"), 40);
	assert_int_equal(number(dispatch_queue(json, 2), "looks"), monitor->rounds);
	assert_int_equal(number(dispatch_queue(json, 3), "id"), 9);
	assert_int_equal(number(dispatch_queue(json, 3), "tasks"), 0);
	assert_int_equal(number(dispatch_queue(json, 3), "looks"), rounds);
	assert_true(json_real_value(json_object_get(dispatch_queue(json, 3), "tasks_mean")) ==
		    FAKE_TASKS(3));
	assert_true(
		json_is_false(json_object_get(json_object_get(json, "sched_ext"), "queues_cut")));
	json_decref(json);
}

/* Queues that come and go find no room at last, and that is told. */
static void too_many_dispatch_queues_are_told_of(void **state)
{
	struct dispatch_totals t = {0};
	struct dispatch_queue q[DISPATCH_QUEUES_MAX] = {0};
	json_t *json;

	(void)state;
	for (unsigned look = 0; look < 3; look++) {
		for (unsigned i = 0; i < ARRAY_SIZE(q); i++)
			q[i] = (struct dispatch_queue){.id = look * 1000 + i, .tasks = i};
		assert_int_equal(t.cut, false);
		dispatch_totals_add(&t, q, ARRAY_SIZE(q), false);
	}
	assert_true(t.cut);
	json = dispatch_totals_json(&t);
	assert_int_equal(json_array_size(json), DISPATCH_TOTALS_MAX);
	assert_int_equal(number(json_array_get(json, 5), "id"), 5);
	assert_int_equal(number(json_array_get(json, 5), "tasks"), 0);
	assert_int_equal(number(json_array_get(json, 5), "tasks_max"), 5);
	json_decref(json);
}

/* ---- a thousand CPUs --------------------------------------------------------------------- */

static int slow_read(const void *arg, uint64_t gpa, void *dst, uint64_t len)
{
	if (gpa == queues_fake_gpa(1, QUEUE_RUNNING))
		nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
	return fake.mem.read(arg, gpa, dst, len);
}

/* However slow a look is, a turn of the loop has a few of them. */
static void a_round_is_spread_over_turns(void **state)
{
	unsigned turns = 0;

	(void)state;
	queues_fake_many(&fake, in, 1024);
	in->mem.read = slow_read;
	begin(1024);
	assert_int_equal(monitor->cpus, 1024);
	while (monitor->rounds == 0) {
		unsigned before = monitor->next;

		assert_true(loop_turn(loop, 100 * MS) >= 0);
		if (monitor->rounds == 0)
			assert_in_range(monitor->next - before, 0, 8);
		turns++;
	}
	assert_true(turns >= 1024 / 8);
	for (unsigned cpu = 0; cpu < 1024; cpu++)
		assert_int_equal(monitor->cpu[cpu].samples, 1);
}

static void a_thousand_cpus_cost_little(void **state)
{
	(void)state;
	queues_fake_many(&fake, in, 1024);
	begin(1024);
	turn(5);
	print_message("1024 CPUs: %llu us a round, a turn at most %llu us\n",
		      (unsigned long long)(monitor->cost_ns / monitor->rounds / 1000),
		      (unsigned long long)(monitor->slice_max_ns / 1000));
}

#define MONITOR_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		MONITOR_TEST(a_stall_is_told_within_its_time),
		MONITOR_TEST(a_clock_that_goes_on_behind_our_back_is_no_stall),
		MONITOR_TEST(nothing_else_is_a_stall),
		MONITOR_TEST(a_frozen_guest_is_not_looked_at),
		MONITOR_TEST(lines_are_written),
		MONITOR_TEST(lines_that_do_not_fit_are_counted),
		MONITOR_TEST(the_report_adds_up),
		MONITOR_TEST(dispatch_queues_are_added_up),
		cmocka_unit_test(too_many_dispatch_queues_are_told_of),
		MONITOR_TEST(a_round_is_spread_over_turns),
		MONITOR_TEST(a_thousand_cpus_cost_little),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
