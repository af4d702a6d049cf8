/* Stacks, code and the scheduler of the tiny kernel: true ones, and ones that lie. */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "inspect/sched.h"
#include "inspect/stack.h"
#include "kernel_fake.h"

static struct kernel_fake fake;

struct opened {
	struct inspect *in;
	struct lacks lacks;
	struct code *code;
	struct sched *sched;
};

static struct opened open_now(void)
{
	struct opened o = {0};
	struct error err = {0};

	if (inspect_new(&fake.mem, FAKE_ROOT_GPA, &o.in, &err))
		fail_msg("%s", err.what);
	assert_int_equal(code_open(o.in, &o.lacks, &o.code), 0);
	assert_int_equal(sched_open(o.in, &o.lacks, &o.sched), 0);
	return o;
}

static struct opened open_fake(unsigned flags)
{
	kernel_fake_build(&fake, flags);
	return open_now();
}

static void done(struct opened *o)
{
	sched_free(o->sched);
	code_free(o->code);
	inspect_free(o->in);
}

static uint64_t slot(unsigned word)
{
	return FAKE_STACK + 0x1000 + 8 * (uint64_t)word;
}

static void put(unsigned word, uint64_t value)
{
	kernel_fake_put(&fake, slot(word), value, sizeof(value));
}

/* ---- code -------------------------------------------------------------------------------- */

static void name_is(struct opened *o, uint64_t gva, bool back, const char *want)
{
	char text[600];

	code_format(o->code, gva, back, text, sizeof(text));
	assert_string_equal(text, want);
}

static void all_code_has_names(void **state)
{
	struct arch_unwind_table t;

	(void)state;
	for (unsigned flags = 0; flags < 4; flags++) {
		struct opened o = open_fake(flags);

		for (unsigned i = 0; i < o.lacks.count; i++)
			assert_int_equal(strncmp(o.lacks.what[i], "rq.", 3), 0);
		name_is(&o, FAKE_SCHEDULE + 0x12, false, "schedule+0x12/0x80");
		name_is(&o, FAKE_DO_IDLE + 0x80, true, "do_idle+0x80/0x80");
		name_is(&o, FAKE_DO_IDLE + 0x80, false, "cpu_startup_entry+0x0/0x80");
		name_is(&o, FAKE_MOD_TEXT + 3, false, "mod_init+0x3/0x80 [virtio_fake]");
		name_is(&o, FAKE_MOD_TEXT + 0x85, true, "mod_work+0x5/0x80 [virtio_fake]");
		name_is(&o, FAKE_BPF_TEXT + 9, false, "bpf_prog_1_x+0x9/0x100 [bpf]");
		name_is(&o, 0x1234, false, "0x1234");
		assert_true(code_function(o.code, FAKE_SCHEDULE + 0x7f) == FAKE_SCHEDULE);
		assert_true(code_function(o.code, FAKE_MOD_TEXT + 0x90) == FAKE_MOD_TEXT + 0x80);
		assert_true(code_function(o.code, FAKE_BPF_TEXT + 0xff) == FAKE_BPF_TEXT);
		assert_int_equal(code_function(o.code, FAKE_BPF_TEXT + 0x100), 0);
		assert_int_equal(code_function(o.code, FAKE_INIT_TASK), 0);
		assert_true(code_table(o.code, FAKE_MOD_TEXT, &t) && t.count == 1);
		assert_true(code_table(o.code, FAKE_LOST, &t) && t.count == 5);
		assert_false(code_table(o.code, FAKE_BPF_TEXT, &t));
		done(&o);
	}
}

static void without_types_the_image_is_left(void **state)
{
	struct opened o = open_fake(FAKE_NO_BTF);
	struct sched_sink sink = {0};

	(void)state;
	name_is(&o, FAKE_SCHEDULE + 0x12, false, "schedule+0x12/0x80");
	assert_int_equal(code_function(o.code, FAKE_MOD_TEXT), 0);
	assert_false(sched_task(o.sched, 0, 0, &sink));
	assert_false(sched_queue(o.sched, 0, &sink));
	assert_false(sched_queue_ext(o.sched, 0, &sink));
	assert_false(sched_ext(o.sched, &sink));
	assert_false(sched_ext_events(o.sched, &sink));
	done(&o);
}

