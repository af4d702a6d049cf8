/* A driver of virtio-vsock for tests, and both kinds of peers on the host: a listening socket whose
 * clients say CONNECT, and socket pairs that the guest connects to. Failures to set up end the test
 * program. */
#ifndef STASIS_TESTS_VSOCK_GUEST_H
#define STASIS_TESTS_VSOCK_GUEST_H

#include "devices/virtio_vsock.h"
#include "vdriver.h"

enum { VSOCK_RX, VSOCK_TX };
#define VSOCK_ROOM 4096 /* bytes of each receive buffer */

struct vsock_guest {
	struct loop *loop;
	struct vdriver drv;
	struct virtio_vsock *vsock;
	struct virtio_device *dev;
	char path[108]; /* of the listening socket */
	int listen_fd;
	int service; /* our end of the guest's last connection; -1: refuse them */
	bool refuse;
	unsigned asked;		       /* times that a service was connected to */
	uint64_t room[VIRTQ_MAX_SIZE]; /* buffer of each receive head */
	uint32_t alloc, forwarded;     /* what our packets say */
};

/* A packet of the device's, with its bytes. */
struct vsock_packet {
	struct virtio_vsock_header h;
	uint8_t data[VSOCK_ROOM];
};

void vsock_guest_init(struct vsock_guest *g);
void vsock_guest_done(struct vsock_guest *g);
/* Reset and up again, with n receive buffers. */
void vsock_guest_boot(struct vsock_guest *g, unsigned n);
void vsock_guest_settle(struct vsock_guest *g);
/* Sends a packet with len bytes of data. */
void vsock_guest_send(struct vsock_guest *g, uint16_t op, uint32_t guest_port, uint32_t host_port,
		      uint32_t flags, const void *data, uint32_t len);
/* The next packet from the device, whose buffer goes back to the ring; false: there is none. */
bool vsock_guest_receive(struct vsock_guest *g, struct vsock_packet *ret_packet);
/* A client on the host: connects and writes text. */
int vsock_client(struct vsock_guest *g, const char *text);
/* A whole connection from a client: to guest port 7; *ret_port is the host's. */
int vsock_client_up(struct vsock_guest *g, uint32_t *ret_port);

#endif
