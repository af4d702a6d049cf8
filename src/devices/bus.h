/* Port and memory-mapped I/O: which device answers which address. Built by the composer before
 * the first vCPU runs; reads and writes on the control thread only. */
#ifndef STASIS_DEVICES_BUS_H
#define STASIS_DEVICES_BUS_H

#include <stdbool.h>

#include "base/error.h"

enum bus_space { BUS_PIO, BUS_MMIO };

/* Embedded in a device. len is 1, 2, 4 or 8 and offset + len is within the attached size; the
 * device still decides which widths it takes. A device that does not know a register gives zeros
 * and drops writes. data is in the guest's byte order (little-endian). */
struct bus_device {
	const char *name;
	void (*read)(struct bus_device *dev, uint64_t offset, void *data, unsigned len);
	void (*write)(struct bus_device *dev, uint64_t offset, const void *data, unsigned len);
};

struct bus_range {
	uint64_t base, size;
	struct bus_device *dev;
};

struct bus {
	struct bus_range *range[2]; /* by space; sorted by base; owned */
	size_t count[2];
	uint64_t unmapped_reads, unmapped_writes;
};

void bus_init(struct bus *bus);
void bus_done(struct bus *bus);
/* -EEXIST where it overlaps, -EINVAL where it is empty or wraps, -ENOMEM. The device outlives the
 * bus. */
int bus_attach(struct bus *bus, enum bus_space space, uint64_t base, uint64_t size,
	       struct bus_device *dev) MUST_CHECK;
/* An access that no device covers whole, or of another width than 1, 2, 4 or 8, reads as ones or
 * is dropped; both are counted. data has room for len bytes. */
void bus_read(struct bus *bus, enum bus_space space, uint64_t addr, void *data, unsigned len);
void bus_write(struct bus *bus, enum bus_space space, uint64_t addr, const void *data,
	       unsigned len);

#endif
