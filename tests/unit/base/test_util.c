/* Whole files and buffers over short transfers, and directories that may be there. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"

#define STREAM_BYTES (1u << 20)

static char folder[] = "/tmp/stasis-test-util-XXXXXX";

static int make_folder(void **state)
{
	(void)state;
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	return system(command);
}

static void a_descriptor_closes_once(void **state)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int was = fd;

	(void)state;
	assert_true(fd >= 0);
	errno = ENOTTY;
	fd_close(&fd);
	assert_int_equal(fd, -1);
	fd_close(&fd);
	assert_int_equal(errno, ENOTTY);
	assert_int_equal(fcntl(was, F_GETFD), -1);
}

static void put_file(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, data, len), 0);
	fd_close(&fd);
}

static void files_are_read_whole(void **state)
{
	static char content[10000];
	size_t len = 77;
	char path[128];
	char *data = NULL;

	(void)state;
	snprintf(path, sizeof(path), "%s/file", folder);
	for (size_t i = 0; i < sizeof(content); i++)
		content[i] = (char)(i * 7);
	put_file(path, content, sizeof(content));

	assert_int_equal(file_read(path, sizeof(content) - 1, &data, &len), -EFBIG);
	assert_null(data);
	assert_int_equal(len, 77);
	assert_int_equal(file_read(path, sizeof(content), &data, &len), 0);
	assert_int_equal(len, sizeof(content));
	assert_memory_equal(data, content, len);
	assert_int_equal(data[len], '\0');
	free(data);
	assert_int_equal(file_read(path, SIZE_MAX, &data, &len), 0);
	assert_int_equal(len, sizeof(content));
	free(data);

	put_file(path, "", 0);
	assert_int_equal(file_read(path, 0, &data, &len), 0);
	assert_int_equal(len, 0);
	assert_string_equal(data, "");
	free(data);

	/* Size 0 by stat, yet with content; more of it than one buffer. */
	assert_int_equal(file_read("/proc/self/status", 1u << 20, &data, &len), 0);
	assert_true(len > 100);
	assert_int_equal(strlen(data), len);
	free(data);
	assert_int_equal(file_read("/proc/self/status", 10, &data, &len), -EFBIG);

	assert_int_equal(file_read("/nowhere/at/all", 10, &data, &len), -ENOENT);
	assert_int_equal(file_read("/", 10, &data, &len), -EISDIR);
	/* No end: the limit is the end. */
	assert_int_equal(file_read("/dev/zero", 100000, &data, &len), -EFBIG);
}

static void *feed(void *arg)
{
	char *block = malloc(STREAM_BYTES);

	if (!block)
		return (void *)1;
	for (size_t i = 0; i < STREAM_BYTES; i++)
		block[i] = (char)(i * 13);
	if (fd_write_all(*(int *)arg, block, STREAM_BYTES) < 0)
		return (void *)1;
	free(block);
	fd_close(arg);
	return NULL;
}

static void transfers_go_over_short_ones(int flags)
{
	char *got = malloc(STREAM_BYTES + 100);
	void *failed = (void *)1;
	pthread_t thread;
	int pipes[2];

	assert_non_null(got);
	assert_int_equal(pipe2(pipes, O_CLOEXEC | flags), 0);
	assert_int_equal(pthread_create(&thread, NULL, feed, &pipes[1]), 0);
	assert_int_equal(fd_read_all(pipes[0], got, 10), 10);
	assert_int_equal(fd_read_all(pipes[0], got + 10, STREAM_BYTES + 90), STREAM_BYTES - 10);
	assert_int_equal(fd_read_all(pipes[0], got, 10), 0);
	assert_int_equal(pthread_join(thread, &failed), 0);
	assert_null(failed);
	for (size_t i = 10; i < STREAM_BYTES; i++)
		assert_int_equal(got[i], (char)(i * 13));
	fd_close(&pipes[0]);
	free(got);
}

static void transfers_are_whole(void **state)
{
	(void)state;
	transfers_go_over_short_ones(0);
}

static void transfers_wait_on_nonblocking_descriptors(void **state)
{
	(void)state;
	transfers_go_over_short_ones(O_NONBLOCK);
}

static void transfers_tell_failure(void **state)
{
	char c = 0;

	(void)state;
	assert_int_equal(fd_write_all(-1, &c, 1), -EBADF);
	assert_int_equal(fd_read_all(-1, &c, 1), -EBADF);
	assert_int_equal(fd_write_all(-1, &c, 0), 0);
}

static void directories(void **state)
{
	char path[256], deep[300];
	struct stat st;

	(void)state;
	snprintf(path, sizeof(path), "%s/a//b/c/", folder);
	assert_int_equal(dir_make(path, 0700), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(dir_make(path, 0755), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);

	snprintf(path, sizeof(path), "%s/plain", folder);
	put_file(path, "x", 1);
	assert_int_equal(dir_make(path, 0700), -ENOTDIR);
	snprintf(deep, sizeof(deep), "%s/below", path);
	assert_int_equal(dir_make(deep, 0700), -ENOTDIR);
	assert_int_equal(dir_make("", 0700), -ENOENT);
	assert_int_equal(dir_make("/", 0700), 0);
	assert_int_equal(dir_make("/proc/stasis-cannot", 0700), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_descriptor_closes_once),
		cmocka_unit_test(files_are_read_whole),
		cmocka_unit_test(transfers_are_whole),
		cmocka_unit_test(transfers_wait_on_nonblocking_descriptors),
		cmocka_unit_test(transfers_tell_failure),
		cmocka_unit_test(directories),
	};

	return cmocka_run_group_tests_name("util", tests, make_folder, remove_folder);
}
