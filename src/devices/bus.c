/* Address decoding for port and memory-mapped I/O: a sorted array per space, searched by halves.
 * Control thread. */
#include "devices/bus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void bus_init(struct bus *bus)
{
	*bus = (struct bus){0};
}

void bus_done(struct bus *bus)
{
	for (int i = 0; i < 2; i++) {
		free(bus->range[i]);
		bus->range[i] = NULL;
		bus->count[i] = 0;
	}
}

/* How many ranges begin at or below addr: the last of them is the only one that can hold it. */
static size_t count_to(const struct bus *bus, enum bus_space space, uint64_t addr)
{
	size_t lo = 0, hi = bus->count[space];

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (bus->range[space][mid].base <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int bus_attach(struct bus *bus, enum bus_space space, uint64_t base, uint64_t size,
	       struct bus_device *dev)
{
	if (!size || base + (size - 1) < base)
		return -EINVAL;

	size_t at = count_to(bus, space, base), n = bus->count[space];
	const struct bus_range *r = bus->range[space];

	if (at > 0 && base - r[at - 1].base < r[at - 1].size)
		return -EEXIST;
	if (at < n && r[at].base - base < size)
		return -EEXIST;

	struct bus_range *grown = reallocarray(bus->range[space], n + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	memmove(grown + at + 1, grown + at, (n - at) * sizeof(*grown));
	grown[at] = (struct bus_range){.base = base, .size = size, .dev = dev};
	bus->range[space] = grown;
	bus->count[space] = n + 1;
	return 0;
}

/* The device that holds all of the access, or NULL. */
static struct bus_device *find(const struct bus *bus, enum bus_space space, uint64_t addr,
			       unsigned len, uint64_t *ret_offset)
{
	size_t n = count_to(bus, space, addr);
	const struct bus_range *r;

	if (!n || (len != 1 && len != 2 && len != 4 && len != 8))
		return NULL;
	r = &bus->range[space][n - 1];

	uint64_t offset = addr - r->base;
	if (offset >= r->size || len > r->size - offset)
		return NULL;
	*ret_offset = offset;
	return r->dev;
}

void bus_read(struct bus *bus, enum bus_space space, uint64_t addr, void *data, unsigned len)
{
	uint64_t offset;
	struct bus_device *dev = find(bus, space, addr, len, &offset);

	if (dev) {
		dev->read(dev, offset, data, len);
		return;
	}
	memset(data, 0xff, len);
	bus->unmapped_reads++;
}

void bus_write(struct bus *bus, enum bus_space space, uint64_t addr, const void *data, unsigned len)
{
	uint64_t offset;
	struct bus_device *dev = find(bus, space, addr, len, &offset);

	if (dev)
		dev->write(dev, offset, data, len);
	else
		bus->unmapped_writes++;
}
