/* Turns what was typed about the shape into a struct topology. Pure functions; any thread. */
#include "guest/topology_request.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/parse.h"

#define NODE_MEMORY_UNIT  KIB(4)
#define CACHE_UNIT	  KIB(4)
#define LATENCY_MAX_NS	  65534 /* an entry of the HMAT has 16 bits (ACPI 6.5, 5.2.28.4) */
#define BANDWIDTH_MAX_MBS 65534000u
#define DISTANCE_MIN	  11  /* 10 is a node's distance to itself (ACPI 6.5, 5.2.17) */
#define DISTANCE_MAX	  254 /* 255: out of reach */
#define FORM_OF_NODE	  "llcs=2,mem=1G[,latency=NS][,bandwidth=MBS][,cache=SIZE]"

/* ---- --numa-node --------------------------------------------------------------------------- */

enum node_key { KEY_LLCS, KEY_MEM, KEY_LATENCY, KEY_BANDWIDTH, KEY_CACHE, KEYS };

static const struct {
	const char *name;
	bool is_size; /* bytes with a unit; else a plain number */
	uint64_t min, max;
} keys[KEYS] = {
	[KEY_LLCS] = {"llcs", false, 0, TOPOLOGY_MAX_VCPUS},
	[KEY_MEM] = {"mem", true, 0, UINT64_MAX},
	[KEY_LATENCY] = {"latency", false, 1, LATENCY_MAX_NS},
	[KEY_BANDWIDTH] = {"bandwidth", false, 1, BANDWIDTH_MAX_MBS},
	[KEY_CACHE] = {"cache", true, 1, UINT64_MAX},
};

/* One "key=value" of len bytes at word. */
static int read_key(const char *text, const char *word, size_t len, uint64_t value[KEYS],
		    bool seen[KEYS], struct error *err)
{
	char one[64];
	char *equals;
	int r;

	if (len >= sizeof(one))
		return error_usage(err, "%s: '%.*s' is too long", text, (int)sizeof(one), word);
	memcpy(one, word, len);
	one[len] = '\0';
	equals = strchr(one, '=');
	if (equals)
		*equals = '\0';
	for (unsigned k = 0; k < KEYS; k++) {
		if (strcmp(one, keys[k].name))
			continue;
		if (seen[k])
			return error_usage(err, "%s: %s is given twice", text, keys[k].name);
		seen[k] = true;
		if (keys[k].is_size)
			r = equals ? parse_size(equals + 1, &value[k]) : -EINVAL;
		else
			r = equals ? parse_uint(equals + 1, keys[k].min, keys[k].max, &value[k])
				   : -EINVAL;
		if (r == 0 && value[k] >= keys[k].min)
			return 0;
		if (keys[k].is_size)
			return error_usage(err, "%s: %s is a size such as 512M or 4G", text,
					   keys[k].name);
		return error_usage(err, "%s: %s is a number from %" PRIu64 " to %" PRIu64, text,
				   keys[k].name, keys[k].min, keys[k].max);
	}
	return error_usage(err, "%s: '%s' is none of llcs, mem, latency, bandwidth, cache", text,
			   one);
}

int topology_request_node(struct topology_request *q, const char *text, struct error *err)
{
	uint64_t value[KEYS] = {0};
	bool seen[KEYS] = {false};

	if (q->node_count == TOPOLOGY_MAX_NODES)
		return error_usage(err, "%s: more than %d nodes", text, TOPOLOGY_MAX_NODES);
	for (const char *word = text;;) {
		size_t len = strcspn(word, ",");
		int r = len > 0 ? read_key(text, word, len, value, seen, err)
				: error_usage(err, "%s: " FORM_OF_NODE " is accepted", text);

		if (r < 0)
			return r;
		if (!word[len])
			break;
		word += len + 1;
	}
	if (value[KEY_LLCS] == 0 && value[KEY_MEM] == 0)
		return error_usage(err, "%s: a node with neither CPUs (llcs) nor memory (mem)",
				   text);
	if (value[KEY_MEM] % NODE_MEMORY_UNIT)
		return error_usage(err, "%s: mem is a multiple of 4K", text);
	if (value[KEY_CACHE] % CACHE_UNIT)
		return error_usage(err, "%s: cache is a multiple of 4K", text);
	if (value[KEY_MEM] == 0 && (seen[KEY_LATENCY] || seen[KEY_BANDWIDTH] || seen[KEY_CACHE]))
		return error_usage(err,
				   "%s: latency, bandwidth and cache are of a node's memory, and "
				   "this one has none",
				   text);
	q->node[q->node_count++] = (struct topology_node){
		.llcs = (unsigned)value[KEY_LLCS],
		.memory_bytes = value[KEY_MEM],
		.latency_ns = (uint32_t)value[KEY_LATENCY],
		.bandwidth_mbs = (uint32_t)value[KEY_BANDWIDTH],
		.cache_bytes = value[KEY_CACHE],
	};
	return 0;
}

