/* Files that the ring holds: handles in place of descriptors, how many there are, and what is left
 * where the kernel takes none. */
#include "helper.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loop/ring.h"

int __real_io_uring_register_files_sparse(struct io_uring *ring, unsigned n);
int __wrap_io_uring_register_files_sparse(struct io_uring *ring, unsigned n);
int __real_io_uring_register_files_update(struct io_uring *ring, unsigned at, const int *fds,
					  unsigned n);
int __wrap_io_uring_register_files_update(struct io_uring *ring, unsigned at, const int *fds,
					  unsigned n);

static bool no_table, no_update;

int __wrap_io_uring_register_files_sparse(struct io_uring *ring, unsigned n)
{
	return no_table ? -EINVAL : __real_io_uring_register_files_sparse(ring, n);
}

int __wrap_io_uring_register_files_update(struct io_uring *ring, unsigned at, const int *fds,
					  unsigned n)
{
	return no_update ? -ENOMEM : __real_io_uring_register_files_update(ring, at, fds, n);
}

static int set_up(void **state)
{
	no_table = no_update = false;
	return setup_loop(state);
}

#define FILES_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, free_loop)

static int temporary_file(void)
{
	char path[] = "/tmp/stasis-test-files-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	assert_true(fd >= 0);
	unlink(path);
	return fd;
}

static void works(struct loop *loop, int fd)
{
	char parts[2][3] = {"ab", "cd"}, back[2][3] = {"", ""}, c = 'x';
	struct iovec out[2] = {{parts[0], 2}, {parts[1], 2}}, in[2] = {{back[0], 2}, {back[1], 2}};
	struct noted n[6] = {NOTED, NOTED, NOTED, NOTED, NOTED, NOTED};

	assert_int_equal(loop_fallocate(loop, &n[0].op, fd, 0, 0, 4096), 0);
	turn_until(loop, &n[0].ends, 1);
	assert_int_equal(loop_writev(loop, &n[1].op, fd, out, 2, 8), 0);
	turn_until(loop, &n[1].ends, 1);
	assert_int_equal(loop_write(loop, &n[2].op, fd, &c, 1, 9), 0);
	turn_until(loop, &n[2].ends, 1);
	assert_int_equal(loop_fdatasync(loop, &n[3].op, fd), 0);
	turn_until(loop, &n[3].ends, 1);
	assert_int_equal(loop_readv(loop, &n[4].op, fd, in, 2, 8), 0);
	turn_until(loop, &n[4].ends, 1);
	c = 0;
	assert_int_equal(loop_read(loop, &n[5].op, fd, &c, 1, 11), 0);
	turn_until(loop, &n[5].ends, 1);
	assert_int_equal(n[0].res, 0);
	assert_int_equal(n[1].res, 4);
	assert_int_equal(n[2].res, 1);
	assert_int_equal(n[3].res, 0);
	assert_int_equal(n[4].res, 4);
	assert_int_equal(n[5].res, 1);
	assert_string_equal(back[0], "ax");
	assert_string_equal(back[1], "cd");
	assert_int_equal(c, 'd');
}

static void a_handle_stands_for_the_file(void **state)
{
	struct loop *loop = *state;
	int fd = temporary_file(), handle = loop_file_register(loop, fd);

	assert_true(handle < -1);
	works(loop, handle);
	/* The ring holds the file, not the number. */
	close(fd);
	works(loop, handle);
	loop_file_forget(loop, handle);

	struct noted n = NOTED;
	char c;

	assert_int_equal(loop_read(loop, &n.op, handle, &c, 1, 0), 0);
	turn_until(loop, &n.ends, 1);
	assert_int_equal(n.res, -EBADF);
}

static void forgetting_closes(void **state)
{
	struct loop *loop = *state;
	struct noted n = NOTED;
	int ends[2], handle;
	char c;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	handle = loop_file_register(loop, ends[1]);
	assert_true(handle < -1);
	close(ends[1]);
	assert_int_equal(loop_read(loop, &n.op, ends[0], &c, 1, (uint64_t)-1), 0);
	loop_turn(loop, 10 * MS);
	assert_int_equal(n.ends, 0);
	loop_file_forget(loop, handle);
	turn_until(loop, &n.ends, 1);
	assert_int_equal(n.res, 0);
	close(ends[0]);
}

static void more_than_there_is_room_for(void **state)
{
	struct loop *loop = *state;
	int fd = temporary_file(), handle[LOOP_FILES];

	for (unsigned i = 0; i < LOOP_FILES; i++) {
		handle[i] = loop_file_register(loop, fd);
		assert_true(handle[i] < -1);
		assert_true(i == 0 || handle[i] != handle[i - 1]);
	}
	assert_int_equal(loop_file_register(loop, fd), fd);
	works(loop, handle[LOOP_FILES - 1]);
	loop_file_forget(loop, fd);
	loop_file_forget(loop, handle[5]);
	assert_int_equal(loop_file_register(loop, fd), handle[5]);
	works(loop, handle[5]);
	close(fd);
}

static void a_kernel_without_a_table(void **state)
{
	struct loop *loop = *state;
	int fd = temporary_file();

	no_table = true;
	assert_int_equal(loop_file_register(loop, fd), fd);
	/* Asked once. */
	no_table = false;
	assert_int_equal(loop_file_register(loop, fd), fd);
	works(loop, fd);
	loop_file_forget(loop, fd);
	close(fd);
}

static void a_kernel_that_takes_no_more(void **state)
{
	struct loop *loop = *state;
	int fd = temporary_file(), handle;

	no_update = true;
	assert_int_equal(loop_file_register(loop, fd), fd);
	no_update = false;
	handle = loop_file_register(loop, fd);
	assert_true(handle < -1);
	/* One that can't be taken back keeps its slot. */
	no_update = true;
	loop_file_forget(loop, handle);
	no_update = false;
	assert_int_not_equal(loop_file_register(loop, fd), handle);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FILES_TEST(a_handle_stands_for_the_file), FILES_TEST(forgetting_closes),
		FILES_TEST(more_than_there_is_room_for),  FILES_TEST(a_kernel_without_a_table),
		FILES_TEST(a_kernel_that_takes_no_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
