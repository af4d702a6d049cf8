/* Reads KVM's statistics files. See kvm_stats.h. */
#include "vm/kvm_stats.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"

/* KVM's files have a few KiB; these bounds are far from them, and from what would hurt. */
#define FILE_MAX	 KIB(256)
#define NAME_MAX_BYTES	 256u
#define DESCRIPTORS_MAX	 1024u
#define HISTOGRAM_MAX	 1024u
#define HEADER_BYTES	 24u /* struct kvm_stats_header */
#define DESCRIPTOR_BYTES 16u

/*
 *   0             id_offset       desc_offset                        data_offset
 *   | header      | name of it    | descriptor, name | descriptor …  | u64 …
 *
 * A descriptor's offset counts from data_offset. All integers are the host's. */
struct file {
	const uint8_t *bytes;
	size_t len;
	struct kvm_stats_header header;
};

/* struct kvm_stats_desc without its name, whose length only the header knows. */
struct descriptor {
	uint32_t flags;
	int16_t exponent;
	uint16_t size; /* values */
	uint32_t offset;
	uint32_t bucket_size;
};
_Static_assert(sizeof(struct descriptor) == DESCRIPTOR_BYTES &&
		       offsetof(struct descriptor, bucket_size) ==
			       offsetof(struct kvm_stats_desc, bucket_size),
	       "as KVM has it");

struct statistic {
	struct descriptor desc;
	char name[NAME_MAX_BYTES];
	const uint8_t *data; /* desc.size values, inside the file */
};

static bool inside(const struct file *f, uint64_t offset, uint64_t len)
{
	return offset <= f->len && len <= f->len - offset;
}

static uint64_t value_at(const struct statistic *s, unsigned i)
{
	uint64_t value;

	memcpy(&value, s->data + i * sizeof(value), sizeof(value));
	return value;
}

/* A name of KVM's, and nothing that JSON or a terminal could stumble over. */
static bool is_name(const char *name)
{
	return name[0] && !name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					     "0123456789_-.")];
}

static bool statistic_at(const struct file *f, uint32_t i, struct statistic *ret)
{
	uint64_t offset =
		f->header.desc_offset + (uint64_t)i * (DESCRIPTOR_BYTES + f->header.name_size);
	const uint8_t *bytes;

	if (!inside(f, offset, DESCRIPTOR_BYTES + f->header.name_size))
		return false;
	bytes = f->bytes + offset;
	memcpy(&ret->desc, bytes, DESCRIPTOR_BYTES);
	memcpy(ret->name, bytes + DESCRIPTOR_BYTES, f->header.name_size);
	ret->name[f->header.name_size - 1] = 0;
	offset = (uint64_t)f->header.data_offset + ret->desc.offset;
	if (!is_name(ret->name) || ret->desc.size == 0 || ret->desc.size > HISTOGRAM_MAX ||
	    !inside(f, offset, ret->desc.size * sizeof(uint64_t)))
		return false;
	ret->data = f->bytes + offset;
	return true;
}

/* ---- as JSON --------------------------------------------------------------------------- */

static const char *unit_of(const struct descriptor *desc)
{
	uint32_t unit = desc->flags & KVM_STATS_UNIT_MASK;

	if (unit == KVM_STATS_UNIT_BYTES)
		return desc->exponent == 0 ? "B" : desc->exponent == 10 ? "KiB" : "?";
	if (unit == KVM_STATS_UNIT_CYCLES)
		return "cycles";
	if (unit != KVM_STATS_UNIT_SECONDS)
		return "";
	return desc->exponent == -9   ? "ns"
	       : desc->exponent == -6 ? "us"
	       : desc->exponent == -3 ? "ms"
	       : desc->exponent == 0  ? "s"
				      : "?";
}

/* The least value of a bucket: of a linear histogram multiples of its bucket_size, of a logarithmic
 * one 0, 1, 2, 4, 8 … */
static uint64_t bucket_from(const struct descriptor *desc, unsigned i)
{
	if ((desc->flags & KVM_STATS_TYPE_MASK) == KVM_STATS_TYPE_LINEAR_HIST)
		return (uint64_t)i * desc->bucket_size;
	return i == 0 ? 0 : i > 64 ? UINT64_MAX : UINT64_C(1) << (i - 1);
}

