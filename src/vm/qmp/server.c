/* Listeners and clients: one receive and one send in flight for each. Control thread. */
#include "vm/qmp/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "vm/qmp/dialogue.h"

/* For operations to end after they were cancelled. */
#define CANCEL_NS 2000000000u
#define CHUNK	  4096
/* Descriptors ran out: soon, somebody may have closed one. */
#define ACCEPT_AGAIN_NS 100000000u
/* Between two looks at whether a client that has ended its side still listens. */
#define HALF_GONE_NS 200000000u

struct bytes {
	char *data;
	size_t len, cap;
};

struct client {
	struct qmp_server *server;
	struct qmp_dialogue dialogue;
	int fd;
	struct loop_op recv, send;
	struct loop_op hang_up;	 /* while it waits for what can end early */
	struct loop_timer stall; /* runs while a send does */
	struct loop_timer soon;	 /* to go on when the stack is unwound */
	char in[CHUNK];		 /* [in_at, in_len) is still to be taken */
	size_t in_at, in_len;
	struct bytes unsent, sending; /* sending is send's, from sent on */
	size_t sent;
	size_t answers; /* bytes of unsent that are no events */
	bool telling;	/* what comes now is an event */
	bool ended;	/* it sends no more; what it asked for is still answered */
	bool gone;	/* to be freed when nothing is in flight */
	LIST_ENTRY(client) link;
};

struct listener {
	struct qmp_server *server;
	int fd;
	struct loop_op accept;
	struct loop_timer again;
};

struct qmp_server {
	struct loop *loop;
	struct qmp_server_config config;
	struct listener listener[QMP_LISTENERS];
	unsigned listeners, clients;
	unsigned depth; /* callers up the stack that hold a client: none is freed */
	bool put_off;	/* a client's commands wait for depth 0 */
	bool closing;
	LIST_HEAD(, client) list;
};

/* ---- a client's end --------------------------------------------------------------------------
 */

static void client_free(struct client *c)
{
	struct qmp_server *s = c->server;

	loop_timer_clear(s->loop, &c->stall);
	loop_timer_clear(s->loop, &c->soon);
	qmp_dialogue_done(&c->dialogue);
	LIST_REMOVE(c, link);
	s->clients--;
	close(c->fd);
	free(c->unsent.data);
	free(c->sending.data);
	free(c);
}

static struct client *find_dead(struct qmp_server *s)
{
	struct client *c;

	LIST_FOREACH (c, &s->list, link)
		if (c->gone && !c->recv.active && !c->send.active && !c->hang_up.active)
			return c;
	return NULL;
}

/* Frees who is gone, once nobody up the stack holds a client. */
static void reap(struct qmp_server *s)
{
	struct client *c;

	while (s->depth == 0 && (c = find_dead(s)))
		client_free(c);
}

static void client_drop(struct client *c)
{
	c->gone = true;
	loop_cancel(c->server->loop, &c->recv);
	loop_cancel(c->server->loop, &c->send);
	loop_cancel(c->server->loop, &c->hang_up);
}

/* ---- output ---------------------------------------------------------------------------------
 */

static void send_more(struct client *c)
{
	struct qmp_server *s = c->server;

	if (c->gone || c->send.active)
		return;
	if (c->sent == c->sending.len) {
		struct bytes empty = c->sending;

		c->sending = c->unsent;
		c->sent = 0;
		empty.len = 0;
		c->unsent = empty;
		c->answers = 0;
	}
	if (c->sending.len == 0)
		return;
	if (loop_timer_set(s->loop, &c->stall, now_ns() + (s->config.stall_ns ?: QMP_STALL_NS)) <
		    0 ||
	    loop_send(s->loop, &c->send, c->fd, c->sending.data + c->sent, c->sending.len - c->sent,
		      MSG_NOSIGNAL) < 0)
		c->gone = true;
}

static void put(struct client *c, const char *text, size_t len)
{
	struct bytes *b = &c->unsent;

	if (c->gone)
		return;
	if (!c->telling)
		c->answers += len;
	else if (b->len - c->answers + len > QMP_UNSENT_MAX) {
		c->gone = true;
		return;
	}
	if (b->len + len > b->cap) {
		size_t cap = MAX(2 * b->cap, b->len + len);
		char *data = realloc(b->data, cap);

		if (!data) { /* whoever is behind this looks at gone */
			c->gone = true;
			return;
		}
		b->data = data;
		b->cap = cap;
	}
	memcpy(b->data + b->len, text, len);
	b->len += len;
}

static void on_dialogue_send(struct qmp_dialogue *d, const char *text, size_t len)
{
	put(container_of(d, struct client, dialogue), text, len);
}

static size_t unsent(const struct client *c)
{
	return c->unsent.len + c->sending.len - c->sent;
}

/* ---- input ----------------------------------------------------------------------------------
 */

