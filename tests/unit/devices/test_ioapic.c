/* The IOAPIC's registers, the routes it installs and the messages it sends, as Linux drives it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ioapic_guest.h"

/* ---- registers --------------------------------------------------------------------------- */

static void registers_after_init(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	assert_int_equal(guest_in(&g, IOREGSEL), 0);
	assert_int_equal(guest_get(&g, 0x00), 0);
	assert_int_equal(guest_get(&g, 0x01), 0x00170020);
	assert_int_equal(guest_get(&g, 0x02), 0);
	for (unsigned reg = 0x03; reg < 0x100; reg++) {
		bool low = reg >= 0x10 && reg < 0x40 && !(reg & 1);

		assert_int_equal(guest_get(&g, reg), low ? MASKED : 0);
	}
	assert_int_equal(g.attempts, 0);
	assert_int_equal(g.sent, 0);
	guest_close(&g);
}

static void select_holds_eight_bits(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	for (uint32_t v = 0; v < 0x300; v++) {
		guest_out(&g, IOREGSEL, v << 24 | v);
		assert_int_equal(guest_in(&g, IOREGSEL), v & 0xff);
	}
	guest_close(&g);
}

static void id_version_arbitration(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	for (uint32_t id = 0; id < 16; id++) {
		guest_put(&g, 0x00, id << 24 | 0xf0ffffff);
		assert_int_equal(guest_get(&g, 0x00), id << 24);
		assert_int_equal(guest_get(&g, 0x02), id << 24);
	}
	guest_put(&g, 0x01, 0);
	guest_put(&g, 0x02, 0);
	assert_int_equal(guest_get(&g, 0x01), 0x00170020);
	assert_int_equal(guest_get(&g, 0x02), 0x0f000000);
	guest_close(&g);
}

/* Every bit of every entry: kept, or zero. */
static void entry_bits(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		for (unsigned bit = 0; bit < 32; bit++) {
			bool low_kept = bit <= 11 || bit == 13 || bit == 15 || bit == 16;
			bool high_kept = bit >= 17;
			uint32_t v = 1u << bit;

			guest_put(&g, LOW(pin), v);
			assert_int_equal(guest_get(&g, LOW(pin)), low_kept ? v : 0);
			guest_put(&g, LOW(pin), MASKED);
			guest_put(&g, HIGH(pin), v);
			assert_int_equal(guest_get(&g, HIGH(pin)), high_kept ? v : 0);
			assert_int_equal(guest_get(&g, LOW(pin)), MASKED);
			guest_put(&g, HIGH(pin), 0);
		}
		guest_put(&g, LOW(pin), ~0u);
		assert_int_equal(guest_get(&g, LOW(pin)), 0x1afff);
		guest_put(&g, HIGH(pin), ~0u);
		assert_int_equal(guest_get(&g, HIGH(pin)), 0xfffe0000);
	}
	/* Each kept its own. */
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		guest_program(&g, pin, pin << 17, MASKED | pin);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		assert_int_equal(guest_get(&g, HIGH(pin)), pin << 17);
		assert_int_equal(guest_get(&g, LOW(pin)), MASKED | pin);
	}
	guest_close(&g);
}

static void other_registers_are_zero(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	for (unsigned reg = 0x03; reg < 0x100; reg++) {
		if (reg >= 0x10 && reg < 0x40)
			continue;
		guest_put(&g, reg, ~0u);
		assert_int_equal(guest_get(&g, reg), 0);
	}
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		assert_int_equal(guest_get(&g, LOW(pin)), MASKED);
	assert_int_equal(g.attempts, 0);
	guest_close(&g);
}

