/* The data paths of one virtio-console port, and the state that they share with the device
 * (virtio_console.c). Private to these two files. Control thread. */
#ifndef STASIS_DEVICES_CONSOLE_PORT_H
#define STASIS_DEVICES_CONSOLE_PORT_H

#include "devices/virtio_console.h"
#include "devices/virtq_window.h"

#define CONSOLE_INPUT_BYTES 65536 /* also the most that one readv asks for */

/* One direction of a descriptor back end: at most one operation in flight, which pins window. */
struct console_stream {
	struct loop_op op;
	bool polling; /* op waits for readiness and touches no guest memory */
	struct virtq_window window;
};

/* Messages that wait for a buffer of the driver's, in the order they are sent. */
enum {
	CONSOLE_SEND_ADD = 1,
	CONSOLE_SEND_CONSOLE = 2,
	CONSOLE_SEND_RESIZE = 4,
	CONSOLE_SEND_OPEN = 8, /* the value is made when it is sent */
	CONSOLE_SEND_NAME = 16,
	CONSOLE_SEND_ALL = 31,
};

struct virtio_console_port_state {
	struct virtio_console *console;
	struct virtio_console_port *port;
	unsigned index;

	/* Since the last reset. */
	bool ready;	 /* the driver knows the port */
	bool open;	 /* the guest has it open */
	bool told_open;	 /* the last PORT_OPEN that it was sent */
	unsigned unsent; /* CONSOLE_SEND_ */
	struct console_stream rx, tx;
	bool tx_busy;	     /* console_port_tx is on the stack */
	bool flushing;	     /* flushed() is due … */
	uint32_t flush_left; /* … after this many chains */

	/* The host's side: a reset does not touch it. */
	bool closed;	 /* no more input will come; what is in `input` still goes out */
	bool out_broken; /* output is dropped */
	bool tty_tried;	 /* whether out_fd is a terminal was looked at */
	bool tty_shared; /* its O_NONBLOCK is ours to take back */
	int tty_fd;	 /* a terminal opened once more, non-blocking; -1 */
	uint16_t cols, rows;
	/* A ring of CONSOLE_INPUT_BYTES, filled by virtio_console_input or, where there is an
	 * in_fd, by a read whose buffer the guest took away meanwhile. */
	uint8_t *input;
	size_t input_head, input_len;
};

struct virtio_console {
	struct virtio_device dev;
	struct loop *loop;
	struct loop_timer again; /* work was left over; looks at everything */
	unsigned count;
	struct virtio_console_port_state port[VIRTIO_CONSOLE_MAX_PORTS];
};

void console_port_init(struct virtio_console_port_state *p, struct virtio_console *c,
		       struct virtio_console_port *port, unsigned index);
void console_port_done(struct virtio_console_port_state *p);
/* Serve what can be served of one direction, now. Safe at any time. */
void console_port_rx(struct virtio_console_port_state *p);
void console_port_tx(struct virtio_console_port_state *p);
/* Takes bytes for the guest; returns how many fitted. Serves nothing. */
size_t console_port_keep(struct virtio_console_port_state *p, const void *data, size_t len);
/* flushed() is due after what is in the window and in the queue now. */
void console_port_flush(struct virtio_console_port_state *p);
/* Runs flushed() if it is due, or can't come any more. */
void console_port_settle(struct virtio_console_port_state *p);
/* Cancels what is in flight. */
void console_port_cancel(struct virtio_console_port_state *p);
void console_port_reset(struct virtio_console_port_state *p);
/* Quiet: the chains that wait go back into the rings, for a freeze. */
void console_port_put_back(struct virtio_console_port_state *p);
/* Put back: saves or restores, fields only. A restored port that is open says so by opened(). */
void console_port_state(struct virtio_console_port_state *p, struct state_io *io);

static inline bool console_port_busy(const struct virtio_console_port_state *p)
{
	return p->rx.op.active || p->tx.op.active;
}

/* From the device. The queue of a port's direction: */
struct virtq *console_rx_queue(struct virtio_console *c, unsigned port);
struct virtq *console_tx_queue(struct virtio_console *c, unsigned port);
/* Chains may be given back: also while a freeze waits for operations to end. */
bool console_usable(const struct virtio_console *c);
/* Have another look at everything, after delay_ns. */
void console_again(struct virtio_console *c, uint64_t delay_ns);
/* The port's state changed: sends PORT_OPEN if the guest believes otherwise. */
void console_update_open(struct virtio_console_port_state *p);
/* An operation has ended: a quiesce may be complete. False if one is going on. */
bool console_op_ended(struct virtio_console *c);
/* virtio_fault, and flushes that were waiting. rc: what virtq_window_fill gave. */
void console_bad_chain(struct virtio_console *c, const struct virtq *q, int rc);

#endif
