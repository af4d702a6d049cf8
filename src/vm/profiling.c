/* Starts and stops sampling, takes what the vCPUs put down, and keeps what is known of the guest's
 * kernel for them. Control thread, but for capture, which is each vCPU's. */
#include "vm/profiling.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "vm/machine.h"
#include "vm/profile_out.h"
#include "vm/record.h"
#include "vm/trace.h"

#define NS_PER_S       UINT64_C(1000000000)
#define DRAIN_MIN_NS   UINT64_C(4000000)
#define DRAIN_MAX_NS   UINT64_C(100000000)
#define STACKS_CUT_MAX 0.05 /* of the kernel's time: more is told */

/* ---- vCPU threads ------------------------------------------------------------------------ */

static void capture(unsigned vcpu, const struct arch_vcpu_state *state, struct sample *sample,
		    void *arg)
{
	struct machine *m = arg;
	struct profiling_kernels *kernels = &m->profiling.kernels;
	struct profiling_kernel *kernel = profiling_kernels_hold(kernels, vcpu);

	sample->kernel = kernel ? kernel->id : 0;
	profiling_sample(kernel ? kernel->glimpse : NULL, &m->mem, vcpu, state, sample);
	profiling_kernels_let_go(kernels, vcpu);
}

/* ---- the kernel -------------------------------------------------------------------------- */

static void degraded(struct profiling *p, const char *text)
{
	size_t i;
	json_t *row;

	json_array_foreach(p->degraded, i, row) if (!strcmp(json_string_value(row), text)) return;
	json_array_append_new(p->degraded, json_string(text));
}

static int open_kernel(struct machine *m, struct error *err)
{
	struct glimpse_kernel *glimpse = NULL;
	const struct inspect *in;
	int r = machine_inspect(m, &in, err);

	if (r < 0)
		return r;
	r = glimpse_open(in, &glimpse);
	if (r == 0)
		r = profiling_kernels_add(&m->profiling.kernels, glimpse);
	if (r < 0) {
		glimpse_close(glimpse);
		return error_set_shortage(err, r, "reading the guest's code");
	}
	return 0;
}

static enum profiling_reason reason_to_look(const struct profiling *p)
{
	const struct profiling_kernel *kernel = atomic_load(&p->kernels.newest);

	if (kernel && glimpse_is_stale(kernel->glimpse))
		return PROFILING_COME;
	return !kernel || p->unknown ? PROFILING_SEEK : PROFILING_NONE;
}

/* Looks for the kernel, for code that has come, and for what is not known. */
static void look(struct machine *m, uint64_t now)
{
	struct profiling *p = &m->profiling;
	bool had = atomic_load(&p->kernels.newest) != NULL;
	enum profiling_reason why = reason_to_look(p);
	struct error err = {0};
	int r;

	if (!profiling_pace_due(&p->pace, why, now)) {
		p->put_off |= why == PROFILING_COME && profiling_pace_is_slow(&p->pace);
		return;
	}
	r = open_kernel(m, &err);
	profiling_pace_read(&p->pace, why, r == 0 && (!had || why == PROFILING_COME), now_ns());
	p->unknown = false;
}

static void name(uint32_t kernel, uint64_t gva, char *buf, size_t len, void *arg)
{
	struct profiling *p = arg;

	p->unknown |= !profiling_kernels_name(&p->kernels, kernel, gva, buf, len);
}

/* ---- samples ----------------------------------------------------------------------------- */

static void add(struct machine *m, unsigned vcpu, const struct sample *sample)
{
	const struct sample idle = {.kind = SAMPLE_IDLE, .at_ns = sample->at_ns};
	bool busy = profile_add(m->profiling.profile, vcpu, sample);

	if (m->trace && m->profiling.of_run)
		trace_sample(m->trace, vcpu, busy ? sample : &idle);
}

