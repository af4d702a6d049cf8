/* Where RAM and devices lie, MPIDR, and the numbers of registers and interrupts. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/aarch64/machine.h"
#include "arch/aarch64/regs.h"

static struct topology shape(const char *spec, uint64_t bytes)
{
	struct topology t;

	assert_int_equal(topology_parse(spec, &t, NULL), 0);
	if (bytes)
		assert_int_equal(topology_set_memory(&t, bytes, NULL), 0);
	return t;
}

static void ram_is_one_block(void **state)
{
	static const char *const specs[] = {"1n1l1c1t", "2n2l1c1t", "7n7l1c1t", "64n64l1c1t"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
		struct topology t = shape(specs[i], GIB(5));
		struct guest_layout layout;
		uint64_t end = RAM_GPA;

		assert_int_equal(arch_memory_layout(&t, 48, &layout, NULL), 0);
		assert_int_equal(layout.count, t.nodes);
		for (unsigned n = 0; n < layout.count; n++) {
			assert_int_equal(layout.range[n].gpa, end);
			assert_int_equal(layout.range[n].node, n);
			assert_int_equal(layout.range[n].size, t.node[n].memory_bytes);
			end += layout.range[n].size;
		}
		assert_int_equal(end, RAM_GPA + GIB(5));
	}
}

static void ram_past_the_address_width_is_refused(void **state)
{
	struct topology t = shape("1n1l1c1t", GIB(15));
	struct guest_layout layout;
	struct error err = {0};

	(void)state;
	assert_int_equal(arch_memory_layout(&t, 34, &layout, NULL), 0);
	t = shape("1n1l1c1t", GIB(15) + MIB(2));
	assert_true(arch_memory_layout(&t, 34, &layout, &err) < 0);
	assert_int_equal(err.kind, ERROR_CONTENTION);
	assert_non_null(strstr(err.what, "34 bits"));
	t.node[0].memory_bytes = UINT64_MAX - MIB(1);
	assert_true(arch_memory_layout(&t, 64, &layout, NULL) < 0);
}

/* A memory-less node has no range. */
static void nodes_of_cpus_only_have_no_ram(void **state)
{
	struct topology t = shape("2n2l1c1t", MIB(64));
	struct guest_layout layout;

	(void)state;
	t.node[0].memory_bytes = 0;
	assert_int_equal(arch_memory_layout(&t, 40, &layout, NULL), 0);
	assert_int_equal(layout.count, 1);
	assert_int_equal(layout.range[0].gpa, RAM_GPA);
	assert_int_equal(layout.range[0].node, 1);
}

static void machine_type_is_as_wide_as_ram_needs(void **state)
{
	struct guest_layout layout = {.range = {{RAM_GPA, GIB(1), 0}}, .count = 1};
	struct kvm kvm = {.phys_bits = 52};

	(void)state;
	assert_int_equal(arch_vm_type(&kvm, &layout), 40);
	layout.range[0].size = (UINT64_C(1) << 40) - RAM_GPA;
	assert_int_equal(arch_vm_type(&kvm, &layout), 40);
	layout.range[0].size += 4096;
	assert_int_equal(arch_vm_type(&kvm, &layout), 41);
	layout.range[0].size = GIB(1);
	kvm.phys_bits = 36;
	assert_int_equal(arch_vm_type(&kvm, &layout), 36);
	kvm.phys_bits = 0;
	assert_int_equal(arch_vm_type(&kvm, &layout), 0);
}

static void furniture_is_at_the_end_of_ram(void **state)
{
	static const uint64_t bytes[] = {MIB(8), MIB(256), GIB(1) + MIB(2), GIB(200)};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bytes); i++) {
		struct guest_layout layout = {.range = {{RAM_GPA, bytes[i], 0}}, .count = 1};
		struct topology t = shape("1n1l1c1t", bytes[i]);
		uint64_t end = RAM_GPA + bytes[i];
		struct ram_plan with, without;
		struct arch_slot id;

		assert_int_equal(ram_plan(&layout, true, &with, NULL), 0);
		assert_int_equal(ram_plan(&layout, false, &without, NULL), 0);
		assert_int_equal(arch_slot(&t, ARCH_VMGENID, 0, &id), 0);
		assert_int_equal(without.end, with.end);
		assert_int_equal(without.stolen_gpa, 0);
		assert_int_equal(with.stolen_gpa, with.end);
		assert_int_equal(with.stolen_gpa % SHARED_SIZE, 0);
		assert_true(id.present && id.gsi != 0 && id.base % VMGENID_SIZE == 0);
		assert_true(with.stolen_gpa + GIC_MAX_VCPUS * STOLEN_SLOT <= id.base);
		assert_int_equal(id.base + id.size, end);
		assert_int_equal(with.fdt_gpa % FDT_MAX_BYTES, 0);
		assert_true(with.fdt_gpa + FDT_MAX_BYTES <= with.end);
		assert_true(with.fdt_gpa + FDT_MAX_BYTES <= RAM_GPA + BOOT_WINDOW);
		assert_true(with.fdt_gpa > RAM_GPA);
	}
}

