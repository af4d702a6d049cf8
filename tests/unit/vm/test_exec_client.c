/* stasis exec and the lab's pipe beside a guest that ends while it is still being written to: its
 * last words arrive. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "guest/exec_protocol.h"
#include "vm/exec_client.h"
#include "vm/lab/lab.h"
#include "vm/runtime.h"

#define ROUNDS	300
#define CREDITS 20
#define STATUS	7

static char folder[] = "/tmp/stasis-exec-XXXXXX";
static char vm_folder[sizeof(folder) + 16], path[sizeof(vm_folder) + sizeof(RUNTIME_VSOCK)];

static void say(int fd, uint8_t type, uint32_t number)
{
	struct exec_header h = {.type = type, .len = sizeof(number)};

	if (fd_write_all(fd, &h, sizeof(h)) < 0 || fd_write_all(fd, &number, sizeof(number)) < 0)
		_exit(1);
}

/* The guest, a process of its own: of each connection it reads little, gives credit for more, ends
 * COMMAND and closes. With a greeting, as the device does; without, as through a pipe. */
static _Noreturn void guest(int listener, bool greets)
{
	char greeting[32];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 0; i < ROUNDS; i++) {
		int fd = accept(listener, NULL, NULL);

		if (greets) {
			for (size_t at = 0;
			     read(fd, greeting + at, 1) == 1 && greeting[at] != '\n';)
				at++;
			if (fd_write_all(fd, "OK 1025\n", 8) < 0)
				_exit(1);
		}
		if (read(fd, greeting, 1) != 1)
			_exit(1);
		for (int n = 0; n < CREDITS; n++)
			say(fd, EXEC_CREDIT, 1 + 97 * (uint32_t)n);
		say(fd, EXEC_EXITED, STATUS);
		close(fd);
	}
	_exit(0);
}

static pid_t start_guest(bool greets)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pid_t pid;

	memcpy(a.sun_path, path, sizeof(path));
	unlink(path);
	assert_int_equal(bind(fd, (const struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 8), 0);
	pid = fork();
	if (pid == 0)
		guest(fd, greets);
	close(fd);
	return pid;
}

static void ended_well(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void replace(int fd, int with)
{
	assert_true(with >= 0);
	assert_int_equal(dup2(with, fd), fd);
	close(with);
}

static void exec_hears_the_status(void **state UNUSED)
{
	char cat[] = "cat", *argv[] = {cat, NULL};
	struct exec_request q = {.path = path,
				 .argv = argv,
				 .input = true,
				 .limit_ns = 10000000000u};
	int in = dup(STDIN_FILENO);
	pid_t pid = start_guest(true);

	replace(STDIN_FILENO, open("/dev/zero", O_RDONLY | O_CLOEXEC));
	for (int i = 0; i < ROUNDS; i++) {
		struct error err = {0};
		int status = -1, r = exec_client_run(&q, &status, &err);

		if (r < 0)
			print_error("round %d: %s\n", i, err.what);
		assert_int_equal(r, 0);
		assert_int_equal(status, STATUS);
	}
	replace(STDIN_FILENO, in);
	ended_well(pid);
}

static void the_pipe_passes_all_on(void **state UNUSED)
{
	const size_t want = (CREDITS + 1) * (sizeof(struct exec_header) + sizeof(uint32_t));
	int in = dup(STDIN_FILENO), out = dup(STDOUT_FILENO);
	pid_t pid = start_guest(false);

	replace(STDIN_FILENO, open("/dev/zero", O_RDONLY | O_CLOEXEC));
	for (int i = 0; i < ROUNDS; i++) {
		uint8_t got[1024];
		int pipe_fd[2];
		ssize_t n;

		assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
		replace(STDOUT_FILENO, pipe_fd[1]);
		lab_pipe("vm", RUNTIME_VSOCK); /* that it was cut off is no news to its reader */
		assert_true(dup2(out, STDOUT_FILENO) >= 0);
		n = read(pipe_fd[0], got, sizeof(got));
		close(pipe_fd[0]);
		assert_int_equal(n, want);
	}
	replace(STDOUT_FILENO, out);
	replace(STDIN_FILENO, in);
	ended_well(pid);
}

static int set_up(void **state UNUSED)
{
	char *dir;
	struct error err = {0};

	signal(SIGPIPE, SIG_IGN);
	assert_non_null(mkdtemp(folder));
	setenv("XDG_RUNTIME_DIR", folder, 1);
	assert_int_equal(runtime_dir(&dir, &err), 0);
	snprintf(vm_folder, sizeof(vm_folder), "%s/vm", dir);
	free(dir);
	snprintf(path, sizeof(path), "%s/" RUNTIME_VSOCK, vm_folder);
	return mkdir(vm_folder, 0700);
}

static int tear_down(void **state UNUSED)
{
	unlink(path);
	rmdir(vm_folder);
	*strrchr(vm_folder, '/') = '\0';
	rmdir(vm_folder);
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exec_hears_the_status),
		cmocka_unit_test(the_pipe_passes_all_on),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
