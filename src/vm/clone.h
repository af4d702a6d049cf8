/* Clones of one snapshot: what each of them has for itself. Private to a process that becomes one
 * of them; control thread. */
#ifndef STASIS_VM_CLONE_H
#define STASIS_VM_CLONE_H

#include "vm/config.h"

#define VM_CLONES_MAX 1024

/* Before any is begun: whether `count` of them can be. c has a name, and the snapshot's disks.
 * Usage errors: a name that gets too long, a disk that is written to and whose file system can't
 * share blocks between files, one that changed since. Contention: a disk that a VM writes to. */
int vm_clone_check(const struct vm_config *c, unsigned count, struct error *err) MUST_CHECK;
/* Makes c the i-th one's: "-I" behind its name, the paths of its report and control socket, and the
 * names of its taps; a MAC address by its name; a copy of each disk that it writes to, which shares
 * the blocks that neither changes, and ends with the process. */
int vm_clone_settle(struct vm_config *c, unsigned i, struct error *err) MUST_CHECK;

#endif
