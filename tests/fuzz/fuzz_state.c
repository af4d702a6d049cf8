/* Saved state from anywhere into a device of each kind, which then goes on over rings of anything.
 * The first byte chooses the device. The state follows, or, with its top bit set, changes to the
 * state of one that has been brought up: place 2, value 1 each. What must hold: what is not refused
 * can be saved, and that restored, and saved to the same bytes. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"
#include "devices/ioapic.h"
#include "devices/net_stream.h"
#include "devices/serial.h"
#include "devices/virtio_blk.h"
#include "devices/virtio_console.h"
#include "devices/virtio_mmio.h"
#include "devices/virtio_net.h"
#include "devices/virtio_rng.h"
#include "devices/virtio_vsock.h"
#include "fuzz.h"
#include "vdriver.h"

#define DISK_BYTES MIB(1)
#define PORTS	   3
#define PAIRS	   2

enum kind { SERIAL, IOAPIC, RNG, BLK, NET, CONSOLE, VSOCK, KINDS };

struct subject {
	enum kind kind;
	struct serial serial;
	struct ioapic ioapic;
	struct virtio_device *dev; /* NULL: no virtio device */
	struct virtio_mmio mmio;
	struct virtio_rng *rng;
	struct virtio_blk *blk;
	struct virtio_net *net;
	struct virtio_console *console;
	struct virtio_console_port port[PORTS];
	struct virtio_vsock *vsock;
	int peer[PAIRS];
};

static struct loop *loop;
static struct vdriver drv;
static char disk[] = "/tmp/stasis-fuzz-XXXXXX";
static int null = -1;

static int install(void *ctx, const struct ioapic_route *routes, unsigned count)
{
	(void)ctx;
	FUZZ_CHECK(count <= IOAPIC_PINS);
	for (unsigned i = 0; i < count; i++)
		FUZZ_CHECK(routes[i].pin < IOAPIC_PINS);
	return 0;
}

static int msi(void *ctx, const struct ioapic_route *route)
{
	(void)ctx;
	return route->data & 1;
}

static const struct ioapic_ops ioapic_ops = {.install = install, .msi = msi};

static int refuse(void *arg, uint32_t port)
{
	(void)arg;
	(void)port;
	return -ECONNREFUSED;
}

static void make_net(struct subject *s)
{
	struct virtio_net_config config = {.name = "fuzz", .mtu = 1500, .pairs = PAIRS};

	for (unsigned i = 0; i < PAIRS; i++) {
		int pair[2];

		FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
				      pair) == 0);
		FUZZ_CHECK(net_stream_new(pair[0], &config.port[i], NULL) == 0);
		s->peer[i] = pair[1];
	}
	FUZZ_CHECK(virtio_net_new(loop, &drv.mem, -1, &config, &s->net, NULL) == 0);
	s->dev = virtio_net_device(s->net);
}

static void make_console(struct subject *s)
{
	s->port[0] = (struct virtio_console_port){.console = true, .in_fd = -1, .out_fd = -1};
	s->port[1] = (struct virtio_console_port){.name = "in", .in_fd = -1, .out_fd = -1};
	s->port[2] = (struct virtio_console_port){.name = "out", .in_fd = -1, .out_fd = null};
	FUZZ_CHECK(virtio_console_new(loop, &drv.mem, -1, s->port, PORTS, &s->console, NULL) == 0);
	s->dev = virtio_console_device(s->console);
}

static void quiet(struct virtio_device *dev, void *arg)
{
	(void)dev;
	*(bool *)arg = true;
}

static void quiesce(struct subject *s)
{
	bool done = false;

	if (!s->dev)
		return;
	virtio_quiesce(s->dev, quiet, &done);
	for (unsigned i = 0; i < 2000 && !done; i++)
		loop_turn(loop, 1000000);
	FUZZ_CHECK(done);
}

static void make(struct subject *s, enum kind kind)
{
	const struct virtio_blk_config blk = {.file.path = disk, .id = "fuzz", .queues = 2};
	const struct virtio_vsock_config vsock = {.listen_fd = -1, .connect = refuse};

	*s = (struct subject){.kind = kind, .peer = {-1, -1}};
	serial_init(&s->serial, -1);
	ioapic_init(&s->ioapic, &ioapic_ops, NULL);
	switch (kind) {
	case RNG:
		FUZZ_CHECK(virtio_rng_new(loop, &drv.mem, -1, &s->rng, NULL) == 0);
		s->dev = virtio_rng_device(s->rng);
		break;
	case BLK:
		FUZZ_CHECK(virtio_blk_new(loop, &drv.mem, -1, &blk, &s->blk, NULL) == 0);
		s->dev = virtio_blk_device(s->blk);
		break;
	case NET:
		make_net(s);
		break;
	case CONSOLE:
		make_console(s);
		break;
	case VSOCK:
		FUZZ_CHECK(virtio_vsock_new(loop, &drv.mem, -1, &vsock, &s->vsock, NULL) == 0);
		s->dev = virtio_vsock_device(s->vsock);
		break;
	default:
		break;
	}
	if (s->dev)
		FUZZ_CHECK(virtio_mmio_init(&s->mmio, s->dev, loop, NULL) == 0);
}