const char *topology_node_format(const struct topology_node *node, char *buf, size_t len)
{
	const uint64_t value[KEYS] = {
		[KEY_LLCS] = node->llcs,	  [KEY_MEM] = node->memory_bytes,
		[KEY_LATENCY] = node->latency_ns, [KEY_BANDWIDTH] = node->bandwidth_mbs,
		[KEY_CACHE] = node->cache_bytes,
	};
	size_t at = 0;

	for (unsigned k = 0; k < KEYS && at < len; k++)
		if (value[k] || k == KEY_LLCS)
			at += (size_t)snprintf(buf + at, len - at, "%s%s=%" PRIu64, at ? "," : "",
					       keys[k].name, value[k]);
	return buf;
}

/* ---- --numa-distance ----------------------------------------------------------------------- */

/* "NUMBER" and the character after it; moves past both, or not at all. */
static int read_number(const char **text, char end, uint64_t max, uint64_t *ret_value)
{
	size_t len = strspn(*text, "0123456789");
	char digits[8];
	int r;

	if (len == 0 || len >= sizeof(digits) || (*text)[len] != end)
		return -EINVAL;
	memcpy(digits, *text, len);
	digits[len] = '\0';
	r = parse_uint(digits, 0, max, ret_value);
	if (r == 0)
		*text += len + (end != '\0');
	return r;
}

int topology_request_distance(struct topology_request *q, const char *text, struct error *err)
{
	const char *p = text;
	uint64_t a, b, distance;

	if (read_number(&p, ',', TOPOLOGY_MAX_NODES - 1, &a) < 0 ||
	    read_number(&p, '=', TOPOLOGY_MAX_NODES - 1, &b) < 0 ||
	    read_number(&p, '\0', 999999, &distance) < 0)
		return error_usage(err, "%s: A,B=D is accepted: two nodes and their distance",
				   text);
	if (a == b)
		return error_usage(err, "%s: a node's distance to itself is %d", text,
				   TOPOLOGY_DISTANCE_LOCAL);
	if (distance < DISTANCE_MIN || distance > DISTANCE_MAX)
		return error_usage(err, "%s: a distance from %d to %d is accepted", text,
				   DISTANCE_MIN, DISTANCE_MAX);
	if (q->distance[a][b] && q->distance[a][b] != distance)
		return error_usage(err,
				   "%s: nodes %u and %u were given distance %u before, and it is "
				   "the same both ways",
				   text, (unsigned)a, (unsigned)b, q->distance[a][b]);
	q->distance[a][b] = q->distance[b][a] = (uint8_t)distance;
	return 0;
}

/* ---- the whole ----------------------------------------------------------------------------- */

/* "[Nn][Nl]NcNt" beside --numa-node: fills what the nodes leave open. */
static int read_partial(const char *spec, unsigned nodes, uint64_t llcs, uint64_t *ret_cores,
			uint64_t *ret_threads, struct error *err)
{
	static const char letters[] = "nlct";
	uint64_t value[4] = {nodes, llcs, 0, 0};
	const char *p = spec;

	for (unsigned i = 0; i < 4; i++)
		if (read_number(&p, letters[i], TOPOLOGY_MAX_VCPUS, &value[i]) < 0 && i >= 2)
			return error_usage(err,
					   "--topology %.64s: with --numa-node, 4c2t is accepted: "
					   "cores per cache, threads per core",
					   spec);
	if (*p || value[2] == 0 || value[3] == 0)
		return error_usage(err,
				   "--topology %.64s: cores and threads from 1 to %d are accepted",
				   spec, TOPOLOGY_MAX_VCPUS);
	if (value[0] != nodes || value[1] != llcs)
		return error_usage(err,
				   "--topology %.64s: --numa-node gives %u nodes and %" PRIu64
				   " caches",
				   spec, nodes, llcs);
	*ret_cores = value[2];
	*ret_threads = value[3];
	return 0;
}

