/* Guest RAM to read and to search, wherever its bytes are: a live guest's memory, or a file of it.
 * Any thread that may read what is behind it. */
#ifndef STASIS_GUEST_READER_H
#define STASIS_GUEST_READER_H

#include "guest/memory.h"

struct guest_reader {
	/* Copies [gpa, gpa + len); -EFAULT unless all of it is RAM. The bytes are the guest's. */
	int (*read)(const void *arg, uint64_t gpa, void *dst, uint64_t len);
	const void *arg;	    /* outlives the reader */
	struct guest_layout layout; /* which RAM there is, for searches */
	/* For searches of large memory, or NULL: where at or after gpa something may be;
	 * UINT64_MAX: nothing comes any more. Both 4 KiB aligned. */
	uint64_t (*next)(void *next_arg, uint64_t gpa);
	void *next_arg;
};

static inline int guest_reader_read(const struct guest_reader *r, uint64_t gpa, void *dst,
				    uint64_t len)
{
	return r->read(r->arg, gpa, dst, len);
}

/* mem outlives the reader. */
void guest_reader_init(struct guest_reader *r, const struct guest_memory *mem);

#endif
