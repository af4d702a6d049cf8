/* The agent behind stasis exec: a child of init's that listens on a vsock port, and a child of its
 * own for each command. */
#ifndef STASIS_GUEST_INIT_EXEC_H
#define STASIS_GUEST_INIT_EXEC_H

#include "base/compiler.h"

/* Starts it; commands get this environment. Where the kernel has no vsock there is none, and the
 * kernel's log says so. Init reaps it. */
void exec_start(const char *const *envp);

/* One command over a connection, until it is over: for exec_start and the tests. fd is taken. */
void exec_serve(int fd, const char *const *envp);

#endif
