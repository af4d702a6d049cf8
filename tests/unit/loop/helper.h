/* What the tests of the loop share: a loop for each test, and operations that note their end. */
#ifndef TESTS_UNIT_LOOP_HELPER_H
#define TESTS_UNIT_LOOP_HELPER_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/util.h"
#include "loop/loop.h"

#define MS 1000000ull
#define S  1000000000ull

/* An operation that notes how it ended. */
struct noted {
	struct loop_op op;
	unsigned ends;
	int res;
};

static inline void note_end(struct loop_op *op, int res)
{
	struct noted *n = container_of(op, struct noted, op);

	n->ends++;
	n->res = res;
}

#define NOTED                                                                                      \
	{                                                                                          \
		.op = {.done = note_end }                                                          \
	}

/* Turns until *count has reached n, for 5 s at most. */
static inline void turn_until(struct loop *loop, const unsigned *count, unsigned n)
{
	uint64_t end_ns = now_ns() + 5 * S;

	while (*count < n && now_ns() < end_ns)
		assert_true(loop_turn(loop, 100 * MS) >= 0);
	assert_int_equal(*count, n);
}

static inline int setup_loop(void **state)
{
	struct error err = {0};
	struct loop *loop;

	if (loop_new(&loop, &err) < 0) {
		print_message("%s\n", err.what);
		return -1;
	}
	*state = loop;
	return 0;
}

static inline int free_loop(void **state)
{
	loop_free(*state);
	return 0;
}

#define LOOP_TEST(f) cmocka_unit_test_setup_teardown(f, setup_loop, free_loop)

#endif
