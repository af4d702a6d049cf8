/* Digests that name segments. Control thread. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "guest/shm_cache.h"

/* Each item starts with its kind and length, so that borders count. */
static void add(struct shm_key *key, char kind, const void *data, uint64_t len)
{
	XXH3_128bits_update(key->state, &kind, sizeof(kind));
	XXH3_128bits_update(key->state, &len, sizeof(len));
	XXH3_128bits_update(key->state, data, (size_t)len);
}

int shm_key_init(struct shm_key *key)
{
	key->state = XXH3_createState();
	if (!key->state)
		return -ENOMEM;
	XXH3_128bits_reset(key->state);
	return 0;
}

void shm_key_text(struct shm_key *key, const char *text)
{
	add(key, 't', text, strlen(text));
}

void shm_key_bytes(struct shm_key *key, const void *data, size_t len)
{
	add(key, 'b', data, len);
}

int shm_key_file(struct shm_key *key, const char *path, struct error *err)
{
	struct stat st;
	uint64_t facts[8];

	if (stat(path, &st) < 0)
		return error_set(err, -errno, "looking at %s", path);
	facts[0] = st.st_dev;
	facts[1] = st.st_ino;
	facts[2] = (uint64_t)st.st_size;
	facts[3] = (uint64_t)st.st_mtim.tv_sec;
	facts[4] = (uint64_t)st.st_mtim.tv_nsec;
	facts[5] = (uint64_t)st.st_ctim.tv_sec;
	facts[6] = (uint64_t)st.st_ctim.tv_nsec;
	facts[7] = st.st_mode;
	add(key, 'p', path, strlen(path));
	add(key, 'f', facts, sizeof(facts));
	return 0;
}

void shm_key_done(struct shm_key *key, char *hex)
{
	XXH128_hash_t digest;

	if (!key->state)
		return;
	digest = XXH3_128bits_digest(key->state);
	XXH3_freeState(key->state);
	key->state = NULL;
	if (hex)
		snprintf(hex, SHM_KEY_HEX_LEN + 1, "%016llx%016llx",
			 (unsigned long long)digest.high64, (unsigned long long)digest.low64);
}
