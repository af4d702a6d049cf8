/* ACPI tables of a hardware-reduced machine (ACPI 6.5): RSDP, XSDT, FADT, MADT, DSDT; those of NUMA
 * are tables_numa.c's. Control thread.
 *
 *   | RSDP | DSDT | FADT | MADT | SRAT | SLIT | HMAT | XSDT |   each aligned to 16 bytes
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "arch/x86_64/machine.h"
#include "arch/x86_64/tables.h"
#include "base/text.h"
#include "base/util.h"

#define HEADER_LEN 36
#define OEM_ID	   "STASIS"
#define OEM_TABLE  "STASISVM"

#define FADT_LEN	 276 /* revision 6 */
#define FADT_WBINVD	 (1u << 0)
#define FADT_PWR_BUTTON	 (1u << 4) /* no fixed button */
#define FADT_SLP_BUTTON	 (1u << 5)
#define FADT_RESET_REG	 (1u << 10)
#define FADT_HW_REDUCED	 (1u << 20)
#define BOOT_NO_VGA	 (1u << 2)
#define BOOT_NO_CMOS_RTC (1u << 5)

/* ACPI 6.5, 5.2.3.2: generic address of an 8-bit port. */
static void put_port(struct aml *t, uint64_t port)
{
	put8(t, 1); /* system I/O */
	put8(t, 8);
	put8(t, 0);
	put8(t, 1); /* byte access */
	put64(t, port);
}

static uint8_t checksum(const uint8_t *data, size_t len)
{
	uint8_t sum = 0;

	while (len-- > 0)
		sum = (uint8_t)(sum + *data++);
	return (uint8_t)-sum;
}

/* ---- framing: every table is begun and ended the same way ------------------------------------ */

size_t tables_begin(struct tables_writer *w, const char *signature, uint8_t revision)
{
	struct acpi_table *table;
	size_t at;

	zeros(&w->out, ALIGN_UP(w->out.len, 16) - w->out.len);
	at = w->out.len;
	table = &w->tables->table[w->tables->count++];
	memcpy(table->signature, signature, 4);
	table->at = at;
	put(&w->out, signature, 4);
	put32(&w->out, 0); /* length: tables_end */
	put8(&w->out, revision);
	put8(&w->out, 0); /* checksum: tables_end */
	put(&w->out, OEM_ID, 6);
	put(&w->out, OEM_TABLE, 8);
	put32(&w->out, 1);
	put(&w->out, "STSS", 4);
	put32(&w->out, 1);
	return at;
}

void tables_end(struct tables_writer *w, size_t at)
{
	struct acpi_table *table = &w->tables->table[w->tables->count - 1];
	uint32_t len = (uint32_t)(w->out.len - at);

	table->len = len;
	if (w->out.failed)
		return;
	memcpy(w->out.data + at + 4, &len, sizeof(len));
	w->out.data[at + 9] = checksum(w->out.data + at, len);
}

/* ---- the tables --------------------------------------------------------------------------------
 */

static void write_fadt(struct tables_writer *w, uint64_t dsdt_gpa)
{
	size_t at = tables_begin(w, "FACP", 6);
	struct aml *t = &w->out;

	zeros(t, 109 - HEADER_LEN);
	put16(t, BOOT_NO_VGA | BOOT_NO_CMOS_RTC); /* IA-PC boot architecture, at 109 */
	put8(t, 0);
	put32(t,
	      FADT_WBINVD | FADT_PWR_BUTTON | FADT_SLP_BUTTON | FADT_RESET_REG | FADT_HW_REDUCED);
	put_port(t, POWER_PORT + 2); /* RESET_REG, at 116 */
	put8(t, ACPI_RESET_VALUE);
	put16(t, 0); /* ARM boot flags */
	put8(t, 5);  /* minor version */
	put64(t, 0); /* X_FIRMWARE_CTRL: none is needed here */
	put64(t, dsdt_gpa);
	zeros(t, 244 - 148);	     /* the fixed hardware's blocks */
	put_port(t, POWER_PORT);     /* SLEEP_CONTROL_REG */
	put_port(t, POWER_PORT + 1); /* SLEEP_STATUS_REG */
	zeros(t, FADT_LEN - 268);    /* hypervisor vendor id */
	tables_end(w, at);
}

