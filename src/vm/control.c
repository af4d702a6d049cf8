/* The machine behind its control socket: what it tells of itself, and what it is told to do.
 * Control thread. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/beside.h"
#include "base/text.h"
#include "base/util.h"
#include "vm/machine.h"
#include "vm/stats.h"

/* A client gets so long to take the last words. */
#define LAST_WORDS_NS 500000000u

/* ---- telling --------------------------------------------------------------------------------
 */

int machine_publish(struct machine *m, const char *state)
{
	json_t *info = vm_config_brief(m->config, state, m->result->lab);

	return runtime_publish(&m->runtime, info);
}

static enum qmp_state state_of(void *arg)
{
	struct machine *m = arg;

	if (m->ended)
		return QMP_SHUTDOWN;
	if (m->panic_told)
		return QMP_PANICKED;
	if ((m->freeze.state == FREEZE_FREEZING || m->freeze.state == FREEZE_FROZEN) &&
	    !m->freeze_quiet)
		return QMP_PAUSED;
	return m->started_ns ? QMP_RUNNING : QMP_PRELAUNCH;
}

static const char *name_of(void *arg)
{
	return ((struct machine *)arg)->config->name;
}

static unsigned cpu_count(void *arg)
{
	struct machine *m = arg;

	return m->pool ? vcpu_pool_count(m->pool) : 0;
}

static void cpu(void *arg, unsigned index, struct qmp_cpu *ret_cpu)
{
	struct machine *m = arg;
	struct topology_place place = topology_locate(&m->config->topology, index);

	*ret_cpu = (struct qmp_cpu){
		/* The loop turns only before the threads are made or after they are all set up. */
		.thread_id = vcpu_pool_get(m->pool, index)->tid,
		.node = place.node,
		.llc = place.llc,
		.core = place.core,
		.thread = place.thread,
	};
}

static json_t *status(void *arg)
{
	static const char *const states[] = {
		[QMP_PRELAUNCH] = "booting", [QMP_RUNNING] = "running", [QMP_PAUSED] = "frozen",
		[QMP_PANICKED] = "panicked", [QMP_SHUTDOWN] = "ending",
	};
	struct machine *m = arg;
	json_t *json = vm_config_brief(m->config, states[state_of(m)], m->result->lab);

	json_object_set_new(json, "uptime_ns",
			    json_integer(m->started_ns ? (json_int_t)(now_ns() - m->started_ns)
						       : 0));
	json_object_set_new(json, "exits", m->pool ? machine_exits(m) : json_object());
	return json;
}

static json_t *stats(void *arg)
{
	struct machine *m = arg;
	json_t *json = status(m);

	if (m->pool) {
		json_t *exits = json_object_get(json, "exits");

		stats_add_exits(exits, m->pool);
		stats_add_kvm(exits, m->kvm.vm_fd, m->pool);
		stats_add_host(exits, m->pool);
		stats_add_counters(exits, &m->counters);
		stats_add_lacks(exits, m->halts_unseen);
		json_object_set_new(json, "disks", machine_disks(m));
		json_object_set_new(json, "nets", machine_nets(m));
	}
	if (m->monitoring.monitor)
		json_object_set_new(json, "monitor", monitor_json(m->monitoring.monitor, false));
	return json;
}

/* ---- doing ----------------------------------------------------------------------------------
 */

static int nmi(void *arg, struct error *err)
{
	struct machine *m = arg;

	if (!m->started_ns || m->ended)
		return error_usage(err, "the guest does not run");
	if (kvm_cap(&m->kvm, KVM_CAP_USER_NMI) <= 0)
		return error_usage(err, "this host's KVM injects no NMIs");
	/* The boot CPU's is the one that the line of a PC leads to. */
	vcpu_nmi(vcpu_pool_get(m->pool, 0));
	return 0;
}

/* The freeze's waiter on behalf of a client's. */
struct control_wait {
	struct freeze_wait freeze;
	struct qmp_wait *client;
};

static void on_frozen(struct freeze_wait *wait, const struct error *err)
{
	struct control_wait *w = container_of(wait, struct control_wait, freeze);
	struct qmp_wait *client = w->client;

	free(w);
	client->done(client, err);
}

