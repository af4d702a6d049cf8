/* From a request to CPUs and locks. Control thread. */
#include "vm/perf/claim.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "vm/perf/budget.h"
#include "vm/signals.h"

#define SYSFS	     "/sys"
#define LOOK_EACH_NS 50000000
/* A refusal may be the look of another who goes on without the mutex: microseconds. */
#define GLANCE_TRIES 20
#define GLANCE_NS    2000000

struct claiming {
	const struct perf_request *request;
	const struct topology *t;
	const int *pin;
	const char *name;
	struct perf_claim *claim;
	struct error *err;
	bool last; /* a refusal is no other's look that is over soon, as far as tries tell */
};

static bool set_empty(const struct host_cpu_set *set)
{
	return host_cpu_set_count(set) == 0;
}

/* Which CPUs no performance run has. */
static struct host_cpu_set not_exclusive(const struct host_cpus *host, const struct perf_held *held)
{
	struct host_cpu_set set = {0};

	for (unsigned i = 0; i < host->count; i++) {
		const struct host_cpu *cpu = &host->cpu[i];

		if (!host_cpu_set_has(&held->cache_exclusive, host->group[cpu->group].id) &&
		    !host_cpu_set_has(&held->cpu_exclusive, cpu->id))
			host_cpu_set_add(&set, cpu->id);
	}
	return set;
}

/* ---- performance mode ---------------------------------------------------------------------- */

/* CPUs that a vCPU, and that the control thread, could not have to itself. */
static void find_taken(const struct host_cpus *host, const struct perf_held *held,
		       struct host_cpu_set *ret_not_vcpu, struct host_cpu_set *ret_not_control)
{
	*ret_not_vcpu = *ret_not_control = (struct host_cpu_set){0};
	for (unsigned i = 0; i < host->count; i++) {
		const struct host_cpu *cpu = &host->cpu[i];
		unsigned cache = host->group[cpu->group].id;

		if (held->all || host_cpu_set_has(&held->cache_any, cache) ||
		    host_cpu_set_has(&held->cpu_any, cpu->id))
			host_cpu_set_add(ret_not_vcpu, cpu->id);
		if (held->all || host_cpu_set_has(&held->cache_exclusive, cache) ||
		    host_cpu_set_has(&held->cpu_any, cpu->id))
			host_cpu_set_add(ret_not_control, cpu->id);
	}
}

/* A plan among what nobody holds; if there is none without a flaw, one that may have to wait. */
static int make_plan(const struct claiming *c, const struct perf_held *held,
		     struct perf_missing *missing)
{
	struct host_cpu_set not_vcpu, not_control;
	struct perf_wish wish = {.not_vcpu = &not_vcpu, .not_control = &not_control, .pin = c->pin};
	struct perf_missing first = {0};
	int r;

	find_taken(&c->claim->host, held, &not_vcpu, &not_control);
	perf_plan_done(&c->claim->plan);
	r = perf_plan_make(&c->claim->host, c->t, &wish, &c->claim->plan, &first, c->err);
	if (r < 0 || first.count == 0)
		return r;
	perf_plan_done(&c->claim->plan);
	wish = (struct perf_wish){.pin = c->pin};
	return perf_plan_make(&c->claim->host, c->t, &wish, &c->claim->plan, missing, c->err);
}

static void want_cpu(const struct host_cpus *host, int id, struct perf_lock_set *want,
		     struct host_cpu_set *caches)
{
	const struct host_cpu *cpu = id < 0 ? NULL : host_cpus_find(host, (unsigned)id);

	if (!cpu)
		return;
	host_cpu_set_add(&want->cpu_exclusive, cpu->id);
	host_cpu_set_add(caches, host->group[cpu->group].id);
}

/* The locks of a plan; those of all CPUs, shared, where it has none. */
static struct perf_lock_set locks_of_plan(const struct perf_claim *claim)
{
	const struct host_cpus *host = &claim->host;
	struct perf_lock_set want = {0};
	struct host_cpu_set control = {0};

	for (unsigned v = 0; v < claim->plan.vcpus; v++)
		want_cpu(host, claim->plan.cpu[v], &want, &want.cache_exclusive);
	want_cpu(host, claim->plan.control, &want, &control);
	for (size_t w = 0; w < ARRAY_SIZE(control.word); w++)
		want.cache_shared.word[w] = control.word[w] & ~want.cache_exclusive.word[w];
	if (claim->plan.cpu[0] >= 0)
		return want;
	for (unsigned i = 0; i < host->count; i++) {
		host_cpu_set_add(&want.cpu_shared, host->cpu[i].id);
		host_cpu_set_add(&want.cache_shared, host->group[host->cpu[i].group].id);
	}
	return want;
}

