/* A guest's and a KVM's side of the IOAPIC, for its tests. One thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ioapic_guest.h"

static int install(void *ctx, const struct ioapic_route *routes, unsigned count)
{
	struct guest *g = ctx;

	g->attempts++;
	assert_true(count <= IOAPIC_PINS);
	/* Nothing new is no reason to come. */
	assert_false(count == g->count && !memcmp(g->table, routes, count * sizeof(*routes)));
	if (g->fail)
		return g->fail;
	memcpy(g->table, routes, count * sizeof(*routes));
	g->count = count;
	return 0;
}

static int msi(void *ctx, const struct ioapic_route *route)
{
	struct guest *g = ctx;

	g->sent++;
	g->last = *route;
	return g->taken;
}

static void half_written(void *ctx)
{
	struct guest *g = ctx;

	g->halves++;
}

void guest_open(struct guest *g)
{
	*g = (struct guest){
		.ops = {.install = install, .msi = msi, .half_written = half_written},
		.taken = 1,
	};
	ioapic_init(&g->io, &g->ops, g);
	bus_init(&g->bus);
	assert_int_equal(bus_attach(&g->bus, BUS_MMIO, BASE, IOAPIC_WINDOW, &g->io.bus), 0);
}

void guest_close(struct guest *g)
{
	assert_int_equal(g->bus.unmapped_reads + g->bus.unmapped_writes, 0);
	bus_done(&g->bus);
}

uint32_t guest_in(struct guest *g, unsigned offset)
{
	uint32_t v = 0xeeeeeeee;

	bus_read(&g->bus, BUS_MMIO, BASE + offset, &v, sizeof(v));
	return v;
}

void guest_out(struct guest *g, unsigned offset, uint32_t v)
{
	bus_write(&g->bus, BUS_MMIO, BASE + offset, &v, sizeof(v));
}

uint32_t guest_get(struct guest *g, unsigned reg)
{
	guest_out(g, IOREGSEL, reg);
	return guest_in(g, IOWIN);
}

void guest_put(struct guest *g, unsigned reg, uint32_t v)
{
	guest_out(g, IOREGSEL, reg);
	guest_out(g, IOWIN, v);
}

void guest_program(struct guest *g, unsigned pin, uint32_t high, uint32_t low)
{
	guest_put(g, HIGH(pin), high);
	guest_put(g, LOW(pin), low);
}

void guest_level(struct guest *g, unsigned pin, uint8_t vector, uint8_t dest)
{
	guest_program(g, pin, (uint32_t)dest << 24, LEVEL | vector);
}
