/* The 16550A, as the Linux driver probes, starts and runs it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "devices/serial.h"

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR };
#define FCR IIR

struct port {
	struct serial s;
	uint8_t out[1024];
	size_t out_len;
	const uint8_t *feed; /* given in drained() */
	size_t feed_len;
	unsigned drained;
};

static void output(struct serial *s, const uint8_t *data, size_t len)
{
	struct port *p = s->arg;

	for (size_t i = 0; i < len && p->out_len < sizeof(p->out); i++)
		p->out[p->out_len++] = data[i];
}

static void drained(struct serial *s)
{
	struct port *p = s->arg;

	p->drained++;
	if (!p->feed_len)
		return;
	size_t n = serial_input(s, p->feed, p->feed_len);
	p->feed += n;
	p->feed_len -= n;
}

static void open_port(struct port *p)
{
	memset(p, 0, sizeof(*p));
	serial_init(&p->s, -1);
	p->s.arg = p;
	p->s.output = output;
	p->s.drained = drained;
}

static uint8_t in(struct port *p, unsigned reg)
{
	uint8_t v = 0xee;

	p->s.bus.read(&p->s.bus, reg, &v, 1);
	return v;
}

static void out(struct port *p, unsigned reg, uint8_t v)
{
	p->s.bus.write(&p->s.bus, reg, &v, 1);
}

static unsigned raised(struct port *p)
{
	unsigned n = (unsigned)p->s.irq.raised;

	p->s.irq.raised = 0;
	return n;
}

static void registers_after_init(void **state)
{
	struct port p;

	(void)state;
	open_port(&p);
	assert_int_equal(in(&p, IER), 0);
	assert_int_equal(in(&p, IIR), 0x01);
	assert_int_equal(in(&p, LCR), 0);
	assert_int_equal(in(&p, MCR), 0);
	assert_int_equal(in(&p, LSR), 0x60);
	assert_int_equal(in(&p, MSR), 0xb0);
	assert_int_equal(in(&p, DATA), 0);
	out(&p, SCR, 0xa5);
	assert_int_equal(in(&p, SCR), 0xa5);
	/* Read-only ones. */
	out(&p, LSR, 0xff);
	out(&p, MSR, 0xff);
	assert_int_equal(in(&p, LSR), 0x60);
	assert_int_equal(in(&p, MSR), 0xb0);
	assert_int_equal(raised(&p), 0);
}

static void divisor_latch(void **state)
{
	struct port p;

	(void)state;
	open_port(&p);
	out(&p, IER, 0x05);
	out(&p, LCR, 0x83);
	out(&p, DATA, 0x01);
	out(&p, IER, 0x02);
	assert_int_equal(in(&p, DATA), 0x01);
	assert_int_equal(in(&p, IER), 0x02);
	out(&p, LCR, 0x03);
	assert_int_equal(in(&p, IER), 0x05);
	assert_int_equal(p.out_len, 0);
	out(&p, DATA, 'x');
	assert_int_equal(p.out_len, 1);
	assert_int_equal(p.out[0], 'x');
}

