/* Where RAM and devices lie, and the vCPU ids: properties over many shapes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/x86_64/machine.h"

static struct topology shape(const char *spec, uint64_t bytes)
{
	struct topology t;

	assert_int_equal(topology_parse(spec, &t, NULL), 0);
	if (bytes)
		assert_int_equal(topology_set_memory(&t, bytes, NULL), 0);
	return t;
}

static const struct topology one_cpu = {.nodes = 1,
					.llcs = 1,
					.cores_per_llc = 1,
					.threads_per_core = 1,
					.node = {{.llcs = 1}}};

static void check_layout(const struct topology *t)
{
	struct guest_layout layout;
	uint64_t end = 0, of_node[TOPOLOGY_MAX_NODES] = {0};
	unsigned node = 0;

	assert_int_equal(arch_memory_layout(t, 48, &layout, NULL), 0);
	for (unsigned i = 0; i < layout.count; i++) {
		const struct guest_range *range = &layout.range[i];

		assert_true(range->size > 0 && range->node < t->nodes && range->node >= node);
		/* Without a gap but for the hole, and never in it. */
		assert_true(range->gpa == end || (end == HOLE_GPA && range->gpa == HIGH_RAM_GPA));
		end = range->gpa + range->size;
		assert_true(end <= HOLE_GPA || range->gpa >= HIGH_RAM_GPA);
		node = range->node;
		of_node[node] += range->size;
	}
	for (unsigned i = 0; i < t->nodes; i++)
		assert_true(of_node[i] == t->node[i].memory_bytes);
}

static void ram_goes_around_the_hole(void **state)
{
	static const uint64_t mib[] = {2, 64, 512, 3070, 3072, 3074, 4096, 6144, 1048576};
	static const char *const specs[] = {"1n1l1c1t", "2n2l1c1t", "3n3l2c2t", "7n7l1c1t",
					    "64n64l1c1t"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(mib); i++) {
		for (size_t k = 0; k < ARRAY_SIZE(specs); k++) {
			struct topology t = shape(specs[k], 0);

			if (topology_set_memory(&t, MIB(mib[i]), NULL) == 0)
				check_layout(&t);
		}
	}
}

static void a_node_across_the_hole_has_two_ranges(void **state)
{
	struct topology t = shape("2n2l1c1t", GIB(8));
	struct guest_layout layout;

	(void)state;
	assert_int_equal(arch_memory_layout(&t, 48, &layout, NULL), 0);
	assert_int_equal(layout.count, 3);
	assert_true(layout.range[0].size == GIB(3) && layout.range[0].node == 0);
	assert_true(layout.range[1].gpa == GIB(4) && layout.range[1].size == GIB(1));
	assert_int_equal(layout.range[1].node, 0);
	assert_true(layout.range[2].gpa == GIB(5) && layout.range[2].node == 1);
}

static void nodes_without_memory_have_no_range(void **state)
{
	struct topology t = shape("3n3l1c1t", GIB(3));

	(void)state;
	t.node[1].memory_bytes = 0;
	check_layout(&t);
}

static void ram_past_the_address_width_is_contention(void **state)
{
	struct topology t = shape("1n1l1c1t", GIB(3));
	struct guest_layout layout = {.count = 77};
	struct error err = {0};

	(void)state;
	/* 3 GiB end below 4 GiB, and so fit 32 bits; more goes above, and ends past them. */
	assert_int_equal(arch_memory_layout(&t, 32, &layout, &err), 0);
	t.node[0].memory_bytes += MIB(2);
	layout.count = 77;
	assert_true(arch_memory_layout(&t, 32, &layout, &err) < 0);
	assert_int_equal(err.kind, ERROR_CONTENTION);
	assert_int_equal(layout.count, 77);
	assert_int_equal(arch_memory_layout(&t, 33, &layout, NULL), 0);
	/* The hole counts: 63 GiB end at 64 GiB. */
	t.node[0].memory_bytes = GIB(63);
	assert_int_equal(arch_memory_layout(&t, 36, &layout, NULL), 0);
	t.node[0].memory_bytes = GIB(63) + MIB(2);
	assert_true(arch_memory_layout(&t, 36, &layout, NULL) < 0);
	t.node[0].memory_bytes = UINT64_MAX - 4095;
	assert_true(arch_memory_layout(&t, 52, &layout, NULL) < 0);
	assert_true(arch_memory_layout(&t, 64, &layout, NULL) < 0);
	/* Sizes whose sum wraps to little. */
	t = shape("4n4l1c1t", GIB(4));
	for (unsigned i = 0; i < 4; i++)
		t.node[i].memory_bytes = 1ull << 62;
	assert_true(arch_memory_layout(&t, 52, &layout, NULL) < 0);
	t.node[3].memory_bytes += MIB(64);
	assert_true(arch_memory_layout(&t, 64, &layout, NULL) < 0);
}

/* Any sizes of whole pages, and nodes without memory among them. */
static void random_nodes_lose_no_byte(void **state)
{
	unsigned seed = 9;

	(void)state;
	for (unsigned n = 0; n < 5000; n++) {
		struct topology t = {.nodes = 1 + (unsigned)rand_r(&seed) % TOPOLOGY_MAX_NODES};

		for (unsigned i = 0; i < t.nodes; i++) {
			uint64_t pages = (uint64_t)rand_r(&seed) >> rand_r(&seed) % 31;

			t.node[i].memory_bytes = rand_r(&seed) % 8 ? pages * KIB(4) : 0;
		}
		check_layout(&t);
	}
}

