/* What the vCPUs left their guest for, as rows of JSON. Control thread; the vCPU threads go on
 * meanwhile. */
#ifndef STASIS_VM_STATS_ROWS_H
#define STASIS_VM_STATS_ROWS_H

#include <jansson.h>

#include "vcpu/account.h"

/* Rows at most, those with most exits; one more, the last, has the rest, and with it what the
 * accounts themselves have under ACCOUNT_ANY. */
#define STATS_EXITS_MAX 256u

/* A row for each key that any of these count accounts has, added up over all that have it; no two
 * are of the same name. No key that an earlier call saw is missed. Empty when out of memory. */
json_t *stats_rows(const struct account *const *accounts, unsigned count, double ns_per_tick);

#endif
