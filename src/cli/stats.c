/* stasis stats: what a running VM's exits cost so far. */
#include <stdio.h>

#include "base/util.h"
#include "cli/commands.h"
#include "cli/find_vm.h"
#include "cli/options.h"
#include "cli/stats_table.h"

struct request {
	bool json, help;
};

static const struct cli_option options[] = {
	OPTION_FLAG("help", 'h', struct request, help, "this"),
	OPTION_FLAG("json", 0, struct request, json, "as JSON, with whole distributions"),
};

static int ask(const char *name, json_t **ret_stats, struct error *err)
{
	struct qmp_client client;
	int r = find_vm_open(name, FIND_VM_LIMIT_NS, &client, err);

	if (r < 0)
		return r;
	r = qmp_client_execute(&client, "x-stasis-query-stats", NULL, ret_stats, err);
	qmp_client_close(&client);
	return r;
}

/* A line for each disk or network, of what is not 0. name: the field that says which. */
static void print_devices(const json_t *devices, const char *kind, const char *name)
{
	json_t *device, *value;
	const char *key;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)devices, i, device)
	{
		bool any = false;

		printf("%s %s:", kind, json_string_value(json_object_get(device, name)) ?: "user");
		json_object_foreach(device, key, value) if (json_integer_value(value) > 0)
		{
			printf("%s %s %lld", any ? "," : "", key,
			       (long long)json_integer_value(value));
			any = true;
		}
		printf("%s\n", any ? "" : " nothing so far");
	}
}

int command_stats(int argc, char **argv)
{
	struct request q = {0};
	struct error err = {0};
	const char *name;
	int r, status = 0;
	json_t *stats;

	r = options_parse_words(options, ARRAY_SIZE(options), argc, argv, &q, &name, 1, &err);
	if (r >= 0 && q.help) {
		printf("usage: stasis stats [--json] NAME\n\n"
		       "Times are since the VM's start. TIME: the share of all vCPUs' time that "
		       "these "
		       "exits took.\n\n");
		options_print(options, ARRAY_SIZE(options));
		return 0;
	}
	if (r >= 0 && r != 1)
		r = error_usage(&err, "stasis stats takes the name of one VM; stasis list shows "
				      "them");
	if (r >= 0)
		r = ask(name, &stats, &err);
	if (r < 0)
		return command_failed(&err);
	if (!q.json) {
		stats_table_print(stdout, stats, NULL, 0);
		print_devices(json_object_get(stats, "disks"), "disk", "id");
		print_devices(json_object_get(stats, "nets"), "net", "tap");
	} else if (json_dumpf(stats, stdout, JSON_INDENT(2)) < 0 || putchar('\n') == EOF)
		status = 125;
	json_decref(stats);
	return status;
}
