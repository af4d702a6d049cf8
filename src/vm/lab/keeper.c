/* The keeper's loop: the machine's ports on one side, clients on the other. One thread. */
#include "vm/lab/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "vm/console_log.h"
#include "vm/lab/pollset.h"
#include "vm/lab/wire.h"
#include "vm/session.h"

#define NS_PER_S   1000000000u
#define NS_PER_MS  1000000u
#define BOOT_S	   180
#define FAREWELL_S 2
/* How often an idle keeper looks whether anybody can still find it. */
#define IDLE_MS	   10000
#define TAIL_LINES 40

struct keeper_client {
	TAILQ_ENTRY(keeper_client) link;
	struct wire wire;
	uint32_t id; /* of its session; 0: none yet */
	bool over;   /* its session has ended */
	bool lost;   /* to be removed */
	int in_slot, out_slot;
};

struct keeper {
	const struct keeper_config *config;
	struct qemu machine;
	struct wire wire; /* to the agent */
	struct session session;
	struct console_log *log;
	struct error *failure; /* set: the lab is lost */
	struct keeper_client *first;
	TAILQ_HEAD(keeper_clients, keeper_client) clients;
	struct stat socket; /* what KEEPER_SOCKET was when we began */
	uint64_t begun_ns, boot_ns;
	uint32_t newest;
	int signal_fd;
	bool ready, stop;
	uint8_t payload[FRAME_PAYLOAD_MAX];
};

/* ---- the end ------------------------------------------------------------------------------- */

static void PRINTF_LIKE(2, 3) lose(struct keeper *k, const char *fmt, ...)
{
	char text[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	error_contention(k->failure, "%s", text);
	k->stop = true;
}

static unsigned session_count(const struct keeper *k)
{
	const struct keeper_client *c;
	unsigned count = 0;

	TAILQ_FOREACH (c, &k->clients, link)
		count += c->id && !c->over;
	return count;
}

/* What the console said last, and why, to one client. */
static int tell_failure(struct keeper *k, struct keeper_client *c)
{
	char *tail = console_log_tail(k->log, TAIL_LINES);
	size_t len = tail ? strlen(tail) : 0,
	       skip = len > FRAME_PAYLOAD_MAX ? len - FRAME_PAYLOAD_MAX : 0;
	int r = 0;

	if (len)
		r = wire_send(&c->wire, 0, FRAME_LOG, 0, tail + skip, len - skip);
	free(tail);
	if (r == 0)
		r = wire_send(&c->wire, 0, FRAME_ERROR, 0, k->payload,
			      message_put_error(k->payload, k->failure));
	return r;
}

/* Each client that waits for something hears why it won't come. */
static void say_farewell(struct keeper *k)
{
	uint64_t end_ns = now_ns() + (uint64_t)FAREWELL_S * NS_PER_S;
	struct keeper_client *c;
	bool waiting = true;

	if (!k->failure->code)
		error_contention(k->failure, "the lab was stopped");
	TAILQ_FOREACH (c, &k->clients, link)
		if (!c->over && (c->id || !k->ready) && tell_failure(k, c) < 0)
			c->lost = true;
	while (waiting && now_ns() < end_ns) {
		struct pollset set = {0};

		waiting = false;
		TAILQ_FOREACH (c, &k->clients, link) {
			if (!c->lost && wire_flush(&c->wire) < 0)
				c->lost = true;
			if (!c->lost && c->wire.out_len) {
				pollset_add(&set, c->wire.out_fd, POLLOUT);
				waiting = true;
			}
		}
		if (waiting && pollset_wait(&set, 100) < 0)
			waiting = false;
		pollset_done(&set);
	}
}

/* ---- clients ------------------------------------------------------------------------------- */

static int greet(struct keeper *k, struct keeper_client *c)
{
	struct message_hello *hello = calloc(1, sizeof(*hello));
	int r;

	if (!hello)
		return -ENOMEM;
	hello->version = MESSAGE_VERSION;
	hello->ready = k->ready;
	hello->pid = (uint32_t)getpid();
	hello->sessions = session_count(k);
	hello->memory_bytes = k->config->machine.memory_bytes;
	hello->boot_ns = k->boot_ns;
	memcpy(hello->program, k->config->program, MESSAGE_HASH);
	r = wire_send(&c->wire, 0, FRAME_HELLO, 0, k->payload,
		      message_put_hello(k->payload, hello));
	free(hello);
	return r;
}

/* Takes fd. NULL: it could not be served. */
static struct keeper_client *add_client(struct keeper *k, int fd)
{
	struct keeper_client *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return NULL;
	}
	if (wire_init(&c->wire, fd, fd) < 0) {
		free(c);
		return NULL;
	}
	c->in_slot = c->out_slot = -1;
	TAILQ_INSERT_TAIL(&k->clients, c, link);
	if (greet(k, c) < 0)
		c->lost = true;
	return c;
}

