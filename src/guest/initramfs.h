/* Writes newc cpio archives (Documentation/driver-api/early-userspace/buffer-format.rst) and
 * packs them as an LZ4 legacy frame, which is what the kernel unpacks. Control thread. */
#ifndef STASIS_GUEST_INITRAMFS_H
#define STASIS_GUEST_INITRAMFS_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

/* A growing archive. Parents of a path are made on the way (0755); a path added twice keeps the
 * later one, as the kernel does. Names are relative, without "..". */
struct initramfs {
	uint8_t *data; /* malloc'ed */
	size_t len, cap;
	uint32_t next_ino;
	struct initramfs_dirs *dirs; /* which folders the archive has already */
};

int initramfs_init(struct initramfs *fs) MUST_CHECK;
void initramfs_done(struct initramfs *fs); /* accepts a zeroed one */

int initramfs_dir(struct initramfs *fs, const char *path, mode_t mode, struct error *err) MUST_CHECK;
int initramfs_file(struct initramfs *fs, const char *path, mode_t mode, const void *data,
		   size_t len, struct error *err) MUST_CHECK;
int initramfs_link(struct initramfs *fs, const char *path, const char *target,
		   struct error *err) MUST_CHECK;
int initramfs_device(struct initramfs *fs, const char *path, mode_t mode, unsigned major,
		     unsigned minor, struct error *err) MUST_CHECK;
/* A host file or folder (symbolic links kept as links inside a folder, followed at its top) at
 * path. With libraries, each ELF file brings its closure (elf_closure). */
int initramfs_add_host(struct initramfs *fs, const char *path, const char *host_path,
		       bool libraries, struct error *err) MUST_CHECK;
/* Writes the trailer and pads to 512 bytes. Nothing can be added afterwards. */
int initramfs_finish(struct initramfs *fs, struct error *err) MUST_CHECK;
/* The archive as one LZ4 legacy frame; *ret_data is malloc'ed. */
int initramfs_compress(const struct initramfs *fs, uint8_t **ret_data, size_t *ret_len,
		       struct error *err) MUST_CHECK;

#endif
