/* What this host can do, found by trying. Control thread. */
#ifndef STASIS_VM_DOCTOR_H
#define STASIS_VM_DOCTOR_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

struct host_ability {
	bool runs_linux; /* a stock kernel boots on this host's KVM */
	char why[256];	 /* if not: one line */
};

/* Quick: the probe guest's answer is remembered in the runtime directory until the host is booted
 * or KVM is loaded anew. Only shortages are errors. */
int host_ability(struct host_ability *ret_ability, struct error *err) MUST_CHECK;

/* Everything, tried now: an array of {"name", "ok", "found", "mend"?}, "mend" being a command. */
int doctor_examine(json_t **ret_checks, struct error *err) MUST_CHECK;

#endif
