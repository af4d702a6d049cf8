/* The newc archive in memory, and the names that are in it already. Control thread. */
#include "guest/initramfs.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

/* Each entry (Documentation/driver-api/early-userspace/buffer-format.rst):
 *
 *   "070701", 13 fields of 8 hex digits, name and NUL, pad to 4, content, pad to 4
 *   fields: ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor
 *           namesize check
 *
 * Owner, time, device and check are 0 here, so that equal input gives equal bytes. */
#define HEADER_SIZE 110
#define TRAILER	    "TRAILER!!!"
#define NAMES_MIN   256u
/* Links followed on the way to a parent folder; more is a loop. */
#define LINKS_MAX 16

struct name {
	char *path;   /* NULL: free slot */
	char *target; /* of a link, else NULL */
	mode_t type;  /* S_IFMT bits */
};

/* Open addressing; capacity is a power of two and never more than half full. */
struct initramfs_dirs {
	struct name *slot;
	size_t cap, count;
};

static struct name *names_slot(const struct initramfs_dirs *names, const char *path)
{
	size_t i = (size_t)XXH3_64bits(path, strlen(path)) & (names->cap - 1);

	while (names->slot[i].path && strcmp(names->slot[i].path, path) != 0)
		i = (i + 1) & (names->cap - 1);
	return &names->slot[i];
}

static const struct name *names_find(const struct initramfs_dirs *names, const char *path)
{
	const struct name *n = names_slot(names, path);

	return n->path ? n : NULL;
}

static int names_grow(struct initramfs_dirs *names)
{
	struct initramfs_dirs bigger = {.cap = names->cap * 2, .count = names->count};

	bigger.slot = calloc(bigger.cap, sizeof(*bigger.slot));
	if (!bigger.slot)
		return -ENOMEM;
	for (size_t i = 0; i < names->cap; i++)
		if (names->slot[i].path)
			*names_slot(&bigger, names->slot[i].path) = names->slot[i];
	free(names->slot);
	*names = bigger;
	return 0;
}

static int names_set(struct initramfs_dirs *names, const char *path, mode_t type,
		     const char *target)
{
	char *path_copy, *target_copy = NULL;
	struct name *n;

	if (names->count >= names->cap / 2 && names_grow(names) < 0)
		return -ENOMEM;
	if (target) {
		target_copy = strdup(target);
		if (!target_copy)
			return -ENOMEM;
	}
	n = names_slot(names, path);
	if (!n->path) {
		path_copy = strdup(path);
		if (!path_copy) {
			free(target_copy);
			return -ENOMEM;
		}
		n->path = path_copy;
		names->count++;
	}
	free(n->target);
	n->target = target_copy;
	n->type = type;
	return 0;
}

int initramfs_init(struct initramfs *fs)
{
	struct initramfs_dirs *names = calloc(1, sizeof(*names));

	*fs = (struct initramfs){.next_ino = 1};
	if (!names)
		return -ENOMEM;
	names->cap = NAMES_MIN;
	names->slot = calloc(names->cap, sizeof(*names->slot));
	if (!names->slot) {
		free(names);
		return -ENOMEM;
	}
	fs->dirs = names;
	return 0;
}

void initramfs_done(struct initramfs *fs)
{
	if (fs->dirs) {
		for (size_t i = 0; i < fs->dirs->cap; i++) {
			free(fs->dirs->slot[i].path);
			free(fs->dirs->slot[i].target);
		}
		free(fs->dirs->slot);
		free(fs->dirs);
	}
	free(fs->data);
	*fs = (struct initramfs){0};
}

int initramfs_reserve(struct initramfs *fs, size_t more, struct error *err)
{
	size_t need, cap;
	uint8_t *data;

	if (__builtin_add_overflow(fs->len, more, &need) || need > INITRAMFS_MAX_BYTES)
		return error_usage(err, "the initramfs would be larger than %" PRIu64 " MiB",
				   INITRAMFS_MAX_BYTES >> 20);
	if (need <= fs->cap)
		return 0;
	cap = MAX(need, MIN(fs->cap * 2, INITRAMFS_MAX_BYTES));
	cap = MAX(cap, KIB(64));
	data = realloc(fs->data, cap);
	if (!data)
		return error_set_shortage(err, -ENOMEM, "building the initramfs");
	fs->data = data;
	fs->cap = cap;
	return 0;
}

static int bad_name(const char *path, const char *why, struct error *err)
{
	return error_usage(err, "initramfs path '%.200s' %s", path, why);
}