static void too_little_ram_is_said(void **state)
{
	struct guest_layout layout = {.range = {{RAM_GPA, MIB(2), 0}}, .count = 1};
	struct ram_plan plan;
	struct error err = {0};

	(void)state;
	assert_true(ram_plan(&layout, true, &plan, &err) < 0);
	assert_int_equal(err.kind, ERROR_USAGE);
	layout.count = 0;
	assert_true(ram_plan(&layout, true, &plan, NULL) < 0);
}

static void slots_are_disjoint_and_interrupts_too(void **state)
{
	struct topology t = shape("1n1l512c1t", GIB(1));
	struct arch_slot slot[64];
	unsigned n = 0, pins[GIC_IRQS] = {0};

	(void)state;
	for (unsigned i = 0; arch_slot(&t, ARCH_UART, i, &slot[n]) == 0; i++)
		n++;
	assert_int_equal(n, 2);
	/* Interrupts 33 and 34; the pin is the number less 32. */
	assert_int_equal(SPI_INTID(slot[0].gsi), 33);
	assert_int_equal(SPI_INTID(slot[1].gsi), 34);
	for (unsigned i = 0; arch_slot(&t, ARCH_VIRTIO_MMIO, i, &slot[n]) == 0; i++) {
		assert_int_equal(SPI_INTID(slot[n].gsi), 35 + i);
		n++;
	}
	assert_true(n >= 18);
	assert_int_equal(arch_slot(&t, ARCH_PVPANIC, 0, &slot[n++]), 0);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(slot[i].space, BUS_MMIO);
		assert_true(slot[i].present && slot[i].base % WINDOW_SIZE == 0);
		/* Past every redistributor that KVM may claim, and below RAM. */
		assert_true(slot[i].base >= GICR_GPA + 512 * GICR_SIZE);
		assert_true(slot[i].base + slot[i].size <= RAM_GPA);
		for (unsigned k = 0; k < i; k++)
			assert_true(slot[k].base / WINDOW_SIZE != slot[i].base / WINDOW_SIZE);
		if (slot[i].gsi)
			assert_int_equal(pins[slot[i].gsi]++, 0);
	}
	assert_int_equal(arch_slot(&t, ARCH_PVPANIC, 1, &slot[0]), -ENOSPC);
	assert_int_equal(arch_slot(&t, ARCH_I8042, 0, &slot[0]), 0);
	assert_false(slot[0].present);
	assert_int_equal(arch_slot(&t, ARCH_IOAPIC, 0, &slot[0]), 0);
	assert_false(slot[0].present);
}

static void mpidr_is_unique_and_groups_by_cache(void **state)
{
	static const char *const specs[] = {"1n1l1c1t",	  "1n1l16c1t", "1n1l17c1t",
					    "1n4l16c1t",  "2n4l3c2t",  "1n512l1c1t",
					    "1n1l512c1t", "1n2l5c7t",  "4n8l32c2t"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
		struct topology t = shape(specs[i], 0);
		uint64_t last = 0;
		bool fits = arch_vcpu_id(&t, topology_vcpus(&t) - 1) != topology_vcpus(&t) - 1;

		for (unsigned cpu = 0; cpu < topology_vcpus(&t); cpu++) {
			uint64_t a = mpidr_affinity(&t, cpu);
			uint32_t id = arch_vcpu_id(&t, cpu);

			/* What KVM makes of it, and takes: 512. */
			assert_true(id < 512);
			if (fits)
				assert_int_equal((id & 15) | (id >> 4 & 0xff) << 8 | id >> 12 << 16,
						 a);

			/* KVM sends SGIs to Aff0 below 16 only, and knows no Aff3. */
			assert_true((a & 0xff) < 16 && a <= MPIDR_AFFINITY);
			assert_true(cpu == 0 ? a == 0 : a > last);
			if (cpu > 0 && a >> 8 == last >> 8)
				assert_int_equal(topology_locate(&t, cpu).llc,
						 topology_locate(&t, cpu - 1).llc);
			last = a;
		}
	}
	{
		struct topology t = shape("1n4l16c1t", 0);

		assert_int_equal(mpidr_affinity(&t, 15), 0x00f);
		assert_int_equal(mpidr_affinity(&t, 16), 0x100);
		assert_int_equal(mpidr_affinity(&t, 63), 0x30f);
		t = shape("1n2l4c2t", 0);
		assert_int_equal(arch_vcpu_id(&t, 7), 7);
		assert_int_equal(arch_vcpu_id(&t, 8), 16);
		/* Too many groups for KVM's ids. */
		t = shape("4n64l1c1t", 0);
		assert_int_equal(arch_vcpu_id(&t, 255), 255);
	}
}

