/* bench-vsock: a stream of bytes between a guest and the host through virtio-vsock, and through a
 * Unix stream socket alone. The driver is the benchmark itself, on the control thread: its work
 * counts as the product's. Main thread. */
#include "bench.h"
#include "floor_stream.h"
#include "vsock_driver.h"

#define ROUND_BYTES MIB(32)
#define ROUNDS	    40

struct kind {
	const char *name, *what;
	bool out; /* the guest sends */
	uint32_t chunk;
};

/* Linux sends packets of 64 KiB at most, and has room for 4 KiB in each that it receives. */
static const struct kind kinds[] = {
	{"vsock.out.4k", "guest to host, by 4 KiB; floor: a Unix socket", true, KIB(4)},
	{"vsock.out.64k", "… by 64 KiB", true, KIB(64)},
	{"vsock.in.4k", "host to guest, by 4 KiB; floor: a Unix socket", false, KIB(4)},
	{"vsock.in.64k", "… by 64 KiB", false, KIB(64)},
};

/* A stream's two ends: this thread's is fd, or driver's. */
struct side {
	struct stream_far far;
	int fd;
	uint64_t pos;
	struct vsock_driver driver;
};

static int near_end(struct side *s, enum results_side side, const struct kind *kind,
		    struct error *err)
{
	if (side == RESULTS_FLOOR)
		return floor_stream_near(s->fd, kind->out, kind->chunk, ROUND_BYTES, &s->pos, err);
	return (kind->out ? vsock_driver_send : vsock_driver_receive)(&s->driver, ROUND_BYTES, err);
}

/* Until whoever reads has it all. */
static int once(struct bench *b, struct side *s, enum results_side side, const struct kind *kind,
		struct error *err)
{
	uint64_t begin_ns = now_ns(), end_ns = 0, far_ns = 0;
	int r;

	stream_far_begin(&s->far, ROUND_BYTES);
	r = near_end(s, side, kind, err);
	end_ns = now_ns();
	if (r == 0)
		r = stream_far_wait(&s->far, &far_ns, err);
	if (r < 0)
		return r;
	return bench_sample(b, side,
			    (double)(ROUND_BYTES >> 20) * 1e9 /
				    (double)((kind->out ? far_ns : end_ns) - begin_ns),
			    err);
}

static int measure(struct bench *b, const struct kind *kind, struct error *err)
{
	struct side floor = {.fd = -1}, product = {.fd = -1};
	int r = stream_far_init(&floor.far, b, !kind->out, kind->chunk, &floor.fd, err);

	if (r == 0)
		r = stream_far_init(&product.far, b, !kind->out, kind->chunk, &product.fd, err);
	if (r == 0)
		r = vsock_driver_init(&product.driver, product.fd, kind->chunk, err);
	while (r == 0 && bench_round(b, err)) {
		r = once(b, &floor, RESULTS_FLOOR, kind, err);
		if (r == 0)
			r = once(b, &product, RESULTS_PRODUCT, kind, err);
	}
	vsock_driver_done(&product.driver);
	fd_close(&floor.fd);
	stream_far_done(&product.far);
	stream_far_done(&floor.far);
	return err->code;
}

static int run(struct bench *b, struct error *err)
{
	int r = bench_pin(b, 1, err);

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(kinds); i++) {
		const struct results_spec spec = {kinds[i].name, kinds[i].what, "MiB/s",
						  .more_is_better = true};

		if (bench_row(b, &spec, ROUNDS, err))
			r = measure(b, &kinds[i], err);
	}
	return err->code;
}

int main(int argc, char **argv)
{
	static const struct bench_program program =
		{"vsock", "a stream of bytes through virtio-vsock, against a Unix socket", run};

	return bench_main(&program, argc, argv);
}
