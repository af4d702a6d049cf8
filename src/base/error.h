/* Host failures: a negative errno to decide by, and one sentence to tell once.
 * Low layers fill a struct error; only vm and cli print it. */
#ifndef STASIS_BASE_ERROR_H
#define STASIS_BASE_ERROR_H

#include "base/compiler.h"

enum error_kind {
	ERROR_HOST,	  /* the host or stasis failed: exit status 125 */
	ERROR_USAGE,	  /* a wrong option, file or value: exit status 125 */
	ERROR_CONTENTION, /* this host can't, now: exit status 77 */
};

/* Plain data, owned by the caller; any thread, but one at a time. Zero-initialise before use.
 * code is 0 while nothing has failed, else a negative errno. */
struct error {
	int code;
	enum error_kind kind;
	char what[512]; /* what was being done, and why it failed; one line, no full stop */
	char hint[256]; /* what to try; empty where nothing is known */
};

/* Records the first failure (later calls keep it) and returns code, so that callers can
 * `return error_set(err, -errno, "opening %s", path)`. code is a negative errno; its text is
 * appended to what. Codes that mean a shortage (EMFILE, ENFILE, ENOMEM, EBUSY, ENOSPC, EAGAIN)
 * become contention by error_set_shortage only. err may be NULL. */
int error_set(struct error *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Like error_set, for calls whose failure can be a shortage of the host's: the codes above make
 * it contention, any other a host failure. */
int error_set_shortage(struct error *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* A host failure that no errno tells of: returns -EPROTO, and the text stands alone. */
int error_failed(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* A contention error without an errno's text; returns -EBUSY. */
int error_contention(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* A wrong option, file or value; returns -EINVAL. The text stands alone. */
int error_usage(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* What to try. Appended once; ignored if a hint stands already. */
void error_hint(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* 77 for contention, else 125. */
int error_exit_status(const struct error *err);

#endif