/* All that is no 32-bit access to one of the three. */
static void widths_and_offsets(void **state)
{
	static const unsigned widths[] = {1, 2, 4, 8};
	struct guest g;
	uint64_t bad = 0;

	(void)state;
	guest_open(&g);
	guest_level(&g, 9, 0x41, 3);
	ioapic_set_line(&g.io, 9, true);
	guest_out(&g, IOREGSEL, LOW(3));
	for (uint64_t offset = 0; offset < IOAPIC_WINDOW - 8; offset++) {
		for (unsigned i = 0; i < ARRAY_SIZE(widths); i++) {
			uint8_t data[9], ones[8];
			unsigned len = widths[i];
			bool known = len == 4 && (offset == IOREGSEL || offset == IOWIN);

			if (known || (len == 4 && offset == EOI))
				continue;
			memset(ones, 0xff, sizeof(ones));
			memset(data, 0xee, sizeof(data));
			bus_write(&g.bus, BUS_MMIO, BASE + offset, ones, len);
			bus_read(&g.bus, BUS_MMIO, BASE + offset, data, len);
			bad += 2;
			for (unsigned n = 0; n < len; n++)
				assert_int_equal(data[n], 0);
			assert_int_equal(data[len], 0xee);
		}
	}
	assert_int_equal(g.io.bad_accesses, bad);
	assert_int_equal(guest_in(&g, IOREGSEL), LOW(3));
	assert_int_equal(guest_in(&g, IOWIN), MASKED);
	assert_int_equal(guest_get(&g, LOW(9)), LEVEL | REMOTE_IRR | 0x41);
	/* Write-only. */
	assert_int_equal(guest_in(&g, EOI), 0);
	assert_int_equal(guest_get(&g, LOW(9)), LEVEL | REMOTE_IRR | 0x41);
	guest_close(&g);
}

/* ---- the route of an entry ----------------------------------------------------------------- */

static void route_has_each_field(void **state)
{
	static const struct {
		uint32_t high, low, address_lo, address_hi, data;
	} cases[] = {
		{0, 0x31, 0xfee00000, 0, 0x4031},
		{0, 0xff, 0xfee00000, 0, 0x40ff},
		/* id 7:0 and 14:8 */
		{0xff000000, 0x31, 0xfeeff000, 0, 0x4031},
		{0x00fe0000, 0x31, 0xfee00000, 0x7f00, 0x4031},
		{0xd3020000, 0x31, 0xfeed3000, 0x0100, 0x4031},
		/* logical */
		{0x01000000, 0x0831, 0xfee01004, 0, 0x4031},
		/* low active: nothing of it */
		{0, 0x2031, 0xfee00000, 0, 0x4031},
		/* edges by mode: lowest priority has the redirection hint */
		{0, 0x0131, 0xfee00008, 0, 0x4131},
		{0, 0x0231, 0xfee00000, 0, 0x4231},
		{0, 0x0331, 0xfee00000, 0, 0x4331},
		{0, 0x0431, 0xfee00000, 0, 0x4431},
		{0, 0x0531, 0xfee00000, 0, 0x4531},
		{0, 0x0631, 0xfee00000, 0, 0x4631},
		{0, 0x0731, 0xfee00000, 0, 0x4731},
		/* level: of modes 0 and 1 only */
		{0, 0x8031, 0xfee00000, 0, 0xc031},
		{0, 0x8131, 0xfee00008, 0, 0xc131},
		{0, 0x8231, 0xfee00000, 0, 0x4231},
		{0, 0x8431, 0xfee00000, 0, 0x4431},
		{0, 0x8531, 0xfee00000, 0, 0x4531},
		{0, 0x8731, 0xfee00000, 0, 0x4731},
		/* all at once, reserved bits and read-only ones as well */
		{0xffffffff, 0xfffe7931, 0xfeeff00c, 0x7f00, 0x4131},
	};
	struct guest g;

	(void)state;
	guest_open(&g);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		unsigned pin = i % IOAPIC_PINS;

		guest_program(&g, pin, cases[i].high, cases[i].low);
		assert_int_equal(g.count, 1);
		assert_int_equal(g.table[0].pin, pin);
		assert_int_equal(g.table[0].address_lo, cases[i].address_lo);
		assert_int_equal(g.table[0].address_hi, cases[i].address_hi);
		assert_int_equal(g.table[0].data, cases[i].data);
		guest_put(&g, LOW(pin), MASKED);
	}
	guest_close(&g);
}

/* What Linux composes (destid_0_7, virt_destid_8_14) arrives as KVM reads it. */
static void every_destination(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	for (uint32_t id = 0; id < 1u << 15; id++) {
		guest_program(&g, 7, id << 24 | id >> 8 << 17, 0x31);
		assert_int_equal(g.count, 1);
		assert_int_equal((g.table[0].address_lo >> 12 & 0xff) | g.table[0].address_hi, id);
		assert_int_equal(g.table[0].address_lo & ~0xff000u, 0xfee00000);
	}
	guest_close(&g);
}

