/* One connection of a virtio socket device: the bytes on their way to the host, the credit of both
 * sides, and what the guest is still to be told. Knows no ring. Control thread. */
#ifndef STASIS_DEVICES_VSOCK_CONN_H
#define STASIS_DEVICES_VSOCK_CONN_H

#include <sys/queue.h>

#include "devices/virtio_vsock.h"

enum vsock_state {
	VSOCK_FREE,
	VSOCK_GREETING,	  /* a client of the host's has not said yet where to */
	VSOCK_CONNECTING, /* the guest has not answered yet */
	VSOCK_UP,
	VSOCK_DRAINING, /* over for the guest; the host has not read all that it sent */
	VSOCK_DYING,	/* over, but for polls that have not ended */
};

/* What the guest is to be told, as bits; sent in this order. */
enum {
	VSOCK_OWE_REQUEST = 1,
	VSOCK_OWE_RESPONSE = 2,
	VSOCK_OWE_RESET = 4, /* … and with it the connection is over */
	VSOCK_OWE_CREDIT = 8,
	VSOCK_OWE_SHUTDOWN = 16,
};

struct vsock_conn {
	struct virtio_vsock *owner;
	enum vsock_state state;
	int fd; /* owned; -1: closed */
	uint32_t guest_port, host_port;
	unsigned owed;
	uint32_t peer_alloc, peer_forwarded; /* as the guest has said */
	uint32_t sent;			     /* bytes to the guest; wraps, as do all three below */
	uint32_t forwarded;		     /* bytes that the host's socket has taken */
	uint32_t told;			     /* forwarded, as the guest has been told */
	bool host_ended;		     /* nothing more comes from the host */
	bool host_gone;			     /* … and it takes nothing more */
	uint32_t guest_shut;		     /* flags of the guest's SHUTDOWN */
	bool may_read;			     /* the socket may have bytes */
	bool queued;  /* in the device's list of those with something to send */
	uint8_t *buf; /* VIRTIO_VSOCK_BUFFER, a ring; owned; NULL: not yet */
	uint32_t at, len;
	struct loop_op readable, writable;
	TAILQ_ENTRY(vsock_conn) link;
};

/* Bytes that the guest has room for. A guest that takes back what it has said has none. */
uint32_t vsock_conn_credit(const struct vsock_conn *c);
/* Takes n bytes for the host out of iov[0 .. count), from byte skip on: what the host does not take
 * at once, into buf. Counts what it did in forwarded. count is at most VIRTQ_MAX_SIZE. -ENOBUFS:
 * more than the guest was allowed. -ENOMEM. */
int vsock_conn_take(struct vsock_conn *c, const struct iovec *iov, unsigned count, size_t skip,
		    uint32_t n) MUST_CHECK;
/* Writes what the host takes now: 0, or -EAGAIN with some left; another errno: it takes no more.
 * Counts what has been written in forwarded. */
int vsock_conn_flush(struct vsock_conn *c) MUST_CHECK;
/* Reads from the host straight into to[0 .. count), from byte skip on, at most `most` bytes: how
 * many; 0 at the end; -EAGAIN, or another errno. count is at most VIRTQ_MAX_SIZE. */
ssize_t vsock_conn_read(const struct vsock_conn *c, const struct iovec *to, unsigned count,
			size_t skip, size_t most) MUST_CHECK;
/* A packet of the connection's, without bytes. */
struct virtio_vsock_header vsock_conn_header(const struct vsock_conn *c, uint16_t op);
/* Takes the first of what is owed, if anything: its op, and the packet; or 0. */
uint16_t vsock_conn_next(struct vsock_conn *c, struct virtio_vsock_header *ret_header);
/* Reads "CONNECT PORT\n" from a client, and not a byte of what follows: 1, and guest_port is set; 0
 * while it is not whole; a negative errno if it is something else, or the client has gone. */
int vsock_conn_greeting(struct vsock_conn *c) MUST_CHECK;
/* Whether the guest should be told of what has been forwarded. */
bool vsock_conn_owes_credit(const struct vsock_conn *c);

#endif
