/* Host files and folders into an archive, in name order. Links are never followed below the top,
 * so there are no cycles; a file that changes meanwhile gives whatever was read. Control thread. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "base/util.h"
#include "guest/elf_closure.h"
#include "guest/elf_image.h"
#include "guest/initramfs.h"

/* Deeper than any tree that people make; each level holds one descriptor. */
#define DEPTH_MAX 100

struct add {
	struct initramfs *fs;
	struct error *err;
	bool libraries;
};

static int out_of_memory(struct error *err)
{
	return error_set_shortage(err, -ENOMEM, "building the initramfs");
}

/* Reads all of fd, whatever its size is said to be. */
static int read_whole(int fd, off_t size_hint, const char *host_path, uint8_t **ret_data,
		      size_t *ret_len, struct error *err)
{
	size_t cap, len = 0;
	uint8_t *data;

	if (size_hint < 0 || (uint64_t)size_hint > UINT32_MAX)
		return error_usage(err, "'%s' is too large for an initramfs: 4 GiB - 1 at most",
				   host_path);
	if ((uint64_t)size_hint > INITRAMFS_MAX_BYTES)
		return error_usage(err, "'%s' is too large for an initramfs", host_path);
	/* One more than the size, so that the end is seen without growing. */
	cap = (size_t)size_hint + 1;
	data = malloc(cap);
	if (!data)
		return out_of_memory(err);
	for (;;) {
		ssize_t n = fd_read_all(fd, data + len, cap - len);
		uint8_t *bigger;

		if (n < 0) {
			free(data);
			return error_set(err, (int)n, "reading %s", host_path);
		}
		len += (size_t)n;
		if (len < cap)
			break;
		cap *= 2;
		bigger = cap <= INITRAMFS_MAX_BYTES ? realloc(data, cap) : NULL;
		if (!bigger) {
			free(data);
			return out_of_memory(err);
		}
		data = bigger;
	}
	*ret_data = data;
	*ret_len = len;
	return 0;
}

static int add_library(const char *path, void *arg)
{
	const struct add *add = arg;

	if (initramfs_has(add->fs, path))
		return 0;
	return initramfs_add_host(add->fs, path, path, false, add->err);
}

/* strict: a missing library is the caller's failure, else a log line. */
static int add_closure(const struct add *add, const char *host_path, bool strict)
{
	struct error own = {0};
	struct add each = {.fs = add->fs, .err = strict ? add->err : &own};
	uint16_t machine = add->fs->machine ?: elf_image_own_machine();
	int r = elf_closure_for(machine, host_path, add_library, &each, each.err);

	if (r == 0 || strict)
		return r;
	if (own.kind != ERROR_USAGE)
		return error_set(add->err, r, "adding the libraries of %s", host_path);
	log_warn("%s: %s", host_path, own.what);
	return 0;
}

static int add_file(const struct add *add, const char *path, const char *host_path, int fd,
		    const struct stat *st, bool top)
{
	uint8_t *data = NULL;
	size_t len = 0;
	bool elf;
	int r = read_whole(fd, st->st_size, host_path, &data, &len, add->err);

	if (r < 0)
		return r;
	r = initramfs_file(add->fs, path, st->st_mode, data, len, add->err);
	elf = len >= 4 && memcmp(data, "\177ELF", 4) == 0;
	free(data);
	if (r == 0 && add->libraries && (elf || top))
		r = add_closure(add, host_path, top);
	return r;
}

static int add_folder(const struct add *add, const char *path, const char *host_path, int fd,
		      unsigned depth);