static void table_is_in_order_of_pin(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	for (unsigned n = 0; n < IOAPIC_PINS; n++) {
		unsigned pin = n * 7 % IOAPIC_PINS;

		guest_program(&g, pin, 0, 0x30 + pin);
		assert_int_equal(g.count, n + 1);
		for (unsigned i = 1; i < g.count; i++)
			assert_true(g.table[i - 1].pin < g.table[i].pin);
	}
	for (unsigned i = 0; i < g.count; i++)
		assert_int_equal(g.table[i].data, 0x4030 + i);
	guest_close(&g);
}

/* ---- when an install is due ------------------------------------------------------------------ */

static void unmasking_is_installed_at_once(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	/* As Linux sets a pin up: high, low masked, low unmasked. */
	guest_put(&g, HIGH(4), 0x05000000);
	guest_put(&g, LOW(4), MASKED | 0x31);
	assert_int_equal(g.attempts, 0);
	guest_out(&g, IOREGSEL, LOW(4));
	assert_int_equal(g.attempts, 0);
	guest_out(&g, IOWIN, 0x31);
	assert_int_equal(g.attempts, 1);
	assert_int_equal(g.count, 1);
	assert_int_equal(g.table[0].address_lo, 0xfee05000);
	/* The same again, and what no route has: none. */
	guest_put(&g, LOW(4), 0x31);
	guest_put(&g, LOW(4), 0x2031);
	guest_put(&g, HIGH(4), 0x05000000);
	guest_put(&g, HIGH(4), 0x0501ffff);
	guest_put(&g, 0x00, 0x0f000000);
	guest_program(&g, 5, 0x01000000, MASKED | 0x32);
	ioapic_settle(&g.io);
	assert_int_equal(g.attempts, 1);
	assert_int_equal(g.halves, 0);
	guest_close(&g);
}

/* irq_move_masked_irq: mask, read back, high, low, unmask. */
static void moving_masked_costs_two(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	guest_program(&g, 4, 0x05000000, 0x31);
	assert_int_equal(g.attempts, 1);
	guest_put(&g, LOW(4), MASKED | 0x31);
	/* A masked pin is silent when the write is over, and an empty table is a table. */
	assert_int_equal(g.attempts, 2);
	assert_int_equal(g.count, 0);
	guest_in(&g, IOWIN);
	guest_put(&g, HIGH(4), 0x06000000);
	guest_put(&g, LOW(4), MASKED | 0x42);
	assert_int_equal(g.attempts, 2);
	guest_put(&g, LOW(4), 0x42);
	assert_int_equal(g.attempts, 3);
	assert_int_equal(g.count, 1);
	assert_int_equal(g.table[0].address_lo, 0xfee06000);
	assert_int_equal(g.table[0].data, 0x4042);
	assert_int_equal(g.io.installs, 3);
	guest_close(&g);
}

/* High then low of an entry that is not masked: one install, and never a mixture. */
static void half_written_waits_for_its_low_half(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	guest_program(&g, 4, 0x05000000, 0x31);
	guest_put(&g, HIGH(4), 0x06000000);
	guest_put(&g, HIGH(4), 0x07000000);
	assert_int_equal(g.attempts, 1);
	assert_int_equal(g.halves, 1);
	/* An edge meanwhile has the old destination and the old vector. */
	ioapic_set_line(&g.io, 4, true);
	assert_int_equal(g.sent, 1);
	assert_int_equal(g.last.address_lo, 0xfee05000);
	guest_put(&g, LOW(4), 0x42);
	assert_int_equal(g.attempts, 2);
	assert_int_equal(g.table[0].address_lo, 0xfee07000);
	assert_int_equal(g.table[0].data, 0x4042);
	assert_int_equal(guest_get(&g, HIGH(4)), 0x07000000);
	/* Low that masks: the destination is for later. */
	guest_put(&g, HIGH(4), 0x08000000);
	guest_put(&g, LOW(4), MASKED | 0x42);
	assert_int_equal(g.attempts, 3);
	assert_int_equal(g.count, 0);
	guest_put(&g, LOW(4), 0x42);
	assert_int_equal(g.table[0].address_lo, 0xfee08000);
	assert_int_equal(g.halves, 2);
	guest_close(&g);
}

