/* Commands that the host starts later on: see guest/exec_protocol.h. Each process has one thread,
 * and each command a process, so that none waits for another. What the host sends is checked: a bug
 * of its must not hang the guest. */
#include "guest/init/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/compiler.h"
#include "guest/exec_protocol.h"
#include "guest/init/command.h"
#include "guest/init/klog.h"

#define BACKLOG	 64
#define ARGS_MAX 4096

enum { INPUT, OUTPUT, ERRORS, STREAMS };

struct exec {
	int fd;		   /* the connection; blocking */
	int child_fd;	   /* signalfd of SIGCHLD */
	int ours[STREAMS]; /* our ends of COMMAND's streams; non-blocking; -1: closed. On a terminal
			    * INPUT and OUTPUT are its one master. */
	bool terminal;
	pid_t pid; /* 0: over */
	int wait_status;
	bool broken;		   /* the connection is */
	bool input_ending;	   /* after what is held */
	uint8_t held[EXEC_WINDOW]; /* of standard input */
	size_t held_at, held_len;
	size_t in_len; /* of the frame that is being read */
	uint8_t in[sizeof(struct exec_header) + EXEC_PAYLOAD];
};

/* ---- helpers ------------------------------------------------------------------------------ */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int write_all(int fd, const void *data, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data = (const uint8_t *)data + n;
		len -= (size_t)n;
	}
	return 0;
}

