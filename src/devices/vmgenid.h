/* VM generation id: 16 bytes of guest memory, another number after each restore, so that the
 * guest's random generator does not go on as another clone's (Microsoft, "Virtual Machine
 * Generation ID", 2012; Linux, drivers/virt/vmgenid.c). Firmware tables say where it is, and an
 * interrupt says that it has changed. Control thread. */
#ifndef STASIS_DEVICES_VMGENID_H
#define STASIS_DEVICES_VMGENID_H

#include "base/state_io.h"
#include "devices/irq.h"
#include "guest/memory.h"

#define VMGENID_BYTES 16

struct vmgenid {
	const struct guest_memory *mem; /* borrowed */
	uint64_t gpa;
	struct irq_line irq;
	bool changed; /* since the guest was told */
};

/* The first number is in memory then. irq_fd: borrowed. */
int vmgenid_init(struct vmgenid *dev, const struct guest_memory *mem, uint64_t gpa, int irq_fd,
		 struct error *err) MUST_CHECK;
/* Its section; a restore, into memory that is the snapshot's already, makes another number. */
void vmgenid_state(struct vmgenid *dev, struct state_io *io);
/* Tells the guest, if it is another one and it was not told yet. Once its interrupt has its way: an
 * edge into a masked pin would be lost. */
void vmgenid_resume(struct vmgenid *dev);

#endif
