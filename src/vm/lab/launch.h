/* Finding a keeper, and starting one. */
#ifndef STASIS_VM_LAB_LAUNCH_H
#define STASIS_VM_LAB_LAUNCH_H

#include <sys/types.h>

#include "vm/lab/lab.h"

/* The keeper that serves the runtime directory: a connected socket, or -ENOENT without a message
 * where none listens. */
int launch_find(int *ret_fd, struct error *err) MUST_CHECK;

struct launch {
	int fd;	   /* to the keeper, which begins with HELLO */
	pid_t pid; /* of it, our child */
};

/* Starts one that serves only us, and dies with us. */
int launch_own(const struct lab_machine *machine, struct launch *ret, struct error *err) MUST_CHECK;
/* Starts one that stays. -EALREADY without a message where one is there. */
int launch_shared(const struct lab_machine *machine, struct launch *ret,
		  struct error *err) MUST_CHECK;
/* Closes the connection and waits for a keeper that serves only us to end; its emulator ends before
 * it does. */
void launch_end(struct launch *l);
/* Waits until no keeper has the runtime directory; past limit_ms it ends the one that does. */
int launch_wait_gone(unsigned limit_ms, struct error *err) MUST_CHECK;

#endif
