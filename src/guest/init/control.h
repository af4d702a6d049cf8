/* Init's end of the control port: lines out, lines in (guest/session_protocol.h). One thread:
 * init's. */
#ifndef STASIS_GUEST_INIT_CONTROL_H
#define STASIS_GUEST_INIT_CONTROL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "guest/session_protocol.h"

#define CONTROL_OUT_BYTES (8 * SESSION_LINE_MAX)

struct control {
	int fd;	   /* non-blocking; borrowed */
	bool gone; /* the host has closed it: nothing is sent or heard any more */
	char out[CONTROL_OUT_BYTES];
	size_t out_len;
	char line[SESSION_LINE_MAX + 1];
	size_t line_len;
	bool overlong; /* the current line is being dropped */
};

void control_init(struct control *c, int fd);
/* Queues a line (fmt without a newline; cut at SESSION_LINE_MAX, other lines' ends become '?')
 * and sends what can be sent. A host that takes no lines loses the newest. */
void control_send(struct control *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Sends what can be sent. */
void control_flush(struct control *c);
/* Reads what there is; calls heard() per line, without its newline, which it may change. */
void control_read(struct control *c, void (*heard)(void *arg, char *line), void *arg);
/* Waits at most timeout_ms until all is sent. */
void control_sync(struct control *c, int timeout_ms);

#endif
