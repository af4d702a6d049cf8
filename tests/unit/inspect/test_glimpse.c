/* Glimpses of the tiny kernel: true ones, and ones of memory that lies or changes meanwhile. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "inspect/glimpse.h"
#include "kernel_fake.h"

static struct kernel_fake fake;
static struct inspect *in;

static uint64_t slot(unsigned word)
{
	return FAKE_STACK + 0x1000 + 8 * (uint64_t)word;
}

static void put(unsigned word, uint64_t value)
{
	kernel_fake_put(&fake, slot(word), value, sizeof(value));
}

static struct glimpse_kernel *open_built(void)
{
	struct glimpse_kernel *kernel;
	struct error err = {0};

	if (inspect_new(&fake.mem, FAKE_ROOT_GPA, &in, &err))
		fail_msg("%s", err.what);
	assert_int_equal(glimpse_open(in, &kernel), 0);
	return kernel;
}

static struct glimpse_kernel *open_fake(unsigned flags)
{
	kernel_fake_build(&fake, flags);
	return open_built();
}

static void done(struct glimpse_kernel *kernel)
{
	glimpse_close(kernel);
	inspect_free(in);
	in = NULL;
}

static struct glimpse_at at_kernel(uint64_t pc, uint64_t sp, uint64_t fp)
{
	return (struct glimpse_at){
		.cpu = 1,
		.in_kernel = true,
		.registers = {.pc = pc, .sp = sp, .fp = fp, .exact = true},
	};
}

static void task_and_functions_are_seen(void **state)
{
	struct glimpse_kernel *kernel = open_fake(0);
	struct glimpse_at at = at_kernel(FAKE_MOD_TEXT + 0x90, slot(0), slot(4));
	struct glimpse g;
	char name[64];
	bool known;

	(void)state;
	put(0, FAKE_BPF_TEXT + 0x20);
	put(4, 77);
	put(5, FAKE_SCHEDULE + 0x40);
	put(8, FAKE_DO_IDLE + 0x40);
	put(10, FAKE_STARTUP + 0x40);
	glimpse_look(kernel, &fake.mem, &at, &g);
	assert_true(g.has_task);
	assert_int_equal(g.pid, 0);
	assert_string_equal(g.comm, "swapper/0");
	assert_int_equal(g.count, 5);
	assert_true(g.complete);
	assert_true(g.frame[0] == FAKE_MOD_TEXT + 0x80);
	assert_true(g.frame[1] == FAKE_BPF_TEXT);
	assert_true(g.frame[2] == FAKE_SCHEDULE);
	assert_true(g.frame[3] == FAKE_DO_IDLE);
	assert_true(g.frame[4] == FAKE_STARTUP);
	glimpse_name(kernel, g.frame[0], name, sizeof(name), &known);
	assert_string_equal(name, "mod_work [virtio_fake]");
	glimpse_name(kernel, g.frame[1], name, sizeof(name), &known);
	assert_string_equal(name, "bpf_prog_1_x [bpf]");
	assert_true(known);
	glimpse_name(kernel, g.frame[2], name, sizeof(name), &known);
	assert_string_equal(name, "schedule");
	glimpse_name(kernel, FAKE_BPF_TEXT + 0x100, name, sizeof(name), &known);
	assert_false(known);
	assert_memory_equal(name, "0x", 2);
	done(kernel);
}

static void write_word(uint64_t gva, uint64_t value)
{
	memcpy(kernel_fake_at(&fake, gva), &value, sizeof(value));
}

static void code_that_comes_makes_it_stale(void **state)
{
	struct glimpse_kernel *kernel = open_fake(0);

	(void)state;
	assert_false(glimpse_is_stale(kernel));
	/* A program, at the tail of its list; an older one that goes is none of it. */
	write_word(FAKE_BPF_LIST, FAKE_BPF_LIST);
	assert_false(glimpse_is_stale(kernel));
	write_word(FAKE_BPF_LIST + 8, FAKE_KSYM + 0x1000);
	assert_true(glimpse_is_stale(kernel));
	done(kernel);
	/* A module, at the head of its. */
	kernel = open_fake(0);
	assert_false(glimpse_is_stale(kernel));
	write_word(FAKE_MODULES, FAKE_MODULE + 0x1000);
	assert_true(glimpse_is_stale(kernel));
	done(kernel);
}

