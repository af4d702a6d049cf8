/* The way of a control socket's client into the lab: client.c and forward.c share this. */
#ifndef STASIS_VM_LAB_FORWARD_H
#define STASIS_VM_LAB_FORWARD_H

#include "vm/lab/lab.h"

/* Accepts one client of that socket of the VM's folder on listen_fd and gives it a process of its
 * own, with a session in the lab that ends with the client, with the VM, or with the lab. What
 * fails is the client's loss alone. */
void lab_forward(const struct lab_request *run, bool private_lab, const char *socket,
		 int listen_fd);

/* A connection to the keeper of that architecture's warm lab, or a negative errno. */
int lab_connect_warm(const struct arch_kind *kind, struct error *err) MUST_CHECK;
/* Runs a request by a connection to a keeper, which it takes, with our standard streams. */
int lab_session(int fd, const struct lab_request *request, int *ret_status,
		struct error *err) MUST_CHECK;

#endif
