/* How the bytes of one virtio-console port flow. Descriptor back ends move them between the
 * descriptor and guest memory without a copy; function back ends get copies. Control thread.
 * After every operation the state decides what comes next, so that cancel, close, reset and
 * freeze need no paths of their own. */
#include "devices/console_port.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/util.h"

#define TX_WINDOW_BYTES MIB(1)
/* Of output to a function, or dropped, before other work gets a turn. */
#define TX_ROUNDS     16
#define TX_COPY_BYTES 4096
/* Until a submission that failed is tried again. */
#define RETRY_NS 10000000u

/* The file's own position. */
#define NO_OFFSET UINT64_MAX

static struct virtq *rx_queue(struct virtio_console_port_state *p)
{
	return console_rx_queue(p->console, p->index);
}

static struct virtq *tx_queue(struct virtio_console_port_state *p)
{
	return console_tx_queue(p->console, p->index);
}

static bool running(const struct virtio_console_port_state *p)
{
	return virtio_running(&p->console->dev);
}

size_t console_port_keep(struct virtio_console_port_state *p, const void *data, size_t len)
{
	const uint8_t *bytes = data;

	len = MIN(len, CONSOLE_INPUT_BYTES - p->input_len);
	for (size_t done = 0; done < len;) {
		size_t at = (p->input_head + p->input_len) % CONSOLE_INPUT_BYTES;
		size_t step = MIN(len - done, CONSOLE_INPUT_BYTES - at);

		memcpy(p->input + at, bytes + done, step);
		p->input_len += step;
		done += step;
	}
	return len;
}

/* ---- towards the guest ------------------------------------------------------------------ */

static bool fill_rx(struct virtio_console_port_state *p)
{
	int rc = virtq_window_fill(&p->rx.window, rx_queue(p), CONSOLE_INPUT_BYTES);

	if (rc < 0) {
		console_bad_chain(p->console, rx_queue(p), rc);
		return false;
	}
	return p->rx.window.bytes > 0;
}

static void finish_rx(struct virtio_console_port_state *p, size_t n)
{
	if (virtq_window_advance(&p->rx.window, rx_queue(p), n))
		virtio_signal(&p->console->dev, rx_queue(p));
}

/* The guest can't take the n bytes that were just read into the window: they are kept for when it
 * can. A read starts only with an empty ring and asks for no more than the ring holds. */
static void keep_window(struct virtio_console_port_state *p, size_t n)
{
	const struct virtq_window *w = &p->rx.window;

	for (unsigned i = 0; i < w->segments && n; i++) {
		size_t step = MIN(w->iov[i].iov_len, n);

		n -= console_port_keep(p, w->iov[i].iov_base, step);
	}
}

static void deliver_kept(struct virtio_console_port_state *p)
{
	while (p->input_len && fill_rx(p)) {
		size_t run = MIN(p->input_len, CONSOLE_INPUT_BYTES - p->input_head);
		size_t n = virtq_window_write(&p->rx.window, p->input + p->input_head, run);

		p->input_head = (p->input_head + n) % CONSOLE_INPUT_BYTES;
		p->input_len -= n;
		finish_rx(p, n);
	}
}

void console_port_rx(struct virtio_console_port_state *p)
{
	if (p->rx.op.active)
		return;
	if (running(p) && p->open)
		deliver_kept(p);
	if (p->closed)
		console_update_open(p);
	/* A guest that has not opened the port would throw the bytes away. */
	if (p->closed || p->port->in_fd < 0 || !p->open || p->input_len || !running(p))
		return;
	if (!fill_rx(p))
		return;
	if (loop_readv(p->console->loop, &p->rx.op, p->port->in_fd, p->rx.window.iov,
		       p->rx.window.segments, NO_OFFSET) < 0)
		console_again(p->console, RETRY_NS);
}

/* -EAGAIN: the descriptor is non-blocking. Waits until it is worth another try. */
static void poll_stream(struct virtio_console_port_state *p, struct console_stream *s, int fd,
			short events)
{
	if (!running(p))
		return;
	if (loop_poll_fd(p->console->loop, &s->op, fd, events) < 0)
		console_again(p->console, RETRY_NS);
	else
		s->polling = true;
}

