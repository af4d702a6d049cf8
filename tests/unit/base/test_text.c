/* Foreign text as one line that controls nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/text.h"
#include "base/util.h"

static void what_controls_is_gone(void **state UNUSED)
{
	static const struct {
		const char *text, *line;
	} all[] = {
		{"", ""},
		{"plain (text) ~", "plain (text) ~"},
		{"a\nb\tc\x1b[2Jd\x7f", "a?b?c?[2Jd?"},
		{"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xa7",
		 "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xa7"},
		/* U+009B, which is ESC [ to some, and the byte that it was. */
		{"\xc2\x9b"
		 "2J",
		 "??2J"},
		{"\x9b"
		 "2J",
		 "?2J"},
		{"\xc2\xa0", "\xc2\xa0"},
		/* Overrides of direction. */
		{"\xe2\x80\xae"
		 "cba",
		 "???cba"},
		{"\xe2\x81\xa6"
		 "cba",
		 "???cba"},
		{"\xe2\x80\x94", "\xe2\x80\x94"},
		/* Cut short, overlong, and no character at all. */
		{"a\xe2\x82", "a??"},
		{"\xc0\x9b"
		 "b",
		 "??b"},
		{"\xff\xfe", "??"},
		{"\xf0\x9f\n", "???"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		CLEANUP_FREE char *text = strdup(all[i].text);

		text_one_line(text);
		assert_string_equal(text, all[i].line);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(what_controls_is_gone)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
