/* Samples added up, and what is written of them. */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "vm/profile_out.h"

#define HZ 1000u

static const char *const functions[] = {"_raw_spin_lock",
					"try_to_wake_up",
					"vfs_read",
					"do_syscall_64",
					"default_idle",
					"semi;colon",
					"bpf_prog_5937137a7888a15d_q_enqueue [bpf]",
					"bpf_prog_38bd4502e4c49ff4_q_place [bpf]",
					"bpf_prog_89c9ea3d857e0ae9_\xff [bpf]",
					"scx_bpf_dsq_insert",
					"do_enqueue_task",
					"asm_sysvec_call_function",
					"kvm_wait"};
static unsigned named;

static void name(uint32_t kernel, uint64_t gva, char *buf, size_t len, void *arg)
{
	assert_null(arg);
	named++;
	if (kernel > 1)
		snprintf(buf, len, "k%" PRIu32 "_%" PRIu64, kernel, gva);
	else if (gva < ARRAY_SIZE(functions) + 1)
		snprintf(buf, len, "%s", functions[gva - 1]);
	else
		snprintf(buf, len, "f%" PRIu64, gva);
}

static struct profile *new_profile(unsigned vcpus)
{
	struct profile *p;

	assert_int_equal(profile_new(vcpus, &p), 0);
	p->name = name;
	named = 0;
	return p;
}

static struct sample sample_of(enum sample_kind kind, uint32_t weight, int32_t pid,
			       const char *comm)
{
	struct sample s = {.kind = (uint8_t)kind,
			   .weight = weight,
			   .kernel = 1,
			   .has_task = comm != NULL,
			   .pid = pid};

	if (comm)
		snprintf(s.comm, sizeof(s.comm), "%s", comm);
	return s;
}

static void add(struct profile *p, unsigned vcpu, struct sample s, const uint64_t *frames, size_t n)
{
	if (n)
		memcpy(s.frame, frames, n * sizeof(*frames));
	s.frames = (uint8_t)n;
	(void)profile_add(p, vcpu, &s);
}

#define FRAMES(...)                                                                                \
	(const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t)

/* Two vCPUs of two nodes. vCPU 0: 6 idle, 2 user, 3 in a wake-up, 1 in a read; vCPU 1: 4 idle by
 * its place, 1 user. */
static struct profile *filled(void)
{
	struct profile *p = new_profile(2);

	add(p, 0, sample_of(SAMPLE_IDLE, 2, 0, NULL), NULL, 0);
	add(p, 0, sample_of(SAMPLE_IDLE, 4, 0, NULL), NULL, 0);
	add(p, 0, sample_of(SAMPLE_USER, 2, 7, "shell"), FRAMES(0x401000, 0x402000));
	add(p, 0, sample_of(SAMPLE_KERNEL, 1, 7, "shell"), FRAMES(1, 2, 4));
	add(p, 0, sample_of(SAMPLE_KERNEL, 2, 8, "shell"), FRAMES(1, 2, 4));
	add(p, 0, sample_of(SAMPLE_KERNEL, 1, 7, "shell"), FRAMES(1, 3, 4));
	add(p, 1, sample_of(SAMPLE_KERNEL, 4, 0, "swapper/1"), FRAMES(5, 4));
	add(p, 1, sample_of(SAMPLE_USER, 1, 9, "a;b"), FRAMES(0x401000));
	return p;
}

static void samples_add_up(void **state)
{
	struct profile *p = filled();
	struct profile_vcpu sum;

	(void)state;
	profile_sum(p, &sum);
	assert_int_equal(sum.samples, 8);
	assert_int_equal(sum.idle, 10);
	assert_int_equal(sum.user, 3);
	assert_int_equal(sum.kernel, 4);
	assert_int_equal(sum.class[SCHED_IS_WAKE_UP], 3);
	assert_int_equal(sum.class[SCHED_IS_NONE], 1);
	assert_int_equal(profile_scheduling(&sum), 3);
	assert_int_equal(p->vcpu[1].idle, 4);
	/* The same stack of two threads of one name is one. */
	assert_int_equal(p->stacks, 4);
	assert_int_equal(p->tasks, 3);
	/* Names are asked for once. */
	assert_int_equal(named, 5);
	profile_free(p);
}