/* The steps of autoconfig() and autoconfig_16550a() of Linux's 8250 driver. */
static void linux_autoconfig_finds_a_16550a(void **state)
{
	struct port p;

	(void)state;
	open_port(&p);
	out(&p, IER, 0);
	assert_int_equal(in(&p, IER) & 0x0f, 0);
	out(&p, IER, 0x0f);
	assert_int_equal(in(&p, IER) & 0x0f, 0x0f);
	out(&p, IER, 0);

	out(&p, MCR, 0x10 | 0x08 | 0x02);
	assert_int_equal(in(&p, MSR) & 0xf0, 0x90);
	out(&p, MCR, 0);

	out(&p, LCR, 0xbf);
	out(&p, FCR, 0);
	out(&p, LCR, 0);
	out(&p, FCR, 0x01);
	assert_int_equal(in(&p, IIR) >> 6, 3);

	/* No enhanced feature register: not a 16650, 16654, 16850. */
	out(&p, LCR, 0x80);
	assert_int_not_equal(in(&p, IIR), 0);
	out(&p, LCR, 0xbf);
	assert_int_not_equal(in(&p, IIR), 0);
	/* No second bank: not an NS super I/O. */
	out(&p, LCR, 0);
	uint8_t mcr = in(&p, MCR);
	out(&p, LCR, 0xe0);
	assert_int_equal((in(&p, IIR) ^ mcr) & 0x10, 0);
	out(&p, LCR, 0);
	out(&p, MCR, mcr ^ 0x10);
	out(&p, LCR, 0xe0);
	uint8_t bank = in(&p, IIR);
	out(&p, LCR, 0);
	out(&p, MCR, mcr);
	assert_int_equal((bank ^ mcr) & 0x10, 0);
	/* No 64-byte FIFO: not a TI16750. */
	out(&p, FCR, 0x21);
	assert_int_equal(in(&p, IIR) >> 5, 6);
	out(&p, LCR, 0x80);
	out(&p, FCR, 0x21);
	assert_int_equal(in(&p, IIR) >> 5, 6);
	out(&p, LCR, 0);
	/* No unit-enable bit: not an XScale. */
	out(&p, IER, 0x40);
	assert_int_equal(in(&p, IER) & 0x40, 0);

	/* size_fifo(): 256 bytes in loopback, as many come back as the FIFO is deep. */
	out(&p, FCR, 0x01);
	out(&p, FCR, 0x07);
	out(&p, MCR, 0x10);
	out(&p, LCR, 0x03);
	for (unsigned i = 0; i < 256; i++)
		out(&p, DATA, (uint8_t)i);
	unsigned depth = 0;
	while ((in(&p, LSR) & 0x01) && depth < 256)
		assert_int_equal(in(&p, DATA), depth++);
	assert_int_equal(depth, 16);
	assert_int_equal(p.out_len, 0);
}

/* serial8250_do_startup(): the two tests for broken THRE and TXEN interrupts. */
static void linux_startup_finds_no_bugs(void **state)
{
	struct port p;

	(void)state;
	open_port(&p);
	out(&p, FCR, 0x01);
	out(&p, IER, 0x02);
	uint8_t first = in(&p, IIR);
	out(&p, IER, 0);
	out(&p, IER, 0x02);
	uint8_t second = in(&p, IIR);
	out(&p, IER, 0);
	assert_int_equal(first & 0x0f, 0x02);
	assert_int_equal(second & 0x0f, 0x02);

	out(&p, IER, 0x02);
	assert_true(in(&p, LSR) & 0x40);
	assert_false(in(&p, IIR) & 0x01);
	out(&p, IER, 0);
	assert_int_equal(in(&p, IIR), 0xc1);
}

static void transmit_interrupts(void **state)
{
	struct port p;

	(void)state;
	open_port(&p);
	out(&p, DATA, 'a');
	assert_int_equal(raised(&p), 0); /* not enabled */
	out(&p, IER, 0x02);
	assert_int_equal(raised(&p), 1);
	out(&p, IER, 0x02); /* still pending, no second edge */
	assert_int_equal(raised(&p), 0);
	assert_int_equal(in(&p, IIR), 0x02);
	assert_int_equal(in(&p, IIR), 0x01); /* the read cleared it */
	out(&p, DATA, 'b');
	assert_int_equal(raised(&p), 1);
	out(&p, DATA, 'c'); /* pending and unread: the edge is on its way */
	assert_int_equal(raised(&p), 0);
	assert_int_equal(in(&p, IIR), 0x02);
	out(&p, DATA, 'd');
	assert_int_equal(raised(&p), 1);
	out(&p, IER, 0);
	assert_int_equal(in(&p, IIR), 0x01);
	assert_int_equal(p.out_len, 4);
	assert_memory_equal(p.out, "abcd", 4);
}

