/* What exits cost, always on: each vCPU's time by what it was spent on, and for each thing that it
 * left the guest for, how often and how long. Kept by each thread for itself, read by any.
 *
 *   vCPU thread     in the guest │ hand-off │ waiting │ served │ hand-off │ in the guest
 *                               exit       post       │        │       KVM_RUN
 *   control thread                                  begins    ends
 *
 * An exit that needs no answer is waited for by nobody: its vCPU is back in the guest after the
 * hand-off, and what it waits and is served is the control thread's time only. */
#ifndef STASIS_VCPU_ACCOUNT_H
#define STASIS_VCPU_ACCOUNT_H

#include <stdatomic.h>

#include "arch/arch.h"
#include "base/histogram.h"
#include "base/ticks.h"

/* What a vCPU's time goes into. */
enum account_phase {
	ACCOUNT_GUEST, /* in KVM_RUN; halted there, too */
	ACCOUNT_HAND_OFF,
	ACCOUNT_WAITING,
	ACCOUNT_SERVED,
	ACCOUNT_SAMPLED, /* kept from the guest by a profile, not by an exit */
	ACCOUNT_PARKED,
	ACCOUNT_IDLE, /* waits in KVM_RUN to be started, as far as is known */
	ACCOUNT_PHASES,
	ACCOUNT_ENDED = ACCOUNT_PHASES, /* takes no time */
};

enum account_access { ACCOUNT_NO_ADDRESS, ACCOUNT_READ, ACCOUNT_WRITE, ACCOUNT_EVENT };

/* What a vCPU left the guest for. addr: the port, guest physical address or MSR; for ACCOUNT_EVENT
 * the event's or hypercall's number. */
struct account_key {
	uint64_t addr;
	uint32_t
		reason; /* KVM_EXIT_*; UINT32_MAX: anything, where no room for more keys was left */
	uint32_t access; /* enum account_access */
};
#define ACCOUNT_ANY UINT32_MAX

/* Keys of one vCPU: addresses are the guest's choice, so there is an end. Past the first limit new
 * ones have no address; the last key takes what finds no room at all. */
#define ACCOUNT_KEYS	  128u
#define ACCOUNT_KEYS_ADDR 96u
#define ACCOUNT_KEY_SLOTS (2 * ACCOUNT_KEYS)
/* On each side. Linux' boot and a busy minute on a noisy host take some 400 (docs/decisions.md). */
#define ACCOUNT_POOL_CHUNKS 2048u

/* Written by the vCPU thread; all is read relaxed by others but where named. */
struct account_exit {
	struct account_key key; /* published by keys */
	_Atomic uint64_t count;
	_Atomic uint64_t waited; /* ticks that the vCPU waited for replies, being served or not */
	struct histogram guest;	 /* ticks in the guest before it */
	struct histogram
		hand_off; /* ticks from the guest's end to the post, and from the reply on */
};

/* Written by the control thread. */
struct account_service {
	struct histogram
		waiting; /* ticks from the post until it was served; posted: from the exit */
	struct histogram served;
};

/* The vCPU thread's times. A reader takes them only if seq is even and the same before and after;
 * see account_times. */
struct account_clock {
	_Atomic uint32_t seq;
	_Atomic uint32_t phase;			/* now, enum account_phase … */
	_Atomic uint64_t since;			/* … since this tick */
	_Atomic uint64_t began;			/* the thread's first tick; 0: has not begun */
	_Atomic uint64_t spent[ACCOUNT_PHASES]; /* in phases that are over */
};

/* One vCPU's account. Most of it is never touched, and costs no memory then. */
struct account {
	/* vCPU thread's. */
	struct account_clock clock;
	bool has_run;		 /* an exit told so, or the boot CPU */
	uint16_t key;		 /* of the exit under way, ACCOUNT_KEYS: it is none … */
	struct account_key last; /* … what it stands for: often that of the exit before */
	uint64_t left;		 /* tick of the last return from KVM_RUN */
	/* What is not put down yet, in ticks. Of the exit under way, UINT64_MAX: nothing. */
	uint64_t in_guest;
	/* Of the one before, whose key is done_key; ACCOUNT_KEYS: nothing. */
	uint64_t done_hand_off, done_waited;
	uint16_t done_key;
	_Atomic uint32_t keys;
	uint8_t slot[ACCOUNT_KEY_SLOTS]; /* by hash: key + 1, or 0 */
	struct histogram_pool exit_pool;
	struct account_exit exit[ACCOUNT_KEYS];
	_Atomic uint64_t exit_steps[ACCOUNT_POOL_CHUNKS][HISTOGRAM_CHUNK];

	/* Control thread's. */
	CACHE_ALIGNED struct histogram_pool service_pool;
	struct account_service service[ACCOUNT_KEYS];
	_Atomic uint64_t service_steps[ACCOUNT_POOL_CHUNKS][HISTOGRAM_CHUNK];
};

/* Accounts of count vCPUs, zeroed, lazily backed; NULL when out of memory. Control thread. */
struct account *account_new(unsigned count);
struct account *account_of(struct account *accounts, unsigned index);
void account_free(struct account *accounts, unsigned count); /* accepts NULL */

/* ---- vCPU thread ------------------------------------------------------------------------- */

/* First. runs_at_once: it does not wait for a start-up interrupt. */
void account_begin(struct account *a, bool runs_at_once);
/* KVM_RUN returned 0: reads the clock. */
void account_exit(struct account *a, const struct kvm_run *run);
/* It has not run, as far as is known, and is found to have been started, nobody knows when: all of
 * the wait counts as in the guest. */
void account_found_running(struct account *a);
/* KVM_RUN was interrupted; woken: it had waited for its start-up interrupt. */
void account_interrupted(struct account *a, bool woken);
/* The vCPU thread begins to wait for a reply, at tick now. */
void account_waits(struct account *a, uint64_t now);
/* Puts down the exit under way, and the one before. After the post, so that the control thread need
 * not wait for it, nor the guest. */
void account_put(struct account *a);
/* It goes back into the guest, at tick now. If it waited, it was served between these ticks; ticks
 * before the post: it was not served, but let go. */
void account_return(struct account *a, uint64_t now, uint64_t served_from, uint64_t served_to);
/* Around a sample, which is no exit's doing. */
void account_aside(struct account *a);
void account_back(struct account *a);
/* Around a park. */
void account_park(struct account *a);
void account_unpark(struct account *a);
/* Last. */
void account_end(struct account *a);

/* ---- control thread ---------------------------------------------------------------------- */

/* An exit of this key waited from posted and was served from … to. */
void account_served(struct account *a, unsigned key, uint64_t posted, uint64_t from, uint64_t to);

/* ---- any thread -------------------------------------------------------------------------- */

/* A vCPU's times until now, in ticks: spent adds up to wall. */
struct account_times {
	uint64_t wall;
	uint64_t spent[ACCOUNT_PHASES];
};
void account_times(const struct account *a, struct account_times *ret_times);

#endif