static int stop(void *arg, struct qmp_wait *wait, struct error *err)
{
	struct control_wait *w = malloc(sizeof(*w));
	int r;

	if (!w)
		return error_set(err, -ENOMEM, "freezing the machine");
	*w = (struct control_wait){.freeze = {.done = on_frozen}, .client = wait};
	r = machine_freeze(arg, "control socket", &w->freeze, err);
	if (r < 0)
		free(w);
	return r;
}

static int cont(void *arg, struct error *err)
{
	struct machine *m = arg;

	/* As QEMU has it: a machine that runs is told so in vain, and without harm. */
	return m->freeze_stays ? machine_thaw(m, err) : 0;
}

/* ---- dumps ------------------------------------------------------------------------------------
 */

/* A capture on behalf of a client's. */
struct control_capture {
	struct capture capture;
	struct qmp_wait *client;
};

static void on_captured(struct capture *c, const struct error *err)
{
	struct control_capture *w = container_of(c, struct control_capture, capture);
	struct qmp_wait *client = w->client;

	client->ret = c->json;
	free(c->vmcore_path);
	free(w);
	client->done(client, err);
}

/* path: of a core; NULL: a dump is wanted. */
static int capture(struct machine *m, const char *path, struct qmp_wait *wait, struct error *err)
{
	struct control_capture *w = calloc(1, sizeof(*w));
	int r = -ENOMEM;

	if (w) {
		*w = (struct control_capture){.client = wait};
		w->capture = (struct capture){
			/* What it stands at is more than who asks. */
			.cause =
				machine_watch_frozen(m)
					? m->watching.cause
					: (struct dump_cause){.name = "control socket", .vcpu = -1},
			.vmcore_path = path ? strdup(path) : NULL,
			.wants_json = !path,
			.done = on_captured,
		};
	}
	if (w && (!path || w->capture.vmcore_path))
		r = machine_capture(m, &w->capture, err);
	if (r < 0) {
		if (w)
			free(w->capture.vmcore_path);
		free(w);
		return error_set(err, r, "dumping the guest");
	}
	return 0;
}

static int dump(void *arg, const char *path, struct qmp_wait *wait, struct error *err)
{
	struct machine *m = arg;
	int r;

	if (m->result->lab)
		return error_usage(err, "in the lab, a core goes only where --vmcore of stasis run "
					"says");
	r = beside_check(path);
	if (r < 0)
		return error_usage(err, "%s: %s", path,
				   r == -ENOTSUP ? "a file or a block device is accepted"
						 : strerror(-r));
	return capture(m, path, wait, err);
}

static int report(void *arg, struct qmp_wait *wait, struct error *err)
{
	return capture(arg, NULL, wait, err);
}

static void on_saved(struct snapshot *s, const struct error *err)
{
	struct qmp_wait *client = s->arg;

	client->done(client, err);
}

static int snapshot(void *arg, const struct qmp_snapshot *request, struct qmp_wait *wait,
		    struct error *err)
{
	return machine_snapshot(arg, request, on_saved, wait, err);
}

static int profile(void *arg, unsigned hz, uint64_t duration_ns, struct qmp_wait *wait,
		   struct error *err)
{
	return machine_profile_client(arg, hz, duration_ns, wait, err);
}

static const char *const core_states[] = {
	[CORE_NONE] = "none",
	[CORE_ACTIVE] = "active",
	[CORE_COMPLETED] = "completed",
	[CORE_FAILED] = "failed",
};

static void dump_state(void *arg, struct qmp_dump *ret_dump)
{
	struct capture_state *s = &((struct machine *)arg)->capture;

	if (s->vmcore)
		vmcore_progress(s->vmcore, &s->core_done, &s->core_total);
	*ret_dump = (struct qmp_dump){core_states[s->core], s->core_done, s->core_total};
}

void machine_tell_core(struct machine *m, const struct error *err)
{
	struct qmp_dump d;

	if (!m->control)
		return;
	dump_state(m, &d);
	qmp_server_event(m->control, "DUMP_COMPLETED",
			 json_pack("{s:{s:s, s:I, s:I}, s:s*}", "result", "status", d.status,
				   "completed", (json_int_t)d.completed, "total",
				   (json_int_t)d.total, "error", err ? err->what : NULL));
}

void machine_tell_freeze(struct machine *m, bool frozen)
{
	if (m->control)
		qmp_server_event(m->control, frozen ? "STOP" : "RESUME", NULL);
	/* A note for people: a machine whose folder is full goes on all the same. */
	(void)!machine_publish(m, frozen ? "frozen" : "running");
}