static void receive_interrupts(void **state)
{
	struct port p;

	(void)state;
	open_port(&p);
	out(&p, FCR, 0xc1); /* trigger at 14 */
	out(&p, IER, 0x01);
	assert_int_equal(serial_input(&p.s, (const uint8_t *)"hi", 2), 2);
	assert_int_equal(raised(&p), 1);
	assert_int_equal(in(&p, IIR), 0xcc);
	assert_true(in(&p, LSR) & 0x01);
	assert_int_equal(in(&p, DATA), 'h');
	assert_int_equal(in(&p, IIR), 0xcc);
	assert_int_equal(in(&p, DATA), 'i');
	assert_int_equal(in(&p, IIR), 0xc1);
	assert_int_equal(in(&p, LSR), 0x60);

	static const uint8_t zeros[16];
	assert_int_equal(serial_input(&p.s, zeros, 13), 13);
	assert_int_equal(in(&p, IIR), 0xcc);
	assert_int_equal(serial_input(&p.s, zeros, 1), 1);
	assert_int_equal(in(&p, IIR), 0xc4);
	assert_int_equal(raised(&p), 1);
	for (int i = 0; i < 14; i++)
		in(&p, DATA);
	/* Empty, then full again: another edge. */
	assert_int_equal(serial_input(&p.s, zeros, 1), 1);
	assert_int_equal(raised(&p), 1);
	/* Masked and unmasked with data there: another edge. */
	out(&p, IER, 0);
	out(&p, IER, 0x01);
	assert_int_equal(raised(&p), 1);
}

static void sources_in_order_of_priority(void **state)
{
	struct port p;
	uint8_t v[1] = {'x'};

	(void)state;
	open_port(&p);
	out(&p, MCR, 0x10);
	out(&p, DATA, 1);
	out(&p, DATA, 2); /* no FIFO: overrun */
	out(&p, MCR, 0);
	out(&p, IER, 0x07);
	assert_int_equal(raised(&p), 1);
	assert_int_equal(in(&p, IIR), 0x06);
	assert_int_equal(in(&p, LSR), 0x63);
	assert_int_equal(in(&p, LSR), 0x61);
	assert_int_equal(in(&p, IIR), 0x04);
	assert_int_equal(in(&p, IIR), 0x04); /* a read of IIR does not clear this one */
	assert_int_equal(in(&p, DATA), 1);
	assert_int_equal(in(&p, IIR), 0x02);
	assert_int_equal(in(&p, IIR), 0x01);
	/* A second source while the first is pending has an edge of its own. */
	out(&p, DATA, 'y');
	assert_int_equal(raised(&p), 1);
	serial_input(&p.s, v, 1);
	assert_int_equal(raised(&p), 1);
}

static void input_is_bounded_and_goes_on(void **state)
{
	struct port p;
	uint8_t bytes[100], got[100];
	unsigned n = 0;

	(void)state;
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	open_port(&p);
	/* Before the FIFO is on there is room for one. */
	assert_int_equal(serial_input(&p.s, bytes, 100), 1);
	assert_int_equal(serial_input(&p.s, bytes, 100), 0);
	out(&p, FCR, 0x01); /* switching clears */
	assert_int_equal(p.drained, 1);
	assert_false(in(&p, LSR) & 0x01);

	assert_int_equal(serial_input(&p.s, bytes, 100), 16);
	p.feed = bytes + 16;
	p.feed_len = 84;
	while ((in(&p, LSR) & 0x01) && n < 100)
		got[n++] = in(&p, DATA);
	assert_int_equal(n, 100);
	assert_memory_equal(got, bytes, 100);
	assert_int_equal(in(&p, LSR), 0x60); /* nothing overran */
	assert_int_equal(p.drained, 1 + 7);

	/* In loopback the line is cut; it is told when that ends. */
	out(&p, MCR, 0x10);
	assert_int_equal(serial_input(&p.s, bytes, 1), 0);
	p.feed = bytes;
	p.feed_len = 1;
	out(&p, MCR, 0x00);
	assert_int_equal(in(&p, DATA), bytes[0]);
}

