/* gzip, xz and zstd in memory, to a bounded size. Any thread. */
#ifndef STASIS_GUEST_UNPACK_H
#define STASIS_GUEST_UNPACK_H

#include "base/compiler.h"

/* *ret_data is malloc'ed. -EBADMSG for broken or cut data, -EFBIG above max, -ENOMEM. */
int unpack_gzip(const uint8_t *data, size_t len, size_t max, uint8_t **ret_data,
		size_t *ret_len) MUST_CHECK;
int unpack_xz(const uint8_t *data, size_t len, size_t max, uint8_t **ret_data,
	      size_t *ret_len) MUST_CHECK;
int unpack_zstd(const uint8_t *data, size_t len, size_t max, uint8_t **ret_data,
		size_t *ret_len) MUST_CHECK;

#endif
