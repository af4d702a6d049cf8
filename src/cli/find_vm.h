/* A running VM by its name, for the commands that talk to one. */
#ifndef STASIS_CLI_FIND_VM_H
#define STASIS_CLI_FIND_VM_H

#include <jansson.h>

#include "base/error.h"
#include "vm/qmp/client.h"

/* For an answer. A rendezvous has a deadline of its own, which is shorter. */
#define FIND_VM_LIMIT_NS 30000000000u

/* What its info.json says (vm/runtime.h); the caller's. A usage error offers the nearest name. */
int find_vm(const char *name, json_t **ret_info, struct error *err) MUST_CHECK;
/* The same error for one that ended just now. */
int find_vm_none(const char *name, struct error *err) MUST_CHECK;
/* Opens its control socket; limit_ns as in qmp_client_open. */
int find_vm_open(const char *name, uint64_t limit_ns, struct qmp_client *ret_client,
		 struct error *err) MUST_CHECK;
/* A string of it, or "". */
const char *find_vm_text(const json_t *info, const char *key);

#endif
