/* Clients of the control socket of a VM in the lab: outside, a process for each; inside, the pipe
 * to the VM's own socket. */
#include "vm/lab/forward.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"
#include "vm/qmp/socket.h"
#include "vm/runtime.h"

#define FORWARD_LIMIT_NS 10000000000u
#define PIPE_LIMIT_NS	 20000000000u /* from the start of the inner stasis to its socket */
#define PIPE_PAUSE_US	 50000

/* ---- outside --------------------------------------------------------------------------------
 */

static int connect_keeper(const struct lab_request *run, bool private_lab, struct error *err)
{
	int fd, r;

	if (!private_lab)
		return lab_connect_warm(run->kind, err);
	if (!run->keeper_path)
		return -ENOENT;
	r = qmp_socket_connect(run->keeper_path, FORWARD_LIMIT_NS, &fd, err);
	return r < 0 ? r : fd;
}

static _Noreturn void forward(const struct lab_request *run, bool private_lab, const char *socket,
			      int fd)
{
	char command[] = "lab-pipe", *name = strdup(run->name);
	char *argv[] = {command, name, strdup(socket), NULL};
	const struct lab_request pipe = {.argv = argv};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), lab_fd, status;
	struct error err = {0};

	/* A terminal's Ctrl-C is the run's to pass on: clients shall hear how it ends. */
	setsid();
	if (!name || !argv[2] || dup2(fd, STDIN_FILENO) < 0 || dup2(fd, STDOUT_FILENO) < 0 ||
	    dup2(null, STDERR_FILENO) < 0)
		_exit(1);
	close_range(STDERR_FILENO + 1, ~0u, 0);
	lab_fd = connect_keeper(run, private_lab, &err);
	_exit(lab_fd < 0 || lab_session(lab_fd, &pipe, &status, &err) < 0);
}

void lab_forward(const struct lab_request *run, bool private_lab, const char *socket, int listen_fd)
{
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	pid_t pid;

	if (fd < 0)
		return;
	/* Twice: nobody's child, so that nobody has to wait for it. */
	pid = fork();
	if (pid == 0) {
		pid = fork();
		if (pid == 0)
			forward(run, private_lab, socket, fd);
		_exit(pid < 0);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
	close(fd);
}

/* ---- inside ---------------------------------------------------------------------------------
 */

/* Bytes both ways, until the VM or whoever reads its answers ends. */
static int pipe_through(int fd)
{
	struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
			       {.fd = fd, .events = POLLIN}};
	uint8_t buf[4096];

	for (;;) {
		ssize_t n;

		if (poll(fds, ARRAY_SIZE(fds), -1) < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (fds[0].revents) {
			n = read(STDIN_FILENO, buf, sizeof(buf));
			/* What was asked is still answered; what hears no more may have spoken. */
			if (n <= 0 || fd_write_all(fd, buf, (size_t)n) < 0) {
				shutdown(fd, SHUT_WR);
				fds[0].fd = -1;
			}
		}
		if (fds[1].revents) {
			n = read(fd, buf, sizeof(buf));
			if (n <= 0)
				return n < 0 ? -errno : 0;
			if (fd_write_all(STDOUT_FILENO, buf, (size_t)n) < 0)
				return -EPIPE;
		}
	}
}

int lab_pipe(const char *name, const char *socket)
{
	uint64_t end_ns = now_ns() + PIPE_LIMIT_NS;
	CLEANUP_FREE char *dir = NULL;
	CLEANUP_FREE char *path = NULL;
	CLEANUP_FD int fd = -1;
	struct error err = {0};
	int r = runtime_dir(&dir, &err);

	if (r == 0) {
		path = text_format("%s/%s/%s", dir, name, socket);
		r = path ? -ENOENT : -ENOMEM;
	}
	while (r == -ENOENT && now_ns() < end_ns) {
		r = qmp_socket_connect(path, FORWARD_LIMIT_NS, &fd, &err);
		if (r == -ENOENT)
			usleep(PIPE_PAUSE_US);
	}
	return r < 0 || pipe_through(fd) < 0;
}