/* A halt with interrupts off: a lock's where its place says so, else like any other. */
static void a_halt_for_a_lock_is_busy(void **state)
{
	struct profile *p = new_profile(1);
	struct sample s = sample_of(SAMPLE_KERNEL, 8, 7, "shell");
	struct profile_vcpu sum;

	(void)state;
	s.halted = true;
	add(p, 0, s, FRAMES(5, 13, 1, 2, 4));
	add(p, 0, s, FRAMES(5, 4));
	add(p, 0, s, FRAMES(3, 4));
	s.kernel = 0;
	add(p, 0, s, FRAMES(0x100011));
	s.halted = false;
	s.weight = 1;
	add(p, 0, s, FRAMES(0x100011));
	profile_sum(p, &sum);
	assert_int_equal(sum.kernel, 9);
	assert_int_equal(sum.lock, 8);
	assert_int_equal(sum.class[SCHED_IS_WAKE_UP], 8);
	assert_int_equal(sum.idle, 24);
	profile_free(p);
}

/* Samples of two openings come mixed while one takes the other's place. */
static void a_place_has_a_name_by_its_sample_s_kernel(void **state)
{
	struct profile *p = filled();
	struct sample s = sample_of(SAMPLE_KERNEL, 1, 7, "shell");

	(void)state;
	s.kernel = 2;
	add(p, 0, s, FRAMES(1, 2, 4));
	assert_int_equal(named, 8);
	assert_int_equal(p->stacks, 5);
	assert_string_equal(p->function[p->frames[p->stack[4].from]].name, "k2_1");
	s.kernel = 1;
	add(p, 0, s, FRAMES(1, 2, 4));
	assert_int_equal(p->stacks, 5);
	assert_int_equal(p->stack[1].weight, 4);
	profile_free(p);
}

static void what_is_not_known_goes_by_number(void **state)
{
	struct profile *p = new_profile(1);
	struct sample s = sample_of(SAMPLE_KERNEL, 1, 0, NULL);

	(void)state;
	s.kernel = 0;
	add(p, 0, s, FRAMES(0x100011));
	add(p, 0, s, FRAMES(0));
	s.kernel = 1;
	add(p, 0, s, FRAMES(0));
	assert_int_equal(named, 0);
	assert_int_equal(p->functions, 2);
	assert_string_equal(p->function[0].name, "0x100011");
	assert_string_equal(p->function[1].name, "0x0");
	assert_int_equal(p->stacks, 2);
	profile_free(p);
}

static void tables_have_an_end(void **state)
{
	struct profile *p = new_profile(1);
	struct profile_vcpu sum;
	const unsigned n = PROFILE_FUNCTIONS_MAX + 1000;

	(void)state;
	for (unsigned i = 0; i < n; i++) {
		struct sample s = sample_of(SAMPLE_KERNEL, 1, (int32_t)i, "t");

		s.frames = UINT8_MAX; /* more than there are */
		for (unsigned k = 0; k < SAMPLE_FRAMES; k++)
			s.frame[k] = 100 + i;
		profile_add(p, 0, &s);
	}
	profile_sum(p, &sum);
	assert_int_equal(sum.kernel, n);
	/* The task's name and two for what is left over, of which one is used. */
	assert_int_equal(p->functions, PROFILE_FUNCTIONS_MAX - 1);
	assert_string_equal(p->function[PROFILE_FUNCTIONS_MAX - 2].name, PROFILE_KERNEL_REST);
	assert_int_equal(p->function[PROFILE_FUNCTIONS_MAX - 2].self,
			 n - (PROFILE_FUNCTIONS_MAX - 2 - 1));
	assert_int_equal(p->stacks, PROFILE_STACKS_MAX);
	assert_int_equal(p->tasks, PROFILE_TASKS_MAX);
	assert_int_equal(p->lost_stacks, n - PROFILE_STACKS_MAX);
	assert_int_equal(p->lost_tasks, n - PROFILE_TASKS_MAX);
	profile_free(p);
}

/* However many addresses of user space there are, the kernel's functions have room, and count what
 * they did themselves. */
