/* A run in the lab, seen from here: our streams, our signals, our files. One thread. */
#include "vm/lab/client.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "vm/lab/stream.h"
#include "vm/lab/transfer.h"
#include "vm/progress.h"
#include "vm/terminal.h"

#define NS_PER_MS 1000000u
#define HELLO_MS  5000
/* After a signal that ends programs. */
#define GRACE_MS 900
#define TICK_MS	 200

static const int forwarded[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH};

enum client_state {
	CLIENT_WAITING, /* the lab boots */
	CLIENT_SENDING, /* files go there */
	CLIENT_RUNNING, /* OPEN was sent */
	CLIENT_ENDED,
};

struct client {
	const struct lab_request *request; /* NULL: only waits */
	enum client_state state;
	struct wire wire;
	struct sending sending;
	struct receiving receiving;
	struct source in;
	struct sink out, err;
	struct terminal terminal;
	struct progress progress;
	int signal_fd;
	int signo;	     /* the first that ends programs; 0: none came */
	uint64_t give_up_ns; /* then */
	bool exited;	     /* EXIT came: what is left goes out, then it ends */
	int status;
	struct error *error;
};

/* ---- from the lab -------------------------------------------------------------------------- */

static void begin_sending(struct client *c)
{
	if (!c->request) {
		c->state = CLIENT_ENDED;
		return;
	}
	c->state = CLIENT_SENDING;
	progress_set(&c->progress, "copying files into the lab");
}

/* OPEN, with the inner stasis's name before its arguments. */
static int send_open(struct client *c)
{
	CLEANUP_FREE uint8_t *payload = malloc(FRAME_PAYLOAD_MAX);
	const struct lab_request *q = c->request;
	CLEANUP_FREE char **outputs = calloc(q->output_count + 1, sizeof(*outputs));
	CLEANUP_FREE char **argv = NULL;
	struct message_open open = {.terminal = q->terminal, .outputs = outputs};
	static char name[] = "stasis";
	size_t argc = 0;
	ssize_t n;

	while (q->argv[argc])
		argc++;
	open.argv = argv = calloc(argc + 2, sizeof(*argv));
	if (!payload || !outputs || !argv)
		return -ENOMEM;
	argv[0] = name;
	memcpy(argv + 1, q->argv, argc * sizeof(*argv));
	for (size_t i = 0; i < q->output_count; i++)
		outputs[i] = (char *)(uintptr_t)q->outputs[i].name;
	if (q->terminal)
		(void)terminal_size(STDIN_FILENO, &open.cols, &open.rows);
	n = message_put_open(payload, &open);
	if (n == -E2BIG)
		return error_usage(c->error, "the command line is too long for the lab");
	return n < 0 ? (int)n : wire_send(&c->wire, 0, FRAME_OPEN, 0, payload, (size_t)n);
}

static int begin_running(struct client *c)
{
	int r = send_open(c);

	if (r == 0)
		r = sink_init(&c->out, stream_fd_share(STDOUT_FILENO, true), FRAME_STDOUT);
	if (r == 0)
		r = sink_init(&c->err, stream_fd_share(STDERR_FILENO, true), FRAME_STDERR);
	if (r < 0)
		return error_set_shortage(c->error, r, "starting a run in the lab");
	if (c->request->terminal)
		terminal_make_raw(&c->terminal, STDIN_FILENO);
	source_init(&c->in, stream_fd_share(STDIN_FILENO, false), FRAME_STDIN);
	progress_set(&c->progress, NULL);
	c->state = CLIENT_RUNNING;
	return 0;
}

static struct sink *sink_of(struct client *c, uint8_t channel)
{
	return channel == FRAME_STDOUT ? &c->out : channel == FRAME_STDERR ? &c->err : NULL;
}

static int ended(struct client *c, const struct frame *f)
{
	struct message_exit m;
	int r = message_get_exit(f, &m);

	if (r < 0)
		return r;
	if (m.signalled) {
		error_set(c->error, -ECHILD, "stasis in the lab was ended by signal %u (%s)",
			  m.value, strsignal(m.value));
		return -ECHILD;
	}
	c->status = m.value;
	c->exited = true;
	sink_end(&c->out);
	sink_end(&c->err);
	source_stop(&c->in);
	return 0;
}

static int running_frame(struct client *c, const struct frame *f)
{
	struct sink *sink = sink_of(c, f->channel);

	switch (f->type) {
	case FRAME_OUTFILE:
		return receiving_frame(&c->receiving, f, &c->wire);
	case FRAME_DATA:
		return sink ? sink_take(sink, f->payload, f->len)
			    : receiving_frame(&c->receiving, f, &c->wire);
	case FRAME_EOF:
		if (!sink)
			return receiving_frame(&c->receiving, f, &c->wire);
		sink_end(sink);
		return 0;
	case FRAME_CREDIT:
		if (f->channel != FRAME_STDIN || f->len != 4)
			return -EBADMSG;
		return source_credit(&c->in, frame_get32(f->payload));
	case FRAME_CLOSED:
		source_stop(&c->in);
		return 0;
	case FRAME_EXIT:
		return ended(c, f);
	default:
		return -EBADMSG;
	}
}

