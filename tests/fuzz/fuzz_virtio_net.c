/* Fuzzes virtio-net from both sides: descriptors, rings, commands, freezes and resets by the guest,
 * and any bytes from the host's peer, in any order. The input is a list of commands, see step().
 * What must hold: nothing but the guest is hurt, and the device always comes to rest with nothing
 * in flight. */
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"
#include "devices/net_stream.h"
#include "devices/virtio_net.h"
#include "fuzz.h"
#include "vdriver.h"

#define PAIRS	  2
#define QUEUES	  (2 * PAIRS + 1)
#define MAX_STEPS 300
#define MAX_BOOTS 6
/* Where the driver's chains point: all over the low region, and past its end. */
#define ADDRESS_SPAN (VDRIVER_LOW_SIZE + KIB(64))
#define FEATURES                                                                                   \
	(VDRIVER_FEATURES | 1ull << VIRTIO_NET_F_MRG_RXBUF | 1ull << VIRTIO_NET_F_CTRL_VQ |        \
	 1ull << VIRTIO_NET_F_CTRL_RX | 1ull << VIRTIO_NET_F_CTRL_MAC_ADDR |                       \
	 1ull << VIRTIO_NET_F_GUEST_ANNOUNCE | 1ull << VIRTIO_NET_F_MQ)

struct fuzz {
	struct loop *loop;
	struct vdriver drv;
	struct virtio_net *net;
	struct virtio_device *dev;
	int peer[PAIRS];
	unsigned boots;
};

static void quiet(struct virtio_device *dev, void *arg)
{
	(void)dev;
	*(bool *)arg = true;
}

static void freeze(struct fuzz *f)
{
	bool done = false;

	virtio_quiesce(f->dev, quiet, &done);
	for (unsigned i = 0; i < 5000 && !done; i++)
		loop_turn(f->loop, 1000000);
	FUZZ_CHECK(done);
	for (unsigned q = 0; q < QUEUES; q++)
		FUZZ_CHECK(f->dev->queue[q].in_flight == 0);
}

static void boot(struct fuzz *f, uint64_t features)
{
	if (f->boots == MAX_BOOTS)
		return;
	f->boots++;
	virtio_set_status(f->dev, 0, 0);
	for (unsigned i = 0; i < 5000 && f->dev->status; i++)
		loop_turn(f->loop, 1000000);
	FUZZ_CHECK(!f->dev->status);
	vdriver_bring_up(&f->drv, f->dev, features & virtio_offered(f->dev));
}

/* One descriptor of ring q, anything in it. */
static void describe(struct fuzz *f, struct fuzz_input *in, unsigned q)
{
	struct vring *r = &f->drv.ring[q];
	unsigned i = fuzz_u8(in) % r->size;

	r->desc[i] = (struct vdesc){
		.addr = fuzz_take(in, 3) % ADDRESS_SPAN,
		.len = fuzz_u16(in),
		.flags = (uint16_t)(fuzz_u8(in) & 7),
		.next = fuzz_u8(in),
	};
}

/* A chain of one buffer as a driver would offer it. */
static void buffer(struct fuzz *f, struct fuzz_input *in, unsigned q, bool writable)
{
	struct vring *r = &f->drv.ring[q];
	unsigned head = fuzz_u8(in) % r->size;

	r->desc[head] =
		(struct vdesc){MIB(1) + fuzz_u16(in), fuzz_u16(in), writable ? VDESC_WRITE : 0, 0};
	vring_offer(r, (uint16_t)head);
	virtio_notify(f->dev, q);
}

static void command(struct fuzz *f, struct fuzz_input *in)
{
	unsigned q = f->dev->features >> VIRTIO_NET_F_MQ & 1 ? QUEUES - 1 : 2;
	struct vring *r = &f->drv.ring[q];
	unsigned head = fuzz_u8(in) % (r->size - 1u);
	uint64_t gpa = KIB(1) + head * 32ull;
	uint8_t *bytes = vdriver_ptr(&f->drv, gpa, 32);
	uint32_t len = 2 + fuzz_u8(in) % 24;

	for (uint32_t i = 0; i < len; i++)
		bytes[i] = fuzz_u8(in) & (i < 2 ? 7 : 255);
	r->desc[head] = (struct vdesc){gpa, len, VDESC_NEXT, (uint16_t)(head + 1)};
	r->desc[head + 1] = (struct vdesc){gpa + 31, 1, VDESC_WRITE, 0};
	vring_offer(r, (uint16_t)head);
	virtio_notify(f->dev, q);
}

