/* passt: user-mode networking by a program of its own, on one end of a socket pair. Control thread.
 * It ends when its socket does, so that it outlives no run, however that ends. */
#ifndef STASIS_VM_PASST_H
#define STASIS_VM_PASST_H

#include <sys/types.h>

#include "loop/loop.h"

/* The guest's network, always the same: QEMU's user mode has it too. */
#define PASST_ADDRESS "10.0.2.15"
#define PASST_PREFIX  24
#define PASST_GATEWAY "10.0.2.2" /* … and the host itself */
#define PASST_DNS     "10.0.2.3" /* forwarded to the host's resolver */
#define PASST_MTU     65520

struct passt {
	pid_t pid; /* 0: none */
	int pid_fd;
	int words_fd; /* what it writes to standard error; a memfd */
	struct loop *loop;
	struct loop_op ended;
};

/* Whether it is installed; else contention, with the command that installs it. */
int passt_check(struct error *err) MUST_CHECK;
/* Starts it; *ret_fd is our end of its socket. loop may be NULL: nobody is told when it ends.
 * ret_passt lives until passt_stop. */
int passt_start(struct loop *loop, struct passt *ret_passt, int *ret_fd,
		struct error *err) MUST_CHECK;
/* Ends it and waits for that; our end of the socket may be closed or not. Accepts a zeroed one. */
void passt_stop(struct passt *p);

#endif