static unsigned all_slots(struct arch_slot *slots)
{
	unsigned n = 0;

	for (int kind = ARCH_UART; kind <= ARCH_VMGENID; kind++) {
		struct arch_slot before, slot;
		unsigned i = 0;

		for (; arch_slot(&one_cpu, (enum arch_device)kind, i, &slot) == 0; i++) {
			assert_true(slot.present && slot.kind == (enum arch_device)kind);
			assert_true(n < 64);
			slots[n++] = slot;
		}
		assert_true(i > 0);
		memset(&slot, 0x5a, sizeof(slot));
		before = slot;
		assert_int_equal(arch_slot(&one_cpu, (enum arch_device)kind, i, &slot), -ENOSPC);
		assert_int_equal(arch_slot(&one_cpu, (enum arch_device)kind, UINT32_MAX, &slot),
				 -ENOSPC);
		assert_memory_equal(&slot, &before, sizeof(slot));
	}
	return n;
}

static void slots_share_nothing(void **state)
{
	struct arch_slot slot[64];
	unsigned n = all_slots(slot), windows = 0;

	(void)state;
	for (unsigned i = 0; i < n; i++) {
		const struct arch_slot *a = &slot[i];

		windows += a->kind == ARCH_VIRTIO_MMIO;
		assert_true(a->gsi < IOAPIC_GSIS && a->gsi != 8 && a->gsi != 13);
		if (a->space == BUS_MMIO)
			assert_true(a->base >= HOLE_GPA && a->base + a->size <= IOAPIC_GPA &&
				    a->size == 0x1000);
		for (unsigned k = 0; k < i; k++) {
			const struct arch_slot *b = &slot[k];

			assert_true(!a->gsi || a->gsi != b->gsi);
			assert_true(a->space != b->space || a->base >= b->base + b->size ||
				    b->base >= a->base + a->size);
		}
	}
	assert_int_equal(windows, 16);
}

static void the_ioapic_is_ours_past_xapic(void **state)
{
	static const struct {
		const char *spec;
		bool ours;
	} cases[] = {{"1n1l255c1t", false}, {"1n1l256c1t", true}, {"1n14l9c2t", true},
		     {"3n15l10c2t", true},  {"1n1l1c1t", false},  {"1n1l1024c1t", true}};
	struct arch_slot slot;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct topology t = shape(cases[i].spec, 0);

		assert_int_equal(arch_slot(&t, ARCH_IOAPIC, 0, &slot), 0);
		assert_int_equal(slot.present, cases[i].ours);
		assert_true(slot.base == IOAPIC_GPA && slot.gsi == 0);
		assert_int_equal(arch_slot(&t, ARCH_IOAPIC, 1, &slot), -ENOSPC);
	}
}

static void slots_are_where_drivers_look(void **state)
{
	static const struct arch_slot want[] = {
		{ARCH_UART, BUS_PIO, 0x3F8, 8, 4, true},
		{ARCH_I8042, BUS_PIO, 0x60, 5, 0, true},
		{ARCH_PVPANIC, BUS_PIO, 0x505, 1, 0, true},
		{ARCH_VIRTIO_MMIO, BUS_MMIO, 0xC0000000, 0x1000, 5, true},
	};
	struct arch_slot slot;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		assert_int_equal(arch_slot(&one_cpu, want[i].kind, 0, &slot), 0);
		assert_true(slot.space == want[i].space && slot.base == want[i].base &&
			    slot.size == want[i].size && slot.gsi == want[i].gsi);
	}
	assert_int_equal(arch_slot(&one_cpu, ARCH_UART, 1, &slot), 0);
	assert_true(slot.base == 0x2F8 && slot.gsi == 3);
}

static void ids_ascend_and_the_first_is_0(void **state)
{
	(void)state;
	for (unsigned l = 1; l <= 9; l++) {
		for (unsigned c = 1; c <= 9; c++) {
			for (unsigned th = 1; th <= 4; th++) {
				struct topology t = {.nodes = 1,
						     .llcs = l,
						     .cores_per_llc = c,
						     .threads_per_core = th,
						     .node = {{0, l, 0}}};
				uint32_t last = 0;

				assert_int_equal(arch_vcpu_id(&t, 0), 0);
				for (unsigned i = 1; i < topology_vcpus(&t); i++) {
					assert_true(arch_vcpu_hardware_id(&t, i) > last);
					last = arch_vcpu_hardware_id(&t, i);
				}
			}
		}
	}
}

static void ids_are_sparse(void **state)
{
	struct topology t = shape("1n14l9c2t", 0);

	(void)state;
	assert_int_equal(topology_vcpus(&t), 252);
	assert_int_equal(arch_vcpu_id(&t, 251), 433);
	t = shape("3n15l10c2t", 0);
	assert_int_equal(arch_vcpu_id(&t, topology_vcpus(&t) - 1), 467);
	t = shape("1n3l3c1t", 0);
	assert_int_equal(arch_vcpu_id(&t, 8), 10); /* two bits of cache, two of core */
	t = shape("1n2l2c2t", 0);
	assert_int_equal(arch_vcpu_id(&t, 7), 7);
	t = shape("1n1l1024c1t", 0);
	assert_int_equal(arch_vcpu_id(&t, 1023), 1023);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ram_goes_around_the_hole),
		cmocka_unit_test(a_node_across_the_hole_has_two_ranges),
		cmocka_unit_test(nodes_without_memory_have_no_range),
		cmocka_unit_test(ram_past_the_address_width_is_contention),
		cmocka_unit_test(random_nodes_lose_no_byte),
		cmocka_unit_test(slots_share_nothing),
		cmocka_unit_test(the_ioapic_is_ours_past_xapic),
		cmocka_unit_test(slots_are_where_drivers_look),
		cmocka_unit_test(ids_ascend_and_the_first_is_0),
		cmocka_unit_test(ids_are_sparse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
