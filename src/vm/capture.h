/* What a frozen machine leaves behind: a dump as JSON, a core, or both. Captures are made one after
 * another, in the order in which they were asked for. Private to src/vm. Control thread. */
#ifndef STASIS_VM_CAPTURE_H
#define STASIS_VM_CAPTURE_H

#include "freeze/dump.h"
#include "freeze/vmcore.h"

struct machine;

struct capture {
	/* The asker's, zeroed but for what is wanted; it lives until done() has run. */
	struct dump_cause cause;
	char *dump_path, *vmcore_path; /* files to make, or NULL */
	bool wants_json;	       /* the dump itself, in json */
	bool own;		       /* of the run's own: told in freezes[] and degraded */
	/* Once, never inside machine_capture: err NULL when all was made. May free. */
	void (*done)(struct capture *c, const struct error *err);

	json_t *json; /* for done() to take, and set to NULL; NULL: could not be made */

	/* capture.c's */
	struct machine *machine;
	struct freeze_wait wait;
	STAILQ_ENTRY(capture) link;
	bool frozen;	    /* told so: its turn may come */
	struct error error; /* the first */
};
STAILQ_HEAD(captures, capture);

enum core_state { CORE_NONE, CORE_ACTIVE, CORE_COMPLETED, CORE_FAILED };

/* The machine's part; zeroed but for the queue. */
struct capture_state {
	struct captures queue;
	struct vmcore *vmcore; /* of the first in the queue, or NULL */
	json_t *noted;	       /* for the entry of this freeze in freezes[]; or NULL */
	bool ended;	       /* nothing begins any more */
	unsigned files;	       /* sets of files that the run made so far */
	/* Of the last core: query-dump. */
	enum core_state core;
	uint64_t core_done, core_total; /* bytes of RAM */
};

#endif
