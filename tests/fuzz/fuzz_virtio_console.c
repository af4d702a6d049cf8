/* Fuzzes virtio-console from the guest's side: descriptors, rings, control messages and resets in
 * any order, with descriptor back ends at work. The input is a list of commands, see step().
 * What must hold: nothing but the guest is hurt, and the device always comes to rest. */
#include <fcntl.h>

#include "devices/virtio_console.h"
#include "fuzz.h"
#include "vdriver.h"

#define PORTS	  4
#define QUEUES	  (2 * (PORTS + 1))
#define MAX_STEPS 400
#define MAX_BOOTS 6
/* Where the driver's chains point: all over the low region, and past its end. */
#define ADDRESS_SPAN (VDRIVER_LOW_SIZE + KIB(64))

struct fuzz {
	struct loop *loop;
	struct vdriver drv;
	struct virtio_console *console;
	struct virtio_device *dev;
	unsigned boots;
};

static void output(struct virtio_console_port *port, const uint8_t *data, size_t len)
{
	struct fuzz *f = port->arg;
	/* The bytes are readable, and functions may call back into the device. */
	uint8_t echo = data[0];

	echo = (uint8_t)(echo + data[len - 1]);
	if (f->console)
		(void)virtio_console_input(f->console, 1, &echo, 1);
}

static void flushed(struct virtio_console_port *port)
{
	(void)port;
}

static void quiet(struct virtio_device *dev, void *arg)
{
	(void)dev;
	*(bool *)arg = true;
}

static void freeze(struct fuzz *f)
{
	bool done = false;

	virtio_quiesce(f->dev, quiet, &done);
	for (unsigned i = 0; i < 2000 && !done; i++)
		loop_turn(f->loop, 1000000);
	FUZZ_CHECK(done);
}

static void boot(struct fuzz *f, uint64_t features)
{
	if (f->boots == MAX_BOOTS)
		return;
	f->boots++;
	virtio_set_status(f->dev, 0, 0);
	for (unsigned i = 0; i < 2000 && f->dev->status; i++)
		loop_turn(f->loop, 1000000);
	FUZZ_CHECK(!f->dev->status);
	vdriver_bring_up(&f->drv, f->dev, features);
}

/* One descriptor of ring q, anything in it. */
static void describe(struct fuzz *f, struct fuzz_input *in, unsigned q)
{
	struct vring *r = &f->drv.ring[q];
	unsigned i = (unsigned)fuzz_take(in, 1) % r->size;

	r->desc[i] = (struct vdesc){
		.addr = fuzz_take(in, 3) % ADDRESS_SPAN,
		.len = (uint32_t)fuzz_take(in, 2),
		.flags = (uint16_t)(fuzz_take(in, 1) & 7),
		.next = (uint16_t)fuzz_take(in, 1),
	};
}

/* A whole control message. */
static void control(struct fuzz *f, struct fuzz_input *in)
{
	struct vring *r = &f->drv.ring[3];
	uint64_t gpa = KIB(1);
	uint8_t *p = vdriver_ptr(&f->drv, gpa, 8);
	unsigned i = *r->avail_idx % r->size;

	p[0] = (uint8_t)fuzz_take(in, 1);
	p[1] = p[2] = p[3] = 0;
	p[4] = (uint8_t)fuzz_take(in, 1);
	p[5] = 0;
	p[6] = (uint8_t)fuzz_take(in, 1) & 1;
	p[7] = 0;
	r->desc[i] = (struct vdesc){.addr = gpa, .len = 8};
	vring_offer(r, (uint16_t)i);
	virtio_notify(f->dev, 3);
}

static void step(struct fuzz *f, struct fuzz_input *in)
{
	uint8_t op = (uint8_t)fuzz_take(in, 1);
	unsigned q = (op >> 4) % QUEUES, port = (op >> 4) % PORTS;
	struct vring *r = &f->drv.ring[q];
	uint8_t bytes[300] = {0};

	switch (op & 15) {
	case 0:
	case 1:
		describe(f, in, q);
		break;
	case 2:
	case 3:
		vring_offer(r, (uint16_t)fuzz_take(in, 1));
		virtio_notify(f->dev, q);
		break;
	case 4:
		control(f, in);
		break;
	case 5:
		virtio_notify(f->dev, q);
		break;
	case 6:
		loop_turn(f->loop, 0);
		break;
	case 7:
		(void)virtio_console_input(f->console, port, bytes, 1 + fuzz_take(in, 1));
		break;
	case 8:
		virtio_console_close(f->console, port);
		break;
	case 9:
		virtio_console_flush(f->console, port);
		break;
	case 10:
		virtio_console_resize(f->console, port, (uint16_t)fuzz_take(in, 1), 25);
		break;
	case 11:
		boot(f, op & 16 ? VDRIVER_FEATURES | 3 : op & 32 ? 3 : 1);
		break;
	case 12:
		freeze(f);
		virtio_resume(f->dev);
		break;
	case 13:
		*r->avail_idx = (uint16_t)fuzz_take(in, 2);
		break;
	case 14:
		*(uint8_t *)vdriver_ptr(&f->drv, fuzz_take(in, 3) % VDRIVER_LOW_SIZE, 1) =
			(uint8_t)fuzz_take(in, 1);
		break;
	default:
		virtio_set_ready(f->dev, q, fuzz_take(in, 1) & 1);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct loop *loop;
	static int zero = -1, null = -1;
	struct fuzz_input in = {data, size};
	struct fuzz f = {0};
	struct virtio_console_port port[PORTS] = {
		{.console = true, .in_fd = -1, .out_fd = -1, .output = output},
		{.name = "both", .in_fd = -1, .out_fd = -1, .output = output},
		{.name = "in", .out_fd = -1},
		{.name = "out", .in_fd = -1},
	};

	if (!loop) {
		log_set_level(LOG_ERROR);
		zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
		null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		FUZZ_CHECK(zero >= 0 && null >= 0 && loop_new(&loop, NULL) == 0);
	}
	f.loop = loop;
	port[2].in_fd = zero;
	port[3].out_fd = null;
	for (unsigned i = 0; i < PORTS; i++) {
		port[i].arg = &f;
		port[i].flushed = flushed;
	}
	vdriver_init(&f.drv);
	FUZZ_CHECK(virtio_console_new(loop, &f.drv.mem, -1, port, PORTS, &f.console, NULL) == 0);
	f.dev = virtio_console_device(f.console);
	boot(&f, VDRIVER_FEATURES | 3);

	for (unsigned n = 0; in.left && n < MAX_STEPS; n++)
		step(&f, &in);

	freeze(&f);
	virtio_console_free(f.console);
	vdriver_done(&f.drv);
	return 0;
}