/* One entry of the folder that dir_fd is. */
static int add_child(const struct add *add, const char *path, const char *host_path, int dir_fd,
		     const char *name, unsigned depth)
{
	char target[PATH_MAX];
	struct stat st;
	CLEANUP_FD int fd = -1;
	ssize_t n;
	int r;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set(add->err, -errno, "adding %s to the initramfs", host_path);
	if (S_ISLNK(st.st_mode)) {
		n = readlinkat(dir_fd, name, target, sizeof(target) - 1);
		if (n < 0)
			return error_set(add->err, -errno, "reading link %s", host_path);
		target[n] = '\0';
		return initramfs_link(add->fs, path, target, add->err);
	}
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
		log_info("%s is neither file, folder nor link and was left out", host_path);
		return 0;
	}
	/* Non-blocking: what was a file at the look above may be a pipe by now. */
	fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(add->err, -errno, "opening %s", host_path);
	if (S_ISREG(st.st_mode))
		return add_file(add, path, host_path, fd, &st, false);
	if (!S_ISDIR(st.st_mode))
		return 0;
	r = initramfs_dir(add->fs, path, st.st_mode, add->err);
	return r < 0 ? r : add_folder(add, path, host_path, fd, depth + 1);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int not_dots(const struct dirent *e)
{
	return strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
}

static int add_folder(const struct add *add, const char *path, const char *host_path, int fd,
		      unsigned depth)
{
	struct dirent **entries;
	int count, r = 0;

	if (depth > DEPTH_MAX)
		return error_usage(add->err, "'%.200s…' has more than %d levels of folders",
				   host_path, DEPTH_MAX);
	count = scandirat(fd, ".", &entries, not_dots, by_name);
	if (count < 0)
		return error_set(add->err, -errno, "reading folder %s", host_path);
	for (int i = 0; i < count; i++) {
		const char *name = entries[i]->d_name;
		CLEANUP_FREE char *below = text_format("%s/%s", path, name);
		CLEANUP_FREE char *host_below = text_format("%s/%s", host_path, name);

		if (r == 0)
			r = below && host_below ? add_child(add, below, host_below, fd, name, depth)
						: out_of_memory(add->err);
		free(entries[i]);
	}
	free(entries);
	return r;
}

/* Where a file at path has another real path, and the archive is to have it at path as well: a
 * link at path, and *ret_path is the real one, malloc'ed. Else *ret_path is NULL. */
static int link_to_real(struct initramfs *fs, const char *path, const char *host_path,
			char **ret_path, struct error *err)
{
	char from[PATH_MAX], to[PATH_MAX], host[PATH_MAX];
	char *real;
	int r;

	*ret_path = NULL;
	if (host_path[0] != '/' || initramfs_resolve(fs, host_path, false, host, NULL) < 0)
		return 0;
	r = initramfs_resolve(fs, path, false, from, err);
	if (r < 0)
		return r;
	real = strcmp(from, host) == 0 ? realpath(host_path, NULL) : NULL;
	if (!real)
		return 0;
	r = initramfs_resolve(fs, real, false, to, err);
	if (r == 0 && strcmp(from, to) != 0) {
		r = initramfs_link(fs, path, real, err);
		if (r == 0) {
			*ret_path = real;
			return 0;
		}
	}
	free(real);
	return r;
}

int initramfs_add_host(struct initramfs *fs, const char *path, const char *host_path,
		       bool libraries, struct error *err)
{
	const struct add add = {.fs = fs, .err = err, .libraries = libraries};
	CLEANUP_FREE char *real = NULL;
	CLEANUP_FD int fd = -1;
	struct stat st;
	int r;

	fd = open(host_path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(err, -errno, "adding %s to the initramfs", host_path);
	if (S_ISDIR(st.st_mode)) {
		r = initramfs_dir(fs, path, st.st_mode, err);
		return r < 0 ? r : add_folder(&add, path, host_path, fd, 0);
	}
	if (!S_ISREG(st.st_mode))
		return error_usage(err, "'%s' is neither a file nor a folder", host_path);
	r = link_to_real(fs, path, host_path, &real, err);
	if (r < 0)
		return r;
	if (real && initramfs_has(fs, real))
		return libraries ? add_closure(&add, host_path, true) : 0;
	return add_file(&add, real ? real : path, host_path, fd, &st, true);
}
