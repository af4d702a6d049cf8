/* The watches of a run: when they are found and armed, and what becomes of a hit. Control thread.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "vm/machine.h"

/* A guest whose init says nothing is looked at now and then until its kernel is there. */
#define RETRY_FIRST_NS 500000000u
#define RETRY_MAX_NS   8000000000u

static struct machine *machine_of(struct watch_set *set)
{
	return container_of(container_of(set, struct watching, set), struct machine, watching);
}

static bool wanted(const struct machine *m)
{
	return m->config->watch_scx || m->config->watch_count;
}

/* ---- finding and arming --------------------------------------------------------- */

static void refuse(struct machine *m, const struct error *err)
{
	if (err->hint[0])
		machine_end(m, VM_ERROR, 0, "%s (%s)", err->what, err->hint);
	else
		machine_end(m, VM_ERROR, 0, "%s", err->what);
}

static void try_later(struct machine *m)
{
	struct watching *w = &m->watching;

	w->retry_ns = MIN(w->retry_ns ? w->retry_ns * 2 : RETRY_FIRST_NS, (uint64_t)RETRY_MAX_NS);
	(void)!loop_timer_set(m->loop, &w->retry, now_ns() + w->retry_ns);
}

/* Without a kernel that says its symbols, addresses still mean something to a vCPU. */
static bool paging_of_any(struct machine *m, struct arch_paging *ret_paging)
{
	for (unsigned i = 0; i < vcpu_pool_count(m->pool); i++) {
		const struct vcpu *vcpu = vcpu_pool_get(m->pool, i);

		if (!vcpu->capture_error && arch_vcpu_in_kernel(vcpu->state) &&
		    arch_vcpu_paging(vcpu->state, ret_paging) == 0)
			return true;
	}
	return false;
}

static bool addresses_only(const struct machine *m)
{
	for (unsigned n = 0; n < m->config->watch_count; n++)
		if (m->config->watch[n].place)
			return false;
	return !m->config->watch_scx;
}

/* The guest is frozen. */
static int find_and_arm(struct machine *m, struct error *err)
{
	struct arch_paging paging = {0};
	const struct inspect *in = NULL;
	struct error lack = {0};
	int r = machine_inspect(m, &in, &lack);

	if (r < 0 && !(addresses_only(m) && paging_of_any(m, &paging))) {
		*err = lack;
		return r;
	}
	r = watch_set_resolve(&m->watching.set, in, &paging, err);
	/* One that leads nowhere any more takes no other with it. */
	if (r == 0 || m->watching.armed)
		watch_set_apply(&m->watching.set);
	return r;
}

static void armed(struct machine *m)
{
	m->watching.armed = true;
	m->watching.retry_ns = 0;
	if (m->session.state == SESSION_HELLO)
		session_send_go(&m->session);
}

static void on_frozen(struct freeze_wait *wait, const struct error *freeze_err)
{
	struct machine *m = container_of(wait, struct machine, watching.wait);
	struct error err = {0};

	m->watching.waits = false;
	if (m->ended)
		return;
	if (freeze_err) {
		try_later(m);
		return;
	}
	if (find_and_arm(m, &err) == 0)
		armed(m);
	else if (m->watching.armed)
		vm_result_degraded(m->result, err.what);
	else if (err.kind == ERROR_USAGE || m->session.state >= SESSION_HELLO)
		refuse(m, &err);
	else
		try_later(m);
	freeze_leave(&m->freeze);
}

static void freeze_to_arm(struct machine *m)
{
	struct error err = {0};

	if (m->watching.waits || m->ended)
		return;
	m->watching.waits = true;
	if (machine_freeze_begin(m, "watch", true, &m->watching.wait, &err) < 0) {
		m->watching.waits = false;
		try_later(m);
	}
}

static void on_stale(struct watch_set *set)
{
	freeze_to_arm(machine_of(set));
}

static void on_retry(struct loop_timer *t)
{
	freeze_to_arm(container_of(t, struct machine, watching.retry));
}

void machine_watch_hello(struct machine *m)
{
	if (wanted(m) && !m->watching.armed)
		freeze_to_arm(m);
	else
		session_send_go(&m->session);
}

/* ---- hits ----------------------------------------------------------------------- */

static void on_hit_frozen(struct freeze_wait *wait, const struct error *err)
{
	struct machine *m = container_of(wait, struct machine, watching.on_hit);
	struct watching *w = &m->watching;

	/* Who hit meanwhile belongs to this moment. */
	for (unsigned n = 0; n < ARCH_WATCHES; n++)
		if (w->served & 1u << n)
			watch_set_go_on(&w->set, n);
	w->served = 0;
	if (err) {
		w->hit = false;
		try_later(m); /* those that are spent are still armed */
		return;
	}
	watch_set_apply(&w->set); /* without those that are spent */
	freeze_leave(&m->freeze);
}

