/* Errors keep the first failure, on one line, and know their exit status. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/text.h"

static void the_errno_is_told(void **state)
{
	struct error err = {0};

	(void)state;
	assert_int_equal(error_set(&err, -ENOENT, "opening %s", "/x"), -ENOENT);
	assert_int_equal(err.code, -ENOENT);
	assert_int_equal(err.kind, ERROR_HOST);
	assert_string_equal(err.what, "opening /x: No such file or directory");
	assert_string_equal(err.hint, "");
	assert_int_equal(error_exit_status(&err), 125);
}

static void an_unknown_errno_is_told_as_a_number(void **state)
{
	struct error err = {0};

	(void)state;
	assert_int_equal(error_set(&err, -4000, "x"), -4000);
	assert_string_equal(err.what, "x: error 4000");
}

static void the_first_failure_stays(void **state)
{
	struct error err = {0};

	(void)state;
	error_set(&err, -ENOENT, "first");
	assert_int_equal(error_contention(&err, "second"), -EBUSY);
	assert_int_equal(error_usage(&err, "third"), -EINVAL);
	assert_int_equal(error_set_shortage(&err, -ENOMEM, "fourth"), -ENOMEM);
	assert_int_equal(err.code, -ENOENT);
	assert_int_equal(err.kind, ERROR_HOST);
	assert_string_equal(err.what, "first: No such file or directory");
	error_hint(&err, "try %d", 1);
	error_hint(&err, "try %d", 2);
	assert_string_equal(err.hint, "try 1");
}

static void only_shortages_become_contention(void **state)
{
	static const int shortages[] = {EMFILE, ENFILE, ENOMEM, EBUSY, ENOSPC, EAGAIN};
	struct error err;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(shortages); i++) {
		memset(&err, 0, sizeof(err));
		assert_int_equal(error_set_shortage(&err, -shortages[i], "x"), -shortages[i]);
		assert_int_equal(error_exit_status(&err), 77);
		memset(&err, 0, sizeof(err));
		error_set(&err, -shortages[i], "x");
		assert_int_equal(error_exit_status(&err), 125);
	}
	memset(&err, 0, sizeof(err));
	error_set_shortage(&err, -EPERM, "x");
	assert_int_equal(error_exit_status(&err), 125);
}

static void what_no_errno_tells_stands_alone(void **state)
{
	struct error usage = {0}, contention = {0}, failed = {0};

	(void)state;
	error_usage(&usage, "--memory %s: a size is needed", "x");
	assert_string_equal(usage.what, "--memory x: a size is needed");
	assert_int_equal(error_exit_status(&usage), 125);
	error_contention(&contention, "only %d CPUs", 2);
	assert_string_equal(contention.what, "only 2 CPUs");
	assert_int_equal(error_exit_status(&contention), 77);
	assert_int_equal(error_failed(&failed, "%s ended with status %d", "x", 3), -EPROTO);
	assert_string_equal(failed.what, "x ended with status 3");
	assert_int_equal(failed.code, -EPROTO);
	assert_int_equal(error_exit_status(&failed), 125);
}

static void the_cause_of_a_long_text_is_kept(void **state)
{
	static const char cause[] = ": No such file or directory";
	struct error err = {0};
	char path[2000];

	(void)state;
	memset(path, 'p', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	error_set(&err, -ENOENT, "opening %s", path);
	assert_int_equal(strlen(err.what), sizeof(err.what) - 1);
	assert_string_equal(err.what + sizeof(err.what) - sizeof(cause), cause);
	error_hint(&err, "%s", path);
	assert_int_equal(strlen(err.hint), sizeof(err.hint) - 1);
}

static void control_characters_are_replaced(void **state)
{
	struct error err = {0};

	(void)state;
	error_usage(&err, "no file a\nb\x1b[2J\x7fz");
	assert_string_equal(err.what, "no file a?b?[2J?z");
	error_hint(&err, "x\r\ny");
	assert_string_equal(err.hint, "x??y");
}

static void nobody_need_listen(void **state)
{
	(void)state;
	assert_int_equal(error_set(NULL, -EIO, "x"), -EIO);
	assert_int_equal(error_failed(NULL, "x"), -EPROTO);
	assert_int_equal(error_contention(NULL, "x"), -EBUSY);
	assert_int_equal(error_usage(NULL, "x"), -EINVAL);
	error_hint(NULL, "x");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_errno_is_told),
		cmocka_unit_test(an_unknown_errno_is_told_as_a_number),
		cmocka_unit_test(the_first_failure_stays),
		cmocka_unit_test(only_shortages_become_contention),
		cmocka_unit_test(what_no_errno_tells_stands_alone),
		cmocka_unit_test(the_cause_of_a_long_text_is_kept),
		cmocka_unit_test(control_characters_are_replaced),
		cmocka_unit_test(nobody_need_listen),
	};

	return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
