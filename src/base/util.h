/* Descriptors, clocks and clean-up on scope exit. */
#ifndef STASIS_BASE_UTIL_H
#define STASIS_BASE_UTIL_H

#include <stdbool.h>
#include <stdlib.h>
#include <sys/types.h>
#include <time.h>

#include "base/compiler.h"

/* CLOCK_MONOTONIC in nanoseconds. */
static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Closes *fd if it is one, and sets it to -1. errno is kept. */
void fd_close(int *fd);
/* The whole of a file. *ret_data is malloc'ed, with a NUL after its len bytes. -EFBIG above max. */
int file_read(const char *path, size_t max, char **ret_data, size_t *ret_len) MUST_CHECK;
/* The same of one that is open, from where it stands. */
int file_read_fd(int fd, size_t max, char **ret_data, size_t *ret_len) MUST_CHECK;
/* Writes all of it, over short writes and EINTR. Negative errno on failure. */
int fd_write_all(int fd, const void *data, size_t len) MUST_CHECK;
/* Reads until len or end of file; returns bytes read or a negative errno. */
ssize_t fd_read_all(int fd, void *data, size_t len) MUST_CHECK;
/* An open file of our own on the terminal that fd is: writable and non-blocking, without changing
 * the shared one. -1 if fd is no terminal or can't be opened again. */
int fd_reopen_terminal(int fd);
/* Adds O_CLOEXEC-safe directory path, creating parents; 0 also where it exists. */
int dir_make(const char *path, mode_t mode) MUST_CHECK;

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}
#define CLEANUP_FREE __attribute__((cleanup(cleanup_free)))
#define CLEANUP_FD   __attribute__((cleanup(fd_close)))

#endif
