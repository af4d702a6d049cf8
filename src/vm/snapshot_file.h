/* The description of a snapshot, snapshot.json: what a machine was, for people and for restore.
 * Plain data; any thread.
 *
 * What is read is hostile, but no more so than options that a person types: it goes through the
 * same checks. */
#ifndef STASIS_VM_SNAPSHOT_FILE_H
#define STASIS_VM_SNAPSHOT_FILE_H

#include "arch/arch.h"
#include "vm/config.h"

/* Its text, with a newline at its end. The caller frees it. NULL when out of memory. vm: what
 * features its CPUs have. disk: each of c's, as it is now. id: what its memory ends with. */
char *snapshot_describe(const struct vm_config *c, const struct arch_vm *vm,
			const struct guest_memory *mem, struct virtio_blk *const *disk,
			const char *id);
/* Fills in what a restored machine has of its first life: shape, session, COMMAND, kernel, CPUs'
 * vendor, disks, networks, the id. c is zeroed in these. Usage errors that name the field. */
int snapshot_read_description(const char *text, size_t len, struct vm_config *c,
			      struct error *err) MUST_CHECK;

#endif
