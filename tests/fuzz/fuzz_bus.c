/* The bus against a search by hand: ranges in any order and place, then accesses. */
#include <errno.h>

#include "devices/bus.h"
#include "fuzz.h"

#define MAX_RANGES 64

static struct seen {
	struct bus_device *dev;
	uint64_t offset;
	unsigned len;
	bool write;
} seen;

static void dev_read(struct bus_device *dev, uint64_t offset, void *data, unsigned len)
{
	seen = (struct seen){dev, offset, len, false};
	memset(data, 0, len);
}

static void dev_write(struct bus_device *dev, uint64_t offset, const void *data, unsigned len)
{
	(void)data;
	seen = (struct seen){dev, offset, len, true};
}

/* Addresses near 0, near the middle and near the end of the space, so that they meet. */
static uint64_t address(struct fuzz_input *in)
{
	uint8_t kind = fuzz_u8(in);
	uint64_t v = fuzz_u16(in);

	switch (kind & 3) {
	case 0:
		return v;
	case 1:
		return 0xfffffff0 + v;
	case 2:
		return UINT64_MAX - v;
	default:
		return fuzz_take(in, 8);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	struct bus_device dev[MAX_RANGES];
	struct bus_range range[MAX_RANGES]; /* of both spaces, in order of attachment */
	enum bus_space space[MAX_RANGES];
	unsigned count = 0, misses = 0;
	struct bus bus;

	bus_init(&bus);
	while (in.left) {
		uint8_t op = fuzz_u8(&in);
		enum bus_space s = op & 1 ? BUS_MMIO : BUS_PIO;
		uint64_t addr = address(&in);

		if (op & 2) {
			uint64_t len = address(&in);
			int want = !len || addr + (len - 1) < addr ? -EINVAL : 0;

			if (count == MAX_RANGES)
				continue;
			for (unsigned i = 0; i < count && !want; i++)
				if (space[i] == s && range[i].base <= addr + (len - 1) &&
				    addr <= range[i].base + (range[i].size - 1))
					want = -EEXIST;
			dev[count] = (struct bus_device){"fuzz", dev_read, dev_write};
			FUZZ_CHECK(bus_attach(&bus, s, addr, len, &dev[count]) == want);
			if (want)
				continue;
			range[count] = (struct bus_range){addr, len, &dev[count]};
			space[count++] = s;
			continue;
		}

		unsigned len = 1u << (op >> 4 & 3);
		if (op & 0x80)
			len = op >> 4 & 7; /* odd widths as well */
		uint8_t buf[8] = {0};
		struct bus_range *hit = NULL;
		for (unsigned i = 0; i < count; i++)
			if (space[i] == s && addr >= range[i].base &&
			    addr - range[i].base < range[i].size &&
			    len <= range[i].size - (addr - range[i].base))
				hit = &range[i];
		if (len != 1 && len != 2 && len != 4 && len != 8)
			hit = NULL;
		seen = (struct seen){0};
		if (op & 4)
			bus_write(&bus, s, addr, buf, len);
		else
			bus_read(&bus, s, addr, buf, len);
		misses += !hit;
		FUZZ_CHECK(bus.unmapped_reads + bus.unmapped_writes == misses);
		FUZZ_CHECK(seen.dev == (hit ? hit->dev : NULL));
		FUZZ_CHECK(!hit || (seen.offset == addr - hit->base && seen.len == len &&
				    seen.write == !!(op & 4)));
		FUZZ_CHECK(hit || (op & 4) || !len || buf[len - 1] == 0xff);
	}
	bus_done(&bus);
	return 0;
}
