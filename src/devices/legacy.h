/* Three small PC devices that end or doom a machine: i8042 (reset), the ACPI power registers
 * (reset, sleep state S5), pvpanic. Control thread. */
#ifndef STASIS_DEVICES_LEGACY_H
#define STASIS_DEVICES_LEGACY_H

#include "base/state_io.h"
#include "devices/bus.h"

enum legacy_event { LEGACY_RESET, LEGACY_POWER_OFF, LEGACY_PANICKED, LEGACY_CRASH_LOADED };

struct legacy;
struct legacy_ops {
	void (*event)(struct legacy *dev, enum legacy_event event);
};

struct legacy {
	struct bus_device bus;
	const struct legacy_ops *ops;
	void *arg;
};

/* Ports 0x60 (offset 0) and 0x64 (offset 4): reads give 0, 0xFE to 0x64 is a reset. */
void i8042_init(struct legacy *dev, const struct legacy_ops *ops, void *arg);
/* ACPI hardware-reduced: offset 0 SLEEP_CONTROL_REG, offset 1 SLEEP_STATUS_REG, offset 2
 * RESET_REG (ACPI 6.5, 4.8.3.7 and 4.8.3.6). SLP_TYP of S5 is POWER_SLP_TYP_S5. */
#define POWER_SLP_TYP_S5  5
#define POWER_RESET_VALUE 1
void power_init(struct legacy *dev, const struct legacy_ops *ops, void *arg);
/* QEMU docs/specs/pvpanic: one byte; reads give the events supported (bits 0 and 1), writes
 * report them. */
void pvpanic_init(struct legacy *dev, const struct legacy_ops *ops, void *arg);
/* Of any of them: a section without a field, since a guest can change nothing here that lasts. */
static inline void legacy_state(struct legacy *dev, struct state_io *io)
{
	(void)state_begin(io, dev->bus.name, 1);
	state_end(io);
}

#endif