/* The peer sends a frame, or anything. */
static void peer(struct fuzz *f, struct fuzz_input *in, unsigned p, bool whole)
{
	static uint8_t bytes[4 + 65535];
	size_t len = fuzz_u16(in);

	bytes[0] = bytes[1] = 0;
	bytes[2] = (uint8_t)(len >> 8);
	bytes[3] = (uint8_t)len;
	if (!whole) {
		for (unsigned i = 0; i < 6; i++)
			bytes[i] = fuzz_u8(in);
		len = 2;
	}
	(void)!send(f->peer[p], bytes, 4 + len, MSG_DONTWAIT | MSG_NOSIGNAL);
	memset(bytes, 0, 8);
}

static void step(struct fuzz *f, struct fuzz_input *in)
{
	static uint8_t sink[65536];
	uint8_t op = fuzz_u8(in), config[16];
	unsigned q = (op >> 4) % QUEUES;
	struct vring *r = &f->drv.ring[q];

	switch (op & 15) {
	case 0:
		describe(f, in, q);
		break;
	case 1:
		vring_offer(r, fuzz_u8(in));
		virtio_notify(f->dev, q);
		break;
	case 2:
	case 3:
		buffer(f, in, q, q % 2 == 0);
		break;
	case 4:
		command(f, in);
		break;
	case 5:
	case 6:
		peer(f, in, (op >> 4) % PAIRS, (op & 15) == 5);
		break;
	case 7:
		(void)!recv(f->peer[(op >> 4) % PAIRS], sink, sizeof(sink), MSG_DONTWAIT);
		break;
	case 8:
		loop_turn(f->loop, 0);
		break;
	case 9:
		boot(f, op & 16	  ? FEATURES
			: op & 32 ? VDRIVER_FEATURES
				  : FEATURES & ~(1ull << VIRTIO_NET_F_MRG_RXBUF));
		break;
	case 10:
		freeze(f);
		virtio_resume(f->dev);
		break;
	case 11:
		*r->avail_idx = fuzz_u16(in);
		break;
	case 12:
		*(uint8_t *)vdriver_ptr(&f->drv, fuzz_take(in, 3) % VDRIVER_LOW_SIZE, 1) =
			fuzz_u8(in);
		break;
	case 13:
		virtio_set_ready(f->dev, q, fuzz_u8(in) & 1);
		break;
	case 14:
		f->dev->ops->config_read(f->dev, fuzz_u8(in), config, 8);
		virtio_net_announce(f->net);
		break;
	default:
		virtio_notify(f->dev, q);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct loop *loop;
	struct virtio_net_config config = {.name = "fuzz", .mac = {2}, .mtu = 1500, .pairs = PAIRS};
	struct fuzz_input in = {data, size};
	struct fuzz f = {0};
	struct error err = {0};

	if (!loop) {
		log_set_level(LOG_ERROR);
		FUZZ_CHECK(loop_new(&loop, NULL) == 0);
	}
	f.loop = loop;
	for (unsigned i = 0; i < PAIRS; i++) {
		int pair[2];

		FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
		FUZZ_CHECK(net_stream_new(pair[0], &config.port[i], &err) == 0);
		f.peer[i] = pair[1];
	}
	vdriver_init(&f.drv);
	/* Commands lie below the rings. */
	f.drv.next_gpa = KIB(64);
	FUZZ_CHECK(virtio_net_new(loop, &f.drv.mem, -1, &config, &f.net, &err) == 0);
	f.dev = virtio_net_device(f.net);
	boot(&f, FEATURES);

	for (unsigned n = 0; in.left && n < MAX_STEPS; n++)
		step(&f, &in);

	freeze(&f);
	virtio_net_free(f.net);
	for (unsigned i = 0; i < PAIRS; i++)
		close(f.peer[i]);
	vdriver_done(&f.drv);
	return 0;
}
