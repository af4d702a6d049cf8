/* stasis exec's side of a command in a running guest: our standard streams and signals, by a
 * connection to the VM's vsock. Calling thread; no VM is in this process. */
#ifndef STASIS_VM_EXEC_CLIENT_H
#define STASIS_VM_EXEC_CLIENT_H

#include <stdbool.h>

#include "base/error.h"

struct exec_request {
	const char *path;  /* of the VM's vsock */
	char *const *argv; /* COMMAND; NULL-terminated */
	bool input;	   /* standard input goes along */
	bool terminal;	   /* COMMAND gets a terminal of its own */
	uint64_t limit_ns; /* how long the guest has to answer */
};

/* *ret_status: COMMAND's own, or 128 + the signal that ended it, or 126 or 127 where it could not
 * be started, which has been said on standard error. -ENOENT and -ECONNREFUSED without a message:
 * there is no such VM. */
int exec_client_run(const struct exec_request *request, int *ret_status,
		    struct error *err) MUST_CHECK;

#endif
