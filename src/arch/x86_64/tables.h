/* What the writers of ACPI tables share: little-endian fields, and the frame of a table.
 * Private to src/arch/x86_64. Control thread. */
#ifndef STASIS_ARCH_X86_64_TABLES_H
#define STASIS_ARCH_X86_64_TABLES_H

#include "arch/x86_64/aml.h"
#include "arch/x86_64/machine.h"

struct tables_writer {
	struct aml out; /* all tables, one after another */
	struct acpi_tables *tables;
};

/* Writes a header (ACPI 6.5, 5.2.6); the length and the checksum are tables_end's, which takes
 * what this returns. */
size_t tables_begin(struct tables_writer *w, const char *signature, uint8_t revision);
void tables_end(struct tables_writer *w, size_t at);

static inline void put(struct aml *t, const void *data, size_t len)
{
	aml_bytes(t, data, len);
}

static inline void put8(struct aml *t, uint8_t v)
{
	put(t, &v, 1);
}

static inline void put16(struct aml *t, uint16_t v)
{
	put(t, &v, 2);
}

static inline void put32(struct aml *t, uint32_t v)
{
	put(t, &v, 4);
}

static inline void put64(struct aml *t, uint64_t v)
{
	put(t, &v, 8);
}

static inline void zeros(struct aml *t, size_t n)
{
	while (n-- > 0)
		put8(t, 0);
}

/* ---- tables_numa.c ------------------------------------------------------------------------- */

void tables_write_srat(struct tables_writer *w, const struct topology *t,
		       const struct guest_layout *layout);
void tables_write_slit(struct tables_writer *w, const struct topology *t);
/* How fast memory is: for shapes with topology_has_memory_figures. */
void tables_write_hmat(struct tables_writer *w, const struct topology *t);

#endif