static void print_console(const struct frame *f)
{
	static const char head[] = "stasis: the end of the lab's console:\n";

	/* Nothing to be done about a standard error that can't be written. */
	if (fd_write_all(STDERR_FILENO, head, sizeof(head) - 1) < 0 ||
	    fd_write_all(STDERR_FILENO, f->payload, f->len) < 0)
		return;
}

static int each_frame(const struct frame *f, void *arg)
{
	struct client *c = arg;

	if (c->exited)
		return 0;
	if (f->type == FRAME_ERROR)
		return message_get_error(f, c->error);
	if (f->type == FRAME_LOG) {
		progress_set(&c->progress, NULL);
		print_console(f);
		return 0;
	}
	if (c->state == CLIENT_WAITING && f->type == FRAME_READY)
		begin_sending(c);
	else if (c->state == CLIENT_SENDING && f->type == FRAME_HAVE)
		return sending_have(&c->sending, f);
	else if (c->state == CLIENT_RUNNING)
		return running_frame(c, f);
	else
		return -EBADMSG;
	return 0;
}

/* ---- from here ----------------------------------------------------------------------------- */

static int resize(struct client *c)
{
	uint16_t cols = 0, rows = 0;
	uint8_t payload[4];

	if (c->state != CLIENT_RUNNING || !c->request->terminal ||
	    !terminal_size(STDIN_FILENO, &cols, &rows))
		return 0;
	frame_put32(payload, rows | (uint32_t)cols << 16);
	return wire_send(&c->wire, 0, FRAME_WINSIZE, 0, payload, sizeof(payload));
}

static int hear_signals(struct client *c)
{
	struct signalfd_siginfo info;
	int r = 0;

	while (r == 0 && read(c->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGWINCH) {
			r = resize(c);
			continue;
		}
		if (!c->signo) {
			c->signo = (int)info.ssi_signo;
			c->give_up_ns = now_ns() + (uint64_t)GRACE_MS * NS_PER_MS;
		}
		/* There is nothing yet that it could be for. */
		if (c->state != CLIENT_RUNNING)
			c->give_up_ns = 0;
		else
			r = wire_send32(&c->wire, 0, FRAME_SIGNAL, 0, info.ssi_signo);
	}
	return r;
}

/* The end by signal, if it is time for that. */
static bool given_up(struct client *c)
{
	if (!c->signo || now_ns() < c->give_up_ns)
		return false;
	if (!c->exited)
		c->status = 128 + c->signo;
	return true;
}

static int timeout_ms(const struct client *c)
{
	uint64_t now = now_ns();
	int ms = c->progress.what && c->progress.enabled ? TICK_MS : -1;

	if (c->signo) {
		uint64_t left = c->give_up_ns > now ? (c->give_up_ns - now) / NS_PER_MS + 1 : 0;

		ms = ms < 0 ? (int)left : MIN(ms, (int)left);
	}
	return ms;
}

/* What the state calls for by itself, until there is something to wait for. */
static int advance(struct client *c)
{
	int r = 0;

	while (r == 0 && c->state == CLIENT_SENDING) {
		r = sending_work(&c->sending, &c->wire, c->error);
		if (r == 0 && sending_finished(&c->sending))
			r = begin_running(c);
		if (r == 0)
			r = wire_flush(&c->wire);
		/* HAVE or room will wake us. */
		if (c->sending.asked || c->wire.out_len)
			return r;
	}
	/* After EXIT nothing is said any more that anybody waits for. */
	return r == 0 && !c->exited ? wire_flush(&c->wire) : r;
}

static int turn(struct client *c)
{
	struct pollset set = {0};
	int in, signals, r = advance(c);

	if (r < 0)
		return r;
	in = pollset_add(&set, c->wire.in_fd, (short)(POLLIN | (c->wire.out_len ? POLLOUT : 0)));
	signals = pollset_add(&set, c->signal_fd, POLLIN);
	if (c->state == CLIENT_RUNNING) {
		source_poll(&c->in, &set, &c->wire);
		sink_poll(&c->out, &set);
		sink_poll(&c->err, &set);
	}
	r = pollset_wait(&set, timeout_ms(c));
	progress_tick(&c->progress);
	if (r == 0 && pollset_got(&set, signals))
		r = hear_signals(c);
	if (r == 0 && (pollset_got(&set, in) & ~POLLOUT) && !c->exited)
		r = wire_read(&c->wire, each_frame, c);
	if (r == 0 && c->state == CLIENT_RUNNING) {
		r = source_work(&c->in, &set, &c->wire, 0);
		if (r == 0)
			r = sink_work(&c->out, &set, &c->wire, 0);
		if (r == 0)
			r = sink_work(&c->err, &set, &c->wire, 0);
		if (c->exited && c->out.finished && c->err.finished)
			c->state = CLIENT_ENDED;
	}
	pollset_done(&set);
	return r;
}

