/* Sections and fields of saved state: there and back, and whatever a file may say instead. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/state_io.h"

struct thing {
	uint8_t a;
	uint16_t b;
	uint32_t c;
	uint64_t d;
	bool e;
	char f[5];
};

static void thing_state(struct state_io *io, struct thing *t)
{
	if (state_begin(io, "thing", 2)) {
		state_u8(io, "a", &t->a);
		state_u16(io, "b", &t->b);
		state_u32(io, "c", &t->c);
		state_check(io, "c", t->c != 7);
	}
	state_end(io);
	if (state_begin(io, "sixteen letters!", 1)) {
		state_u64(io, "d", &t->d);
		state_bool(io, "e", &t->e);
		state_bytes(io, "f", t->f, sizeof(t->f));
	}
	state_end(io);
}

static const struct thing example = {1, 0x203, 0x4050607, 0x8090a0b0c0d0e0f, true, "state"};

static void save(struct state_io *io)
{
	struct thing t = example;

	state_save(io);
	thing_state(io, &t);
	assert_int_equal(state_result(io, NULL), 0);
	assert_int_equal(io->len, 2 * STATE_HEAD_BYTES + 7 + 14);
}

static int restore(const void *data, size_t len, struct thing *t, struct error *err)
{
	struct state_io io;

	state_restore(&io, data, len);
	thing_state(&io, t);
	return state_result(&io, err);
}

static void there_and_back(void **state)
{
	struct thing t = {0};
	struct state_io io;

	(void)state;
	save(&io);
	/* Little-endian, as drawn. */
	assert_memory_equal(io.bytes, "thing\0\0\0\0\0\0\0\0\0\0\0\2\0\0\0\7\0\0\0\1\3\2\7\6\5\4",
			    STATE_HEAD_BYTES + 7);
	assert_int_equal(restore(io.bytes, io.len, &t, NULL), 0);
	assert_int_equal(t.a, example.a);
	assert_int_equal(t.b, example.b);
	assert_int_equal(t.c, example.c);
	assert_int_equal(t.d, example.d);
	assert_true(t.e);
	assert_memory_equal(t.f, example.f, sizeof(t.f));
	state_free(&io);
	state_free(&io);
}

static void every_cut_is_refused(void **state)
{
	struct state_io io;

	(void)state;
	save(&io);
	for (size_t len = 0; len < io.len; len++) {
		uint8_t *copy = malloc(len ?: 1); /* so that ASan sees a byte too many */
		struct error err = {0};
		struct thing t;

		memcpy(copy, io.bytes, len);
		assert_int_equal(restore(copy, len, &t, &err), -EINVAL);
		assert_true(strlen(err.what) > 0);
		free(copy);
	}
	state_free(&io);
}

static void refused(size_t at, uint8_t v, const char *what)
{
	struct error err = {0};
	struct state_io io;
	struct thing t;

	save(&io);
	io.bytes[at] = v;
	assert_int_equal(restore(io.bytes, io.len, &t, &err), -EINVAL);
	assert_string_equal(err.what, what);
	state_free(&io);
}

static void names_what_is_wrong(void **state)
{
	const size_t second = STATE_HEAD_BYTES + 7;

	(void)state;
	refused(0, 'T', "thing: is missing, or another section is in its place");
	refused(5, 1, "thing: is missing, or another section is in its place");
	refused(16, 3, "thing.version: is not known");
	refused(16, 0, "thing.version: is not known");
	refused(18, 1, "thing.head: can't have this value");
	refused(20, 6, "thing.c: is cut off");
	refused(20, 8, "thing.length: is more than its fields have");
	refused(23, 0x80, "thing.length: is more than there is");
	refused(second + STATE_HEAD_BYTES + 8, 2, "sixteen letters!.e: is neither 0 nor 1");
}

static void a_check_stops_the_rest(void **state)
{
	struct thing t = {.d = 5};
	struct error err = {0};
	struct state_io io;

	(void)state;
	save(&io);
	memcpy(io.bytes + STATE_HEAD_BYTES + 3, "\7\0\0\0", 4);
	assert_int_equal(restore(io.bytes, io.len, &t, &err), -EINVAL);
	assert_string_equal(err.what, "thing.c: can't have this value");
	assert_int_equal(t.d, 5);
	state_free(&io);
}

