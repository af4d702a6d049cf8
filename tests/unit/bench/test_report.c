/* What tables, plots and comparisons say of known samples. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "report.h"

/* Rounds of floor 100 and product 100 * ratio, give or take one. */
static void add_row(struct results *r, const struct results_spec *spec, double ratio)
{
	struct results_row *row;

	assert_int_equal(results_row_add(r, spec, &row, NULL), 0);
	for (int i = 0; i < 30; i++) {
		assert_int_equal(results_round_begin(row, 1, NULL), 0);
		assert_int_equal(results_add(row, RESULTS_FLOOR, 100 + i % 3 - 1, NULL), 0);
		assert_int_equal(results_add(row, RESULTS_PRODUCT, ratio * 100 + i % 2, NULL), 0);
	}
}

typedef void (*printer)(FILE *out, const struct report_row *rows, size_t n);

static char *text_of(const struct results *r, printer print)
{
	struct report_row *rows;
	char *text = NULL;
	size_t n, len;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	assert_int_equal(report_make(r, &rows, &n, NULL), 0);
	print(out, rows, n);
	fclose(out);
	free(rows);
	return text;
}

/* The line of text that begins with name, in the part after `after`. */
static void has_line(const char *text, const char *after, const char *name, const char *what)
{
	const char *at = strstr(text, after);
	size_t len;

	assert_non_null(at);
	at = strstr(at, name);
	assert_non_null(at);
	len = strcspn(at, "\n");
	assert_non_null(memmem(at, len, what, strlen(what)));
}

static void goals(void **state)
{
	const struct results_spec time = {"time.good", "", "ns", .goal = 1.1},
				  bad = {"time.bad", "", "ns", .goal = 1.1, .goal_p99 = 2},
				  rate = {"rate.good", "", "/s", .more_is_better = true,
					  .goal = 0.95},
				  slow = {"rate.bad", "", "/s", .more_is_better = true,
					  .goal = 0.95},
				  size = {"size", "", "B", .limit = 1000};
	struct results r = {0};
	char *text;

	(void)state;
	add_row(&r, &time, 1.02);
	add_row(&r, &bad, 1.5);
	add_row(&r, &rate, 1.0);
	add_row(&r, &slow, 0.8);
	add_row(&r, &size, 5);
	text = text_of(&r, report_print);
	has_line(text, "stasis / floor", "time.good", "at most 1.10: met");
	has_line(text, "stasis / floor", "time.bad", "at most 1.10: missed");
	has_line(text, "stasis / floor", "time.bad", "p99 at most 2.00: met");
	has_line(text, "stasis / floor", "rate.good", "at least 0.95: met");
	has_line(text, "stasis / floor", "rate.bad", "at least 0.95: missed");
	has_line(text, "stasis / floor", "size", "at most 1000 B: met");
	free(text);
	results_done(&r);
}

static void verdict(const struct results_spec *spec, double before, double now, const char *expect)
{
	struct results old = {0}, new = {0};
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	add_row(&old, spec, before);
	add_row(&new, spec, now);
	assert_int_equal(report_compare(out, &old, "old.json", &new, NULL), 0);
	fclose(out);
	has_line(text, "", spec->name, expect);
	free(text);
	results_done(&old);
	results_done(&new);
}

static void comparisons(void **state)
{
	const struct results_spec time = {"time", "", "ns"},
				  rate = {"rate", "", "/s", .more_is_better = true},
				  size = {"size", "", "B"};

	(void)state;
	verdict(&time, 1.5, 1.2, "faster");
	verdict(&time, 1.2, 1.5, "slower");
	verdict(&time, 1.2, 1.2, "no difference seen");
	verdict(&rate, 1.2, 1.5, "faster");
	verdict(&rate, 1.5, 1.2, "slower");
	verdict(&size, 1.5, 1.2, "smaller");
	verdict(&size, 1.2, 1.5, "larger");
}

/* Two rounds, of these passes. */
static void add_passes(struct results *r, const char *name, unsigned first, unsigned second)
{
	const struct results_spec time = {name, "", "ns"};
	struct results_row *row;

	assert_int_equal(results_row_add(r, &time, &row, NULL), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(results_round_begin(row, i ? second : first, NULL), 0);
		assert_int_equal(results_add(row, RESULTS_FLOOR, 1, NULL), 0);
		assert_int_equal(results_add(row, RESULTS_PRODUCT, 1, NULL), 0);
	}
}

