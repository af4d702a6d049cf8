/* Kernel files taken apart: Image, gzip, EFI zboot, and what is none of them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <lzma.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "arch/aarch64/machine.h"
#include "arch/kinds.h"
#include "images.h"

#define ROOM (IMAGE_LEN + 4096)

static uint8_t image[IMAGE_LEN];

static void check_image(const uint8_t *file, size_t len)
{
	struct kernel_image k;
	struct error err = {0};

	if (kernel_image_read(file, len, "k", &k, &err) < 0)
		fail_msg("%s", err.what);
	assert_int_equal(k.len, IMAGE_LEN);
	assert_memory_equal(k.data, image, IMAGE_LEN);
	assert_int_equal(k.text_offset, 0);
	assert_int_equal(k.image_size, IMAGE_SIZE);
	kernel_image_done(&k);
}

static size_t gzip(uint8_t *out)
{
	z_stream z = {.next_in = image, .avail_in = IMAGE_LEN, .next_out = out, .avail_out = ROOM};

	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	return ROOM - z.avail_out;
}

static size_t zstd(uint8_t *out)
{
	return ZSTD_compress(out, ROOM, image, IMAGE_LEN, 3);
}

static size_t xz(uint8_t *out)
{
	size_t len = 0;

	assert_int_equal(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC32, NULL, image, IMAGE_LEN, out,
						 &len, ROOM),
			 LZMA_OK);
	return len;
}

/* drivers/firmware/efi/libstub/zboot-header.S; the payload in the middle of the file. */
static size_t zboot(uint8_t *out, const char *kind, size_t (*pack)(uint8_t *out))
{
	uint32_t at = 0x200, len = (uint32_t)pack(out + at);

	memset(out, 0, at);
	memcpy(out, "MZ\0\0zimg", 8);
	memcpy(out + 8, &at, 4);
	memcpy(out + 12, &len, 4);
	strcpy((char *)out + 24, kind);
	return at + len + 100;
}

static const struct {
	const char *kind;
	size_t (*pack)(uint8_t *out);
} kinds[] = {{"gzip", gzip}, {"zstd", zstd}, {"zstd22", zstd}, {"xzkern", xz}};

static void all_kinds(void **state)
{
	static uint8_t file[2 * ROOM];

	(void)state;
	check_image(image, IMAGE_LEN);
	check_image(file, gzip(file));
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		check_image(file, zboot(file, kinds[i].kind, kinds[i].pack));
}

static void refused(const uint8_t *file, size_t len, const char *says)
{
	struct kernel_image k;
	struct error err = {0};

	assert_true(kernel_image_read(file, len, "the-file", &k, &err) < 0);
	assert_int_equal(err.kind, ERROR_USAGE);
	if (!strstr(err.what, says) || !strstr(err.what, "the-file"))
		fail_msg("want '%s': %s", says, err.what);
	assert_null(strchr(err.what, '\n'));
}

static void broken_files(void **state)
{
	static uint8_t file[2 * ROOM];
	uint64_t big = MIB(2), none = 0;
	size_t len;

	(void)state;
	memcpy(file, image, IMAGE_LEN);
	memcpy(file + 8, &big, 8);
	refused(file, IMAGE_LEN, "text begins");
	memcpy(file, image, IMAGE_LEN);
	memcpy(file + 16, &none, 8);
	refused(file, IMAGE_LEN, "without its size");
	memcpy(file, image, IMAGE_LEN);
	file[24] |= 1;
	refused(file, IMAGE_LEN, "big-endian");
	refused(image, 40, "too few");
	refused(image, 0, "empty");
	len = gzip(file);
	refused(file, len - 20, "truncated");
	refused(file, 3, "truncated");
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		len = zboot(file, kinds[i].kind, kinds[i].pack);
		refused(file, len - 120, "truncated");
		file[0x201] ^= 0xff;
		refused(file, len, "broken");
	}
	len = zboot(file, "lzo", gzip);
	refused(file, len, "compressed by lzo");
	memset(file + 24, 0xff, 32);
	refused(file, len, "compressed by ????");
	len = zboot(file, "gzip", gzip);
	memset(file + 8, 0xff, 8);
	refused(file, len, "truncated");
	memset(file, 0, 1024);
	refused(file, 1024, "not a kernel");
	memcpy(file + 0x202, "HdrS", 4);
	refused(file, 1024, "x86-64");
	memcpy(file, "\177ELF", 4);
	memset(file + 0x202, 0, 4);
	refused(file, 1024, "ELF");
	memset(file, 'a', 1024);
	refused(file, 1024, "text file");
}

/* A PE section that ends past the file: how a cut Image is told. */
static void a_cut_image(void **state)
{
	static uint8_t file[IMAGE_LEN];
	uint32_t pe = 0x40, raw_len = IMAGE_LEN - 0x1000, raw_at = 0x1000;
	uint16_t sections = 1, optional = 0xa0;

	(void)state;
	memcpy(file, image, IMAGE_LEN);
	memcpy(file + 60, &pe, 4);
	memcpy(file + pe, "PE\0\0", 4);
	memcpy(file + pe + 6, &sections, 2);
	memcpy(file + pe + 20, &optional, 2);
	memcpy(file + pe + 24 + optional + 16, &raw_len, 4);
	memcpy(file + pe + 24 + optional + 20, &raw_at, 4);
	{
		struct kernel_image k;

		assert_int_equal(kernel_image_read(file, IMAGE_LEN, "k", &k, NULL), 0);
		kernel_image_done(&k);
	}
	refused(file, IMAGE_LEN - 1, "truncated");
	/* Cut before its PE header, which the header names. */
	refused(file, 64, "truncated");
	refused(file, 64 + 20, "truncated");
	memset(file + 60, 0xff, 4); /* leads nowhere, and is not read */
	refused(file, IMAGE_LEN, "truncated");
}

static void put(const char *path, const void *data, size_t len)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	fclose(f);
}

static void files_say_what_they_are(void **state)
{
	static uint8_t file[2 * ROOM];
	const struct arch_kind *kind = arch_kind_aarch64.name ? &arch_kind_aarch64 : NULL;
	char path[] = "/tmp/stasis-test-XXXXXX", *release;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	for (unsigned i = 0; i < 3; i++) {
		size_t len = i == 0 ? IMAGE_LEN : i == 1 ? gzip(file) : zboot(file, "gzip", gzip);

		put(path, i == 0 ? image : file, len);
		assert_true(kind->kernel_fits(path));
		release = kind->kernel_release(path);
		assert_string_equal(release, "6.12.9-arm64");
		free(release);
	}
	memset(file, 0, 2048);
	memcpy(file + 0x202, "HdrS", 4);
	put(path, file, 2048);
	assert_false(kind->kernel_fits(path));
	assert_null(kind->kernel_release(path));
	put(path, "", 0);
	assert_false(kind->kernel_fits(path));
	unlink(path);
	assert_false(kind->kernel_fits(path));
	assert_null(kind->kernel_release(path));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_kinds),
		cmocka_unit_test(broken_files),
		cmocka_unit_test(a_cut_image),
		cmocka_unit_test(files_say_what_they_are),
	};

	image_make(image, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
