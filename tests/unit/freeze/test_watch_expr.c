/* What a person types to watch, and the conditions on values. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "freeze/watch_expr.h"

#define ADDRESS UINT64_C(0xffff888001234560)

/* ---- the grammar ----------------------------------------------------------------------- */

struct good {
	const char *text, *place; /* NULL: ADDRESS */
	unsigned bytes;
	enum watch_op op;
	uint64_t value;
	bool is_signed;
};

static void expect_read(const struct good *g)
{
	struct watch_expr e = {0};
	struct error err = {0};

	if (watch_expr_parse(g->text, &e, &err) < 0)
		fail_msg("%s: %s", g->text, err.what);
	assert_string_equal(e.text, g->text);
	if (g->place)
		assert_string_equal(e.place, g->place);
	else
		assert_null(e.place);
	assert_int_equal(e.gva, g->place ? 0 : ADDRESS);
	assert_int_equal(e.bytes, g->bytes);
	assert_int_equal(e.test.op, g->op);
	assert_int_equal(e.test.value, g->value);
	assert_int_equal(e.test.is_signed, g->is_signed);
	watch_expr_done(&e);
	assert_null(e.text);
	watch_expr_done(&e);
}

static void each_operator_is_read(void **state UNUSED)
{
	static const struct good good[] = {
		{"jiffies", "jiffies", 0, WATCH_ANY, 0, false},
		{"jiffies==7", "jiffies", 0, WATCH_EQ, 7, false},
		{"jiffies!=7", "jiffies", 0, WATCH_NE, 7, false},
		{"jiffies<7", "jiffies", 0, WATCH_LT, 7, false},
		{"jiffies<=7", "jiffies", 0, WATCH_LE, 7, false},
		{"jiffies>7", "jiffies", 0, WATCH_GT, 7, false},
		{"jiffies>=7", "jiffies", 0, WATCH_GE, 7, false},
		{"jiffies&7", "jiffies", 0, WATCH_AND, 7, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		expect_read(&good[i]);
}

static void an_arrow_is_no_operator(void **state UNUSED)
{
	static const struct good good[] = {
		{"a->b", "a->b", 0, WATCH_ANY, 0, false},
		{"a->b>5", "a->b", 0, WATCH_GT, 5, false},
		{"a->b>=5", "a->b", 0, WATCH_GE, 5, false},
		{"a->b->c[3].d:2>5", "a->b->c[3].d", 2, WATCH_GT, 5, false},
		{"a>5", "a", 0, WATCH_GT, 5, false},
		{"a>-5", "a", 0, WATCH_GT, (uint64_t)-5, true},
		{"a->b>-5", "a->b", 0, WATCH_GT, (uint64_t)-5, true},
		{"a[1]>2", "a[1]", 0, WATCH_GT, 2, false},
		{"foo.isra.0", "foo.isra.0", 0, WATCH_ANY, 0, false},
		{"$x_9", "$x_9", 0, WATCH_ANY, 0, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		expect_read(&good[i]);
}

static void blanks_sizes_and_numbers(void **state UNUSED)
{
	static const struct good good[] = {
		{"a == 5", "a", 0, WATCH_EQ, 5, false},
		{"a:4 \t>=\t 0x10 ", "a", 4, WATCH_GE, 16, false},
		{"a ", "a", 0, WATCH_ANY, 0, false},
		{"a:1", "a", 1, WATCH_ANY, 0, false},
		{"a:2", "a", 2, WATCH_ANY, 0, false},
		{"a:8&0x3ff", "a", 8, WATCH_AND, 0x3ff, false},
		{"a==0xffffffffffffffff", "a", 0, WATCH_EQ, UINT64_MAX, false},
		{"a==18446744073709551615", "a", 0, WATCH_EQ, UINT64_MAX, false},
		{"a==-1", "a", 0, WATCH_EQ, UINT64_MAX, true},
		{"a<-0x10", "a", 0, WATCH_LT, (uint64_t)-16, true},
		{"a==-9223372036854775807", "a", 0, WATCH_EQ, (uint64_t)INT64_MIN + 1, true},
		{"a==-9223372036854775808", "a", 0, WATCH_EQ, (uint64_t)INT64_MIN, true},
		{"0xffff888001234560:8", NULL, 8, WATCH_ANY, 0, false},
		{"0xFFFF888001234560:4!=0", NULL, 4, WATCH_NE, 0, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		expect_read(&good[i]);
}

static void each_refusal_says_why(void **state UNUSED)
{
	static const char accepted[] = "is accepted, with one of == != < <= > >= & as OP";
	static const struct {
		const char *text, *why;
	} bad[] = {
		{"", accepted},
		{" a", accepted},
		{"==5", accepted},
		{"5", accepted},
		{"5a==1", accepted},
		{"0X10:4", accepted},
		{"a=5", accepted},
		{"a=>5", accepted},
		{"a~5", accepted},
		{"a==", accepted},
		{"a==b", accepted},
		{"a==-", accepted},
		{"a==--1", accepted},
		{"a==+1", accepted},
		{"a==- 1", accepted},
		{"a==5x", accepted},
		{"a==0x", accepted},
		{"a==09", accepted},
		{"a==5 6", accepted},
		{"a==5==6", accepted},
		{"a=== 5", accepted},
		{"a b", accepted},
		{"a :4", accepted},
		{"a:4b", accepted},
		{"a-b", accepted},
		{"a==18446744073709551616", accepted},
		{"a==-9223372036854775809", accepted},
		{"a:", "1, 2, 4 or 8 bytes"},
		{"a:0", "1, 2, 4 or 8 bytes"},
		{"a:3", "1, 2, 4 or 8 bytes"},
		{"a:16", "1, 2, 4 or 8 bytes"},
		{"a:-4", "1, 2, 4 or 8 bytes"},
		{"a: 4", "1, 2, 4 or 8 bytes"},
		{"a:99999999999999999999999", "1, 2, 4 or 8 bytes"},
		{"0x:4", "no address"},
		{"0xffff88800123456g:4", "no address"},
		{"0xffff888001234560->x:4", "no address"},
		{"0xfffffffff888001234560:4", "no address"},
		{"0xffff888001234560", "needs its size"},
		{"0xffff888001234562:4", "not aligned to its 4 bytes"},
		{"0xffff888001234564:8", "not aligned to its 8 bytes"},
		{"0x7fff12345678:4", "user memory"},
		{"0x0:4", "user memory"},
		{"a:1==256", "1 bytes never passes"},
		{"a:2>0xffff", "2 bytes never passes"},
		{"a:4>=0x100000000", "4 bytes never passes"},
		{"a:8<0", "8 bytes never passes"},
		{"a:1&0x100", "1 bytes never passes"},
		{"a:1==-129", "1 bytes never passes"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct watch_expr e = {.bytes = 77};
		struct error err = {0};

		if (watch_expr_parse(bad[i].text, &e, &err) != -EINVAL)
			fail_msg("\"%s\" was taken", bad[i].text);
		assert_int_equal(err.kind, ERROR_USAGE);
		assert_memory_equal(err.what, bad[i].text, strlen(bad[i].text));
		if (!strstr(err.what, bad[i].why))
			fail_msg("%s", err.what);
		/* Not touched on failure. */
		assert_int_equal(e.bytes, 77);
		assert_null(e.text);
	}
}

/* ---- conditions ------------------------------------------------------------------------ */

#define MINUS(n) ((uint64_t) - (int64_t)(n))

static void a_condition_that_no_value_passes_is_known(void **state UNUSED)
{
	static const struct {
		struct watch_test test;
		unsigned bytes;
		bool can;
	} cases[] = {
		{{WATCH_ANY, 0, false}, 1, true},
		{{WATCH_EQ, 255, false}, 1, true},
		{{WATCH_EQ, 256, false}, 1, false},
		{{WATCH_NE, 256, false}, 1, true},
		{{WATCH_GE, 65535, false}, 2, true},
		{{WATCH_GE, 65536, false}, 2, false},
		{{WATCH_GT, 65534, false}, 2, true},
		{{WATCH_GT, 65535, false}, 2, false},
		{{WATCH_GT, UINT64_MAX, false}, 8, false},
		{{WATCH_GE, UINT64_MAX, false}, 8, true},
		{{WATCH_LT, 0, false}, 4, false},
		{{WATCH_LT, 1, false}, 4, true},
		{{WATCH_LE, 0, false}, 4, true},
		{{WATCH_AND, 0, false}, 8, false},
		{{WATCH_AND, 0x180, false}, 1, true},
		{{WATCH_AND, 0x100, false}, 1, false},
		{{WATCH_EQ, MINUS(128), true}, 1, true},
		{{WATCH_EQ, MINUS(129), true}, 1, false},
		{{WATCH_NE, MINUS(129), true}, 1, true},
		{{WATCH_LT, MINUS(128), true}, 1, false},
		{{WATCH_LT, MINUS(127), true}, 1, true},
		{{WATCH_LE, MINUS(128), true}, 1, true},
		{{WATCH_LE, MINUS(129), true}, 1, false},
		{{WATCH_GT, MINUS(129), true}, 1, true},
		{{WATCH_GE, MINUS(129), true}, 1, true},
		{{WATCH_EQ, MINUS(32769), true}, 2, false},
		{{WATCH_EQ, MINUS(32769), true}, 4, true},
		{{WATCH_LT, (uint64_t)INT64_MIN, true}, 8, false},
		{{WATCH_LE, (uint64_t)INT64_MIN, true}, 8, true},
		{{WATCH_AND, MINUS(1), true}, 1, true},
		{{WATCH_AND, MINUS(256), true}, 1, false},
		{{WATCH_AND, MINUS(256), true}, 2, true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct watch_expr e = {.test = cases[i].test};

		if (watch_expr_can_pass(&e, cases[i].bytes) != cases[i].can)
			fail_msg("case %zu", i);
	}
}

static void values_are_compared(void **state UNUSED)
{
	static const struct {
		struct watch_test test;
		uint64_t value;
		unsigned bytes;
		bool passes;
	} cases[] = {
		{{WATCH_ANY, 0, false}, 9, 1, true},
		{{WATCH_EQ, 9, false}, 9, 4, true},
		{{WATCH_EQ, 9, false}, 8, 4, false},
		{{WATCH_NE, 9, false}, 8, 4, true},
		{{WATCH_NE, 9, false}, 9, 4, false},
		{{WATCH_LT, 9, false}, 8, 4, true},
		{{WATCH_LT, 9, false}, 9, 4, false},
		{{WATCH_LE, 9, false}, 9, 4, true},
		{{WATCH_LE, 9, false}, 10, 4, false},
		{{WATCH_GT, 9, false}, 10, 4, true},
		{{WATCH_GT, 9, false}, 9, 4, false},
		{{WATCH_GE, 9, false}, 9, 4, true},
		{{WATCH_GE, 9, false}, 8, 4, false},
		{{WATCH_AND, 6, false}, 12, 4, true},
		{{WATCH_AND, 6, false}, 9, 4, false},
		/* Unsigned: a set top bit is large. */
		{{WATCH_GE, 1024, false}, 0xffffffff, 4, true},
		{{WATCH_LT, 1024, false}, 0xffffffff, 4, false},
		{{WATCH_GT, INT64_MAX, false}, UINT64_MAX, 8, true},
		/* Signed: it is the sign, in each width. */
		{{WATCH_EQ, MINUS(1), true}, 0xff, 1, true},
		{{WATCH_EQ, MINUS(1), true}, 0xff, 2, false},
		{{WATCH_EQ, MINUS(1), true}, 0xffff, 2, true},
		{{WATCH_EQ, MINUS(1), true}, 0xffffffff, 4, true},
		{{WATCH_EQ, MINUS(1), true}, 0xffffffff, 8, false},
		{{WATCH_EQ, MINUS(1), true}, UINT64_MAX, 8, true},
		{{WATCH_LT, MINUS(1), true}, 0x80, 1, true},
		{{WATCH_LT, MINUS(1), true}, 0x7f, 1, false},
		{{WATCH_GT, MINUS(1), true}, 0, 1, true},
		{{WATCH_GT, MINUS(5), true}, 0xfffc, 2, true},
		{{WATCH_GE, MINUS(5), true}, 0xfffa, 2, false},
		{{WATCH_LE, (uint64_t)INT64_MIN, true}, UINT64_C(1) << 63, 8, true},
		{{WATCH_AND, MINUS(128), true}, 0x80, 1, true},
		{{WATCH_AND, MINUS(128), true}, 0x7f, 1, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (watch_test_passes(&cases[i].test, cases[i].value, cases[i].bytes) !=
		    cases[i].passes)
			fail_msg("case %zu", i);
}

/* Each value of one byte, by each operator: one passes if and only if can_pass says so. */
static void what_can_pass_does(void **state UNUSED)
{
	for (int op = WATCH_ANY; op <= WATCH_AND; op++) {
		for (int value = -300; value <= 300; value++) {
			struct watch_expr e = {.test = {.op = (enum watch_op)op,
							.value = (uint64_t)(int64_t)value,
							.is_signed = value < 0}};
			bool any = false;

			for (unsigned v = 0; v < 256; v++)
				any = any || watch_test_passes(&e.test, v, 1);
			if (any != watch_expr_can_pass(&e, 1))
				fail_msg("op %d, value %d", op, value);
		}
	}
}

static void bytes_are_read_in_their_width(void **state UNUSED)
{
	static const uint64_t word = UINT64_C(0x8877665544332211);
	const uint8_t *at = (const uint8_t *)&word;

	assert_int_equal(watch_load(at, 1), 0x11);
	assert_int_equal(watch_load(at + 3, 1), 0x44);
	assert_int_equal(watch_load(at + 2, 2), 0x4433);
	assert_int_equal(watch_load(at + 4, 4), 0x88776655);
	assert_int_equal(watch_load(at, 8), word);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_operator_is_read),
		cmocka_unit_test(an_arrow_is_no_operator),
		cmocka_unit_test(blanks_sizes_and_numbers),
		cmocka_unit_test(each_refusal_says_why),
		cmocka_unit_test(a_condition_that_no_value_passes_is_known),
		cmocka_unit_test(values_are_compared),
		cmocka_unit_test(what_can_pass_does),
		cmocka_unit_test(bytes_are_read_in_their_width),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
