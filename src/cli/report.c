/* stasis report: one page of what a run left behind. */
#include "report/report.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/util.h"
#include "cli/commands.h"
#include "cli/options.h"

struct request {
	const char *to;
	bool help;
};

static int set_out(void *target, const char *value, struct error *err)
{
	if (!*value)
		return error_usage(err, "\"\": a file's name is accepted");
	((struct request *)target)->to = value;
	return 0;
}

static const struct cli_option options[] = {
	OPTION_FLAG("help", 'h', struct request, help, "this"),
	{"output", 'o', "FILE", set_out, "the page (default: DIR/report.html)"},
};

static int print_help(void)
{
	printf("usage: stasis report [OPTIONS] DIR|FILE\n\n"
	       "Makes one HTML file of what a run left behind, which needs nothing else to be\n"
	       "looked at: of DIR, which has report.json and, as far as they are there,\n"
	       "profile.speedscope.json and monitor.csv; or of FILE, a report alone.\n\n");
	options_print(options, ARRAY_SIZE(options));
	return 0;
}

int command_report(int argc, char **argv)
{
	struct request q = {0};
	struct error err = {0};
	char *page = NULL;
	const char *from;
	int r;

	r = options_parse_words(options, ARRAY_SIZE(options), argc, argv, &q, &from, 1, &err);
	if (r >= 0 && q.help)
		return print_help();
	if (r >= 0 && r != 1)
		r = error_usage(&err, "stasis report takes one folder that a run left behind, or "
				      "one report");
	if (r >= 0)
		r = report_write(from, q.to, &page, &err);
	if (r < 0)
		return command_failed(&err);
	printf("%s\n", page);
	free(page);
	return 0;
}
