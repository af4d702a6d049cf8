/* The list of what performance mode lacks. Control thread. */
#include "vm/perf/missing.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"

static void add(struct perf_missing *m, bool fatal, const char *mend, const char *what, va_list ap)
{
	if (m->count == PERF_MISSING_MAX)
		return;
	vsnprintf(m->item[m->count].what, sizeof(m->item[m->count].what), what, ap);
	snprintf(m->item[m->count].mend, sizeof(m->item[m->count].mend), "%s", mend ?: "");
	m->item[m->count++].fatal = fatal;
	m->fatal += fatal;
}

void perf_missing_add(struct perf_missing *m, const char *mend, const char *what, ...)
{
	va_list ap;

	va_start(ap, what);
	add(m, true, mend, what, ap);
	va_end(ap);
}

void perf_missing_note(struct perf_missing *m, const char *mend, const char *what, ...)
{
	va_list ap;

	va_start(ap, what);
	add(m, false, mend, what, ap);
	va_end(ap);
}

int perf_missing_refuse(const struct perf_missing *m, struct error *err)
{
	int r = -EBUSY;

	for (unsigned i = 0; i < m->count; i++) {
		const char *what = m->item[i].what, *mend = m->item[i].mend;

		if (!m->item[i].fatal)
			continue;
		if (m->fatal == 1) {
			r = error_contention(err, "--perf: %s", what);
			error_hint(err, "%s%s--perf=relaxed goes on without it", mend,
				   mend[0] ? "; " : "");
			return r;
		}
		log_error("--perf: %s%s%s%s", what, mend[0] ? " (try: " : "", mend,
			  mend[0] ? ")" : "");
	}
	r = error_contention(err, "--perf: %u things are missing here", m->fatal);
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
