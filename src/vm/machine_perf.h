/* Performance mode, and what every run shows of the host's noise, at the steps of a machine's life.
 * Private to src/vm. Control thread. */
#ifndef STASIS_VM_MACHINE_PERF_H
#define STASIS_VM_MACHINE_PERF_H

#include "vm/machine.h"

/* The VM has its name: CPUs and locks, or contention. A signal meanwhile is -EINTR, and in
 * claim.signo. */
int machine_perf_claim(struct machine *m, struct error *err) MUST_CHECK;
/* Whether every thread has a host CPU to itself. */
bool machine_perf_own_cpus(const struct machine *m);
/* The VM exists, its memory is reserved and untouched. */
void machine_perf_vm(struct machine *m);
/* Likewise, after it: brings the memory in. A signal as above. */
int machine_perf_memory(struct machine *m, struct error *err) MUST_CHECK;
/* Host CPU of each vCPU, or NULL. */
const int *machine_perf_pins(const struct machine *m);
/* The vCPUs exist, their threads don't: they inherit where they may run. Refuses what strict mode
 * lacks by now. */
int machine_perf_before_threads(struct machine *m, struct error *err) MUST_CHECK;
/* The threads exist, and no guest code has run: priorities, and the control thread's own CPU.
 * Refuses what strict mode lacks. */
int machine_perf_isolate(struct machine *m, struct error *err) MUST_CHECK;
/* The guest runs. */
void machine_perf_running(struct machine *m);
/* COMMAND starts; it has ended (or the guest has, before the threads are stopped). */
void machine_perf_command_begins(struct machine *m);
void machine_perf_command_ended(struct machine *m);
/* Everything else is taken down. Adds to result->degraded. */
void machine_perf_done(struct machine *m);

#endif
