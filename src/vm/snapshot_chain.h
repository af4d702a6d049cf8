/* A snapshot's folder, and those that it differs from. Control thread. What is read is hostile. */
#ifndef STASIS_VM_SNAPSHOT_CHAIN_H
#define STASIS_VM_SNAPSHOT_CHAIN_H

#include "freeze/snapshot_layers.h"
#include "freeze/snapshot_state.h"
#include "vm/config.h"

/* The state of one. */
struct snapshot_top {
	uint8_t *data; /* of the file "state"; owned */
	size_t len;
	struct snapshot_state state; /* of its sections, but the memory's table is taken */
};
void snapshot_top_done(struct snapshot_top *top); /* accepts a zeroed one */

/* Reads the folder and all that are below it, and checks what can be checked without a machine:
 * each is whole, and each base is the one that was meant. Fills in c, as snapshot_read_description,
 * and ret_top with what the first has. Usage errors; those of a base name it. On failure, ret_top
 * and ret_layers are to be done, too. */
int snapshot_chain_open(const char *path, struct vm_config *c, struct snapshot_top *ret_top,
			struct snapshot_layers *ret_layers, struct error *err) MUST_CHECK;

#endif
