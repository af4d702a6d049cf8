/* The process that owns a lab: boots it, serves clients with sessions in it, takes it down. */
#ifndef STASIS_VM_LAB_KEEPER_H
#define STASIS_VM_LAB_KEEPER_H

#include "vm/lab/message.h"
#include "vm/lab/qemu.h"

#define KEEPER_SOCKET "lab.sock"
#define KEEPER_LOCK   "lab.lock" /* held by whoever has the socket; the keeper removes both */

struct keeper_config {
	struct qemu_config machine;
	uint8_t program[MESSAGE_HASH]; /* of the stasis that is in it */
	/* The client that started us: until the lab is up it is why we are, and if there is no
	 * listen_fd, afterwards as well. Taken. */
	int client_fd;
	int listen_fd; /* bound to KEEPER_SOCKET in dir_fd; -1: no other clients. Taken */
	int dir_fd;    /* taken */
	/* Starts the machine: qemu_start, or a test's stand-in. */
	int (*start)(const struct qemu_config *config, struct qemu *ret_qemu, struct error *err);
};

/* Until the lab is no longer needed. Clients hear of failures; the exit status says it too. The
 * process has one thread and no children. */
int keeper_run(const struct keeper_config *config);

#endif
