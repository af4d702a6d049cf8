/* virtio-console's control side: the handshake as Linux does it, messages that wait, hostile ones,
 * ports without descriptors. The bytes that flow by descriptors: test_virtio_console_stream.c. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "console_guest.h"

enum { CONSOLE, CONTROL, IN, COUNT };

struct bench {
	struct console_guest g;
	struct virtio_console_port port[COUNT];
	uint8_t *out[COUNT];
	size_t out_len[COUNT], out_largest;
	unsigned opens[COUNT], closes[COUNT], flushes[COUNT];
};

static void on_output(struct virtio_console_port *port, const uint8_t *data, size_t len)
{
	struct bench *b = port->arg;
	size_t i = (size_t)(port - b->port);

	b->out[i] = realloc(b->out[i], b->out_len[i] + len);
	assert_non_null(b->out[i]);
	memcpy(b->out[i] + b->out_len[i], data, len);
	b->out_len[i] += len;
	b->out_largest = MAX(b->out_largest, len);
}

static void on_opened(struct virtio_console_port *port, bool open)
{
	struct bench *b = port->arg;
	size_t i = (size_t)(port - b->port);

	if (open)
		b->opens[i]++;
	else
		b->closes[i]++;
}

static void on_flushed(struct virtio_console_port *port)
{
	struct bench *b = port->arg;

	b->flushes[port - b->port]++;
}

static int set_up(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	static const char *const names[COUNT] = {NULL, "org.test.control", "org.test.in"};

	for (unsigned i = 0; i < COUNT; i++) {
		b->port[i] = (struct virtio_console_port){
			.name = names[i],
			.console = i == CONSOLE,
			.in_fd = -1,
			.out_fd = -1,
			.output = i == IN ? NULL : on_output,
			.opened = on_opened,
			.flushed = on_flushed,
			.arg = b,
		};
	}
	guest_init(&b->g, b->port, COUNT);
	*state = b;
	return 0;
}

static int tear_down(void **state)
{
	struct bench *b = *state;

	guest_done(&b->g);
	for (unsigned i = 0; i < COUNT; i++)
		free(b->out[i]);
	free(b);
	return 0;
}

static void expect(const struct console_guest *g, unsigned *at, uint32_t id, uint16_t event,
		   uint16_t value)
{
	/* The next message of this port. */
	while (*at < g->traced && g->trace[*at].id != id)
		++*at;
	assert_in_range(*at, 0, g->traced - 1);
	assert_int_equal(g->trace[*at].event, event);
	assert_int_equal(g->trace[*at].value, value);
	++*at;
}

static void test_handshake(void **state)
{
	struct bench *b = *state;
	struct console_guest *g = &b->g;
	unsigned at = 0;
	uint32_t ports = 0;
	uint16_t size[2];

	assert_int_equal(g->dev->queue_count, 8);
	virtio_console_resize(g->console, CONSOLE, 132, 43);
	guest_boot_linux(g);

	expect(g, &at, CONSOLE, PORT_ADD, 1);
	expect(g, &at, CONSOLE, CONSOLE_PORT, 1);
	expect(g, &at, CONSOLE, RESIZE, 1);
	expect(g, &at, CONSOLE, PORT_OPEN, 1);
	at = 0;
	expect(g, &at, CONTROL, PORT_ADD, 1);
	/* Open before the name: a reader that waits for the name must not see end of file. */
	expect(g, &at, CONTROL, PORT_OPEN, 1);
	expect(g, &at, CONTROL, PORT_NAME, 1);
	assert_string_equal(g->port[CONTROL].name, "org.test.control");
	assert_string_equal(g->port[IN].name, "org.test.in");
	assert_string_equal(g->port[CONSOLE].name, "");
	assert_true(g->port[CONSOLE].console && !g->port[CONTROL].console);
	/* As Linux reads them. */
	assert_int_equal(g->port[CONSOLE].rows, 43);
	assert_int_equal(g->port[CONSOLE].cols, 132);
	for (unsigned i = 0; i < COUNT; i++)
		assert_true(g->port[i].host_open);
	assert_int_equal(b->opens[CONSOLE], 1);
	assert_int_equal(b->opens[CONTROL], 0);
	assert_int_equal(g->dev->faults, 0);

	g->dev->ops->config_read(g->dev, 4, &ports, 4);
	assert_int_equal(ports, COUNT);
	g->dev->ops->config_read(g->dev, 0, size, 4);
	assert_int_equal(size[0], 132);
	assert_int_equal(size[1], 43);
	/* Past the end, and across it. */
	uint64_t past = UINT64_MAX;
	g->dev->ops->config_read(g->dev, 1000, &past, 8);
	assert_int_equal(past, 0);
	past = UINT64_MAX;
	g->dev->ops->config_read(g->dev, 4, &past, 8);
	assert_int_equal(past, COUNT);
	past = UINT64_MAX;
	g->dev->ops->config_read(g->dev, 9, &past, 8);
	assert_int_equal(past, 0);
}

