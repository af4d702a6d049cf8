/* The file "state" of a snapshot: sections by name, each with its version, length and checksum.
 * Plain data; any thread. What is read is hostile.
 *
 *   0        magic "STASISNP", u32 version of the file, u32 sections, u64 bytes of the file,
 *            u64 bytes and u64 XXH3 of the description, u64 XXH3 of all this and of the table (with
 *            this field 0)
 *   56       the table, one row per section: name, NUL-padded (32), u32 version, u32 zero,
 *            u64 place, u64 length, u64 XXH3
 *   …        the sections, one after another, without gaps        (all little-endian)
 *
 * So every byte is in one checksum or in a field that has one right value. What is in a section is
 * base/state_io.h's, and so is the rule of its versions: what a section had in one version, it has
 * in all later ones, and a reader takes all that came before. The file's version is another only
 * where one that reads by this rule can't read it any more. */
#ifndef STASIS_FREEZE_SNAPSHOT_STATE_H
#define STASIS_FREEZE_SNAPSHOT_STATE_H

#include <stdbool.h>

#include "base/state_io.h"

#define SNAPSHOT_VERSION      3	   /* of those whose memory has a table (freeze/snapshot_table.h) */
#define SNAPSHOT_PLAIN	      2	   /* of all others, which older readers take */
#define SNAPSHOT_OLDEST	      2	   /* that is read: the file's, and the description's */
#define SNAPSHOT_NAME_MAX     31   /* bytes of a section's name, without the NUL */
#define SNAPSHOT_SECTIONS_MAX 2048 /* a vCPU has one, a device has one */

/* ---- making -------------------------------------------------------------------------------- */

/* Zero-initialise. err: the first failure; nothing is added after it. */
struct snapshot_writer {
	struct snapshot_part *part; /* owned */
	unsigned count, room;
	unsigned version; /* of the file; 0: SNAPSHOT_PLAIN */
	struct error err;
};
/* Takes the bytes of io, which was saved to; also on failure, its own as well. */
void snapshot_add(struct snapshot_writer *w, const char *name, unsigned version,
		  struct state_io *io);
/* The file's bytes, for the description whose bytes are given. -ENOMEM; or the writer's error. */
int snapshot_encode(const struct snapshot_writer *w, const void *description,
		    size_t description_len, uint8_t **ret_data, size_t *ret_len,
		    struct error *err) MUST_CHECK;
void snapshot_writer_done(struct snapshot_writer *w); /* accepts a zeroed one */

/* ---- reading ------------------------------------------------------------------------------- */

struct snapshot_section {
	char name[SNAPSHOT_NAME_MAX + 1];
	unsigned version;
	const uint8_t *data; /* in the file's bytes */
	size_t len;
	bool taken;
};

struct snapshot_state {
	struct snapshot_section *section; /* owned */
	unsigned count;
};

/* Checks everything that can be checked. data outlives the state. Usage errors that name the
 * section, where it is one's. */
int snapshot_decode(const uint8_t *data, size_t len, const void *description,
		    size_t description_len, struct snapshot_state *ret_state,
		    struct error *err) MUST_CHECK;
/* The section of that name, once, to be restored from, with the version that it has (state_since);
 * what it refuses begins with its name. Usage error where it is missing, or of a version above
 * the one that is known. */
int snapshot_take(struct snapshot_state *state, const char *name, unsigned version,
		  struct state_io *ret_io, struct error *err) MUST_CHECK;
bool snapshot_has(const struct snapshot_state *state, const char *name);
/* Refuses sections that nobody took. */
int snapshot_end(const struct snapshot_state *state, struct error *err) MUST_CHECK;
void snapshot_state_done(struct snapshot_state *state); /* accepts a zeroed one */

#endif
