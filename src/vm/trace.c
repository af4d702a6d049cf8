/* What a trace is made of, as it comes. Control thread. */
#include "vm/trace.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

#define NS_PER_S UINT64_C(1000000000)
/* Intervals are cut at 16 times their mean (vcpu/sample.h): past that, samples are missing. */
#define GAP_MEANS 20

int trace_new(unsigned vcpus, unsigned hz, uint64_t began_ns, struct trace **ret_t)
{
	struct trace *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	*t = (struct trace){.vcpus = vcpus, .hz = hz, .began_ns = began_ns};
	/* Lazily backed: what stays empty costs nothing. */
	t->vcpu = calloc(vcpus, sizeof(*t->vcpu));
	t->slice = calloc(TRACE_SLICES_MAX, sizeof(*t->slice));
	t->point = calloc(TRACE_POINTS_MAX, sizeof(*t->point));
	t->freeze = calloc(TRACE_FREEZES_MAX, sizeof(*t->freeze));
	t->mark = calloc(TRACE_MARKS_MAX, sizeof(*t->mark));
	if (!t->vcpu || !t->slice || !t->point || !t->freeze || !t->mark) {
		trace_free(t);
		return -ENOMEM;
	}
	*ret_t = t;
	return 0;
}

void trace_free(struct trace *t)
{
	if (!t)
		return;
	free(t->vcpu);
	free(t->slice);
	free(t->point);
	free(t->freeze);
	free(t->mark);
	free(t);
}

/* ---- samples ------------------------------------------------------------------------------- */

static bool is_same_task(const struct trace_slice *slice, const struct sample *s)
{
	return slice->pid == (s->has_task ? s->pid : -1) &&
	       (!s->has_task || !strncmp(slice->comm, s->comm, sizeof(slice->comm) - 1));
}

static void begin_slice(struct trace *t, unsigned vcpu, const struct sample *s, uint64_t mean_ns)
{
	struct trace_vcpu *v = &t->vcpu[vcpu];
	struct trace_slice *slice;

	v->slice = 0;
	if (t->slices == TRACE_SLICES_MAX) {
		t->lost_samples++;
		return;
	}
	slice = &t->slice[t->slices];
	/* A sample stands for the time before it; what was seen before ends there. */
	*slice = (struct trace_slice){
		.from_ns = MAX(v->sample_ns, s->at_ns - MIN(mean_ns, s->at_ns)),
		.to_ns = s->at_ns,
		.pid = s->has_task ? s->pid : -1,
		.vcpu = (uint16_t)vcpu,
	};
	slice->from_ns = MAX(slice->from_ns, t->began_ns);
	snprintf(slice->comm, sizeof(slice->comm), "%.*s", (int)sizeof(s->comm),
		 s->has_task ? s->comm : "guest");
	v->slice = ++t->slices;
}

void trace_sample(struct trace *t, unsigned vcpu, const struct sample *s)
{
	struct trace_vcpu *v = &t->vcpu[vcpu];
	uint64_t mean_ns = NS_PER_S / t->hz;
	struct trace_slice *open = v->slice ? &t->slice[v->slice - 1] : NULL;

	if (s->at_ns < v->sample_ns || s->at_ns < t->began_ns)
		return;
	/* Task 0 is what a CPU runs for want of another. */
	if (s->kind == SAMPLE_IDLE || (s->has_task && s->pid == 0))
		v->slice = 0;
	else if (open && is_same_task(open, s) && s->at_ns - v->sample_ns <= GAP_MEANS * mean_ns)
		open->to_ns = s->at_ns;
	else
		begin_slice(t, vcpu, s, mean_ns);
	v->sample_ns = s->at_ns;
}

/* ---- the rest ------------------------------------------------------------------------------ */

void trace_look(struct trace *t, unsigned cpu, uint64_t at_ns, const struct runqueues_sample *s)
{
	/* A guest may say anything. */
	uint32_t running = (uint32_t)MIN(s->value[RUNQUEUES_RUNNING], (uint64_t)INT32_MAX);
	uint32_t waiting = running - (running && !s->idle);
	struct trace_vcpu *v;

	if (cpu >= t->vcpus || at_ns < t->began_ns)
		return;
	v = &t->vcpu[cpu];
	if (v->looked && v->running == running && v->waiting == waiting)
		return;
	if (t->points == TRACE_POINTS_MAX) {
		t->lost_points++;
		return;
	}
	v->looked = true;
	v->running = running;
	v->waiting = waiting;
	t->point[t->points++] = (struct trace_point){at_ns, running, waiting, (uint16_t)cpu};
}

void trace_frozen(struct trace *t, uint64_t from_ns, uint64_t to_ns, const char *cause)
{
	uint32_t most = MIN(TRACE_FREEZES_MAX, TRACE_FROZEN_MAX / t->vcpus);
	uint64_t before = t->freezes ? t->freeze[t->freezes - 1].to_ns : t->began_ns;
	struct trace_freeze *freeze;

	if (t->freezes == most) {
		t->lost_freezes++;
		return;
	}
	freeze = &t->freeze[t->freezes++];
	freeze->from_ns = MAX(from_ns, before);
	freeze->to_ns = MAX(to_ns, freeze->from_ns);
	snprintf(freeze->cause, sizeof(freeze->cause), "%s", cause);
}

void trace_marked(struct trace *t, uint64_t at_ns, int vcpu, const char *fmt, ...)
{
	struct trace_mark *mark;
	va_list ap;

	if (at_ns < t->began_ns)
		return;
	if (t->marks == TRACE_MARKS_MAX) {
		t->lost_marks++;
		return;
	}
	mark = &t->mark[t->marks++];
	mark->at_ns = at_ns;
	mark->vcpu = vcpu >= 0 && (unsigned)vcpu < t->vcpus ? vcpu : -1;
	va_start(ap, fmt);
	vsnprintf(mark->text, sizeof(mark->text), fmt, ap);
	va_end(ap);
}

bool trace_is_cut(const struct trace *t)
{
	return t->lost_samples || t->lost_points || t->lost_freezes || t->lost_marks;
}