/* A device's _CRS: ports, memory, an interrupt (edge, active high, exclusive). */
static void write_crs(struct aml *t, const struct arch_slot *slot)
{
	size_t crs = aml_buffer_begin(t, "_CRS");

	if (slot->space == BUS_PIO)
		aml_io(t, (uint16_t)slot->base, (uint8_t)slot->size);
	else
		aml_memory32(t, (uint32_t)slot->base, (uint32_t)slot->size);
	if (slot->gsi)
		aml_interrupt(t, slot->gsi);
	aml_buffer_end(t, crs);
}

/* Where the id is, and a generic event device (5.6.9) that says that it has changed. Drivers know
 * the first by its _CID; QEMU's _HID is none that ACPI allows (6.1.5). */
static void write_vmgenid(struct aml *t, const struct arch_slot *slot)
{
	size_t at = aml_device_begin(t, "VGEN"), crs;

	aml_name_string(t, "_HID", "STSS0001");
	aml_name_string(t, "_CID", "VM_Gen_Counter");
	aml_name_string(t, "_DDN", "VM_Gen_Counter");
	aml_name_address(t, "ADDR", slot->base);
	aml_end(t, at);
	at = aml_device_begin(t, "GED_");
	aml_name_string(t, "_HID", "ACPI0013");
	aml_name_integer(t, "_UID", 0);
	crs = aml_buffer_begin(t, "_CRS");
	aml_interrupt(t, slot->gsi);
	aml_buffer_end(t, crs);
	aml_method_notify(t, "_EVT", "VGEN", 0x80);
	aml_end(t, at);
}

static void write_device(struct aml *t, const struct arch_slot *slot, unsigned number)
{
	char name[5];
	size_t at;

	switch (slot->kind) {
	case ARCH_UART:
		snprintf(name, sizeof(name), "COM%u", number % 10);
		at = aml_device_begin(t, name);
		aml_name_eisaid(t, "_HID", "PNP0501");
		break;
	case ARCH_VIRTIO_MMIO:
		snprintf(name, sizeof(name), "VR%02u", number % 100);
		at = aml_device_begin(t, name);
		aml_name_string(t, "_HID", "LNRO0005");
		aml_name_integer(t, "_CCA", 1);
		break;
	case ARCH_PVPANIC:
		at = aml_device_begin(t, "PEVT");
		aml_name_string(t, "_HID", "QEMU0001");
		break;
	case ARCH_VMGENID:
		write_vmgenid(t, slot);
		return;
	default: /* no ACPI device: the FADT, or nothing, describes it */
		return;
	}
	aml_name_integer(t, "_UID", number);
	write_crs(t, slot);
	aml_end(t, at);
}

static void write_dsdt(struct tables_writer *w, const struct arch_slot *slots, size_t n)
{
	size_t at = tables_begin(w, "DSDT", 2), scope;
	unsigned numbers[8] = {0};

	aml_s5(&w->out, ACPI_SLP_TYP_S5);
	scope = aml_scope_begin(&w->out, "_SB_");
	for (size_t i = 0; i < n; i++)
		write_device(&w->out, &slots[i], numbers[slots[i].kind]++);
	aml_end(&w->out, scope);
	tables_end(w, at);
}

static void write_madt(struct tables_writer *w, const struct topology *t)
{
	size_t at = tables_begin(w, "APIC", 5);
	unsigned vcpus = topology_vcpus(t);
	struct aml *out = &w->out;
	bool x2apic = false;

	put32(out, LAPIC_GPA);
	put32(out, 0); /* no 8259 that the system would have to mask */
	for (unsigned i = 0; i < vcpus; i++) {
		uint32_t id = arch_vcpu_id(t, i);

		if (id <= XAPIC_LAST_ID && i <= XAPIC_LAST_ID) { /* 5.2.12.2 */
			put8(out, 0);
			put8(out, 8);
			put8(out, (uint8_t)i);
			put8(out, (uint8_t)id);
			put32(out, 1);
		} else { /* 5.2.12.12 */
			put8(out, 9);
			put8(out, 16);
			put16(out, 0);
			put32(out, id);
			put32(out, 1);
			put32(out, i);
			x2apic = true;
		}
	}
	put8(out, 1); /* 5.2.12.3: I/O APIC */
	put8(out, 12);
	put8(out, 0);
	put8(out, 0);
	put32(out, IOAPIC_GPA);
	put32(out, 0);
	put8(out, 4); /* 5.2.12.7: NMI on LINT1 of all */
	put8(out, 6);
	put8(out, 0xff);
	put16(out, 0);
	put8(out, 1);
	if (x2apic) { /* 5.2.12.13 */
		put8(out, 0xA);
		put8(out, 12);
		put16(out, 0);
		put32(out, UINT32_MAX);
		put8(out, 1);
		zeros(out, 3);
	}
	tables_end(w, at);
}

