/* A machine without KVM for the loaders. */
#include "machine_fake.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "devices/legacy.h"

/* The tables tell the guest what the device takes. */
_Static_assert(ACPI_SLP_TYP_S5 == POWER_SLP_TYP_S5, "sleep type");
_Static_assert(ACPI_RESET_VALUE == POWER_RESET_VALUE, "reset value");

static void add_slot(struct machine_fake *m, enum arch_device kind, unsigned index)
{
	assert_true(m->slot_count < ARRAY_SIZE(m->slot));
	assert_int_equal(arch_slot(&m->topology, kind, index, &m->slot[m->slot_count++]), 0);
}

void machine_fake_init(struct machine_fake *m, const char *spec, uint64_t bytes)
{
	struct guest_layout layout;

	*m = (struct machine_fake){0};
	assert_int_equal(topology_parse(spec, &m->topology, NULL), 0);
	if (topology_set_memory(&m->topology, bytes, NULL) < 0)
		m->topology.node[0].memory_bytes = bytes;
	assert_int_equal(arch_memory_layout(&m->topology, 46, &layout, NULL), 0);
	assert_int_equal(guest_memory_init(&m->mem, &layout, NULL), 0);
	m->vm = (struct arch_vm){.mem = &m->mem, .topology = &m->topology};
	add_slot(m, ARCH_UART, 0);
	add_slot(m, ARCH_UART, 1);
	add_slot(m, ARCH_I8042, 0);
	add_slot(m, ARCH_POWER, 0);
	add_slot(m, ARCH_PVPANIC, 0);
	add_slot(m, ARCH_VMGENID, 0);
	add_slot(m, ARCH_VIRTIO_MMIO, 0);
	add_slot(m, ARCH_VIRTIO_MMIO, 1);
}

void machine_fake_done(struct machine_fake *m)
{
	guest_memory_done(&m->mem);
}
