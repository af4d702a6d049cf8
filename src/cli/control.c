/* stasis status, freeze, thaw, dump, vmcore, snapshot: what a person tells a running VM by its
 * control socket. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/parse.h"
#include "base/text.h"
#include "base/util.h"
#include "cli/commands.h"
#include "cli/find_vm.h"
#include "cli/lab_snapshot.h"
#include "cli/options.h"
#include "vm/qmp/client.h"
#include "vm/result.h"
#include "vm/runtime.h"
#include "vm/snapshot_file.h"

/* A core of a large guest, on a slow disk. */
#define CORE_LIMIT_NS 86400000000000u
#define NS_PER_MS     1000000

struct request {
	bool json, help;
	struct snapshot_options snapshot;
};

static const struct cli_option options[] = {
	OPTION_FLAG("help", 'h', struct request, help, "this"),
	OPTION_FLAG("json", 0, struct request, json, "as JSON"),
};

static long long number_of(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

/* ---- the commands ---------------------------------------------------------------------------
 */

/* Reads "[--json] NAME", or "NAME [FILE]" where ret_file is one (NULL: not given); false: there is
 * nothing to do, and *ret_status is set. */
static bool parse(int argc, char **argv, size_t option_count, struct request *q,
		  const char **ret_name, const char **ret_file, int *ret_status)
{
	struct error err = {0};
	const char *word[2];
	int r;

	r = options_parse_words(options, option_count, argc, argv, q, word, 2, &err);
	if (r >= 0 && q->help) {
		printf("usage: stasis %s %sNAME%s\n\n", argv[0],
		       option_count > 1 ? "[--json] " : "", ret_file ? " [FILE]" : "");
		options_print(options, option_count);
		*ret_status = 0;
		return false;
	}
	if (r >= 0 && r != 1 && !(ret_file && r == 2))
		error_usage(&err, "stasis %s takes the name of one VM%s; stasis list shows them",
			    argv[0], ret_file ? ", and a file" : "");
	if (err.code < 0) {
		*ret_status = command_failed(&err);
		return false;
	}
	*ret_name = word[0];
	if (ret_file)
		*ret_file = word[1];
	return true;
}

/* Takes arguments, which may be NULL. limit_ns: of the command. */
static int ask_with(const char *name, const char *command, json_t *arguments, uint64_t limit_ns,
		    json_t **ret_return, struct error *err)
{
	struct qmp_client client;
	int r = find_vm_open(name, FIND_VM_LIMIT_NS, &client, err);

	if (r < 0) {
		json_decref(arguments);
		return r;
	}
	client.limit_ns = limit_ns;
	r = qmp_client_execute(&client, command, arguments, ret_return, err);
	qmp_client_close(&client);
	return r;
}

static int ask(const char *name, const char *command, json_t **ret_return, struct error *err)
{
	return ask_with(name, command, NULL, FIND_VM_LIMIT_NS, ret_return, err);
}

static int tell(int argc, char **argv, const char *command)
{
	struct request q = {0};
	struct error err = {0};
	const char *name;
	int status;

	if (!parse(argc, argv, 1, &q, &name, NULL, &status))
		return status;
	return ask(name, command, NULL, &err) < 0 ? command_failed(&err) : 0;
}

int command_freeze(int argc, char **argv)
{
	return tell(argc, argv, "stop");
}

int command_thaw(int argc, char **argv)
{
	return tell(argc, argv, "cont");
}

int command_dump(int argc, char **argv)
{
	struct request q = {0};
	struct error err = {0};
	const char *name, *file;
	json_t *dump;
	int code = 0;

	if (!parse(argc, argv, 1, &q, &name, &file, &code))
		return code;
	if (ask_with(name, "x-stasis-dump", NULL, CORE_LIMIT_NS, &dump, &err) < 0)
		return command_failed(&err);
	if (file && strcmp(file, "-"))
		return vm_json_write(dump, "dump", file, &err) < 0 ? command_failed(&err) : 0;
	if (json_dumpf(dump, stdout, JSON_INDENT(2)) < 0 || putchar('\n') == EOF)
		code = 125;
	json_decref(dump);
	return fflush(stdout) == EOF ? 125 : code;
}

/* The VM writes it, and has a working folder of its own. */
static char *absolute(const char *path)
{
	CLEANUP_FREE char *folder = path[0] == '/' ? NULL : getcwd(NULL, 0);

	if (path[0] == '/')
		return strdup(path);
	return folder ? text_format("%s/%s", folder, path) : NULL;
}

int command_vmcore(int argc, char **argv)
{
	CLEANUP_FREE char *usual = NULL, *path = NULL;
	struct request q = {0};
	struct error err = {0};
	const char *name, *file;
	json_t *arguments;
	int status, r;

	if (!parse(argc, argv, 1, &q, &name, &file, &status))
		return status;
	if (!file)
		file = usual = text_format("%s.vmcore", name);
	if (file && !strcmp(file, "-")) {
		error_usage(&err, "-: a core has holes, so it goes to a file");
		return command_failed(&err);
	}
	path = file ? absolute(file) : NULL;
	arguments = path ? json_pack("{s:s}", "path", path) : NULL;
	if (!arguments)
		error_usage(&err, "%s: not a path that can be told to a VM", file ?: name);
	r = arguments ? ask_with(name, "x-stasis-vmcore", arguments, CORE_LIMIT_NS, NULL, &err)
		      : -EINVAL;
	return r < 0 ? command_failed(&err) : 0;
}

static int set_diff_of(void *target, const char *value, struct error *err)
{
	struct request *q = target;
	char *path = absolute(value);

	if (!path)
		return error_set(err, -errno, "%s", value);
	free(q->snapshot.base);
	q->snapshot.base = path;
	return 0;
}

static const struct cli_option snapshot_options[] = {
	{"diff-of", 0, "DIR", set_diff_of,
	 "memory that changed since that snapshot alone; it has to stay where it is"},
	OPTION_FLAG("help", 'h', struct request, help, "this"),
	OPTION_FLAG("keep-running", 0, struct request, snapshot.keep_running,
		    "it goes on; else it ends once it is saved"),
	OPTION_FLAG("lz4", 0, struct request, snapshot.lz4,
		    "pack the memory: smaller, and unpacked by each restore"),
};

int snapshot_here(const char *name, const char *path, const struct snapshot_options *o,
		  struct error *err)
{
	json_t *arguments = json_pack("{s:s, s:b, s:b}", "path", path, "keep-running",
				      (int)o->keep_running, "lz4", (int)o->lz4);

	if (!arguments)
		return error_usage(err, "%s: not a path that can be told to a VM", path);
	if (o->base && json_object_set_new(arguments, "diff-of", json_string(o->base)) < 0) {
		json_decref(arguments);
		return error_usage(err, "%s: not a path that can be told to a VM", o->base);
	}
	return ask_with(name, "x-stasis-snapshot", arguments, CORE_LIMIT_NS, NULL, err);
}

/* What a restore would take away from the snapshot. */
static void tell_of_disks(const char *path)
{
	json_t *description = snapshot_description_load(path), *disk;
	size_t i;

	json_array_foreach(json_object_get(description, "disks"), i, disk)
	{
		CLEANUP_FREE char *file = strdup(find_vm_text(disk, "path"));

		if (!file || json_is_true(json_object_get(disk, "read_only")))
			continue;
		text_one_line(file);
		log_warn("disk %s is not in the snapshot: who writes to %s uses that up; keep a "
			 "copy, and "
			 "restore with --disk %s=COPY",
			 find_vm_text(disk, "id"), file, find_vm_text(disk, "id"));
	}
	json_decref(description);
}

int command_snapshot(int argc, char **argv)
{
	CLEANUP_FREE char *path = NULL;
	const char *words[2];
	struct request q = {0};
	struct error err = {0};
	int status = 0, r;

	r = options_parse_words(snapshot_options, ARRAY_SIZE(snapshot_options), argc, argv, &q,
				words, 2, &err);
	if (r >= 0 && q.help) {
		printf("usage: stasis snapshot NAME DIR [OPTIONS]\n\n");
		options_print(snapshot_options, ARRAY_SIZE(snapshot_options));
		return 0;
	}
	if (r >= 0 && r != 2)
		r = error_usage(&err, "stasis snapshot takes the name of one VM, and a folder");
	if (r >= 0) {
		path = absolute(words[1]);
		r = path ? lab_snapshot_save(words[0], path, &q.snapshot, &status, &err)
			 : error_set(&err, -errno, "%s", words[1]);
	}
	if (r == -ENOENT && path)
		r = snapshot_here(words[0], path, &q.snapshot, &err);
	free(q.snapshot.base);
	if (r == 0 && status == 0)
		tell_of_disks(path);
	return r < 0 ? command_failed(&err) : status;
}

static void print_status(const json_t *s)
{
	const json_t *exits = json_object_get(s, "exits");
	long long ms = number_of(s, "uptime_ns") / NS_PER_MS;
	char memory[32];

	format_size((uint64_t)number_of(s, "memory_bytes"), memory, sizeof(memory));
	printf("name    %s\n", find_vm_text(s, "name"));
	printf("state   %s\n", find_vm_text(s, "state"));
	printf("pid     %lld%s\n", number_of(s, "pid"),
	       json_is_true(json_object_get(s, "lab")) ? " (in the lab)" : "");
	printf("shape   %s: %lld vCPUs, %s\n", find_vm_text(s, "topology"), number_of(s, "vcpus"),
	       memory);
	printf("kernel  %s\n",
	       find_vm_text(s, "kernel")[0] ? find_vm_text(s, "kernel") : "unknown");
	printf("uptime  %lld.%03lld s\n", ms / 1000, ms % 1000);
	printf("exits   %lld\n", number_of(exits, "total"));
}

int command_status(int argc, char **argv)
{
	struct request q = {0};
	struct error err = {0};
	const char *name;
	json_t *status;
	int code = 0;

	if (!parse(argc, argv, 2, &q, &name, NULL, &code))
		return code;
	if (ask(name, "x-stasis-status", &status, &err) < 0)
		return command_failed(&err);
	if (!q.json)
		print_status(status);
	else if (json_dumpf(status, stdout, JSON_INDENT(2)) < 0 || putchar('\n') == EOF)
		code = 125;
	json_decref(status);
	return fflush(stdout) == EOF ? 125 : code;
}
