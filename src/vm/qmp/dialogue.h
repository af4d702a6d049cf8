/* One client's conversation in QMP (QEMU's docs/interop/qmp-spec): bytes in, bytes out. Knows no
 * socket. Input is hostile. Control thread. */
#ifndef STASIS_VM_QMP_DIALOGUE_H
#define STASIS_VM_QMP_DIALOGUE_H

#include <stdint.h>

#include "vm/qmp/ops.h"
#include "vm/qmp/split.h"

#define QMP_COMMAND_MAX (64u << 10) /* bytes of one command */

struct qmp_pending;

struct qmp_dialogue {
	const struct qmp_ops *ops;
	void *arg;
	/* Takes all of it. */
	void (*send)(struct qmp_dialogue *d, const char *text, size_t len);
	/* The answer that was waited for has been sent: input may go on. Never inside
	 * qmp_dialogue_input. */
	void (*resume)(struct qmp_dialogue *d);

	struct qmp_split split;
	bool negotiated;
	bool taking;		     /* inside qmp_dialogue_input */
	struct qmp_pending *pending; /* a command whose answer is to come */
};

/* ops, arg, send and resume are set before; sends the greeting. */
void qmp_dialogue_init(struct qmp_dialogue *d);
/* Accepts a zeroed one. An answer to come is forgotten when it comes; what can end early does. */
void qmp_dialogue_done(struct qmp_dialogue *d);
/* The client hears no more: what it waits for ends, if it can. */
void qmp_dialogue_hung_up(struct qmp_dialogue *d);
/* Whether qmp_dialogue_hung_up would end anything. */
bool qmp_dialogue_can_end(const struct qmp_dialogue *d);
/* Takes bytes up to the end of the first command, and answers it, or will. Returns how many. Not
 * while qmp_dialogue_waits. */
size_t qmp_dialogue_input(struct qmp_dialogue *d, const char *data, size_t len);
static inline bool qmp_dialogue_waits(const struct qmp_dialogue *d)
{
	return d->pending;
}
/* Sends an event, if the client has come so far that it expects any. text is a whole line. */
void qmp_dialogue_event(struct qmp_dialogue *d, const char *text, size_t len);

/* The line of an event, stamped with the time; malloc'ed, NULL when out of memory. Takes data,
 * which may be NULL. */
char *qmp_event_text(const char *name, json_t *data);

#endif
