/* The emulator: which one there is, and how it is started. One process per lab; it dies with the
 * thread that started it. */
#ifndef STASIS_VM_LAB_QEMU_H
#define STASIS_VM_LAB_QEMU_H

#include <sys/types.h>

#include "base/error.h"

#define QEMU_GOOD   8 /* major version from which data watchpoints fire, and no flags are needed */
#define QEMU_OLDEST 7

struct qemu_config {
	unsigned version;   /* major */
	const char *kernel; /* absolute */
	int initrd_fd;	    /* borrowed */
	uint64_t memory_bytes;
};

/* A running machine, or what stands for one in a test. The descriptors are ours, -1 where there
 * is none. */
struct qemu {
	pid_t pid;
	int control, in, out, err; /* the ports of guest/session_protocol.h: in is what we write */
	int serial, messages;	   /* the console's output; the emulator's own words */
};
#define QEMU_NONE                                                                                  \
	{                                                                                          \
		.control = -1, .in = -1, .out = -1, .err = -1, .serial = -1, .messages = -1        \
	}

/* The major version of this architecture's emulator. Contention, with the package's name, where it
 * lacks or is too old. */
int qemu_find(unsigned *ret_version, struct error *err) MUST_CHECK;
/* asked, or where that is 0 what this host can spare. */
int qemu_memory(uint64_t asked, uint64_t *ret_bytes, struct error *err) MUST_CHECK;
int qemu_start(const struct qemu_config *config, struct qemu *ret_qemu,
	       struct error *err) MUST_CHECK;
/* Ends it at once: it holds nothing that is worth keeping. Accepts QEMU_NONE. */
void qemu_stop(struct qemu *q);

#endif
