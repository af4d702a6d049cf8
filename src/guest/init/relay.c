/* Moves the bytes of one stream. One thread: init's. */
#include "guest/init/relay.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/compiler.h"

/* Buffers moved before other streams get a turn. */
#define TURN_BUFFERS 16

void relay_init(struct relay *r, int src, int dst, bool from_port)
{
	r->src = src;
	r->dst = dst;
	r->from_port = from_port;
	r->src_ended = false;
	r->finished = false;
	r->broken = false;
	r->left = UINT64_MAX;
	r->head = 0;
	r->len = 0;
}

static void finish(struct relay *r)
{
	int *pipe_end = r->from_port ? &r->dst : &r->src;

	if (r->finished)
		return;
	close(*pipe_end);
	*pipe_end = -1;
	r->finished = true;
	r->src_ended = true;
	r->len = 0;
}

void relay_stop(struct relay *r)
{
	finish(r);
}

void relay_drain(struct relay *r)
{
	int held = 0;

	if (r->src_ended)
		return;
	if (ioctl(r->src, FIONREAD, &held) < 0 || held < 0)
		held = 0;
	r->left = (uint64_t)held;
	if (held == 0)
		r->src_ended = true;
	if (r->src_ended && r->len == 0)
		finish(r);
}

void relay_poll(const struct relay *r, struct pollfd *src, struct pollfd *dst)
{
	bool room = r->len == 0 || r->head + r->len < RELAY_BYTES;

	/* A source that has hung up says so without end, so it is asked only when there is room;
	 * the destination is watched always, for its reader's end. */
	*src = (struct pollfd){.fd = r->src_ended || !room ? -1 : r->src, .events = POLLIN};
	*dst = (struct pollfd){.fd = r->finished ? -1 : r->dst, .events = r->len ? POLLOUT : 0};
}

/* Fills the buffer as far as it goes: a port gives a page at a time. False when there is no more
 * to be had now. */
static bool fill(struct relay *r)
{
	if (r->len == 0)
		r->head = 0;
	while (!r->src_ended && r->head + r->len < RELAY_BYTES) {
		size_t room = RELAY_BYTES - r->head - r->len;
		ssize_t n = read(r->src, r->buf + r->head + r->len, MIN(room, r->left));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return false;
		/* End of file; or an error, which on a pipe or port is one as well. */
		if (n <= 0) {
			r->src_ended = true;
			break;
		}
		r->len += (size_t)n;
		r->left -= (uint64_t)n;
		if (r->left == 0)
			r->src_ended = true;
	}
	return !r->src_ended;
}

/* False when dst takes no more now, or ever. */
static bool flush(struct relay *r)
{
	const struct timespec while_memory_is_short = {.tv_nsec = 1000000};

	while (r->len > 0) {
		ssize_t n = write(r->dst, r->buf + r->head, r->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return false;
		if (n == 0 || (n < 0 && errno == ENOMEM)) {
			/* The port found no kernel memory for a copy; poll would say "ready". */
			nanosleep(&while_memory_is_short, NULL);
			return false;
		}
		if (n < 0) {
			r->broken = true;
			finish(r);
			return false;
		}
		r->head += (size_t)n;
		r->len -= (size_t)n;
	}
	return true;
}

void relay_work(struct relay *r, short src_revents, short dst_revents)
{
	bool more = src_revents != 0;

	if (r->finished)
		return;
	if (dst_revents & (POLLERR | POLLHUP | POLLNVAL)) {
		r->broken = true;
		finish(r);
		return;
	}
	for (unsigned i = 0; i < TURN_BUFFERS; i++) {
		if (more)
			more = fill(r);
		if (!flush(r) || !more)
			break;
	}
	if (!r->finished && r->src_ended && r->len == 0)
		finish(r);
}