/* What is left for the rest of the host, once this and other performance runs have theirs. */
static void find_rest(struct perf_claim *claim, const struct perf_held *held)
{
	const struct host_cpus *host = &claim->host;
	const struct perf_plan *plan = &claim->plan;
	unsigned taken = host_cpu_set_count(&held->cpu_exclusive);

	claim->rest = not_exclusive(host, held);
	for (unsigned v = 0; v < plan->vcpus; v++) {
		const struct host_cpu *mine =
			plan->cpu[v] < 0 ? NULL : host_cpus_find(host, (unsigned)plan->cpu[v]);

		for (unsigned i = 0; mine && i < host->count; i++)
			if (mine->core == host->cpu[i].core)
				host_cpu_set_remove(&claim->rest, host->cpu[i].id);
	}
	if (plan->control >= 0)
		host_cpu_set_remove(&claim->rest, (unsigned)plan->control);
	claim->plan.spare = claim->plan.spare && host->online > plan->vcpus + 1 + taken;
}

static struct perf_lock_set to_shared(const struct perf_lock_set *want)
{
	struct perf_lock_set shared = {0};

	for (size_t w = 0; w < ARRAY_SIZE(shared.cpu_shared.word); w++) {
		shared.cpu_shared.word[w] = want->cpu_shared.word[w] | want->cpu_exclusive.word[w];
		shared.cache_shared.word[w] =
			want->cache_shared.word[w] | want->cache_exclusive.word[w];
	}
	return shared;
}

static int claim_performance(const struct claiming *c, const struct perf_held *held)
{
	struct perf_claim *claim = c->claim;
	struct perf_missing missing = claim->missing;
	struct perf_lock_set want;
	struct error refusal = {0};
	int r = make_plan(c, held, &missing);

	if (r < 0)
		return r;
	if (c->request->mode == PERF_STRICT && missing.fatal > 0) {
		claim->missing = missing;
		return 0; /* said by perf_claim: no wait helps */
	}
	want = locks_of_plan(claim);
	r = perf_locks_take(&claim->locks, &want, c->name, &refusal);
	if (r == -EBUSY && c->request->mode == PERF_RELAXED && !c->request->wait && c->last) {
		want = to_shared(&want);
		r = perf_locks_take(&claim->locks, &want, c->name, c->err);
		if (r == 0) {
			/* Others may be on them, and two of a priority never make room. */
			claim->plan.own = claim->plan.spare = false;
			perf_missing_add(&missing, "--wait", "%s", refusal.what);
		}
	} else if (r < 0 && c->err->code == 0) {
		*c->err = refusal;
	}
	if (r == 0) {
		find_rest(claim, held);
		claim->missing = missing;
	}
	return r;
}

/* ---- ordinary mode ------------------------------------------------------------------------- */

static int choose_budget(const struct claiming *c, struct host_cpu_set *ret_set)
{
	struct host_cpus rest;
	int r = host_cpus_read(SYSFS, &c->claim->usable, &rest, c->err);

	if (r < 0)
		return r;
	perf_budget(&rest, c->request->cpus_budget, ret_set);
	host_cpus_done(&rest);
	return 0;
}

static int claim_ordinary(const struct claiming *c, const struct perf_held *held)
{
	struct perf_claim *claim = c->claim;
	const struct host_cpus *host = &claim->host;
	struct perf_lock_set want = {0};
	int r = 0;

	claim->usable = not_exclusive(host, held);
	/* Nothing free: ask for all, so that the refusal names who has them. */
	if (set_empty(&claim->usable))
		claim->usable = claim->initial;
	claim->vcpus = claim->usable;
	if (c->pin) {
		claim->vcpus = (struct host_cpu_set){0};
		for (unsigned v = 0; v < topology_vcpus(c->t); v++)
			if (c->pin[v] >= 0)
				host_cpu_set_add(&claim->vcpus, (unsigned)c->pin[v]);
	} else if (c->request->cpus_budget > 0) {
		r = choose_budget(c, &claim->vcpus);
	}
	/* With a budget, all of us keeps to it, so that others have the rest of the caches. With
	 * pins the control thread does not, since it would be in a vCPU's way. */
	if (r == 0 && !c->pin)
		claim->usable = claim->vcpus;
	for (unsigned i = 0; i < host->count; i++) {
		unsigned id = host->cpu[i].id;

		if (!host_cpu_set_has(&claim->usable, id) && !host_cpu_set_has(&claim->vcpus, id))
			continue;
		host_cpu_set_add(&want.cpu_shared, id);
		host_cpu_set_add(&want.cache_shared, host->group[host->cpu[i].group].id);
	}
	if (r == 0)
		r = perf_locks_take(&claim->locks, &want, c->name, c->err);
	if (r == 0 && !c->pin && host_cpu_set_count(&claim->vcpus) < c->request->cpus_budget)
		perf_missing_note(&claim->missing, "--wait",
				  "performance runs leave %u of the %u host CPUs of --cpus-budget",
				  host_cpu_set_count(&claim->vcpus), c->request->cpus_budget);
	return r;
}

