/* Connections between the rings and Unix sockets: see virtio_vsock.h. Control thread. Nothing is in
 * flight but polls; what the guest is to be told waits as bits of its connection, and answers to
 * nobody in a list that is bounded: while it is full, the guest is not listened to. */
#include "devices/virtio_vsock.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/util.h"
#include "devices/net_port.h"
#include "devices/vsock_conn.h"

#define QUEUE_SIZE   128
#define TURN_PACKETS 128
#define RESETS_MAX   64
#define FIRST_PORT   (1u << 30) /* of the host's ends: nobody listens there */
#define RETRY_NS     100000000u
enum { RX, TX, EVENTS, QUEUES };

#define HEADER_BYTES sizeof(struct virtio_vsock_header)

TAILQ_HEAD(vsock_list, vsock_conn);

struct virtio_vsock {
	struct virtio_device dev;
	struct loop *loop;
	struct virtio_vsock_config config;
	struct loop_op listening;
	struct loop_timer again; /* goes on with what a turn has left */
	struct vsock_list ready; /* connections that have something for the guest, or may */
	struct {
		uint32_t guest_port, host_port;
	} reset[RESETS_MAX]; /* of what is no connection */
	unsigned resets;
	bool held;	 /* quiet: the polls have ended, and begin anew */
	bool tell_reset; /* the guest's connections are gone, and it has not been told */
	uint32_t next_port;
	struct virtio_vsock_stats stats;
	struct vsock_conn conn[VIRTIO_VSOCK_CONNECTIONS];
};

static struct virtio_vsock *from_device(struct virtio_device *dev)
{
	return container_of(dev, struct virtio_vsock, dev);
}

static void serve_rx(struct virtio_vsock *v);

static void come_again(struct virtio_vsock *v, uint64_t delay_ns)
{
	/* Without memory for a timer, the driver's next notification has to do. */
	if (loop_timer_set(v->loop, &v->again, now_ns() + delay_ns) < 0)
		log_warn("virtio-vsock: no memory for a timer");
}

/* ---- connections -------------------------------------------------------------------------- */

static struct vsock_conn *find(struct virtio_vsock *v, uint32_t guest_port, uint32_t host_port)
{
	for (unsigned i = 0; i < VIRTIO_VSOCK_CONNECTIONS; i++) {
		struct vsock_conn *c = &v->conn[i];

		if ((c->state == VSOCK_CONNECTING || c->state == VSOCK_UP) &&
		    c->guest_port == guest_port && c->host_port == host_port)
			return c;
	}
	return NULL;
}

/* NULL: there is no room. */
static struct vsock_conn *find_free(struct virtio_vsock *v)
{
	for (unsigned i = 0; i < VIRTIO_VSOCK_CONNECTIONS; i++)
		if (v->conn[i].state == VSOCK_FREE)
			return &v->conn[i];
	return NULL;
}

/* Takes fd over. */
static void begin(struct vsock_conn *c, enum vsock_state state, int fd)
{
	c->state = state;
	c->fd = fd;
	c->guest_port = c->host_port = 0;
	c->owed = 0;
	c->peer_alloc = c->peer_forwarded = c->sent = c->forwarded = c->told = 0;
	c->host_ended = c->host_gone = false;
	c->guest_shut = 0;
	c->may_read = false;
	c->at = c->len = 0;
}

static void enqueue(struct vsock_conn *c)
{
	if (!c->queued)
		TAILQ_INSERT_TAIL(&c->owner->ready, c, link);
	c->queued = true;
}

static void dequeue(struct vsock_conn *c)
{
	if (c->queued)
		TAILQ_REMOVE(&c->owner->ready, c, link);
	c->queued = false;
}

static void owe(struct vsock_conn *c, unsigned what)
{
	c->owed |= what;
	enqueue(c);
}

/* Its polls end in a later turn; until then nobody else gets its place. */
static void end(struct vsock_conn *c)
{
	c->owed = 0;
	dequeue(c);
	free(c->buf);
	c->buf = NULL;
	c->state = VSOCK_DYING;
	loop_cancel(c->owner->loop, &c->readable);
	loop_cancel(c->owner->loop, &c->writable);
	if (c->readable.active || c->writable.active)
		return;
	fd_close(&c->fd);
	c->state = VSOCK_FREE;
}

static void poll_for(struct vsock_conn *c, struct loop_op *op, short events)
{
	if (!op->active && loop_poll_fd(c->owner->loop, op, c->fd, events) < 0)
		come_again(c->owner, RETRY_NS);
}

