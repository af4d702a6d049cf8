/* The serial port under any order of accesses and input. What must hold: an interrupt that is
 * pending had an edge that the driver has not used up; and no byte is lost or made up, on the way
 * in or out, while the driver stays out of loopback and does not clear the FIFO. */
#include "devices/serial.h"
#include "fuzz.h"

enum { DATA, IER, IIR, LCR, MCR, LSR };

static struct serial s;
static uint64_t edges_used;
static unsigned to_feed; /* bytes that drained() may still give */
static uint8_t next_in, next_read;
static bool tainted; /* the driver did something that loses bytes */

static void feed(unsigned n)
{
	uint8_t bytes[32];

	n = MIN(n, (unsigned)sizeof(bytes));
	for (unsigned i = 0; i < n; i++)
		bytes[i] = (uint8_t)(next_in + i);
	size_t taken = serial_input(&s, bytes, n);
	FUZZ_CHECK(taken <= n && taken <= SERIAL_FIFO);
	next_in = (uint8_t)(next_in + taken);
}

static void output(struct serial *port, const uint8_t *data, size_t len)
{
	(void)data;
	FUZZ_CHECK(port == &s && len == 1);
}

static void drained(struct serial *port)
{
	FUZZ_CHECK(port == &s && s.rx_count == 0);
	if (to_feed) {
		to_feed--;
		feed(5);
	}
}

static uint8_t rd(uint64_t reg)
{
	uint8_t v;

	s.bus.read(&s.bus, reg, &v, 1);
	return v;
}

/* Reads the data register, if that is what it is now. */
static void read_data(void)
{
	bool had = s.rx_count > 0;
	uint8_t v = rd(DATA);

	if (had && !tainted)
		FUZZ_CHECK(v == next_read++);
}

static bool interrupt_pending(void)
{
	struct serial copy = s;
	uint8_t v;

	copy.bus.read(&copy.bus, IIR, &v, 1);
	return !(v & 1);
}

/* As Linux: until no interrupt is pending. */
static void service(void)
{
	edges_used = s.irq.raised;
	for (unsigned turns = 0;; turns++) {
		uint8_t iir = rd(IIR), lsr = rd(LSR);

		if (iir & 1)
			return;
		FUZZ_CHECK(turns < 1000);
		while ((lsr & 1) && !(s.lcr & 0x80)) {
			read_data();
			lsr = rd(LSR);
		}
		if (s.lcr & 0x80)
			return; /* its own fault: no way to the data */
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};

	serial_init(&s, -1);
	s.output = output;
	s.drained = drained;
	edges_used = 0;
	to_feed = 40;
	next_in = next_read = 0;
	tainted = false;

	while (in.left) {
		uint8_t op = fuzz_u8(&in), v;
		uint64_t reg = op >> 3 & 7;
		uint8_t wide[8];

		switch (op & 7) {
		case 0:
		case 1:
			if (reg == DATA && !(s.lcr & 0x80))
				read_data();
			else
				rd(reg);
			break;
		case 2:
		case 3:
		case 4:
			v = fuzz_u8(&in);
			tainted |= reg == IIR || (reg == MCR && (v & 0x10));
			s.bus.write(&s.bus, reg, &v, 1);
			break;
		case 5:
			feed(op >> 3);
			break;
		case 6:
			service();
			break;
		default: /* any offset and width */
			reg = fuzz_u16(&in);
			tainted = true;
			memset(wide, (int)reg, sizeof(wide));
			if (op & 0x80)
				s.bus.read(&s.bus, reg, wide, 1u << (op >> 3 & 3));
			else
				s.bus.write(&s.bus, reg, wide, 1u << (op >> 3 & 3));
			break;
		}
		FUZZ_CHECK(s.rx_count <= SERIAL_FIFO && s.rx_head < SERIAL_FIFO);
		FUZZ_CHECK(tainted || s.rx_count == (uint8_t)(next_in - next_read));
		/* Cut short by DLAB, service() leaves what it used up pending. */
		if (s.lcr & 0x80)
			edges_used = 0;
		FUZZ_CHECK(!interrupt_pending() || s.irq.raised > edges_used);
	}
	return 0;
}
