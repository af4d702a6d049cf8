/* A running VM by its name, for the commands that talk to one. */
#ifndef STASIS_CLI_FIND_VM_H
#define STASIS_CLI_FIND_VM_H

#include <jansson.h>

#include "base/error.h"

/* What its info.json says (vm/runtime.h); the caller's. A usage error offers the nearest name. */
int find_vm(const char *name, json_t **ret_info, struct error *err) MUST_CHECK;
/* The same error for one that ended just now. */
int find_vm_none(const char *name, struct error *err) MUST_CHECK;
/* A string of it, or "". */
const char *find_vm_text(const json_t *info, const char *key);

#endif
