/* Outputs of a run in the lab. */
#include "cli/lab_outputs.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/beside.h"
#include "base/log.h"
#include "base/util.h"
#include "vm/profile_out.h"
#include "vm/record.h"
#include "vm/result.h"

static int finish_dump(const struct vm_config *c, int fd, int status UNUSED, struct error *err)
{
	json_t *json;

	if (lseek(fd, 0, SEEK_END) == 0)
		return 0; /* nothing was frozen */
	lseek(fd, 0, SEEK_SET);
	json = json_loadfd(fd, 0, NULL);
	if (!json)
		return error_set(err, -ENODATA, "reading the dump out of the lab");
	return vm_json_write(json, "dump", c->dump, err);
}

static int copy(int from, int to)
{
	char buf[16384];
	ssize_t n;
	int r = 0;

	lseek(from, 0, SEEK_SET);
	while (r == 0 && (n = read(from, buf, sizeof(buf))) != 0)
		r = n < 0 ? -errno : fd_write_all(to, buf, (size_t)n);
	return r;
}

static int copy_whole(FILE *f, void *from)
{
	return copy(*(int *)from, fileno(f));
}

/* Through a pipe or a device, too, as a run outside of the lab writes it. */
static int copy_in_place(const char *path, int from)
{
	CLEANUP_FD int to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);

	return to < 0 ? -errno : copy(from, to);
}

static int finish_monitor(const struct vm_config *c, int fd, int status UNUSED, struct error *err)
{
	bool empty = lseek(fd, 0, SEEK_END) == 0;
	int r = 0;

	if (empty)
		log_warn("%s: no looks at run queues came out of the lab: there were none, or more "
			 "than 64 MiB of them",
			 c->monitor_out);
	if (!c->record)
		r = copy_in_place(c->monitor_out, fd);
	else if (!empty)
		r = beside_write(c->monitor_out, copy_whole, &fd);
	return r < 0 ? error_set(err, r, "writing %s", c->monitor_out) : 0;
}

static int finish_trace(const struct vm_config *c, int fd, int status UNUSED, struct error *err)
{
	int r = 0;

	if (lseek(fd, 0, SEEK_END) > 0)
		r = beside_write(c->trace_out, copy_whole, &fd);
	return r < 0 ? error_set(err, r, "writing %s", c->trace_out) : 0;
}

static int finish_profile(const struct vm_config *c, int fd, int status UNUSED, struct error *err)
{
	json_t *json;

	if (lseek(fd, 0, SEEK_END) == 0)
		return 0; /* it did not begin; the report says so */
	lseek(fd, 0, SEEK_SET);
	json = json_loadfd(fd, 0, NULL);
	if (!json)
		return error_set(err, -ENODATA, "reading the profile out of the lab");
	return c->record ? record_profile(c->record, json, err)
			 : profile_write(json, c->profile_out, err);
}

/* Files have other names in there. */
static void rename_files(json_t *freezes, const struct vm_config *c)
{
	size_t i;
	json_t *row;

	json_array_foreach(freezes, i, row)
	{
		if (c->dump && json_object_get(row, "dump"))
			json_object_set_new(row, "dump", json_string(c->dump));
		if (c->vmcore && json_object_get(row, "vmcore"))
			json_object_set_new(row, "vmcore", json_string(c->vmcore));
	}
}

