/* The folder of a snapshot: whole or absent, whatever ends the writer. Control thread.
 *
 *   DIR/snapshot.json  what it is, for people and for restore (vm/snapshot.c)
 *   DIR/state          vCPUs, VM, devices (freeze/snapshot_state.h)
 *   DIR/memory         guest RAM, raw and sparse: offset n is guest physical address n, so that a
 *                      restore maps it; or what its table says (freeze/snapshot_table.h); behind
 *                      its end, the id (32 hexadecimal digits; behind frames, in one to be skipped)
 *
 * The state has a checksum of the description, and the description has the id that the memory ends
 * with: three files that were not saved together are refused.
 *
 * Written as DIR.stasis-tmp beside it, locked by its writer, synced, and exchanged with what stood
 * at DIR. What a writer that was killed has left there, the next one removes. */
#ifndef STASIS_FREEZE_SNAPSHOT_FOLDER_H
#define STASIS_FREEZE_SNAPSHOT_FOLDER_H

#include <stdbool.h>

#include "base/error.h"
#include "base/util.h"

#define SNAPSHOT_DESCRIPTION "snapshot.json"
#define SNAPSHOT_STATE	     "state"
#define SNAPSHOT_MEMORY	     "memory"

#define SNAPSHOT_ID_LEN		 32
#define SNAPSHOT_DESCRIPTION_MAX MIB(4)

struct snapshot_folder {
	char *path; /* as asked, without slashes at its end */
	char *tmp;  /* where it is written */
	int fd;	    /* of tmp, locked; -1: not open */
};

/* Begins. What stands at path has to be a snapshot, an empty folder, or nothing; no snapshot where
 * the file system can't exchange two folders (NFS). Contention where another writer is at it. */
int snapshot_folder_open(struct snapshot_folder *f, const char *path, struct error *err) MUST_CHECK;
/* Another at each call. */
void snapshot_new_id(char ret_id[SNAPSHOT_ID_LEN + 1]);
/* A file of it, whole and synced. */
int snapshot_folder_write(struct snapshot_folder *f, const char *name, const void *data, size_t len,
			  struct error *err) MUST_CHECK;
/* Behind the end of one that is there already, and synced. */
int snapshot_folder_append(struct snapshot_folder *f, const char *name, const void *data,
			   size_t len, struct error *err) MUST_CHECK;
/* The end: the folder is there, in place of what stood there before. On failure as abort. */
int snapshot_folder_commit(struct snapshot_folder *f, struct error *err) MUST_CHECK;
/* Nothing is left of it. Accepts a zeroed one with fd -1, and one that was committed. */
void snapshot_folder_abort(struct snapshot_folder *f);

/* ---- reading -------------------------------------------------------------------------------- */

/* Of the one folder that was at the path: another that takes its place meanwhile changes nothing.
 */
struct snapshot_files {
	int description, state, memory; /* -1: not open */
};

/* All three; they are files, whatever somebody has put there. Usage errors that name one. */
int snapshot_files_open(const char *path, struct snapshot_files *ret_files,
			struct error *err) MUST_CHECK;
/* The description alone, as snapshot_file_read. */
int snapshot_description_read(const char *path, char **ret_text, size_t *ret_len,
			      struct error *err) MUST_CHECK;
void snapshot_files_close(struct snapshot_files *files); /* accepts what is not open */
/* The whole of one, with a NUL behind it; a usage error that begins with its name where it has more
 * than max bytes. */
int snapshot_file_read(int fd, const char *name, size_t max, char **ret_data, size_t *ret_len,
		       struct error *err) MUST_CHECK;

#endif
