/* Chains popped from a queue and held, in the order they came, as one run of bytes: what readv and
 * writev want. Bytes are done from the front; a chain that is done goes back to the driver.
 *
 *   chain    [ 0      ][ 1 ][ 2            ]      popped, in flight in the queue
 *   iov      [a ][b   ][c  ][d  ][e ][f    ]      what is not done of them
 *
 * Control thread. Plain data: it survives a freeze, and a reset drops it. */
#ifndef STASIS_DEVICES_VIRTQ_WINDOW_H
#define STASIS_DEVICES_VIRTQ_WINDOW_H

#include "devices/virtq.h"

#define VIRTQ_WINDOW_CHAINS 64

struct virtq_window {
	bool writable; /* the bytes are those that the device writes, else those that it reads */
	unsigned chains, segments;
	uint64_t bytes; /* in iov[0 .. segments) */
	uint64_t begun; /* done of the first chain, readable ones only; also while it is put back */
	struct {
		uint16_t head;
		uint16_t segments;
		uint64_t bytes;
	} chain[VIRTQ_WINDOW_CHAINS];
	struct iovec iov[VIRTQ_MAX_SIZE];
};

/* Pops until the queue is empty (0), or the window is full or holds max_bytes (1). A writable
 * chain is cut to max_bytes, a readable one never. Negative: the guest broke the rules, which for
 * a writable window includes a chain without room. */
int virtq_window_fill(struct virtq_window *w, struct virtq *q, uint64_t max_bytes) MUST_CHECK;
/* n <= w->bytes more are done. Pushes the chains that are, and a writable one that is begun, with
 * what was written to it. n may be 0: empty readable chains at the front are done as they are.
 * Returns how many were pushed. */
unsigned virtq_window_advance(struct virtq_window *w, struct virtq *q, uint64_t n);
/* Gives the chains back to the queue, as if they had never been popped; the next one goes on from
 * where it was. They are all that is in flight. */
void virtq_window_put_back(struct virtq_window *w, struct virtq *q);
/* Copies at most len bytes between the front of the window and buf; the window stays. */
size_t virtq_window_read(const struct virtq_window *w, void *buf, size_t len);
size_t virtq_window_write(const struct virtq_window *w, const void *buf, size_t len);

#endif
