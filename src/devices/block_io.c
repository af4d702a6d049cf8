/* Whole operations out of the kernel's partial ones. Control thread. Buffers are the guest's and
 * change under the kernel, which is the guest's own affair. */
#include "devices/block_io.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>

#include "base/util.h"

/* Bytes of one step: what the page cache has is copied on our thread, while all else waits. A
 * multiple of any block. */
#define STEP_BYTES 1048576u
#define RETRY_NS   1000000u
/* Ten seconds of "not now" are an error. */
#define TRIES_MAX 10000
#define ALIGNMENT 65536u

static uint8_t zeros[BLOCK_IO_BOUNCE_BYTES] __attribute__((aligned(ALIGNMENT)));

static void submit(struct block_io_op *op);
static void go_on(struct block_io_op *op);

/* ---- bounce buffers ---------------------------------------------------------------------- */

static bool take_bounce(struct block_io_op *op)
{
	struct block_io *io = op->io;
	void *fresh = NULL;

	if (io->bounces_idle > 0) {
		op->bounce = io->bounce[--io->bounces_idle];
		return true;
	}
	if (io->bounces_made == BLOCK_IO_BOUNCES ||
	    posix_memalign(&fresh, ALIGNMENT, BLOCK_IO_BOUNCE_BYTES) != 0)
		return false;
	io->bounces_made++;
	op->bounce = fresh;
	return true;
}

static void give_bounce(struct block_io_op *op)
{
	if (op->bounce)
		op->io->bounce[op->io->bounces_idle++] = op->bounce;
	op->bounce = NULL;
}

static bool needs_bounce(const struct block_file *f, const struct iovec *iov, unsigned n)
{
	uintptr_t bits = 0;

	for (unsigned i = 0; f->memory_align > 1 && i < n; i++)
		bits |= (uintptr_t)iov[i].iov_base | iov[i].iov_len;
	return bits & (f->memory_align - 1);
}

/* Copies len bytes between the front of the iovec and buf; the iovec stays. */
static void copy(const struct block_io_op *op, uint8_t *buf, size_t len, bool to_buf)
{
	for (const struct iovec *v = op->iov; len > 0; v++) {
		size_t n = MIN(len, v->iov_len);

		if (to_buf)
			memcpy(buf, v->iov_base, n);
		else
			memcpy(v->iov_base, buf, n);
		buf += n;
		len -= n;
	}
}

/* n bytes are done. */
static void advance(struct block_io_op *op, uint64_t n)
{
	op->offset += n;
	op->left -= n;
	while (op->segments > 0 && n >= op->iov->iov_len) {
		n -= op->iov->iov_len;
		op->iov++;
		op->segments--;
	}
	if (n > 0 && op->segments > 0) {
		op->iov->iov_base = (uint8_t *)op->iov->iov_base + n;
		op->iov->iov_len -= n;
	}
}

/* ---- waiting ----------------------------------------------------------------------------- */

static void complete(struct block_io_op *op, int res)
{
	struct block_io *io = op->io;
	struct block_io_op *next = TAILQ_FIRST(&io->waiting);
	bool freed = op->bounce;

	give_bounce(op);
	io->active--;
	/* One buffer came free, one who waits goes on; others' turn comes with the timer. */
	if (next && freed) {
		TAILQ_REMOVE(&io->waiting, next, link);
		go_on(next);
	}
	op->done(op, res);
}

static void wait_in_line(struct block_io_op *op)
{
	struct block_io *io = op->io;

	io->waits++;
	/* The timer goes while somebody waits. */
	if (TAILQ_EMPTY(&io->waiting) &&
	    loop_timer_set(io->loop, &io->retry, now_ns() + RETRY_NS) < 0)
		complete(op, -ENOMEM);
	else
		TAILQ_INSERT_TAIL(&io->waiting, op, link);
}

static void retry(struct loop_timer *t)
{
	struct block_io *io = container_of(t, struct block_io, retry);
	struct block_io_list ready = TAILQ_HEAD_INITIALIZER(ready);
	struct block_io_op *op;

	/* Who must wait again goes to the end of the other list. */
	TAILQ_CONCAT(&ready, &io->waiting, link);
	while ((op = TAILQ_FIRST(&ready))) {
		TAILQ_REMOVE(&ready, op, link);
		go_on(op);
	}
}

/* ---- the kernel's operations -------------------------------------------------------------- */

