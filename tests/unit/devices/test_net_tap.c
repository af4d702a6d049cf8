/* A real tap, in a network namespace of the test's own: frames both ways, two queues, what is
 * refused. 77 where no namespace or tap may be made. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "devices/net_tap.h"

#define NAME  "unittap"
#define TYPE  0x88b5 /* for experiments (IEEE 802) */
#define FRAME 64

static void set_up_interface(void)
{
	struct ifreq req = {.ifr_name = NAME};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	assert_int_equal(ioctl(fd, SIOCGIFFLAGS, &req), 0);
	req.ifr_flags |= IFF_UP | IFF_NOARP;
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &req), 0);
	close(fd);
}

/* The host's side: raw frames of TYPE. */
static int open_host(void)
{
	struct sockaddr_ll at = {.sll_family = AF_PACKET,
				 .sll_protocol = htons(TYPE),
				 .sll_ifindex = (int)if_nametoindex(NAME)};
	int fd = socket(AF_PACKET, SOCK_RAW, htons(TYPE));

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	return fd;
}

static void make_frame(uint8_t *frame, uint8_t fill)
{
	memset(frame, 0xff, 6);
	memset(frame + 6, 2, 6);
	frame[12] = TYPE >> 8;
	frame[13] = TYPE & 0xff;
	memset(frame + 14, fill, FRAME - 14);
}

/* The next frame of TYPE; the kernel says things of its own there. */
static bool receive(struct net_port *port, uint8_t *buf, size_t len)
{
	for (unsigned i = 0; i < 200; i++) {
		struct iovec iov[] = {{buf, 5}, {buf + 5, len - 5}};
		ssize_t n = port->ops->receive(port, iov, 2);

		if (n == -EAGAIN)
			usleep(1000);
		else if (n == NET_HEADER_BYTES + FRAME && buf[NET_HEADER_BYTES + 12] == TYPE >> 8)
			return true;
	}
	return false;
}

static void carries_frames_both_ways(void **state)
{
	struct net_port *port[4];
	uint8_t frame[FRAME], packet[NET_HEADER_BYTES + FRAME] = {0}, buf[2048];
	struct iovec out[] = {{packet, 20}, {packet + 20, sizeof(packet) - 20}};
	struct pollfd readable;
	struct error err = {0};
	unsigned pairs;
	int host;

	(void)state;
	assert_int_equal(net_tap_open(NAME, 2, port, &pairs, &err), 0);
	assert_int_equal(pairs, 2);
	/* One queue is left; what is for the guest comes by it. */
	assert_int_equal(port[1]->ops->set_attached(port[1], false), 0);
	assert_int_equal(port[0]->ops->set_offloads(port[0], TUN_F_CSUM | TUN_F_TSO4), 0);
	set_up_interface();
	host = open_host();

	make_frame(frame, 0x11);
	assert_int_equal(send(host, frame, sizeof(frame), 0), sizeof(frame));
	assert_true(receive(port[0], buf, sizeof(buf)));
	assert_memory_equal(buf + NET_HEADER_BYTES, frame, sizeof(frame));

	make_frame(packet + NET_HEADER_BYTES, 0x22);
	assert_int_equal(port[0]->ops->transmit(port[0], out, 2), 0);
	readable = (struct pollfd){.fd = host, .events = POLLIN};
	assert_int_equal(poll(&readable, 1, 2000), 1);
	assert_int_equal(recv(host, buf, sizeof(buf), 0), FRAME);
	assert_memory_equal(buf, packet + NET_HEADER_BYTES, FRAME);

	/* A header that can't be is this frame's loss alone. */
	packet[1] = 0x77;
	assert_int_equal(port[0]->ops->transmit(port[0], out, 2), -EINVAL);
	packet[1] = 0;
	assert_int_equal(port[0]->ops->transmit(port[0], out, 2), 0);

	assert_int_equal(port[1]->ops->set_attached(port[1], true), 0);
	close(host);
	for (unsigned i = 0; i < pairs; i++)
		port[i]->ops->free(port[i]);
	/* It was made here, and is gone. */
	assert_int_equal(if_nametoindex(NAME), 0);
}

static void opens_an_interface_of_one_queue(void **state)
{
	struct net_port *first[1], *port[4];
	struct error err = {0};
	unsigned pairs;

	(void)state;
	assert_int_equal(net_tap_open(NAME, 1, first, &pairs, &err), 0);
	assert_int_equal(pairs, 1);
	/* In use: that is a lack, and says so. */
	assert_true(net_tap_open(NAME, 2, port, &pairs, &err) < 0);
	assert_int_equal(err.kind, ERROR_CONTENTION);
	assert_int_equal(ioctl(first[0]->fd, TUNSETPERSIST, 1), 0);
	first[0]->ops->free(first[0]);
	err = (struct error){0};
	assert_int_equal(net_tap_open(NAME, 2, port, &pairs, &err), 0);
	assert_int_equal(pairs, 1);
	assert_int_equal(ioctl(port[0]->fd, TUNSETPERSIST, 0), 0);
	port[0]->ops->free(port[0]);
}

static void refuses_what_is_no_tap(void **state)
{
	static const char *const bad[] = {"", "a-name-that-is-too-long", "a%d", "lo"};
	struct net_port *port[4];
	unsigned pairs;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error err = {0};

		assert_true(net_tap_open(bad[i], 1, port, &pairs, &err) < 0);
		assert_int_equal(err.kind, ERROR_USAGE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(carries_frames_both_ways),
		cmocka_unit_test(opens_an_interface_of_one_queue),
		cmocka_unit_test(refuses_what_is_no_tap),
	};

	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
		printf("no network namespace may be made here: %s\n", strerror(errno));
		return 77;
	}
	if (access("/dev/net/tun", R_OK | W_OK) < 0) {
		printf("/dev/net/tun: %s\n", strerror(errno));
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
