/* The hand-off of exits from vCPU threads to the control thread, and of replies back. */
#ifndef STASIS_VCPU_EXITS_H
#define STASIS_VCPU_EXITS_H

#include <stdatomic.h>

#include "arch/arch.h"
#include "base/spsc.h"
#include "loop/loop.h"
#include "vcpu/account.h"

/*
 *   vCPU thread                                control thread
 *   -----------                                --------------
 *   ring slot <- exit, ticket <- clock++       limit <- clock
 *   publish ring slot                          take the whole stack
 *   if not listed: listed = 1, push onto stack of each: listed = 0, then look at its ring
 *   … and if the control thread sleeps: doorbell
 *   posted: go on                              serve in order of ticket, below limit
 *   else: spin, then sleep on the futex  <---  reply, wake if it sleeps
 *
 * Order. E1 comes before E2 for the guest if E1's post was over before E2's began; then E1 is
 * served first. Tickets are drawn from one counter, so ticket(E1) < ticket(E2); what is left to
 * show is that when E2 is served (so ticket(E2) < limit of that take), E1 is at hand.
 * - The take saw E2's draw in the counter (release, acquire), so it saw all that E1's post did.
 * - If E1's post pushed its vCPU, this take or an earlier one popped it from the stack.
 * - If it found listed set, the vCPU was on the stack (popped as above), or a take had popped it
 *   but not yet cleared listed. Either way that take clears after E1's exchange of listed, and so
 *   sees E1's slot.
 * - Whoever was looked at stays in the heap until its ring is found empty, over takes if need be.
 *   The heap's link is not the stack's: a vCPU may be in the heap and push itself again.
 * A take looks at all whom it popped before it serves the first.
 * An exit that the guest could know to be earlier than a queue notification is in a ring before
 * the notification's event descriptor fires: the loop polls its sources after it has seen a
 * completion and before it dispatches it.
 *
 * Sleep. The control thread stores asleep, then looks at the stack; a vCPU pushes, then looks at
 * asleep. All four are sequentially consistent, so that at least one sees the other.
 *
 * Cost. A take touches the vCPUs that posted and no other. */

#define VCPU_EXITS_RING	   32	 /* slots per vCPU; the last free one always waits for its reply */
#define VCPU_EXITS_SPIN_NS 50000 /* no side spins longer than this, by default */

struct vcpu_exits;

/* Shared by all vCPUs of a pool. */
struct vcpu_exits_hub {
	CACHE_ALIGNED _Atomic uint64_t ticket;		  /* next to draw */
	CACHE_ALIGNED _Atomic(struct vcpu_exits *) stack; /* who posted, newest first */
	CACHE_ALIGNED _Atomic uint32_t asleep;		  /* control thread blocks or is about to */
	bool may_spin;	     /* constant: false when vCPUs outnumber host CPUs */
	double ticks_per_ns; /* constant: near enough for a spin */
	struct loop_event doorbell;

	/* Control thread's from here on. */
	struct loop *loop;
	struct loop_source source;
	struct vcpu_exits **heap; /* by ticket of the oldest exit; room for every vCPU */
	unsigned heap_len;
	bool serving;	  /* a take is under way: a nested turn of the loop serves nothing */
	bool closed;	  /* serves no more */
	uint64_t takes;	  /* how many takes found something */
	uint64_t touched; /* how many vCPUs they looked at, in all */
	void (*serve)(struct vcpu_exits *from, const struct arch_exit *exit);
};

/* One place in a vCPU's ring. */
struct vcpu_exits_slot {
	struct arch_exit exit;
	bool waits;	 /* wants a reply, or is a posted one that filled the ring */
	uint16_t key;	 /* of its vCPU's account */
	uint64_t posted; /* tick; of one that does not wait: when it left the guest, or 0 */
};

/* Futex word. The vCPU thread goes NONE → WAITED_FOR (→ ASLEEP) and SENT → NONE, the control
 * thread any → SENT and any → RELEASED, which stays. */
enum vcpu_reply {
	VCPU_REPLY_NONE,
	VCPU_REPLY_WAITED_FOR,
	VCPU_REPLY_ASLEEP,
	VCPU_REPLY_SENT,
	VCPU_REPLY_RELEASED,
};

/* One vCPU's side. Embedded in struct vcpu. */
struct vcpu_exits {
	struct spsc ring; /* struct vcpu_exits_slot */
	struct vcpu_exits_slot slots[VCPU_EXITS_RING];
	struct vcpu_exits_hub *hub;
	struct account *account; /* NULL: none is kept, and no times are taken for it */
	CACHE_ALIGNED _Atomic uint32_t listed;
	struct vcpu_exits *next; /* of the stack; the pusher's until taken, then the control's */
	CACHE_ALIGNED _Atomic uint32_t reply; /* enum vcpu_reply */
	uint32_t spin_ns;		      /* vCPU thread: the adaptive bound */
	uint64_t seen; /* vCPU thread: tick at which its last post was over, the wait included */
	/* Ticks of the exit that waits: the control thread's until the reply, then the vCPU
	 * thread's. */
	uint64_t served_from, served_to;
	CACHE_ALIGNED bool in_heap; /* control thread */
	uint64_t oldest;	    /* control thread: ticket of the ring's head while in_heap */
};

enum vcpu_exits_wait { VCPU_EXITS_WENT_ON, VCPU_EXITS_WAITED, VCPU_EXITS_SLEPT };

/* Control thread. heap has room for vcpus entries; serve is called once for each exit, and the
 * reply goes out when it returns. Adds a source and a doorbell to loop. The caller sets may_spin
 * before any vCPU posts. */
int vcpu_exits_hub_init(struct vcpu_exits_hub *hub, struct loop *loop, unsigned vcpus,
			void (*serve)(struct vcpu_exits *from, const struct arch_exit *exit),
			struct error *err) MUST_CHECK;
/* From now on nothing is served; what is left in the rings is dropped. Control thread. */
void vcpu_exits_hub_close(struct vcpu_exits_hub *hub);
/* No vCPU thread posts any more. Accepts a zeroed hub. */
void vcpu_exits_hub_done(struct vcpu_exits_hub *hub);
void vcpu_exits_init(struct vcpu_exits *e, struct vcpu_exits_hub *hub);

/* vCPU thread. Posts exit (all but its ticket is filled in). Returns at once when it does not
 * want a reply and the ring has room to spare; otherwise when the reply has come, or the release.
 * After a release an exit may be dropped. */
enum vcpu_exits_wait vcpu_exits_post(struct vcpu_exits *e, const struct arch_exit *exit);
/* Control thread, on the way down: from now on this vCPU waits for no reply, so that a waiter
 * goes on to look at its requests. */
void vcpu_exits_release(struct vcpu_exits *e);

#endif
