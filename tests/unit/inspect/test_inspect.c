/* The kernel as a whole: which VMCOREINFO is its own, what expressions lead to, what is missing. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "inspect/inspect.h"
#include "kernel_fake.h"

static struct kernel_fake fake;

static struct inspect *open_fake(unsigned flags)
{
	struct inspect *in = NULL;
	struct error err = {0};

	kernel_fake_build(&fake, flags);
	if (inspect_new(&fake.mem, FAKE_ROOT_GPA, &in, &err))
		fail_msg("%s", err.what);
	return in;
}

static void facts_come_from_the_guest(void **state)
{
	(void)state;
	for (unsigned flags = 0; flags < 16; flags++) {
		struct inspect *in = open_fake(flags);

		assert_string_equal(in->release, FAKE_RELEASE);
		assert_int_equal(in->kaslr_offset, FAKE_KASLR);
		assert_int_equal(in->phys_base, (uint64_t)FAKE_PHYS_BASE);
		assert_int_equal(in->space.paging.root_gpa, FAKE_ROOT_GPA);
		assert_int_equal(arch_paging_va_bits(&in->space.paging),
				 flags & FAKE_FIVE_LEVELS ? 57 : 48);
		assert_int_equal(inspect_cpus(in), 2);
		assert_int_equal(!in->types, !!(flags & FAKE_NO_BTF));
		inspect_free(in);
	}
}

static void a_stale_copy_is_passed_over(void **state)
{
	struct inspect *in;
	struct error err = {0};
	char *stale;

	(void)state;
	kernel_fake_build(&fake, 0);
	/* Before the real one, of a kernel at another place. */
	memcpy(fake.ram, fake.ram + FAKE_INFO, 0x1000);
	stale = strstr((char *)fake.ram, "SYMBOL(swapper_pg_dir)=ffffffffa8001000");
	assert_non_null(stale);
	stale[strlen("SYMBOL(swapper_pg_dir)=ffffffffa800")] = '9';
	memcpy(strstr((char *)fake.ram, FAKE_RELEASE), "stale", 5);
	assert_int_equal(inspect_new(&fake.mem, 0, &in, &err), 0);
	assert_string_equal(in->release, FAKE_RELEASE);
	inspect_free(in);

	/* It maps itself; but a vCPU runs on other tables, which put the kernel elsewhere. */
	memcpy(fake.ram + 0x40000, fake.ram + FAKE_ROOT_GPA, 0x1000);
	memcpy(fake.ram + 0x41000, fake.ram + 0x4000, 0x1000);
	memcpy(fake.ram + 0x42000, fake.ram + 0x5000, 0x1000);
	kernel_fake_entry(&fake, 0x40000, 511, 0x41000 | 3);
	kernel_fake_entry(&fake, 0x41000, 510, 0x42000 | 3);
	assert_int_equal(inspect_new(&fake.mem, 0x40000, &in, &err), 0);
	inspect_free(in);
	memcpy(fake.ram + 0x43000, fake.ram + 0x6000, 0x1000);
	kernel_fake_entry(&fake, 0x42000, 320, 0x43000 | 3);
	kernel_fake_entry(&fake, 0x43000, 0, 0x44000 | 3);
	assert_int_equal(inspect_new(&fake.mem, 0x40000, &in, &err), -ENODATA);
	/* With the flags of CR3. And a root that maps nothing has no say. */
	assert_int_equal(inspect_new(&fake.mem, 0x40000 | 0x18, &in, NULL), -ENODATA);
	assert_int_equal(inspect_new(&fake.mem, 0x48000, &in, NULL), 0);
	inspect_free(in);
}

static void no_kernel_is_said_so(void **state)
{
	struct inspect *in = NULL;
	struct error err = {0};

	(void)state;
	memset(&fake, 0, sizeof(fake.ram));
	assert_int_equal(inspect_new(&fake.mem, 0, &in, &err), -ENODATA);
	assert_null(in);
	assert_non_null(strstr(err.what, "Linux kernel"));
}

/* A guest of 20 GiB, all of it there: the tiny kernel at its start, VMCOREINFO at 12 GiB. */
static uint64_t looked;