/* A guest that writes the destination and no more gets it as soon as it could look. */
static void half_written_takes_effect_alone(void **state)
{
	struct guest g;

	(void)state;
	for (unsigned way = 0; way < 4; way++) {
		guest_open(&g);
		guest_program(&g, 4, 0x05000000, 0x31);
		guest_put(&g, HIGH(4), 0x06000000);
		assert_int_equal(g.attempts, 1);
		switch (way) {
		case 0:
			assert_int_equal(guest_in(&g, IOWIN), 0x06000000);
			break;
		case 1:
			guest_out(&g, IOREGSEL, LOW(5));
			break;
		case 2:
			guest_out(&g, IOREGSEL, 0);
			break;
		default:
			ioapic_settle(&g.io);
			break;
		}
		assert_int_equal(g.attempts, 2);
		assert_int_equal(g.count, 1);
		assert_int_equal(g.table[0].address_lo, 0xfee06000);
		assert_int_equal(g.table[0].data, 0x4031);
		guest_close(&g);
	}

	guest_open(&g);
	g.ops.half_written = NULL;
	guest_program(&g, 4, 0x05000000, 0x31);
	guest_put(&g, HIGH(4), 0x06000000);
	assert_int_equal(g.attempts, 2);
	assert_int_equal(g.table[0].address_lo, 0xfee06000);
	guest_close(&g);
}

static void failed_install_is_not_remembered(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	g.fail = -ENOMEM;
	guest_program(&g, 4, 0, 0x31);
	assert_int_equal(g.attempts, 1);
	assert_int_equal(g.io.install_failures, 1);
	assert_int_equal(g.io.installs, 0);
	/* Half of something else is no time for it; a low half is. */
	guest_put(&g, HIGH(5), 0x01000000);
	assert_int_equal(g.attempts, 1);
	guest_put(&g, LOW(5), MASKED);
	assert_int_equal(g.attempts, 2);
	assert_int_equal(g.io.install_failures, 2);
	g.fail = 0;
	ioapic_settle(&g.io);
	assert_int_equal(g.attempts, 3);
	assert_int_equal(g.io.installs, 1);
	assert_int_equal(g.count, 1);
	ioapic_settle(&g.io);
	assert_int_equal(g.attempts, 3);

	/* Masked, but the route could not be taken away; unmasked again, it is what it was. */
	g.fail = -EBUSY;
	guest_put(&g, LOW(4), MASKED | 0x31);
	assert_int_equal(g.attempts, 4);
	assert_int_equal(g.count, 1);
	guest_put(&g, LOW(4), 0x31);
	assert_int_equal(g.attempts, 4);
	assert_int_equal(g.io.install_failures, 3);
	/* A later entry's install brings the earlier one. */
	guest_put(&g, LOW(4), 0x33);
	g.fail = 0;
	guest_put(&g, LOW(6), 0x36);
	assert_int_equal(g.count, 2);
	assert_int_equal(g.table[0].data, 0x4033);
	assert_int_equal(g.io.install_failures, 4);
	guest_close(&g);
}

static void reset_masks_everything(void **state)
{
	struct guest g;

	(void)state;
	guest_open(&g);
	ioapic_reset(&g.io);
	assert_int_equal(g.attempts, 0);
	guest_program(&g, 4, 0x05000000, 0x31);
	guest_level(&g, 9, 0x41, 1);
	ioapic_set_line(&g.io, 9, true);
	guest_put(&g, 0, 0x0f000000);
	guest_put(&g, HIGH(4), 0x06000000);
	ioapic_reset(&g.io);
	assert_int_equal(g.count, 0);
	assert_int_equal(g.attempts, 3);
	assert_int_equal(guest_in(&g, IOREGSEL), 0);
	assert_int_equal(guest_get(&g, 0), 0);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		assert_int_equal(guest_get(&g, LOW(pin)), MASKED);
		assert_int_equal(guest_get(&g, HIGH(pin)), 0);
	}
	/* The device still pulls its line. */
	assert_int_equal(g.sent, 1);
	guest_level(&g, 9, 0x51, 1);
	assert_int_equal(g.sent, 2);
	guest_close(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registers_after_init),
		cmocka_unit_test(select_holds_eight_bits),
		cmocka_unit_test(id_version_arbitration),
		cmocka_unit_test(entry_bits),
		cmocka_unit_test(other_registers_are_zero),
		cmocka_unit_test(widths_and_offsets),
		cmocka_unit_test(route_has_each_field),
		cmocka_unit_test(every_destination),
		cmocka_unit_test(table_is_in_order_of_pin),
		cmocka_unit_test(unmasking_is_installed_at_once),
		cmocka_unit_test(moving_masked_costs_two),
		cmocka_unit_test(half_written_waits_for_its_low_half),
		cmocka_unit_test(half_written_takes_effect_alone),
		cmocka_unit_test(failed_install_is_not_remembered),
		cmocka_unit_test(reset_masks_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
