/* Plans vCPUs onto host CPUs: tries demands from the strictest to the loosest, takes the first that
 * enough host caches meet, and checks what came out, whoever chose it. Any thread. */
#include "vm/perf/plan.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

#define ANY UINT_MAX

/* What a host CPU must be to run a vCPU. */
struct demand {
	unsigned kind;	/* of the strength; ANY: whatever */
	uint64_t bytes; /* of the cache; UINT64_MAX: whatever */
	bool clean;	/* no sibling that others may use */
	bool whole;	/* single-threaded cores: one vCPU to a host core */
};

struct planner {
	const struct host_cpus *host;
	const struct topology *t;
	const struct perf_wish *wish;
	unsigned *kind;	 /* of each host CPU (by index): 0 is the strongest */
	bool *taken;	 /* host CPU (by index) runs a vCPU */
	bool *used;	 /* host group runs a virtual cache */
	int *group_of;	 /* host group of each virtual cache; -1: none */
	unsigned *fits;	 /* CPUs of each host core that meet the demand */
	unsigned *room;	 /* cores of each host group that meet the demand */
	unsigned *order; /* scratch: cores of a group */
	unsigned *at;	 /* host CPU (by index) of each vCPU, once assigned */
	unsigned kinds;
	struct perf_plan *plan;
};

static bool may_run(const struct planner *p, unsigned i)
{
	const struct host_cpu_set *held = p->wish->not_vcpu;

	return !p->taken[i] && !(held && host_cpu_set_has(held, p->host->cpu[i].id));
}

static bool has_first_cpu(const struct planner *p, unsigned group)
{
	return p->host->group[group].id == 0;
}

/* ---- strength ------------------------------------------------------------------------------ */

/* Whether a is stronger than b by more than cores of one kind differ (an eighth). */
static bool stronger(const struct host_cpu *a, const struct host_cpu *b)
{
	if (a->efficient != b->efficient)
		return b->efficient;
	return b->capacity < a->capacity - a->capacity / 8;
}

/* Kind after kind: the strongest CPU that is left, and all that are about as strong. */
static void sort_kinds(struct planner *p)
{
	const struct host_cpus *host = p->host;
	unsigned left = host->count;

	for (unsigned i = 0; i < host->count; i++)
		p->kind[i] = ANY;
	for (p->kinds = 0; left > 0; p->kinds++) {
		const struct host_cpu *best = NULL;

		for (unsigned i = 0; i < host->count; i++)
			if (p->kind[i] == ANY &&
			    (!best || host->cpu[i].efficient < best->efficient ||
			     (host->cpu[i].efficient == best->efficient &&
			      host->cpu[i].capacity > best->capacity)))
				best = &host->cpu[i];
		for (unsigned i = 0; i < host->count; i++) {
			if (p->kind[i] == ANY && !stronger(best, &host->cpu[i])) {
				p->kind[i] = p->kinds;
				left--;
			}
		}
	}
}

/* ---- which caches fit ---------------------------------------------------------------------- */

static bool core_fits(const struct planner *p, unsigned core, const struct demand *d)
{
	if (d->clean && p->host->core[core].foreign)
		return false;
	return p->fits[core] >= p->t->threads_per_core;
}

/* How many CPUs of each core, and cores of each group, meet the demand. */
static void count_fits(struct planner *p, const struct demand *d)
{
	memset(p->fits, 0, p->host->cores * sizeof(*p->fits));
	memset(p->room, 0, p->host->groups * sizeof(*p->room));
	for (unsigned i = 0; i < p->host->count; i++)
		p->fits[p->host->cpu[i].core] +=
			may_run(p, i) && (d->kind == ANY || p->kind[i] == d->kind);
	for (unsigned c = 0; c < p->host->cores; c++) {
		unsigned g = p->host->core[c].group;

		if (core_fits(p, c, d) &&
		    (d->bytes == UINT64_MAX || p->host->group[g].bytes == d->bytes))
			p->room[g] += p->t->threads_per_core == 1 && !d->whole ? p->fits[c] : 1;
	}
}

/* After count_fits. */
static bool group_fits(const struct planner *p, unsigned group)
{
	return !p->used[group] && p->room[group] >= p->t->cores_per_llc;
}