void machine_tell_stall(struct machine *m, const struct monitor_stall *stall)
{
	const struct runqueues_sample *s = stall->sample;

	qmp_server_event(m->control, "STASIS_STALL",
			 json_pack("{s:i, s:I, s:I, s:I, s:I, s:o}", "cpu", (int)stall->cpu,
				   "stood-ns", (json_int_t)stall->stood_ns, "clock-ns",
				   (json_int_t)s->value[RUNQUEUES_CLOCK], "running",
				   (json_int_t)s->value[RUNQUEUES_RUNNING], "pid",
				   (json_int_t)s->pid, "comm",
				   json_string(s->comm) ?: json_string("(not UTF-8)")));
}

static int end(struct machine *m, const char *command, const char *reason)
{
	if (m->ended)
		return 0;
	m->end_reason = reason;
	machine_end(m, VM_KILLED, SIGTERM, "ended by %s of the control socket", command);
	return 0;
}

static int quit(void *arg, struct error *err UNUSED)
{
	return end(arg, "quit", "host-qmp-quit");
}

/* A machine is booted once; who wants it again starts another. */
static int reset(void *arg, struct error *err UNUSED)
{
	return end(arg, "system_reset", "host-qmp-system-reset");
}

static const struct qmp_ops ops = {
	.name = name_of,
	.state = state_of,
	.cpu_count = cpu_count,
	.cpu = cpu,
	.status = status,
	.stats = stats,
	.freeze = stop,
	.thaw = cont,
	.dump = dump,
	.dump_state = dump_state,
	.report = report,
	.snapshot = snapshot,
	.profile = profile,
	.nmi = nmi,
	.quit = quit,
	.reset = reset,
};

/* ---- from the start to the end --------------------------------------------------------------
 */

static int listen_on(struct machine *m, struct qmp_socket *s, const char *path, struct error *err)
{
	int r = qmp_socket_listen(path, s, err);

	return r < 0 ? r : qmp_server_listen(m->control, s->fd, err);
}

int machine_control_start(struct machine *m, struct error *err)
{
	const struct qmp_server_config config = {.ops = &ops, .arg = m};
	CLEANUP_FREE char *path = text_format("%s/" RUNTIME_SOCKET, m->runtime.path);
	int r = path ? qmp_server_new(m->loop, &config, &m->control, err)
		     : error_set(err, -ENOMEM, "making the control socket");

	if (r == 0)
		r = listen_on(m, &m->control_socket[0], path, err);
	if (r == 0 && m->config->qmp) {
		struct error inner = {0};

		r = listen_on(m, &m->control_socket[1], m->config->qmp, &inner);
		if (r < 0 && inner.kind == ERROR_USAGE)
			error_usage(err, "--qmp %s", inner.what);
		else if (r < 0)
			*err = inner;
	}
	return r;
}

/* Whose doing the end was, in QEMU's words (qapi/run-state.json, ShutdownCause). */
static json_t *shutdown_data(const struct machine *m)
{
	const char *reason = m->end_reason;
	bool guest = false;

	switch (m->result->outcome) {
	case VM_EXITED:
	case VM_SIGNALLED:
	case VM_NO_INIT:
	case VM_DIED:
		guest = true;
		reason = m->was_reset ? "guest-reset" : "guest-shutdown";
		break;
	case VM_PANICKED:
		guest = true;
		reason = "guest-panic";
		break;
	case VM_KILLED:
		reason = reason ?: "host-signal";
		break;
	default:
		reason = "host-error";
	}
	return json_pack("{s:b, s:s}", "guest", (int)guest, "reason", reason);
}

void machine_control_done(struct machine *m)
{
	if (m->control && m->started_ns) {
		if (m->was_reset)
			qmp_server_event(m->control, "RESET",
					 json_pack("{s:b, s:s}", "guest", 1, "reason",
						   "guest-reset"));
		qmp_server_event(m->control, "SHUTDOWN", shutdown_data(m));
	}
	qmp_server_free(m->control, LAST_WORDS_NS);
	m->control = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(m->control_socket); i++)
		qmp_socket_done(&m->control_socket[i]);
}

void machine_tell_panic(struct machine *m)
{
	if (m->panic_told)
		return;
	m->panic_told = true;
	qmp_server_event(m->control, "GUEST_PANICKED", json_pack("{s:s}", "action", "poweroff"));
}
