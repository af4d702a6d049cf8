/* The record of a run: a folder with all that it leaves behind, under names that stay the same. Any
 * thread. */
#ifndef STASIS_VM_RECORD_H
#define STASIS_VM_RECORD_H

#include <jansson.h>

#include "base/error.h"

enum record_file {
	RECORD_REPORT,
	RECORD_SPEEDSCOPE,
	RECORD_FOLDED,
	RECORD_PPROF,
	RECORD_MONITOR,
	RECORD_TRACE,
	RECORD_FILES,
};

/* "report.json" and so on. */
const char *record_name(enum record_file file);
/* malloc'ed; NULL when out of memory. */
char *record_path(const char *dir, enum record_file file);
/* Whether dir is an empty folder, or could be made. A usage error begins with it. */
int record_check(const char *dir, struct error *err) MUST_CHECK;
/* It is there, and empty: a usage error where it is not. */
int record_make(const char *dir, struct error *err) MUST_CHECK;
/* A document as profile_speedscope (vm/profile_out.h) makes it, in each format. Takes the
 * reference; NULL is out of memory. */
int record_profile(const char *dir, json_t *speedscope, struct error *err) MUST_CHECK;

#endif