static bool enough(struct planner *p, const struct demand *d)
{
	unsigned n = 0;

	count_fits(p, d);
	for (unsigned g = 0; g < p->host->groups && n < p->t->llcs; g++)
		n += group_fits(p, g);
	return n == p->t->llcs;
}

/* Largest cache size below *bytes; false if there is none. */
static bool next_size(const struct host_cpus *host, uint64_t *bytes, bool first)
{
	bool found = false;
	uint64_t best = 0;

	for (unsigned g = 0; g < host->groups; g++) {
		uint64_t b = host->group[g].bytes;

		if ((first || b < *bytes) && (!found || b > best)) {
			best = b;
			found = true;
		}
	}
	*bytes = best;
	return found;
}

static bool find_size(struct planner *p, struct demand *d, bool same)
{
	uint64_t bytes = 0;

	d->bytes = UINT64_MAX;
	if (!same)
		return enough(p, d);
	for (bool more = next_size(p->host, &bytes, true); more;
	     more = next_size(p->host, &bytes, false)) {
		d->bytes = bytes;
		if (enough(p, d))
			return true;
	}
	return false;
}

static bool find_kind(struct planner *p, struct demand *d, bool same_kind, bool same_size)
{
	if (!same_kind) {
		d->kind = ANY;
		return find_size(p, d, same_size);
	}
	for (d->kind = 0; d->kind < p->kinds; d->kind++)
		if (find_size(p, d, same_size))
			return true;
	return false;
}

/* The strictest demand that enough caches meet. */
static bool find_demand(struct planner *p, struct demand *d)
{
	for (int clean = 1; clean >= 0; clean--) {
		for (int same = 2; same >= 0; same--) { /* kind and size; kind; nothing */
			for (int whole = 1; whole >= 0; whole--) {
				*d = (struct demand){.clean = clean, .whole = whole};
				if (find_kind(p, d, same >= 1, same >= 2))
					return true;
				if (p->t->threads_per_core > 1)
					break;
			}
		}
	}
	return false;
}

/* ---- virtual caches to host caches ---------------------------------------------------------- */

static unsigned fitting_on(const struct planner *p, unsigned node)
{
	unsigned n = 0;

	for (unsigned g = 0; g < p->host->groups; g++)
		n += p->host->group[g].node == node && group_fits(p, g);
	return n;
}

/* The host node for a virtual one: it has room for all its caches, no other virtual node is there,
 * and it is the fullest such. ANY if none. */
static unsigned choose_node(const struct planner *p, unsigned llcs,
			    const struct host_cpu_set *taken)
{
	unsigned best = ANY, best_room = 0;
	bool best_taken = false;

	for (unsigned g = 0; g < p->host->groups; g++) {
		unsigned node = p->host->group[g].node;
		unsigned room = fitting_on(p, node);
		bool is_taken = host_cpu_set_has(taken, node);

		if (room < llcs)
			continue;
		if (best == ANY || is_taken < best_taken ||
		    (is_taken == best_taken && room < best_room)) {
			best = node;
			best_room = room;
			best_taken = is_taken;
		}
	}
	return best;
}

/* The host cache for the next virtual one: not the one with CPU 0, and no larger than need be. */
static unsigned choose_group(const struct planner *p, unsigned node)
{
	const struct host_group *group = p->host->group;
	unsigned best = ANY;

	for (unsigned g = 0; g < p->host->groups; g++) {
		if ((node != ANY && group[g].node != node) || !group_fits(p, g))
			continue;
		if (best == ANY || has_first_cpu(p, g) < has_first_cpu(p, best) ||
		    (has_first_cpu(p, g) == has_first_cpu(p, best) &&
		     group[g].usable < group[best].usable))
			best = g;
	}
	return best;
}

/* Larger virtual nodes choose first, since they fit in fewer places. */
static void choose_groups(struct planner *p)
{
	struct host_cpu_set taken = {0};
	bool done[TOPOLOGY_MAX_NODES] = {0};

	for (unsigned round = 0; round < p->t->nodes; round++) {
		const struct topology_node *v;
		unsigned n = ANY, node;

		for (unsigned i = 0; i < p->t->nodes; i++)
			if (!done[i] && (n == ANY || p->t->node[i].llcs > p->t->node[n].llcs))
				n = i;
		done[n] = true;
		v = &p->t->node[n];
		node = v->llcs > 0 ? choose_node(p, v->llcs, &taken) : ANY;
		if (node != ANY)
			host_cpu_set_add(&taken, node);
		for (unsigned l = 0; l < v->llcs; l++) {
			unsigned g = choose_group(p, node);

			p->group_of[v->first_llc + l] = (int)g;
			p->used[g] = true;
		}
	}
}

