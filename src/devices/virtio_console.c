/* virtio-console with several ports (virtio 1.2, 5.3): configuration, control messages, life
 * cycle. The data paths are console_port.c's. Control thread.
 * What waits for the driver's control buffers is a set of bits per port, not a queue: a driver
 * that gives no buffers can't make it grow. */
#include "devices/virtio_console.h"

#include <assert.h>
#include <errno.h>

#include "base/util.h"
#include "devices/console_port.h"

#define F_SIZE	    (1ull << 0)
#define F_MULTIPORT (1ull << 1)

#define CONTROL_RX 2
#define CONTROL_TX 3
/* Taken from the driver before other work gets a turn. */
#define CONTROL_TURN 64
#define NAME_MAX_LEN 64

/* 5.3.6.2 */
enum {
	DEVICE_READY = 0,
	PORT_ADD = 1,
	PORT_READY = 3,
	CONSOLE_PORT = 4,
	RESIZE = 5,
	PORT_OPEN = 6,
	PORT_NAME = 7,
};

/*  id 4 | event 2 | value 2 | of PORT_NAME: the name, without a NUL
 *                           | of RESIZE: two sizes, 2 each        */
struct message {
	uint32_t id;
	uint16_t event, value;
	uint8_t rest[NAME_MAX_LEN];
};
#define MESSAGE_HEAD offsetof(struct message, rest)

/* 5.3.4 */
struct config {
	uint16_t cols, rows;
	uint32_t max_nr_ports, emerg_wr;
};

static struct virtio_console *from_device(struct virtio_device *dev)
{
	return container_of(dev, struct virtio_console, dev);
}

static bool multiport(const struct virtio_console *c)
{
	return c->dev.features & F_MULTIPORT;
}

/* 5.3.2: port 0, the control pair, then the others. */
static unsigned rx_index(unsigned port)
{
	return port ? 2 * (port + 1) : 0;
}

struct virtq *console_rx_queue(struct virtio_console *c, unsigned port)
{
	return &c->dev.queue[rx_index(port)];
}

struct virtq *console_tx_queue(struct virtio_console *c, unsigned port)
{
	return &c->dev.queue[rx_index(port) + 1];
}

bool console_usable(const struct virtio_console *c)
{
	const struct virtio_device *dev = &c->dev;

	return (dev->status & VIRTIO_STATUS_DRIVER_OK) && !dev->resetting &&
	       !(dev->status & (VIRTIO_STATUS_NEEDS_RESET | VIRTIO_STATUS_FAILED));
}

void console_again(struct virtio_console *c, uint64_t delay_ns)
{
	uint64_t deadline_ns = now_ns() + delay_ns;

	if (c->again.slot && c->again.deadline_ns <= deadline_ns)
		return;
	/* Without memory for a timer, the driver's next notification has to do. */
	if (loop_timer_set(c->loop, &c->again, deadline_ns) < 0)
		log_warn("virtio-console: no memory for a timer");
}

static void settle_all(struct virtio_console *c)
{
	for (unsigned i = 0; i < c->count; i++)
		console_port_settle(&c->port[i]);
}

void console_bad_chain(struct virtio_console *c, const struct virtq *q, int rc)
{
	virtio_fault(&c->dev, "queue %u: bad chain (%d)", (unsigned)(q - c->dev.queue), rc);
	settle_all(c);
}

/* Nonsense in a message hurts nobody: it is dropped, and counted. */
static void drop_message(struct virtio_console *c, const char *what, unsigned event, unsigned id)
{
	c->dev.faults++;
	log_guest(&c->dev.fault_log, "guest fault: virtio-console: %s (event %u, port %u)", what,
		  event, id);
}

/* ---- control messages to the driver ------------------------------------------------------ */