/* The host's end reads no more, or is gone: so is the connection. */
static void host_lost(struct vsock_conn *c)
{
	c->host_ended = c->host_gone = true;
	c->len = 0;
	owe(c, VSOCK_OWE_RESET);
}

/* To the host, as far as it goes, and what follows from that. */
static void flush(struct vsock_conn *c)
{
	uint32_t before = c->forwarded;
	int r;

	if ((c->state != VSOCK_UP && c->state != VSOCK_DRAINING) || c->host_gone ||
	    c->writable.active)
		return;
	r = vsock_conn_flush(c);
	c->owner->stats.to_host += c->forwarded - before;
	if (r == -EAGAIN)
		poll_for(c, &c->writable, POLLOUT);
	if (c->state == VSOCK_DRAINING) {
		if (r != -EAGAIN)
			end(c);
		return;
	}
	if (r < 0 && r != -EAGAIN) {
		host_lost(c);
		return;
	}
	if (r == 0 && c->guest_shut & VIRTIO_VSOCK_NO_SEND) {
		(void)shutdown(c->fd, SHUT_WR);
		/* 5.10.6.5: both ways shut, and all has arrived. */
		if (c->guest_shut & VIRTIO_VSOCK_NO_RECEIVE || c->host_ended)
			owe(c, VSOCK_OWE_RESET);
	}
	if (vsock_conn_owes_credit(c))
		owe(c, VSOCK_OWE_CREDIT);
}

/* ---- to the guest ------------------------------------------------------------------------- */

static void put(struct virtio_vsock *v, const struct virtq_chain *chain,
		const struct virtio_vsock_header *h)
{
	net_iov_write(chain->iov + chain->out, chain->in, 0, h, sizeof(*h));
	virtq_put(&v->dev.queue[RX], chain->head, (uint32_t)(sizeof(*h) + h->len));
}

/* The host has ended its stream; also its reading, where it has closed the socket. */
static void host_ended(struct vsock_conn *c)
{
	struct pollfd fd = {.fd = c->fd, .events = POLLOUT};

	c->host_ended = true;
	if (poll(&fd, 1, 0) > 0 && fd.revents & POLLHUP)
		c->host_gone = true;
	if (c->guest_shut & VIRTIO_VSOCK_NO_SEND && c->len == 0)
		c->owed |= VSOCK_OWE_RESET;
	else
		c->owed |= VSOCK_OWE_SHUTDOWN;
}

static bool may_read(const struct vsock_conn *c)
{
	return c->state == VSOCK_UP && c->may_read && !c->host_ended &&
	       !(c->guest_shut & VIRTIO_VSOCK_NO_RECEIVE) && vsock_conn_credit(c) > 0;
}

