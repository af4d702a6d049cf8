/* Openings of a kernel that take each other's place: who is closed when, and who names a sample. A
 * leak is a sanitizer's to tell. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "kernel_fake.h"
#include "vm/profiling_kernels.h"

#define VCPUS 3u

static struct kernel_fake fake;
static struct inspect *in;

static void set_up(struct profiling_kernels *k)
{
	struct error err = {0};

	memset(k, 0, sizeof(*k));
	kernel_fake_build(&fake, 0);
	if (inspect_new(&fake.mem, FAKE_ROOT_GPA, &in, &err))
		fail_msg("%s", err.what);
}

static void tear_down(struct profiling_kernels *k)
{
	profiling_kernels_done(k);
	assert_null(atomic_load(&k->newest));
	assert_null(k->replaced);
	inspect_free(in);
}

static void add(struct profiling_kernels *k)
{
	struct glimpse_kernel *glimpse;

	assert_int_equal(glimpse_open(in, &glimpse), 0);
	assert_int_equal(profiling_kernels_add(k, glimpse), 0);
}

static unsigned replaced(const struct profiling_kernels *k)
{
	unsigned n = 0;

	for (const struct profiling_kernel *i = k->replaced; i; i = i->next)
		n++;
	return n;
}

/* The run ended before anything was sampled. */
static void one_that_nobody_looked_at_is_closed(void **state UNUSED)
{
	struct profiling_kernels k;

	set_up(&k);
	add(&k);
	add(&k);
	assert_int_equal(replaced(&k), 1);
	tear_down(&k);
	profiling_kernels_done(&k); /* nothing is left to do */
}

static void who_is_looked_at_stays(void **state UNUSED)
{
	struct profiling_kernel *first;
	struct profiling_kernels k;

	set_up(&k);
	assert_int_equal(profiling_kernels_init(&k, VCPUS), 0);
	assert_null(profiling_kernels_hold(&k, 0));
	profiling_kernels_let_go(&k, 0);
	add(&k);
	first = profiling_kernels_hold(&k, 2);
	assert_int_equal(first->id, 1);
	add(&k);
	assert_int_equal(profiling_kernels_hold(&k, 0)->id, 2);
	profiling_kernels_let_go(&k, 0);
	profiling_kernels_tidy(&k);
	assert_int_equal(replaced(&k), 1);
	profiling_kernels_let_go(&k, 2);
	profiling_kernels_tidy(&k);
	assert_int_equal(replaced(&k), 0);
	tear_down(&k);
}

static void named(struct profiling_kernels *k, uint32_t id, uint64_t gva, const char *want)
{
	char name[64];
	bool known = profiling_kernels_name(k, id, gva, name, sizeof(name));

	assert_int_equal(known, want != NULL);
	if (want)
		assert_string_equal(name, want);
	else
		assert_memory_equal(name, "0x", 2);
}

static void write_word(uint64_t gva, uint64_t value)
{
	memcpy(kernel_fake_at(&fake, gva), &value, sizeof(value));
}

/* A BPF program goes, and a new opening is read meanwhile: samples of before still say it. */
static void a_sample_is_named_by_what_it_went_by(void **state UNUSED)
{
	struct profiling_kernels k;

	set_up(&k);
	add(&k);
	named(&k, 1, FAKE_BPF_TEXT, "bpf_prog_1_x [bpf]");
	write_word(FAKE_BPF_LIST, FAKE_BPF_LIST);
	write_word(FAKE_BPF_LIST + 8, FAKE_BPF_LIST);
	add(&k);
	named(&k, 1, FAKE_BPF_TEXT, "bpf_prog_1_x [bpf]");
	named(&k, 2, FAKE_BPF_TEXT, NULL);
	named(&k, 2, FAKE_SCHEDULE, "schedule");
	/* Until that is closed. */
	profiling_kernels_tidy(&k);
	named(&k, 1, FAKE_BPF_TEXT, NULL);
	named(&k, 1, FAKE_SCHEDULE, "schedule");
	tear_down(&k);
}

/* One that came behind the opening that a sample went by is the next opening's to name. */
static void what_came_later_is_named_by_the_newest(void **state UNUSED)
{
	struct profiling_kernels k;
	uint64_t links[2];

	set_up(&k);
	memcpy(links, kernel_fake_at(&fake, FAKE_BPF_LIST), sizeof(links));
	write_word(FAKE_BPF_LIST, FAKE_BPF_LIST);
	write_word(FAKE_BPF_LIST + 8, FAKE_BPF_LIST);
	add(&k);
	named(&k, 1, FAKE_BPF_TEXT, NULL);
	memcpy(kernel_fake_at(&fake, FAKE_BPF_LIST), links, sizeof(links));
	add(&k);
	named(&k, 1, FAKE_BPF_TEXT, "bpf_prog_1_x [bpf]");
	tear_down(&k);
}

/* ---- threads ----------------------------------------------------------------------------- */

static struct profiling_kernels shared;
static _Atomic bool over;

static void *look(void *arg)
{
	const unsigned vcpu = (unsigned)(uintptr_t)arg;
	struct glimpse_at at = {.cpu = vcpu % 2,
				.in_kernel = true,
				.registers = {.pc = FAKE_SCHEDULE + 0x10,
					      .sp = FAKE_STACK + 0x1000,
					      .exact = true}};
	uint32_t last = 0;
	bool right = true;
	struct glimpse g;

	while (!atomic_load(&over)) {
		const struct profiling_kernel *kernel = profiling_kernels_hold(&shared, vcpu);

		glimpse_look(kernel->glimpse, &fake.mem, &at, &g);
		right &= g.frame[0] == FAKE_SCHEDULE && kernel->id >= last;
		last = kernel->id;
		profiling_kernels_let_go(&shared, vcpu);
	}
	return right ? arg : NULL;
}

static void they_change_under_threads(void **state UNUSED)
{
	pthread_t thread[VCPUS];

	set_up(&shared);
	assert_int_equal(profiling_kernels_init(&shared, VCPUS + 1), 0);
	add(&shared);
	for (uintptr_t i = 0; i < VCPUS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, look, (void *)(i + 1)), 0);
	for (unsigned i = 0; i < 200; i++) {
		add(&shared);
		profiling_kernels_tidy(&shared);
		assert_in_range(replaced(&shared), 0, VCPUS);
	}
	atomic_store(&over, true);
	for (uintptr_t i = 0; i < VCPUS; i++) {
		void *right;

		pthread_join(thread[i], &right);
		assert_non_null(right);
	}
	profiling_kernels_tidy(&shared);
	assert_int_equal(replaced(&shared), 0);
	tear_down(&shared);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_that_nobody_looked_at_is_closed),
		cmocka_unit_test(who_is_looked_at_stays),
		cmocka_unit_test(a_sample_is_named_by_what_it_went_by),
		cmocka_unit_test(what_came_later_is_named_by_the_newest),
		cmocka_unit_test(they_change_under_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
