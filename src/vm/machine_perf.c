/* What src/vm/perf does for one machine, and when. Control thread. */
#include "vm/machine_perf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arch/arch.h"
#include "base/log.h"
#include "base/util.h"
#include "vm/perf/apply.h"
#include "vm/signals.h"

/* Threads beyond which reading their counters as COMMAND starts would be noise itself. */
#define READ_AT_START_MAX 64
#define SPIN_FOR_EVER	  UINT64_MAX
/* Any machine that stasis models has fewer. */
#define PHYS_BITS 52

static bool asked(const struct machine *m)
{
	return m->config->perf.mode != PERF_OFF;
}

bool machine_perf_own_cpus(const struct machine *m)
{
	return asked(m) && m->claim.plan.own;
}

static int refuse(struct machine *m, struct error *err)
{
	if (m->config->perf.mode != PERF_STRICT || m->claim.missing.fatal == 0)
		return 0;
	return perf_missing_refuse(&m->claim.missing, err);
}

static struct perf_need need_of(const struct vm_config *c)
{
	struct perf_need need = {
		.bytes = topology_memory(&c->topology),
		.vcpus = topology_vcpus(&c->topology),
		.hugetlb = c->hugepages,
	};
	struct guest_layout layout = {0};
	struct error err = {0};

	/* A layout that this host can't have is refused when the VM is built. */
	if (arch_memory_layout(&c->topology, PHYS_BITS, &layout, &err) == 0)
		need.span =
			layout.range[layout.count - 1].gpa + layout.range[layout.count - 1].size;
	else
		need.span = need.bytes;
	return need;
}

int machine_perf_claim(struct machine *m, struct error *err)
{
	const struct vm_config *c = m->config;
	int r;

	if (asked(m)) {
		const struct perf_need need = need_of(c);

		m->claim.fits = perf_apply_check(&need, &m->claim.missing);
	}
	if (c->perf.wait)
		progress_set(&m->progress, "waiting for host CPUs");
	r = perf_claim(&c->perf, &c->topology, c->pin, c->name, &m->claim, err);
	progress_set(&m->progress, NULL);
	/* Ordinary threads keep off the CPUs of performance runs. */
	if (r == 0 && !asked(m) &&
	    memcmp(&m->claim.usable, &m->claim.initial, sizeof(m->claim.usable)) != 0) {
		r = perf_apply_affinity(&m->claim.usable);
		if (r < 0)
			error_set(err, r, "keeping to the host CPUs that are free");
	}
	return r;
}

void machine_perf_vm(struct machine *m)
{
	if (!asked(m))
		return;
	if (machine_perf_own_cpus(m))
		m->halts_unseen = perf_apply_exits(&m->kvm, &m->claim.missing);
	m->mem.copies = true;
	m->claim.fits =
		perf_apply_placement(&m->mem, &m->config->topology, &m->claim.host, &m->claim.plan,
				     m->config->hugepages, m->claim.fits, &m->claim.missing);
}

static bool show(uint64_t done, void *arg)
{
	struct machine *m = arg;

	snprintf(m->memory_shown, sizeof(m->memory_shown), "bringing memory in, %llu of %llu MiB",
		 (unsigned long long)(done >> 20),
		 (unsigned long long)(topology_memory(&m->config->topology) >> 20));
	progress_tick(&m->progress);
	m->claim.signo = m->claim.signo ?: signals_take(0);
	return m->claim.signo == 0;
}

int machine_perf_memory(struct machine *m, struct error *err)
{
	int r;

	if (!asked(m))
		return 0;
	/* To bring it in would end us, or others. */
	if (!m->claim.fits) {
		r = refuse(m, err);
		if (r < 0)
			return r;
		perf_missing_note(&m->claim.missing, "less memory (-m)",
				  "the guest's memory is neither brought in nor locked");
		return 0;
	}
	progress_set(&m->progress, m->memory_shown);
	r = perf_apply_memory(&m->mem, m->config->hugepages, show, m, &m->claim.fits,
			      &m->claim.missing);
	progress_set(&m->progress, NULL);
	return r < 0 ? error_set(err, r, "bringing the guest's memory in") : 0;
}

const int *machine_perf_pins(const struct machine *m)
{
	return asked(m) && m->claim.plan.cpu[0] >= 0 ? m->claim.plan.cpu : m->config->pin;
}

int machine_perf_before_threads(struct machine *m, struct error *err)
{
	m->threads_ns = now_ns();
	if (!asked(m))
		return 0;
	perf_apply_clock(&m->kvm, &m->claim.missing);
	/* What is not there would be brought in by locking it. */
	if (m->claim.fits)
		perf_apply_lock(&m->mem, &m->claim.missing);
	if (!machine_perf_own_cpus(m))
		perf_missing_add(&m->claim.missing, "fewer vCPUs, or --wait",
				 "no real-time priority, no spinning and no idling in the guest "
				 "where threads share host CPUs");
	perf_apply_timer_slack();
	return refuse(m, err);
}

static int prioritise(struct machine *m)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < vcpu_pool_count(m->pool); i++)
		r = perf_apply_realtime(vcpu_pool_get(m->pool, i)->thread, PERF_VCPU_PRIORITY);
	return r < 0 ? r : perf_apply_realtime(pthread_self(), PERF_CONTROL_PRIORITY);
}

/* The control thread never sleeps where a host CPU is left for the rest: for the threads, too, that
 * the kernel has for its I/O. */
static void spin(struct machine *m)
{
	m->control_spins = perf_apply_workers(m->loop, &m->claim.rest, &m->claim.missing);
	if (m->control_spins)
		loop_set_spin(m->loop, SPIN_FOR_EVER);
}

