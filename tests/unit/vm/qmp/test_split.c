/* The cutter of JSON streams: values whole at any split, and in step again after garbage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "vm/qmp/split.h"

/* What comes out of in, step bytes at a time: values with ';' behind them, and "!G", "!L", "!D" for
 * garbage, too long, too deep. */
static void feed(struct qmp_split *s, const char *in, size_t len, size_t step, char *out,
		 size_t room)
{
	size_t at = 0;

	out[0] = 0;
	while (at < len) {
		size_t used, n = MIN(step, len - at), have = strlen(out);
		enum qmp_split_found found = qmp_split_feed(s, in + at, n, &used);

		assert_true(used <= n);
		assert_true(used == n || found != QMP_SPLIT_NOTHING);
		at += used;
		switch (found) {
		case QMP_SPLIT_VALUE:
			snprintf(out + have, room - have, "%.*s;", (int)s->len, s->text);
			break;
		case QMP_SPLIT_GARBAGE:
			snprintf(out + have, room - have, "!G");
			break;
		case QMP_SPLIT_TOO_LONG:
			snprintf(out + have, room - have, "!L");
			break;
		case QMP_SPLIT_TOO_DEEP:
			snprintf(out + have, room - have, "!D");
			break;
		default:
			assert_int_equal(found, QMP_SPLIT_NOTHING);
		}
	}
}

static const struct {
	const char *in, *out;
} cases[] = {
	{"{} ", "{};"},
	{"{}{}[]", "{};{};[];"},
	{" \r\n\t{\"a\":[1,2,{}]}\n", "{\"a\":[1,2,{}]};"},
	{"{\"a\":\"}\"}{}", "{\"a\":\"}\"};{};"},
	{"{\"a\":\"\\\"}\"}", "{\"a\":\"\\\"}\"};"},
	{"{\"a\":\"\\\\\"}", "{\"a\":\"\\\\\"};"},
	{"42 true \"x\"null\n", "42;true;\"x\";null;"},
	{"12{}", "12;{};"},
	/* Single quotes become double ones. */
	{"{'a':'b'}", "{\"a\":\"b\"};"},
	{"{'a\\'\"b':1}", "{\"a'\\\"b\":1};"},
	{"{\"a\\'\":'\\n'}", "{\"a'\":\"\\n\"};"},
	/* Garbage, and the way back: a line end, a closing brace, 0xff. */
	{"@#$%\n{}", "!G{};"},
	{"{@}{}", "!G!G{};"},
	{"{\"a\": @\n{}", "!G{};"},
	{"}{}", "!G{};"},
	{"]:,{}", "!G!G!G{};"},
	{"{]{}", "!G{};"},
	{"[{]}", "[{]};"},
	{"{\"a\n{}", "!G{};"},
	{"{\"a\": \"b\xff{}", "!G{};"},
	{"{{{{\xff{}", "!G{};"},
	{"\x01{}", "!G{};"},
	{"ABC {}", "!G{};"},
	{"\xc3\xa4{}", "!G{};"},
};

static void test_values_at_any_split(void **state UNUSED)
{
	char out[256];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		for (size_t step = 1; step <= strlen(cases[i].in); step++) {
			struct qmp_split s;

			qmp_split_init(&s, 1000);
			feed(&s, cases[i].in, strlen(cases[i].in), step, out, sizeof(out));
			assert_string_equal(out, cases[i].out);
			qmp_split_done(&s);
		}
	}
}

static void test_too_long_is_told_once(void **state UNUSED)
{
	char in[300], out[256];
	struct qmp_split s;

	memset(in, ' ', sizeof(in));
	in[0] = '{';
	in[200] = '}';
	memcpy(in + 201, "{\"a\":1}", 7);
	qmp_split_init(&s, 100);
	feed(&s, in, sizeof(in), 7, out, sizeof(out));
	assert_string_equal(out, "!L{\"a\":1};");
	assert_true(s.cap <= 100);
	/* The longest that fits, and one more. */
	memset(in, ' ', sizeof(in));
	in[0] = '[';
	in[99] = ']';
	feed(&s, in, 100, 100, out, sizeof(out));
	assert_int_equal(strlen(out), 101);
	in[99] = ' ';
	in[100] = ']';
	memcpy(in + 101, "{}", 2);
	feed(&s, in, 103, 100, out, sizeof(out));
	assert_string_equal(out, "!L{};");
	/* Within what is being dropped, 0xff begins anew too. */
	memset(in, '[', sizeof(in));
	in[200] = (char)0xff;
	in[201] = '{';
	in[202] = '}';
	feed(&s, in, 203, 11, out, sizeof(out));
	assert_string_equal(out, "!L!G{};");
	qmp_split_done(&s);
}

static void test_too_deep_is_told_once(void **state UNUSED)
{
	enum { N = 3 * QMP_SPLIT_DEPTH };
	char *in = malloc(2 * N + 2), out[64];
	struct qmp_split s;

	memset(in, '[', N);
	memset(in + N, ']', N);
	memcpy(in + 2 * N, "{}", 2);
	qmp_split_init(&s, 64u << 10);
	feed(&s, in, 2 * N + 2, 1000, out, sizeof(out));
	assert_string_equal(out, "!D{};");
	qmp_split_done(&s);
	free(in);
}

/* As deep as is allowed is a value. */
static void test_deepest(void **state UNUSED)
{
	static char in[2 * QMP_SPLIT_DEPTH], out[sizeof(in) + 2];
	struct qmp_split s;

	memset(in, '[', QMP_SPLIT_DEPTH);
	memset(in + QMP_SPLIT_DEPTH, ']', QMP_SPLIT_DEPTH);
	qmp_split_init(&s, 64u << 10);
	feed(&s, in, sizeof(in), sizeof(in), out, sizeof(out));
	assert_int_equal(strlen(out), sizeof(in) + 1);
	qmp_split_done(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values_at_any_split),
		cmocka_unit_test(test_too_long_is_told_once),
		cmocka_unit_test(test_too_deep_is_told_once),
		cmocka_unit_test(test_deepest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