static void lists_that_go_round_end(void **state)
{
	struct opened o;

	(void)state;
	kernel_fake_build(&fake, 0);
	/* Each leads back to itself. */
	memcpy(kernel_fake_at(&fake, FAKE_MODULE), &(uint64_t){FAKE_MODULE}, 8);
	memcpy(kernel_fake_at(&fake, FAKE_KSYM + 32), &(uint64_t){FAKE_KSYM + 32}, 8);
	/* A table that isn't there, of many symbols. */
	memcpy(kernel_fake_at(&fake, FAKE_MODULE + 0x180), &(uint64_t){0x1000}, 8);
	memcpy(kernel_fake_at(&fake, FAKE_MODULE + 0x188), &(uint32_t){60000}, 4);
	o = open_now();
	name_is(&o, FAKE_MOD_TEXT + 3, false, "0xffffffffa8012003 [virtio_fake]");
	name_is(&o, FAKE_BPF_TEXT, false, "bpf_prog_1_x+0x0/0x100 [bpf]");
	done(&o);
}

/* ---- stacks ------------------------------------------------------------------------------ */

static void frame_is(const struct stack *s, unsigned i, uint64_t pc, enum arch_unwind_by by)
{
	assert_in_range(i, 0, s->count - 1);
	assert_true(s->frame[i].pc == pc);
	assert_int_equal(s->frame[i].by, by);
	assert_int_equal(s->frame[i].back, i > 0);
}

static void walk(struct opened *o, uint64_t pc, uint64_t sp, uint64_t fp, struct stack *ret_stack)
{
	struct arch_unwind u = {.pc = pc, .sp = sp, .fp = fp, .exact = true};

	stack_walk(o->code, o->in, &u, ret_stack);
	assert_in_range(ret_stack->count, 1, STACK_FRAMES_MAX);
	frame_is(ret_stack, 0, pc, ARCH_BY_REGISTERS);
}

static void stacks_are_unwound_through_all_code(void **state)
{
	struct opened o = open_fake(0);
	struct stack s;

	(void)state;
	/* A module's function, called by a program with rbp, called by schedule, by do_idle. */
	put(0, FAKE_BPF_TEXT + 0x20);
	put(4, 77);
	put(5, FAKE_SCHEDULE + 0x40);
	put(8, FAKE_DO_IDLE + 0x40);
	put(10, FAKE_STARTUP + 0x40);
	walk(&o, FAKE_MOD_TEXT + 0x90, slot(0), slot(4), &s);
	assert_int_equal(s.count, 5);
	assert_true(s.complete);
	frame_is(&s, 1, FAKE_BPF_TEXT + 0x20, ARCH_BY_ORC);
	frame_is(&s, 2, FAKE_SCHEDULE + 0x40, ARCH_BY_FRAME_POINTER);
	frame_is(&s, 3, FAKE_DO_IDLE + 0x40, ARCH_BY_ORC);
	frame_is(&s, 4, FAKE_STARTUP + 0x40, ARCH_BY_ORC);
	assert_string_equal(stack_by_name(s.frame[2].by), "frame pointer");
	done(&o);
}

static void guesses_are_said_to_be(void **state)
{
	struct opened o = open_fake(0);
	struct stack s;

	(void)state;
	put(0, FAKE_DO_IDLE + 0x20); /* code, but no call is before it */
	put(1, FAKE_INIT_TASK);
	put(3, FAKE_DO_IDLE + 0x40);
	put(5, FAKE_STARTUP + 0x40);
	walk(&o, FAKE_LOST + 7, slot(0), 0, &s);
	assert_int_equal(s.count, 3);
	assert_true(s.complete);
	frame_is(&s, 1, FAKE_DO_IDLE + 0x40, ARCH_BY_GUESS);
	frame_is(&s, 2, FAKE_STARTUP + 0x40, ARCH_BY_ORC);

	/* Nothing there: where it is, and no more. */
	walk(&o, FAKE_LOST + 7, slot(20), 0, &s);
	assert_int_equal(s.count, 1);
	assert_false(s.complete);
	/* Nor in memory that isn't mapped; nor in none of the kernel's code. */
	walk(&o, 0, 0, 0, &s);
	assert_int_equal(s.count, 1);
	walk(&o, UINT64_MAX, UINT64_MAX - 3, UINT64_MAX - 3, &s);
	assert_int_equal(s.count, 1);
	done(&o);
}

