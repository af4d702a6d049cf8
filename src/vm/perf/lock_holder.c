/* Holders of a flock by /proc/locks. Any thread. */
#include "vm/perf/lock_holder.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/util.h"

#define STATUS_MAX KIB(16)

/* A line of a holder; those who wait have "->" behind the number. */
static bool parse(const char *line, int *ret_pid, unsigned *ret_major, unsigned *ret_minor,
		  uint64_t *ret_inode)
{
	return sscanf(line, "%*u: FLOCK %*s %*s %d %x:%x:%" SCNu64, ret_pid, ret_major, ret_minor,
		      ret_inode) == 4;
}

static int find_pid(const struct stat *st)
{
	CLEANUP_FREE char *line = NULL;
	FILE *f = fopen("/proc/locks", "re");
	size_t len = 0;
	int found = 0;

	while (f && found <= 0 && getline(&line, &len, f) > 0) {
		unsigned maj, min;
		uint64_t inode;
		int pid;

		if (parse(line, &pid, &maj, &min, &inode) && inode == st->st_ino &&
		    makedev(maj, min) == st->st_dev)
			found = pid;
	}
	if (f)
		fclose(f);
	return found;
}

bool lock_holder(const struct stat *st, char *buf, size_t len)
{
	CLEANUP_FREE char *text = NULL;
	int pid = find_pid(st);
	char path[32], name[64] = "?";
	const char *line;
	unsigned user;
	size_t size;

	if (pid <= 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if (file_read(path, STATUS_MAX, &text, &size) < 0 ||
	    sscanf(text, "Name: %63[^\n]", name) != 1 || !(line = strstr(text, "\nUid:")) ||
	    sscanf(line, "\nUid: %u", &user) != 1) {
		snprintf(buf, len, "pid %d", pid);
		return true;
	}
	/* A name that its owner chose, for a terminal and for JSON. */
	for (char *c = name; *c; c++)
		if (*c < 0x20 || *c >= 0x7f)
			*c = '?';
	snprintf(buf, len, "%s (pid %d, user %u)", name, pid, user);
	return true;
}