/* ---- vCPUs to CPUs of a cache --------------------------------------------------------------- */

static void assign(struct planner *p, unsigned vcpu, unsigned i)
{
	p->plan->cpu[vcpu] = (int)p->host->cpu[i].id;
	p->at[vcpu] = i;
	p->taken[i] = true;
}

/* The n-th CPU (from 0) of a core that meets the demand and is free; ANY if there is none. */
static unsigned free_cpu(const struct planner *p, unsigned core, unsigned n, const struct demand *d)
{
	for (unsigned i = 0; i < p->host->count; i++) {
		if (p->host->cpu[i].core != core || !may_run(p, i) ||
		    (d->kind != ANY && p->kind[i] != d->kind))
			continue;
		if (n-- == 0)
			return i;
	}
	return ANY;
}

/* Room in the part of a group that is on a node; has_first: host CPU 0 is in it. After count_fits.
 */
static unsigned room_on(const struct planner *p, unsigned group, unsigned node,
			const struct demand *d, bool *ret_has_first)
{
	unsigned n = 0;

	*ret_has_first = false;
	for (unsigned c = 0; c < p->host->cores; c++) {
		const struct host_core *core = &p->host->core[c];

		if (core->group != group || core->node != node || !core_fits(p, c, d))
			continue;
		n += p->t->threads_per_core == 1 && !d->whole ? p->fits[c] : 1;
		*ret_has_first |= core->first == 0;
	}
	return n;
}

/* A host cache may span nodes: the one of them with room for a whole virtual cache, not the one
 * with CPU 0 and no larger than need be. ANY if none has. */
static unsigned choose_home(const struct planner *p, unsigned group, const struct demand *d)
{
	unsigned best = ANY, best_room = 0, seen = ANY;
	bool best_first = false;

	for (unsigned c = 0; c < p->host->cores; c++) {
		unsigned node = p->host->core[c].node, room;
		bool first;

		if (p->host->core[c].group != group || node == seen)
			continue;
		seen = node;
		room = room_on(p, group, node, d, &first);
		if (room < p->t->cores_per_llc)
			continue;
		if (best == ANY || first < best_first ||
		    (first == best_first && room < best_room)) {
			best = node;
			best_room = room;
			best_first = first;
		}
	}
	return best;
}

/* Lists the group's cores that fit: clean ones before those that others use, those of a node that
 * has enough before others, the one with CPU 0 last. */
static unsigned list_cores(struct planner *p, unsigned group, const struct demand *d)
{
	unsigned n = 0, home = choose_home(p, group, d);

	for (int pass = 0; pass < 8; pass++) {
		for (unsigned c = 0; c < p->host->cores; c++) {
			const struct host_core *core = &p->host->core[c];

			if (core->group == group && core_fits(p, c, d) &&
			    (core->foreign > 0) == (pass >= 4) &&
			    (home != ANY && core->node != home) == (pass / 2 % 2) &&
			    (core->first == 0) == (pass & 1))
				p->order[n++] = c;
		}
	}
	return n;
}

static void fill_group(struct planner *p, unsigned llc, unsigned group, const struct demand *d)
{
	unsigned threads = p->t->threads_per_core, left = p->t->cores_per_llc;
	unsigned vcpu = llc * left * threads;
	unsigned cores = list_cores(p, group, d);

	/* A second turn, over the siblings, only where single-threaded cores must share. */
	while (left > 0) {
		for (unsigned c = 0; c < cores && left > 0; c++) {
			if (free_cpu(p, p->order[c], threads - 1, d) == ANY)
				continue;
			for (unsigned s = 0; s < threads; s++)
				assign(p, vcpu++, free_cpu(p, p->order[c], 0, d));
			left--;
		}
	}
}

/* ---- where no demand is met ----------------------------------------------------------------- */

static unsigned free_in_group(const struct planner *p, unsigned group)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p->host->count; i++)
		n += p->host->cpu[i].group == group && may_run(p, i);
	return n;
}

