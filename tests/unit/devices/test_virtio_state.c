/* Saved state of virtio devices, with their transport: a fresh device goes on where the other one
 * stopped, and no state that a file can hold does harm. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "console_guest.h"
#include "devices/net_stream.h"
#include "devices/virtio_mmio.h"
#include "devices/virtio_rng.h"
#include "disk_guest.h"
#include "net_guest.h"
#include "state_subject.h"
#include "vsock_guest.h"

/* The one device of a test, behind its transport. */
struct bench {
	struct state_subject subject;
	struct loop *loop;
	struct vdriver *drv;
	struct virtio_device *dev;
	struct virtio_mmio mmio;
	void (*remake)(void); /* frees the device and makes one, whose dev it sets */
};

static struct bench b;

static void quiet(struct virtio_device *dev UNUSED, void *arg)
{
	*(bool *)arg = true;
}

static void quiesce(void)
{
	bool done = false;

	virtio_quiesce(b.dev, quiet, &done);
	for (unsigned i = 0; i < 5000 && !done; i++)
		loop_turn(b.loop, 1000000);
	assert_true(done);
}

static void attach(void)
{
	assert_int_equal(virtio_mmio_init(&b.mmio, b.dev, b.loop, NULL), 0);
	/* The guest's rings stay where they are, and are the new device's. */
	for (unsigned i = 0; i < b.dev->queue_count; i++)
		b.drv->ring[i].q = &b.dev->queue[i];
}

static void renew(void *arg UNUSED)
{
	virtio_mmio_done(&b.mmio);
	b.remake();
	attach();
	quiesce();
}

static void state_of(void *arg UNUSED, struct state_io *io)
{
	virtio_mmio_state(&b.mmio, io);
}

static void run(void *arg UNUSED)
{
	virtio_resume(b.dev);
	for (unsigned q = 0; q < b.dev->queue_count; q++)
		virtio_notify(b.dev, q);
	for (unsigned i = 0; i < 4; i++)
		loop_turn(b.loop, 0);
	quiesce();
}

static void begin(struct loop *loop, struct vdriver *drv, struct virtio_device *dev,
		  void (*remake)(void))
{
	const uint32_t sel = 1;

	b = (struct bench){
		.subject = {.renew = renew, .state = state_of, .run = run},
		.loop = loop,
		.drv = drv,
		.dev = dev,
		.remake = remake,
	};
	attach();
	b.mmio.bus.write(&b.mmio.bus, 0x30, &sel, sizeof(sel));
}

/* Quiesces, moves the state to a fresh device, and lets that go on. */
static uint8_t *move(size_t *ret_len)
{
	uint8_t *bytes;

	quiesce();
	bytes = state_subject_move(&b.subject, ret_len);
	assert_int_equal(b.mmio.queue_sel, 1);
	virtio_resume(b.dev);
	return bytes;
}

static void mangle(uint8_t *bytes, size_t len)
{
	quiesce();
	assert_true(state_subject_mangle(&b.subject, bytes, len) > 3 * 2 * STATE_HEAD_BYTES);
	free(bytes);
	virtio_mmio_done(&b.mmio);
	/* The guests' own ends quiesce once more. */
	virtio_resume(b.dev);
}

/* ---- entropy ------------------------------------------------------------------------------ */

static struct virtio_rng *rng;
static struct vdriver rng_drv;

static void remake_rng(void)
{
	virtio_rng_free(rng);
	assert_int_equal(virtio_rng_new(b.loop, &rng_drv.mem, -1, &rng, NULL), 0);
	b.dev = virtio_rng_device(rng);
}

