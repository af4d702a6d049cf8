/* The lab's files by contents. Owned by the agent's thread. */
#include "vm/lab/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/parse.h"
#include "base/text.h"
#include "base/util.h"
#include "vm/lab/digest.h"

int cache_init(struct cache *c, const char *dir, uint64_t limit, struct error *err)
{
	struct statvfs st;
	int r = dir_make(dir, 0700);

	*c = (struct cache){.limit = limit};
	TAILQ_INIT(&c->entries);
	if (r == 0 && limit == 0) {
		r = statvfs(dir, &st) < 0 ? -errno : 0;
		if (r == 0)
			c->limit = (uint64_t)st.f_blocks * st.f_frsize / 2;
	}
	if (r < 0)
		return error_set(err, r, "making %s", dir);
	c->dir = strdup(dir);
	return c->dir ? 0 : error_set(err, -ENOMEM, "making %s", dir);
}

void cache_done(struct cache *c)
{
	struct cache_entry *e;

	while (c->dir && (e = TAILQ_FIRST(&c->entries))) {
		TAILQ_REMOVE(&c->entries, e, link);
		free(e);
	}
	free(c->dir);
	c->dir = NULL;
}

static struct cache_entry *find(struct cache *c, const uint8_t *hash)
{
	struct cache_entry *e;

	TAILQ_FOREACH (e, &c->entries, link)
		if (!memcmp(e->hash, hash, MESSAGE_HASH))
			return e;
	return NULL;
}

struct cache_entry *cache_get(struct cache *c, const uint8_t *hash)
{
	struct cache_entry *e = find(c, hash);

	if (!e)
		return NULL;
	TAILQ_REMOVE(&c->entries, e, link);
	TAILQ_INSERT_TAIL(&c->entries, e, link);
	e->users++;
	return e;
}

void cache_put(struct cache_entry *e)
{
	e->users--;
}

char *cache_path(const struct cache *c, const struct cache_entry *e)
{
	char hex[DIGEST_HEX];

	digest_to_hex(e->hash, hex);
	return text_format("%s/%s", c->dir, hex);
}

static void evict(struct cache *c, struct cache_entry *e)
{
	CLEANUP_FREE char *path = cache_path(c, e);

	if (path)
		unlink(path);
	c->used -= e->size;
	TAILQ_REMOVE(&c->entries, e, link);
	free(e);
}

static bool make_room(struct cache *c, uint64_t size)
{
	struct cache_entry *e = TAILQ_FIRST(&c->entries);

	if (size > c->limit)
		return false;
	while (e && c->used > c->limit - size) {
		struct cache_entry *next = TAILQ_NEXT(e, link);

		if (e->users == 0)
			evict(c, e);
		e = next;
	}
	return c->used <= c->limit - size;
}

int cache_upload_begin(struct cache *c, const struct message_want *want,
		       struct cache_upload **ret_upload, struct error *err)
{
	struct cache_upload *u;
	char size[32];
	int r;

	if (!make_room(c, want->size)) {
		error_contention(err, "no room in the lab for a file of %s",
				 format_size(want->size, size, sizeof(size)));
		error_hint(err, "it keeps at most %s of files",
			   format_size(ALIGN_DOWN(c->limit, MIB(1)), size, sizeof(size)));
		return -EBUSY;
	}
	u = calloc(1, sizeof(*u));
	if (!u)
		return error_set_shortage(err, -ENOMEM, "storing a file in the lab");
	u->want = *want;
	u->fd = -1;
	c->used += want->size;
	u->left = want->size;
	u->path = text_format("%s/new-%u", c->dir, c->uploads++);
	u->hasher = XXH3_createState();
	if (!u->path || !u->hasher || XXH3_128bits_reset(u->hasher) == XXH_ERROR) {
		r = -ENOMEM;
	} else {
		u->fd = open(u->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		r = u->fd < 0 ? -errno : 0;
	}
	if (r < 0) {
		cache_upload_free(c, u);
		return error_set_shortage(err, r, "storing a file in the lab");
	}
	*ret_upload = u;
	return 0;
}

int cache_upload_write(struct cache_upload *u, const uint8_t *data, size_t len, struct error *err)
{
	int r = fd_write_all(u->fd, data, len);

	if (r < 0)
		return error_set_shortage(err, r, "storing a file in the lab");
	XXH3_128bits_update(u->hasher, data, len);
	u->left -= len;
	return 0;
}

int cache_upload_end(struct cache *c, struct cache_upload *u, struct cache_entry **ret_entry,
		     struct error *err)
{
	CLEANUP_FREE char *path = NULL;
	struct cache_entry *e = NULL;
	XXH128_canonical_t digest;
	int r = 0;

	XXH128_canonicalFromHash(&digest, XXH3_128bits_digest(u->hasher));
	if (memcmp(digest.digest, u->want.hash, MESSAGE_HASH)) {
		r = error_usage(err, "a file changed while it was being sent to the lab");
		goto out;
	}
	/* Another session may have brought the same meanwhile. */
	e = cache_get(c, u->want.hash);
	if (e)
		goto out;
	e = calloc(1, sizeof(*e));
	if (e) {
		memcpy(e->hash, u->want.hash, MESSAGE_HASH);
		e->size = u->want.size;
		e->users = 1;
		path = cache_path(c, e);
	}
	r = !path ? -ENOMEM : rename(u->path, path) < 0 ? -errno : 0;
	if (r < 0) {
		error_set_shortage(err, r, "storing a file in the lab");
		free(e);
		goto out;
	}
	TAILQ_INSERT_TAIL(&c->entries, e, link);
	c->used += e->size;
out:
	cache_upload_free(c, u);
	if (r == 0)
		*ret_entry = e;
	return r;
}

void cache_upload_free(struct cache *c, struct cache_upload *u)
{
	if (!u)
		return;
	c->used -= u->want.size;
	fd_close(&u->fd);
	/* After a rename there is nothing of this name. */
	if (u->path)
		unlink(u->path);
	free(u->path);
	if (u->hasher)
		XXH3_freeState(u->hasher);
	free(u);
}
