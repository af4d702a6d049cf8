/* Files in the lab, kept by their contents: what one session brought, the next need not send.
 * Least recently used ones make room. Owned by the agent's thread. */
#ifndef STASIS_VM_LAB_CACHE_H
#define STASIS_VM_LAB_CACHE_H

#include <sys/queue.h>

#include "base/error.h"
#include "vm/lab/message.h"

struct XXH3_state_s;

struct cache_entry {
	TAILQ_ENTRY(cache_entry) link; /* the least recently used first */
	uint8_t hash[MESSAGE_HASH];
	uint64_t size;
	unsigned users; /* sessions that need the file */
};

struct cache {
	char *dir; /* DIR/HASH */
	uint64_t limit, used;
	unsigned uploads; /* ever; names them */
	TAILQ_HEAD(, cache_entry) entries;
};

/* A file on its way in. */
struct cache_upload {
	struct message_want want;
	uint64_t left;
	int fd;
	char *path;
	struct XXH3_state_s *hasher;
};

/* dir is made. limit 0: half of its file system. */
int cache_init(struct cache *c, const char *dir, uint64_t limit, struct error *err) MUST_CHECK;
void cache_done(struct cache *c); /* accepts a zeroed one; the files stay */
/* The file, with one more user; NULL if it isn't there. */
struct cache_entry *cache_get(struct cache *c, const uint8_t *hash);
void cache_put(struct cache_entry *e);
/* Where the file is; malloc'ed, NULL when out of memory. */
char *cache_path(const struct cache *c, const struct cache_entry *e);

/* Contention where the room is taken by files in use. */
int cache_upload_begin(struct cache *c, const struct message_want *want,
		       struct cache_upload **ret_upload, struct error *err) MUST_CHECK;
/* len <= u->left. */
int cache_upload_write(struct cache_upload *u, const uint8_t *data, size_t len,
		       struct error *err) MUST_CHECK;
/* All is there: it becomes a file of the cache, with one user. Fails where the contents are not
 * those that were announced. Frees u, on failure too. */
int cache_upload_end(struct cache *c, struct cache_upload *u, struct cache_entry **ret_entry,
		     struct error *err) MUST_CHECK;
/* Gives it up; accepts NULL. */
void cache_upload_free(struct cache *c, struct cache_upload *u);

#endif
