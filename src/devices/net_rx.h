/* Frames into the buffers of a receive queue. Chains are popped ahead and held in order, so that a
 * frame goes straight to where the driver wants it, over as many of them as it takes:
 *
 *   chain   [ 0      ][ 1      ][ 2      ][ 3 …
 *   bytes   header frame..........] rest of 2 stays empty: the next frame begins in 3
 *
 * Where the chains that are there could be too short for the longest frame, it is read into a
 * buffer of ours first, and waits there for the driver. Control thread. */
#ifndef STASIS_DEVICES_NET_RX_H
#define STASIS_DEVICES_NET_RX_H

#include "devices/net_port.h"
#include "devices/virtq.h"

#define NET_RX_CHAINS	64
#define NET_RX_SEGMENTS VIRTQ_MAX_SIZE

struct net_rx {
	bool mergeable; /* a frame may take several chains (virtio 1.2, 5.1.6.3.2) */
	unsigned chains, segments;
	uint64_t bytes; /* in iov[0 .. segments) */
	struct {
		uint16_t head, segments;
		uint64_t bytes;
	} chain[NET_RX_CHAINS];
	struct iovec iov[NET_RX_SEGMENTS + 1]; /* one more for what is too long */
	uint8_t *staged;		       /* NET_FRAME_MAX; owned */
	size_t staged_bytes;		       /* 0: none waits */
	uint64_t frames, frame_bytes, dropped; /* counters */
};

enum net_rx_result {
	NET_RX_FRAME,	/* one more is in the used ring, for the next virtq_wants_signal; or lost */
	NET_RX_EMPTY,	/* the port has none: poll it */
	NET_RX_STARVED, /* the driver has given no room: its notification goes on */
	NET_RX_GONE,	/* the port is broken */
	NET_RX_FAULT,	/* the guest broke the rules */
};

int net_rx_init(struct net_rx *rx) MUST_CHECK;
void net_rx_done(struct net_rx *rx); /* accepts a zeroed one */
/* Receives one frame. */
enum net_rx_result net_rx_next(struct net_rx *rx, struct virtq *q,
			       struct net_port *port) MUST_CHECK;
/* Gives the chains that are held back to the ring, as if they had never been popped; a frame that
 * waits stays. For a freeze. */
void net_rx_put_back(struct net_rx *rx, struct virtq *q);
/* For a reset: forgets everything; the queue is reset as well. */
void net_rx_reset(struct net_rx *rx);

#endif
