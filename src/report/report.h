/* One page of what a run left behind: its report, and the files beside it. Any thread; blocks. */
#ifndef STASIS_REPORT_REPORT_H
#define STASIS_REPORT_REPORT_H

#include "base/error.h"

/* Largest files that are read, in bytes; a larger one is left out, or refused if it is the report.
 */
#define REPORT_JSON_MAX	  (64u << 20)
#define REPORT_STACKS_MAX (128u << 20)
#define REPORT_QUEUES_MAX (256u << 20)

/* Makes the page. from: a folder that has report.json and, each if it is there,
 * profile.speedscope.json and monitor.csv; or a report alone. to: the page, whole or not at all,
 * in place of what regular file is there; NULL: report.html in the folder. What is missing or wrong
 * in any part but the report itself is told in the page. Nothing in the files is trusted.
 * *ret_to: where the page is, malloc'ed; not touched on failure. A negative errno with err set. */
int report_write(const char *from, const char *to, char **ret_to, struct error *err) MUST_CHECK;

#endif
