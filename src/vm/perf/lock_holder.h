/* Which process holds a flock, for a message to people. Any thread. */
#ifndef STASIS_VM_PERF_LOCK_HOLDER_H
#define STASIS_VM_PERF_LOCK_HOLDER_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/compiler.h"

/* The first holder of the file that st is of, as "NAME (pid N, user N)", with what its
 * /proc/PID/status shows us of it. False where none is known: /proc/locks (proc(5)) has only those
 * of our PID namespace, by the device of the file system, which st_dev isn't on all of them. */
bool lock_holder(const struct stat *st, char *buf, size_t len);

#endif
