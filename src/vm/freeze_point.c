/* What freezes a machine, and what the result keeps of it. Control thread. */
#include <errno.h>

#include "base/log.h"
#include "base/util.h"
#include "vm/machine.h"

/* A control socket can freeze as often as it likes; the result keeps so many. */
#define FREEZES_KEPT 1000
/* A write that was cancelled ends at once, but for a hanging disk's. */
#define CANCEL_LIMIT_NS 2000000000u

static struct machine *machine_of(struct freeze *f)
{
	return container_of(f, struct machine, freeze);
}

/* ---- what the freeze asks ------------------------------------------------------------------ */

static void on_held(void *arg)
{
	freeze_held(arg);
}

static void hold(struct freeze *f)
{
	board_hold(&machine_of(f)->board, on_held, f);
}

static void release(struct freeze *f)
{
	board_release(&machine_of(f)->board);
}

static void note_lacks(struct machine *m)
{
	/* Relaxed: notes. Those of vCPUs that go on only now come with the next freeze, or with
	 * the end. */
	uint32_t lacks = atomic_load_explicit(&m->freeze.clock.lacks, memory_order_relaxed);

	for (unsigned i = 0; arch_clock_lacks[i]; i++)
		if (lacks & 1u << i)
			vm_result_degraded(m->result, arch_clock_lacks[i]);
}

static void tell_frozen(struct machine *m)
{
	if (m->freeze_told || m->freeze_quiet || m->freeze.state != FREEZE_FROZEN)
		return;
	m->freeze_told = true;
	machine_tell_freeze(m, true);
}

static void frozen(struct freeze *f)
{
	tell_frozen(machine_of(f));
}

static void late(struct freeze *f)
{
	machine_capture_late(machine_of(f));
}

static void over(struct freeze *f, const struct freeze_report *report)
{
	struct machine *m = machine_of(f);
	json_t *json, *noted;

	if (m->freeze_told && f->state != FREEZE_KILLED)
		machine_tell_freeze(m, false);
	m->freeze_told = m->freeze_stays = m->watching.hit = m->monitoring.holds = false;
	loop_timer_clear(m->loop, &m->freeze_for);
	note_lacks(m);
	machine_trace_frozen(m, report);
	if (!report->reached && f->state != FREEZE_KILLED)
		log_warn("%s", report->why);
	/* The next one is somebody's own, unless it says otherwise. */
	if (m->freeze_quiet) {
		m->freeze_quiet = false;
		return;
	}
	if (!m->result->freezes)
		m->result->freezes = json_array();
	noted = m->capture.noted;
	m->capture.noted = NULL;
	if (json_array_size(m->result->freezes) == FREEZES_KEPT) {
		json_decref(noted);
		return;
	}
	json = json_pack("{s:s, s:I, s:I}", "cause", report->cause, "rendezvous_ns",
			 (json_int_t)report->rendezvous_ns, "frozen_ns",
			 (json_int_t)report->frozen_ns);
	if (!report->reached)
		json_object_set_new(json, "failed", json_string(report->why));
	if (noted)
		json_object_update(json, noted);
	json_decref(noted);
	json_array_append_new(m->result->freezes, json);
}

/* ---- --freeze-at ---------------------------------------------------------------------------- */

static void on_frozen(struct freeze_wait *wait, const struct error *err)
{
	struct machine *m = container_of(wait, struct machine, freeze_at_wait);

	if (err)
		return;
	if (!m->config->freeze_for_ns ||
	    loop_timer_set(m->loop, &m->freeze_for, now_ns() + m->config->freeze_for_ns) < 0)
		freeze_leave(&m->freeze);
}

static void on_time_over(struct loop_timer *t)
{
	struct machine *m = container_of(t, struct machine, freeze_for);

	freeze_leave(&m->freeze);
}

static void on_time(struct loop_timer *t)
{
	struct machine *m = container_of(t, struct machine, freeze_at);
	const struct dump_cause cause = {.name = "freeze-at", .vcpu = -1};
	struct error err = {0};

	if (m->ended)
		return;
	if (machine_freeze_and_capture(m, &cause, CAPTURE_THAW, &err) < 0 ||
	    machine_freeze_begin(m, cause.name, false, &m->freeze_at_wait, &err) < 0)
		log_failure(&err);
}

/* ---- what the machine asks itself ----------------------------------------------------------- */

int machine_freeze_begin(struct machine *m, const char *cause, bool quiet, struct freeze_wait *wait,
			 struct error *err)
{
	bool begins = m->freeze.state == FREEZE_RUNNING;
	int r = freeze_start(&m->freeze, cause, wait, err);

	if (r < 0)
		return r;
	if (m->freeze_quiet && !quiet)
		freeze_rename(&m->freeze, cause);
	m->freeze_quiet = quiet && (begins || m->freeze_quiet);
	tell_frozen(m);
	return 0;
}

void machine_freeze_stay(struct machine *m)
{
	/* One who stays is enough. */
	if (m->freeze_stays)
		freeze_leave(&m->freeze);
	m->freeze_stays = true;
}

/* ---- what others ask ------------------------------------------------------------------------- */

int machine_freeze(struct machine *m, const char *cause, struct freeze_wait *wait,
		   struct error *err)
{
	int r;

	if (!m->started_ns || m->ended)
		return error_set(err, -ESHUTDOWN, "freezing a machine that does not run");
	r = machine_freeze_begin(m, cause, false, wait, err);
	if (r == 0)
		machine_freeze_stay(m);
	return r;
}

int machine_thaw(struct machine *m, struct error *err)
{
	enum freeze_state state = m->freeze.state;

	if (!m->freeze_stays)
		return error_set(err, state == FREEZE_KILLED ? -ESHUTDOWN : -EALREADY,
				 "thawing a machine that is %s", freeze_state_name(state));
	m->freeze_stays = false;
	freeze_leave(&m->freeze);
	return 0;
}

/* ---- life -------------------------------------------------------------------------------------
 */

int machine_freeze_init(struct machine *m, struct error *err)
{
	const struct freeze_config config = {
		.loop = m->loop,
		.pool = m->pool,
		.vm = m->arch,
		.hold = hold,
		.release = release,
		.frozen = frozen,
		.late = late,
		.over = over,
	};

	m->freeze_at.fire = on_time;
	m->freeze_for.fire = on_time_over;
	m->freeze_at_wait.done = on_frozen;
	return freeze_init(&m->freeze, &config, err);
}

int machine_freeze_running(struct machine *m, struct error *err)
{
	int r = 0;

	if (m->config->freeze_at_ns)
		r = loop_timer_set(m->loop, &m->freeze_at, m->started_ns + m->config->freeze_at_ns);
	return r < 0 ? error_set(err, r, "setting a timer") : 0;
}

void machine_freeze_kill(struct machine *m)
{
	if (m->loop) {
		loop_timer_clear(m->loop, &m->freeze_at);
		loop_timer_clear(m->loop, &m->freeze_for);
		m->core_stuck = !machine_snapshot_kill(m, CANCEL_LIMIT_NS);
		m->core_stuck |= !machine_capture_kill(m, CANCEL_LIMIT_NS);
	}
	freeze_kill(&m->freeze);
}

void machine_freeze_done(struct machine *m)
{
	note_lacks(m);
	machine_snapshot_done(m);
	freeze_done(&m->freeze);
}
