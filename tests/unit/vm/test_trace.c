/* Traces: slices out of samples, freezes cut out of them, bounds; and the file, by check_trace.py.
 * usage: test_vm_trace CHECKER */
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"
#include "base/util.h"
#include "vm/trace.h"

#define HZ    1000u
#define MS    UINT64_C(1000000)
#define BEGAN (777 * MS)

static const char *checker;
static char path[] = "/tmp/stasis-trace-XXXXXX";

static struct trace *new_trace(unsigned vcpus)
{
	struct trace *t;

	assert_int_equal(trace_new(vcpus, HZ, BEGAN, &t), 0);
	return t;
}

static void see(struct trace *t, unsigned vcpu, uint64_t at_ms, int32_t pid, const char *comm)
{
	struct sample s = {.kind = pid ? SAMPLE_KERNEL : SAMPLE_IDLE,
			   .weight = 1,
			   .at_ns = BEGAN + at_ms * MS,
			   .has_task = comm != NULL,
			   .pid = pid};

	if (comm)
		snprintf(s.comm, sizeof(s.comm), "%s", comm);
	trace_sample(t, vcpu, &s);
}

static void look_at(struct trace *t, unsigned cpu, uint64_t at_ms, uint64_t running, bool idle)
{
	struct runqueues_sample s = {.have = 1, .idle = idle};

	s.value[RUNQUEUES_RUNNING] = running;
	trace_look(t, cpu, BEGAN + at_ms * MS, &s);
}

static void slice_is(const struct trace *t, uint32_t i, uint64_t from_ms, uint64_t to_ms, int pid)
{
	assert_true(i < t->slices);
	assert_int_equal(t->slice[i].from_ns, BEGAN + from_ms * MS);
	assert_int_equal(t->slice[i].to_ns, BEGAN + to_ms * MS);
	assert_int_equal(t->slice[i].pid, pid);
}

/* ---- the file -------------------------------------------------------------------------------- */

static void write_to_path(const struct trace *t, const struct windows *w)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(trace_write(t, "vm \"1\"", w, BEGAN + 5 * MS, 120 * MS, f), 0);
	assert_int_equal(fclose(f), 0);
}

