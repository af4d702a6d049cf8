/* Segments in a folder of shared memory, guarded by flock. A lock belongs to an open file and
 * ends with its process; a name is trusted only while it still leads to the locked inode.
 * Control thread. */
#include "guest/shm_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/log.h"
#include "base/util.h"

#define STALE_SECONDS (24 * 60 * 60)
#define WAIT_MAX_NS   (UINT64_C(5) * 1000000000)
#define WAIT_STEP_NS  1000000
#define NAME_LEN      128
#define TRAILER_MAGIC "stasisSG"

struct trailer {
	char magic[8];
	uint64_t version;
	uint64_t len;	/* bytes of content */
	uint64_t check; /* XXH3 of the above and the key */
};

struct cache {
	int dir_fd;
	const char *key;
	char name[NAME_LEN];
	int (*make)(void *arg, uint8_t **ret_data, size_t *ret_len, struct error *err);
	void *arg;
	struct error *err;
	uint64_t deadline_ns;
	/* Made, but not to be stored: what a private segment is filled with. */
	uint8_t *data;
	size_t len;
};

/* What an attempt came to, besides a negative errno, which is make()'s failure. */
enum attempt { DONE, AGAIN, CANT };

static uint64_t page_size(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t trailer_check(const struct trailer *t, const char *key)
{
	return XXH3_64bits_withSeed(t, offsetof(struct trailer, check),
				    XXH3_64bits(key, strlen(key)));
}

/* Whether fd, which is locked, is a finished segment of key. */
static bool is_complete(int fd, const char *key, uint64_t *ret_len)
{
	uint64_t page = page_size(), mapped;
	struct trailer t;
	struct stat st;

	if (fstat(fd, &st) < 0 || (uint64_t)st.st_size < page)
		return false;
	mapped = (uint64_t)st.st_size - page;
	if (pread(fd, &t, sizeof(t), (off_t)mapped) != sizeof(t))
		return false;
	if (memcmp(t.magic, TRAILER_MAGIC, sizeof(t.magic)) != 0 || t.version != 1 ||
	    t.len > mapped || ALIGN_UP(t.len, page) != mapped || t.check != trailer_check(&t, key))
		return false;
	*ret_len = t.len;
	return true;
}

/* Another user can put a file of any name into the folder, but can't make it ours. */
static bool is_ours(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
	       (st.st_mode & 07777) == 0600 && st.st_nlink <= 1;
}

/* Whether name still leads to fd's inode; the one who removed it held the lock that we have now. */
static bool is_named(int dir_fd, const char *name, int fd)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && fstatat(dir_fd, name, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
	       a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

/* flock with a deadline: the holder may be stopped in a debugger. */
static bool lock_until(int fd, int operation, uint64_t deadline_ns)
{
	const struct timespec step = {.tv_nsec = WAIT_STEP_NS};

	while (flock(fd, operation | LOCK_NB) < 0) {
		if ((errno != EWOULDBLOCK && errno != EINTR) || now_ns() > deadline_ns)
			return false;
		nanosleep(&step, NULL);
	}
	return true;
}

static int call_make(struct cache *c)
{
	int r;

	if (c->data)
		return 0;
	r = c->make(c->arg, &c->data, &c->len, c->err);
	if (r == 0 && (c->len == 0 || c->len > INT64_MAX / 2))
		r = error_set(c->err, -EINVAL, "caching the initramfs: it is empty or too large");
	return r;
}

static int write_at(int fd, const void *data, size_t len, uint64_t offset)
{
	if (lseek(fd, (off_t)offset, SEEK_SET) < 0)
		return -errno;
	return fd_write_all(fd, data, len);
}

/* Fills an empty segment; the trailer last. */
static int fill(int fd, const char *key, const uint8_t *data, size_t len)
{
	uint64_t page = page_size(), mapped = ALIGN_UP((uint64_t)len, page);
	struct trailer t = {.magic = TRAILER_MAGIC, .version = 1, .len = len};
	int r;

	t.check = trailer_check(&t, key);
	if (ftruncate(fd, 0) < 0)
		return -errno;
	/* All pages now: a later touch through a mapping could only be told by SIGBUS. */
	do {
		r = -posix_fallocate(fd, 0, (off_t)(mapped + page));
	} while (r == -EINTR);
	if (r == 0)
		r = write_at(fd, data, len, 0);
	return r < 0 ? r : write_at(fd, &t, sizeof(t), mapped);
}

/* Looks for a finished segment. */
static enum attempt try_find(struct cache *c, struct shm_segment *ret_segment)
{
	const struct timespec now[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_NOW}};
	CLEANUP_FD int fd =
		openat(c->dir_fd, c->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	uint64_t len;

	if (fd < 0)
		return errno == ENOENT ? AGAIN : CANT;
	if (!is_ours(fd) || !lock_until(fd, LOCK_SH, c->deadline_ns))
		return CANT;
	if (!is_named(c->dir_fd, c->name, fd) || !is_complete(fd, c->key, &len))
		return AGAIN;
	/* Only for the removal of stale ones. */
	(void)futimens(fd, now);
	*ret_segment = (struct shm_segment){.fd = fd,
					    .len = len,
					    .mapped_len = ALIGN_UP(len, page_size())};
	fd = -1;
	return DONE;
}

/* Makes the segment unless somebody else did; DONE means that there is one. *ret_fd then holds a
 * shared lock on it, so that it stays until it has been found. */
static int try_make(struct cache *c, int *ret_fd)
{
	CLEANUP_FD int fd = openat(c->dir_fd, c->name,
				   O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	uint64_t len;
	int r;

	if (fd < 0 || !is_ours(fd) || !lock_until(fd, LOCK_EX, c->deadline_ns))
		return CANT;
	if (!is_named(c->dir_fd, c->name, fd))
		return AGAIN;
	if (!is_complete(fd, c->key, &len)) {
		r = call_make(c);
		if (r == 0 && fill(fd, c->key, c->data, c->len) < 0)
			r = CANT;
		if (r != 0) {
			unlinkat(c->dir_fd, c->name, 0);
			return r;
		}
	}
	/* Not one step: who gets in between finds it complete and fresh, and leaves it. */
	if (flock(fd, LOCK_SH) < 0)
		return CANT;
	*ret_fd = fd;
	fd = -1;
	return DONE;
}

/* The same content where no other process sees it. */
static int make_private(struct cache *c, struct shm_segment *ret_segment)
{
	CLEANUP_FD int fd = -1;
	char path[64];
	int r = call_make(c), read_only;

	if (r < 0)
		return r;
	fd = memfd_create("stasis-initramfs", MFD_CLOEXEC);
	if (fd < 0)
		return error_set_shortage(c->err, -errno, "keeping the initramfs in memory");
	r = fill(fd, c->key, c->data, c->len);
	if (r < 0)
		return error_set_shortage(c->err, r, "keeping the initramfs in memory");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	read_only = open(path, O_RDONLY | O_CLOEXEC);
	if (read_only < 0) {
		/* Without /proc: a writable one serves as well, nobody else has it. */
		read_only = fd;
		fd = -1;
	}
	*ret_segment = (struct shm_segment){.fd = read_only,
					    .len = c->len,
					    .mapped_len = ALIGN_UP((uint64_t)c->len, page_size())};
	return 0;
}

/* Removes a segment that nobody holds, if it is old or half-written. */
static void sweep_one(int dir_fd, const char *name, const char *key)
{
	CLEANUP_FD int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct timespec now;
	struct stat st;
	uint64_t len;

	if (fd < 0 || !is_ours(fd) || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return;
	/* The look comes after the lock: its last user may have touched it meanwhile. */
	if (fstat(fd, &st) < 0 || !is_named(dir_fd, name, fd))
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	if (now.tv_sec - st.st_mtim.tv_sec > STALE_SECONDS || !is_complete(fd, key, &len))
		unlinkat(dir_fd, name, 0);
}

static void sweep(int dir_fd)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;
	char prefix[NAME_LEN];
	size_t n;

	if (!dir) {
		fd_close(&fd);
		return;
	}
	n = (size_t)snprintf(prefix, sizeof(prefix), "stasis-%u-", (unsigned)geteuid());
	while ((e = readdir(dir)))
		if (strncmp(e->d_name, prefix, n) == 0)
			sweep_one(dir_fd, e->d_name, e->d_name + n);
	closedir(dir);
}

static bool is_key(const char *key)
{
	size_t n = strspn(key, "0123456789abcdef");

	return n > 0 && n <= 64 && !key[n];
}

int shm_cache_get_in(const char *dir, const char *key,
		     int (*make)(void *arg, uint8_t **ret_data, size_t *ret_len, struct error *err),
		     void *arg, struct shm_segment *ret_segment, struct error *err)
{
	struct cache c = {
		.dir_fd = -1,
		.key = key,
		.make = make,
		.arg = arg,
		.err = err,
		.deadline_ns = now_ns() + WAIT_MAX_NS,
	};
	int r = CANT;

	if (!is_key(key))
		return error_set(err, -EINVAL, "caching the initramfs under the key '%.100s'", key);
	snprintf(c.name, sizeof(c.name), "stasis-%u-%s", (unsigned)geteuid(), key);
	c.dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c.dir_fd >= 0) {
		/* AGAIN: it went away between two steps, so another process is at work here. */
		do {
			CLEANUP_FD int made = -1;

			r = try_find(&c, ret_segment);
			if (r == AGAIN)
				r = try_make(&c, &made);
			if (r == DONE && made >= 0)
				r = try_find(&c, ret_segment);
		} while (r == AGAIN && now_ns() < c.deadline_ns);
		sweep(c.dir_fd);
	}
	if (r == CANT || r == AGAIN) {
		log_debug("no shared segment %s in %s: a private one serves", c.name, dir);
		r = make_private(&c, ret_segment);
	}
	free(c.data);
	fd_close(&c.dir_fd);
	return r;
}

int shm_cache_get(const char *key,
		  int (*make)(void *arg, uint8_t **ret_data, size_t *ret_len, struct error *err),
		  void *arg, struct shm_segment *ret_segment, struct error *err)
{
	return shm_cache_get_in(SHM_CACHE_DIR, key, make, arg, ret_segment, err);
}

void shm_segment_done(struct shm_segment *segment)
{
	fd_close(&segment->fd);
	segment->len = 0;
	segment->mapped_len = 0;
}
