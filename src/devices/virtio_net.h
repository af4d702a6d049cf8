/* virtio network device (virtio 1.2, 5.1) on one port for each queue pair. Control thread. */
#ifndef STASIS_DEVICES_VIRTIO_NET_H
#define STASIS_DEVICES_VIRTIO_NET_H

#include "devices/net_port.h"
#include "devices/virtio.h"
#include "loop/loop.h"

#define VIRTIO_NET_MAX_PAIRS 8

/* Feature bits (virtio 1.2, 5.1.3). */
enum {
	VIRTIO_NET_F_CSUM = 0,
	VIRTIO_NET_F_GUEST_CSUM = 1,
	VIRTIO_NET_F_CTRL_GUEST_OFFLOADS = 2,
	VIRTIO_NET_F_MTU = 3,
	VIRTIO_NET_F_MAC = 5,
	VIRTIO_NET_F_GUEST_TSO4 = 7,
	VIRTIO_NET_F_GUEST_TSO6 = 8,
	VIRTIO_NET_F_GUEST_ECN = 9,
	VIRTIO_NET_F_HOST_TSO4 = 11,
	VIRTIO_NET_F_HOST_TSO6 = 12,
	VIRTIO_NET_F_HOST_ECN = 13,
	VIRTIO_NET_F_MRG_RXBUF = 15,
	VIRTIO_NET_F_STATUS = 16,
	VIRTIO_NET_F_CTRL_VQ = 17,
	VIRTIO_NET_F_CTRL_RX = 18,
	VIRTIO_NET_F_GUEST_ANNOUNCE = 21,
	VIRTIO_NET_F_MQ = 22,
	VIRTIO_NET_F_CTRL_MAC_ADDR = 23,
};

/* Status bits (5.1.4), and what the control queue answers (5.1.6.5). */
enum { VIRTIO_NET_S_LINK_UP = 1, VIRTIO_NET_S_ANNOUNCE = 2 };
enum { VIRTIO_NET_OK = 0, VIRTIO_NET_ERR = 1 };

struct virtio_net;

struct virtio_net_config {
	const char *name; /* what messages call it; outlives the device */
	uint8_t mac[NET_MAC_BYTES];
	bool mac_own;	/* it stays over a restore, whatever the saved one had */
	uint16_t mtu;	/* what the driver is told of; 0: nothing */
	bool offloads;	/* the ports take frames with checksums left out, and long segments */
	unsigned pairs; /* 1 to VIRTIO_NET_MAX_PAIRS */
	struct net_port *port[VIRTIO_NET_MAX_PAIRS]; /* taken over on success */
};

/* Since the device was made; resets don't clear them. */
struct virtio_net_stats {
	uint64_t rx_frames, rx_bytes; /* to the guest */
	uint64_t rx_dropped;	      /* longer than the room that it gave, or no frames */
	uint64_t tx_frames, tx_bytes;
	uint64_t tx_refused; /* the host took it not, or it was no frame */
	uint64_t commands;   /* of the control queue */
	uint64_t faults;
};

int virtio_net_new(struct loop *loop, const struct guest_memory *mem, int irq_fd,
		   const struct virtio_net_config *config, struct virtio_net **ret_net,
		   struct error *err) MUST_CHECK;
/* Quiesced first. Accepts NULL. */
void virtio_net_free(struct virtio_net *net);
struct virtio_device *virtio_net_device(struct virtio_net *net);
/* The guest shall tell the network where it is: after it came up in another place. */
void virtio_net_announce(struct virtio_net *net);
bool virtio_net_link_up(const struct virtio_net *net);
struct virtio_net_stats virtio_net_stats(const struct virtio_net *net);

#endif
