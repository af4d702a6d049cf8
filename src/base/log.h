/* Lines on standard error: "stasis: …". Any thread; each call writes one line at once. */
#ifndef STASIS_BASE_LOG_H
#define STASIS_BASE_LOG_H

#include "base/compiler.h"
#include "base/error.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Default LOG_WARN; -v raises it, -q lowers it. Set once, before threads start. */
void log_set_level(enum log_level level);
void log_at(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

/* Prints err as one line: what, then what to try. */
void log_failure(const struct error *err);

/* A guest's fault, at most one line a second for each limiter and the number left out.
 * Owned by the thread that logs. Zero-initialise. */
struct log_limit {
	uint64_t next_ns;
	uint64_t suppressed;
};
void log_guest(struct log_limit *limit, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
