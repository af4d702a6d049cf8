/* A page of what is there: whole or not at all, and telling what is not. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/util.h"
#include "report/page.h"
#include "report/report.h"

#define REPORT "{\"stasis\":\"0.1.0\",\"outcome\":\"exited\",\"exit_status\":0"

/* A page of our own around the data. */
const unsigned char report_page_before[] = "<page>", report_page_after[] = "</page>";
const size_t report_page_before_len = 6, report_page_after_len = 7;

static char folder[] = "/tmp/stasis-test-report-XXXXXX";
static char report[64], page[64], stacks[64], queues[64];

static void put(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
	assert_int_equal(fclose(f), 0);
}

/* The page's data, of a page that is whole. */
static json_t *data_of(const char *path)
{
	CLEANUP_FREE char *text = NULL;
	json_error_t wrong;
	size_t len;
	json_t *json;

	assert_int_equal(file_read(path, 1 << 20, &text, &len), 0);
	assert_true(len > 13);
	assert_memory_equal(text, "<page>", 6);
	assert_string_equal(text + len - 7, "</page>");
	json = json_loadb(text + 6, len - 13, 0, &wrong);
	assert_non_null(json);
	return json;
}

static json_t *make(const char *from, const char *to)
{
	struct error err = {0};
	char *path = NULL;
	json_t *json;

	if (report_write(from, to, &path, &err) < 0)
		fail_msg("%s", err.what);
	json = data_of(path);
	free(path);
	return json;
}

static void refuses(const char *from, const char *to, const char *want)
{
	struct error err = {0};
	char *path = (char *)"untouched";
	int r = report_write(from, to, &path, &err);

	assert_true(r < 0);
	assert_string_equal(path, "untouched");
	if (!strstr(err.what, want))
		fail_msg("\"%s\" is not in: %s", want, err.what);
}

static bool lacks(const json_t *data, const char *want)
{
	const json_t *list = json_object_get(data, "lacks");

	for (size_t i = 0; i < json_array_size(list); i++)
		if (!strcmp(json_string_value(json_array_get(list, i)), want))
			return true;
	return false;
}

static int clean(void **state UNUSED)
{
	unlink(report);
	unlink(page);
	unlink(stacks);
	unlink(queues);
	return 0;
}

static void test_whole(void **state UNUSED)
{
	json_t *data, *shown;
	char *text;

	put(report,
	    REPORT ",\"profile\":{\"windows\":{\"length_ns\":10,\"list\":[{\"begin_ns\":0,"
		   "\"vcpus\":[[1000,0,0,0]]}]},\"vcpus\":[{\"vcpu\":0,\"classes\":{}}]},"
		   "\"exits\":{\"total\":3,\"kvm\":{},\"vcpus\":[{\"kvm\":1,\"exits\":3}]},"
		   "\"monitor\":{\"cpus\":[{\"cpu\":0,\"last\":{}}],\"csv\":\"/home/me/q\"},"
		   "\"kernel\":{\"path\":\"/home/me/linux\",\"release\":\"6.12\"},"
		   "\"evidence\":7,\"disks\":[\"/home/me/disk\"],\"what comes\":1}");
	put(stacks, "{\"shared\":{\"frames\":[{\"name\":\"a\"}]},\"profiles\":[{\"unit\":"
		    "\"nanoseconds\",\"samples\":[[0]],\"weights\":[5]}]}");
	put(queues, "time_ns,cpu,running_tasks\n1,0,2\n");
	data = make(folder, NULL);
	assert_int_equal(json_array_size(json_object_get(data, "lacks")), 0);
	assert_int_equal(json_integer_value(
				 json_object_get(json_object_get(data, "stacks"), "total_ns")),
			 5);
	assert_int_equal(json_integer_value(
				 json_object_get(json_object_get(data, "windows"), "columns")),
			 1);
	assert_int_equal(json_integer_value(
				 json_object_get(json_object_get(data, "queues"), "looks")),
			 1);
	/* What is drawn otherwise, or not at all, is left out. */
	shown = json_object_get(data, "report");
	assert_null(json_object_get(json_object_get(shown, "profile"), "windows"));
	assert_null(json_object_get(json_object_get(shown, "exits"), "kvm"));
	assert_null(json_object_get(json_object_get(shown, "exits"), "vcpus"));
	assert_null(json_object_get(shown, "disks"));
	assert_null(json_object_get(shown, "what comes"));
	assert_null(json_object_get(shown, "evidence"));
	text = json_dumps(shown, 0);
	assert_non_null(strstr(text, "6.12"));
	assert_non_null(strstr(text, "\"cpus\": [{\"cpu\": 0}]"));
	assert_null(strstr(text, "/home/me"));
	free(text);
	assert_int_equal(json_integer_value(
				 json_object_get(json_object_get(shown, "exits"), "total")),
			 3);
	json_decref(data);
}

