/* bench-console: what a guest writes to its console, on its way into a pipe that another thread
 * reads. The driver is the benchmark itself, on the control thread: its work counts as the
 * product's. */
#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bench.h"
#include "devices/virtio_console.h"
#include "vring.h"

/* Guest memory:
 *   0x1000 descriptors   0x2000 available ring   0x3000 used ring   0x100000 buffers */
enum {
	RAM_BYTES = 0x200000,
	DESC_GPA = 0x1000,
	AVAIL_GPA = 0x2000,
	USED_GPA = 0x3000,
	DATA_GPA = 0x100000,
	WRITE_BYTES = 4096,
	QUEUE = 64,
	DEPTH = 16, /* writes under way */
	TX = 1,	    /* the console port's queue (virtio 1.2, 5.3.2) */
	QUIET_MS = 5000,
};
#define WRITES 4096u /* in a round */
#define ROUNDS 40

/* ---- the reader ------------------------------------------------------------------------ */

struct reader {
	const struct bench *bench;
	int ends[2];
	pthread_t thread;
	bool started;
};

static void *drain(void *arg)
{
	static uint8_t room[65536];
	struct reader *r = arg;
	struct error err = {0};

	(void)!bench_pin(r->bench, 0, &err);
	while (read(r->ends[0], room, sizeof(room)) > 0)
		;
	return NULL;
}

static int reader_start(struct reader *r, const struct bench *b, struct error *err)
{
	int e;

	*r = (struct reader){.bench = b, .ends = {-1, -1}};
	if (pipe(r->ends) < 0)
		return error_set_shortage(err, -errno, "making a pipe");
	e = pthread_create(&r->thread, NULL, drain, r);
	r->started = e == 0;
	return e ? error_set_shortage(err, -e, "starting a thread") : 0;
}

static void reader_stop(struct reader *r)
{
	fd_close(&r->ends[1]);
	if (r->started)
		pthread_join(r->thread, NULL);
	fd_close(&r->ends[0]);
}

/* ---- the guest ------------------------------------------------------------------------- */

struct console {
	struct loop *loop;
	struct guest_memory mem;
	struct loop_event kick;
	int irq_fd; /* as an irqfd: written, and read by nobody */
	struct virtio_console_port port;
	struct virtio_console *console;
	struct virtio_device *dev;
	struct vring ring;
};

static void on_kick(struct loop_event *e, uint64_t count UNUSED)
{
	virtio_notify(container_of(e, struct console, kick)->dev, TX);
}

static void bring_up(struct console *c)
{
	uint64_t features = 1ull << VIRTIO_F_VERSION_1_BIT | 1ull << VIRTIO_F_EVENT_IDX_BIT;
	uint8_t *low = c->mem.region[0].host;
	struct virtq *q = &c->dev->queue[TX];

	c->ring = (struct vring){.size = QUEUE,
				 .desc = (void *)(low + DESC_GPA),
				 .avail = (void *)(low + AVAIL_GPA),
				 .used = (void *)(low + USED_GPA)};
	for (unsigned i = 0; i < DEPTH; i++)
		c->ring.desc[i] =
			(struct vring_desc){.addr = DATA_GPA + i * WRITE_BYTES, .len = WRITE_BYTES};
	virtio_set_status(c->dev, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER, features);
	virtio_set_status(c->dev, c->dev->status | VIRTIO_STATUS_FEATURES_OK, features);
	q->size = QUEUE;
	q->desc_gpa = DESC_GPA;
	q->avail_gpa = AVAIL_GPA;
	q->used_gpa = USED_GPA;
	virtio_set_ready(c->dev, TX, true);
	virtio_set_status(c->dev, c->dev->status | VIRTIO_STATUS_DRIVER_OK, features);
}

