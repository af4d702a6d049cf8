/* The IOAPIC's registers, and the routes that follow from them. The installed table changes in
 * commit() alone, and only a low half, a settled high half or a retry gets there. Control thread.
 */
#include "devices/ioapic.h"

#include <assert.h>
#include <string.h>

enum { IOREGSEL = 0x00, IOWIN = 0x10, EOI = 0x40 };
enum { REG_ID = 0x00, REG_VERSION = 0x01, REG_ARBITRATION = 0x02, REG_ENTRY = 0x10 };

#define VERSION	 ((IOAPIC_PINS - 1) << 16 | 0x20)
#define ID_SHIFT 24
#define ID_MASK	 0xf

#define MODE_SHIFT  8
#define MODE_MASK   7
#define MODE_LOWEST 1
#define LOGICAL	    (1u << 11)
#define STATUS	    (1u << 12)
#define REMOTE_IRR  (1u << 14)
#define LEVEL	    (1u << 15)
#define MASKED	    (1u << 16)
#define LOW_RW	    0x0001afffu /* all but status, remote IRR, reserved */
#define HIGH_RW	    0xfffe0000u

static unsigned mode(uint64_t e)
{
	return (unsigned)(e >> MODE_SHIFT) & MODE_MASK;
}

static bool is_level(uint64_t e)
{
	return (e & LEVEL) && mode(e) <= MODE_LOWEST;
}

/* The entry as it counts: without a high half that waits. */
static uint64_t entry_used(const struct ioapic *io, unsigned pin)
{
	uint64_t e = io->state.entry[pin];

	return pin == io->half_pin ? (uint64_t)io->half_used << 32 | (uint32_t)e : e;
}

static struct ioapic_route compose(unsigned pin, uint64_t e)
{
	uint32_t high = (uint32_t)(e >> 32), id = high >> 24 | (high >> 17 & 0x7f) << 8;

	return (struct ioapic_route){
		.pin = pin,
		.address_lo = 0xfee00000u | (id & 0xff) << 12 | (mode(e) == MODE_LOWEST) << 3 |
			      (e & LOGICAL ? 1u << 2 : 0),
		.address_hi = id & 0x7f00,
		.data = (is_level(e) ? 1u << 15 : 0) | 1u << 14 | mode(e) << MODE_SHIFT |
			(uint8_t)e,
	};
}

static bool route_equal(const struct ioapic_route *a, const struct ioapic_route *b)
{
	return a->pin == b->pin && a->address_lo == b->address_lo &&
	       a->address_hi == b->address_hi && a->data == b->data;
}

static const struct ioapic_route *find_installed(const struct ioapic *io, unsigned pin)
{
	for (unsigned i = 0; i < io->installed_count; i++)
		if (io->installed[i].pin == pin)
			return &io->installed[i];
	return NULL;
}

/* Whether the pin shall have a route, and which. */
static bool wanted(const struct ioapic *io, unsigned pin, struct ioapic_route *ret_route)
{
	uint64_t e = entry_used(io, pin);
	const struct ioapic_route *kept = NULL;

	if (!(e & MASKED)) {
		*ret_route = compose(pin, e);
		return true;
	}
	/* Without the route its EOI would never come. As it was installed: what the guest has
	 * since written is for later messages. */
	if (e & REMOTE_IRR)
		kept = find_installed(io, pin);
	if (kept)
		*ret_route = *kept;
	return kept;
}

static void commit(struct ioapic *io)
{
	struct ioapic_route routes[IOAPIC_PINS];
	unsigned count = 0;
	bool same;

	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		count += wanted(io, pin, &routes[count]);
	same = count == io->installed_count && !io->restored;
	for (unsigned i = 0; same && i < count; i++)
		same = route_equal(&routes[i], &io->installed[i]);
	if (same)
		return;

	if (io->ops->install(io->ctx, routes, count) < 0) {
		io->install_failures++;
		return;
	}
	io->installs++;
	io->restored = false;
	memcpy(io->installed, routes, count * sizeof(routes[0]));
	io->installed_count = count;
}

static bool send(struct ioapic *io, const struct ioapic_route *route)
{
	int rc = io->ops->msi(io->ctx, route);

	if (rc < 0)
		io->msi_failures++;
	return rc > 0;
}

