/* stasis locks: which VMs hold which host CPUs and caches. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/compiler.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "vm/perf/locks.h"

#define WATCH_EACH_NS 500000000

struct locks_request {
	bool json, watch, help;
};

static const struct cli_option options[] = {
	OPTION_FLAG("watch", 0, struct locks_request, watch,
		    "again whenever it changes, until interrupted"),
	OPTION_FLAG("json", 0, struct locks_request, json,
		    "as JSON; with --watch, one line for each change"),
	OPTION_FLAG("help", 'h', struct locks_request, help, "this"),
};

static const char *text_of(const json_t *row, const char *key)
{
	return json_string_value(json_object_get(row, key)) ?: "";
}

static int print(const json_t *list, const struct locks_request *q)
{
	const json_t *row;
	size_t i;

	if (q->json) {
		if (json_dumpf(list, stdout, q->watch ? JSON_COMPACT : JSON_INDENT(2)) < 0 ||
		    putchar('\n') == EOF)
			return -1;
		return fflush(stdout);
	}
	if (q->watch && isatty(STDOUT_FILENO))
		printf("\033[H\033[J");
	printf("%-20s %8s %6s %-10s %-16s %s\n", "NAME", "PID", "USER", "MODE", "CPUS",
	       "CACHES (first CPU)");
	json_array_foreach(list, i, row)
		printf("%-20s %8lld %6lld %-10s %-16s %s\n", text_of(row, "name"),
		       (long long)json_integer_value(json_object_get(row, "pid")),
		       (long long)json_integer_value(json_object_get(row, "user")),
		       text_of(row, "mode"), text_of(row, "cpus"), text_of(row, "caches"));
	return fflush(stdout);
}

/* Shows the locks; over and over with --watch. 0, or an exit status. */
static int show(const struct locks_request *q)
{
	const struct timespec pause = {.tv_nsec = WATCH_EACH_NS};
	json_t *shown = NULL;
	struct error err = {0};
	int status = 0;

	do {
		json_t *list;

		if (perf_locks_list(&list, &err) < 0) {
			status = command_failed(&err);
			break;
		}
		if (!shown || !json_equal(shown, list)) {
			json_decref(shown);
			shown = json_incref(list);
			status = print(list, q) < 0 ? 125 : 0;
		}
		json_decref(list);
		if (q->watch && status == 0)
			nanosleep(&pause, NULL);
	} while (q->watch && status == 0);
	json_decref(shown);
	return status;
}

int command_locks(int argc, char **argv)
{
	struct locks_request q = {0};
	struct error err = {0};
	bool dashes;
	int rest;

	if (options_parse(options, ARRAY_SIZE(options), argc, argv, &q, &rest, &dashes, &err) ==
		    0 &&
	    rest < argc)
		error_usage(&err, "%s: stasis locks takes no words", argv[rest]);
	if (err.code < 0)
		return command_failed(&err);
	if (q.help) {
		printf("usage: stasis locks [--watch] [--json]\n\n"
		       "Shows which VMs hold which host CPUs and caches.\n\n");
		options_print(options, ARRAY_SIZE(options));
		return 0;
	}
	return show(&q);
}
