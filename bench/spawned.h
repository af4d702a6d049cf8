/* The runner's programs: each in a process group of its own, so that a signal that ends the runner
 * ends all that a program has started. Main thread; one program at a time. */
#ifndef STASIS_BENCH_SPAWNED_H
#define STASIS_BENCH_SPAWNED_H

#include <stdbool.h>

#include "base/error.h"

/* SIGINT, SIGTERM, SIGHUP and SIGQUIT from now on end the program that runs. A signal that can't be
 * handled doesn't: the program looks to that itself (bench_main). */
void spawned_init(void);
/* Runs argv; output: whether what it prints is shown. Its status, or a negative errno; -EINTR when
 * a signal ended it. */
int spawned_run(char *const *argv, bool output) MUST_CHECK;
/* Dies of the signal that came, if one did. */
void spawned_die(void);

#endif