static void user_space_leaves_room_for_the_kernel(void **state)
{
	struct profile *p = new_profile(1);
	const unsigned n = PROFILE_USER_FUNCTIONS_MAX + PROFILE_USER_STACKS_MAX;
	struct profile_vcpu sum;

	(void)state;
	for (unsigned i = 0; i < n; i++)
		add(p, 0, sample_of(SAMPLE_USER, 1, 1, "t"), FRAMES(0x400000 + i));
	assert_int_equal(p->user_functions, PROFILE_USER_FUNCTIONS_MAX);
	assert_int_equal(p->user_stacks, PROFILE_USER_STACKS_MAX);
	assert_int_equal(p->user_rest, n - PROFILE_USER_STACKS_MAX);
	assert_int_equal(p->stacks, PROFILE_USER_STACKS_MAX + 1);
	assert_int_equal(p->lost_stacks, 0);
	add(p, 0, sample_of(SAMPLE_KERNEL, 3, 1, "t"), FRAMES(1, 2, 4));
	profile_sum(p, &sum);
	assert_int_equal(sum.user, n);
	assert_int_equal(sum.class[SCHED_IS_WAKE_UP], 3);
	for (uint32_t i = 0; i < p->functions; i++) {
		const struct profile_function *f = &p->function[i];

		if (!strcmp(f->name, "_raw_spin_lock"))
			assert_int_equal(f->self, 3);
		else if (!strcmp(f->name, PROFILE_USER_REST))
			assert_int_equal(f->self, n - PROFILE_USER_FUNCTIONS_MAX);
		else
			assert_true(f->self <= 1);
	}
	profile_free(p);
}

/* ---- what is written ---------------------------------------------------------------------- */

static struct topology two_nodes(void)
{
	struct topology t;
	struct error err = {0};

	if (topology_parse("2n2l1c1t", &t, &err) < 0)
		fail_msg("%s", err.what);
	return t;
}

static void folded_is(json_t *speedscope, const char *want)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_int_equal(profile_folded(speedscope, f), 0);
	fclose(f);
	assert_string_equal(text, want);
	free(text);
}

static void files_have_every_stack(void **state)
{
	struct topology t = two_nodes();
	struct profile_run run = {.hz = HZ, .duration_ns = 9000000, .topology = &t};
	struct profile *p = filled();
	json_t *doc = profile_speedscope(p, &run, "vm"), *one;
	size_t i;

	(void)state;
	folded_is(doc, "shell;0x402000;0x401000 2\n"
		       "shell;do_syscall_64;try_to_wake_up;_raw_spin_lock 3\n"
		       "shell;do_syscall_64;vfs_read;_raw_spin_lock 1\n"
		       "a_b;0x401000 1\n");
	assert_string_equal(json_string_value(json_object_get(doc, "$schema")),
			    "https://www.speedscope.app/file-format-schema.json");
	json_array_foreach(json_object_get(json_object_get(doc, "shared"), "frames"), i, one)
	{
		const char *frame = json_string_value(json_object_get(one, "name"));
		const char *class = json_string_value(json_object_get(one, "stasisClass"));
		const char *want = !strcmp(frame, "try_to_wake_up")  ? "wake_up"
				   : !strcmp(frame, "do_syscall_64") ? "entry"
								     : NULL;

		assert_int_equal(class != NULL, want != NULL);
		if (want)
			assert_string_equal(class, want);
	}
	one = json_array_get(json_object_get(doc, "profiles"), 0);
	assert_string_equal(json_string_value(json_object_get(one, "type")), "sampled");
	assert_string_equal(json_string_value(json_object_get(one, "unit")), "nanoseconds");
	assert_int_equal(json_integer_value(json_object_get(one, "endValue")), 7000000);
	assert_int_equal(json_integer_value(json_array_get(json_object_get(one, "weights"), 1)),
			 3000000);
	json_decref(doc);
	profile_free(p);
}

static void a_file_that_is_none_is_refused(void **state)
{
	json_t *doc = json_pack("{s:{s:[]}, s:[{s:[i], s:[]}]}", "shared", "frames", "profiles",
				"samples", 1, "weights");
	FILE *f = fopen("/dev/null", "w");

	(void)state;
	assert_int_equal(profile_folded(doc, f), -EBADMSG);
	json_decref(doc);
	doc = json_object();
	assert_int_equal(profile_folded(doc, f), -EBADMSG);
	json_decref(doc);
	fclose(f);
}

