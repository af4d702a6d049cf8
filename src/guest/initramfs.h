/* Writes newc cpio archives (Documentation/driver-api/early-userspace/buffer-format.rst) and
 * packs them as an LZ4 legacy frame, which is what the kernel unpacks. Control thread. */
#ifndef STASIS_GUEST_INITRAMFS_H
#define STASIS_GUEST_INITRAMFS_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

/* Archive and content together; more is a usage error. A file of 4 GiB or more is one too: newc
 * has 32 bits for its size. */
#define INITRAMFS_MAX_BYTES (GIB(4) - KIB(4))

/* A growing archive. Parents of a path are made on the way (0755); a path added twice keeps the
 * later one, as the kernel does. Paths may begin with slashes and are free of "..". A path through
 * a link that this archive has lands where the link points; a folder added over a link leaves the
 * link. All owners are root and all times 0, so equal input gives equal bytes.
 *
 * Two archives may follow one another in memory (a cached, compressed one and a plain one): the
 * second must start at a multiple of 4 and have only zeros before it, of which a frame needs four
 * and brings them along. It doesn't know the first one's links: a folder in the second replaces a
 * link of the first, so the first should have real folders wherever the second adds files. */
struct initramfs {
	uint8_t *data; /* malloc'ed */
	size_t len, cap;
	uint32_t next_ino;
	uint16_t machine; /* EM_… of the programs in it; 0: this program's. Set after _init */
	struct initramfs_dirs *dirs; /* which folders the archive has already */
};

int initramfs_init(struct initramfs *fs) MUST_CHECK;
void initramfs_done(struct initramfs *fs); /* accepts a zeroed one */

int initramfs_dir(struct initramfs *fs, const char *path, mode_t mode,
		  struct error *err) MUST_CHECK;
int initramfs_file(struct initramfs *fs, const char *path, mode_t mode, const void *data,
		   size_t len, struct error *err) MUST_CHECK;
int initramfs_link(struct initramfs *fs, const char *path, const char *target,
		   struct error *err) MUST_CHECK;
int initramfs_device(struct initramfs *fs, const char *path, mode_t mode, unsigned major,
		     unsigned minor, struct error *err) MUST_CHECK;
/* A host file or folder at path. Inside a folder, symbolic links are kept, modes too, hard links
 * become copies, and devices, pipes and sockets are left out. At its top a link is followed; where
 * path is host_path itself, the file goes to its real path and path becomes a link to it, so that
 * $ORIGIN and argv[0] mean what they mean on the host. With libraries, an ELF file or script
 * brings its closure (elf_closure); inside a folder only ELF files do, and one whose libraries
 * aren't there is logged and kept. */
int initramfs_add_host(struct initramfs *fs, const char *path, const char *host_path,
		       bool libraries, struct error *err) MUST_CHECK;
/* Whether path has been added. */
bool initramfs_has(const struct initramfs *fs, const char *path);
/* Writes the trailer and pads to 512 bytes. Nothing can be added afterwards. */
int initramfs_finish(struct initramfs *fs, struct error *err) MUST_CHECK;
/* The archive as one LZ4 legacy frame, its length a multiple of 4 and its last four bytes zero, so
 * that zeros and another archive can follow; *ret_data is malloc'ed. */
int initramfs_compress(const struct initramfs *fs, uint8_t **ret_data, size_t *ret_len,
		       struct error *err) MUST_CHECK;

/* For src/guest's own use: room for more bytes at data + len; path with this archive's links
 * followed, the last component's too if follow_last says so. */
int initramfs_reserve(struct initramfs *fs, size_t more, struct error *err) MUST_CHECK;
int initramfs_resolve(const struct initramfs *fs, const char *path, bool follow_last,
		      char ret_path[PATH_MAX], struct error *err) MUST_CHECK;

#endif