/* Makes the iovec end where the step does, until restore. */
static void cut(struct block_io_op *op)
{
	uint64_t bytes = 0;

	op->used = 0;
	while (bytes < op->step)
		bytes += op->iov[op->used++].iov_len;
	op->cut = bytes - op->step;
	op->iov[op->used - 1].iov_len -= op->cut;
}

static void restore(struct block_io_op *op)
{
	if (op->cut > 0)
		op->iov[op->used - 1].iov_len += op->cut;
	op->cut = 0;
}

static int submit_transfer(struct block_io_op *op)
{
	struct loop *loop = op->io->loop;
	int fd = op->io->fd;
	bool write = op->kind == BLOCK_IO_WRITE;
	void *buf = op->iov->iov_base;

	op->step = (uint32_t)MIN(op->left, STEP_BYTES);
	if (op->bounced) {
		op->step = MIN(op->step, BLOCK_IO_BOUNCE_BYTES);
		buf = op->bounce;
		if (write)
			copy(op, buf, op->step, true);
	} else if (op->segments > 1 && op->iov->iov_len < op->step) {
		cut(op);
		return write ? loop_writev(loop, &op->op, fd, op->iov, op->used, op->offset)
			     : loop_readv(loop, &op->op, fd, op->iov, op->used, op->offset);
	}
	return write ? loop_write(loop, &op->op, fd, buf, op->step, op->offset)
		     : loop_read(loop, &op->op, fd, buf, op->step, op->offset);
}

static enum block_io_zeroing zeroing(const struct block_io *io, bool may_unmap)
{
	if (may_unmap && !io->no_punch)
		return BLOCK_IO_PUNCH;
	return io->no_zero_range ? BLOCK_IO_ZERO_WRITE : BLOCK_IO_ZERO_RANGE;
}

bool block_io_writes_zeros(const struct block_io *io, bool may_unmap)
{
	return zeroing(io, may_unmap) == BLOCK_IO_ZERO_WRITE;
}

static int submit_zero(struct block_io_op *op)
{
	const struct block_io *io = op->io;
	int mode = FALLOC_FL_KEEP_SIZE;

	op->zeroing = zeroing(io, op->may_unmap);
	if (op->zeroing == BLOCK_IO_ZERO_WRITE) {
		op->step = (uint32_t)MIN(op->left, sizeof(zeros));
		return loop_write(io->loop, &op->op, io->fd, zeros, op->step, op->offset);
	}
	mode |= op->zeroing == BLOCK_IO_PUNCH ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
	return loop_fallocate(io->loop, &op->op, io->fd, mode, op->offset, op->left);
}

static void submit(struct block_io_op *op)
{
	const struct block_io *io = op->io;
	int r;

	if (op->bounced && !op->bounce && !take_bounce(op)) {
		wait_in_line(op);
		return;
	}
	switch (op->kind) {
	case BLOCK_IO_READ:
	case BLOCK_IO_WRITE:
		r = submit_transfer(op);
		break;
	case BLOCK_IO_FLUSH:
		r = loop_fdatasync(io->loop, &op->op, io->fd);
		break;
	case BLOCK_IO_DISCARD:
		r = loop_fallocate(io->loop, &op->op, io->fd,
				   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, op->offset,
				   op->left);
		break;
	default:
		r = submit_zero(op);
		break;
	}
	if (r < 0)
		restore(op);
	if (r == -ENOMEM)
		wait_in_line(op);
	else if (r < 0)
		complete(op, r);
}

/* The next step. */
static void go_on(struct block_io_op *op)
{
	struct block_io *io = op->io;

	if (io->stopping && io->stopping(io))
		complete(op, -ECANCELED);
	else
		submit(op);
}

/* ---- what became of them ------------------------------------------------------------------ */

static bool is_unsupported(int res)
{
	return res == -EOPNOTSUPP || res == -ENOSYS;
}

static void moved(struct block_io_op *op, uint32_t n)
{
	struct block_io *io = op->io;

	if (n == 0) {
		/* A write of nothing says nothing of why. */
		complete(op, op->kind == BLOCK_IO_READ ? -ENODATA : -EIO);
		return;
	}
	if (op->bounced && op->kind == BLOCK_IO_READ)
		copy(op, op->bounce, n, false);
	if (n < op->step)
		io->continued++;
	advance(op, n);
	if (op->left > 0)
		go_on(op);
	else
		complete(op, 0);
}

