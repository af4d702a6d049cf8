/* See device_faults.h. */
#include "device_faults.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "devices/virtio.h"
#include "loop/loop.h"

#define FAKES_MAX   16
#define SHORT_BLOCK 512u

struct device_faults device_faults;

static unsigned depth; /* of calls into the device */
static struct {
	struct loop_op *op;
	int res;
} fake[FAKES_MAX];
static unsigned fakes;

void device_faults_set(enum device_fault_kind kind, int error, unsigned at)
{
	if (fakes)
		abort();
	device_faults = (struct device_faults){.kind = kind, .error = error, .at = at};
}

/* Whether this call is the one; transfer: it can be cut short. */
static bool strikes(bool transfer)
{
	struct device_faults *f = &device_faults;

	if (!depth || f->calls++ != f->at || f->kind == DEVICE_FAULT_NONE ||
	    (f->kind == DEVICE_FAULT_SHORT && !transfer))
		return false;
	f->struck = true;
	return true;
}

static bool cuts(void)
{
	return device_faults.kind == DEVICE_FAULT_SHORT;
}

/* What the loop's call returns, for an operation that is struck and not cut. */
static int end(struct loop_op *op)
{
	if (device_faults.kind == DEVICE_FAULT_REFUSE)
		return -device_faults.error;
	if (fakes == FAKES_MAX)
		abort();
	op->active = true;
	fake[fakes].op = op;
	fake[fakes++].res = -device_faults.error;
	return 0;
}

/* ---- ways in ------------------------------------------------------------------------------ */

int __real_loop_turn(struct loop *loop, uint64_t timeout_ns);
int __wrap_loop_turn(struct loop *loop, uint64_t timeout_ns);
int __wrap_loop_turn(struct loop *loop, uint64_t timeout_ns)
{
	int served;

	depth++;
	served = __real_loop_turn(loop, fakes ? 0 : timeout_ns);
	for (unsigned n = fakes; n > 0; n--) {
		struct loop_op *op = fake[0].op;
		int res = fake[0].res;

		fakes--;
		memmove(fake, fake + 1, fakes * sizeof(fake[0]));
		op->active = false;
		op->done(op, res);
		served++;
	}
	depth--;
	return served;
}

void __real_virtio_notify(struct virtio_device *dev, uint32_t q);
void __wrap_virtio_notify(struct virtio_device *dev, uint32_t q);
void __wrap_virtio_notify(struct virtio_device *dev, uint32_t q)
{
	depth++;
	__real_virtio_notify(dev, q);
	depth--;
}

void __real_virtio_set_status(struct virtio_device *dev, uint8_t status, uint64_t wanted);
void __wrap_virtio_set_status(struct virtio_device *dev, uint8_t status, uint64_t wanted);
void __wrap_virtio_set_status(struct virtio_device *dev, uint8_t status, uint64_t wanted)
{
	depth++;
	__real_virtio_set_status(dev, status, wanted);
	depth--;
}

void __real_virtio_quiesce(struct virtio_device *dev, void (*done)(struct virtio_device *, void *),
			   void *arg);
void __wrap_virtio_quiesce(struct virtio_device *dev, void (*done)(struct virtio_device *, void *),
			   void *arg);
void __wrap_virtio_quiesce(struct virtio_device *dev, void (*done)(struct virtio_device *, void *),
			   void *arg)
{
	depth++;
	__real_virtio_quiesce(dev, done, arg);
	depth--;
}

/* ---- the loop ----------------------------------------------------------------------------- */

void __real_loop_cancel(struct loop *loop, struct loop_op *op);
void __wrap_loop_cancel(struct loop *loop, struct loop_op *op);
void __wrap_loop_cancel(struct loop *loop, struct loop_op *op)
{
	for (unsigned i = 0; i < fakes; i++) {
		if (fake[i].op == op) {
			fake[i].res = -ECANCELED;
			return;
		}
	}
	__real_loop_cancel(loop, op);
}

int __real_loop_timer_set(struct loop *loop, struct loop_timer *t, uint64_t deadline_ns);
int __wrap_loop_timer_set(struct loop *loop, struct loop_timer *t, uint64_t deadline_ns);
int __wrap_loop_timer_set(struct loop *loop, struct loop_timer *t, uint64_t deadline_ns)
{
	/* Setting one that is armed can't fail. */
	if (t->slot || !strikes(false))
		return __real_loop_timer_set(loop, t, deadline_ns);
	device_faults.lost_timer = true;
	return -ENOMEM;
}

int __real_loop_read(struct loop *, struct loop_op *, int, void *, uint32_t, uint64_t);
int __wrap_loop_read(struct loop *, struct loop_op *, int, void *, uint32_t, uint64_t);
int __wrap_loop_read(struct loop *loop, struct loop_op *op, int fd, void *buf, uint32_t len,
		     uint64_t off)
{
	if (strikes(true)) {
		if (!cuts())
			return end(op);
		len = MIN(len, SHORT_BLOCK);
	}
	return __real_loop_read(loop, op, fd, buf, len, off);
}