/* Whose release nobody knows is called by its file. */
static void test_a_kernel_without_a_release(void **state UNUSED)
{
	json_t *data, *kernel;

	put(report, REPORT ",\"kernel\":{\"path\":\"vmlinux\",\"release\":\"\"}}");
	data = make(folder, NULL);
	kernel = json_object_get(json_object_get(data, "report"), "kernel");
	assert_string_equal(json_string_value(json_object_get(kernel, "path")), "vmlinux");
	json_decref(data);
}

static void test_missing_parts_are_told(void **state UNUSED)
{
	json_t *data;

	put(report, REPORT ",\"profile\":{}}");
	data = make(folder, NULL);
	assert_true(lacks(data, "profile.speedscope.json: it is not there"));
	assert_true(lacks(data, "monitor.csv: it is not there"));
	assert_true(lacks(data, "report.json: its profile has no windows over time"));
	assert_true(json_is_null(json_object_get(data, "stacks")));
	json_decref(data);
}

static void test_wrong_parts_are_told(void **state UNUSED)
{
	json_t *data;

	put(report, REPORT ",\"profile\":{\"windows\":7}}");
	put(stacks, "{\"a\":\n}");
	assert_int_equal(mkfifo(queues, 0600), 0); /* nobody writes to it: must not be waited for */
	data = make(folder, NULL);
	assert_true(lacks(data, "profile.speedscope.json: line 2: unexpected token near '}'"));
	assert_true(lacks(data, "monitor.csv: it is no regular file"));
	assert_true(lacks(data, "report.json: the profile over time: it has no windows"));
	json_decref(data);
}

static void test_a_report_alone(void **state UNUSED)
{
	json_t *data;

	put(report, REPORT "}");
	put(queues, "rubbish"); /* not looked at */
	refuses(report, NULL, "is no folder: -o FILE says where the page goes");
	data = make(report, page);
	assert_true(json_is_false(json_object_get(data, "folder")));
	assert_int_equal(json_array_size(json_object_get(data, "lacks")), 0);
	json_decref(data);
}

static void test_what_is_no_report_is_refused(void **state UNUSED)
{
	put(page, "what was there");
	refuses("/nonexistent", NULL, "/nonexistent: No such file or directory");
	refuses(folder, NULL, "report.json: it is not there");
	put(report, "{\"stasis\":\n");
	refuses(folder, NULL, "report.json: line 2: ");
	put(report, "[1, 2]");
	refuses(folder, NULL, "is no report of stasis");
	put(report, "{\"stasis\": 7, \"outcome\": \"exited\"}");
	refuses(folder, NULL, "is no report of stasis");
	put(report, "{\"stasis\": \"\xff\", \"outcome\": \"exited\"}");
	refuses(folder, NULL, "line 1: ");
	/* A nest that would overflow a stack. */
	{
		char *deep = malloc(1 << 20);

		assert_non_null(deep);
		memset(deep, '[', (1 << 20) - 1);
		deep[(1 << 20) - 1] = '\0';
		put(report, deep);
		free(deep);
	}
	refuses(folder, NULL, "maximum parsing depth");
	unlink(report);
	assert_int_equal(mkfifo(report, 0600), 0);
	refuses(folder, NULL, "report.json: it is no regular file");
	/* No try has harmed it. */
	{
		CLEANUP_FREE char *text = NULL;
		size_t len;

		assert_int_equal(file_read(page, 100, &text, &len), 0);
		assert_string_equal(text, "what was there");
	}
}

static void test_a_page_that_has_no_place(void **state UNUSED)
{
	put(report, REPORT "}");
	refuses(folder, "/nonexistent/page.html", "writing the page /nonexistent/page.html: ");
	refuses(folder, folder, "Is a directory");
}

static void test_a_large_report_is_refused(void **state UNUSED)
{
	put(report, REPORT "}");
	assert_int_equal(truncate(report, REPORT_JSON_MAX + 1), 0);
	refuses(folder, NULL, "report.json: File too large");
}

static int begin(void **state UNUSED)
{
	if (!mkdtemp(folder))
		return -1;
	snprintf(report, sizeof(report), "%s/report.json", folder);
	snprintf(page, sizeof(page), "%s/report.html", folder);
	snprintf(stacks, sizeof(stacks), "%s/profile.speedscope.json", folder);
	snprintf(queues, sizeof(queues), "%s/monitor.csv", folder);
	return 0;
}

static int end(void **state)
{
	clean(state);
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_whole, clean),
		cmocka_unit_test_teardown(test_a_kernel_without_a_release, clean),
		cmocka_unit_test_teardown(test_missing_parts_are_told, clean),
		cmocka_unit_test_teardown(test_wrong_parts_are_told, clean),
		cmocka_unit_test_teardown(test_a_report_alone, clean),
		cmocka_unit_test_teardown(test_what_is_no_report_is_refused, clean),
		cmocka_unit_test_teardown(test_a_page_that_has_no_place, clean),
		cmocka_unit_test_teardown(test_a_large_report_is_refused, clean),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
