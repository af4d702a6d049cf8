/* See block_faults.h. */
#include "block_faults.h"

#include <stdio.h>
#include <stdlib.h>

#define FAKES_MAX 2048

struct block_faults block_faults;

static struct {
	struct loop_op *op;
	int res;
} fake[FAKES_MAX];
static unsigned fakes;

void block_faults_set(enum block_fault kind, int value, unsigned at, unsigned times)
{
	block_faults =
		(struct block_faults){.kind = kind, .value = value, .at = at, .times = times};
}

int block_faults_turn(struct loop *loop, uint64_t timeout_ns)
{
	int served = loop_turn(loop, fakes && !block_faults.hold ? 0 : timeout_ns);

	/* What these submit is the next turn's. */
	for (unsigned n = block_faults.hold ? 0 : fakes; n > 0; n--) {
		struct loop_op *op = fake[0].op;
		int res = fake[0].res;

		fakes--;
		for (unsigned i = 0; i < fakes; i++)
			fake[i] = fake[i + 1];
		op->active = false;
		op->done(op, res);
		served++;
	}
	return served;
}

static void note(const struct iovec *iov, unsigned n)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < n; i++)
		bytes += iov[i].iov_len;
	block_faults.largest = MAX(block_faults.largest, bytes);
}

/* 1: goes on, with *len cut perhaps; else what the call returns. */
static int strike(struct loop_op *op, uint32_t *len)
{
	unsigned n = block_faults.calls++;

	if (block_faults.kind == BLOCK_FAULT_NONE || n < block_faults.at ||
	    n - block_faults.at >= block_faults.times)
		return 1;
	switch (block_faults.kind) {
	case BLOCK_FAULT_REFUSE:
		return block_faults.value;
	case BLOCK_FAULT_RESULT:
		if (fakes == FAKES_MAX)
			abort();
		op->active = true;
		fake[fakes].op = op;
		fake[fakes++].res = block_faults.value;
		return 0;
	default:
		if (len && *len > (uint32_t)block_faults.value)
			*len = (uint32_t)block_faults.value;
		return 1;
	}
}

int __real_loop_read(struct loop *, struct loop_op *, int, void *, uint32_t, uint64_t);
int __wrap_loop_read(struct loop *, struct loop_op *, int, void *, uint32_t, uint64_t);
int __wrap_loop_read(struct loop *loop, struct loop_op *op, int fd, void *buf, uint32_t len,
		     uint64_t off)
{
	int r = strike(op, &len);

	block_faults.largest = MAX(block_faults.largest, len);
	return r == 1 ? __real_loop_read(loop, op, fd, buf, len, off) : r;
}

int __real_loop_write(struct loop *, struct loop_op *, int, const void *, uint32_t, uint64_t);
int __wrap_loop_write(struct loop *, struct loop_op *, int, const void *, uint32_t, uint64_t);
int __wrap_loop_write(struct loop *loop, struct loop_op *op, int fd, const void *buf, uint32_t len,
		      uint64_t off)
{
	int r = strike(op, &len);

	block_faults.largest = MAX(block_faults.largest, len);
	return r == 1 ? __real_loop_write(loop, op, fd, buf, len, off) : r;
}

int __real_loop_readv(struct loop *, struct loop_op *, int, const struct iovec *, unsigned,
		      uint64_t);
int __wrap_loop_readv(struct loop *, struct loop_op *, int, const struct iovec *, unsigned,
		      uint64_t);
/* Short is the first segment, and of that no more than the value. */
int __wrap_loop_readv(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov,
		      unsigned n, uint64_t off)
{
	uint32_t len = UINT32_MAX;
	int r = strike(op, &len);

	note(iov, n);
	if (r != 1)
		return r;
	if (len == UINT32_MAX)
		return __real_loop_readv(loop, op, fd, iov, n, off);
	len = (uint32_t)MIN(len, iov[0].iov_len);
	return __real_loop_read(loop, op, fd, iov[0].iov_base, len, off);
}

int __real_loop_writev(struct loop *, struct loop_op *, int, const struct iovec *, unsigned,
		       uint64_t);
int __wrap_loop_writev(struct loop *, struct loop_op *, int, const struct iovec *, unsigned,
		       uint64_t);
int __wrap_loop_writev(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov,
		       unsigned n, uint64_t off)
{
	uint32_t len = UINT32_MAX;
	int r = strike(op, &len);

	note(iov, n);
	if (r != 1)
		return r;
	if (len == UINT32_MAX)
		return __real_loop_writev(loop, op, fd, iov, n, off);
	len = (uint32_t)MIN(len, iov[0].iov_len);
	return __real_loop_write(loop, op, fd, iov[0].iov_base, len, off);
}

int __real_loop_fdatasync(struct loop *, struct loop_op *, int);
int __wrap_loop_fdatasync(struct loop *, struct loop_op *, int);
int __wrap_loop_fdatasync(struct loop *loop, struct loop_op *op, int fd)
{
	int r = strike(op, NULL);

	return r == 1 ? __real_loop_fdatasync(loop, op, fd) : r;
}

int __real_loop_fallocate(struct loop *, struct loop_op *, int, int, uint64_t, uint64_t);
int __wrap_loop_fallocate(struct loop *, struct loop_op *, int, int, uint64_t, uint64_t);
int __wrap_loop_fallocate(struct loop *loop, struct loop_op *op, int fd, int mode, uint64_t off,
			  uint64_t len)
{
	int r = strike(op, NULL);

	return r == 1 ? __real_loop_fallocate(loop, op, fd, mode, off, len) : r;
}
