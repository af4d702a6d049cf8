/* A temporary image for block tests: unlinked when it is done with. Failures end the program. */
#ifndef STASIS_TESTS_DISK_IMAGE_H
#define STASIS_TESTS_DISK_IMAGE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/compiler.h"

#define DISK_IMAGE_PATH 64
#define DISK_IMAGE_CHECK(cond)                                                                     \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			perror("disk_image: " #cond);                                              \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

struct disk_image {
	char path[DISK_IMAGE_PATH];
	int fd;
};

static inline void disk_image_make(struct disk_image *d, size_t bytes)
{
	strcpy(d->path, "/tmp/stasis-disk-XXXXXX");
	d->fd = mkstemp(d->path);
	DISK_IMAGE_CHECK(d->fd >= 0 && ftruncate(d->fd, (off_t)bytes) == 0);
}

static inline void disk_image_done(struct disk_image *d)
{
	unlink(d->path);
	close(d->fd);
}

static inline void disk_image_read(const struct disk_image *d, size_t at, void *buf, size_t len)
{
	DISK_IMAGE_CHECK(pread(d->fd, buf, len, (off_t)at) == (ssize_t)len);
}

static inline void disk_image_write(const struct disk_image *d, size_t at, const void *buf,
				    size_t len)
{
	DISK_IMAGE_CHECK(pwrite(d->fd, buf, len, (off_t)at) == (ssize_t)len);
}

/* Bytes that tell their place. */
static inline void disk_image_pattern(uint8_t *buf, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(seed * 31 + i * 7 + (i >> 8) * 13);
}

#endif
