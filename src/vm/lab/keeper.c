/* Forwards frames between clients and the agent, under QEMU's roof. One thread. A client is
 * trusted with the lab, not with the keeper: it is answered by the id that its connection has. */
#include "vm/lab/keeper.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "vm/console_log.h"
#include "vm/lab/frame.h"
#include "vm/lab/qemu.h"
#include "vm/session.h"

#define BOOT_LIMIT_NS 180000000000u
/* Of an agent that speaks every five seconds. A busy host makes an emulated machine slow, not mute.
 */
#define SILENCE_LIMIT_NS 180000000000u
#define CLIENTS_MAX	 200
#define START_WAIT_MS	 2000 /* for who starts a warm lab */
/* Above this much unsent to the agent, clients have to wait: uploads have no credit. */
#define PORT_BACKLOG (4u << 20)
#define TAIL_LINES   20

struct client {
	struct lab_conn conn;
	uint32_t id;
	bool gone;
	LIST_ENTRY(client) link;
};

struct keeper {
	struct lab_qemu qemu;
	struct lab_conn port;	/* to the agent */
	struct session session; /* init's word that the agent runs */
	struct console_log *log;
	int listen_fd, signal_fd;
	LIST_HEAD(, client) clients;
	unsigned count;
	uint32_t next_id;
	bool private, up, stop;
	uint64_t give_up_ns; /* if nothing is heard from inside by then */
	char build[LAB_BUILD_MAX];
};

static void say_ready(struct keeper *k, struct client *c)
{
	if (lab_conn_send(&c->conn, 0, LAB_READY, 0, k->build, strlen(k->build)) < 0)
		c->gone = true;
}

static void add_client(struct keeper *k, int fd)
{
	struct client *c = k->count < CLIENTS_MAX ? calloc(1, sizeof(*c)) : NULL;

	if (!c || lab_conn_init(&c->conn, fd, fd) < 0) {
		close(fd);
		free(c);
		return;
	}
	c->id = ++k->next_id;
	LIST_INSERT_HEAD(&k->clients, c, link);
	k->count++;
	if (k->up)
		say_ready(k, c);
}

static void drop_client(struct keeper *k, struct client *c)
{
	bool first = c->id == 1;

	if (k->up && lab_conn_send(&k->port, c->id, LAB_STOP, 0, NULL, 0) < 0)
		k->stop = true;
	LIST_REMOVE(c, link);
	k->count--;
	lab_conn_done(&c->conn);
	free(c);
	if (k->private && first)
		k->stop = true;
}

/* Tells every client why there is no lab, and stops. */
static void fail(struct keeper *k, const char *text)
{
	CLEANUP_FREE char *tail = console_log_tail(k->log, TAIL_LINES);
	char message[4096];
	struct client *c;

	snprintf(message, sizeof(message), "%s%s%s", text,
		 tail && tail[0] ? "; its console's end is above\n" : "", tail ?: "");
	LIST_FOREACH (c, &k->clients, link)
		if (lab_conn_send(&c->conn, 0, LAB_ERROR, 0, message, strlen(message)) < 0 ||
		    lab_conn_flush(&c->conn) < 0)
			c->gone = true;
	k->stop = true;
}

/* ---- init in L1 --------------------------------------------------------------------------------
 */

static void on_session(struct session *s)
{
	struct keeper *k = s->arg;
	struct client *c;

	if (s->state == SESSION_HELLO) {
		session_send_go(s);
	} else if (s->state == SESSION_STARTED) {
		k->up = true;
		k->give_up_ns = now_ns() + SILENCE_LIMIT_NS;
		LIST_FOREACH (c, &k->clients, link)
			say_ready(k, c);
	} else if (s->state == SESSION_ENDED) {
		fail(k, "the lab's agent ended");
	}
}

static void session_to_guest(struct session *s, const char *line, size_t len)
{
	struct keeper *k = s->arg;

	if (write(k->qemu.control_fd, line, len) < 0)
		log_warn("the lab's init hears nothing: %s", strerror(errno));
}

/* Reads a side channel; false at its end, which is QEMU's end. */
static bool read_side(struct keeper *k, int fd)
{
	uint8_t buf[4096];
	ssize_t n = read(fd, buf, sizeof(buf));

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (fd == k->qemu.control_fd)
		session_input(&k->session, buf, (size_t)n);
	else
		console_log_add(k->log, buf, (size_t)n); /* the console, and the agent's words */
	return n > 0;
}

/* ---- frames ------------------------------------------------------------------------------------
 */

static int from_agent(struct keeper *k)
{
	struct lab_frame f;
	struct client *c;
	int r = lab_conn_read(&k->port);

	if (r < 0)
		return r == -EAGAIN ? 0 : r;
	k->give_up_ns = now_ns() + SILENCE_LIMIT_NS;
	while ((r = lab_conn_next(&k->port, &f)) > 0)
		LIST_FOREACH (c, &k->clients, link)
			if (c->id == f.session &&
			    lab_conn_send(&c->conn, 0, f.type, f.channel, f.payload, f.len) < 0)
				c->gone = true;
	return r;
}

static void from_client(struct keeper *k, struct client *c)
{
	struct lab_frame f;
	int r = lab_conn_read(&c->conn);

	if (r < 0) {
		c->gone = r != -EAGAIN;
		return;
	}
	while ((r = lab_conn_next(&c->conn, &f)) > 0) {
		if (f.type == LAB_STOP)
			k->stop = true;
		else if (k->up &&
			 lab_conn_send(&k->port, c->id, f.type, f.channel, f.payload, f.len) < 0)
			r = -ENOMEM;
		if (r < 0)
			break;
	}
	c->gone = r < 0;
}

