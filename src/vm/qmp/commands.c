/* The table of commands. What each takes and gives is QEMU's (qapi schema), where it has it. */
#include "vm/qmp/commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arch/arch.h"

/* ---- asking ---------------------------------------------------------------------------------
 */

static int give(struct qmp_call *call, json_t *json, struct error *err)
{
	call->ret = json;
	return json ? 0 : error_set(err, -ENOMEM, "answering");
}

json_t *qmp_version(void)
{
	int major = 0, minor = 0, micro = 0;

	/* Clients look for the numbers under this name, whoever answers. */
	if (sscanf(STASIS_VERSION, "%d.%d.%d", &major, &minor, &micro) < 3)
		micro = 0;
	return json_pack("{s:{s:i, s:i, s:i}, s:s}", "qemu", "major", major, "minor", minor,
			 "micro", micro, "package", "stasis " STASIS_VERSION);
}

static int query_version(struct qmp_call *call, struct error *err)
{
	return give(call, qmp_version(), err);
}

static int query_name(struct qmp_call *call, struct error *err)
{
	return give(call, json_pack("{s:s}", "name", call->ops->name(call->arg)), err);
}

static int query_kvm(struct qmp_call *call, struct error *err)
{
	return give(call, json_pack("{s:b, s:b}", "enabled", 1, "present", 1), err);
}

static int query_status(struct qmp_call *call, struct error *err)
{
	static const char *const names[] = {
		[QMP_PRELAUNCH] = "prelaunch", [QMP_RUNNING] = "running",
		[QMP_PAUSED] = "paused",       [QMP_PANICKED] = "guest-panicked",
		[QMP_SHUTDOWN] = "shutdown",
	};
	enum qmp_state state = call->ops->state(call->arg);

	return give(call,
		    json_pack("{s:b, s:b, s:s}", "running", state == QMP_RUNNING, "singlestep", 0,
			      "status", names[state]),
		    err);
}

static int query_cpus_fast(struct qmp_call *call, struct error *err)
{
	json_t *list = json_array();
	unsigned count = call->ops->cpu_count(call->arg);

	for (unsigned i = 0; i < count; i++) {
		struct qmp_cpu cpu = {0};
		char path[32];

		call->ops->cpu(call->arg, i, &cpu);
		snprintf(path, sizeof(path), "/machine/cpu[%u]", i);
		if (json_array_append_new(list,
					  json_pack("{s:i, s:s, s:i, s:s, s:{s:i, s:i, s:i, "
						    "s:i}}",
						    "cpu-index", (int)i, "qom-path", path,
						    "thread-id", cpu.thread_id, "target", arch_name,
						    "props", "node-id", (int)cpu.node, "socket-id",
						    (int)cpu.llc, "core-id", (int)cpu.core,
						    "thread-id", (int)cpu.thread)) < 0) {
			json_decref(list);
			list = NULL;
			break;
		}
	}
	return give(call, list, err);
}

static int stasis_status(struct qmp_call *call, struct error *err)
{
	return give(call, call->ops->status(call->arg), err);
}

static int not_built(const char *what, struct error *err)
{
	return error_usage(err, "%s is not built yet", what);
}

static int stasis_query_stats(struct qmp_call *call, struct error *err)
{
	return call->ops->stats ? give(call, call->ops->stats(call->arg), err)
				: not_built("x-stasis-query-stats", err);
}

static int query_commands(struct qmp_call *call, struct error *err);

/* ---- doing ----------------------------------------------------------------------------------
 */

static struct qmp_wait *ask_for_time(struct qmp_call *call, struct error *err)
{
	struct qmp_wait *wait = call->later(call);

	if (!wait)
		error_set(err, -ENOMEM, "starting the command");
	return wait;
}

static int stop(struct qmp_call *call, struct error *err)
{
	struct qmp_wait *wait;
	int r;

	if (!call->ops->freeze)
		return not_built("freezing a guest", err);
	wait = ask_for_time(call, err);
	r = wait ? call->ops->freeze(call->arg, wait, err) : -ENOMEM;
	return r < 0 ? r : QMP_LATER;
}

static int cont(struct qmp_call *call, struct error *err)
{
	return call->ops->thaw ? call->ops->thaw(call->arg, err)
			       : not_built("thawing a guest", err);
}

static int quit(struct qmp_call *call, struct error *err)
{
	return call->ops->quit ? call->ops->quit(call->arg, err) : not_built("quit", err);
}

