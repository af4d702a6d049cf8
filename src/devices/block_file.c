/* Opens the file or device under a disk and finds out what it wants of I/O. Control thread. */
#include "devices/block_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"

#define BLOCK_MAX_BYTES	 65536 /* no host has larger blocks */
#define QCOW_MAGIC	 "QFI\xfb"
#define ACCEPTED	 "a raw image or a block device is accepted"
#define DEFAULT_PHYSICAL 4096

static int refuse_open(const struct block_spec *spec, int code, struct error *err)
{
	switch (code) {
	case ENOENT:
		return error_usage(err,
				   "%s: no such file; " ACCEPTED " (truncate -s 1G FILE makes an "
				   "empty image)",
				   spec->path);
	case EACCES:
	case EPERM:
	case EROFS:
		return error_usage(err, "%s: %s%s", spec->path, strerror(code),
				   spec->read_only ? "" : "; to read it only, add ,ro");
	case EBUSY:
		return error_contention(err, "%s: in use on this host, mounted perhaps",
					spec->path);
	case EMFILE:
	case ENFILE:
	case ENOMEM:
		return error_set_shortage(err, -code, "opening %s", spec->path);
	default:
		return error_usage(err, "%s: %s; " ACCEPTED, spec->path, strerror(code));
	}
}

/* Looks before it opens: to open a FIFO or a tape has effects. */
static int check_kind(const struct block_spec *spec, const struct stat *st, struct error *err)
{
	if (S_ISREG(st->st_mode) || S_ISBLK(st->st_mode))
		return 0;
	return error_usage(err, "%s: is a %s; " ACCEPTED, spec->path,
			   S_ISDIR(st->st_mode)	   ? "folder"
			   : S_ISCHR(st->st_mode)  ? "character device"
			   : S_ISFIFO(st->st_mode) ? "pipe"
						   : "socket");
}

static int open_path(const struct block_spec *spec, bool exclusive, int *ret_fd,
		     struct stat *ret_stat, struct error *err)
{
	int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (spec->read_only ? O_RDONLY : O_RDWR);
	int fd, r;

