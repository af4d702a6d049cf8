/* arm64 kernel files: Image, gzip of one, EFI zboot. The file is hostile. Any thread.
 *
 * Image (Documentation/arch/arm64/booting.rst):
 *   0 code  8 text_offset  16 image_size  24 flags  32 reserved  56 "ARM\x64"  60 PE header's place
 * zboot (drivers/firmware/efi/libstub/zboot-header.S):
 *   0 "MZ"  4 "zimg"  8 payload's place (32 bits)  12 its length  24 compression, a C string */
#include <errno.h>
#include <string.h>

#include "arch/aarch64/machine.h"
#include "base/util.h"
#include "guest/unpack.h"

#define HEADER_LEN	64
#define TEXT_OFFSET_AT	8
#define IMAGE_SIZE_AT	16
#define FLAGS_AT	24
#define MAGIC_AT	56
#define FLAG_BIG_ENDIAN 1u
#define ZBOOT_AT	8
#define ZBOOT_LEN_AT	12
#define ZBOOT_KIND_AT	24
#define ZBOOT_KIND_MAX	32
#define UNPACKED_MAX	GIB(1)
/* Before Linux 3.17 the header gave no size; none of those is supported. */
#define TEXT_OFFSET_MAX MIB(2)

static bool is_image(const uint8_t *data, size_t len)
{
	return len >= HEADER_LEN && !memcmp(data + MAGIC_AT, "ARM\x64", 4);
}

static bool is_zboot(const uint8_t *data, size_t len)
{
	return len >= HEADER_LEN && !memcmp(data, "MZ", 2) && !memcmp(data + 4, "zimg", 4);
}

static bool is_gzip(const uint8_t *data, size_t len)
{
	return len >= 2 && data[0] == 0x1f && data[1] == 0x8b;
}

bool kernel_image_looks(const uint8_t *head, size_t len)
{
	return is_image(head, len) || is_zboot(head, len) || is_gzip(head, len);
}

static uint64_t get_le(const uint8_t *at, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v |= (uint64_t)at[i] << 8 * i;
	return v;
}

/* kind as zboot calls it. */
static int unpack(const char *kind, const uint8_t *data, size_t len, const char *name,
		  struct kernel_image *image, struct error *err)
{
	static const struct {
		const char *kind;
		int (*unpack)(const uint8_t *data, size_t len, size_t max, uint8_t **ret_data,
			      size_t *ret_len);
	} kinds[] = {
		{"gzip", unpack_gzip},
		{"xzkern", unpack_xz},
		{"zstd", unpack_zstd},
		{"zstd22", unpack_zstd},
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		int r;

		if (strcmp(kind, kinds[i].kind))
			continue;
		r = kinds[i].unpack(data, len, UNPACKED_MAX, &image->unpacked, &image->len);
		if (r == -ENOMEM)
			return error_set_shortage(err, r, "unpacking %s", name);
		if (r < 0)
			return error_usage(err, "%s: a broken or truncated kernel (%s)", name,
					   kind);
		image->data = image->unpacked;
		return 0;
	}
	return error_usage(err,
			   "%s: compressed by %.32s, which is not known here; gzip, xz and zstd "
			   "are",
			   name, kind);
}

static int unpack_zboot(const uint8_t *file, size_t len, const char *name,
			struct kernel_image *image, struct error *err)
{
	uint64_t at = get_le(file + ZBOOT_AT, 4), size = get_le(file + ZBOOT_LEN_AT, 4);
	char kind[ZBOOT_KIND_MAX + 1] = "";

