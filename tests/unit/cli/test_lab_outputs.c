/* What comes out of the lab: which files are asked for, and where their bytes go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "cli/lab_outputs.h"
#include "vm/record.h"

static char dir[64], words[256];

static int set_up(void **state UNUSED)
{
	snprintf(dir, sizeof(dir), "/tmp/stasis-outputs-XXXXXX");
	words[0] = '\0';
	return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state UNUSED)
{
	return rmdir(dir);
}

static char *in_dir(const char *name)
{
	static char path[4][128];
	static unsigned i;

	i = (i + 1) % 4;
	snprintf(path[i], sizeof(path[i]), "%s/%s", dir, name);
	return path[i];
}

static void word(void *arg UNUSED, const char *option, const char *value)
{
	snprintf(words + strlen(words), sizeof(words) - strlen(words), "%s %s\n", option, value);
}

/* As the lab writes it. */
static void came(struct lab_outputs *o, const char *name, const char *text)
{
	for (size_t i = 0; i < o->count; i++)
		if (!strcmp(o->list[i].name, name)) {
			assert_int_equal(fd_write_all(o->list[i].fd, text, strlen(text)), 0);
			return;
		}
	fail_msg("nobody asked for %s", name);
}

static bool is_there(const char *name)
{
	struct stat st;

	return stat(in_dir(name), &st) == 0;
}

static void has(const char *name, const char *want)
{
	char *text = NULL;
	size_t len;

	assert_int_equal(file_read(in_dir(name), 1 << 20, &text, &len), 0);
	assert_non_null(strstr(text, want));
	free(text);
	unlink(in_dir(name));
}

static void only_what_is_wanted_is_asked_for(void **state UNUSED)
{
	struct vm_config c = {.dump = in_dir("d")};
	struct lab_outputs o;
	struct error err = {0};

	assert_int_equal(lab_outputs_open(&o, &c, &err), 0);
	lab_outputs_words(&o, word, NULL);
	assert_string_equal(words, "--dump dump\n");
	came(&o, "dump", "{\"vcpus\": []}");
	assert_int_equal(lab_outputs_finish(&o, &c, 0, &err), 0);
	has("d", "vcpus");
	lab_outputs_close(&o);
	c.dump = NULL;
	assert_int_equal(lab_outputs_open(&o, &c, &err), 0);
	assert_int_equal(o.count, 0);
	assert_int_equal(lab_outputs_finish(&o, &c, 0, &err), 0);
	lab_outputs_close(&o);
}

static void a_record_has_all_of_them(void **state UNUSED)
{
	struct vm_config c = {.record = dir,
			      .report = in_dir("report.json"),
			      .monitor_out = in_dir("monitor.csv"),
			      .trace_out = in_dir("trace.json"),
			      .kernel_release = in_dir("r")};
	struct lab_outputs o;
	struct error err = {0};

	assert_int_equal(lab_outputs_open(&o, &c, &err), 0);
	lab_outputs_words(&o, word, NULL);
	assert_non_null(strstr(words, "--monitor-out monitor\n"));
	assert_non_null(strstr(words, "--profile-out profile.speedscope.json\n"));
	assert_non_null(strstr(words, "--report report\n"));
	came(&o, "monitor", "time_ns,cpu\n1,0\n");
	came(&o, "profile.speedscope.json",
	     "{\"stasisHz\": 1000, \"shared\": {\"frames\": [{\"name\": \"f\"}]}, \"profiles\": "
	     "[{\"samples\": [[0]], \"weights\": [2000000]}]}");
	came(&o, "trace", "{\"traceEvents\":[]}");
	came(&o, "report", "{\"lab\": false, \"monitor\": {\"csv\": {\"path\": \"monitor\"}}}");
	assert_int_equal(lab_outputs_finish(&o, &c, 0, &err), 0);
	lab_outputs_close(&o);
	has("monitor.csv", "1,0\n");
	has("trace.json", "traceEvents");
	has("profile.folded", "f 2\n");
	has("profile.speedscope.json", "stasisHz");
	assert_true(is_there("profile.pb.gz"));
	unlink(in_dir("profile.pb.gz"));
	has("report.json", "\"lab\": true");
}

static void what_did_not_come_is_not_there(void **state UNUSED)
{
	struct vm_config c = {.record = dir,
			      .report = in_dir("report.json"),
			      .monitor_out = in_dir("monitor.csv")};
	struct lab_outputs o;
	struct error err = {0};

	assert_int_equal(lab_outputs_open(&o, &c, &err), 0);
	/* Killed, before anything was said. */
	assert_int_equal(lab_outputs_finish(&o, &c, 128 + 15, &err), 0);
	lab_outputs_close(&o);
	assert_false(is_there("monitor.csv"));
	assert_false(is_there("profile.folded"));
	has("report.json", "killed");
}

static void what_is_no_json_is_told(void **state UNUSED)
{
	struct vm_config c = {.record = dir, .report = in_dir("report.json"), .monitor_out = NULL};
	struct lab_outputs o;
	struct error err = {0};

	assert_int_equal(lab_outputs_open(&o, &c, &err), 0);
	came(&o, "profile.speedscope.json", "{\"stasisHz\": ");
	assert_true(lab_outputs_finish(&o, &c, 0, &err) < 0);
	lab_outputs_close(&o);
	assert_non_null(strstr(err.what, "profile"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(only_what_is_wanted_is_asked_for, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_record_has_all_of_them, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_did_not_come_is_not_there, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_no_json_is_told, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
