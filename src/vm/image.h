/* The initramfs of a run, in two parts: a base that many runs share (init, busybox, modules;
 * LZ4, kept in shared memory) and a tail of this run's own (COMMAND, its libraries, what
 * --include names). Control thread.
 *
 *   initrd   |<- base: LZ4 legacy frame ->|<- zeros to a page ->|<- tail: newc cpio ->|
 */
#ifndef STASIS_VM_IMAGE_H
#define STASIS_VM_IMAGE_H

#include "guest/memory.h"
#include "guest/shm_cache.h"
#include "vm/config.h"

struct image {
	struct shm_segment base; /* fd -1: none */
	uint8_t *tail;		 /* owned */
	size_t tail_len;
};

/* Builds both parts for config; with config->initrd, the file is the tail and there is no base. */
int image_build(const struct vm_config *config, struct image *ret_image,
		struct error *err) MUST_CHECK;
/* Bytes of guest memory that it takes. */
uint64_t image_len(const struct image *image);
/* Puts it at gpa (page-aligned, room for image_len): base mapped copy-on-write, tail copied. */
int image_place(const struct image *image, struct guest_memory *mem, uint64_t gpa,
		struct error *err) MUST_CHECK;
/* The same bytes as one file, for a stasis that runs elsewhere (the lab). */
int image_write(const struct image *image, int fd, struct error *err) MUST_CHECK;
void image_done(struct image *image); /* accepts a zeroed one with base.fd -1 */

#endif
