/* The floor of vsock: bytes in chunks through a Unix stream socket, to or from a thread on the
 * other host CPU. The product's stream ends at such a thread, too. Every byte that is read is
 * compared with what it has to be. */
#ifndef STASIS_BENCH_FLOOR_STREAM_H
#define STASIS_BENCH_FLOOR_STREAM_H

#include <pthread.h>
#include <semaphore.h>

#include "bench.h"

#define STREAM_CHUNK_MAX KIB(64)
/* A prime, so that a chunk that is lost, comes twice or out of order is seen. */
#define STREAM_PERIOD 65521u

/* What every stream says, over and over. stream_far_init fills it in, before there is a thread. */
extern uint8_t stream_text[STREAM_PERIOD + STREAM_CHUNK_MAX];
/* From byte pos on, a whole chunk of it. */
static inline const uint8_t *stream_at(uint64_t pos)
{
	return stream_text + pos % STREAM_PERIOD;
}

/* The thread at the far end, on host CPU 0 of the benchmark's. */
struct stream_far {
	const struct bench *bench;
	pthread_t thread;
	bool started;
	int fd; /* blocking; owned */
	bool writes;
	uint32_t chunk;
	sem_t begin, ended;
	/* The far thread's between begin and ended, else the main thread's: what the semaphores
	 * order. */
	bool over;
	uint64_t bytes, pos, end_ns;
	int result;
};

/* ret_near_fd: the other end; the caller's, and blocking. On failure nothing is left. */
int stream_far_init(struct stream_far *f, const struct bench *b, bool writes, uint32_t chunk,
		    int *ret_near_fd, struct error *err) MUST_CHECK;
/* After the near end was closed. Accepts a zeroed one. */
void stream_far_done(struct stream_far *f);
/* It writes, or reads and compares, so many bytes. */
void stream_far_begin(struct stream_far *f, uint64_t bytes);
/* Waits until it has. ret_end_ns: when that was. */
int stream_far_wait(struct stream_far *f, uint64_t *ret_end_ns, struct error *err) MUST_CHECK;

/* The floor's other half of that, on the calling thread. pos: of the stream; moves on. */
int floor_stream_near(int fd, bool writes, uint32_t chunk, uint64_t bytes, uint64_t *pos,
		      struct error *err) MUST_CHECK;

#endif