static size_t compose(const struct virtio_console_port_state *p, unsigned bit, struct message *m)
{
	size_t rest = 0;

	*m = (struct message){.id = p->index, .value = 1};
	switch (bit) {
	case CONSOLE_SEND_ADD:
		m->event = PORT_ADD;
		break;
	case CONSOLE_SEND_CONSOLE:
		m->event = CONSOLE_PORT;
		break;
	case CONSOLE_SEND_RESIZE: {
		/* The standard puts columns first, and Debian's 6.12.117 reads them so. Kernels
		 * before the repair of 2025 read rows first: whoever knows a second way to tell
		 * the guest (our init has one) uses it as well. */
		uint16_t size[2] = {p->cols, p->rows};

		m->event = RESIZE;
		memcpy(m->rest, size, sizeof(size));
		rest = sizeof(size);
		break;
	}
	case CONSOLE_SEND_OPEN:
		m->event = PORT_OPEN;
		m->value = !p->told_open;
		break;
	default:
		m->event = PORT_NAME;
		rest = strlen(p->port->name);
		memcpy(m->rest, p->port->name, rest);
		break;
	}
	return MESSAGE_HEAD + rest;
}

static void scatter(const struct virtq_chain *chain, const void *data, size_t len)
{
	const uint8_t *bytes = data;

	for (unsigned i = chain->out; i < chain->out + chain->in && len; i++) {
		size_t step = MIN(chain->iov[i].iov_len, len);

		memcpy(chain->iov[i].iov_base, bytes, step);
		bytes += step;
		len -= step;
	}
}

static size_t gather(const struct virtq_chain *chain, void *data, size_t len)
{
	uint8_t *bytes = data;
	size_t done = 0;

	for (unsigned i = 0; i < chain->out && done < len; i++) {
		size_t step = MIN(chain->iov[i].iov_len, len - done);

		memcpy(bytes + done, chain->iov[i].iov_base, step);
		done += step;
	}
	return done;
}

/* False when there was no buffer, or a bad one. */
static bool send_message(struct virtio_console_port_state *p, unsigned bit)
{
	struct virtio_console *c = p->console;
	struct virtq *q = &c->dev.queue[CONTROL_RX];
	struct virtq_chain chain;
	struct message m;
	size_t len = compose(p, bit, &m);
	int rc = virtq_pop(q, &chain);

	if (rc == 0)
		return false;
	if (rc > 0 && chain.in_bytes < len) {
		virtq_unpop(q);
		rc = -ENOBUFS;
	}
	if (rc < 0) {
		console_bad_chain(c, q, rc);
		return false;
	}
	scatter(&chain, &m, len);
	virtq_push(q, chain.head, (uint32_t)len);
	p->unsent &= ~bit;
	if (bit == CONSOLE_SEND_OPEN)
		p->told_open = m.value;
	return true;
}

static void send_messages(struct virtio_console *c)
{
	bool more = true;

	for (unsigned i = 0; i < c->count && more; i++) {
		struct virtio_console_port_state *p = &c->port[i];

		while (p->unsent && more && virtio_running(&c->dev))
			more = send_message(p, p->unsent & -p->unsent);
	}
	if (virtio_running(&c->dev))
		virtio_signal(&c->dev, &c->dev.queue[CONTROL_RX]);
}

static void queue_messages(struct virtio_console_port_state *p, unsigned bits)
{
	if (!multiport(p->console))
		return;
	p->unsent |= bits;
	send_messages(p->console);
}

void console_update_open(struct virtio_console_port_state *p)
{
	/* A read that is being cancelled may still bring bytes. */
	bool want = !p->closed || p->input_len || p->rx.op.active;

	if (!p->ready)
		return;
	if (want == p->told_open)
		p->unsent &= ~(unsigned)CONSOLE_SEND_OPEN;
	else
		queue_messages(p, CONSOLE_SEND_OPEN);
}

/* ---- control messages from the driver ---------------------------------------------------- */

static void port_ready(struct virtio_console_port_state *p)
{
	unsigned bits = 0;

	p->ready = true;
	if (p->port->console)
		bits |= CONSOLE_SEND_CONSOLE;
	if (p->port->console && (p->console->dev.features & F_SIZE) && p->cols && p->rows)
		bits |= CONSOLE_SEND_RESIZE;
	/* Sent after PORT_OPEN: whoever finds the port by its name can read it at once, and a read
	 * of a port that the host has not opened gives end of file. */
	if (p->port->name)
		bits |= CONSOLE_SEND_NAME;
	p->unsent |= bits;
	/* Whatever it was told before, it forgot. */
	p->told_open = false;
	console_update_open(p);
	send_messages(p->console);
}

static void port_open(struct virtio_console_port_state *p, bool open)
{
	if (p->open == open)
		return;
	p->open = open;
	/* What the read has brought by then is kept for the next open. */
	if (!open && p->rx.op.active)
		loop_cancel(p->console->loop, &p->rx.op);
	if (p->port->opened)
		p->port->opened(p->port, open);
	console_port_rx(p);
}