/* ---- both ---------------------------------------------------------------------------------- */

/* The mutex, or without it where somebody never gives it back: that is noted once. */
static int begin(const struct claiming *c)
{
	struct perf_locks *locks = &c->claim->locks;
	bool first = locks->patience_ns > 0;
	struct error inner = {0};
	int r = perf_locks_begin(locks, &inner);

	if (r < 0 && r != -EBUSY)
		*c->err = inner;
	else if (r == -EBUSY && first)
		perf_missing_note(&c->claim->missing, NULL,
				  "host CPUs locked without the mutex: %s", inner.what);
	return r == -EBUSY ? 0 : r;
}

static int try_once(const struct claiming *c)
{
	bool anywhere = c->request->mode == PERF_OFF && c->request->cpus_budget == 0;
	struct perf_held held;
	int r = begin(c);

	if (r == 0 && anywhere) {
		r = perf_locks_take_all(&c->claim->locks, c->name, c->err);
		if (r != 0) {
			perf_locks_end(&c->claim->locks);
			return MIN(r, 0);
		}
	}
	if (r == 0 && !c->claim->host.cpu)
		r = host_cpus_read(SYSFS, &c->claim->initial, &c->claim->host, c->err);
	if (r == 0)
		r = perf_locks_look(&c->claim->locks, &c->claim->host, &held, c->err);
	if (r == 0)
		r = c->request->mode == PERF_OFF ? claim_ordinary(c, &held)
						 : claim_performance(c, &held);
	perf_locks_end(&c->claim->locks);
	return r;
}

static int wait_and_try(struct claiming *c)
{
	uint64_t until_ns = UINT64_MAX;
	unsigned tries = 0;
	int r;

	if (c->request->wait_ns > 0)
		until_ns = now_ns() + c->request->wait_ns;
	for (;;) {
		uint64_t now, pause_ns;

		*c->err = (struct error){0};
		c->last = ++tries > GLANCE_TRIES;
		r = try_once(c);
		now = now_ns();
		if (r != -EBUSY || (c->last && !c->request->wait) || now >= until_ns)
			return r;
		pause_ns = c->last ? LOOK_EACH_NS : GLANCE_NS;
		/* Not always the same time, so that two who wait don't walk in step. */
		c->claim->signo = signals_take(MIN(pause_ns + now % pause_ns, until_ns - now));
		if (c->claim->signo) {
			*c->err = (struct error){0};
			return error_set(c->err, -EINTR, "waiting for host CPUs");
		}
	}
}

int perf_claim(const struct perf_request *request, const struct topology *t, const int *pin,
	       const char *name, struct perf_claim *claim, struct error *err)
{
	struct claiming c = {
		.request = request,
		.t = t,
		.pin = pin,
		.name = name,
		.claim = claim,
		.err = err,
	};
	bool ordinary = request->mode == PERF_OFF && request->cpus_budget == 0;
	struct error inner = {0};
	int r = host_cpu_set_allowed(&claim->initial, err);

	if (r < 0)
		return r;
	claim->usable = claim->vcpus = claim->initial;
	r = perf_locks_open(&claim->locks, &inner);
	if (r < 0 && ordinary) {
		perf_missing_note(&claim->missing, NULL, "no locks between VMs: %.150s",
				  inner.what);
		return 0;
	}
	if (r < 0) {
		*err = inner;
		return r;
	}
	r = wait_and_try(&c);
	if (r == 0 && request->mode == PERF_STRICT && claim->missing.fatal > 0)
		return perf_missing_refuse(&claim->missing, err);
	return r;
}

void perf_claim_done(struct perf_claim *claim)
{
	perf_locks_close(&claim->locks);
	perf_plan_done(&claim->plan);
	host_cpus_done(&claim->host);
}
