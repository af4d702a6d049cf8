/* How clones ended, in sum. Plain data. */
#ifndef STASIS_CLI_CLONE_TALLY_H
#define STASIS_CLI_CLONE_TALLY_H

#include <stddef.h>

struct clone_end {
	const char *name; /* borrowed */
	int status;	  /* an exit status of stasis's */
};

/* The worst of them: what stasis itself failed at, then guests that died, then those that timed
 * out, then hits, then the largest status of COMMAND's, then clones that this host could not run.
 */
int clone_tally_status(const struct clone_end *ends, size_t n);
/* One line: "100 clones: 97 ended with 0, 2 with 1 (a-3, a-9), 1 with 124, timed out (a-7)".
 * malloc'ed, or NULL when out of memory. */
char *clone_tally_text(const struct clone_end *ends, size_t n);

#endif
