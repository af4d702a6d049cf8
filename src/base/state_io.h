/* State as bytes, and back. One function lists the fields for both ways, so that save and restore
 * can't diverge; what is restored comes from a file and is hostile. Knows no file. Any one thread.
 *
 *   if (state_begin(io, "serial", 1)) { state_u8(io, "ier", &ier); … }
 *   state_end(io);
 *
 * Versions. A section's fields are only ever appended, and its version is one more then; a whole
 * section is appended to the others in the same way, and the version of the whole is one more. A
 * reader knows all versions from 1 on, and gives what an older one lacks the value that the
 * function's comment says:
 *
 *   version = state_begin(io, "serial", 2); … if (version >= 2) state_u8(io, "new", &new);
 *   if (state_since(io, 2)) { state_begin(io, "later", 1); … }
 *
 *   section   name 16, padded with zeros | version 2 | zero 2 | length 4 | length bytes
 *             little-endian, back to back; fields without padding, in the order of their calls */
#ifndef STASIS_BASE_STATE_IO_H
#define STASIS_BASE_STATE_IO_H

#include <stdbool.h>

#include "base/error.h"

#define STATE_NAME_BYTES 16 /* of a section's name; a NUL only if it is shorter */
#define STATE_HEAD_BYTES 24

struct state_io {
	bool restoring;
	unsigned version; /* restoring: of the whole, by who has the bytes; 1 if nobody says */
	uint8_t *bytes;	  /* saving: owned */
	size_t len, cap;
	const uint8_t *from; /* restoring: borrowed */
	size_t at, section_end;
	size_t section_at;   /* saving: of the head of the open section */
	const char *section; /* NULL: none is open */
	const char *where;   /* restoring: what refusals begin with, and ": "; NULL: nothing */
	struct error err;    /* the first failure; the fields' functions do nothing after it */
};

void state_save(struct state_io *io);
/* data outlives io. */
void state_restore(struct state_io *io, const void *data, size_t len);
/* 0, or a negative errno: what was refused, by section and field; bytes that were left over are
 * refused too. Saving: bytes[0 .. len) is the state. */
int state_result(struct state_io *io, struct error *err) MUST_CHECK;
void state_free(struct state_io *io); /* accepts a zeroed one */

/* The version that is to be read: version when saving, what the file has (1 to version) when
 * restoring; 0 if that can't be: the fields are left out, and state_end is called all the same.
 * Sections don't nest. */
unsigned state_begin(struct state_io *io, const char *name, uint16_t version);
/* Refuses a section that is longer than its fields. */
void state_end(struct state_io *io);

/* Whether the whole has what came with that version of it: always, when saving. */
static inline bool state_since(const struct state_io *io, unsigned version)
{
	return !io->restoring || io->version >= version;
}

/* Each puts *v, or gets it; a refusal leaves *v as it was. */
void state_u8(struct state_io *io, const char *field, uint8_t *v);
void state_u16(struct state_io *io, const char *field, uint16_t *v);
void state_u32(struct state_io *io, const char *field, uint32_t *v);
void state_u64(struct state_io *io, const char *field, uint64_t *v);
void state_bool(struct state_io *io, const char *field, bool *v); /* 0 or 1, nothing else */
void state_bytes(struct state_io *io, const char *field, void *data, size_t len);

/* Whether nothing has failed and this is a restore: now *v may be judged, and be taken over. */
static inline bool state_restoring(const struct state_io *io)
{
	return io->restoring && !io->err.code;
}

/* Restoring: refuses unless ok. Saving: ok is what the owner keeps true. */
void state_check(struct state_io *io, const char *field, bool ok);
/* It can't be restored here, or be saved: a usage error, "where: section.field: why". */
void state_refuse(struct state_io *io, const char *field, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* The host fails at what the state is for; code as error_set. */
void state_fail(struct state_io *io, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