static bool read_all(int fd, void *data, size_t len)
{
	while (len > 0) {
		ssize_t n = recv(fd, data, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		data = (uint8_t *)data + n;
		len -= (size_t)n;
	}
	return true;
}

/* ---- frames ------------------------------------------------------------------------------- */

/* Waits for the host to take it: COMMAND waits with us then. */
static void send_frame(struct exec *e, uint8_t type, const void *payload, uint32_t len)
{
	struct exec_header h = {.type = type, .len = len};

	if (e->broken)
		return;
	if (write_all(e->fd, &h, sizeof(h)) < 0 || write_all(e->fd, payload, len) < 0)
		e->broken = true;
}

static void send_number(struct exec *e, uint8_t type, uint32_t number)
{
	send_frame(e, type, &number, sizeof(number));
}

static void send_failed(struct exec *e, int status, const char *what, int r)
{
	char payload[512];
	uint32_t number = (uint32_t)status;
	int n;

	memcpy(payload, &number, sizeof(number));
	n = snprintf(payload + sizeof(number), sizeof(payload) - sizeof(number), "%.256s: %s", what,
		     strerror(-r));
	send_frame(e, EXEC_FAILED, payload, (uint32_t)(sizeof(number) + (size_t)n));
}

/* ---- starting ----------------------------------------------------------------------------- */

static int open_terminal(struct exec *e, struct command *c, unsigned rows, unsigned cols)
{
	struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	int slave;

	if (master < 0)
		return -errno;
	e->ours[OUTPUT] = master;
	if (grantpt(master) < 0 || unlockpt(master) < 0)
		return -errno;
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return -errno;
	if (rows && cols)
		(void)ioctl(slave, TIOCSWINSZ, &size);
	c->stdio[INPUT] = c->stdio[OUTPUT] = c->stdio[ERRORS] = c->tty = slave;
	e->ours[INPUT] = dup(master);
	return e->ours[INPUT] < 0 ? -errno : 0;
}

static int open_pipes(struct exec *e, struct command *c, bool has_input)
{
	for (unsigned i = 0; i < STREAMS; i++) {
		unsigned our_end = i == INPUT;
		int ends[2];

		if (i == INPUT && !has_input) {
			c->stdio[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
			if (c->stdio[i] < 0)
				return -errno;
			continue;
		}
		if (pipe2(ends, O_CLOEXEC) < 0)
			return -errno;
		e->ours[i] = ends[our_end];
		c->stdio[i] = ends[!our_end];
		if (fcntl(e->ours[i], F_SETFL, O_NONBLOCK) < 0)
			return -errno;
	}
	return 0;
}

/* payload: of START, checked to end with a NUL. False: it has been said why. */
static bool start(struct exec *e, char *payload, uint32_t len, const char *const *envp)
{
	struct command c = {.envp = envp, .cwd = "/", .stdio = {-1, -1, -1}, .tty = -1};
	const char **argv = calloc(ARGS_MAX + 1, sizeof(*argv));
	uint8_t flags = (uint8_t)payload[0];
	uint16_t rows, cols;
	size_t n = 0;
	int r;

	memcpy(&rows, payload + 2, sizeof(rows));
	memcpy(&cols, payload + 4, sizeof(cols));
	for (char *at = payload + EXEC_START_BYTES; argv && at < payload + len && n < ARGS_MAX;
	     at += strlen(at) + 1)
		argv[n++] = at;
	c.argv = argv;
	e->terminal = flags & EXEC_HAS_TERMINAL;
	r = !argv	  ? -ENOMEM
	    : e->terminal ? open_terminal(e, &c, rows, cols)
			  : open_pipes(e, &c, flags & EXEC_HAS_STDIN);
	if (r == 0)
		r = command_start(&c, &e->pid);
	if (r < 0)
		send_failed(e, command_failed_status(r), n ? argv[0] : "COMMAND", r);
	else
		send_frame(e, EXEC_STARTED, NULL, 0);
	for (unsigned i = 0; i < STREAMS; i++)
		if (c.stdio[i] >= 0 && (i == INPUT || !e->terminal))
			close(c.stdio[i]);
	free(argv);
	return r == 0;
}

/* ---- the host's words --------------------------------------------------------------------- */

static void flush_input(struct exec *e)
{
	uint32_t done = 0;

	while (e->held_len > 0 && e->ours[INPUT] >= 0) {
		ssize_t n = write(e->ours[INPUT], e->held + e->held_at, e->held_len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) { /* nobody reads it any more: it goes nowhere, and the host on */
			close_fd(&e->ours[INPUT]);
			break;
		}
		e->held_at += (size_t)n;
		e->held_len -= (size_t)n;
		done += (uint32_t)n;
	}
	if (e->ours[INPUT] < 0) {
		done += (uint32_t)e->held_len;
		e->held_len = 0;
	}
	if (e->held_len == 0) {
		e->held_at = 0;
		if (e->input_ending && e->ours[INPUT] >= 0) {
			/* A terminal's end of file is a character. */
			if (e->terminal)
				(void)!write(e->ours[INPUT], "\4", 1);
			close_fd(&e->ours[INPUT]);
		}
	}
	if (done > 0)
		send_number(e, EXEC_CREDIT, done);
}

static void take_input(struct exec *e, const uint8_t *data, uint32_t len)
{
	if (len == 0)
		e->input_ending = true;
	if (len > sizeof(e->held) - e->held_len) {
		e->broken = true;
		return;
	}
	memmove(e->held, e->held + e->held_at, e->held_len);
	e->held_at = 0;
	memcpy(e->held + e->held_len, data, len);
	e->held_len += len;
	flush_input(e);
}

static void take_frame(struct exec *e, uint8_t type, const uint8_t *payload, uint32_t len)
{
	struct winsize size = {0};
	uint32_t number;

	switch (type) {
	case EXEC_STDIN:
		take_input(e, payload, len);
		break;
	case EXEC_SIGNAL:
		if (len != sizeof(number))
			break;
		memcpy(&number, payload, sizeof(number));
		/* After its end the number may be another's. */
		if (e->pid > 0 && number >= 1 && number < NSIG)
			kill(-e->pid, (int)number);
		break;
	case EXEC_WINSIZE:
		if (len != 4)
			break;
		memcpy(&size.ws_row, payload, 2);
		memcpy(&size.ws_col, payload + 2, 2);
		if (e->terminal && e->ours[OUTPUT] >= 0)
			(void)ioctl(e->ours[OUTPUT], TIOCSWINSZ, &size);
		break;
	default:
		e->broken = true;
		break;
	}
}

/* One read, and the frames that are whole then. */
static void hear(struct exec *e)
{
	struct exec_header h;
	ssize_t n = recv(e->fd, e->in + e->in_len, sizeof(e->in) - e->in_len, MSG_DONTWAIT);
	size_t at = 0;

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		e->broken = true;
		return;
	}
	e->in_len += (size_t)n;
	while (!e->broken && e->in_len - at >= sizeof(h)) {
		memcpy(&h, e->in + at, sizeof(h));
		if (h.len > EXEC_PAYLOAD)
			e->broken = true;
		if (e->broken || e->in_len - at < sizeof(h) + h.len)
			break;
		take_frame(e, h.type, e->in + at + sizeof(h), h.len);
		at += sizeof(h) + h.len;
	}
	memmove(e->in, e->in + at, e->in_len - at);
	e->in_len -= at;
}

/* ---- COMMAND's life ----------------------------------------------------------------------- */

/* What is there of a stream; false: it has ended. */
static void pass_on(struct exec *e, unsigned stream)
{
	uint8_t buf[EXEC_PAYLOAD / 2];
	ssize_t n;

	if (e->ours[stream] < 0)
		return;
	do
		n = read(e->ours[stream], buf, sizeof(buf));
	while (n < 0 && errno == EINTR);
	if (n > 0)
		send_frame(e, stream == OUTPUT ? EXEC_STDOUT : EXEC_STDERR, buf, (uint32_t)n);
	else if (n == 0 || errno != EAGAIN) /* a terminal that all have left says EIO */
		close_fd(&e->ours[stream]);
}

/* What COMMAND wrote before its end, and nothing that others write later. */
static void drain(struct exec *e, unsigned stream)
{
	int held = 0;

	if (e->ours[stream] >= 0 && ioctl(e->ours[stream], FIONREAD, &held) < 0)
		held = 0;
	/* A terminal's discipline may still be at it: what it has comes in parts. */
	for (uint64_t left = (uint64_t)MAX(held, 0); left > 0 && !e->broken;) {
		uint8_t buf[EXEC_PAYLOAD / 2];
		ssize_t n = read(e->ours[stream], buf, MIN(sizeof(buf), left));

		if (n <= 0)
			break;
		send_frame(e, stream == OUTPUT ? EXEC_STDOUT : EXEC_STDERR, buf, (uint32_t)n);
		left -= (uint64_t)n;
	}
}

static void reap(struct exec *e)
{
	struct signalfd_siginfo infos[4];
	int status;
	pid_t pid;

	while (read(e->child_fd, infos, sizeof(infos)) > 0)
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == e->pid) {
			e->pid = 0;
			e->wait_status = status;
		}
}