static void test_resize_later(void **state)
{
	struct bench *b = *state;
	struct console_guest *g = &b->g;

	guest_boot_linux(g);
	unsigned before = g->traced;
	virtio_console_resize(g->console, CONSOLE, 80, 25);
	virtio_console_resize(g->console, CONSOLE, 80, 25);
	virtio_console_resize(g->console, CONTROL, 80, 25);
	guest_look(g);
	assert_int_equal(g->traced, before + 1);
	assert_int_equal(g->port[CONSOLE].rows, 25);
	assert_int_equal(g->port[CONSOLE].cols, 80);
}

/* No control buffers: nothing is sent, nothing grows; then one buffer at a time. */
static void test_no_control_buffers(void **state)
{
	struct bench *b = *state;
	struct console_guest *g = &b->g;

	assert_true(vdriver_bring_up(&g->drv, g->dev, VDRIVER_FEATURES | 3) &
		    VIRTIO_STATUS_DRIVER_OK);
	for (unsigned i = 0; i < 1000; i++) {
		guest_control(g, UINT32_MAX, DEVICE_READY, 1, 8);
		guest_control(g, i % COUNT, PORT_READY, 1, 8);
		virtio_console_resize(g->console, CONSOLE, (uint16_t)(i + 1), 25);
	}
	assert_int_equal(g->drv.ring[2].q->in_flight, 0);
	assert_int_equal(*g->drv.ring[2].used_idx, 0);
	guest_fill_control(g, 1);
	for (unsigned i = 0; i < 20; i++)
		guest_look(g);
	/* Each once: they were all said again and again, and the last size stands. */
	unsigned adds = 0;
	for (unsigned i = 0; i < g->traced; i++)
		adds += g->trace[i].event == PORT_ADD;
	assert_int_equal(adds, COUNT);
	assert_int_equal(g->port[CONSOLE].cols, 1000);
	assert_int_equal(g->dev->faults, 0);
}

static void test_hostile_control(void **state)
{
	struct bench *b = *state;
	struct console_guest *g = &b->g;
	struct vseg in = {g->message_gpa, 8, VSEG_IN};

	guest_boot_linux(g);
	guest_control(g, COUNT, PORT_READY, 1, 8);
	guest_control(g, UINT32_MAX, PORT_OPEN, 1, 8);
	guest_control(g, 0x80000000u, PORT_OPEN, 1, 8);
	guest_control(g, CONTROL, 8, 1, 8);
	guest_control(g, CONTROL, 0xffff, 1, 8);
	guest_control(g, CONTROL, PORT_ADD, 1, 8);
	guest_control(g, CONTROL, PORT_NAME, 1, 8);
	for (unsigned len = 1; len < 8; len++)
		guest_control(g, CONTROL, PORT_OPEN, 1, len);
	assert_int_equal(g->dev->faults, 14);
	/* Nothing to read at all. */
	vring_add(&g->drv.ring[3], 1, &in);
	virtio_notify(g->dev, 3);
	assert_int_equal(g->dev->faults, 15);
	assert_int_equal(b->opens[CONTROL], 0);
	assert_true(vring_used(&g->drv.ring[3], NULL, NULL));
	/* Longer than a message: what follows is not ours to judge. */
	guest_control(g, CONTROL, PORT_OPEN, 1, 64);
	assert_int_equal(b->opens[CONTROL], 1);
	assert_true(virtio_running(g->dev));
}

/* A message in as many pieces as it has bytes. */
static void test_control_in_pieces(void **state)
{
	struct bench *b = *state;
	struct console_guest *g = &b->g;
	struct vseg seg[8];
	uint8_t *p = vdriver_ptr(&g->drv, g->message_gpa, 8);

	guest_boot_linux(g);
	memcpy(p, (uint8_t[]){CONTROL, 0, 0, 0, PORT_OPEN, 0, 1, 0}, 8);
	for (unsigned i = 0; i < 8; i++)
		seg[i] = (struct vseg){g->message_gpa + i, 1, VSEG_OUT};
	vring_add_indirect(&g->drv.ring[3], 8, seg);
	virtio_notify(g->dev, 3);
	assert_int_equal(b->opens[CONTROL], 1);
}

