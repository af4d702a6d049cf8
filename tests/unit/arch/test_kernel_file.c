/* What a kernel file says of itself: release and fitness, of files good, cut and odd. */
#include <elf.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "arch/arch.h"
#include "base/util.h"

#define TEXT_AT	 0x1000
#define FILE_LEN 0x1100

static char path[] = "/tmp/stasis-test-XXXXXX";

static void write_file(const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, data, len), 0);
	close(fd);
}

static void release_is(const char *want)
{
	char *got = arch_kernel_release(path);

	if (want)
		assert_string_equal(got ?: "(none)", want);
	else
		assert_null(got);
	free(got);
}

static void make_bzimage(uint8_t *file, const char *text)
{
	const uint16_t at = TEXT_AT - 0x200;

	memset(file, 0, FILE_LEN);
	memcpy(file + 0x202, "HdrS", 4);
	memcpy(file + 0x20E, &at, sizeof(at));
	memcpy(file + TEXT_AT, text, strlen(text) + 1);
}

static void a_bzimage_says_its_release(void **state)
{
	static const char text[] = "6.12.117+deb12-cloud-amd64 (builder) #1 SMP";
	uint8_t file[FILE_LEN];

	(void)state;
	make_bzimage(file, text);
	write_file(file, FILE_LEN);
	release_is("6.12.117+deb12-cloud-amd64");
	assert_true(arch_kernel_fits(path));
	/* Cut anywhere, it says all or nothing. */
	for (size_t len = 0; len < TEXT_AT + 27; len += len < TEXT_AT - 8 ? 61 : 1) {
		write_file(file, len);
		release_is(len == TEXT_AT + 27 ? "6.12.117+deb12-cloud-amd64" : NULL);
	}
	make_bzimage(file, "../../etc (x)");
	write_file(file, FILE_LEN);
	release_is(NULL);
	make_bzimage(file, "6.12\x1b[31m (x)");
	write_file(file, FILE_LEN);
	release_is(NULL);
	memset(file + TEXT_AT, '6', FILE_LEN - TEXT_AT);
	write_file(file, FILE_LEN);
	release_is(NULL);
}

static void a_vmlinux_says_its_release(void **state)
{
	static const char decoy[] = "Linux version %s (%s)",
			  text[] = "Linux version 6.12.1-x (me) #1";
	enum { LEN = 0x21000 };
	uint8_t *file = calloc(1, LEN);
	Elf64_Ehdr elf = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64}, .e_machine = EM_X86_64};

	(void)state;
	assert_non_null(file);
	/* Wherever it lies to the borders of what is read at once. */
	for (size_t at = 0x10000 - 200; at < 0x10000 + 60; at += 3) {
		memset(file, 0, LEN);
		memcpy(file, &elf, sizeof(elf));
		memcpy(file + 0x800, decoy, sizeof(decoy));
		memcpy(file + at, text, sizeof(text));
		write_file(file, LEN);
		release_is("6.12.1-x");
	}
	assert_true(arch_kernel_fits(path));
	memset(file + 0x1000, 0, LEN - 0x1000);
	write_file(file, LEN); /* only the decoy */
	release_is(NULL);
	memcpy(file + LEN - 20, text, 20); /* cut in the middle of it */
	write_file(file, LEN);
	release_is(NULL);
	elf.e_machine = EM_AARCH64;
	write_file(&elf, sizeof(elf));
	assert_false(arch_kernel_fits(path));
	free(file);
}

static void other_things_say_nothing(void **state)
{
	(void)state;
	write_file("", 0);
	release_is(NULL);
	assert_false(arch_kernel_fits(path));
	write_file("text", 4);
	release_is(NULL);
	assert_false(arch_kernel_fits(path));
	assert_null(arch_kernel_release("/tmp"));
	assert_null(arch_kernel_release("/no/such/file"));
	assert_false(arch_kernel_fits("/no/such/file"));
}

static int tear_down(void **state)
{
	(void)state;
	return unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_bzimage_says_its_release),
		cmocka_unit_test(a_vmlinux_says_its_release),
		cmocka_unit_test(other_things_say_nothing),
	};
	int fd = mkstemp(path);

	if (fd < 0)
		return 1;
	close(fd);
	return cmocka_run_group_tests(tests, NULL, tear_down);
}
