/* Guest memory as a frame of LZ4 by itself, as lz4(1) reads it (lz4_Frame_format.md, 1.6), with the
 * length and a checksum of its content. Any thread. What is unpacked is hostile. */
#ifndef STASIS_FREEZE_SNAPSHOT_FRAME_H
#define STASIS_FREEZE_SNAPSHOT_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

/* A frame that readers skip: its magic and length, before FRAME_ID_LEN bytes of anything. */
#define FRAME_SKIP_LEN 8
void frame_skip_head(uint32_t len, uint8_t ret_head[FRAME_SKIP_LEN]);

/* The most that len bytes can become. */
size_t frame_bound(size_t len);
/* *ret_stored: its bytes in frame, which has room for frame_bound(len). -EIO. */
int frame_pack(const void *data, size_t len, uint8_t *frame, size_t *ret_stored) MUST_CHECK;

struct frame_unpacker;						  /* opaque; of one thread */
int frame_unpacker_new(struct frame_unpacker **ret_u) MUST_CHECK; /* -ENOMEM */
void frame_unpacker_free(struct frame_unpacker *u);		  /* accepts NULL */
/* One frame that has exactly len bytes, and ends where stored does. -EBADMSG: it is none such; what
 * is in data then is not said. */
int frame_unpack(struct frame_unpacker *u, const uint8_t *frame, size_t stored, void *data,
		 size_t len) MUST_CHECK;

#endif