static void rx_done(struct loop_op *op, int res)
{
	struct virtio_console_port_state *p =
		container_of(op, struct virtio_console_port_state, rx.op);
	bool polled = p->rx.polling;

	p->rx.polling = false;
	if (res == -EAGAIN && !polled) {
		if (p->open && !p->closed)
			poll_stream(p, &p->rx, p->port->in_fd, POLLIN);
	} else if (res < 0 && res != -EINTR && res != -ECANCELED && res != -EAGAIN) {
		/* A terminal that hung up, a connection reset: the input has ended. */
		p->closed = true;
	} else if (!polled && res == 0) {
		p->closed = true;
	} else if (!polled && res > 0) {
		if (p->open && console_usable(p->console))
			finish_rx(p, (size_t)res);
		else
			keep_window(p, (size_t)res);
	}
	if (console_op_ended(p->console))
		console_port_rx(p);
}

/* ---- from the guest --------------------------------------------------------------------- */

static void finish_tx(struct virtio_console_port_state *p, uint64_t n)
{
	unsigned pushed = virtq_window_advance(&p->tx.window, tx_queue(p), n);

	p->flush_left -= MIN(p->flush_left, pushed);
	if (pushed)
		virtio_signal(&p->console->dev, tx_queue(p));
}

static void break_output(struct virtio_console_port_state *p, int error)
{
	p->out_broken = true;
	if (p->port->out_failed)
		p->port->out_failed(p->port, error);
}

/* Returns how many bytes the port's function has taken; the others can't fail. */
static uint64_t output_some(struct virtio_console_port_state *p)
{
	/* A copy: the guest may change its bytes while the function looks at them. */
	uint8_t copy[TX_COPY_BYTES];
	size_t n;

	if (!p->port->output || !p->tx.window.bytes)
		return p->tx.window.bytes;
	n = virtq_window_read(&p->tx.window, copy, sizeof(copy));
	p->port->output(p->port, copy, n);
	return n;
}

/* Where to write to. io_uring asks a terminal whether it has room and then writes in the
 * submitter's thread, where a blocking one waits until all of it is taken: the control thread would
 * stand still behind a Ctrl-S. So a terminal is written without blocking, by an open file of our
 * own; where it can't be opened again, the flag is set on the shared one for as long as the device
 * lives. */
static int output_fd(struct virtio_console_port_state *p)
{
	int fd = p->port->out_fd, flags;

	if (!p->tty_tried && isatty(fd) && (flags = fcntl(fd, F_GETFL)) >= 0 &&
	    !(flags & O_NONBLOCK)) {
		p->tty_fd = fd_reopen_terminal(fd);
		if (p->tty_fd < 0)
			p->tty_shared = fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
	}
	p->tty_tried = true;
	return p->tty_fd >= 0 ? p->tty_fd : fd;
}

static void serve_tx(struct virtio_console_port_state *p)
{
	struct virtq_window *w = &p->tx.window;

	for (unsigned round = 0; running(p); round++) {
		int rc = virtq_window_fill(w, tx_queue(p), TX_WINDOW_BYTES);

		if (rc < 0) {
			console_bad_chain(p->console, tx_queue(p), rc);
			return;
		}
		if (!w->chains)
			return;
		if (round == TX_ROUNDS) {
			console_again(p->console, 0);
			return;
		}
		if (p->port->out_fd < 0 || p->out_broken) {
			finish_tx(p, output_some(p));
			continue;
		}
		finish_tx(p, 0);
		if (!w->bytes)
			continue;
		if (loop_writev(p->console->loop, &p->tx.op, output_fd(p), w->iov, w->segments,
				NO_OFFSET) < 0)
			console_again(p->console, RETRY_NS);
		return;
	}
}

void console_port_tx(struct virtio_console_port_state *p)
{
	/* output() may lead back here. */
	if (p->tx_busy || p->tx.op.active)
		return;
	p->tx_busy = true;
	serve_tx(p);
	p->tx_busy = false;
	console_port_settle(p);
}

static void tx_done(struct loop_op *op, int res)
{
	struct virtio_console_port_state *p =
		container_of(op, struct virtio_console_port_state, tx.op);
	bool polled = p->tx.polling;

	p->tx.polling = false;
	/* Of a write that was asked for bytes, 0 is no progress and no reason. */
	if (!polled && res == 0)
		res = -EIO;
	if (res == -EAGAIN && !polled)
		poll_stream(p, &p->tx, output_fd(p), POLLOUT);
	else if (res < 0 && res != -EINTR && res != -ECANCELED && res != -EAGAIN)
		break_output(p, res);
	else if (!polled && res > 0 && console_usable(p->console))
		finish_tx(p, (uint64_t)res);
	if (console_op_ended(p->console))
		console_port_tx(p);
}