static void stop_at(struct machine *m, unsigned slot)
{
	struct watching *w = &m->watching;
	enum capture_then then =
		m->config->on_hit == VM_ON_HIT_FREEZE ? CAPTURE_STAY : CAPTURE_THAW;
	struct error err = {0};

	/* It shows the moment of the first; another slot's hit is in the result's counts. */
	if (w->hit)
		return;
	w->hit = true;
	if (machine_freeze_begin(m, w->cause.name, false, &w->on_hit, &err) < 0) {
		w->hit = false;
		watch_set_go_on(&w->set, slot);
	} else {
		(void)!machine_freeze_and_capture(m, &w->cause, then, &err);
	}
	if (err.code < 0)
		log_failure(&err);
}

static void on_hit(struct watch_set *set, unsigned slot, uint64_t before, uint64_t after, int vcpu)
{
	struct machine *m = machine_of(set);
	struct watching *w = &m->watching;
	const struct watch_slot *s = &set->slot[slot];
	char who[32] = "seen when looked at";

	if (m->ended)
		return;
	machine_trace_mark(m, vcpu, "hit: %s", s->expr->text);
	if (vcpu >= 0)
		snprintf(who, sizeof(who), "stored by vCPU %d", vcpu);
	if (m->config->on_hit == VM_ON_HIT_LOG) {
		log_guest(&w->log, "watch %s: %lld, before %lld, %s", s->expr->text,
			  (long long)after, (long long)before, who);
		watch_set_go_on(set, slot);
		return;
	}
	log_warn("watch %s: %lld, before %lld, %s", s->expr->text, (long long)after,
		 (long long)before, who);
	if (!w->hit) {
		w->cause = (struct dump_cause){
			.watch = s->expr->text,
			.gva = s->gva,
			.bytes = s->bytes,
			.before = before,
			.after = after,
			.before_known = true,
			.polled = vcpu < 0,
			.vcpu = vcpu,
		};
		snprintf(w->cause.name, sizeof(w->cause.name), "watch:%s",
			 slot == WATCH_SLOT_SCX ? "scx_exit_kind" : s->expr->text);
	}
	w->served |= 1u << slot;
	/* The dump is the first one's; another that hits meanwhile keeps its turn. */
	if (m->config->on_hit == VM_ON_HIT_DUMP && !w->hit)
		watch_set_spend(set, slot);
	stop_at(m, slot);
}

void machine_watch_exit(struct machine *m, const struct arch_exit *exit)
{
	watch_set_exit(&m->watching.set, (uint32_t)exit->addr);
}

bool machine_watch_frozen(const struct machine *m)
{
	return m->watching.hit && m->config->on_hit == VM_ON_HIT_FREEZE && m->freeze_stays &&
	       m->freeze.state == FREEZE_FROZEN;
}

/* ---- life ----------------------------------------------------------------------- */

int machine_watch_init(struct machine *m, struct error *err)
{
	struct watching *w = &m->watching;
	struct watch_set_config config = {.loop = m->loop,
					  .pool = m->pool,
					  .mem = &m->mem,
					  .hit = on_hit,
					  .stale = on_stale};
	bool fires = true;
	int r = 0;

	w->wait.done = on_frozen;
	w->on_hit.done = on_hit_frozen;
	w->retry.fire = on_retry;
	if (!wanted(m))
		return 0;
	r = arch_probe_watch(&m->kvm, &fires, err);
	if (r < 0)
		return r;
	config.polls = !fires;
	config.slots = arch_watches(&m->kvm);
	if (!fires)
		vm_result_degraded(m->result, "watch: this host's KVM tells of no watched store; "
					      "values are looked at every millisecond");
	return watch_set_init(&w->set, &config, m->config->watch_scx, m->config->watch,
			      m->config->watch_count, err);
}

void machine_watch_running(struct machine *m)
{
	if (wanted(m) && m->config->session == VM_SESSION_NONE)
		try_later(m);
}

static json_t *slot_json(const struct machine *m, unsigned n)
{
	static const char *const states[] = {
		[WATCH_UNRESOLVED] = "never armed",
		[WATCH_VALUE] = "armed",
		[WATCH_POINTER] = "waiting for a pointer",
		[WATCH_SPENT] = "over",
	};
	const struct watch_slot *s = &m->watching.set.slot[n];
	char address[24];

	snprintf(address, sizeof(address), "0x%llx", (unsigned long long)s->gva);
	return json_pack("{s:s, s:s, s:s, s:i, s:I, s:I, s:I}", "expression", s->expr->text,
			 "state", states[s->state], "address", address, "bytes", (int)s->bytes,
			 "stores", (json_int_t)vcpu_watch_stores(m->pool, n), "hits",
			 (json_int_t)s->hits, "rebinds", (json_int_t)s->rebinds);
}

void machine_watch_done(struct machine *m)
{
	struct watching *w = &m->watching;

	if (!w->set.config.loop)
		return;
	loop_timer_clear(m->loop, &w->retry);
	if (!w->armed && m->started_ns && m->result->outcome != VM_ERROR)
		vm_result_degraded(m->result, "watch: the run ended before anything was watched");
	if (vcpu_watch_error(m->pool) < 0)
		vm_result_degraded(m->result, "watch: watchpoints could not be armed on each vCPU");
	m->result->watches = json_array();
	for (unsigned n = 0; n < ARCH_WATCHES; n++)
		if (w->set.slot[n].expr)
			json_array_append_new(m->result->watches, slot_json(m, n));
	watch_set_done(&w->set);
}
