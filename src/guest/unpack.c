/* One growing output for three decompressors. Any thread. */
#include "guest/unpack.h"

#include <errno.h>
#include <limits.h>
#include <lzma.h>
#include <stdbool.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

/* Dictionaries beyond this aren't used by anything that a kernel could read. */
#define XZ_MEMORY_MAX	MIB(256)
#define ZSTD_WINDOW_MAX 27 /* log2; 128 MiB */

struct output {
	uint8_t *data;
	size_t len, cap, max;
};

/* Makes room for more when full. One byte above max shows that there is too much. */
static int output_room(struct output *o)
{
	size_t cap;
	uint8_t *data;

	if (o->len < o->cap)
		return 0;
	if (o->cap > o->max)
		return -EFBIG;
	cap = MIN(MAX(o->cap * 2, KIB(64)), o->max + 1);
	data = realloc(o->data, cap);
	if (!data)
		return -ENOMEM;
	o->data = data;
	o->cap = cap;
	return 0;
}

/* r: how it went. Hands the output over or frees it. */
static int output_end(struct output *o, int r, uint8_t **ret_data, size_t *ret_len)
{
	if (r == 0 && o->len > o->max)
		r = -EFBIG;
	if (r < 0) {
		free(o->data);
		return r;
	}
	*ret_data = o->data;
	*ret_len = o->len;
	return 0;
}

int unpack_gzip(const uint8_t *data, size_t len, size_t max, uint8_t **ret_data, size_t *ret_len)
{
	struct output o = {.max = max};
	z_stream z = {0};
	int r = 0, state = Z_OK;

	if (len > UINT_MAX || max >= UINT_MAX)
		return -EFBIG;
	/* 16: a gzip header. */
	if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
		return -ENOMEM;
	z.next_in = (Bytef *)data; /* zlib lacks the const and doesn't write */
	z.avail_in = (uInt)len;
	while (state != Z_STREAM_END) {
		r = output_room(&o);
		if (r < 0)
			break;
		z.next_out = o.data + o.len;
		z.avail_out = (uInt)(o.cap - o.len);
		state = inflate(&z, Z_NO_FLUSH);
		o.len = o.cap - z.avail_out;
		if (state != Z_OK && state != Z_STREAM_END) {
			r = state == Z_MEM_ERROR ? -ENOMEM : -EBADMSG;
			break;
		}
	}
	inflateEnd(&z);
	return output_end(&o, r, ret_data, ret_len);
}

int unpack_xz(const uint8_t *data, size_t len, size_t max, uint8_t **ret_data, size_t *ret_len)
{
	struct output o = {.max = max};
	lzma_stream s = LZMA_STREAM_INIT;
	lzma_ret state = LZMA_OK;
	int r = 0;

	if (max == SIZE_MAX)
		return -EFBIG;
	if (lzma_stream_decoder(&s, XZ_MEMORY_MAX, LZMA_CONCATENATED) != LZMA_OK)
		return -ENOMEM;
	s.next_in = data;
	s.avail_in = len;
	while (state != LZMA_STREAM_END) {
		r = output_room(&o);
		if (r < 0)
			break;
		s.next_out = o.data + o.len;
		s.avail_out = o.cap - o.len;
		state = lzma_code(&s, LZMA_FINISH);
		o.len = o.cap - s.avail_out;
		if (state != LZMA_OK && state != LZMA_STREAM_END) {
			r = state == LZMA_MEM_ERROR ? -ENOMEM : -EBADMSG;
			break;
		}
	}
	lzma_end(&s);
	return output_end(&o, r, ret_data, ret_len);
}

int unpack_zstd(const uint8_t *data, size_t len, size_t max, uint8_t **ret_data, size_t *ret_len)
{
	struct output o = {.max = max};
	ZSTD_inBuffer in = {.src = data, .size = len};
	ZSTD_DCtx *z = ZSTD_createDCtx();
	size_t state = 1;
	int r = 0;

	if (!z)
		return -ENOMEM;
	if (max == SIZE_MAX ||
	    ZSTD_isError(ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, ZSTD_WINDOW_MAX)))
		r = -EFBIG;
	/* state 0: a frame has ended and all of it is out; another may follow. */
	while (r == 0 && (state != 0 || in.pos < in.size)) {
		ZSTD_outBuffer out;
		size_t before = in.pos;

		r = output_room(&o);
		if (r < 0)
			break;
		out = (ZSTD_outBuffer){.dst = o.data, .size = o.cap, .pos = o.len};
		state = ZSTD_decompressStream(z, &out, &in);
		if (ZSTD_isError(state) || (in.pos == before && out.pos == o.len))
			r = -EBADMSG;
		o.len = out.pos;
	}
	ZSTD_freeDCtx(z);
	return output_end(&o, r, ret_data, ret_len);
}
