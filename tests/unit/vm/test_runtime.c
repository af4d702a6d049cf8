/* Folders of running VMs: unique names, crashes, many processes at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/compiler.h"
#include "vm/runtime.h"

static char base[] = "/tmp/stasis-test-XXXXXX";

static size_t count_listed(void)
{
	struct error err = {0};
	json_t *list;
	size_t n;

	assert_int_equal(runtime_list(&list, &err), 0);
	n = json_array_size(list);
	json_decref(list);
	return n;
}

static void test_claim_and_release(void **state UNUSED)
{
	struct runtime_vm vm, twin;
	struct error err = {0};
	char *name, *other;
	json_t *list;

	assert_int_equal(runtime_claim("one", &name, &vm, &err), 0);
	assert_string_equal(name, "one");
	assert_int_equal(runtime_publish(&vm, json_pack("{s:s}", "name", "one")), 0);
	assert_int_equal(runtime_list(&list, &err), 0);
	assert_int_equal(json_array_size(list), 1);
	assert_non_null(strstr(json_string_value(json_object_get(json_array_get(list, 0), "qmp")),
			       "/stasis/one/qmp"));
	json_decref(list);
	assert_int_equal(runtime_claim("one", &other, &twin, &err), -EINVAL);
	assert_int_equal(err.kind, ERROR_USAGE);
	assert_non_null(strstr(err.what, "one"));
	runtime_release(&vm);
	assert_int_equal(count_listed(), 0);
	assert_int_equal(access(base, F_OK), 0);
	free(name);
}

static void test_bad_names(void **state UNUSED)
{
	static const char *const bad[] =
		{"",	".",
		 "..",	"a/b",
		 "-x",	".x",
		 "a b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct runtime_vm vm;
		struct error err = {0};
		char *name;

		assert_int_equal(runtime_claim(bad[i], &name, &vm, &err), -EINVAL);
	}
}

static void test_a_crash_is_swept(void **state UNUSED)
{
	struct runtime_vm vm;
	struct error err = {0};
	char *name, byte, left[128];
	int ready[2];
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		if (runtime_claim("crash", &name, &vm, &err) < 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		pause();
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	snprintf(left, sizeof(left), "%s/stasis/crash", base);
	assert_int_equal(access(left, F_OK), 0);
	assert_int_equal(count_listed(), 0);
	assert_true(access(left, F_OK) < 0);
	assert_int_equal(runtime_claim("crash", &name, &vm, &err), 0);
	runtime_release(&vm);
	free(name);
	close(ready[0]);
	close(ready[1]);
}

static void test_many_at_once(void **state UNUSED)
{
	enum { PROCESSES = 20, ROUNDS = 10 };
	int failed = 0;

	for (int p = 0; p < PROCESSES; p++) {
		if (fork() != 0)
			continue;
		for (int i = 0; i < ROUNDS; i++) {
			struct runtime_vm vm;
			struct error err = {0};
			char *name;

			if (runtime_claim(NULL, &name, &vm, &err) < 0 || access(vm.path, F_OK) < 0)
				_exit(1);
			runtime_release(&vm);
			free(name);
		}
		_exit(0);
	}
	for (int p = 0; p < PROCESSES; p++) {
		int status;

		assert_true(wait(&status) > 0);
		failed += status != 0;
	}
	assert_int_equal(failed, 0);
	assert_int_equal(count_listed(), 0);
}

static int make_base(void **state UNUSED)
{
	return mkdtemp(base) && setenv("XDG_RUNTIME_DIR", base, 1) == 0 ? 0 : -1;
}

static int remove_base(void **state UNUSED)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/stasis", base);
	return rmdir(path) < 0 || rmdir(base) < 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_claim_and_release),
		cmocka_unit_test(test_bad_names),
		cmocka_unit_test(test_a_crash_is_swept),
		cmocka_unit_test(test_many_at_once),
	};

	return cmocka_run_group_tests(tests, make_base, remove_base);
}
