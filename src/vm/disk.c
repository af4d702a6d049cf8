/* --disk: its words, its refusals, its JSON. Control thread. */
#include "vm/disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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
