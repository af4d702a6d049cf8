/* Lines of the IOAPIC: edges, levels, EOIs; and two vCPUs at its registers at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ioapic_guest.h"

/* ---- edges --------------------------------------------------------------------------------- */

static void edge_by_line(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	guest_program(&g, 6, 0xd3020000, 0x31);
	ioapic_set_line(&g.io, 6, true);
	assert_int_equal(g.sent, 1);
	assert_int_equal(g.last.pin, 6);
	assert_int_equal(g.last.address_lo, 0xfeed3000);
	assert_int_equal(g.last.address_hi, 0x0100);
	assert_int_equal(g.last.data, 0x4031);
	assert_int_equal(guest_get(&g, LOW(6)), 0x31);
	/* Only as it rises. */
	ioapic_set_line(&g.io, 6, true);
	ioapic_set_line(&g.io, 6, false);
	ioapic_set_line(&g.io, 6, false);
	assert_int_equal(g.sent, 1);
	ioapic_set_line(&g.io, 6, true);
	assert_int_equal(g.sent, 2);
	/* An EOI of an edge means nothing here. */
	ioapic_eoi(&g.io, 0x31);
	guest_out(&g, EOI, 0x31);
	assert_int_equal(g.sent, 2);
	guest_close(&g);
}

static void edge_while_masked_is_lost(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	guest_program(&g, 6, 0, MASKED | 0x31);
	ioapic_set_line(&g.io, 6, true);
	guest_put(&g, LOW(6), 0x31);
	assert_int_equal(g.sent, 0);
	ioapic_set_line(&g.io, 6, false);
	ioapic_set_line(&g.io, 6, true);
	assert_int_equal(g.sent, 1);
	guest_close(&g);
}

static void edge_not_taken_is_lost(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	guest_program(&g, 6, 0, 0x31);
	g.taken = 0;
	ioapic_set_line(&g.io, 6, true);
	assert_int_equal(g.io.msi_failures, 0);
	ioapic_set_line(&g.io, 6, false);
	g.taken = -EINVAL;
	ioapic_set_line(&g.io, 6, true);
	assert_int_equal(g.io.msi_failures, 1);
	g.taken = 1;
	ioapic_settle(&g.io);
	assert_int_equal(g.sent, 2);
	assert_int_equal(guest_get(&g, LOW(6)), 0x31);
	guest_close(&g);
}

/* NMI, INIT and the others have no EOI: edges, whatever the trigger bit says. */
static void modes_without_eoi_are_edges(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	for (uint32_t mode = 2; mode < 8; mode++) {
		guest_program(&g, 6, 0, LEVEL | mode << 8 | 0x31);
		ioapic_set_line(&g.io, 6, true);
		assert_int_equal(guest_get(&g, LOW(6)), LEVEL | mode << 8 | 0x31);
		ioapic_eoi(&g.io, 0x31);
		ioapic_set_line(&g.io, 6, false);
		assert_int_equal(g.sent, mode - 1);
	}
	guest_close(&g);
}

/* ---- levels -------------------------------------------------------------------------------- */

static void level_until_eoi(void **state)
{
	struct guest g;

	(void)state;
	for (unsigned by_register = 0; by_register < 2; by_register++) {
		guest_open(&g);
		guest_level(&g, 9, 0x41, 3);
		ioapic_set_line(&g.io, 9, true);
		assert_int_equal(g.sent, 1);
		assert_int_equal(g.last.data, 0xc041);
		assert_int_equal(guest_get(&g, LOW(9)), LEVEL | REMOTE_IRR | 0x41);
		/* In service: no more of it. */
		ioapic_set_line(&g.io, 9, true);
		ioapic_set_line(&g.io, 9, false);
		ioapic_set_line(&g.io, 9, true);
		ioapic_settle(&g.io);
		assert_int_equal(g.sent, 1);
		/* Another vector's EOI is another's. */
		ioapic_eoi(&g.io, 0x40);
		guest_out(&g, EOI, 0x42);
		assert_int_equal(guest_get(&g, LOW(9)), LEVEL | REMOTE_IRR | 0x41);
		/* Still asserted: again. The register has 8 bits. */
		if (by_register)
			guest_out(&g, EOI, 0xffffff41);
		else
			ioapic_eoi(&g.io, 0x41);
		assert_int_equal(g.sent, 2);
		assert_int_equal(g.io.reinjected, 1);
		assert_int_equal(guest_get(&g, LOW(9)), LEVEL | REMOTE_IRR | 0x41);
		/* Quiet: done. */
		ioapic_set_line(&g.io, 9, false);
		if (by_register)
			guest_out(&g, EOI, 0x41);
		else
			ioapic_eoi(&g.io, 0x41);
		assert_int_equal(guest_get(&g, LOW(9)), LEVEL | 0x41);
		assert_int_equal(g.sent, 2);
		assert_int_equal(g.io.reinjected, 1);
		ioapic_set_line(&g.io, 9, true);
		assert_int_equal(g.sent, 3);
		assert_int_equal(g.attempts, 1);
		guest_close(&g);
	}
}