/* Drops leading, doubled and trailing slashes and "." from path. ".." goes up where up is true (a
 * link's target), else it is refused. */
static int normalise(const char *path, bool up, char ret_path[PATH_MAX], struct error *err)
{
	char out[PATH_MAX];
	size_t len = 0;

	while (*path) {
		size_t n = strcspn(path, "/");

		if (n == 2 && path[0] == '.' && path[1] == '.') {
			if (!up)
				return bad_name(path, "has a '..' in it", err);
			while (len && out[--len] != '/')
				;
		} else if (n > 0 && !(n == 1 && path[0] == '.')) {
			/* The kernel skips entries whose name and NUL exceed PATH_MAX. */
			if (len + 1 + n + 1 > sizeof(out))
				return bad_name(path, "is too long", err);
			if (len)
				out[len++] = '/';
			memcpy(out + len, path, n);
			len += n;
		}
		path += n;
		path += strspn(path, "/");
	}
	out[len] = '\0';
	memcpy(ret_path, out, len + 1);
	return 0;
}

/* Replaces path's first prefix that is a link in the archive by where it points. 1 if there was
 * one. The last component is a prefix too only where follow_last says so. */
static int follow_one_link(const struct initramfs *fs, char path[PATH_MAX], bool follow_last,
			   struct error *err)
{
	for (size_t end = strcspn(path, "/");; end += 1 + strcspn(path + end + 1, "/")) {
		bool last = path[end] == '\0';
		char joined[3 * PATH_MAX], prefix[PATH_MAX];
		const struct name *n;
		const char *slash;

		if (last && !follow_last)
			return 0;
		memcpy(prefix, path, end);
		prefix[end] = '\0';
		n = names_find(fs->dirs, prefix);
		if (n && n->target) {
			slash = strrchr(prefix, '/');
			snprintf(joined, sizeof(joined), "%.*s/%s/%s",
				 n->target[0] == '/' || !slash ? 0 : (int)(slash - prefix), prefix,
				 n->target, last ? "" : path + end + 1);
			return normalise(joined, true, path, err) < 0 ? -EINVAL : 1;
		}
		if (last)
			return 0;
	}
}

int initramfs_resolve(const struct initramfs *fs, const char *path, bool follow_last,
		      char ret_path[PATH_MAX], struct error *err)
{
	char out[PATH_MAX];
	int r = normalise(path, false, out, err);

	for (unsigned links = 0; r == 0; links++) {
		if (links > LINKS_MAX)
			return bad_name(path, "runs through a loop of links", err);
		r = follow_one_link(fs, out, follow_last, err);
		if (r == 0) {
			memcpy(ret_path, out, strlen(out) + 1);
			return 0;
		}
		if (r > 0)
			r = 0;
	}
	return r;
}

bool initramfs_has(const struct initramfs *fs, const char *path)
{
	char name[PATH_MAX];

	return initramfs_resolve(fs, path, false, name, NULL) == 0 &&
	       names_find(fs->dirs, name) != NULL;
}

static void put_header(uint8_t *at, uint32_t ino, mode_t mode, size_t len, unsigned major,
		       unsigned minor, size_t name_size)
{
	char text[HEADER_SIZE + 1];

	snprintf(text, sizeof(text), "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		 ino, mode, 0, 0, S_ISDIR(mode) ? 2 : 1, 0, (uint32_t)len, 0, 0, major, minor,
		 (uint32_t)name_size, 0);
	memcpy(at, text, HEADER_SIZE);
}

static int pad(struct initramfs *fs, size_t align, struct error *err)
{
	size_t n = ALIGN_UP(fs->len, align) - fs->len;
	int r = initramfs_reserve(fs, n, err);

	if (r < 0)
		return r;
	if (n)
		memset(fs->data + fs->len, 0, n);
	fs->len += n;
	return 0;
}

/* One entry with a name that is normalised already; no look at what is there. */
static int put_entry(struct initramfs *fs, const char *name, mode_t mode, unsigned major,
		     unsigned minor, const void *data, size_t len, struct error *err)
{
	size_t start = fs->len, name_size = strlen(name) + 1;
	int r;

	if (len > UINT32_MAX)
		return error_usage(err, "'%.200s' is too large for an initramfs: 4 GiB - 1 at most",
				   name);
	r = initramfs_reserve(fs, HEADER_SIZE + name_size + len + 8, err);
	if (r < 0)
		return r;
	put_header(fs->data + fs->len, fs->next_ino, mode, len, major, minor, name_size);
	memcpy(fs->data + fs->len + HEADER_SIZE, name, name_size);
	fs->len += HEADER_SIZE + name_size;
	r = pad(fs, 4, err);
	if (r == 0 && len) {
		memcpy(fs->data + fs->len, data, len);
		fs->len += len;
		r = pad(fs, 4, err);
	}
	if (r < 0) {
		fs->len = start;
		return r;
	}
	fs->next_ino++;
	return 0;
}