static void rng_goes_on(void **state)
{
	struct vring *r = &rng_drv.ring[0];
	uint32_t head, written;
	struct loop *loop;
	uint64_t gpa[3];
	uint8_t *bytes;
	size_t len;

	(void)state;
	vdriver_init(&rng_drv);
	assert_int_equal(loop_new(&loop, NULL), 0);
	assert_int_equal(virtio_rng_new(loop, &rng_drv.mem, -1, &rng, NULL), 0);
	begin(loop, &rng_drv, virtio_rng_device(rng), remake_rng);
	vdriver_bring_up(&rng_drv, b.dev, VDRIVER_FEATURES);
	for (unsigned i = 0; i < 3; i++)
		gpa[i] = vdriver_alloc(&rng_drv, 64, 16);
	vring_add(r, 1, (struct vseg[]){{gpa[0], 64, VSEG_IN}});
	virtio_notify(b.dev, 0);
	quiesce();
	/* Offered while it is frozen: the notification is lost with the old device. */
	vring_add(r, 1, (struct vseg[]){{gpa[1], 64, VSEG_IN}});
	bytes = state_subject_move(&b.subject, &len);
	assert_int_equal(b.dev->irq.raised, 0);
	assert_int_equal(*r->used_idx, 1);
	virtio_resume(b.dev);
	/* What the driver had not seen is raised again. */
	assert_true(b.dev->irq.raised >= 1);
	assert_int_equal(*r->used_idx, 2);
	vring_add(r, 1, (struct vseg[]){{gpa[2], 64, VSEG_IN}});
	virtio_notify(b.dev, 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(vring_used(r, &head, &written));
		assert_int_equal(written, 64);
	}
	mangle(bytes, len);
	virtio_rng_free(rng);
	loop_free(loop);
	vdriver_done(&rng_drv);
}

static void before_a_driver_came(void **state)
{
	struct loop *loop;
	uint8_t *bytes;
	size_t len;

	(void)state;
	vdriver_init(&rng_drv);
	assert_int_equal(loop_new(&loop, NULL), 0);
	assert_int_equal(virtio_rng_new(loop, &rng_drv.mem, -1, &rng, NULL), 0);
	begin(loop, &rng_drv, virtio_rng_device(rng), remake_rng);
	bytes = move(&len);
	assert_int_equal(b.dev->status, 0);
	assert_true(vdriver_bring_up(&rng_drv, b.dev, VDRIVER_FEATURES) & VIRTIO_STATUS_DRIVER_OK);
	mangle(bytes, len);
	virtio_rng_free(rng);
	loop_free(loop);
	vdriver_done(&rng_drv);
}

static void refused(const uint8_t *bytes, size_t len, size_t at, uint8_t v, const char *what)
{
	uint8_t *copy = malloc(len);
	struct error err = {0};
	struct state_io io;

	memcpy(copy, bytes, len);
	copy[at] = v;
	renew(NULL);
	state_restore(&io, copy, len);
	state_of(NULL, &io);
	assert_int_equal(state_result(&io, &err), -EINVAL);
	assert_string_equal(err.what, what);
	free(copy);
}

static void a_drivers_impossible_writes(void **state)
{
	const size_t core = STATE_HEAD_BYTES + 21 + STATE_HEAD_BYTES,
		     queue = core + 4 + 1 + 8 + 1 + 16;
	struct loop *loop;
	uint8_t *bytes;
	size_t len;

	(void)state;
	vdriver_init(&rng_drv);
	assert_int_equal(loop_new(&loop, NULL), 0);
	assert_int_equal(virtio_rng_new(loop, &rng_drv.mem, -1, &rng, NULL), 0);
	begin(loop, &rng_drv, virtio_rng_device(rng), remake_rng);
	vdriver_bring_up(&rng_drv, b.dev, VDRIVER_FEATURES);
	bytes = move(&len);
	quiesce();
	refused(bytes, len, core, 2, "virtio.device_id: can't have this value");
	refused(bytes, len, core + 4, 0x1f, "virtio.status or features: can't have this value");
	/* DRIVER_OK without FEATURES_OK; features that are not offered; VERSION_1 left out. */
	refused(bytes, len, core + 4, 0x07, "virtio.status or features: can't have this value");
	refused(bytes, len, core + 5, 1, "virtio.status or features: can't have this value");
	refused(bytes, len, core + 9, 0, "virtio.status or features: can't have this value");
	refused(bytes, len, core + 14, 4, "virtio.interrupt_status: can't have this value");
	refused(bytes, len, core + 26, 2, "virtio.queue_count: can't have this value");
	/* A ring of no power of two, and one past the end of memory. */
	refused(bytes, len, queue, 3, "virtio.queue 0: can't have this value");
	refused(bytes, len, queue + 3 + 5, 1, "virtio.queue 0: can't have this value");
	free(bytes);
	virtio_mmio_done(&b.mmio);
	virtio_rng_free(rng);
	loop_free(loop);
	vdriver_done(&rng_drv);
}