/* A level that nobody has taken yet. */
static bool pending(const struct ioapic *io, unsigned pin)
{
	uint64_t e = io->state.entry[pin];

	return (io->state.lines >> pin & 1) && is_level(e) && !(e & (MASKED | REMOTE_IRR));
}

/* Whether the pin's route, as the entry has it, is what was installed. */
static bool in_force(const struct ioapic *io, unsigned pin)
{
	struct ioapic_route route = compose(pin, entry_used(io, pin));
	const struct ioapic_route *installed = find_installed(io, pin);

	return installed && route_equal(installed, &route);
}

/* Sends a pending level, if its EOI will come. */
static bool deliver_level(struct ioapic *io, unsigned pin)
{
	if (!pending(io, pin) || !in_force(io, pin) || !send(io, find_installed(io, pin)))
		return false;
	io->state.entry[pin] |= REMOTE_IRR;
	return true;
}

static void update(struct ioapic *io)
{
	commit(io);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		deliver_level(io, pin);
}

void ioapic_settle(struct ioapic *io)
{
	io->half_pin = IOAPIC_PINS;
	update(io);
}

static void write_low(struct ioapic *io, unsigned pin, uint32_t v)
{
	uint64_t e = (io->state.entry[pin] & ~(uint64_t)LOW_RW) | (v & LOW_RW);

	/* Defined for levels alone; Linux ends a level so where there is no EOI register. */
	if (!is_level(e))
		e &= ~(uint64_t)REMOTE_IRR;
	io->state.entry[pin] = e;
	ioapic_settle(io);
}

static void write_high(struct ioapic *io, unsigned pin, uint32_t v)
{
	uint64_t e = io->state.entry[pin];
	uint32_t old = (uint32_t)(e >> 32);
	bool waits = !(e & MASKED) && io->half_pin != pin && old != (v & HIGH_RW);

	io->state.entry[pin] = (uint64_t)(v & HIGH_RW) << 32 | (uint32_t)e;
	if (!waits)
		return;
	if (!io->ops->half_written) {
		update(io);
		return;
	}
	io->half_pin = pin;
	io->half_used = old;
	io->ops->half_written(io->ctx);
}

/* The pin of an entry's register, or IOAPIC_PINS. Bit 0 of the register says which half. */
static unsigned entry_pin(uint8_t reg)
{
	return reg >= REG_ENTRY && reg < REG_ENTRY + 2 * IOAPIC_PINS ? (reg - REG_ENTRY) / 2u
								     : IOAPIC_PINS;
}

static uint32_t read_register(const struct ioapic *io, uint8_t reg)
{
	unsigned pin = entry_pin(reg);

	if (pin < IOAPIC_PINS && (reg & 1))
		return (uint32_t)(io->state.entry[pin] >> 32);
	if (pin < IOAPIC_PINS)
		return (uint32_t)io->state.entry[pin] | (pending(io, pin) ? STATUS : 0);
	switch (reg) {
	case REG_ID:
	case REG_ARBITRATION:
		return (uint32_t)io->state.id << ID_SHIFT;
	case REG_VERSION:
		return VERSION;
	default:
		return 0;
	}
}

static void write_register(struct ioapic *io, uint8_t reg, uint32_t v)
{
	unsigned pin = entry_pin(reg);

	if (pin < IOAPIC_PINS && (reg & 1))
		write_high(io, pin, v);
	else if (pin < IOAPIC_PINS)
		write_low(io, pin, v);
	else if (reg == REG_ID)
		io->state.id = v >> ID_SHIFT & ID_MASK;
}

static void select_register(struct ioapic *io, uint8_t reg)
{
	/* Still about the entry that is half written, or not. */
	if (io->half_pin < IOAPIC_PINS && entry_pin(reg) != io->half_pin)
		ioapic_settle(io);
	io->state.select = reg;
}

static void bad_access(struct ioapic *io, const char *what, uint64_t offset, unsigned len)
{
	io->bad_accesses++;
	log_guest(&io->fault_log, "guest fault: ioapic: %s of %u bytes at offset 0x%llx", what, len,
		  (unsigned long long)offset);
}

