/* See net_guest.h. */
#include "net_guest.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"
#include "devices/net_stream.h"

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                 \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

void net_guest_init(struct net_guest *g)
{
	struct virtio_net_config config = {.name = "test",
					   .mac = {2, 1, 2, 3, 4, 5},
					   .mtu = 9000,
					   .pairs = NET_PAIRS};
	struct error err = {0};

	memset(g, 0, sizeof(*g));
	vdriver_init(&g->drv);
	CHECK(loop_new(&g->loop, NULL) == 0);
	for (unsigned i = 0; i < NET_PAIRS; i++) {
		int pair[2];

		CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) ==
		      0);
		CHECK(net_stream_new(pair[0], &config.port[i], &err) == 0);
		g->peer[i] = pair[1];
	}
	CHECK(virtio_net_new(g->loop, &g->drv.mem, -1, &config, &g->net, &err) == 0);
	g->dev = virtio_net_device(g->net);
}

static void quiet(struct virtio_device *dev UNUSED, void *arg)
{
	*(bool *)arg = true;
}

void net_guest_done(struct net_guest *g)
{
	bool done = false;

	virtio_quiesce(g->dev, quiet, &done);
	for (unsigned i = 0; i < 5000 && !done; i++)
		loop_turn(g->loop, 1000000);
	CHECK(done);
	virtio_net_free(g->net);
	for (unsigned i = 0; i < NET_PAIRS; i++)
		fd_close(&g->peer[i]);
	loop_free(g->loop);
	vdriver_done(&g->drv);
}

void net_guest_boot(struct net_guest *g, uint64_t features)
{
	virtio_set_status(g->dev, 0, 0);
	for (unsigned i = 0; i < 5000 && g->dev->status; i++)
		loop_turn(g->loop, 1000000);
	CHECK(!g->dev->status);
	g->drv.next_gpa = KIB(4);
	CHECK(vdriver_bring_up(&g->drv, g->dev, features) & VIRTIO_STATUS_DRIVER_OK);
}

void net_guest_settle(struct net_guest *g)
{
	for (unsigned i = 0; i < 200 && loop_turn(g->loop, 5000000) > 0; i++)
		;
}

uint64_t net_guest_room(struct net_guest *g, unsigned p, unsigned n, uint32_t len)
{
	uint64_t gpa = vdriver_alloc(&g->drv, (uint64_t)n * len, 16);

	for (unsigned i = 0; i < n; i++) {
		struct vseg seg = {gpa + (uint64_t)i * len, len, VSEG_IN};

		vring_add(&g->drv.ring[2 * p], 1, &seg);
	}
	virtio_notify(g->dev, 2 * p);
	return gpa;
}

void net_guest_send(struct net_guest *g, unsigned p, uint32_t len, uint8_t fill)
{
	uint64_t gpa = vdriver_alloc(&g->drv, NET_HEADER_BYTES + len, 16);
	/* Cut where no layer is. */
	struct vseg segs[] = {{gpa, 5, VSEG_OUT}, {gpa + 5, NET_HEADER_BYTES + len - 5, VSEG_OUT}};

	memset(vdriver_ptr(&g->drv, gpa + NET_HEADER_BYTES, len), fill, len);
	vring_add(&g->drv.ring[2 * p + 1], 2, segs);
	virtio_notify(g->dev, 2 * p + 1);
}

void net_peer_send(struct net_guest *g, unsigned p, const void *frame, uint32_t len)
{
	uint32_t length = htonl(len);

	CHECK(send(g->peer[p], &length, sizeof(length), 0) == sizeof(length));
	CHECK(send(g->peer[p], frame, len, 0) == len);
}

long net_peer_receive(struct net_guest *g, unsigned p, void *frame, size_t room)
{
	uint32_t length;

	if (recv(g->peer[p], &length, sizeof(length), MSG_PEEK) != sizeof(length))
		return -1;
	CHECK(recv(g->peer[p], &length, sizeof(length), 0) == sizeof(length));
	length = ntohl(length);
	CHECK(length <= room);
	CHECK(recv(g->peer[p], frame, length, MSG_WAITALL) == length);
	return length;
}

int net_guest_command(struct net_guest *g, uint8_t class, uint8_t cmd, const void *data,
		      uint32_t len)
{
	unsigned q = g->dev->features >> VIRTIO_NET_F_MQ & 1 ? 2 * NET_PAIRS : 2;
	uint8_t head[2] = {class, cmd}, pending = 0xee;
	uint64_t answer = vdriver_bytes(&g->drv, &pending, 1);
	struct vseg segs[3] = {{vdriver_bytes(&g->drv, head, 2), 2, VSEG_OUT}};
	unsigned n = 1;

	if (len)
		segs[n++] = (struct vseg){vdriver_bytes(&g->drv, data, len), len, VSEG_OUT};
	segs[n++] = (struct vseg){answer, 1, VSEG_IN};
	vring_add(&g->drv.ring[q], n, segs);
	virtio_notify(g->dev, q);
	if (!vring_used(&g->drv.ring[q], NULL, NULL))
		return -1;
	return *(uint8_t *)vdriver_ptr(&g->drv, answer, 1);
}