/* Chains that the driver has offered and that were not popped. */
static uint32_t offered(const struct virtq *q)
{
	uint16_t idx;

	if (!q->ready || guest_read(q->mem, q->avail_gpa + 2, &idx, sizeof(idx)) < 0)
		return 0;
	idx = (uint16_t)(idx - q->next_avail);
	/* More than there can be: the next pop says so. */
	return idx <= q->size ? idx : 0;
}

void console_port_flush(struct virtio_console_port_state *p)
{
	p->flush_left = p->tx.window.chains + offered(tx_queue(p));
	p->flushing = true;
}

void console_port_settle(struct virtio_console_port_state *p)
{
	if (!p->flushing || (p->flush_left && console_usable(p->console)))
		return;
	p->flushing = false;
	if (p->port->flushed)
		p->port->flushed(p->port);
}

/* ---- both ------------------------------------------------------------------------------- */

void console_port_init(struct virtio_console_port_state *p, struct virtio_console *c,
		       struct virtio_console_port *port, unsigned index)
{
	p->console = c;
	p->port = port;
	p->index = index;
	p->rx.op.done = rx_done;
	p->rx.window.writable = true;
	p->tx.op.done = tx_done;
	p->tty_fd = -1;
}

void console_port_done(struct virtio_console_port_state *p)
{
	int flags;

	free(p->input);
	fd_close(&p->tty_fd);
	if (p->tty_shared && (flags = fcntl(p->port->out_fd, F_GETFL)) >= 0)
		(void)fcntl(p->port->out_fd, F_SETFL, flags & ~O_NONBLOCK);
}

void console_port_cancel(struct virtio_console_port_state *p)
{
	if (p->rx.op.active)
		loop_cancel(p->console->loop, &p->rx.op);
	if (p->tx.op.active)
		loop_cancel(p->console->loop, &p->tx.op);
}

static void drop_window(struct virtq_window *w)
{
	w->chains = w->segments = 0;
	w->bytes = w->begun = 0;
}

void console_port_put_back(struct virtio_console_port_state *p)
{
	virtq_window_put_back(&p->rx.window, rx_queue(p));
	virtq_window_put_back(&p->tx.window, tx_queue(p));
}

/* Bytes for the guest that wait here. */
static void input_state(struct virtio_console_port_state *p, struct state_io *io)
{
	uint32_t len = (uint32_t)p->input_len;
	size_t first = MIN(p->input_len, CONSOLE_INPUT_BYTES - p->input_head);

	state_u32(io, "input_len", &len);
	state_check(io, "input_len", len <= CONSOLE_INPUT_BYTES);
	if (!io->restoring) {
		state_bytes(io, "input", p->input + p->input_head, first);
		state_bytes(io, "input", p->input, len - first);
	} else if (!io->err.code) {
		state_bytes(io, "input", p->input, len);
		p->input_head = 0;
		p->input_len = state_restoring(io) ? len : 0;
	}
}

/* What waits for flushed(), and whether output is broken, is the host's side of it. */
void console_port_state(struct virtio_console_port_state *p, struct state_io *io)
{
	bool ready = p->ready, open = p->open, told = p->told_open, closed = p->closed;
	uint64_t begun = p->tx.window.begun;
	uint16_t cols = p->cols, rows = p->rows;
	uint32_t unsent = p->unsent;

	state_bool(io, "ready", &ready);
	state_bool(io, "open", &open);
	state_bool(io, "told_open", &told);
	state_check(io, "open", ready || (!open && !told));
	state_bool(io, "closed", &closed);
	state_u32(io, "unsent", &unsent);
	state_check(io, "unsent",
		    !(unsent & ~(uint32_t)CONSOLE_SEND_ALL) &&
			    (p->port->name || !(unsent & CONSOLE_SEND_NAME)));
	state_u16(io, "cols", &cols);
	state_u16(io, "rows", &rows);
	state_u64(io, "tx_begun", &begun);
	input_state(p, io);
	if (!state_restoring(io))
		return;
	p->ready = ready;
	p->open = open;
	p->told_open = told;
	p->closed |= closed;
	p->unsent = unsent;
	p->cols = cols;
	p->rows = rows;
	p->tx.window.begun = begun;
	if (open && p->port->opened)
		p->port->opened(p->port, true);
}

void console_port_reset(struct virtio_console_port_state *p)
{
	bool was_open = p->open;

	/* A chain half written stays half written: its rest was the guest's to lose. */
	drop_window(&p->rx.window);
	drop_window(&p->tx.window);
	p->ready = p->open = p->told_open = false;
	p->unsent = 0;
	p->flush_left = 0;
	if (was_open && p->port->opened)
		p->port->opened(p->port, false);
	console_port_settle(p);
}
