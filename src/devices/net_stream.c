/* Frames by a stream socket: see net_stream.h. Control thread. Many frames come by one call, and
 * are copied to the guest; they go straight from it. */
#include "devices/net_stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/util.h"
#include "devices/virtq.h"

#define LENGTH_BYTES 4
#define IN_BYTES     (256u << 10)
#define REST_BYTES   (LENGTH_BYTES + NET_STREAM_FRAME_MAX)
#define SEND_BYTES   (1 << 20) /* asked for; the host may allow less */
/* What the kernel reckons for a frame besides its bytes, at most. */
#define FRAME_COST 8192

struct stream {
	struct net_port port;
	size_t at, len; /* in[at, len) has come */
	size_t rest_at, rest_len;
	size_t credit; /* bytes that the socket takes whole */
	size_t send_bytes;
	uint8_t in[IN_BYTES];
	uint8_t rest[REST_BYTES]; /* of a frame that went in part */
};

static struct stream *from_port(struct net_port *port)
{
	return container_of(port, struct stream, port);
}

/* More bytes: 0, or a negative errno. */
static int fetch(struct stream *s)
{
	ssize_t n;

	memmove(s->in, s->in + s->at, s->len - s->at);
	s->len -= s->at;
	s->at = 0;
	do
		n = recv(s->port.fd, s->in + s->len, sizeof(s->in) - s->len, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	s->len += (size_t)n;
	return n == 0 ? -EPIPE : 0;
}

static ssize_t receive(struct net_port *port, struct iovec *iov, unsigned n)
{
	static const uint8_t header[NET_HEADER_BYTES];
	struct stream *s = from_port(port);

	for (;;) {
		uint32_t bytes = 0;
		int r;

		if (s->len - s->at >= LENGTH_BYTES) {
			memcpy(&bytes, s->in + s->at, LENGTH_BYTES);
			bytes = ntohl(bytes);
			if (bytes > NET_STREAM_FRAME_MAX)
				return -EPROTO;
			if (s->len - s->at >= LENGTH_BYTES + bytes) {
				net_iov_write(iov, n, 0, header, sizeof(header));
				net_iov_write(iov, n, sizeof(header), s->in + s->at + LENGTH_BYTES,
					      bytes);
				s->at += LENGTH_BYTES + bytes;
				return (ssize_t)(NET_HEADER_BYTES + bytes);
			}
		}
		r = fetch(s);
		if (r < 0)
			return r;
	}
}

static int flush(struct net_port *port)
{
	struct stream *s = from_port(port);

	while (s->rest_at < s->rest_len) {
		ssize_t n = send(port->fd, s->rest + s->rest_at, s->rest_len - s->rest_at,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			return errno == EAGAIN || errno == ENOBUFS ? -EAGAIN : -EPIPE;
		s->rest_at += n > 0 ? (size_t)n : 0;
	}
	port->unsent = false;
	return 0;
}

/* Some readers want a frame in one piece: it goes only when the socket has room for all of it. A
 * stream socket that polls as writable is three quarters empty at least. */
static int reserve(struct stream *s, size_t bytes)
{
	struct pollfd fd = {.fd = s->port.fd, .events = POLLOUT};

	if (s->credit < bytes + FRAME_COST) {
		if (poll(&fd, 1, 0) < 0)
			return -EAGAIN;
		if (fd.revents & (POLLERR | POLLHUP))
			return -EPIPE;
		if (!(fd.revents & POLLOUT))
			return -EAGAIN;
		s->credit = MAX(s->send_bytes / 2, bytes + FRAME_COST);
	}
	s->credit -= bytes + FRAME_COST;
	return 0;
}

/* Leaves the first n bytes of the guest's iov out; what lies in between may be cut anyhow. */
static unsigned skip(const struct iovec *iov, unsigned n, size_t bytes, struct iovec *ret_iov)
{
	unsigned count = 0;

	for (unsigned i = 0; i < n; i++) {
		size_t step = MIN(bytes, iov[i].iov_len);

		bytes -= step;
		if (iov[i].iov_len > step)
			ret_iov[count++] = (struct iovec){(uint8_t *)iov[i].iov_base + step,
							  iov[i].iov_len - step};
	}
	return count;
}

static int transmit(struct net_port *port, const struct iovec *iov, unsigned n)
{
	struct stream *s = from_port(port);
	struct iovec out[VIRTQ_MAX_SIZE + 1];
	struct msghdr msg = {.msg_iov = out};
	size_t bytes = 0, left;
	uint32_t length;
	ssize_t sent;
	int r;

	if (port->unsent)
		return -EAGAIN;
	out[0] = (struct iovec){&length, sizeof(length)};
	n = skip(iov, n, NET_HEADER_BYTES, out + 1);
	for (unsigned i = 1; i <= n; i++)
		bytes += out[i].iov_len;
	if (bytes > NET_STREAM_FRAME_MAX)
		return -EMSGSIZE;
	length = htonl((uint32_t)bytes);
	msg.msg_iovlen = n + 1;
	bytes += LENGTH_BYTES;
	r = reserve(s, bytes);
	if (r < 0)
		return r;
	do
		sent = sendmsg(port->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0) {
		s->credit = 0;
		return errno == EAGAIN || errno == ENOBUFS ? -EAGAIN : -EPIPE;
	}
	left = bytes - (size_t)sent;
	if (left == 0)
		return 0;
	/* It is begun, so it must go whole: the rest is ours now. */
	s->rest_len = net_iov_read(out, n + 1, s->rest, bytes);
	s->rest_at = (size_t)sent;
	s->credit = 0;
	port->unsent = true;
	return 0;
}

static void stream_free(struct net_port *port)
{
	fd_close(&port->fd);
	free(from_port(port));
}

static const struct net_port_ops stream_ops = {
	.receive = receive,
	.transmit = transmit,
	.flush = flush,
	.free = stream_free,
};

int net_stream_new(int fd, struct net_port **ret_port, struct error *err)
{
	struct stream *s = calloc(1, sizeof(*s));
	int bytes = SEND_BYTES;
	socklen_t len = sizeof(bytes);

	if (!s)
		return error_set_shortage(err, -ENOMEM, "making a network port");
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, &len) < 0 || bytes < 0)
		bytes = 0;
	s->port = (struct net_port){.ops = &stream_ops, .fd = fd};
	s->send_bytes = (size_t)bytes;
	*ret_port = &s->port;
	return 0;
}