static void level_waits_for_the_unmask(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	ioapic_set_line(&g.io, 9, true);
	ioapic_set_line(&g.io, 10, true);
	ioapic_set_line(&g.io, 10, false);
	guest_program(&g, 9, 0, MASKED | LEVEL | 0x41);
	guest_level(&g, 10, 0x42, 0);
	assert_int_equal(g.sent, 0);
	assert_int_equal(guest_get(&g, LOW(9)), MASKED | LEVEL | 0x41);
	guest_put(&g, LOW(9), LEVEL | 0x41);
	assert_int_equal(g.sent, 1);
	assert_int_equal(g.last.pin, 9);
	/* Edge to level with the line up. */
	guest_program(&g, 11, 0, 0x43);
	ioapic_set_line(&g.io, 11, true);
	assert_int_equal(g.sent, 2);
	guest_put(&g, LOW(11), LEVEL | 0x43);
	assert_int_equal(g.sent, 3);
	assert_int_equal(g.last.data, 0xc043);
	guest_close(&g);
}

/* Linux ends a level so where there is no EOI register: mask and edge, then as before. */
static void flipping_the_trigger_ends_it(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	guest_level(&g, 9, 0x41, 0);
	ioapic_set_line(&g.io, 9, true);
	guest_put(&g, LOW(9), MASKED | 0x41);
	assert_int_equal(guest_get(&g, LOW(9)), MASKED | 0x41);
	assert_int_equal(g.count, 0);
	guest_put(&g, LOW(9), LEVEL | 0x41);
	assert_int_equal(g.sent, 2);
	/* Remote IRR can't be written, neither way. */
	guest_put(&g, LOW(9), LEVEL | 0x41);
	assert_int_equal(guest_get(&g, LOW(9)), LEVEL | REMOTE_IRR | 0x41);
	ioapic_set_line(&g.io, 9, false);
	ioapic_eoi(&g.io, 0x41);
	guest_put(&g, LOW(9), LEVEL | REMOTE_IRR | STATUS | 0x41);
	assert_int_equal(guest_get(&g, LOW(9)), LEVEL | 0x41);
	guest_close(&g);
}

/* The EOI matches the entry's vector as it is now (82093AA, 3.2.4, bit 14). */
static void eoi_is_by_the_present_vector(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	guest_level(&g, 9, 0x41, 0);
	ioapic_set_line(&g.io, 9, true);
	guest_put(&g, LOW(9), LEVEL | 0x51);
	ioapic_eoi(&g.io, 0x41);
	assert_int_equal(guest_get(&g, LOW(9)), LEVEL | REMOTE_IRR | 0x51);
	ioapic_eoi(&g.io, 0x51);
	assert_int_equal(g.sent, 2);
	assert_int_equal(g.last.data, 0xc051);
	guest_close(&g);
}

static void pins_share_a_vector(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	guest_level(&g, 9, 0x41, 0);
	guest_level(&g, 10, 0x41, 0);
	guest_level(&g, 11, 0x42, 0);
	for (unsigned pin = 9; pin < 12; pin++)
		ioapic_set_line(&g.io, pin, true);
	assert_int_equal(g.sent, 3);
	ioapic_set_line(&g.io, 9, false);
	ioapic_eoi(&g.io, 0x41);
	assert_int_equal(g.sent, 4);
	assert_int_equal(g.last.pin, 10);
	assert_int_equal(guest_get(&g, LOW(9)), LEVEL | 0x41);
	assert_int_equal(guest_get(&g, LOW(10)), LEVEL | REMOTE_IRR | 0x41);
	assert_int_equal(guest_get(&g, LOW(11)), LEVEL | REMOTE_IRR | 0x42);
	guest_close(&g);
}

static void level_not_taken_stays_pending(void **state)
{
	struct guest g;

	(void)state;
	for (unsigned error = 0; error < 2; error++) {
		guest_open(&g);
		guest_level(&g, 9, 0x41, 0);
		g.taken = error ? -EINVAL : 0;
		ioapic_set_line(&g.io, 9, true);
		assert_int_equal(g.sent, 1);
		assert_int_equal(g.io.msi_failures, error);
		assert_int_equal(guest_get(&g, LOW(9)), LEVEL | STATUS | 0x41);
		g.taken = 1;
		ioapic_set_line(&g.io, 9, true);
		assert_int_equal(g.sent, 2);
		assert_int_equal(guest_get(&g, LOW(9)), LEVEL | REMOTE_IRR | 0x41);
		guest_close(&g);
	}
}