static void take(struct machine *m)
{
	struct profiling *p = &m->profiling;

	for (unsigned i = 0; i < vcpu_pool_count(m->pool); i++) {
		struct vcpu *vcpu = vcpu_pool_get(m->pool, i);
		const struct sample *sample;

		/* No more than a ring: the vCPU may go on putting down. */
		for (unsigned n = 0; n < SAMPLE_RING && (sample = vcpu_sample_peek(vcpu)); n++) {
			if (sample->period == p->period)
				add(m, i, sample);
			vcpu_sample_release(vcpu);
		}
	}
}

static uint64_t dropped(const struct machine *m)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < vcpu_pool_count(m->pool); i++)
		n += vcpu_samples_dropped(vcpu_pool_get(m->pool, i));
	return n;
}

static void on_drain(struct loop_timer *t)
{
	struct machine *m = container_of(t, struct machine, profiling.drain);
	struct profiling *p = &m->profiling;
	uint64_t now = now_ns();

	take(m);
	profiling_counts_take(m, false);
	profiling_kernels_tidy(&p->kernels);
	look(m, now);
	/* Half a ring at the asked rate, for what a burst needs. */
	(void)!loop_timer_set(m->loop, t,
			      now_ns() +
				      MAX(DRAIN_MIN_NS,
					  MIN(DRAIN_MAX_NS, SAMPLE_RING / 2 * NS_PER_S / p->hz)));
}

/* ---- from its start to its end ----------------------------------------------------------- */

static int prepare(struct machine *m, struct error *err)
{
	const struct sampling sampling = {.capture = capture, .arg = m};
	struct profiling *p = &m->profiling;
	int r;

	if (p->prepared)
		return 0;
	if (!p->kernels.hazard && profiling_kernels_init(&p->kernels, vcpu_pool_count(m->pool)) < 0)
		return error_set_shortage(err, -ENOMEM, "profiling");
	r = vcpu_pool_sample_init(m->pool, &sampling, err);
	p->prepared = r == 0;
	return r;
}

static int start(struct machine *m, unsigned hz, struct error *err)
{
	struct profiling *p = &m->profiling;
	int r;

	if (p->profile)
		return error_usage(err, "%s is being profiled already", m->config->name);
	if (!m->started_ns || m->ended)
		return error_usage(err, "the guest does not run");
	r = prepare(m, err);
	if (r < 0)
		return r;
	if (profile_new(vcpu_pool_count(m->pool), &p->profile) < 0)
		return error_set_shortage(err, -ENOMEM, "profiling");
	p->profile->name = name;
	p->profile->arg = p;
	p->hz = hz;
	p->degraded = json_array();
	p->dropped_before = dropped(m);
	p->drain.fire = on_drain;
	p->put_off = false;
	p->unknown = true; /* what was loaded since it was looked at */
	look(m, now_ns());
	r = loop_timer_set(m->loop, &p->drain, now_ns() + DRAIN_MIN_NS);
	if (r < 0) {
		profile_free(p->profile);
		p->profile = NULL;
		return error_set_shortage(err, r, "profiling");
	}
	p->since_ns = p->profile->since_ns = now_ns();
	if (!profiling_counts_begin(m))
		degraded(p, "profile: no memory to count exits by time");
	p->period = vcpu_pool_sample_start(m->pool, NS_PER_S / hz);
	p->on = true;
	return 0;
}

static void stop(struct machine *m)
{
	struct profiling *p = &m->profiling;

	if (!p->on)
		return;
	p->on = false;
	vcpu_pool_sample_stop(m->pool);
	p->duration_ns = now_ns() - p->since_ns;
	loop_timer_clear(m->loop, &p->drain);
	take(m);
	profiling_counts_take(m, true);
	profiling_counts_done(m);
}

