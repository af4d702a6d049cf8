/* The lab's inside: serves sessions that come in frames. The COMMAND of the lab's stasis-init. */
#ifndef STASIS_VM_LAB_AGENT_H
#define STASIS_VM_LAB_AGENT_H

#include "base/error.h"

struct agent_config {
	int in_fd, out_fd;    /* taken */
	const char *dir;      /* for files; must not be shared with another agent */
	const char *program;  /* what sessions run: a path */
	uint64_t cache_bytes; /* 0: half of the file system that dir is in */
};

/* Serves until the other end closes. Blocks SIGCHLD and ignores SIGPIPE for the process. 0 at the
 * end of the stream. */
int agent_run(const struct agent_config *config, struct error *err) MUST_CHECK;

#endif