/* Makes the folders above name, which is normalised and free of links. */
static int put_parents(struct initramfs *fs, char *name, struct error *err)
{
	for (char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
		const struct name *n;
		int r = 0;

		*slash = '\0';
		n = names_find(fs->dirs, name);
		if (n && !S_ISDIR(n->type))
			r = bad_name(name, "is a file already and can't hold others", err);
		else if (!n)
			r = put_entry(fs, name, S_IFDIR | 0755, 0, 0, NULL, 0, err);
		if (r == 0 && !n && names_set(fs->dirs, name, S_IFDIR, NULL) < 0)
			r = error_set_shortage(err, -ENOMEM, "building the initramfs");
		*slash = '/';
		if (r < 0)
			return r;
	}
	return 0;
}

/* Settles where path is, makes its parents, and records it. *ret_name holds the name to write.
 * 1: a folder stands there already (only for a folder that is to be added). */
static int claim(struct initramfs *fs, const char *path, mode_t type, const char *target,
		 char ret_name[PATH_MAX], struct error *err)
{
	const struct name *n;
	int r = initramfs_resolve(fs, path, S_ISDIR(type), ret_name, err);

	if (r < 0)
		return r;
	if (!*ret_name)
		return S_ISDIR(type) ? 1 : bad_name(path, "names nothing", err);
	if (strcmp(ret_name, TRAILER) == 0)
		return bad_name(path, "is the archive's end mark", err);
	r = put_parents(fs, ret_name, err);
	if (r < 0)
		return r;
	n = names_find(fs->dirs, ret_name);
	if (n && S_ISDIR(n->type))
		return S_ISDIR(type) ? 1 : bad_name(path, "is a folder already", err);
	if (names_set(fs->dirs, ret_name, type, target) < 0)
		return error_set_shortage(err, -ENOMEM, "building the initramfs");
	return 0;
}

int initramfs_dir(struct initramfs *fs, const char *path, mode_t mode, struct error *err)
{
	char name[PATH_MAX];
	int r = claim(fs, path, S_IFDIR, NULL, name, err);

	if (r < 0 || !*name)
		return r < 0 ? r : 0;
	/* A second entry for the same folder only sets its mode. */
	return put_entry(fs, name, S_IFDIR | (mode & 07777), 0, 0, NULL, 0, err);
}

int initramfs_file(struct initramfs *fs, const char *path, mode_t mode, const void *data,
		   size_t len, struct error *err)
{
	char name[PATH_MAX];
	int r = claim(fs, path, S_IFREG, NULL, name, err);

	if (r < 0)
		return r;
	return put_entry(fs, name, S_IFREG | (mode & 07777), 0, 0, data, len, err);
}

int initramfs_link(struct initramfs *fs, const char *path, const char *target, struct error *err)
{
	char name[PATH_MAX];
	int r;

	if (!*target || strlen(target) >= PATH_MAX)
		return bad_name(path, "would be a link to nothing, or to too long a path", err);
	r = claim(fs, path, S_IFLNK, target, name, err);
	if (r < 0)
		return r;
	return put_entry(fs, name, S_IFLNK | 0777, 0, 0, target, strlen(target), err);
}

int initramfs_device(struct initramfs *fs, const char *path, mode_t mode, unsigned major,
		     unsigned minor, struct error *err)
{
	char name[PATH_MAX];
	int r;

	assert(S_ISCHR(mode) || S_ISBLK(mode));
	r = claim(fs, path, mode & S_IFMT, NULL, name, err);
	if (r < 0)
		return r;
	return put_entry(fs, name, mode & (S_IFMT | 07777), major, minor, NULL, 0, err);
}

int initramfs_finish(struct initramfs *fs, struct error *err)
{
	int r;

	fs->next_ino = 0;
	r = put_entry(fs, TRAILER, 0, 0, 0, NULL, 0, err);
	return r < 0 ? r : pad(fs, 512, err);
}
