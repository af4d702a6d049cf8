/* The monitor of a run: when it begins, what it asks the machine, what becomes of a stall. Control
 * thread. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/util.h"
#include "vm/machine.h"

/* A guest whose init says nothing is looked at now and then until its kernel is there. */
#define RETRY_FIRST_NS 500000000u
#define RETRY_MAX_NS   8000000000u

static bool wanted(const struct machine *m)
{
	return m->config->monitor_ns != 0;
}

/* ---- what the monitor asks --------------------------------------------------------------- */

static bool ran(unsigned cpu, uint64_t *ret_ns, void *arg)
{
	struct machine *m = arg;
	struct timespec t;
	clockid_t clock;

	if (pthread_getcpuclockid(vcpu_pool_get(m->pool, cpu)->thread, &clock) != 0 ||
	    clock_gettime(clock, &t) < 0)
		return false;
	*ret_ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
	return true;
}

static uint64_t freezes(bool *ret_frozen, void *arg)
{
	const struct machine *m = arg;

	*ret_frozen = m->freeze.state != FREEZE_RUNNING || m->ended;
	return 2 * m->freeze.freezes - *ret_frozen;
}

static void stop_at(struct machine *m, const struct monitor_stall *stall)
{
	enum capture_then then =
		m->config->on_stall == VM_ON_STALL_FREEZE ? CAPTURE_STAY : CAPTURE_THAW;
	struct dump_cause cause = {.vcpu = (int)stall->cpu};
	struct error err = {0};

	snprintf(cause.name, sizeof(cause.name), "stall:%u", stall->cpu);
	if (machine_freeze_and_capture(m, &cause, then, &err) < 0)
		log_failure(&err);
	else
		m->monitoring.holds = then == CAPTURE_STAY;
}

bool machine_monitor_frozen(const struct machine *m)
{
	return m->monitoring.holds && m->freeze_stays && m->freeze.state == FREEZE_FROZEN;
}

static void looked(unsigned cpu, uint64_t at_ns, const struct runqueues_sample *s, void *arg)
{
	machine_profile_looked(arg, cpu, at_ns, s);
}

static void stalled(const struct monitor_stall *stall, void *arg)
{
	const struct runqueues_sample *s = stall->sample;
	struct machine *m = arg;
	char text[256];

	snprintf(text, sizeof(text),
		 "stall: CPU %u: its run queue's clock has stood for %.0f ms, with %llu tasks; %s "
		 "(pid %lld) runs",
		 stall->cpu, (double)stall->stood_ns / 1e6,
		 (unsigned long long)s->value[RUNQUEUES_RUNNING], s->comm, (long long)s->pid);
	/* Each has its line; a guest that makes them for fun does not get that far. */
	if (stall->nth <= MONITOR_STALLS_KEPT)
		log_warn("%s", text);
	else
		log_guest(&m->monitoring.log, "%s", text);
	machine_trace_mark(m, (int)stall->cpu, "stall of %.0f ms", (double)stall->stood_ns / 1e6);
	machine_tell_stall(m, stall);
	if (m->config->on_stall != VM_ON_STALL_LOG)
		stop_at(m, stall);
}

/* ---- its beginning ----------------------------------------------------------------------- */

static int begin(struct machine *m, struct error *err)
{
	struct monitoring *w = &m->monitoring;
	struct monitor_config config = {.loop = m->loop,
					.cpus = vcpu_pool_count(m->pool),
					.interval_ns = m->config->monitor_ns,
					.began_ns = m->started_ns,
					.csv_path = m->config->monitor_out,
					.csv_fd = w->csv_fd,
					.ran = ran,
					.freezes = freezes,
					.looked = looked,
					.stalled = stalled,
					.arg = m};
	int r = machine_inspect(m, &config.inspect, err);

	if (r == 0)
		r = monitor_new(&config, &w->monitor, err);
	if (r < 0)
		return r;
	w->csv_fd = -1;
	return monitor_start(w->monitor, err);
}

static void try_later(struct machine *m)
{
	struct monitoring *w = &m->monitoring;

	w->retry_ns = MIN(w->retry_ns ? w->retry_ns * 2 : RETRY_FIRST_NS, (uint64_t)RETRY_MAX_NS);
	(void)!loop_timer_set(m->loop, &w->retry, now_ns() + w->retry_ns);
}

static void on_retry(struct loop_timer *t)
{
	struct machine *m = container_of(t, struct machine, monitoring.retry);

	if (m->ended || m->monitoring.monitor)
		return;
	m->monitoring.lack = (struct error){0};
	/* A kernel that can't be found may still be booting; one without types never has any. */
	if (begin(m, &m->monitoring.lack) < 0 && !m->inspect)
		try_later(m);
}

void machine_monitor_hello(struct machine *m)
{
	if (wanted(m) && !m->monitoring.monitor)
		on_retry(&m->monitoring.retry);
}

void machine_monitor_running(struct machine *m)
{
	if (wanted(m) && (m->config->session == VM_SESSION_NONE || m->config->restore))
		try_later(m);
}

int machine_monitor_init(struct machine *m, struct error *err)
{
	const char *path = m->config->monitor_out;
	int r;

	m->monitoring.retry.fire = on_retry;
	if (!wanted(m) || !path)
		return 0;
	if (m->config->record) {
		r = beside_open(&m->monitoring.csv, path, 0666);
		if (r == 0)
			m->monitoring.csv_fd = fcntl(m->monitoring.csv.fd, F_DUPFD_CLOEXEC, 0);
		if (r == 0 && m->monitoring.csv_fd < 0)
			r = -errno;
		return r < 0 ? error_set_shortage(err, r, "making %s", path) : 0;
	}
	m->monitoring.csv_fd =
		open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
	if (m->monitoring.csv_fd < 0)
		return error_usage(err, "--monitor-out %s: %s", path, strerror(errno));
	return 0;
}

/* ---- its end ----------------------------------------------------------------------------- */

void machine_monitor_stop(struct machine *m)
{
	if (m->loop)
		loop_timer_clear(m->loop, &m->monitoring.retry);
	monitor_stop(m->monitoring.monitor);
}

static void note_lacks(struct machine *m)
{
	const struct lacks *lacks = monitor_lacks(m->monitoring.monitor);
	char text[160];

	for (unsigned i = 0; i < lacks->count; i++) {
		snprintf(text, sizeof(text), "monitor: the guest's kernel has no %s",
			 lacks->what[i]);
		vm_result_degraded(m->result, text);
	}
}

bool machine_monitor_done(struct machine *m, uint64_t limit_ns)
{
	struct monitoring *w = &m->monitoring;
	char text[640];
	bool quiet;

	if (w->monitor) {
		monitor_look(w->monitor);
		monitor_flush(w->monitor, limit_ns);
		m->result->monitor = monitor_json(w->monitor, true);
		note_lacks(m);
		if (monitor_lost(w->monitor))
			vm_result_degraded(m->result,
					   "monitor: lines are missing in --monitor-out's file");
	} else if (wanted(m) && m->started_ns && m->result->outcome != VM_ERROR) {
		snprintf(text, sizeof(text), "monitor: %s",
			 w->lack.code ? w->lack.what : "the run ended before it began");
		vm_result_degraded(m->result, text);
	}
	/* What was never begun is not there. */
	if (w->monitor && w->csv.path && beside_commit(&w->csv) < 0)
		vm_result_degraded(m->result, "monitor: the record's file could not be written");
	beside_abort(&w->csv);
	quiet = monitor_free(w->monitor, limit_ns);
	w->monitor = NULL;
	fd_close(&w->csv_fd);
	return quiet;
}
