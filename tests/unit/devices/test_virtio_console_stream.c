/* virtio-console's descriptor back ends: byte for byte through pipes, files and sockets, in any
 * chunks, over back-pressure, end of file, broken readers, and resets and freezes at every step
 * with operations in flight. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "console_guest.h"
#include "devices/virtio_rng.h"

enum { CONSOLE, IN, OUT, COUNT };

struct bench {
	struct console_guest g;
	struct virtio_console_port port[COUNT];
	int in[2], out[2]; /* pipes: we write in[1], and read out[0] */
	unsigned opens, closes, failures, flushes;
	int failure;
	unsigned seed;
	/* What was sent so far, each way, is a fixed sequence of bytes. */
	size_t in_sent, out_sent, out_got;
};

static uint8_t byte_at(size_t i)
{
	return (uint8_t)(i * 31 + i / 257 + i / 65539);
}

static void fill(uint8_t *buf, size_t from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = byte_at(from + i);
}

static void check(const uint8_t *buf, size_t from, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (buf[i] != byte_at(from + i))
			fail_msg("byte %zu is %#x, not %#x", from + i, buf[i], byte_at(from + i));
	}
}

static size_t random_below(struct bench *b, size_t n)
{
	return (size_t)rand_r(&b->seed) % n;
}

static void on_opened(struct virtio_console_port *port, bool open)
{
	struct bench *b = port->arg;

	b->opens += open;
	b->closes += !open;
}

static void on_failed(struct virtio_console_port *port, int error)
{
	struct bench *b = port->arg;

	b->failures++;
	b->failure = error;
}

static void on_flushed(struct virtio_console_port *port)
{
	struct bench *b = port->arg;

	b->flushes++;
}

static struct bench *make(int flags)
{
	struct bench *b = calloc(1, sizeof(*b));
	static const char *const names[COUNT] = {NULL, "in", "out"};

	b->seed = 12345;
	assert_int_equal(pipe2(b->in, O_CLOEXEC | flags), 0);
	assert_int_equal(pipe2(b->out, O_CLOEXEC | flags), 0);
	/* Our ends never block. */
	fcntl(b->in[1], F_SETFL, O_NONBLOCK);
	fcntl(b->out[0], F_SETFL, O_NONBLOCK);
	for (unsigned i = 0; i < COUNT; i++) {
		b->port[i] = (struct virtio_console_port){
			.name = names[i],
			.console = i == CONSOLE,
			.in_fd = i == IN ? b->in[0] : -1,
			.out_fd = i == OUT ? b->out[1] : -1,
			.opened = on_opened,
			.out_failed = on_failed,
			.flushed = on_flushed,
			.arg = b,
		};
	}
	guest_init(&b->g, b->port, COUNT);
	return b;
}

/* The linker puts these before the loop's (--wrap): every so often a transfer finds the
 * descriptor not ready, as kernels before 5.19 say of non-blocking ones, or no memory. */
static unsigned not_ready_every, no_memory_every, transfers;
static int idle[2] = {-1, -1};

static bool inject(struct loop *loop, struct loop_op *op, int *ret_rc)
{
	static uint8_t byte;

	transfers++;
	if (no_memory_every && transfers % no_memory_every == 0)
		*ret_rc = -ENOMEM;
	else if (not_ready_every && transfers % not_ready_every == 0)
		*ret_rc = loop_recv(loop, op, idle[0], &byte, 1, MSG_DONTWAIT);
	else
		return false;
	return true;
}

int __real_loop_readv(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov,
		      unsigned n, uint64_t off);
int __real_loop_writev(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov,
		       unsigned n, uint64_t off);
int __wrap_loop_readv(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov,
		      unsigned n, uint64_t off);
int __wrap_loop_writev(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov,
		       unsigned n, uint64_t off);

int __wrap_loop_readv(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov,
		      unsigned n, uint64_t off)
{
	int rc;

	return inject(loop, op, &rc) ? rc : __real_loop_readv(loop, op, fd, iov, n, off);
}