static void handle(struct virtio_console *c, const struct message *m)
{
	struct virtio_console_port_state *p;

	if (m->event == DEVICE_READY) {
		if (!m->value)
			log_warn("the guest's virtio-console driver failed to start");
		for (unsigned i = 0; i < c->count && m->value; i++)
			c->port[i].unsent |= CONSOLE_SEND_ADD;
		return;
	}
	if (m->id >= c->count) {
		drop_message(c, "no such port", m->event, m->id);
		return;
	}
	p = &c->port[m->id];
	if (m->event == PORT_READY && m->value)
		port_ready(p);
	else if (m->event == PORT_READY)
		log_warn("the guest's virtio-console driver can't use port %u", p->index);
	else if (m->event == PORT_OPEN && p->ready)
		port_open(p, m->value);
	else
		drop_message(c, "unexpected control message", m->event, m->id);
}

static void receive_messages(struct virtio_console *c)
{
	struct virtq *q = &c->dev.queue[CONTROL_TX];
	struct virtq_chain chain;

	for (unsigned n = 0; virtio_running(&c->dev); n++) {
		struct message m = {0};

		if (n == CONTROL_TURN) {
			console_again(c, 0);
			break;
		}

		int rc = virtq_pop(q, &chain);
		if (rc < 0) {
			console_bad_chain(c, q, rc);
			return;
		}
		if (!rc)
			break;

		bool whole = gather(&chain, &m, MESSAGE_HEAD) == MESSAGE_HEAD;
		virtq_push(q, chain.head, 0);
		if (whole)
			handle(c, &m);
		else
			drop_message(c, "short control message", m.event, m.id);
	}
	if (!virtio_running(&c->dev))
		return;
	virtio_signal(&c->dev, q);
	send_messages(c);
}

/* ---- the device --------------------------------------------------------------------------- */

static void config_read(struct virtio_device *dev, uint64_t offset, void *data, unsigned len)
{
	const struct virtio_console *c = from_device(dev);
	struct config config = {
		.cols = c->port[0].cols,
		.rows = c->port[0].rows,
		.max_nr_ports = c->count,
	};

	memset(data, 0, len);
	if (offset < sizeof(config))
		memcpy(data, (const uint8_t *)&config + offset, MIN(len, sizeof(config) - offset));
}

static void activate(struct virtio_device *dev)
{
	struct virtio_console *c = from_device(dev);

	if (multiport(c))
		return;
	c->port[0].ready = c->port[0].told_open = true;
	port_open(&c->port[0], true);
}

static void notify(struct virtio_device *dev, unsigned q)
{
	struct virtio_console *c = from_device(dev);
	unsigned port = q < 2 ? 0 : q / 2 - 1;

	if (q >= 2 && !multiport(c))
		return;
	if (q == CONTROL_RX)
		send_messages(c);
	else if (q == CONTROL_TX)
		receive_messages(c);
	else if (q % 2)
		console_port_tx(&c->port[port]);
	else
		console_port_rx(&c->port[port]);
}

static void look_again(struct loop_timer *t)
{
	struct virtio_console *c = container_of(t, struct virtio_console, again);

	for (unsigned i = 0; i < c->count; i++) {
		console_port_tx(&c->port[i]);
		console_port_rx(&c->port[i]);
	}
	if (multiport(c) && virtio_running(&c->dev))
		receive_messages(c);
}

static bool check_quiesced(struct virtio_console *c)
{
	for (unsigned i = 0; i < c->count; i++) {
		if (console_port_busy(&c->port[i]))
			return false;
	}
	for (unsigned i = 0; i < c->count; i++)
		console_port_put_back(&c->port[i]);
	virtio_quiesced(&c->dev);
	return true;
}

bool console_op_ended(struct virtio_console *c)
{
	if (!c->dev.quiescing)
		return true;
	check_quiesced(c);
	return false;
}

static void quiesce(struct virtio_device *dev)
{
	struct virtio_console *c = from_device(dev);

	loop_timer_clear(c->loop, &c->again);
	for (unsigned i = 0; i < c->count; i++)
		console_port_cancel(&c->port[i]);
	check_quiesced(c);
}

