/* Starting a program with pipes or a terminal on its standard streams. Any thread; no state. */
#ifndef STASIS_VM_LAB_SPAWN_H
#define STASIS_VM_LAB_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/compiler.h"

struct spawn {
	const char *program; /* a path */
	char *const *argv;
	const char *dir;
	bool terminal; /* 0 and 1 are a new terminal, which controls it; 2 is a pipe */
	uint16_t rows, cols;
};

/* Our ends: close-on-exec, the caller's. */
struct spawn_streams {
	int in, out, err;
	int tty; /* with a terminal: a third descriptor of it; else -1 */
};

/* In a session and group of its own; it dies with the calling thread. Returns when it was execed:
 * a negative errno is why not. */
int spawn(const struct spawn *s, pid_t *ret_pid, struct spawn_streams *ret_streams) MUST_CHECK;

#endif
