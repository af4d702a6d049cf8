/* What lies under a disk: a raw file or a block device, open and held against other users. It does
 * no I/O by itself, see block_io.h. Control thread. */
#ifndef STASIS_DEVICES_BLOCK_FILE_H
#define STASIS_DEVICES_BLOCK_FILE_H

#include <stdbool.h>

#include "base/error.h"

#define BLOCK_SECTOR 512 /* bytes: the unit of virtio-blk's sector numbers (virtio 1.2, 5.2) */

struct block_spec {
	const char *path;
	bool read_only;
	bool direct; /* O_DIRECT: past the host's page cache */
};

struct block_file {
	int fd; /* owned; close-on-exec */
	bool read_only, direct;
	uint64_t bytes;		 /* its size when it was opened; a multiple of block_bytes */
	uint32_t block_bytes;	 /* I/O is in multiples of this; a power of two, 512 or more */
	uint32_t memory_align;	 /* of buffers and the parts of one transfer; 1: any will do */
	uint32_t physical_bytes; /* what the host writes at once; block_bytes or more */
	uint32_t optimal_bytes;	 /* a good size of one transfer; 0: unknown */
};

/* Opens and locks: many readers or one writer among all who use flock(2); a block device that is
 * to be written must be in no other use (O_EXCL). What the person can mend (not there, a folder,
 * no permission, not whole sectors, a format with a header, no direct I/O here) is a usage error
 * that begins with the path; one that is in use is contention. */
int block_file_open(const struct block_spec *spec, struct block_file *ret_file,
		    struct error *err) MUST_CHECK;
/* The same checks but for the lock; leaves nothing open. *ret_bytes is the size; may be NULL. */
int block_file_check(const struct block_spec *spec, uint64_t *ret_bytes,
		     struct error *err) MUST_CHECK;
void block_file_close(struct block_file *file); /* accepts one that isn't open (fd -1) */

#endif
