/* A guest's and a KVM's side of the IOAPIC, for its tests. One thread. */
#ifndef STASIS_TESTS_IOAPIC_GUEST_H
#define STASIS_TESTS_IOAPIC_GUEST_H

#include <errno.h>

#include "devices/ioapic.h"

#define BASE	   0xfec00000u
#define IOREGSEL   0x00
#define IOWIN	   0x10
#define EOI	   0x40
#define LOW(pin)   (0x10u + 2 * (pin))
#define HIGH(pin)  (0x11u + 2 * (pin))
#define MASKED	   0x10000u
#define LEVEL	   0x8000u
#define REMOTE_IRR 0x4000u
#define STATUS	   0x1000u

struct guest {
	struct bus bus;
	struct ioapic_ops ops;
	struct ioapic io;
	/* What stands for KVM. */
	int fail;		   /* of the next installs; 0: they succeed */
	int taken;		   /* what msi returns */
	unsigned attempts, halves; /* calls of install and half_written */
	unsigned sent;		   /* calls of msi */
	struct ioapic_route last;  /* … the last message */
	struct ioapic_route table[IOAPIC_PINS];
	unsigned count;
};

/* The window on a bus at BASE; messages are taken, installs succeed. */
void guest_open(struct guest *g);
void guest_close(struct guest *g);
uint32_t guest_in(struct guest *g, unsigned offset);
void guest_out(struct guest *g, unsigned offset, uint32_t v);
/* Selects reg, then reads or writes the window. */
uint32_t guest_get(struct guest *g, unsigned reg);
void guest_put(struct guest *g, unsigned reg, uint32_t v);
/* High, then low: as Linux writes an entry. */
void guest_program(struct guest *g, unsigned pin, uint32_t high, uint32_t low);
/* Unmasked, level, fixed, physical. */
void guest_level(struct guest *g, unsigned pin, uint8_t vector, uint8_t dest);

#endif
