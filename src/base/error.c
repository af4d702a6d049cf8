/* Records the first host failure with its errno's text. Any thread, one at a time per error. */
#include "base/error.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

/* The text of code stays whole: what is cut is the part before it. */
static void append_errno(char *text, size_t size, int code)
{
	const char *why = strerrordesc_np(-code);
	char suffix[96];
	size_t n, len;

	if (why)
		n = (size_t)snprintf(suffix, sizeof(suffix), ": %s", why);
	else
		n = (size_t)snprintf(suffix, sizeof(suffix), ": error %d", -code);
	n = MIN(n, sizeof(suffix) - 1);
	len = MIN(strlen(text), size - 1 - n);
	memcpy(text + len, suffix, n);
	text[len + n] = '\0';
}

static void record(struct error *err, int code, enum error_kind kind, bool with_errno,
		   const char *fmt, va_list ap)
{
	assert(code < 0);
	if (!err || err->code)
		return;
	err->code = code;
	err->kind = kind;
	if (vsnprintf(err->what, sizeof(err->what), fmt, ap) < 0)
		err->what[0] = '\0';
	if (with_errno)
		append_errno(err->what, sizeof(err->what), code);
	text_one_line(err->what);
}

static bool is_shortage(int code)
{
	switch (-code) {
	case EMFILE:
	case ENFILE:
	case ENOMEM:
	case EBUSY:
	case ENOSPC:
	case EAGAIN:
		return true;
	default:
		return false;
	}
}

int error_set(struct error *err, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	record(err, code, ERROR_HOST, true, fmt, ap);
	va_end(ap);
	return code;
}

int error_set_shortage(struct error *err, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	record(err, code, is_shortage(code) ? ERROR_CONTENTION : ERROR_HOST, true, fmt, ap);
	va_end(ap);
	return code;
}

int error_failed(struct error *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	record(err, -EPROTO, ERROR_HOST, false, fmt, ap);
	va_end(ap);
	return -EPROTO;
}

int error_contention(struct error *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	record(err, -EBUSY, ERROR_CONTENTION, false, fmt, ap);
	va_end(ap);
	return -EBUSY;
}

int error_usage(struct error *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	record(err, -EINVAL, ERROR_USAGE, false, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

void error_hint(struct error *err, const char *fmt, ...)
{
	va_list ap;

	if (!err || err->hint[0])
		return;
	va_start(ap, fmt);
	if (vsnprintf(err->hint, sizeof(err->hint), fmt, ap) < 0)
		err->hint[0] = '\0';
	va_end(ap);
	text_one_line(err->hint);
}

int error_exit_status(const struct error *err)
{
	return err->kind == ERROR_CONTENTION ? 77 : 125;
}
