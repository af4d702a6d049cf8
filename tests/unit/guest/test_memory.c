/* Guest memory: layout checks, lookups at every edge, private file mappings. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/memory.h"

#define PAGE 4096u

/* A hole between regions 0 and 1; none between 1 and 2, 2 and 3. */
static const struct guest_layout holed = {
	.count = 4,
	.range =
		{
			{.gpa = 0, .size = MIB(1)},
			{.gpa = MIB(4), .size = MIB(1), .node = 0},
			{.gpa = MIB(5), .size = PAGE, .node = 1},
			{.gpa = MIB(5) + PAGE, .size = MIB(1), .node = 2},
		},
};

static void lookup_agrees_with_a_byte_map(void **state)
{
	static const uint64_t edges[] = {0,
					 1,
					 MIB(1) - 1,
					 MIB(1),
					 MIB(1) + 1,
					 MIB(4) - 1,
					 MIB(4),
					 MIB(5) - 1,
					 MIB(5),
					 MIB(5) + PAGE - 1,
					 MIB(5) + PAGE,
					 MIB(6) + PAGE - 1,
					 MIB(6) + PAGE,
					 MIB(6) + PAGE + 1,
					 UINT64_C(1) << 52,
					 UINT64_MAX - 1,
					 UINT64_MAX};
	struct guest_memory mem;

	(void)state;
	assert_int_equal(guest_memory_init(&mem, &holed, NULL), 0);
	assert_int_equal((uintptr_t)mem.reservation % MIB(2), 0);
	for (size_t a = 0; a < ARRAY_SIZE(edges); a++) {
		for (size_t b = 0; b < ARRAY_SIZE(edges); b++) {
			uint64_t gpa = edges[a], len = edges[b];
			/* The two runs of RAM, [0, 1 MiB) and [4 MiB, 6 MiB + 4 KiB). */
			bool low = gpa < MIB(1) && len <= MIB(1) - gpa;
			bool high =
				gpa >= MIB(4) && gpa < MIB(6) + PAGE && len <= MIB(6) + PAGE - gpa;
			void *want = len && (low || high) ? mem.reservation + gpa : NULL;

			assert_ptr_equal(guest_ptr(&mem, gpa, len), want);
		}
	}
	guest_memory_done(&mem);
	assert_null(mem.reservation);
	guest_memory_done(&mem);
}

static void copies_keep_bytes_and_refuse_holes(void **state)
{
	struct guest_memory mem;
	uint8_t out[8] = "ABCDEFG", in[8] = {0};

	(void)state;
	assert_int_equal(guest_memory_init(&mem, &holed, NULL), 0);
	assert_int_equal(guest_write(&mem, MIB(5) - 3, out, sizeof(out)), 0);
	assert_int_equal(guest_read(&mem, MIB(5) - 3, in, sizeof(in)), 0);
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(guest_write(&mem, MIB(1) - 3, out, sizeof(out)), -EFAULT);
	assert_int_equal(guest_read(&mem, MIB(4) - 1, in, sizeof(in)), -EFAULT);
	assert_memory_equal(in, out, sizeof(in));
	guest_memory_done(&mem);
}

