/* The IOAPIC under any order of accesses, lines and EOIs, with a KVM that fails as it likes. What
 * must hold: a table goes in only if it is news; once things are settled, it is what the registers
 * say; a level is sent only while its route is in force, and once until its EOI. */
#include "base/log.h"
#include "devices/ioapic.h"
#include "fuzz.h"

#define BASE	   0xfec00000u
#define WRITABLE   0x1afffu
#define MASKED	   0x10000u
#define LEVEL	   0x8000u
#define REMOTE_IRR 0x4000u

static struct bus bus;
static struct ioapic io;
static struct fuzz_input in;
static struct ioapic_route table[IOAPIC_PINS]; /* KVM's */
static unsigned count;
static bool calm;      /* installs and messages succeed */
static bool tells;     /* there is a half_written */
static uint32_t waits; /* … and it was called since the last time things were settled */

static bool is_level(uint32_t low)
{
	return (low & LEVEL) && (low >> 8 & 7) < 2;
}

static void check_route(const struct ioapic_route *r)
{
	FUZZ_CHECK(r->pin < IOAPIC_PINS);
	FUZZ_CHECK((r->address_lo & 0xfff00ff3) == 0xfee00000);
	FUZZ_CHECK(!(r->address_hi & ~0x7f00u));
	FUZZ_CHECK((r->data & ~0x87ffu) == 0x4000);
}

static int install(void *ctx, const struct ioapic_route *routes, unsigned n)
{
	FUZZ_CHECK(ctx == &io && n <= IOAPIC_PINS);
	for (unsigned i = 0; i < n; i++) {
		check_route(&routes[i]);
		FUZZ_CHECK(!i || routes[i - 1].pin < routes[i].pin);
	}
	FUZZ_CHECK(n != count || memcmp(routes, table, n * sizeof(*routes)) != 0);
	if (!calm && (fuzz_u8(&in) & 3) == 0)
		return -12;
	memcpy(table, routes, n * sizeof(*routes));
	count = n;
	return 0;
}

static int msi(void *ctx, const struct ioapic_route *route)
{
	FUZZ_CHECK(ctx == &io);
	check_route(route);

	bool in_force = false, level = route->data & LEVEL;

	for (unsigned i = 0; i < count; i++)
		in_force |= !memcmp(&table[i], route, sizeof(*route));
	FUZZ_CHECK(in_force || !level);
	FUZZ_CHECK(io.state.lines >> route->pin & 1);
	FUZZ_CHECK(!level || !(io.state.entry[route->pin] & (REMOTE_IRR | MASKED)));
	return calm ? 1 : (int)(fuzz_u8(&in) % 4) - 1;
}

static void half_written(void *ctx)
{
	FUZZ_CHECK(ctx == &io && !waits);
	waits = 1;
}

static uint32_t rd(unsigned offset)
{
	uint32_t v;

	bus_read(&bus, BUS_MMIO, BASE + offset, &v, sizeof(v));
	return v;
}

static void wr(unsigned offset, uint32_t v)
{
	bus_write(&bus, BUS_MMIO, BASE + offset, &v, sizeof(v));
}

static uint32_t reg(unsigned n)
{
	wr(0x00, n);
	return rd(0x10);
}

/* Through the guest's eyes: the routes are those of the entries. */
static void check_settled(void)
{
	uint32_t select = rd(0x00);
	unsigned i = 0;

	calm = true;
	ioapic_settle(&io);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		uint32_t low = reg(0x10 + 2 * pin), high = reg(0x11 + 2 * pin);
		bool has = i < count && table[i].pin == pin;

		FUZZ_CHECK(!(low & ~(WRITABLE | REMOTE_IRR)) && !(high & 0x1ffff));
		FUZZ_CHECK(!(low & REMOTE_IRR) || is_level(low));
		if (low & MASKED) {
			/* In service, at most: its EOI is to come. */
			FUZZ_CHECK(!has || ((low & REMOTE_IRR) && (table[i].data & LEVEL)));
			i += has;
			continue;
		}
		FUZZ_CHECK(has);
		FUZZ_CHECK((table[i].address_lo >> 12 & 0xff) == high >> 24);
		FUZZ_CHECK(table[i].address_hi == (high >> 17 & 0x7f) << 8);
		FUZZ_CHECK((table[i].address_lo >> 2 & 1) == (low >> 11 & 1));
		FUZZ_CHECK((table[i].data & 0x7ff) == (low & 0x7ff));
		FUZZ_CHECK(!!(table[i].data & LEVEL) == is_level(low));
		/* No line is left behind. */
		FUZZ_CHECK(!is_level(low) || !(io.state.lines >> pin & 1) || (low & REMOTE_IRR));
		i++;
	}
	FUZZ_CHECK(i == count);
	FUZZ_CHECK(reg(0x01) == 0x00170020);
	wr(0x00, select);
	FUZZ_CHECK(rd(0x00) == select);
	calm = false;
	waits = 0;
}

static void any_access(uint8_t op)
{
	unsigned len = 1u << (op & 3);
	uint64_t offset = fuzz_u16(&in) & 0xfff;
	uint8_t data[8];

	memset(data, op, sizeof(data));
	if (op & 4)
		bus_read(&bus, BUS_MMIO, BASE + offset, data, len);
	else
		bus_write(&bus, BUS_MMIO, BASE + offset, data, len);
	/* It may have been a good one. */
	waits = 0;
}

static void step(void)
{
	uint8_t op = fuzz_u8(&in);
	unsigned pin = (op >> 3) % IOAPIC_PINS;

	switch (op & 7) {
	case 0:
		wr(0x00, 0x10 + 2 * pin);
		break;
	case 1:
		wr(0x00, 0x11 + 2 * pin);
		break;
	case 2:
		wr(0x00, fuzz_u8(&in));
		break;
	case 3:
		wr(0x10, op >> 3 & 1 ? fuzz_u32(&in) : (uint32_t)fuzz_take(&in, 2));
		break;
	case 4:
		ioapic_set_line(&io, pin, fuzz_u8(&in) & 1);
		break;
	case 5:
		if (op >> 3 & 1)
			ioapic_eoi(&io, fuzz_u8(&in));
		else
			wr(0x40, fuzz_u32(&in));
		break;
	case 6:
		any_access(fuzz_u8(&in));
		break;
	default:
		if (op == 0xff)
			ioapic_reset(&io);
		else if (op & 0x80)
			check_settled();
		else
			rd(0x10);
		break;
	}
	if (io.half_pin == IOAPIC_PINS)
		waits = 0;
	FUZZ_CHECK(io.half_pin <= IOAPIC_PINS && (io.half_pin == IOAPIC_PINS || tells));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct ioapic_ops ops[2] = {
		{.install = install, .msi = msi},
		{.install = install, .msi = msi, .half_written = half_written},
	};

	log_set_level(LOG_ERROR);
	in = (struct fuzz_input){data, size};
	tells = fuzz_u8(&in) & 1;
	count = 0;
	waits = 0;
	calm = false;
	ioapic_init(&io, &ops[tells], &io);
	bus_init(&bus);
	FUZZ_CHECK(bus_attach(&bus, BUS_MMIO, BASE, IOAPIC_WINDOW, &io.bus) == 0);

	while (in.left)
		step();
	check_settled();
	ioapic_reset(&io);
	bus_done(&bus);
	return 0;
}
