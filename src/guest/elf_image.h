/* The few things that are read from ELF64 files: what the loader needs to know, and a section by
 * name. Every offset and size in the file is hostile. No state; any thread. */
#ifndef STASIS_GUEST_ELF_IMAGE_H
#define STASIS_GUEST_ELF_IMAGE_H

#include <stdbool.h>

#include "base/compiler.h"

#define ELF_NEEDED_MAX 1024

struct elf_image {
	uint16_t machine; /* EM_… */
	bool no_default;  /* DF_1_NODEFLIB */
	char *interp;	  /* these are malloc'ed, or NULL where the file has none */
	char *soname;
	char *rpath;
	char *runpath;
	char **needed;
	size_t needed_count;
};

/* -ENOEXEC: not a little-endian ELF64 file; -EBADMSG: a broken one; or another errno. Reads by
 * offset only, so that a file cut short meanwhile is an error and not a signal. */
int elf_image_read(int fd, struct elf_image *ret_image) MUST_CHECK;
void elf_image_done(struct elf_image *image); /* accepts a zeroed one */
/* Points *ret_data into data. -ENOENT if there is no such section; -ENOEXEC, -EBADMSG as above. */
int elf_image_section(const uint8_t *data, size_t len, const char *name, const uint8_t **ret_data,
		      size_t *ret_len) MUST_CHECK;
/* The machine that a file is for; 0 where it is no ELF64 file. */
uint16_t elf_image_machine_of(const char *path);
/* The machine that this program was built for. */
uint16_t elf_image_own_machine(void);

#endif
