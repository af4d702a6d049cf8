/* Files that are whole or absent. Any thread, one at a time. */
#include "base/beside.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"

/* The path with links followed, as far as it is there; *ret_block: it is a block device. */
static int resolve(const char *path, char **ret_path, bool *ret_block)
{
	struct stat st;
	int r = stat(path, &st) < 0 ? -errno : 0;
	bool there = r == 0;

	if (!there && r != -ENOENT)
		return r;
	/* A link that leads nowhere: a file of the link's own name would take its place. */
	if (!there && lstat(path, &st) == 0)
		return -ENOENT;
	if (there && S_ISDIR(st.st_mode))
		return -EISDIR;
	if (there && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return -ENOTSUP;
	*ret_path = there ? realpath(path, NULL) : strdup(path);
	*ret_block = there && S_ISBLK(st.st_mode);
	return *ret_path ? 0 : -errno;
}

/* The folder of path. */
static char *folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return !slash ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

int beside_check(const char *path)
{
	CLEANUP_FREE char *real = NULL;
	CLEANUP_FREE char *folder = NULL;
	bool block;
	int r;

	if (!path[0] || path[strlen(path) - 1] == '/')
		return path[0] ? -EISDIR : -ENOENT;
	r = resolve(path, &real, &block);
	if (r < 0)
		return r;
	if (block)
		return access(real, W_OK) < 0 ? -errno : 0;
	folder = folder_of(real);
	if (!folder)
		return -ENOMEM;
	return access(folder, W_OK | X_OK) < 0 ? -errno : 0;
}

/* A file without a name, where the file system can: nothing is left of it even if we are killed. */
static int open_nameless(const char *path, mode_t mode)
{
	CLEANUP_FREE char *folder = folder_of(path);

	return folder ? open(folder, O_RDWR | O_TMPFILE | O_CLOEXEC, mode) : -1;
}

static int open_named(struct beside *b, mode_t mode)
{
	mode_t mask = umask(0);
	int fd;

	umask(mask);
	fd = mkostemp(b->tmp, O_CLOEXEC);
	if (fd >= 0)
		(void)fchmod(fd, mode & ~mask);
	b->named = fd >= 0;
	return fd;
}

int beside_open(struct beside *b, const char *path, mode_t mode)
{
	bool block = false;
	int r;

	*b = (struct beside){.fd = -1};
	r = resolve(path, &b->path, &block);
	if (r < 0)
		return r;
	if (block) {
		b->fd = open(b->path, O_WRONLY | O_DIRECT | O_CLOEXEC);
	} else {
		b->tmp = text_format("%s.XXXXXX", b->path);
		b->fd = b->tmp ? open_nameless(b->path, mode) : -1;
		if (b->tmp && b->fd < 0)
			b->fd = open_named(b, mode);
	}
	if (b->fd < 0) {
		r = -errno;
		beside_abort(b);
		return r;
	}
	return 0;
}

/* Gives a nameless file the temporary name: a link can't replace a file, a rename can. */
static int name(struct beside *b)
{
	char fd_path[32];

	snprintf(fd_path, sizeof(fd_path), "/proc/self/fd/%d", b->fd);
	for (unsigned tries = 0; tries < 100; tries++) {
		int fd = mkostemp(b->tmp, O_CLOEXEC);

		if (fd < 0)
			return -errno;
		/* The name is ours for a moment; somebody else can take it only by ill will. */
		close(fd);
		unlink(b->tmp);
		if (linkat(AT_FDCWD, fd_path, AT_FDCWD, b->tmp, AT_SYMLINK_FOLLOW) == 0) {
			b->named = true;
			return 0;
		}
		if (errno != EEXIST)
			return -errno;
		memset(b->tmp + strlen(b->tmp) - 6, 'X', 6);
	}
	return -EEXIST;
}

int beside_commit(struct beside *b)
{
	int r = 0;

	if (b->tmp && !b->named)
		r = name(b);
	if (r == 0 && b->tmp && rename(b->tmp, b->path) < 0)
		r = -errno;
	if (r == 0)
		b->named = false;
	beside_abort(b);
	return r;
}

void beside_abort(struct beside *b)
{
	if (!b->path)
		return;
	fd_close(&b->fd);
	if (b->named)
		unlink(b->tmp);
	free(b->tmp);
	free(b->path);
	*b = (struct beside){.fd = -1};
}

static int write_through(int fd, int (*write)(FILE *f, void *arg), void *arg)
{
	int own = dup(fd), r;
	FILE *f = own < 0 ? NULL : fdopen(own, "w");

	if (!f) {
		r = -errno;
		fd_close(&own);
		return r;
	}
	r = write(f, arg);
	errno = 0;
	/* What failed before is not told again by the close. */
	if ((ferror(f) | fclose(f)) && r == 0)
		r = -(errno ?: EIO);
	return r;
}

int beside_write(const char *path, int (*write)(FILE *f, void *arg), void *arg)
{
	struct beside b;
	int r = beside_open(&b, path, 0666);

	if (r < 0)
		return r;
	r = write_through(b.fd, write, arg);
	if (r == 0)
		return beside_commit(&b);
	beside_abort(&b);
	return r;
}
