/* A driver of virtio-net for tests: one device on the end of socket pairs, whose other ends are the
 * test's. Failures to set up end the test program. */
#ifndef STASIS_TESTS_NET_GUEST_H
#define STASIS_TESTS_NET_GUEST_H

#include "devices/virtio_net.h"
#include "vdriver.h"

#define NET_FEATURES                                                                               \
	(VDRIVER_FEATURES | 1ull << VIRTIO_NET_F_MAC | 1ull << VIRTIO_NET_F_STATUS |               \
	 1ull << VIRTIO_NET_F_MRG_RXBUF | 1ull << VIRTIO_NET_F_CTRL_VQ |                           \
	 1ull << VIRTIO_NET_F_CTRL_RX | 1ull << VIRTIO_NET_F_CTRL_MAC_ADDR |                       \
	 1ull << VIRTIO_NET_F_GUEST_ANNOUNCE | 1ull << VIRTIO_NET_F_MQ)
#define NET_PAIRS 2

struct net_guest {
	struct loop *loop;
	struct vdriver drv;
	struct virtio_net *net;
	struct virtio_device *dev;
	int peer[NET_PAIRS]; /* the test's ends, non-blocking */
};

void net_guest_init(struct net_guest *g);
void net_guest_done(struct net_guest *g);
void net_guest_boot(struct net_guest *g, uint64_t features);
/* Turns the loop until nothing happens for a moment. */
void net_guest_settle(struct net_guest *g);
/* Offers n receive buffers of len bytes to pair p; the first one's address. */
uint64_t net_guest_room(struct net_guest *g, unsigned p, unsigned n, uint32_t len);
/* Puts a header and a frame of len bytes, of the value fill, into pair p's transmit ring. */
void net_guest_send(struct net_guest *g, unsigned p, uint32_t len, uint8_t fill);
/* Writes a framed frame to the device; reads one from it: its length, or -1 if there is none. */
void net_peer_send(struct net_guest *g, unsigned p, const void *frame, uint32_t len);
long net_peer_receive(struct net_guest *g, unsigned p, void *frame, size_t room);
/* A command on the control queue; its answer, or -1 for none. */
int net_guest_command(struct net_guest *g, uint8_t class, uint8_t cmd, const void *data,
		      uint32_t len);

#endif
