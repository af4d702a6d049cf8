/* virtio-vsock as a driver and its peers on the host see it: connections both ways, credit, ends of
 * every kind, freezes and resets; and in bad hands. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "vsock_guest.h"

#define HOST_PORT 99

static int set_up(void **state)
{
	struct vsock_guest *g = calloc(1, sizeof(*g));

	log_set_level(LOG_ERROR);
	vsock_guest_init(g);
	vsock_guest_boot(g, 32);
	*state = g;
	return 0;
}

static int tear_down(void **state)
{
	vsock_guest_done(*state);
	free(*state);
	return 0;
}

/* The next packet has this op. */
static struct vsock_packet expect(struct vsock_guest *g, uint16_t op)
{
	struct vsock_packet p = {0};

	vsock_guest_settle(g);
	assert_true(vsock_guest_receive(g, &p));
	assert_int_equal(p.h.op, op);
	return p;
}

static void nothing_more(struct vsock_guest *g)
{
	struct vsock_packet p;

	vsock_guest_settle(g);
	assert_false(vsock_guest_receive(g, &p));
}

static void guest_connects(struct vsock_guest *g, uint32_t guest_port)
{
	struct vsock_packet p;

	vsock_guest_send(g, VIRTIO_VSOCK_OP_REQUEST, guest_port, HOST_PORT, 0, NULL, 0);
	p = expect(g, VIRTIO_VSOCK_OP_RESPONSE);
	assert_int_equal(p.h.dst_port, guest_port);
	assert_int_equal(p.h.src_port, HOST_PORT);
	assert_int_equal(p.h.buf_alloc, VIRTIO_VSOCK_BUFFER);
}

static void a_client_reaches_the_guest(void **state)
{
	struct vsock_guest *g = *state;
	struct vsock_packet p;
	uint32_t port;
	char text[16] = "";
	int fd = vsock_client_up(g, &port);

	assert_int_equal(write(fd, "hello", 5), 5);
	p = expect(g, VIRTIO_VSOCK_OP_RW);
	assert_int_equal(p.h.len, 5);
	assert_memory_equal(p.data, "hello", 5);
	vsock_guest_send(g, VIRTIO_VSOCK_OP_RW, 7, port, 0, "back", 4);
	assert_int_equal(read(fd, text, sizeof(text)), 4);
	assert_string_equal(text, "back");
	close(fd);
	p = expect(g, VIRTIO_VSOCK_OP_SHUTDOWN);
	assert_int_equal(p.h.flags, VIRTIO_VSOCK_NO_SEND | VIRTIO_VSOCK_NO_RECEIVE);
	vsock_guest_send(g, VIRTIO_VSOCK_OP_RST, 7, port, 0, NULL, 0);
	nothing_more(g);
	assert_int_equal(virtio_vsock_stats(g->vsock).connections, 1);
}

static void what_follows_the_greeting_is_the_guests(void **state)
{
	struct vsock_guest *g = *state;
	int fd = vsock_client(g, "CONNECT 7\nearly");
	struct vsock_packet p = expect(g, VIRTIO_VSOCK_OP_REQUEST);

	vsock_guest_send(g, VIRTIO_VSOCK_OP_RESPONSE, 7, p.h.src_port, 0, NULL, 0);
	p = expect(g, VIRTIO_VSOCK_OP_RW);
	assert_int_equal(p.h.len, 5);
	assert_memory_equal(p.data, "early", 5);
	close(fd);
}

static bool is_closed(int fd)
{
	ssize_t n;
	char byte;

	n = read(fd, &byte, 1);
	/* Reset where bytes of ours were never read. */
	return n == 0 || (n < 0 && errno == ECONNRESET);
}

static void a_greeting_that_is_none_is_an_end(void **state)
{
	static const char *const bad[] = {"HELLO\n",
					  "CONNECT\n",
					  "CONNECT x\n",
					  "CONNECT -1\n",
					  "CONNECT 99999999999\n",
					  "\n",
					  "CONNECT 1 without an end to the line at all"};
	struct vsock_guest *g = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		int fd = vsock_client(g, bad[i]);

		nothing_more(g);
		assert_true(is_closed(fd));
		close(fd);
	}
}