/* NULL: empty, or out of memory. */
static json_t *histogram_json(const struct statistic *s)
{
	CLEANUP_FREE char *text = NULL;
	bool any = false;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	for (unsigned i = 0; f && i < s->desc.size; i++) {
		uint64_t n = value_at(s, i);

		if (n)
			fprintf(f, "%s%" PRIu64 ":%" PRIu64, any ? " " : "",
				bucket_from(&s->desc, i), n);
		any |= n != 0;
	}
	if (!f || fclose(f) != 0 || !any)
		return NULL;
	return json_pack("{s:s, s:s}", "unit", unit_of(&s->desc), "buckets", text);
}

static void add(json_t *stats, const struct statistic *s)
{
	uint32_t type = s->desc.flags & KVM_STATS_TYPE_MASK;

	if (type == KVM_STATS_TYPE_LINEAR_HIST || type == KVM_STATS_TYPE_LOG_HIST) {
		json_t *histogram = histogram_json(s);

		if (histogram)
			json_object_set_new(stats, s->name, histogram);
	} else if (value_at(s, 0)) {
		json_object_set_new(stats, s->name, json_integer((json_int_t)value_at(s, 0)));
	}
}

int kvm_stats_parse(const uint8_t *file, size_t len, json_t **ret_stats)
{
	struct file f = {.bytes = file, .len = len};
	struct statistic s;
	json_t *stats;

	if (len < HEADER_BYTES)
		return -EBADMSG;
	memcpy(&f.header, file, HEADER_BYTES);
	if (f.header.name_size == 0 || f.header.name_size > NAME_MAX_BYTES ||
	    f.header.num_desc > DESCRIPTORS_MAX)
		return -EBADMSG;
	stats = json_object();
	if (!stats)
		return -ENOMEM;
	for (uint32_t i = 0; i < f.header.num_desc; i++) {
		if (!statistic_at(&f, i, &s)) {
			json_decref(stats);
			return -EBADMSG;
		}
		add(stats, &s);
	}
	*ret_stats = stats;
	return 0;
}

/* ---- files ----------------------------------------------------------------------------- */

/* All of it, or FILE_MAX; malloc'ed. */
static int read_file(int fd, uint8_t **ret_file, size_t *ret_len)
{
	CLEANUP_FREE uint8_t *file = malloc(FILE_MAX);
	size_t len = 0;
	ssize_t n = 1;

	if (!file)
		return -ENOMEM;
	while (n > 0 && len < FILE_MAX) {
		n = pread(fd, file + len, FILE_MAX - len, (off_t)len);
		if (n < 0)
			return -errno;
		len += (size_t)n;
	}
	*ret_file = file;
	*ret_len = len;
	file = NULL;
	return 0;
}

int kvm_stats_read(int fd, json_t **ret_stats)
{
	struct kvm_stats_like like = {0};
	int r = kvm_stats_read_like(&like, fd, ret_stats);

	kvm_stats_like_done(&like);
	return r;
}

static int read_first(struct kvm_stats_like *like, int fd, json_t **ret_stats)
{
	struct kvm_stats_like first = {0};
	struct kvm_stats_header header;
	int r = read_file(fd, &first.file, &first.len);

	if (r == 0)
		r = kvm_stats_parse(first.file, first.len, ret_stats);
	if (r < 0) {
		kvm_stats_like_done(&first);
		return r;
	}
	memcpy(&header, first.file, HEADER_BYTES);
	/* Without statistics, it may lie anywhere. */
	first.data_offset = MIN((size_t)header.data_offset, first.len);
	*like = first;
	return 0;
}

int kvm_stats_read_like(struct kvm_stats_like *like, int fd, json_t **ret_stats)
{
	size_t len = like->len - like->data_offset;
	ssize_t n;

	if (!like->file)
		return read_first(like, fd, ret_stats);
	n = pread(fd, like->file + like->data_offset, len, (off_t)like->data_offset);
	if (n < 0)
		return -errno;
	return (size_t)n < len ? -EBADMSG : kvm_stats_parse(like->file, like->len, ret_stats);
}

void kvm_stats_like_done(struct kvm_stats_like *like)
{
	free(like->file);
	*like = (struct kvm_stats_like){0};
}

uint64_t kvm_stats_halted_ns(const json_t *stats)
{
	static const char *const names[] = {"halt_wait_ns", "halt_poll_success_ns",
					    "halt_poll_fail_ns"};
	uint64_t ns = 0;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		ns += (uint64_t)json_integer_value(json_object_get(stats, names[i]));
	return ns;
}