static int resolve_nodes(const struct topology_request *q, struct topology *t, struct error *err)
{
	uint64_t llcs = 0, memory = 0, cores = 1, threads = 1;
	bool overflow = false;

	if (q->cpus)
		return error_usage(err, "--cpus and --numa-node exclude each other: -t 4c2t gives "
					"cores per cache and threads per core");
	if (q->memory_bytes)
		return error_usage(err, "--memory and --numa-node exclude each other: mem= gives a "
					"node's memory");
	for (unsigned i = 0; i < q->node_count; i++) {
		/* Linux numbers the nodes of the SRAT's CPUs first (drivers/acpi/numa/srat.c), so
		 * another order would not be the one that its guest shows. */
		if (i > 0 && q->node[i].llcs > 0 && q->node[i - 1].llcs == 0)
			return error_usage(
				err,
				"--numa-node: node %u has no CPUs and node %u has: those "
				"without come last, because Linux numbers them last",
				i - 1, i);
		llcs += q->node[i].llcs;
		overflow |= __builtin_add_overflow(memory, q->node[i].memory_bytes, &memory);
	}
	if (q->spec && read_partial(q->spec, q->node_count, llcs, &cores, &threads, err) < 0)
		return -EINVAL;
	if (llcs == 0)
		return error_usage(err, "--numa-node: no node has CPUs (llcs)");
	if (memory == 0 || overflow)
		return error_usage(err, "--numa-node: %s",
				   overflow ? "more memory than can be counted"
					    : "no node has memory (mem)");
	if (llcs * cores * threads > TOPOLOGY_MAX_VCPUS)
		return error_usage(err,
				   "--numa-node: %" PRIu64 " vCPUs in all: at most %d are accepted",
				   llcs * cores * threads, TOPOLOGY_MAX_VCPUS);
	*t = (struct topology){
		.nodes = q->node_count,
		.cores_per_llc = (unsigned)cores,
		.threads_per_core = (unsigned)threads,
	};
	for (unsigned i = 0; i < q->node_count; i++) {
		t->node[i] = q->node[i];
		t->node[i].first_llc = t->llcs;
		t->llcs += q->node[i].llcs;
	}
	return 0;
}

static int set_distances(const struct topology_request *q, struct topology *t, struct error *err)
{
	for (unsigned a = 0; a < TOPOLOGY_MAX_NODES; a++) {
		for (unsigned b = 0; b < TOPOLOGY_MAX_NODES; b++) {
			if (q->distance[a][b] && (a >= t->nodes || b >= t->nodes))
				return error_usage(err,
						   "--numa-distance %u,%u=%u: this shape has nodes "
						   "0 to %u",
						   a, b, q->distance[a][b], t->nodes - 1);
			if (a < t->nodes && b < t->nodes)
				t->distance[a][b] =
					a == b ? TOPOLOGY_DISTANCE_LOCAL
					       : q->distance[a][b] ?: TOPOLOGY_DISTANCE_REMOTE;
		}
	}
	return 0;
}

/* Usage errors of the shape's own functions speak of values; here they get their option. */
static int named(int r, const char *option, const struct error *inner, struct error *err)
{
	return r < 0 ? error_usage(err, "%s %s", option, inner->what) : 0;
}

int topology_resolve(const struct topology_request *q, uint64_t default_memory_bytes,
		     struct topology *ret_topology, struct error *err)
{
	struct topology t;
	struct error inner = {0};
	int r;

	if (q->spec && q->cpus)
		return error_usage(err, "--topology and --cpus exclude each other; one of them is "
					"enough");
	if (q->node_count > 0) {
		r = resolve_nodes(q, &t, err);
	} else {
		if (q->spec)
			r = named(topology_parse(q->spec, &t, &inner), "--topology", &inner, err);
		else
			r = named(topology_from_cpus(q->cpus ?: 1, &t, &inner), "--cpus", &inner,
				  err);
		if (r == 0)
			r = topology_set_memory(&t, q->memory_bytes ?: default_memory_bytes, err);
	}
	if (r == 0)
		r = set_distances(q, &t, err);
	if (r == 0)
		*ret_topology = t;
	return r;
}
