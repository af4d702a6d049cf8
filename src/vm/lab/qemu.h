/* QEMU as the lab's machine: started with its ports connected to us, and never outliving us.
 * Keeper, or who runs a command of its own in one (bench/). */
#ifndef STASIS_VM_LAB_QEMU_H
#define STASIS_VM_LAB_QEMU_H

#include <sys/types.h>

#include "vm/lab/lab.h"

struct lab_qemu {
	pid_t pid; /* 0: none */
	/* Our ends: init's control port, the command's standard input, output and error, the serial
	 * console. Non-blocking, or -1. */
	int control_fd, in_fd, out_fd, err_fd, console_fd;
};

/* Whether there is an emulator, and a stasis to run in it: contention, with what to install. */
int lab_qemu_check(const struct arch_kind *kind, struct error *err) MUST_CHECK;
/* Builds L1's initramfs and starts the emulator. A missing or too old one is contention. */
int lab_qemu_start(const struct lab_machine *machine, struct lab_qemu *ret_qemu,
		   struct error *err) MUST_CHECK;
/* Kills it and waits. Accepts a zeroed one with descriptors of -1. */
void lab_qemu_stop(struct lab_qemu *qemu);

#endif
