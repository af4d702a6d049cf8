/* A machine without KVM for the loaders: guest memory and a shape. Tests only. */
#ifndef STASIS_TESTS_ARCH_MACHINE_FAKE_H
#define STASIS_TESTS_ARCH_MACHINE_FAKE_H

#include "arch/x86_64/machine.h"

struct machine_fake {
	struct topology topology;
	struct guest_memory mem;
	struct arch_vm vm;
	struct arch_slot slot[8];
	size_t slot_count;
};

/* Asserts that all of it works. spec is a topology. */
void machine_fake_init(struct machine_fake *m, const char *spec, uint64_t bytes);
void machine_fake_done(struct machine_fake *m);

#endif