/* Without its route the EOI of a level would not come: it waits for the install. */
static void level_waits_for_its_route(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	g.fail = -ENOMEM;
	guest_level(&g, 9, 0x41, 0);
	assert_int_equal(g.attempts, 1);
	ioapic_set_line(&g.io, 9, true);
	assert_int_equal(g.attempts, 2);
	assert_int_equal(g.sent, 0);
	assert_int_equal(guest_get(&g, LOW(9)), LEVEL | STATUS | 0x41);
	g.fail = 0;
	ioapic_settle(&g.io);
	assert_int_equal(g.attempts, 3);
	assert_int_equal(g.sent, 1);
	assert_int_equal(guest_get(&g, LOW(9)), LEVEL | REMOTE_IRR | 0x41);
	/* The same by the line itself. */
	ioapic_set_line(&g.io, 9, false);
	ioapic_eoi(&g.io, 0x41);
	g.fail = -ENOMEM;
	guest_put(&g, LOW(9), LEVEL | 0x42);
	g.fail = 0;
	ioapic_set_line(&g.io, 9, true);
	assert_int_equal(g.attempts, 5);
	assert_int_equal(g.sent, 2);
	assert_int_equal(g.last.data, 0xc042);
	guest_close(&g);
}

/* A threaded handler: masked, EOI, unmasked. The route stays for the EOI, and costs nothing. */
static void route_stays_for_the_eoi(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	guest_level(&g, 9, 0x41, 3);
	for (unsigned n = 1; n < 10; n++) {
		ioapic_set_line(&g.io, 9, true);
		assert_int_equal(g.sent, n);
		assert_int_equal(g.last.data, 0xc041);
		guest_put(&g, LOW(9), MASKED | LEVEL | 0x41);
		assert_int_equal(guest_get(&g, LOW(9)), MASKED | LEVEL | REMOTE_IRR | 0x41);
		ioapic_eoi(&g.io, 0x41);
		assert_int_equal(guest_get(&g, LOW(9)), MASKED | LEVEL | 0x41);
		ioapic_set_line(&g.io, 9, false);
		guest_put(&g, LOW(9), LEVEL | 0x41);
	}
	assert_int_equal(g.attempts, 1);
	/* Masked and still asserted: nothing goes out, the EOI notwithstanding. */
	ioapic_set_line(&g.io, 9, true);
	guest_put(&g, LOW(9), MASKED | LEVEL | 0x41);
	ioapic_eoi(&g.io, 0x41);
	assert_int_equal(g.sent, 10);
	/* Another's change of line leaves it; the next install does not. */
	ioapic_set_line(&g.io, 3, true);
	assert_int_equal(g.attempts, 1);
	guest_put(&g, LOW(3), 0x33);
	assert_int_equal(g.attempts, 2);
	assert_int_equal(g.count, 1);
	assert_int_equal(g.table[0].pin, 3);
	/* A level whose own route stands installs nothing. */
	guest_level(&g, 11, 0x43, 0);
	guest_level(&g, 9, 0x41, 3);
	assert_int_equal(g.sent, 11);
	guest_put(&g, LOW(9), MASKED | LEVEL | 0x41);
	ioapic_eoi(&g.io, 0x41);
	assert_int_equal(g.attempts, 4);
	ioapic_set_line(&g.io, 11, true);
	assert_int_equal(g.sent, 12);
	assert_int_equal(g.attempts, 4);
	guest_put(&g, LOW(11), MASKED);
	assert_int_equal(g.attempts, 5);
	assert_int_equal(g.count, 1);
	/* What is written while it is in service is for the next message. */
	guest_put(&g, LOW(9), LEVEL | 0x41);
	assert_int_equal(g.sent, 13);
	guest_program(&g, 9, 0x07000000, MASKED | LEVEL | 0x41);
	assert_int_equal(g.attempts, 6);
	assert_int_equal(g.count, 2);
	assert_int_equal(g.table[1].address_lo, 0xfee03000);
	ioapic_eoi(&g.io, 0x41);
	guest_put(&g, LOW(9), LEVEL | 0x41);
	assert_int_equal(g.attempts, 7);
	assert_int_equal(g.last.address_lo, 0xfee07000);
	/* Masked with nothing in service: gone at once. */
	ioapic_set_line(&g.io, 9, false);
	ioapic_eoi(&g.io, 0x41);
	guest_put(&g, LOW(9), MASKED | LEVEL | 0x41);
	assert_int_equal(g.attempts, 8);
	assert_int_equal(g.count, 1);
	guest_close(&g);
}

