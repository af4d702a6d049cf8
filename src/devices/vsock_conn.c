/* The bytes and the credit of one connection: see vsock_conn.h. Control thread. */
#include "devices/vsock_conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/parse.h"

uint32_t vsock_conn_credit(const struct vsock_conn *c)
{
	uint32_t under_way = c->sent - c->peer_forwarded;

	return under_way < c->peer_alloc ? c->peer_alloc - under_way : 0;
}

/* Bytes skip to skip + most of from[0 .. count), to iov: how many entries. */
static unsigned slice(const struct iovec *from, unsigned count, size_t skip, size_t most,
		      struct iovec *iov)
{
	unsigned n = 0;

	for (unsigned i = 0; i < count && most > 0; i++) {
		size_t over = MIN(skip, from[i].iov_len);
		size_t step = MIN(from[i].iov_len - over, most);

		skip -= over;
		if (step == 0)
			continue;
		iov[n++] = (struct iovec){(uint8_t *)from[i].iov_base + over, step};
		most -= step;
	}
	return n;
}

/* What the host takes at once is copied by nobody else. Why it takes less, flush finds out. */
static uint32_t send_now(struct vsock_conn *c, const struct iovec *from, unsigned count,
			 size_t skip, uint32_t n)
{
	struct iovec iov[VIRTQ_MAX_SIZE];
	struct msghdr msg = {.msg_iov = iov};
	ssize_t sent;

	msg.msg_iovlen = slice(from, count, skip, n, iov);
	sent = sendmsg(c->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0)
		return 0;
	c->forwarded += (uint32_t)sent;
	return (uint32_t)sent;
}

int vsock_conn_take(struct vsock_conn *c, const struct iovec *iov, unsigned count, size_t skip,
		    uint32_t n)
{
	uint32_t end, sent = 0;

	if (n > VIRTIO_VSOCK_BUFFER - c->len)
		return -ENOBUFS;
	if (c->len == 0)
		sent = send_now(c, iov, count, skip, n);
	n -= sent;
	skip += sent;
	if (n == 0)
		return 0;
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

ssize_t vsock_conn_read(const struct vsock_conn *c, const struct iovec *to, unsigned count,
			size_t skip, size_t most)
{
	struct iovec iov[VIRTQ_MAX_SIZE];
	struct msghdr msg = {.msg_iov = iov};
	ssize_t n;

	msg.msg_iovlen = slice(to, count, skip, most, iov);
	do
		n = recvmsg(c->fd, &msg, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

struct virtio_vsock_header vsock_conn_header(const struct vsock_conn *c, uint16_t op)
{
	return (struct virtio_vsock_header){
		.src_cid = VIRTIO_VSOCK_HOST_CID,
		.dst_cid = VIRTIO_VSOCK_GUEST_CID,
		.src_port = c->host_port,
		.dst_port = c->guest_port,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op,
		.buf_alloc = VIRTIO_VSOCK_BUFFER,
		.fwd_cnt = c->forwarded,
	};
}

uint16_t vsock_conn_next(struct vsock_conn *c, struct virtio_vsock_header *h)
{
	static const struct {
		unsigned owed;
		uint16_t op;
	} ops[] = {
		{VSOCK_OWE_REQUEST, VIRTIO_VSOCK_OP_REQUEST},
		{VSOCK_OWE_RESPONSE, VIRTIO_VSOCK_OP_RESPONSE},
		{VSOCK_OWE_RESET, VIRTIO_VSOCK_OP_RST},
		{VSOCK_OWE_CREDIT, VIRTIO_VSOCK_OP_CREDIT_UPDATE},
		{VSOCK_OWE_SHUTDOWN, VIRTIO_VSOCK_OP_SHUTDOWN},
	};

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		if (!(c->owed & ops[i].owed))
			continue;
		c->owed &= ~ops[i].owed;
		*h = vsock_conn_header(c, ops[i].op);
		if (ops[i].op == VIRTIO_VSOCK_OP_SHUTDOWN)
			h->flags =
				VIRTIO_VSOCK_NO_SEND | (c->host_gone ? VIRTIO_VSOCK_NO_RECEIVE : 0);
		return ops[i].op;
	}
	return 0;
}

int vsock_conn_greeting(struct vsock_conn *c)
{
	char line[VIRTIO_VSOCK_LINE_MAX + 1];
	ssize_t n = recv(c->fd, line, sizeof(line) - 1, MSG_PEEK | MSG_DONTWAIT);
	const char *newline = n > 0 ? memchr(line, '\n', (size_t)n) : NULL;
	uint64_t port;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (!newline)
		return n == 0 || n == sizeof(line) - 1 ? -EPROTO : 0;
	n = newline - line + 1;
	if (recv(c->fd, line, (size_t)n, MSG_DONTWAIT) != n)
		return -EPROTO;
	line[n - 1] = '\0';
	if (strncmp(line, "CONNECT ", 8) != 0 || parse_uint(line + 8, 0, UINT32_MAX, &port) < 0)
		return -EPROTO;
	c->guest_port = (uint32_t)port;
	return 1;
}
