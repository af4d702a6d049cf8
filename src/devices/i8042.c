/* The PC's keyboard controller, as far as it resets the machine. No keyboard. Control thread. */
#include "devices/legacy.h"

#include <string.h>

#define COMMAND	      4 /* port 0x64 */
#define COMMAND_RESET 0xfe

static void i8042_read(struct bus_device *bus, uint64_t offset, void *data, unsigned len)
{
	(void)bus;
	(void)offset;
	/* Both buffers empty, for as long as anyone looks. */
	memset(data, 0, len);
}

static void i8042_write(struct bus_device *bus, uint64_t offset, const void *data, unsigned len)
{
	struct legacy *dev = container_of(bus, struct legacy, bus);

	if (offset == COMMAND && len == 1 && *(const uint8_t *)data == COMMAND_RESET)
		dev->ops->event(dev, LEGACY_RESET);
}

void i8042_init(struct legacy *dev, const struct legacy_ops *ops, void *arg)
{
	*dev = (struct legacy){
		.bus = {.name = "i8042", .read = i8042_read, .write = i8042_write},
		.ops = ops,
		.arg = arg,
	};
}
