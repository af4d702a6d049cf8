/* See vsock_guest.h. */
#include "vsock_guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/util.h"

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                 \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static int on_connect(void *arg, uint32_t port UNUSED)
{
	struct vsock_guest *g = arg;
	int pair[2];

	g->asked++;
	if (g->refuse)
		return -ECONNREFUSED;
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	fd_close(&g->service);
	g->service = pair[1];
	return pair[0];
}

static struct sockaddr_un address(const struct vsock_guest *g)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	memcpy(a.sun_path, g->path, sizeof(a.sun_path));
	return a;
}

void vsock_guest_init(struct vsock_guest *g)
{
	struct virtio_vsock_config config = {.connect = on_connect, .arg = g};
	struct error err = {0};
	struct sockaddr_un a;

	memset(g, 0, sizeof(*g));
	g->service = -1;
	vdriver_init(&g->drv);
	CHECK(loop_new(&g->loop, NULL) == 0);
	snprintf(g->path, sizeof(g->path), "%s/stasis-vsock-%d-%p",
		 getenv("TMPDIR") && strlen(getenv("TMPDIR")) < 60 ? getenv("TMPDIR") : "/tmp",
		 (int)getpid(), (void *)g);
	a = address(g);
	g->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	CHECK(bind(g->listen_fd, (struct sockaddr *)&a, sizeof(a)) == 0);
	CHECK(listen(g->listen_fd, 200) == 0);
	config.listen_fd = g->listen_fd;
	CHECK(virtio_vsock_new(g->loop, &g->drv.mem, -1, &config, &g->vsock, &err) == 0);
	g->dev = virtio_vsock_device(g->vsock);
}

static void quiet(struct virtio_device *dev UNUSED, void *arg)
{
	*(bool *)arg = true;
}

void vsock_guest_done(struct vsock_guest *g)
{
	bool done = false;

	virtio_quiesce(g->dev, quiet, &done);
	for (unsigned i = 0; i < 5000 && !done; i++)
		loop_turn(g->loop, 1000000);
	CHECK(done);
	virtio_vsock_free(g->vsock);
	fd_close(&g->listen_fd);
	fd_close(&g->service);
	unlink(g->path);
	loop_free(g->loop);
	vdriver_done(&g->drv);
}

static void give_room(struct vsock_guest *g, uint64_t gpa)
{
	/* Cut inside the header, as nothing forbids. */
	struct vseg segs[] = {{gpa, 20, VSEG_IN}, {gpa + 20, VSOCK_ROOM - 20, VSEG_IN}};
	uint16_t head = vring_add(&g->drv.ring[VSOCK_RX], 2, segs);

	g->room[head] = gpa;
}

void vsock_guest_boot(struct vsock_guest *g, unsigned n)
{
	virtio_set_status(g->dev, 0, 0);
	for (unsigned i = 0; i < 5000 && g->dev->quiescing; i++)
		loop_turn(g->loop, 1000000);
	CHECK(!g->dev->status && !g->dev->quiescing);
	g->drv.next_gpa = KIB(4);
	g->alloc = 65536;
	g->forwarded = 0;
	CHECK(vdriver_bring_up(&g->drv, g->dev, VDRIVER_FEATURES) & VIRTIO_STATUS_DRIVER_OK);
	for (unsigned i = 0; i < n; i++)
		give_room(g, vdriver_alloc(&g->drv, VSOCK_ROOM, 8));
	virtio_notify(g->dev, VSOCK_RX);
}

void vsock_guest_settle(struct vsock_guest *g)
{
	for (unsigned i = 0; i < 300 && loop_turn(g->loop, 5000000) > 0; i++)
		;
}

void vsock_guest_send(struct vsock_guest *g, uint16_t op, uint32_t guest_port, uint32_t host_port,
		      uint32_t flags, const void *data, uint32_t len)
{
	struct virtio_vsock_header h = {
		.src_cid = VIRTIO_VSOCK_GUEST_CID,
		.dst_cid = VIRTIO_VSOCK_HOST_CID,
		.src_port = guest_port,
		.dst_port = host_port,
		.len = len,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op,
		.flags = flags,
		.buf_alloc = g->alloc,
		.fwd_cnt = g->forwarded,
	};
	uint64_t gpa;
	struct vseg segs[2];

	if (g->drv.next_gpa > MIB(3))
		g->drv.next_gpa = MIB(2);
	gpa = vdriver_bytes(&g->drv, &h, sizeof(h));
	segs[0] = (struct vseg){gpa, sizeof(h), VSEG_OUT};
	if (len)
		segs[1] = (struct vseg){vdriver_bytes(&g->drv, data, len), len, VSEG_OUT};
	vring_add(&g->drv.ring[VSOCK_TX], len ? 2 : 1, segs);
	virtio_notify(g->dev, VSOCK_TX);
	while (vring_used(&g->drv.ring[VSOCK_TX], NULL, NULL))
		;
}

bool vsock_guest_receive(struct vsock_guest *g, struct vsock_packet *ret_packet)
{
	uint32_t head, written;
	uint64_t gpa;

	if (!vring_used(&g->drv.ring[VSOCK_RX], &head, &written))
		return false;
	gpa = g->room[head];
	CHECK(written >= sizeof(ret_packet->h));
	memcpy(&ret_packet->h, vdriver_ptr(&g->drv, gpa, 44), 44);
	CHECK(written == sizeof(ret_packet->h) + ret_packet->h.len);
	CHECK(ret_packet->h.src_cid == VIRTIO_VSOCK_HOST_CID &&
	      ret_packet->h.dst_cid == VIRTIO_VSOCK_GUEST_CID);
	if (ret_packet->h.len)
		memcpy(ret_packet->data, vdriver_ptr(&g->drv, gpa + 44, ret_packet->h.len),
		       ret_packet->h.len);
	give_room(g, gpa);
	virtio_notify(g->dev, VSOCK_RX);
	return true;
}

int vsock_client(struct vsock_guest *g, const char *text)
{
	struct sockaddr_un a = address(g);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
	CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	CHECK(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
	return fd;
}

int vsock_client_up(struct vsock_guest *g, uint32_t *ret_port)
{
	int fd = vsock_client(g, "CONNECT 7\n");
	struct vsock_packet p;
	char line[32] = "", want[32];

	vsock_guest_settle(g);
	CHECK(vsock_guest_receive(g, &p) && p.h.op == VIRTIO_VSOCK_OP_REQUEST);
	CHECK(p.h.dst_port == 7);
	*ret_port = p.h.src_port;
	vsock_guest_send(g, VIRTIO_VSOCK_OP_RESPONSE, 7, *ret_port, 0, NULL, 0);
	snprintf(want, sizeof(want), "OK %u\n", *ret_port);
	CHECK(read(fd, line, sizeof(line)) == (ssize_t)strlen(want) && !strcmp(line, want));
	return fd;
}
