/* The bus: decoding at the edges of ranges, overlap, and what nobody answers. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "devices/bus.h"

struct probe {
	struct bus_device bus;
	unsigned reads, writes, len;
	uint64_t offset, data;
};

static void probe_read(struct bus_device *bus, uint64_t offset, void *data, unsigned len)
{
	struct probe *p = container_of(bus, struct probe, bus);

	p->reads++;
	p->offset = offset;
	p->len = len;
	memcpy(data, &p->data, len);
}

static void probe_write(struct bus_device *bus, uint64_t offset, const void *data, unsigned len)
{
	struct probe *p = container_of(bus, struct probe, bus);

	p->writes++;
	p->offset = offset;
	p->len = len;
	memcpy(&p->data, data, len);
}

#define PROBE                                                                                      \
	{                                                                                          \
		.bus = {.name = "probe", .read = probe_read, .write = probe_write }                \
	}

static void reads_and_writes_reach_the_device(void **state)
{
	struct probe p = PROBE;
	struct bus bus;
	uint64_t v = 0;

	(void)state;
	bus_init(&bus);
	assert_int_equal(bus_attach(&bus, BUS_PIO, 0x3f8, 8, &p.bus), 0);
	p.data = 0x1122334455667788;
	bus_read(&bus, BUS_PIO, 0x3f8, &v, 8);
	assert_int_equal(v, 0x1122334455667788);
	assert_int_equal(p.offset, 0);
	v = 0x5a;
	bus_write(&bus, BUS_PIO, 0x3ff, &v, 1);
	assert_int_equal(p.offset, 7);
	assert_int_equal(p.len, 1);
	assert_int_equal(p.data & 0xff, 0x5a);
	assert_int_equal(bus.unmapped_reads + bus.unmapped_writes, 0);
	/* The other space is another. */
	bus_read(&bus, BUS_MMIO, 0x3f8, &v, 1);
	assert_int_equal(v & 0xff, 0xff);
	assert_int_equal(p.reads, 1);
	bus_done(&bus);
}

static void what_nobody_answers_reads_as_ones(void **state)
{
	struct probe p = PROBE;
	struct bus bus;
	static const struct {
		uint64_t addr;
		unsigned len;
	} miss[] = {
		{0xfff, 1},  {0xfff, 2},  {0x1010, 1}, {0x100f, 2},	{0x100d, 4},
		{0x1009, 8}, {0, 1},	  {0xffd, 4},  {UINT64_MAX, 1}, {UINT64_MAX, 8},
		{0x1000, 3}, {0x1000, 5}, {0x1000, 7},
	};

	(void)state;
	bus_init(&bus);
	assert_int_equal(bus_attach(&bus, BUS_MMIO, 0x1000, 0x10, &p.bus), 0);
	for (size_t i = 0; i < ARRAY_SIZE(miss); i++) {
		uint8_t data[9];

		memset(data, 0x33, sizeof(data));
		bus_read(&bus, BUS_MMIO, miss[i].addr, data, miss[i].len);
		for (unsigned b = 0; b < sizeof(data); b++)
			assert_int_equal(data[b], b < miss[i].len ? 0xff : 0x33);
		bus_write(&bus, BUS_MMIO, miss[i].addr, data, miss[i].len);
		assert_int_equal(bus.unmapped_reads, i + 1);
		assert_int_equal(bus.unmapped_writes, i + 1);
	}
	assert_int_equal(p.reads + p.writes, 0);
	bus_done(&bus);
}

static void overlap_is_refused(void **state)
{
	struct probe p = PROBE;
	struct bus bus;

	(void)state;
	bus_init(&bus);
	assert_int_equal(bus_attach(&bus, BUS_MMIO, 0x1000, 0x1000, &p.bus), 0);
	assert_int_equal(bus_attach(&bus, BUS_MMIO, 0x1000, 1, &p.bus), -EEXIST);
	assert_int_equal(bus_attach(&bus, BUS_MMIO, 0x1fff, 1, &p.bus), -EEXIST);
	assert_int_equal(bus_attach(&bus, BUS_MMIO, 0x0fff, 2, &p.bus), -EEXIST);
	assert_int_equal(bus_attach(&bus, BUS_MMIO, 0, UINT64_MAX, &p.bus), -EEXIST);
	assert_int_equal(bus_attach(&bus, BUS_MMIO, 0x3000, 0, &p.bus), -EINVAL);
	assert_int_equal(bus_attach(&bus, BUS_MMIO, UINT64_MAX, 2, &p.bus), -EINVAL);
	assert_int_equal(bus_attach(&bus, BUS_MMIO, UINT64_MAX, 1, &p.bus), 0);
	assert_int_equal(bus_attach(&bus, BUS_MMIO, 0x2000, 0x10, &p.bus), 0);
	assert_int_equal(bus_attach(&bus, BUS_MMIO, 0xff0, 0x10, &p.bus), 0);
	assert_int_equal(bus.count[BUS_MMIO], 4);

	uint8_t v = 0;
	bus_read(&bus, BUS_MMIO, UINT64_MAX, &v, 1);
	assert_int_equal(p.reads, 1);
	bus_done(&bus);
}

/* Against a search by hand, in an order of attachment that is neither up nor down. */
static void many_ranges_in_any_order(void **state)
{
	enum { N = 97 };
	struct probe p[N];
	struct bus bus;

	(void)state;
	bus_init(&bus);
	for (unsigned i = 0; i < N; i++) {
		unsigned slot = i * 31 % N;

		p[slot] = (struct probe)PROBE;
		assert_int_equal(bus_attach(&bus, BUS_MMIO, slot * 0x20ull, 1 + slot % 0x20,
					    &p[slot].bus),
				 0);
	}
	for (uint64_t addr = 0; addr < N * 0x20; addr++) {
		struct probe *hit = addr % 0x20 <= addr / 0x20 % 0x20 ? &p[addr / 0x20] : NULL;
		uint64_t before = bus.unmapped_reads;
		unsigned reads = hit ? hit->reads : 0;
		uint8_t v;

		bus_read(&bus, BUS_MMIO, addr, &v, 1);
		if (hit) {
			assert_int_equal(hit->reads, reads + 1);
			assert_int_equal(hit->offset, addr % 0x20);
		}
		assert_int_equal(bus.unmapped_reads, before + !hit);
	}
	bus_done(&bus);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_and_writes_reach_the_device),
		cmocka_unit_test(what_nobody_answers_reads_as_ones),
		cmocka_unit_test(overlap_is_refused),
		cmocka_unit_test(many_ranges_in_any_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