enum { PORT_IN, PORT_OUT, SIDE_CONTROL, SIDE_ERR, SIDE_CONSOLE, LISTEN, SIGNALS, FIRST_CLIENT };

static int wait_for_work(struct keeper *k, struct pollfd *fds)
{
	bool full = k->port.out.len > PORT_BACKLOG;
	uint64_t now = now_ns();
	struct client *c;
	nfds_t n = FIRST_CLIENT;
	int timeout_ms = now >= k->give_up_ns ? 0 : (int)((k->give_up_ns - now) / 1000000) + 1;

	fds[PORT_IN] = (struct pollfd){.fd = k->port.in_fd, .events = POLLIN};
	fds[PORT_OUT] =
		(struct pollfd){.fd = k->port.out.len > 0 ? k->port.out_fd : -1, .events = POLLOUT};
	fds[SIDE_CONTROL] = (struct pollfd){.fd = k->qemu.control_fd, .events = POLLIN};
	fds[SIDE_ERR] = (struct pollfd){.fd = k->qemu.err_fd, .events = POLLIN};
	fds[SIDE_CONSOLE] = (struct pollfd){.fd = k->qemu.console_fd, .events = POLLIN};
	fds[LISTEN] = (struct pollfd){.fd = k->listen_fd, .events = POLLIN};
	fds[SIGNALS] = (struct pollfd){.fd = k->signal_fd, .events = POLLIN};
	LIST_FOREACH (c, &k->clients, link)
		fds[n++] = (struct pollfd){
			.fd = c->conn.in_fd,
			.events =
				(short)((full ? 0 : POLLIN) | (c->conn.out.len > 0 ? POLLOUT : 0)),
		};
	return poll(fds, n, timeout_ms) < 0 && errno != EINTR ? -errno : 0;
}

static void turn(struct keeper *k, const struct pollfd *fds)
{
	struct client *c, *next;
	nfds_t n = FIRST_CLIENT;
	int fd;

	for (unsigned i = SIDE_CONTROL; i <= SIDE_CONSOLE; i++)
		if (fds[i].revents && !read_side(k, fds[i].fd))
			fail(k, "the lab's machine ended");
	if (fds[PORT_IN].revents && from_agent(k) < 0)
		fail(k, "the lab's agent can't be understood");
	/* Before new clients come, so that the list is the one that was polled. */
	LIST_FOREACH_SAFE (c, &k->clients, link, next) {
		short revents = fds[n++].revents;

		if (revents & (POLLIN | POLLHUP | POLLERR))
			from_client(k, c);
		if (!c->gone && lab_conn_flush(&c->conn) < 0)
			c->gone = true;
		if (c->gone)
			drop_client(k, c);
	}
	if (fds[LISTEN].revents) {
		fd = accept4(k->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			add_client(k, fd);
	}
	if (lab_conn_flush(&k->port) < 0)
		fail(k, "the lab's machine ended");
	if (fds[SIGNALS].revents)
		k->stop = true;
	if (now_ns() >= k->give_up_ns)
		fail(k,
		     k->up ? "nothing heard from inside for three minutes: its machine is locked up"
			   : "the lab did not come up in three minutes");
}

static int watch_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Whoever starts a warm lab connects at once, and shall hear why there is none. */
static void await_client(struct keeper *k)
{
	struct pollfd fd = {.fd = k->listen_fd, .events = POLLIN};
	int client;

	if (k->count > 0 || poll(&fd, 1, START_WAIT_MS) <= 0)
		return;
	client = accept4(k->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	if (client >= 0)
		add_client(k, client);
}

int lab_keeper(const struct lab_keeper_config *config)
{
	static struct pollfd fds[FIRST_CLIENT + CLIENTS_MAX];
	static struct console_log log;
	struct keeper k = {
		.qemu = {.control_fd = -1,
			 .in_fd = -1,
			 .out_fd = -1,
			 .err_fd = -1,
			 .console_fd = -1},
		.port = {.in_fd = -1, .out_fd = -1},
		.listen_fd = config->listen_fd,
		.private = config->client_fd >= 0,
		.log = &log,
	};
	struct error err = {0};
	struct client *c;
	int r;

	LIST_INIT(&k.clients);
	lab_build(k.build);
	session_init(&k.session);
	k.session.changed = on_session;
	k.session.send = session_to_guest;
	k.session.arg = &k;
	k.signal_fd = watch_signals();
	if (config->client_fd >= 0)
		add_client(&k, config->client_fd);
	k.give_up_ns = now_ns() + BOOT_LIMIT_NS;
	r = lab_qemu_start(config->machine, &k.qemu, &err);
	if (r == 0)
		r = lab_conn_init(&k.port, k.qemu.out_fd, k.qemu.in_fd);
	if (r < 0) {
		await_client(&k);
		fail(&k, err.what);
	}
	k.qemu.in_fd = k.qemu.out_fd = -1; /* the connection's now */
	while (!k.stop && wait_for_work(&k, fds) == 0)
		turn(&k, fds);
	lab_qemu_stop(&k.qemu);
	while ((c = LIST_FIRST(&k.clients)))
		drop_client(&k, c);
	lab_conn_done(&k.port);
	fd_close(&k.signal_fd);
	fd_close(&k.listen_fd);
	return r < 0;
}
