/* Whatever a device asks of the loop, the kernel or the allocator, failing by count, for tests
 * linked with --wrap (see meson.build). Only what happens inside of a turn, a notification, a write
 * of the status or a quiesce counts: the test's own calls are left alone. */
#ifndef STASIS_TESTS_DEVICE_FAULTS_H
#define STASIS_TESTS_DEVICE_FAULTS_H

#include <stdbool.h>

#include "base/compiler.h"

enum device_fault_kind {
	DEVICE_FAULT_NONE,
	DEVICE_FAULT_REFUSE, /* the loop takes it not; as FAIL elsewhere */
	DEVICE_FAULT_FAIL,   /* it ends with the error */
	DEVICE_FAULT_SHORT,  /* a transfer moves less than it might */
};

struct device_faults {
	enum device_fault_kind kind;
	int error;	/* an errno */
	unsigned at;	/* 0 is the next */
	unsigned calls; /* so far */
	bool struck;
	bool lost_timer; /* only a notification goes on after that */
};
extern struct device_faults device_faults;

void device_faults_set(enum device_fault_kind kind, int error, unsigned at);

#endif
