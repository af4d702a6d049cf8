/* stasis restore: a machine that goes on from a snapshot's folder. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/parse.h"
#include "base/text.h"
#include "base/util.h"
#include "cli/clones.h"
#include "cli/commands.h"
#include "cli/lab_run.h"
#include "cli/lab_snapshot.h"
#include "cli/options.h"
#include "cli/run_here.h"
#include "vm/clone.h"
#include "vm/snapshot.h"

struct request {
	struct vm_config config;
	const char *disk[VM_MAX_DISKS]; /* --disk's values */
	size_t disk_count;
	unsigned count; /* of clones; 0: the one machine */
	bool help, in_lab;
};

static int keep(char **field, const char *value, struct error *err)
{
	char *copy = strdup(value);

	if (!copy)
		return error_set(err, -ENOMEM, "reading options");
	free(*field);
	*field = copy;
	return 0;
}

static int set_name(void *target, const char *value, struct error *err)
{
	return keep(&((struct request *)target)->config.name, value, err);
}

static int set_qmp(void *target, const char *value, struct error *err)
{
	return keep(&((struct request *)target)->config.qmp, value, err);
}

static int set_report(void *target, const char *value, struct error *err)
{
	return keep(&((struct request *)target)->config.report, value, err);
}

static int set_timeout(void *target, const char *value, struct error *err)
{
	uint64_t ns;

	if (parse_duration(value, &ns) < 0 || ns == 0)
		return error_usage(err, "%s: a duration such as 500ms, 30s or 5m is accepted",
				   value);
	((struct request *)target)->config.timeout_ns = ns;
	return 0;
}

static int set_disk(void *target, const char *value, struct error *err)
{
	struct request *q = target;

	if (q->disk_count == VM_MAX_DISKS)
		return error_usage(err, "%s: more than %u disks", value, VM_MAX_DISKS);
	q->disk[q->disk_count++] = value;
	return 0;
}

static int set_count(void *target, const char *value, struct error *err)
{
	uint64_t count;

	if (parse_uint(value, 1, VM_CLONES_MAX, &count) < 0)
		return error_usage(err, "%s: a number from 1 to %d is accepted", value,
				   VM_CLONES_MAX);
	((struct request *)target)->count = (unsigned)count;
	return 0;
}

static int set_verbose(void *target, const char *value UNUSED, struct error *err UNUSED)
{
	((struct request *)target)->config.verbosity++;
	return 0;
}

static int set_quiet(void *target, const char *value UNUSED, struct error *err UNUSED)
{
	((struct request *)target)->config.verbosity = -1;
	return 0;
}

static const struct cli_option options[] = {
	{"count", 0, "N", set_count,
	 "N clones, NAME-0 and on; each line that they write has its name"},
	{"disk", 0, "ID=PATH", set_disk, "this file has what that disk had; may be repeated"},
	OPTION_FLAG("prefault", 0, struct request, config.prefault,
		    "copy all of the memory before it goes on"),
	{"name", 0, "NAME", set_name, "of the VM; default: made up, unique"},
	{"qmp", 0, "PATH", set_qmp, "another control socket, besides the one in its folder"},
	{"report", 0, "FILE", set_report, "the result as JSON"},
	{"timeout", 0, "DURATION", set_timeout, "end it after so long"},
	{"verbose", 'v', NULL, set_verbose, "more on standard error"},
	{"quiet", 'q', NULL, set_quiet, "less on standard error"},
	OPTION_FLAG("help", 'h', struct request, help, "this"),
	OPTION_FLAG("in-lab", 0, struct request, in_lab, NULL),
};

static int replace_disks(struct request *q, struct error *err)
{
	struct vm_config *c = &q->config;
	int r = 0;

	for (size_t i = 0; r == 0 && i < q->disk_count; i++)
		r = vm_disk_replace(c->disk, c->disk_count, q->disk[i], err);
	return r;
}

/* Whoever made the snapshot named them; the person who restores it sees what that opens. count: of
 * clones. */
static void tell_what_is_opened(const struct vm_config *c, unsigned count)
{
	for (size_t i = 0; i < c->disk_count; i++) {
		const struct vm_disk *d = &c->disk[i];
		CLEANUP_FREE char *path = strdup(d->path);

		if (path)
			text_one_line(path);
		log_warn("opens disk %s: %s, to %s", d->id, path ?: "?",
			 d->read_only ? "read"
			 : count      ? "copy it for each clone"
				      : "read and write");
	}
	for (size_t i = 0; i < c->net_count; i++)
		if (c->net[i].kind == VM_NET_USER)
			log_warn("opens a network in user mode: the guest reaches what you do");
		else
			log_warn("opens the network tap=%s%s", c->net[i].tap,
				 count ? "-N, of each clone" : "");
}

static int restore(struct request *q, const char *path)
{
	struct error err = {0};

	if (q->config.verbosity != 0)
		log_set_level(q->config.verbosity > 0 ? LOG_INFO : LOG_ERROR);
	if (!q->in_lab && lab_snapshot_find(path, &q->config, &err) < 0)
		return command_failed(&err);
	if (q->config.lab_snapshot && q->count) {
		error_usage(&err, "--count: a snapshot in the lab that stays has no clones");
		return command_failed(&err);
	}
	if (q->config.lab_snapshot) {
		if (replace_disks(q, &err) < 0)
			return command_failed(&err);
		tell_what_is_opened(&q->config, 0);
		return lab_run_config(&q->config);
	}
	if (q->in_lab && access(path, F_OK) < 0) {
		error_usage(&err, "the lab that kept this snapshot has ended, and it with that");
		return command_failed(&err);
	}
	if (restore_open(path, &q->config, &q->config.restore, &err) < 0 ||
	    replace_disks(q, &err) < 0)
		return command_failed(&err);
	if (!q->in_lab)
		tell_what_is_opened(&q->config, q->count);
	return q->count ? clones_run(&q->config, q->count) : run_here(&q->config, q->in_lab);
}

int command_restore(int argc, char **argv)
{
	struct request q = {.config.kind = arch_kind_own()};
	const char *path;
	struct error err = {0};
	int r, status = 0;

	r = options_parse_words(options, ARRAY_SIZE(options), argc, argv, &q, &path, 1, &err);
	if (r >= 0 && r != 1 && !q.help)
		r = error_usage(&err, "stasis restore takes one folder");
	if (r < 0) {
		status = command_failed(&err);
	} else if (q.help) {
		printf("usage: stasis restore DIR [OPTIONS]\n\n");
		options_print(options, ARRAY_SIZE(options));
	} else {
		status = restore(&q, path);
	}
	vm_config_done(&q.config);
	return status;
}
