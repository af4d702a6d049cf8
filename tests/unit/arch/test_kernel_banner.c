/* A vmlinux says its release by its banner, wherever that lies; decoys and cut ones say none. */
#include <elf.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "arch/kinds.h"
#include "base/util.h"

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
	char *got = arch_kind_x86_64.kernel_release(path);

	if (want)
		assert_string_equal(got ?: "(none)", want);
	else
		assert_null(got);
	free(got);
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
	assert_true(arch_kind_x86_64.kernel_fits(path));
	memset(file + 0x1000, 0, LEN - 0x1000);
	write_file(file, LEN); /* only the decoy */
	release_is(NULL);
	memcpy(file + LEN - 20, text, 20); /* cut in the middle of it */
	write_file(file, LEN);
	release_is(NULL);
	free(file);
}

static int tear_down(void **state)
{
	(void)state;
	return unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_vmlinux_says_its_release),
	};
	int fd = mkstemp(path);

	if (fd < 0)
		return 1;
	close(fd);
	return cmocka_run_group_tests(tests, NULL, tear_down);
}
