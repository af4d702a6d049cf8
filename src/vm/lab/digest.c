/* XXH3 of files and bytes. Any thread. */
#include "vm/lab/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/util.h"

#define CHUNK (1u << 18)

static void give(XXH128_hash_t value, uint8_t *hash)
{
	XXH128_canonical_t canonical;

	XXH128_canonicalFromHash(&canonical, value);
	memcpy(hash, canonical.digest, MESSAGE_HASH);
}

void digest_to_hex(const uint8_t hash[MESSAGE_HASH], char hex[DIGEST_HEX])
{
	for (unsigned i = 0; i < MESSAGE_HASH; i++)
		snprintf(hex + 2 * i, 3, "%02x", hash[i]);
}

static int nibble(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int digest_from_hex(const char *hex, uint8_t hash[MESSAGE_HASH])
{
	for (unsigned i = 0; i < MESSAGE_HASH; i++) {
		int high = nibble(hex[2 * i]), low = high < 0 ? -1 : nibble(hex[2 * i + 1]);

		if (low < 0)
			return -EINVAL;
		hash[i] = (uint8_t)(high << 4 | low);
	}
	return hex[2 * MESSAGE_HASH] ? -EINVAL : 0;
}

int digest_fd(int fd, uint8_t hash[MESSAGE_HASH], uint64_t *ret_size)
{
	CLEANUP_FREE uint8_t *chunk = malloc(CHUNK);
	XXH3_state_t *state = XXH3_createState();
	uint64_t size = 0;
	int r = chunk && state ? 0 : -ENOMEM;

	if (r == 0)
		XXH3_128bits_reset(state);
	while (r == 0) {
		ssize_t n = pread(fd, chunk, CHUNK, (off_t)size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			r = n < 0 ? -errno : 0;
			break;
		}
		XXH3_128bits_update(state, chunk, (size_t)n);
		size += (uint64_t)n;
	}
	if (r == 0) {
		give(XXH3_128bits_digest(state), hash);
		*ret_size = size;
	}
	XXH3_freeState(state);
	return r;
}

int digest_self(uint8_t hash[MESSAGE_HASH], struct error *err)
{
	CLEANUP_FD int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	uint64_t size;
	int r = fd < 0 ? -errno : digest_fd(fd, hash, &size);

	return r < 0 ? error_set(err, r, "reading this program") : 0;
}