static void say_what_the_kernel_lacks(struct profiling *p, const struct lacks *lacks)
{
	char text[400];
	size_t len;

	if (!lacks->count)
		return;
	len = (size_t)snprintf(text, sizeof(text),
			       "profile: names of tasks, modules and programs, or parts of stacks, "
			       "may be missing, since the guest's kernel does not tell");
	for (unsigned i = 0; i < lacks->count && len < sizeof(text); i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s %s", i ? "," : "",
					lacks->what[i]);
	degraded(p, text);
}

static void say_what_stacks_lack(struct profiling *p)
{
	struct profile_vcpu sum;
	char text[160];

	profile_sum(p->profile, &sum);
	if ((double)sum.cut <= STACKS_CUT_MAX * (double)sum.kernel)
		return;
	snprintf(text, sizeof(text),
		 "profile: stacks break off in %.0f %% of the kernel's time: classes and callers "
		 "may be wrong",
		 100 * (double)sum.cut / (double)sum.kernel);
	degraded(p, text);
}

static void say_what_lacks(struct machine *m, uint64_t lost)
{
	struct profiling *p = &m->profiling;
	struct profiling_kernel *kernel = atomic_load(&p->kernels.newest);
	char text[200];

	if (kernel) {
		say_what_the_kernel_lacks(p, glimpse_lacks(kernel->glimpse));
		say_what_stacks_lack(p);
	}
	if (!kernel) {
		degraded(p, "profile: no Linux kernel was found in the guest; addresses have no "
			    "names, and there are no tasks");
		if (m->halts_unseen)
			degraded(p, "profile: a halt that does not leave the guest (performance "
				    "mode) counts as busy where the kernel is not known");
	} else if (!m->inspect->types) {
		degraded(p, "profile: the guest's kernel has no type information (BTF): no tasks, "
			    "and no names of modules and programs");
	}
	if (p->put_off) {
		snprintf(text, sizeof(text),
			 "profile: the guest loads code again and again, and names were taken "
			 "anew only every %.0f s: some may be missing or wrong",
			 (double)p->pace.come_wait_ns / 1e9);
		degraded(p, text);
	}
	if (lost) {
		snprintf(text, sizeof(text), "profile: %llu samples were dropped",
			 (unsigned long long)lost);
		degraded(p, text);
	}
	if (p->profile->lost_stacks || p->profile->lost_tasks) {
		snprintf(text, sizeof(text),
			 "profile: %.1f s have no room among the stacks, %.1f s among the tasks",
			 (double)sample_ns(p->profile->lost_stacks, p->hz) / 1e9,
			 (double)sample_ns(p->profile->lost_tasks, p->hz) / 1e9);
		degraded(p, text);
	}
	if (p->profile->user_rest) {
		snprintf(text, sizeof(text),
			 "profile: %.1f s in user space have no room among the stacks, and are "
			 "told as " PROFILE_USER_REST,
			 (double)sample_ns(p->profile->user_rest, p->hz) / 1e9);
		degraded(p, text);
	}
	for (unsigned i = 0; i < vcpu_pool_count(m->pool); i++) {
		int r = vcpu_sample_error(vcpu_pool_get(m->pool, i), p->period);

		if (r == 0)
			continue;
		snprintf(text, sizeof(text), "profile: sampling vCPU %u: %s", i, strerror(-r));
		degraded(p, text);
		return;
	}
}

/* After stop. Gives both, and forgets the profile. */
static void finish(struct machine *m, json_t **ret_summary, json_t **ret_speedscope)
{
	struct profiling *p = &m->profiling;
	struct profile_run run = {
		.hz = p->hz,
		.duration_ns = p->duration_ns,
		.begin_ns = m->command_ns ? p->since_ns - MIN(m->command_ns, p->since_ns) : 0,
		.dropped = dropped(m) - p->dropped_before,
		.topology = &m->config->topology,
		.degraded = p->degraded,
	};

	for (unsigned i = 0; i < vcpu_pool_count(m->pool); i++) {
		uint64_t took_ns, longest_ns;

		vcpu_sample_cost(vcpu_pool_get(m->pool, i), &took_ns, &longest_ns);
		run.took_ns += took_ns;
		run.longest_ns = MAX(run.longest_ns, longest_ns);
	}
	say_what_lacks(m, run.dropped);
	*ret_summary = profile_json(p->profile, &run);
	*ret_speedscope = profile_speedscope(p->profile, &run, m->config->name);
	profile_free(p->profile);
	json_decref(p->degraded);
	p->profile = NULL;
	p->degraded = NULL;
}

