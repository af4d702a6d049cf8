/* What the host did to the vCPU threads while COMMAND ran: for knowing a noisy run as such. Read
 * from /proc by thread id, so that no vCPU thread is disturbed. Control thread. */
#ifndef STASIS_VM_PERF_EVIDENCE_H
#define STASIS_VM_PERF_EVIDENCE_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

/* One thread's counters since it began. */
struct evidence_thread {
	uint64_t run_ns, run_delay_ns;	 /* on a CPU; ready, and waiting for one */
	uint64_t voluntary, involuntary; /* switches */
	uint64_t migrations;
	uint64_t minor_faults, major_faults;
	unsigned cpu, khz; /* where it ran last, and how fast that is now; 0: not readable */
	bool has_schedstat, has_migrations;
};

/* Reads tid's of the process whose /proc folder is proc ("/proc/self"). What can't be read is 0
 * with its has_ flag unset. -ENOENT: no such thread. */
int evidence_read_thread(const char *proc, pid_t tid, struct evidence_thread *ret) MUST_CHECK;

/* What b has more than a. An object, or NULL when out of memory. */
json_t *evidence_thread_json(const struct evidence_thread *a, const struct evidence_thread *b);

struct evidence {
	struct evidence_thread *before; /* n; zeroed: since the threads began */
	unsigned n;
	uint64_t began_ns;   /* of what is counted */
	double load;	     /* of the host, the last minute, at the beginning */
	uint64_t host_steal; /* ticks that hosts below this one took, likewise */
	bool since_command;
};

/* n vCPUs whose threads have these ids, which began at threads_ns (now_ns). read: whether to take
 * the counters now, or leave them at their beginning (many threads take long to read). command:
 * this is when COMMAND starts. */
int evidence_begin(struct evidence *e, const pid_t *tid, unsigned n, uint64_t threads_ns, bool read,
		   bool command) MUST_CHECK;
/* The threads must still be there. An object for the result, or NULL when out of memory. It says
 * "noisy" where the vCPU that fared worst was ready, without a host CPU, for more than a thousandth
 * of the time or 10 ms in all, or where hosts below this one took as much of its CPUs. */
json_t *evidence_end(struct evidence *e, const pid_t *tid);
void evidence_done(struct evidence *e); /* accepts a zeroed one */

#endif
