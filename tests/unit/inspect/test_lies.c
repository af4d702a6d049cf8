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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(endless_texts_are_cut),
		cmocka_unit_test(a_text_needs_room),
		cmocka_unit_test(events_that_are_none_are_looked_at_for_a_while),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
