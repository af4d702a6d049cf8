/* What the file "memory" of a snapshot has, where that is not all of RAM as it lies: the runs of
 * pages that changed since another snapshot, or frames of LZ4, or both. Plain data; any thread.
 * What is read is hostile.
 *
 * It is a section of the file "state":
 *
 *   partial 1 | lz4 1 | runs 4 | { gpa 8 | bytes 8 | with lz4: bytes in the file 4 }…
 *
 * Runs ascend and don't overlap. Without lz4, a run lies in the file at its own guest physical
 * address. With it, the file is the frames of the runs, one behind another without gaps; each can
 * be unpacked by itself, and RAM that is in no run is zeros or, of a partial one, as it was. */
#ifndef STASIS_FREEZE_SNAPSHOT_TABLE_H
#define STASIS_FREEZE_SNAPSHOT_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/state_io.h"
#include "base/util.h"

#define MEMORY_PAGE	 KIB(4) /* addresses and lengths of runs are multiples of it */
#define MEMORY_FRAME_MAX MIB(1) /* most bytes of RAM in one frame */

struct memory_run {
	uint64_t gpa, len; /* bytes of RAM */
	uint64_t at;	   /* in the file */
	uint32_t stored;   /* bytes in the file; 0: as many as in RAM */
};

/* Zeroed: all of RAM, raw. */
struct memory_table {
	bool partial; /* the rest is in another snapshot */
	bool lz4;
	struct memory_run *run; /* owned; none where it is neither */
	size_t count, room;
};

/* Behind what there is. stored: 0 if not lz4. Touching raw runs become one. -ENOMEM. */
int memory_table_add(struct memory_table *t, uint64_t gpa, uint64_t len,
		     uint32_t stored) MUST_CHECK;
/* Where the next frame goes: the bytes of all frames. */
uint64_t memory_table_end(const struct memory_table *t);
/* The run that gpa is in, or NULL. */
const struct memory_run *memory_table_find(const struct memory_table *t, uint64_t gpa);
/* Saves or restores. Restoring into a zeroed one. */
void memory_table_state(struct memory_table *t, struct state_io *io);
void memory_table_done(struct memory_table *t); /* accepts a zeroed one */

#endif