static void nothing_is_guessed(void **state)
{
	struct glimpse_kernel *kernel = open_fake(0);
	struct glimpse_at at = at_kernel(FAKE_LOST + 7, slot(0), 0);
	struct glimpse g;

	(void)state;
	put(3, FAKE_DO_IDLE + 0x40);
	glimpse_look(kernel, &fake.mem, &at, &g);
	assert_int_equal(g.count, 1);
	assert_false(g.complete);
	done(kernel);
}

static void without_a_kernel_there_is_the_address(void **state)
{
	struct glimpse_at at = at_kernel(0x100011, 0, 0);
	struct glimpse g;

	(void)state;
	kernel_fake_build(&fake, 0);
	glimpse_look(NULL, &fake.mem, &at, &g);
	assert_false(g.has_task);
	assert_int_equal(g.count, 1);
	assert_true(g.frame[0] == 0x100011);
}

/* The image's table is not read again: a guest that spoils it later changes no stack. */
static void tables_are_those_of_the_opening(void **state)
{
	struct glimpse_kernel *kernel = open_fake(0);
	struct glimpse_at at = at_kernel(FAKE_SCHEDULE + 0x10, slot(0), 0);
	struct glimpse before, after;

	(void)state;
	put(0, FAKE_DO_IDLE + 0x40);
	put(2, FAKE_STARTUP + 0x40);
	glimpse_look(kernel, &fake.mem, &at, &before);
	memset(kernel_fake_at(&fake, FAKE_ORC_IP), 0xff, 64);
	memset(kernel_fake_at(&fake, FAKE_ORC), 0xff, 64);
	glimpse_look(kernel, &fake.mem, &at, &after);
	assert_true(before.count > 1);
	assert_int_equal(after.count, before.count);
	assert_memory_equal(after.frame, before.frame, before.count * sizeof(before.frame[0]));
	done(kernel);
}

/* ---- what it lacks ----------------------------------------------------------------------- */

/* A member of this name has another one. */
static void rename_member(const char *name)
{
	char *types = kernel_fake_at(&fake, FAKE_BTF), text[32];
	size_t len = strlen(name) + 2;
	char *at;

	text[0] = '\0';
	memcpy(text + 1, name, len - 1);
	at = memmem(types, fake.btf_len, text, len);
	assert_non_null(at);
	at[1] = '_';
}

static void lacks_are(const struct glimpse_kernel *kernel, const char *const *names, unsigned n)
{
	const struct lacks *lacks = glimpse_lacks(kernel);

	assert_int_equal(lacks->count, n);
	for (unsigned i = 0; i < n; i++)
		assert_string_equal(lacks->what[i], names[i]);
}

static void what_it_lacks_is_told(void **state)
{
	static const char *const tables[] = {"__start_orc_unwind"};
	static const char *const members[] = {"module.kallsyms", "module.arch.orc_unwind",
					      "bpf_ksym.lnode", "task_struct.comm"};
	struct glimpse_kernel *kernel = open_fake(0);

	(void)state;
	/* Run queues are none of it. */
	lacks_are(kernel, NULL, 0);
	done(kernel);

	kernel_fake_build(&fake, 0);
	rename_member("kallsyms");
	rename_member("orc_unwind");
	rename_member("lnode");
	rename_member("comm");
	kernel = open_built();
	lacks_are(kernel, members, ARRAY_SIZE(members));
	done(kernel);

	kernel_fake_build(&fake, 0);
	kernel_fake_entry(&fake, 0x6000, (FAKE_ORC_IP >> 12) & 511, 0);
	kernel = open_built();
	lacks_are(kernel, tables, ARRAY_SIZE(tables));
	done(kernel);
}

/* ---- user stacks ------------------------------------------------------------------------- */