static void fifo_control(void **state)
{
	struct port p;
	static const uint8_t three[3] = {1, 2, 3};

	(void)state;
	open_port(&p);
	out(&p, FCR, 0x01);
	serial_input(&p.s, three, 3);
	out(&p, FCR, 0x05); /* clears the transmitter's only */
	assert_true(in(&p, LSR) & 0x01);
	out(&p, FCR, 0x03);
	assert_false(in(&p, LSR) & 0x01);
	out(&p, FCR, 0x00);
	assert_int_equal(in(&p, IIR), 0x01);
	out(&p, FCR, 0xc0); /* not enabled: ignored */
	assert_int_equal(in(&p, IIR), 0x01);
	/* Overrun in the FIFO keeps what was there. */
	out(&p, FCR, 0x01);
	out(&p, MCR, 0x10);
	for (uint8_t i = 0; i < 17; i++)
		out(&p, DATA, i);
	assert_int_equal(in(&p, LSR), 0x63);
	assert_int_equal(in(&p, DATA), 0);
}

static void loopback_modem_lines(void **state)
{
	struct port p;
	static const uint8_t line[4] = {0x20, 0x10, 0x40, 0x80};

	(void)state;
	open_port(&p);
	for (unsigned bit = 0; bit < 4; bit++) {
		out(&p, MCR, (uint8_t)(0x10 | 1u << bit));
		assert_int_equal(in(&p, MSR), line[bit]);
	}
	out(&p, MCR, 0x10);
	assert_int_equal(in(&p, MSR), 0);
	out(&p, MCR, 0xff);
	assert_int_equal(in(&p, MCR), 0x1f);
	out(&p, MCR, 0x0b);
	assert_int_equal(in(&p, MSR), 0xb0);
}

static void offsets_and_widths(void **state)
{
	struct port p;
	uint8_t data[8];

	(void)state;
	open_port(&p);
	out(&p, SCR, 0x77);
	/* Past the registers, also where the low byte of the offset names one. */
	static const uint64_t past[] = {8, 0x107, 0xff7, 0x100000007};
	for (size_t i = 0; i < ARRAY_SIZE(past); i++) {
		memset(data, 0xee, sizeof(data));
		p.s.bus.read(&p.s.bus, past[i], data, 1);
		assert_int_equal(data[0], 0);
		p.s.bus.write(&p.s.bus, past[i], "\x11", 1);
	}
	assert_int_equal(in(&p, SCR), 0x77);
	p.s.bus.write(&p.s.bus, 0x100, "x", 1);
	assert_int_equal(p.out_len, 0);

	memset(data, 0xee, sizeof(data));
	p.s.bus.read(&p.s.bus, SCR, data, 4);
	assert_memory_equal(data, "\x77\0\0\0\xee\xee\xee\xee", 8);
	p.s.bus.write(&p.s.bus, DATA, "abcd", 4);
	assert_int_equal(p.out_len, 1);
	assert_int_equal(p.out[0], 'a');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registers_after_init),
		cmocka_unit_test(divisor_latch),
		cmocka_unit_test(linux_autoconfig_finds_a_16550a),
		cmocka_unit_test(linux_startup_finds_no_bugs),
		cmocka_unit_test(transmit_interrupts),
		cmocka_unit_test(receive_interrupts),
		cmocka_unit_test(sources_in_order_of_priority),
		cmocka_unit_test(input_is_bounded_and_goes_on),
		cmocka_unit_test(fifo_control),
		cmocka_unit_test(loopback_modem_lines),
		cmocka_unit_test(offsets_and_widths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
