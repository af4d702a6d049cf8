/* What the host did to the vCPU threads while COMMAND ran: for knowing a noisy run as such. Read
 * from /proc by thread id, so that no vCPU thread is disturbed. Control thread. */
#ifndef STASIS_VM_PERF_EVIDENCE_H
#define STASIS_VM_PERF_EVIDENCE_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "vm/perf/host_cpus.h"

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

/* Time that hosts below this one took of each host CPU since the host began: HOST_CPUS_MAX counts
 * of ticks (sysconf(_SC_CLK_TCK)) by the CPU's number, malloc'ed; 0 for a CPU of which path
 * ("/proc/stat", proc_stat(5)) says nothing. NULL when out of memory. */
uint64_t *evidence_read_stolen(const char *path) MUST_CHECK;

struct evidence_stolen {
	uint64_t all;	/* ticks of all host CPUs together */
	uint64_t worst; /* of the one of cpus that fared worst */
};

/* What was taken in between. Zeroed where before or after is NULL. */
struct evidence_stolen evidence_stolen(const struct host_cpu_set *cpus, const uint64_t *before,
				       const uint64_t *after);

struct evidence {
	struct evidence_thread *before; /* n; zeroed: since the threads began */
	unsigned n;
	uint64_t began_ns;	  /* of what is counted */
	double load;		  /* of the host, the last minute, at the beginning */
	struct host_cpu_set cpus; /* where the threads may run */
	uint64_t *stolen;	  /* of the host's CPUs, likewise; or NULL */
	bool since_command;
};

/* On zeroed memory, or again. cpus: the host CPUs that the machine's threads run on. n vCPUs whose
 * threads have these ids, which began at threads_ns (now_ns). read: whether to take the counters
 * now, or leave them at their beginning (many threads take long to read). command: this is when
 * COMMAND starts. */
int evidence_begin(struct evidence *e, const struct host_cpu_set *cpus, const pid_t *tid,
		   unsigned n, uint64_t threads_ns, bool read, bool command) MUST_CHECK;
/* The threads must still be there. An object for the result, or NULL when out of memory. It says
 * "noisy" where the vCPU that fared worst was ready, without a host CPU, for more than a thousandth
 * of the time or 10 ms in all, or where hosts below this one took as much of one of cpus, which are
 * counted in ticks. */
json_t *evidence_end(struct evidence *e, const pid_t *tid);
void evidence_done(struct evidence *e); /* accepts a zeroed one */

#endif
