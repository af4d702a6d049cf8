/* Frames between a client, the lab's keeper and the agent inside: one byte stream each way, over a
 * socket or a virtio-serial port. Each side is one thread that polls; a frame's bytes are hostile
 * until they have been checked.
 *
 *   0        4          8      9         10         12
 *   | length | session  | type | channel | reserved | payload: length bytes, at most LAB_PAYLOAD
 *   all little-endian, as every machine is that stasis runs on
 *
 * Channels carry bytes under credit: a sender may have LAB_WINDOW bytes under way, and the receiver
 * gives credit for what it has passed on. So one slow reader holds up nobody else, and whoever
 * forwards needs room for the windows only.
 *
 *   client → agent                            agent → client
 *   ASK    hash: is the file there            HAVE   one byte: yes or no
 *   FILE   hash, then its bytes; empty: end   EXIT   status, 4 bytes
 *   OPEN   JSON: argv, outputs                ERROR  text; the session is over
 *   SIGNAL number, 4 bytes
 *   OVERDUE it should have ended: the answer is ERROR, with what its threads wait for
 *   DATA, EOF on channel 0                    DATA, EOF on channels 1, 2, and 3… for outputs
 *   CLOSED on channel 1, 2: reader is gone
 *   CREDIT bytes, 4                           CREDIT bytes, 4
 *   keeper → client: READY the lab is up, with its build; client → keeper: STOP
 *   agent → keeper: ALIVE, session 0, every LAB_ALIVE_MS: an emulated machine can lock up
 */
#ifndef STASIS_VM_LAB_FRAME_H
#define STASIS_VM_LAB_FRAME_H

#include <stdbool.h>

#include "base/error.h"

#define LAB_PAYLOAD  (64u << 10)
#define LAB_WINDOW   (256u << 10)
#define LAB_HASH_LEN 32 /* hex digits of XXH3-128 */
#define LAB_ALIVE_MS 5000

enum lab_type {
	LAB_ASK = 1,
	LAB_FILE,
	LAB_OPEN,
	LAB_SIGNAL,
	LAB_DATA,
	LAB_EOF,
	LAB_CLOSED,
	LAB_CREDIT,
	LAB_HAVE,
	LAB_EXIT,
	LAB_ERROR,
	LAB_READY,
	LAB_STOP,
	LAB_ALIVE,
	LAB_OVERDUE,
	LAB_TYPES,
};

struct lab_frame {
	uint32_t len, session;
	uint8_t type, channel;
	uint8_t *payload; /* in the connection's buffer: until the next lab_conn call */
};

/* Bytes that wait to be written. */
struct lab_bytes {
	uint8_t *data;
	size_t at, len, cap; /* [at, at + len) waits */
};
int lab_bytes_add(struct lab_bytes *b, const void *data, size_t len) MUST_CHECK;
/* Writes what fd takes now. Returns bytes written, -EAGAIN if none fitted, or a negative errno. */
int64_t lab_bytes_write(struct lab_bytes *b, int fd) MUST_CHECK;
void lab_bytes_done(struct lab_bytes *b);

struct lab_conn {
	int in_fd, out_fd; /* non-blocking; owned; may be the same */
	uint8_t *in;	   /* LAB_PAYLOAD and a header */
	size_t in_len, in_used;
	struct lab_bytes out;
};

/* Makes the descriptors non-blocking. */
int lab_conn_init(struct lab_conn *c, int in_fd, int out_fd) MUST_CHECK;
void lab_conn_done(struct lab_conn *c); /* accepts descriptors of -1 */
/* Reads what is there. -EAGAIN when nothing is, -ECONNRESET at the end. */
int lab_conn_read(struct lab_conn *c) MUST_CHECK;
/* 1: a frame; 0: none whole yet; -EPROTO: the peer breaks the rules. */
int lab_conn_next(struct lab_conn *c, struct lab_frame *ret_frame) MUST_CHECK;
/* Queues a frame, payload up to LAB_PAYLOAD. */
int lab_conn_send(struct lab_conn *c, uint32_t session, enum lab_type type, uint8_t channel,
		  const void *payload, size_t len) MUST_CHECK;
int lab_conn_send_u32(struct lab_conn *c, uint32_t session, enum lab_type type, uint8_t channel,
		      uint32_t value) MUST_CHECK;
/* Writes what the peer takes now; 0 also when some is left. */
int lab_conn_flush(struct lab_conn *c) MUST_CHECK;

#endif
