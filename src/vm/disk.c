/* --disk: its words, its refusals, its JSON. Control thread. */
#include "vm/disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/parse.h"
#include "base/util.h"

#define IOPS_MAX 1000000000u
#define BPS_MAX	 (1ull << 50)
#define ACCEPTED "ro, direct, id=NAME, iops=N and bps=N are accepted behind the path"

static const char *const word_names[] = {"ro", "direct", "id", "iops", "bps"};

static bool is_id(const char *text)
{
	size_t len = strlen(text);

	return len > 0 && len <= VIRTIO_BLK_ID_BYTES &&
	       strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
		       len;
}

static int unknown(const char *whole, const char *word, struct error *err)
{
	size_t len = strcspn(word, "=");
	char name[32];
	const char *nearest;

	snprintf(name, sizeof(name), "%.*s", (int)len, word);
	nearest = parse_nearest(name, word_names, ARRAY_SIZE(word_names));
	if (nearest)
		return error_usage(err, "%s: \"%s\": did you mean %s? " ACCEPTED, whole, word,
				   nearest);
	return error_usage(err, "%s: \"%s\": " ACCEPTED, whole, word);
}

static int parse_word(const char *whole, const char *word, struct vm_disk *d, struct error *err)
{
	if (!strcmp(word, "ro")) {
		d->read_only = true;
	} else if (!strcmp(word, "direct")) {
		d->direct = true;
	} else if (!strncmp(word, "id=", 3)) {
		if (!is_id(word + 3))
			return error_usage(err,
					   "%s: \"%s\": a name of 1 to %u letters, digits and "
					   "\".\", \"_\", \"-\" is accepted",
					   whole, word, VIRTIO_BLK_ID_BYTES);
		snprintf(d->id, sizeof(d->id), "%s", word + 3);
	} else if (!strncmp(word, "iops=", 5)) {
		if (parse_uint(word + 5, 1, IOPS_MAX, &d->iops) < 0)
			return error_usage(err,
					   "%s: \"%s\": operations a second from 1 to %u are "
					   "accepted",
					   whole, word, IOPS_MAX);
	} else if (!strncmp(word, "bps=", 4)) {
		if (parse_size(word + 4, &d->bps) < 0 || !d->bps || d->bps > BPS_MAX)
			return error_usage(err,
					   "%s: \"%s\": bytes a second such as 65536 or 10M, up to "
					   "1024T, are accepted",
					   whole, word);
	} else {
		return unknown(whole, word, err);
	}
	return 0;
}

int vm_disk_parse(const char *value, size_t index, struct vm_disk *ret_disk, struct error *err)
{
	struct vm_disk d = {0};
	CLEANUP_FREE char *words = strdup(value);
	char *rest = words, *word;
	struct block_spec spec;
	int r = 0;

	if (index >= VM_MAX_DISKS)
		return error_usage(err, "%s: more than %u disks", value, VM_MAX_DISKS);
	snprintf(d.id, sizeof(d.id), "disk%zu", index);
	d.path = words ? strdup(strsep(&rest, ",")) : NULL;
	if (!d.path)
		return error_set(err, -ENOMEM, "reading --disk");
	while (r == 0 && (word = strsep(&rest, ",")))
		r = parse_word(value, word, &d, err);
	if (r == 0 && !d.path[0])
		r = error_usage(err, "%s: a path comes first; " ACCEPTED, value);
	spec = (struct block_spec){d.path, d.read_only, d.direct};
	if (r == 0)
		r = block_file_check(&spec, &d.bytes, err);
	if (r < 0)
		vm_disk_done(&d);
	else
		*ret_disk = d;
	return r;
}

void vm_disk_done(struct vm_disk *disk)
{
	free(disk->path);
	if (disk->copy)
		fd_close(&disk->copy_fd);
	free(disk->copy);
	*disk = (struct vm_disk){0};
}

static json_t *limit_json(uint64_t limit)
{
	return limit ? json_integer((json_int_t)limit) : json_null();
}

json_t *vm_disk_json(const struct vm_disk *d)
{
	return json_pack("{s:s, s:o, s:I, s:b, s:b, s:o, s:o}", "id", d->id, "path",
			 /* A path need not be UTF-8; JSON must. */
			 json_string(d->path) ?: json_string("(not UTF-8)"), "bytes",
			 (json_int_t)d->bytes, "read_only", (int)d->read_only, "direct",
			 (int)d->direct, "iops", limit_json(d->iops), "bps", limit_json(d->bps));
}

/* ---- of a snapshot ---------------------------------------------------------------------------
 */