static void test_small_control_buffer(void **state)
{
	struct bench *b = *state;
	struct console_guest *g = &b->g;
	struct vseg seg = {g->message_gpa, 7, VSEG_IN};

	assert_true(vdriver_bring_up(&g->drv, g->dev, VDRIVER_FEATURES | 3) &
		    VIRTIO_STATUS_DRIVER_OK);
	vring_add(&g->drv.ring[2], 1, &seg);
	virtio_notify(g->dev, 2);
	assert_true(virtio_running(g->dev));
	guest_control(g, UINT32_MAX, DEVICE_READY, 1, 8);
	assert_true(g->dev->status & VIRTIO_STATUS_NEEDS_RESET);
	/* A reset heals. */
	guest_boot_linux(g);
	assert_string_equal(g->port[CONTROL].name, "org.test.control");
}

static void test_input(void **state)
{
	struct bench *b = *state;
	struct console_guest *g = &b->g;
	uint8_t *data = malloc(70000);

	for (unsigned i = 0; i < 70000; i++)
		data[i] = (uint8_t)(i * 7 + i / 251);
	/* Kept before the guest is there, and bounded. */
	assert_int_equal(virtio_console_input(g->console, CONTROL, data, 1000), 1000);
	assert_int_equal(virtio_console_input(g->console, CONTROL, data + 1000, 69000), 64536);
	assert_int_equal(virtio_console_input(g->console, CONTROL, data, 1), 0);
	guest_boot_linux(g);
	assert_int_equal(g->port[CONTROL].len, 0);
	guest_open(g, CONTROL, true);
	for (unsigned i = 0; i < 20; i++)
		guest_look(g);
	assert_int_equal(g->port[CONTROL].len, 65536);
	/* Straight through now, and round the ring's end. */
	assert_int_equal(virtio_console_input(g->console, CONTROL, data + 65536, 4464), 4464);
	guest_look(g);
	assert_int_equal(g->port[CONTROL].len, 70000);
	assert_memory_equal(g->port[CONTROL].data, data, 70000);

	/* Closed with bytes left: first they, then the end. */
	g->port[CONTROL].rx_keep = true;
	assert_int_equal(virtio_console_input(g->console, CONTROL, data, 65536), 65536);
	virtio_console_close(g->console, CONTROL);
	assert_int_equal(virtio_console_input(g->console, CONTROL, data, 1), 0);
	guest_look(g);
	assert_true(g->port[CONTROL].host_open);
	g->port[CONTROL].rx_keep = false;
	guest_fill_rx(g, CONTROL);
	for (unsigned i = 0; i < 20; i++)
		guest_look(g);
	assert_int_equal(g->port[CONTROL].len, 135536);
	assert_memory_equal(g->port[CONTROL].data + 70000, data, 65536);
	assert_false(g->port[CONTROL].host_open);
	assert_int_equal(g->port[CONTROL].len_at_close, 135536);
	free(data);
}

/* Closed before the driver came: it is never told that the port was open. */
static void test_closed_early(void **state)
{
	struct bench *b = *state;
	struct console_guest *g = &b->g;

	virtio_console_close(g->console, IN);
	guest_boot_linux(g);
	assert_string_equal(g->port[IN].name, "org.test.in");
	for (unsigned i = 0; i < g->traced; i++)
		assert_false(g->trace[i].id == IN && g->trace[i].event == PORT_OPEN);
}

static void test_output(void **state)
{
	struct bench *b = *state;
	struct console_guest *g = &b->g;
	uint8_t *want = malloc(100000);
	size_t at = 0;
	unsigned seed = 1;

	guest_boot_linux(g);
	guest_open(g, CONTROL, true);
	while (at < 100000) {
		size_t len = 1 + (size_t)rand_r(&seed) % MIN(GUEST_TX_BYTES, 100000 - at);

		for (size_t i = 0; i < len; i++)
			want[at + i] = (uint8_t)rand_r(&seed);
		size_t n = guest_send(g, CONTROL, want + at, len, 1 + (unsigned)rand_r(&seed) % 4);
		at += n;
		guest_look(g);
		/* At once, up to a bound. */
		assert_int_equal(guest_unsent(g, CONTROL), 0);
	}
	assert_int_equal(b->out_len[CONTROL], 100000);
	assert_memory_equal(b->out[CONTROL], want, 100000);
	assert_int_equal(b->out_len[CONSOLE], 0);
	/* A port with no back end swallows. */
	assert_int_equal(guest_send(g, IN, want, 100, 1), 100);
	guest_look(g);
	assert_int_equal(guest_unsent(g, IN), 0);
	free(want);
}

