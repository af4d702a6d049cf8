/* Guest memory on 2 MiB pages: how many, how many there are, and what is said when they lack. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/hugepages.h"

#define PAGE 4096u

/* Two nodes that meet inside a 2 MiB page, a hole, and a piece without one whole page. */
static const struct guest_layout ragged = {
	.count = 4,
	.range =
		{
			{.gpa = 0, .size = MIB(5)},
			{.gpa = MIB(5), .size = MIB(4) + PAGE, .node = 1},
			{.gpa = MIB(16) + PAGE, .size = MIB(3)},
			{.gpa = MIB(32), .size = MIB(1)},
		},
};

static void whole_pages_are_counted_per_region(void **state)
{
	struct guest_memory mem;

	(void)state;
	assert_int_equal(guest_memory_init(&mem, &ragged, NULL), 0);
	/* [0, 4 MiB), [6, 8), [18, 18), none. */
	assert_int_equal(hugepages_needed(&mem), 2 + 1 + 0 + 0);
	guest_memory_done(&mem);
}

static void put(const char *dir, const char *name, const char *value)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(value, f);
	fclose(f);
}

static void the_pool_is_what_is_free_and_not_promised(void **state)
{
	static const char *const names[] = {"free_hugepages", "resv_hugepages",
					    "nr_overcommit_hugepages", "surplus_hugepages"};
	char dir[] = "/tmp/stasis-hugepages-XXXXXX", path[256];

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(hugepages_free(dir), 0); /* no pool */
	put(dir, "free_hugepages", "100\n");
	assert_int_equal(hugepages_free(dir), 100);
	put(dir, "resv_hugepages", "30\n");
	assert_int_equal(hugepages_free(dir), 70);
	put(dir, "nr_overcommit_hugepages", "10\n");
	put(dir, "surplus_hugepages", "4\n");
	assert_int_equal(hugepages_free(dir), 76);
	put(dir, "resv_hugepages", "200\n"); /* read a moment later than the other */
	assert_int_equal(hugepages_free(dir), 6);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
	rmdir(dir);
}

static void too_few_say_how_many_are_missing(void **state)
{
	/* More than the host has, and no more than a sanitizer lets be mapped. */
	const uint64_t pages = hugepages_free(NULL) + 512;
	const struct guest_layout layout = {
		.count = 2,
		.range = {{.gpa = 0, .size = MIB(2)},
			  {.gpa = GIB(4), .size = pages * HUGEPAGE_SIZE}},
	};
	struct guest_memory mem;
	struct error err = {0};
	char want[64];

	(void)state;
	assert_int_equal(guest_memory_init(&mem, &layout, NULL), 0);
	assert_true(hugepages_free(NULL) < hugepages_needed(&mem));
	assert_int_equal(hugepages_use(&mem, &err), -ENOMEM);
	assert_int_equal(err.kind, ERROR_CONTENTION);
	snprintf(want, sizeof(want), "takes %llu pages of 2 MiB", (unsigned long long)(1 + pages));
	assert_non_null(strstr(err.what, want));
	assert_non_null(strstr(err.what, "are missing"));
	assert_false(mem.hugepages);
	/* As it was: the first region was on huge pages for a moment, if there were any. */
	*(uint8_t *)guest_ptr(&mem, 0, 1) = 1;
	*(uint8_t *)guest_ptr(&mem, GIB(4), 1) = 1;
	guest_memory_done(&mem);
}

/* The kernel's own word on what backs addr. */
static unsigned long page_kib(const void *addr)
{
	unsigned long from, to, kib = 0;
	bool inside = false;
	char line[512];
	FILE *f = fopen("/proc/self/smaps", "r");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			inside = (uintptr_t)addr >= from && (uintptr_t)addr < to;
		else if (inside && sscanf(line, "KernelPageSize: %lu kB", &kib) == 1)
			break;
	}
	fclose(f);
	return kib;
}

static void huge_pages_back_the_whole_pages(void **state)
{
	struct guest_memory mem;
	int fd;

	(void)state;
	if (hugepages_free(NULL) < 3) {
		print_message("skipped: needs 3 free huge pages of 2 MiB\n");
		skip();
	}
	assert_int_equal(guest_memory_init(&mem, &ragged, NULL), 0);
	assert_int_equal(hugepages_use(&mem, NULL), 0);
	assert_true(mem.hugepages);
	assert_int_equal(page_kib(guest_ptr(&mem, 0, 1)), 2048);
	assert_int_equal(page_kib(guest_ptr(&mem, MIB(4), 1)), 4);
	assert_int_equal(page_kib(guest_ptr(&mem, MIB(6), 1)), 2048);
	assert_int_equal(page_kib(guest_ptr(&mem, MIB(32), 1)), 4);
	/* A file is copied there. */
	fd = memfd_create("file", MFD_CLOEXEC);
	assert_int_equal(pwrite(fd, "end", 3, PAGE), 3);
	assert_int_equal(guest_map_private(&mem, MIB(6), 2 * PAGE, fd, NULL), 0);
	close(fd);
	assert_memory_equal(guest_ptr(&mem, MIB(6) + PAGE, 4), "end", 4);
	assert_int_equal(page_kib(guest_ptr(&mem, MIB(6), 1)), 2048);
	guest_memory_done(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_pages_are_counted_per_region),
		cmocka_unit_test(the_pool_is_what_is_free_and_not_promised),
		cmocka_unit_test(too_few_say_how_many_are_missing),
		cmocka_unit_test(huge_pages_back_the_whole_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