static int64_t modified_ns(const struct stat *st)
{
	return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

/* Of a device's content nothing is known. */
static void set_identity(json_t *json, const struct stat *st)
{
	bool known = S_ISREG(st->st_mode);

	json_object_set_new(json, "inode", json_integer(known ? (json_int_t)st->st_ino : 0));
	json_object_set_new(json, "modified_ns", json_integer(known ? modified_ns(st) : 0));
}

int vm_disk_name(json_t *saved, const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	set_identity(saved, &st);
	return json_object_set_new(saved, "path", json_string(path)) < 0 ? -ENOMEM : 0;
}

json_t *vm_disk_saved(const struct vm_disk *d, const struct virtio_blk *blk)
{
	CLEANUP_FREE char *path = realpath(d->path, NULL);
	struct vm_disk absolute = *d;
	json_t *json;
	struct stat st;

	absolute.path = path ?: d->path;
	json = vm_disk_json(&absolute);
	if (fstat(virtio_blk_fd(blk), &st) < 0)
		st = (struct stat){0};
	if (json)
		set_identity(json, &st);
	return json;
}

static bool read_number(const json_t *json, const char *field, uint64_t most, uint64_t *ret_value)
{
	const json_t *value = json_object_get(json, field);
	json_int_t number = json_integer_value(value);

	if (json_is_null(value))
		number = 0;
	else if (!json_is_integer(value) || number < 0 || (uint64_t)number > most)
		return false;
	*ret_value = (uint64_t)number;
	return true;
}

bool vm_disk_path_canonical(const char *path)
{
	size_t len = strlen(path);

	return path[0] == '/' && path[len - 1] != '/' && !strstr(path, "//") &&
	       !strstr(path, "/./") && !strstr(path, "/../") &&
	       !(len >= 2 && !strcmp(path + len - 2, "/.")) &&
	       !(len >= 3 && !strcmp(path + len - 3, "/.."));
}

int vm_disk_read(const json_t *json, struct vm_disk *ret_disk, struct error *err)
{
	const char *id = json_string_value(json_object_get(json, "id"));
	const char *path = json_string_value(json_object_get(json, "path"));
	const json_t *read_only = json_object_get(json, "read_only");
	const json_t *direct = json_object_get(json, "direct");
	const json_t *modified = json_object_get(json, "modified_ns");
	struct vm_disk d = {
		.read_only = json_is_true(read_only),
		.direct = json_is_true(direct),
		.modified_ns = json_integer_value(modified),
	};

	if (!id || !is_id(id) || !path || !vm_disk_path_canonical(path) ||
	    !json_is_boolean(read_only) || !json_is_boolean(direct) || !json_is_integer(modified) ||
	    !read_number(json, "iops", IOPS_MAX, &d.iops) ||
	    !read_number(json, "bps", BPS_MAX, &d.bps) ||
	    !read_number(json, "bytes", INT64_MAX, &d.bytes) ||
	    !read_number(json, "inode", INT64_MAX, &d.inode))
		return error_usage(err, "the description: a disk is missing or makes no sense");
	snprintf(d.id, sizeof(d.id), "%s", id);
	d.path = strdup(path);
	if (!d.path)
		return error_set(err, -ENOMEM, "reading a snapshot");
	*ret_disk = d;
	return 0;
}

int vm_disk_check(const struct vm_disk *d, int fd, struct error *err)
{
	const char *why = NULL;
	struct stat st;

	if (d->told)
		return 0; /* its size is the device's to check */
	if (fstat(fd, &st) < 0)
		return error_set(err, -errno, "looking at disk %s, %s", d->id, d->path);
	if (!S_ISREG(st.st_mode) || !d->inode)
		why = "whether it has changed since can't be told";
	else if (st.st_ino != d->inode)
		why = "it is another file than it was";
	else if ((uint64_t)st.st_size != d->bytes || modified_ns(&st) != d->modified_ns)
		why = "it has changed since the snapshot";
	if (!why)
		return 0;
	error_usage(err, "disk %s, %s: %s", d->id, d->path, why);
	error_hint(err, "--disk %s=PATH says which file has what it had", d->id);
	return -EINVAL;
}

int vm_disk_replace(struct vm_disk *disks, size_t count, const char *value, struct error *err)
{
	const char *equals = strchr(value, '=');
	size_t len = equals ? (size_t)(equals - value) : 0;

	for (size_t i = 0; equals && equals[1] && i < count; i++) {
		struct vm_disk *d = &disks[i];
		char *path;

		if (strlen(d->id) != len || strncmp(d->id, value, len))
			continue;
		path = strdup(equals + 1);
		if (!path)
			return error_set(err, -ENOMEM, "reading --disk");
		free(d->path);
		d->path = path;
		d->told = true;
		return 0;
	}
	if (!equals || !equals[1])
		return error_usage(err, "--disk %s: ID=PATH is accepted", value);
	return error_usage(err, "--disk %s: the snapshot has no disk of that name", value);
}

json_t *vm_disk_report(const struct vm_disk *d, const struct virtio_blk *blk)
{
	const struct virtio_blk_stats s = virtio_blk_stats(blk);
	const struct {
		const char *name;
		uint64_t value;
	} counts[] = {
		{"reads", s.reads},
		{"writes", s.writes},
		{"flushes", s.flushes},
		{"discards", s.discards},
		{"write_zeroes", s.zeroes},
		{"bytes_read", s.bytes_read},
		{"bytes_written", s.bytes_written},
		{"errors", s.errors},
		{"refused", s.refused},
		{"guest_faults", s.faults},
		{"throttled", s.throttled},
		{"bounced", s.bounced},
		{"continued", s.continued},
		{"interrupts", s.interrupts},
	};
	json_t *json = vm_disk_json(d);

	for (size_t i = 0; json && i < ARRAY_SIZE(counts); i++)
		json_object_set_new(json, counts[i].name,
				    json_integer((json_int_t)counts[i].value));
	return json;
}
