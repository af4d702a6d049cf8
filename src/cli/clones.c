/* One process for each clone of a snapshot, and one that passes on what they say, by poll(2): it
 * has no guest to delay. Control thread, the only one here. */
#include "cli/clones.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "base/util.h"
#include "cli/clone_output.h"
#include "cli/clone_tally.h"
#include "cli/commands.h"
#include "cli/run_here.h"
#include "vm/clone.h"
#include "vm/signals.h"

enum { OUT, ERR, STREAMS };

struct clone {
	char *name;
	pid_t pid; /* 0: has ended, or was never begun */
	int pid_fd;
	int fd[STREAMS]; /* -1: its end was read */
	struct clone_lines lines[STREAMS];
	int status;
};

struct clones {
	struct clone *clone;
	unsigned count;
	struct clone_sink sink[STREAMS];
	struct pollfd *poll; /* three for each, and three */
	int signal_fd;
};

/* ---- a clone's own process ---------------------------------------------------------------------
 */

/* Each reads a file from where it stands; of anything else there is but one, and it is nobody's. */
static int take_input(void)
{
	struct stat st;
	bool file = fstat(STDIN_FILENO, &st) == 0 && S_ISREG(st.st_mode);
	off_t at = file ? lseek(STDIN_FILENO, 0, SEEK_CUR) : 0;
	int fd = open(file ? "/proc/self/fd/0" : "/dev/null", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (at > 0 && lseek(fd, at, SEEK_SET) < 0)
		at = -errno;
	if (dup2(fd, STDIN_FILENO) < 0)
		at = -errno;
	close(fd);
	return at < 0 ? (int)at : 0;
}

static int become(struct vm_config *config, unsigned i, const int stream[STREAMS], pid_t parent)
{
	struct error err = {0};
	int r;

	/* It goes with its parent, and a terminal's signals come by way of that alone. */
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != parent)
		return 128 + SIGTERM;
	(void)setpgid(0, 0);
	if (dup2(stream[OUT], STDOUT_FILENO) < 0 || dup2(stream[ERR], STDERR_FILENO) < 0)
		return 125;
	close(stream[OUT]);
	close(stream[ERR]);
	r = take_input();
	if (r < 0)
		error_set(&err, r, "opening a clone's input");
	else
		r = vm_clone_settle(config, i, &err);
	return r < 0 ? command_failed(&err) : run_here(config, false);
}

/* ---- beginning them ---------------------------------------------------------------------------
 */

static void clones_done(struct clones *c)
{
	for (unsigned i = 0; c->clone && i < c->count; i++) {
		free(c->clone[i].name);
		fd_close(&c->clone[i].pid_fd);
		fd_close(&c->clone[i].fd[OUT]);
		fd_close(&c->clone[i].fd[ERR]);
	}
	for (int s = 0; s < STREAMS; s++)
		clone_sink_done(&c->sink[s]);
	fd_close(&c->signal_fd);
	free(c->clone);
	free(c->poll);
}

