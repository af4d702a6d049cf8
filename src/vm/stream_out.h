/* Bytes on their way to a descriptor that may be slow: kept, and written by the loop, so that the
 * control thread never waits for a terminal or a pipe. Control thread. */
#ifndef STASIS_VM_STREAM_OUT_H
#define STASIS_VM_STREAM_OUT_H

#include "loop/loop.h"

#define STREAM_OUT_SIZE (256u << 10)

struct stream_out {
	struct loop *loop;
	struct loop_op op;
	int fd;	    /* borrowed, or own_fd */
	int own_fd; /* a terminal opened anew: io_uring would wait for a blocking one; or -1 */
	uint64_t head, tail; /* bytes ever written out, ever put in */
	uint64_t dropped;    /* did not fit, or the descriptor failed */
	bool failed, polling;
	int error;		       /* the errno, negative, that failed it; 0: none */
	uint8_t data[STREAM_OUT_SIZE]; /* ring */
};

void stream_out_init(struct stream_out *s, struct loop *loop, int fd);
/* Takes all of it; what does not fit is dropped and counted. */
void stream_out_put(struct stream_out *s, const void *data, size_t len);
/* How much is taken whole now. */
static inline size_t stream_out_room(const struct stream_out *s)
{
	return s->failed ? 0 : STREAM_OUT_SIZE - (size_t)(s->tail - s->head);
}
static inline bool stream_out_empty(const struct stream_out *s)
{
	return s->head == s->tail || s->failed;
}
/* Stops writing, and turns the loop until the operation in flight has ended. False if the kernel
 * keeps it for limit_ns: s has to stay. Accepts a zeroed one. */
bool stream_out_done(struct stream_out *s, uint64_t limit_ns) MUST_CHECK;

#endif
