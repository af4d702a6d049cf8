/* Two runs against each other: what differs, by their reports' windows (vm/windows.h). Pure; any
 * thread. Reports are files of anybody's: nothing in them is trusted. */
#ifndef STASIS_VM_COMPARE_H
#define STASIS_VM_COMPARE_H

#include <jansson.h>

#include "base/bootstrap.h"
#include "base/error.h"
#include "inspect/sched_classes.h"

#define COMPARE_WINDOWS_LEAST 10u
#define COMPARE_WINDOWS_MOST  4096u
#define COMPARE_RESAMPLES     10000u
/* Of all intervals together, this share may miss: each has its part of it (Bonferroni). */
#define COMPARE_MISSES 0.05

/* What a window has, in ns but for counts. */
enum compare_field {
	COMPARE_LENGTH,
	COMPARE_ALL,
	COMPARE_BUSY,
	COMPARE_IDLE,
	COMPARE_KERNEL,
	COMPARE_SCHEDULING,
	COMPARE_SWITCHING, /* of it: sched_class_of_switches */
	COMPARE_EXITS,
	COMPARE_OUT,
	COMPARE_SWITCHES, /* where the monitor counted … */
	COMPARE_WAKEUPS,  /* … and the kernel */
	COMPARE_CLASS,	  /* of sched_class 0, and on */
	COMPARE_FIELDS = COMPARE_CLASS + (int)SCHED_CLASSES,
};

struct compare_side {
	size_t windows;
	double (*value)[COMPARE_FIELDS]; /* of each window */
	uint32_t has;			 /* 1 << enum compare_field */
	uint64_t length_ns;
};

enum compare_unit { COMPARE_SHARE, COMPARE_NS, COMPARE_PER_S };

enum compare_verdict { COMPARE_SAME, COMPARE_A_MORE, COMPARE_B_MORE };

/* One figure of both: a sum over all windows divided by another. */
struct compare_row {
	const char *name, *label; /* as JSON has it; as people do */
	enum compare_unit unit;
	bool cost;			      /* more of it is dearer */
	double value[2], median[2];	      /* A's, B's; median: of the windows' */
	struct bootstrap_interval difference; /* B's less A's */
	/* How much more the larger has than the smaller, 0.1: a tenth; INFINITY: it has none. */
	double more;
	struct bootstrap_interval more_ci;
	enum compare_verdict verdict;
};
#define COMPARE_ROWS_MAX 20

/* A report's profile, or what stasis profile --json printed, which is one itself; or NULL. */
const json_t *compare_profile(const json_t *report);
/* -ENODATA: it has no windows, or too few; -EBADMSG: it is no report. err begins with name. */
int compare_load(const json_t *report, const char *name, struct compare_side *ret_side,
		 struct error *err) MUST_CHECK;
void compare_side_done(struct compare_side *side); /* accepts a zeroed one */
/* The figures that both have; *ret_rows of them. A difference below least (0.1: a tenth of the
 * smaller) is none. The same sides give the same rows. -ENOMEM. */
int compare_run(const struct compare_side *a, const struct compare_side *b, double least,
		struct compare_row rows[COMPARE_ROWS_MAX], size_t *ret_rows,
		struct error *err) MUST_CHECK;
/* In words: "A is dearer by 12% [8, 15]". */
void compare_verdict_text(const struct compare_row *row, char *buf, size_t len);
/* A value of the row's, with its unit: "4.12%", "1.3 us", "512/s". */
void compare_value_text(const struct compare_row *row, double value, char *buf, size_t len);
json_t *compare_row_json(const struct compare_row *row);

#endif
