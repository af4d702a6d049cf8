/* Sources and sinks. Owned by the thread that owns the wire. */
#include "vm/lab/stream.h"

#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"

/* Reads or writes before other channels get a turn. */
#define TURN_TRANSFERS 4
/* A quarter of the window: few CREDIT frames, and the sender never runs dry for want of one. */
#define CREDIT_STEP (FRAME_WINDOW / 4)

int stream_fd_own(int fd, struct stream_fd *ret)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	*ret = (struct stream_fd){.fd = fd, .owned = true, .kind = STREAM_NONBLOCKING};
	return 0;
}

struct stream_fd stream_fd_share(int fd, bool writing)
{
	struct stream_fd s = {.fd = fd, .kind = STREAM_BLOCKING};
	char path[32];
	struct stat st;
	int own;

	if (fstat(fd, &st) < 0)
		return s;
	if (S_ISSOCK(st.st_mode)) {
		s.kind = STREAM_SOCKET;
		return s;
	}
	if (!S_ISFIFO(st.st_mode) && !isatty(fd)) {
		s.kind = STREAM_FILE;
		return s;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	own = open(path, (writing ? O_WRONLY : O_RDONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	/* Another user's pipe, or one whose reader has gone: make do with what poll promises. */
	if (own >= 0)
		s = (struct stream_fd){.fd = own, .owned = true, .kind = STREAM_NONBLOCKING};
	return s;
}

void stream_fd_done(struct stream_fd *s)
{
	if (s->owned)
		fd_close(&s->fd);
	s->fd = -1;
}

/* Bytes, 0 at the end of file, or a negative errno. */
static ssize_t read_some(const struct stream_fd *s, void *data, size_t len)
{
	ssize_t n;

	do
		n = s->kind == STREAM_SOCKET ? recv(s->fd, data, len, MSG_DONTWAIT)
					     : read(s->fd, data, len);
	while (n < 0 && errno == EINTR);
	/* The other side of a pseudo-terminal has closed. */
	if (n < 0 && errno == EIO && s->owned)
		return 0;
	return n < 0 ? -errno : n;
}

static ssize_t write_some(const struct stream_fd *s, const void *data, size_t len)
{
	ssize_t n;

	/* "Writable" is a promise of this much for a pipe, and of something for a terminal. */
	if (s->kind == STREAM_BLOCKING)
		len = MIN(len, (size_t)PIPE_BUF);
	do
		n = s->kind == STREAM_SOCKET ? send(s->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL)
					     : write(s->fd, data, len);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static bool once_only(const struct stream_fd *s)
{
	return s->kind == STREAM_BLOCKING;
}

/* ---- source -------------------------------------------------------------------------------- */

void source_init(struct source *s, struct stream_fd io, uint8_t channel)
{
	*s = (struct source){.io = io,
			     .channel = channel,
			     .credit = FRAME_WINDOW,
			     .left = UINT64_MAX,
			     .slot = -1};
}

void source_poll(struct source *s, struct pollset *set, const struct wire *w)
{
	s->slot = -1;
	/* A pipe that has hung up says so without end: it is asked only when it may be read. */
	if (!s->finished && s->credit && s->left && !wire_busy(w))
		s->slot = pollset_add(set, s->io.fd, POLLIN);
}

static int finish(struct source *s, struct wire *w, uint32_t session)
{
	source_stop(s);
	return wire_send(w, session, FRAME_EOF, s->channel, NULL, 0);
}

int source_work(struct source *s, const struct pollset *set, struct wire *w, uint32_t session)
{
	uint8_t buf[FRAME_PAYLOAD_MAX];
	bool ready = pollset_got(set, s->slot) != 0;

	s->slot = -1;
	if (s->finished)
		return 0;
	for (unsigned i = 0; ready && i < TURN_TRANSFERS && s->credit && s->left; i++) {
		size_t want = (size_t)MIN(MIN((uint64_t)s->credit, s->left), sizeof(buf));
		ssize_t n = read_some(&s->io, buf, want);
		int r;

		if (n == -EAGAIN)
			return 0;
		/* An error ends a stream as its end does. */
		if (n <= 0)
			return finish(s, w, session);
		s->credit -= (uint32_t)n;
		s->left -= (uint64_t)n;
		r = wire_send(w, session, FRAME_DATA, s->channel, buf, (size_t)n);
		if (r < 0)
			return r;
		if (once_only(&s->io) || wire_busy(w))
			break;
	}
	return s->left ? 0 : finish(s, w, session);
}

void source_drain(struct source *s)
{
	int held = 0;

	if (s->finished)
		return;
	if (ioctl(s->io.fd, FIONREAD, &held) < 0 || held < 0)
		held = 0;
	s->left = (uint64_t)held;
}

int source_credit(struct source *s, uint32_t bytes)
{
	if (bytes > FRAME_WINDOW - s->credit)
		return -EBADMSG;
	s->credit += bytes;
	return 0;
}

void source_stop(struct source *s)
{
	stream_fd_done(&s->io);
	s->finished = true;
}

/* ---- sink ---------------------------------------------------------------------------------- */

int sink_init(struct sink *s, struct stream_fd io, uint8_t channel)
{
	*s = (struct sink){.io = io, .channel = channel, .slot = -1};
	s->ring = malloc(FRAME_WINDOW);
	if (s->ring)
		return 0;
	sink_done(s);
	return -ENOMEM;
}

void sink_done(struct sink *s)
{
	stream_fd_done(&s->io);
	free(s->ring);
	s->ring = NULL;
	s->len = 0;
	s->finished = true;
}

int sink_take(struct sink *s, const uint8_t *data, uint32_t len)
{
	uint32_t tail, first;

	/* What was under way when it broke. */
	if (s->finished || s->broken)
		return 0;
	if (s->eof || len > FRAME_WINDOW - s->len - s->used)
		return -EBADMSG;
	tail = (s->head + s->len) % FRAME_WINDOW;
	first = MIN(len, FRAME_WINDOW - tail);
	memcpy(s->ring + tail, data, first);
	memcpy(s->ring, data + first, len - first);
	s->len += len;
	return 0;
}

void sink_end(struct sink *s)
{
	s->eof = true;
}

void sink_poll(struct sink *s, struct pollset *set)
{
	s->slot = -1;
	/* Without anything to write it is watched for its reader's end. */
	if (!s->finished && !s->broken)
		s->slot = pollset_add(set, s->io.fd, s->len ? POLLOUT : 0);
}

static void write_out(struct sink *s)
{
	for (unsigned i = 0; s->len && i < TURN_TRANSFERS; i++) {
		size_t run = MIN(s->len, FRAME_WINDOW - s->head);
		ssize_t n = write_some(&s->io, s->ring + s->head, run);

		if (n == -EAGAIN)
			return;
		if (n < 0) {
			s->broken = true;
			return;
		}
		s->head = (s->head + (uint32_t)n) % FRAME_WINDOW;
		s->len -= (uint32_t)n;
		s->used += (uint32_t)n;
		if (once_only(&s->io))
			return;
	}
}

int sink_work(struct sink *s, const struct pollset *set, struct wire *w, uint32_t session)
{
	short got = pollset_got(set, s->slot);
	int r = 0;

	s->slot = -1;
	if (s->finished)
		return 0;
	if (got & POLLOUT)
		write_out(s);
	else if (got & (POLLERR | POLLHUP | POLLNVAL))
		s->broken = true;
	if (s->broken) {
		sink_done(s);
		return s->eof ? 0 : wire_send(w, session, FRAME_CLOSED, s->channel, NULL, 0);
	}
	if (s->eof && s->len == 0) {
		sink_done(s);
		return 0;
	}
	if (!s->eof && s->used >= CREDIT_STEP) {
		r = wire_send32(w, session, FRAME_CREDIT, s->channel, s->used);
		s->used = 0;
	}
	return r;
}