/* Sends one packet of the connection in the chain; false: it has none. */
static bool send_one(struct vsock_conn *c, const struct virtq_chain *chain)
{
	struct virtio_vsock *v = c->owner;
	struct virtio_vsock_header h;
	uint16_t op = vsock_conn_next(c, &h);
	ssize_t n;

	if (!op && may_read(c) && chain->in_bytes == HEADER_BYTES) {
		/* Something that has no bytes, so that the next buffer's turn comes. */
		h = vsock_conn_header(c, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
		op = h.op;
	} else if (!op && may_read(c)) {
		n = vsock_conn_read(c, chain->iov + chain->out, chain->in, HEADER_BYTES,
				    MIN(chain->in_bytes - HEADER_BYTES, vsock_conn_credit(c)));
		if (n > 0) {
			h = vsock_conn_header(c, VIRTIO_VSOCK_OP_RW);
			h.len = (uint32_t)n;
			c->sent += (uint32_t)n;
			v->stats.to_guest += (uint64_t)n;
			op = h.op;
		} else if (n == -EAGAIN) {
			c->may_read = false;
			poll_for(c, &c->readable, POLLIN);
		} else {
			if (n == 0)
				host_ended(c);
			else
				host_lost(c);
			op = vsock_conn_next(c, &h);
		}
	}
	if (!op)
		return false;
	/* Every packet tells it. */
	c->told = c->forwarded;
	c->owed &= ~(unsigned)VSOCK_OWE_CREDIT;
	put(v, chain, &h);
	if (op == VIRTIO_VSOCK_OP_RST)
		end(c);
	return true;
}

static void send_reset(struct virtio_vsock *v, const struct virtq_chain *chain)
{
	const struct vsock_conn nobody = {.guest_port = v->reset[0].guest_port,
					  .host_port = v->reset[0].host_port};
	struct virtio_vsock_header h = vsock_conn_header(&nobody, VIRTIO_VSOCK_OP_RST);

	h.buf_alloc = 0;
	put(v, chain, &h);
	v->resets--;
	memmove(v->reset, v->reset + 1, v->resets * sizeof(v->reset[0]));
}

/* True: a packet was put in, or there was none to put in, and the chain is back. */
static bool fill(struct virtio_vsock *v, const struct virtq_chain *chain)
{
	struct vsock_conn *c;

	if (v->resets > 0) {
		send_reset(v, chain);
		return true;
	}
	while ((c = TAILQ_FIRST(&v->ready))) {
		/* The others come first next time. */
		dequeue(c);
		if (!send_one(c, chain))
			continue;
		if (c->owed || may_read(c))
			enqueue(c);
		return true;
	}
	virtq_unpop(&v->dev.queue[RX]);
	return false;
}

static void serve_rx(struct virtio_vsock *v)
{
	struct virtq *q = &v->dev.queue[RX];
	struct virtq_chain chain;

	for (unsigned n = 0; virtio_running(&v->dev) && (v->resets || !TAILQ_EMPTY(&v->ready));
	     n++) {
		int r;

		if (n == TURN_PACKETS) {
			come_again(v, 0);
			break;
		}
		r = virtq_pop(q, &chain);
		if (r == 0)
			break;
		if (r > 0 && chain.in_bytes < HEADER_BYTES) {
			virtq_unpop(q);
			r = -ENOBUFS;
		}
		if (r < 0) {
			virtio_fault(&v->dev, "bad receive buffer (%d)", r);
			break;
		}
		if (!fill(v, &chain))
			break;
	}
	virtio_signal(&v->dev, q);
}

/* ---- from the guest ----------------------------------------------------------------------- */

static void refuse(struct virtio_vsock *v, const struct virtio_vsock_header *h)
{
	/* There is room: serve_tx looks before it takes. */
	v->reset[v->resets].guest_port = h->src_port;
	v->reset[v->resets].host_port = h->dst_port;
	v->resets++;
}

static void on_request(struct virtio_vsock *v, const struct virtio_vsock_header *h)
{
	struct vsock_conn *c = v->config.connect ? find_free(v) : NULL;
	int fd = c ? v->config.connect(v->config.arg, h->dst_port) : -ECONNREFUSED;

	if (fd < 0) {
		v->stats.refused++;
		refuse(v, h);
		return;
	}
	begin(c, VSOCK_UP, fd);
	v->stats.connections++;
	c->guest_port = h->src_port;
	c->host_port = h->dst_port;
	c->peer_alloc = h->buf_alloc;
	c->peer_forwarded = h->fwd_cnt;
	c->may_read = true;
	owe(c, VSOCK_OWE_RESPONSE);
}

static void on_response(struct vsock_conn *c)
{
	char line[VIRTIO_VSOCK_LINE_MAX];
	int len = snprintf(line, sizeof(line), "OK %u\n", c->host_port);

	c->state = VSOCK_UP;
	c->may_read = true;
	c->owner->stats.connections++;
	/* The first bytes to a socket: there is room, or nobody reads. */
	if (send(c->fd, line, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) != len)
		host_lost(c);
	enqueue(c);
}

static void on_shutdown(struct vsock_conn *c, uint32_t flags)
{
	c->guest_shut |= flags & (VIRTIO_VSOCK_NO_RECEIVE | VIRTIO_VSOCK_NO_SEND);
	if (c->guest_shut & VIRTIO_VSOCK_NO_RECEIVE)
		(void)shutdown(c->fd, SHUT_RD);
	if (c->host_gone)
		owe(c, VSOCK_OWE_RESET);
	else
		flush(c);
}

static void on_bytes(struct vsock_conn *c, const struct virtio_vsock_header *h,
		     const struct virtq_chain *chain)
{
	uint32_t before = c->forwarded;
	int r;

	/* What nobody reads any more is taken all the same, or the guest would wait for credit. */
	if (c->host_gone) {
		c->forwarded += h->len;
		if (vsock_conn_owes_credit(c))
			owe(c, VSOCK_OWE_CREDIT);
		return;
	}
	r = c->guest_shut & VIRTIO_VSOCK_NO_SEND
		    ? -EPROTO
		    : vsock_conn_take(c, chain->iov, chain->out, HEADER_BYTES, h->len);
	c->owner->stats.to_host += c->forwarded - before;
	if (r < 0)
		host_lost(c);
	else
		flush(c);
}

/* After a SHUTDOWN it only means that the guest waits no longer for the host to read: what it has
 * sent still arrives. Else it drops that. */
static void on_reset(struct vsock_conn *c)
{
	if (c->state == VSOCK_CONNECTING)
		c->owner->stats.refused++;
	if (c->state != VSOCK_UP || !(c->guest_shut & VIRTIO_VSOCK_NO_SEND) || c->len == 0 ||
	    c->host_gone) {
		end(c);
		return;
	}
	c->state = VSOCK_DRAINING;
	c->owed = 0;
	dequeue(c);
	loop_cancel(c->owner->loop, &c->readable);
	flush(c);
}

static void on_packet(struct virtio_vsock *v, const struct virtio_vsock_header *h,
		      const struct virtq_chain *chain)
{
	struct vsock_conn *c = find(v, h->src_port, h->dst_port);

	if (h->op == VIRTIO_VSOCK_OP_RST) {
		if (c)
			on_reset(c);
		return;
	}
	if (h->type != VIRTIO_VSOCK_TYPE_STREAM || h->dst_cid != VIRTIO_VSOCK_HOST_CID ||
	    (!c && h->op != VIRTIO_VSOCK_OP_REQUEST) || (c && h->op == VIRTIO_VSOCK_OP_REQUEST)) {
		if (c)
			host_lost(c);
		else
			refuse(v, h);
		return;
	}
	if (!c) {
		on_request(v, h);
		return;
	}
	c->peer_alloc = h->buf_alloc;
	c->peer_forwarded = h->fwd_cnt;
	if (c->state == VSOCK_CONNECTING && h->op != VIRTIO_VSOCK_OP_RESPONSE)
		host_lost(c);
	else if (h->op == VIRTIO_VSOCK_OP_RESPONSE && c->state == VSOCK_CONNECTING)
		on_response(c);
	else if (h->op == VIRTIO_VSOCK_OP_SHUTDOWN)
		on_shutdown(c, h->flags);
	else if (h->op == VIRTIO_VSOCK_OP_RW)
		on_bytes(c, h, chain);
	else if (h->op == VIRTIO_VSOCK_OP_CREDIT_REQUEST)
		owe(c, VSOCK_OWE_CREDIT);
	else if (h->op != VIRTIO_VSOCK_OP_CREDIT_UPDATE)
		host_lost(c);
	/* It may have room again. */
	if (may_read(c))
		enqueue(c);
}

static void serve_tx(struct virtio_vsock *v)
{
	struct virtq *q = &v->dev.queue[TX];
	struct virtio_vsock_header h;
	struct virtq_chain chain;
	bool full;

	for (unsigned n = 0; virtio_running(&v->dev) && v->resets < RESETS_MAX; n++) {
		int r;

		if (n == TURN_PACKETS) {
			come_again(v, 0);
			break;
		}
		r = virtq_pop(q, &chain);
		if (r == 0)
			break;
		if (r > 0) {
			size_t got = net_iov_read(chain.iov, chain.out, &h, sizeof(h));

			/* The copy is what gets checked. */
			__asm__ volatile("" ::: "memory");
			if (got < sizeof(h) || h.len > chain.out_bytes - sizeof(h)) {
				virtq_unpop(q);
				r = -EINVAL;
			}
		}
		if (r < 0) {
			virtio_fault(&v->dev, "bad packet (%d)", r);
			break;
		}
		/* Nobody else's name is taken. */
		if (h.src_cid == VIRTIO_VSOCK_GUEST_CID)
			on_packet(v, &h, &chain);
		virtq_put(q, chain.head, 0);
	}
	virtio_signal(&v->dev, q);
	full = v->resets == RESETS_MAX;
	serve_rx(v);
	if (full && v->resets < RESETS_MAX)
		come_again(v, 0);
}

/* 5.10.6.7: the guest gives its connections up, and keeps its listening sockets. */
static void serve_events(struct virtio_vsock *v)
{
	const uint32_t event = VIRTIO_VSOCK_EVENT_TRANSPORT_RESET;
	struct virtq *q = &v->dev.queue[EVENTS];
	struct virtq_chain chain;
	int r;

	if (!v->tell_reset || !virtio_running(&v->dev))
		return;
	r = virtq_pop(q, &chain);
	if (r > 0 && chain.in_bytes < sizeof(event)) {
		virtq_unpop(q);
		r = -ENOBUFS;
	}
	if (r < 0)
		virtio_fault(&v->dev, "bad event buffer (%d)", r);
	if (r <= 0)
		return;
	net_iov_write(chain.iov + chain.out, chain.in, 0, &event, sizeof(event));
	virtq_push(q, chain.head, sizeof(event));
	v->tell_reset = false;
	virtio_signal(&v->dev, q);
}

/* ---- clients of the host ------------------------------------------------------------------ */

static uint32_t new_port(struct virtio_vsock *v, uint32_t guest_port)
{
	do
		v->next_port = v->next_port + 1 < 2 * FIRST_PORT ? v->next_port + 1 : FIRST_PORT;
	while (find(v, guest_port, v->next_port));
	return v->next_port;
}

/* -EAGAIN means that a part of the line is there: polling would say "readable" without end. */
static void greet(struct vsock_conn *c)
{
	int pending = 0, r = vsock_conn_greeting(c);

	if (r < 0) {
		end(c);
		return;
	}
	if (r == 0) {
		if (ioctl(c->fd, FIONREAD, &pending) == 0 && pending > 0)
			come_again(c->owner, RETRY_NS);
		else
			poll_for(c, &c->readable, POLLIN);
		return;
	}
	c->host_port = new_port(c->owner, c->guest_port);
	c->state = VSOCK_CONNECTING;
	owe(c, VSOCK_OWE_REQUEST);
}

static void listen_on(struct virtio_vsock *v)
{
	if (v->config.listen_fd >= 0 && !v->listening.active && virtio_running(&v->dev) &&
	    loop_poll_fd(v->loop, &v->listening, v->config.listen_fd, POLLIN) < 0)
		come_again(v, RETRY_NS);
}

static void accept_all(struct virtio_vsock *v)
{
	for (;;) {
		int fd = accept4(v->config.listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		struct vsock_conn *c = find_free(v);

		if (fd < 0 && errno == EAGAIN) {
			listen_on(v);
			return;
		}
		if (fd < 0) {
			come_again(v, RETRY_NS);
			return;
		}
		if (c) {
			begin(c, VSOCK_GREETING, fd);
			greet(c);
		} else {
			fd_close(&fd);
		}
	}
}

/* ---- the device --------------------------------------------------------------------------- */

static void polls_ended(struct virtio_vsock *v)
{
	if (v->listening.active)
		return;
	for (unsigned i = 0; i < VIRTIO_VSOCK_CONNECTIONS; i++)
		if (v->conn[i].readable.active || v->conn[i].writable.active)
			return;
	if (v->dev.quiescing)
		virtio_quiesced(&v->dev);
}

static void on_poll(struct vsock_conn *c, int res, bool readable)
{
	struct virtio_vsock *v = c->owner;

	if (c->state == VSOCK_DYING) {
		end(c);
	} else if (virtio_running(&v->dev) && res != -ECANCELED) {
		if (c->state == VSOCK_GREETING) {
			greet(c);
		} else if (readable && c->state != VSOCK_DRAINING) {
			c->may_read = true;
			enqueue(c);
		} else {
			flush(c);
		}
		serve_rx(v);
	}
	polls_ended(v);
}

static void on_readable(struct loop_op *op, int res)
{
	on_poll(container_of(op, struct vsock_conn, readable), res, true);
}

static void on_writable(struct loop_op *op, int res)
{
	on_poll(container_of(op, struct vsock_conn, writable), res, false);
}

static void on_listening(struct loop_op *op, int res)
{
	struct virtio_vsock *v = container_of(op, struct virtio_vsock, listening);

	if (virtio_running(&v->dev) && res != -ECANCELED) {
		accept_all(v);
		serve_rx(v);
	}
	polls_ended(v);
}

/* All that waits for something that nobody polls for: a poll could not be had, or a freeze has
 * ended it. */
static void go_on(struct virtio_vsock *v)
{
	serve_events(v);
	listen_on(v);
	for (unsigned i = 0; i < VIRTIO_VSOCK_CONNECTIONS; i++) {
		struct vsock_conn *c = &v->conn[i];

		if (c->state == VSOCK_GREETING && !c->readable.active)
			greet(c);
		if (c->state == VSOCK_UP && !c->readable.active)
			c->may_read = true;
		if (may_read(c))
			enqueue(c);
		if (c->len > 0)
			flush(c);
	}
	serve_tx(v);
}

static void serve_again(struct loop_timer *t)
{
	go_on(container_of(t, struct virtio_vsock, again));
}

static void notify(struct virtio_device *dev, unsigned q)
{
	struct virtio_vsock *v = from_device(dev);

	if (v->held) {
		v->held = false;
		go_on(v);
	} else if (q == TX) {
		serve_tx(v);
	} else if (q == RX) {
		serve_rx(v);
		serve_tx(v); /* it may have waited for room for an answer */
	} else {
		serve_events(v);
	}
}

static void activate(struct virtio_device *dev)
{
	listen_on(from_device(dev));
}

static void quiesce(struct virtio_device *dev)
{
	struct virtio_vsock *v = from_device(dev);

	v->held = true;
	loop_timer_clear(v->loop, &v->again);
	loop_cancel(v->loop, &v->listening);
	for (unsigned i = 0; i < VIRTIO_VSOCK_CONNECTIONS; i++) {
		loop_cancel(v->loop, &v->conn[i].readable);
		loop_cancel(v->loop, &v->conn[i].writable);
	}
	polls_ended(v);
}

static void reset(struct virtio_device *dev)
{
	struct virtio_vsock *v = from_device(dev);

	for (unsigned i = 0; i < VIRTIO_VSOCK_CONNECTIONS; i++)
		if (v->conn[i].state != VSOCK_FREE)
			end(&v->conn[i]);
	v->resets = 0;
	v->tell_reset = false;
}

/* Connections end with their sockets, which are not saved: a restored guest is told so. */
static void vsock_state(struct virtio_device *dev, struct state_io *io)
{
	struct virtio_vsock *v = from_device(dev);
	uint32_t next_port = v->next_port;

	if (state_begin(io, "virtio-vsock", 1)) {
		state_u32(io, "next_port", &next_port);
		state_check(io, "next_port", next_port >= FIRST_PORT && next_port < 2 * FIRST_PORT);
	}
	state_end(io);
	if (!state_restoring(io))
		return;
	v->next_port = next_port;
	v->tell_reset = dev->activated;
}

static void config_read(struct virtio_device *dev UNUSED, uint64_t offset, void *data, unsigned len)
{
	const uint64_t cid = VIRTIO_VSOCK_GUEST_CID;

	memset(data, 0, len);
	if (offset < sizeof(cid))
		memcpy(data, (const uint8_t *)&cid + offset, MIN(len, sizeof(cid) - offset));
}

static const struct virtio_ops vsock_ops = {
	.name = "virtio-vsock",
	.device_id = 19,
	.queues = QUEUES,
	.queue_size = QUEUE_SIZE,
	.config_read = config_read,
	.activate = activate,
	.notify = notify,
	.quiesce = quiesce,
	.polls_only = true,
	.reset = reset,
	.state = vsock_state,
};

int virtio_vsock_new(struct loop *loop, const struct guest_memory *mem, int irq_fd,
		     const struct virtio_vsock_config *config, struct virtio_vsock **ret_vsock,
		     struct error *err)
{
	struct virtio_vsock *v = calloc(1, sizeof(*v));

	if (!v)
		return error_set_shortage(err, -ENOMEM, "making a virtio socket device");
	virtio_init(&v->dev, &vsock_ops, mem, irq_fd);
	v->loop = loop;
	v->config = *config;
	v->listening.done = on_listening;
	v->again.fire = serve_again;
	v->next_port = FIRST_PORT;
	TAILQ_INIT(&v->ready);
	for (unsigned i = 0; i < VIRTIO_VSOCK_CONNECTIONS; i++) {
		struct vsock_conn *c = &v->conn[i];

		c->owner = v;
		c->fd = -1;
		c->readable.done = on_readable;
		c->writable.done = on_writable;
	}
	*ret_vsock = v;
	return 0;
}

void virtio_vsock_free(struct virtio_vsock *v)
{
	if (!v)
		return;
	loop_timer_clear(v->loop, &v->again);
	for (unsigned i = 0; i < VIRTIO_VSOCK_CONNECTIONS; i++) {
		assert(!v->conn[i].readable.active && !v->conn[i].writable.active);
		fd_close(&v->conn[i].fd);
		free(v->conn[i].buf);
	}
	free(v);
}

struct virtio_device *virtio_vsock_device(struct virtio_vsock *v)
{
	return &v->dev;
}

struct virtio_vsock_stats virtio_vsock_stats(const struct virtio_vsock *v)
{
	struct virtio_vsock_stats s = v->stats;

	s.faults = v->dev.faults;
	return s;
}
