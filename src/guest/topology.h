/* The CPU shape that was asked for: nodes, last-level caches, cores, threads.
 * Plain data; read-only once parsed. No architecture's ids: those are arch.h's. */
#ifndef STASIS_GUEST_TOPOLOGY_H
#define STASIS_GUEST_TOPOLOGY_H

#include <stdbool.h>

#include "base/error.h"

#define TOPOLOGY_MAX_NODES 64
#define TOPOLOGY_MAX_VCPUS 1024

/* Relative distances as the SLIT has them (ACPI 6.5, 5.2.17): to itself, and by default to others.
 */
#define TOPOLOGY_DISTANCE_LOCAL	 10
#define TOPOLOGY_DISTANCE_REMOTE 20

struct topology_node {
	unsigned first_llc;    /* index of its first cache among all */
	unsigned llcs;	       /* 0: memory only */
	uint64_t memory_bytes; /* 0: CPUs only */
	/* Of its memory, from the CPUs that are nearest to it; 0: not said. */
	uint32_t latency_ns, bandwidth_mbs; /* mbs: 10^6 bytes a second */
	uint64_t cache_bytes;		    /* memory-side cache before its memory; 0: none */
};

struct topology {
	unsigned nodes;
	unsigned llcs; /* all caches, over all nodes */
	unsigned cores_per_llc;
	unsigned threads_per_core;
	struct topology_node node[TOPOLOGY_MAX_NODES];
	uint8_t distance[TOPOLOGY_MAX_NODES][TOPOLOGY_MAX_NODES]; /* symmetric */
};

/* Where one vCPU sits. Indexes count from 0 within their parent, but llc and node over all. */
struct topology_place {
	unsigned node, llc, core, thread;
};

/* "1n2l4c2t": nodes, last-level caches (over all nodes), cores per cache, threads per core, each
 * 1 or more; caches divide evenly among nodes; at most TOPOLOGY_MAX_VCPUS vCPUs. Memory is not
 * set. -EINVAL with a usage error that says what is accepted. */
int topology_parse(const char *spec, struct topology *ret_topology, struct error *err) MUST_CHECK;
/* 1n1lNc1t. */
int topology_from_cpus(unsigned cpus, struct topology *ret_topology, struct error *err) MUST_CHECK;
/* Shares bytes among the nodes: equal 2 MiB multiples, the rest to the first. */
int topology_set_memory(struct topology *t, uint64_t bytes, struct error *err) MUST_CHECK;

static inline unsigned topology_vcpus(const struct topology *t)
{
	return t->llcs * t->cores_per_llc * t->threads_per_core;
}
uint64_t topology_memory(const struct topology *t);
/* Whether any node says how fast its memory is, or has a cache before it. */
bool topology_has_memory_figures(const struct topology *t);
/* index < topology_vcpus(t). vCPUs are numbered thread first, then core, cache, node. */
struct topology_place topology_locate(const struct topology *t, unsigned index);
/* "1n2l4c2t"; returns buf. 48 bytes are enough. */
const char *topology_format(const struct topology *t, char *buf, size_t len);

#endif
