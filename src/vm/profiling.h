/* A machine that is profiled: --profile, and a client's x-stasis-profile; one at a time. Private to
 * src/vm. Control thread, but where named. */
#ifndef STASIS_VM_PROFILING_H
#define STASIS_VM_PROFILING_H

#include "inspect/runqueues.h"
#include "loop/loop.h"
#include "vm/profile.h"
#include "vm/profiling_kernels.h"
#include "vm/profiling_pace.h"
#include "vm/qmp/ops.h"

struct machine;

/* A run queue, when it was last looked at; at_ns 0: never. */
struct profiling_queue {
	uint64_t at_ns;
	struct runqueues_sample last;
};

struct profiling_vcpu {
	uint64_t exits, ticks;
};

/* Counters of the machine as they were last read, which the windows have got. */
struct profiling_counts {
	uint64_t at_ns;
	uint64_t reason[WINDOWS_REASONS];
	struct profiling_vcpu *vcpu; /* NULL: nothing is counted */
	struct profiling_queue *queue;
};

struct profiling {
	struct profile *profile; /* under way, or NULL */
	unsigned hz;
	bool on;	 /* vCPUs sample */
	bool of_run;	 /* --profile's */
	uint32_t period; /* whose samples count */
	uint64_t since_ns, duration_ns;
	uint64_t dropped_before;
	json_t *degraded;
	struct profiling_counts counts;
	struct loop_timer drain, end;
	struct qmp_wait *client; /* who waits for it, or NULL */

	struct profiling_kernels kernels;
	bool prepared; /* vCPUs can sample */
	bool unknown;  /* a sample lay in code that the newest does not know */
	bool put_off;  /* code had come that was not looked for at once, for coming so often */
	struct profiling_pace pace;
};

/* The guest's init is there: the kernel is looked into before COMMAND starts. */
void machine_profile_hello(struct machine *m);
/* COMMAND starts, or there is none and the vCPUs go. */
void machine_profile_begin(struct machine *m);
/* COMMAND has ended. */
void machine_profile_stop(struct machine *m);
/* For a client: hz 0 is the default. wait->done runs when it is over, the client has gone, or the
 * machine ends. */
int machine_profile_client(struct machine *m, unsigned hz, uint64_t duration_ns,
			   struct qmp_wait *wait, struct error *err) MUST_CHECK;
/* The vCPU threads have ended: what there is is told, written and printed. Before the control
 * socket's end, the pool's, and inspection's. Accepts a machine that was not built. */
void machine_profile_done(struct machine *m);
/* The monitor has looked at a run queue. */
void machine_profile_looked(struct machine *m, unsigned cpu, uint64_t at_ns,
			    const struct runqueues_sample *s);

/* ---- profiling_sample.c -------------------------------------------------------------------- */

/* vCPU thread: fills kind and complete to frame but for kernel (see struct sampling's capture), of
 * a vCPU that does not idle. kernel: NULL where none is known; nobody frees it meanwhile. */
void profiling_sample(const struct glimpse_kernel *kernel, const struct guest_memory *mem,
		      unsigned vcpu, const struct arch_vcpu_state *state, struct sample *sample);

/* ---- profiling_counts.c, for profiling.c: what else the windows count ------------------------ */

/* It begins now, since_ns. False without memory: nothing is counted then. */
bool profiling_counts_begin(struct machine *m);
/* Now and then; last: the profile has ended, duration_ns stands. */
void profiling_counts_take(struct machine *m, bool last);
void profiling_counts_done(struct machine *m); /* accepts what did not begin */

#endif
