/* Where reports go: whole or not at all, through links too, and into what is no file. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "vm/result.h"

static char folder[] = "/tmp/stasis-test-result-XXXXXX";
static char file[64], pointer[64];

static void put(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
	assert_int_equal(fclose(f), 0);
}

static void file_is(const char *path, const char *want)
{
	CLEANUP_FREE char *text = NULL;
	size_t len;

	assert_int_equal(file_read(path, 4096, &text, &len), 0);
	assert_string_equal(text, want);
}

static ino_t inode(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_ino;
}

static bool is_link(const char *path)
{
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	return S_ISLNK(st.st_mode);
}

static int write_to(const char *path, struct error *err)
{
	return vm_json_write(json_pack("{s:i}", "a", 1), "report", path, err);
}

static const char written[] = "{\n  \"a\": 1\n}\n";

static void links_lead_to_a_file_that_is_replaced(void **state)
{
	struct stat st;
	ino_t before;
	int open_fd;
	char old[4] = "";

	(void)state;
	put(file, "old");
	before = inode(file);
	open_fd = open(file, O_RDONLY | O_CLOEXEC);
	assert_true(open_fd >= 0);
	assert_int_equal(symlink(file, pointer), 0);
	assert_int_equal(write_to(pointer, NULL), 0);
	assert_true(is_link(pointer));
	file_is(file, written);
	assert_int_not_equal(inode(file), before);
	/* Who had it open has what it was, whole. */
	assert_int_equal(read(open_fd, old, 3), 3);
	assert_string_equal(old, "old");
	close(open_fd);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	unlink(pointer);
	unlink(file);

	/* One that leads nowhere yet. */
	assert_int_equal(symlink(file, pointer), 0);
	assert_int_equal(write_to(pointer, NULL), 0);
	assert_true(is_link(pointer));
	file_is(file, written);
	unlink(pointer);
	unlink(file);
}

static void a_new_file_is_made(void **state)
{
	struct error err = {0};

	(void)state;
	assert_int_equal(write_to(file, NULL), 0);
	file_is(file, written);
	unlink(file);
	assert_int_equal(write_to("/nonexistent/report", &err), -ENOENT);
	assert_non_null(strstr(err.what, "/nonexistent/report"));
	assert_true(write_to(folder, NULL) < 0);
	/* Nothing is left of what failed. */
	assert_int_equal(rmdir(folder), 0);
	assert_int_equal(mkdir(folder, 0700), 0);
}

static void what_is_no_file_is_written_to(void **state)
{
	char text[64] = "";
	int fd;

	(void)state;
	assert_int_equal(mkfifo(file, 0600), 0);
	fd = open(file, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write_to(file, NULL), 0);
	assert_int_equal(read(fd, text, sizeof(text) - 1), strlen(written));
	assert_string_equal(text, written);
	close(fd);
	unlink(file);
	assert_int_equal(write_to("/dev/null", NULL), 0);
}

/* The file that standard output goes to is not one to put another in place of. */
static void a_stream_of_ours_stays_the_same_file(void **state)
{
	int saved = dup(STDOUT_FILENO), fd;
	ino_t before;
	int r;

	(void)state;
	put(file, "");
	before = inode(file);
	fflush(stdout);
	fd = open(file, O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_true(saved >= 0 && fd >= 0 && dup2(fd, STDOUT_FILENO) == STDOUT_FILENO);
	r = write_to("/proc/self/fd/1", NULL);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	close(fd);
	assert_int_equal(r, 0);
	file_is(file, written);
	assert_true(inode(file) == before);
	unlink(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(links_lead_to_a_file_that_is_replaced),
		cmocka_unit_test(a_new_file_is_made),
		cmocka_unit_test(what_is_no_file_is_written_to),
		cmocka_unit_test(a_stream_of_ours_stays_the_same_file),
	};
	int failed;

	if (!mkdtemp(folder))
		return 77; /* nowhere to write */
	umask(027);
	snprintf(file, sizeof(file), "%s/file", folder);
	snprintf(pointer, sizeof(pointer), "%s/link", folder);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(folder);
	return failed;
}
