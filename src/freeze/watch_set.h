/* The watches of one machine: which expression is armed in which slot, and what it stands for right
 * now. Slots change only while the guest is frozen. Control thread.
 *
 *   UNRESOLVED ──resolve──► VALUE ◄──resolve, a pointer on the way changed──► POINTER
 *       └──────────────────────┴── spent by its hit, or no longer to be had ─────┴──► SPENT
 *
 * A place that pointers lead to is watched while they stay; where one leads nowhere, that pointer
 * is watched. Pointers on the way to a value are looked at every WATCH_LOOK_NS besides.
 * Where hardware never fires, values are looked at instead, every WATCH_POLL_NS. */
#ifndef STASIS_FREEZE_WATCH_SET_H
#define STASIS_FREEZE_WATCH_SET_H

#include "freeze/freeze.h"
#include "freeze/watch_expr.h"
#include "inspect/inspect.h"

#define WATCH_SLOT_SCX 0 /* the scheduler's exit kind */
#define WATCH_USER_MAX 3 /* slots 1 to 3 */
#define WATCH_LOOK_NS  10000000u
#define WATCH_POLL_NS  1000000u

/* Linux's scx_exit_kind (kernel/sched/ext.c): a scheduler that went away by itself, and errors. */
#define SCX_KIND_DONE  1
#define SCX_KIND_ERROR 1024

enum watch_state { WATCH_UNRESOLVED, WATCH_VALUE, WATCH_POINTER, WATCH_SPENT };

struct watch_slot {
	const struct watch_expr *expr; /* NULL: none; outlives the set */
	enum watch_state state;
	struct inspect_place place;
	uint64_t gva; /* of what is watched: the value's, or a pointer's */
	unsigned bytes;
	const uint8_t *host;			  /* … its bytes */
	const uint8_t *via[INSPECT_MAX_POINTERS]; /* the bytes of place.pointer_gva */
	uint64_t last;				  /* polling: the value when last looked at */
	uint64_t hits, rebinds;
};

struct watch_set;

struct watch_set_config {
	struct loop *loop;
	struct vcpu_pool *pool;
	const struct guest_memory *mem;
	bool polls;	/* hardware never fires: arch_probe_watch */
	unsigned slots; /* else: how many the host can arm, arch_watches */
	/* The condition held; vcpu: whose store, -1 where polled. The slot hits no more until
	 * watch_set_go_on. */
	void (*hit)(struct watch_set *set, unsigned slot, uint64_t before, uint64_t after,
		    int vcpu);
	/* What a slot stands for has changed: freeze, watch_set_resolve, watch_set_apply. */
	void (*stale)(struct watch_set *set);
};

struct watch_set {
	struct watch_set_config config;
	struct watch_slot slot[ARCH_WATCHES];
	struct watch_expr scx; /* the expression of slot 0, once the kernel's kind is known */
	bool wants_scx;
	bool dirty; /* stale() was called, resolve was not */
	struct loop_timer look;
};

/* user: user_count expressions, at most WATCH_USER_MAX; they outlive the set. Contention: the host
 * has too few watchpoints for them all. */
int watch_set_init(struct watch_set *set, const struct watch_set_config *config, bool scx,
		   const struct watch_expr *user, unsigned user_count,
		   struct error *err) MUST_CHECK;
/* After the last vCPU ended. Accepts a zeroed one. */
void watch_set_done(struct watch_set *set);

/* Finds what each expression stands for now. in NULL: no kernel that can be looked into; then only
 * addresses are resolved, through paging. The guest is frozen. Usage error: an expression that
 * this kernel has nothing for, with the nearest name as the hint; it is spent then, and the others
 * are found all the same. */
int watch_set_resolve(struct watch_set *set, const struct inspect *in,
		      const struct arch_paging *paging, struct error *err) MUST_CHECK;
/* Arms what was resolved. The guest is frozen. */
void watch_set_apply(struct watch_set *set);

/* A vCPU's exit of KVM_EXIT_DEBUG; slots: its addr. */
void watch_set_exit(struct watch_set *set, uint32_t slots);
/* After a hit: the next store may hit again. */
void watch_set_go_on(struct watch_set *set, unsigned slot);
/* After a hit: no more of them. Takes effect with the next watch_set_apply. */
void watch_set_spend(struct watch_set *set, unsigned slot);

#endif
