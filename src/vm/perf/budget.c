/* The CPUs of an ordinary VM with a budget. Any thread. */
#include "vm/perf/budget.h"

#include <limits.h>
#include <stdlib.h>

#include "base/util.h"

#define ANY UINT_MAX

/* The next cache to fill: on the node of the last one (the first: not that of CPU 0), not the one
 * with CPU 0, and one that the
 * rest of the budget fills to the brim if there is any: the largest of those that it fills, else
 * the smallest. ANY when all are used. */
static unsigned next_to_fill(const struct host_cpus *host, const bool *used, unsigned node,
			     unsigned left)
{
	unsigned best = ANY;
	uint64_t best_rank = UINT64_MAX;
	unsigned first_node = ANY;

	for (unsigned g = 0; host->nodes > 1 && g < host->groups; g++)
		if (host->group[g].id == 0)
			first_node = host->group[g].node;
	for (unsigned g = 0; g < host->groups; g++) {
		const struct host_group *group = &host->group[g];
		bool fills = group->usable <= left;
		uint64_t rank =
			(uint64_t)(node == ANY ? group->node == first_node : group->node != node)
				<< 50 |
			(uint64_t)(!fills) << 49 | (uint64_t)(group->id == 0) << 48 |
			(fills ? HOST_CPUS_MAX - group->usable : group->usable);

		if (!used[g] && rank < best_rank) {
			best_rank = rank;
			best = g;
		}
	}
	return best;
}

void perf_budget(const struct host_cpus *host, unsigned budget, struct host_cpu_set *ret_set)
{
	CLEANUP_FREE bool *used = calloc(host->groups, sizeof(*used));
	struct host_cpu_set set = {0};
	unsigned left = MIN(budget, host->count), node = ANY;

	/* Out of memory for a few bytes: the budget is then the first CPUs. */
	for (unsigned i = 0; !used && i < left; i++)
		host_cpu_set_add(&set, host->cpu[i].id);
	while (used && left > 0) {
		unsigned g = next_to_fill(host, used, node, left);

		used[g] = true;
		node = host->group[g].node;
		/* Downwards, so that a part of a cache leaves out CPU 0. */
		for (unsigned i = host->count; i-- > 0 && left > 0;) {
			if (host->cpu[i].group != g)
				continue;
			host_cpu_set_add(&set, host->cpu[i].id);
			left--;
		}
	}
	*ret_set = set;
}