/* Every thread on its CPU, ahead of all that is not real-time. */
static int isolate(struct machine *m, struct error *err)
{
	struct host_cpu_set control = {0};
	int r;

	host_cpu_set_add(&control, (unsigned)m->claim.plan.control);
	r = perf_apply_affinity(&control);
	if (r < 0)
		perf_missing_add(&m->claim.missing, NULL,
				 "the control thread can't be bound to host CPU %d: %s",
				 m->claim.plan.control, strerror(-r));
	r = prioritise(m);
	/* Said already where it was to be expected. */
	if (r < 0 && m->config->perf.mode == PERF_STRICT)
		perf_missing_add(&m->claim.missing, "ulimit -r 2, or CAP_SYS_NICE",
				 "real-time priority is refused: %s", strerror(-r));
	if (m->claim.plan.spare)
		spin(m);
	return refuse(m, err);
}

static json_t *plan_json(const struct machine *m)
{
	const struct perf_plan *plan = &m->claim.plan;
	json_t *pins = json_array();

	for (unsigned v = 0; v < plan->vcpus; v++)
		json_array_append_new(pins, json_integer(plan->cpu[v]));
	return json_pack("{s:s, s:o, s:i, s:b, s:b, s:i}", "mode",
			 m->config->perf.mode == PERF_STRICT ? "strict" : "relaxed", "pins", pins,
			 "control", plan->control, "own_cpus", (int)plan->own, "control_spins",
			 (int)m->control_spins, "shared_cores", (int)plan->shared_cores);
}

static pid_t *thread_ids(struct machine *m)
{
	unsigned n = vcpu_pool_count(m->pool);
	pid_t *tid = calloc(n, sizeof(*tid));

	for (unsigned i = 0; tid && i < n; i++)
		tid[i] = vcpu_pool_get(m->pool, i)->tid;
	return tid;
}

/* ---- the guest's own counters --------------------------------------------------------------- */

static void begin_counters(struct machine *m)
{
	CLEANUP_FREE pid_t *tid = m->config->counters ? thread_ids(m) : NULL;
	struct error err = {0};

	if (!tid || counters_open(&m->counters, tid, vcpu_pool_count(m->pool), &err) == 0)
		return;
	log_warn("%s", err.what);
	vm_result_degraded(m->result, err.what);
}

/* ---- the run ------------------------------------------------------------------------------- */

int machine_perf_isolate(struct machine *m, struct error *err)
{
	return machine_perf_own_cpus(m) ? isolate(m, err) : 0;
}

void machine_perf_running(struct machine *m)
{
	const struct perf_missing *missing = &m->claim.missing;

	if (asked(m)) {
		m->result->perf = plan_json(m);
		for (unsigned i = 0; i < missing->count; i++)
			log_warn("--perf: %s", missing->item[i].what);
	}
	begin_counters(m);
	/* A foreign init says nothing of its COMMAND. */
	if (m->config->session == VM_SESSION_NONE)
		machine_perf_command_begins(m);
}

/* ---- evidence ------------------------------------------------------------------------------ */

/* Where our threads run: the plan's host CPUs; all that we may use where there is none. */
static struct host_cpu_set our_cpus(const struct machine *m)
{
	const struct perf_plan *plan = &m->claim.plan;
	struct host_cpu_set set = {0};

	if (!asked(m) || plan->cpu[0] < 0) {
		for (size_t w = 0; w < ARRAY_SIZE(set.word); w++)
			set.word[w] = m->claim.usable.word[w] | m->claim.vcpus.word[w];
		return set;
	}
	for (unsigned v = 0; v < plan->vcpus; v++)
		host_cpu_set_add(&set, (unsigned)plan->cpu[v]);
	if (plan->control >= 0)
		host_cpu_set_add(&set, (unsigned)plan->control);
	return set;
}

void machine_perf_command_begins(struct machine *m)
{
	const struct host_cpu_set cpus = our_cpus(m);
	unsigned n = vcpu_pool_count(m->pool);
	CLEANUP_FREE pid_t *tid = thread_ids(m);

	/* Without memory for it, a run goes on without. */
	if (tid &&
	    evidence_begin(&m->evidence, &cpus, tid, n, m->threads_ns, n <= READ_AT_START_MAX,
			   m->config->session != VM_SESSION_NONE) < 0)
		log_debug("no memory for the vCPU threads' counters");
}

void machine_perf_command_ended(struct machine *m)
{
	CLEANUP_FREE pid_t *tid = NULL;

	if (!m->evidence.before || m->result->evidence)
		return;
	tid = thread_ids(m);
	if (tid)
		m->result->evidence = evidence_end(&m->evidence, tid);
	if (asked(m) && json_is_true(json_object_get(m->result->evidence, "noisy")))
		log_warn("--perf: the host was noisy, as the report's evidence shows");
}

/* ---- the end ------------------------------------------------------------------------------- */

void machine_perf_done(struct machine *m)
{
	if (!perf_locks_intact(&m->claim.locks))
		perf_missing_note(&m->claim.missing, NULL,
				  "another user removed a lock during the run, so that another VM "
				  "may have been on the same host CPUs");
	if (perf_missing_record(&m->claim.missing, &m->result->degraded) < 0)
		log_warn("no memory to record what this run lacked");
	if (asked(m))
		perf_apply_ordinary();
	if (perf_apply_affinity(&m->claim.initial) < 0)
		log_debug("the host CPUs that we were started with are gone");
	evidence_done(&m->evidence);
	counters_close(&m->counters);
	perf_claim_done(&m->claim);
}
