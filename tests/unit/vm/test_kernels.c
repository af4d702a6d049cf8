/* Which kernels of the cache are found, listed, and chosen by default. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"
#include "vm/kernels.h"

static char cache[] = "/tmp/stasis-test-kernels-XXXXXX";

static void write_file(const char *path, const void *bytes, size_t len)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

/* Makes every folder of a path below the cache. Returns the whole path, malloc'ed. */
static char *under_cache(const char *path)
{
	char *full = text_format("%s/stasis/kernels/%s", cache, path);

	assert_non_null(full);
	for (char *slash = full + strlen(cache); (slash = strchr(slash + 1, '/'));) {
		*slash = '\0';
		mkdir(full, 0700);
		*slash = '/';
	}
	return full;
}

/* A file that says of itself what an x86 kernel does. */
static void put_x86_kernel(const char *path)
{
	CLEANUP_FREE char *full = under_cache(path);
	uint8_t head[0x400] = {0};

	memcpy(head + 0x202, "HdrS", 4);
	write_file(full, head, sizeof(head));
}

static void put_text(const char *path, const char *text)
{
	CLEANUP_FREE char *full = under_cache(path);

	write_file(full, text, strlen(text));
}

static int setup(void **state UNUSED)
{
	if (!mkdtemp(cache) || setenv("XDG_CACHE_HOME", cache, 1) < 0)
		return -1;
	put_x86_kernel("6.12.1-packaged/boot/vmlinuz-6.12.1-packaged");
	put_x86_kernel("6.99.0-stasis-0123abcd/arch/x86/boot/bzImage");
	put_text("6.99.0-stasis-0123abcd/build.json",
		 "{\"release\": \"6.99.0-stasis-0123abcd\", \"arch\": \"amd64\", \"sched_ext\": "
		 "true}");
	return 0;
}

static int teardown(void **state UNUSED)
{
	CLEANUP_FREE char *command = text_format("rm -rf '%s'", cache);

	return command ? system(command) : -1; /* NOLINT(cert-env33-c) */
}

/* The row of a release in what is listed, or NULL. */
static const json_t *row_of(const json_t *list, const char *release)
{
	const json_t *row;
	size_t i;

	json_array_foreach(list, i,
			   row) if (!strcmp(json_string_value(json_object_get(row, "release")),
					    release)) return row;
	return NULL;
}

static void assert_text(const json_t *row, const char *key, const char *want)
{
	assert_string_equal(json_string_value(json_object_get(row, key)), want);
}

static void test_built_is_listed(void **state UNUSED)
{
	json_t *list = kernel_list();
	const json_t *row = row_of(list, "6.99.0-stasis-0123abcd");

	assert_non_null(row);
	assert_text(row, "arch", "x86_64");
	assert_text(row, "source", "built");
	assert_true(json_is_true(json_object_get(row, "sched_ext")));
	row = row_of(list, "6.12.1-packaged");
	assert_non_null(row);
	assert_text(row, "arch", "x86_64");
	assert_text(row, "source", "cache");
	json_decref(list);
}

static void test_built_is_never_the_default(void **state UNUSED)
{
	struct kernel_choice kernel;

	assert_int_equal(kernel_from_cache(&arch_kind_x86_64, NULL, &kernel), 0);
	assert_string_equal(kernel.release, "6.12.1-packaged");
	kernel_choice_done(&kernel);
	assert_int_equal(kernel_from_cache(&arch_kind_x86_64, "6.99", &kernel), -ENOENT);
}

static void test_built_is_taken_when_asked_for(void **state UNUSED)
{
	CLEANUP_FREE char *folder = text_format("%s/stasis/kernels/6.99.0-stasis-0123abcd", cache);
	struct kernel_choice kernel;
	struct error err = {0};
	json_t *list = kernel_list();

	assert_text(row_of(list, "6.99.0-stasis-0123abcd"), "path", folder);
	json_decref(list);
	assert_int_equal(kernel_choose(&arch_kind_x86_64, folder, &kernel, &err), 0);
	assert_non_null(strstr(kernel.path, "/arch/x86/boot/bzImage"));
	assert_null(kernel.modules);
	kernel_choice_done(&kernel);
}

/* Half builds: without the mark, without an image, or with a mark that says nothing of use. */
static void test_what_is_not_whole_is_not_listed(void **state UNUSED)
{
	static const char *const marks[] = {"", "[]", "{\"release\": 1, \"arch\": \"amd64\"}",
					    "{\"release\": \"bad\", \"arch\": \"vax\"}",
					    "{\"release\": \"bad\"}"};
	json_t *list;

	put_x86_kernel("unmarked/arch/x86/boot/bzImage");
	put_text(".build-abc/build.json", "{\"release\": \"bad\", \"arch\": \"amd64\"}");
	put_x86_kernel(".build-abc/arch/x86/boot/bzImage");
	put_text("imageless/build.json", "{\"release\": \"bad\", \"arch\": \"amd64\"}");
	put_x86_kernel("badly-marked/arch/x86/boot/bzImage");
	for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
		const json_t *row;
		size_t at;

		put_text("badly-marked/build.json", marks[i]);
		list = kernel_list();
		json_array_foreach(list, at,
				   row) if (strcmp(json_string_value(json_object_get(row,
										     "source")),
						   "boot"))
			assert_int_equal(strncmp(json_string_value(json_object_get(row, "release")),
						 "6.", 2),
					 0);
		json_decref(list);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_built_is_listed),
		cmocka_unit_test(test_built_is_never_the_default),
		cmocka_unit_test(test_built_is_taken_when_asked_for),
		cmocka_unit_test(test_what_is_not_whole_is_not_listed),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
