/* The CPU shape as text and as numbers. Pure functions; any thread. */
#include "guest/topology.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/parse.h"

#define NODE_SHARE_UNIT MIB(2)
#define GUEST_PAGE	KIB(4)

enum { FIELD_NODES, FIELD_LLCS, FIELD_CORES, FIELD_THREADS, FIELDS };

static const struct field {
	char letter;
	unsigned max;
	const char *what;
} fields[FIELDS] = {
	[FIELD_NODES] = {'n', TOPOLOGY_MAX_NODES, "NUMA nodes"},
	[FIELD_LLCS] = {'l', TOPOLOGY_MAX_VCPUS, "last-level caches"},
	[FIELD_CORES] = {'c', TOPOLOGY_MAX_VCPUS, "cores per cache"},
	[FIELD_THREADS] = {'t', TOPOLOGY_MAX_VCPUS, "threads per core"},
};

static int not_a_spec(const char *spec, struct error *err)
{
	return error_usage(err,
			   "'%.64s' is not of the form 1n2l4c2t: NUMA nodes, last-level "
			   "caches (over all nodes), cores per cache, threads per core",
			   spec);
}

/* Reads "NUMBERletter" at *text and moves past it. A number too large for 64 bits stays at
 * UINT64_MAX: the range check that follows refuses it by its own name. */
static bool read_field(const char **text, char letter, uint64_t *ret_value)
{
	const char *p = *text;
	uint64_t value = 0;

	if (*p < '0' || *p > '9')
		return false;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value)) {
			value = UINT64_MAX;
			while (*p >= '0' && *p <= '9')
				p++;
			break;
		}
	}
	if (*p != letter)
		return false;
	*text = p + 1;
	*ret_value = value;
	return true;
}

static void set_shape(struct topology *t, unsigned nodes, unsigned llcs, unsigned cores,
		      unsigned threads)
{
	*t = (struct topology){
		.nodes = nodes,
		.llcs = llcs,
		.cores_per_llc = cores,
		.threads_per_core = threads,
	};
	for (unsigned i = 0; i < nodes; i++) {
		t->node[i].llcs = llcs / nodes;
		t->node[i].first_llc = i * (llcs / nodes);
	}
	for (unsigned a = 0; a < nodes; a++)
		for (unsigned b = 0; b < nodes; b++)
			t->distance[a][b] =
				a == b ? TOPOLOGY_DISTANCE_LOCAL : TOPOLOGY_DISTANCE_REMOTE;
}

int topology_parse(const char *spec, struct topology *ret_topology, struct error *err)
{
	const char *p = spec;
	uint64_t v[FIELDS], vcpus;

	for (unsigned i = 0; i < FIELDS; i++)
		if (!read_field(&p, fields[i].letter, &v[i]))
			return not_a_spec(spec, err);
	if (*p)
		return not_a_spec(spec, err);

	for (unsigned i = 0; i < FIELDS; i++) {
		if (v[i] == 0)
			return error_usage(err, "'%.64s' has 0 %s ('%c'): 1 to %u are accepted",
					   spec, fields[i].what, fields[i].letter, fields[i].max);
		if (v[i] > fields[i].max)
			return error_usage(err,
					   "'%.64s' has too many %s ('%c'): 1 to %u are "
					   "accepted",
					   spec, fields[i].what, fields[i].letter, fields[i].max);
	}
	vcpus = v[FIELD_LLCS] * v[FIELD_CORES] * v[FIELD_THREADS];
	if (vcpus > TOPOLOGY_MAX_VCPUS)
		return error_usage(err, "'%.64s' has %" PRIu64 " vCPUs: at most %d are accepted",
				   spec, vcpus, TOPOLOGY_MAX_VCPUS);
	if (v[FIELD_LLCS] % v[FIELD_NODES])
		return error_usage(err,
				   "'%.64s' can't share %" PRIu64
				   " last-level caches evenly among %" PRIu64
				   " NUMA nodes: a multiple of %" PRIu64 " is accepted",
				   spec, v[FIELD_LLCS], v[FIELD_NODES], v[FIELD_NODES]);

	set_shape(ret_topology, (unsigned)v[FIELD_NODES], (unsigned)v[FIELD_LLCS],
		  (unsigned)v[FIELD_CORES], (unsigned)v[FIELD_THREADS]);
	return 0;
}

int topology_from_cpus(unsigned cpus, struct topology *ret_topology, struct error *err)
{
	if (cpus == 0 || cpus > TOPOLOGY_MAX_VCPUS)
		return error_usage(err, "%u CPUs: 1 to %d are accepted", cpus, TOPOLOGY_MAX_VCPUS);
	set_shape(ret_topology, 1, 1, cpus, 1);
	return 0;
}

int topology_set_memory(struct topology *t, uint64_t bytes, struct error *err)
{
	uint64_t share = ALIGN_DOWN(bytes / t->nodes, NODE_SHARE_UNIT);
	char text[32];

	if (bytes == 0)
		return error_usage(err, "a guest without memory: a size such as 512M is accepted");
	if (bytes % GUEST_PAGE)
		return error_usage(err,
				   "memory of %" PRIu64 " bytes: a multiple of 4 KiB is accepted",
				   bytes);
	if (t->nodes > 1 && share == 0)
		return error_usage(err,
				   "memory of %s is too little for %u NUMA nodes: each needs 2 MiB",
				   format_size(bytes, text, sizeof(text)), t->nodes);
	for (unsigned i = 1; i < t->nodes; i++)
		t->node[i].memory_bytes = share;
	t->node[0].memory_bytes = bytes - share * (t->nodes - 1);
	return 0;
}

uint64_t topology_memory(const struct topology *t)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < t->nodes; i++)
		sum += t->node[i].memory_bytes;
	return sum;
}

bool topology_has_memory_figures(const struct topology *t)
{
	for (unsigned i = 0; i < t->nodes; i++)
		if (t->node[i].latency_ns || t->node[i].bandwidth_mbs || t->node[i].cache_bytes)
			return true;
	return false;
}

struct topology_place topology_locate(const struct topology *t, unsigned index)
{
	struct topology_place place = {0};

	assert(index < topology_vcpus(t));
	place.thread = index % t->threads_per_core;
	index /= t->threads_per_core;
	place.core = index % t->cores_per_llc;
	place.llc = index / t->cores_per_llc;
	/* Memory-only nodes own no cache and are passed by. */
	while (place.node < t->nodes - 1 &&
	       place.llc >= t->node[place.node].first_llc + t->node[place.node].llcs)
		place.node++;
	return place;
}

const char *topology_format(const struct topology *t, char *buf, size_t len)
{
	snprintf(buf, len, "%un%ul%uc%ut", t->nodes, t->llcs, t->cores_per_llc,
		 t->threads_per_core);
	return buf;
}
