/* One connection to a keeper, and what is done over it. Owned by one thread. */
#ifndef STASIS_VM_LAB_CLIENT_H
#define STASIS_VM_LAB_CLIENT_H

#include "vm/lab/lab.h"
#include "vm/lab/message.h"

/* Reads the first frame of a fresh connection; waits a few seconds at most. */
int client_hello(int fd, struct message_hello *ret_hello, struct error *err) MUST_CHECK;

/* Waits until the lab is up and, with a request, runs it to its end. fd is taken; its HELLO has
 * been read and said ready or not. *ret_status: of the run; 0 without a request; 128 + signal
 * where one ended it before. */
int client_run(int fd, bool ready, const struct lab_request *request, int *ret_status,
	       struct error *err) MUST_CHECK;

#endif
