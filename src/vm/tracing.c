/* The trace of a run: what a machine puts into it, and when it is written. Control thread. */
#include <stdarg.h>

#include "base/util.h"
#include "vm/machine.h"
#include "vm/trace.h"

void machine_trace_running(struct machine *m)
{
	unsigned hz = m->config->profile_hz ?: PROFILE_HZ_DEFAULT;

	if (m->config->trace_out &&
	    trace_new(vcpu_pool_count(m->pool), hz, m->started_ns, &m->trace) < 0)
		vm_result_degraded(m->result, "trace: no memory for it");
}

void machine_trace_mark(struct machine *m, int vcpu, const char *fmt, ...)
{
	char text[TRACE_TEXT];
	va_list ap;

	if (!m->trace)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	trace_marked(m->trace, now_ns(), vcpu, "%s", text);
}

void machine_trace_frozen(struct machine *m, const struct freeze_report *report)
{
	uint64_t now = now_ns();

	if (!m->trace)
		return;
	if (report->reached)
		trace_frozen(m->trace, now - report->frozen_ns, now, report->cause);
	else
		trace_marked(m->trace, now, -1, "not frozen: %s", report->cause);
}

struct output {
	const struct machine *m;
	const struct windows *windows;
};

static int write_trace(FILE *f, void *arg)
{
	const struct output *o = arg;

	return trace_write(o->m->trace, o->m->config->name, o->windows, o->m->profiling.since_ns,
			   o->m->profiling.duration_ns, f);
}

void machine_trace_done(struct machine *m)
{
	struct output o = {.m = m};
	struct error err = {0};
	int r;

	if (!m->trace)
		return;
	machine_profile_stop(m); /* the last samples come in */
	if (m->profiling.profile && m->profiling.of_run)
		o.windows = m->profiling.profile->windows;
	r = beside_write(m->config->trace_out, write_trace, &o);
	if (r < 0) {
		error_set(&err, r, "writing the trace %s", m->config->trace_out);
		log_failure(&err);
		vm_result_degraded(m->result, "trace: its file could not be written");
	} else if (trace_is_cut(m->trace)) {
		vm_result_degraded(m->result, "trace: more than it has room for; its end says what "
					      "was left out");
	}
	trace_free(m->trace);
	m->trace = NULL;
}
