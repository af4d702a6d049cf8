/* The memory of a snapshot as files, one over another: what a differential one has, over what its
 * base has, down to one that has all. Control thread, but for what unpacks.
 *
 *   layer[0]          the snapshot itself     ░░░░  ░░      ░░░  ░░░░░░
 *   layer[1]          its base                   ░░░░░░  ░
 *   layer[count - 1]  has all of RAM          ░░░░░░░░░░░░░░░░░░░░░░░░░
 */
#ifndef STASIS_FREEZE_SNAPSHOT_LAYERS_H
#define STASIS_FREEZE_SNAPSHOT_LAYERS_H

#include "freeze/snapshot_folder.h"
#include "freeze/snapshot_table.h"
#include "guest/memory.h"

#define SNAPSHOT_LAYERS_MAX 32

struct snapshot_layer {
	char *path;		      /* of the folder; owned */
	char id[SNAPSHOT_ID_LEN + 1]; /* empty: one of before there were any */
	int fd;			      /* of its memory; owned; -1: none */
	struct memory_table table;    /* owned */
};

struct snapshot_layers {
	struct snapshot_layer layer[SNAPSHOT_LAYERS_MAX];
	unsigned count;
};

void snapshot_layers_done(struct snapshot_layers *l); /* accepts a zeroed one */

/* Puts all of it under the guest: raw files are mapped, copy-on-write; runs are copied where the
 * host has no room for so many mappings; frames are unpacked, by some threads, which have ended
 * when it returns. Before KVM gets the memory, which has nothing in it. Usage errors, which begin
 * with a path, where a file doesn't fit it or a frame is damaged. */
int snapshot_layers_lay(const struct snapshot_layers *l, struct guest_memory *mem,
			struct error *err) MUST_CHECK;

/* ---- page by page --------------------------------------------------------------------------- */

struct layers_reader; /* opaque; l outlives it */

/* -ENOMEM. */
int layers_reader_new(const struct snapshot_layers *l, struct layers_reader **ret_r) MUST_CHECK;
void layers_reader_free(struct layers_reader *r); /* accepts NULL */
/* What the snapshot has at gpa: a page of MEMORY_PAGE bytes, until the next call. Quick where gpa
 * ascends. Negative errno where a file can't be read, or has no such page. */
int layers_reader_page(struct layers_reader *r, uint64_t gpa, const uint8_t **ret_page) MUST_CHECK;

#endif
