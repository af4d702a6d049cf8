/* One command in a running guest: guest/exec_protocol.h over the VM's vsock. Calling thread, one
 * poll(2). What the guest says is checked as a stranger's is. */
#include "vm/exec_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"
#include "guest/exec_protocol.h"
#include "vm/lab/frame.h"
#include "vm/qmp/socket.h"
#include "vm/terminal.h"

#define CONNECT_LIMIT_NS 5000000000u
#define RETRY_US	 100000
#define NS_PER_MS	 1000000u
#define GREETING_MAX	 32

struct exec_client {
	const struct exec_request *request;
	int fd, signal_fd;
	struct terminal terminal;
	struct lab_bytes out;	       /* frames that wait for the socket */
	uint32_t credit;	       /* bytes of standard input that may go */
	bool input_ended, ended, deaf; /* deaf: the guest hears no more, but may have spoken */
	int status;
	size_t in_len;
	uint8_t in[sizeof(struct exec_header) + EXEC_PAYLOAD];
	struct error *err;
};

/* ---- getting there ------------------------------------------------------------------------- */

/* The device's "OK PORT\n", byte by byte, because what follows is another's. -ECONNRESET: the guest
 * refuses. */
static int read_greeting(int fd, uint64_t end_ns)
{
	char line[GREETING_MAX];
	size_t len = 0;

	while (len < sizeof(line)) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		uint64_t now = now_ns();
		ssize_t n;

		if (now >= end_ns || poll(&p, 1, (int)((end_ns - now) / NS_PER_MS) + 1) == 0)
			return -ETIMEDOUT;
		n = read(fd, line + len, 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -ECONNRESET;
		if (line[len++] == '\n')
			return len >= 3 && !memcmp(line, "OK ", 3) ? 0 : -EPROTO;
	}
	return -EPROTO;
}

static int try_connect(const struct exec_request *q, uint64_t end_ns, int *ret_fd,
		       struct error *err)
{
	char greeting[GREETING_MAX];
	int len = snprintf(greeting, sizeof(greeting), "CONNECT %u\n", EXEC_PORT);
	int fd, r = qmp_socket_connect(q->path, CONNECT_LIMIT_NS, &fd, err);

	if (r < 0)
		return r;
	r = fd_write_all(fd, greeting, (size_t)len);
	if (r == 0)
		r = read_greeting(fd, end_ns);
	if (r < 0)
		close(fd);
	else
		*ret_fd = fd;
	return r == -EPIPE ? -ECONNRESET : r;
}

/* A guest that is still booting has no agent yet. */
static int get_there(const struct exec_request *q, int *ret_fd, struct error *err)
{
	uint64_t end_ns = now_ns() + q->limit_ns;
	int r;

	while ((r = try_connect(q, end_ns, ret_fd, err)) == -ECONNRESET && now_ns() < end_ns)
		usleep(RETRY_US);
	if (r == -ECONNRESET || r == -ETIMEDOUT) {
		error_contention(err, "the guest does not answer");
		error_hint(err, "it needs stasis's own init, and a kernel with vsock "
				"(CONFIG_VIRTIO_VSOCKETS, module vmw_vsock_virtio_transport)");
		return -ETIMEDOUT;
	}
	return r;
}

/* ---- what goes ------------------------------------------------------------------------------ */

static int queue(struct exec_client *c, uint8_t type, const void *payload, uint32_t len)
{
	struct exec_header h = {.type = type, .len = len};
	int r = lab_bytes_add(&c->out, &h, sizeof(h));

	return r == 0 && len > 0 ? lab_bytes_add(&c->out, payload, len) : r;
}

static int queue_start(struct exec_client *c)
{
	const struct exec_request *q = c->request;
	uint8_t payload[EXEC_PAYLOAD] = {0};
	uint16_t cols = 0, rows = 0;
	size_t len = EXEC_START_BYTES;

	payload[0] =
		(uint8_t)((q->input ? EXEC_HAS_STDIN : 0) | (q->terminal ? EXEC_HAS_TERMINAL : 0));
	if (q->terminal && terminal_size(STDIN_FILENO, &cols, &rows)) {
		memcpy(payload + 2, &rows, sizeof(rows));
		memcpy(payload + 4, &cols, sizeof(cols));
	}
	for (char *const *arg = q->argv; *arg; arg++) {
		size_t n = strlen(*arg) + 1;

		if (n > sizeof(payload) - len)
			return error_usage(c->err, "COMMAND is too long: %u bytes are accepted",
					   EXEC_PAYLOAD - EXEC_START_BYTES);
		memcpy(payload + len, *arg, n);
		len += n;
	}
	return queue(c, EXEC_START, payload, (uint32_t)len);
}

static int read_input(struct exec_client *c)
{
	uint8_t buf[EXEC_PAYLOAD];
	ssize_t n = read(STDIN_FILENO, buf, MIN(sizeof(buf), c->credit));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n <= 0) {
		c->input_ended = true;
		return queue(c, EXEC_STDIN, NULL, 0);
	}
	c->credit -= (uint32_t)n;
	return queue(c, EXEC_STDIN, buf, (uint32_t)n);
}