static char *compared(const struct results *before, const struct results *now)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	assert_int_equal(report_compare(out, before, "old.json", now, NULL), 0);
	fclose(out);
	return text;
}

/* A verdict says more than it can where a side has one pass: so the side is named. */
static void one_pass_is_told(void **state)
{
	struct results alone = {0}, passes = {0}, both = {0};
	char *text[4];

	(void)state;
	add_passes(&alone, "a", 1, 1);
	add_passes(&passes, "a", 1, 2);
	add_passes(&both, "a", 3, 3);
	add_passes(&both, "b", 3, 4);
	add_passes(&passes, "b", 1, 2);
	text[0] = compared(&alone, &passes);
	assert_non_null(strstr(text[0], "\nold.json: of one pass; "));
	assert_null(strstr(text[0], "this run"));
	text[1] = compared(&passes, &alone);
	assert_non_null(strstr(text[1], "\nthis run: of one pass; "));
	assert_null(strstr(text[1], "old.json"));
	text[2] = compared(&passes, &both);
	assert_non_null(strstr(text[2], "\nthis run: 1 of these 2 rows are of one pass; "));
	text[3] = compared(&passes, &passes);
	assert_null(strstr(text[3], "of one pass"));
	for (size_t i = 0; i < 4; i++)
		free(text[i]);
	results_done(&alone);
	results_done(&passes);
	results_done(&both);
}

static void new_rows_are_named(void **state)
{
	const struct results_spec time = {"time", "", "ns"};
	struct results old = {0}, new = {0};
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	(void)state;
	assert_non_null(out);
	add_row(&new, &time, 1);
	assert_int_equal(report_compare(out, &old, "old.json", &new, NULL), 0);
	fclose(out);
	assert_non_null(strstr(text, "was not measured before"));
	free(text);
	results_done(&new);
}

static const json_t *plot_host;

static void plot_svg(FILE *out, const struct report_row *rows, size_t n)
{
	report_plot_svg(out, rows, n, plot_host);
}

/* A name from a file can't become markup, and what is off any scale stays on the paper. */
static void plots(void **state)
{
	const struct results_spec evil = {"<a&b>\"'\xef\xbf\xbe\xff", "", "ns", .goal = 1.1},
				  huge = {"huge", "", "ns"};
	struct results r = {0};
	char *text;

	(void)state;
	add_row(&r, &evil, 1.2);
	add_row(&r, &huge, 1e9);
	text = text_of(&r, plot_svg);
	assert_null(strstr(text, "<a&b>"));
	assert_non_null(strstr(text, ">&#60;a&#38;b&#62;&#34;&#39;?"
				     "?</text>"));
	assert_non_null(strstr(text, "</svg>"));
	free(text);
	text = text_of(&r, report_plot_text);
	has_line(text, "", "<a&b>", "o");
	free(text);
	results_done(&r);
}

/* What it is, and of which host; in text that can be no markup. */
static void plots_say_of_what(void **state)
{
	const struct results_spec time = {"time", "", "ns"};
	json_t *host = json_pack("{s:s, s:s, s:s, s:i}", "cpu_model", "A & B <C>", "kernel",
				 "6.12.1", "stasis", "9.8.7", "time", 86400 * 365);
	struct results r = {0};
	char *text;

	(void)state;
	assert_non_null(host);
	add_row(&r, &time, 1.2); /* 30 rounds, of one pass */
	plot_host = host;
	text = text_of(&r, plot_svg);
	assert_non_null(strstr(text, "<title>stasis against its floors</title>"));
	assert_non_null(strstr(text, ">A &#38; B &#60;C&#62;, Linux 6.12.1, 1971-01-01, "
				     "stasis 9.8.7, 1 pass × 30 rounds</text>"));
	free(text);
	for (size_t i = 0; i < 30; i++)
		r.row[0]->round[i].pass = 1 + (unsigned)i / 10;
	plot_host = NULL;
	text = text_of(&r, plot_svg);
	assert_non_null(strstr(text, ">3 passes × 10 rounds</text>"));
	free(text);
	r.row[0]->rounds = 29;
	text = text_of(&r, plot_svg);
	assert_non_null(strstr(text, ">29 rounds in 3 passes</text>"));
	free(text);
	add_row(&r, &time, 1);
	text = text_of(&r, plot_svg);
	assert_non_null(strstr(text, ">29 to 30 rounds of a row in 3 passes</text>"));
	free(text);
	r.row[0]->rounds = 30; /* what is freed */
	json_decref(host);
	results_done(&r);
}

