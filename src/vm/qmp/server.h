/* The control socket's server on the loop: listens, and keeps a conversation with each client.
 * Never blocks; what a client can make it keep is bounded. Control thread. */
#ifndef STASIS_VM_QMP_SERVER_H
#define STASIS_VM_QMP_SERVER_H

#include "loop/loop.h"
#include "vm/qmp/ops.h"

#define QMP_CLIENTS 16 /* at once; more are turned away */
/* Above this much unsent, a client's commands wait until it has read; above the second (of events:
 * the one answer that may be among it is as long as it is), and after this time without a byte
 * read, it is dropped. */
#define QMP_UNSENT_PAUSE (64u << 10)
#define QMP_UNSENT_MAX	 (1u << 20)
#define QMP_STALL_NS	 30000000000u

struct qmp_server; /* opaque */

struct qmp_server_config {
	const struct qmp_ops *ops; /* outlives the server */
	void *arg;
	uint64_t stall_ns; /* 0: QMP_STALL_NS */
};

int qmp_server_new(struct loop *loop, const struct qmp_server_config *config,
		   struct qmp_server **ret_server, struct error *err) MUST_CHECK;
/* Accepts clients on a listening socket, which stays the caller's and outlives the server. */
#define QMP_LISTENERS 2
int qmp_server_listen(struct qmp_server *s, int fd, struct error *err) MUST_CHECK;
/* An event for every client that has negotiated. Takes data, which may be NULL; s may be NULL. */
void qmp_server_event(struct qmp_server *s, const char *name, json_t *data);
unsigned qmp_server_clients(const struct qmp_server *s);
/* Takes no more commands, turns the loop until what is unsent has been sent, for at most limit_ns,
 * and frees. Answers to come are forgotten. Accepts NULL. Not from inside a callback. */
void qmp_server_free(struct qmp_server *s, uint64_t limit_ns);

#endif
