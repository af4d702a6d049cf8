/* stasis doctor, list, kernel: what is here. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "base/util.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "vm/doctor.h"
#include "vm/kernels.h"
#include "vm/runtime.h"
#include "vm/tools.h"

struct listing {
	bool json, help;
};

static const struct cli_option options[] = {
	OPTION_FLAG("json", 0, struct listing, json, "as JSON"),
	OPTION_FLAG("help", 'h', struct listing, help, "this"),
};

/* Options of a listing, which takes no words; true if there is something to list. */
static bool parse_listing(int argc, char **argv, struct listing *l, int *ret_status)
{
	struct error err = {0};
	bool dashes;
	int rest;

	if (options_parse(options, ARRAY_SIZE(options), argc, argv, l, &rest, &dashes, &err) == 0 &&
	    rest < argc)
		error_usage(&err, "%s: stasis %s takes no words", argv[rest], argv[0]);
	if (err.code < 0) {
		*ret_status = command_failed(&err);
		return false;
	}
	if (l->help) {
		printf("usage: stasis %s [--json]\n\n", argv[0]);
		options_print(options, ARRAY_SIZE(options));
		*ret_status = 0;
		return false;
	}
	return true;
}

static int print_json(json_t *json)
{
	int r = json_dumpf(json, stdout, JSON_INDENT(2));

	json_decref(json);
	return r < 0 || putchar('\n') == EOF || fflush(stdout) == EOF ? 125 : 0;
}

static const char *text_of(const json_t *row, const char *key)
{
	return json_string_value(json_object_get(row, key)) ?: "";
}

int command_doctor(int argc, char **argv)
{
	struct listing l = {0};
	struct error err = {0};
	json_t *checks, *row;
	int status = 0;
	size_t i;

	if (!parse_listing(argc, argv, &l, &status))
		return status;
	if (doctor_examine(&checks, &err) < 0)
		return command_failed(&err);
	if (l.json)
		return print_json(checks);
	json_array_foreach(checks, i, row)
	{
		const char *mend = text_of(row, "mend");

		printf("%-4s %-14s %s\n", json_is_true(json_object_get(row, "ok")) ? "ok" : "no",
		       text_of(row, "name"), text_of(row, "found"));
		if (mend[0])
			printf("     %-14s mend: %s\n", "", mend);
	}
	json_decref(checks);
	return 0;
}

int command_list(int argc, char **argv)
{
	struct listing l = {0};
	struct error err = {0};
	json_t *list, *row;
	int status = 0;
	size_t i;

	if (!parse_listing(argc, argv, &l, &status))
		return status;
	if (runtime_list(&list, &err) < 0)
		return command_failed(&err);
	if (l.json)
		return print_json(list);
	printf("%-20s %8s %-16s %-8s %s\n", "NAME", "PID", "SHAPE", "STATE", "WHERE");
	json_array_foreach(list, i, row)
		printf("%-20s %8lld %-16s %-8s %s\n", text_of(row, "name"),
		       (long long)json_integer_value(json_object_get(row, "pid")),
		       text_of(row, "topology"), text_of(row, "state"),
		       json_is_true(json_object_get(row, "lab")) ? "lab" : "host");
	json_decref(list);
	return 0;
}

static int kernel_list_command(int argc, char **argv)
{
	struct listing l = {0};
	json_t *list, *row;
	int status = 0;
	size_t i;

	if (!parse_listing(argc, argv, &l, &status))
		return status;
	list = kernel_list();
	if (l.json)
		return print_json(list);
	json_array_foreach(list, i, row)
		printf("%-36s %-8s %-6s %-10s %s\n", text_of(row, "release"), text_of(row, "arch"),
		       text_of(row, "source"),
		       json_is_true(json_object_get(row, "sched_ext")) ? "sched_ext" : "-",
		       text_of(row, "path"));
	json_decref(list);
	return 0;
}

/* Fetching and building are scripts', because they are apt's and make's work. */
static int kernel_script(const char *name, char **argv)
{
	CLEANUP_FREE char *script = NULL;
	struct error err = {0};

	if (tools_script(name, &script, &err) < 0)
		return command_failed(&err);
	argv[0] = script;
	execv(script, argv);
	error_set(&err, -errno, "running %s", script);
	return command_failed(&err);
}

int command_kernel(int argc, char **argv)
{
	struct error err = {0};

	if (argc >= 2 && !strcmp(argv[1], "get"))
		return kernel_script("fetch-kernel", argv + 1);
	if (argc >= 2 && !strcmp(argv[1], "build"))
		return kernel_script("build-kernel", argv + 1);
	if (argc >= 2 && !strcmp(argv[1], "list"))
		return kernel_list_command(argc - 1, argv + 1);
	if (argc >= 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		printf("usage: stasis kernel get            fetch Debian's newest 6.12 cloud "
		       "kernel\n"
		       "       stasis kernel build          build one with sched_ext, for run "
		       "-k (--help)\n"
		       "       stasis kernel list [--json]  kernels that are here\n");
		return 0;
	}
	error_usage(&err, "stasis kernel %s: get, build or list is accepted",
		    argc >= 2 ? argv[1] : "");
	return command_failed(&err);
}
