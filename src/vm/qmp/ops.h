/* What the control socket knows of a machine: this table, and nothing else. Control thread. */
#ifndef STASIS_VM_QMP_OPS_H
#define STASIS_VM_QMP_OPS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum qmp_state {
	QMP_PRELAUNCH, /* no vCPU runs yet */
	QMP_RUNNING,
	QMP_PAUSED,   /* frozen, or on the way there */
	QMP_PANICKED, /* the guest said so; it may still be writing its last words */
	QMP_SHUTDOWN, /* the outcome is decided */
};

struct qmp_cpu {
	int thread_id; /* of the host */
	unsigned node, llc, core, thread;
};

/* The end of something that takes its time: err is NULL if it went well. */
struct qmp_wait {
	void (*done)(struct qmp_wait *wait, const struct error *err);
	json_t *ret; /* what it gives, for done() to take; NULL: an empty object */
	/* Set by whom it is given to, where that may end early: its client has gone, and done() has
	 * not run. done() still does, perhaps inside. */
	void (*cancel)(struct qmp_wait *wait);
	void *arg; /* cancel's */
};

struct qmp_snapshot {
	const char *path;  /* absolute: the folder */
	const char *base;  /* absolute: of one that it was saved to or began from, which it is to
			    * differ from; or NULL */
	bool keep_running; /* else it ends afterwards */
	bool lz4;
};

/* How the last core fares (qapi/dump.json, DumpQueryResult). */
struct qmp_dump {
	const char *status;	   /* "none", "active", "completed", "failed" */
	uint64_t completed, total; /* bytes of the guest's memory */
};

struct qmp_ops {
	const char *(*name)(void *arg);
	enum qmp_state (*state)(void *arg);
	unsigned (*cpu_count)(void *arg);
	void (*cpu)(void *arg, unsigned index, struct qmp_cpu *ret_cpu);
	/* What x-stasis-status gives: a new object, or NULL when out of memory. */
	json_t *(*status)(void *arg);

	/* The rest may be NULL: the command then says that it is not built yet. */

	/* What x-stasis-query-stats gives: what status does, with accounts. As status. */
	json_t *(*stats)(void *arg);

	/* After 0, wait->done runs once, perhaps inside the call: when the machine is frozen, or
	 * with what went wrong, also where the machine ends before. */
	int (*freeze)(void *arg, struct qmp_wait *wait, struct error *err);
	int (*thaw)(void *arg, struct error *err);
	/* An ELF core into the file at path, as freeze. */
	int (*dump)(void *arg, const char *path, struct qmp_wait *wait, struct error *err);
	void (*dump_state)(void *arg, struct qmp_dump *ret_dump);
	/* What every vCPU does, as JSON in wait->ret; as freeze. */
	int (*report)(void *arg, struct qmp_wait *wait, struct error *err);
	/* Saves it, as freeze. */
	int (*snapshot)(void *arg, const struct qmp_snapshot *request, struct qmp_wait *wait,
			struct error *err);
	/* Profiles it for so long, at hz (0: the default); wait->ret is {"profile", "speedscope"},
	 * also where the machine ends before. Ends with its client. */
	int (*profile)(void *arg, unsigned hz, uint64_t duration_ns, struct qmp_wait *wait,
		       struct error *err);
	int (*nmi)(void *arg, struct error *err);
	/* Both end the machine soon after they have returned; a machine is started once only. */
	int (*quit)(void *arg, struct error *err);
	int (*reset)(void *arg, struct error *err);
};

#endif
