/* The other end of the control socket, for stasis's own commands: blocking, with a time limit. What
 * the server says is bounded and checked as any input is. Calling thread. */
#ifndef STASIS_VM_QMP_CLIENT_H
#define STASIS_VM_QMP_CLIENT_H

#include <jansson.h>
#include <stdint.h>

#include "base/error.h"
#include "vm/qmp/split.h"

#define QMP_ANSWER_MAX (64u << 20) /* a dump of a thousand vCPUs, stacks and all, is a tenth */

struct qmp_client {
	int fd; /* owned; -1: none */
	uint64_t limit_ns;
	struct qmp_split split;
	size_t in_at, in_len;
	char in[4096];
};

/* Connects and negotiates. limit_ns is for this and for each command. -ENOENT and -ECONNREFUSED
 * without a message: nobody is there. */
int qmp_client_open(const char *path, uint64_t limit_ns, struct qmp_client *ret_client,
		    struct error *err) MUST_CHECK;
/* Executes a command; takes arguments, which may be NULL. *ret_return (or NULL) is the caller's.
 * What the machine refuses is a usage error in its own words; events on the way are passed over. */
int qmp_client_execute(struct qmp_client *c, const char *command, json_t *arguments,
		       json_t **ret_return, struct error *err) MUST_CHECK;
void qmp_client_close(struct qmp_client *c); /* accepts a zeroed one with a descriptor of -1 */

#endif
