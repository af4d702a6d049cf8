/* A driver of virtio-vsock with one connection to the host, played by the benchmark on the control
 * thread, as Linux' is: packets of a chunk at most, the credit of both sides kept. What it sends
 * lies in guest memory; what it receives is compared there. */
#ifndef STASIS_BENCH_VSOCK_DRIVER_H
#define STASIS_BENCH_VSOCK_DRIVER_H

#include "devices/virtio_vsock.h"
#include "vring.h"

#define VSOCK_DRIVER_SLOTS 64

struct vsock_driver {
	struct loop *loop;
	struct guest_memory mem;
	struct loop_event kick[2]; /* of the receive and the transmit queue */
	int irq_fd;		   /* as an irqfd: written, and read by nobody */
	struct virtio_vsock *vsock;
	struct virtio_device *dev;
	uint8_t *low; /* guest memory from address 0 */
	struct vring ring[2];
	int host_fd;	/* for the device, until the guest connects */
	uint32_t chunk; /* bytes of a packet at most */
	uint16_t idle[VSOCK_DRIVER_SLOTS];
	unsigned idle_count;	       /* transmit slots that the device has not */
	bool up, control_idle;	       /* connected; the slot for packets without bytes is free */
	uint32_t alloc, forwarded;     /* as the device has said */
	uint64_t sent, received, told; /* bytes; told: of received, as the device knows */
	bool reset, wrong;	       /* the connection ended; other bytes came than were sent */
};

/* Connects to host_fd's other end; takes host_fd over, even on failure. On failure,
 * vsock_driver_done cleans up. */
int vsock_driver_init(struct vsock_driver *d, int host_fd, uint32_t chunk,
		      struct error *err) MUST_CHECK;
/* Accepts a zeroed one. */
void vsock_driver_done(struct vsock_driver *d);
/* Sends so many bytes of the stream, and returns when the host's socket has them. */
int vsock_driver_send(struct vsock_driver *d, uint64_t bytes, struct error *err) MUST_CHECK;
/* Returns when so many have come, and were the stream's. */
int vsock_driver_receive(struct vsock_driver *d, uint64_t bytes, struct error *err) MUST_CHECK;

#endif