static void a_greeting_may_come_in_parts(void **state)
{
	struct vsock_guest *g = *state;
	int fd = vsock_client(g, "CONN");

	nothing_more(g);
	assert_int_equal(write(fd, "ECT 7\n", 6), 6);
	for (unsigned i = 0;
	     i < 500 && g->drv.ring[VSOCK_RX].last_used == *g->drv.ring[VSOCK_RX].used_idx; i++)
		loop_turn(g->loop, 1000000);
	expect(g, VIRTIO_VSOCK_OP_REQUEST);
	close(fd);
}

static void a_refused_client_sees_the_end(void **state)
{
	struct vsock_guest *g = *state;
	int fd = vsock_client(g, "CONNECT 8\n");
	struct vsock_packet p = expect(g, VIRTIO_VSOCK_OP_REQUEST);

	vsock_guest_send(g, VIRTIO_VSOCK_OP_RST, 8, p.h.src_port, 0, NULL, 0);
	vsock_guest_settle(g);
	assert_true(is_closed(fd));
	assert_int_equal(virtio_vsock_stats(g->vsock).refused, 1);
	close(fd);
}

static void the_guest_reaches_a_service(void **state)
{
	struct vsock_guest *g = *state;
	struct vsock_packet p;
	char text[16] = "";

	guest_connects(g, 1000);
	vsock_guest_send(g, VIRTIO_VSOCK_OP_RW, 1000, HOST_PORT, 0, "abc", 3);
	assert_int_equal(read(g->service, text, sizeof(text)), 3);
	assert_int_equal(write(g->service, "de", 2), 2);
	p = expect(g, VIRTIO_VSOCK_OP_RW);
	assert_int_equal(p.h.len, 2);
	assert_int_equal(p.h.fwd_cnt, 3);
	/* It closes: all that it wrote arrives, then the end, then it is told. */
	vsock_guest_send(g, VIRTIO_VSOCK_OP_RW, 1000, HOST_PORT, 0, "last", 4);
	vsock_guest_send(g, VIRTIO_VSOCK_OP_SHUTDOWN, 1000, HOST_PORT, 3, NULL, 0);
	expect(g, VIRTIO_VSOCK_OP_RST);
	assert_int_equal(read(g->service, text, sizeof(text)), 4);
	assert_true(is_closed(g->service));
}

static void nobody_listens_is_a_reset(void **state)
{
	struct vsock_guest *g = *state;

	g->refuse = true;
	vsock_guest_send(g, VIRTIO_VSOCK_OP_REQUEST, 1000, HOST_PORT, 0, NULL, 0);
	expect(g, VIRTIO_VSOCK_OP_RST);
	/* So is a packet of no connection. */
	vsock_guest_send(g, VIRTIO_VSOCK_OP_RW, 5, 6, 0, "x", 1);
	expect(g, VIRTIO_VSOCK_OP_RST);
	vsock_guest_send(g, VIRTIO_VSOCK_OP_RST, 5, 6, 0, NULL, 0);
	nothing_more(g);
}

static void each_way_ends_by_itself(void **state)
{
	struct vsock_guest *g = *state;
	struct vsock_packet p;
	char text[16];

	guest_connects(g, 1000);
	assert_int_equal(shutdown(g->service, SHUT_WR), 0);
	p = expect(g, VIRTIO_VSOCK_OP_SHUTDOWN);
	assert_int_equal(p.h.flags, VIRTIO_VSOCK_NO_SEND);
	vsock_guest_send(g, VIRTIO_VSOCK_OP_RW, 1000, HOST_PORT, 0, "more", 4);
	assert_int_equal(read(g->service, text, sizeof(text)), 4);
	vsock_guest_send(g, VIRTIO_VSOCK_OP_SHUTDOWN, 1000, HOST_PORT, VIRTIO_VSOCK_NO_SEND, NULL,
			 0);
	expect(g, VIRTIO_VSOCK_OP_RST);
	assert_true(is_closed(g->service));
}

static void keeps_to_the_guests_credit(void **state)
{
	struct vsock_guest *g = *state;
	uint8_t data[9000] = {0};
	struct vsock_packet p;
	uint32_t got = 0;

	g->alloc = 5000;
	guest_connects(g, 1000);
	assert_int_equal(write(g->service, data, sizeof(data)), sizeof(data));
	vsock_guest_settle(g);
	while (vsock_guest_receive(g, &p))
		got += p.h.len;
	assert_int_equal(got, 5000);
	nothing_more(g);
	/* It has read some. */
	g->forwarded = 3000;
	vsock_guest_send(g, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 1000, HOST_PORT, 0, NULL, 0);
	vsock_guest_settle(g);
	while (vsock_guest_receive(g, &p))
		got += p.h.len;
	assert_int_equal(got, 8000);
	/* A buffer that shrinks below what is under way is no credit. */
	g->alloc = 10;
	vsock_guest_send(g, VIRTIO_VSOCK_OP_CREDIT_UPDATE, 1000, HOST_PORT, 0, NULL, 0);
	nothing_more(g);
}

