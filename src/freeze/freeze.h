/* Stop the world, and let it go on. Owned by the control thread, which never blocks here and
 * serves exits meanwhile.
 *
 *   RUNNING ──start──► FREEZING ──all parked, devices still──► FROZEN ──thaw──► THAWING ──► RUNNING
 *                          └──────────thaw, deadline────────────────────────────────┘
 *   any ──kill──► KILLED, which stays
 */
#ifndef STASIS_FREEZE_FREEZE_H
#define STASIS_FREEZE_FREEZE_H

#include <sys/queue.h>

#include "vcpu/vcpu.h"

enum freeze_state { FREEZE_RUNNING, FREEZE_FREEZING, FREEZE_FROZEN, FREEZE_THAWING, FREEZE_KILLED };

#define FREEZE_LIMIT_NS 5000000000u /* of a rendezvous, by default */
#define FREEZE_CAUSE	64	    /* bytes of a cause, with its NUL */

struct freeze;

/* Somebody who waits for FROZEN. Lives until done() has run, which it does once, never inside the
 * call that took it: err is NULL when the guest is frozen; else why it is not. */
struct freeze_wait {
	void (*done)(struct freeze_wait *wait, const struct error *err);
	STAILQ_ENTRY(freeze_wait) link; /* the freeze's */
};
STAILQ_HEAD(freeze_waits, freeze_wait);

struct freeze_report {
	char cause[FREEZE_CAUSE];
	uint64_t rendezvous_ns; /* from start until all had parked; until it was given up */
	uint64_t frozen_ns;	/* from then until the thaw */
	bool reached;		/* FROZEN; false: why says what came first */
	char why[512];
};

struct freeze_config {
	struct loop *loop;
	struct vcpu_pool *pool; /* not started yet; outlives the freeze, but for its threads */
	struct arch_vm *vm;
	uint64_t limit_ns; /* 0: FREEZE_LIMIT_NS */
	/* Keeps devices off guest memory; freeze_held is called when they are, at once or later. */
	void (*hold)(struct freeze *f);
	/* Lets them go on; may come before freeze_held, which then comes no more. */
	void (*release)(struct freeze *f);
	/* FROZEN is reached. May be NULL; starts and thaws nothing. */
	void (*frozen)(struct freeze *f);
	/* The deadline has passed: vCPUs that have parked are let go next. May be NULL; starts and
	 * thaws nothing. */
	void (*late)(struct freeze *f);
	/* The report of a freeze that is over, thawed or given up. */
	void (*over)(struct freeze *f, const struct freeze_report *report);
};

struct freeze {
	struct freeze_config config;
	enum freeze_state state;
	bool parked;  /* all vCPUs are: devices come next */
	bool holding; /* hold() was called, release() was not */
	uint64_t began_ns, parked_ns;
	struct freeze_report report;
	struct freeze_waits waits;
	struct arch_clock clock;
	struct loop_event event; /* the last vCPU to park */
	struct loop_timer deadline;
	unsigned keepers;	/* who started or joined, and has not left */
	uint64_t freezes, late; /* begun; given up at the deadline */
};

/* Between vcpu_pool_new and vcpu_pool_start. */
int freeze_init(struct freeze *f, const struct freeze_config *config, struct error *err) MUST_CHECK;
/* After vcpu_pool_stop. Accepts a zeroed one. */
void freeze_done(struct freeze *f);

/* Begins. wait may be NULL. While FREEZING or FROZEN it begins nothing, and wait joins in. The
 * caller keeps the guest frozen until it leaves. -ESHUTDOWN once killed, -ENOMEM without memory for
 * the deadline: wait->done does not run. */
int freeze_start(struct freeze *f, const char *cause, struct freeze_wait *wait,
		 struct error *err) MUST_CHECK;
/* The caller started or joined, and needs it no more: the last one to leave thaws. To be called
 * once, and not after wait->done had an error. While nothing is frozen, nothing happens. */
void freeze_leave(struct freeze *f);
/* Time goes on where it stood, whoever may want it frozen. While FREEZING, gives that up. Nothing
 * to do: -EALREADY; once killed: -ESHUTDOWN. */
int freeze_thaw(struct freeze *f) MUST_CHECK;
/* The machine ends: before vcpu_pool_stop, which ends parked threads as well. Idempotent. Devices
 * are not released. */
void freeze_kill(struct freeze *f);
/* The answer to hold(). */
void freeze_held(struct freeze *f);

/* The freeze that is under way is somebody else's now. */
void freeze_rename(struct freeze *f, const char *cause);

const char *freeze_state_name(enum freeze_state state);

#endif
