/* What a frozen guest is doing, as JSON: CLI.md, Failure dump. Control thread, while the guest is
 * frozen; reads guest memory, which may hold anything. */
#ifndef STASIS_FREEZE_DUMP_H
#define STASIS_FREEZE_DUMP_H

#include <jansson.h>

#include "freeze/freeze.h"
#include "inspect/inspect.h"

/* What fired. */
struct dump_cause {
	char name[FREEZE_CAUSE]; /* "freeze-at", "control socket", "watch:scx_exit_kind" */
	const char *watch;	 /* the expression, as it was typed; NULL: no watch. Static */
	uint64_t gva;		 /* … what it stood for; bytes: 1, 2, 4 or 8 */
	unsigned bytes;
	uint64_t before, after; /* the store */
	bool before_known;
	bool polled; /* found by looking now and then: no vCPU is known, and it may be past */
	int vcpu;    /* whose store; -1: not known */
};

struct dump_config {
	const struct dump_cause *cause;
	const struct freeze *freeze; /* FROZEN, or given up with some parked */
	struct vcpu_pool *pool;
	const struct inspect *inspect; /* NULL: not to be had … */
	const char *inspect_lack;      /* … and why */
	const char *release;	       /* the kernel's, where inspect has none; or NULL */
};

/* The whole dump. Of each vCPU "stack" goes from the innermost frame outward, and each frame says
 * how it was found ("by"); "stack_complete" is false where the way was lost. What the kernel has no
 * type for is left out, and named in "lacks". Those that have not parked are in not_parked, and
 * have no registers. NULL: out of memory. The caller owns the reference. */
json_t *dump_make(const struct dump_config *c);

#endif
