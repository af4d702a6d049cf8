/* BTF lookups: members through unnamed ones, bit fields, arrays; types that turn in circles. */
#include <bpf/btf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "inspect/types.h"
#include "kernel_fake.h"

static struct kernel_fake fake;

static struct types *fake_types(void)
{
	struct types *t = NULL;

	kernel_fake_build(&fake, 0);
	assert_int_equal(types_new(kernel_fake_at(&fake, FAKE_BTF), fake.btf_len, &t, NULL), 0);
	return t;
}

static void members_of_all_kinds(void **state)
{
	static const struct {
		const char *name;
		uint64_t offset, size;
		unsigned bit_offset, bit_size;
		bool is_signed, is_pointer;
	} want[] = {
		{"flags", 0, 8, 0, 0, false, false},  {"pid", 8, 4, 0, 0, true, false},
		{"comm", 16, 16, 0, 0, false, false}, {"parent", 32, 8, 0, 0, false, true},
		{"both", 40, 8, 0, 0, false, false},  {"low", 40, 4, 0, 0, false, false},
		{"high", 44, 4, 0, 0, false, false},  {"a", 48, 4, 0, 3, false, false},
		{"b", 48, 4, 3, 5, false, false},     {"tasks", 56, 8, 0, 0, false, false},
	};
	struct types *t = fake_types();
	struct types_value task, v;

	(void)state;
	assert_int_equal(types_struct(t, "task_struct", &task), 0);
	assert_int_equal(task.size, 72);
	assert_string_equal(types_name(t, &task), "task_struct");
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		assert_int_equal(types_member(t, &task, want[i].name, &v), 0);
		assert_int_equal(v.offset, want[i].offset);
		assert_int_equal(v.size, want[i].size);
		assert_int_equal(v.bit_offset, want[i].bit_offset);
		assert_int_equal(v.bit_size, want[i].bit_size);
		assert_int_equal(v.is_signed, want[i].is_signed);
		assert_int_equal(v.is_pointer, want[i].is_pointer);
	}
	assert_int_equal(types_member(t, &task, "none", &v), -ENOENT);
	assert_int_equal(types_member(t, &task, "", &v), -ENOENT);
	assert_int_equal(types_member(t, &task, "pid", &v), 0);
	assert_int_equal(types_member(t, &v, "pid", &v), -ENOTDIR);
	assert_int_equal(types_pointee(t, &v, &v), -ENOTDIR);
	assert_int_equal(types_element(t, &v, 0, &v), -ENOTDIR);
	assert_int_equal(types_struct(t, "rq_", &v), -ENOENT);
	types_free(t);
}

static void arrays_pointers_and_variables(void **state)
{
	struct types *t = fake_types();
	struct types_value task, v, e;

	(void)state;
	assert_int_equal(types_variable(t, "runqueues", &v), 0);
	assert_string_equal(types_name(t, &v), "rq");
	assert_int_equal(types_variable(t, "rq", &v), -ENOENT);
	assert_int_equal(types_struct(t, "task_struct", &task), 0);
	assert_int_equal(types_member(t, &task, "comm", &v), 0);
	assert_int_equal(types_element(t, &v, 15, &e), 0);
	assert_int_equal(e.offset, 15);
	assert_int_equal(types_element(t, &v, 16, &e), -ERANGE);
	/* Through a typedef. */
	assert_int_equal(types_member(t, &task, "parent", &v), 0);
	assert_int_equal(types_pointee(t, &v, &e), 0);
	assert_int_equal(e.type, task.type);

	assert_int_equal(types_struct_with(t, "exit_kind", &v), 0);
	assert_string_equal(types_name(t, &v), "scx_sched");
	assert_int_equal(types_struct_with(t, "nowhere", &v), -ENOENT);
	types_free(t);
}

static struct types *from(struct btf *b)
{
	struct types *t = NULL;
	const void *raw;
	__u32 len;

	raw = btf__raw_data(b, &len);
	assert_non_null(raw);
	assert_int_equal(types_new(raw, len, &t, NULL), 0);
	btf__free(b);
	return t;
}

/* What no compiler writes, and an id past the end at every place that has one. */
static void circles_and_wild_ids_end(void **state)
{
	struct btf *b = btf__new_empty();
	struct types_value s, v, e;
	struct types *t;
	static const char *const names[] = {"typedef", "wild", "void", "array", "ptr"};

	(void)state;
	assert_int_equal(btf__add_typedef(b, "round", 2), 1); /* 1 -> 2 -> 1 */
	assert_int_equal(btf__add_const(b, 1), 2);
	assert_int_equal(btf__add_array(b, 4, 3, 2), 3); /* of itself */
	assert_int_equal(btf__add_int(b, "int", 4, 0), 4);
	assert_int_equal(btf__add_ptr(b, 999), 5);
	assert_int_equal(btf__add_struct(b, "round_struct", 8), 6);
	assert_int_equal(btf__add_field(b, "typedef", 1, 0, 0), 0);
	assert_int_equal(btf__add_field(b, "wild", 12345, 0, 0), 0);
	assert_int_equal(btf__add_field(b, "void", 0, 0, 0), 0);
	assert_int_equal(btf__add_field(b, "array", 3, 0, 0), 0);
	assert_int_equal(btf__add_field(b, "ptr", 5, 0, 0), 0);
	/* Itself twice, without a name: a search doubles at each level, and must end. */
	assert_int_equal(btf__add_field(b, NULL, 6, 0, 0), 0);
	assert_int_equal(btf__add_field(b, NULL, 6, 0, 0), 0);
	t = from(b);
	assert_int_equal(types_struct(t, "round_struct", &s), 0);
	assert_int_equal(types_member(t, &s, "nobody", &v), -ENOENT);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		assert_int_equal(types_member(t, &s, names[i], &v), 0);
		assert_int_equal(v.size, i == 4 ? 8 : 0);
		assert_int_equal(types_element(t, &v, 1, &e), i == 3 ? -ERANGE : -ENOTDIR);
		assert_int_equal(types_pointee(t, &v, &e), i == 4 ? 0 : -ENOTDIR);
		if (i == 4)
			assert_int_equal(e.type, 0);
	}
	types_free(t);
}

