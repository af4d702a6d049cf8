/* Operations: one submission queue entry each, the operation's address as its user data.
 * Entries with user data 0 are cancellations, whose own result nobody wants. Control thread. */
#include <errno.h>

#include "base/util.h"
#include "loop/ring.h"

/* A longer transfer ends short in the kernel anyway; send and recv have 32 bits for it. */
#define TRANSFER_MAX 0x7ffff000u

/* NULL where the queue is full and the kernel takes nothing from it. */
static struct io_uring_sqe *take_entry(struct loop *loop)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);

	if (sqe)
		return sqe;
	if (loop_ring_submit(loop) < 0)
		return NULL;
	return io_uring_get_sqe(&loop->ring);
}

static int op_begin(struct loop *loop, struct loop_op *op, struct io_uring_sqe **ret_sqe)
{
	struct io_uring_sqe *sqe;

	loop_assert_thread(loop);
	assert(op->done);
	if (op->active)
		return -EBUSY;
	if (loop->freeing)
		return -ECANCELED;
	sqe = take_entry(loop);
	if (!sqe)
		return -ENOMEM;
	op->active = true;
	op->cancelling = op->cancel_owed = false;
	LIST_INSERT_HEAD(&loop->active, op, link);
	*ret_sqe = sqe;
	return 0;
}

/* fd may be a handle of loop_file_register's. */
static void set_file(struct io_uring_sqe *sqe, int fd)
{
	if (fd > LOOP_FILE_FIRST)
		return;
	sqe->fd = LOOP_FILE_FIRST - fd;
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
}

int loop_read(struct loop *loop, struct loop_op *op, int fd, void *buf, uint32_t len, uint64_t off)
{
	struct io_uring_sqe *sqe;
	int r = op_begin(loop, op, &sqe);

	if (r < 0)
		return r;
	io_uring_prep_read(sqe, fd, buf, len, off);
	set_file(sqe, fd);
	io_uring_sqe_set_data(sqe, op);
	return 0;
}

int loop_write(struct loop *loop, struct loop_op *op, int fd, const void *buf, uint32_t len,
	       uint64_t off)
{
	struct io_uring_sqe *sqe;
	int r = op_begin(loop, op, &sqe);

	if (r < 0)
		return r;
	io_uring_prep_write(sqe, fd, buf, len, off);
	set_file(sqe, fd);
	io_uring_sqe_set_data(sqe, op);
	return 0;
}

int loop_readv(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov, unsigned n,
	       uint64_t off)
{
	struct io_uring_sqe *sqe;
	int r = op_begin(loop, op, &sqe);

	if (r < 0)
		return r;
	io_uring_prep_readv(sqe, fd, iov, n, off);
	set_file(sqe, fd);
	io_uring_sqe_set_data(sqe, op);
	return 0;
}

int loop_writev(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov, unsigned n,
		uint64_t off)
{
	struct io_uring_sqe *sqe;
	int r = op_begin(loop, op, &sqe);

	if (r < 0)
		return r;
	io_uring_prep_writev(sqe, fd, iov, n, off);
	set_file(sqe, fd);
	io_uring_sqe_set_data(sqe, op);
	return 0;
}

int loop_fdatasync(struct loop *loop, struct loop_op *op, int fd)
{
	struct io_uring_sqe *sqe;
	int r = op_begin(loop, op, &sqe);

	if (r < 0)
		return r;
	io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
	set_file(sqe, fd);
	io_uring_sqe_set_data(sqe, op);
	return 0;
}

int loop_fallocate(struct loop *loop, struct loop_op *op, int fd, int mode, uint64_t off,
		   uint64_t len)
{
	struct io_uring_sqe *sqe;
	int r = op_begin(loop, op, &sqe);

	if (r < 0)
		return r;
	io_uring_prep_fallocate(sqe, fd, mode, (off_t)off, (off_t)len);
	set_file(sqe, fd);
	io_uring_sqe_set_data(sqe, op);
	return 0;
}

int loop_poll_fd(struct loop *loop, struct loop_op *op, int fd, short events)
{
	struct io_uring_sqe *sqe;
	int r = op_begin(loop, op, &sqe);

	if (r < 0)
		return r;
	io_uring_prep_poll_add(sqe, fd, (unsigned short)events);
	io_uring_sqe_set_data(sqe, op);
	return 0;
}

int loop_accept(struct loop *loop, struct loop_op *op, int fd, int flags)
{
	struct io_uring_sqe *sqe;
	int r = op_begin(loop, op, &sqe);

	if (r < 0)
		return r;
	io_uring_prep_accept(sqe, fd, NULL, NULL, flags);
	io_uring_sqe_set_data(sqe, op);
	return 0;
}

int loop_recv(struct loop *loop, struct loop_op *op, int fd, void *buf, size_t len, int flags)
{
	struct io_uring_sqe *sqe;
	int r = op_begin(loop, op, &sqe);

	if (r < 0)
		return r;
	io_uring_prep_recv(sqe, fd, buf, MIN(len, TRANSFER_MAX), flags);
	io_uring_sqe_set_data(sqe, op);
	return 0;
}

int loop_send(struct loop *loop, struct loop_op *op, int fd, const void *buf, size_t len, int flags)
{
	struct io_uring_sqe *sqe;
	int r = op_begin(loop, op, &sqe);

	if (r < 0)
		return r;
	io_uring_prep_send(sqe, fd, buf, MIN(len, TRANSFER_MAX), flags);
	io_uring_sqe_set_data(sqe, op);
	return 0;
}

void loop_cancel(struct loop *loop, struct loop_op *op)
{
	struct io_uring_sqe *sqe;

	loop_assert_thread(loop);
	if (!op->active || (op->cancelling && !op->cancel_owed))
		return;
	sqe = take_entry(loop);
	if (!op->cancelling || sqe)
		loop->cancels_owed = loop->cancels_owed + !sqe - op->cancel_owed;
	op->cancelling = true;
	op->cancel_owed = !sqe;
	if (!sqe)
		return;
	/* Entries are taken in order: the operation itself is never behind this. */
	io_uring_prep_cancel(sqe, op, 0);
	io_uring_sqe_set_data(sqe, NULL);
}

bool loop_cancel_wait(struct loop *loop, struct loop_op *op, uint64_t limit_ns)
{
	uint64_t now, end_ns = now_ns() + limit_ns;

	loop_cancel(loop, op);
	while (op->active && (now = now_ns()) < end_ns)
		if (loop_turn(loop, end_ns - now) < 0)
			break;
	return !op->active;
}

void loop_retry_cancels(struct loop *loop)
{
	struct loop_op *op;

	if (!loop->cancels_owed)
		return;
	LIST_FOREACH (op, &loop->active, link) {
		if (op->cancel_owed)
			loop_cancel(loop, op);
	}
}
