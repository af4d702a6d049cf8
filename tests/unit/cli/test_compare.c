/* stasis compare as a script sees it: exit statuses, and what is printed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/util.h"
#include "cli/commands.h"

static char dir[64], paths[4][128];
static char output[1 << 16];

/* kernel_ns: of each window's 100 ms. */
static void write_report(const char *path, json_int_t kernel_ns)
{
	json_t *list = json_array(), *report;

	for (int i = 0; i < 30; i++)
		json_array_append_new(list,
				      json_pack("{s:I, s:I, s:i, s:{s:I}}", "user_ns",
						(json_int_t)100000000 - kernel_ns - i % 7 * 1000,
						"kernel_ns", kernel_ns, "idle_ns", 0, "classes",
						"pick", kernel_ns / 2 + i % 5 * 1000));
	report = json_pack("{s:s, s:s, s:{s:I, s:{s:i, s:o}}}", "outcome", "exi\nted", "topology",
			   "1n1l2c1t", "profile", "duration_ns", (json_int_t)3000000000, "windows",
			   "length_ns", 100000000, "list", list);
	assert_int_equal(json_dump_file(report, path, 0), 0);
	json_decref(report);
}

static int set_up(void **state UNUSED)
{
	FILE *f;

	snprintf(dir, sizeof(dir), "/tmp/stasis-compare-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(paths[0], sizeof(paths[0]), "%s/record", dir);
	snprintf(paths[1], sizeof(paths[1]), "%s/record/report.json", dir);
	snprintf(paths[2], sizeof(paths[2]), "%s/dear.json", dir);
	snprintf(paths[3], sizeof(paths[3]), "%s/broken.json", dir);
	mkdir(paths[0], 0700);
	write_report(paths[1], 10000000);
	write_report(paths[2], 12000000);
	f = fopen(paths[3], "w");
	fprintf(f, "{\"profile\": ");
	return fclose(f);
}

static int tear_down(void **state UNUSED)
{
	for (int i = 3; i > 0; i--)
		unlink(paths[i]);
	rmdir(paths[0]);
	return rmdir(dir);
}

/* Words after "compare", at most four; what it prints is in output. */
static int compare(const char *a, const char *b, const char *c, const char *d)
{
	char *argv[6] = {(char *)"compare"};
	const char *words[] = {a, b, c, d};
	int argc = 1, status, saved = dup(STDOUT_FILENO);
	char path[128];
	char *text;
	size_t len;

	for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
		if (words[i])
			argv[argc++] = (char *)words[i];
	snprintf(path, sizeof(path), "%s/out", dir);
	fflush(stdout);
	assert_non_null(freopen(path, "w", stdout));
	status = command_compare(argc, argv);
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	assert_int_equal(file_read(path, sizeof(output) - 1, &text, &len), 0);
	memcpy(output, text, len + 1);
	free(text);
	unlink(path);
	return status;
}

static void itself_is_0(void **state UNUSED)
{
	assert_int_equal(compare(paths[0], paths[0], NULL, NULL), 0);
	assert_non_null(strstr(output, "no difference"));
	assert_null(strstr(output, "dearer"));
	assert_non_null(strstr(output, ": exi?ted, 1n1l2c1t, "));
	/* A folder is its report. */
	assert_int_equal(compare(paths[0], "--json", paths[1], NULL), 0);
}

static void a_difference_is_1(void **state UNUSED)
{
	json_t *json;

	assert_int_equal(compare(paths[0], paths[2], NULL, NULL), 1);
	assert_non_null(strstr(output, "B is dearer by 20% ["));
	assert_int_equal(compare(paths[2], paths[0], NULL, NULL), 1);
	assert_non_null(strstr(output, "A is dearer by 20% ["));
	assert_int_equal(compare("--least", "30", paths[0], paths[2]), 0);
	assert_int_equal(compare("--json", "--", paths[0], paths[2]), 1);
	json = json_loads(output, 0, NULL);
	assert_true(json_is_true(json_object_get(json, "differs")));
	assert_int_equal(json_array_size(json_object_get(json, "metrics")), 3);
	json_decref(json);
}

static void wrong_words_are_2(void **state UNUSED)
{
	assert_int_equal(compare(NULL, NULL, NULL, NULL), 2);
	assert_int_equal(compare(paths[0], NULL, NULL, NULL), 2);
	assert_int_equal(compare(paths[0], paths[0], paths[0], NULL), 2);
	assert_int_equal(compare("--nothing", paths[0], paths[0], NULL), 2);
	assert_int_equal(compare("--least", "-1", paths[0], paths[0]), 2);
	assert_int_equal(compare("--least", "nan", paths[0], paths[0]), 2);
	assert_int_equal(compare(paths[0], "/nowhere", NULL, NULL), 2);
	assert_int_equal(compare(paths[0], dir, NULL, NULL), 2); /* no record */
}

static void a_file_that_is_none_is_125(void **state UNUSED)
{
	assert_int_equal(compare(paths[0], paths[3], NULL, NULL), 125);
	assert_int_equal(compare("/dev/null", paths[0], NULL, NULL), 125);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(itself_is_0),
		cmocka_unit_test(a_difference_is_1),
		cmocka_unit_test(wrong_words_are_2),
		cmocka_unit_test(a_file_that_is_none_is_125),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
