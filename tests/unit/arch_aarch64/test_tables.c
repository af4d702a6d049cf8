/* The device tree: what it says, over many shapes, and that dtc finds nothing to say about it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <libfdt.h>
#include <unistd.h>

#include "arch/aarch64/machine.h"
#include "arch/aarch64/regs.h"
#include "base/text.h"
#include "base/util.h"

struct tree {
	struct topology topology;
	struct guest_layout layout;
	struct arch_slot slot[8];
	struct fdt_request q;
	uint8_t *fdt;
	size_t len;
};

static void tree_make(struct tree *t, const char *spec, bool pmu)
{
	unsigned n = 0;

	memset(t, 0, sizeof(*t));
	assert_int_equal(topology_parse(spec, &t->topology, NULL), 0);
	assert_int_equal(topology_set_memory(&t->topology, GIB(1), NULL), 0);
	assert_int_equal(arch_memory_layout(&t->topology, 48, &t->layout, NULL), 0);
	assert_int_equal(arch_slot(&t->topology, ARCH_UART, 0, &t->slot[n++]), 0);
	assert_int_equal(arch_slot(&t->topology, ARCH_UART, 1, &t->slot[n++]), 0);
	assert_int_equal(arch_slot(&t->topology, ARCH_PVPANIC, 0, &t->slot[n++]), 0);
	assert_int_equal(arch_slot(&t->topology, ARCH_VIRTIO_MMIO, 0, &t->slot[n++]), 0);
	assert_int_equal(arch_slot(&t->topology, ARCH_VIRTIO_MMIO, 1, &t->slot[n++]), 0);
	assert_int_equal(arch_slot(&t->topology, ARCH_VMGENID, 0, &t->slot[n++]), 0);
	t->q = (struct fdt_request){
		.topology = &t->topology,
		.layout = &t->layout,
		.ram_end = RAM_GPA + GIB(1) - KIB(64),
		.slots = t->slot,
		.slot_count = n,
		.cmdline = "console=ttyS0",
		.initrd_gpa = 0x50000000,
		.initrd_len = 12345,
		.has_pmu = pmu,
		.has_seeds = true,
	};
	assert_int_equal(fdt_build(&t->q, &t->fdt, &t->len, NULL), 0);
	assert_int_equal(fdt_check_header(t->fdt), 0);
	assert_int_equal(fdt_totalsize(t->fdt), t->len);
}

static int node_at(const struct tree *t, const char *path)
{
	int node = fdt_path_offset(t->fdt, path);

	if (node < 0)
		fail_msg("%s: %s", path, fdt_strerror(node));
	return node;
}

static uint32_t u32(const struct tree *t, int node, const char *name, unsigned index)
{
	int len;
	const fdt32_t *p = fdt_getprop(t->fdt, node, name, &len);

	if (!p || len < (int)(4 * (index + 1)))
		fail_msg("no %s[%u]", name, index);
	return fdt32_ld(p + index);
}

static uint64_t u64(const struct tree *t, int node, const char *name, unsigned index)
{
	return (uint64_t)u32(t, node, name, 2 * index) << 32 | u32(t, node, name, 2 * index + 1);
}

static int by_phandle(const struct tree *t, uint32_t phandle)
{
	int node = fdt_node_offset_by_phandle(t->fdt, phandle);

	assert_true(node >= 0);
	return node;
}

static const char *const specs[] = {"1n1l1c1t", "1n2l4c2t", "2n4l3c2t", "4n4l16c1t", "1n1l17c1t"};

static void processors(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
		struct tree t;
		unsigned cpus;

		tree_make(&t, specs[i], false);
		cpus = topology_vcpus(&t.topology);
		for (unsigned cpu = 0; cpu < cpus; cpu++) {
			struct topology_place at = topology_locate(&t.topology, cpu);
			char path[96], thread[16] = "";
			int node, l2, l3, map;

			snprintf(path, sizeof(path), "/cpus/cpu@%x",
				 (unsigned)mpidr_affinity(&t.topology, cpu));
			node = node_at(&t, path);
			assert_int_equal(u32(&t, node, "reg", 0), mpidr_affinity(&t.topology, cpu));
			assert_int_equal(u32(&t, node, "numa-node-id", 0), at.node);
			assert_string_equal(fdt_getprop(t.fdt, node, "enable-method", NULL),
					    "psci");
			assert_int_equal(u32(&t, node, "d-cache-size", 0), 64 << 10);
			assert_int_equal(u32(&t, node, "d-cache-sets", 0), 256);
			/* Its caches are its core's and its last-level cache's. */
			l2 = by_phandle(&t, u32(&t, node, "next-level-cache", 0));
			assert_int_equal(u32(&t, l2, "cache-level", 0), 2);
			snprintf(path, sizeof(path), "l2-cache-%u",
				 at.llc * t.topology.cores_per_llc + at.core);
			assert_string_equal(fdt_get_name(t.fdt, l2, NULL), path);
			l3 = by_phandle(&t, u32(&t, l2, "next-level-cache", 0));
			assert_int_equal(u32(&t, l3, "cache-level", 0), 3);
			snprintf(path, sizeof(path), "l3-cache-%u", at.llc);
			assert_string_equal(fdt_get_name(t.fdt, l3, NULL), path);
			/* The map leads to it. */
			if (t.topology.threads_per_core > 1)
				snprintf(thread, sizeof(thread), "/thread%u", at.thread);
			snprintf(path, sizeof(path), "/cpus/cpu-map/socket%u/cluster0/core%u%s",
				 at.llc, at.core, thread);
			map = node_at(&t, path);
			assert_int_equal(by_phandle(&t, u32(&t, map, "cpu", 0)), node);
		}
		free(t.fdt);
	}
}