static int run(struct client *c)
{
	int r = 0;

	while (r == 0 && c->state != CLIENT_ENDED) {
		r = turn(c);
		if (given_up(c))
			return 0;
	}
	/* It may have said why before it went: that is in the socket still. */
	if (r == -EPIPE || r == -ECONNRESET) {
		int more = wire_read(&c->wire, each_frame, c);

		if (c->exited)
			return 0;
		r = more < 0 ? more : r;
	}
	if (r < 0 && !c->error->code) {
		if (r == -ECONNRESET || r == -EPIPE)
			error_contention(c->error, "the lab's keeper has gone");
		else
			error_set(c->error, r, "talking to the lab");
	}
	return r;
}

static int watch_signals(struct client *c, sigset_t *old)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(forwarded); i++)
		sigaddset(&set, forwarded[i]);
	if (sigprocmask(SIG_BLOCK, &set, old) < 0)
		return -errno;
	c->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return c->signal_fd < 0 ? -errno : 0;
}

int client_run(int fd, bool ready, const struct lab_request *request, int *ret_status,
	       struct error *err)
{
	struct error own = {0};
	struct client c = {.request = request,
			   .signal_fd = -1,
			   .error = err ? err : &own,
			   .in = {.io.fd = -1, .finished = true},
			   .out = {.io.fd = -1, .finished = true},
			   .err = {.io.fd = -1, .finished = true}};
	sigset_t old;
	int r = wire_init(&c.wire, fd, fd);

	if (r < 0)
		return error_set_shortage(err, r, "connecting to the lab");
	sigemptyset(&old);
	sigprocmask(SIG_BLOCK, NULL, &old);
	sending_init(&c.sending, request ? request->files : NULL,
		     request ? request->file_count : 0);
	receiving_init(&c.receiving, request ? request->outputs : NULL,
		       request ? request->output_count : 0);
	progress_init(&c.progress, !request || request->progress);
	progress_set(&c.progress, "starting the lab");
	r = watch_signals(&c, &old);
	if (r < 0) {
		error_set_shortage(err, r, "starting a run in the lab");
	} else {
		if (ready)
			begin_sending(&c);
		r = run(&c);
	}
	progress_set(&c.progress, NULL);
	terminal_restore(&c.terminal);
	if (c.receiving.failed < 0)
		log_error("keeping a file from the lab: %s", strerror(-c.receiving.failed));
	source_stop(&c.in);
	sink_done(&c.out);
	sink_done(&c.err);

	fd_close(&c.signal_fd);
	wire_done(&c.wire);
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (r == 0)
		*ret_status = c.status;
	return r;
}

/* ---- the first frame ----------------------------------------------------------------------- */

/* Byte by byte would do: what follows HELLO must stay in the socket. */
static int read_exactly(int fd, void *data, size_t len)
{
	uint64_t end_ns = now_ns() + (uint64_t)HELLO_MS * NS_PER_MS;
	size_t got = 0;

	while (got < len) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		uint64_t now = now_ns();
		ssize_t n;

		if (now >= end_ns || poll(&p, 1, (int)((end_ns - now) / NS_PER_MS) + 1) == 0)
			return -ETIMEDOUT;
		n = read(fd, (uint8_t *)data + got, len - got);
		if (n == 0)
			return -ECONNRESET;
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		got += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

int client_hello(int fd, struct message_hello *ret_hello, struct error *err)
{
	CLEANUP_FREE uint8_t *data = malloc(FRAME_MAX);
	struct frame f;
	ssize_t n = data ? read_exactly(fd, data, FRAME_HEADER) : -ENOMEM;

	if (n == 0) {
		n = frame_parse(data, FRAME_HEADER, &f);
		if (n == 0) {
			uint32_t len = frame_get32(data + 8);

			n = read_exactly(fd, data + FRAME_HEADER, len);
			if (n == 0)
				n = frame_parse(data, FRAME_HEADER + len, &f);
		}
	}
	if (n > 0)
		n = f.type == FRAME_HELLO ? message_get_hello(&f, ret_hello) : -EBADMSG;
	return n < 0 ? error_set(err, (int)n, "greeting the lab's keeper") : 0;
}
