/* i8042, power registers, pvpanic: every byte to every offset, and only the right ones count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "devices/legacy.h"

static unsigned events[4];

static void event(struct legacy *dev, enum legacy_event e)
{
	assert_ptr_equal(dev->arg, events);
	events[e]++;
}

static const struct legacy_ops ops = {.event = event};

static unsigned total(void)
{
	return events[0] + events[1] + events[2] + events[3];
}

static void poke(struct legacy *dev, uint64_t offset, uint32_t v, unsigned len)
{
	memset(events, 0, sizeof(events));
	dev->bus.write(&dev->bus, offset, &v, len);
}

static uint32_t peek(struct legacy *dev, uint64_t offset, unsigned len)
{
	uint32_t v = 0xeeeeeeee;

	dev->bus.read(&dev->bus, offset, &v, len);
	return len == 4 ? v : v & 0xff;
}

static void i8042_resets(void **state)
{
	struct legacy dev;

	(void)state;
	i8042_init(&dev, &ops, events);
	for (unsigned offset = 0; offset < 5; offset++) {
		assert_int_equal(peek(&dev, offset, 1), 0);
		for (unsigned v = 0; v < 256; v++) {
			poke(&dev, offset, v, 1);
			assert_int_equal(total(), offset == 4 && v == 0xfe);
			assert_int_equal(events[LEGACY_RESET], total());
		}
	}
}

static void power_registers(void **state)
{
	struct legacy dev;

	(void)state;
	power_init(&dev, &ops, events);
	for (unsigned offset = 0; offset < 3; offset++) {
		assert_int_equal(peek(&dev, offset, 1), 0);
		for (unsigned v = 0; v < 256; v++) {
			bool off = offset == 0 && (v & 0x20) && (v >> 2 & 7) == POWER_SLP_TYP_S5;
			bool reset = offset == 2 && v == POWER_RESET_VALUE;

			poke(&dev, offset, v, 1);
			assert_int_equal(events[LEGACY_POWER_OFF], off);
			assert_int_equal(events[LEGACY_RESET], reset);
			assert_int_equal(total(), off + reset);
		}
	}
	poke(&dev, 0, 0x34, 2);
	assert_int_equal(total(), 0);
}

static void pvpanic_reports(void **state)
{
	struct legacy dev;

	(void)state;
	pvpanic_init(&dev, &ops, events);
	assert_int_equal(peek(&dev, 0, 1), 3);
	assert_int_equal(peek(&dev, 0, 4), 3);
	for (unsigned v = 0; v < 256; v++) {
		poke(&dev, 0, v, 1);
		assert_int_equal(events[LEGACY_PANICKED], v & 1);
		assert_int_equal(events[LEGACY_CRASH_LOADED], v >> 1 & 1);
		assert_int_equal(events[LEGACY_RESET] + events[LEGACY_POWER_OFF], 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(i8042_resets),
		cmocka_unit_test(power_registers),
		cmocka_unit_test(pvpanic_reports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
