/* Frames in and out of non-blocking descriptors. One thread per connection. */
#include "vm/lab/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"

struct header {
	uint32_t len, session;
	uint8_t type, channel;
	uint16_t reserved;
};

#define IN_SIZE (sizeof(struct header) + LAB_PAYLOAD)

int lab_bytes_add(struct lab_bytes *b, const void *data, size_t len)
{
	if (len == 0)
		return 0;
	if (b->cap - b->at - b->len < len) {
		size_t cap = MAX(b->cap, 4096u);
		uint8_t *more;

		if (b->at > 0)
			memmove(b->data, b->data + b->at, b->len);
		b->at = 0;
		while (cap - b->len < len)
			cap *= 2;
		more = realloc(b->data, cap);
		if (!more)
			return -ENOMEM;
		b->data = more;
		b->cap = cap;
	}
	memcpy(b->data + b->at + b->len, data, len);
	b->len += len;
	return 0;
}

int64_t lab_bytes_write(struct lab_bytes *b, int fd)
{
	int64_t total = 0;

	while (b->len > 0) {
		ssize_t n = write(fd, b->data + b->at, b->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return total > 0 && errno == EAGAIN ? total : -errno;
		b->at += (size_t)n;
		b->len -= (size_t)n;
		total += n;
	}
	b->at = 0;
	return total;
}

void lab_bytes_done(struct lab_bytes *b)
{
	free(b->data);
	*b = (struct lab_bytes){0};
}

static int set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

int lab_conn_init(struct lab_conn *c, int in_fd, int out_fd)
{
	int r;

	*c = (struct lab_conn){.in_fd = in_fd, .out_fd = out_fd};
	r = set_nonblocking(in_fd);
	if (r == 0)
		r = set_nonblocking(out_fd);
	c->in = malloc(IN_SIZE);
	return r < 0 ? r : c->in ? 0 : -ENOMEM;
}

void lab_conn_done(struct lab_conn *c)
{
	if (c->out_fd != c->in_fd)
		fd_close(&c->out_fd);
	fd_close(&c->in_fd);
	c->out_fd = -1;
	free(c->in);
	c->in = NULL;
	lab_bytes_done(&c->out);
}

int lab_conn_read(struct lab_conn *c)
{
	ssize_t n;

	memmove(c->in, c->in + c->in_used, c->in_len - c->in_used);
	c->in_len -= c->in_used;
	c->in_used = 0;
	do
		n = read(c->in_fd, c->in + c->in_len, IN_SIZE - c->in_len);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	c->in_len += (size_t)n;
	return n == 0 ? -ECONNRESET : 0;
}

int lab_conn_next(struct lab_conn *c, struct lab_frame *ret_frame)
{
	struct header h;
	size_t left = c->in_len - c->in_used;

	if (left < sizeof(h))
		return 0;
	memcpy(&h, c->in + c->in_used, sizeof(h));
	if (h.len > LAB_PAYLOAD || h.type == 0 || h.type >= LAB_TYPES)
		return -EPROTO;
	if (left - sizeof(h) < h.len)
		return 0;
	*ret_frame = (struct lab_frame){
		.len = h.len,
		.session = h.session,
		.type = h.type,
		.channel = h.channel,
		.payload = c->in + c->in_used + sizeof(h),
	};
	c->in_used += sizeof(h) + h.len;
	return 1;
}

int lab_conn_send(struct lab_conn *c, uint32_t session, enum lab_type type, uint8_t channel,
		  const void *payload, size_t len)
{
	struct header h = {.len = (uint32_t)len,
			   .session = session,
			   .type = (uint8_t)type,
			   .channel = channel};
	int r = lab_bytes_add(&c->out, &h, sizeof(h));

	return r < 0 ? r : lab_bytes_add(&c->out, payload, len);
}

int lab_conn_send_u32(struct lab_conn *c, uint32_t session, enum lab_type type, uint8_t channel,
		      uint32_t value)
{
	return lab_conn_send(c, session, type, channel, &value, sizeof(value));
}

int lab_conn_flush(struct lab_conn *c)
{
	int64_t n = lab_bytes_write(&c->out, c->out_fd);

	return n == -EAGAIN ? 0 : n < 0 ? (int)n : 0;
}
