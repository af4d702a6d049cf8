/* stasis restore --count: clones of one snapshot, each a process of its own. */
#ifndef STASIS_CLI_CLONES_H
#define STASIS_CLI_CLONES_H

#include "vm/config.h"

/* config: of one machine, with its snapshot open and its disks checked; each clone makes its own of
 * it. Passes on what they say and the signals that it gets. Returns the worst of their statuses; in
 * a clone's own process, that clone's. */
int clones_run(struct vm_config *config, unsigned count);

#endif
