/* Compressed initramfs images kept in shared memory (/dev/shm), keyed by their contents, so that
 * the next VM neither compresses nor copies. Many processes at once; a crash leaves no lock.
 * Control thread. */
#ifndef STASIS_GUEST_SHM_CACHE_H
#define STASIS_GUEST_SHM_CACHE_H

#include "base/error.h"

/* fd is open read-only and holds a shared flock for as long as it is open: no other process
 * removes the segment meanwhile. */
struct shm_segment {
	int fd;
	uint64_t len;        /* bytes of content */
	uint64_t mapped_len; /* len rounded up to a page, the rest zero */
};

/* Finds the segment of key (hex digest of what goes in), or makes it: make() runs under an
 * exclusive lock and gives malloc'ed bytes. A half-written segment of a process that died is made
 * again. Segments that nobody holds and that were not used for a day are removed on the way. */
int shm_cache_get(const char *key, int (*make)(void *arg, uint8_t **ret_data, size_t *ret_len,
		  struct error *err), void *arg, struct shm_segment *ret_segment,
		  struct error *err) MUST_CHECK;
void shm_segment_done(struct shm_segment *segment); /* accepts fd -1 */

#endif
