/* A writer of AML (ACPI 6.5, 20): just what a DSDT of simple devices needs. Appends to a growing
 * buffer; a failure to grow is kept and makes everything after it do nothing. Control thread. */
#ifndef STASIS_ARCH_X86_64_AML_H
#define STASIS_ARCH_X86_64_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aml {
	uint8_t *data; /* owned by the user, who frees it */
	size_t len, cap;
	bool failed; /* out of memory */
};

void aml_bytes(struct aml *a, const void *data, size_t len);

/* Each begin gives a mark for its end. Names have four characters, or a '\\' before them. */
size_t aml_scope_begin(struct aml *a, const char *name);
size_t aml_device_begin(struct aml *a, const char *name);
void aml_end(struct aml *a, size_t mark);

void aml_name_string(struct aml *a, const char *name, const char *value);
void aml_name_integer(struct aml *a, const char *name, uint32_t value);
void aml_name_eisaid(struct aml *a, const char *name, const char *id);
/* Name(_S5_, Package(){type, type, 0, 0}) */
void aml_s5(struct aml *a, uint8_t sleep_type);

/* Name(name, Package(){gpa's low half, its high half}) */
void aml_name_address(struct aml *a, const char *name, uint64_t gpa);
/* Method(name, 1, Serialized){Notify(device, value)} */
void aml_method_notify(struct aml *a, const char *name, const char *device, uint8_t value);

/* Name(name, ResourceTemplate(){…}) around resource descriptors (ACPI 6.5, 6.4). */
size_t aml_buffer_begin(struct aml *a, const char *name);
void aml_io(struct aml *a, uint16_t port, uint8_t len);
void aml_memory32(struct aml *a, uint32_t base, uint32_t len);
/* Edge, active high, exclusive, consumer. */
void aml_interrupt(struct aml *a, uint32_t gsi);
void aml_buffer_end(struct aml *a, size_t mark);

#endif