	if (stat(spec->path, ret_stat) < 0)
		return refuse_open(spec, errno, err);
	r = check_kind(spec, ret_stat, err);
	if (r < 0)
		return r;
	if (S_ISBLK(ret_stat->st_mode) && !spec->read_only && exclusive)
		flags |= O_EXCL;
	fd = open(spec->path, flags);
	if (fd < 0)
		return refuse_open(spec, errno, err);
	r = fstat(fd, ret_stat) < 0 ? refuse_open(spec, errno, err)
				    : check_kind(spec, ret_stat, err);
	/* Blocking again, or io_uring would end operations with EAGAIN. */
	flags = spec->direct ? O_DIRECT : 0;
	if (r == 0 && fcntl(fd, F_SETFL, flags) < 0)
		r = spec->direct && errno == EINVAL
			    ? error_usage(err,
					  "%s: no direct I/O on this file system; leave out "
					  "\"direct\"",
					  spec->path)
			    : refuse_open(spec, errno, err);
	if (r < 0) {
		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

static bool sane_block(uint64_t bytes)
{
	return bytes >= BLOCK_SECTOR && bytes <= BLOCK_MAX_BYTES && !(bytes & (bytes - 1));
}

/* The smallest alignment that a direct read takes, 0 if none. What statx says of it is not there
 * on all kernels and file systems; a read is. */
static uint32_t probe_direct(int fd, uint32_t from)
{
	uint32_t found = 0;
	uint8_t *buf;

	if (posix_memalign((void **)&buf, BLOCK_MAX_BYTES, 2 * BLOCK_MAX_BYTES) != 0)
		return 0;
	/* At align past a far larger boundary: aligned to it and to nothing above. */
	for (uint32_t align = from; align <= BLOCK_MAX_BYTES && !found; align *= 2)
		if (pread(fd, buf + align % BLOCK_MAX_BYTES, align, 0) >= 0)
			found = align;
	free(buf);
	return found;
}

static int find_limits(const struct block_spec *spec, const struct stat *st, struct block_file *f,
		       struct error *err)
{
	int logical = 0;
	unsigned physical = 0, optimal = 0;

	f->block_bytes = BLOCK_SECTOR;
	f->memory_align = 1;
	f->bytes = (uint64_t)st->st_size;
	f->physical_bytes = DEFAULT_PHYSICAL;
	if (S_ISBLK(st->st_mode)) {
		if (ioctl(f->fd, BLKGETSIZE64, &f->bytes) < 0)
			return error_set(err, -errno, "asking %s for its size", spec->path);
		if (ioctl(f->fd, BLKSSZGET, &logical) == 0 && sane_block((uint64_t)logical))
			f->block_bytes = (uint32_t)logical;
		if (ioctl(f->fd, BLKPBSZGET, &physical) == 0 && sane_block(physical))
			f->physical_bytes = physical;
		if (ioctl(f->fd, BLKIOOPT, &optimal) == 0)
			f->optimal_bytes = optimal;
	} else if (sane_block((uint64_t)st->st_blksize)) {
		f->physical_bytes = (uint32_t)st->st_blksize;
	}
	if (!f->bytes)
		return error_usage(err, "%s: is empty (truncate -s 1G FILE gives it a size)",
				   spec->path);
	if (f->direct) {
		f->block_bytes = f->memory_align = probe_direct(f->fd, f->block_bytes);
		if (!f->block_bytes)
			return error_usage(err, "%s: direct I/O fails here; leave out \"direct\"",
					   spec->path);
	}
	f->physical_bytes = MAX(f->physical_bytes, f->block_bytes);
	if (f->bytes % f->block_bytes)
		return error_usage(err, "%s: its size, %llu bytes, is not a multiple of %u%s",
				   spec->path, (unsigned long long)f->bytes, f->block_bytes,
				   f->block_bytes > BLOCK_SECTOR && f->direct
					   ? ", which \"direct\" needs here"
					   : "");
	return 0;
}

/* An image of another format would look like a disk of rubbish. */
static int check_format(const struct block_spec *spec, struct error *err)
{
	CLEANUP_FD int fd = open(spec->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char magic[4];

	if (fd < 0 || pread(fd, magic, sizeof(magic), 0) != (ssize_t)sizeof(magic) ||
	    memcmp(magic, QCOW_MAGIC, sizeof(magic)) != 0)
		return 0;
	return error_usage(err,
			   "%s: is a qcow2 image; " ACCEPTED " (qemu-img convert -O raw makes one)",
			   spec->path);
}

static int open_any(const struct block_spec *spec, bool hold, struct block_file *ret_file,
		    struct error *err)
{
	struct block_file f = {.fd = -1, .read_only = spec->read_only, .direct = spec->direct};
	struct stat st;
	int r = open_path(spec, hold, &f.fd, &st, err);

	if (r < 0)
		return r;
	if (hold && flock(f.fd, (spec->read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) < 0)
		r = errno == EWOULDBLOCK
			    ? error_contention(err, "%s: in use by another machine%s", spec->path,
					       spec->read_only ? ", which writes to it"
							       : "; several may share it only if "
								 "all have ,ro")
			    : error_set(err, -errno, "locking %s", spec->path);
	if (r == 0)
		r = find_limits(spec, &st, &f, err);
	if (r == 0)
		r = check_format(spec, err);
	if (r < 0) {
		block_file_close(&f);
		return r;
	}
	*ret_file = f;
	return 0;
}

int block_file_open(const struct block_spec *spec, struct block_file *ret_file, struct error *err)
{
	return open_any(spec, true, ret_file, err);
}

int block_file_check(const struct block_spec *spec, uint64_t *ret_bytes, struct error *err)
{
	struct block_file f;
	int r = open_any(spec, false, &f, err);

	if (r < 0)
		return r;
	if (ret_bytes)
		*ret_bytes = f.bytes;
	block_file_close(&f);
	return 0;
}

void block_file_close(struct block_file *file)
{
	/* io_uring may hold the file for a moment longer than its last operation. */
	if (file->fd >= 0)
		(void)flock(file->fd, LOCK_UN);
	fd_close(&file->fd);
}
