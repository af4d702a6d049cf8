/* The sections of a snapshot that are no device's: names and versions. */
#ifndef STASIS_VM_SNAPSHOT_NAMES_H
#define STASIS_VM_SNAPSHOT_NAMES_H

#include <stdio.h>

#include "freeze/snapshot_state.h"

#define SNAPSHOT_VM		 "vm"
#define SNAPSHOT_VM_VERSION	 1
#define SNAPSHOT_VCPU_VERSION	 1
#define SNAPSHOT_TABLE		 "memory" /* freeze/snapshot_table.h */
#define SNAPSHOT_TABLE_VERSION	 1
#define SNAPSHOT_SESSION	 "session"
#define SNAPSHOT_SESSION_VERSION 1

/* Returns name. */
static inline const char *snapshot_vcpu_name(unsigned index, char name[SNAPSHOT_NAME_MAX + 1])
{
	snprintf(name, SNAPSHOT_NAME_MAX + 1, "vcpu.%u", index);
	return name;
}

#endif
