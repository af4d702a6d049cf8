/* Whole-file and whole-buffer transfers, directories, descriptors. Any thread; may block. */
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* read(2) and write(2) refuse more than this at once; stay below it. */
#define TRANSFER_MAX (1u << 30)

void fd_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

/* True where the call that set errno is to be tried again: after EINTR, or after waiting for a
 * descriptor that somebody made non-blocking. */
static bool wait_again(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};

	if (errno == EINTR)
		return true;
	if (errno != EAGAIN)
		return false;
	return poll(&p, 1, -1) >= 0 || errno == EINTR;
}

int fd_write_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len) {
		ssize_t n = write(fd, p, MIN(len, TRANSFER_MAX));

		if (n < 0) {
			if (wait_again(fd, POLLOUT))
				continue;
			return -errno;
		}
		if (n == 0)
			return -EIO;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

ssize_t fd_read_all(int fd, void *data, size_t len)
{
	char *p = data;
	size_t got = 0;

	if (len > SSIZE_MAX)
		return -EINVAL;
	while (got < len) {
		ssize_t n = read(fd, p + got, MIN(len - got, TRANSFER_MAX));

		if (n < 0) {
			if (wait_again(fd, POLLIN))
				continue;
			return -errno;
		}
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

/* Reads one byte past what the file's size promises, so that the end is seen without a second
 * pass; files of /proc and /sys have size 0 and grow the buffer as they come. */
int file_read(const char *path, size_t max, char **ret_data, size_t *ret_len)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : file_read_fd(fd, max, ret_data, ret_len);
}

int file_read_fd(int fd, size_t max, char **ret_data, size_t *ret_len)
{
	CLEANUP_FREE char *data = NULL;
	size_t len = 0, cap;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISREG(st.st_mode) && st.st_size > 0 && (uint64_t)st.st_size > max)
		return -EFBIG;
	if (max > SSIZE_MAX - 2)
		max = SSIZE_MAX - 2;
	cap = S_ISREG(st.st_mode) && st.st_size > 0 ? (size_t)st.st_size + 1 : 4096;
	for (;;) {
		ssize_t n;
		char *grown;

		cap = MIN(cap, max + 1);
		grown = realloc(data, cap + 1);
		if (!grown)
			return -ENOMEM;
		data = grown;
		n = fd_read_all(fd, data + len, cap - len);
		if (n < 0)
			return (int)n;
		len += (size_t)n;
		if (len > max)
			return -EFBIG;
		if (len < cap)
			break;
		cap *= 2;
	}
	data[len] = '\0';
	*ret_data = data;
	data = NULL;
	*ret_len = len;
	return 0;
}

static int make_one(const char *path, mode_t mode)
{
	struct stat st;

	if (mkdir(path, mode) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	if (stat(path, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int dir_make(const char *path, mode_t mode)
{
	CLEANUP_FREE char *copy = NULL;
	struct stat st;

	if (!path[0])
		return -ENOENT;
	/* First the whole: mkdir of a parent on a read-only file system would fail. */
	if (stat(path, &st) == 0)
		return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
	copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	for (char *p = copy + 1; *p; p++) {
		int r;

		if (*p != '/' || p[-1] == '/')
			continue;
		*p = '\0';
		r = stat(copy, &st) == 0 && S_ISDIR(st.st_mode) ? 0 : make_one(copy, mode | 0300);
		*p = '/';
		if (r < 0)
			return r;
	}
	return make_one(copy, mode);
}

int fd_reopen_terminal(int fd)
{
	char path[32];

	if (!isatty(fd))
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}