int __wrap_loop_writev(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov,
		       unsigned n, uint64_t off)
{
	int rc;

	return inject(loop, op, &rc) ? rc : __real_loop_writev(loop, op, fd, iov, n, off);
}

static int set_up(void **state)
{
	*state = make(0);
	return 0;
}

static int set_up_nonblocking(void **state)
{
	*state = make(O_NONBLOCK);
	return 0;
}

static int tear_down(void **state)
{
	struct bench *b = *state;

	guest_done(&b->g);
	for (unsigned i = 0; i < 2; i++) {
		fd_close(&b->in[i]);
		fd_close(&b->out[i]);
	}
	free(b);
	return 0;
}

static void boot(struct bench *b)
{
	guest_boot_linux(&b->g);
	guest_open(&b->g, IN, true);
	guest_open(&b->g, OUT, true);
}

/* At most len bytes of the sequence into the pipe. */
static void feed(struct bench *b, size_t len)
{
	uint8_t buf[20000];
	ssize_t n;

	len = MIN(len, sizeof(buf));
	fill(buf, b->in_sent, len);
	n = write(b->in[1], buf, len);
	if (n > 0)
		b->in_sent += (size_t)n;
}

static void drain(struct bench *b, size_t len)
{
	uint8_t buf[20000];
	ssize_t n = read(b->out[0], buf, MIN(len, sizeof(buf)));

	if (n <= 0)
		return;
	check(buf, b->out_got, (size_t)n);
	b->out_got += (size_t)n;
}

static void send_some(struct bench *b, size_t len)
{
	uint8_t buf[GUEST_TX_BYTES];

	len = MIN(len, sizeof(buf));
	fill(buf, b->out_sent, len);
	b->out_sent += guest_send(&b->g, OUT, buf, len, 1 + (unsigned)random_below(b, 4));
}

static bool all_in(void *arg)
{
	const struct bench *b = arg;

	return b->g.port[IN].len >= b->in_sent;
}

static bool all_out(void *arg)
{
	struct bench *b = arg;

	drain(b, 20000);
	return b->out_got >= b->out_sent && !guest_unsent(&b->g, OUT);
}

static bool in_closed(void *arg)
{
	const struct bench *b = arg;

	return !b->g.port[IN].host_open;
}

static bool flushed(void *arg)
{
	const struct bench *b = arg;

	return b->flushes > 0;
}

static bool failed(void *arg)
{
	const struct bench *b = arg;

	return b->failures > 0;
}

static bool nothing_unsent(void *arg)
{
	const struct bench *b = arg;

	return !guest_unsent(&b->g, OUT);
}

static void some_turns(struct bench *b, unsigned n)
{
	while (n--)
		guest_turn(&b->g);
}

static void note_quiet(struct virtio_device *dev UNUSED, void *arg)
{
	*(bool *)arg = true;
}

static void freeze(struct bench *b)
{
	bool quiet = false;

	virtio_quiesce(b->g.dev, note_quiet, &quiet);
	for (unsigned i = 0; i < 2000 && !quiet; i++)
		loop_turn(b->g.loop, 1000000);
	assert_true(quiet);
}

/* Nothing to do is nothing done: waiting costs no turns. */
static void assert_quiet(struct bench *b)
{
	int work = 0;

	some_turns(b, 20);
	for (unsigned i = 0; i < 50; i++)
		work += loop_turn(b->g.loop, 0);
	assert_int_equal(work, 0);
}

static void exchange(struct bench *b)
{
	while (b->in_sent < MIB(1) || b->out_sent < MIB(1)) {
		switch (random_below(b, 4)) {
		case 0:
			feed(b, 1 + random_below(b, random_below(b, 3) ? 100 : 20000));
			break;
		case 1:
			send_some(b, 1 + random_below(b, random_below(b, 3) ? 100 : 8192));
			break;
		case 2:
			drain(b, 1 + random_below(b, 20000));
			break;
		default:
			guest_turn(&b->g);
		}
	}
	assert_true(guest_until(&b->g, all_in, b));
	assert_true(guest_until(&b->g, all_out, b));
	check(b->g.port[IN].data, 0, b->in_sent);

	/* End of file after the last byte. */
	feed(b, 5000);
	fd_close(&b->in[1]);
	assert_true(guest_until(&b->g, in_closed, b));
	assert_int_equal(b->g.port[IN].len_at_close, b->in_sent);
	check(b->g.port[IN].data, 0, b->in_sent);
	assert_int_equal(b->g.dev->faults, 0);
	assert_int_equal(b->failures, 0);
}

