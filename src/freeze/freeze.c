/* The state machine of a freeze. Control thread. */
#include "freeze/freeze.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "base/util.h"

#define NS_PER_MS  1000000u
#define LATE_NAMED 8 /* vCPUs that a report names; there may be a thousand */

/* ---- states ------------------------------------------------------------------------------- */

/* Bit n of row s: from s to n. */
static const uint8_t allowed[] = {
	[FREEZE_RUNNING] = 1u << FREEZE_FREEZING | 1u << FREEZE_KILLED,
	[FREEZE_FREEZING] = 1u << FREEZE_FROZEN | 1u << FREEZE_THAWING | 1u << FREEZE_KILLED,
	[FREEZE_FROZEN] = 1u << FREEZE_THAWING | 1u << FREEZE_KILLED,
	[FREEZE_THAWING] = 1u << FREEZE_RUNNING | 1u << FREEZE_KILLED,
	[FREEZE_KILLED] = 0,
};

static void enter(struct freeze *f, enum freeze_state state)
{
	assert(allowed[f->state] & 1u << state);
	f->state = state;
}

const char *freeze_state_name(enum freeze_state state)
{
	static const char *const names[] = {
		[FREEZE_RUNNING] = "running", [FREEZE_FREEZING] = "freezing",
		[FREEZE_FROZEN] = "frozen",   [FREEZE_THAWING] = "thawing",
		[FREEZE_KILLED] = "killed",
	};

	return names[state];
}

/* What a waiter does in done() may end in another start or thaw: each is off the list first. */
static void tell(struct freeze_waits *waits, const struct error *err)
{
	struct freeze_wait *wait;

	while ((wait = STAILQ_FIRST(waits))) {
		STAILQ_REMOVE_HEAD(waits, link);
		wait->done(wait, err);
	}
}

/* Who comes from now on waits for another freeze, or another turn. */
static void take_waits(struct freeze *f, struct freeze_waits *ret_waits)
{
	STAILQ_INIT(ret_waits);
	STAILQ_CONCAT(ret_waits, &f->waits);
}

/* ---- to the rendezvous -------------------------------------------------------------------- */

static void all_parked(struct freeze *f)
{
	arch_clock_stop(f->config.vm, &f->clock);
	f->parked_ns = now_ns();
	f->parked = true;
	f->report.rendezvous_ns = f->parked_ns - f->began_ns;
	f->holding = true;
	f->config.hold(f);
}

/* A signal of a rendezvous that was given up finds another state, or vCPUs that have not parked. */
static void on_parked(struct loop_event *event, uint64_t count UNUSED)
{
	struct freeze *f = container_of(event, struct freeze, event);

	if (f->state == FREEZE_FREEZING && !f->parked && vcpu_pool_unparked(f->config.pool) == 0)
		all_parked(f);
}

static void on_settled(struct loop_timer *t);
static void on_deadline(struct loop_timer *t);

/* Waiters hear of it in a turn of their own, never inside what they called. */
static void settle_soon(struct freeze *f)
{
	int r;

	f->deadline.fire = on_settled;
	/* It is armed, so this can't fail. */
	r = loop_timer_set(f->config.loop, &f->deadline, 0);
	assert(r == 0);
	(void)r;
}

void freeze_held(struct freeze *f)
{
	if (f->state != FREEZE_FREEZING || !f->parked)
		return;
	enter(f, FREEZE_FROZEN);
	f->report.reached = true;
	settle_soon(f);
	if (f->config.frozen)
		f->config.frozen(f);
}

/* ---- and on --------------------------------------------------------------------------------- */

static void let_go(struct freeze *f)
{
	struct vcpu_pool *pool = f->config.pool;
	bool holding = f->holding;

	enter(f, FREEZE_THAWING);
	f->keepers = 0;
	loop_timer_clear(f->config.loop, &f->deadline);
	if (f->parked) {
		arch_clock_go_on(f->config.vm, &f->clock);
		for (unsigned i = 0; i < vcpu_pool_count(pool); i++) {
			struct vcpu *vcpu = vcpu_pool_get(pool, i);

			arch_vcpu_timer_go_on(vcpu->fd, vcpu->state, &f->clock);
		}
		arch_clock_ticks_go_on(f->config.vm, &f->clock);
		f->report.frozen_ns = now_ns() - f->parked_ns;
	} else {
		f->report.rendezvous_ns = now_ns() - f->began_ns;
	}
	vcpu_pool_unpark(pool);
	f->parked = f->holding = false;
	enter(f, FREEZE_RUNNING);
	f->config.over(f, &f->report);
	/* Last, because a device that goes on may bring about the next freeze, or the end. */
	if (holding)
		f->config.release(f);
}

static void name_late(struct freeze *f, char *text, size_t len)
{
	unsigned late = vcpu_pool_unparked(f->config.pool), named = 0;
	size_t at = 0;

	for (unsigned i = 0; i < vcpu_pool_count(f->config.pool) && named < LATE_NAMED; i++) {
		if (vcpu_has_parked(vcpu_pool_get(f->config.pool, i)) || at >= len)
			continue;
		at += (size_t)snprintf(text + at, len - at, "%s%u", named++ ? ", " : "vCPU ", i);
	}
	if (late > named && at < len)
		snprintf(text + at, len - at, "%s%u more", named ? " and " : "", late - named);
}

