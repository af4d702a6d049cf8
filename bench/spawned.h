/* The runner's programs: each in a process group of its own, so that a signal that ends the runner
 * ends all that a program has started. Main thread; one program at a time. */
#ifndef STASIS_BENCH_SPAWNED_H
#define STASIS_BENCH_SPAWNED_H

#include <stdbool.h>

#include "base/error.h"

/* SIGINT, SIGTERM, SIGHUP and SIGQUIT from now on end the program that runs. A signal that can't be
 * handled doesn't: the program looks to that itself (bench_main). */
void spawned_init(void);
/* Runs argv; output: whether what it prints is shown. Its status; or a negative errno, of which err
 * tells: that it can't be started, that a signal ended it, or -EINTR: one came for us, and ended
 * it. */
int spawned_run(char *const *argv, bool output, struct error *err) MUST_CHECK;
/* Tells that it ended with a status that it should not have; returns a negative errno. */
int spawned_failed(const char *path, int status, struct error *err);
/* Dies of the signal that came, if one did. */
void spawned_die(void);

#endif
