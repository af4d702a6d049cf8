/* What stasis exec and the agent in the guest say to each other, by one stream of the vsock for
 * each command. Included by both sides; nothing but constants and one layout.
 *
 *   0      1            4        8
 *   | type | reserved 3 | length | payload: length bytes, at most EXEC_PAYLOAD; little-endian
 *
 *   host → guest                                       guest → host
 *   START   flags 1, 0 1, rows 2, columns 2, then      STARTED
 *           COMMAND and its arguments, each with '\0'  FAILED    status 4, then text; the end
 *   STDIN   bytes; none: the end                       STDOUT, STDERR  bytes
 *   SIGNAL  number 4                                   CREDIT    bytes 4 of STDIN that went on
 *   WINSIZE rows 2, columns 2                          EXITED    status 4; the end
 *                                                      SIGNALLED number 4; the end
 *
 * Of STDIN, EXEC_WINDOW bytes may be under way, so that a signal never waits behind what COMMAND
 * doesn't read. The other way the stream's own credit is enough. A connection that ends early is a
 * hang-up: COMMAND's group gets SIGHUP. */
#ifndef STASIS_GUEST_EXEC_PROTOCOL_H
#define STASIS_GUEST_EXEC_PROTOCOL_H

#include <stdint.h>

#define EXEC_PORT    1025u
#define EXEC_PAYLOAD 65536u
#define EXEC_WINDOW  65536u

enum exec_type {
	EXEC_START = 1,
	EXEC_STDIN,
	EXEC_SIGNAL,
	EXEC_WINSIZE,
	EXEC_STARTED,
	EXEC_FAILED,
	EXEC_STDOUT,
	EXEC_STDERR,
	EXEC_CREDIT,
	EXEC_EXITED,
	EXEC_SIGNALLED,
};

/* Of START. */
enum { EXEC_HAS_STDIN = 1, EXEC_HAS_TERMINAL = 2 };
#define EXEC_START_BYTES 6

struct exec_header {
	uint8_t type, reserved[3];
	uint32_t len;
};

#endif
