/* What kernel files say of themselves, honest and hostile. */
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "arch/kinds.h"
#include "base/util.h"

#define LEN 8192
/* Linux boot protocol: the text is at this field's value plus 200h. */
#define VERSION_AT 0x20E

static char path[64];

static int make_file(void **state)
{
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "/tmp/stasis-kernel-file-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	return 0;
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(path);
}

static void write_file(const void *data, size_t len)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
}

static uint8_t *bzimage(uint16_t at, const char *text)
{
	uint8_t *image = calloc(1, LEN);

	assert_non_null(image);
	memcpy(image + 0x202, "HdrS", 4);
	memcpy(image + VERSION_AT, &at, sizeof(at));
	if (text)
		memcpy(image + 0x200 + at, text, MIN(strlen(text) + 1, LEN - 0x200u - at));
	return image;
}

static void says(uint16_t at, const char *text, const char *release)
{
	uint8_t *image = bzimage(at, text);
	char *got;

	write_file(image, LEN);
	assert_true(arch_kind_x86_64.kernel_fits(path));
	got = arch_kind_x86_64.kernel_release(path);
	if (release)
		assert_string_equal(got, release);
	else
		assert_null(got);
	free(got);
	free(image);
}

static void a_release_is_the_first_word(void **state)
{
	(void)state;
	says(0x1000, "6.12.117+deb12-cloud-amd64 (builder) #1 SMP", "6.12.117+deb12-cloud-amd64");
	says(0x1000, "6.12.0-rc1_x", "6.12.0-rc1_x");
	says(LEN - 0x200 - 4, "6.1", "6.1"); /* the file ends with its NUL */
}

static void what_is_no_release_is_none(void **state)
{
	char longer[300];

	(void)state;
	says(0, NULL, NULL);
	says(0x1000, "", NULL);
	says(0x1000, " 6.12", NULL);
	says(0x1000, "6.12\n", NULL);
	says(0x1000, "\x1b[2J6.12", NULL);
	says(0x1000, "6.12\x80 x", NULL);
	says(0x1000, "../../etc x", NULL);
	says(LEN - 0x200 - 3, "6.1 ", NULL); /* cut by the end of the file */
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	says(0x1000, longer, NULL);
}

static void an_offset_outside_of_the_file_is_none(void **state)
{
	uint8_t *image = bzimage(0, NULL);

	(void)state;
	for (unsigned at = 1; at <= UINT16_MAX; at += at < LEN && at > LEN - 0x210 ? 1 : 0x1ff) {
		uint16_t field = (uint16_t)at;
		char *got;

		memset(image + 0x300, 'x', LEN - 0x300);
		memcpy(image + VERSION_AT, &field, sizeof(field));
		write_file(image, LEN);
		got = arch_kind_x86_64.kernel_release(path);
		assert_null(got);
	}
	free(image);
}

static void every_length_is_survived(void **state)
{
	uint8_t *image = bzimage(0x100, "6.12 x");

	(void)state;
	for (size_t len = 0; len < 0x320; len++) {
		char *got;

		write_file(image, len);
		got = arch_kind_x86_64.kernel_release(path);
		if (len < 0x305)
			assert_null(got);
		else
			assert_string_equal(got, "6.12");
		assert_int_equal(arch_kind_x86_64.kernel_fits(path), len > 0x210);
		free(got);
	}
	free(image);
}

static void elf_fits_by_its_machine(void **state)
{
	Elf64_Ehdr elf = {.e_ident = {0x7f, 'E', 'L', 'F'}, .e_machine = EM_X86_64};

	(void)state;
	write_file(&elf, sizeof(elf));
	assert_true(arch_kind_x86_64.kernel_fits(path));
	assert_null(arch_kind_x86_64.kernel_release(path));
	write_file(&elf, sizeof(elf) - 1);
	assert_false(arch_kind_x86_64.kernel_fits(path));
	elf.e_machine = EM_AARCH64;
	write_file(&elf, sizeof(elf));
	assert_false(arch_kind_x86_64.kernel_fits(path));
}

static void other_files_do_not_fit(void **state)
{
	uint8_t arm64[64] = {'M', 'Z'};

	(void)state;
	memcpy(arm64 + 56, "ARM\x64", 4);
	write_file(arm64, sizeof(arm64));
	assert_false(arch_kind_x86_64.kernel_fits(path));
	write_file("#!/bin/sh\n", 10);
	assert_false(arch_kind_x86_64.kernel_fits(path));
	assert_null(arch_kind_x86_64.kernel_release(path));
	assert_false(arch_kind_x86_64.kernel_fits("/no/such/file"));
	assert_null(arch_kind_x86_64.kernel_release("/no/such/file"));
	assert_false(arch_kind_x86_64.kernel_fits("/tmp"));
	assert_null(arch_kind_x86_64.kernel_release("/tmp"));
	/* A pipe that nobody writes to does not hang it. */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_false(arch_kind_x86_64.kernel_fits(path));
}

#define FILE_TEST(f) cmocka_unit_test_setup_teardown(f, make_file, remove_file)

int main(void)
{
	const struct CMUnitTest tests[] = {
		FILE_TEST(a_release_is_the_first_word),
		FILE_TEST(what_is_no_release_is_none),
		FILE_TEST(an_offset_outside_of_the_file_is_none),
		FILE_TEST(every_length_is_survived),
		FILE_TEST(elf_fits_by_its_machine),
		FILE_TEST(other_files_do_not_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