static void test_both_ways(void **state)
{
	boot(*state);
	exchange(*state);
}

static void test_not_ready(void **state)
{
	struct bench *b = *state;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, idle), 0);
	not_ready_every = 1;
	boot(b);
	some_turns(b, 5);
	/* All it does is wait: for a byte, and for room. */
	for (size_t n = 0; n < 65536; n += 4096) {
		static const uint8_t junk[4096];

		assert_int_equal(write(b->out[1], junk, sizeof(junk)), sizeof(junk));
	}
	send_some(b, 100);
	unsigned before = transfers;
	assert_quiet(b);
	assert_in_range(transfers, before, before + 2);
	for (size_t n = 0; n < 65536;) {
		uint8_t junk[4096];
		ssize_t got = read(b->out[0], junk, sizeof(junk));

		assert_true(got > 0);
		n += (size_t)got;
	}
	not_ready_every = 3;
	no_memory_every = 50;
	exchange(b);
	not_ready_every = no_memory_every = 0;
	close(idle[0]);
	close(idle[1]);
}

static void test_not_read_until_open(void **state)
{
	struct bench *b = *state;
	int waiting;

	feed(b, 1000);
	guest_boot_linux(&b->g);
	some_turns(b, 20);
	ioctl(b->in[0], FIONREAD, &waiting);
	assert_int_equal(waiting, 1000);
	guest_open(&b->g, IN, true);
	assert_true(guest_until(&b->g, all_in, b));
	check(b->g.port[IN].data, 0, 1000);
}

/* The guest closes and opens again while reads are in flight and bytes arrive. */
static void test_guest_reopens(void **state)
{
	struct bench *b = *state;

	boot(b);
	for (unsigned i = 0; i < 300; i++) {
		guest_open(&b->g, IN, i % 2);
		if (random_below(b, 2))
			feed(b, 1 + random_below(b, 3000));
		some_turns(b, (unsigned)random_below(b, 3));
		/* What Linux would throw away is what comes while it is closed. */
		if (i % 2 == 0) {
			size_t len = b->g.port[IN].len;

			some_turns(b, 3);
			len = b->g.port[IN].len;
			feed(b, 100);
			some_turns(b, 3);
			assert_int_equal(b->g.port[IN].len, len);
		}
	}
	guest_open(&b->g, IN, true);
	assert_true(guest_until(&b->g, all_in, b));
	check(b->g.port[IN].data, 0, b->in_sent);
}

/* The reader stops: the guest is held up, nothing is lost, flushed() waits. */
static void test_back_pressure(void **state)
{
	struct bench *b = *state;

	boot(b);
	for (unsigned i = 0; i < 200; i++) {
		send_some(b, GUEST_TX_BYTES);
		guest_turn(&b->g);
	}
	assert_int_equal(guest_unsent(&b->g, OUT), GUEST_TX_SLOTS);
	assert_in_range(b->out_sent, 65536, 65536 + (GUEST_TX_SLOTS + 1) * GUEST_TX_BYTES);
	virtio_console_flush(b->g.console, OUT);
	assert_quiet(b);
	assert_int_equal(b->flushes, 0);
	/* Other ports go on meanwhile. */
	feed(b, 3000);
	assert_true(guest_until(&b->g, all_in, b));
	while (!b->flushes) {
		drain(b, 20000);
		guest_turn(&b->g);
	}
	/* Everything of before the flush is in the pipe or read. */
	int waiting;
	ioctl(b->out[0], FIONREAD, &waiting);
	assert_int_equal(b->out_got + (size_t)waiting, b->out_sent);
	assert_true(guest_until(&b->g, all_out, b));
	assert_int_equal(b->flushes, 1);
}

