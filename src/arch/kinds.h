/* What every build knows of every architecture: its kernel files, and the lab's machine for it.
 * The table of architectures. Pure data, and functions that any thread may call. */
#ifndef STASIS_ARCH_KINDS_H
#define STASIS_ARCH_KINDS_H

#include "base/compiler.h"

#include <stdbool.h>

struct arch_kind {
	const char *name;   /* "x86_64", "aarch64": as uname -m says */
	const char *debian; /* "amd64", "arm64" */
	uint16_t elf_machine;

	/* Whether a file looks like a kernel of this architecture. Reads its first page. */
	bool (*kernel_fits)(const char *path);
	/* The release that an image says it is ("6.12.117+deb12-cloud-amd64"); malloc'ed, NULL if
	 * it doesn't say. Hostile file: bounded. */
	char *(*kernel_release)(const char *path);
	/* Where a kernel build tree keeps its image, most wanted first; NULL-terminated. */
	const char *const *kernel_in_tree;

	/* The emulator that the lab needs, and Debian's package of it; its machine and CPU options,
	 * NULL-terminated; old: for QEMU before 8. */
	const char *qemu, *qemu_package;
	const char *const *qemu_args, *const *qemu_args_old;
	/* What gives the lab's kernel its KVM, and its command line. */
	const char *const *lab_modules;
	const char *lab_cmdline;
	/* CPUs that the lab has for guests of up to lab_cpus_enough vCPUs; 0: as the host has. */
	unsigned lab_cpus, lab_cpus_enough;
};

/* The one that this program was built for. */
const struct arch_kind *arch_kind_own(void);
/* By either name; NULL: there is none. */
const struct arch_kind *arch_kind_find(const char *name);
/* Of the kernel in a file; NULL: it looks like none. Reads its first page. */
const struct arch_kind *arch_kind_of_kernel(const char *path);

extern const struct arch_kind arch_kind_x86_64, arch_kind_aarch64;

#endif
