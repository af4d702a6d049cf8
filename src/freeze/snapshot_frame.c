/* Frames of LZ4, by liblz4. */
#include "freeze/snapshot_frame.h"

#include <endian.h>
#include <errno.h>
#include <lz4frame.h>
#include <string.h>

#define SKIPPABLE 0x184D2A50u

static const LZ4F_preferences_t preferences = {
	.frameInfo =
		{
			.blockSizeID = LZ4F_max1MB,
			.blockMode = LZ4F_blockIndependent,
			.contentChecksumFlag = LZ4F_contentChecksumEnabled,
		},
};

void frame_skip_head(uint32_t len, uint8_t ret_head[FRAME_SKIP_LEN])
{
	const uint32_t head[2] = {htole32(SKIPPABLE), htole32(len)};

	memcpy(ret_head, head, FRAME_SKIP_LEN);
}

/* With its length, the head is no longer than without: the bound has room for the longest. */
size_t frame_bound(size_t len)
{
	return LZ4F_compressFrameBound(len, &preferences);
}

int frame_pack(const void *data, size_t len, uint8_t *frame, size_t *ret_stored)
{
	LZ4F_preferences_t p = preferences;
	size_t r;

	p.frameInfo.contentSize = len;
	r = LZ4F_compressFrame(frame, frame_bound(len), data, len, &p);
	if (LZ4F_isError(r))
		return -EIO;
	*ret_stored = r;
	return 0;
}

int frame_unpacker_new(struct frame_unpacker **ret_u)
{
	LZ4F_dctx *context;

	if (LZ4F_isError(LZ4F_createDecompressionContext(&context, LZ4F_VERSION)))
		return -ENOMEM;
	*ret_u = (struct frame_unpacker *)(void *)context;
	return 0;
}

void frame_unpacker_free(struct frame_unpacker *u)
{
	LZ4F_freeDecompressionContext((LZ4F_dctx *)(void *)u);
}

int frame_unpack(struct frame_unpacker *u, const uint8_t *frame, size_t stored, void *data,
		 size_t len)
{
	LZ4F_dctx *context = (LZ4F_dctx *)(void *)u;
	size_t from = 0, to = 0, hint = 1;

	LZ4F_resetDecompressionContext(context);
	while (hint != 0) {
		size_t in = stored - from, out = len - to;

		hint = LZ4F_decompress(context, (uint8_t *)data + to, &out, frame + from, &in,
				       NULL);
		if (LZ4F_isError(hint) || (hint != 0 && in == 0 && out == 0))
			return -EBADMSG;
		from += in;
		to += out;
	}
	return from == stored && to == len ? 0 : -EBADMSG;
}
