/* fork, exec and what lies between. Any thread. */
#include "vm/lab/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"

/* Fewer turns for bulk output; the default is kept where this is refused. */
#define PIPE_BYTES (256 << 10)

struct ends {
	int child[3];
	struct spawn_streams ours;
};

static int make_pipe(int *ret_read, int *ret_write)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	(void)fcntl(fds[0], F_SETPIPE_SZ, PIPE_BYTES);
	*ret_read = fds[0];
	*ret_write = fds[1];
	return 0;
}

static int duplicate(int fd, int *ret_fd)
{
	*ret_fd = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	return *ret_fd < 0 ? -errno : 0;
}

static int make_terminal(const struct spawn *s, struct ends *e)
{
	struct winsize size = {.ws_row = s->rows, .ws_col = s->cols};
	int r;

	if (openpty(&e->ours.tty, &e->child[0], NULL, NULL, s->rows && s->cols ? &size : NULL) < 0)
		return -errno;
	if (fcntl(e->ours.tty, F_SETFD, FD_CLOEXEC) < 0 ||
	    fcntl(e->child[0], F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	r = duplicate(e->child[0], &e->child[1]);
	if (r == 0)
		r = duplicate(e->ours.tty, &e->ours.in);
	if (r == 0)
		r = duplicate(e->ours.tty, &e->ours.out);
	return r;
}

static int make_ends(const struct spawn *s, struct ends *e)
{
	int r;

	if (s->terminal) {
		r = make_terminal(s, e);
	} else {
		r = make_pipe(&e->child[0], &e->ours.in);
		if (r == 0)
			r = make_pipe(&e->ours.out, &e->child[1]);
	}
	return r < 0 ? r : make_pipe(&e->ours.err, &e->child[2]);
}

static void close_child_ends(struct ends *e)
{
	for (unsigned i = 0; i < 3; i++)
		fd_close(&e->child[i]);
}

static void close_our_ends(struct ends *e)
{
	fd_close(&e->ours.in);
	fd_close(&e->ours.out);
	fd_close(&e->ours.err);
	fd_close(&e->ours.tty);
}

static void default_signals(void)
{
	sigset_t none;

	for (int signo = 1; signo < NSIG; signo++)
		signal(signo, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* In the child. Returns on failure only, with errno set. */
static void become(const struct spawn *s, const struct ends *e, pid_t parent)
{
	/* The parent may have gone before the first took hold. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		return;
	setsid();
	for (int i = 0; i < 3; i++)
		if (dup2(e->child[i], i) < 0)
			return;
	if (s->terminal)
		ioctl(STDIN_FILENO, TIOCSCTTY, 0);
	(void)close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC);
	if (s->dir && chdir(s->dir) < 0)
		return;

	default_signals();
	execv(s->program, s->argv);
}

int spawn(const struct spawn *s, pid_t *ret_pid, struct spawn_streams *ret_streams)
{
	struct ends e = {.child = {-1, -1, -1}, .ours = {-1, -1, -1, -1}};
	pid_t parent = getpid(), pid = -1;
	int told[2], error = 0;
	int r = make_ends(s, &e);

	/* Exec closes the child's end; an errno on it means that exec failed. */
	if (r == 0 && pipe2(told, O_CLOEXEC) < 0)
		r = -errno;
	if (r < 0)
		goto out;
	pid = fork();
	if (pid == 0) {
		become(s, &e, parent);
		error = errno;
		(void)!write(told[1], &error, sizeof(error));
		_exit(127);
	}
	r = pid < 0 ? -errno : 0;
	close(told[1]);
	if (pid > 0 && fd_read_all(told[0], &error, sizeof(error)) == (ssize_t)sizeof(error)) {
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		r = error ? -error : -EIO;
	}
	close(told[0]);
out:
	close_child_ends(&e);
	if (r < 0) {
		close_our_ends(&e);
		return r;
	}
	*ret_pid = pid;
	*ret_streams = e.ours;
	return 0;
}
