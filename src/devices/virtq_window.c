/* A run of popped chains for vectored I/O. See virtq_window.h. Control thread. */
#include "devices/virtq_window.h"

#include <assert.h>
#include <errno.h>

static void append(struct virtq_window *w, uint16_t head, const struct iovec *iov, unsigned n,
		   uint64_t room)
{
	unsigned at = w->chains++;
	/* A chain that the guest has made shorter meanwhile is done. */
	uint64_t begun = at == 0 ? w->begun : 0;

	w->chain[at].head = head;
	w->chain[at].segments = 0;
	w->chain[at].bytes = 0;
	for (unsigned i = 0; i < n && room; i++) {
		size_t over = MIN(iov[i].iov_len, begun);
		size_t len = MIN(iov[i].iov_len - over, room);

		begun -= over;
		if (!len)
			continue;
		w->iov[w->segments++] = (struct iovec){(uint8_t *)iov[i].iov_base + over, len};
		w->chain[at].segments++;
		w->chain[at].bytes += len;
		room -= len;
	}
	w->bytes += w->chain[at].bytes;
}

int virtq_window_fill(struct virtq_window *w, struct virtq *q, uint64_t max_bytes)
{
	struct virtq_chain c;

	while (w->chains < VIRTQ_WINDOW_CHAINS && w->bytes < max_bytes) {
		int rc = virtq_pop(q, &c);
		if (rc <= 0)
			return rc;
		if (w->writable && !c.in_bytes) {
			virtq_unpop(q);
			return -ENOBUFS;
		}

		unsigned n = w->writable ? c.in : c.out;
		if (w->segments + n > VIRTQ_MAX_SIZE) {
			virtq_unpop(q);
			return 1;
		}
		append(w, c.head, w->writable ? c.iov + c.out : c.iov, n,
		       w->writable ? max_bytes - w->bytes : UINT64_MAX);
	}
	return 1;
}

/* Drops n bytes off the front of iov[at ..]; returns the first segment that is left. */
static unsigned skip(struct virtq_window *w, unsigned at, uint64_t n)
{
	while (n) {
		size_t step = MIN(w->iov[at].iov_len, n);

		w->iov[at].iov_base = (uint8_t *)w->iov[at].iov_base + step;
		w->iov[at].iov_len -= step;
		n -= step;
		if (!w->iov[at].iov_len)
			at++;
	}
	return at;
}

unsigned virtq_window_advance(struct virtq_window *w, struct virtq *q, uint64_t n)
{
	unsigned pushed = 0, segments = 0;

	assert(n <= w->bytes);
	w->bytes -= n;
	while (pushed < w->chains) {
		uint64_t step = MIN(w->chain[pushed].bytes, n);
		bool done = step == w->chain[pushed].bytes || (w->writable && step);

		if (!done) {
			unsigned left = skip(w, segments, step);

			w->begun += step;
			w->chain[pushed].segments -= (uint16_t)(left - segments);
			w->chain[pushed].bytes -= step;
			segments = left;
			break;
		}
		/* A chain that is given back half-filled takes its room along. */
		w->bytes -= w->chain[pushed].bytes - step;
		segments += w->chain[pushed].segments;
		virtq_push(q, w->chain[pushed].head, w->writable ? (uint32_t)step : 0);
		n -= step;
		pushed++;
		w->begun = 0;
	}
	w->chains -= pushed;
	w->segments -= segments;
	memmove(w->chain, w->chain + pushed, w->chains * sizeof(w->chain[0]));
	memmove(w->iov, w->iov + segments, w->segments * sizeof(w->iov[0]));
	return pushed;
}

void virtq_window_put_back(struct virtq_window *w, struct virtq *q)
{
	virtq_rewind(q, (uint16_t)w->chains);
	if (!q->ready)
		w->begun = 0;
	w->chains = w->segments = 0;
	w->bytes = 0;
}

size_t virtq_window_read(const struct virtq_window *w, void *buf, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < w->segments && done < len; i++) {
		size_t step = MIN(w->iov[i].iov_len, len - done);

		memcpy((uint8_t *)buf + done, w->iov[i].iov_base, step);
		done += step;
	}
	return done;
}

size_t virtq_window_write(const struct virtq_window *w, const void *buf, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < w->segments && done < len; i++) {
		size_t step = MIN(w->iov[i].iov_len, len - done);

		memcpy(w->iov[i].iov_base, (const uint8_t *)buf + done, step);
		done += step;
	}
	return done;
}