/* What is at user address FAKE_USER: an alias of the image's first page, by the lower half. */
#define USER_GPA 0x40000u
#define USER	 UINT64_C(0x400000)

static struct arch_paging user_tables(void)
{
	/* PML4, PDPT and PD of their own, in RAM that the kernel leaves alone; one 2 MiB page at
	 * USER that begins at physical 0. */
	memset(fake.ram + USER_GPA, 0, 0x3000);
	kernel_fake_entry(&fake, USER_GPA, 0, (USER_GPA + 0x1000) | 7);
	kernel_fake_entry(&fake, USER_GPA + 0x1000, 0, (USER_GPA + 0x2000) | 7);
	kernel_fake_entry(&fake, USER_GPA + 0x2000, 2, 0x87);
	return (struct arch_paging){.root_gpa = USER_GPA, .levels = 4};
}

static void put_user(uint64_t gva, uint64_t value)
{
	memcpy(fake.ram + (gva - USER), &value, sizeof(value));
}

static void a_user_stack_goes_as_far_as_calls_do(void **state)
{
	static const uint8_t call[] = {0xe8, 1, 2, 3, 4};
	const uint64_t text = USER + 0x44000, stack = USER + 0x45000;
	struct glimpse_at at = {.registers = {.pc = text + 0x10, .sp = stack, .fp = stack + 0x10}};
	struct arch_paging paging;
	struct glimpse g;

	(void)state;
	kernel_fake_build(&fake, 0);
	paging = user_tables();
	at.user = &paging;
	memset(fake.ram + 0x44000, 0x90, 0x2000);
	memcpy(fake.ram + 0x44100 - 5, call, sizeof(call));
	put_user(stack + 0x10, stack + 0x40);
	put_user(stack + 0x18, text + 0x100);
	put_user(stack + 0x40, stack + 0x80);
	put_user(stack + 0x48, text + 0x200); /* no call is before it */
	glimpse_look(NULL, &fake.mem, &at, &g);
	assert_int_equal(g.count, 2);
	assert_true(g.frame[0] == text + 0x10 && g.frame[1] == text + 0x100);

	/* One that leads to itself, down, off its alignment, or into the kernel, ends. */
	for (unsigned i = 0; i < 5; i++) {
		const uint64_t to[] = {stack + 0x10, stack, stack + 0x43, FAKE_IMAGE, UINT64_MAX};

		put_user(stack + 0x10, to[i]);
		glimpse_look(NULL, &fake.mem, &at, &g);
		assert_int_equal(g.count, 2);
	}
	/* A long one is cut. */
	for (unsigned i = 0; i < 100; i++) {
		put_user(stack + 0x10 * i, stack + 0x10 * (i + 1));
		put_user(stack + 0x10 * i + 8, text + 0x100);
	}
	glimpse_look(NULL, &fake.mem, &at, &g);
	assert_int_equal(g.count, GLIMPSE_USER);
}

/* ---- hostile memory ---------------------------------------------------------------------- */

static _Atomic uint64_t reads;

static int counted_read(const void *arg, uint64_t gpa, void *dst, uint64_t len)
{
	const struct kernel_fake *f = arg;

	atomic_fetch_add(&reads, 1);
	if (gpa > FAKE_RAM || len > FAKE_RAM - gpa)
		return -EFAULT;
	memcpy(dst, f->ram + gpa, len);
	return 0;
}

/* A frame's record, a table's search and its entry, by four levels of page tables each. */
#define READS_MAX (GLIMPSE_FRAMES * 64u)

static uint64_t some_code(unsigned *seed)
{
	static const uint64_t code[] = {FAKE_SCHEDULE, FAKE_SCHEDULE, FAKE_DO_IDLE,
					FAKE_BPF_TEXT, FAKE_MOD_TEXT, FAKE_LOST};

	return code[(unsigned)rand_r(seed) % ARRAY_SIZE(code)] + 1 + (unsigned)rand_r(seed) % 0x70;
}