static bool may_take(const struct client *c)
{
	return c->in_at < c->in_len && !c->gone && !c->server->closing &&
	       !qmp_dialogue_waits(&c->dialogue) && unsent(c) < QMP_UNSENT_PAUSE;
}

/* One command at a time: one that turns the loop sees no other begin. */
static void take_input(struct client *c)
{
	if (c->server->depth > 1) {
		c->server->put_off = true;
		return;
	}
	while (may_take(c))
		c->in_at +=
			qmp_dialogue_input(&c->dialogue, c->in + c->in_at, c->in_len - c->in_at);
}

static void go_on_soon(struct client *c)
{
	if (loop_timer_set(c->server->loop, &c->soon, now_ns()) < 0)
		client_drop(c);
}

/* The end of a callback that held clients. */
static void leave(struct qmp_server *s)
{
	struct client *c;

	s->depth--;
	if (s->depth == 0 && s->put_off) {
		s->put_off = false;
		LIST_FOREACH (c, &s->list, link)
			if (may_take(c))
				go_on_soon(c);
	}
	reap(s);
}

static bool may_receive(const struct client *c)
{
	return !c->gone && !c->ended && !c->server->closing && !c->recv.active &&
	       c->in_at == c->in_len && !qmp_dialogue_waits(&c->dialogue) &&
	       unsent(c) < QMP_UNSENT_PAUSE;
}

/* No receive is under way while it waits, and the end of its own side alone (shutdown(2)) is none
 * of ours. */
static bool may_hang_up(const struct client *c)
{
	return !c->gone && !c->server->closing && !c->hang_up.active &&
	       qmp_dialogue_can_end(&c->dialogue);
}

/* Does what there is to do, whatever has happened, and drops the client if that was its end. */
static void client_go_on(struct client *c)
{
	struct qmp_server *s = c->server;

	s->depth++;
	take_input(c);
	send_more(c);
	if (may_receive(c) && loop_recv(s->loop, &c->recv, c->fd, c->in, sizeof(c->in), 0) < 0)
		c->gone = true;
	/* No events: POLLHUP comes unasked, once both sides have ended (and POLLRDHUP, of one). */
	if (may_hang_up(c) && loop_poll_fd(s->loop, &c->hang_up, c->fd, 0) < 0)
		c->gone = true;
	if (c->ended && c->in_at == c->in_len && !qmp_dialogue_waits(&c->dialogue) &&
	    unsent(c) == 0)
		c->gone = true;
	if (c->gone)
		client_drop(c);
	leave(s);
}

/* From the midst of the machine's work, which the next command must not interrupt. */
static void on_resume(struct qmp_dialogue *d)
{
	go_on_soon(container_of(d, struct client, dialogue));
}

static void on_soon(struct loop_timer *t)
{
	client_go_on(container_of(t, struct client, soon));
}

static void on_received(struct loop_op *op, int res)
{
	struct client *c = container_of(op, struct client, recv);

	c->in_at = 0;
	c->in_len = res > 0 ? (size_t)res : 0;
	if (res == 0)
		c->ended = true;
	else if (res < 0 && res != -EINTR && res != -EAGAIN)
		c->gone = true;
	client_go_on(c);
}

static void on_sent(struct loop_op *op, int res)
{
	struct client *c = container_of(op, struct client, send);

	loop_timer_clear(c->server->loop, &c->stall);
	if (res >= 0)
		c->sent += (size_t)res;
	else if (res != -EINTR && res != -EAGAIN)
		c->gone = true;
	client_go_on(c);
}

static void on_hang_up(struct loop_op *op, int res)
{
	struct client *c = container_of(op, struct client, hang_up);

	/* It still listens, as far as one can see: from now on it is looked at now and then. */
	if (!c->gone && res > 0 && !(res & (POLLHUP | POLLERR)) &&
	    loop_timer_set(c->server->loop, &c->soon, now_ns() + HALF_GONE_NS) == 0)
		return;
	c->server->depth++; /* it is held */
	if (res > 0)
		qmp_dialogue_hung_up(&c->dialogue);
	c->server->depth--;
	client_go_on(c);
}

static void on_stall(struct loop_timer *t)
{
	struct client *c = container_of(t, struct client, stall);

	log_info("a client of the control socket reads nothing: dropped");
	c->gone = true;
	client_go_on(c);
}

/* ---- listening ------------------------------------------------------------------------------
 */

static void add_client(struct qmp_server *s, int fd)
{
	struct client *c = s->clients < QMP_CLIENTS && !s->closing ? calloc(1, sizeof(*c)) : NULL;

	if (!c) {
		close(fd);
		return;
	}
	c->server = s;
	c->fd = fd;
	c->recv.done = on_received;
	c->send.done = on_sent;
	c->hang_up.done = on_hang_up;
	c->stall.fire = on_stall;
	c->soon.fire = on_soon;
	c->dialogue.ops = s->config.ops;
	c->dialogue.arg = s->config.arg;
	c->dialogue.send = on_dialogue_send;
	c->dialogue.resume = on_resume;
	LIST_INSERT_HEAD(&s->list, c, link);
	s->clients++;
	qmp_dialogue_init(&c->dialogue);
	client_go_on(c);
}