/* The core of group with the most free CPUs; ANY if it has none. */
static unsigned roomiest_core(struct planner *p, unsigned group)
{
	const struct demand any = {.kind = ANY, .bytes = UINT64_MAX};
	unsigned best = ANY;

	count_fits(p, &any);
	for (unsigned c = 0; c < p->host->cores; c++)
		if (p->host->core[c].group == group && p->fits[c] > 0 &&
		    (best == ANY || p->fits[c] > p->fits[best]))
			best = c;
	return best;
}

/* One CPU each as long as they last, a cache's together, a core's together, as far as that goes. */
static void fill_as_can_be(struct planner *p)
{
	const struct demand any = {.kind = ANY, .bytes = UINT64_MAX};
	unsigned group = ANY, core = ANY, per_llc = p->t->cores_per_llc * p->t->threads_per_core;

	for (unsigned vcpu = 0; vcpu < p->plan->vcpus; vcpu++) {
		if (vcpu % per_llc == 0)
			group = ANY;
		if (vcpu % p->t->threads_per_core == 0)
			core = ANY;
		if (group == ANY || free_in_group(p, group) == 0) {
			core = ANY;
			group = 0;
			for (unsigned g = 1; g < p->host->groups; g++)
				if (free_in_group(p, g) > free_in_group(p, group))
					group = g;
		}
		if (core == ANY || free_cpu(p, core, 0, &any) == ANY)
			core = roomiest_core(p, group);
		assign(p, vcpu, free_cpu(p, core, 0, &any));
	}
}

/* ---- the control thread --------------------------------------------------------------------- */

/* Smaller is better. */
static unsigned control_rank(const struct planner *p, unsigned i)
{
	const struct host_cpu *cpu = &p->host->cpu[i];
	const struct host_cpu *first = &p->host->cpu[p->at[0]];
	unsigned rank = first->node != cpu->node;

	for (unsigned j = 0; j < p->host->count; j++) {
		const struct host_cpu *other = &p->host->cpu[j];

		if (!p->taken[j])
			continue;
		if (other->group == cpu->group)
			rank |= 4;
		if (other->core == cpu->core)
			rank |= 2;
	}
	return rank;
}

static void choose_control(struct planner *p)
{
	unsigned best_rank = ANY;

	p->plan->control = -1;
	for (unsigned i = 0; i < p->host->count; i++) {
		const struct host_cpu_set *held = p->wish->not_control;
		unsigned rank;

		if (p->taken[i] || (held && host_cpu_set_has(held, p->host->cpu[i].id)))
			continue;
		rank = control_rank(p, i);
		if (rank < best_rank) {
			best_rank = rank;
			p->plan->control = (int)p->host->cpu[i].id;
		}
	}
}

/* ---- what the plan lacks -------------------------------------------------------------------- */

static const struct host_cpu *cpu_of(const struct planner *p, unsigned vcpu)
{
	return &p->host->cpu[p->at[vcpu]];
}

/* Too few of something, whatever the plan. */
static bool check_counts(const struct planner *p, struct perf_missing *m)
{
	const struct host_cpus *host = p->host;
	unsigned before = m->count;

	if (p->plan->vcpus + 1 > host->count)
		perf_missing_add(
			m,
			host->online > host->count ? "taskset, or a cpuset with more CPUs"
						   : "fewer vCPUs, or a larger host",
			"%u host CPUs are needed, for %u vCPU%s and the control thread, and "
			"stasis may use %u",
			p->plan->vcpus + 1, p->plan->vcpus, p->plan->vcpus == 1 ? "" : "s",
			host->count);
	if (p->t->llcs > host->groups)
		perf_missing_add(m, "a topology with fewer caches (-t)",
				 "%u last-level caches are asked for, and the CPUs that stasis may "
				 "use have %u",
				 p->t->llcs, host->groups);
	return m->count == before;
}

/* Caches whole and apart: each virtual cache in one host cache, and no two in the same. */
static bool caches_hold(const struct planner *p)
{
	unsigned per_llc = p->t->cores_per_llc * p->t->threads_per_core;

	for (unsigned a = 0; a < p->plan->vcpus; a++)
		for (unsigned llc = 0; llc < p->t->llcs; llc++)
			if ((cpu_of(p, a)->group == cpu_of(p, llc * per_llc)->group) !=
			    (a / per_llc == llc))
				return false;
	return true;
}

