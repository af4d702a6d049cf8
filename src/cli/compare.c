/* stasis compare: which of two runs is dearer, and how sure that is. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/text.h"
#include "base/util.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "vm/compare.h"
#include "vm/record.h"

/* Exit statuses; any other failure is 125. */
enum { SAME = 0, DIFFERS = 1, USAGE = 2 };

#define REPORT_MAX MIB(256)
#define LEAST_MAX  1000000.0

struct request {
	bool json, help;
	double least; /* a share */
};

static int set_least(void *target, const char *value, struct error *err)
{
	char *end = NULL;
	double percent = strtod(value, &end);

	if (end == value || *end || !(percent >= 0 && percent <= LEAST_MAX))
		return error_usage(err, "%s: a percentage such as 2 or 0.5 is accepted", value);
	((struct request *)target)->least = percent / 100;
	return 0;
}

static const struct cli_option options[] = {
	OPTION_FLAG("help", 'h', struct request, help, "this"),
	{"least", 0, "PERCENT", set_least, "a difference of less is none (default: 0)"},
	OPTION_FLAG("json", 0, struct request, json, "as JSON"),
};

/* ---- what is read ------------------------------------------------------------------------- */

static int load(const char *path, json_t **ret_report, struct compare_side *ret_side,
		struct error *err)
{
	CLEANUP_FREE char *file = NULL;
	CLEANUP_FREE char *text = NULL;
	struct stat st;
	size_t len;
	int r;

	if (stat(path, &st) < 0)
		return error_usage(err, "%s: %s", path, strerror(errno));
	file = S_ISDIR(st.st_mode) ? record_path(path, RECORD_REPORT) : strdup(path);
	if (!file)
		return error_set(err, -ENOMEM, "reading %s", path);
	r = file_read(file, REPORT_MAX, &text, &len);
	if (r == -ENOENT)
		return error_usage(err, "%s: a folder without %s: it is no record", path,
				   record_name(RECORD_REPORT));
	if (r < 0)
		return error_set(err, r, "reading %s", file);
	*ret_report = json_loadb(text, len, 0, NULL);
	return compare_load(*ret_report, path, ret_side, err);
}

/* ---- what is told ------------------------------------------------------------------------- */

/* One line, whatever the file says. */
static void put_text(const json_t *report, const char *key, const char *otherwise)
{
	CLEANUP_FREE char *text = strdup(json_string_value(json_object_get(report, key)) ?: "");

	if (text)
		text_one_line(text);
	printf("%.80s", text && text[0] ? text : otherwise);
}

static void print_side(const char *who, const char *path, const json_t *report,
		       const struct compare_side *side)
{
	printf("%s  %s: ", who, path);
	if (compare_profile(report) == report) {
		printf("a profile");
	} else {
		put_text(report, "outcome", "?");
		printf(", ");
		put_text(report, "topology", "?");
		printf(", ");
		put_text(json_object_get(report, "kernel"), "release", "an unknown kernel");
	}
	printf(", %zu windows of %.0f ms\n", side->windows, (double)side->length_ns / 1e6);
}

static void print_rows(const struct compare_row *rows, size_t n)
{
	printf("\n%-20s %20s %20s   (of windows, the median)\n", "", "A", "B");
	for (size_t i = 0; i < n; i++) {
		char value[2][32], median[2][32], verdict[128], cell[2][160];

		for (unsigned s = 0; s < 2; s++) {
			compare_value_text(&rows[i], rows[i].value[s], value[s], sizeof(value[s]));
			compare_value_text(&rows[i], rows[i].median[s], median[s],
					   sizeof(median[s]));
			snprintf(cell[s], sizeof(cell[s]), "%s (%s)", value[s], median[s]);
		}
		compare_verdict_text(&rows[i], verdict, sizeof(verdict));
		printf("%-20s %20s %20s   %s\n", rows[i].label, cell[0], cell[1], verdict);
	}
}

static json_t *side_json(const char *path, const struct compare_side *side)
{
	return json_pack("{s:o, s:I, s:I}", "path", json_string(path) ?: json_string("(not UTF-8)"),
			 "windows", (json_int_t)side->windows, "window_ns",
			 (json_int_t)side->length_ns);
}

static int print_json(const char *const path[2], const struct compare_side side[2],
		      const struct compare_row *rows, size_t n, bool differs, struct error *err)
{
	json_t *list = json_array(), *json;
	int r;

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, compare_row_json(&rows[i]));
	json = json_pack("{s:o, s:o, s:b, s:o}", "a", side_json(path[0], &side[0]), "b",
			 side_json(path[1], &side[1]), "differs", (int)differs, "metrics", list);
	r = !json || json_dumpf(json, stdout, JSON_INDENT(2)) < 0 || putchar('\n') == EOF
		    ? error_set(err, -EIO, "writing to standard output")
		    : 0;
	json_decref(json);
	return r;
}

/* ---- the command --------------------------------------------------------------------------- */

static int compare(const char *const path[2], const struct request *q, bool *ret_differs,
		   struct error *err)
{
	struct compare_side side[2] = {{0}, {0}};
	struct compare_row rows[COMPARE_ROWS_MAX] = {{0}};
	json_t *report[2] = {NULL, NULL};
	size_t n = 0;
	int r = 0;

	for (unsigned s = 0; r == 0 && s < 2; s++)
		r = load(path[s], &report[s], &side[s], err);
	if (r == 0)
		r = compare_run(&side[0], &side[1], q->least, rows, &n, err);
	*ret_differs = false;
	for (size_t i = 0; i < n; i++)
		*ret_differs |= rows[i].verdict != COMPARE_SAME;
	if (r == 0 && q->json) {
		r = print_json(path, side, rows, n, *ret_differs, err);
	} else if (r == 0) {
		print_side("A", path[0], report[0], &side[0]);
		print_side("B", path[1], report[1], &side[1]);
		print_rows(rows, n);
	}
	for (unsigned s = 0; s < 2; s++) {
		compare_side_done(&side[s]);
		json_decref(report[s]);
	}
	return r;
}

int command_compare(int argc, char **argv)
{
	struct request q = {.json = false};
	struct error err = {0};
	const char *path[2];
	bool differs = false;
	int r;

	r = options_parse_words(options, ARRAY_SIZE(options), argc, argv, &q, path, 2, &err);
	if (r >= 0 && q.help) {
		printf("usage: stasis compare [OPTIONS] A B\n\n"
		       "A, B: folders of stasis run --record, reports of runs with --profile, or "
		       "what\n"
		       "stasis profile --json printed.\n"
		       "Exit status: 0 no difference, 1 a difference, 2 a wrong word here.\n\n");
		options_print(options, ARRAY_SIZE(options));
		return 0;
	}
	if (r >= 0 && r != 2)
		r = error_usage(&err,
				"stasis compare takes two runs: folders of --record, reports, or "
				"profiles");
	if (r >= 0)
		r = compare(path, &q, &differs, &err);
	if (r == 0)
		return differs ? DIFFERS : SAME;
	log_failure(&err);
	return err.kind == ERROR_USAGE ? USAGE : error_exit_status(&err);
}
