/* A guest with a virtio-console driver that behaves as Linux's does
 * (drivers/char/virtio_console.c): pre-filled receive queues, READY and OPEN answers, buffers that
 * go back once they are read. For unit tests; failures end the program. */
#ifndef STASIS_TESTS_CONSOLE_GUEST_H
#define STASIS_TESTS_CONSOLE_GUEST_H

#include "devices/virtio_console.h"
#include "vdriver.h"

#define GUEST_RX_BUFFERS 16
#define GUEST_PAGE	 4096
#define GUEST_TX_SLOTS	 16
#define GUEST_TX_BYTES	 8192
#define GUEST_TRACE	 128

enum {
	DEVICE_READY,
	PORT_ADD,
	PORT_REMOVE,
	PORT_READY,
	CONSOLE_PORT,
	RESIZE,
	PORT_OPEN,
	PORT_NAME
};

struct guest_message {
	uint32_t id;
	uint16_t event, value;
	uint8_t rest[120];
	uint32_t len; /* of rest */
};

struct guest_port {
	bool added, console, host_open;
	char name[120];
	uint16_t rows, cols;
	uint64_t rx_gpa[GUEST_RX_BUFFERS]; /* allocated once */
	uint64_t rx_by_head[VIRTQ_MAX_SIZE];
	bool rx_keep;  /* buffers that were read do not go back */
	uint8_t *data; /* all that was received since guest_init */
	size_t len, cap;
	size_t len_at_close; /* when the host's PORT_OPEN 0 came */
	uint64_t tx_gpa[GUEST_TX_SLOTS];
	bool tx_taken[GUEST_TX_SLOTS];
	unsigned tx_by_head[VIRTQ_MAX_SIZE];
};

struct console_guest {
	struct vdriver drv;
	struct loop *loop;
	struct virtio_console *console;
	struct virtio_device *dev;
	unsigned count;
	struct guest_port port[VIRTIO_CONSOLE_MAX_PORTS];
	uint64_t control_gpa[GUEST_RX_BUFFERS], message_gpa;
	uint64_t control_by_head[VIRTQ_MAX_SIZE];
	struct guest_message trace[GUEST_TRACE]; /* control messages received, in order */
	unsigned traced;
};

/* Memory, loop and device; nothing is brought up. */
void guest_init(struct console_guest *g, struct virtio_console_port *ports, unsigned count);
/* Quiesces and frees. */
void guest_done(struct console_guest *g);
/* Reset, features, rings, control buffers, DEVICE_READY. */
void guest_boot(struct console_guest *g, uint64_t features);
/* The same, and answers until the console port is open. */
void guest_boot_linux(struct console_guest *g);
/* One turn of the loop, then what the guest finds in its rings. */
void guest_turn(struct console_guest *g);
/* What it finds, without a turn. */
void guest_look(struct console_guest *g);
/* Turns until cond(arg), at most two seconds; false if it never held. */
bool guest_until(struct console_guest *g, bool (*cond)(void *arg), void *arg);
void guest_fill_control(struct console_guest *g, unsigned n);
void guest_fill_rx(struct console_guest *g, unsigned port);
/* A control message; len lets it be too short. */
void guest_control(struct console_guest *g, uint32_t id, uint16_t event, uint16_t value,
		   unsigned len);
void guest_open(struct console_guest *g, unsigned port, bool open);
/* Sends at most len bytes over at most segs segments; returns how many, 0 if there is no slot. */
size_t guest_send(struct console_guest *g, unsigned port, const void *data, size_t len,
		  unsigned segs);
unsigned guest_unsent(const struct console_guest *g, unsigned port);
unsigned guest_rx_queue(unsigned port);

#endif