static void a_glimpse_is_bounded(void **state)
{
	struct glimpse_kernel *kernel = open_fake(0);
	uint64_t most_reads = 0, most_frames = 0;
	unsigned seed = 7;

	(void)state;
	in->mem.read = counted_read;
	in->mem.arg = &fake;
	for (unsigned round = 0; round < 3000; round++) {
		struct glimpse_at at =
			at_kernel(some_code(&seed), slot((unsigned)rand_r(&seed) % 64),
				  slot((unsigned)rand_r(&seed) % 64));
		struct glimpse g = {0};

		/* A stack of return addresses and of itself; all else goes bad by and by. */
		for (unsigned i = 0; i < 1500; i++)
			put(i, rand_r(&seed) % 6 ? some_code(&seed)
						 : slot((unsigned)rand_r(&seed) % 1500));
		if (round > 500)
			fake.ram[(unsigned)rand_r(&seed) % FAKE_RAM] = (uint8_t)rand_r(&seed);
		atomic_store(&reads, 0);
		glimpse_look(kernel, &in->mem, &at, &g);
		assert_in_range(g.count, 1, GLIMPSE_FRAMES);
		assert_non_null(memchr(g.comm, 0, sizeof(g.comm)));
		most_frames = MAX(most_frames, g.count);
		most_reads = MAX(most_reads, atomic_load(&reads));
	}
	print_message("at most %llu frames, %llu reads\n", (unsigned long long)most_frames,
		      (unsigned long long)most_reads);
	assert_true(most_frames > 8);
	assert_true(most_reads < READS_MAX);
	done(kernel);
}

static void an_endless_stack_is_cut(void **state)
{
	struct glimpse_kernel *kernel = open_fake(0);
	struct glimpse_at at = at_kernel(FAKE_SCHEDULE + 0x10, slot(0), 0);
	struct glimpse g;

	(void)state;
	in->mem.read = counted_read;
	in->mem.arg = &fake;
	for (unsigned i = 0; i < 1500; i++)
		put(i, FAKE_SCHEDULE + 0x40);
	atomic_store(&reads, 0);
	glimpse_look(kernel, &in->mem, &at, &g);
	assert_int_equal(g.count, GLIMPSE_FRAMES);
	assert_false(g.complete);
	assert_true(atomic_load(&reads) < READS_MAX);
	done(kernel);
}

/* ---- many threads ------------------------------------------------------------------------ */

static void *look_often(void *arg)
{
	struct glimpse_at at = at_kernel(FAKE_MOD_TEXT + 0x90, slot(0), slot(4));
	uintptr_t same = 1;
	struct glimpse g;

	for (unsigned i = 0; i < 2000; i++) {
		glimpse_look(arg, &fake.mem, &at, &g);
		same &= g.count == 5 && g.frame[0] == FAKE_MOD_TEXT + 0x80;
	}
	return (void *)same;
}

static void threads_look_at_once(void **state)
{
	struct glimpse_kernel *kernel = open_fake(0);
	pthread_t thread[3];

	(void)state;
	put(0, FAKE_BPF_TEXT + 0x20);
	put(4, 77);
	put(5, FAKE_SCHEDULE + 0x40);
	put(8, FAKE_DO_IDLE + 0x40);
	put(10, FAKE_STARTUP + 0x40);
	for (unsigned i = 0; i < ARRAY_SIZE(thread); i++)
		assert_int_equal(pthread_create(&thread[i], NULL, look_often, kernel), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(thread); i++) {
		void *same;

		pthread_join(thread[i], &same);
		assert_non_null(same);
	}
	done(kernel);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(task_and_functions_are_seen),
		cmocka_unit_test(code_that_comes_makes_it_stale),
		cmocka_unit_test(nothing_is_guessed),
		cmocka_unit_test(without_a_kernel_there_is_the_address),
		cmocka_unit_test(tables_are_those_of_the_opening),
		cmocka_unit_test(what_it_lacks_is_told),
		cmocka_unit_test(a_user_stack_goes_as_far_as_calls_do),
		cmocka_unit_test(a_glimpse_is_bounded),
		cmocka_unit_test(an_endless_stack_is_cut),
		cmocka_unit_test(threads_look_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