/* A chain of a gigabyte is served in turns. */
static void test_output_in_turns(void **state)
{
	struct bench *b = *state;
	struct console_guest *g = &b->g;
	struct vseg seg[4];

	guest_boot_linux(g);
	for (unsigned i = 0; i < 4; i++)
		seg[i] = (struct vseg){VDRIVER_HIGH_GPA, KIB(256), VSEG_OUT};
	vring_add(&g->drv.ring[1], 4, seg);
	virtio_notify(g->dev, 1);
	virtio_console_flush(g->console, CONSOLE);
	assert_in_range(b->out_len[CONSOLE], 1, KIB(256));
	assert_int_equal(b->flushes[CONSOLE], 0);
	for (unsigned i = 0; i < 200 && !b->flushes[CONSOLE]; i++)
		loop_turn(g->loop, 1000000);
	assert_int_equal(b->flushes[CONSOLE], 1);
	assert_int_equal(b->out_len[CONSOLE], MIB(1));
	assert_in_range(b->out_largest, 1, 65536);
	assert_true(vring_used(&g->drv.ring[1], NULL, NULL));

	/* A reset in the middle. */
	vring_add(&g->drv.ring[1], 4, seg);
	virtio_notify(g->dev, 1);
	virtio_console_flush(g->console, CONSOLE);
	guest_boot_linux(g);
	assert_int_equal(b->flushes[CONSOLE], 2);
	size_t len = b->out_len[CONSOLE];
	for (unsigned i = 0; i < 10; i++)
		loop_turn(g->loop, 0);
	assert_int_equal(b->out_len[CONSOLE], len);
	assert_int_equal(b->closes[CONSOLE], 1);
	assert_int_equal(b->opens[CONSOLE], 2);
}

static void test_single_port_driver(void **state)
{
	struct bench *b = *state;
	struct console_guest *g = &b->g;

	guest_boot(g, VDRIVER_FEATURES | 1);
	assert_int_equal(b->opens[CONSOLE], 1);
	assert_int_equal(virtio_console_input(g->console, CONSOLE, "hello", 5), 5);
	guest_fill_rx(g, CONSOLE);
	guest_send(g, CONSOLE, "world", 5, 2);
	guest_look(g);
	assert_int_equal(g->port[CONSOLE].len, 5);
	assert_int_equal(b->out_len[CONSOLE], 5);
	/* The size comes by configuration. */
	uint32_t generation = g->dev->config_generation;
	virtio_console_resize(g->console, CONSOLE, 80, 25);
	assert_int_not_equal(g->dev->config_generation, generation);
	/* Such a driver has no control queues. */
	guest_fill_control(g, 1);
	vring_add(&g->drv.ring[3], 1, (struct vseg[]){{g->message_gpa, 8, VSEG_OUT}});
	virtio_notify(g->dev, 3);
	guest_look(g);
	assert_int_equal(g->traced, 0);
	assert_false(vring_used(&g->drv.ring[3], NULL, NULL));
}

static void test_flush_empty(void **state)
{
	struct bench *b = *state;
	struct console_guest *g = &b->g;

	virtio_console_flush(g->console, CONTROL);
	assert_int_equal(b->flushes[CONTROL], 1);
	guest_boot_linux(g);
	virtio_console_flush(g->console, CONTROL);
	assert_int_equal(b->flushes[CONTROL], 2);
	/* Not notified yet, but queued. */
	uint64_t gpa = vdriver_bytes(&g->drv, "late", 4);
	vring_add(&g->drv.ring[guest_rx_queue(CONTROL) + 1], 1,
		  (struct vseg[]){{gpa, 4, VSEG_OUT}});
	virtio_console_flush(g->console, CONTROL);
	assert_int_equal(b->flushes[CONTROL], 3);
	assert_int_equal(b->out_len[CONTROL], 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_handshake, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_resize_later, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_control_buffers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_hostile_control, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_control_in_pieces, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_small_control_buffer, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_input, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_closed_early, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_output, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_output_in_turns, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_single_port_driver, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_flush_empty, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
