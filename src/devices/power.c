/* The power registers of hardware-reduced ACPI: sleep control and status (ACPI 6.5, 4.8.3.7) and
 * reset (4.8.3.6), one byte each. Control thread.
 *
 *   sleep control:  7 6 reserved | 5 SLP_EN | 4 3 2 SLP_TYP | 1 0 ignored */
#include "devices/legacy.h"

#include <string.h>

enum { SLEEP_CONTROL, SLEEP_STATUS, RESET };

#define SLP_EN	      0x20
#define SLP_TYP_SHIFT 2
#define SLP_TYP_MASK  7

static void power_read(struct bus_device *bus, uint64_t offset, void *data, unsigned len)
{
	(void)bus;
	(void)offset;
	/* SLP_EN is write-only, and WAK_STS is never set: no sleep state but S5 is offered. */
	memset(data, 0, len);
}

static void power_write(struct bus_device *bus, uint64_t offset, const void *data, unsigned len)
{
	struct legacy *dev = container_of(bus, struct legacy, bus);
	uint8_t v = *(const uint8_t *)data;

	if (len != 1)
		return;
	if (offset == RESET && v == POWER_RESET_VALUE)
		dev->ops->event(dev, LEGACY_RESET);
	if (offset == SLEEP_CONTROL && (v & SLP_EN) &&
	    (v >> SLP_TYP_SHIFT & SLP_TYP_MASK) == POWER_SLP_TYP_S5)
		dev->ops->event(dev, LEGACY_POWER_OFF);
}

void power_init(struct legacy *dev, const struct legacy_ops *ops, void *arg)
{
	*dev = (struct legacy){
		.bus = {.name = "power", .read = power_read, .write = power_write},
		.ops = ops,
		.arg = arg,
	};
}