/* ---- block -------------------------------------------------------------------------------- */

static struct disk_guest disk;

static void remake_disk(void)
{
	const struct virtio_blk_config config = {.file.path = disk.image.path,
						 .id = "test",
						 .queues = 2};
	struct error err = {0};

	virtio_blk_free(disk.blk);
	assert_int_equal(virtio_blk_new(disk.loop, &disk.drv.mem, -1, &config, &disk.blk, &err), 0);
	b.dev = disk.dev = virtio_blk_device(disk.blk);
}

static void disk_goes_on(void **state)
{
	struct disk_request left[2];
	struct vseg seg, other;
	uint8_t *bytes;
	size_t len;

	(void)state;
	disk_guest_init(&disk, &(struct virtio_blk_config){.queues = 2});
	disk_guest_boot(&disk, DISK_FEATURES);
	begin(disk.loop, &disk.drv, disk.dev, remake_disk);
	seg = (struct vseg){vdriver_alloc(&disk.drv, 4096, 4096), 4096, VSEG_OUT};
	other = (struct vseg){vdriver_alloc(&disk.drv, 4096, 4096), 4096, VSEG_IN};
	memset(vdriver_ptr(&disk.drv, seg.gpa, 4096), 0x5a, 4096);
	assert_int_equal(disk_guest_do(&disk, VIRTIO_BLK_T_OUT, 8, 1, &seg, NULL), 0);
	/* One is under way as the freeze begins, one comes later by the other queue. */
	left[0] = disk_guest_add(&disk, 0, VIRTIO_BLK_T_OUT, 16, 1, &seg);
	virtio_notify(disk.dev, 0);
	quiesce();
	left[1] = disk_guest_add(&disk, 1, VIRTIO_BLK_T_IN, 8, 1, &other);
	bytes = state_subject_move(&b.subject, &len);
	assert_int_equal(disk_guest_status(&disk, &left[0]), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_guest_status(&disk, &left[1]), 0xee);
	virtio_resume(b.dev);
	assert_int_equal(disk_guest_wait(&disk, 1, &left[1]), VIRTIO_BLK_S_OK);
	assert_memory_equal(vdriver_ptr(&disk.drv, seg.gpa, 4096),
			    vdriver_ptr(&disk.drv, other.gpa, 4096), 4096);
	assert_true(vring_used(&disk.drv.ring[0], NULL, NULL));
	assert_int_equal(disk_guest_do(&disk, VIRTIO_BLK_T_FLUSH, 0, 0, NULL, NULL), 0);
	mangle(bytes, len);
	disk_guest_done(&disk);
}

static void another_disk_is_refused(void **state)
{
	struct state_io io, from;
	struct error err = {0};

	(void)state;
	disk_guest_init(&disk, &(struct virtio_blk_config){.queues = 2});
	disk_guest_boot(&disk, DISK_FEATURES);
	begin(disk.loop, &disk.drv, disk.dev, remake_disk);
	quiesce();
	state_save(&io);
	state_of(NULL, &io);
	assert_int_equal(state_result(&io, NULL), 0);
	assert_int_equal(truncate(disk.image.path, DISK_BYTES / 2), 0);
	renew(NULL);
	state_restore(&from, io.bytes, io.len);
	state_of(NULL, &from);
	assert_int_equal(state_result(&from, &err), -EINVAL);
	assert_string_equal(err.what, "virtio-blk.capacity: can't have this value");
	state_free(&io);
	virtio_mmio_done(&b.mmio);
	virtio_resume(b.dev);
	disk_guest_done(&disk);
}

/* ---- network ------------------------------------------------------------------------------ */