/* What is queued after a flush does not hold it up. */
static void test_flush_is_a_mark(void **state)
{
	struct bench *b = *state;

	boot(b);
	send_some(b, 8192);
	virtio_console_flush(b->g.console, OUT);
	for (unsigned i = 0; i < 100; i++) {
		send_some(b, 8192);
		guest_turn(&b->g);
	}
	assert_true(guest_until(&b->g, flushed, b));
	assert_int_equal(guest_unsent(&b->g, OUT), GUEST_TX_SLOTS);
}

static void test_reader_gone(void **state)
{
	struct bench *b = *state;

	boot(b);
	send_some(b, 100);
	assert_true(guest_until(&b->g, all_out, b));
	fd_close(&b->out[0]);
	for (unsigned i = 0; i < 50; i++)
		send_some(b, 8192);
	virtio_console_flush(b->g.console, OUT);
	assert_true(guest_until(&b->g, failed, b));
	assert_int_equal(b->failure, -EPIPE);
	assert_true(guest_until(&b->g, flushed, b));
	for (unsigned i = 0; i < 50; i++) {
		send_some(b, 8192);
		guest_turn(&b->g);
	}
	assert_true(guest_until(&b->g, nothing_unsent, b));
	assert_int_equal(b->failures, 1);
	assert_int_equal(b->g.dev->faults, 0);
}

/* The same, but it goes while a write waits for room. */
static void test_reader_goes_while_full(void **state)
{
	struct bench *b = *state;

	boot(b);
	for (unsigned i = 0; i < 100; i++) {
		send_some(b, 8192);
		guest_turn(&b->g);
	}
	fd_close(&b->out[0]);
	assert_true(guest_until(&b->g, failed, b));
	assert_true(guest_until(&b->g, nothing_unsent, b));
	assert_int_equal(b->failures, 1);
}

static void test_disk_full(void **state)
{
	struct bench *b = *state;
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);

	assert_true(full >= 0);
	b->port[OUT].out_fd = full;
	boot(b);
	send_some(b, 100);
	assert_true(guest_until(&b->g, failed, b));
	assert_int_equal(b->failure, -ENOSPC);
	assert_true(guest_until(&b->g, nothing_unsent, b));
	close(full);
}

/* The host closes its side while a read waits. */
static void test_host_closes(void **state)
{
	struct bench *b = *state;

	boot(b);
	feed(b, 2000);
	assert_true(guest_until(&b->g, all_in, b));
	some_turns(b, 3);
	virtio_console_close(b->g.console, IN);
	assert_true(guest_until(&b->g, in_closed, b));
	assert_int_equal(b->g.port[IN].len_at_close, 2000);
	feed(b, 100);
	some_turns(b, 10);
	assert_int_equal(b->g.port[IN].len, 2000);
}

/* No receive buffers: nothing is read, and the end waits for the bytes before it. */
static void test_no_receive_buffers(void **state)
{
	struct bench *b = *state;

	boot(b);
	b->g.port[IN].rx_keep = true;
	for (unsigned i = 0; i < 100; i++) {
		feed(b, 20000);
		guest_turn(&b->g);
	}
	assert_in_range(b->g.port[IN].len, 1, GUEST_RX_BUFFERS * GUEST_PAGE);
	size_t len = b->g.port[IN].len;
	fd_close(&b->in[1]);
	some_turns(b, 20);
	assert_int_equal(b->g.port[IN].len, len);
	assert_true(b->g.port[IN].host_open);
	b->g.port[IN].rx_keep = false;
	guest_fill_rx(&b->g, IN);
	assert_true(guest_until(&b->g, in_closed, b));
	assert_int_equal(b->g.port[IN].len_at_close, b->in_sent);
	check(b->g.port[IN].data, 0, b->in_sent);
}

