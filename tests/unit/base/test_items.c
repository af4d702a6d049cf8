/* Items in a byte buffer: what was put comes out, and nothing else does. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/items.h"

static struct items_out make(void)
{
	struct items_out out = {0};

	items_put(&out, "first", 1, "abcd", 4);
	items_put(&out, "none", 2, NULL, 0);
	items_put(&out, "last", 65535, "xyz", 3);
	assert_int_equal(out.error, 0);
	return out;
}

static int read_all(const uint8_t *data, size_t len, struct error *err)
{
	struct items_in in = {.data = data, .len = len, .where = "test"};
	const uint8_t *view = NULL;
	char four[4];
	size_t n = 0;
	int r = items_get(&in, "first", 1, four, sizeof(four), err);

	if (r == 0)
		r = items_view(&in, "none", 2, &view, &n, err);
	if (r == 0)
		r = items_view(&in, "last", 65535, &view, &n, err);
	if (r == 0)
		r = items_end(&in, err);
	if (r == 0) {
		assert_memory_equal(four, "abcd", 4);
		assert_memory_equal(view, "xyz", 3);
	}
	return r;
}

static void what_is_put_comes_out(void **state)
{
	struct items_out out = make();

	(void)state;
	assert_int_equal(read_all(out.data, out.len, NULL), 0);
	items_out_done(&out);
	assert_null(out.data);
}

static void large_ones_fit(void **state)
{
	struct items_out out = {0};
	uint8_t *big = calloc(1, 100000);
	struct items_in in;
	const uint8_t *view;
	size_t len;

	(void)state;
	big[99999] = 7;
	for (unsigned i = 0; i < 10; i++)
		items_put(&out, "big", i, big, 100000);
	assert_int_equal(out.error, 0);
	in = (struct items_in){.data = out.data, .len = out.len, .where = "test"};
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(items_view(&in, "big", i, &view, &len, NULL), 0);
		assert_int_equal(len, 100000);
		assert_int_equal(view[99999], 7);
	}
	assert_int_equal(items_end(&in, NULL), 0);
	items_out_done(&out);
	free(big);
}

static void expect_refused(struct items_in in, const char *name, unsigned version, size_t len,
			   const char *word)
{
	struct error err = {0};
	char room[64];

	assert_int_equal(items_get(&in, name, version, room, len, &err), -EINVAL);
	assert_int_equal(err.kind, ERROR_USAGE);
	if (!strstr(err.what, word))
		fail_msg("%s: no %s", err.what, word);
}

static void refusals_name_the_item(void **state)
{
	struct items_out out = make();
	struct items_in in = {.data = out.data, .len = out.len, .where = "test"}, empty = {0};
	struct error err = {0};

	(void)state;
	empty.where = "test";
	expect_refused(in, "other", 1, 4, "test: other is missing; first is there");
	expect_refused(in, "first", 2, 4, "first has version 1, and 2 is known");
	expect_refused(in, "first", 1, 5, "first has 4 bytes, and 5 are known");
	expect_refused(empty, "first", 1, 4, "first is missing");
	assert_int_equal(items_end(&in, &err), -EINVAL);
	assert_non_null(strstr(err.what, "first is too much"));
	items_out_done(&out);
}

/* Each in a buffer of its own length, so that a sanitizer sees a step past its end. */
static void every_truncation_is_refused(void **state)
{
	struct items_out out = make();

	(void)state;
	for (size_t len = 0; len < out.len; len++) {
		uint8_t *copy = malloc(len + 1);
		struct error err = {0};

		memcpy(copy + 1, out.data, len);
		assert_int_equal(read_all(copy + 1, len, &err), -EINVAL);
		assert_non_null(strstr(err.what, "test: "));
		free(copy);
	}
	items_out_done(&out);
}

/* A flip in what is in an item is not seen here; one in its head is. */
static void flips_are_refused_or_harmless(void **state)
{
	struct items_out out = make();
	unsigned refused = 0;

	(void)state;
	for (size_t i = 0; i < 8 * out.len; i++) {
		uint8_t *copy = malloc(out.len);
		struct items_in in = {.data = copy, .len = out.len, .where = "test"};
		struct error err = {0};
		const uint8_t *view;
		size_t len;
		int r;

		memcpy(copy, out.data, out.len);
		copy[i / 8] ^= (uint8_t)(1u << i % 8);
		r = items_view(&in, "first", 1, &view, &len, &err);
		if (r == 0)
			r = items_view(&in, "none", 2, &view, &len, &err);
		if (r == 0)
			r = items_view(&in, "last", 65535, &view, &len, &err);
		if (r == 0)
			r = items_end(&in, &err);
		refused += r < 0;
		free(copy);
	}
	/* All but the seven bytes of contents. */
	assert_int_equal(refused, 8 * (out.len - 7));
	items_out_done(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_put_comes_out),
		cmocka_unit_test(large_ones_fit),
		cmocka_unit_test(refusals_name_the_item),
		cmocka_unit_test(every_truncation_is_refused),
		cmocka_unit_test(flips_are_refused_or_harmless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
