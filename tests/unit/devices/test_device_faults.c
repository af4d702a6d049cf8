/* Each device makes a short run in which the n-th thing that it asks of the host fails, for every n
 * that the run has and in every way. What must hold: the guest gets its bytes or hears of the
 * error, every chain comes back, the device comes to rest, and no descriptor is left. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "console_guest.h"
#include "device_faults.h"
#include "devices/virtio_rng.h"
#include "disk_guest.h"
#include "net_guest.h"
#include "vsock_guest.h"

#define LIMIT_NS 3000000000u
#define RUNS_MAX 400

static unsigned count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* Turns until cond() holds. A notification that was lost with a timer is the driver's to repeat. */
static bool until(struct loop *loop, struct virtio_device *dev, bool (*cond)(void))
{
	uint64_t end_ns = now_ns() + LIMIT_NS;

	while (!cond()) {
		if (now_ns() > end_ns)
			return false;
		loop_turn(loop, 1000000);
		for (unsigned q = 0; device_faults.lost_timer && q < dev->queue_count; q++)
			virtio_notify(dev, q);
	}
	return true;
}

static void every_fault(const char *name, void (*run)(void))
{
	static const struct {
		enum device_fault_kind kind;
		int error;
	} faults[] = {
		{DEVICE_FAULT_FAIL, EIO},    {DEVICE_FAULT_FAIL, ENOMEM},
		{DEVICE_FAULT_FAIL, ENOSPC}, {DEVICE_FAULT_FAIL, EAGAIN},
		{DEVICE_FAULT_FAIL, EINTR},  {DEVICE_FAULT_REFUSE, ENOMEM},
		{DEVICE_FAULT_SHORT, 0},
	};
	unsigned struck = 0, before = count_fds();

	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		for (unsigned n = 0;; n++) {
			assert_true(n < RUNS_MAX);
			device_faults_set(faults[i].kind, faults[i].error, n);
			run();
			struck += device_faults.struck;
			/* A file that io_uring had may close a moment later. */
			for (unsigned k = 0; k < 200 && count_fds() != before; k++)
				usleep(1000);
			if (count_fds() != before)
				fail_msg("%s: call %u with %d leaves a descriptor", name, n,
					 faults[i].error);
			if (device_faults.calls <= n)
				break;
		}
	}
	print_message("%s: %u faults\n", name, struck);
	assert_true(struck >= ARRAY_SIZE(faults));
}

/* ---- entropy ------------------------------------------------------------------------------ */

static struct vdriver drv;

static bool rng_answered(void)
{
	return *drv.ring[0].used_idx == 2;
}

static void run_rng(void)
{
	struct virtio_device *dev;
	struct virtio_rng *rng;
	struct loop *loop;
	uint32_t written;

	vdriver_init(&drv);
	assert_int_equal(loop_new(&loop, NULL), 0);
	assert_int_equal(virtio_rng_new(loop, &drv.mem, -1, &rng, NULL), 0);
	dev = virtio_rng_device(rng);
	vdriver_bring_up(&drv, dev, VDRIVER_FEATURES);
	for (unsigned i = 0; i < 2; i++)
		vring_add(&drv.ring[0], 2,
			  (struct vseg[]){{vdriver_alloc(&drv, 64, 1), 64, VSEG_IN},
					  {vdriver_alloc(&drv, 64, 1), 64, VSEG_IN}});
	virtio_notify(dev, 0);
	assert_true(until(loop, dev, rng_answered));
	while (vring_used(&drv.ring[0], NULL, &written))
		assert_true(written > 0 && written <= 128);
	virtio_rng_free(rng);
	loop_free(loop);
	vdriver_done(&drv);
}

static void test_rng(void **state)
{
	(void)state;
	every_fault("rng", run_rng);
}

/* ---- block -------------------------------------------------------------------------------- */

#define REQUESTS 7

static struct disk_guest disk;
static struct disk_request req[REQUESTS];

static bool disk_answered(void)
{
	for (unsigned i = 0; i < REQUESTS; i++)
		if (disk_guest_status(&disk, &req[i]) == 0xee)
			return false;
	return *disk.drv.ring[0].used_idx == REQUESTS;
}