/* The x of the first element of that class; less than 0: there is none. */
static double x_of(const char *text, const char *class)
{
	const char *at = strstr(text, class);

	while (at && at > text && memcmp(at, "<line x1=\"", 10) != 0)
		at--;
	return at ? strtod(at + 10, NULL) : -1;
}

/* A limit of the product alone is where the product would have it: here at four times the floor, as
 * the goal is of a row that has one of 4. */
static void plots_have_both_goals(void **state)
{
	const struct results_spec size = {"size", "", "B", .limit = 400},
				  ratio = {"ratio", "", "ns", .goal = 4}, none = {"none", "", "ns"};
	struct results r = {0}, other = {0};
	char *text;
	double x;

	(void)state;
	add_row(&r, &size, 2);
	text = text_of(&r, plot_svg);
	x = x_of(text, "class=\"limit\"");
	assert_true(x > 0);
	assert_true(x_of(text, "class=\"goal\"") < 0);
	assert_non_null(strstr(text, ">2.00 (200 B), at most 400 B: met</text>"));
	free(text);
	text = text_of(&r, report_plot_text);
	has_line(text, "", "size", ";");
	free(text);
	add_row(&other, &ratio, 2);
	add_row(&other, &none, 3.5); /* so that the axis is as long */
	text = text_of(&other, plot_svg);
	assert_true(x_of(text, "class=\"limit\"") < 0);
	assert_true(x_of(text, "class=\"goal\"") == x);
	assert_non_null(strstr(text, ", at most 4.00: met</text>"));
	assert_non_null(strstr(text, ", less is better</text>"));
	free(text);
	results_done(&r);
	results_done(&other);
}

/* ESC, a line of its own, C1 in UTF-8, and a direction: from a file, or a machine's row. */
static void terminals_are_not_driven(void **state)
{
	static const char bad[] = "a\033[2J\nb\xc2\x9b"
				  "c\xe2\x80\xae"
				  "d";
	const struct results_spec evil = {bad, bad, bad};
	printer printers[] = {report_print, report_plot_text};
	struct results r = {0}, before = {0};
	char *text[3] = {0};
	size_t len;
	FILE *out = open_memstream(&text[2], &len);

	(void)state;
	assert_non_null(out);
	add_row(&r, &evil, 1.2);
	for (size_t i = 0; i < 2; i++)
		text[i] = text_of(&r, printers[i]);
	assert_int_equal(report_compare(out, &before, "x", &r, NULL), 0);
	assert_int_equal(report_compare(out, &r, "x", &r, NULL), 0);
	fclose(out);
	for (size_t i = 0; i < 3; i++) {
		assert_non_null(strstr(text[i], "a?[2J?b??c???d"));
		assert_null(strstr(text[i], "\033"));
		assert_null(strstr(text[i], "\xc2\x9b"));
		assert_null(strstr(text[i], "\xe2\x80\xae"));
		assert_null(strstr(text[i], "\nb"));
		free(text[i]);
	}
	results_done(&r);
}

static void numbers(void **state)
{
	char text[32];

	(void)state;
	assert_string_equal(report_number(12, "ns", text, sizeof(text)), "12.0 ns");
	assert_string_equal(report_number(12345, "ns", text, sizeof(text)), "12.3 us");
	assert_string_equal(report_number(2.5e9, "ns", text, sizeof(text)), "2.50 s");
	assert_string_equal(report_number(1536 * 1024, "B", text, sizeof(text)), "1.50 MiB");
	assert_string_equal(report_number(123456, "/s", text, sizeof(text)), "123456 /s");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(goals),
		cmocka_unit_test(comparisons),
		cmocka_unit_test(one_pass_is_told),
		cmocka_unit_test(new_rows_are_named),
		cmocka_unit_test(plots),
		cmocka_unit_test(plots_say_of_what),
		cmocka_unit_test(plots_have_both_goals),
		cmocka_unit_test(terminals_are_not_driven),
		cmocka_unit_test(numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
