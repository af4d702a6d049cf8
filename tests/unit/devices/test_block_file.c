/* What is a disk and what is refused, by which words; locks. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/text.h"
#include "devices/block_file.h"

static char dir[] = "/tmp/stasis-block-XXXXXX";

static int make_dir(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	char command[64];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

static const char *path_of(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void make(const char *name, off_t bytes, mode_t mode)
{
	int fd = open(path_of(name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, bytes), 0);
	close(fd);
}

static void expect_refusal(const char *name, bool read_only, enum error_kind kind,
			   const char *words)
{
	struct block_spec spec = {.path = path_of(name), .read_only = read_only};
	struct block_file f = {.fd = -77};
	struct error err = {0};

	assert_true(block_file_open(&spec, &f, &err) < 0);
	assert_int_equal(f.fd, -77);
	assert_int_equal(err.kind, kind);
	if (!strstr(err.what, words) || !strstr(err.what, name))
		fail_msg("\"%s\" lacks \"%s\" or \"%s\"", err.what, words, name);
}

static void test_open(void **state)
{
	struct block_spec spec = {.path = path_of("good")};
	struct block_file f;
	struct error err = {0};
	uint64_t bytes;

	(void)state;
	make("good", 1 << 20, 0600);
	assert_int_equal(block_file_check(&spec, &bytes, &err), 0);
	assert_int_equal(bytes, 1 << 20);
	assert_int_equal(block_file_open(&spec, &f, &err), 0);
	assert_int_equal(f.bytes, 1 << 20);
	assert_int_equal(f.block_bytes, 512);
	assert_int_equal(f.memory_align, 1);
	assert_true(f.physical_bytes >= 512 && !(f.physical_bytes & (f.physical_bytes - 1)));
	/* io_uring would end operations early. */
	assert_false(fcntl(f.fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(f.fd, F_GETFD) & FD_CLOEXEC);
	block_file_close(&f);
	assert_int_equal(f.fd, -1);
	block_file_close(&f);
}

static void test_refusals(void **state)
{
	bool root = geteuid() == 0;
	int fd;

	(void)state;
	make("odd", 1000, 0600);
	make("empty", 0, 0600);
	make("closed", 4096, 0);
	make("readable", 4096, 0400);
	make("qcow", 4096, 0600);
	fd = open(path_of("qcow"), O_WRONLY | O_CLOEXEC);
	assert_int_equal(write(fd, "QFI\xfb", 4), 4);
	close(fd);
	assert_int_equal(mkdir(path_of("folder"), 0700), 0);
	assert_int_equal(mkfifo(path_of("pipe"), 0600), 0);
	expect_refusal("missing", false, ERROR_USAGE, "no such file");
	expect_refusal("good/below", false, ERROR_USAGE, "Not a directory");
	expect_refusal("folder", false, ERROR_USAGE, "is a folder");
	expect_refusal("pipe", false, ERROR_USAGE, "is a pipe");
	expect_refusal("odd", false, ERROR_USAGE, "1000 bytes, is not a multiple of 512");
	expect_refusal("empty", false, ERROR_USAGE, "is empty");
	expect_refusal("qcow", false, ERROR_USAGE, "qcow2");
	/* Root may open anything: go as nobody. */
	assert_int_equal(chmod(dir, 0755), 0);
	if (root)
		assert_int_equal(seteuid(65534), 0);
	expect_refusal("closed", true, ERROR_USAGE, "Permission denied");
	expect_refusal("readable", false, ERROR_USAGE, "add ,ro");
	if (root)
		assert_int_equal(seteuid(0), 0);
}

static void test_locks(void **state)
{
	struct block_spec rw = {.path = path_of("shared")}, ro = rw;
	struct block_file a, b;
	struct error err = {0};

	(void)state;
	make("shared", 4096, 0600);
	ro.read_only = true;
	assert_int_equal(block_file_open(&ro, &a, &err), 0);
	assert_int_equal(block_file_open(&ro, &b, &err), 0);
	assert_true(a.read_only);
	expect_refusal("shared", false, ERROR_CONTENTION, "in use");
	/* To look is no use. */
	rw.path = path_of("shared");
	assert_int_equal(block_file_check(&rw, NULL, &err), 0);
	block_file_close(&a);
	block_file_close(&b);
	assert_int_equal(block_file_open(&rw, &a, &err), 0);
	expect_refusal("shared", true, ERROR_CONTENTION, "in use");
	expect_refusal("shared", false, ERROR_CONTENTION, "in use");
	block_file_close(&a);
}

static void test_direct(void **state)
{
	struct block_spec spec = {.path = path_of("direct"), .direct = true};
	struct error err = {0};
	struct block_file f;
	void *buf = NULL;
	int r;

	(void)state;
	make("direct", 1 << 20, 0600);
	r = block_file_open(&spec, &f, &err);
	if (r < 0) {
		/* The refusal is what is tested then. */
		assert_int_equal(err.kind, ERROR_USAGE);
		assert_non_null(strstr(err.what, "direct"));
		print_message("no direct I/O here: %s\n", err.what);
		return;
	}
	assert_true(f.memory_align >= 512 && f.memory_align == f.block_bytes);
	assert_true(fcntl(f.fd, F_GETFL) & O_DIRECT);
	assert_int_equal(posix_memalign(&buf, f.memory_align, f.block_bytes), 0);
	assert_int_equal(pread(f.fd, buf, f.block_bytes, f.block_bytes), f.block_bytes);
	free(buf);
	block_file_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_locks),
		cmocka_unit_test(test_direct),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
