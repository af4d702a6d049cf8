/* The guest kernel's virtual memory, read through its own page tables. Any thread. */
#ifndef STASIS_INSPECT_SPACE_H
#define STASIS_INSPECT_SPACE_H

#include "arch/arch.h"

#define SPACE_PAGE 4096u /* the smallest page, and how RAM is aligned */

/* Plain data; what it points to outlives it. */
struct space {
	const struct guest_reader *mem;
	struct arch_paging paging;
};

/* Copies up to len bytes and returns how many there are before something unmapped or outside of
 * RAM. 0: nothing at gva. */
size_t space_read_some(const struct space *s, uint64_t gva, void *dst, size_t len);
/* All or -EFAULT; dst may be partly written then. */
int space_read(const struct space *s, uint64_t gva, void *dst, size_t len) MUST_CHECK;
/* Where gva is. -EFAULT. */
int space_translate(const struct space *s, uint64_t gva, uint64_t *ret_gpa) MUST_CHECK;
/* A NUL-terminated text of at most len - 1 bytes, cut there; no control characters. -EFAULT;
 * -EINVAL: len is 0. */
int space_read_text(const struct space *s, uint64_t gva, char *buf, size_t len) MUST_CHECK;

/* A little-endian integer of 1, 2, 4 or 8 bytes. */
static inline MUST_CHECK int space_read_uint(const struct space *s, uint64_t gva, unsigned bytes,
					     uint64_t *ret_value)
{
	uint64_t v = 0;
	int rc = space_read(s, gva, &v, bytes);

	if (rc == 0)
		*ret_value = v;
	return rc;
}

/* The same where 0 stands for what can't be read, too: pointers, above all. */
static inline uint64_t space_uint_or_0(const struct space *s, uint64_t gva, unsigned bytes)
{
	uint64_t v;

	return space_read_uint(s, gva, bytes, &v) ? 0 : v;
}

#endif
