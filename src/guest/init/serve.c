/* The loop around COMMAND: one poll, no descriptor ever blocks. One thread: init's. */
#include "guest/init/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/init/klog.h"

/* Fewer and longer turns for bulk output; the default of 64 KiB is kept where this is refused. */
#define PIPE_BYTES (256 << 10)

int serve_init(struct serve *s, int control_fd)
{
	sigset_t child;

	control_init(&s->control, control_fd);
	for (unsigned i = 0; i < SERVE_STREAMS; i++) {
		s->relay[i].finished = true;
		s->relay[i].src_ended = true;
		s->relay[i].head = 0;
		s->relay[i].len = 0;
	}
	s->tty = -1;
	s->command = 0;
	s->ended = false;
	s->wait_status = 0;
	s->stdin_told = true;
	s->go = s->bye = false;
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &child, NULL) < 0)
		return -errno;
	s->child_fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	return s->child_fd < 0 ? -errno : 0;
}

void serve_done(struct serve *s)
{
	for (unsigned i = 0; i < SERVE_STREAMS; i++)
		relay_stop(&s->relay[i]);
	if (s->child_fd >= 0)
		close(s->child_fd);
	s->child_fd = -1;
}

static void tell_failed(struct serve *s, const struct command *c, int r)
{
	control_send(&s->control, "failed %d %.256s: %s", command_failed_status(r),
		     c->argv[0] ? c->argv[0] : "COMMAND", strerror(-r));
}

/* ours: init's end of each pipe, non-blocking; c->stdio: COMMAND's ends. */
static int make_pipes(struct command *c, int ours[SERVE_STREAMS])
{
	for (unsigned i = 0; i < SERVE_STREAMS; i++) {
		unsigned our_end = i == SERVE_STDIN ? 1 : 0;
		int ends[2];

		if (pipe2(ends, O_CLOEXEC) < 0)
			return -errno;
		ours[i] = ends[our_end];
		c->stdio[i] = ends[!our_end];
		(void)fcntl(ours[i], F_SETPIPE_SZ, PIPE_BYTES);
		if (fcntl(ours[i], F_SETFL, O_NONBLOCK) < 0)
			return -errno;
	}
	return 0;
}

static void close_all(const int fds[SERVE_STREAMS])
{
	for (unsigned i = 0; i < SERVE_STREAMS; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

bool serve_start(struct serve *s, struct command *c, const int *ports)
{
	int ours[SERVE_STREAMS] = {-1, -1, -1};
	int r = 0;

	if (ports) {
		for (unsigned i = 0; i < SERVE_STREAMS; i++)
			c->stdio[i] = -1;
		r = make_pipes(c, ours);
	}
	if (r == 0)
		r = command_start(c, &s->command);
	if (ports)
		close_all(c->stdio);
	if (r < 0) {
		close_all(ours);
		tell_failed(s, c, r);
		return false;
	}
	s->tty = c->tty;
	if (ports) {
		relay_init(&s->relay[SERVE_STDIN], ports[SERVE_STDIN], ours[SERVE_STDIN], true);
		relay_init(&s->relay[SERVE_STDOUT], ours[SERVE_STDOUT], ports[SERVE_STDOUT], false);
		relay_init(&s->relay[SERVE_STDERR], ours[SERVE_STDERR], ports[SERVE_STDERR], false);
		s->stdin_told = false;
	}
	control_send(&s->control, "started");
	return true;
}

/* ---- what the host says ------------------------------------------------------------------ */

static void set_size(struct serve *s, unsigned rows, unsigned cols)
{
	struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};

	if (s->tty >= 0 && rows <= UINT16_MAX && cols <= UINT16_MAX)
		(void)ioctl(s->tty, TIOCSWINSZ, &size);
}

static void heard(void *arg, char *line)
{
	struct serve *s = arg;
	unsigned a, b;

	if (sscanf(line, "signal %3u", &a) == 1) {
		/* After its end the number may be another's. */
		if (s->command > 0 && a >= 1 && a < NSIG)
			kill(-s->command, (int)a);
	} else if (sscanf(line, "winsize %5u %5u", &a, &b) == 2) {
		set_size(s, a, b);
	} else if (!strcmp(line, "closed stdout")) {
		relay_stop(&s->relay[SERVE_STDOUT]);
	} else if (!strcmp(line, "closed stderr")) {
		relay_stop(&s->relay[SERVE_STDERR]);
	} else if (!strcmp(line, "go")) {
		s->go = true;
	} else if (!strcmp(line, "bye")) {
		s->bye = true;
	}
}

/* ---- ends --------------------------------------------------------------------------------- */

static void reap(struct serve *s)
{
	struct signalfd_siginfo infos[8];
	int status;
	pid_t pid;

	while (read(s->child_fd, infos, sizeof(infos)) > 0)
		;
	/* One signal may stand for many children. */
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != s->command)
			continue;
		s->command = 0;
		s->ended = true;
		s->wait_status = status;
		/* All that it wrote is in the pipes now; what others write later is not waited
		 * for. What is left of standard input has no reader to count on. */
		relay_stop(&s->relay[SERVE_STDIN]);
		s->stdin_told = true;
		relay_drain(&s->relay[SERVE_STDOUT]);
		relay_drain(&s->relay[SERVE_STDERR]);
	}
}

static bool sent_all(const struct serve *s)
{
	return s->ended && s->relay[SERVE_STDOUT].finished && s->relay[SERVE_STDERR].finished;
}

/* One poll and what it calls for. */
static void turn(struct serve *s)
{
	enum { CONTROL, CHILD, STREAMS };
	struct pollfd fds[STREAMS + 2 * SERVE_STREAMS] = {
		[CONTROL] = {.fd = s->control.fd, .events = POLLIN},
		[CHILD] = {.fd = s->child_fd, .events = POLLIN},
	};

	if (s->control.out_len > 0)
		fds[CONTROL].events |= POLLOUT;
	for (unsigned i = 0; i < SERVE_STREAMS; i++)
		relay_poll(&s->relay[i], &fds[STREAMS + 2 * i], &fds[STREAMS + 2 * i + 1]);
	if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
		return;
	if (fds[CONTROL].revents & POLLOUT)
		control_flush(&s->control);
	if (fds[CONTROL].revents & ~POLLOUT)
		control_read(&s->control, heard, s);
	for (unsigned i = 0; i < SERVE_STREAMS; i++)
		relay_work(&s->relay[i], fds[STREAMS + 2 * i].revents,
			   fds[STREAMS + 2 * i + 1].revents);
	if (fds[CHILD].revents)
		reap(s);
	if (!s->stdin_told && s->relay[SERVE_STDIN].finished) {
		s->stdin_told = true;
		if (s->relay[SERVE_STDIN].broken)
			control_send(&s->control, "closed stdin");
	}
}

bool serve_wait_go(struct serve *s)
{
	while (!s->go && !s->bye && !s->control.gone)
		turn(s);
	return s->go && !s->bye && !s->control.gone;
}

bool serve_run(struct serve *s)
{
	while (!s->bye && !s->control.gone && !sent_all(s))
		turn(s);
	return sent_all(s);
}

void serve_tell_end(struct serve *s)
{
	if (WIFSIGNALED(s->wait_status))
		control_send(&s->control, "signalled %d", WTERMSIG(s->wait_status));
	else
		control_send(&s->control, "exited %d", WEXITSTATUS(s->wait_status));
}

void serve_wait_bye(struct serve *s)
{
	while (!s->bye && !s->control.gone)
		turn(s);
}
