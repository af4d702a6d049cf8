/* What a program expects of a running Linux: file systems, a host name, lo, limits. One thread:
 * init's. */
#ifndef STASIS_GUEST_INIT_SETUP_H
#define STASIS_GUEST_INIT_SETUP_H

#include <stdbool.h>

/* Mounts what the kernel has of the usual file systems. Failures are logged, those of optional
 * ones not even that. */
void setup_mounts(void);
/* Host name, loopback, limits, descriptors 0 to 2. After setup_mounts. */
void setup_system(void);
/* Whether target is one of setup_mounts'. */
bool setup_is_mount(const char *target);

#endif
