/* What stasis report reads of a folder that anybody may have written. The first byte says which:
 *
 *   0  the stacks of profile.speedscope.json
 *   1  a profile's windows, as report.json has them
 *   2  the lines of monitor.csv
 *   3  report.json, cut to what a page has room for, as the page's text
 *   4  the stacks again, as lines for FlameGraph and as pprof's file
 */
#include <ctype.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "fuzz.h"
#include "report/parts.h"
#include "vm/pprof.h"
#include "vm/profile_out.h"

#define TEXT_MAX MIB(64)

static int64_t integer(const json_t *object, const char *key)
{
	FUZZ_CHECK(json_is_integer(json_object_get(object, key)));
	return json_integer_value(json_object_get(object, key));
}

/* An array of n integers from least on. */
static void check_list(const json_t *list, size_t n, int64_t least)
{
	FUZZ_CHECK(json_is_array(list) && json_array_size(list) == n);
	for (size_t i = 0; i < n; i++) {
		FUZZ_CHECK(json_is_integer(json_array_get(list, i)));
		FUZZ_CHECK(json_integer_value(json_array_get(list, i)) >= least);
	}
}

/* The page's own text: it can't end the element that it stands in. */
static void check_text(const json_t *json)
{
	char *text = report_json_text(json);
	json_t *again;

	FUZZ_CHECK(text && strlen(text) < TEXT_MAX && !strpbrk(text, "<>&"));
	for (const char *p = text; *p; p++)
		FUZZ_CHECK(isascii(*p));
	again = json_loads(text, JSON_DECODE_ANY, NULL);
	FUZZ_CHECK(again);
	json_decref(again);
	free(text);
}

static json_t *parse(const struct fuzz_input *in)
{
	return json_loadb((const char *)in->data, in->left, 0, NULL);
}

/* ---- stacks ------------------------------------------------------------------------------ */

static void check_stacks(const json_t *part)
{
	const json_t *nodes = json_object_get(part, "nodes");
	size_t frames = json_array_size(json_object_get(part, "frames"));
	size_t n = json_array_size(nodes);
	int64_t total = integer(part, "total_ns"), roots = 0;

	FUZZ_CHECK(frames == json_array_size(json_object_get(part, "classes")));
	FUZZ_CHECK(n % 4 == 0 && n / 4 <= REPORT_NODES);
	check_list(nodes, n, -1);
	for (size_t i = 0; i < n; i += 4) {
		int64_t frame = json_integer_value(json_array_get(nodes, i));
		int64_t parent = json_integer_value(json_array_get(nodes, i + 1));
		int64_t all = json_integer_value(json_array_get(nodes, i + 2));
		int64_t self = json_integer_value(json_array_get(nodes, i + 3));

		FUZZ_CHECK(frame >= 0 && (size_t)frame < frames);
		FUZZ_CHECK(parent < (int64_t)(i / 4));
		FUZZ_CHECK(self >= 0 && self <= all && all <= total);
		roots += parent < 0 ? all : 0;
	}
	FUZZ_CHECK(roots <= total);
}

static void stacks(const json_t *document)
{
	const char *why = NULL;
	json_t *part = report_stacks(document, &why);

	FUZZ_CHECK(part || (why && *why));
	if (!part)
		return;
	check_stacks(part);
	check_text(part);
	json_decref(part);
}

static void stacks_as_files(json_t *document)
{
	int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	FUZZ_CHECK(f && fd >= 0);
	(void)!profile_folded(document, f);
	FUZZ_CHECK(fclose(f) == 0 && len < TEXT_MAX);
	(void)!pprof_write(document, fd);
	close(fd);
	free(text);
}

/* ---- over time --------------------------------------------------------------------------- */

/* Returns the number of its cells. */
static size_t check_grid(const json_t *part)
{
	int64_t columns = integer(part, "columns"), rows = integer(part, "rows");

	FUZZ_CHECK(columns > 0 && columns <= REPORT_COLUMNS && rows > 0 && rows <= REPORT_ROWS);
	FUZZ_CHECK(integer(part, "per_row") > 0 && integer(part, "column_ns") > 0);
	FUZZ_CHECK(integer(part, "begin_ns") >= 0);
	return (size_t)(columns * rows);
}

static void check_each(const json_t *lists, size_t n)
{
	const char *name;
	json_t *list;

	json_object_foreach((json_t *)(uintptr_t)lists, name, list) check_list(list, n, 0);
}

static void windows(const json_t *document)
{
	const char *why = NULL;
	json_t *part = report_windows(document, &why);
	size_t columns;

	FUZZ_CHECK(part || (why && *why));
	if (!part)
		return;
	columns = (size_t)integer(part, "columns");
	check_each(json_object_get(part, "cells"), check_grid(part));
	check_each(json_object_get(part, "classes"), columns);
	check_each(json_object_get(part, "counts"), columns);
	check_list(json_object_get(part, "user_us"), columns, 0);
	check_text(part);
	json_decref(part);
}

static void queues(const struct fuzz_input *in)
{
	char *csv = calloc(1, in->left + 1); /* with a NUL behind it, as a file is read */
	const char *why = NULL;
	json_t *part;
	size_t cells;

	FUZZ_CHECK(csv);
	memcpy(csv, in->data, in->left);
	part = report_queues(csv, in->left, &why);
	FUZZ_CHECK(part || (why && *why));
	if (part) {
		cells = check_grid(part);
		check_list(json_object_get(part, "mean_centi"), cells, -1);
		check_list(json_object_get(part, "max"), cells, -1);
		FUZZ_CHECK(integer(part, "looks") > 0 && integer(part, "cpus") <= REPORT_CPUS);
		check_text(part);
	}
	json_decref(part);
	free(csv);
}

static void whole(const json_t *document)
{
	uint64_t cut = 0;
	json_t *part = report_bounded(document, &cut);

	FUZZ_CHECK(part);
	/* What was bounded is within the bounds. */
	if (cut == 0)
		FUZZ_CHECK(json_equal(part, document));
	check_text(part);
	json_decref(part);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	unsigned which = fuzz_u8(&in) % 5;
	json_t *document = which == 2 ? NULL : parse(&in);

	if (which == 2)
		queues(&in);
	else if (document && which == 0)
		stacks(document);
	else if (document && which == 1)
		windows(document);
	else if (document && which == 3)
		whole(document);
	else if (document)
		stacks_as_files(document);
	json_decref(document);
	return 0;
}