static void turn(struct exec *e)
{
	enum { CONN, CHILD, FIRST };
	struct pollfd fds[FIRST + STREAMS] = {
		[CONN] = {.fd = e->fd, .events = POLLIN},
		[CHILD] = {.fd = e->child_fd, .events = POLLIN},
		[FIRST + INPUT] = {.fd = e->held_len ? e->ours[INPUT] : -1, .events = POLLOUT},
		[FIRST + OUTPUT] = {.fd = e->ours[OUTPUT], .events = POLLIN},
		[FIRST + ERRORS] = {.fd = e->ours[ERRORS], .events = POLLIN},
	};

	if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
		return;
	if (fds[CONN].revents)
		hear(e);
	if (fds[FIRST + INPUT].revents)
		flush_input(e);
	for (unsigned i = OUTPUT; i <= ERRORS; i++)
		if (fds[FIRST + i].revents)
			pass_on(e, i);
	if (fds[CHILD].revents)
		reap(e);
}

static bool read_start(struct exec *e, const char *const *envp)
{
	struct exec_header h;

	if (!read_all(e->fd, &h, sizeof(h)) || h.type != EXEC_START || h.len > EXEC_PAYLOAD ||
	    h.len <= EXEC_START_BYTES || !read_all(e->fd, e->in, h.len) || e->in[h.len - 1] != '\0')
		return false;
	return start(e, (char *)e->in, h.len, envp);
}

static void serve(struct exec *e, const char *const *envp)
{
	if (!read_start(e, envp))
		return;
	while (e->pid > 0 && !e->broken)
		turn(e);
	if (e->broken) {
		if (e->pid > 0)
			kill(-e->pid, SIGHUP);
		return;
	}
	drain(e, OUTPUT);
	drain(e, ERRORS);
	if (WIFSIGNALED(e->wait_status))
		send_number(e, EXEC_SIGNALLED, (uint32_t)WTERMSIG(e->wait_status));
	else
		send_number(e, EXEC_EXITED, (uint32_t)WEXITSTATUS(e->wait_status));
}

void exec_serve(int fd, const char *const *envp)
{
	struct exec *e = calloc(1, sizeof(*e));
	sigset_t child;

	if (e) {
		e->fd = fd;
		sigemptyset(&child);
		sigaddset(&child, SIGCHLD);
		sigprocmask(SIG_BLOCK, &child, NULL);
		e->child_fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
		for (unsigned i = 0; i < STREAMS; i++)
			e->ours[i] = -1;
		if (e->child_fd >= 0)
			serve(e, envp);
		for (unsigned i = 0; i < STREAMS; i++)
			close_fd(&e->ours[i]);
		close_fd(&e->child_fd);
	}
	free(e);
	close(fd);
}

/* ---- the agent ---------------------------------------------------------------------------- */

static int listen_on(unsigned port)
{
	struct sockaddr_vm at = {.svm_family = AF_VSOCK,
				 .svm_cid = VMADDR_CID_ANY,
				 .svm_port = port};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

	if (fd < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *)&at, sizeof(at)) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	r = -errno;
	close(fd);
	return r;
}

static _Noreturn void agent(int listen_fd, const char *const *envp)
{
	/* Its children's ends are nobody's concern. */
	signal(SIGCHLD, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	for (;;) {
		int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
		pid_t pid = fd >= 0 ? fork() : -1;

		if (pid == 0) {
			signal(SIGCHLD, SIG_DFL);
			close(listen_fd);
			exec_serve(fd, envp);
			_exit(0);
		}
		if (fd >= 0)
			close(fd);
		if (fd < 0 || pid < 0)
			usleep(10000);
	}
}

void exec_start(const char *const *envp)
{
	int fd = listen_on(EXEC_PORT);
	pid_t pid;

	if (fd < 0) {
		klog("stasis exec won't reach this guest: its kernel has no vsock (%s)",
		     strerror(-fd));
		return;
	}
	pid = fork();
	if (pid == 0) {
		setsid();
		agent(fd, envp);
	}
	if (pid < 0)
		klog("starting the agent of stasis exec: %s", strerror(errno));
	close(fd);
}
