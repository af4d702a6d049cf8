/* The folder of a snapshot: whole or absent, whatever ends the writer. Control thread.
 *
 *   DIR/snapshot.json  what it is, for people and for restore (vm/snapshot.c)
 *   DIR/state          vCPUs, VM, devices (freeze/snapshot_state.h)
 *   DIR/memory         guest RAM, raw and sparse: offset n is guest physical address n, so that a
 *                      restore maps it
 *
 * Written as DIR.stasis-tmp beside it, locked by its writer, synced, and exchanged with what stood
 * at DIR. What a writer that was killed has left there, the next one removes. */
#ifndef STASIS_FREEZE_SNAPSHOT_FOLDER_H
#define STASIS_FREEZE_SNAPSHOT_FOLDER_H

#include <stdbool.h>

#include "base/error.h"

#define SNAPSHOT_DESCRIPTION "snapshot.json"
#define SNAPSHOT_STATE	     "state"
#define SNAPSHOT_MEMORY	     "memory"

struct snapshot_folder {
	char *path; /* as asked, without slashes at its end */
	char *tmp;  /* where it is written */
	int fd;	    /* of tmp, locked; -1: not open */
};

/* Begins. What stands at path has to be a snapshot, an empty folder, or nothing.
 * Contention where another writer is at it. */
int snapshot_folder_open(struct snapshot_folder *f, const char *path, struct error *err) MUST_CHECK;
/* A file of it, whole and synced. */
int snapshot_folder_write(struct snapshot_folder *f, const char *name, const void *data, size_t len,
			  struct error *err) MUST_CHECK;
/* The end: the folder is there, in place of what stood there before. On failure as abort. */
int snapshot_folder_commit(struct snapshot_folder *f, struct error *err) MUST_CHECK;
/* Nothing is left of it. Accepts a zeroed one with fd -1, and one that was committed. */
void snapshot_folder_abort(struct snapshot_folder *f);

#endif
