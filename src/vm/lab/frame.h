/* Frames: what client, keeper and agent say to each other, over stream sockets and the lab's
 * virtio-serial ports. Both ends are hostile until checked. Any thread.
 *
 *   0       4      5         6          8     12
 *   | session | type | channel | reserved | len | payload, len bytes |      little-endian
 *
 *   client ──Unix socket── keeper ──virtio-serial── agent (in the lab)
 *
 * On a client's socket session is 0: the keeper puts its own numbers there, ever rising, one for
 * each client that says more than HELLO.
 *
 *   type     from         payload
 *   HELLO    keeper,agent message_hello; the first frame of each
 *   READY    keeper       the lab is up; a client says nothing but STOP before
 *   WANT     client       message_want: the session's next file, by its contents
 *   HAVE     agent        u8: 1 it is there; 0 its bytes are to come, as DATA on FILES
 *   OPEN     client       message_open: run this, with the files so far
 *   DATA     both         bytes of a channel, within its window
 *   CREDIT   both         u32: that many bytes of a channel were used up
 *   EOF      both         no more DATA on this channel
 *   CLOSED   both         nobody reads this channel any more
 *   SIGNAL   client       u32: for the program's process group
 *   WINSIZE  client       u16 rows, u16 columns
 *   OUTFILE  agent        u32: DATA on FILES up to its EOF is this output file
 *   EXIT     agent        message_exit; ends the session, after all of its output
 *   ERROR    keeper,agent message_error; ends the session
 *   LOG      keeper       text for standard error: the end of the lab's console
 *   ABORT    keeper       the client is gone
 *   STOP     client       take the lab down
 */
#ifndef STASIS_VM_LAB_FRAME_H
#define STASIS_VM_LAB_FRAME_H

#include <sys/types.h>

#include "base/compiler.h"

#define FRAME_HEADER	  12
#define FRAME_PAYLOAD_MAX 65536
#define FRAME_MAX	  (FRAME_HEADER + FRAME_PAYLOAD_MAX)

enum frame_type {
	FRAME_HELLO = 1,
	FRAME_READY,
	FRAME_WANT,
	FRAME_HAVE,
	FRAME_OPEN,
	FRAME_DATA,
	FRAME_CREDIT,
	FRAME_EOF,
	FRAME_CLOSED,
	FRAME_SIGNAL,
	FRAME_WINSIZE,
	FRAME_OUTFILE,
	FRAME_EXIT,
	FRAME_ERROR,
	FRAME_LOG,
	FRAME_ABORT,
	FRAME_STOP,
	FRAME_TYPES,
};

enum frame_channel { FRAME_STDIN, FRAME_STDOUT, FRAME_STDERR, FRAME_FILES, FRAME_CHANNELS };

/* What a sender may have on its way on one channel of one session: the receiver has that much
 * room, so nobody who reads slowly holds up others. Files to the lab have none: the agent stores
 * them as they come. */
#define FRAME_WINDOW (256u << 10)

struct frame {
	uint32_t session;
	uint8_t type, channel;
	uint32_t len;
	const uint8_t *payload; /* borrowed from the buffer that was parsed */
};

/* header has FRAME_HEADER bytes. */
void frame_header(uint8_t *header, uint32_t session, enum frame_type type, uint8_t channel,
		  uint32_t len);
/* The frame at data: its whole length, 0 if more bytes are needed, -EBADMSG if it is none. */
ssize_t frame_parse(const uint8_t *data, size_t len, struct frame *ret_frame) MUST_CHECK;

/* Little-endian numbers in payloads. */
static inline void frame_put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
	p[2] = (uint8_t)(v >> 16);
	p[3] = (uint8_t)(v >> 24);
}

static inline uint32_t frame_get32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

#endif