static struct net_guest net;
static bool net_is_clone;

static void remake_net(void)
{
	struct virtio_net_config config = {.name = "test",
					   .mac = {2, 9, 9, 9, 9, 9},
					   .mac_own = net_is_clone,
					   .mtu = 9000,
					   .pairs = NET_PAIRS};
	struct error err = {0};

	virtio_net_free(net.net);
	for (unsigned i = 0; i < NET_PAIRS; i++) {
		int pair[2];

		fd_close(&net.peer[i]);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
					    pair),
				 0);
		assert_int_equal(net_stream_new(pair[0], &config.port[i], &err), 0);
		net.peer[i] = pair[1];
	}
	assert_int_equal(virtio_net_new(net.loop, &net.drv.mem, -1, &config, &net.net, &err), 0);
	b.dev = net.dev = virtio_net_device(net.net);
}

static void net_goes_on(void **state)
{
	uint8_t frame[1000], got[2000], mac[6] = {2, 7, 7, 7, 7, 7};
	uint64_t small, room;
	uint16_t pairs = 2;
	uint32_t written;
	uint8_t *bytes;
	size_t len;

	(void)state;
	net_guest_init(&net);
	net_guest_boot(&net, NET_FEATURES);
	begin(net.loop, &net.drv, net.dev, remake_net);
	assert_int_equal(net_guest_command(&net, 1, 1, mac, sizeof(mac)), VIRTIO_NET_OK);
	assert_int_equal(net_guest_command(&net, 4, 0, &pairs, sizeof(pairs)), VIRTIO_NET_OK);
	/* A frame that the guest has not given room enough for waits in the device. */
	for (unsigned i = 0; i < sizeof(frame); i++)
		frame[i] = (uint8_t)(i * 7);
	small = net_guest_room(&net, 0, 1, 100);
	net_peer_send(&net, 0, frame, sizeof(frame));
	net_guest_settle(&net);
	assert_false(vring_used(&net.drv.ring[0], NULL, NULL));
	bytes = move(&len);

	b.dev->ops->config_read(b.dev, 0, got, 12);
	assert_memory_equal(got, mac, sizeof(mac));
	room = net_guest_room(&net, 0, 1, 2000);
	net_guest_settle(&net);
	assert_true(vring_used(&net.drv.ring[0], NULL, &written));
	assert_int_equal(written, 100);
	assert_true(vring_used(&net.drv.ring[0], NULL, &written));
	assert_int_equal(written, NET_HEADER_BYTES + sizeof(frame) - 100);
	assert_memory_equal(vdriver_ptr(&net.drv, small + NET_HEADER_BYTES, 88), frame, 88);
	assert_memory_equal(vdriver_ptr(&net.drv, room, sizeof(frame) - 88), frame + 88,
			    sizeof(frame) - 88);
	/* The second pair is in use, both ways. */
	net_guest_send(&net, 1, 200, 0x42);
	net_guest_settle(&net);
	assert_int_equal(net_peer_receive(&net, 1, got, sizeof(got)), 200);
	room = net_guest_room(&net, 1, 1, 2000);
	net_peer_send(&net, 1, frame, 300);
	net_guest_settle(&net);
	assert_memory_equal(vdriver_ptr(&net.drv, room + NET_HEADER_BYTES, 300), frame, 300);
	mangle(bytes, len);
	net_guest_done(&net);
}

static void a_clone_has_its_own_address(void **state)
{
	const uint8_t made[6] = {2, 9, 9, 9, 9, 9}, mac[6] = {2, 7, 7, 7, 7, 7};
	struct state_io io, from;
	uint8_t got[12];

	(void)state;
	net_guest_init(&net);
	net_guest_boot(&net, NET_FEATURES);
	begin(net.loop, &net.drv, net.dev, remake_net);
	assert_int_equal(net_guest_command(&net, 1, 1, mac, sizeof(mac)), VIRTIO_NET_OK);
	quiesce();
	state_save(&io);
	state_of(NULL, &io);
	assert_int_equal(state_result(&io, NULL), 0);
	net_is_clone = true;
	renew(NULL);
	net_is_clone = false;
	state_restore(&from, io.bytes, io.len);
	state_of(NULL, &from);
	assert_int_equal(state_result(&from, NULL), 0);
	b.dev->ops->config_read(b.dev, 0, got, sizeof(got));
	assert_memory_equal(got, made, sizeof(made));
	state_free(&io);
	virtio_mmio_done(&b.mmio);
	virtio_resume(b.dev);
	net_guest_done(&net);
}