static void remove_lost(struct keeper *k)
{
	struct keeper_client *c, *next;

	for (c = TAILQ_FIRST(&k->clients); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (!c->lost)
			continue;
		if (c->id && !c->over && wire_send(&k->wire, c->id, FRAME_ABORT, 0, NULL, 0) < 0)
			lose(k, "the lab takes no more orders");
		if (c == k->first && (!k->ready || k->config->listen_fd < 0))
			k->stop = true;
		if (c == k->first)
			k->first = NULL;
		TAILQ_REMOVE(&k->clients, c, link);
		wire_done(&c->wire);
		free(c);
	}
}

struct heard {
	struct keeper *keeper;
	struct keeper_client *client;
};

/* A frame from a client, on its way to the agent. */
static int from_client(const struct frame *f, void *arg)
{
	struct heard *h = arg;
	struct keeper_client *c = h->client;
	struct keeper *k = h->keeper;

	if (f->type == FRAME_STOP) {
		k->stop = true;
		return 0;
	}
	if (c->over)
		return 0;
	if (!k->ready)
		return -EBADMSG;
	switch (f->type) {
	case FRAME_WANT:
	case FRAME_OPEN:
	case FRAME_DATA:
	case FRAME_CREDIT:
	case FRAME_EOF:
	case FRAME_CLOSED:
	case FRAME_SIGNAL:
	case FRAME_WINSIZE:
		break;
	default:
		return -EBADMSG;
	}
	if (c->id == 0)
		c->id = ++k->newest;
	if (wire_send(&k->wire, c->id, (enum frame_type)f->type, f->channel, f->payload, f->len) <
	    0)
		lose(k, "the lab takes no more orders");
	return 0;
}

static void serve_clients(struct keeper *k, const struct pollset *set)
{
	struct keeper_client *c, *next, *last = TAILQ_LAST(&k->clients, keeper_clients);

	for (c = TAILQ_FIRST(&k->clients); c; c = next) {
		struct heard h = {.keeper = k, .client = c};
		short in = pollset_got(set, c->in_slot);

		next = c == last ? NULL : TAILQ_NEXT(c, link);
		if ((in & POLLIN) && !wire_busy(&k->wire)) {
			if (wire_read(&c->wire, from_client, &h) < 0)
				c->lost = true;
			/* The next turn begins with those that had to wait. */
			TAILQ_REMOVE(&k->clients, c, link);
			TAILQ_INSERT_TAIL(&k->clients, c, link);
		} else if ((in & (POLLERR | POLLHUP)) && !(in & POLLIN)) {
			/* Gone, with what it may have said last. */
			c->lost = true;
		}
		c->in_slot = c->out_slot = -1;
	}
}

static void flush_clients(struct keeper *k)
{
	struct keeper_client *c;

	TAILQ_FOREACH (c, &k->clients, link)
		if (!c->lost && wire_flush(&c->wire) < 0)
			c->lost = true;
}

/* ---- the machine --------------------------------------------------------------------------- */

static void become_ready(struct keeper *k)
{
	struct keeper_client *c;

	k->ready = true;
	k->boot_ns = now_ns() - k->begun_ns;
	TAILQ_FOREACH (c, &k->clients, link)
		if (wire_send(&c->wire, 0, FRAME_READY, 0, NULL, 0) < 0)
			c->lost = true;
}

static int agent_hello(struct keeper *k, const struct frame *f)
{
	struct message_hello *hello = malloc(sizeof(*hello));
	int r = hello ? message_get_hello(f, hello) : -ENOMEM;

	if (r == 0 && hello->version != MESSAGE_VERSION)
		r = -EPROTO;
	free(hello);
	if (r == 0 && !k->ready)
		become_ready(k);
	return r;
}