static int sparse_read(const void *arg, uint64_t gpa, void *dst, uint64_t len)
{
	const struct kernel_fake *f = arg;

	looked++;
	memset(dst, 0, len);
	if (gpa < FAKE_RAM && len <= FAKE_RAM - gpa && gpa != FAKE_INFO)
		memcpy(dst, f->ram + gpa, len);
	if (gpa == GIB(12))
		memcpy(dst, f->ram + FAKE_INFO, MIN(len, UINT64_C(4096)));
	return 0;
}

static void a_large_guest_is_searched_in_parts(void **state)
{
	struct guest_reader mem = {.read = sparse_read, .arg = &fake};
	struct inspect *in = NULL;
	struct error err = {0};
	uint64_t from = 0;

	(void)state;
	kernel_fake_build(&fake, 0);
	mem.layout.count = 2;
	mem.layout.range[0].size = GIB(1);
	mem.layout.range[1] = (struct guest_range){.gpa = GIB(2), .size = GIB(18)};
	assert_int_equal(inspect_new(&mem, 0, &in, &err), -ENODATA);
	assert_int_equal(looked, INSPECT_SEARCH_MAX / 4096);
	assert_null(in);
	assert_int_equal(inspect_search(&mem, 0, &from, &in, &err), -ENODATA);
	assert_int_equal(from, GIB(9));
	assert_non_null(strstr(err.what, "from 0x0"));
	assert_int_equal(inspect_search(&mem, 0, &from, &in, &err), 0);
	assert_int_equal(in->info.gpa, GIB(12));
	inspect_free(in);

	/* Past it, to the end, and from the start again. */
	from = GIB(15);
	err = (struct error){0};
	assert_int_equal(inspect_search(&mem, 0, &from, &in, &err), -ENODATA);
	assert_int_equal(from, 0);
	assert_non_null(strstr(err.what, "0x3c0000000 to its end"));
}

static void symbols_have_suggestions(void **state)
{
	struct inspect *in = open_fake(0);
	struct error err = {0};
	uint64_t gva = 77;
	char text[64];

	(void)state;
	assert_int_equal(inspect_symbol(in, "jiffies_64", &gva, &err), 0);
	assert_int_equal(gva, FAKE_JIFFIES);
	assert_int_equal(err.code, 0);
	assert_int_equal(inspect_symbol(in, "jifies_64", &gva, &err), -ENOENT);
	assert_int_equal(gva, FAKE_JIFFIES);
	assert_int_equal(err.kind, ERROR_USAGE);
	assert_string_equal(err.hint, "did you mean jiffies_64?");
	inspect_format(in, FAKE_IMAGE + 0x104, text, sizeof(text));
	assert_string_equal(text, "schedule+0x4/0x80");
	inspect_format(in, 0x1234, text, sizeof(text));
	assert_string_equal(text, "0x1234");
	inspect_free(in);
}

static void percpu_addresses(void **state)
{
	(void)state;
	for (unsigned flags = 0; flags <= FAKE_PERCPU_IN_IMAGE; flags += FAKE_PERCPU_IN_IMAGE) {
		struct inspect *in = open_fake(flags);
		uint64_t gva, at = 77;

		assert_int_equal(inspect_symbol(in, "runqueues", &gva, NULL), 0);
		for (unsigned cpu = 0; cpu < 2; cpu++) {
			assert_int_equal(inspect_percpu(in, gva, cpu, &at), 0);
			assert_int_equal(at, fake.direct + FAKE_PERCPU_GPA(cpu) + FAKE_RQ_OFFSET);
		}
		at = 77;
		assert_int_equal(inspect_percpu(in, gva, 2, &at), -ERANGE);
		assert_int_equal(inspect_percpu(in, gva, UINT32_MAX, &at), -ERANGE);
		assert_int_equal(at, 77);
		inspect_free(in);
	}
}

