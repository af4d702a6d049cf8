/* The process that owns a lab: QEMU, the way to the agent, and the clients. */
#ifndef STASIS_VM_LAB_KEEPER_H
#define STASIS_VM_LAB_KEEPER_H

#include "vm/lab/lab.h"

struct lab_keeper_config {
	const struct lab_machine *machine;
	int listen_fd; /* for clients to come, or -1 */
	int client_fd; /* a private lab's first client, whose end is the lab's; or -1 */
};

/* Runs until it is told to stop, its only client is gone, or QEMU ends. Takes the descriptors. The
 * calling process does nothing else; returns its exit status. */
int lab_keeper(const struct lab_keeper_config *config);

#endif