/* ---- a run's ----------------------------------------------------------------------------- */

void machine_profile_hello(struct machine *m)
{
	if (m->config->profile_hz)
		look(m, now_ns());
}

void machine_profile_begin(struct machine *m)
{
	struct error err = {0};

	if (!m->config->profile_hz || m->profiling.of_run)
		return;
	m->profiling.of_run = start(m, m->config->profile_hz, &err) == 0;
	if (m->profiling.of_run)
		return;
	log_warn("--profile: %s", err.what);
	vm_result_degraded(m->result, "profile: it could not begin");
}

void machine_profile_stop(struct machine *m)
{
	if (m->profiling.of_run)
		stop(m);
}

static void finish_run(struct machine *m)
{
	struct error err = {0};
	json_t *speedscope;
	size_t i;
	json_t *row;
	int r = 0;

	stop(m);
	finish(m, &m->result->profile, &speedscope);
	if (m->result->profile)
		json_array_foreach(json_object_get(m->result->profile, "degraded"), i, row)
			vm_result_degraded(m->result, json_string_value(row));
	if (m->result->profile && m->config->verbosity >= 0)
		profile_print(m->result->profile, stderr);
	if (m->config->record)
		r = record_profile(m->config->record, speedscope, &err);
	else if (m->config->profile_out)
		r = profile_write(speedscope, m->config->profile_out, &err);
	else
		json_decref(speedscope);
	if (r < 0) {
		log_failure(&err);
		vm_result_degraded(m->result, "profile: its file could not be written");
	}
}

/* ---- a client's -------------------------------------------------------------------------- */

static void finish_client(struct machine *m)
{
	struct qmp_wait *client = m->profiling.client;
	json_t *summary, *speedscope;

	m->profiling.client = NULL;
	loop_timer_clear(m->loop, &m->profiling.end);
	stop(m);
	finish(m, &summary, &speedscope);
	client->ret = json_pack("{s:o, s:o}", "profile", summary, "speedscope", speedscope);
	client->done(client, NULL);
}

static void cancel_client(struct qmp_wait *wait)
{
	finish_client(wait->arg);
}

static void on_end(struct loop_timer *t)
{
	finish_client(container_of(t, struct machine, profiling.end));
}

int machine_profile_client(struct machine *m, unsigned hz, uint64_t duration_ns,
			   struct qmp_wait *wait, struct error *err)
{
	struct profiling *p = &m->profiling;
	json_t *summary, *speedscope;
	int r = start(m, hz ? hz : PROFILE_HZ_DEFAULT, err);

	if (r < 0)
		return r;
	p->end.fire = on_end;
	r = loop_timer_set(m->loop, &p->end, now_ns() + duration_ns);
	if (r < 0) {
		stop(m);
		finish(m, &summary, &speedscope);
		json_decref(summary);
		json_decref(speedscope);
		return error_set_shortage(err, r, "profiling");
	}
	wait->cancel = cancel_client;
	wait->arg = m;
	p->client = wait;
	return 0;
}

/* ---- the end ----------------------------------------------------------------------------- */

void machine_profile_done(struct machine *m)
{
	struct profiling *p = &m->profiling;

	if (p->client)
		finish_client(m);
	else if (p->profile)
		finish_run(m);
	/* Also what was opened for one that did not begin. */
	profiling_kernels_done(&p->kernels);
	p->prepared = false;
}