static int system_reset(struct qmp_call *call, struct error *err)
{
	return call->ops->reset ? call->ops->reset(call->arg, err) : not_built("system_reset", err);
}

static int inject_nmi(struct qmp_call *call, struct error *err)
{
	return call->ops->nmi ? call->ops->nmi(call->arg, err) : not_built("inject-nmi", err);
}

static const char *string_of(const struct qmp_call *call, const char *name)
{
	return json_string_value(json_object_get(call->arguments, name));
}

static bool is_true(const struct qmp_call *call, const char *name)
{
	return json_is_true(json_object_get(call->arguments, name));
}

static void on_detached(struct qmp_wait *wait, const struct error *err UNUSED)
{
	/* The event DUMP_COMPLETED tells. */
	free(wait);
}

/* detach: the answer comes at once. */
static int write_core(struct qmp_call *call, const char *path, bool detach, struct error *err)
{
	struct qmp_wait *wait = detach ? calloc(1, sizeof(*wait)) : ask_for_time(call, err);
	int r;

	if (!wait)
		return error_set(err, -ENOMEM, "starting the command");
	if (detach)
		wait->done = on_detached;
	r = call->ops->dump(call->arg, path, wait, err);
	if (r < 0 && detach)
		free(wait);
	return r < 0 ? r : detach ? 0 : QMP_LATER;
}

static int dump_guest_memory(struct qmp_call *call, struct error *err)
{
	const char *protocol = string_of(call, "protocol"), *format = string_of(call, "format");
	static const char file[] = "file:";
	bool detach = is_true(call, "detach");

	if (!call->ops->dump)
		return not_built("dump-guest-memory", err);
	if (strncmp(protocol, file, sizeof(file) - 1) || protocol[sizeof(file) - 1] != '/')
		return error_usage(err, "protocol: \"file:\" and an absolute path is accepted");
	if (format && strcmp(format, "elf"))
		return error_usage(err, "format: \"elf\" is accepted");
	if (is_true(call, "paging"))
		return error_usage(err, "paging: only false is accepted");
	if (json_object_get(call->arguments, "begin") || json_object_get(call->arguments, "length"))
		return error_usage(err, "begin, length: a part of the memory can't be dumped");
	return write_core(call, protocol + sizeof(file) - 1, detach, err);
}

static int query_dump(struct qmp_call *call, struct error *err)
{
	struct qmp_dump dump;

	if (!call->ops->dump_state)
		return not_built("query-dump", err);
	call->ops->dump_state(call->arg, &dump);
	return give(call,
		    json_pack("{s:s, s:I, s:I}", "status", dump.status, "completed",
			      (json_int_t)dump.completed, "total", (json_int_t)dump.total),
		    err);
}

static int query_dump_capability(struct qmp_call *call, struct error *err)
{
	return give(call, json_pack("{s:[s]}", "formats", "elf"), err);
}

static int stasis_vmcore(struct qmp_call *call, struct error *err)
{
	const char *path = string_of(call, "path");

	if (!call->ops->dump)
		return not_built("x-stasis-vmcore", err);
	if (path[0] != '/')
		return error_usage(err, "path: an absolute path is accepted");
	return write_core(call, path, false, err);
}

static int stasis_dump(struct qmp_call *call, struct error *err)
{
	struct qmp_wait *wait;
	int r;

	if (!call->ops->report)
		return not_built("x-stasis-dump", err);
	wait = ask_for_time(call, err);
	r = wait ? call->ops->report(call->arg, wait, err) : -ENOMEM;
	return r < 0 ? r : QMP_LATER;
}

#define PROFILE_HZ_MAX 10000
#define PROFILE_NS_MAX INT64_C(3600000000000)

static int stasis_profile(struct qmp_call *call, struct error *err)
{
	json_int_t hz = json_integer_value(json_object_get(call->arguments, "hz")),
		   ns = json_integer_value(json_object_get(call->arguments, "duration-ns"));
	struct qmp_wait *wait;
	int r;

	if (!call->ops->profile)
		return not_built("x-stasis-profile", err);
	if (hz < 0 || hz > PROFILE_HZ_MAX)
		return error_usage(err, "hz: 1 to %d is accepted", PROFILE_HZ_MAX);
	if (ns <= 0 || ns > PROFILE_NS_MAX)
		return error_usage(err, "duration-ns: up to an hour is accepted");
	wait = ask_for_time(call, err);
	r = wait ? call->ops->profile(call->arg, (unsigned)hz, (uint64_t)ns, wait, err) : -ENOMEM;
	return r < 0 ? r : QMP_LATER;
}