static void a_suffix_says_what_is_written(void **state)
{
	struct topology t = two_nodes();
	struct profile_run run = {.hz = HZ, .topology = &t};
	struct profile *p = filled();
	char dir[] = "/tmp/stasis-profile-XXXXXX", path[64], line[64] = "";
	struct error err = {0};
	json_t *json;
	FILE *f;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/a.folded", dir);
	assert_int_equal(profile_path_check(path, &err), 0);
	assert_int_equal(profile_write(profile_speedscope(p, &run, "vm"), path, &err), 0);
	f = fopen(path, "r");
	assert_non_null(fgets(line, sizeof(line), f));
	assert_string_equal(line, "shell;0x402000;0x401000 2\n");
	fclose(f);
	unlink(path);
	snprintf(path, sizeof(path), "%s/a.speedscope.json", dir);
	assert_int_equal(profile_path_check(path, &err), 0);
	assert_int_equal(profile_write(profile_speedscope(p, &run, "vm"), path, &err), 0);
	json = json_load_file(path, 0, NULL);
	assert_non_null(json);
	json_decref(json);
	unlink(path);
	snprintf(path, sizeof(path), "%s/a.pb.gz", dir);
	assert_int_equal(profile_path_check(path, &err), 0);
	assert_int_equal(profile_write(profile_speedscope(p, &run, "vm"), path, &err), 0);
	f = fopen(path, "r");
	assert_int_equal(getc(f), 0x1f); /* gzip's */
	assert_int_equal(getc(f), 0x8b);
	fclose(f);
	unlink(path);
	/* Nothing is left of what is none. */
	assert_int_equal(profile_write(json_object(), path, &err), -EBADMSG);
	assert_int_equal(rmdir(dir), 0);
	err = (struct error){0};
	assert_true(profile_path_check("a.json", &err) < 0);
	assert_true(profile_path_check(".folded", &err) < 0);
	assert_int_equal(err.kind, ERROR_USAGE);
	profile_free(p);
}

static json_int_t integer(const json_t *json, const char *key)
{
	return json_integer_value(json_object_get(json, key));
}

/* Of the kernel's time; what idles has no stack that anybody asks for. */
static void stacks_that_break_off_are_counted(void **state)
{
	struct topology t = two_nodes();
	struct profile_run run = {.hz = HZ, .duration_ns = 20000000, .topology = &t};
	struct sample s = sample_of(SAMPLE_KERNEL, 3, 7, "shell");
	struct profile *p = new_profile(2);
	char *text = NULL;
	json_t *json;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	(void)state;
	add(p, 0, s, FRAMES(1));
	add(p, 0, s, FRAMES(5)); /* by its place */
	add(p, 0, sample_of(SAMPLE_USER, 2, 7, "shell"), FRAMES(0x401000));
	s.complete = true;
	s.weight = 9;
	add(p, 1, s, FRAMES(1, 2, 4));
	/* Where no kernel is known there is no stack at all, and that is told elsewhere. */
	s.complete = false;
	s.weight = 1;
	s.kernel = 0;
	add(p, 1, s, FRAMES(1));
	json = profile_json(p, &run);
	assert_int_equal(integer(json, "kernel_ns"), 13000000);
	assert_int_equal(integer(json, "stacks_cut_ns"), 3000000);
	profile_print(json, f);
	fclose(f);
	assert_non_null(strstr(text, "stacks        23.1% of the kernel's time"));
	free(text);
	json_decref(json);
	profile_free(p);
}

