/* Floor of the freeze: threads that leave KVM_RUN on a signal, read their registers and sleep on
 * one futex; the last one wakes who waits. The main thread's. */
#ifndef STASIS_BENCH_FLOOR_FREEZE_H
#define STASIS_BENCH_FLOOR_FREEZE_H

#include "floor_vm.h"

struct floor_freeze; /* opaque */

/* Made frozen. pinned: the one vCPU's thread to the first CPU; else to both. */
int floor_freeze_open(const struct bench *b, unsigned vcpus, enum guest_program program,
		      bool pinned, struct floor_freeze **ret_floor, struct error *err) MUST_CHECK;
void floor_freeze_close(struct floor_freeze *f); /* accepts NULL */
/* Its VM, for what else is bound to it. */
struct floor_vm *floor_freeze_vm(struct floor_freeze *f);
/* Returns when all hold still and the VM's clock was read. */
int floor_freeze_hold(struct floor_freeze *f, struct error *err) MUST_CHECK;
/* Returns at once; each thread sets its counter back before it runs. */
int floor_freeze_go(struct floor_freeze *f, struct error *err) MUST_CHECK;
/* It runs: returns when a vCPU has done a watched store, behind which it stands until the hold. */
void floor_freeze_wait_hit(struct floor_freeze *f);

#endif