static int on_signal(struct exec_client *c)
{
	struct signalfd_siginfo info;
	uint16_t size[2] = {0};
	uint32_t number;

	if (read(c->signal_fd, &info, sizeof(info)) != sizeof(info))
		return 0;
	number = info.ssi_signo;
	if (number != SIGWINCH)
		return queue(c, EXEC_SIGNAL, &number, sizeof(number));
	if (!c->request->terminal || !terminal_size(STDIN_FILENO, &size[1], &size[0]))
		return 0;
	return queue(c, EXEC_WINSIZE, size, sizeof(size));
}

/* ---- what comes ----------------------------------------------------------------------------- */

static uint32_t number_of(const uint8_t *payload, uint32_t len)
{
	uint32_t number = 0;

	memcpy(&number, payload, MIN(len, (uint32_t)sizeof(number)));
	return number;
}

static void end(struct exec_client *c, int status)
{
	c->ended = true;
	c->status = status;
}

static int take_frame(struct exec_client *c, uint8_t type, const uint8_t *payload, uint32_t len)
{
	uint32_t number = number_of(payload, len);

	switch (type) {
	case EXEC_STARTED:
		return 0;
	case EXEC_STDOUT:
	case EXEC_STDERR:
		if (fd_write_all(type == EXEC_STDOUT ? STDOUT_FILENO : STDERR_FILENO, payload,
				 len) < 0)
			end(c, 128 + SIGPIPE); /* our reader is gone; so is COMMAND's */
		return 0;
	case EXEC_CREDIT:
		c->credit += MIN(number, EXEC_WINDOW - c->credit);
		return 0;
	case EXEC_EXITED:
		end(c, (int)(number & 0xff));
		return 0;
	case EXEC_SIGNALLED:
		end(c, 128 + (int)(number & 0x7f));
		return 0;
	case EXEC_FAILED:
		end(c, number ? (int)(number & 0xff) : 126);
		if (len > sizeof(number))
			fprintf(stderr, "stasis: %.*s\n", (int)(len - sizeof(number)),
				(const char *)payload + sizeof(number));
		return 0;
	default:
		return -EPROTO;
	}
}

static int hear(struct exec_client *c)
{
	struct exec_header h;
	ssize_t n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, MSG_DONTWAIT);
	size_t at = 0;
	int r = 0;

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n <= 0)
		return -ECONNRESET;
	c->in_len += (size_t)n;
	while (r == 0 && !c->ended && c->in_len - at >= sizeof(h)) {
		memcpy(&h, c->in + at, sizeof(h));
		if (h.len > EXEC_PAYLOAD)
			return -EPROTO;
		if (c->in_len - at < sizeof(h) + h.len)
			break;
		r = take_frame(c, h.type, c->in + at + sizeof(h), h.len);
		at += sizeof(h) + h.len;
	}
	memmove(c->in, c->in + at, c->in_len - at);
	c->in_len -= at;
	return r;
}

/* ---- the whole ------------------------------------------------------------------------------ */

static int turn(struct exec_client *c)
{
	enum { CONN, SIGNALS, INPUT };
	bool wants = c->request->input && !c->input_ended && !c->deaf && c->credit > 0 &&
		     c->out.len == 0;
	struct pollfd fds[] = {
		[CONN] = {.fd = c->fd,
			  .events = (short)(POLLIN | (!c->deaf && c->out.len > 0 ? POLLOUT : 0))},
		[SIGNALS] = {.fd = c->signal_fd, .events = POLLIN},
		[INPUT] = {.fd = wants ? STDIN_FILENO : -1, .events = POLLIN},
	};
	int64_t n;
	int r = 0;

	if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
		return errno == EINTR ? 0 : -errno;
	if (fds[SIGNALS].revents)
		r = on_signal(c);
	if (r == 0 && fds[INPUT].revents)
		r = read_input(c);
	if (r == 0 && fds[CONN].revents & ~POLLOUT)
		r = hear(c);
	if (r == 0 && !c->ended && !c->deaf && c->out.len > 0) {
		n = lab_bytes_write(&c->out, c->fd);
		/* It may have ended since poll(2): its last words are there to be read. */
		c->deaf = n < 0 && n != -EAGAIN;
	}
	return r;
}

static int serve(struct exec_client *c)
{
	int r = queue_start(c);

	if (r == 0 && fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0)
		r = -errno;
	while (r == 0 && !c->ended)
		r = turn(c);
	if (r < 0 && c->err->code == 0)
		error_set(c->err, r, "the guest ended before COMMAND did");
	return r;
}

int exec_client_run(const struct exec_request *request, int *ret_status, struct error *err)
{
	struct exec_client *c = calloc(1, sizeof(*c));
	sigset_t signals;
	int r;

	if (!c)
		return error_set(err, -ENOMEM, "running COMMAND");
	*c = (struct exec_client){.request = request,
				  .fd = -1,
				  .terminal = {.fd = -1},
				  .credit = EXEC_WINDOW,
				  .err = err};
	signal(SIGPIPE, SIG_IGN);
	r = get_there(request, &c->fd, err);
	sigemptyset(&signals);
	for (const int *s = (const int[]){SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, 0}; *s; s++)
		sigaddset(&signals, *s);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	c->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (r == 0) {
		if (request->terminal)
			terminal_make_raw(&c->terminal, STDIN_FILENO);
		r = serve(c);
		terminal_restore(&c->terminal);
	}
	if (r == 0)
		*ret_status = c->status;
	sigprocmask(SIG_UNBLOCK, &signals, NULL);
	fd_close(&c->signal_fd);
	fd_close(&c->fd);
	lab_bytes_done(&c->out);
	free(c);
	return r;
}
