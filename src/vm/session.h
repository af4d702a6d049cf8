/* The conversation with the guest's init over the control port: guest/session_protocol.h, the
 * host's side. Knows lines, not devices. Control thread. */
#ifndef STASIS_VM_SESSION_H
#define STASIS_VM_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/state_io.h"
#include "guest/session_protocol.h"

enum session_state {
	SESSION_WAITING, /* nothing heard yet */
	SESSION_HELLO,	 /* init is up */
	SESSION_STARTED, /* COMMAND runs */
	SESSION_ENDED,	 /* its status is known */
	SESSION_DONE,	 /* its output has been sent, file systems are synced */
};

struct session {
	/* After each change of state. */
	void (*changed)(struct session *s);
	/* Sends a line to the guest; len bytes with the newline. */
	void (*send)(struct session *s, const char *line, size_t len);
	void *arg;

	enum session_state state;
	bool signalled; /* status is a signal */
	bool failed;	/* COMMAND could not be started; text says why */
	int status;
	char text[SESSION_LINE_MAX];
	char line[SESSION_LINE_MAX]; /* what came of the current line */
	size_t line_len;
	bool overlong; /* the current line is being dropped */
};

void session_init(struct session *s);
/* Bytes from the control port: hostile. */
void session_input(struct session *s, const uint8_t *data, size_t len);
/* Saves or restores what was said so far; changed() does not run. A restore that is refused changes
 * nothing. */
void session_state(struct session *s, struct state_io *io);
void session_send_go(struct session *s);
void session_send_signal(struct session *s, int signo);
void session_send_closed(struct session *s, const char *stream); /* "stdout", "stderr" */
void session_send_size(struct session *s, unsigned rows, unsigned cols);
void session_send_bye(struct session *s);

#endif