static void the_summary_is_of_cpus_nodes_and_tasks(void **state)
{
	struct topology t = two_nodes();
	json_t *degraded = json_pack("[s]", "less");
	struct profile_run run = {.hz = HZ,
				  .duration_ns = 150000000,
				  .dropped = 3,
				  .took_ns = 70000,
				  .longest_ns = 9000,
				  .topology = &t,
				  .degraded = degraded};
	struct profile *p = filled();
	json_t *json = profile_json(p, &run), *row;
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	(void)state;
	assert_int_equal(integer(json, "hz"), HZ);
	assert_int_equal(integer(json, "samples"), 8);
	assert_int_equal(integer(json, "dropped"), 3);
	assert_int_equal(integer(json, "sampling_ns"), 70000);
	assert_int_equal(integer(json, "sampling_longest_ns"), 9000);
	assert_int_equal(integer(json, "idle_ns"), 10000000);
	assert_int_equal(integer(json, "kernel_ns"), 4000000);
	/* 17 in 2 x 150 ms. */
	assert_float_equal(json_real_value(json_object_get(json, "hz_had")), 56.667, 1e-3);
	assert_float_equal(json_real_value(json_object_get(json, "scheduling_share")), 3.0 / 7,
			   1e-6);
	assert_int_equal(json_array_size(json_object_get(json, "vcpus")), 2);
	assert_int_equal(json_array_size(json_object_get(json, "caches")), 2);
	row = json_array_get(json_object_get(json, "nodes"), 1);
	assert_int_equal(integer(row, "node"), 1);
	assert_int_equal(integer(row, "idle_ns"), 4000000);
	row = json_array_get(json_object_get(json, "tasks"), 0);
	assert_int_equal(integer(row, "pid"), 7);
	assert_int_equal(integer(row, "busy_ns"), 4000000);
	assert_int_equal(integer(row, "scheduling_ns"), 1000000);
	row = json_array_get(json_object_get(json, "functions"), 0);
	assert_string_equal(json_string_value(json_object_get(row, "name")), "_raw_spin_lock");
	assert_int_equal(integer(row, "ns"), 4000000);
	row = json_object_get(json_object_get(json, "classes"), "wake_up");
	assert_int_equal(integer(row, "ns"), 3000000);
	/* Two windows of which the first has it all. */
	row = json_object_get(json_object_get(json, "windows"), "list");
	assert_int_equal(json_array_size(row), 2);
	row = json_array_get(row, 0);
	assert_int_equal(integer(row, "idle_ns"), 10000000);
	assert_int_equal(integer(row, "kernel_ns"), 4000000);
	assert_int_equal(integer(json_object_get(row, "classes"), "wake_up"), 3000000);
	row = json_array_get(json_object_get(row, "vcpus"), 0);
	assert_int_equal(json_integer_value(json_array_get(row, 2)), 3000000);
	assert_int_equal(json_array_size(json_object_get(json, "programs")), 0);
	/* Nobody has counted any; the wake-up is none of theirs. */
	assert_null(json_object_get(json, "switches"));
	profile_print(json, f);
	fclose(f);
	assert_null(strstr(text, "programs"));
	assert_non_null(
		strstr(text,
		       "profile: 8 samples, which stand for 57 Hz of 1000 asked, 3 dropped\n"));
	assert_non_null(strstr(text, "scheduling    42.9% of busy time\n"));
	assert_non_null(strstr(text, "wake_up 42.9%"));
	assert_non_null(strstr(text, "less\n"));
	free(text);
	json_decref(json);
	json_decref(degraded);
	profile_free(p);
}

/* 1 in a queue's program, 2 in what it calls by way of another, 4 where that one calls itself; 8 of
 * a tracer, 16 in an interrupt of one, 32 elsewhere. */
static void a_switch_has_its_share(void **state)
{
	struct topology t = two_nodes();
	struct profile_run run = {.hz = HZ, .duration_ns = 150000000, .topology = &t};
	struct profile *p = filled();
	json_t *json;

	(void)state;
	p->windows->has_queues = true;
	windows_count(p->windows, WINDOWS_SWITCHES, 0, 120000000, 8);
	json = profile_json(p, &run);
	assert_int_equal(integer(json, "switches"), 8);
	assert_float_equal(json_real_value(json_object_get(json, "switch_ns")), 0, 1e-9);
	json_decref(json);
	p->vcpu[0].class[SCHED_IS_PICK] += 3;
	p->vcpu[1].class[SCHED_IS_SWITCH] += 1;
	p->vcpu[1].class[SCHED_IS_TICK] += 7;
	json = profile_json(p, &run);
	/* 4 ms. */
	assert_float_equal(json_real_value(json_object_get(json, "switch_ns")), 500000, 1e-3);
	json_decref(json);
	profile_free(p);
}