static void test_files(void **state)
{
	struct bench *b = *state;
	char name[2][40] = {"/tmp/stasis-console-in-XXXXXX", "/tmp/stasis-console-out-XXXXXX"};
	int in = mkostemp(name[0], O_CLOEXEC), out = mkostemp(name[1], O_CLOEXEC);
	uint8_t *buf = malloc(300000);

	unlink(name[0]);
	unlink(name[1]);
	fill(buf, 0, 300000);
	assert_int_equal(fd_write_all(in, buf, 300000), 0);
	lseek(in, 1000, SEEK_SET);
	/* From where it stands; after what is there. */
	assert_int_equal(fd_write_all(out, "xyz", 3), 0);
	b->port[IN].in_fd = in;
	b->port[OUT].out_fd = out;
	boot(b);
	assert_true(guest_until(&b->g, in_closed, b));
	assert_int_equal(b->g.port[IN].len, 299000);
	check(b->g.port[IN].data, 1000, 299000);
	while (b->out_sent < 200000) {
		send_some(b, 1 + random_below(b, 8192));
		guest_turn(&b->g);
	}
	assert_true(guest_until(&b->g, nothing_unsent, b));
	assert_int_equal(pread(out, buf, 300000, 0), 3 + (ssize_t)b->out_sent);
	assert_memory_equal(buf, "xyz", 3);
	check(buf + 3, 0, b->out_sent);
	close(in);
	close(out);
	free(buf);
}

static void test_socket(void **state)
{
	struct bench *b = *state;
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	fcntl(sv[1], F_SETFL, O_NONBLOCK);
	b->port[IN].in_fd = sv[0];
	fd_close(&b->in[1]);
	b->in[1] = sv[1];
	boot(b);
	while (b->in_sent < 300000) {
		feed(b, 1 + random_below(b, 20000));
		guest_turn(&b->g);
	}
	shutdown(sv[1], SHUT_WR);
	assert_true(guest_until(&b->g, in_closed, b));
	assert_int_equal(b->g.port[IN].len, b->in_sent);
	check(b->g.port[IN].data, 0, b->in_sent);
	/* Closed by tear_down, after the device. */
	fd_close(&b->in[0]);
	b->in[0] = sv[0];
}

/* A terminal, raw. Non-blocking ones answer -EAGAIN where a pipe would wait inside io_uring. */
static void through_terminal(struct bench *b, int flags)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	struct termios raw;
	int slave;

	assert_true(master >= 0);
	assert_int_equal(grantpt(master), 0);
	assert_int_equal(unlockpt(master), 0);
	slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC | flags);
	assert_true(slave >= 0);
	assert_int_equal(tcgetattr(slave, &raw), 0);
	cfmakeraw(&raw);
	assert_int_equal(tcsetattr(slave, TCSANOW, &raw), 0);
	b->port[IN].in_fd = b->port[OUT].out_fd = slave;
	fd_close(&b->in[1]);
	fd_close(&b->out[0]);
	b->in[1] = b->out[0] = master;

	boot(b);
	assert_quiet(b);
	while (b->in_sent < 20000) {
		feed(b, 1 + random_below(b, 1000));
		guest_turn(&b->g);
	}
	assert_true(guest_until(&b->g, all_in, b));
	check(b->g.port[IN].data, 0, b->in_sent);
	/* Until it is full, then empty it. */
	while (guest_unsent(&b->g, OUT) < GUEST_TX_SLOTS) {
		send_some(b, 8192);
		guest_turn(&b->g);
	}
	assert_quiet(b);
	assert_true(guest_until(&b->g, all_out, b));
	freeze(b);
	virtio_resume(b->g.dev);
	feed(b, 100);
	assert_true(guest_until(&b->g, all_in, b));
	assert_int_equal(b->failures, 0);
	/* The file that others share stays as it was. */
	assert_int_equal(fcntl(slave, F_GETFL) & O_NONBLOCK, flags);
	freeze(b);
	close(slave);
	b->in[1] = -1;
}

static void test_terminal(void **state)
{
	through_terminal(*state, 0);
}

static void test_nonblocking_terminal(void **state)
{
	through_terminal(*state, O_NONBLOCK);
}

