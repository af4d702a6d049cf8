/* A 16550A as a driver sees it: bytes leave at once, so the transmitter is always empty, and the
 * modem lines say that somebody listens. Control thread.
 * The interrupt line is an edge: each source that becomes pending gets its own. */
#include "devices/serial.h"

#include <string.h>

/* Offsets; with LCR.DLAB set, 0 and 1 are the divisor latch. */
enum { RBR_THR = 0, IER = 1, IIR_FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7, REGISTERS };

enum { IER_RDI = 0x01, IER_THRI = 0x02, IER_RLSI = 0x04, IER_ALL = 0x0f };
enum { IIR_NONE = 0x01, IIR_THRE = 0x02, IIR_RDA = 0x04, IIR_RLS = 0x06, IIR_TIMEOUT = 0x0c };
enum { IIR_FIFO = 0xc0 };
enum { FCR_ENABLE = 0x01, FCR_CLEAR_RX = 0x02, FCR_KEEP = 0xc9 };
enum { LCR_DLAB = 0x80 };
enum { MCR_DTR = 0x01, MCR_RTS = 0x02, MCR_OUT1 = 0x04, MCR_OUT2 = 0x08, MCR_LOOP = 0x10 };
enum { MCR_ALL = 0x1f };
enum { LSR_DR = 0x01, LSR_OE = 0x02, LSR_THRE = 0x20, LSR_TEMT = 0x40 };
enum { MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80 };

static unsigned capacity(const struct serial *s)
{
	return s->fcr & FCR_ENABLE ? SERIAL_FIFO : 1;
}

static unsigned trigger(const struct serial *s)
{
	static const uint8_t level[4] = {1, 4, 8, 14};

	return s->fcr & FCR_ENABLE ? level[s->fcr >> 6] : 1;
}

/* Pending and enabled sources, as their bits in IER. */
static uint8_t sources(const struct serial *s)
{
	unsigned pending = (s->lsr_errors ? IER_RLSI : 0u) | (s->rx_count ? IER_RDI : 0u) |
			   (s->thr_pending ? IER_THRI : 0u);

	return (uint8_t)(pending & s->ier);
}

bool serial_irq_pending(const struct serial *s)
{
	return sources(s) != 0;
}

static void update_irq(struct serial *s)
{
	uint8_t now = sources(s), fresh = now & (uint8_t)~s->raised;

	s->raised = now;
	if (fresh)
		irq_raise(&s->irq);
}

static void rx_put(struct serial *s, uint8_t byte)
{
	if (s->rx_count == capacity(s)) {
		s->lsr_errors |= LSR_OE;
		return;
	}
	s->rx[(s->rx_head + s->rx_count++) % SERIAL_FIFO] = byte;
}

static void tell_drained(struct serial *s)
{
	if (s->drained && !(s->mcr & MCR_LOOP))
		s->drained(s);
}

static uint8_t rx_get(struct serial *s)
{
	uint8_t byte;

	if (!s->rx_count)
		return 0;
	byte = s->rx[s->rx_head];
	s->rx_head = (s->rx_head + 1) % SERIAL_FIFO;
	s->rx_count--;
	update_irq(s);
	if (!s->rx_count)
		tell_drained(s);
	return byte;
}

static void transmit(struct serial *s, uint8_t byte)
{
	if (s->mcr & MCR_LOOP)
		rx_put(s, byte);
	else if (s->output)
		s->output(s, &byte, 1);
	/* Written and sent: empty again, which is news if the last time has been read. */
	s->thr_pending = true;
	update_irq(s);
}

static uint8_t read_iir(struct serial *s)
{
	uint8_t fifo = s->fcr & FCR_ENABLE ? IIR_FIFO : 0, now = sources(s);

	if (now & IER_RLSI)
		return fifo | IIR_RLS;
	/* Fewer than the trigger level: no more are on their way, so the time-out is now. */
	if (now & IER_RDI)
		return fifo | (s->rx_count >= trigger(s) ? IIR_RDA : IIR_TIMEOUT);
	if (now & IER_THRI) {
		s->thr_pending = false;
		update_irq(s);
		return fifo | IIR_THRE;
	}
	return fifo | IIR_NONE;
}

static uint8_t read_lsr(struct serial *s)
{
	uint8_t v = LSR_THRE | LSR_TEMT | s->lsr_errors | (s->rx_count ? LSR_DR : 0);

	s->lsr_errors = 0;
	update_irq(s);
	return v;
}

/* In loopback the four outputs are wired to the four inputs. The delta bits stay 0: outside of
 * it nothing ever changes. */
