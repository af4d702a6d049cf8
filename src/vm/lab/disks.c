/* A disk's serial number is a hash of its file's device and inode; links in the lab are by that.
 * Outside, a list beside the warm lab's socket. Control thread. */
#include "vm/lab/disks.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/text.h"
#include "base/util.h"
#include "vm/lab/paths.h"
#include "vm/lab/place.h"
#include "vm/result.h"

int lab_disk_id(const char *path, char buf[LAB_DISK_ID])
{
	struct stat st;
	uint64_t key[2];

	if (stat(path, &st) < 0)
		return -errno;
	key[0] = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev;
	key[1] = S_ISBLK(st.st_mode) ? 0 : st.st_ino;
	snprintf(buf, LAB_DISK_ID, "%016" PRIx64, (uint64_t)XXH3_64bits(key, sizeof(key)));
	return 0;
}

const char *lab_disk_path(const char *path, char *buf)
{
	char id[LAB_DISK_ID];

	if (lab_disk_id(path, id) < 0)
		return NULL;
	snprintf(buf, LAB_PATH_MAX, LAB_DISKS "/%s", id);
	return buf;
}

/* ---- inside -----------------------------------------------------------------------------------
 */

static bool is_disk_id(const char *text)
{
	return strlen(text) == LAB_DISK_ID - 1 &&
	       strspn(text, "0123456789abcdef") == LAB_DISK_ID - 1;
}

static int link_one(const char *name)
{
	CLEANUP_FREE char *path = text_format("/sys/block/%s/serial", name);
	CLEANUP_FREE char *device = text_format("/dev/%s", name);
	CLEANUP_FREE char *serial = NULL;
	CLEANUP_FREE char *link = NULL;
	size_t len;

	if (!path || !device)
		return -ENOMEM;
	if (file_read(path, 1 << 16, &serial, &len) < 0)
		return 0; /* no disk of ours */
	serial[strcspn(serial, "\n")] = 0;
	if (!is_disk_id(serial))
		return 0;
	link = text_format(LAB_DISKS "/%s", serial);
	if (!link)
		return -ENOMEM;
	return symlink(device, link) < 0 && errno != EEXIST ? -errno : 0;
}

int lab_disks_link(void)
{
	DIR *dir = opendir("/sys/block");
	const struct dirent *e;
	int r = dir_make(LAB_DISKS, 0700);

	while (r == 0 && dir && (e = readdir(dir)))
		if (e->d_name[0] != '.')
			r = link_one(e->d_name);
	if (dir)
		closedir(dir);
	return r;
}

/* ---- outside ----------------------------------------------------------------------------------
 */

int lab_disks_publish(const struct lab_machine *machine, struct error *err)
{
	CLEANUP_FREE char *list = lab_file_of(machine->kind, "json", err);
	json_t *disks = json_array();
	char id[LAB_DISK_ID];
	int r = list ? 0 : err->code;

	for (size_t i = 0; r == 0 && i < machine->disk_count; i++) {
		const struct vm_disk *d = &machine->disks[i];
		CLEANUP_FREE char *path = realpath(d->path, NULL);

		r = path ? lab_disk_id(path, id) : -errno;
		if (r < 0)
			error_usage(err, "--disk %s: %s", d->path, strerror(-r));
		else
			json_array_append_new(disks,
					      json_pack("{s:s, s:s, s:b, s:b}", "path", path, "id",
							id, "read_only", (int)d->read_only,
							"direct", (int)d->direct));
	}
	if (r < 0 || json_array_size(disks) != machine->disk_count) {
		json_decref(disks);
		return r < 0 ? r : error_usage(err, "--disk: a path is not UTF-8");
	}
	return vm_json_write(disks, "lab's list of disks", list, err);
}

json_t *lab_disks_published(const struct arch_kind *kind)
{
	struct error ignored = {0};
	CLEANUP_FREE char *list = lab_file_of(kind, "json", &ignored);

	return list && lab_is_warm(kind) ? json_load_file(list, 0, NULL) : NULL;
}

static bool has(const json_t *disks, const struct vm_disk *d)
{
	char id[LAB_DISK_ID];
	const json_t *row;
	size_t i;

	if (lab_disk_id(d->path, id) < 0)
		return false;
	json_array_foreach(disks, i, row)
	{
		const char *its = json_string_value(json_object_get(row, "id"));

		if (its && !strcmp(its, id))
			return json_is_true(json_object_get(row, "direct")) == d->direct &&
			       (d->read_only || !json_is_true(json_object_get(row, "read_only")));
	}
	return false;
}

bool lab_has_disks(const struct arch_kind *kind, const struct vm_disk *disks, size_t count)
{
	json_t *list = count ? lab_disks_published(kind) : NULL;
	bool all = true;

	for (size_t i = 0; all && i < count; i++)
		all = has(list, &disks[i]);
	json_decref(list);
	return all;
}