static void too_much_is_refused(void **state)
{
	uint8_t longer[200] = {0};
	struct error err = {0};
	struct state_io io;
	struct thing t;

	(void)state;
	save(&io);
	memcpy(longer, io.bytes, io.len);
	assert_int_equal(restore(longer, io.len + 1, &t, &err), -EINVAL);
	assert_string_equal(err.what, "state: has more than this machine does");
	state_free(&io);
}

static void an_older_version_is_told(void **state)
{
	struct state_io io, in;
	uint8_t v = 9;

	(void)state;
	state_save(&io);
	assert_int_equal(state_begin(&io, "x", 3), 3);
	state_u8(&io, "v", &v);
	state_end(&io);
	state_restore(&in, io.bytes, io.len);
	assert_int_equal(state_begin(&in, "x", 4), 3);
	state_u8(&in, "v", &v);
	state_end(&in);
	assert_int_equal(state_result(&in, NULL), 0);
	state_free(&io);
}

/* A vCPU's state: large, in many pieces. */
static void large_ones_fit(void **state)
{
	uint8_t *big = calloc(1, 100000);
	struct state_io io, in;

	(void)state;
	assert_non_null(big);
	state_save(&io);
	for (unsigned i = 0; i < 10; i++) {
		big[99999] = (uint8_t)i;
		assert_int_equal(state_begin(&io, "big", 1), 1);
		state_bytes(&io, "big", big, 100000);
		state_end(&io);
	}
	assert_int_equal(state_result(&io, NULL), 0);
	state_restore(&in, io.bytes, io.len);
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(state_begin(&in, "big", 1), 1);
		state_bytes(&in, "big", big, 100000);
		state_end(&in);
		assert_int_equal(big[99999], i);
	}
	assert_int_equal(state_result(&in, NULL), 0);
	state_free(&io);
	free(big);
}

/* Whose state it is comes first; the first failure is kept. */
static void says_whose_it_is(void **state)
{
	struct error err = {0};
	struct state_io io;

	(void)state;
	state_restore(&io, NULL, 0);
	io.where = "vcpu.3";
	assert_int_equal(state_begin(&io, "regs", 1), 0);
	state_end(&io);
	state_refuse(&io, "", "too late");
	assert_int_equal(state_result(&io, &err), -EINVAL);
	assert_string_equal(err.what, "vcpu.3: regs: is cut off");
	assert_int_equal(err.kind, ERROR_USAGE);

	state_restore(&io, NULL, 0);
	io.where = "vm";
	state_fail(&io, -EIO, "reading %u", 5u);
	err = (struct error){0};
	assert_int_equal(state_result(&io, &err), -EIO);
	assert_string_equal(err.what, "vm: reading 5: Input/output error");
	assert_int_equal(err.kind, ERROR_HOST);
}

/* What fails while it is saved is no usage error, and ends it. */
static void a_host_may_fail(void **state)
{
	struct error err = {0};
	struct state_io io;
	uint8_t v = 1;

	(void)state;
	state_save(&io);
	assert_int_equal(state_begin(&io, "regs", 1), 1);
	state_u8(&io, "v", &v);
	state_fail(&io, -EBADF, "reading it");
	state_end(&io);
	assert_int_equal(state_begin(&io, "more", 1), 0);
	state_end(&io);
	assert_int_equal(state_result(&io, &err), -EBADF);
	assert_string_equal(err.what, "regs: reading it: Bad file descriptor");
	state_free(&io);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_and_back),      cmocka_unit_test(every_cut_is_refused),
		cmocka_unit_test(names_what_is_wrong), cmocka_unit_test(a_check_stops_the_rest),
		cmocka_unit_test(too_much_is_refused), cmocka_unit_test(an_older_version_is_told),
		cmocka_unit_test(large_ones_fit),      cmocka_unit_test(says_whose_it_is),
		cmocka_unit_test(a_host_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
