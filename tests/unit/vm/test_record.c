/* Which folders a record is made in, and what a profile leaves in one. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/text.h"
#include "base/util.h"
#include "vm/record.h"

static char dir[64];

static int set_up(void **state UNUSED)
{
	snprintf(dir, sizeof(dir), "/tmp/stasis-record-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state UNUSED)
{
	return rmdir(dir);
}

static const char *in_dir(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void touch(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	close(fd);
}

static void is_refused(const char *path, const char *why)
{
	struct error err = {0};

	assert_true(record_check(path, &err) < 0);
	assert_int_equal(err.kind, ERROR_USAGE);
	assert_non_null(strstr(err.what, path));
	assert_non_null(strstr(err.what, why));
}

static void a_new_or_empty_folder_will_do(void **state UNUSED)
{
	struct error err = {0};
	struct stat st;

	assert_int_equal(record_check(dir, &err), 0);
	assert_int_equal(record_make(dir, &err), 0);
	/* A check makes nothing. */
	assert_int_equal(record_check(in_dir("new/"), &err), 0);
	assert_true(stat(in_dir("new"), &st) < 0);
	assert_int_equal(record_make(in_dir("new/"), &err), 0);
	assert_int_equal(stat(in_dir("new"), &st), 0);
	assert_int_equal(record_make(in_dir("new"), &err), 0);
	assert_int_equal(rmdir(in_dir("new")), 0);
}

static void others_are_refused_by_name(void **state UNUSED)
{
	struct error err = {0};

	touch(in_dir("file"));
	is_refused(dir, "empty");
	is_refused(in_dir("file"), "empty");
	is_refused(in_dir("none/new"), "No such file");
	is_refused("", "No such file");
	assert_int_equal(symlink("nowhere", in_dir("link")), 0);
	is_refused(in_dir("link"), "No such file");
	/* What came since the check. */
	assert_true(record_make(dir, &err) < 0);
	assert_int_equal(err.kind, ERROR_USAGE);
	unlink(in_dir("file"));
	unlink(in_dir("link"));
}

static void a_profile_is_there_in_each_format(void **state UNUSED)
{
	json_t *doc =
		json_pack("{s:i, s:{s:[{s:s}]}, s:[{s:[[i]], s:[i]}]}", "stasisHz", 1000, "shared",
			  "frames", "name", "f", "profiles", "samples", 0, "weights", 2000000);
	struct error err = {0};
	struct stat st;

	assert_int_equal(record_profile(dir, doc, &err), 0);
	for (unsigned file = 0; file < RECORD_FILES; file++) {
		char *path = record_path(dir, file);
		bool profile = file >= RECORD_SPEEDSCOPE && file <= RECORD_PPROF;

		assert_string_equal(path, in_dir(record_name(file)));
		assert_int_equal(stat(path, &st) == 0, profile);
		if (profile)
			assert_true(st.st_size > 0);
		unlink(path);
		free(path);
	}
	assert_true(record_profile(dir, NULL, &err) < 0);
}

static void paths_have_one_slash(void **state UNUSED)
{
	char *path = record_path("a/", RECORD_REPORT);

	assert_string_equal(path, "a/report.json");
	free(path);
	path = record_path("/", RECORD_TRACE);
	assert_string_equal(path, "/trace.json");
	free(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_new_or_empty_folder_will_do, set_up, tear_down),
		cmocka_unit_test_setup_teardown(others_are_refused_by_name, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_profile_is_there_in_each_format, set_up,
						tear_down),
		cmocka_unit_test(paths_have_one_slash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