static void run_disk_as(bool direct)
{
	static const uint32_t type[REQUESTS] = {VIRTIO_BLK_T_OUT,     VIRTIO_BLK_T_IN,
						VIRTIO_BLK_T_FLUSH,   VIRTIO_BLK_T_GET_ID,
						VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES,
						VIRTIO_BLK_T_OUT};
	struct disk_range ranges[2] = {{64, 8, 0}, {80, 8, 0}};
	uint8_t back[8192];
	uint64_t gpa, id;
	int fd;

	disk_guest_init(&disk, &(struct virtio_blk_config){.file.direct = direct});
	/* A file system without direct I/O. */
	if (!disk.blk) {
		disk_guest_done(&disk);
		return;
	}
	disk_guest_boot(&disk, DISK_FEATURES);
	/* At an odd place, so that direct I/O needs a buffer of the device's. */
	gpa = vdriver_alloc(&disk.drv, 3 * 8192, 4096) + (direct ? 16 : 0);
	id = vdriver_alloc(&disk.drv, 20, 1);
	memset(vdriver_ptr(&disk.drv, gpa, 8192), 0x5a, 8192);
	for (unsigned i = 0; i < REQUESTS; i++) {
		bool in = type[i] == VIRTIO_BLK_T_IN, range = i == 4 || i == 5;
		struct vseg data[2] = {{gpa + (in ? 8192 : 0), 4096, in ? VSEG_IN : VSEG_OUT},
				       {gpa + (in ? 12288 : 4096), 4096, in ? VSEG_IN : VSEG_OUT}};
		unsigned n = i == 2 ? 0 : 2;

		if (i == 3 || range)
			n = 1;
		if (i == 3)
			data[0] = (struct vseg){id, 20, VSEG_IN};
		if (range)
			data[0] = (struct vseg){vdriver_bytes(&disk.drv, ranges, sizeof(ranges)),
						sizeof(ranges), VSEG_OUT};
		req[i] = disk_guest_add(&disk, 0, type[i], i == 6 ? 32 : 0, n, data);
	}
	virtio_notify(disk.dev, 0);
	assert_true(until(disk.loop, disk.dev, disk_answered));
	for (unsigned i = 0; i < REQUESTS; i++)
		assert_true(disk_guest_status(&disk, &req[i]) <= VIRTIO_BLK_S_IOERR);
	/* What was confirmed is there. */
	fd = open(disk.image.path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, back, sizeof(back), 32 * 512), sizeof(back));
	close(fd);
	if (disk_guest_status(&disk, &req[6]) == VIRTIO_BLK_S_OK)
		assert_memory_equal(back, vdriver_ptr(&disk.drv, gpa, 8192), sizeof(back));
	/* One fault fails one request at most, and then the disk works. */
	{
		unsigned failed = 0;

		for (unsigned i = 0; i < REQUESTS; i++)
			failed += disk_guest_status(&disk, &req[i]) != VIRTIO_BLK_S_OK;
		assert_true(failed <= device_faults.struck);
	}
	disk_guest_done(&disk);
}

static void run_disk(void)
{
	run_disk_as(false);
}

static void run_disk_direct(void)
{
	run_disk_as(true);
}

static void test_disk(void **state)
{
	(void)state;
	every_fault("block", run_disk);
	every_fault("block, direct", run_disk_direct);
}

/* ---- network ------------------------------------------------------------------------------ */

static struct net_guest net;

static bool frames_sent(void)
{
	return *net.drv.ring[1].used_idx == 3;
}

static bool frame_came(void)
{
	return *net.drv.ring[0].used_idx == 1 || !virtio_net_link_up(net.net);
}

static void run_net(void)
{
	uint8_t frame[300], got[2000];
	unsigned frames = 0;
	uint64_t room;
	long n;

	net_guest_init(&net);
	net_guest_boot(&net, NET_FEATURES);
	for (unsigned i = 0; i < 3; i++)
		net_guest_send(&net, 0, 100 + i, 0x42);
	assert_true(until(net.loop, net.dev, frames_sent));
	memset(frame, 0x24, sizeof(frame));
	room = net_guest_room(&net, 0, 1, 2000);
	net_peer_send(&net, 0, frame, sizeof(frame));
	assert_true(until(net.loop, net.dev, frame_came));
	if (virtio_net_link_up(net.net)) {
		assert_memory_equal(vdriver_ptr(&net.drv, room + NET_HEADER_BYTES, 300), frame,
				    300);
		/* Whole frames, or none: one may be lost. */
		for (unsigned i = 0; i < 20; i++)
			loop_turn(net.loop, 0);
		while ((n = net_peer_receive(&net, 0, got, sizeof(got))) >= 0) {
			assert_true(n >= 100 && n <= 102);
			for (long i = 0; i < n; i++)
				assert_int_equal(got[i], 0x42);
			frames++;
		}
		assert_true(frames + device_faults.struck >= 3);
	} else {
		assert_true(device_faults.struck);
		assert_true(net.dev->interrupt_status & VIRTIO_INTERRUPT_CONFIG);
	}
	net_guest_done(&net);
}

static void test_net(void **state)
{
	(void)state;
	every_fault("net", run_net);
}

/* ---- console ------------------------------------------------------------------------------ */

#define BYTES 6000

static struct console_guest console;
static struct virtio_console_port port[3];
static int in_end, out_end; /* the test's */
static uint8_t out[2 * BYTES];
static size_t out_len;
static bool out_failed;

static void on_failed(struct virtio_console_port *p UNUSED, int error UNUSED)
{
	out_failed = true;
}

static bool console_up(void)
{
	guest_look(&console);
	return console.port[1].added && console.port[2].added && console.port[2].host_open;
}

