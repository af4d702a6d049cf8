/* stasis lab: keeps a lab running, with the disks of runs to come; and the inner stasis's own
 * commands. */
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "cli/commands.h"
#include "cli/find_vm.h"
#include "cli/lab_run.h"
#include "cli/options.h"
#include "vm/kernels.h"
#include "vm/lab/disks.h"
#include "vm/lab/lab.h"
#include "vm/signals.h"

struct lab_words {
	const struct arch_kind *kind;
	struct vm_disk disk[VM_MAX_DISKS];
	size_t disk_count;
	bool help;
};

static int set_arch(void *target, const char *value, struct error *err)
{
	struct lab_words *w = target;

	w->kind = arch_kind_find(value);
	return w->kind ? 0 : error_usage(err, "%s: x86_64 or aarch64 is accepted", value);
}

static int set_disk(void *target, const char *value, struct error *err)
{
	struct lab_words *w = target;
	struct vm_disk *d = &w->disk[w->disk_count];
	int r = vm_disk_parse(value, w->disk_count, d, err);

	if (r < 0)
		return r;
	w->disk_count++;
	return d->iops || d->bps || strstr(value, ",id=")
		       ? error_usage(err, "%s: id, iops and bps are each run's own", value)
		       : 0;
}

static const struct cli_option lab_options[] = {
	{"arch", 0, "NAME", set_arch, "the lab for guests of another architecture"},
	{"disk", 0, "PATH[,ro][,direct]", set_disk,
	 "start: runs with this disk go into this lab; may be repeated"},
	OPTION_FLAG("help", 'h', struct lab_words, help, "this"),
};

static int start(const struct lab_words *words)
{
	struct kernel_choice kernel = {0};
	struct lab_machine machine;
	struct error err = {0};
	int r;

	signals_block();
	r = kernel_for_lab(words->kind, &kernel, &err);
	machine = (struct lab_machine){.kind = words->kind,
				       .kernel = kernel.path,
				       .modules = kernel.modules,
				       .disks = words->disk,
				       .disk_count = words->disk_count};
	if (r == 0)
		r = lab_start(&machine, &err);
	kernel_choice_done(&kernel);
	return r < 0 ? command_failed(&err) : 0;
}

static int print_status(const struct arch_kind *kind)
{
	json_t *disks = lab_disks_published(kind);
	bool warm = lab_is_warm(kind);
	const json_t *row;
	size_t i;

	printf("%s\n", warm ? "running" : "not running");
	json_array_foreach(disks, i, row)
		printf("disk %s%s%s\n", find_vm_text(row, "path"),
		       json_is_true(json_object_get(row, "read_only")) ? ",ro" : "",
		       json_is_true(json_object_get(row, "direct")) ? ",direct" : "");
	json_decref(disks);
	return warm ? 0 : 1;
}

static int lab_command(const char *verb, const struct lab_words *w, struct error *err)
{
	bool starts = verb && !strcmp(verb, "start");

	if (w->help) {
		printf("usage: stasis lab start    keep a lab running, so that runs need not boot "
		       "one\n"
		       "       stasis lab stop\n"
		       "       stasis lab status   exit status 0 if one is running\n\n");
		options_print(lab_options, ARRAY_SIZE(lab_options));
		return 0;
	}
	if (w->disk_count && !starts)
		return error_usage(err, "--disk: stasis lab start takes it");
	if (starts)
		return start(w);
	if (verb && !strcmp(verb, "stop"))
		return lab_stop(w->kind, err);
	if (verb && !strcmp(verb, "status"))
		return print_status(w->kind);
	return error_usage(err, "stasis lab%s%s: start, stop or status is accepted",
			   verb ? " " : "", verb ?: "");
}

int command_lab(int argc, char **argv)
{
	struct lab_words words = {.kind = arch_kind_own()};
	const char *word[2];
	struct error err = {0};
	int r;

	r = options_parse_words(lab_options, ARRAY_SIZE(lab_options), argc, argv, &words, word, 2,
				&err);
	if (r > 1)
		r = error_usage(&err, "stasis lab: %s is one word too many", word[1]);
	if (r >= 0)
		r = lab_command(word[0], &words, &err);
	while (words.disk_count > 0)
		vm_disk_done(&words.disk[--words.disk_count]);
	return r < 0 ? command_failed(&err) : r;
}

int command_lab_agent(int argc UNUSED, char **argv UNUSED)
{
	return lab_agent();
}

int command_lab_pipe(int argc, char **argv)
{
	return argc == 3 && !strchr(argv[2], '/') ? lab_pipe(argv[1], argv[2]) : 125;
}
