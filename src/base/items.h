/* Named, versioned items one after another in a byte buffer: what a section of a snapshot holds.
 * They are read in the order in which they were written, each by its name, and none is left over.
 * Any thread, one at a time.
 *
 *   u8 length of the name | name | u16 version | u32 length | bytes        (little-endian)
 */
#ifndef STASIS_BASE_ITEMS_H
#define STASIS_BASE_ITEMS_H

#include <stddef.h>

#include "base/error.h"

#define ITEMS_NAME_MAX 31 /* bytes, without the NUL */

/* Zero-initialise. error: the first failure (-ENOMEM, -EFBIG); nothing is put after it. */
struct items_out {
	uint8_t *data; /* owned */
	size_t len, room;
	int error;
};
/* name: one of our own, not longer than ITEMS_NAME_MAX. */
void items_put(struct items_out *out, const char *name, unsigned version, const void *data,
	       size_t len);
void items_out_done(struct items_out *out); /* accepts a zeroed one */

/* Bytes that nobody vouches for. where: what errors begin with. */
struct items_in {
	const uint8_t *data;
	size_t len;
	const char *where;
};
/* The next item, which has to have this name and version. *ret_data lies in the buffer, and need
 * not be aligned. Usage errors with the name of what is missing, too much or wrong. */
int items_view(struct items_in *in, const char *name, unsigned version, const uint8_t **ret_data,
	       size_t *ret_len, struct error *err) MUST_CHECK;
/* … which has to be so long; copied. */
int items_get(struct items_in *in, const char *name, unsigned version, void *ret, size_t len,
	      struct error *err) MUST_CHECK;
/* Refuses what is left over. */
int items_end(const struct items_in *in, struct error *err) MUST_CHECK;

#endif