static void places(void **state)
{
	static const struct {
		const char *expr;
		unsigned cpu;
		uint64_t gva; /* below 2^32: in RAM, by the direct map */
		unsigned size, pointers;
	} want[] = {
		{"jiffies_64", 0, FAKE_JIFFIES, 8, 0},
		{"scx_root", 0, FAKE_SCX_ROOT, 8, 0},
		{"scx_root->exit_kind", 0, FAKE_SCHED_GPA + 4, 4, 1},
		{"init_task", 0, FAKE_INIT_TASK, 72, 0},
		{"init_task.pid", 0, FAKE_INIT_TASK + 8, 4, 0},
		{"init_task.comm", 0, FAKE_INIT_TASK + 16, 16, 0},
		{"init_task.comm[3]", 0, FAKE_INIT_TASK + 19, 1, 0},
		{"init_task.high", 0, FAKE_INIT_TASK + 44, 4, 0},
		{"init_task.tasks.next", 0, FAKE_INIT_TASK + 56, 8, 0},
		{"init_task.parent->parent->pid", 0, FAKE_INIT_TASK + 8, 4, 2},
		{"runqueues.nr_running", 1, FAKE_PERCPU_GPA(1) + FAKE_RQ_OFFSET, 4, 0},
		{"runqueues.curr->comm", 0, FAKE_INIT_TASK + 16, 16, 1},
		{"nr_cpu_ids", 0, FAKE_CPU_IDS, 4, 0},
		{"_stext", 0, FAKE_IMAGE, 0, 0},
	};

	(void)state;
	for (unsigned flags = 0; flags <= FAKE_FIVE_LEVELS; flags++) {
		struct inspect *in = open_fake(flags);

		for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
			uint64_t gva = want[i].gva;
			struct inspect_place place;
			struct error err = {0};

			if (gva < UINT32_MAX)
				gva += fake.direct;
			if (inspect_place(in, want[i].expr, want[i].cpu, &place, &err))
				fail_msg("%s: %s", want[i].expr, err.what);
			assert_int_equal(place.gva, gva);
			assert_int_equal(place.value.size, want[i].size);
			assert_int_equal(place.pointers, want[i].pointers);
		}
		inspect_free(in);
	}
}

static void pointers_on_the_way_are_told(void **state)
{
	struct inspect *in = open_fake(0);
	struct inspect_place place;

	(void)state;
	assert_int_equal(inspect_place(in, "scx_root->exit_kind", 0, &place, NULL), 0);
	assert_int_equal(place.pointer_gva[0], FAKE_SCX_ROOT);
	assert_int_equal(place.pointer[0], FAKE_DIRECT + FAKE_SCHED_GPA);
	/* Another scheduler: the same expression leads elsewhere. Then none. */
	memcpy(kernel_fake_at(&fake, FAKE_SCX_ROOT), &(uint64_t){FAKE_DIRECT + 0xc000}, 8);
	assert_int_equal(inspect_place(in, "scx_root->exit_kind", 0, &place, NULL), 0);
	assert_int_equal(place.gva, FAKE_DIRECT + 0xc004);
	memset(kernel_fake_at(&fake, FAKE_SCX_ROOT), 0, 8);
	assert_int_equal(inspect_place(in, "scx_root->exit_kind", 0, &place, NULL), -EFAULT);
	/* Out of the address space, and over its end. */
	memset(kernel_fake_at(&fake, FAKE_SCX_ROOT), 0xff, 8);
	assert_int_equal(inspect_place(in, "scx_root->exit_kind", 0, &place, NULL), -EFAULT);
	assert_int_equal(place.gva, FAKE_DIRECT + 0xc004);
	inspect_free(in);
}