static void reset(struct virtio_device *dev)
{
	struct virtio_console *c = from_device(dev);

	for (unsigned i = 0; i < c->count; i++)
		console_port_reset(&c->port[i]);
}

static void console_state(struct virtio_device *dev, struct state_io *io)
{
	struct virtio_console *c = from_device(dev);
	uint32_t count = c->count;

	if (state_begin(io, "virtio-console", 1)) {
		state_u32(io, "ports", &count);
		state_check(io, "ports", count == c->count);
		for (unsigned i = 0; i < c->count; i++)
			console_port_state(&c->port[i], io);
	}
	state_end(io);
}

static const struct virtio_ops console_ops = {
	.name = "virtio-console",
	.device_id = 3,
	.features = F_SIZE | F_MULTIPORT,
	.queue_size = 64,
	.config_read = config_read,
	/* emerg_wr is not offered: nothing is written. */
	.activate = activate,
	.notify = notify,
	.quiesce = quiesce,
	.reset = reset,
	.state = console_state,
};

int virtio_console_new(struct loop *loop, const struct guest_memory *mem, int irq_fd,
		       struct virtio_console_port *ports, unsigned count,
		       struct virtio_console **ret_console, struct error *err)
{
	struct virtio_console *c;

	assert(count >= 1 && count <= VIRTIO_CONSOLE_MAX_PORTS);
	c = calloc(1, sizeof(*c));
	if (!c)
		goto no_memory;
	virtio_init(&c->dev, &console_ops, mem, irq_fd);
	c->dev.queue_count = 2 * (count + 1);
	c->loop = loop;
	c->again.fire = look_again;
	c->count = count;
	for (unsigned i = 0; i < count; i++) {
		assert(!ports[i].name || strlen(ports[i].name) <= NAME_MAX_LEN);
		console_port_init(&c->port[i], c, &ports[i], i);
		ports[i].state = &c->port[i];
		c->port[i].input = malloc(CONSOLE_INPUT_BYTES);
		if (!c->port[i].input)
			goto no_memory;
	}
	*ret_console = c;
	return 0;

no_memory:
	virtio_console_free(c);
	return error_set_shortage(err, -ENOMEM, "making a virtio console");
}

void virtio_console_free(struct virtio_console *c)
{
	if (!c)
		return;
	loop_timer_clear(c->loop, &c->again);
	for (unsigned i = 0; i < c->count; i++) {
		/* Not initialised: virtio_console_new ran out of memory before it. */
		if (!c->port[i].port)
			break;
		assert(!console_port_busy(&c->port[i]));
		console_port_done(&c->port[i]);
		c->port[i].port->state = NULL;
	}
	free(c);
}

struct virtio_device *virtio_console_device(struct virtio_console *c)
{
	return &c->dev;
}

/* ---- for the owner of the ports ----------------------------------------------------------- */

size_t virtio_console_input(struct virtio_console *c, unsigned port, const void *data, size_t len)
{
	struct virtio_console_port_state *p = &c->port[port];
	size_t n;

	assert(port < c->count);
	/* With an in_fd the ring serves its reads. */
	if (p->closed || p->port->in_fd >= 0)
		return 0;
	n = console_port_keep(p, data, len);
	console_port_rx(p);
	return n;
}

void virtio_console_close(struct virtio_console *c, unsigned port)
{
	struct virtio_console_port_state *p = &c->port[port];

	assert(port < c->count);
	p->closed = true;
	if (p->rx.op.active)
		loop_cancel(c->loop, &p->rx.op);
	console_port_rx(p);
}

void virtio_console_flush(struct virtio_console *c, unsigned port)
{
	struct virtio_console_port_state *p = &c->port[port];

	assert(port < c->count);
	console_port_flush(p);
	console_port_tx(p);
	console_port_settle(p);
}

void virtio_console_resize(struct virtio_console *c, unsigned port, uint16_t cols, uint16_t rows)
{
	struct virtio_console_port_state *p = &c->port[port];

	assert(port < c->count);
	if (p->cols == cols && p->rows == rows)
		return;
	p->cols = cols;
	p->rows = rows;
	if (!(c->dev.features & F_SIZE))
		return;
	if (port == 0)
		virtio_config_changed(&c->dev);
	if (p->ready && p->port->console)
		queue_messages(p, CONSOLE_SEND_RESIZE);
}
