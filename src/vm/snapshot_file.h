/* The description of a snapshot, snapshot.json: what a machine was, for people and for restore.
 * Plain data; any thread.
 *
 * What is read is hostile, but no more so than options that a person types: it goes through the
 * same checks. */
#ifndef STASIS_VM_SNAPSHOT_FILE_H
#define STASIS_VM_SNAPSHOT_FILE_H

#include "arch/arch.h"
#include "vm/config.h"

/* What it is of a snapshot. */
struct snapshot_kind {
	const char *id;	     /* what its memory ends with */
	const char *base;    /* the folder that it differs from, from its own on or from the root;
			      * NULL: it has all */
	const char *base_id; /* … whose memory ends with that */
	bool lz4;
};

/* Its text, with a newline at its end. The caller frees it. NULL when out of memory. vm: what
 * features its CPUs have. disk: each of c's, as it is now. */
char *snapshot_describe(const struct vm_config *c, const struct arch_vm *vm,
			const struct guest_memory *mem, struct virtio_blk *const *disk,
			const struct snapshot_kind *kind);
/* The description of a snapshot's folder as it is, for who only looks: not checked. NULL: there is
 * none, or it is no JSON. The caller gives it up. */
json_t *snapshot_description_load(const char *path);
/* Fills in what a restored machine has of its first life: shape, session, COMMAND, kernel, CPUs'
 * vendor, disks, networks, the id, its base. c is zeroed in these. Usage errors that name the
 * field. */
int snapshot_read_description(const char *text, size_t len, struct vm_config *c,
			      struct error *err) MUST_CHECK;

#endif
