/* What a plan promises, checked by a host's table alone: neither by the planner nor by the reader.
 */
#ifndef STASIS_TEST_ORACLE_H
#define STASIS_TEST_ORACLE_H

#include "guest/topology.h"
#include "tree.h"
#include "vm/perf/plan.h"

/* What a plan of shape lacks of what it should keep, as a few words; NULL: nothing. */
const char *oracle_flaw(const struct tree *t, const struct perf_plan *plan,
			const struct topology *shape, const struct host_cpu_set *allowed);
/* Whether there is a plan without a flaw, by counting. */
bool oracle_possible(const struct tree *t, const struct topology *shape,
		     const struct host_cpu_set *allowed);
/* The table's row of a host CPU; NULL if there is none. */
const struct tree_cpu *oracle_cpu(const struct tree *t, int id);

#endif
