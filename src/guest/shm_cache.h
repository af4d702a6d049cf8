/* Compressed initramfs images kept in shared memory (/dev/shm), keyed by their contents, so that
 * the next VM neither compresses nor copies. Many processes at once; a crash leaves no lock.
 * Control thread. */
#ifndef STASIS_GUEST_SHM_CACHE_H
#define STASIS_GUEST_SHM_CACHE_H

#include "base/error.h"

/* A segment is the file stasis-UID-KEY:
 *
 *   | content, zeros up to a page | struct trailer, zeros up to a page |
 *
 * The trailer is written last: a segment without one is half-written, whoever wrote it. */
#define SHM_CACHE_DIR	"/dev/shm"
#define SHM_KEY_HEX_LEN 32

/* fd is open read-only and holds a shared flock for as long as it is open: no other process
 * removes the segment meanwhile. */
struct shm_segment {
	int fd;
	uint64_t len;	     /* bytes of content */
	uint64_t mapped_len; /* len rounded up to a page, the rest zero */
};

/* Finds the segment of key (hex digest of what goes in), or makes it: make() runs under an
 * exclusive lock and gives malloc'ed bytes. A half-written segment of a process that died is made
 * again. Segments that nobody holds and that were not used for a day, and half-written ones, are
 * removed on the way. Where the folder can't serve (full, not there, another user's file in the
 * way, another process at make() for long), the content comes in a private segment of the same
 * kind, so that failures are make()'s own or a shortage of memory. */
int shm_cache_get(const char *key,
		  int (*make)(void *arg, uint8_t **ret_data, size_t *ret_len, struct error *err),
		  void *arg, struct shm_segment *ret_segment, struct error *err) MUST_CHECK;
/* The same in another folder. */
int shm_cache_get_in(const char *dir, const char *key,
		     int (*make)(void *arg, uint8_t **ret_data, size_t *ret_len, struct error *err),
		     void *arg, struct shm_segment *ret_segment, struct error *err) MUST_CHECK;
void shm_segment_done(struct shm_segment *segment); /* accepts fd -1 */

/* A key that stands for contents without reading them: what each input file is (path, device,
 * inode, size, times, mode) and texts such as a version and the paths in the archive. Order and
 * borders count: "ab" "c" is not "a" "bc". */
struct shm_key {
	struct XXH3_state_s *state;
};
int shm_key_init(struct shm_key *key) MUST_CHECK; /* -ENOMEM */
void shm_key_text(struct shm_key *key, const char *text);
/* Follows links. A failure to look at path goes into err. */
int shm_key_file(struct shm_key *key, const char *path, struct error *err) MUST_CHECK;
void shm_key_bytes(struct shm_key *key, const void *data, size_t len);
/* Writes the digest and frees the state; hex is SHM_KEY_HEX_LEN + 1 bytes, or NULL to throw away.
 * Accepts a zeroed key. */
void shm_key_done(struct shm_key *key, char *hex);

#endif
