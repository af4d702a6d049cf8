/* A file that is whole or not there at all: written under no name, or a temporary one beside, and
 * renamed at the end. What stood at the path stays until then. Any thread, one at a time. */
#ifndef STASIS_BASE_BESIDE_H
#define STASIS_BASE_BESIDE_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/compiler.h"

struct beside {
	char *path; /* what it will be called, links followed; NULL: not open */
	char *tmp;  /* NULL: a block device, which is written in place */
	int fd;	    /* a block device is write-only */
	bool named; /* tmp is there */
};

/* Begins. A path that is there has to be a regular file or a link to one, or a block device (opened
 * for direct writes): others are -ENOTSUP, a folder is -EISDIR. mode: of the new file, less the
 * umask. Negative errno. */
int beside_open(struct beside *b, const char *path, mode_t mode) MUST_CHECK;
/* The end, once the caller has written and synced it: the file is there. On failure as
 * beside_abort. */
int beside_commit(struct beside *b) MUST_CHECK;
/* Nothing is left of it. Accepts a zeroed one, and one that was committed. */
void beside_abort(struct beside *b);
/* All of it: write gives 0 or a negative errno, and need not look for errors of f. */
int beside_write(const char *path, int (*write)(FILE *f, void *arg), void *arg) MUST_CHECK;
/* Whether beside_open could succeed now, as far as can be told without writing. Negative errno. */
int beside_check(const char *path) MUST_CHECK;

#endif
