/* stasis snapshot and restore of VMs in the lab, and the inner stasis's part in it. */
#include "cli/lab_snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "base/util.h"
#include "cli/commands.h"
#include "cli/find_vm.h"
#include "freeze/snapshot_folder.h"
#include "vm/lab/forward.h"
#include "vm/lab/paths.h"
#include "vm/signals.h"
#include "vm/snapshot_file.h"

#define FORGET	    "--forget"
#define DIFF_OF	    "--diff-of="
#define OPTIONS_MAX 3

/* ---- inside -----------------------------------------------------------------------------------
 */

static int forget(const char *folder)
{
	static const char *const names[] = {SNAPSHOT_DESCRIPTION, SNAPSHOT_STATE, SNAPSHOT_MEMORY};

	if (!lab_is_snapshot(folder))
		return 125;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		CLEANUP_FREE char *path = text_format("%s/%s", folder, names[i]);

		if (path)
			(void)!unlink(path);
	}
	return rmdir(folder) < 0 && errno != ENOENT ? 125 : 0;
}

/* The description goes out, as a file of the session. */
static int give(const char *folder, struct error *err)
{
	CLEANUP_FREE char *text = NULL;
	CLEANUP_FD int fd =
		open(SNAPSHOT_DESCRIPTION, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	size_t len = 0;
	int r = snapshot_description_read(folder, &text, &len, err);

	if (r < 0)
		return r;
	r = fd < 0 ? -errno : fd_write_all(fd, text, len);
	return r < 0 ? error_set(err, r, "giving the snapshot's description out of the lab") : 0;
}

/* Behind NAME and FOLDER; false: it is none of them. */
static bool take_option(const char *word, struct snapshot_options *o)
{
	size_t len = strlen(DIFF_OF);

	if (!strcmp(word, "--keep-running"))
		o->keep_running = true;
	else if (!strcmp(word, "--lz4"))
		o->lz4 = true;
	else if (!strncmp(word, DIFF_OF, len) && lab_is_snapshot(word + len) && !o->base)
		o->base = strdup(word + len);
	else
		return false;
	return true;
}

/* NAME FOLDER [--keep-running] [--lz4] [--diff-of=FOLDER], or --forget FOLDER. */
int command_lab_snapshot(int argc, char **argv)
{
	struct snapshot_options o = {0};
	struct error err = {0};
	int r = 0;

	if (argc == 3 && !strcmp(argv[1], FORGET))
		return forget(argv[2]);
	if (argc < 3 || !lab_is_snapshot(argv[2]))
		return 125;
	for (int i = 3; r == 0 && i < argc; i++)
		if (!take_option(argv[i], &o))
			r = error_usage(&err, "%s: not known in this lab", argv[i]);
	if (r == 0)
		r = snapshot_here(argv[1], argv[2], &o, &err);
	if (r == 0)
		r = give(argv[2], &err);
	free(o.base);
	return r < 0 ? command_failed(&err) : 0;
}

/* ---- outside: a session -----------------------------------------------------------------------
 */

/* lab-snapshot with two words and options, up to NULL. description: -1, or where that goes. */
static int ask_lab(const struct arch_kind *kind, const char *first, const char *second,
		   const char *const *option, int description, int *ret_status, struct error *err)
{
	static char command[] = "lab-snapshot";
	char *argv[3 + OPTIONS_MAX + 1] = {command, strdup(first), strdup(second)};
	struct lab_output output = {.name = SNAPSHOT_DESCRIPTION, .fd = description};
	const struct lab_request request = {.kind = kind,
					    .argv = argv,
					    .outputs = &output,
					    .output_count = description >= 0};
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC), fd, r;

	for (size_t i = 0; option && option[i]; i++)
		argv[3 + i] = strdup(option[i]);
	/* Our input is nobody's there. */
	if (null >= 0)
		(void)!dup2(null, STDIN_FILENO);
	fd_close(&null);
	signals_block();
	fd = lab_connect_warm(kind, err);
	if (fd < 0)
		r = error_usage(err, "the lab has ended");
	else
		r = lab_session(fd, &request, ret_status, err);
	if (r == -ESTALE)
		r = error_usage(err, "the lab is of another build; stasis lab stop ends it");
	for (size_t i = 1; i < ARRAY_SIZE(argv); i++)
		free(argv[i]);
	return r;
}

/* ---- outside: the folder ----------------------------------------------------------------------
 */

/* Where in the lab it is; NULL: it is none of the lab's. */
static const char *folder_of(const json_t *description)
{
	const char *folder = find_vm_text(json_object_get(description, "lab"), "folder");

	return lab_is_snapshot(folder) ? folder : NULL;
}

/* The disks' files as they are out here; the lab knows devices. paths: of the host's, in the same
 * order. */
static int name_disks(json_t *description, const json_t *paths)
{
	json_t *disks = json_object_get(description, "disks"), *disk;
	size_t i;

	if (json_array_size(disks) != json_array_size(paths))
		return -ENODATA;
	json_array_foreach(disks, i, disk)
	{
		const char *path = json_string_value(json_array_get(paths, i));
		int r = path ? vm_disk_name(disk, path) : -ENODATA;

		if (r < 0)
			return r;
	}
	return 0;
}