static void memory_and_distances(void **state)
{
	struct tree t;
	uint64_t end = RAM_GPA;
	int map, node, len;

	(void)state;
	tree_make(&t, "4n4l1c1t", false);
	for (unsigned n = 0; n < 4; n++) {
		char path[64];

		snprintf(path, sizeof(path), "/memory@%llx", (unsigned long long)end);
		node = node_at(&t, path);
		assert_int_equal(u32(&t, node, "numa-node-id", 0), n);
		assert_int_equal(u64(&t, node, "reg", 0), end);
		/* The last one ends before the stolen-time slots. */
		assert_int_equal(u64(&t, node, "reg", 1), MIB(256) - (n == 3 ? KIB(64) : 0));
		end += MIB(256);
	}
	map = node_at(&t, "/distance-map");
	assert_string_equal(fdt_getprop(t.fdt, map, "compatible", NULL), "numa-distance-map-v1");
	fdt_getprop(t.fdt, map, "distance-matrix", &len);
	assert_int_equal(len, 4 * 4 * 3 * 4);
	for (unsigned i = 0; i < 16; i++) {
		unsigned a = u32(&t, map, "distance-matrix", 3 * i);
		unsigned b = u32(&t, map, "distance-matrix", 3 * i + 1);

		assert_int_equal(a * 4 + b, i);
		assert_int_equal(u32(&t, map, "distance-matrix", 3 * i + 2), a == b ? 10 : 20);
	}
	free(t.fdt);
	tree_make(&t, "1n1l1c1t", false);
	assert_int_equal(fdt_path_offset(t.fdt, "/distance-map"), -FDT_ERR_NOTFOUND);
	free(t.fdt);
}

static void devices(void **state)
{
	static const struct {
		const char *path, *compatible;
		uint32_t spi;
	} nodes[] = {
		{"/serial@d000000", "ns16550a", 1},	    {"/serial@d001000", "ns16550a", 2},
		{"/virtio@d010000", "virtio,mmio", 3},	    {"/virtio@d011000", "virtio,mmio", 4},
		{"/rng@7ffff000", "microsoft,vmgenid", 32}, /* the last page of 1 GiB */
	};
	struct tree t;
	int node;

	(void)state;
	tree_make(&t, "2n2l4c1t", true);
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		node = node_at(&t, nodes[i].path);
		assert_string_equal(fdt_getprop(t.fdt, node, "compatible", NULL),
				    nodes[i].compatible);
		assert_int_equal(u32(&t, node, "interrupts", 0), 0);
		assert_int_equal(u32(&t, node, "interrupts", 1), nodes[i].spi);
		assert_int_equal(u32(&t, node, "interrupts", 2), 1); /* edge */
	}
	node = node_at(&t, "/interrupt-controller@8000000");
	assert_int_equal(u32(&t, 0, "interrupt-parent", 0), fdt_get_phandle(t.fdt, node));
	assert_int_equal(u64(&t, node, "reg", 0), GICD_GPA);
	assert_int_equal(u64(&t, node, "reg", 1), 0x10000);
	assert_int_equal(u64(&t, node, "reg", 2), GICR_GPA);
	assert_int_equal(u64(&t, node, "reg", 3), 8 * 0x20000);
	node = node_at(&t, "/pmu");
	assert_int_equal(u32(&t, node, "interrupts", 0), 1);
	assert_int_equal(u32(&t, node, "interrupts", 1), 7);
	node = node_at(&t, "/psci");
	assert_string_equal(fdt_getprop(t.fdt, node, "method", NULL), "hvc");
	assert_true(fdt_stringlist_contains(fdt_getprop(t.fdt, node, "compatible", NULL),
					    (int)sizeof("arm,psci-1.0\0arm,psci-0.2"),
					    "arm,psci-0.2"));
	node = node_at(&t, "/chosen");
	assert_string_equal(fdt_getprop(t.fdt, node, "stdout-path", NULL),
			    "/serial@d000000:115200n8");
	assert_true(fdt_path_offset(t.fdt, "serial1") == node_at(&t, "/serial@d001000"));
	free(t.fdt);
	tree_make(&t, "1n1l1c1t", false);
	assert_int_equal(fdt_path_offset(t.fdt, "/pmu"), -FDT_ERR_NOTFOUND);
	free(t.fdt);
}

