/* What is counted into the windows of a machine's profile besides samples: exits, and what the
 * monitor's looks at run queues tell. Control thread. */
#include <stdlib.h>

#include "base/util.h"
#include "vm/machine.h"
#include "vm/trace.h"

/* Reading a thousand vCPUs' accounts takes a while. */
#define COUNT_LEAST_NS UINT64_C(50000000)

_Static_assert(ARRAY_SIZE(((struct vcpu_stats *)0)->by_reason) == WINDOWS_REASONS, "reasons");

static uint64_t get(const _Atomic uint64_t *counter)
{
	/* Relaxed: a recent value will do. */
	return atomic_load_explicit(counter, memory_order_relaxed);
}

/* Ticks that exits kept a vCPU from its guest. What the profile took is its own cost, and would
 * make the run with fewer exits seem the dearer one. */
static uint64_t out_ticks(const struct vcpu *vcpu)
{
	struct account_times t;

	account_times(vcpu->account, &t);
	return t.spent[ACCOUNT_HAND_OFF] + t.spent[ACCOUNT_WAITING] + t.spent[ACCOUNT_SERVED];
}

/* What it has more than when it was read last, which now is this reading. */
static uint64_t take(uint64_t *last, uint64_t now)
{
	uint64_t more = now > *last ? now - *last : 0;

	*last = MAX(now, *last);
	return more;
}

/* Adds what came since the last reading to the windows; w NULL: only reads. */
static void read_all(struct machine *m, struct windows *w, uint64_t now)
{
	struct profiling_counts *c = &m->profiling.counts;
	uint64_t since = m->profiling.since_ns, from = c->at_ns - since, to = now - since;
	unsigned vcpus = vcpu_pool_count(m->pool);
	uint64_t reason[WINDOWS_REASONS] = {0}, exits = 0, out_ns = 0;

	for (unsigned i = 0; i < vcpus; i++) {
		const struct vcpu *vcpu = vcpu_pool_get(m->pool, i);
		uint64_t n = take(&c->vcpu[i].exits, get(&vcpu->stats.exits));
		uint64_t ticks = take(&c->vcpu[i].ticks, out_ticks(vcpu));
		uint64_t ns = (uint64_t)((double)ticks / ticks_per_ns());

		for (unsigned r = 0; r < WINDOWS_REASONS; r++)
			reason[r] += get(&vcpu->stats.by_reason[r]);
		exits += n;
		out_ns += ns;
		if (!w)
			continue;
		windows_count(w, (unsigned)WINDOWS_VCPU + i, from, to, n);
		windows_count(w, (unsigned)WINDOWS_VCPU + vcpus + i, from, to, ns);
	}
	for (unsigned r = 0; r < WINDOWS_REASONS; r++) {
		uint64_t n = take(&c->reason[r], reason[r]);

		if (w)
			windows_count(w, (unsigned)WINDOWS_REASON + r, from, to, n);
	}
	if (w) {
		windows_count(w, WINDOWS_EXITS, from, to, exits);
		windows_count(w, WINDOWS_OUT_NS, from, to, out_ns);
	}
	c->at_ns = now;
}

bool profiling_counts_begin(struct machine *m)
{
	struct profiling_counts *c = &m->profiling.counts;
	unsigned vcpus = vcpu_pool_count(m->pool);

	profiling_counts_done(m);
	c->vcpu = calloc(vcpus, sizeof(*c->vcpu));
	c->queue = calloc(vcpus, sizeof(*c->queue));
	if (!c->vcpu || !c->queue) {
		profiling_counts_done(m);
		return false;
	}
	read_all(m, NULL, m->profiling.since_ns);
	return true;
}

void profiling_counts_take(struct machine *m, bool last)
{
	struct profiling_counts *c = &m->profiling.counts;
	uint64_t now = last ? m->profiling.since_ns + m->profiling.duration_ns : now_ns();

	if (c->vcpu && (last || now - c->at_ns >= COUNT_LEAST_NS))
		read_all(m, m->profiling.profile->windows, now);
}

/* What a guest takes back, or makes up, counts as nothing. */
static uint64_t grown(const struct runqueues_sample *from, const struct runqueues_sample *to,
		      enum runqueues_field f)
{
	uint64_t n = to->value[f] - from->value[f];

	return from->have & to->have & 1u << f && n <= UINT32_MAX ? n : 0;
}

void machine_profile_looked(struct machine *m, unsigned cpu, uint64_t at_ns,
			    const struct runqueues_sample *s)
{
	struct profiling *p = &m->profiling;
	struct profiling_queue *q;

	if (m->trace)
		trace_look(m->trace, cpu, at_ns, s);
	if (!p->on || !p->counts.queue || cpu >= p->profile->vcpus || at_ns < p->since_ns)
		return;
	q = &p->counts.queue[cpu];
	if (q->at_ns) {
		struct windows *w = p->profile->windows;
		uint64_t from = q->at_ns - p->since_ns, to = at_ns - p->since_ns;

		windows_count(w, WINDOWS_SWITCHES, from, to,
			      grown(&q->last, s, RUNQUEUES_SWITCHES));
		windows_count(w, WINDOWS_WAKEUPS, from, to, grown(&q->last, s, RUNQUEUES_WAKEUPS));
		w->has_queues = true;
		w->has_wakeups |= (q->last.have & s->have & 1u << RUNQUEUES_WAKEUPS) != 0;
	}
	q->last = *s;
	q->at_ns = at_ns;
}

void profiling_counts_done(struct machine *m)
{
	free(m->profiling.counts.vcpu);
	free(m->profiling.counts.queue);
	m->profiling.counts = (struct profiling_counts){0};
}