static void holds_a_bounded_amount_for_the_host(void **state)
{
	struct vsock_guest *g = *state;
	static uint8_t data[32768], back[65536];
	struct vsock_packet p;
	uint64_t sent = 0, got = 0, credit = VIRTIO_VSOCK_BUFFER;
	ssize_t n;

	guest_connects(g, 1000);
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i % 251);
	/* As a guest that keeps to its credit; the host doesn't read for a while, then does. */
	for (unsigned i = 0; i < 2000 && got < MIB(2); i++) {
		while (credit - sent >= sizeof(data) && sent < MIB(2)) {
			vsock_guest_send(g, VIRTIO_VSOCK_OP_RW, 1000, HOST_PORT, 0, data,
					 sizeof(data));
			sent += sizeof(data);
		}
		if (i > 20)
			while ((n = read(g->service, back, sizeof(back))) > 0) {
				for (ssize_t k = 0; k < n; k++)
					assert_int_equal(back[k], data[(got + k) % sizeof(data)]);
				got += (uint64_t)n;
			}
		loop_turn(g->loop, 100000);
		while (vsock_guest_receive(g, &p)) {
			assert_int_equal(p.h.op, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
			credit = p.h.fwd_cnt + (uint64_t)p.h.buf_alloc;
		}
	}
	assert_int_equal(got, MIB(2));
	assert_int_equal(virtio_vsock_stats(g->vsock).to_host, MIB(2));
}

/* Sends as much as the device holds while the host doesn't read. */
static uint64_t send_until_full(struct vsock_guest *g, uint32_t guest_port)
{
	static const uint8_t data[32768];
	uint64_t sent = 0, credit = VIRTIO_VSOCK_BUFFER;
	struct vsock_packet p;

	for (unsigned i = 0; i < 20; i++) {
		for (; credit - sent >= sizeof(data); sent += sizeof(data))
			vsock_guest_send(g, VIRTIO_VSOCK_OP_RW, guest_port, HOST_PORT, 0, data,
					 sizeof(data));
		vsock_guest_settle(g);
		while (vsock_guest_receive(g, &p))
			credit = p.h.fwd_cnt + (uint64_t)p.h.buf_alloc;
	}
	return sent;
}

/* Until the end of the stream. */
static uint64_t read_all(struct vsock_guest *g, int fd)
{
	static uint8_t back[65536];
	uint64_t got = 0;

	for (unsigned i = 0; i < 2000; i++) {
		ssize_t n = read(fd, back, sizeof(back));

		if (n == 0 || (n < 0 && errno != EAGAIN))
			return got;
		got += n > 0 ? (uint64_t)n : 0;
		loop_turn(g->loop, 100000);
	}
	fail_msg("no end of the stream");
	return 0;
}

/* Linux tires of waiting for a slow reader after eight seconds, and resets what it has closed. */
static void what_was_sent_before_a_close_arrives(void **state)
{
	struct vsock_guest *g = *state;
	uint64_t sent;
	int slow;

	guest_connects(g, 1000);
	sent = send_until_full(g, 1000);
	vsock_guest_send(g, VIRTIO_VSOCK_OP_SHUTDOWN, 1000, HOST_PORT, 3, NULL, 0);
	vsock_guest_send(g, VIRTIO_VSOCK_OP_RST, 1000, HOST_PORT, 0, NULL, 0);
	nothing_more(g);
	/* Its name is free. */
	slow = dup(g->service);
	guest_connects(g, 1000);
	assert_int_equal(read_all(g, slow), sent);
	assert_int_equal(write(g->service, "x", 1), 1);
	expect(g, VIRTIO_VSOCK_OP_RW);
	close(slow);
}

static void a_reset_without_a_close_drops_what_was_sent(void **state)
{
	struct vsock_guest *g = *state;
	uint64_t sent;

	guest_connects(g, 1000);
	sent = send_until_full(g, 1000);
	vsock_guest_send(g, VIRTIO_VSOCK_OP_RST, 1000, HOST_PORT, 0, NULL, 0);
	assert_true(read_all(g, g->service) < sent);
	nothing_more(g);
}

