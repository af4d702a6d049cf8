/* Frames through non-blocking descriptors. The process ignores SIGPIPE. Owned by one thread. */
#include "vm/lab/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"

#define OUT_CAP_MIN 8192
/* Reads before others get a turn. */
#define TURN_READS 4

static int make_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

int wire_init(struct wire *w, int in_fd, int out_fd)
{
	int r;

	*w = (struct wire){.in_fd = in_fd, .out_fd = out_fd};
	w->in = malloc((size_t)2 * FRAME_MAX);
	r = w->in ? make_nonblocking(in_fd) : -ENOMEM;
	if (r == 0)
		r = make_nonblocking(out_fd);
	if (r < 0)
		wire_done(w);
	return r;
}

void wire_done(struct wire *w)
{
	if (w->out_fd != w->in_fd)
		fd_close(&w->out_fd);
	fd_close(&w->in_fd);
	free(w->in);
	free(w->out);
	*w = (struct wire){.in_fd = -1, .out_fd = -1};
}

/* Room for more bytes behind what waits. */
static int make_room(struct wire *w, size_t more)
{
	size_t cap = w->out_cap;
	uint8_t *out;

	if (w->out_len + more > WIRE_OUT_MAX)
		return -ENOBUFS;
	if (w->out_head + w->out_len + more <= cap)
		return 0;
	if (w->out_len + more > cap) {
		cap = cap ? cap : OUT_CAP_MIN;
		while (cap < w->out_len + more)
			cap *= 2;
		out = malloc(cap);
		if (!out)
			return -ENOMEM;
		if (w->out_len)
			memcpy(out, w->out + w->out_head, w->out_len);
		free(w->out);
		w->out = out;
		w->out_cap = cap;
	} else {
		memmove(w->out, w->out + w->out_head, w->out_len);
	}
	w->out_head = 0;
	return 0;
}

int wire_send(struct wire *w, uint32_t session, enum frame_type type, uint8_t channel,
	      const void *payload, size_t len)
{
	int r = make_room(w, FRAME_HEADER + len);
	uint8_t *at;

	if (r < 0)
		return r;
	at = w->out + w->out_head + w->out_len;
	frame_header(at, session, type, channel, (uint32_t)len);
	if (len)
		memcpy(at + FRAME_HEADER, payload, len);
	w->out_len += FRAME_HEADER + len;
	return 0;
}

int wire_send32(struct wire *w, uint32_t session, enum frame_type type, uint8_t channel,
		uint32_t value)
{
	uint8_t payload[4];

	frame_put32(payload, value);
	return wire_send(w, session, type, channel, payload, sizeof(payload));
}

int wire_flush(struct wire *w)
{
	while (w->out_len) {
		ssize_t n = write(w->out_fd, w->out + w->out_head, w->out_len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0)
			return -errno;
		w->out_head += (size_t)n;
		w->out_len -= (size_t)n;
	}
	w->out_head = 0;
	return 0;
}

/* Calls each() for the whole frames in the buffer, and keeps the rest. */
static int dispatch(struct wire *w, int (*each)(const struct frame *f, void *arg), void *arg)
{
	size_t at = 0;
	int r = 0;

	while (r >= 0) {
		struct frame f;
		ssize_t n = frame_parse(w->in + at, w->in_len - at, &f);

		if (n <= 0) {
			r = (int)n;
			break;
		}
		at += (size_t)n;
		r = each(&f, arg);
	}
	memmove(w->in, w->in + at, w->in_len - at);
	w->in_len -= at;
	return r;
}

int wire_read(struct wire *w, int (*each)(const struct frame *f, void *arg), void *arg)
{
	for (unsigned i = 0; i < TURN_READS; i++) {
		/* Less than a frame is left over each time, so there is room. */
		ssize_t n = read(w->in_fd, w->in + w->in_len, 2 * FRAME_MAX - w->in_len);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ECONNRESET;
		w->in_len += (size_t)n;
		r = dispatch(w, each, arg);
		if (r < 0)
			return r;
	}
	return 0;
}
