/* Reading what to run and starting it. One thread: init's. */
#ifndef STASIS_GUEST_INIT_COMMAND_H
#define STASIS_GUEST_INIT_COMMAND_H

#include <stddef.h>
#include <sys/types.h>

#include "base/compiler.h"

/* More than a kernel with 8 MiB stacks takes for arguments. */
#define COMMAND_FILE_MAX (4u << 20)

#define COMMAND_STATUS_NOT_FOUND 127
#define COMMAND_STATUS_NOT_RUN	 126

struct command {
	const char *const *argv,
		*const *envp; /* NULL at their ends; argv[0] is looked up in envp's PATH */
	const char *cwd;
	int stdio[3]; /* become 0, 1, 2; above 2; borrowed */
	int tty;      /* becomes the controlling terminal; -1: none */
};

/* NUL-terminated strings of a file as a vector with NULL at its end; both malloc'ed in one. An
 * empty file gives an empty vector. -ENOENT: there is no such file. */
int command_load(const char *path, const char ***ret_strings) MUST_CHECK;
/* base with over's on top: a name in over replaces the same name. The vector is malloc'ed, the
 * strings are borrowed. NULL when memory is short. */
const char **command_env(const char *const *base, const char *const *over);
/* The last value of a name, or NULL. */
const char *command_env_get(const char *const *env, const char *name);

/* In a session and process group of its own, with default signal dispositions and nothing open but
 * its three. Returns when it has been execed, or couldn't be: a negative errno. */
int command_start(const struct command *c, pid_t *ret_pid) MUST_CHECK;
/* What a shell's status would be for that errno. */
int command_failed_status(int error);

#endif