/* A frame from the agent, on its way to a client. Sessions that nobody wants to hear of any more
 * are passed over. */
static int from_agent(const struct frame *f, void *arg)
{
	struct keeper *k = arg;
	struct keeper_client *c;

	if (f->session == 0)
		return f->type == FRAME_HELLO ? agent_hello(k, f) : -EBADMSG;
	TAILQ_FOREACH (c, &k->clients, link)
		if (c->id == f->session && !c->over && !c->lost)
			break;
	if (!c)
		return 0;
	/* It doesn't read, and the windows are full twice over. */
	if (wire_send(&c->wire, 0, (enum frame_type)f->type, f->channel, f->payload, f->len) < 0)
		c->lost = true;
	else if (f->type == FRAME_EXIT || f->type == FRAME_ERROR)
		c->over = true;
	return 0;
}

static void session_changed(struct session *s)
{
	struct keeper *k = s->arg;

	if (s->state == SESSION_ENDED && s->failed)
		lose(k, "the lab's agent could not be started: %s", s->text);
	else if (s->state == SESSION_ENDED)
		lose(k, "the lab's agent ended with %s %d", s->signalled ? "signal" : "status",
		     s->status);
}

/* The lab's init gets no orders by words: it ends with the machine. */
static void session_unheard(struct session *s UNUSED, const char *line UNUSED, size_t len UNUSED)
{
}

/* Bytes of a descriptor of the machine's go to the log, or to the session. */
static void hear(struct keeper *k, int *fd, bool control)
{
	uint8_t buf[4096];
	ssize_t n = read(*fd, buf, sizeof(buf));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		fd_close(fd);
	else if (control)
		session_input(&k->session, buf, (size_t)n);
	else
		console_log_add(k->log, buf, (size_t)n);
}

