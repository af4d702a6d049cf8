/* command: vectors from files, environments, what a started process finds and what it doesn't. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest/init/command.h"

static const char **load(const void *data, size_t len)
{
	char path[] = "/tmp/stasis-test-XXXXXX";
	int fd = mkstemp(path);
	const char **strings;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), (ssize_t)len);
	close(fd);
	assert_int_equal(command_load(path, &strings), 0);
	unlink(path);
	return strings;
}

static void test_load(void **state)
{
	const char **v = load("a\0\0b c\0", 7);

	(void)state;
	assert_string_equal(v[0], "a");
	assert_string_equal(v[1], "");
	assert_string_equal(v[2], "b c");
	assert_null(v[3]);
	free(v);
	v = load("", 0);
	assert_null(v[0]);
	free(v);
	v = load("x\0unended", 9);
	assert_string_equal(v[1], "unended");
	assert_null(v[2]);
	free(v);
	assert_int_equal(command_load("/nonexistent", &v), -ENOENT);
	assert_int_equal(command_load("/", &v) < 0, true);
}

static void test_env(void **state)
{
	static const char *const base[] = {"PATH=/bin", "TERM=linux", NULL};
	static const char *const over[] = {"TERM=xterm", "A=1", "nonsense", "=x", "A=2", NULL};
	const char **env = command_env(base, over);

	(void)state;
	assert_string_equal(env[0], "PATH=/bin");
	assert_string_equal(env[1], "TERM=xterm");
	assert_string_equal(env[2], "A=2");
	assert_null(env[3]);
	assert_string_equal(command_env_get(env, "A"), "2");
	assert_null(command_env_get(env, "TER"));
	free(env);
}

/* Runs argv with its output in a pipe; its wait status, output in out. */
static int run(const char *const *argv, const char *const *env, char *out, size_t size)
{
	struct command c = {.argv = argv, .envp = env, .cwd = "/", .tty = -1};
	int ends[2], status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	c.stdio[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	c.stdio[1] = ends[1];
	c.stdio[2] = ends[1];
	assert_int_equal(command_start(&c, &pid), 0);
	close(c.stdio[0]);
	close(ends[1]);
	while (len + 1 < size && (n = read(ends[0], out + len, size - 1 - len)) > 0)
		len += (size_t)n;
	out[len] = '\0';
	close(ends[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void test_start(void **state)
{
	static const char *const env[] = {"PATH=/usr/bin:/bin", "X=y", NULL};
	static const char *const argv[] =
		{"sh", "-c",
		 "echo $X; pwd; set -- $(cat /proc/$$/stat); shift 4; echo $(( $1 == $$ && $2 == "
		 "$$ )); "
		 "grep -E 'Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd | wc -l; exit 9",
		 NULL};
	char out[1024];
	sigset_t all, old;
	int status;

	(void)state;
	/* What this process blocks and ignores must not reach the command. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &old);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	status = run(argv, env, out, sizeof(out));
	sigprocmask(SIG_SETMASK, &old, NULL);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 9);
	/* 4: ls's own three, and the folder. */
	assert_string_equal(out,
			    "y\n/\n1\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n4\n");
}

static int start_error(const char *file, const char *cwd)
{
	static const char *const env[] = {"PATH=/usr/bin:/bin", NULL};
	const char *const argv[] = {file, NULL};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct command c = {.argv = argv,
			    .envp = env,
			    .cwd = cwd,
			    .stdio = {null, null, null},
			    .tty = -1};
	pid_t pid = -7;
	int r = command_start(&c, &pid);

	close(null);
	if (r < 0)
		assert_int_equal(pid, -7);
	/* A failed child has been reaped. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	return r;
}

static void test_start_fails(void **state)
{
	(void)state;
	assert_int_equal(start_error("/nonexistent", "/"), -ENOENT);
	assert_int_equal(start_error("no-such-program-anywhere", "/"), -ENOENT);
	assert_int_equal(start_error("/etc", "/"), -EACCES);
	assert_int_equal(start_error("true", "/nonexistent"), -ENOENT);
	assert_int_equal(start_error(NULL, "/"), -ENOENT);
	assert_int_equal(command_failed_status(-ENOENT), 127);
	assert_int_equal(command_failed_status(-EACCES), 126);
	assert_int_equal(command_failed_status(-ENOEXEC), 126);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_load),
		cmocka_unit_test(test_env),
		cmocka_unit_test(test_start),
		cmocka_unit_test(test_start_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