static void sizes_that_overflow_are_unknown(void **state)
{
	struct btf *b = btf__new_empty();
	struct types_value s, v, e;
	struct types *t;
	int id;

	(void)state;
	id = btf__add_int(b, "int", 4, 0);
	for (unsigned i = 0; i < 3; i++)
		id = btf__add_array(b, 1, id, UINT32_MAX);
	assert_true(btf__add_struct(b, "s", 4) > 0);
	assert_int_equal(btf__add_field(b, "huge", id, 0, 0), 0);
	t = from(b);
	assert_int_equal(types_struct(t, "s", &s), 0);
	assert_int_equal(types_member(t, &s, "huge", &v), 0);
	assert_int_equal(v.size, 0);
	assert_int_equal(types_element(t, &v, UINT32_MAX - 1u, &e), -ERANGE);
	types_free(t);
}

static void two_structs_with_a_member_are_told(void **state)
{
	struct btf *b = btf__new_empty();
	struct types_value v;
	struct types *t;

	(void)state;
	assert_true(btf__add_int(b, "int", 4, 0) > 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_true(btf__add_struct(b, i ? "x" : "y", 4) > 0);
		assert_int_equal(btf__add_field(b, "same", 1, 0, 0), 0);
	}
	t = from(b);
	assert_int_equal(types_struct_with(t, "same", &v), -ENOTUNIQ);
	types_free(t);
}

static struct types *walked;
static struct types_value walked_of;

static bool count(const char *name, const struct types_value *v, void *arg)
{
	struct types_value same;

	assert_int_equal(types_member(walked, &walked_of, name, &same), 0);
	assert_int_equal(same.type, v->type);
	assert_int_equal(same.offset, v->offset);
	assert_int_equal(same.bit_size, v->bit_size);
	return ++*(unsigned *)arg != 14;
}

static void all_members_are_told(void **state)
{
	unsigned n = 0;

	(void)state;
	walked = fake_types();
	assert_int_equal(types_struct(walked, "task_struct", &walked_of), 0);
	types_members(walked, &walked_of, count, &n);
	assert_int_equal(n, 12);
	types_members(walked, &walked_of, count, &n);
	assert_int_equal(n, 14); /* where it was stopped */
	types_free(walked);
}

static void long_names_are_none(void **state)
{
	struct btf *b = btf__new_empty();
	static char name[TYPES_NAME_MAX + 1];
	struct types_value s, v;
	struct types *t;

	(void)state;
	assert_true(btf__add_int(b, "int", 4, 0) > 0);
	assert_true(btf__add_struct(b, "s", 8) > 0);
	memset(name, 'n', TYPES_NAME_MAX - 1);
	assert_int_equal(btf__add_field(b, name, 1, 0, 0), 0);
	name[TYPES_NAME_MAX - 1] = 'n';
	assert_int_equal(btf__add_field(b, name, 1, 32, 0), 0);
	t = from(b);
	assert_int_equal(types_struct(t, "s", &s), 0);
	assert_int_equal(types_member(t, &s, name, &v), -ENOENT);
	assert_int_equal(types_struct_with(t, name, &v), -ENOENT);
	name[TYPES_NAME_MAX - 1] = '\0';
	assert_int_equal(types_member(t, &s, name, &v), 0);
	assert_int_equal(v.offset, 0);
	types_free(t);
}

static void a_cut_blob_is_refused(void **state)
{
	struct types *t = NULL;
	struct error err = {0};

	(void)state;
	kernel_fake_build(&fake, 0);
	for (size_t len = 0; len < fake.btf_len; len++) {
		/* Of its exact size, so that a read past its end is seen. */
		void *blob = malloc(len ? len : 1);

		memcpy(blob, kernel_fake_at(&fake, FAKE_BTF), len);
		assert_int_not_equal(types_new(blob, len, &t, &err), 0);
		assert_null(t);
		free(blob);
	}
	assert_int_equal(types_new(fake.ram, TYPES_BLOB_MAX + 1, &t, &err), -EBADMSG);
}

/* A name is compared with many others, so one that no kernel has is none. */
static void a_name_without_end_is_none(void **state UNUSED)
{
	struct btf *btf = btf__new_empty();
	struct types *t = NULL;
	struct types_value v;
	char name[4096];
	const void *raw;
	uint32_t size;

	memset(name, 'a', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_true(btf__add_struct(btf, name, 8) > 0);
	assert_true(btf__add_struct(btf, name + sizeof(name) - 101, 16) > 0);
	raw = btf__raw_data(btf, &size);
	assert_int_equal(types_new(raw, size, &t, NULL), 0);
	assert_int_equal(types_struct(t, name, &v), -ENOENT);
	assert_int_equal(types_struct(t, name + sizeof(name) - 101, &v), 0);
	assert_int_equal(v.size, 16);
	types_free(t);
	btf__free(btf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_name_without_end_is_none),
		cmocka_unit_test(members_of_all_kinds),
		cmocka_unit_test(arrays_pointers_and_variables),
		cmocka_unit_test(circles_and_wild_ids_end),
		cmocka_unit_test(sizes_that_overflow_are_unknown),
		cmocka_unit_test(two_structs_with_a_member_are_told),
		cmocka_unit_test(all_members_are_told),
		cmocka_unit_test(long_names_are_none),
		cmocka_unit_test(a_cut_blob_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