static int clones_init(struct clones *c, const char *name, unsigned count, struct error *err)
{
	/* A process and two streams of each, and what one more needs to begin. */
	rlim_t wanted = 3 * (rlim_t)count + 32;
	struct rlimit files;
	sigset_t signals;

	*c = (struct clones){
		.clone = calloc(count, sizeof(*c->clone)),
		.count = count,
		.sink = {{.fd = STDOUT_FILENO}, {.fd = STDERR_FILENO}},
		.poll = calloc(3 + 3 * (size_t)count, sizeof(*c->poll)),
		.signal_fd = -1,
	};
	if (!c->clone || !c->poll)
		return error_set(err, -ENOMEM, "beginning clones");
	for (unsigned i = 0; i < count; i++)
		c->clone[i] = (struct clone){.pid_fd = -1, .fd = {-1, -1}, .status = 77};
	/* As high as it can be: main.c. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < wanted)
		return error_contention(err,
					"--count %u: that takes %llu open files, and the limit is "
					"%llu (ulimit -n)",
					count, (unsigned long long)wanted,
					(unsigned long long)files.rlim_cur);
	for (unsigned i = 0; i < count; i++) {
		c->clone[i].name = text_format("%s-%u", name, i);
		if (!c->clone[i].name)
			return error_set(err, -ENOMEM, "naming clones");
	}
	signals_block();
	sigprocmask(SIG_BLOCK, NULL, &signals);
	c->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	return c->signal_fd < 0 ? error_set_shortage(err, -errno, "reading signals") : 0;
}

/* 1 in the clone's process, whose status is *ret_status then. */
static int begin(struct clones *c, unsigned i, struct vm_config *config, int *ret_status,
		 struct error *err)
{
	struct clone *clone = &c->clone[i];
	int pipes[STREAMS][2] = {{-1, -1}, {-1, -1}}, r = 0;
	pid_t parent = getpid(), pid = -1;

	for (int s = 0; r == 0 && s < STREAMS; s++)
		if (pipe2(pipes[s], O_CLOEXEC) < 0)
			r = error_set_shortage(err, -errno, "making a pipe for %s", clone->name);
	if (r == 0)
		pid = fork();
	if (r == 0 && pid < 0)
		r = error_set_shortage(err, -errno, "making a process for %s", clone->name);
	if (pid == 0) {
		const int stream[STREAMS] = {pipes[OUT][1], pipes[ERR][1]};

		close(pipes[OUT][0]);
		close(pipes[ERR][0]);
		clones_done(c);
		*ret_status = become(config, i, stream, parent);
		return 1;
	}
	for (int s = 0; s < STREAMS; s++) {
		clone->fd[s] = pipes[s][0];
		fd_close(&pipes[s][1]);
	}
	if (r < 0)
		return r;
	clone->pid = pid;
	clone->pid_fd = pidfd_open(pid, 0);
	for (int s = 0; s < STREAMS; s++)
		(void)fcntl(clone->fd[s], F_SETFL, O_NONBLOCK);
	if (clone->pid_fd >= 0)
		return 0;
	/* Nobody would hear of its end. */
	r = error_set_shortage(err, -errno, "watching %s", clone->name);
	kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	clone->pid = 0;
	return r;
}

/* ---- passing on what they say ------------------------------------------------------------------
 */

static void read_stream(struct clones *c, struct clone *clone, int s)
{
	struct clone_sink *sink = &c->sink[s];
	char data[4096];
	ssize_t n;

	while (!clone_sink_full(sink)) {
		n = read(clone->fd[s], data, sizeof(data));
		if (n > 0) {
			clone_lines_add(&clone->lines[s], clone->name, data, (size_t)n, sink);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		/* What it started may hold the pipe still, but is not heard any more. */
		if (n < 0 && errno == EAGAIN && clone->pid)
			return;
		clone_lines_end(&clone->lines[s], clone->name, sink);
		fd_close(&clone->fd[s]);
		return;
	}
}

static void reap(struct clone *clone)
{
	int status = 0;

	if (waitpid(clone->pid, &status, WNOHANG) != clone->pid)
		return;
	clone->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	clone->pid = 0;
	fd_close(&clone->pid_fd);
}

/* To each that runs: how it ends is that one's matter. */
static void pass_signals(struct clones *c)
{
	struct signalfd_siginfo info;

	while (read(c->signal_fd, &info, sizeof(info)) == sizeof(info))
		for (unsigned i = 0; info.ssi_signo != SIGWINCH && i < c->count; i++)
			if (c->clone[i].pid)
				kill(c->clone[i].pid, (int)info.ssi_signo);
}

static bool is_over(const struct clones *c)
{
	for (unsigned i = 0; i < c->count; i++)
		if (c->clone[i].pid || c->clone[i].fd[OUT] >= 0 || c->clone[i].fd[ERR] >= 0)
			return false;
	return clone_sink_empty(&c->sink[OUT]) && clone_sink_empty(&c->sink[ERR]);
}

/* A stream waits while what was read from others has not been written. */
static nfds_t fill_poll(struct clones *c)
{
	nfds_t n = 0;

	c->poll[n++] = (struct pollfd){.fd = c->signal_fd, .events = POLLIN};
	for (int s = 0; s < STREAMS; s++)
		c->poll[n++] =
			(struct pollfd){.fd = clone_sink_empty(&c->sink[s]) ? -1 : c->sink[s].fd,
					.events = POLLOUT};
	for (unsigned i = 0; i < c->count; i++) {
		struct clone *clone = &c->clone[i];

		c->poll[n++] = (struct pollfd){.fd = clone->pid_fd, .events = POLLIN};
		for (int s = 0; s < STREAMS; s++)
			c->poll[n++] =
				(struct pollfd){.fd = clone_sink_full(&c->sink[s]) ? -1
										   : clone->fd[s],
						.events = POLLIN};
	}
	return n;
}

static int turn(struct clones *c)
{
	nfds_t n = fill_poll(c);
	const struct pollfd *p = c->poll;

	if (poll(c->poll, n, -1) < 0)
		return errno == EINTR ? 0 : -errno;
	if ((p++)->revents)
		pass_signals(c);
	for (int s = 0; s < STREAMS; s++)
		if ((p++)->revents)
			clone_sink_write(&c->sink[s]);
	for (unsigned i = 0; i < c->count; i++) {
		struct clone *clone = &c->clone[i];

		if ((p++)->revents)
			reap(clone);
		for (int s = 0; s < STREAMS; s++, p++)
			if (clone->fd[s] >= 0 && (p->revents || !clone->pid))
				read_stream(c, clone, s);
	}
	return 0;
}

/* The sum of it, in one line and one status. */
static int tell(const struct clones *c, struct error *err)
{
	CLEANUP_FREE struct clone_end *ends = calloc(c->count, sizeof(*ends));
	CLEANUP_FREE char *text = NULL;
	int status;

	for (unsigned i = 0; ends && i < c->count; i++)
		ends[i] = (struct clone_end){c->clone[i].name, c->clone[i].status};
	text = ends ? clone_tally_text(ends, c->count) : NULL;
	if (!text)
		return command_failed((error_set(err, -ENOMEM, "counting clones"), err));
	status = clone_tally_status(ends, c->count);
	log_at(status ? LOG_ERROR : LOG_WARN, "%s", text);
	/* A reader that went away wanted no more. */
	if (!c->sink[OUT].error || c->sink[OUT].error == EPIPE)
		return status;
	error_set(err, -c->sink[OUT].error, "writing to standard output");
	return command_failed(err);
}

static int name_them(struct vm_config *config, struct error *err)
{
	uint32_t random = 0;

	if (config->name)
		return 0;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		random = (uint32_t)now_ns();
	config->name = text_format("vm-%08x", random);
	return config->name ? 0 : error_set(err, -ENOMEM, "naming clones");
}

int clones_run(struct vm_config *config, unsigned count)
{
	struct error err = {0};
	struct clones c = {.signal_fd = -1};
	int status = 0, r = name_them(config, &err);

	if (r == 0)
		r = vm_clone_check(config, count, &err);
	if (r == 0)
		r = clones_init(&c, config->name, count, &err);
	fflush(NULL);
	/* One that can't be begun is one that failed; the others go on. */
	for (unsigned i = 0; r == 0 && i < count; i++) {
		struct error begin_err = {0};
		int begun = begin(&c, i, config, &status, &begin_err);

		if (begun > 0)
			return status; /* in the clone */
		if (begun < 0)
			log_failure(&begin_err);
	}
	while (r == 0 && !is_over(&c)) {
		r = turn(&c);
		if (r < 0)
			error_set(&err, r, "waiting for clones");
	}
	status = r < 0 ? command_failed(&err) : tell(&c, &err);
	clones_done(&c);
	return status;
}
