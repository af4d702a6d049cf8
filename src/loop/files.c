/* Files that the ring holds, so that it need not look them up and count them for each operation.
 * Control thread. */
#include "loop/ring.h"

int loop_file_register(struct loop *loop, int fd)
{
	unsigned slot;

	loop_assert_thread(loop);
	/* The table comes with the first; a kernel before 5.19 has none that is empty. */
	if (!loop->files_tried) {
		loop->files_tried = true;
		if (io_uring_register_files_sparse(&loop->ring, LOOP_FILES) < 0)
			loop->files_used = UINT64_MAX;
	}
	if (fd < 0 || loop->files_used == UINT64_MAX)
		return fd;
	slot = (unsigned)__builtin_ctzll(~loop->files_used);
	if (io_uring_register_files_update(&loop->ring, slot, &fd, 1) != 1)
		return fd;
	loop->files_used |= 1ull << slot;
	return LOOP_FILE_FIRST - (int)slot;
}

void loop_file_forget(struct loop *loop, int handle)
{
	unsigned slot = (unsigned)(LOOP_FILE_FIRST - handle);
	int none = -1;

	loop_assert_thread(loop);
	if (handle > LOOP_FILE_FIRST)
		return;
	assert(slot < LOOP_FILES && (loop->files_used >> slot & 1));
	/* Where it fails, the ring keeps the file, and the slot with it. */
	if (io_uring_register_files_update(&loop->ring, slot, &none, 1) == 1)
		loop->files_used &= ~(1ull << slot);
}