/* Siblings on siblings: a virtual core on one host core, and no two on the same. */
static bool siblings_hold(struct planner *p)
{
	unsigned threads = p->t->threads_per_core;
	bool hold = true;

	if (threads == 1)
		return true;
	memset(p->fits, 0, p->host->cores * sizeof(*p->fits)); /* which virtual core + 1 */
	for (unsigned v = 0; v < p->plan->vcpus; v++) {
		unsigned *owner = &p->fits[cpu_of(p, v)->core];

		if (*owner && *owner != v / threads + 1)
			hold = false;
		*owner = v / threads + 1;
		if (cpu_of(p, v)->core != cpu_of(p, v - v % threads)->core)
			hold = false;
	}
	return hold;
}

static void check_places(struct planner *p, struct perf_missing *m)
{
	const struct topology *t = p->t;
	bool caches = caches_hold(p), siblings = siblings_hold(p);

	if (p->wish->pin) {
		if (!caches)
			perf_missing_add(
				m, "another --pin, or none",
				"--pin does not put each last-level cache of the guest into "
				"one of the host's of its own");
		if (!siblings)
			perf_missing_add(
				m, "another --pin, or none",
				"--pin does not put hyperthread siblings of the guest onto "
				"siblings of the host");
	} else if (!caches || !siblings) {
		perf_missing_add(m, "a topology that this host has (-t)",
				 "too few of the host's caches have %u core%s with %u thread%s for "
				 "%u of the guest's",
				 t->cores_per_llc, t->cores_per_llc == 1 ? "" : "s",
				 t->threads_per_core, t->threads_per_core == 1 ? "" : "s", t->llcs);
	}
}

static void check_likeness(const struct planner *p, struct perf_missing *m)
{
	const struct host_cpus *host = p->host;
	const struct host_cpu *first = cpu_of(p, 0);
	unsigned lowest = ANY, highest = 0, foreign = 0;
	bool sizes = false;

	for (unsigned v = 0; v < p->plan->vcpus; v++) {
		const struct host_cpu *cpu = cpu_of(p, v);
		unsigned kind = p->kind[cpu - host->cpu];

		lowest = MIN(lowest, kind);
		highest = MAX(highest, kind);
		sizes |= host->group[cpu->group].bytes != host->group[first->group].bytes;
		foreign += host->core[cpu->core].foreign > 0;
	}
	if (lowest != highest)
		perf_missing_add(m, "fewer vCPUs, or --pin", "vCPUs are on host CPUs of %u kinds",
				 highest - lowest + 1);
	if (sizes)
		perf_missing_add(m, "fewer caches, or --pin",
				 "the guest's caches are on host caches of different sizes");
	if (foreign)
		perf_missing_add(m, "start stasis with both siblings of each core",
				 "%u vCPU%s on a host core whose sibling is outside of our CPUs",
				 foreign, foreign == 1 ? " is" : "s are");
}

static unsigned distinct(const struct planner *p)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p->host->count; i++)
		n += p->taken[i];
	return n;
}

static void count_shared_cores(struct planner *p)
{
	unsigned control_core = ANY;

	if (p->plan->control >= 0)
		control_core = host_cpus_find(p->host, (unsigned)p->plan->control)->core;
	memset(p->fits, 0, p->host->cores * sizeof(*p->fits));
	for (unsigned v = 0; v < p->plan->vcpus; v++)
		p->fits[cpu_of(p, v)->core]++;
	for (unsigned v = 0; v < p->plan->vcpus; v++) {
		unsigned core = cpu_of(p, v)->core;

		p->plan->shared_cores +=
			core == control_core || (p->t->threads_per_core == 1 && p->fits[core] > 1);
	}
}

/* Which host CPUs run more than one vCPU, of a plan that has such. */
static void check_twice(const struct planner *p, struct perf_missing *m)
{
	struct host_cpu_set once = {0}, twice = {0};
	char list[64];

	for (unsigned v = 0; v < p->plan->vcpus; v++) {
		unsigned id = cpu_of(p, v)->id;

		host_cpu_set_add(host_cpu_set_has(&once, id) ? &twice : &once, id);
	}
	perf_missing_add(m, "another --pin, or none",
			 "--pin gives host CPU%s %s to more than one vCPU",
			 host_cpu_set_count(&twice) == 1 ? "" : "s",
			 host_cpu_set_text(&twice, list, sizeof(list)));
}

