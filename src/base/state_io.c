/* Sections and fields of saved state: see state_io.h. */
#include "base/state_io.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GROW_BYTES  4096u
#define VERSION_AT  STATE_NAME_BYTES
#define LENGTH_AT   (STATE_NAME_BYTES + 4)
#define SECTION_MAX (1u << 30)

void state_save(struct state_io *io)
{
	*io = (struct state_io){0};
}

void state_restore(struct state_io *io, const void *data, size_t len)
{
	/* Of nothing, too, there is a place to read from: adding to NULL is undefined. */
	*io = (struct state_io){.restoring = true, .version = 1, .from = data ?: "", .len = len};
}

void state_free(struct state_io *io)
{
	free(io->bytes);
	*io = (struct state_io){0};
}

/* "where: section", or what there is of it. */
static void say_where(const struct state_io *io, char *text, size_t len)
{
	const char *section = io->section ?: io->where ? "" : "state";

	snprintf(text, len, "%s%s%s", io->where ?: "", io->where && *section ? ": " : "", section);
}

void state_refuse(struct state_io *io, const char *field, const char *fmt, ...)
{
	char where[80], why[160];
	va_list ap;

	if (io->err.code)
		return;
	say_where(io, where, sizeof(where));
	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	error_usage(&io->err, "%s%s%s: %s", where, *field ? "." : "", field, why);
}

void state_fail(struct state_io *io, int code, const char *fmt, ...)
{
	char where[80], what[160];
	va_list ap;

	if (io->err.code)
		return;
	say_where(io, where, sizeof(where));
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	error_set_shortage(&io->err, code, "%s: %s", where, what);
}

void state_check(struct state_io *io, const char *field, bool ok)
{
	if (!io->restoring)
		assert(ok);
	else if (!ok)
		state_refuse(io, field, "can't have this value");
}

int state_result(struct state_io *io, struct error *err)
{
	assert(!io->section);
	if (state_restoring(io) && io->at != io->len)
		state_refuse(io, "", "has more than this machine does");
	if (io->err.code && err && !err->code)
		*err = io->err;
	return io->err.code;
}

/* ---- bytes -------------------------------------------------------------------------------- */

static void put(struct state_io *io, const void *data, size_t n)
{
	if (io->err.code)
		return;
	if (n > io->cap - io->len) {
		size_t cap = 2 * io->cap + n + GROW_BYTES;
		uint8_t *more = realloc(io->bytes, cap);

		if (!more) {
			error_set_shortage(&io->err, -ENOMEM, "saving state");
			return;
		}
		io->bytes = more;
		io->cap = cap;
	}
	if (n > 0)
		memcpy(io->bytes + io->len, data, n);
	io->len += n;
}

/* n bytes of what is left before end; NULL where they are not there. */
static const uint8_t *get(struct state_io *io, const char *field, size_t n, size_t end)
{
	const uint8_t *p = io->from + io->at;

	if (io->err.code)
		return NULL;
	if (n > end - io->at) {
		state_refuse(io, field, "is cut off");
		return NULL;
	}
	io->at += n;
	return p;
}

static void to_le(uint8_t *to, uint64_t v, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		to[i] = (uint8_t)(v >> 8 * i);
}

static uint64_t from_le(const uint8_t *from, unsigned n)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < n; i++)
		v |= (uint64_t)from[i] << 8 * i;
	return v;
}

/* True: *v is new. */
static bool number(struct state_io *io, const char *field, uint64_t *v, unsigned n)
{
	uint8_t bytes[8];
	const uint8_t *p;

	assert(io->section || io->err.code);
	if (!io->restoring) {
		to_le(bytes, *v, n);
		put(io, bytes, n);
		return false;
	}
	p = get(io, field, n, io->section_end);
	if (p)
		*v = from_le(p, n);
	return p;
}

/* ---- fields ------------------------------------------------------------------------------- */

void state_u8(struct state_io *io, const char *field, uint8_t *v)
{
	uint64_t n = io->restoring ? 0 : *v;

	if (number(io, field, &n, sizeof(*v)))
		*v = (uint8_t)n;
}

void state_u16(struct state_io *io, const char *field, uint16_t *v)
{
	uint64_t n = io->restoring ? 0 : *v;

	if (number(io, field, &n, sizeof(*v)))
		*v = (uint16_t)n;
}

void state_u32(struct state_io *io, const char *field, uint32_t *v)
{
	uint64_t n = io->restoring ? 0 : *v;

	if (number(io, field, &n, sizeof(*v)))
		*v = (uint32_t)n;
}

void state_u64(struct state_io *io, const char *field, uint64_t *v)
{
	(void)number(io, field, v, sizeof(*v));
}

void state_bool(struct state_io *io, const char *field, bool *v)
{
	uint64_t n = io->restoring ? 0 : *v;

	if (!number(io, field, &n, 1))
		return;
	if (n > 1)
		state_refuse(io, field, "is neither 0 nor 1");
	else
		*v = n;
}

void state_bytes(struct state_io *io, const char *field, void *data, size_t len)
{
	const uint8_t *p;

	assert(io->section || io->err.code);
	if (!io->restoring) {
		put(io, data, len);
		return;
	}
	p = get(io, field, len, io->section_end);
	if (p && len > 0)
		memcpy(data, p, len);
}

/* ---- sections ----------------------------------------------------------------------------- */

unsigned state_begin(struct state_io *io, const char *name, uint16_t version)
{
	uint8_t head[STATE_HEAD_BYTES] = {0};
	const uint8_t *p;
	uint64_t found, len;

	assert(!io->section && version > 0 && strlen(name) <= STATE_NAME_BYTES);
	io->section = name;
	memcpy(head, name, strlen(name));
	if (!io->restoring) {
		io->section_at = io->len;
		to_le(head + VERSION_AT, version, 2);
		put(io, head, sizeof(head));
		return io->err.code ? 0 : version;
	}
	p = get(io, "", sizeof(head), io->len);
	if (!p)
		return 0;
	found = from_le(p + VERSION_AT, 2);
	len = from_le(p + LENGTH_AT, 4);
	if (memcmp(p, head, STATE_NAME_BYTES) != 0)
		state_refuse(io, "", "is missing, or another section is in its place");
	else if (found == 0 || found > version)
		state_refuse(io, "version", "is not known");
	else if (from_le(p + VERSION_AT + 2, 2) != 0)
		state_refuse(io, "head", "can't have this value");
	else if (len > io->len - io->at)
		state_refuse(io, "length", "is more than there is");
	if (io->err.code)
		return 0;
	io->section_end = io->at + len;
	return (unsigned)found;
}

void state_end(struct state_io *io)
{
	assert(io->section);
	if (state_restoring(io) && io->at != io->section_end)
		state_refuse(io, "length", "is more than its fields have");
	if (!io->restoring && !io->err.code) {
		size_t len = io->len - io->section_at - STATE_HEAD_BYTES;

		assert(len <= SECTION_MAX);
		to_le(io->bytes + io->section_at + LENGTH_AT, len, 4);
	}
	io->section = NULL;
}