static void endless_stacks_are_cut(void **state)
{
	struct opened o = open_fake(0);
	struct stack s;

	(void)state;
	/* schedule calls itself, all the way up; and a program whose rbp is its own. */
	for (unsigned i = 0; i < 1500; i++)
		put(i, FAKE_SCHEDULE + 0x40);
	walk(&o, FAKE_SCHEDULE + 0x10, slot(0), 0, &s);
	assert_int_equal(s.count, STACK_FRAMES_MAX);
	assert_false(s.complete);

	kernel_fake_build(&fake, 0);
	put(4, slot(4));
	put(5, FAKE_BPF_TEXT + 0x20);
	walk(&o, FAKE_BPF_TEXT + 9, slot(0), slot(4), &s);
	assert_in_range(s.count, 2, 16);
	assert_false(s.complete);
	done(&o);
}

/* ---- the scheduler ----------------------------------------------------------------------- */

static char told[2048];

static void tell_number(const char *name, int64_t value, void *arg)
{
	size_t n = strlen(told);

	(void)arg;
	snprintf(told + n, sizeof(told) - n, "%s=%" PRId64 " ", name, value);
}

static void tell_text(const char *name, const char *value, void *arg)
{
	size_t n = strlen(told);

	(void)arg;
	snprintf(told + n, sizeof(told) - n, "%s=%s ", name, value);
}

static const struct sched_sink teller = {.number = tell_number, .text = tell_text};

#define TELLS(call, want)                                                                          \
	do {                                                                                       \
		told[0] = '\0';                                                                    \
		assert_true(call);                                                                 \
		assert_string_equal(told, want);                                                   \
	} while (0)

static void tasks_and_queues_are_read(void **state)
{
	(void)state;
	for (unsigned flags = 0; flags < 4; flags++) {
		struct opened o = open_fake(flags);

		TELLS(sched_task(o.sched, 1, 0, &teller), "name=swapper/0 pid=0 tgid=3 ");
		TELLS(sched_task(o.sched, 9, FAKE_INIT_TASK, &teller),
		      "name=swapper/0 pid=0 tgid=3 ");
		assert_false(sched_task(o.sched, 2, 0, &teller));
		assert_false(sched_task(o.sched, 0, 0x1000, &teller));
		TELLS(sched_queue(o.sched, 0, &teller), "running=5 clock_ns=1000 class=fair ");
		TELLS(sched_queue(o.sched, 1, &teller), "running=6 clock_ns=1001 ");
		assert_false(sched_queue(o.sched, 2, &teller));
		TELLS(sched_queue_ext(o.sched, 1, &teller), "running=3 flags=33 ");
		assert_false(sched_queue_ext(o.sched, 2, &teller));
		done(&o);
	}
}

static void what_is_lacking_is_named_once(void **state)
{
	struct opened o = open_fake(0);
	bool found = false;

	(void)state;
	for (unsigned i = 0; i < o.lacks.count; i++) {
		found |= !strcmp(o.lacks.what[i], "rq.cfs.h_nr_queued");
		for (unsigned j = 0; j < i; j++)
			assert_string_not_equal(o.lacks.what[i], o.lacks.what[j]);
	}
	assert_true(found);
	done(&o);
}

static void an_exit_of_sched_ext_is_read(void **state)
{
	struct opened o = open_fake(0);

	(void)state;
	TELLS(sched_ext(o.sched, &teller),
	      "state=1 state_name=SCX_ENABLED ops=qmap exit_kind=1025 "
	      "exit_kind_name=SCX_EXIT_ERROR_BPF exit_code=-7 exit_reason=scx_bpf_error "
	      "exit_message=crash at 300 ");
	TELLS(sched_ext_events(o.sched, &teller), "SCX_EV_A=21 SCX_EV_B=0 ");
	/* None is loaded. */
	memset(kernel_fake_at(&fake, FAKE_SCX_ROOT), 0, 8);
	memset(kernel_fake_at(&fake, FAKE_STATE), 3, 1);
	TELLS(sched_ext(o.sched, &teller), "state=3 ");
	assert_false(sched_ext_events(o.sched, &teller));
	done(&o);

	o = open_fake(FAKE_PERCPU_IN_IMAGE);
	TELLS(sched_ext_events(o.sched, &teller), "SCX_EV_A=21 SCX_EV_B=0 ");
	done(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_code_has_names),
		cmocka_unit_test(without_types_the_image_is_left),
		cmocka_unit_test(lists_that_go_round_end),
		cmocka_unit_test(stacks_are_unwound_through_all_code),
		cmocka_unit_test(guesses_are_said_to_be),
		cmocka_unit_test(endless_stacks_are_cut),
		cmocka_unit_test(tasks_and_queues_are_read),
		cmocka_unit_test(what_is_lacking_is_named_once),
		cmocka_unit_test(an_exit_of_sched_ext_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