/* ---- console ------------------------------------------------------------------------------ */

enum { CONSOLE, OUT, IN, PORTS };

static struct console_guest console;
static struct virtio_console_port port[PORTS];
static unsigned opens;

static void on_opened(struct virtio_console_port *p UNUSED, bool open)
{
	opens += open;
}

static void remake_console(void)
{
	virtio_console_free(console.console);
	assert_int_equal(virtio_console_new(console.loop, &console.drv.mem, -1, port, PORTS,
					    &console.console, NULL),
			 0);
	b.dev = console.dev = virtio_console_device(console.console);
}

static size_t drain(int fd, uint8_t *to, size_t room)
{
	size_t n = 0;

	for (unsigned i = 0; i < 200; i++) {
		ssize_t got = read(fd, to + n, room - n);

		n += got > 0 ? (size_t)got : 0;
		loop_turn(console.loop, 0);
	}
	return n;
}

static void console_goes_on(void **state)
{
	uint8_t sent[GUEST_TX_BYTES], got[2 * GUEST_TX_BYTES];
	uint8_t *bytes;
	size_t len, n;
	int ends[2];

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	assert_true(fcntl(ends[1], F_SETPIPE_SZ, 4096) >= 4096);
	for (unsigned i = 0; i < PORTS; i++)
		port[i] = (struct virtio_console_port){.name = i == OUT	 ? "org.test.out"
							       : i == IN ? "org.test.in"
									 : NULL,
						       .console = i == CONSOLE,
						       .in_fd = -1,
						       .out_fd = i == OUT ? ends[1] : -1,
						       .opened = on_opened};
	guest_init(&console, port, PORTS);
	guest_boot_linux(&console);
	begin(console.loop, &console.drv, console.dev, remake_console);
	virtio_console_resize(console.console, CONSOLE, 99, 33);
	/* More than the pipe holds: a part of the chain is written. */
	guest_open(&console, OUT, true);
	for (unsigned i = 0; i < sizeof(sent); i++)
		sent[i] = (uint8_t)(i * 31 >> 3);
	assert_int_equal(guest_send(&console, OUT, sent, sizeof(sent), 3), sizeof(sent));
	for (unsigned i = 0; i < 20; i++)
		guest_turn(&console);
	assert_int_equal(guest_unsent(&console, OUT), 1);
	/* Bytes for a port that the guest has not opened yet. */
	assert_int_equal(virtio_console_input(console.console, IN, "input", 5), 5);
	opens = 0;
	bytes = move(&len);

	assert_int_equal(opens, 2);
	n = drain(ends[0], got, sizeof(got));
	assert_int_equal(n, sizeof(sent));
	assert_memory_equal(got, sent, n);
	guest_look(&console);
	assert_int_equal(guest_unsent(&console, OUT), 0);
	guest_open(&console, IN, true);
	guest_turn(&console);
	assert_int_equal(console.port[IN].len, 5);
	assert_memory_equal(console.port[IN].data, "input", 5);
	assert_int_equal(guest_send(&console, OUT, sent, 100, 1), 100);
	assert_int_equal(drain(ends[0], got, sizeof(got)), 100);
	b.dev->ops->config_read(b.dev, 0, got, 4);
	assert_int_equal(got[0] + got[2], 99 + 33);
	mangle(bytes, len);
	guest_done(&console);
	fd_close(&ends[0]);
	fd_close(&ends[1]);
}

/* ---- sockets ------------------------------------------------------------------------------ */

static struct vsock_guest vsock;

static int refuse(void *arg UNUSED, uint32_t at UNUSED)
{
	return -ECONNREFUSED;
}