static void check(struct planner *p, struct perf_missing *m)
{
	bool counts = check_counts(p, m);
	unsigned n = distinct(p);

	p->plan->own = p->plan->control >= 0 && n == p->plan->vcpus;
	p->plan->spare = p->host->online > n + 1;
	if (p->plan->cpu[0] < 0)
		return;
	if (n < p->plan->vcpus)
		check_twice(p, m);
	else if (p->plan->control < 0 && counts)
		perf_missing_add(m, "wait for other VMs",
				 "no host CPU is left for the control "
				 "thread");
	if (counts)
		check_places(p, m);
	check_likeness(p, m);
	count_shared_cores(p);
}

/* ---- all of it ------------------------------------------------------------------------------ */

static int take_pins(struct planner *p, struct error *err)
{
	for (unsigned v = 0; v < p->plan->vcpus; v++) {
		int pin = p->wish->pin[v];
		const struct host_cpu *cpu =
			pin < 0 ? NULL : host_cpus_find(p->host, (unsigned)pin);

		if (!cpu) {
			error_contention(err, "host CPU %d, asked for by --pin, is not among ours",
					 pin);
			return -ENODEV;
		}
		assign(p, v, (unsigned)(cpu - p->host->cpu));
	}
	return 0;
}

static unsigned free_cpus(const struct planner *p)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p->host->count; i++)
		n += may_run(p, i);
	return n;
}

static int make(struct planner *p, struct perf_missing *missing, struct error *err)
{
	struct demand demand;
	int r;

	sort_kinds(p);
	p->plan->control = -1;
	if (p->wish->pin) {
		r = take_pins(p, err);
		if (r < 0)
			return r;
	} else if (p->plan->vcpus + 1 <= p->host->count && find_demand(p, &demand)) {
		choose_groups(p);
		count_fits(p, &demand);
		for (unsigned llc = 0; llc < p->t->llcs; llc++)
			fill_group(p, llc, (unsigned)p->group_of[llc], &demand);
	} else if (p->plan->vcpus <= free_cpus(p)) {
		fill_as_can_be(p);
	} else {
		if (p->plan->vcpus < p->host->count)
			perf_missing_add(missing, "wait for other VMs",
					 "other VMs hold the host CPUs");
		for (unsigned v = 0; v < p->plan->vcpus; v++)
			p->plan->cpu[v] = -1;
	}
	if (p->plan->cpu[0] >= 0)
		choose_control(p);
	check(p, missing);
	return 0;
}

int perf_plan_make(const struct host_cpus *host, const struct topology *t,
		   const struct perf_wish *wish, struct perf_plan *ret_plan,
		   struct perf_missing *missing, struct error *err)
{
	struct perf_plan plan = {.vcpus = topology_vcpus(t)};
	CLEANUP_FREE unsigned *kind = calloc(host->count, sizeof(*kind));
	CLEANUP_FREE bool *taken = calloc(host->count, sizeof(*taken));
	CLEANUP_FREE bool *used = calloc(host->groups, sizeof(*used));
	CLEANUP_FREE int *group_of = calloc(t->llcs, sizeof(*group_of));
	CLEANUP_FREE unsigned *fits = calloc(host->cores, sizeof(*fits));
	CLEANUP_FREE unsigned *room = calloc(host->groups, sizeof(*room));
	CLEANUP_FREE unsigned *at = calloc(plan.vcpus, sizeof(*at));
	CLEANUP_FREE unsigned *order = calloc(host->cores, sizeof(*order));
	struct planner p = {
		.host = host,
		.t = t,
		.wish = wish,
		.kind = kind,
		.taken = taken,
		.used = used,
		.group_of = group_of,
		.fits = fits,
		.room = room,
		.order = order,
		.at = at,
		.plan = &plan,
	};
	int r;

	plan.cpu = calloc(plan.vcpus, sizeof(*plan.cpu));
	if (!kind || !taken || !used || !group_of || !fits || !room || !at || !order || !plan.cpu)
		r = error_set(err, -ENOMEM, "planning the vCPUs");
	else
		r = make(&p, missing, err);
	if (r < 0) {
		perf_plan_done(&plan);
		return r;
	}
	*ret_plan = plan;
	return 0;
}

void perf_plan_done(struct perf_plan *plan)
{
	free(plan->cpu);
	*plan = (struct perf_plan){0};
}
