/* virtio socket device (virtio 1.2, 5.10): stream connections between the guest and Unix sockets of
 * the host. Control thread.
 *
 *   host → guest   a client connects to the listening socket, writes "CONNECT PORT\n", and reads
 *                  "OK PORT\n" (the host's) once the guest has accepted; the end of file if not
 *   guest → host   to port P of the host (CID 2): the device asks config->connect for a socket
 *
 * From there on bytes go through as they are, under the credit of 5.10.6.3 both ways: of each
 * connection the device holds VIRTIO_VSOCK_BUFFER bytes for the host at most, and none for the
 * guest, whose bytes stay in the host's socket until it has room. */
#ifndef STASIS_DEVICES_VIRTIO_VSOCK_H
#define STASIS_DEVICES_VIRTIO_VSOCK_H

#include "devices/virtio.h"
#include "loop/loop.h"

#define VIRTIO_VSOCK_CONNECTIONS 128
#define VIRTIO_VSOCK_BUFFER	 (256u << 10)
#define VIRTIO_VSOCK_HOST_CID	 2
#define VIRTIO_VSOCK_GUEST_CID	 3 /* of every VM: no two share a bus */
#define VIRTIO_VSOCK_LINE_MAX	 32

/* 5.10.6; little-endian */
struct virtio_vsock_header {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));
_Static_assert(sizeof(struct virtio_vsock_header) == 44, "laid out as the specification has it");

enum { VIRTIO_VSOCK_TYPE_STREAM = 1 };
enum {
	VIRTIO_VSOCK_OP_REQUEST = 1,
	VIRTIO_VSOCK_OP_RESPONSE = 2,
	VIRTIO_VSOCK_OP_RST = 3,
	VIRTIO_VSOCK_OP_SHUTDOWN = 4,
	VIRTIO_VSOCK_OP_RW = 5,
	VIRTIO_VSOCK_OP_CREDIT_UPDATE = 6,
	VIRTIO_VSOCK_OP_CREDIT_REQUEST = 7,
};
enum { VIRTIO_VSOCK_EVENT_TRANSPORT_RESET = 0 };
/* Flags of SHUTDOWN: what the sender will do no more. */
enum { VIRTIO_VSOCK_NO_RECEIVE = 1, VIRTIO_VSOCK_NO_SEND = 2 };

struct virtio_vsock;

struct virtio_vsock_config {
	int listen_fd; /* non-blocking; borrowed, outlives the device; -1: none */
	/* A connected non-blocking stream socket for the guest's connection to that port, which the
	 * device takes over; or a negative errno: the guest is refused. Doesn't block. */
	int (*connect)(void *arg, uint32_t port);
	void *arg;
};

/* Since the device was made. */
struct virtio_vsock_stats {
	uint64_t connections, refused; /* that came up; that did not */
	uint64_t to_guest, to_host;    /* bytes */
	uint64_t faults;
};

int virtio_vsock_new(struct loop *loop, const struct guest_memory *mem, int irq_fd,
		     const struct virtio_vsock_config *config, struct virtio_vsock **ret_vsock,
		     struct error *err) MUST_CHECK;
/* Quiesced first. Accepts NULL. */
void virtio_vsock_free(struct virtio_vsock *vsock);
struct virtio_device *virtio_vsock_device(struct virtio_vsock *vsock);
struct virtio_vsock_stats virtio_vsock_stats(const struct virtio_vsock *vsock);

#endif