/* 0: it is a trace. */
static int check(void)
{
	char *const argv[] = {(char *)"python3", (char *)checker, path, NULL};
	pid_t pid;
	int status;

	assert_int_equal(posix_spawnp(&pid, "python3", NULL, NULL, argv, environ), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static json_t *file_of(const struct trace *t, const struct windows *w)
{
	json_t *json;

	write_to_path(t, w);
	assert_int_equal(check(), 0);
	json = json_load_file(path, 0, NULL);
	assert_non_null(json);
	return json;
}

/* The nth event of a phase and a name; NULL: there are not so many. */
static const json_t *event(const json_t *file, const char *ph, const char *name, unsigned nth)
{
	const json_t *e;
	size_t i;

	json_array_foreach(json_object_get(file, "traceEvents"), i, e)
	{
		if (!strcmp(json_string_value(json_object_get(e, "ph")), ph) &&
		    !strcmp(json_string_value(json_object_get(e, "name")), name) && nth-- == 0)
			return e;
	}
	return NULL;
}

static void is_at(const json_t *event, double ts, double dur, int tid)
{
	assert_non_null(event);
	assert_float_equal(json_number_value(json_object_get(event, "ts")), ts, 1e-3);
	assert_float_equal(json_number_value(json_object_get(event, "dur")), dur, 1e-3);
	assert_int_equal(json_integer_value(json_object_get(event, "tid")), tid);
}

/* ---- tests -------------------------------------------------------------------------------------
 */

static void samples_of_one_task_are_a_slice(void **state UNUSED)
{
	struct trace *t = new_trace(2);

	see(t, 0, 10, 7, "a");
	see(t, 0, 12, 7, "a");
	see(t, 1, 12, 7, "a"); /* elsewhere */
	see(t, 0, 15, 7, "a");
	see(t, 0, 16, 8, "a"); /* another of that name */
	see(t, 0, 17, 0, NULL);
	see(t, 0, 30, 8, "a");
	see(t, 0, 60, 8, "a"); /* past what an interval can be */
	see(t, 0, 61, 8, "b"); /* another name */
	see(t, 0, 62, -1, NULL);
	slice_is(t, 0, 9, 15, 7); /* a mean interval before */
	slice_is(t, 1, 11, 12, 7);
	slice_is(t, 2, 15, 16, 8);
	slice_is(t, 3, 29, 30, 8);
	slice_is(t, 4, 59, 60, 8);
	slice_is(t, 5, 60, 61, 8);
	slice_is(t, 6, 61, 62, -1);
	assert_int_equal(t->slices, 7);
	/* The idle task is none. */
	see(t, 1, 100, 0, "swapper/1");
	assert_int_equal(t->slices, 7);
	/* What goes back is left out. */
	see(t, 0, 50, 9, "z");
	assert_int_equal(t->slices, 7);
	trace_free(t);
}

static void queues_have_points_where_they_change(void **state UNUSED)
{
	struct trace *t = new_trace(2);

	look_at(t, 0, 1, 3, false);
	look_at(t, 0, 2, 3, false);
	look_at(t, 1, 2, 0, true);
	look_at(t, 0, 3, 3, true); /* all three wait now */
	look_at(t, 0, 4, UINT64_MAX, false);
	look_at(t, 5, 4, 1, false); /* no vCPU of ours */
	assert_int_equal(t->points, 4);
	assert_int_equal(t->point[0].running, 3);
	assert_int_equal(t->point[0].waiting, 2);
	assert_int_equal(t->point[1].waiting, 0);
	assert_int_equal(t->point[2].waiting, 3);
	assert_int_equal(t->point[3].running, INT32_MAX);
	trace_free(t);
}

static struct windows *counted(void)
{
	struct windows *w;

	assert_int_equal(windows_new(2, &w), 0);
	windows_count(w, WINDOWS_REASON + 2, 0, 200 * MS, 20); /* io */
	windows_count(w, WINDOWS_REASON + 60, 0, 100 * MS, 5); /* two without a name */
	windows_count(w, WINDOWS_REASON + 61, 0, 100 * MS, 6);
	windows_count(w, WINDOWS_VCPU + 1, 0, 100 * MS, 7);
	windows_count(w, WINDOWS_VCPU + 3, 100 * MS, 200 * MS, 9000);
	return w;
}

static void a_file_has_all_of_it(void **state UNUSED)
{
	struct trace *t = new_trace(2);
	struct windows *w = counted();
	const json_t *e;
	json_t *file;

	see(t, 0, 10, 7, "sh\"ell");
	see(t, 0, 20, 7, "sh\"ell");
	see(t, 1, 12, 9, "\xff\xfe");
	look_at(t, 1, 2, 2, false);
	trace_frozen(t, BEGAN + 12 * MS, BEGAN + 14 * MS, "watch:x\"\n");
	trace_frozen(t, BEGAN + 30 * MS, BEGAN + 31 * MS, "stop");
	trace_marked(t, BEGAN + 12 * MS, 1, "hit: %s", "jiffies");
	trace_marked(t, BEGAN + 8 * MS, -1, "COMMAND starts");
	file = file_of(t, w);
	/* The slice is cut where nothing ran. */
	is_at(event(file, "X", "sh\"ell", 0), 9000, 3000, 1);
	is_at(event(file, "X", "sh\"ell", 1), 14000, 6000, 1);
	assert_null(event(file, "X", "sh\"ell", 2));
	is_at(event(file, "X", "?", 0), 11000, 1000, 2);
	is_at(event(file, "X", "frozen", 0), 12000, 2000, 1);
	is_at(event(file, "X", "frozen", 3), 30000, 1000, 2);
	is_at(event(file, "i", "hit: jiffies", 0), 12000, 0, 2);
	is_at(event(file, "i", "COMMAND starts", 0), 8000, 0, 3);
	e = json_object_get(event(file, "C", "run queue 1", 0), "args");
	assert_int_equal(json_integer_value(json_object_get(e, "waiting")), 1);
	e = event(file, "C", "exits per second", 0);
	is_at(e, 5000, 0, 0);
	e = json_object_get(e, "args");
	assert_int_equal(json_integer_value(json_object_get(e, "io")), 100);
	assert_int_equal(json_integer_value(json_object_get(e, "other")), 110);
	e = json_object_get(event(file, "C", "exits of vCPU 1", 0), "args");
	assert_int_equal(json_integer_value(json_object_get(e, "per second")), 70);
	assert_non_null(event(file, "C", "exits of vCPU 1", 1)); /* to 0 */
	e = event(file, "C", "hand-off of vCPU 1", 0);
	is_at(e, 105000, 0, 0);
	/* The second window ended after 20 ms. */
	e = json_object_get(e, "args");
	assert_int_equal(json_integer_value(json_object_get(e, "ns per second")), 450000);
	e = json_object_get(event(file, "C", "exits per second", 1), "args");
	assert_int_equal(json_integer_value(json_object_get(e, "io")), 500);
	json_decref(file);
	trace_free(t);
	windows_free(w);
}

static void nothing_is_a_file_too(void **state UNUSED)
{
	struct trace *t = new_trace(1);

	json_decref(file_of(t, NULL));
	trace_free(t);
}

/* Any of what may come, in any order of vCPUs. */
static void any_run_is_a_file(void **state UNUSED)
{
	struct trace *t = new_trace(3);
	uint64_t random = 5, frozen = 0;

	for (unsigned i = 0; i < 20000; i++) {
		uint64_t r = random_next(&random);
		unsigned at = i / 2 + (unsigned)(r >> 8) % 2;

		see(t, (unsigned)(r % 3), at, (int32_t)(r >> 16) % 3, "task");
		look_at(t, (unsigned)(r % 3), i / 2, (r >> 24) % 4, r >> 32 & 1);
		if (r >> 40 == 0 || i % 100 == 0) {
			uint64_t from = MAX(frozen, BEGAN + i / 2 * MS);

			frozen = from + (r >> 44) % (30 * MS);
			trace_frozen(t, from, frozen, "any");
		}
		if (i % 333 == 0)
			trace_marked(t, BEGAN + i / 2 * MS, (int)(r % 4) - 1, "mark");
	}
	assert_true(t->slices > 1000);
	json_decref(file_of(t, NULL));
	trace_free(t);
}

static void tables_have_an_end(void **state UNUSED)
{
	struct trace *t = new_trace(1024);
	struct windows *w;
	FILE *f = fopen(path, "w");

	assert_int_equal(windows_new(1024, &w), 0);
	for (unsigned i = 0; i < TRACE_SLICES_MAX + 10; i++)
		see(t, i % 1024, 1 + i / 1024 * 2, (int32_t)(i % 7 + 1 + i / 1024 % 2 * 10),
		    "\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12");
	for (unsigned i = 0; i < TRACE_POINTS_MAX + 10; i++)
		look_at(t, i % 1024, 1 + i / 1024, 100000 + i, false);
	for (unsigned i = 0; i < 100; i++)
		trace_frozen(t, BEGAN + i * MS, BEGAN + i * MS + 5, "cause");
	for (unsigned i = 0; i < TRACE_MARKS_MAX + 10; i++)
		trace_marked(t, BEGAN + i, -1, "mark");
	for (unsigned i = 0; i < 64; i++)
		for (unsigned k = 0; k < 2048; k++)
			windows_count(w, WINDOWS_VCPU + k, i * 100 * MS, i * 100 * MS + 1,
				      1000000 + i);
	assert_int_equal(t->slices, TRACE_SLICES_MAX);
	assert_int_equal(t->lost_samples, 10);
	assert_int_equal(t->lost_points, 10);
	assert_int_equal(t->freezes, TRACE_FROZEN_MAX / 1024);
	assert_int_equal(t->lost_freezes, 100 - t->freezes);
	assert_int_equal(t->lost_marks, 10);
	assert_true(trace_is_cut(t));
	assert_int_equal(trace_write(t, "x", w, BEGAN, 0, f), 0);
	print_message("%ld bytes\n", ftell(f));
	assert_true(ftell(f) < (long)MIB(64));
	fclose(f);
	assert_int_equal(check(), 0);
	windows_free(w);
	trace_free(t);
}

/* The checker itself: what is no trace is told. */
static void the_checker_sees_what_is_wrong(void **state UNUSED)
{
	struct trace *t = new_trace(1);
	json_t *file, *list;

	see(t, 0, 10, 7, "a");
	see(t, 0, 20, 8, "b");
	file = file_of(t, NULL);
	list = json_object_get(file, "traceEvents");
	/* The second slice over the first. */
	json_object_set_new(json_array_get(list, json_array_size(list) - 1), "ts", json_real(9500));
	assert_int_equal(json_dump_file(file, path, 0), 0);
	assert_int_not_equal(check(), 0);
	json_object_set_new(json_array_get(list, json_array_size(list) - 1), "ts", json_real(8000));
	assert_int_equal(json_dump_file(file, path, 0), 0);
	assert_int_not_equal(check(), 0);
	json_object_set_new(json_array_get(list, json_array_size(list) - 1), "ts",
			    json_real(19000));
	assert_int_equal(json_dump_file(file, path, 0), 0);
	assert_int_equal(check(), 0);
	json_object_set_new(json_array_get(list, json_array_size(list) - 1), "tid",
			    json_integer(9));
	assert_int_equal(json_dump_file(file, path, 0), 0);
	assert_int_not_equal(check(), 0);
	json_decref(file);
	trace_free(t);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(samples_of_one_task_are_a_slice),
		cmocka_unit_test(queues_have_points_where_they_change),
		cmocka_unit_test(a_file_has_all_of_it),
		cmocka_unit_test(nothing_is_a_file_too),
		cmocka_unit_test(any_run_is_a_file),
		cmocka_unit_test(tables_have_an_end),
		cmocka_unit_test(the_checker_sees_what_is_wrong),
	};
	int fd, r;

	if (argc < 2 || (fd = mkstemp(path)) < 0)
		return 1;
	close(fd);
	checker = argv[1];
	r = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	return r;
}
