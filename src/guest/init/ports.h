/* Finds virtio-console ports by name and opens them. One thread: init's. */
#ifndef STASIS_GUEST_INIT_PORTS_H
#define STASIS_GUEST_INIT_PORTS_H

#include <stdint.h>

#include "base/compiler.h"

struct ports {
	int uevents; /* netlink, -1 where the kernel has none */
};

/* From here on no news is missed: before modules are loaded. */
void ports_init(struct ports *p);
void ports_done(struct ports *p);
/* Opens the port called name, non-blocking, when it is there, and waits for the host to open its
 * side. -ENOENT: it didn't come before deadline_ns (CLOCK_MONOTONIC). */
int ports_open(struct ports *p, const char *name, uint64_t deadline_ns, int *ret_fd) MUST_CHECK;
/* Waits until path can be opened read-write, as a terminal that doesn't become ours. */
int ports_open_tty(struct ports *p, const char *path, uint64_t deadline_ns, int *ret_fd) MUST_CHECK;

#endif