static void remake_vsock(void)
{
	const struct virtio_vsock_config config = {.listen_fd = vsock.listen_fd, .connect = refuse};

	virtio_vsock_free(vsock.vsock);
	assert_int_equal(virtio_vsock_new(vsock.loop, &vsock.drv.mem, -1, &config, &vsock.vsock,
					  NULL),
			 0);
	b.dev = vsock.dev = virtio_vsock_device(vsock.vsock);
}

static void vsock_goes_on(void **state)
{
	struct vring *events = &vsock.drv.ring[2];
	uint32_t port_before, port_after, written;
	struct vsock_packet p;
	uint64_t event;
	uint8_t *bytes;
	char c[8];
	size_t len;
	int fd;

	(void)state;
	vsock_guest_init(&vsock);
	vsock_guest_boot(&vsock, 8);
	begin(vsock.loop, &vsock.drv, vsock.dev, remake_vsock);
	event = vdriver_bytes(&vsock.drv, "\xff\xff\xff\xff", 4);
	vring_add(events, 1, &(struct vseg){event, 4, VSEG_IN});
	virtio_notify(vsock.dev, 2);
	fd = vsock_client_up(&vsock, &port_before);
	assert_false(vring_used(events, NULL, NULL));
	bytes = move(&len);

	/* The guest is told that its connections are gone, and the host's end is. */
	assert_true(vring_used(events, NULL, &written));
	assert_int_equal(written, 4);
	assert_memory_equal(vdriver_ptr(&vsock.drv, event, 4), "\0\0\0\0", 4);
	assert_int_equal(read(fd, c, sizeof(c)), 0);
	fd_close(&fd);
	/* Bytes of the connection that was find nobody. */
	vsock_guest_send(&vsock, VIRTIO_VSOCK_OP_RW, 7, port_before, 0, "x", 1);
	assert_true(vsock_guest_receive(&vsock, &p));
	assert_int_equal(p.h.op, VIRTIO_VSOCK_OP_RST);
	fd = vsock_client_up(&vsock, &port_after);
	assert_int_not_equal(port_before, port_after);
	vsock_guest_send(&vsock, VIRTIO_VSOCK_OP_RW, 7, port_after, 0, "hello", 5);
	vsock_guest_settle(&vsock);
	assert_int_equal(read(fd, c, sizeof(c)), 5);
	/* Told once. */
	vring_add(events, 1, &(struct vseg){event, 4, VSEG_IN});
	virtio_notify(vsock.dev, 2);
	assert_false(vring_used(events, NULL, NULL));
	fd_close(&fd);
	mangle(bytes, len);
	vsock_guest_done(&vsock);
}

static void vsock_tells_as_soon_as_there_is_room(void **state)
{
	struct vring *events = &vsock.drv.ring[2];
	uint64_t event;
	size_t len;

	(void)state;
	vsock_guest_init(&vsock);
	vsock_guest_boot(&vsock, 8);
	begin(vsock.loop, &vsock.drv, vsock.dev, remake_vsock);
	free(move(&len));
	event = vdriver_bytes(&vsock.drv, "\xff\xff\xff\xff", 4);
	/* Owed still, over another move. */
	free(move(&len));
	vring_add(events, 1, &(struct vseg){event, 4, VSEG_IN});
	virtio_notify(vsock.dev, 2);
	assert_true(vring_used(events, NULL, NULL));
	virtio_mmio_done(&b.mmio);
	vsock_guest_done(&vsock);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rng_goes_on),
		cmocka_unit_test(before_a_driver_came),
		cmocka_unit_test(a_drivers_impossible_writes),
		cmocka_unit_test(disk_goes_on),
		cmocka_unit_test(another_disk_is_refused),
		cmocka_unit_test(net_goes_on),
		cmocka_unit_test(a_clone_has_its_own_address),
		cmocka_unit_test(console_goes_on),
		cmocka_unit_test(vsock_goes_on),
		cmocka_unit_test(vsock_tells_as_soon_as_there_is_room),
	};

	/* Mangled devices meet rings that they can't have. */
	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
