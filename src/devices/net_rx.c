/* From a port into a receive queue: see net_rx.h. Control thread. */
#include "devices/net_rx.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int net_rx_init(struct net_rx *rx)
{
	*rx = (struct net_rx){.staged = malloc(NET_FRAME_MAX)};
	return rx->staged ? 0 : -ENOMEM;
}

void net_rx_done(struct net_rx *rx)
{
	free(rx->staged);
	*rx = (struct net_rx){0};
}

static void append(struct net_rx *rx, const struct virtq_chain *c)
{
	unsigned at = rx->chains++;

	rx->chain[at].head = c->head;
	rx->chain[at].segments = (uint16_t)c->in;
	rx->chain[at].bytes = c->in_bytes;
	memcpy(rx->iov + rx->segments, c->iov + c->out, c->in * sizeof(rx->iov[0]));
	rx->segments += c->in;
	rx->bytes += c->in_bytes;
}

/* Pops chains until the longest frame fits, or no more can be held, which *ret_full says. 0, or
 * what virtq_pop says. */
static int fill(struct net_rx *rx, struct virtq *q, bool *ret_full)
{
	unsigned most = rx->mergeable ? NET_RX_CHAINS : 1;
	struct virtq_chain c;

	while (rx->chains < most && rx->bytes < NET_FRAME_MAX) {
		int rc = virtq_pop(q, &c);

		if (rc < 0)
			return rc;
		if (rc == 0) {
			/* None will come before one goes back. */
			*ret_full = q->in_flight == q->size || rx->segments == NET_RX_SEGMENTS;
			return 0;
		}
		/* 5.1.6.3.1: room for a header at least, in each. */
		if (c.in_bytes < NET_HEADER_BYTES) {
			virtq_unpop(q);
			return -ENOBUFS;
		}
		if (rx->segments + c.in > NET_RX_SEGMENTS) {
			virtq_unpop(q);
			*ret_full = true;
			return 0;
		}
		append(rx, &c);
	}
	*ret_full = rx->chains == most;
	return 0;
}

/* The frame of n bytes lies in the chains at the front: gives those back. All appear in the used
 * ring at once, because a driver that finds the first looks for the others. */
static void give(struct net_rx *rx, struct virtq *q, size_t n)
{
	unsigned count = 0, segments = 0;
	uint64_t room = 0;
	uint16_t buffers;

	while (room < n)
		room += rx->chain[count++].bytes;
	buffers = (uint16_t)count;
	net_iov_write(rx->iov, rx->segments, NET_BUFFERS_AT, &buffers, sizeof(buffers));
	rx->frames++;
	rx->frame_bytes += n - NET_HEADER_BYTES;
	for (unsigned i = 0; i < count; i++) {
		uint64_t step = MIN(rx->chain[i].bytes, n);

		virtq_put(q, rx->chain[i].head, (uint32_t)step);
		segments += rx->chain[i].segments;
		n -= step;
	}
	rx->bytes -= room;
	rx->chains -= count;
	rx->segments -= segments;
	memmove(rx->chain, rx->chain + count, rx->chains * sizeof(rx->chain[0]));
	memmove(rx->iov, rx->iov + segments, rx->segments * sizeof(rx->iov[0]));
}

/* What waits goes to the driver, if there is room. full: there will never be more of it. */
static enum net_rx_result give_staged(struct net_rx *rx, struct virtq *q, bool full)
{
	if (rx->bytes < rx->staged_bytes && !full)
		return NET_RX_STARVED;
	if (rx->bytes < rx->staged_bytes) {
		rx->dropped++;
	} else {
		net_iov_write(rx->iov, rx->segments, 0, rx->staged, rx->staged_bytes);
		give(rx, q, rx->staged_bytes);
	}
	rx->staged_bytes = 0;
	return NET_RX_FRAME;
}

enum net_rx_result net_rx_next(struct net_rx *rx, struct virtq *q, struct net_port *port)
{
	struct iovec staged = {rx->staged, NET_FRAME_MAX};
	bool direct, full;
	uint8_t more;
	ssize_t n;
	int rc;

	if (!q->ready)
		return NET_RX_STARVED;
	rc = fill(rx, q, &full);
	if (rc < 0)
		return NET_RX_FAULT;
	if (rx->staged_bytes > 0)
		return give_staged(rx, q, full);
	if (rx->chains == 0)
		return NET_RX_STARVED;

	direct = !rx->mergeable || rx->bytes >= NET_FRAME_MAX;
	if (direct) {
		rx->iov[rx->segments] = (struct iovec){&more, sizeof(more)};
		n = port->ops->receive(port, rx->iov, rx->segments + 1);
	} else {
		n = port->ops->receive(port, &staged, 1);
	}
	if (n == -EAGAIN)
		return NET_RX_EMPTY;
	if (n < 0)
		return NET_RX_GONE;
	if ((uint64_t)n > (direct ? rx->bytes : NET_FRAME_MAX) ||
	    n < NET_HEADER_BYTES + NET_ETHER_BYTES) {
		rx->dropped++;
		return NET_RX_FRAME;
	}
	if (!direct) {
		rx->staged_bytes = (size_t)n;
		return give_staged(rx, q, full);
	}
	give(rx, q, (size_t)n);
	return NET_RX_FRAME;
}

void net_rx_put_back(struct net_rx *rx, struct virtq *q)
{
	virtq_rewind(q, (uint16_t)rx->chains);
	rx->chains = rx->segments = 0;
	rx->bytes = 0;
}

void net_rx_reset(struct net_rx *rx)
{
	rx->chains = rx->segments = 0;
	rx->bytes = 0;
	rx->staged_bytes = 0;
	rx->mergeable = false;
}