static int stasis_snapshot(struct qmp_call *call, struct error *err)
{
	const struct qmp_snapshot request = {
		.path = string_of(call, "path"),
		.base = string_of(call, "diff-of"),
		.keep_running = is_true(call, "keep-running"),
		.lz4 = is_true(call, "lz4"),
	};
	struct qmp_wait *wait;
	int r;

	if (!call->ops->snapshot)
		return not_built("x-stasis-snapshot", err);
	if (request.path[0] != '/')
		return error_usage(err, "path: an absolute path is accepted");
	if (request.base && request.base[0] != '/')
		return error_usage(err, "diff-of: an absolute path is accepted");
	wait = ask_for_time(call, err);
	r = wait ? call->ops->snapshot(call->arg, &request, wait, err) : -ENOMEM;
	return r < 0 ? r : QMP_LATER;
}

/* ---- the table ------------------------------------------------------------------------------
 */

static const struct qmp_command commands[] = {
	{"query-commands", query_commands, {{0}}},
	{"query-cpus-fast", query_cpus_fast, {{0}}},
	{"query-dump", query_dump, {{0}}},
	{"query-dump-guest-memory-capability", query_dump_capability, {{0}}},
	{"query-kvm", query_kvm, {{0}}},
	{"query-name", query_name, {{0}}},
	{"query-status", query_status, {{0}}},
	{"query-version", query_version, {{0}}},
	{"stop", stop, {{0}}},
	{"cont", cont, {{0}}},
	{"quit", quit, {{0}}},
	{"system_reset", system_reset, {{0}}},
	{"inject-nmi", inject_nmi, {{0}}},
	{"dump-guest-memory",
	 dump_guest_memory,
	 {{"paging", JSON_TRUE, true},
	  {"protocol", JSON_STRING, true},
	  {"detach", JSON_TRUE, false},
	  {"begin", JSON_INTEGER, false},
	  {"length", JSON_INTEGER, false},
	  {"format", JSON_STRING, false}}},
	{"x-stasis-dump", stasis_dump, {{0}}},
	{"x-stasis-profile",
	 stasis_profile,
	 {{"duration-ns", JSON_INTEGER, true}, {"hz", JSON_INTEGER, false}}},
	{"x-stasis-query-stats", stasis_query_stats, {{0}}},
	{"x-stasis-snapshot",
	 stasis_snapshot,
	 {{"path", JSON_STRING, true},
	  {"keep-running", JSON_TRUE, false},
	  {"diff-of", JSON_STRING, false},
	  {"lz4", JSON_TRUE, false}}},
	{"x-stasis-status", stasis_status, {{0}}},
	{"x-stasis-vmcore", stasis_vmcore, {{"path", JSON_STRING, true}}},
};

static int query_commands(struct qmp_call *call, struct error *err)
{
	json_t *list = json_array();

	json_array_append_new(list, json_pack("{s:s}", "name", "qmp_capabilities"));
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		json_array_append_new(list, json_pack("{s:s}", "name", commands[i].name));
	return give(call, list, err);
}

const struct qmp_command *qmp_command_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(name, commands[i].name))
			return &commands[i];
	return NULL;
}

static const struct qmp_parameter *find_parameter(const struct qmp_command *command,
						  const char *name)
{
	for (size_t i = 0; i < QMP_PARAMETERS && command->parameter[i].name; i++)
		if (!strcmp(name, command->parameter[i].name))
			return &command->parameter[i];
	return NULL;
}

static const char *type_name(json_type type)
{
	return type == JSON_STRING    ? "a string"
	       : type == JSON_INTEGER ? "a whole number"
				      : "true or false";
}

int qmp_command_check(const struct qmp_command *command, const json_t *arguments, struct error *err)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)arguments, key, value)
	{
		const struct qmp_parameter *p = find_parameter(command, key);
		json_type type = json_is_false(value) ? JSON_TRUE : json_typeof(value);

		if (!p)
			return error_usage(err, "%.64s: %s takes no such argument", key,
					   command->name);
		if (type != p->type)
			return error_usage(err, "%s: %s is accepted", key, type_name(p->type));
	}
	for (size_t i = 0; i < QMP_PARAMETERS && command->parameter[i].name; i++)
		if (command->parameter[i].needed &&
		    !json_object_get(arguments, command->parameter[i].name))
			return error_usage(err, "%s: %s needs it", command->parameter[i].name,
					   command->name);
	return 0;
}