static void the_largest_fits(void **state)
{
	struct tree t;

	(void)state;
	tree_make(&t, "64n256l2c2t", true);
	assert_true(t.len < FDT_MAX_BYTES);
	free(t.fdt);
}

/* Every check that dtc has, those that are off by default too. */
static void dtc_is_silent(void **state)
{
	static const char *const more[] = {"node_name_chars_strict", "property_name_chars_strict"};
	char dir[] = "/tmp/stasis-test-XXXXXX";

	(void)state;
	if (system("dtc --version >/dev/null 2>&1") != 0) {
		print_message("skipped: no dtc here (device-tree-compiler)\n");
		skip();
	}
	assert_non_null(mkdtemp(dir));
	for (size_t i = 0; i <= ARRAY_SIZE(specs); i++) {
		const char *spec = i < ARRAY_SIZE(specs) ? specs[i] : "8n32l8c2t";
		CLEANUP_FREE char *said = NULL;
		CLEANUP_FREE char *dtb = text_format("%s/dtb", dir);
		CLEANUP_FREE char *says = text_format("%s/says", dir);
		CLEANUP_FREE char *command =
			text_format("dtc -W%s -W%s -I dtb -O dts -o /dev/null %s/dtb 2>%s/says",
				    more[0], more[1], dir, dir);
		struct tree t;
		size_t len;
		FILE *f;

		tree_make(&t, spec, i % 2);
		f = fopen(dtb, "w");
		assert_non_null(f);
		assert_int_equal(fwrite(t.fdt, 1, t.len, f), t.len);
		fclose(f);
		assert_int_equal(system(command), 0);
		assert_int_equal(file_read(says, 1 << 16, &said, &len), 0);
		assert_string_equal(said, "");
		unlink(dtb);
		unlink(says);
		free(t.fdt);
	}
	rmdir(dir);
}

static void a_file_for_people(void **state)
{
	char dir[] = "/tmp/stasis-test-XXXXXX";
	struct tree t;
	CLEANUP_FREE char *path = NULL;
	CLEANUP_FREE char *data = NULL;
	struct error err = {0};
	size_t len;

	(void)state;
	assert_non_null(mkdtemp(dir));
	tree_make(&t, "2n2l2c1t", false);
	path = text_format("%s/machine.dtb", dir);
	assert_int_equal(arch_tables_write(&t.topology, t.slot, t.q.slot_count, path, NULL), 0);
	assert_int_equal(file_read(path, MIB(4), &data, &len), 0);
	assert_int_equal(fdt_check_full(data, len), 0);
	unlink(path);
	rmdir(dir);
	assert_true(arch_tables_write(&t.topology, t.slot, 1, "/proc/nowhere", &err) < 0);
	free(t.fdt);
}

/* Redistributors past the room for them would lie over devices. */
static void more_than_the_gic_has_is_refused(void **state UNUSED)
{
	static const char path[] = "/dev/null";
	struct topology t;
	struct error err = {0};

	for (unsigned over = 0; over < 2; over++) {
		assert_int_equal(topology_from_cpus(GIC_MAX_VCPUS + over, &t, NULL), 0);
		assert_int_equal(topology_set_memory(&t, GIB(1), NULL), 0);
		assert_int_equal(arch_tables_write(&t, NULL, 0, path, &err), over ? -EINVAL : 0);
	}
	assert_non_null(strstr(err.what, "513 vCPUs are more than the 512"));
	assert_int_equal(topology_parse("64n256l2c2t", &t, NULL), 0);
	assert_int_equal(topology_set_memory(&t, GIB(1), NULL), 0);
	assert_int_equal(arch_tables_write(&t, NULL, 0, path, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(processors),
		cmocka_unit_test(memory_and_distances),
		cmocka_unit_test(devices),
		cmocka_unit_test(the_largest_fits),
		cmocka_unit_test(dtc_is_silent),
		cmocka_unit_test(a_file_for_people),
		cmocka_unit_test(more_than_the_gic_has_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