static void bad_expressions_are_refused(void **state)
{
	static const struct {
		const char *expr, *says;
	} bad[] = {
		{"", "is not SYMBOL"},
		{".pid", "is not SYMBOL"},
		{"init_task.", "is not SYMBOL"},
		{"init_task->", "is not SYMBOL"},
		{"init_task-pid", "is not SYMBOL"},
		{"init_task.comm[", "is not SYMBOL"},
		{"init_task.comm[]", "is not SYMBOL"},
		{"init_task.comm[-1]", "is not SYMBOL"},
		{"init_task.comm[99999999999999999999]", "is not SYMBOL"},
		{"init_task.comm[1]x", "is not SYMBOL"},
		{"init_task.comm[16]", "no element 16"},
		{"init_task.pid[0]", "is no array"},
		{"init_task[0]", "is no array"},
		{"init_task.pidd", "no member pidd"},
		{"init_task.pid.x", "no struct"},
		{"init_task->pid", "is no pointer"},
		{"init_task.parent.pid", "is a pointer"},
		{"scx_root.exit_kind", "is a pointer"},
		{"nowhere", "no symbol nowhere"},
		{"_stext.nowhere", "none has a field"},
		{"a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a", "more than"},
		{"init_task.parent->parent->parent->parent->parent->parent->parent->parent->parent"
		 "->pid",
		 "more than"},
		{"runqueues.curr->pid", "null pointer"},
	};
	struct inspect *in = open_fake(0);
	struct inspect_place place = {.gva = 77};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error err = {0};

		assert_int_not_equal(inspect_place(in, bad[i].expr, 1, &place, &err), 0);
		if (!strstr(err.what, bad[i].says))
			fail_msg("%s: %s", bad[i].expr, err.what);
		assert_int_equal(place.gva, 77);
	}
	inspect_free(in);
}

static void members(void **state)
{
	static const struct {
		const char *path;
		int64_t offset; /* -1: refused */
	} want[] = {
		{"task_struct.pid", 8},	  {"task_struct.tasks.next", 56},
		{"task_struct", 0},	  {"task_struct.comm[15]", 31},
		{"rq.curr", 8},		  {"task_struct.x", -1},
		{"task_struct->pid", -1}, {"rq.curr->pid", -1},
		{"nothing.pid", -1},	  {"task_struct[1].pid", -1},
	};
	struct inspect *in = open_fake(0);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		struct types_value v = {.offset = 77};
		struct error err = {0};
		int rc = inspect_member(in, want[i].path, &v, &err);

		assert_int_equal(rc, want[i].offset < 0 ? -EINVAL : 0);
		assert_int_equal(v.offset, want[i].offset < 0 ? 77 : want[i].offset);
		assert_int_equal(err.code, rc);
	}
	inspect_free(in);
}

static void without_btf_symbols_are_left(void **state)
{
	struct inspect *in = open_fake(FAKE_NO_BTF);
	struct inspect_place place;
	struct types_value v;
	struct error err = {0};

	(void)state;
	assert_non_null(strstr(in->types_lack.what, "BTF"));
	assert_int_equal(inspect_place(in, "jiffies_64", 0, &place, &err), 0);
	assert_int_equal(place.value.size, 8);
	assert_int_equal(inspect_place(in, "scx_root->exit_kind", 0, &place, &err), -EINVAL);
	assert_non_null(strstr(err.what, "BTF"));
	assert_int_equal(inspect_member(in, "task_struct.pid", &v, NULL), -EINVAL);
	inspect_free(in);
}

static void broken_btf_is_no_btf(void **state)
{
	struct inspect *in;

	(void)state;
	/* Magic, version, length of the head, places of the sections: each spoilt. */
	for (unsigned at = 0; at < 24; at += at < 4 ? 1 : 4) {
		if (at == 2 || at == 3) /* version and flags: libbpf asks nothing of them */
			continue;
		kernel_fake_build(&fake, 0);
		memset(kernel_fake_at(&fake, FAKE_BTF + at), 0xf1, at < 4 ? 1 : 4);
		assert_int_equal(inspect_new(&fake.mem, 0, &in, NULL), 0);
		assert_null(in->types);
		assert_int_not_equal(in->types_lack.code, 0);
		inspect_free(in);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(facts_come_from_the_guest),
		cmocka_unit_test(a_stale_copy_is_passed_over),
		cmocka_unit_test(no_kernel_is_said_so),
		cmocka_unit_test(a_large_guest_is_searched_in_parts),
		cmocka_unit_test(symbols_have_suggestions),
		cmocka_unit_test(percpu_addresses),
		cmocka_unit_test(places),
		cmocka_unit_test(pointers_on_the_way_are_told),
		cmocka_unit_test(bad_expressions_are_refused),
		cmocka_unit_test(members),
		cmocka_unit_test(without_btf_symbols_are_left),
		cmocka_unit_test(broken_btf_is_no_btf),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
