/* Judges plans by a host's table. */
#include "oracle.h"

#include "base/util.h"

#define CACHES_MAX 64

const struct tree_cpu *oracle_cpu(const struct tree *t, int id)
{
	for (unsigned i = 0; i < t->count; i++)
		if ((int)t->cpu[i].id == id)
			return &t->cpu[i];
	return NULL;
}

static bool is_ours(const struct tree_cpu *c, const struct host_cpu_set *allowed)
{
	return !c->offline && host_cpu_set_has(allowed, c->id);
}

/* Tables have two kinds at most, far apart. */
static bool is_weak(const struct tree_cpu *c)
{
	return c->efficient || (c->capacity && c->capacity < 800);
}

static const char *pair_flaw(const struct tree_cpu *a, const struct tree_cpu *b, bool one_cache,
			     bool one_core, bool threads)
{
	if ((a->cache == b->cache) != one_cache)
		return "a cache in parts, or shared";
	if (threads && (a->core == b->core) != one_core)
		return "siblings apart, or strangers on siblings";
	if (is_weak(a) != is_weak(b))
		return "two kinds";
	if (a->cache_kib != b->cache_kib)
		return "two sizes";
	return NULL;
}

const char *oracle_flaw(const struct tree *t, const struct perf_plan *plan,
			const struct topology *shape, const struct host_cpu_set *allowed)
{
	unsigned threads = shape->threads_per_core, per_llc = shape->cores_per_llc * threads;
	unsigned n = plan->vcpus;

	for (unsigned v = 0; v <= n; v++) {
		int id = v < n ? plan->cpu[v] : plan->control;
		const struct tree_cpu *c = oracle_cpu(t, id);

		if (!c || !is_ours(c, allowed))
			return "a CPU that is offline or not ours";
		for (unsigned w = 0; w < v; w++)
			if (plan->cpu[w] == id)
				return "a CPU twice";
	}
	for (unsigned a = 0; a < n; a++) {
		const struct tree_cpu *c = oracle_cpu(t, plan->cpu[a]);

		for (unsigned b = 0; b < n; b++) {
			const char *flaw = pair_flaw(c, oracle_cpu(t, plan->cpu[b]),
						     a / per_llc == b / per_llc,
						     a / threads == b / threads, threads > 1);

			if (flaw)
				return flaw;
		}
		for (unsigned i = 0; i < t->count; i++)
			if (t->cpu[i].core == c->core && !t->cpu[i].offline &&
			    !host_cpu_set_has(allowed, t->cpu[i].id))
				return "a sibling of others";
	}
	return NULL;
}

/* Cores of a kind in a cache that take a core of the guest; for single threads, single CPUs. */
static unsigned room(const struct tree *t, unsigned cache, bool weak, unsigned threads,
		     const struct host_cpu_set *allowed)
{
	unsigned n = 0, usable[512] = {0};
	bool foreign[512] = {0};

	for (unsigned i = 0; i < t->count; i++) {
		const struct tree_cpu *c = &t->cpu[i];

		if (c->cache != cache || c->offline || is_weak(c) != weak)
			continue;
		if (host_cpu_set_has(allowed, c->id))
			usable[c->core]++;
		else
			foreign[c->core] = true;
	}
	for (unsigned c = 0; c < 512; c++)
		if (!foreign[c])
			n += threads == 1 ? usable[c] : usable[c] >= threads;
	return n;
}

/* The most caches of one size with CPUs of one kind that fit. */
static unsigned most_alike(const struct tree *t, const struct topology *shape, bool weak,
			   const struct host_cpu_set *allowed)
{
	bool fits[CACHES_MAX];
	unsigned kib[CACHES_MAX] = {0}, most = 0;

	for (unsigned c = 0; c < CACHES_MAX; c++)
		fits[c] =
			room(t, c, weak, shape->threads_per_core, allowed) >= shape->cores_per_llc;
	for (unsigned i = 0; i < t->count; i++)
		kib[t->cpu[i].cache] = t->cpu[i].cache_kib;
	for (unsigned c = 0; c < CACHES_MAX; c++) {
		unsigned n = 0;

		for (unsigned d = 0; d < CACHES_MAX; d++)
			n += fits[d] && kib[d] == kib[c];
		most = MAX(most, n);
	}
	return most;
}

bool oracle_possible(const struct tree *t, const struct topology *shape,
		     const struct host_cpu_set *allowed)
{
	unsigned ours = 0;

	for (unsigned i = 0; i < t->count; i++)
		ours += is_ours(&t->cpu[i], allowed);
	return topology_vcpus(shape) + 1 <= ours &&
	       MAX(most_alike(t, shape, false, allowed), most_alike(t, shape, true, allowed)) >=
		       shape->llcs;
}