	memcpy(kind, file + ZBOOT_KIND_AT, ZBOOT_KIND_MAX);
	for (char *c = kind; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	if (at > len || size > len - at)
		return error_usage(err, "%s: a truncated kernel, %zu bytes of %llu", name, len,
				   (unsigned long long)(at + size));
	return unpack(kind, file + at, (size_t)size, name, image, err);
}

static int read_header(const char *name, struct kernel_image *image, struct error *err)
{
	const uint8_t *h = image->data;

	if (!is_image(h, image->len))
		return error_usage(err, "%s: not an arm64 kernel once it is unpacked", name);
	image->text_offset = get_le(h + TEXT_OFFSET_AT, 8);
	image->image_size = get_le(h + IMAGE_SIZE_AT, 8);
	if (get_le(h + FLAGS_AT, 8) & FLAG_BIG_ENDIAN)
		return error_usage(err, "%s: a big-endian kernel; little-endian ones are taken",
				   name);
	if (image->image_size == 0)
		return error_usage(err, "%s: an Image without its size (before Linux 3.17)", name);
	if (image->text_offset >= TEXT_OFFSET_MAX)
		return error_usage(err, "%s: a broken Image: its text begins at %#llx", name,
				   (unsigned long long)image->text_offset);
	/* The rest of it, up to its size, is BSS. */
	if (image->len > image->image_size)
		image->len = (size_t)image->image_size;
	return 0;
}

/* image_size is BSS and all, so a file cut short can only be told by the PE header's sections:
 * VirtualAddress and SizeOfRawData cover the file (PE format, "Section Table"). */
static int check_whole(const char *name, const struct kernel_image *image, size_t have,
		       struct error *err)
{
	uint64_t pe = get_le(image->data + 60, 4), sections, table;

	if (pe == 0)
		return 0; /* built without CONFIG_EFI */
	if (pe > image->len || image->len - pe < 24)
		return error_usage(err,
				   "%s: a truncated kernel, %zu bytes: its PE header is at %#llx",
				   name, have, (unsigned long long)pe);
	if (memcmp(image->data + pe, "PE\0\0", 4))
		return 0;
	sections = get_le(image->data + pe + 6, 2);
	table = pe + 24 + get_le(image->data + pe + 20, 2);
	for (uint64_t i = 0; i < sections && i < 16 && table + 40 * (i + 1) <= image->len; i++) {
		const uint8_t *s = image->data + table + 40 * i;
		uint64_t end = get_le(s + 20, 4) + get_le(s + 16, 4);

		if (end > have)
			return error_usage(err, "%s: a truncated kernel, %zu bytes of %llu", name,
					   have, (unsigned long long)end);
	}
	return 0;
}

static bool is_text(const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < MIN(len, (size_t)256); i++)
		if ((data[i] < ' ' && data[i] != '\n' && data[i] != '\t' && data[i] != '\r') ||
		    data[i] == 0x7f)
			return false;
	return true;
}

static int not_a_kernel(const uint8_t *file, size_t len, const char *name, struct error *err)
{
	if (len == 0)
		return error_usage(err, "%s: an empty file, not a kernel", name);
	if (len > 0x206 && !memcmp(file + 0x202, "HdrS", 4))
		return error_usage(err, "%s: a kernel for x86-64; one for arm64 is needed", name);
	if (len >= 4 && !memcmp(file, "\177ELF", 4))
		return error_usage(err, "%s: an ELF file; an arm64 Image is needed", name);
	if (is_text(file, len))
		return error_usage(err, "%s: a text file, not a kernel", name);
	if (len < HEADER_LEN)
		return error_usage(err, "%s: %zu bytes are too few for a kernel", name, len);
	return error_usage(err, "%s: not a kernel: neither an arm64 Image nor a compressed one",
			   name);
}

int kernel_image_read(const uint8_t *file, size_t len, const char *name,
		      struct kernel_image *ret_image, struct error *err)
{
	struct kernel_image image = {.data = file, .len = len};
	size_t have;
	int r = 0;

	if (is_zboot(file, len))
		r = unpack_zboot(file, len, name, &image, err);
	else if (is_gzip(file, len))
		r = unpack("gzip", file, len, name, &image, err);
	else if (!is_image(file, len))
		return not_a_kernel(file, len, name, err);
	have = image.len;
	if (r == 0)
		r = read_header(name, &image, err);
	if (r == 0)
		r = check_whole(name, &image, have, err);
	if (r < 0)
		kernel_image_done(&image);
	else
		*ret_image = image;
	return r;
}

void kernel_image_done(struct kernel_image *image)
{
	free(image->unpacked);
	*image = (struct kernel_image){0};
}
