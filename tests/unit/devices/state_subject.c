/* See state_subject.h. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "state_subject.h"

static void save(const struct state_subject *s, struct state_io *io)
{
	state_save(io);
	s->state(s->arg, io);
	assert_int_equal(state_result(io, NULL), 0);
}

static int restore(const struct state_subject *s, const uint8_t *bytes, size_t len)
{
	struct error err = {0};
	struct state_io io;
	int r;

	s->renew(s->arg);
	state_restore(&io, bytes, len);
	s->state(s->arg, &io);
	r = state_result(&io, &err);
	assert_true(r == 0 || (r == -EINVAL && err.what[0]));
	return r;
}

uint8_t *state_subject_move(const struct state_subject *s, size_t *ret_len)
{
	struct state_io first, second;

	save(s, &first);
	assert_int_equal(restore(s, first.bytes, first.len), 0);
	save(s, &second);
	assert_int_equal(first.len, second.len);
	assert_memory_equal(first.bytes, second.bytes, first.len);
	state_free(&second);
	*ret_len = first.len;
	return first.bytes;
}

static bool refused(const struct state_subject *s, const uint8_t *bytes, size_t len)
{
	/* A copy of its length, so that a byte too many is seen. */
	uint8_t *copy = malloc(len ?: 1);
	struct state_io io;
	int r;

	assert_non_null(copy);
	memcpy(copy, bytes, len);
	r = restore(s, copy, len);
	free(copy);
	if (r < 0)
		return true;
	s->run(s->arg);
	save(s, &io);
	state_free(&io);
	return false;
}

unsigned state_subject_mangle(const struct state_subject *s, const uint8_t *bytes, size_t len)
{
	uint8_t *changed = malloc(len);
	unsigned n = 0;

	assert_non_null(changed);
	memcpy(changed, bytes, len);
	for (size_t i = 0; i < len; i++) {
		changed[i] = (uint8_t)(bytes[i] ^ 1u << i % 8);
		n += refused(s, changed, len);
		changed[i] = (uint8_t)~bytes[i];
		n += refused(s, changed, len);
		changed[i] = bytes[i];
		assert_true(refused(s, bytes, i));
	}
	free(changed);
	return n;
}
