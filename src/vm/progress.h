/* One line on a terminal's standard error that says what is taking so long; gone when it ends.
 * Silent where standard error is no terminal, with -q, and within the first second. */
#ifndef STASIS_VM_PROGRESS_H
#define STASIS_VM_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	const char *what; /* "booting the guest"; NULL: nothing to show */
	uint64_t since_ns;
	bool enabled, shown;
};

void progress_init(struct progress *p, bool enabled);
/* A new thing to wait for; NULL ends the line. */
void progress_set(struct progress *p, const char *what);
/* To be called now and then; redraws. */
void progress_tick(struct progress *p);

#endif