static void accept_next(struct listener *l)
{
	struct qmp_server *s = l->server;

	if (s->closing || l->accept.active)
		return;
	if (loop_accept(s->loop, &l->accept, l->fd, SOCK_CLOEXEC) < 0 &&
	    loop_timer_set(s->loop, &l->again, now_ns() + ACCEPT_AGAIN_NS) < 0)
		log_warn("out of memory: the control socket takes no more clients");
}

static void on_again(struct loop_timer *t)
{
	accept_next(container_of(t, struct listener, again));
}

static void on_accepted(struct loop_op *op, int res)
{
	struct listener *l = container_of(op, struct listener, accept);

	if (res >= 0)
		add_client(l->server, res);
	if (res >= 0 || res == -EINTR || res == -ECONNABORTED)
		accept_next(l);
	else if (!l->server->closing &&
		 loop_timer_set(l->server->loop, &l->again, now_ns() + ACCEPT_AGAIN_NS) < 0)
		log_warn("out of memory: the control socket takes no more clients");
}

/* ---- the outside ----------------------------------------------------------------------------
 */

int qmp_server_new(struct loop *loop, const struct qmp_server_config *config,
		   struct qmp_server **ret_server, struct error *err)
{
	struct qmp_server *s = calloc(1, sizeof(*s));

	if (!s)
		return error_set_shortage(err, -ENOMEM, "making the control socket");
	s->loop = loop;
	s->config = *config;
	LIST_INIT(&s->list);
	*ret_server = s;
	return 0;
}

int qmp_server_listen(struct qmp_server *s, int fd, struct error *err)
{
	struct listener *l;
	int r;

	if (s->listeners == QMP_LISTENERS)
		return error_set(err, -ENOSPC, "listening on another control socket");
	l = &s->listener[s->listeners];
	*l = (struct listener){
		.server = s,
		.fd = fd,
		.accept = {.done = on_accepted},
		.again = {.fire = on_again},
	};
	r = loop_accept(s->loop, &l->accept, fd, SOCK_CLOEXEC);
	if (r < 0)
		return error_set_shortage(err, r, "listening on the control socket");
	s->listeners++;
	return 0;
}

void qmp_server_event(struct qmp_server *s, const char *name, json_t *data)
{
	CLEANUP_FREE char *text = NULL;
	struct client *c;

	if (!s || s->clients == 0) {
		json_decref(data);
		return;
	}
	text = qmp_event_text(name, data);
	if (!text) {
		log_warn("out of memory: the event %s is not told", name);
		return;
	}
	/* Maybe from inside a client's command, so that no other command may run. */
	s->depth++;
	LIST_FOREACH (c, &s->list, link) {
		c->telling = true;
		qmp_dialogue_event(&c->dialogue, text, strlen(text));
		c->telling = false;
		send_more(c);
		if (c->gone)
			client_drop(c);
	}
	leave(s);
}

unsigned qmp_server_clients(const struct qmp_server *s)
{
	return s->clients;
}

static bool all_sent(const struct qmp_server *s)
{
	const struct client *c;

	LIST_FOREACH (c, &s->list, link)
		if (!c->gone && unsent(c) > 0)
			return false;
	return true;
}

static bool accepting(const struct qmp_server *s)
{
	bool active = false;

	for (unsigned i = 0; i < s->listeners; i++)
		active |= s->listener[i].accept.active;
	return active;
}

void qmp_server_free(struct qmp_server *s, uint64_t limit_ns)
{
	uint64_t now = now_ns(), end_ns = now + limit_ns;
	struct client *c, *next;

	if (!s)
		return;
	s->closing = true;
	for (unsigned i = 0; i < s->listeners; i++) {
		loop_timer_clear(s->loop, &s->listener[i].again);
		loop_cancel(s->loop, &s->listener[i].accept);
	}
	LIST_FOREACH_SAFE (c, &s->list, link, next)
		client_go_on(c);
	for (; !all_sent(s) && now < end_ns; now = now_ns())
		if (loop_turn(s->loop, end_ns - now) < 0)
			break;
	LIST_FOREACH (c, &s->list, link)
		client_drop(c);
	reap(s);
	for (end_ns = now_ns() + CANCEL_NS; s->clients > 0 || accepting(s);) {
		now = now_ns();
		/* The ring is broken, or keeps an operation: what it may still write to stays. */
		if (now >= end_ns || loop_turn(s->loop, end_ns - now) < 0)
			return;
	}
	free(s);
}
