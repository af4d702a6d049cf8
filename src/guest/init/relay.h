/* One direction of COMMAND's streams: bytes from a port to a pipe, or from a pipe to a port,
 * with back-pressure and without ever blocking. One thread: init's.
 *
 * COMMAND gets pipes and not the ports: a port can be opened once only, so COMMAND couldn't
 * reopen /dev/stdout; a port gives no SIGPIPE; and end of file on a port is a state of the host's
 * side and not a place in the stream.
 *
 * Bytes are copied, never spliced: Linux splices a pipe into a port as one chain of as many
 * descriptors as pages, after taking them from the pipe, and drops them when the queue is short. */
#ifndef STASIS_GUEST_INIT_RELAY_H
#define STASIS_GUEST_INIT_RELAY_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RELAY_BYTES 65536

struct relay {
	int src, dst;	/* non-blocking; the pipe's end is owned, the port's is borrowed */
	bool from_port; /* src is the port */
	bool src_ended; /* nothing more will be read */
	bool finished;	/* nothing more will be done; the pipe's end is closed */
	bool broken;	/* … because dst has no reader */
	uint64_t left;	/* bytes that may still be read */
	size_t head, len;
	uint8_t buf[RELAY_BYTES];
};

void relay_init(struct relay *r, int src, int dst, bool from_port);
/* What poll should look for: *src and *dst are filled in; fd is -1 where nothing is awaited. */
void relay_poll(const struct relay *r, struct pollfd *src, struct pollfd *dst);
/* Moves what can be moved now, for a bounded time. revents: what poll said of the two. */
void relay_work(struct relay *r, short src_revents, short dst_revents);
/* From now on no more is read than the pipe holds at this moment. */
void relay_drain(struct relay *r);
/* Nobody reads dst, or none should be read: drops what is held. Safe at any time, and again. */
void relay_stop(struct relay *r);

#endif