/* state, settled, is a snapshot: in another VM it goes on where it was. */
static void state_is_a_snapshot(void **state)
{
	struct guest g, h;

	(void)state;
	guest_open(&g);
	guest_open(&h);
	guest_program(&g, 4, 0x05000000, 0x31);
	guest_level(&g, 9, 0x41, 3);
	guest_put(&g, 0, 0x02000000);
	ioapic_set_line(&g.io, 9, true);
	guest_put(&g, HIGH(4), 0x06000000);
	ioapic_settle(&g.io);

	h.io.state = g.io.state;
	ioapic_settle(&h.io);
	assert_int_equal(h.attempts, 1);
	assert_int_equal(h.count, 2);
	assert_memory_equal(h.table, g.table, 2 * sizeof(g.table[0]));
	assert_int_equal(h.table[0].address_lo, 0xfee06000);
	assert_int_equal(guest_in(&h, IOREGSEL), HIGH(4));
	assert_int_equal(h.sent, 0);
	ioapic_eoi(&h.io, 0x41);
	assert_int_equal(h.sent, 1);
	assert_int_equal(guest_get(&h, 0), 0x02000000);
	guest_close(&g);
	guest_close(&h);
}

/* ---- two vCPUs ----------------------------------------------------------------------------- */

struct step {
	unsigned offset;
	uint32_t v;
};
#define STEPS 6

/* What registers are, without any route: IOREGSEL and a window. */
struct model {
	uint32_t select, low[IOAPIC_PINS], high[IOAPIC_PINS];
};

static void model_step(struct model *m, const struct step *s)
{
	unsigned pin = (m->select - 0x10) / 2;

	if (s->offset == IOREGSEL)
		m->select = s->v;
	else if (m->select & 1)
		m->high[pin] = s->v;
	else
		m->low[pin] = s->v;
}

/* Two vCPUs program entries without a lock, in every order that their accesses can take: a write
 * may hit the other's register, but each lands whole in the register selected last, no other entry
 * changes, and the routes follow from what the registers say. */
static void two_vcpus_race(void **state)
{
	static const struct step a[STEPS] = {
		{IOREGSEL, HIGH(4)}, {IOWIN, 0x05000000}, {IOREGSEL, LOW(4)},
		{IOWIN, 0x31},	     {IOREGSEL, HIGH(4)}, {IOWIN, 0x08000000},
	};
	static const struct step b[STEPS] = {
		{IOREGSEL, HIGH(9)}, {IOWIN, 0x06020000}, {IOREGSEL, LOW(9)},
		{IOWIN, 0x8041},     {IOREGSEL, LOW(4)},  {IOWIN, MASKED | 0x32},
	};
	unsigned orders = 0;

	(void)state;
	for (unsigned order = 0; order < 1u << 2 * STEPS; order++) {
		struct model m = {0};
		struct guest g;
		unsigned at[2] = {0, 0}, expected = 0;

		if (__builtin_popcount(order) != STEPS)
			continue;
		orders++;
		guest_open(&g);
		for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
			m.low[pin] = MASKED;
		for (unsigned n = 0; n < 2 * STEPS; n++) {
			unsigned who = order >> n & 1;
			const struct step *s = who ? &b[at[1]] : &a[at[0]];

			at[who]++;
			guest_out(&g, s->offset, s->v);
			model_step(&m, s);
		}
		ioapic_settle(&g.io);
		for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
			uint32_t low = m.low[pin] & 0x1afff, high = m.high[pin] & 0xfffe0000;

			assert_int_equal(guest_get(&g, LOW(pin)), low);
			assert_int_equal(guest_get(&g, HIGH(pin)), high);
			if (low & MASKED)
				continue;
			assert_true(expected < g.count);
			assert_int_equal(g.table[expected].pin, pin);
			assert_int_equal(g.table[expected].data & 0xff, low & 0xff);
			assert_int_equal(g.table[expected].address_lo >> 12 & 0xff, high >> 24);
			expected++;
		}
		assert_int_equal(g.count, expected);
		/* At worst every write of the window changed a route. */
		assert_true(g.attempts <= STEPS);
		guest_close(&g);
	}
	assert_int_equal(orders, 924);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(edge_by_line),
		cmocka_unit_test(edge_while_masked_is_lost),
		cmocka_unit_test(edge_not_taken_is_lost),
		cmocka_unit_test(modes_without_eoi_are_edges),
		cmocka_unit_test(level_until_eoi),
		cmocka_unit_test(level_waits_for_the_unmask),
		cmocka_unit_test(flipping_the_trigger_ends_it),
		cmocka_unit_test(eoi_is_by_the_present_vector),
		cmocka_unit_test(pins_share_a_vector),
		cmocka_unit_test(level_not_taken_stays_pending),
		cmocka_unit_test(level_waits_for_its_route),
		cmocka_unit_test(route_stays_for_the_eoi),
		cmocka_unit_test(state_is_a_snapshot),
		cmocka_unit_test(two_vcpus_race),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