static bool console_through(void)
{
	ssize_t n = read(out_end, out + out_len, sizeof(out) - out_len);

	out_len += n > 0 ? (size_t)n : 0;
	guest_look(&console);
	return guest_unsent(&console, 1) == 0 && (out_len >= BYTES || out_failed) &&
	       (console.port[2].len == BYTES || !console.port[2].host_open);
}

static void run_console(void)
{
	static uint8_t bytes[BYTES];
	int in[2], to[2];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 37 >> 4);
	out_len = 0;
	out_failed = false;
	assert_int_equal(pipe2(in, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(pipe2(to, O_CLOEXEC | O_NONBLOCK), 0);
	assert_true(fcntl(to[1], F_SETPIPE_SZ, 4096) >= 4096);
	in_end = in[1];
	out_end = to[0];
	port[0] = (struct virtio_console_port){.console = true, .in_fd = -1, .out_fd = -1};
	port[1] = (struct virtio_console_port){.name = "out",
					       .in_fd = -1,
					       .out_fd = to[1],
					       .out_failed = on_failed};
	port[2] = (struct virtio_console_port){.name = "in", .in_fd = in[0], .out_fd = -1};
	guest_init(&console, port, 3);
	guest_boot_linux(&console);
	assert_true(until(console.loop, console.dev, console_up));
	guest_open(&console, 1, true);
	guest_open(&console, 2, true);
	assert_int_equal(write(in_end, bytes, sizeof(bytes)), sizeof(bytes));
	assert_int_equal(guest_send(&console, 1, bytes, sizeof(bytes), 3), sizeof(bytes));
	assert_true(until(console.loop, console.dev, console_through));
	/* What came is what was sent, from its beginning and in order. */
	assert_true(out_len <= BYTES && console.port[2].len <= BYTES);
	assert_memory_equal(out, bytes, out_len);
	if (console.port[2].len)
		assert_memory_equal(console.port[2].data, bytes, console.port[2].len);
	if (!device_faults.struck)
		assert_true(out_len == BYTES && console.port[2].len == BYTES);
	guest_done(&console);
	for (unsigned i = 0; i < 2; i++) {
		fd_close(&in[i]);
		fd_close(&to[i]);
	}
}

static void test_console(void **state)
{
	(void)state;
	every_fault("console", run_console);
}

/* ---- sockets ------------------------------------------------------------------------------ */

static struct vsock_guest vsock;
static int client;
static char heard[64]; /* by the client */
static size_t heard_len;
static bool ended, over, sent;
static char got[64]; /* by the guest */
static size_t got_len;

/* A guest that answers: takes the connection, sends "hello", and sees what comes. */
static void answer(const struct vsock_packet *p)
{
	if (p->h.op == VIRTIO_VSOCK_OP_REQUEST) {
		vsock_guest_send(&vsock, VIRTIO_VSOCK_OP_RESPONSE, 7, p->h.src_port, 0, NULL, 0);
		vsock_guest_send(&vsock, VIRTIO_VSOCK_OP_RW, 7, p->h.src_port, 0, "hello", 5);
	} else if (p->h.op == VIRTIO_VSOCK_OP_RW) {
		assert_true(got_len + p->h.len <= sizeof(got));
		memcpy(got + got_len, p->data, p->h.len);
		got_len += p->h.len;
	} else if (p->h.op == VIRTIO_VSOCK_OP_RST) {
		over = true;
	}
}

static bool vsock_through(void)
{
	struct vsock_packet p;
	ssize_t n;

	while (vsock_guest_receive(&vsock, &p))
		answer(&p);
	n = read(client, heard + heard_len, sizeof(heard) - heard_len);
	heard_len += n > 0 ? (size_t)n : 0;
	ended |= n == 0 || (n < 0 && errno != EAGAIN);
	if (!sent && heard_len >= 3 && memchr(heard, '\n', heard_len)) {
		sent = true;
		if (write(client, "question", 8) < 0)
			ended = true;
	}
	if (ended || over)
		return true;
	return got_len == 8 && heard_len > 5 && !memcmp(heard + heard_len - 5, "hello", 5);
}

static void run_vsock(void)
{
	heard_len = got_len = 0;
	ended = over = sent = false;
	vsock_guest_init(&vsock);
	vsock_guest_boot(&vsock, 8);
	client = vsock_client(&vsock, "CONNECT 7\n");
	assert_true(until(vsock.loop, vsock.dev, vsock_through));
	if (ended || over)
		assert_true(device_faults.struck);
	else
		assert_memory_equal(got, "question", 8);
	fd_close(&client);
	vsock_guest_done(&vsock);
}

static void test_vsock(void **state)
{
	(void)state;
	every_fault("vsock", run_vsock);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rng),   cmocka_unit_test(test_disk),
		cmocka_unit_test(test_net),   cmocka_unit_test(test_console),
		cmocka_unit_test(test_vsock),
	};

	log_set_level(LOG_ERROR);
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
