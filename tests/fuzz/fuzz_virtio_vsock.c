/* Fuzzes virtio-vsock from both sides: descriptors, rings, packets, freezes and resets by the
 * guest; clients and services of the host that talk, stop and go. The input is a list of commands,
 * see step(). What must hold: nothing but the guest is hurt, and the device always comes to rest.
 */
#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/util.h"
#include "devices/virtio_vsock.h"
#include "fuzz.h"
#include "vdriver.h"

#define QUEUES	     3
#define PEERS	     8
#define MAX_STEPS    300
#define MAX_BOOTS    6
#define ADDRESS_SPAN (VDRIVER_LOW_SIZE + KIB(64))

struct fuzz {
	struct loop *loop;
	struct vdriver drv;
	struct virtio_vsock *vsock;
	struct virtio_device *dev;
	int peer[PEERS]; /* of the host, of both kinds; -1: none */
	unsigned next_peer, boots;
	uint32_t port; /* the last one that the device made up */
};

static int listen_fd = -1;
static struct sockaddr_un address = {.sun_family = AF_UNIX};

static void keep(struct fuzz *f, int fd)
{
	fd_close(&f->peer[f->next_peer]);
	f->peer[f->next_peer] = fd;
	f->next_peer = (f->next_peer + 1) % PEERS;
}

static int on_connect(void *arg, uint32_t port)
{
	int pair[2];

	if (port % 4 == 3)
		return -ECONNREFUSED;
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
	keep(arg, pair[1]);
	return pair[0];
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
	for (unsigned i = 0; i < 5000 && !done; i++)
		loop_turn(f->loop, 1000000);
	FUZZ_CHECK(done);
	for (unsigned q = 0; q < QUEUES; q++)
		FUZZ_CHECK(f->dev->queue[q].in_flight == 0);
}

static void boot(struct fuzz *f)
{
	if (f->boots == MAX_BOOTS)
		return;
	f->boots++;
	virtio_set_status(f->dev, 0, 0);
	for (unsigned i = 0; i < 5000 && f->dev->status; i++)
		loop_turn(f->loop, 1000000);
	FUZZ_CHECK(!f->dev->status);
	vdriver_bring_up(&f->drv, f->dev, VDRIVER_FEATURES);
}

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

static void packet(struct fuzz *f, struct fuzz_input *in)
{
	struct vring *r = &f->drv.ring[1];
	unsigned head = fuzz_u8(in) % r->size;
	uint8_t small = fuzz_u8(in);
	uint32_t len = fuzz_u16(in);
	struct virtio_vsock_header h = {
		.src_cid = 3,
		.dst_cid = small & 128 ? fuzz_u8(in) : 2,
		.src_port = small & 7,
		.dst_port = small & 8 ? f->port : (small >> 4 & 3),
		.len = len,
		.type = small & 64 ? fuzz_u8(in) & 3 : 1,
		.op = fuzz_u8(in) % 9,
		.flags = fuzz_u8(in),
		.buf_alloc = (uint32_t)fuzz_take(in, 3),
		.fwd_cnt = fuzz_u16(in),
	};
	uint64_t gpa = MIB(1) + (uint64_t)head * KIB(2);

	memcpy(vdriver_ptr(&f->drv, gpa, sizeof(h)), &h, sizeof(h));
	r->desc[head] = (struct vdesc){gpa, (uint32_t)sizeof(h) + (h.op == 5 ? len : 0), 0, 0};
	vring_offer(r, (uint16_t)head);
	virtio_notify(f->dev, 1);
}

/* Receive buffers, and a look at what is in the one used last. */
static void room(struct fuzz *f, struct fuzz_input *in)
{
	struct vring *r = &f->drv.ring[0];
	unsigned n = 1 + fuzz_u8(in) % 8;
	uint32_t len = 44 + fuzz_u16(in) % KIB(4);

	for (unsigned i = 0; i < n; i++) {
		uint16_t head = (uint16_t)((*r->avail_idx) % r->size);
		struct virtio_vsock_header h;

		memcpy(&h, vdriver_ptr(&f->drv, MIB(2) + head * KIB(8), sizeof(h)), sizeof(h));
		if (h.src_port >> 30 == 1)
			f->port = h.src_port;
		r->desc[head] = (struct vdesc){MIB(2) + head * KIB(8), len, VDESC_WRITE, 0};
		vring_offer(r, head);
	}
	virtio_notify(f->dev, 0);
}

static void client(struct fuzz *f, struct fuzz_input *in)
{
	static const char *const words[] = {"CONNECT 1\n", "CONNECT 2\nabc", "CONN", "\n",
					    "CONNECT 4294967296\n"};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	const char *text = words[fuzz_u8(in) % ARRAY_SIZE(words)];

	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		close(fd);
		return;
	}
	(void)!write(fd, text, strlen(text));
	keep(f, fd);
}

static void peer(struct fuzz *f, struct fuzz_input *in)
{
	static uint8_t bytes[65536];
	uint8_t what = fuzz_u8(in);
	int *fd = &f->peer[what % PEERS];

	switch (what >> 3 & 3) {
	case 0:
		(void)!send(*fd, bytes, fuzz_u16(in), MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	case 1:
		(void)!recv(*fd, bytes, sizeof(bytes), MSG_DONTWAIT);
		break;
	case 2:
		(void)shutdown(*fd, what >> 5 & 1 ? SHUT_RD : SHUT_WR);
		break;
	default:
		fd_close(fd);
		break;
	}
}

static void step(struct fuzz *f, struct fuzz_input *in)
{
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
	case 4:
		packet(f, in);
		break;
	case 5:
		room(f, in);
		break;
	case 6:
		client(f, in);
		break;
	case 7:
		peer(f, in);
		break;
	case 8:
		loop_turn(f->loop, 0);
		break;
	case 9:
		boot(f);
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
		break;
	default:
		virtio_notify(f->dev, q);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct loop *loop;
	struct fuzz_input in = {data, size};
	struct fuzz f = {.next_peer = 0};
	struct error err = {0};
	struct virtio_vsock_config config = {.connect = on_connect, .arg = &f};

	if (!loop) {
		log_set_level(LOG_ERROR);
		FUZZ_CHECK(loop_new(&loop, NULL) == 0);
		/* An abstract name: nothing is left behind. */
		snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "stasis-fuzz-vsock-%d",
			 (int)getpid());
		listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		FUZZ_CHECK(bind(listen_fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
			   listen(listen_fd, PEERS) == 0);
	}
	config.listen_fd = listen_fd;
	f.loop = loop;
	for (unsigned i = 0; i < PEERS; i++)
		f.peer[i] = -1;
	vdriver_init(&f.drv);
	FUZZ_CHECK(virtio_vsock_new(loop, &f.drv.mem, -1, &config, &f.vsock, &err) == 0);
	f.dev = virtio_vsock_device(f.vsock);
	boot(&f);

	for (unsigned n = 0; in.left && n < MAX_STEPS; n++)
		step(&f, &in);

	freeze(&f);
	virtio_vsock_free(f.vsock);
	for (unsigned i = 0; i < PEERS; i++)
		fd_close(&f.peer[i]);
	/* Who was never accepted is nobody's of the next input. */
	for (int fd; (fd = accept(listen_fd, NULL, NULL)) >= 0;)
		close(fd);
	vdriver_done(&f.drv);
	return 0;
}
