/* The list of what performance mode lacks. Control thread. */
#include "vm/perf/missing.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"

void perf_missing_add(struct perf_missing *m, const char *mend, const char *what, ...)
{
	va_list ap;

	if (m->count == PERF_MISSING_MAX)
		return;
	va_start(ap, what);
	vsnprintf(m->item[m->count].what, sizeof(m->item[m->count].what), what, ap);
	va_end(ap);
	snprintf(m->item[m->count].mend, sizeof(m->item[m->count].mend), "%s", mend ?: "");
	m->count++;
}

int perf_missing_refuse(const struct perf_missing *m, struct error *err)
{
	int r;

	if (m->count == 1) {
		r = error_contention(err, "--perf: %s", m->item[0].what);
		error_hint(err, "%s%s--perf=relaxed goes on without it", m->item[0].mend,
			   m->item[0].mend[0] ? "; " : "");
		return r;
	}
	for (unsigned i = 0; i < m->count; i++)
		log_error("--perf: %s%s%s", m->item[i].what, m->item[i].mend[0] ? "; try: " : "",
			  m->item[i].mend);
	r = error_contention(err, "--perf: %u things are missing here", m->count);
	error_hint(err, "--perf=relaxed goes on without them");
	return r;
}

int perf_missing_record(const struct perf_missing *m, json_t **degraded)
{
	if (!*degraded)
		*degraded = json_array();
	for (unsigned i = 0; i < m->count; i++)
		if (json_array_append_new(*degraded, json_sprintf("perf: %s", m->item[i].what)) < 0)
			return -ENOMEM;
	return 0;
}