static void give_up(struct freeze *f, const struct error *err)
{
	struct freeze_waits waits;

	if (!f->report.reached)
		snprintf(f->report.why, sizeof(f->report.why), "%s", err->what);
	take_waits(f, &waits);
	let_go(f);
	tell(&waits, err);
}

static void on_settled(struct loop_timer *t)
{
	struct freeze_waits waits;

	take_waits(container_of(t, struct freeze, deadline), &waits);
	tell(&waits, NULL);
}

static void on_deadline(struct loop_timer *t)
{
	struct freeze *f = container_of(t, struct freeze, deadline);
	struct error err = {0};
	char who[96] = "";

	/* Its signal is on its way; devices get as long again. */
	if (!f->parked && vcpu_pool_unparked(f->config.pool) == 0) {
		if (loop_timer_set(f->config.loop, t, now_ns() + f->config.limit_ns) == 0) {
			all_parked(f);
			return;
		}
	}
	if (f->parked)
		snprintf(who, sizeof(who), "a device still uses guest memory");
	else
		name_late(f, who, sizeof(who));
	error_set(&err, -ETIMEDOUT, "freezing the guest (%s): not within %llu ms: %s",
		  f->report.cause, (unsigned long long)(f->config.limit_ns / NS_PER_MS), who);
	f->late++;
	if (f->config.late)
		f->config.late(f);
	give_up(f, &err);
}

/* ---- what is asked of it --------------------------------------------------------------------- */

int freeze_start(struct freeze *f, const char *cause, struct freeze_wait *wait, struct error *err)
{
	int r;

	if (f->state == FREEZE_KILLED)
		return error_set(err, -ESHUTDOWN, "freezing a machine that ends");
	/* The only state in between is left before any call from outside. */
	assert(f->state != FREEZE_THAWING);
	if (f->state == FREEZE_RUNNING) {
		f->began_ns = now_ns();
		f->deadline.fire = on_deadline;
		r = loop_timer_set(f->config.loop, &f->deadline, f->began_ns + f->config.limit_ns);
		if (r < 0)
			return error_set(err, r, "setting the deadline of a freeze");
		f->report = (struct freeze_report){0};
		snprintf(f->report.cause, sizeof(f->report.cause), "%s", cause);
		f->freezes++;
		enter(f, FREEZE_FREEZING);
		vcpu_pool_park(f->config.pool);
	} else if (f->state == FREEZE_FROZEN && wait) {
		f->deadline.fire = on_settled;
		r = loop_timer_set(f->config.loop, &f->deadline, 0);
		if (r < 0)
			return error_set(err, r, "setting a timer");
	}
	if (wait)
		STAILQ_INSERT_TAIL(&f->waits, wait, link);
	f->keepers++;
	return 0;
}

void freeze_rename(struct freeze *f, const char *cause)
{
	snprintf(f->report.cause, sizeof(f->report.cause), "%s", cause);
}

void freeze_leave(struct freeze *f)
{
	if (f->state != FREEZE_FREEZING && f->state != FREEZE_FROZEN)
		return;
	assert(f->keepers > 0);
	if (--f->keepers == 0)
		(void)!freeze_thaw(f);
}

int freeze_thaw(struct freeze *f)
{
	struct error err = {0};

	if (f->state == FREEZE_KILLED)
		return -ESHUTDOWN;
	if (f->state != FREEZE_FREEZING && f->state != FREEZE_FROZEN)
		return -EALREADY;
	error_set(&err, -ECANCELED, "freezing the guest (%s): thawed before", f->report.cause);
	give_up(f, &err);
	return 0;
}

void freeze_kill(struct freeze *f)
{
	bool under_way = f->state == FREEZE_FREEZING || f->state == FREEZE_FROZEN;
	struct freeze_report report = f->report;
	struct freeze_waits waits;
	struct error err = {0};

	if (f->state == FREEZE_KILLED || !f->config.pool)
		return;
	enter(f, FREEZE_KILLED);
	loop_timer_clear(f->config.loop, &f->deadline);
	if (under_way) {
		if (f->parked)
			report.frozen_ns = now_ns() - f->parked_ns;
		else
			report.rendezvous_ns = now_ns() - f->began_ns;
		error_set(&err, -ESHUTDOWN, "freezing the guest (%s): the machine ended before",
			  report.cause);
		if (!report.reached)
			snprintf(report.why, sizeof(report.why), "%s", err.what);
		f->config.over(f, &report);
	}
	take_waits(f, &waits);
	tell(&waits, &err);
}

/* ---- life ----------------------------------------------------------------------------------- */

int freeze_init(struct freeze *f, const struct freeze_config *config, struct error *err)
{
	int r;

	*f = (struct freeze){
		.config = *config,
		.event = {.fire = on_parked, .fd = -1},
		.deadline = {.fire = on_deadline},
	};
	STAILQ_INIT(&f->waits);
	if (!f->config.limit_ns)
		f->config.limit_ns = FREEZE_LIMIT_NS;
	r = loop_event_init(config->loop, &f->event, err);
	if (r < 0) {
		*f = (struct freeze){0};
		return r;
	}
	vcpu_pool_set_rendezvous(config->pool, &f->event, &f->clock);
	return 0;
}

void freeze_done(struct freeze *f)
{
	if (!f->config.pool)
		return;
	freeze_kill(f);
	loop_event_done(&f->event);
	*f = (struct freeze){.state = FREEZE_KILLED};
}
