/* How a run ended: the outcome, its exit status, and the result JSON of CLI.md. */
#ifndef STASIS_VM_RESULT_H
#define STASIS_VM_RESULT_H

#include <jansson.h>

#include "base/error.h"
#include "vm/config.h"

enum vm_outcome {
	VM_EXITED,
	VM_SIGNALLED,
	VM_PANICKED,
	VM_DIED,
	VM_NO_INIT,
	VM_TIMEOUT,
	VM_HIT,
	VM_KILLED,
	VM_SKIPPED,
	VM_ERROR,
};

struct vm_result {
	enum vm_outcome outcome;
	int status;	  /* COMMAND's status, or its signal, or the host signal that killed us */
	char text[512];	  /* one line for anything but exited and signalled */
	const char *host; /* "kvm-svm", "kvm-vmx", "kvm-pvm", "kvm-arm64", "none" */
	bool lab;
	uint64_t setup_ns, guest_start_to_init_ns, command_ns, teardown_ns;
	json_t *exits;	  /* object, or NULL */
	json_t *nets;	  /* likewise */
	json_t *disks;	  /* array of objects, or NULL */
	json_t *evidence; /* what the host did to the vCPU threads, or NULL */
	json_t *perf;	  /* where performance mode put the threads, or NULL */
	json_t *profile;  /* what --profile saw, or NULL */
	json_t *freezes;  /* array of objects, or NULL */
	json_t *watches;  /* array of objects; NULL: none were asked for */
	json_t *monitor;  /* object; NULL: it was not asked for, or could not be */
	json_t *degraded; /* array of strings, or NULL */
};

/* What is said when a standard stream can't be written: "output" or "error". */
#define VM_LOST_OUTPUT "writing COMMAND's standard %s"

/* The process's exit status for a result (CLI.md, Exit status). */
int vm_result_status(const struct vm_result *r);
const char *vm_outcome_name(enum vm_outcome outcome);
json_t *vm_result_json(const struct vm_result *r, const struct vm_config *config);
/* Writes a report: a file, also where a link leads, whole or not at all; a pipe, a device or where
 * a standard stream goes as it is. Takes the reference; NULL is out of memory. */
int vm_report_write(json_t *report, const char *path, struct error *err) MUST_CHECK;
/* The same for what messages call what: "dump". */
int vm_json_write(json_t *json, const char *what, const char *path, struct error *err) MUST_CHECK;
/* Adds a line to degraded, unless it is there. */
void vm_result_degraded(struct vm_result *r, const char *text);
void vm_result_done(struct vm_result *r);

#endif
