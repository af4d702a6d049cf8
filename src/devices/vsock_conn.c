/* The bytes and the credit of one connection: see vsock_conn.h. Control thread. */
#include "devices/vsock_conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

uint32_t vsock_conn_credit(const struct vsock_conn *c)
{
	uint32_t under_way = c->sent - c->peer_forwarded;

	return under_way < c->peer_alloc ? c->peer_alloc - under_way : 0;
}

int vsock_conn_take(struct vsock_conn *c, const struct iovec *iov, unsigned count, size_t skip,
		    uint32_t n)
{
	uint32_t end;

	if (n > VIRTIO_VSOCK_BUFFER - c->len)
		return -ENOBUFS;
	if (!c->buf)
		c->buf = malloc(VIRTIO_VSOCK_BUFFER);
	if (!c->buf)
		return -ENOMEM;
	for (unsigned i = 0; i < count && n > 0; i++) {
		size_t over = MIN(skip, iov[i].iov_len);
		const uint8_t *from = (const uint8_t *)iov[i].iov_base + over;
		uint32_t step = (uint32_t)MIN(iov[i].iov_len - over, n), first;

		skip -= over;
		end = (c->at + c->len) % VIRTIO_VSOCK_BUFFER;
		first = MIN(step, VIRTIO_VSOCK_BUFFER - end);
		memcpy(c->buf + end, from, first);
		memcpy(c->buf, from + first, step - first);
		c->len += step;
		n -= step;
	}
	return 0;
}

int vsock_conn_flush(struct vsock_conn *c)
{
	while (c->len > 0) {
		uint32_t run = MIN(c->len, VIRTIO_VSOCK_BUFFER - c->at);
		ssize_t n = send(c->fd, c->buf + c->at, run, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == ENOBUFS || errno == EAGAIN ? -EAGAIN : -errno;
		c->at = (c->at + (uint32_t)n) % VIRTIO_VSOCK_BUFFER;
		c->len -= (uint32_t)n;
		c->forwarded += (uint32_t)n;
	}
	return 0;
}

bool vsock_conn_owes_credit(const struct vsock_conn *c)
{
	return c->forwarded - c->told >= VIRTIO_VSOCK_BUFFER / 4;
}