int __real_loop_write(struct loop *, struct loop_op *, int, const void *, uint32_t, uint64_t);
int __wrap_loop_write(struct loop *, struct loop_op *, int, const void *, uint32_t, uint64_t);
int __wrap_loop_write(struct loop *loop, struct loop_op *op, int fd, const void *buf, uint32_t len,
		      uint64_t off)
{
	if (strikes(true)) {
		if (!cuts())
			return end(op);
		len = MIN(len, SHORT_BLOCK);
	}
	return __real_loop_write(loop, op, fd, buf, len, off);
}

int __real_loop_readv(struct loop *, struct loop_op *, int, const struct iovec *, unsigned,
		      uint64_t);
int __wrap_loop_readv(struct loop *, struct loop_op *, int, const struct iovec *, unsigned,
		      uint64_t);
int __wrap_loop_readv(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov,
		      unsigned n, uint64_t off)
{
	if (strikes(true)) {
		if (!cuts())
			return end(op);
		n = 1;
	}
	return __real_loop_readv(loop, op, fd, iov, n, off);
}

int __real_loop_writev(struct loop *, struct loop_op *, int, const struct iovec *, unsigned,
		       uint64_t);
int __wrap_loop_writev(struct loop *, struct loop_op *, int, const struct iovec *, unsigned,
		       uint64_t);
int __wrap_loop_writev(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov,
		       unsigned n, uint64_t off)
{
	if (strikes(true)) {
		if (!cuts())
			return end(op);
		n = 1;
	}
	return __real_loop_writev(loop, op, fd, iov, n, off);
}

int __real_loop_fdatasync(struct loop *, struct loop_op *, int);
int __wrap_loop_fdatasync(struct loop *, struct loop_op *, int);
int __wrap_loop_fdatasync(struct loop *loop, struct loop_op *op, int fd)
{
	return strikes(false) ? end(op) : __real_loop_fdatasync(loop, op, fd);
}

int __real_loop_fallocate(struct loop *, struct loop_op *, int, int, uint64_t, uint64_t);
int __wrap_loop_fallocate(struct loop *, struct loop_op *, int, int, uint64_t, uint64_t);
int __wrap_loop_fallocate(struct loop *loop, struct loop_op *op, int fd, int mode, uint64_t off,
			  uint64_t len)
{
	return strikes(false) ? end(op) : __real_loop_fallocate(loop, op, fd, mode, off, len);
}

int __real_loop_poll_fd(struct loop *, struct loop_op *, int, short);
int __wrap_loop_poll_fd(struct loop *, struct loop_op *, int, short);
int __wrap_loop_poll_fd(struct loop *loop, struct loop_op *op, int fd, short events)
{
	return strikes(false) ? end(op) : __real_loop_poll_fd(loop, op, fd, events);
}

/* ---- the kernel and the allocator --------------------------------------------------------- */

static int fail(void)
{
	errno = device_faults.error;
	return -1;
}

ssize_t __real_recv(int fd, void *buf, size_t len, int flags);
ssize_t __wrap_recv(int fd, void *buf, size_t len, int flags);
ssize_t __wrap_recv(int fd, void *buf, size_t len, int flags)
{
	if (!strikes(true))
		return __real_recv(fd, buf, len, flags);
	return cuts() ? __real_recv(fd, buf, 1, flags) : fail();
}

ssize_t __real_send(int fd, const void *buf, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *buf, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *buf, size_t len, int flags)
{
	if (!strikes(true))
		return __real_send(fd, buf, len, flags);
	return cuts() ? __real_send(fd, buf, 1, flags) : fail();
}

ssize_t __real_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	if (!strikes(true))
		return __real_sendmsg(fd, msg, flags);
	return cuts() ? __real_send(fd, msg->msg_iov->iov_base, 1, flags) : fail();
}

ssize_t __real_recvmsg(int fd, struct msghdr *msg, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags)
{
	if (!strikes(true))
		return __real_recvmsg(fd, msg, flags);
	return cuts() ? __real_recv(fd, msg->msg_iov->iov_base, 1, flags) : fail();
}

int __real_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
	return strikes(false) ? fail() : __real_poll(fds, n, timeout);
}

int __real_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags);
int __wrap_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags);
int __wrap_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	return strikes(false) ? fail() : __real_accept4(fd, addr, len, flags);
}

ssize_t __real_getrandom(void *buf, size_t len, unsigned flags);
ssize_t __wrap_getrandom(void *buf, size_t len, unsigned flags);
ssize_t __wrap_getrandom(void *buf, size_t len, unsigned flags)
{
	if (!strikes(true))
		return __real_getrandom(buf, len, flags);
	return cuts() ? __real_getrandom(buf, 1, flags) : fail();
}

void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes)
{
	return strikes(false) ? NULL : __real_malloc(bytes);
}

int __real_posix_memalign(void **ret, size_t align, size_t bytes);
int __wrap_posix_memalign(void **ret, size_t align, size_t bytes);
int __wrap_posix_memalign(void **ret, size_t align, size_t bytes)
{
	return strikes(false) ? ENOMEM : __real_posix_memalign(ret, align, bytes);
}
