/* Outcomes, exit statuses and the result JSON. Control thread. */
#include "vm/result.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/arch.h"
#include "base/beside.h"
#include "base/util.h"

static const char *const outcome_names[] = {
	[VM_EXITED] = "exited", [VM_SIGNALLED] = "signalled", [VM_PANICKED] = "panicked",
	[VM_DIED] = "died",	[VM_NO_INIT] = "no-init",     [VM_TIMEOUT] = "timeout",
	[VM_HIT] = "hit",	[VM_KILLED] = "killed",	      [VM_SKIPPED] = "skipped",
	[VM_ERROR] = "error",
};

const char *vm_outcome_name(enum vm_outcome outcome)
{
	return outcome_names[outcome];
}

int vm_result_status(const struct vm_result *r)
{
	switch (r->outcome) {
	case VM_EXITED:
		return r->status;
	case VM_SIGNALLED:
	case VM_KILLED:
		return 128 + r->status;
	case VM_PANICKED:
	case VM_DIED:
	case VM_NO_INIT:
		return 126;
	case VM_TIMEOUT:
		return 124;
	case VM_HIT:
		return 120;
	case VM_SKIPPED:
		return 77;
	case VM_ERROR:
		break;
	}
	return 125;
}

json_t *vm_result_json(const struct vm_result *r, const struct vm_config *config)
{
	char shape[64];
	json_t *json =
		json_pack("{s:s, s:s, s:i, s:s, s:s, s:b}", "stasis", STASIS_VERSION, "outcome",
			  vm_outcome_name(r->outcome), "exit_status", vm_result_status(r), "arch",
			  arch_name, "host", r->host ?: "unknown", "lab", (int)r->lab);

	if (!json)
		return NULL;
	if (r->text[0])
		json_object_set_new(json, "text", json_stringn_nocheck(r->text, strlen(r->text)));
	json_object_set_new(json, "name", json_string(config->name ?: ""));
	if (config->command)
		json_object_set_new(json, "command", vm_command_json(config->command));
	json_object_set_new(json, "kernel",
			    json_pack("{s:s?, s:s?}", "path", config->kernel, "release",
				      config->kernel_release));
	json_object_set_new(json, "topology",
			    json_string(topology_format(&config->topology, shape, sizeof(shape))));
	json_object_set_new(json, "vcpus", json_integer(topology_vcpus(&config->topology)));
	json_object_set_new(json, "memory_bytes",
			    json_integer((json_int_t)topology_memory(&config->topology)));
	json_object_set_new(json, "timing_ns",
			    json_pack("{s:I, s:I, s:I, s:I}", "setup", (json_int_t)r->setup_ns,
				      "guest_start_to_init", (json_int_t)r->guest_start_to_init_ns,
				      "command", (json_int_t)r->command_ns, "teardown",
				      (json_int_t)r->teardown_ns));
	if (r->exits)
		json_object_set(json, "exits", r->exits);
	else
		json_object_set_new(json, "exits", json_object());
	if (r->disks && json_array_size(r->disks) > 0)
		json_object_set(json, "disks", r->disks);
	if (r->nets && json_array_size(r->nets) > 0)
		json_object_set(json, "nets", r->nets);
	if (r->perf)
		json_object_set(json, "perf", r->perf);
	if (r->evidence)
		json_object_set(json, "evidence", r->evidence);
	if (r->profile)
		json_object_set(json, "profile", r->profile);
	if (r->watches)
		json_object_set(json, "watches", r->watches);
	if (r->monitor)
		json_object_set(json, "monitor", r->monitor);
	if (r->freezes)
		json_object_set(json, "freezes", r->freezes);
	else
		json_object_set_new(json, "freezes", json_array());
	if (r->degraded)
		json_object_set(json, "degraded", r->degraded);
	else
		json_object_set_new(json, "degraded", json_array());
	return json;
}

/* 0, or a negative errno, which jansson does not always give. */
static int dump(json_t *report, int fd)
{
	errno = 0;
	if (json_dumpfd(report, fd, JSON_INDENT(2)) < 0)
		return -(errno ?: EIO);
	return fd_write_all(fd, "\n", 1);
}

/* A pipe, a device; a link to what is not there yet; a file that a stream of ours goes to, which
 * another in its place would take it from. */
static bool is_written_in_place(const char *path)
{
	struct stat st, stream;

	if (stat(path, &st) < 0)
		return lstat(path, &st) == 0;
	if (!S_ISREG(st.st_mode))
		return true;
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (fstat(fd, &stream) == 0 && stream.st_dev == st.st_dev &&
		    stream.st_ino == st.st_ino)
			return true;
	return false;
}

/* As by ">". */
static int write_in_place(json_t *report, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
	int r = fd < 0 ? -errno : dump(report, fd);

	if (fd >= 0 && close(fd) < 0 && r == 0)
		r = -errno;
	return r;
}

/* Not synced: a report is no core, and the control thread does not wait for disks. */
static int write_beside(json_t *report, const char *path)
{
	struct beside b;
	int r = beside_open(&b, path, 0666);

	if (r < 0)
		return r;
	r = dump(report, b.fd);
	if (r == 0)
		return beside_commit(&b);
	beside_abort(&b);
	return r;
}

int vm_json_write(json_t *report, const char *what, const char *path, struct error *err)
{
	int r = -ENOMEM;

	if (report)
		r = is_written_in_place(path) ? write_in_place(report, path)
					      : write_beside(report, path);
	json_decref(report);
	return r < 0 ? error_set(err, r, "writing the %s %s", what, path) : 0;
}

int vm_report_write(json_t *report, const char *path, struct error *err)
{
	return vm_json_write(report, "report", path, err);
}

void vm_result_degraded(struct vm_result *r, const char *text)
{
	size_t i;
	json_t *line;

	if (!r->degraded)
		r->degraded = json_array();
	json_array_foreach(r->degraded, i,
			   line) if (!strcmp(json_string_value(line) ?: "", text)) return;
	json_array_append_new(r->degraded, json_string(text));
}

void vm_result_done(struct vm_result *r)
{
	json_decref(r->exits);
	json_decref(r->disks);
	json_decref(r->nets);
	json_decref(r->evidence);
	json_decref(r->perf);
	json_decref(r->freezes);
	json_decref(r->watches);
	json_decref(r->monitor);
	json_decref(r->profile);
	json_decref(r->degraded);
	*r = (struct vm_result){0};
}