static void finish(struct subject *s)
{
	virtio_mmio_done(&s->mmio);
	virtio_rng_free(s->rng);
	virtio_blk_free(s->blk);
	virtio_net_free(s->net);
	virtio_console_free(s->console);
	virtio_vsock_free(s->vsock);
	for (unsigned i = 0; i < PAIRS; i++)
		fd_close(&s->peer[i]);
}

static void transfer(struct subject *s, struct state_io *io)
{
	if (s->dev)
		virtio_mmio_state(&s->mmio, io);
	else if (s->kind == SERIAL)
		serial_state(&s->serial, io);
	else
		ioapic_state(&s->ioapic, io);
}

static void save(struct subject *s, struct state_io *io)
{
	state_save(io);
	transfer(s, io);
	FUZZ_CHECK(state_result(io, NULL) == 0);
}

static bool restore(struct subject *s, enum kind kind, const uint8_t *data, size_t size)
{
	struct error err = {0};
	struct state_io io;
	int r;

	make(s, kind);
	quiesce(s);
	state_restore(&io, data, size);
	transfer(s, &io);
	r = state_result(&io, &err);
	FUZZ_CHECK(r == 0 || (r == -EINVAL && err.what[0]));
	return r == 0;
}

/* It goes on with what it was given, and comes to rest. */
static void run(struct subject *s)
{
	uint8_t byte = 'x';

	if (s->dev) {
		virtio_resume(s->dev);
		for (unsigned q = 0; q < s->dev->queue_count; q++)
			virtio_notify(s->dev, q);
		for (unsigned i = 0; i < 3; i++)
			loop_turn(loop, 0);
		quiesce(s);
	} else if (s->kind == SERIAL) {
		serial_resume(&s->serial);
		serial_input(&s->serial, &byte, 1);
		for (unsigned reg = 0; reg < 8; reg++)
			s->serial.bus.read(&s->serial.bus, reg, &byte, 1);
	} else {
		ioapic_settle(&s->ioapic);
		for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
			ioapic_set_line(&s->ioapic, pin, pin & 1);
		for (unsigned vector = 0; vector < 256; vector++)
			ioapic_eoi(&s->ioapic, (uint8_t)vector);
	}
}

/* What a device that works says, with changes. */
static uint8_t *changed(enum kind kind, struct fuzz_input *in, size_t *ret_len)
{
	struct subject s;
	struct state_io io;

	make(&s, kind);
	if (s.dev)
		vdriver_bring_up(&drv, s.dev, virtio_offered(s.dev));
	quiesce(&s);
	save(&s, &io);
	finish(&s);
	while (in->left) {
		size_t at = fuzz_u16(in) % io.len;

		io.bytes[at] ^= fuzz_u8(in);
	}
	*ret_len = io.len;
	return io.bytes;
}

static void clean_up(void)
{
	unlink(disk);
}

static void set_up(void)
{
	int fd = mkstemp(disk);

	log_set_level(LOG_ERROR);
	null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	FUZZ_CHECK(fd >= 0 && null >= 0 && ftruncate(fd, DISK_BYTES) == 0);
	FUZZ_CHECK(atexit(clean_up) == 0 && loop_new(&loop, NULL) == 0);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	uint8_t *base = NULL, first;
	struct state_io io, second;
	struct subject s;
	enum kind kind;

	if (!loop)
		set_up();
	vdriver_init(&drv);
	first = fuzz_u8(&in);
	kind = (enum kind)((first & 0x7f) % KINDS);
	if (first & 0x80) {
		base = changed(kind, &in, &size);
		data = base;
	} else {
		data = in.data;
		size = in.left;
	}
	if (restore(&s, kind, data, size)) {
		run(&s);
		if (kind == IOAPIC)
			ioapic_settle(&s.ioapic);
		save(&s, &io);
		finish(&s);
		FUZZ_CHECK(restore(&s, kind, io.bytes, io.len));
		save(&s, &second);
		FUZZ_CHECK(io.len == second.len && memcmp(io.bytes, second.bytes, io.len) == 0);
		state_free(&second);
		state_free(&io);
	}
	finish(&s);
	free(base);
	vdriver_done(&drv);
	return 0;
}
