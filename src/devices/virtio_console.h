/* virtio-console with several ports (virtio 1.2, 5.3). Port 0 is a console, the others are byte
 * streams with names. Control thread.
 *
 * A port's host side is a pair of descriptors or a pair of functions. Descriptors: guest buffers
 * are read into and written from directly, one operation each way in flight, back-pressure both
 * ways, end of file on the host closes the port towards the guest after all of the data. Blocking
 * and non-blocking ones will do; the process ignores SIGPIPE. Bytes that were read and that the
 * guest can't take any more (it closed the port, or was reset) are kept for when it can. */
#ifndef STASIS_DEVICES_VIRTIO_CONSOLE_H
#define STASIS_DEVICES_VIRTIO_CONSOLE_H

#include "devices/virtio.h"
#include "loop/loop.h"

#define VIRTIO_CONSOLE_MAX_PORTS 8

struct virtio_console;

struct virtio_console_port {
	const char *name; /* NULL for a console port */
	bool console;
	/* Descriptor back end: borrowed; -1: that direction has none. Input is read while the guest
	 * has the port open (for a console its driver says so); an input error ends it. */
	int in_fd, out_fd;
	/* Function back end for output, where out_fd is -1: takes the bytes at once. May be NULL.
	 */
	void (*output)(struct virtio_console_port *port, const uint8_t *data, size_t len);
	/* The guest opened or closed its side. May be NULL. */
	void (*opened)(struct virtio_console_port *port, bool open);
	/* out_fd can't be written any more (-EPIPE, -ENOSPC, …): told once, output is dropped from
	 * then on. May be NULL. */
	void (*out_failed)(struct virtio_console_port *port, int error);
	/* See virtio_console_flush. May be NULL. */
	void (*flushed)(struct virtio_console_port *port);
	void *arg;

	/* The device's. */
	struct virtio_console_port_state *state;
};

/* ports: an array of count, owned by the caller, fixed while the device lives. Names have at most
 * 64 bytes. No function of a port may free the device or write its status. */
int virtio_console_new(struct loop *loop, const struct guest_memory *mem, int irq_fd,
		       struct virtio_console_port *ports, unsigned count,
		       struct virtio_console **ret_console, struct error *err) MUST_CHECK;
/* Quiesced first. Accepts NULL. */
void virtio_console_free(struct virtio_console *c);
struct virtio_device *virtio_console_device(struct virtio_console *c);

/* Bytes for the guest on a port without in_fd: kept (bounded at 64 KiB) until it takes them.
 * Returns how many were taken. */
size_t virtio_console_input(struct virtio_console *c, unsigned port, const void *data, size_t len);
/* The host's side is closed: the guest reads end of file after what is queued, or was read. What
 * Linux writes to such a port waits for ever, so this is for ports that only go in. */
void virtio_console_close(struct virtio_console *c, unsigned port);
/* flushed() runs, at once or later, when nothing that the guest has queued on the port so far is
 * unwritten, dropped output counting as written; also when a reset or a fault ends the wait. A
 * second call while one waits takes its place. */
void virtio_console_flush(struct virtio_console *c, unsigned port);
/* Size of a console port, in characters. */
void virtio_console_resize(struct virtio_console *c, unsigned port, uint16_t cols, uint16_t rows);

#endif
