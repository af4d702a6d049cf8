/* The number, and its change. Control thread. */
#include "devices/vmgenid.h"

#include <errno.h>
#include <sys/random.h>

/* 0 or a negative errno. The guest may read it at any time: no vCPU runs now. */
static int renew(const struct vmgenid *dev)
{
	uint8_t id[VMGENID_BYTES];

	if (getrandom(id, sizeof(id), 0) != sizeof(id))
		return -EIO;
	return guest_write(dev->mem, dev->gpa, id, sizeof(id));
}

int vmgenid_init(struct vmgenid *dev, const struct guest_memory *mem, uint64_t gpa, int irq_fd,
		 struct error *err)
{
	int r;

	*dev = (struct vmgenid){.mem = mem, .gpa = gpa, .irq = {.fd = irq_fd}};
	r = renew(dev);
	return r < 0 ? error_set(err, r, "making the VM's generation id") : 0;
}

void vmgenid_state(struct vmgenid *dev, struct state_io *io)
{
	uint64_t gpa = dev->gpa;
	int r;

	if (state_begin(io, "vmgenid", 1)) {
		state_u64(io, "address", &gpa);
		state_check(io, "address", gpa == dev->gpa);
	}
	state_end(io);
	if (!state_restoring(io))
		return;
	r = renew(dev);
	if (r < 0)
		state_fail(io, r, "making the VM's generation id");
	else
		dev->changed = true;
}

void vmgenid_resume(struct vmgenid *dev)
{
	if (dev->changed)
		irq_raise(&dev->irq);
	dev->changed = false;
}