static void a_reader_that_leaves_ends_what_was_left_for_it(void **state)
{
	struct vsock_guest *g = *state;

	for (uint32_t i = 0; i < VIRTIO_VSOCK_CONNECTIONS + 2; i++) {
		guest_connects(g, 1000);
		if (i < 2)
			send_until_full(g, 1000);
		vsock_guest_send(g, VIRTIO_VSOCK_OP_SHUTDOWN, 1000, HOST_PORT, 3, NULL, 0);
		vsock_guest_settle(g);
		if (i >= 2)
			expect(g, VIRTIO_VSOCK_OP_RST);
		vsock_guest_send(g, VIRTIO_VSOCK_OP_RST, 1000, HOST_PORT, 0, NULL, 0);
		fd_close(&g->service);
		nothing_more(g);
	}
	assert_int_equal(virtio_vsock_stats(g->vsock).refused, 0);
}

static void a_buffer_for_a_header_alone_loses_nothing(void **state)
{
	struct vsock_guest *g = *state;
	struct vsock_packet p = {0};

	vsock_guest_boot(g, 0);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t gpa = vdriver_alloc(&g->drv, VSOCK_ROOM, 8);
		struct vseg seg = {gpa, i < 2 ? sizeof(p.h) : VSOCK_ROOM, VSEG_IN};

		g->room[vring_add(&g->drv.ring[VSOCK_RX], 1, &seg)] = gpa;
	}
	guest_connects(g, 1000);
	assert_int_equal(write(g->service, "abc", 3), 3);
	vsock_guest_settle(g);
	while (p.h.op != VIRTIO_VSOCK_OP_RW)
		assert_true(vsock_guest_receive(g, &p));
	assert_int_equal(p.h.len, 3);
	assert_memory_equal(p.data, "abc", 3);
	nothing_more(g);
}

static unsigned reads;
ssize_t __real_recvmsg(int fd, struct msghdr *msg, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags)
{
	reads++;
	return __real_recvmsg(fd, msg, flags);
}

/* A turn that has left something is no reason to look at sockets that are polled. */
static void idle_connections_are_left_alone(void **state)
{
	struct vsock_guest *g = *state;
	struct virtio_vsock_header h = {.src_cid = VIRTIO_VSOCK_GUEST_CID,
					.dst_cid = VIRTIO_VSOCK_HOST_CID,
					.src_port = 1000,
					.dst_port = HOST_PORT,
					.type = VIRTIO_VSOCK_TYPE_STREAM,
					.op = VIRTIO_VSOCK_OP_CREDIT_UPDATE,
					.buf_alloc = 65536};
	int service[50];
	struct vseg seg;

	for (uint32_t i = 0; i < ARRAY_SIZE(service); i++) {
		guest_connects(g, 1000 + i);
		service[i] = g->service;
		g->service = -1;
	}
	nothing_more(g);
	seg = (struct vseg){vdriver_bytes(&g->drv, &h, sizeof(h)), sizeof(h), VSEG_OUT};
	reads = 0;
	for (unsigned i = 0; i < 128; i++)
		vring_add(&g->drv.ring[VSOCK_TX], 1, &seg);
	virtio_notify(g->dev, VSOCK_TX);
	nothing_more(g);
	assert_in_range(reads, 0, 2);
	/* They are looked at all the same when there is something. */
	for (uint32_t i = 0; i < ARRAY_SIZE(service); i++) {
		assert_int_equal(write(service[i], "x", 1), 1);
		assert_int_equal(expect(g, VIRTIO_VSOCK_OP_RW).h.dst_port, 1000 + i);
	}
	for (uint32_t i = 0; i < ARRAY_SIZE(service); i++)
		close(service[i]);
}

static void more_than_its_credit_is_a_reset(void **state)
{
	struct vsock_guest *g = *state;
	static uint8_t data[65536];
	struct vsock_packet p = {0};

	guest_connects(g, 1000);
	for (unsigned i = 0; i < 20; i++)
		vsock_guest_send(g, VIRTIO_VSOCK_OP_RW, 1000, HOST_PORT, 0, data, sizeof(data));
	vsock_guest_settle(g);
	/* What fitted was acknowledged before. */
	while (vsock_guest_receive(g, &p) && p.h.op == VIRTIO_VSOCK_OP_CREDIT_UPDATE)
		;
	assert_int_equal(p.h.op, VIRTIO_VSOCK_OP_RST);
	assert_int_equal(g->dev->faults, 0);
}