static void zeroed(struct block_io_op *op, int res)
{
	struct block_io *io = op->io;

	if (op->zeroing == BLOCK_IO_ZERO_WRITE) {
		moved(op, (uint32_t)res);
	} else if (!is_unsupported(res)) {
		complete(op, res);
	} else {
		/* Others may have found out more meanwhile. */
		if (op->zeroing == BLOCK_IO_PUNCH)
			io->no_punch = true;
		else
			io->no_zero_range = true;
		go_on(op);
	}
}

static void on_done(struct loop_op *loop_op, int res)
{
	struct block_io_op *op = container_of(loop_op, struct block_io_op, op);

	restore(op);
	if (res == -EINTR || (res == -EAGAIN && op->tries++ < TRIES_MAX)) {
		wait_in_line(op);
		return;
	}
	if (op->kind == BLOCK_IO_ZERO && (res >= 0 || op->zeroing != BLOCK_IO_ZERO_WRITE))
		zeroed(op, res);
	else if (op->kind == BLOCK_IO_DISCARD && is_unsupported(res))
		complete(op, 0);
	else if (res >= 0 && op->kind <= BLOCK_IO_WRITE)
		moved(op, (uint32_t)res);
	else
		complete(op, MIN(res, 0));
}

/* ---- the interface ------------------------------------------------------------------------ */

void block_io_init(struct block_io *io, struct loop *loop, const struct block_file *file)
{
	*io = (struct block_io){.loop = loop, .file = file, .retry = {.fire = retry}};
	TAILQ_INIT(&io->waiting);
}

void block_io_done(struct block_io *io)
{
	assert(!io->active);
	if (io->loop)
		loop_timer_clear(io->loop, &io->retry);
	if (io->opened)
		loop_file_forget(io->loop, io->fd);
	io->opened = false;
	while (io->bounces_idle > 0)
		free(io->bounce[--io->bounces_idle]);
	io->bounces_made = 0;
}

static void begin(struct block_io *io, struct block_io_op *op, enum block_io_kind kind)
{
	assert(op->done && !op->op.active);
	if (!io->opened)
		io->fd = loop_file_register(io->loop, io->file->fd);
	io->opened = true;
	op->io = io;
	op->kind = kind;
	op->op.done = on_done;
	op->bounced = false;
	op->tries = 0;
	op->iov = NULL;
	op->segments = op->used = 0;
	op->cut = 0;
	op->offset = op->left = 0;
	io->active++;
}

static void check_range(const struct block_io *io, uint64_t offset, uint64_t len)
{
	(void)io, (void)offset, (void)len;
	assert((offset | len) % io->file->block_bytes == 0);
	assert(offset <= io->file->bytes && len <= io->file->bytes - offset);
}

static void transfer(struct block_io *io, struct block_io_op *op, struct iovec *iov, unsigned n,
		     uint64_t offset)
{
	op->iov = iov;
	op->segments = n;
	op->offset = offset;
	for (unsigned i = 0; i < n; i++)
		op->left += iov[i].iov_len;
	check_range(io, offset, op->left);
	op->bounced = needs_bounce(io->file, iov, n);
	io->bounced += op->bounced;
	submit(op);
}

void block_io_read(struct block_io *io, struct block_io_op *op, struct iovec *iov, unsigned n,
		   uint64_t offset)
{
	begin(io, op, BLOCK_IO_READ);
	transfer(io, op, iov, n, offset);
}

void block_io_write(struct block_io *io, struct block_io_op *op, struct iovec *iov, unsigned n,
		    uint64_t offset)
{
	begin(io, op, BLOCK_IO_WRITE);
	transfer(io, op, iov, n, offset);
}

void block_io_flush(struct block_io *io, struct block_io_op *op)
{
	begin(io, op, BLOCK_IO_FLUSH);
	submit(op);
}

void block_io_discard(struct block_io *io, struct block_io_op *op, uint64_t offset, uint64_t len)
{
	check_range(io, offset, len);
	begin(io, op, BLOCK_IO_DISCARD);
	op->offset = offset;
	op->left = len;
	submit(op);
}

void block_io_zero(struct block_io *io, struct block_io_op *op, uint64_t offset, uint64_t len,
		   bool may_unmap)
{
	check_range(io, offset, len);
	begin(io, op, BLOCK_IO_ZERO);
	op->offset = offset;
	op->left = len;
	op->may_unmap = may_unmap;
	submit(op);
}
