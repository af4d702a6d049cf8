/* A connection that carries frames: non-blocking descriptors, bytes in until a frame is whole,
 * frames out until the other end takes them. Owned by one thread. */
#ifndef STASIS_VM_LAB_WIRE_H
#define STASIS_VM_LAB_WIRE_H

#include <stdbool.h>

#include "vm/lab/frame.h"

/* Bulk senders stop adding to a queue that is longer than this; news still goes in. */
#define WIRE_BUSY (256u << 10)
/* Windows bound what can be owed to an honest other end: all channels, both ways, and news. */
#define WIRE_OUT_MAX (4u << 20)

struct wire {
	int in_fd, out_fd; /* owned; may be one */
	uint8_t *in;	   /* 2 * FRAME_MAX bytes */
	size_t in_len;
	uint8_t *out; /* bytes [out_head, out_head + out_len) wait */
	size_t out_head, out_len, out_cap;
};

/* Makes both non-blocking. Takes the descriptors, on failure too. */
int wire_init(struct wire *w, int in_fd, int out_fd) MUST_CHECK;
void wire_done(struct wire *w); /* accepts a zeroed one whose descriptors are -1 */

/* Queues a frame. -ENOBUFS past WIRE_OUT_MAX: the other end doesn't keep to the windows, or the
 * program that it is has stopped. */
int wire_send(struct wire *w, uint32_t session, enum frame_type type, uint8_t channel,
	      const void *payload, size_t len) MUST_CHECK;
int wire_send32(struct wire *w, uint32_t session, enum frame_type type, uint8_t channel,
		uint32_t value) MUST_CHECK;
static inline bool wire_busy(const struct wire *w)
{
	return w->out_len > WIRE_BUSY;
}
/* Writes what the descriptor takes now. */
int wire_flush(struct wire *w) MUST_CHECK;
/* Reads what is there, for a bounded time, and calls each() for each whole frame. A negative errno
 * from each() ends it and is returned. -ECONNRESET at the end of the stream, -EBADMSG for what is
 * no frame, else 0. */
int wire_read(struct wire *w, int (*each)(const struct frame *f, void *arg), void *arg) MUST_CHECK;

#endif
