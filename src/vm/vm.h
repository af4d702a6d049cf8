/* Builds a machine from a configuration, runs it to its end, and takes it down again. */
#ifndef STASIS_VM_VM_H
#define STASIS_VM_VM_H

#include "vm/config.h"
#include "vm/result.h"

/* The calling thread becomes the control thread until this returns. SIGINT, SIGTERM, SIGHUP,
 * SIGQUIT and SIGWINCH must be blocked in it. Fills in *result (which the caller has zeroed) and
 * config->name where that was NULL. Returns 0 when a guest ran, however it ended; a negative
 * errno with err when it could not be built, and then result->outcome is VM_ERROR or, for
 * contention, VM_SKIPPED. The console's end has been printed to standard error where CLI.md
 * wants it. */
int vm_run(struct vm_config *config, struct vm_result *result, struct error *err) MUST_CHECK;

#endif
