/* What performance mode asked for and doesn't have, each with what mends it. Control thread. */
#ifndef STASIS_VM_PERF_MISSING_H
#define STASIS_VM_PERF_MISSING_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

#define PERF_MISSING_MAX 32 /* kinds of things, not occurrences */

struct perf_missing {
	struct {
		char what[200]; /* one line, no full stop */
		char mend[120]; /* a command or what to change; "" where nothing helps */
		bool fatal;	/* --perf refuses to run without it */
	} item[PERF_MISSING_MAX];
	unsigned count;
	unsigned fatal;
};

/* mend may be NULL. Past PERF_MISSING_MAX nothing is added. */
void perf_missing_add(struct perf_missing *m, const char *mend, const char *what, ...)
	PRINTF_LIKE(3, 4);
/* Likewise for what is recorded only, because nobody may be able to mend it. */
void perf_missing_note(struct perf_missing *m, const char *mend, const char *what, ...)
	PRINTF_LIKE(3, 4);
/* Contention: one line for each that is fatal to standard error where there is more than one, and
 * the error that sums up. At least one is fatal. */
int perf_missing_refuse(const struct perf_missing *m, struct error *err);
/* Appends each as a string to *degraded, which is made where it is NULL. */
int perf_missing_record(const struct perf_missing *m, json_t **degraded) MUST_CHECK;

#endif