/* ACPI 6.5, 5.2.5.3. It comes first, and is filled in when the XSDT's place is known. */
static void write_rsdp(struct tables_writer *w, uint64_t xsdt_gpa)
{
	uint8_t rsdp[36] = "RSD PTR ";
	uint32_t len = sizeof(rsdp);

	memcpy(rsdp + 9, OEM_ID, 6);
	rsdp[15] = 2;
	memcpy(rsdp + 20, &len, sizeof(len));
	memcpy(rsdp + 24, &xsdt_gpa, sizeof(xsdt_gpa));
	rsdp[8] = checksum(rsdp, 20);
	rsdp[32] = checksum(rsdp, sizeof(rsdp));
	memcpy(w->out.data, rsdp, sizeof(rsdp));
}

static void write_xsdt(struct tables_writer *w, uint64_t gpa)
{
	unsigned n = w->tables->count;
	size_t at = tables_begin(w, "XSDT", 1);

	for (unsigned i = 0; i < n; i++) /* the DSDT hangs on the FADT */
		if (memcmp(w->tables->table[i].signature, "DSDT", 4))
			put64(&w->out, gpa + w->tables->table[i].at);
	tables_end(w, at);
}

int acpi_build(const struct topology *t, const struct guest_layout *layout,
	       const struct arch_slot *slots, size_t slot_count, uint64_t gpa,
	       struct acpi_tables *ret_tables, struct error *err)
{
	struct acpi_tables tables = {.gpa = gpa, .rsdp_gpa = gpa};
	struct tables_writer w = {.tables = &tables};

	zeros(&w.out, 36); /* the RSDP's place */
	write_dsdt(&w, slots, slot_count);
	write_fadt(&w, gpa + tables.table[0].at);
	write_madt(&w, t);
	if (t->nodes > 1 || topology_has_memory_figures(t)) {
		tables_write_srat(&w, t, layout);
		tables_write_slit(&w, t);
	}
	if (topology_has_memory_figures(t))
		tables_write_hmat(&w, t);
	write_xsdt(&w, gpa);
	if (w.out.failed) {
		free(w.out.data);
		return error_set(err, -ENOMEM, "writing the ACPI tables");
	}
	write_rsdp(&w, gpa + tables.table[tables.count - 1].at);
	tables.data = w.out.data;
	tables.len = w.out.len;
	*ret_tables = tables;
	return 0;
}

void acpi_done(struct acpi_tables *tables)
{
	free(tables->data);
	*tables = (struct acpi_tables){0};
}

static int write_file(const char *dir, const char *name, const uint8_t *data, size_t len)
{
	CLEANUP_FREE char *path = text_format("%s/%s.dat", dir, name);
	FILE *file = path ? fopen(path, "we") : NULL;
	size_t n;

	if (!file)
		return path ? -errno : -ENOMEM;
	n = fwrite(data, 1, len, file);
	return fclose(file) == EOF || n != len ? -EIO : 0;
}

const char arch_tables_option[] = "acpi";

int arch_tables_write(const struct topology *t, const struct arch_slot *slots, size_t slot_count,
		      const char *dir, struct error *err)
{
	struct guest_layout layout;
	struct acpi_tables tables;
	int r = arch_memory_layout(t, 52, &layout, err);

	if (r == 0)
		r = acpi_build(t, &layout, slots, slot_count, ACPI_GPA, &tables, err);
	if (r < 0)
		return r;
	r = dir_make(dir, 0777);
	for (unsigned i = 0; r == 0 && i < tables.count; i++)
		r = write_file(dir, tables.table[i].signature, tables.data + tables.table[i].at,
			       tables.table[i].len);
	acpi_done(&tables);
	return r < 0 ? error_set(err, r, "writing the tables to %s", dir) : 0;
}
