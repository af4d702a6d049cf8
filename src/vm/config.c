/* The resolved configuration: freeing it, and its JSON. Control thread. */
#include "vm/config.h"

#include <stdlib.h>
#include <unistd.h>

#include "vm/snapshot.h"

void vm_config_done(struct vm_config *c)
{
	restore_free(c->restore);
	free(c->snapshot_base);
	free(c->lab_snapshot);
	free(c->name);
	free(c->kernel);
	free(c->kernel_name);
	free(c->lacks);
	free(c->kernel_release);
	free(c->initrd);
	free(c->modules);
	free(c->append);
	free(c->cpu_vendor);
	free(c->dump);
	free(c->vmcore);
	free(c->monitor_out);
	free(c->report);
	free(c->trace_out);
	free(c->record);
	free(c->profile_out);
	free(c->qmp);
	free(c->pin);
	for (char **arg = c->command; arg && *arg; arg++)
		free(*arg);
	free(c->command);
	for (size_t i = 0; i < c->include_count; i++) {
		free(c->includes[i].src);
		free(c->includes[i].dst);
	}
	free(c->includes);
	for (unsigned n = 0; n < c->watch_count; n++)
		watch_expr_done(&c->watch[n]);
	for (size_t i = 0; i < c->disk_count; i++)
		vm_disk_done(&c->disk[i]);
	*c = (struct vm_config){0};
}

void vm_config_settle(struct vm_config *c)
{
	for (size_t i = 0; i < c->net_count; i++)
		vm_net_settle(&c->net[i], c->name, i);
}

static json_t *string_or_null(const char *text)
{
	return text ? json_string(text) : json_null();
}

json_t *vm_command_json(char *const *command)
{
	json_t *list;

	if (!command)
		return json_null();
	list = json_array();
	for (; *command; command++)
		/* An argument need not be UTF-8; JSON must. */
		json_array_append_new(list, json_string(*command) ?: json_string("(not UTF-8)"));
	return list;
}

static json_t *nodes_json(const struct topology *t)
{
	json_t *list = json_array();

	for (unsigned n = 0; n < t->nodes; n++)
		json_array_append_new(list, json_pack("{s:i, s:I}", "llcs", (int)t->node[n].llcs,
						      "memory_bytes",
						      (json_int_t)t->node[n].memory_bytes));
	return list;
}

static json_t *includes_json(const struct vm_config *c)
{
	json_t *list = json_array();

	for (size_t i = 0; i < c->include_count; i++)
		json_array_append_new(list, json_pack("{s:s, s:s}", "source", c->includes[i].src,
						      "destination", c->includes[i].dst));
	return list;
}

static json_t *disks_json(const struct vm_config *c)
{
	json_t *list = json_array();

	for (size_t i = 0; i < c->disk_count; i++)
		json_array_append_new(list, vm_disk_json(&c->disk[i]));
	return list;
}

static json_t *nets_json(const struct vm_config *c)
{
	json_t *list = json_array();

	for (size_t i = 0; i < c->net_count; i++)
		json_array_append_new(list, vm_net_json(&c->net[i]));
	return list;
}

static json_t *pin_json(const struct vm_config *c)
{
	json_t *list;

	if (!c->pin)
		return json_null();
	list = json_array();
	for (unsigned i = 0; i < topology_vcpus(&c->topology); i++)
		json_array_append_new(list, json_integer(c->pin[i]));
	return list;
}

static const char *perf_name(enum perf_mode mode)
{
	return mode == PERF_STRICT ? "strict" : mode == PERF_RELAXED ? "relaxed" : "off";
}

const char *vm_session_name(enum vm_session session)
{
	return session == VM_SESSION_COMMAND ? "command"
	       : session == VM_SESSION_SHELL ? "shell"
					     : "console";
}

static json_t *watches_json(const struct vm_config *c)
{
	json_t *list = json_array();

	if (c->watch_scx)
		json_array_append_new(list, json_string("scx_exit_kind"));
	for (unsigned n = 0; n < c->watch_count; n++)
		json_array_append_new(list, json_string(c->watch[n].text));
	return list;
}

const char *vm_on_hit_name(enum vm_on_hit on_hit)
{
	return on_hit == VM_ON_HIT_DUMP ? "dump" : on_hit == VM_ON_HIT_FREEZE ? "freeze" : "log";
}

const char *vm_on_stall_name(enum vm_on_stall on_stall)
{
	return on_stall == VM_ON_STALL_LOG    ? "log"
	       : on_stall == VM_ON_STALL_DUMP ? "dump"
					      : "freeze";
}

json_t *vm_config_json(const struct vm_config *c)
{
	char shape[64];

	return json_pack(
		"{s:o, s:{s:o, s:o}, s:o, s:o, s:o, s:s, s:o, s:o, s:s, s:i, s:o, s:I, s:b, "
		"s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:i, s:o, s:b, s:o, s:s, s:o, s:o, s:o, s:o, "
		"s:s, "
		"s:i, s:o, s:o}",
		"name", string_or_null(c->name), "kernel", "path", string_or_null(c->kernel),
		"release", string_or_null(c->kernel_release), "initrd", string_or_null(c->initrd),
		"modules", string_or_null(c->modules), "append", string_or_null(c->append),
		"session", vm_session_name(c->session), "command", vm_command_json(c->command),
		"includes", includes_json(c), "topology",
		topology_format(&c->topology, shape, sizeof(shape)), "vcpus",
		(int)topology_vcpus(&c->topology), "nodes", nodes_json(&c->topology),
		"memory_bytes", (json_int_t)topology_memory(&c->topology), "hugepages",
		c->hugepages, "pin", pin_json(c), "disks", disks_json(c), "nets", nets_json(c),
		"timeout_ns", c->timeout_ns ? json_integer((json_int_t)c->timeout_ns) : json_null(),
		"report", string_or_null(c->report), "qmp", string_or_null(c->qmp), "perf",
		perf_name(c->perf.mode), "cpus_budget", (int)c->perf.cpus_budget, "freeze_at_ns",
		c->freeze_at_ns ? json_integer((json_int_t)c->freeze_at_ns) : json_null(),
		"counters", (int)c->counters, "watches", watches_json(c), "on_hit",
		vm_on_hit_name(c->on_hit), "dump", string_or_null(c->dump), "vmcore",
		string_or_null(c->vmcore), "monitor_ns",
		c->monitor_ns ? json_integer((json_int_t)c->monitor_ns) : json_null(),
		"monitor_out", string_or_null(c->monitor_out), "on_stall",
		vm_on_stall_name(c->on_stall), "profile_hz", (int)c->profile_hz, "profile_out",
		string_or_null(c->profile_out), "record", string_or_null(c->record));
}

json_t *vm_config_brief(const struct vm_config *c, const char *state, bool lab)
{
	const struct topology *t = &c->topology;
	char shape[64];

	return json_pack("{s:s, s:i, s:s, s:b, s:s, s:i, s:I, s:s?}", "name", c->name, "pid",
			 (int)getpid(), "state", state, "lab", (int)lab, "topology",
			 topology_format(t, shape, sizeof(shape)), "vcpus", (int)topology_vcpus(t),
			 "memory_bytes", (json_int_t)topology_memory(t), "kernel",
			 c->kernel_release);
}
