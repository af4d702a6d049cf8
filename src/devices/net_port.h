/* One queue pair's way to the world: what a network device needs of a tap or of a socket to passt.
 * Control thread; nothing here blocks. A frame travels behind its header, as the ring has it
 * (virtio 1.2, 5.1.6; all little-endian):
 *
 *   flags 1 | gso_type 1 | hdr_len 2 | gso_size 2 | csum_start 2 | csum_offset 2 | num_buffers 2
 *   frame: destination 6 | source 6 | EtherType 2 | payload
 */
#ifndef STASIS_DEVICES_NET_PORT_H
#define STASIS_DEVICES_NET_PORT_H

#include <stdbool.h>
#include <sys/uio.h>

#include "base/error.h"

#define NET_HEADER_BYTES 12
#define NET_BUFFERS_AT	 10 /* of num_buffers, in the header */
#define NET_MAC_BYTES	 6
#define NET_ETHER_BYTES	 14
/* With its header, one VLAN tag, and the longest packet of IP. */
#define NET_FRAME_MAX (NET_HEADER_BYTES + NET_ETHER_BYTES + 4 + 65535)

struct net_port;

struct net_port_ops {
	/* One frame behind its header, all but num_buffers, into iov[0 .. n), which holds a header
	 * at least. Its bytes, header included; where iov is too short the rest is lost, and more
	 * than it holds is returned. -EAGAIN: none is there, poll for POLLIN. Any other errno: the
	 * port is gone for good. */
	ssize_t (*receive)(struct net_port *port, struct iovec *iov, unsigned n);
	/* One frame, whole: 0. -EAGAIN: not taken, poll for POLLOUT. -EPIPE: the port is gone. Any
	 * other errno: the host refuses this one, and it is lost, as frames may be. The bytes are
	 * the guest's and change meanwhile. */
	int (*transmit)(struct net_port *port, const struct iovec *iov, unsigned n);
	/* Goes on with what is unsent: as transmit. NULL: never anything. */
	int (*flush)(struct net_port *port);
	/* Which offloads frames to the guest may use: TUN_F_ bits. NULL: none are there. */
	int (*set_offloads)(struct net_port *port, unsigned offloads);
	/* Whether frames for the guest may come by this port. NULL: there is one only. */
	int (*set_attached)(struct net_port *port, bool attached);
	void (*free)(struct net_port *port);
};

/* Embedded in what the port is. */
struct net_port {
	const struct net_port_ops *ops;
	int fd;	     /* to poll; owned */
	bool unsent; /* a frame went in part: flush once fd takes more */
};

/* Copies between the front of iov and buf: the bytes copied, at most len. */
size_t net_iov_read(const struct iovec *iov, unsigned n, void *buf, size_t len);
/* … from byte `at` of iov on. */
size_t net_iov_write(const struct iovec *iov, unsigned n, size_t at, const void *buf, size_t len);

#endif
