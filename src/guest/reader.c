/* A reader over a guest's own memory. Any thread. */
#include "guest/reader.h"

static int memory_read(const void *arg, uint64_t gpa, void *dst, uint64_t len)
{
	return guest_read(arg, gpa, dst, len);
}

void guest_reader_init(struct guest_reader *r, const struct guest_memory *mem)
{
	*r = (struct guest_reader){.read = memory_read, .arg = mem};
	for (unsigned i = 0; i < mem->count; i++)
		r->layout.range[i] = mem->region[i].range;
	r->layout.count = mem->count;
}
