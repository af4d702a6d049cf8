/* Bare io_uring, set up as the loop's is. One thread's. */
#include "floor_block.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/util.h"
#include "blk_driver.h"

int floor_block_init(struct floor_block *f, const char *path, bool direct, unsigned depth,
		     struct error *err)
{
	const unsigned flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
	int r;

	*f = (struct floor_block){.fd = -1, .depth = depth};
	f->buffers = aligned_alloc(BLK_BLOCK, (size_t)depth * BLK_BLOCK);
	if (!f->buffers)
		return error_set_shortage(err, -ENOMEM, "making the floor's buffers");
	memset(f->buffers, 0, (size_t)depth * BLK_BLOCK);
	f->fd = open(path, O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
	if (f->fd < 0)
		return error_set_shortage(err, -errno, "opening %s", path);
	r = io_uring_queue_init(depth, &f->ring, flags);
	if (r == -EINVAL)
		r = io_uring_queue_init(depth, &f->ring, 0);
	if (r < 0)
		return error_set_shortage(err, r, "setting up the floor's io_uring");
	f->have_ring = true;
	return 0;
}

void floor_block_done(struct floor_block *f)
{
	if (!f->buffers)
		return;
	if (f->have_ring)
		io_uring_queue_exit(&f->ring);
	fd_close(&f->fd);
	free(f->buffers);
	*f = (struct floor_block){0};
}

void floor_block_offer(struct floor_block *f, unsigned slot, uint64_t block)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&f->ring);

	/* As deep as the ring, so there is one. */
	if (f->null)
		io_uring_prep_nop(sqe);
	else
		io_uring_prep_read(sqe, f->fd, f->buffers + (size_t)slot * BLK_BLOCK, BLK_BLOCK,
				   block * BLK_BLOCK);
	io_uring_sqe_set_data64(sqe, slot);
}

int floor_block_wait(struct floor_block *f, struct error *err)
{
	int r = io_uring_submit_and_wait(&f->ring, 1);

	return r < 0 && r != -EINTR ? error_set(err, r, "the floor's io_uring") : 0;
}

int floor_block_take(struct floor_block *f)
{
	struct io_uring_cqe *cqe;
	int slot;

	if (io_uring_peek_cqe(&f->ring, &cqe) < 0)
		return -1;
	f->failed += cqe->res != (f->null ? 0 : (int)BLK_BLOCK);
	slot = (int)io_uring_cqe_get_data64(cqe);
	io_uring_cqe_seen(&f->ring, cqe);
	return slot;
}
