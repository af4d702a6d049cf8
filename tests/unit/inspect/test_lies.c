/* Types, lists and texts that lie, over the tiny kernel: what they cost stays bounded. */
#include <bpf/btf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "inspect/sched.h"
#include "inspect/stack.h"
#include "kernel_fake.h"

static struct kernel_fake fake;

/* The tiny kernel, with other types than it has. b is freed. */
static struct inspect *open_with(struct btf *b)
{
	struct inspect *in = NULL;
	struct error err = {0};
	const void *raw;
	__u32 len;

	kernel_fake_build(&fake, 0);
	if (inspect_new(&fake.mem, FAKE_ROOT_GPA, &in, &err))
		fail_msg("%s", err.what);
	types_free(in->types);
	in->types = NULL;
	raw = btf__raw_data(b, &len);
	assert_non_null(raw);
	assert_int_equal(types_new(raw, len, &in->types, NULL), 0);
	btf__free(b);
	return in;
}

static void ignore_number(const char *name, int64_t value, void *arg)
{
	(void)name;
	(void)value;
	++*(unsigned *)arg;
}

/* Of what goes into a buffer here, the longest is 1 KiB. */
static void count_text(const char *name, const char *value, void *arg)
{
	(void)name;
	assert_in_range(strlen(value), 0, 1023);
	++*(unsigned *)arg;
}

/* ---- sizes ------------------------------------------------------------------------------- */

/* char[4294967295][641][6700417]: 2^64 - 1 bytes. */
static int add_endless(struct btf *b, int index, int element)
{
	int id = btf__add_array(b, index, element, 6700417);

	id = btf__add_array(b, index, id, 641);
	return btf__add_array(b, index, id, UINT32_MAX);
}

static void endless_texts_are_cut(void **state)
{
	struct btf *b = btf__new_empty();
	unsigned told = 0;
	struct sched_sink sink = {.number = ignore_number, .text = count_text, .arg = &told};
	struct types_value v;
	struct lacks lacks = {0};
	struct sched *sched;
	struct inspect *in;
	bool lacking = false;
	int i32, endless, ops;

	(void)state;
	i32 = btf__add_int(b, "int", 4, 0);
	endless = add_endless(b, i32, btf__add_int(b, "char", 1, 0));
	assert_true(btf__add_struct(b, "task_struct", 64) > 0);
	assert_int_equal(btf__add_field(b, "comm", endless, 0, 0), 0);
	ops = btf__add_struct(b, "sched_ext_ops", 16);
	assert_int_equal(btf__add_field(b, "name", endless, 0, 0), 0);
	assert_true(btf__add_struct(b, "scx_sched", 32) > 0);
	assert_int_equal(btf__add_field(b, "ops", ops, 0, 0), 0);
	in = open_with(b);
	assert_int_equal(inspect_member(in, "task_struct.comm", &v, NULL), 0);
	assert_true(v.size == UINT64_MAX);
	/* No NUL for a long way. */
	memset(fake.ram + FAKE_SCHED_GPA, 'A', 0x1000);
	memset(kernel_fake_at(&fake, FAKE_IMAGE + 0x18000), 'A', 0x8000);

	assert_int_equal(sched_open(in, &lacks, &sched), 0);
	assert_false(sched_task(sched, 0, FAKE_IMAGE + 0x18000, &sink));
	for (unsigned i = 0; i < lacks.count; i++)
		lacking |= !strcmp(lacks.what[i], "task_struct.comm");
	assert_true(lacking);
	assert_int_equal(told, 0);
	assert_true(sched_ext(sched, &sink));
	assert_in_range(told, 1, 8);
	sched_free(sched);
	inspect_free(in);
}

static void a_text_needs_room(void **state)
{
	struct inspect *in = NULL;
	char text[4] = {'x', 'x', 'x', 'x'};

	(void)state;
	kernel_fake_build(&fake, 0);
	assert_int_equal(inspect_new(&fake.mem, FAKE_ROOT_GPA, &in, NULL), 0);
	assert_int_equal(space_read_text(&in->space, FAKE_INIT_TASK + 16, text, 0), -EINVAL);
	assert_int_equal(text[0], 'x');
	assert_int_equal(space_read_text(&in->space, FAKE_INIT_TASK + 16, text, 1), 0);
	assert_string_equal(text, "");
	assert_int_equal(space_read_text(&in->space, FAKE_INIT_TASK + 16, text, 4), 0);
	assert_string_equal(text, "swa");
	assert_int_equal(space_read_text(&in->space, 0x1000, text, 4), -EFAULT);
	inspect_free(in);
}

/* ---- counts ------------------------------------------------------------------------------ */