static void bad_layouts_are_refused(void **state)
{
	static const struct guest_layout bad[] = {
		{.count = 0},
		{.count = GUEST_MAX_REGIONS + 1},
		{.count = 1, .range = {{.gpa = 0, .size = 0}}},
		{.count = 1, .range = {{.gpa = 1, .size = PAGE}}},
		{.count = 1, .range = {{.gpa = 0, .size = PAGE + 1}}},
		{.count = 1, .range = {{.gpa = UINT64_MAX - PAGE + 1, .size = PAGE}}},
		{.count = 2, .range = {{.size = 2 * PAGE}, {.gpa = PAGE, .size = PAGE}}},
		{.count = 2, .range = {{.gpa = PAGE, .size = PAGE}, {.size = PAGE}}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct guest_memory mem;
		struct error err = {0};

		assert_int_equal(guest_memory_init(&mem, &bad[i], &err), -EINVAL);
		assert_int_equal(err.code, -EINVAL);
		assert_null(mem.reservation);
	}
}

static void too_much_is_contention(void **state)
{
	static const struct guest_layout huge = {
		.count = 1,
		.range = {{.gpa = 0, .size = UINT64_C(1) << 51}},
	};
	struct guest_memory mem;
	struct error err = {0};

	(void)state;
	assert_int_equal(guest_memory_init(&mem, &huge, &err), -ENOMEM);
	assert_int_equal(err.kind, ERROR_CONTENTION);
	assert_null(mem.reservation);
}

static void reservation_is_lazy(void **state)
{
	static const struct guest_layout big = {
		.count = 1,
		.range = {{.gpa = 0, .size = GIB(64)}},
	};
	struct guest_memory mem;
	unsigned char resident[1];

	(void)state;
	assert_int_equal(guest_memory_init(&mem, &big, NULL), 0);
	assert_int_equal(mincore(guest_ptr(&mem, GIB(63), PAGE), PAGE, resident), 0);
	assert_int_equal(resident[0] & 1, 0);
	*(uint8_t *)guest_ptr(&mem, GIB(63), 1) = 1;
	assert_int_equal(mincore(guest_ptr(&mem, GIB(63), PAGE), PAGE, resident), 0);
	assert_int_equal(resident[0] & 1, 1);
	guest_memory_done(&mem);
}

static void private_map_shows_the_file_and_never_writes_it(void **state)
{
	struct guest_memory mem;
	int fd = memfd_create("test", MFD_CLOEXEC);
	uint8_t byte = 0;
	uint8_t *p;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, PAGE + 10), 0);
	assert_int_equal(pwrite(fd, "x", 1, PAGE), 1);
	assert_int_equal(guest_memory_init(&mem, &holed, NULL), 0);

	/* Across regions 1, 2 and 3. */
	assert_int_equal(guest_map_private(&mem, MIB(5), 2 * PAGE, fd, NULL), 0);
	p = guest_ptr(&mem, MIB(5), 2 * PAGE);
	assert_int_equal(p[PAGE], 'x');
	assert_int_equal(p[PAGE + 10], 0);
	p[PAGE] = 'y';
	assert_int_equal(pread(fd, &byte, 1, PAGE), 1);
	assert_int_equal(byte, 'x');

	/* From the second page on; not from within one, nor past the end. */
	assert_int_equal(guest_map_private_at(&mem, MIB(5), PAGE, fd, PAGE, NULL), 0);
	assert_int_equal(p[0], 'x');
	assert_true(guest_map_private_at(&mem, MIB(5), PAGE, fd, 10, NULL) < 0);
	assert_true(guest_map_private_at(&mem, MIB(5), 2 * PAGE, fd, PAGE, NULL) < 0);
	assert_true(guest_map_private_at(&mem, MIB(5), PAGE, fd, 2 * PAGE, NULL) < 0);
	assert_true(guest_map_private_at(&mem, MIB(5), PAGE, fd, UINT64_MAX - PAGE + 1, NULL) < 0);

	assert_true(guest_map_private(&mem, 0, 3 * PAGE, fd, NULL) < 0);
	assert_true(guest_map_private(&mem, 1, PAGE, fd, NULL) < 0);
	assert_true(guest_map_private(&mem, 0, PAGE + 1, fd, NULL) < 0);
	assert_true(guest_map_private(&mem, MIB(1), PAGE, fd, NULL) < 0);
	assert_true(guest_map_private(&mem, 0, 0, fd, NULL) < 0);
	assert_true(guest_map_private(&mem, 0, PAGE, -1, NULL) < 0);
	guest_memory_done(&mem);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lookup_agrees_with_a_byte_map),
		cmocka_unit_test(copies_keep_bytes_and_refuse_holes),
		cmocka_unit_test(bad_layouts_are_refused),
		cmocka_unit_test(too_much_is_contention),
		cmocka_unit_test(reservation_is_lazy),
		cmocka_unit_test(private_map_shows_the_file_and_never_writes_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
