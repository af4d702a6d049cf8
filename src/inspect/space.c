/* Reads by kernel virtual address: one page walk for each page touched. Any thread. */
#include "inspect/space.h"

#include <errno.h>

#include "base/text.h"

size_t space_read_some(const struct space *s, uint64_t gva, void *dst, size_t len)
{
	size_t done = 0;

	while (done < len) {
		uint64_t gpa, left;

		/* The last byte of the address space has no neighbour. */
		if (gva + done < gva || arch_walk(&s->paging, s->mem, gva + done, &gpa, &left))
			break;
		left = MIN(left, len - done);
		if (guest_reader_read(s->mem, gpa, (char *)dst + done, left)) {
			/* A huge page may reach out of RAM: take it by small ones. */
			left = MIN(left, SPACE_PAGE - gpa % SPACE_PAGE);
			if (guest_reader_read(s->mem, gpa, (char *)dst + done, left))
				break;
		}
		done += left;
	}
	return done;
}

int space_read(const struct space *s, uint64_t gva, void *dst, size_t len)
{
	return space_read_some(s, gva, dst, len) == len ? 0 : -EFAULT;
}

int space_translate(const struct space *s, uint64_t gva, uint64_t *ret_gpa)
{
	uint64_t left;

	return arch_walk(&s->paging, s->mem, gva, ret_gpa, &left);
}

int space_read_text(const struct space *s, uint64_t gva, char *buf, size_t len)
{
	size_t got;

	if (!len)
		return -EINVAL;
	got = space_read_some(s, gva, buf, len - 1);
	if (!got && len > 1)
		return -EFAULT;
	buf[got] = '\0';
	text_one_line(buf);
	return 0;
}
