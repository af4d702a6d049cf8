/* A CPU shape as a person types it, option by option, until it is a struct topology.
 * Plain data, no allocation; any thread. */
#ifndef STASIS_GUEST_TOPOLOGY_REQUEST_H
#define STASIS_GUEST_TOPOLOGY_REQUEST_H

#include "guest/topology.h"

/* Zero-initialise. Texts are borrowed until topology_resolve. */
struct topology_request {
	const char *spec;      /* --topology, or NULL */
	unsigned cpus;	       /* --cpus, or 0 */
	uint64_t memory_bytes; /* --memory, or 0 */
	unsigned node_count;   /* --numa-node, in their order */
	struct topology_node node[TOPOLOGY_MAX_NODES];
	/* --numa-distance, both ways; 0: not given */
	uint8_t distance[TOPOLOGY_MAX_NODES][TOPOLOGY_MAX_NODES];
};

/* "llcs=2,mem=1G[,latency=NS][,bandwidth=MBS][,cache=SIZE]". What is left out is 0. Usage errors
 * begin with the text. */
int topology_request_node(struct topology_request *q, const char *text,
			  struct error *err) MUST_CHECK;
/* A node as topology_request_node reads it; returns buf. 128 bytes are enough. */
const char *topology_node_format(const struct topology_node *node, char *buf, size_t len);
/* "A,B=D", D from 11 to 254. Usage error where it contradicts an earlier one. */
int topology_request_distance(struct topology_request *q, const char *text,
			      struct error *err) MUST_CHECK;
/* The shape, memory included. With --numa-node, spec is "[Nn][Nl]NcNt" (cores per cache and
 * threads per core, 1 and 1 without it) and memory_bytes is 0. default_memory_bytes where nothing
 * says. Usage errors name the option. */
int topology_resolve(const struct topology_request *q, uint64_t default_memory_bytes,
		     struct topology *ret_topology, struct error *err) MUST_CHECK;

#endif
