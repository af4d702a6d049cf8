/* Writes the folder of a snapshot so that it is whole or absent, and opens one. */
#include "freeze/snapshot_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "base/util.h"

#define TMP_SUFFIX ".stasis-tmp"

static const char *const names[] = {SNAPSHOT_DESCRIPTION, SNAPSHOT_STATE, SNAPSHOT_MEMORY};

/* ---- what is there ------------------------------------------------------------------------- */

static bool is_ours(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(name, names[i]))
			return true;
	return !strcmp(name, ".") || !strcmp(name, "..");
}

/* Whether it may be replaced: nothing is in it but what a snapshot has. *ret_full: there is some of
 * that. */
static int check_target(const char *path, bool *ret_full, struct error *err)
{
	const struct dirent *entry;
	struct stat st;
	DIR *dir;
	bool full = false;
	int r = 0;

	if (lstat(path, &st) < 0 && errno == ENOENT) {
		*ret_full = false;
		return 0;
	}
	/* The link would be replaced, and not what it leads to. */
	if (S_ISLNK(st.st_mode))
		return error_usage(err, "%s: it is a symbolic link", path);
	dir = opendir(path);
	if (!dir)
		return error_usage(err, "%s: %s", path, strerror(errno));
	while (r == 0 && (entry = readdir(dir))) {
		full = full || entry->d_name[0] != '.';
		if (!is_ours(entry->d_name))
			r = error_usage(err, "%s: it is there, and %s in it is no snapshot's", path,
					entry->d_name);
	}
	closedir(dir);
	if (r == 0)
		*ret_full = full;
	return r;
}

/* The folder at path, locked, once it is certain that it still is at path: until then, another
 * writer may have named it or removed it. Negative errno. */
static int open_locked(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat mine, there;
	int r = 0;

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &mine) < 0 || lstat(path, &there) < 0)
		r = -errno;
	else if (mine.st_dev != there.st_dev || mine.st_ino != there.st_ino)
		r = -EWOULDBLOCK;
	if (r == 0)
		return fd;
	fd_close(&fd);
	return r;
}

/* Of a folder that has this program's own name; only_ours: of one that was a snapshot, where what
 * else is in it stays. */
static int remove_files(int fd, bool only_ours)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	const struct dirent *entry;

	if (!dir) {
		r = -errno;
		fd_close(&copy);
		return r;
	}
	while (r == 0 && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..") &&
		    (!only_ours || is_ours(entry->d_name)) && unlinkat(fd, entry->d_name, 0) < 0)
			r = -errno;
	closedir(dir);
	return r;
}

/* The old one, if nobody has begun to write another in it. The folder goes if nothing else is in
 * it. */
static void remove_old(const char *path)
{
	CLEANUP_FD int fd = open_locked(path);

	if (fd >= 0 && remove_files(fd, true) == 0 && rmdir(path) < 0)
		log_warn("%s: it stays, for what else is in it", path);
}