static void events_that_are_none_are_looked_at_for_a_while(void **state)
{
	struct btf *b = btf__new_empty();
	unsigned told = 0;
	struct sched_sink sink = {.number = ignore_number, .text = count_text, .arg = &told};
	struct lacks lacks = {0};
	struct sched *sched;
	struct inspect *in;
	int i32, u64, three;
	char name[16];

	(void)state;
	i32 = btf__add_int(b, "int", 4, 0);
	u64 = btf__add_int(b, "long", 8, 0);
	three = btf__add_array(b, i32, btf__add_int(b, "char", 1, 0), 3);
	assert_true(btf__add_struct(b, "scx_sched", 40) > 0);
	assert_int_equal(btf__add_field(b, "event_stats_cpu", u64, 256, 0), 0);
	assert_true(btf__add_struct(b, "scx_event_stats", 16) > 0);
	for (unsigned i = 0; i < 1000; i++) {
		/* The first, and one beyond what is looked at, are numbers. */
		snprintf(name, sizeof(name), "e%u", i);
		assert_int_equal(btf__add_field(b, name, i == 0 || i == 900 ? u64 : three, 0, 0),
				 0);
	}
	in = open_with(b);
	assert_int_equal(sched_open(in, &lacks, &sched), 0);
	assert_true(sched_ext_events(sched, &sink));
	assert_int_equal(told, 1);
	sched_free(sched);
	inspect_free(in);
}

/* ---- modules ----------------------------------------------------------------------------- */

#define MODULES	       20u
#define MODULE_AT(i)   (FAKE_IMAGE + 0x18000 + 0x400 * (uint64_t)(i))
#define MODULE_TEXT(i) (FAKE_IMAGE + 0x28000 + 0x100 * (uint64_t)(i))

/* Modules with one function each, which say that they have as many symbols as any may. Layouts: see
 * build_code_types in kernel_fake.c. */
static struct inspect *open_modules(void)
{
	struct inspect *in = NULL;

	kernel_fake_build(&fake, 0);
	kernel_fake_put(&fake, FAKE_MODULES, MODULE_AT(0), 8);
	for (unsigned i = 0; i < MODULES; i++) {
		uint64_t at = MODULE_AT(i), names = at + 0x100, sym = at + 0x140;

		kernel_fake_put(&fake, at, i + 1 < MODULES ? MODULE_AT(i + 1) : FAKE_MODULES, 8);
		memcpy(kernel_fake_at(&fake, at + 8), "mod", 4);
		kernel_fake_put(&fake, at + 24, MODULE_TEXT(i), 8);
		kernel_fake_put(&fake, at + 32, 0x100, 4);
		kernel_fake_put(&fake, at + 128, names, 8);
		kernel_fake_put(&fake, names, sym, 8);
		kernel_fake_put(&fake, names + 8, 65536, 4);
		kernel_fake_put(&fake, names + 16, names + 24, 8);
		memcpy(kernel_fake_at(&fake, names + 24), "\0f", 3);
		kernel_fake_put(&fake, sym, 1, 4);
		kernel_fake_put(&fake, sym + 6, 1, 2);
		kernel_fake_put(&fake, sym + 8, MODULE_TEXT(i), 8);
	}
	assert_int_equal(inspect_new(&fake.mem, FAKE_ROOT_GPA, &in, NULL), 0);
	return in;
}

static unsigned named(struct code *code, unsigned i)
{
	char text[64], want[64];

	code_format(code, MODULE_TEXT(i) + 5, false, text, sizeof(text));
	if (!strcmp(text, "f+0x5/0x100 [mod]"))
		return 1;
	snprintf(want, sizeof(want), "0x%llx [mod]", (unsigned long long)MODULE_TEXT(i) + 5);
	assert_string_equal(text, want);
	return 0;
}

static void all_modules_together_have_so_many_symbols(void **state)
{
	struct inspect *in = open_modules();
	struct lacks lacks = {0};
	struct code *code;
	unsigned names = 0;

	(void)state;
	assert_int_equal(code_open(in, &lacks, &code), 0);
	for (unsigned i = 0; i < MODULES; i++)
		names += named(code, i);
	assert_int_equal(names, 16);
	/* What was read, stays; what has no name has a start. */
	for (unsigned i = 0; i < MODULES; i++)
		assert_int_equal(named(code, i), i < 16);
	assert_true(code_function(code, MODULE_TEXT(19) + 5) == MODULE_TEXT(19));
	code_free(code);
	inspect_free(in);
}

/* A stack full of words that look like code costs the budget nothing: only frames have names. */
static void guesses_read_no_symbols(void **state)
{
	struct arch_unwind at = {.pc = FAKE_LOST + 7, .sp = FAKE_STACK + 0x1000, .exact = true};
	struct inspect *in = open_modules();
	static struct stack stack;
	struct lacks lacks = {0};
	struct code *code;

	(void)state;
	for (unsigned i = 0; i < MODULES; i++)
		kernel_fake_put(&fake, FAKE_STACK + 0x1000 + 8 * i, MODULE_TEXT(i) + 0x20, 8);
	assert_int_equal(code_open(in, &lacks, &code), 0);
	stack_walk(code, in, &at, &stack);
	assert_int_equal(stack.count, 1);
	assert_int_equal(named(code, MODULES - 1), 1);
	code_free(code);
	inspect_free(in);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(endless_texts_are_cut),
		cmocka_unit_test(a_text_needs_room),
		cmocka_unit_test(events_that_are_none_are_looked_at_for_a_while),
		cmocka_unit_test(all_modules_together_have_so_many_symbols),
		cmocka_unit_test(guesses_read_no_symbols),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
