/* The devices' part of a snapshot. i8042, power and pvpanic have no state. Control thread. */
#include "vm/board_state.h"

#include <stdio.h>

enum { DEVICE_VERSION = 1 };

static void serial_name(unsigned i, char name[SNAPSHOT_NAME_MAX + 1])
{
	snprintf(name, SNAPSHOT_NAME_MAX + 1, "device.serial%u", i);
}

/* ---- all of them ----------------------------------------------------------------------------- */

int board_state_check(const struct board *b, struct error *err)
{
	if (b->irqchip.present)
		return error_usage(err, "a machine with an IOAPIC in user space can't be "
					"snapshotted yet");
	for (unsigned i = 0; i < b->virtio_count; i++) {
		const struct virtio_device *dev = b->virtio[i].dev;

		if (dev->status || dev->features || dev->interrupt_status || dev->resetting)
			return error_usage(err,
					   "a machine whose guest uses its %s can't be "
					   "snapshotted yet: that device's state isn't saved",
					   dev->ops->name);
	}
	return 0;
}

void board_state_save(struct board *b, struct snapshot_writer *w)
{
	char name[SNAPSHOT_NAME_MAX + 1];

	for (unsigned i = 0; i < BOARD_UARTS; i++) {
		struct state_io io;

		if (b->uart_irq_fd[i] < 0)
			continue;
		state_save(&io);
		serial_state(&b->uart[i], &io);
		serial_name(i, name);
		snapshot_add(w, name, DEVICE_VERSION, &io);
	}
}

int board_state_restore(struct board *b, struct snapshot_state *state, struct error *err)
{
	char name[SNAPSHOT_NAME_MAX + 1];
	int r = 0;

	for (unsigned i = 0; r == 0 && i < BOARD_UARTS; i++) {
		struct state_io io;

		if (b->uart_irq_fd[i] < 0)
			continue;
		serial_name(i, name);
		r = snapshot_take(state, name, DEVICE_VERSION, &io, err);
		if (r < 0)
			break;
		serial_state(&b->uart[i], &io);
		r = state_result(&io, err);
	}
	return r;
}