static void a_schedulers_programs_are_told(void **state)
{
	struct topology t = two_nodes();
	struct profile_run run = {.hz = HZ, .topology = &t};
	struct profile *p = new_profile(1);
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	json_t *json, *programs, *row;

	(void)state;
	add(p, 0, sample_of(SAMPLE_KERNEL, 1, 7, "t"), FRAMES(7, 11, 4));
	add(p, 0, sample_of(SAMPLE_KERNEL, 2, 7, "t"), FRAMES(10, 8, 7, 11, 4));
	add(p, 0, sample_of(SAMPLE_KERNEL, 4, 7, "t"), FRAMES(8, 8, 7, 11, 4));
	add(p, 0, sample_of(SAMPLE_KERNEL, 8, 7, "t"), FRAMES(8, 3, 4));
	add(p, 0, sample_of(SAMPLE_KERNEL, 16, 7, "t"), FRAMES(3, 12, 7, 11, 4));
	add(p, 0, sample_of(SAMPLE_KERNEL, 32, 7, "t"), FRAMES(3, 4));
	add(p, 0, sample_of(SAMPLE_USER, 1, 7, "t"), FRAMES(7, 11));
	json = profile_json(p, &run);
	programs = json_object_get(json, "programs");
	assert_int_equal(json_array_size(programs), 2);
	row = json_array_get(programs, 0);
	assert_string_equal(json_string_value(json_object_get(row, "program")), "q_enqueue");
	assert_string_equal(json_string_value(json_object_get(row, "name")), functions[6]);
	assert_int_equal(integer(row, "ns"), 7000000);
	assert_int_equal(integer(row, "self_ns"), 1000000);
	assert_float_equal(json_real_value(json_object_get(row, "share")), 7.0 / 64, 1e-6);
	row = json_array_get(programs, 1);
	assert_string_equal(json_string_value(json_object_get(row, "program")), "q_place");
	assert_int_equal(integer(row, "ns"), 6000000);
	assert_int_equal(integer(row, "self_ns"), 4000000);
	profile_print(json, f);
	fflush(f);
	assert_non_null(strstr(text, "q_enqueue 10.9%, q_place 9.4%, with what they call\n"));
	json_decref(json);

	/* A name that is no text. */
	add(p, 0, sample_of(SAMPLE_KERNEL, 64, 7, "t"), FRAMES(9, 11, 4));
	json = profile_json(p, &run);
	row = json_array_get(json_object_get(json, "programs"), 0);
	assert_string_equal(json_string_value(json_object_get(row, "program")), "?");
	assert_int_equal(integer(row, "ns"), 64000000);
	json_decref(json);
	fclose(f);
	free(text);
	profile_free(p);
}

/* A guest's names may be no text. */
static void names_that_are_no_text_do_no_harm(void **state)
{
	struct topology t = two_nodes();
	struct profile_run run = {.hz = HZ, .topology = &t};
	struct profile *p = new_profile(2);
	json_t *doc, *json;
	char *text;

	(void)state;
	add(p, 0, sample_of(SAMPLE_USER, 1, 1, "\xff\xfe\n;"), FRAMES(1));
	doc = profile_speedscope(p, &run, "vm");
	json = profile_json(p, &run);
	assert_non_null(doc);
	assert_non_null(json);
	text = json_dumps(doc, 0);
	assert_non_null(text);
	folded_is(doc, "?;0x1 1\n");
	free(text);
	json_decref(doc);
	json_decref(json);
	profile_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(samples_add_up),
		cmocka_unit_test(a_halt_for_a_lock_is_busy),
		cmocka_unit_test(a_place_has_a_name_by_its_sample_s_kernel),
		cmocka_unit_test(what_is_not_known_goes_by_number),
		cmocka_unit_test(tables_have_an_end),
		cmocka_unit_test(user_space_leaves_room_for_the_kernel),
		cmocka_unit_test(files_have_every_stack),
		cmocka_unit_test(a_file_that_is_none_is_refused),
		cmocka_unit_test(a_suffix_says_what_is_written),
		cmocka_unit_test(stacks_that_break_off_are_counted),
		cmocka_unit_test(the_summary_is_of_cpus_nodes_and_tasks),
		cmocka_unit_test(a_switch_has_its_share),
		cmocka_unit_test(a_schedulers_programs_are_told),
		cmocka_unit_test(names_that_are_no_text_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
