/* Both ends of a Unix stream socket: see floor_stream.h. Main thread, but for run_far. */
#include "floor_stream.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

uint8_t stream_text[STREAM_PERIOD + STREAM_CHUNK_MAX];

static void fill(void)
{
	uint64_t state = 1;

	for (size_t i = 0; i < sizeof(stream_text); i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		stream_text[i] =
			i < STREAM_PERIOD ? (uint8_t)(state >> 56) : stream_text[i - STREAM_PERIOD];
	}
}

static int write_stream(int fd, uint32_t chunk, uint64_t bytes, uint64_t *pos)
{
	for (uint64_t end = *pos + bytes; *pos < end;) {
		ssize_t n = send(fd, stream_at(*pos), MIN(chunk, end - *pos), MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			return -errno;
		*pos += n > 0 ? (uint64_t)n : 0;
	}
	return 0;
}

/* -EBADMSG: other bytes than were sent. */
static int read_stream(int fd, uint32_t chunk, uint64_t bytes, uint64_t *pos)
{
	uint8_t room[STREAM_CHUNK_MAX];
	bool wrong = false;

	for (uint64_t end = *pos + bytes; *pos < end;) {
		ssize_t n = recv(fd, room, MIN(chunk, end - *pos), 0);

		if (n == 0)
			return -ECONNRESET;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n < 0)
			continue;
		/* Read on all the same, or the writer would wait. */
		wrong = wrong || memcmp(room, stream_at(*pos), (size_t)n) != 0;
		*pos += (uint64_t)n;
	}
	return wrong ? -EBADMSG : 0;
}

/* ---- the far end ----------------------------------------------------------------------- */

static void *run_far(void *arg)
{
	struct stream_far *f = arg;
	struct error err = {0};

	(void)!bench_pin(f->bench, 0, &err);
	for (;;) {
		while (sem_wait(&f->begin) < 0)
			;
		if (f->over)
			return NULL;
		f->result = (f->writes ? write_stream : read_stream)(f->fd, f->chunk, f->bytes,
								     &f->pos);
		f->end_ns = now_ns();
		sem_post(&f->ended);
	}
}

int stream_far_init(struct stream_far *f, const struct bench *b, bool writes, uint32_t chunk,
		    int *ret_near_fd, struct error *err)
{
	int pair[2], e;

	*f = (struct stream_far){.bench = b, .fd = -1, .writes = writes, .chunk = chunk};
	fill();
	sem_init(&f->begin, 0, 0);
	sem_init(&f->ended, 0, 0);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set_shortage(err, -errno, "making sockets");
	f->fd = pair[0];
	e = pthread_create(&f->thread, NULL, run_far, f);
	f->started = e == 0;
	if (e) {
		fd_close(&f->fd);
		fd_close(&pair[1]);
		return error_set_shortage(err, -e, "starting a thread");
	}
	*ret_near_fd = pair[1];
	return 0;
}

void stream_far_done(struct stream_far *f)
{
	if (!f->started)
		return;
	f->over = true;
	sem_post(&f->begin);
	pthread_join(f->thread, NULL);
	fd_close(&f->fd);
	sem_destroy(&f->begin);
	sem_destroy(&f->ended);
	*f = (struct stream_far){.fd = -1};
}

void stream_far_begin(struct stream_far *f, uint64_t bytes)
{
	f->bytes = bytes;
	sem_post(&f->begin);
}

int stream_far_wait(struct stream_far *f, uint64_t *ret_end_ns, struct error *err)
{
	while (sem_wait(&f->ended) < 0)
		;
	*ret_end_ns = f->end_ns;
	return f->result < 0 ? error_set(err, f->result, "the far end of the stream") : 0;
}

/* ---- the near end ---------------------------------------------------------------------- */

int floor_stream_near(int fd, bool writes, uint32_t chunk, uint64_t bytes, uint64_t *pos,
		      struct error *err)
{
	int r = (writes ? write_stream : read_stream)(fd, chunk, bytes, pos);

	return r < 0 ? error_set(err, r, "the near end of the stream") : 0;
}