static void hear_signals(struct keeper *k)
{
	struct signalfd_siginfo info;
	int status;

	while (read(k->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		if (info.ssi_signo != SIGCHLD)
			k->stop = true;
	if (k->machine.pid <= 0 || waitpid(k->machine.pid, &status, WNOHANG) != k->machine.pid)
		return;
	k->machine.pid = 0;
	/* Its last words. */
	for (int i = 0; i < 16 && k->machine.messages >= 0; i++)
		hear(k, &k->machine.messages, false);
	for (int i = 0; i < 16 && k->machine.serial >= 0; i++)
		hear(k, &k->machine.serial, false);
	if (WIFSIGNALED(status))
		lose(k, "the lab's emulator was ended by signal %d", WTERMSIG(status));
	else if (k->log->panicked)
		lose(k, "the lab's kernel panicked");
	else
		lose(k, "the lab's emulator ended with status %d", WEXITSTATUS(status));
}

/* ---- the loop ------------------------------------------------------------------------------ */

/* Whether KEEPER_SOCKET is still the one that we listen to: its folder may be gone. */
static bool can_be_found(const struct keeper *k)
{
	struct stat st;

	return fstatat(k->config->dir_fd, KEEPER_SOCKET, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       st.st_ino == k->socket.st_ino && st.st_dev == k->socket.st_dev;
}

static void check_time(struct keeper *k)
{
	if (!k->ready && now_ns() - k->begun_ns > (uint64_t)BOOT_S * NS_PER_S)
		lose(k, "the lab did not come up in %d s", BOOT_S);
	if (k->config->listen_fd >= 0 && TAILQ_EMPTY(&k->clients) && !can_be_found(k))
		k->stop = true;
}

static void turn(struct keeper *k)
{
	int out, in, control, err, serial, messages, signals, listening, fd, r;
	struct qemu *m = &k->machine;
	struct keeper_client *c;
	struct pollset set = {0};

	signals = pollset_add(&set, k->signal_fd, POLLIN);
	listening = pollset_add(&set, k->config->listen_fd, POLLIN);
	out = pollset_add(&set, k->wire.in_fd, POLLIN);
	in = pollset_add(&set, k->wire.out_fd, k->wire.out_len ? POLLOUT : 0);
	control = pollset_add(&set, m->control, POLLIN);
	err = pollset_add(&set, m->err, POLLIN);
	serial = pollset_add(&set, m->serial, POLLIN);
	messages = pollset_add(&set, m->messages, POLLIN);
	TAILQ_FOREACH (c, &k->clients, link) {
		c->in_slot = pollset_add(&set, c->wire.in_fd, wire_busy(&k->wire) ? 0 : POLLIN);
		c->out_slot = c->wire.out_len ? pollset_add(&set, c->wire.out_fd, POLLOUT) : -1;
	}
	r = pollset_wait(&set, IDLE_MS);
	if (r < 0)
		lose(k, "the lab's keeper can't wait: %s", strerror(-r));
	check_time(k);
	if (pollset_got(&set, control))
		hear(k, &m->control, true);
	if (pollset_got(&set, err))
		hear(k, &m->err, false);
	if (pollset_got(&set, serial))
		hear(k, &m->serial, false);
	if (pollset_got(&set, messages))
		hear(k, &m->messages, false);
	if (pollset_got(&set, out)) {
		r = wire_read(&k->wire, from_agent, k);
		/* Its end is told better by the emulator's, or by init; so those are waited for. */
		if (r == -ECONNRESET)
			fd_close(&k->wire.in_fd);
		else if (r < 0)
			lose(k, "the lab's agent is not understood: %s", strerror(-r));
	}
	if (pollset_got(&set, in) & (POLLERR | POLLHUP))
		fd_close(&k->wire.out_fd);
	serve_clients(k, &set);
	if (pollset_got(&set, listening)) {
		fd = accept4(k->config->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			add_client(k, fd);
	}
	if (pollset_got(&set, signals))
		hear_signals(k);
	remove_lost(k);
	if (k->wire.out_fd >= 0 && wire_flush(&k->wire) < 0)
		fd_close(&k->wire.out_fd);
	flush_clients(k);
	pollset_done(&set);
}

static int watch_signals(struct keeper *k)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	/* A terminal's signals are for the client, which decides. */
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	if (sigprocmask(SIG_SETMASK, &set, NULL) < 0)
		return -errno;
	k->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return k->signal_fd < 0 ? -errno : 0;
}

static int start(struct keeper *k)
{
	const struct keeper_config *config = k->config;
	int r = watch_signals(k);

	if (r == 0 && config->listen_fd >= 0 &&
	    fstatat(config->dir_fd, KEEPER_SOCKET, &k->socket, AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	if (r < 0)
		return error_set(k->failure, r, "starting the lab's keeper");
	k->begun_ns = now_ns();
	r = config->start(&config->machine, &k->machine, k->failure);
	if (r < 0)
		return r;
	r = wire_init(&k->wire, k->machine.out, k->machine.in);
	k->machine.out = k->machine.in = -1;
	return r < 0 ? error_set(k->failure, r, "starting the lab's keeper") : 0;
}

int keeper_run(const struct keeper_config *config)
{
	struct keeper *k = calloc(1, sizeof(*k));
	struct error failure = {0};
	struct keeper_client *c;

	if (!k)
		return 1;
	k->config = config;
	k->failure = &failure;
	k->signal_fd = -1;
	k->wire.in_fd = k->wire.out_fd = -1;
	k->machine = (struct qemu)QEMU_NONE;
	k->log = calloc(1, sizeof(*k->log));
	TAILQ_INIT(&k->clients);
	k->session.arg = k;
	k->session.changed = session_changed;
	k->session.send = session_unheard;
	session_init(&k->session);
	k->first = k->log ? add_client(k, config->client_fd) : NULL;
	if (!k->first || start(k) < 0)
		k->stop = true;
	while (!k->stop)
		turn(k);
	if (k->log)
		say_farewell(k);
	/* Nobody finds it any more, before it is gone. */
	if (config->listen_fd >= 0 && can_be_found(k)) {
		unlinkat(config->dir_fd, KEEPER_SOCKET, 0);
		unlinkat(config->dir_fd, KEEPER_LOCK, 0);
	}
	wire_done(&k->wire);
	qemu_stop(&k->machine);
	while ((c = TAILQ_FIRST(&k->clients))) {
		TAILQ_REMOVE(&k->clients, c, link);
		wire_done(&c->wire);
		free(c);
	}
	fd_close(&k->signal_fd);
	free(k->log);
	free(k);
	return failure.code != 0;
}
