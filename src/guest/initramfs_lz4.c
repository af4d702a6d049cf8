/* Packs an archive the way lib/decompress_unlz4.c unpacks it. Control thread.
 *
 *   0x184C2102, { u32 size, block of that size }…, 0, zeros up to a multiple of 4
 *
 * Each block holds 8 MiB of the archive, the last one less. All numbers are little-endian. */
#include <endian.h>
#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>

#include "guest/initramfs.h"

#define LEGACY_MAGIC 0x184C2102u
#define BLOCK_SIZE   MIB(8)

static void put_le32(uint8_t *at, uint32_t v)
{
	v = htole32(v);
	memcpy(at, &v, sizeof(v));
}

/* The plain compressor, not HC: on a base archive of busybox and modules it takes about a
 * tenth of HC's time for an output about a fifth larger, and the kernel unpacks both equally
 * fast; the whole cost is at our start. */
int initramfs_compress(const struct initramfs *fs, uint8_t **ret_data, size_t *ret_len,
		       struct error *err)
{
	size_t blocks = (fs->len + BLOCK_SIZE - 1) / BLOCK_SIZE, bound, at = 4;
	uint8_t *out, *fitted;

	bound = 4 + blocks * (4 + (size_t)LZ4_COMPRESSBOUND(BLOCK_SIZE)) + 8;
	out = malloc(bound);
	if (!out)
		return error_set_shortage(err, -ENOMEM, "compressing the initramfs");
	put_le32(out, LEGACY_MAGIC);
	for (size_t from = 0; from < fs->len; from += BLOCK_SIZE) {
		size_t n = MIN(fs->len - from, BLOCK_SIZE);
		size_t room = MIN(bound - at - 4, (size_t)LZ4_COMPRESSBOUND(BLOCK_SIZE));
		int size = LZ4_compress_default((const char *)fs->data + from, (char *)out + at + 4,
						(int)n, (int)room);

		if (size <= 0) {
			free(out);
			return error_set(err, -EIO, "compressing the initramfs");
		}
		put_le32(out + at, (uint32_t)size);
		at += 4 + (size_t)size;
	}
	/* A block of size 0 ends the frame, whatever follows. */
	put_le32(out + at, 0);
	at += 4;
	while (at % 4)
		out[at++] = 0;
	fitted = realloc(out, at);
	*ret_data = fitted ? fitted : out;
	*ret_len = at;
	return 0;
}
