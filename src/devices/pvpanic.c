/* pvpanic: one byte through which a guest's kernel says that it panicked, or that its crash kernel
 * takes over (QEMU docs/specs/pvpanic). Control thread. */
#include "devices/legacy.h"

#include <string.h>

enum { PVPANIC_PANICKED = 1, PVPANIC_CRASH_LOADED = 2 };

static void pvpanic_read(struct bus_device *bus, uint64_t offset, void *data, unsigned len)
{
	(void)bus;
	(void)offset;
	memset(data, 0, len);
	*(uint8_t *)data = PVPANIC_PANICKED | PVPANIC_CRASH_LOADED;
}

static void pvpanic_write(struct bus_device *bus, uint64_t offset, const void *data, unsigned len)
{
	struct legacy *dev = container_of(bus, struct legacy, bus);
	uint8_t v = *(const uint8_t *)data;

	if (offset || len != 1)
		return;
	if (v & PVPANIC_PANICKED)
		dev->ops->event(dev, LEGACY_PANICKED);
	if (v & PVPANIC_CRASH_LOADED)
		dev->ops->event(dev, LEGACY_CRASH_LOADED);
}

void pvpanic_init(struct legacy *dev, const struct legacy_ops *ops, void *arg)
{
	*dev = (struct legacy){
		.bus = {.name = "pvpanic", .read = pvpanic_read, .write = pvpanic_write},
		.ops = ops,
		.arg = arg,
	};
}