/* The inner report, with what only the outside knows. */
static int finish_report(const struct vm_config *c, int fd, int status, struct error *err)
{
	json_t *json;

	lseek(fd, 0, SEEK_SET);
	json = json_loadfd(fd, 0, NULL);
	/* Ended by a signal before the inner one could say anything. */
	if (!json && status > 128) {
		const struct vm_result killed = {.outcome = VM_KILLED,
						 .status = status - 128,
						 .lab = true};

		return vm_report_write(vm_result_json(&killed, c), c->report, err);
	}
	if (json && err->code) {
		json_object_set_new(json, "outcome", json_string(vm_outcome_name(VM_ERROR)));
		json_object_set_new(json, "exit_status", json_integer(status));
		json_object_set_new(json, "text", json_string(err->what));
	}
	if (!json)
		return error_set(err, -ENODATA, "reading the report out of the lab");
	json_object_set_new(json, "lab", json_true());
	json_object_set_new(json, "kernel",
			    json_pack("{s:s?, s:s?}", "path", c->kernel, "release",
				      c->kernel_release));
	rename_files(json_object_get(json, "freezes"), c);
	if (c->monitor_out && json_object_get(json_object_get(json, "monitor"), "csv"))
		json_object_set_new(json_object_get(json_object_get(json, "monitor"), "csv"),
				    "path", json_string(c->monitor_out));
	for (size_t i = 0; i < c->disk_count; i++) {
		json_t *disk = json_array_get(json_object_get(json, "disks"), i);

		/* It reads /dev/vda in there. */
		if (disk)
			json_object_set_new(disk, "path", json_string(c->disk[i].path));
	}
	for (size_t i = 0; i < c->net_count; i++) {
		json_t *net = json_array_get(json_object_get(json, "nets"), i);
		json_t *outside = vm_net_json(&c->net[i]);

		if (net)
			json_object_update(net, outside);
		json_decref(outside);
	}
	return vm_report_write(json, c->report, err);
}

/* ---- the table -------------------------------------------------------------------------------
 */

static bool wants_dump(const struct vm_config *c)
{
	return c->dump;
}

static bool wants_monitor(const struct vm_config *c)
{
	return c->monitor_out;
}

static bool wants_profile(const struct vm_config *c)
{
	return c->profile_out || c->record;
}

static bool wants_trace(const struct vm_config *c)
{
	return c->trace_out;
}

static bool wants_report(const struct vm_config *c)
{
	return c->report;
}

/* The report is the last: it tells how the others went. */
static const struct {
	const char *option, *name; /* inside; a suffix may say the kind of file */
	bool (*wanted)(const struct vm_config *c);
	int (*finish)(const struct vm_config *c, int fd, int status, struct error *err);
} table[] = {
	{"--dump", "dump", wants_dump, finish_dump},
	{"--monitor-out", "monitor", wants_monitor, finish_monitor},
	{"--profile-out", "profile.speedscope.json", wants_profile, finish_profile},
	{"--trace-out", "trace", wants_trace, finish_trace},
	{"--report", "report", wants_report, finish_report},
};
_Static_assert(ARRAY_SIZE(table) <= LAB_OUTPUTS_MAX, "outputs");

int lab_outputs_open(struct lab_outputs *o, const struct vm_config *c, struct error *err)
{
	*o = (struct lab_outputs){.count = 0};
	for (unsigned k = 0; k < ARRAY_SIZE(table); k++) {
		int fd;

		if (!table[k].wanted(c))
			continue;
		fd = memfd_create(table[k].name, MFD_CLOEXEC);
		if (fd < 0)
			return error_set_shortage(err, -errno, "running in the lab");
		o->kind[o->count] = k;
		o->list[o->count++] = (struct lab_output){.name = table[k].name, .fd = fd};
	}
	return 0;
}

void lab_outputs_words(const struct lab_outputs *o,
		       void (*word)(void *arg, const char *option, const char *value), void *arg)
{
	for (size_t i = 0; i < o->count; i++)
		word(arg, table[o->kind[i]].option, table[o->kind[i]].name);
}

int lab_outputs_finish(const struct lab_outputs *o, const struct vm_config *c, int status,
		       struct error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < o->count; i++)
		r = table[o->kind[i]].finish(c, o->list[i].fd, status, err);
	return r;
}

void lab_outputs_close(struct lab_outputs *o)
{
	while (o->count > 0)
		fd_close(&o->list[--o->count].fd);
}