static int sync_parent(const char *path)
{
	CLEANUP_FREE char *parent = strdup(path);
	char *slash = parent ? strrchr(parent, '/') : NULL;
	CLEANUP_FD int fd = -1;

	if (!parent)
		return -ENOMEM;
	if (slash)
		slash[slash == parent] = '\0';
	fd = open(slash ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* ---- writing ------------------------------------------------------------------------------- */

static int lock_new(struct snapshot_folder *f)
{
	/* Its owner's: it has everything that the guest's programs know. */
	if (mkdir(f->tmp, 0700) < 0 && errno != EEXIST)
		return -errno;
	f->fd = open_locked(f->tmp);
	if (f->fd < 0)
		return f->fd;
	/* What a writer that was killed has left. */
	return remove_files(f->fd, false);
}

static int touch(int dir, const char *name)
{
	CLEANUP_FD int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : 0;
}

/* Before anything is stopped: NFS and others can't, and say so only when they are asked. */
static int try_exchange(const struct snapshot_folder *f, struct error *err)
{
	int r = touch(f->fd, SNAPSHOT_STATE);

	if (r == 0)
		r = touch(f->fd, SNAPSHOT_MEMORY);
	if (r == 0 && renameat2(f->fd, SNAPSHOT_STATE, f->fd, SNAPSHOT_MEMORY, RENAME_EXCHANGE) < 0)
		r = -errno;
	(void)!unlinkat(f->fd, SNAPSHOT_STATE, 0);
	(void)!unlinkat(f->fd, SNAPSHOT_MEMORY, 0);
	if (r != -EINVAL && r != -ENOSYS)
		return r < 0 ? error_set_shortage(err, r, "writing to the folder %s", f->tmp) : 0;
	error_usage(err, "%s: this file system can't put another in its place in one step",
		    f->path);
	error_hint(err, "a folder that is not there yet can be written, and the old one removed "
			"then");
	return -EINVAL;
}

/* Where nothing is to be replaced. Without flags, NFS has it as well: of what has come there
 * meanwhile, an empty folder alone goes. */
static int name_first(const struct snapshot_folder *f)
{
	if (renameat2(AT_FDCWD, f->tmp, AT_FDCWD, f->path, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	return rename(f->tmp, f->path) == 0 ? 0 : -errno;
}

static void forget(struct snapshot_folder *f)
{
	fd_close(&f->fd);
	free(f->path);
	free(f->tmp);
	*f = (struct snapshot_folder){.fd = -1};
}

int snapshot_folder_open(struct snapshot_folder *f, const char *path, struct error *err)
{
	size_t len = strlen(path);
	bool full = false;
	int r;

	*f = (struct snapshot_folder){.fd = -1};
	while (len > 1 && path[len - 1] == '/')
		len--;
	f->path = strndup(path, len);
	f->tmp = f->path ? text_format("%s" TMP_SUFFIX, f->path) : NULL;
	if (!f->tmp) {
		forget(f);
		return error_set(err, -ENOMEM, "writing the snapshot %s", path);
	}
	r = check_target(f->path, &full, err);
	if (r == 0) {
		r = lock_new(f);
		if (r == -EWOULDBLOCK)
			error_contention(err, "%s: another snapshot is being written there", path);
		else if (r < 0)
			error_set_shortage(err, r, "making the folder %s", f->tmp);
	}
	if (r == 0 && full) {
		r = try_exchange(f, err);
		if (r < 0)
			snapshot_folder_abort(f);
	}
	if (r < 0)
		forget(f);
	return r;
}

void snapshot_new_id(char ret_id[SNAPSHOT_ID_LEN + 1])
{
	uint64_t random[2] = {now_ns(), (uint64_t)getpid()};

	(void)!getrandom(random, sizeof(random), 0);
	snprintf(ret_id, SNAPSHOT_ID_LEN + 1, "%016" PRIx64 "%016" PRIx64, random[0], random[1]);
}

int snapshot_folder_write(struct snapshot_folder *f, const char *name, const void *data, size_t len,
			  struct error *err)
{
	CLEANUP_FD int fd =
		openat(f->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : fd_write_all(fd, data, len);

	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	return r < 0 ? error_set_shortage(err, r, "writing %s of the snapshot %s", name, f->path)
		     : 0;
}

int snapshot_folder_append(struct snapshot_folder *f, const char *name, const void *data,
			   size_t len, struct error *err)
{
	CLEANUP_FD int fd = openat(f->fd, name, O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC);
	int r = fd < 0 ? -errno : fd_write_all(fd, data, len);

	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	return r < 0 ? error_set_shortage(err, r, "writing %s of the snapshot %s", name, f->path)
		     : 0;
}

int snapshot_folder_commit(struct snapshot_folder *f, struct error *err)
{
	/* Saving took its time: what has been put there meanwhile is not to be replaced. */
	bool exchanged = false, full = false;
	int r = check_target(f->path, &full, err);

	if (r < 0) {
		snapshot_folder_abort(f);
		return r;
	}
	r = fsync(f->fd) < 0 ? -errno : 0;
	if (r == 0)
		r = name_first(f);
	if (r == -EEXIST || r == -ENOTEMPTY) {
		/* One call, so that there is a whole one at every instant. */
		exchanged = renameat2(AT_FDCWD, f->tmp, AT_FDCWD, f->path, RENAME_EXCHANGE) == 0;
		r = exchanged ? 0 : -errno;
	}
	if (r < 0) {
		error_set(err, r, "naming the snapshot %s", f->path);
		snapshot_folder_abort(f);
		return r;
	}
	r = sync_parent(f->path);
	/* Not before the new one is sure to stay; what is left over goes at the next save. */
	if (exchanged && r == 0)
		remove_old(f->tmp);
	if (r < 0)
		error_set(err, r, "syncing the folder of the snapshot %s", f->path);
	forget(f);
	return r;
}

void snapshot_folder_abort(struct snapshot_folder *f)
{
	if (f->fd >= 0 && remove_files(f->fd, false) == 0)
		rmdir(f->tmp);
	forget(f);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* A folder that is exchanged under a reader's eyes loses its files: so often, it looks again. */
#define OPEN_TRIES 8

/* Its descriptor, or a negative errno; no wait for the other end of what is no file. */
static int open_file(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	int r;

	if (fd < 0)
		return -errno;
	r = fstat(fd, &st) < 0 ? -errno : S_ISREG(st.st_mode) ? 0 : -ENOTSUP;
	if (r < 0)
		fd_close(&fd);
	return r < 0 ? r : fd;
}

static bool is_still_at(int dir, const char *path)
{
	struct stat mine, there;

	return fstat(dir, &mine) == 0 && stat(path, &there) == 0 && mine.st_dev == there.st_dev &&
	       mine.st_ino == there.st_ino;
}

/* All or none; *ret_bad: which one failed. */
static int open_all(int dir, unsigned count, int *fd, unsigned *ret_bad)
{
	for (unsigned n = 0; n < count; n++) {
		int r;

		fd[n] = open_file(dir, names[n]);
		if (fd[n] >= 0)
			continue;
		r = fd[n];
		*ret_bad = n;
		while (n-- > 0)
			fd_close(&fd[n]);
		return r;
	}
	return 0;
}

/* The first `count` of names. */
static int open_files(const char *path, unsigned count, int *fd, struct error *err)
{
	for (unsigned tries = 1;; tries++) {
		CLEANUP_FD int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		unsigned bad = 0;
		int r;

		if (dir < 0)
			return error_usage(err, "%s", strerror(errno));
		r = open_all(dir, count, fd, &bad);
		if (r == 0)
			return 0;
		if (r == -ENOENT && tries < OPEN_TRIES && !is_still_at(dir, path))
			continue;
		return r == -ENOTSUP ? error_usage(err, "%s: a file is accepted", names[bad])
				     : error_usage(err, "%s: %s", names[bad], strerror(-r));
	}
}

int snapshot_files_open(const char *path, struct snapshot_files *ret_files, struct error *err)
{
	int fd[ARRAY_SIZE(names)];
	int r = open_files(path, ARRAY_SIZE(names), fd, err);

	if (r == 0)
		*ret_files = (struct snapshot_files){fd[0], fd[1], fd[2]};
	return r;
}

void snapshot_files_close(struct snapshot_files *files)
{
	fd_close(&files->description);
	fd_close(&files->state);
	fd_close(&files->memory);
}

int snapshot_file_read(int fd, const char *name, size_t max, char **ret_data, size_t *ret_len,
		       struct error *err)
{
	int r = file_read_fd(fd, max, ret_data, ret_len);

	return r < 0 ? error_usage(err, "%s: %s", name, strerror(-r)) : 0;
}

int snapshot_description_read(const char *path, char **ret_text, size_t *ret_len, struct error *err)
{
	CLEANUP_FD int fd = -1;
	int r = open_files(path, 1, &fd, err);

	return r < 0 ? r
		     : snapshot_file_read(fd, SNAPSHOT_DESCRIPTION, SNAPSHOT_DESCRIPTION_MAX,
					  ret_text, ret_len, err);
}