/* Empty chains, and chains that are empty in places, keep their place and come back. */
static void test_empty_chains(void **state)
{
	struct bench *b = *state;
	struct console_guest *g = &b->g;
	struct vring *ring = &g->drv.ring[guest_rx_queue(OUT) + 1];
	uint64_t gpa = vdriver_alloc(&g->drv, 64, 1);
	uint8_t got[64];

	boot(b);
	memcpy(vdriver_ptr(&g->drv, gpa, 64), "abcdef", 6);
	vring_add(ring, 1, (struct vseg[]){{gpa, 0, VSEG_OUT}});
	vring_add(ring, 1, (struct vseg[]){{gpa, 16, VSEG_IN}});
	virtio_notify(g->dev, guest_rx_queue(OUT) + 1);
	assert_true(vring_used(ring, NULL, NULL));
	assert_true(vring_used(ring, NULL, NULL));
	vring_add(ring, 3,
		  (struct vseg[]){{gpa, 0, VSEG_OUT}, {gpa, 4, VSEG_OUT}, {gpa, 0, VSEG_OUT}});
	vring_add(ring, 1, (struct vseg[]){{gpa, 0, VSEG_OUT}});
	vring_add(ring, 2, (struct vseg[]){{gpa + 4, 2, VSEG_OUT}, {gpa, 0, VSEG_OUT}});
	virtio_notify(g->dev, guest_rx_queue(OUT) + 1);
	virtio_console_flush(g->console, OUT);
	for (unsigned i = 0; i < 100 && !b->flushes; i++)
		loop_turn(g->loop, 1000000);
	for (unsigned i = 0; i < 3; i++)
		assert_true(vring_used(ring, NULL, NULL));
	assert_int_equal(read(b->out[0], got, sizeof(got)), 6);
	assert_memory_equal(got, "abcdef", 6);
}

/* More segments than a window takes, at once. */
static void test_many_segments(void **state)
{
	struct bench *b = *state;
	struct console_guest *g = &b->g;
	struct vring *ring = &g->drv.ring[guest_rx_queue(OUT) + 1];
	uint64_t gpa = vdriver_alloc(&g->drv, 8 * 64, 1);
	struct vseg seg[64];
	uint8_t got[600];

	boot(b);
	fill(vdriver_ptr(&g->drv, gpa, 512), 0, 512);
	for (unsigned c = 0; c < 8; c++) {
		for (unsigned i = 0; i < 64; i++)
			seg[i] = (struct vseg){gpa + c * 64 + i, 1, VSEG_OUT};
		vring_add_indirect(ring, 64, seg);
	}
	virtio_notify(g->dev, guest_rx_queue(OUT) + 1);
	virtio_console_flush(g->console, OUT);
	for (unsigned i = 0; i < 100 && !b->flushes; i++)
		loop_turn(g->loop, 1000000);
	assert_int_equal(read(b->out[0], got, sizeof(got)), 512);
	check(got, 0, 512);
}

/* Resets with operations in flight: input goes on where it was, output may lose what was queued.
 * The descriptors stay. */
static void test_reset_at_every_step(void **state)
{
	struct bench *b = *state;

	for (unsigned step = 0; step < 80; step++) {
		if (step % 3)
			guest_boot_linux(&b->g);
		else
			boot(b);
		guest_open(&b->g, IN, true);
		for (unsigned i = 0; i < step; i++) {
			uint8_t junk[20000] = {0};

			if (random_below(b, 3) == 0)
				feed(b, 1 + random_below(b, 5000));
			if (random_below(b, 3) == 0)
				guest_send(&b->g, OUT, junk, 1 + random_below(b, 8192), 2);
			if (random_below(b, 8) == 0 && read(b->out[0], junk, sizeof(junk)) < 0)
				assert_int_equal(errno, EAGAIN);
			if (random_below(b, 2))
				guest_turn(&b->g);
		}
		if (step % 5 == 0)
			virtio_console_flush(b->g.console, OUT);
		if (step % 4 == 0)
			feed(b, 1 + random_below(b, 5000));
		/* What it was given counts as read. */
		guest_look(&b->g);
	}
	boot(b);
	guest_open(&b->g, IN, true);
	assert_true(guest_until(&b->g, all_in, b));
	check(b->g.port[IN].data, 0, b->in_sent);
	assert_int_equal(b->g.port[IN].len, b->in_sent);
	assert_int_equal(b->g.dev->faults, 0);
}