static int write_description(struct snapshot_folder *f, int fd, const char *inside,
			     const json_t *disks, struct error *err)
{
	CLEANUP_FREE char *text = NULL;
	json_t *json;
	int r;

	lseek(fd, 0, SEEK_SET);
	json = json_loadfd(fd, 0, NULL);
	if (json)
		json_object_set_new(json, "lab", json_pack("{s:s}", "folder", inside));
	if (json && name_disks(json, disks) == 0)
		text = json_dumps(json, JSON_INDENT(2));
	json_decref(json);
	if (!text)
		return error_set(err, -ENODATA,
				 "reading the snapshot's description out of the lab");
	r = snapshot_folder_write(f, SNAPSHOT_DESCRIPTION, text, strlen(text), err);
	return r < 0 ? r : snapshot_folder_commit(f, err);
}

/* base: its folder in the lab, or NULL. */
static int save(const struct arch_kind *kind, const char *name, struct snapshot_folder *f,
		const struct snapshot_options *o, const char *base, const json_t *disks,
		int *ret_status, struct error *err)
{
	CLEANUP_FREE char *diff_of = base ? text_format(DIFF_OF "%s", base) : NULL;
	CLEANUP_FD int fd = memfd_create("description", MFD_CLOEXEC);
	const char *option[OPTIONS_MAX + 1];
	CLEANUP_FREE char *inside = NULL;
	size_t options = 0;
	uint64_t random = now_ns();
	int r;

	(void)!getrandom(&random, sizeof(random), 0);
	inside = text_format(LAB_SNAPSHOTS "/%016" PRIx64, random);
	if (fd < 0 || !inside || (base && !diff_of))
		return error_set(err, -ENOMEM, "saving %s", name);
	if (o->keep_running)
		option[options++] = "--keep-running";
	if (o->lz4)
		option[options++] = "--lz4";
	if (diff_of)
		option[options++] = diff_of;
	option[options] = NULL;
	r = ask_lab(kind, name, inside, option, fd, ret_status, err);
	if (r < 0 || *ret_status)
		return r;
	r = write_description(f, fd, inside, disks, err);
	/* Of one that goes on nothing is lost. */
	if (r < 0 && o->keep_running)
		(void)!ask_lab(kind, FORGET, inside, NULL, -1, ret_status, NULL);
	else if (r < 0)
		log_warn("%s has ended; what was saved of it is in the lab, as %s", name, inside);
	return r;
}

/* What is at path in the lab is given up for what is saved now, which may need that. */
static int check_base(const struct snapshot_options *o, const char *base_folder, const char *path,
		      const char *old_folder, struct error *err)
{
	if (!o->base)
		return 0;
	if (!base_folder)
		return error_usage(err, "diff-of %s: it is no snapshot of the lab", o->base);
	if (old_folder)
		return error_usage(err,
				   "%s: what differs from another is saved in the lab where no "
				   "snapshot is yet",
				   path);
	return 0;
}

int lab_snapshot_save(const char *name, const char *path, const struct snapshot_options *o,
		      int *ret_status, struct error *err)
{
	const struct arch_kind *kind;
	struct snapshot_folder folder;
	const char *old_folder, *base_folder;
	json_t *info, *old, *base, *disks;
	bool in_lab, begun, stays;
	int forgot, r = find_vm(name, &info, err);

	if (r < 0)
		return r == -ENOENT ? -EINVAL : r;
	in_lab = json_is_true(json_object_get(info, "lab"));
	begun = json_object_get(info, "lab_stays");
	stays = json_is_true(json_object_get(info, "lab_stays"));
	kind = arch_kind_find(find_vm_text(info, "lab_arch")) ?: arch_kind_own();
	disks = json_incref(json_object_get(info, "lab_disks"));
	json_decref(info);
	r = !in_lab ? -ENOENT
	    : begun ? 0
		    : error_contention(err, "%s: the lab has not begun it yet", name);
	if (r == 0 && !stays) {
		error_usage(err,
			    "%s runs in a lab of its own, which ends with it: a snapshot "
			    "would be lost",
			    name);
		error_hint(err,
			   "after stasis lab start --disk PATH, VMs with that disk, or with none, "
			   "without a network and --vmcore run in a lab that stays");
		r = -EINVAL;
	}
	if (r < 0) {
		json_decref(disks);
		return r;
	}
	old = snapshot_description_load(path);
	old_folder = folder_of(old);
	base = o->base ? snapshot_description_load(o->base) : NULL;
	base_folder = folder_of(base);
	r = check_base(o, base_folder, path, old_folder, err);
	if (r == 0) {
		r = snapshot_folder_open(&folder, path, err);
		if (r == 0)
			r = save(kind, name, &folder, o, base_folder, disks, ret_status, err);
		snapshot_folder_abort(&folder);
	}
	if (r == 0 && *ret_status == 0 && old_folder)
		(void)!ask_lab(kind, FORGET, old_folder, NULL, -1, &forgot, NULL);
	json_decref(base);
	json_decref(old);
	json_decref(disks);
	return r;
}

int lab_snapshot_find(const char *path, struct vm_config *c, struct error *err)
{
	json_t *json = snapshot_description_load(path);
	const char *folder = folder_of(json);
	CLEANUP_FREE char *text = NULL;
	int r = 0;

	if (!folder) {
		json_decref(json);
		return 0;
	}
	text = json_dumps(json, 0);
	c->lab_snapshot = strdup(folder);
	if (!text || !c->lab_snapshot)
		r = error_set(err, -ENOMEM, "reading a snapshot");
	/* Whichever lab has it. */
	c->kind = arch_kind_find(find_vm_text(json, "arch")) ?: c->kind;
	if (r == 0)
		r = snapshot_read_description(text, strlen(text), c, err);
	if (r == 0 && !lab_is_warm(c->kind))
		r = error_usage(err,
				"%s: the lab that kept this snapshot has ended, and it with "
				"that",
				path);
	json_decref(json);
	return r;
}
