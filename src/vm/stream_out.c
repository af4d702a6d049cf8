/* A byte ring in front of a descriptor; one write in flight. Control thread. */
#include "vm/stream_out.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"

static void on_written(struct loop_op *op, int res);

static void write_more(struct stream_out *s)
{
	uint32_t at = (uint32_t)(s->head % STREAM_OUT_SIZE);
	uint64_t len = MIN(s->tail - s->head, (uint64_t)STREAM_OUT_SIZE - at);
	int r;

	if (s->op.active || s->failed || len == 0)
		return;
	r = s->polling
		    ? loop_poll_fd(s->loop, &s->op, s->fd, POLLOUT)
		    : loop_write(s->loop, &s->op, s->fd, s->data + at, (uint32_t)len, UINT64_MAX);
	if (r < 0)
		s->failed = true;
}

static void on_written(struct loop_op *op, int res)
{
	struct stream_out *s = container_of(op, struct stream_out, op);

	if (s->polling)
		s->polling = false; /* res says ready or broken; the write will tell */
	else if (res == -EAGAIN)
		s->polling = true; /* somebody made the descriptor non-blocking */
	else if (res >= 0)
		s->head += (uint64_t)res;
	else if (res != -EINTR) {
		if (!s->failed)
			s->error = res;
		s->failed = true;
	}
	write_more(s);
}

void stream_out_init(struct stream_out *s, struct loop *loop, int fd)
{
	s->loop = loop;
	s->op = (struct loop_op){.done = on_written};
	s->own_fd = fd_reopen_terminal(fd);
	s->fd = s->own_fd >= 0 ? s->own_fd : fd;
	s->head = s->tail = s->dropped = 0;
	s->failed = s->polling = false;
	s->error = 0;
}

void stream_out_put(struct stream_out *s, const void *data, size_t len)
{
	const uint8_t *from = data;
	size_t room = (size_t)(STREAM_OUT_SIZE - (s->tail - s->head));
	size_t n = s->failed ? 0 : MIN(len, room);

	for (size_t i = 0; i < n; i++)
		s->data[(s->tail + i) % STREAM_OUT_SIZE] = from[i];
	s->tail += n;
	s->dropped += len - n;
	write_more(s);
}

bool stream_out_done(struct stream_out *s, uint64_t limit_ns)
{
	bool ended;

	if (!s->loop)
		return true;
	s->failed = true;
	ended = loop_cancel_wait(s->loop, &s->op, limit_ns);
	fd_close(&s->own_fd);
	return ended;
}