static void ioapic_read(struct bus_device *bus, uint64_t offset, void *data, unsigned len)
{
	struct ioapic *io = container_of(bus, struct ioapic, bus);
	uint32_t v = 0;

	memset(data, 0, len);
	if (len != sizeof(v) || (offset != IOREGSEL && offset != IOWIN)) {
		bad_access(io, "read", offset, len);
		return;
	}
	if (offset == IOREGSEL) {
		v = io->state.select;
	} else {
		if (io->half_pin < IOAPIC_PINS)
			ioapic_settle(io);
		v = read_register(io, io->state.select);
	}
	memcpy(data, &v, sizeof(v));
}

static void ioapic_write(struct bus_device *bus, uint64_t offset, const void *data, unsigned len)
{
	struct ioapic *io = container_of(bus, struct ioapic, bus);
	uint32_t v;

	if (len != sizeof(v)) {
		bad_access(io, "write", offset, len);
		return;
	}
	memcpy(&v, data, sizeof(v));
	switch (offset) {
	case IOREGSEL:
		select_register(io, (uint8_t)v);
		break;
	case IOWIN:
		write_register(io, io->state.select, v);
		break;
	case EOI:
		ioapic_eoi(io, (uint8_t)v);
		break;
	default:
		bad_access(io, "write", offset, len);
		break;
	}
}

static void mask_all(struct ioapic *io)
{
	io->state.select = io->state.id = 0;
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		io->state.entry[pin] = MASKED;
}

void ioapic_init(struct ioapic *io, const struct ioapic_ops *ops, void *ctx)
{
	*io = (struct ioapic){
		.bus = {.name = "ioapic", .read = ioapic_read, .write = ioapic_write},
		.ops = ops,
		.ctx = ctx,
		.half_pin = IOAPIC_PINS,
	};
	mask_all(io);
}

static bool entry_possible(uint64_t e)
{
	return !(e & ~((uint64_t)HIGH_RW << 32 | LOW_RW | REMOTE_IRR)) &&
	       (!(e & REMOTE_IRR) || is_level(e));
}

void ioapic_state(struct ioapic *io, struct state_io *state)
{
	struct ioapic_state n = io->state;

	assert(state->restoring || io->half_pin == IOAPIC_PINS);
	if (state_begin(state, "ioapic", 1)) {
		state_u8(state, "select", &n.select);
		state_u8(state, "id", &n.id);
		state_check(state, "id", n.id <= ID_MASK);
		state_u32(state, "lines", &n.lines);
		state_check(state, "lines", n.lines < 1u << IOAPIC_PINS);
		for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
			state_u64(state, "entry", &n.entry[pin]);
			state_check(state, "entry", entry_possible(n.entry[pin]));
		}
	}
	state_end(state);
	if (!state_restoring(state))
		return;
	io->state = n;
	io->half_pin = IOAPIC_PINS;
	io->restored = true;
	/* A masked level in service needs its route until the EOI: as its entry has it. */
	io->installed_count = 0;
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		if (n.entry[pin] & REMOTE_IRR)
			io->installed[io->installed_count++] = compose(pin, n.entry[pin]);
}

void ioapic_reset(struct ioapic *io)
{
	mask_all(io);
	ioapic_settle(io);
}

void ioapic_set_line(struct ioapic *io, unsigned pin, bool asserted)
{
	assert(pin < IOAPIC_PINS);

	uint32_t bit = 1u << pin;
	bool was = io->state.lines & bit;
	uint64_t e = entry_used(io, pin);
	struct ioapic_route route = compose(pin, e);

	io->state.lines = asserted ? io->state.lines | bit : io->state.lines & ~bit;
	if (!asserted || (e & MASKED))
		return;
	if (!is_level(e)) {
		if (!was)
			send(io, &route);
		return;
	}
	/* An install has failed. */
	if (pending(io, pin) && !in_force(io, pin))
		commit(io);
	deliver_level(io, pin);
}

void ioapic_eoi(struct ioapic *io, uint8_t vector)
{
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t e = io->state.entry[pin];

		if (!(e & REMOTE_IRR) || (uint8_t)e != vector)
			continue;
		io->state.entry[pin] = e & ~(uint64_t)REMOTE_IRR;
		io->reinjected += deliver_level(io, pin);
	}
}