static void answers_a_request_for_credit(void **state)
{
	struct vsock_guest *g = *state;

	guest_connects(g, 1000);
	vsock_guest_send(g, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 1000, HOST_PORT, 0, NULL, 0);
	expect(g, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
}

static void a_nonsensical_packet_ends_its_connection_alone(void **state)
{
	static const uint16_t ops[] = {VIRTIO_VSOCK_OP_REQUEST, VIRTIO_VSOCK_OP_RESPONSE, 0, 8,
				       0xffff};
	struct vsock_guest *g = *state;
	struct vsock_packet p;
	uint32_t port;
	int fd = vsock_client_up(g, &port);

	for (uint32_t i = 0; i < ARRAY_SIZE(ops); i++) {
		guest_connects(g, 2000 + i);
		vsock_guest_send(g, ops[i], 2000 + i, HOST_PORT, 0, NULL, 0);
		p = expect(g, VIRTIO_VSOCK_OP_RST);
		assert_int_equal(p.h.dst_port, 2000 + i);
	}
	assert_int_equal(write(fd, "x", 1), 1);
	expect(g, VIRTIO_VSOCK_OP_RW);
	assert_int_equal(g->dev->faults, 0);
	close(fd);
}

static void serves_many_and_no_more_than_it_can(void **state)
{
	struct vsock_guest *g = *state;
	unsigned up = 0, refused = 0;
	struct vsock_packet p;

	for (uint32_t i = 0; i < VIRTIO_VSOCK_CONNECTIONS + 10; i++) {
		vsock_guest_send(g, VIRTIO_VSOCK_OP_REQUEST, 3000 + i, HOST_PORT, 0, NULL, 0);
		vsock_guest_settle(g);
		assert_true(vsock_guest_receive(g, &p));
		up += p.h.op == VIRTIO_VSOCK_OP_RESPONSE;
		refused += p.h.op == VIRTIO_VSOCK_OP_RST;
		/* The device keeps its end; ours is not needed. */
		g->service = dup(g->service);
	}
	assert_true(refused >= 10);
	assert_int_equal(up + refused, VIRTIO_VSOCK_CONNECTIONS + 10);
	/* No service is bothered with what there is no room for. */
	assert_int_equal(g->asked, up);
}

static void answers_are_bounded_while_the_guest_gives_no_room(void **state)
{
	struct vsock_guest *g = *state;
	struct virtq *tx = &g->dev->queue[VSOCK_TX];
	uint16_t before;

	vsock_guest_boot(g, 0);
	g->refuse = true;
	before = tx->next_avail;
	for (uint32_t i = 0; i < 100; i++)
		vsock_guest_send(g, VIRTIO_VSOCK_OP_REQUEST, i, HOST_PORT, 0, NULL, 0);
	/* The rest stays in the ring. */
	assert_true((uint16_t)(tx->next_avail - before) <= 64);
	vsock_guest_settle(g);
	assert_int_equal(g->dev->faults, 0);
}

static void quiet(struct virtio_device *dev UNUSED, void *arg)
{
	*(bool *)arg = true;
}

static void a_freeze_keeps_connections(void **state)
{
	struct vsock_guest *g = *state;
	bool done = false;
	uint32_t port;
	int fd = vsock_client_up(g, &port), other;

	virtio_quiesce(g->dev, quiet, &done);
	for (unsigned i = 0; i < 1000 && !done; i++)
		loop_turn(g->loop, 1000000);
	assert_true(done);
	assert_int_equal(write(fd, "x", 1), 1);
	other = vsock_client(g, "CONNECT 9\n");
	nothing_more(g);
	virtio_resume(g->dev);
	expect(g, VIRTIO_VSOCK_OP_RW);
	expect(g, VIRTIO_VSOCK_OP_REQUEST);
	close(fd);
	close(other);
}

static void a_freeze_keeps_what_is_left_for_the_host(void **state)
{
	struct vsock_guest *g = *state;
	bool done = false;
	uint64_t sent;

	guest_connects(g, 1000);
	sent = send_until_full(g, 1000);
	vsock_guest_send(g, VIRTIO_VSOCK_OP_SHUTDOWN, 1000, HOST_PORT, 3, NULL, 0);
	vsock_guest_send(g, VIRTIO_VSOCK_OP_RST, 1000, HOST_PORT, 0, NULL, 0);
	virtio_quiesce(g->dev, quiet, &done);
	for (unsigned i = 0; i < 1000 && !done; i++)
		loop_turn(g->loop, 1000000);
	assert_true(done);
	virtio_resume(g->dev);
	assert_int_equal(read_all(g, g->service), sent);
	/* A reset of the device doesn't. */
	guest_connects(g, 1000);
	sent = send_until_full(g, 1000);
	vsock_guest_send(g, VIRTIO_VSOCK_OP_SHUTDOWN, 1000, HOST_PORT, 3, NULL, 0);
	vsock_guest_send(g, VIRTIO_VSOCK_OP_RST, 1000, HOST_PORT, 0, NULL, 0);
	vsock_guest_boot(g, 32);
	assert_true(read_all(g, g->service) < sent);
}

static void a_reset_ends_connections(void **state)
{
	struct vsock_guest *g = *state;
	uint32_t port;
	int fd = vsock_client_up(g, &port);

	guest_connects(g, 1000);
	vsock_guest_boot(g, 32);
	assert_true(is_closed(fd));
	assert_true(is_closed(g->service));
	close(fd);
	fd = vsock_client_up(g, &port);
	close(fd);
}

static void survives_bad_chains(void **state)
{
	struct vsock_guest *g = *state;
	const struct vdesc bad[] = {
		{KIB(8), 64, VDESC_NEXT | VDESC_WRITE, 0},
		{VDRIVER_LOW_SIZE - 8, 64, VDESC_WRITE, 0},
		{UINT64_MAX - 4, 64, 0, 0},
		{KIB(8), 64, VDESC_NEXT, 9999},
		{KIB(8), 33, VDESC_INDIRECT, 0},
		{KIB(8), 43, 0, 0}, /* no whole header, nor room for one */
		{KIB(8), 43, VDESC_WRITE, 0},
	};
	struct virtio_vsock_header h = {.src_cid = 3, .dst_cid = 2, .type = 1, .op = 5, .len = 1};
	struct vseg seg;

	for (unsigned q = VSOCK_RX; q <= VSOCK_TX; q++)
		for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
			vsock_guest_boot(g, 0);
			g->drv.ring[q].desc[0] = bad[i];
			vring_offer(&g->drv.ring[q], 0);
			virtio_notify(g->dev, q);
			/* Receive buffers are looked at when there is something for them. */
			if (q == VSOCK_RX) {
				g->refuse = true;
				vsock_guest_send(g, VIRTIO_VSOCK_OP_REQUEST, 1, 1, 0, NULL, 0);
			}
			assert_true(g->dev->status & VIRTIO_STATUS_NEEDS_RESET);
		}
	/* A length past the chain's end. */
	vsock_guest_boot(g, 4);
	seg = (struct vseg){vdriver_bytes(&g->drv, &h, sizeof(h)), sizeof(h), VSEG_OUT};
	vring_add(&g->drv.ring[VSOCK_TX], 1, &seg);
	virtio_notify(g->dev, VSOCK_TX);
	assert_true(g->dev->status & VIRTIO_STATUS_NEEDS_RESET);
	/* And is as good as new. */
	g->refuse = false;
	vsock_guest_boot(g, 32);
	guest_connects(g, 1000);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(a_client_reaches_the_guest),
		TEST(what_follows_the_greeting_is_the_guests),
		TEST(a_greeting_that_is_none_is_an_end),
		TEST(a_greeting_may_come_in_parts),
		TEST(a_refused_client_sees_the_end),
		TEST(the_guest_reaches_a_service),
		TEST(nobody_listens_is_a_reset),
		TEST(each_way_ends_by_itself),
		TEST(keeps_to_the_guests_credit),
		TEST(holds_a_bounded_amount_for_the_host),
		TEST(what_was_sent_before_a_close_arrives),
		TEST(a_reset_without_a_close_drops_what_was_sent),
		TEST(a_reader_that_leaves_ends_what_was_left_for_it),
		TEST(a_buffer_for_a_header_alone_loses_nothing),
		TEST(idle_connections_are_left_alone),
		TEST(more_than_its_credit_is_a_reset),
		TEST(answers_a_request_for_credit),
		TEST(a_nonsensical_packet_ends_its_connection_alone),
		TEST(serves_many_and_no_more_than_it_can),
		TEST(answers_are_bounded_while_the_guest_gives_no_room),
		TEST(a_freeze_keeps_connections),
		TEST(a_freeze_keeps_what_is_left_for_the_host),
		TEST(a_reset_ends_connections),
		TEST(survives_bad_chains),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