static int console_open(struct console *c, int out_fd, struct error *err)
{
	const struct guest_layout layout = {.range = {{.size = RAM_BYTES}}, .count = 1};
	int r;

	*c = (struct console){.kick = {.fire = on_kick, .fd = -1},
			      .irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
			      .port = {.console = true, .in_fd = -1, .out_fd = out_fd}};
	if (c->irq_fd < 0)
		return error_set_shortage(err, -errno, "making an event descriptor");
	r = loop_new(&c->loop, err);
	if (r == 0)
		r = guest_memory_init(&c->mem, &layout, err);
	if (r == 0)
		r = loop_event_init(c->loop, &c->kick, err);
	if (r == 0)
		r = virtio_console_new(c->loop, &c->mem, c->irq_fd, &c->port, 1, &c->console, err);
	if (r < 0)
		return r;
	c->dev = virtio_console_device(c->console);
	bring_up(c);
	return virtio_running(c->dev) ? 0 : error_failed(err, "the console refused its driver");
}

static void quiet(struct virtio_device *dev UNUSED, void *arg)
{
	*(bool *)arg = true;
}

static void console_close(struct console *c)
{
	bool done = !c->console;

	if (c->console)
		virtio_quiesce(c->dev, quiet, &done);
	for (unsigned i = 0; i < QUIET_MS && !done; i++)
		if (loop_turn(c->loop, 1000000) < 0)
			break;
	virtio_console_free(c->console);
	loop_event_done(&c->kick);
	loop_free(c->loop);
	guest_memory_done(&c->mem);
	fd_close(&c->irq_fd);
}

/* ---- rounds ---------------------------------------------------------------------------- */

static int sample(struct bench *b, enum results_side side, uint64_t begin_ns, struct error *err)
{
	return bench_sample(b, side, WRITES * 1e9 / (double)(now_ns() - begin_ns), err);
}

static int floor_round(struct bench *b, int fd, struct error *err)
{
	static const uint8_t data[WRITE_BYTES];
	uint64_t begin_ns = now_ns();

	for (unsigned i = 0; i < WRITES; i++)
		if (write(fd, data, sizeof(data)) != (ssize_t)sizeof(data))
			return error_set(err, -errno, "writing to the floor's pipe");
	return sample(b, RESULTS_FLOOR, begin_ns, err);
}

static int product_round(struct bench *b, struct console *c, struct error *err)
{
	unsigned offered = 0, done = 0;
	uint64_t begin_ns = now_ns();
	int head;

	for (; offered < DEPTH; offered++)
		vring_offer(&c->ring, (uint16_t)offered);
	while (done < WRITES) {
		int r;

		if (c->ring.kicked_idx != c->ring.avail_idx && vring_publish(&c->ring))
			loop_event_signal(&c->kick);
		r = loop_turn(c->loop, UINT64_MAX);
		if (r < 0)
			return error_set(err, r, "turning the loop");
		for (; (head = vring_take(&c->ring)) >= 0; done++)
			if (offered++ < WRITES)
				vring_offer(&c->ring, (uint16_t)head);
	}
	return sample(b, RESULTS_PRODUCT, begin_ns, err);
}

static int run(struct bench *b, struct error *err)
{
	static const struct results_spec spec =
		{"console.out", "writes of 4 KiB to the console, into a pipe; floor: write(2)",
		 "/s", .more_is_better = true};
	struct console console = {.irq_fd = -1};
	struct reader reader = {.ends = {-1, -1}};
	int r;

	if (!bench_row(b, &spec, ROUNDS, err))
		return err->code;
	r = bench_pin(b, 1, err);
	if (r == 0)
		r = reader_start(&reader, b, err);
	if (r == 0)
		r = console_open(&console, reader.ends[1], err);
	while (r == 0 && bench_round(b, err)) {
		r = floor_round(b, reader.ends[1], err);
		if (r == 0)
			r = product_round(b, &console, err);
	}
	console_close(&console);
	reader_stop(&reader);
	return err->code;
}

int main(int argc, char **argv)
{
	static const struct bench_program program = {"console",
						     "what a guest writes to its console", run};

	return bench_main(&program, argc, argv);
}