/* KVM API, 4.68 and arch/arm64/include/uapi/asm/kvm.h, worked out by hand. */
static void register_ids(void **state)
{
	(void)state;
	assert_int_equal(REG_X(0), 0x6030000000100000);
	assert_int_equal(REG_X(30), 0x603000000010003c);
	assert_int_equal(REG_PC, 0x6030000000100040);
	assert_int_equal(REG_PSTATE, 0x6030000000100042);
	assert_int_equal(REG_SP_EL1, 0x6030000000100044);
	assert_int_equal(REG_MPIDR_EL1, 0x603000000013c005);
	assert_int_equal(REG_TTBR0_EL1, 0x603000000013c100);
	assert_int_equal(REG_TTBR1_EL1, 0x603000000013c101);
	assert_int_equal(REG_TCR_EL1, 0x603000000013c102);
	assert_int_equal(REG_CLIDR_EL1, 0x603000000013c801);
	assert_int_equal(REG_CCSIDR(3), 0x6020000000110003);
}

/* ASID, CnP, and the address bits above 48 in the low ones. */
static void root_of_a_ttbr(void **state UNUSED)
{
	assert_int_equal(ttbr_root(0x0042000041a79001), 0x41a79000);
	assert_int_equal(ttbr_root(0xffff000041a79e00), 0x41a79e00);
	assert_int_equal(ttbr_root(0x000100004000103d), 0xf000040001000);
}

static void interrupt_numbers(void **state)
{
	(void)state;
	assert_int_equal(PPI_INTID(PMU_PPI), 23);
	assert_int_equal(PPI_INTID(TIMER_PPI_VIRTUAL), 27);
	assert_int_equal(SPI_INTID(UART_SPI), 33);
	assert_int_equal(GICR_GPA + 512 * GICR_SIZE, 0x0C010000);
}

/* ARM ARM, D23.2.20: 64 KiB, 4 ways, 64 bytes a line are 256 sets. */
static void cache_words(void **state)
{
	(void)state;
	assert_int_equal(ccsidr_value(64 << 10, 4, 64), 255 << 13 | 3 << 3 | 2);
	assert_int_equal(ccsidr_select(1, false), 0);
	assert_int_equal(ccsidr_select(1, true), 1);
	assert_int_equal(ccsidr_select(3, false), 4);
	assert_int_equal(CLIDR_VALUE & 7, 3);	    /* separate */
	assert_int_equal(CLIDR_VALUE >> 6 & 7, 4);  /* unified */
	assert_int_equal(CLIDR_VALUE >> 9 & 7, 0);  /* no fourth level */
	assert_int_equal(CLIDR_VALUE >> 24 & 7, 3); /* coherent at level 3 */
	for (unsigned i = 0; i < arch_cache_count; i++) {
		const struct arch_cache *c = &arch_caches[i];
		uint32_t sets = c->bytes / (c->ways * c->line_bytes);

		assert_int_equal(sets * c->ways * c->line_bytes, c->bytes);
		assert_true(sets <= 1 << 15 && c->ways <= 1 << 10);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ram_is_one_block),
		cmocka_unit_test(ram_past_the_address_width_is_refused),
		cmocka_unit_test(nodes_of_cpus_only_have_no_ram),
		cmocka_unit_test(machine_type_is_as_wide_as_ram_needs),
		cmocka_unit_test(furniture_is_at_the_end_of_ram),
		cmocka_unit_test(too_little_ram_is_said),
		cmocka_unit_test(slots_are_disjoint_and_interrupts_too),
		cmocka_unit_test(mpidr_is_unique_and_groups_by_cache),
		cmocka_unit_test(register_ids),
		cmocka_unit_test(root_of_a_ttbr),
		cmocka_unit_test(interrupt_numbers),
		cmocka_unit_test(cache_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
