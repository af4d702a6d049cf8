/* The host's side of init's ports, for tests: socket pairs, with init's part in a child. */
#ifndef STASIS_TESTS_INIT_HOST_H
#define STASIS_TESTS_INIT_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "guest/init/serve.h"

struct host {
	int control, port[SERVE_STREAMS]; /* the host's ends; -1: closed */
	pid_t init;			  /* the child that plays init */
	char line[SESSION_LINE_MAX + 1];
};

/* Runs argv as init would, in a child. */
void host_start(struct host *h, const char *const *argv);
void host_say(struct host *h, const char *line);
/* The next line from init without its newline; NULL at the end or after 20 s. */
const char *host_any_line(struct host *h);
/* … that isn't "closed stdin", which may come whenever COMMAND ends. */
const char *host_line(struct host *h);
/* Reads a stream until init is through with COMMAND or for len bytes; returns how many came. */
size_t host_read(struct host *h, enum serve_stream stream, void *data, size_t len);
void host_close(struct host *h, enum serve_stream stream);
/* Says bye and waits for init; true if it ended well. Closes everything. */
bool host_end(struct host *h);
/* A generator of the same bytes for the same seed. */
uint32_t host_random(uint32_t *seed);

#endif
