/* A scratch folder, and commands in it. For tests. */
#ifndef STASIS_TEST_SCRATCH_H
#define STASIS_TEST_SCRATCH_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/compiler.h"

static char scratch_dir[64];

static inline int scratch_make(void **state)
{
	(void)state;
	strcpy(scratch_dir, "/tmp/stasis-test-XXXXXX");
	return mkdtemp(scratch_dir) ? 0 : -1;
}

/* Runs a shell command in the scratch folder; its exit status. */
static inline PRINTF_LIKE(1, 2) int scratch_run(const char *fmt, ...)
{
	char command[8192];
	int n = snprintf(command, sizeof(command), "cd %s && ", scratch_dir);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command + n, sizeof(command) - (size_t)n, fmt, ap);
	va_end(ap);
	return system(command);
}

static inline int scratch_remove(void **state)
{
	(void)state;
	return scratch_run("chmod -R u+rwx . && cd / && rm -rf %s", scratch_dir);
}

/* scratch folder + name; a static buffer, four deep. */
static inline const char *scratch_path(const char *name)
{
	static char paths[4][512];
	static unsigned turn;
	char *path = paths[turn++ % 4];

	snprintf(path, 512, "%s/%s", scratch_dir, name);
	return path;
}

static inline int scratch_write(const char *name, const void *data, size_t len)
{
	FILE *f = fopen(scratch_path(name), "w");
	int ok = f && fwrite(data, 1, len, f) == len;

	return f && fclose(f) == 0 && ok ? 0 : -1;
}

#endif
