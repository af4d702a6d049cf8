/* The hand-off of exits from vCPU threads to the control thread, and of replies back.
 *
 *   vCPU thread                                control thread
 *   -----------                                --------------
 *   ring slot <- exit, ticket <- clock++
 *   publish ring slot (release)
 *   if not listed: listed = 1, push onto stack
 *   if the control thread sleeps: doorbell     take the whole stack (acquire)
 *                                              listed = 0, then read rings in order of ticket
 *   posted: go on                              serve
 *   else: spin, then sleep on the futex  <---  reply (release), wake if it sleeps
 *
 * Order. A ticket is drawn from one counter for all vCPUs. The control thread reads the counter,
 * takes the stack, and serves only exits with smaller tickets, smallest first. An exit that the
 * guest could know to be earlier was published before the later one drew its ticket, so it is in
 * the same take or an earlier one. Whatever is left over is listed again for the next take.
 * Cost. A take touches the vCPUs that posted and no other. */
#ifndef STASIS_VCPU_EXITS_H
#define STASIS_VCPU_EXITS_H

#include <stdatomic.h>

#include "arch/arch.h"
#include "base/spsc.h"
#include "loop/loop.h"

#define VCPU_EXITS_RING 32 /* slots per vCPU; the last free one always waits for its reply */

struct vcpu_exits;

/* Shared by all vCPUs of a pool. */
struct vcpu_exits_hub {
	CACHE_ALIGNED _Atomic uint64_t ticket;          /* next to draw */
	CACHE_ALIGNED _Atomic(struct vcpu_exits *) stack; /* who posted, newest first */
	CACHE_ALIGNED _Atomic uint32_t asleep;          /* control thread blocks or is about to */
	bool may_spin; /* constant: false when vCPUs outnumber host CPUs */
	struct loop_event doorbell;
	struct loop_source source;
	struct vcpu_exits *again; /* control thread: listed, left over by the last take */
	struct vcpu_exits **heap; /* control thread: scratch, one entry per vCPU */
	uint64_t takes;           /* control thread: how many takes found something */
	void (*serve)(struct vcpu_exits *from, const struct arch_exit *exit);
};

/* One vCPU's side. Embedded in struct vcpu. */
struct vcpu_exits {
	struct spsc ring; /* struct arch_exit */
	struct arch_exit slots[VCPU_EXITS_RING];
	struct vcpu_exits_hub *hub;
	CACHE_ALIGNED _Atomic uint32_t listed;
	struct vcpu_exits *next; /* of the stack; the pusher's until taken, then the control's */
	CACHE_ALIGNED _Atomic uint32_t reply; /* futex word: enum vcpu_reply */
	uint32_t spin_ns; /* vCPU thread: the adaptive bound */
};

enum vcpu_reply { VCPU_REPLY_NONE, VCPU_REPLY_WAITED_FOR, VCPU_REPLY_ASLEEP, VCPU_REPLY_SENT };

/* Control thread. heap has room for vcpus entries; serve is called once for each exit, and the
 * reply goes out when it returns. */
int vcpu_exits_hub_init(struct vcpu_exits_hub *hub, struct loop *loop, unsigned vcpus,
			void (*serve)(struct vcpu_exits *from, const struct arch_exit *exit),
			struct error *err) MUST_CHECK;
void vcpu_exits_hub_done(struct vcpu_exits_hub *hub);
void vcpu_exits_init(struct vcpu_exits *e, struct vcpu_exits_hub *hub);

/* vCPU thread. Posts exit (all but its ticket is filled in). Returns at once when it does not
 * want a reply and the ring has room to spare; otherwise when the reply has come. Returns true
 * if it slept. */
bool vcpu_exits_post(struct vcpu_exits *e, const struct arch_exit *exit);
/* Control thread, on the way down: sends a reply that nobody may wait for, so that a waiter goes
 * on to look at its requests. */
void vcpu_exits_release(struct vcpu_exits *e);

#endif