static uint8_t read_msr(const struct serial *s)
{
	if (!(s->mcr & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	return (s->mcr & MCR_RTS ? MSR_CTS : 0) | (s->mcr & MCR_DTR ? MSR_DSR : 0) |
	       (s->mcr & MCR_OUT1 ? MSR_RI : 0) | (s->mcr & MCR_OUT2 ? MSR_DCD : 0);
}

static uint8_t read_register(struct serial *s, unsigned reg)
{
	bool dlab = s->lcr & LCR_DLAB;

	switch (reg) {
	case RBR_THR:
		return dlab ? s->dll : rx_get(s);
	case IER:
		return dlab ? s->dlm : s->ier;
	case IIR_FCR:
		return read_iir(s);
	case LCR:
		return s->lcr;
	case MCR:
		return s->mcr;
	case LSR:
		return read_lsr(s);
	case MSR:
		return read_msr(s);
	default:
		return s->scr;
	}
}

static void write_ier(struct serial *s, uint8_t v)
{
	v &= IER_ALL;
	/* Enabling it while the transmitter is empty makes it pending again: drivers start so. */
	if ((v & IER_THRI) && !(s->ier & IER_THRI))
		s->thr_pending = true;
	s->ier = v;
	update_irq(s);
}

static void write_fcr(struct serial *s, uint8_t v)
{
	bool clear = (v & FCR_CLEAR_RX) || ((v ^ s->fcr) & FCR_ENABLE);

	/* The other bits count only together with the enable bit. */
	s->fcr = v & FCR_ENABLE ? v & FCR_KEEP : 0;
	if (!clear)
		return;
	s->rx_head = s->rx_count = 0;
	s->lsr_errors = 0;
	update_irq(s);
	tell_drained(s);
}

static void write_mcr(struct serial *s, uint8_t v)
{
	bool left_loop = (s->mcr & MCR_LOOP) && !(v & MCR_LOOP);

	s->mcr = v & MCR_ALL;
	if (left_loop && !s->rx_count)
		tell_drained(s);
}

static void write_register(struct serial *s, unsigned reg, uint8_t v)
{
	bool dlab = s->lcr & LCR_DLAB;

	switch (reg) {
	case RBR_THR:
		if (dlab)
			s->dll = v;
		else
			transmit(s, v);
		break;
	case IER:
		if (dlab)
			s->dlm = v;
		else
			write_ier(s, v);
		break;
	case IIR_FCR:
		write_fcr(s, v);
		break;
	case LCR:
		s->lcr = v;
		break;
	case MCR:
		write_mcr(s, v);
		break;
	case SCR:
		s->scr = v;
		break;
	default: /* LSR and MSR are read-only */
		break;
	}
}

/* Registers are bytes: a wider access touches the one that it begins at. */
static void serial_read(struct bus_device *bus, uint64_t offset, void *data, unsigned len)
{
	struct serial *s = container_of(bus, struct serial, bus);

	memset(data, 0, len);
	if (offset < REGISTERS)
		*(uint8_t *)data = read_register(s, (unsigned)offset);
}

static void serial_write(struct bus_device *bus, uint64_t offset, const void *data, unsigned len)
{
	struct serial *s = container_of(bus, struct serial, bus);

	(void)len;
	if (offset < REGISTERS)
		write_register(s, (unsigned)offset, *(const uint8_t *)data);
}

void serial_init(struct serial *s, int irq_fd)
{
	*s = (struct serial){
		.bus = {.name = "serial", .read = serial_read, .write = serial_write},
		.irq = {.fd = irq_fd},
		.dll = 12, /* 9600 */
	};
}

static bool possible(const struct serial *s)
{
	return s->ier <= IER_ALL && s->mcr <= MCR_ALL &&
	       s->fcr == (s->fcr & FCR_ENABLE ? s->fcr & FCR_KEEP : 0) &&
	       !(s->lsr_errors & ~LSR_OE) && s->rx_count <= capacity(s);
}

void serial_state(struct serial *s, struct state_io *io)
{
	struct serial n = *s;
	uint8_t count = (uint8_t)s->rx_count;

	for (unsigned i = 0; i < s->rx_count; i++)
		n.rx[i] = s->rx[(s->rx_head + i) % SERIAL_FIFO];
	memset(n.rx + count, 0, sizeof(n.rx) - count);
	n.rx_head = 0;
	if (state_begin(io, "serial", 1)) {
		state_u8(io, "ier", &n.ier);
		state_u8(io, "lcr", &n.lcr);
		state_u8(io, "mcr", &n.mcr);
		state_u8(io, "scr", &n.scr);
		state_u8(io, "fcr", &n.fcr);
		state_u8(io, "dll", &n.dll);
		state_u8(io, "dlm", &n.dlm);
		state_u8(io, "lsr_errors", &n.lsr_errors);
		state_bool(io, "thr_pending", &n.thr_pending);
		state_u8(io, "rx_count", &count);
		n.rx_count = count;
		state_check(io, "registers", possible(&n));
		state_bytes(io, "rx", n.rx, sizeof(n.rx));
	}
	state_end(io);
	if (!state_restoring(io))
		return;
	n.raised = sources(&n);
	*s = n;
}

void serial_resume(struct serial *s)
{
	if (serial_irq_pending(s))
		irq_raise(&s->irq);
}

size_t serial_input(struct serial *s, const uint8_t *data, size_t len)
{
	size_t n = 0;

	if (s->mcr & MCR_LOOP)
		return 0;
	while (n < len && s->rx_count < capacity(s))
		rx_put(s, data[n++]);
	update_irq(s);
	return n;
}