/* Freezes with operations in flight lose and repeat nothing, either way, and move nothing. */
static void test_freeze_at_every_step(void **state)
{
	struct bench *b = *state;

	boot(b);
	for (unsigned step = 0; step < 400; step++) {
		if (random_below(b, 2))
			feed(b, 1 + random_below(b, 5000));
		send_some(b, 1 + random_below(b, 8192));
		if (random_below(b, 3))
			drain(b, 1 + random_below(b, 9000));
		if (random_below(b, 2))
			guest_turn(&b->g);
		if (step % 7 == 0)
			virtio_console_flush(b->g.console, OUT);
		freeze(b);
		guest_look(&b->g);

		size_t in = b->g.port[IN].len;
		int waiting, later;

		ioctl(b->out[0], FIONREAD, &waiting);
		feed(b, 100);
		some_turns(b, 2);
		ioctl(b->out[0], FIONREAD, &later);
		assert_int_equal(waiting, later);
		assert_int_equal(b->g.port[IN].len, in);
		virtio_resume(b->g.dev);
	}
	assert_true(guest_until(&b->g, all_in, b));
	assert_true(guest_until(&b->g, all_out, b));
	check(b->g.port[IN].data, 0, b->in_sent);
	assert_true(b->flushes > 0);
}

/* A fault of one port stops the device, and no other; its descriptors are let go of. */
static void test_fault(void **state)
{
	struct bench *b = *state;
	struct console_guest *g = &b->g;
	struct virtio_rng *rng;
	struct vdriver other;
	uint64_t gpa;
	uint32_t written;

	boot(b);
	some_turns(b, 3);
	for (unsigned i = 0; i < 100; i++) {
		send_some(b, 8192);
		guest_turn(g);
	}
	virtio_console_flush(g->console, OUT);
	/* A console buffer without room, met as soon as there is input for it. */
	vring_offer(&g->drv.ring[0], vring_chain(&g->drv.ring[0], 1,
						 (struct vseg[]){{g->message_gpa, 8, VSEG_OUT}}));
	for (unsigned i = 0; i <= GUEST_RX_BUFFERS; i++)
		virtio_console_input(g->console, CONSOLE, "x", 1);
	assert_true(g->dev->status & VIRTIO_STATUS_NEEDS_RESET);
	assert_int_equal(g->dev->faults, 1);
	assert_int_equal(b->flushes, 1);
	feed(b, 1000);
	some_turns(b, 20);

	vdriver_init(&other);
	assert_int_equal(virtio_rng_new(g->loop, &other.mem, -1, &rng, NULL), 0);
	vdriver_bring_up(&other, virtio_rng_device(rng), VDRIVER_FEATURES);
	gpa = vdriver_alloc(&other, 64, 1);
	vring_add(&other.ring[0], 1, (struct vseg[]){{gpa, 64, VSEG_IN}});
	virtio_notify(virtio_rng_device(rng), 0);
	assert_true(vring_used(&other.ring[0], NULL, &written));
	assert_int_equal(written, 64);
	virtio_rng_free(rng);
	vdriver_done(&other);

	/* What was read into the broken device's buffers is not lost. */
	boot(b);
	assert_true(guest_until(g, all_in, b));
	check(g->port[IN].data, 0, b->in_sent);
}

#define BOTH(test)                                                                                 \
	cmocka_unit_test_setup_teardown(test, set_up, tear_down),                                  \
		cmocka_unit_test_setup_teardown(test, set_up_nonblocking, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_both_ways),
		BOTH(test_not_ready),
		BOTH(test_not_read_until_open),
		BOTH(test_guest_reopens),
		BOTH(test_back_pressure),
		BOTH(test_flush_is_a_mark),
		BOTH(test_reader_gone),
		BOTH(test_reader_goes_while_full),
		BOTH(test_host_closes),
		BOTH(test_no_receive_buffers),
		BOTH(test_reset_at_every_step),
		BOTH(test_freeze_at_every_step),
		BOTH(test_fault),
		cmocka_unit_test_setup_teardown(test_disk_full, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_files, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_socket, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_terminal, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_nonblocking_terminal, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_empty_chains, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_many_segments, set_up, tear_down),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
