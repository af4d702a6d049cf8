/* Archives: what cpio makes of them, what they refuse, and the LZ4 frame as the kernel reads it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <lz4.h>

#include "guest/initramfs.h"
#include "scratch.h"

static struct initramfs new_archive(void)
{
	struct initramfs fs;

	assert_int_equal(initramfs_init(&fs), 0);
	return fs;
}

/* Finishes, unpacks with cpio into out/. */
static void unpack(struct initramfs *fs)
{
	if (system("command -v cpio >/dev/null") != 0) {
		print_message("skipped: no cpio here\n");
		skip();
	}
	assert_int_equal(initramfs_finish(fs, NULL), 0);
	assert_int_equal(fs->len % 512, 0);
	assert_int_equal(scratch_write("archive", fs->data, fs->len), 0);
	assert_int_equal(scratch_run(
				 "rm -rf out && mkdir out && cd out && "
				 "cpio -idm --quiet --no-absolute-filenames < ../archive 2>../log"
				 " && test ! -s ../log"),
			 0);
}

static void entries_unpack_as_given(void **state)
{
	struct initramfs fs = new_archive();

	(void)state;
	assert_int_equal(initramfs_file(&fs, "a/b/file", 04751, "hello", 5, NULL), 0);
	assert_int_equal(initramfs_file(&fs, "/a//./empty", 0600, NULL, 0, NULL), 0);
	assert_int_equal(initramfs_dir(&fs, "dir/", 01777, NULL), 0);
	assert_int_equal(initramfs_dir(&fs, "/", 0700, NULL), 0);
	assert_int_equal(initramfs_link(&fs, "link", "a/b/file", NULL), 0);
	assert_int_equal(initramfs_link(&fs, "sub", "a/b", NULL), 0);
	/* Lands behind the link, and keeps it. */
	assert_int_equal(initramfs_file(&fs, "sub/behind", 0644, "x", 1, NULL), 0);
	assert_int_equal(initramfs_dir(&fs, "sub", 0711, NULL), 0);
	if (geteuid() == 0)
		assert_int_equal(initramfs_device(&fs, "null", S_IFCHR | 0666, 1, 3, NULL), 0);
	assert_true(initramfs_has(&fs, "/sub/behind"));
	assert_true(initramfs_has(&fs, "a/b/behind"));
	assert_true(initramfs_has(&fs, "a"));
	assert_false(initramfs_has(&fs, "a/c"));
	unpack(&fs);
	assert_int_equal(scratch_run(
				 "cd out && test \"$(cat link)\" = hello &&"
				 "test \"$(stat -c %%a a/b/file)\" = 4751 && "
				 "test \"$(stat -c %%a a)\" = 755 && "
				 "test \"$(stat -c %%a a/b)\" = 711 && "
				 "test \"$(stat -c %%a dir)\" = 1777 && test -L sub && "
				 "test -f a/b/behind && test ! -s a/empty && test -f a/empty && "
				 "test \"$(stat -c %%Y a/b/file)\" = 0"),
			 0);
	if (geteuid() == 0)
		assert_int_equal(scratch_run("test \"$(stat -c %%t:%%T:%%a out/null)\" = 1:3:666"),
				 0);
	initramfs_done(&fs);
	initramfs_done(&fs);
}

static void later_entries_win(void **state)
{
	struct initramfs fs = new_archive();

	(void)state;
	assert_int_equal(initramfs_file(&fs, "x", 0644, "first", 5, NULL), 0);
	assert_int_equal(initramfs_file(&fs, "x", 0644, "second", 6, NULL), 0);
	assert_int_equal(initramfs_finish(&fs, NULL), 0);
	assert_int_equal(scratch_write("archive", fs.data, fs.len), 0);
	assert_int_equal(scratch_run("rm -rf out && mkdir out && cd out && "
				     "cpio -idmu --quiet < ../archive && test $(cat x) = second"),
			 0);
	initramfs_done(&fs);
}

static void refusals(void **state)
{
	struct initramfs fs = new_archive();
	char *longest = calloc(1, PATH_MAX + 10);
	struct error err = {0};

	(void)state;
	assert_non_null(longest);
	assert_int_equal(initramfs_file(&fs, "../x", 0644, "", 0, &err), -EINVAL);
	assert_int_equal(err.kind, ERROR_USAGE);
	assert_non_null(strstr(err.what, "'..'"));
	assert_int_equal(initramfs_file(&fs, "a/../x", 0644, "", 0, NULL), -EINVAL);
	assert_int_equal(initramfs_file(&fs, "", 0644, "", 0, NULL), -EINVAL);
	assert_int_equal(initramfs_file(&fs, "///", 0644, "", 0, NULL), -EINVAL);
	assert_int_equal(initramfs_file(&fs, "TRAILER!!!", 0644, "", 0, NULL), -EINVAL);
	assert_int_equal(initramfs_link(&fs, "l", "", NULL), -EINVAL);
	memset(longest, 'n', PATH_MAX);
	assert_int_equal(initramfs_file(&fs, longest, 0644, "", 0, NULL), -EINVAL);
	assert_int_equal(initramfs_link(&fs, "l", longest, NULL), -EINVAL);
	longest[PATH_MAX - 2] = '\0';
	assert_int_equal(initramfs_file(&fs, longest, 0644, "", 0, NULL), 0);
	free(longest);

	assert_int_equal(initramfs_file(&fs, "file", 0644, "", 0, NULL), 0);
	assert_int_equal(initramfs_file(&fs, "file/below", 0644, "", 0, NULL), -EINVAL);
	assert_int_equal(initramfs_dir(&fs, "dir", 0755, NULL), 0);
	assert_int_equal(initramfs_file(&fs, "dir", 0644, "", 0, NULL), -EINVAL);
	assert_int_equal(initramfs_link(&fs, "dir", "x", NULL), -EINVAL);
	assert_int_equal(initramfs_link(&fs, "loop1", "loop2", NULL), 0);
	assert_int_equal(initramfs_link(&fs, "loop2", "loop1", NULL), 0);
	assert_int_equal(initramfs_file(&fs, "loop1/x", 0644, "", 0, NULL), -EINVAL);
	assert_int_equal(initramfs_link(&fs, "up", "a/../../..", NULL), 0);
	assert_int_equal(initramfs_file(&fs, "up/rooted", 0644, "", 0, NULL), 0);
	assert_true(initramfs_has(&fs, "rooted"));
	/* The size alone decides: the bytes aren't looked at. */
	assert_int_equal(initramfs_file(&fs, "big", 0644, "", (size_t)UINT32_MAX + 1, NULL),
			 -EINVAL);
	assert_int_equal(initramfs_file(&fs, "big", 0644, "", UINT32_MAX, NULL), -EINVAL);
	initramfs_done(&fs);
}

/* Folders, modes, links, awkward names: the copy is the same, byte for byte. */
static void folder_survives(void **state)
{
	struct initramfs fs = new_archive(), again = new_archive();

	(void)state;
	assert_int_equal(
		scratch_run("rm -rf tree && mkdir -p tree/a/b/c tree/empty && cd tree && "
			    "head -c 100000 /dev/urandom > a/random && : > a/b/none && "
			    "echo x > 'name with space' && echo y > \"new$(printf '\\n')line\" && "
			    "ln -s ../nowhere a/dangling && ln -s . a/b/cycle && "
			    "ln a/random a/b/hard && chmod 4711 a/b/none && chmod 2750 a/b/c && "
			    "mkfifo a/pipe && for i in 1 2 3 4 5; do echo $i > a/$i$i; done"),
		0);
	assert_int_equal(initramfs_add_host(&fs, "some/place", scratch_path("tree"), false, NULL),
			 0);
	assert_int_equal(initramfs_add_host(&again, "/some/place", scratch_path("tree"), false,
					    NULL),
			 0);
	assert_int_equal(fs.len, again.len);
	assert_memory_equal(fs.data, again.data, fs.len);
	unpack(&fs);
	assert_int_equal(scratch_run("test ! -e out/some/place/a/pipe && rm tree/a/pipe && "
				     "diff -r --no-dereference tree out/some/place"),
			 0);
	assert_int_equal(scratch_run("(cd tree && find . -printf '%%p %%m %%l\\n' | sort) > one; "
				     "(cd out/some/place && find . -printf '%%p %%m %%l\\n' | sort)"
				     " > two; cmp one two"),
			 0);
	initramfs_done(&fs);
	initramfs_done(&again);
}

static void host_file_keeps_its_real_place(void **state)
{
	struct initramfs fs = new_archive();
	char link[512];

	(void)state;
	assert_int_equal(scratch_run(
				 "mkdir -p real && echo text > real/file && ln -s real/file l && "
				 "chmod 751 real/file"),
			 0);
	snprintf(link, sizeof(link), "%s", scratch_path("l"));
	assert_int_equal(initramfs_add_host(&fs, link, link, true, NULL), 0);
	assert_int_equal(initramfs_add_host(&fs, "elsewhere", link, true, NULL), 0);
	unpack(&fs);
	assert_int_equal(
		scratch_run("test -L out/%s && test \"$(readlink out/%s)\" = %s/real/file && "
			    "cmp out/%s/real/file l && cmp out/elsewhere l && "
			    "test ! -L out/elsewhere && "
			    "test $(stat -c %%a out/elsewhere) = 751",
			    link, link, scratch_dir, scratch_dir),
		0);
	initramfs_done(&fs);
}

static void host_refusals(void **state)
{
	struct initramfs fs = new_archive();
	struct error err = {0};

	(void)state;
	assert_int_equal(initramfs_add_host(&fs, "x", "/nowhere/at/all", false, &err), -ENOENT);
	assert_int_equal(initramfs_add_host(&fs, "x", "/dev/null", false, NULL), -EINVAL);
	assert_int_equal(scratch_run("truncate -s 5G huge && mkfifo pipe"), 0);
	err = (struct error){0};
	assert_int_equal(initramfs_add_host(&fs, "x", scratch_path("huge"), false, &err), -EINVAL);
	assert_non_null(strstr(err.what, "too large"));
	assert_int_equal(initramfs_add_host(&fs, "x", scratch_path("pipe"), false, NULL), -EINVAL);
	assert_int_equal(scratch_run("p=deep; mkdir $p; cd $p; for i in $(seq 120); do mkdir d && "
				     "cd d; done"),
			 0);
	err = (struct error){0};
	assert_int_equal(initramfs_add_host(&fs, "x", scratch_path("deep"), false, &err), -EINVAL);
	assert_non_null(strstr(err.what, "levels"));
	/* A file that says it is empty and isn't. */
	assert_int_equal(initramfs_add_host(&fs, "status", "/proc/self/status", false, NULL), 0);
	assert_true(fs.len > 500);
	initramfs_done(&fs);
}

static void command_brings_its_libraries(void **state)
{
	struct initramfs fs = new_archive();

	(void)state;
	assert_int_equal(initramfs_add_host(&fs, "/bin/sh", "/bin/sh", true, NULL), 0);
	assert_true(initramfs_has(&fs, "/bin/sh"));
	unpack(&fs);
	if (geteuid() != 0) {
		print_message("skipped: chroot needs root\n");
		initramfs_done(&fs);
		skip();
	}
	/* The archive alone is enough to run it. */
	assert_int_equal(scratch_run("test \"$(chroot out /bin/sh -c 'echo alive')\" = alive"), 0);
	initramfs_done(&fs);
}

/* The kernel's reading of a legacy frame, with the loop's exits as lib/decompress_unlz4.c has
 * them. Returns where the frame ends; the text goes to out. */
static size_t read_frame(const uint8_t *in, size_t size, uint8_t *out, size_t *out_len)
{
	size_t at = 0;
	uint32_t v;

	memcpy(&v, in, 4);
	assert_int_equal(v, 0x184C2102);
	at += 4;
	*out_len = 0;
	for (;;) {
		int n;

		if (size - at < 4)
			return at;
		memcpy(&v, in + at, 4);
		if (v == 0)
			return at;
		at += 4;
		assert_true(v <= size - at);
		n = LZ4_decompress_safe((const char *)in + at, (char *)out + *out_len, (int)v,
					8 << 20);
		assert_true(n >= 0);
		*out_len += (size_t)n;
		at += v;
		if (at == size)
			return at;
	}
}

static void frame_of(size_t len, bool noise)
{
	struct initramfs fs = new_archive();
	uint8_t *content = malloc(len + 1), *out = malloc(len + MIB(16)), *packed;
	size_t packed_len, out_len, end;
	uint32_t seed = 1;

	assert_non_null(content);
	assert_non_null(out);
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1103515245 + 12345;
		content[i] = (uint8_t)(noise ? seed >> 16 : i >> 12);
	}
	assert_int_equal(initramfs_file(&fs, "f", 0644, content, len, NULL), 0);
	assert_int_equal(initramfs_finish(&fs, NULL), 0);
	assert_int_equal(initramfs_compress(&fs, &packed, &packed_len, NULL), 0);
	assert_int_equal(packed_len % 4, 0);
	end = read_frame(packed, packed_len, out, &out_len);
	/* Four zeros after the last block, so that the kernel stops before what follows. */
	assert_true(end + 4 <= packed_len);
	for (size_t i = end; i < packed_len; i++)
		assert_int_equal(packed[i], 0);
	assert_int_equal(out_len, fs.len);
	assert_memory_equal(out, fs.data, out_len);
	free(packed);
	free(out);
	free(content);
	initramfs_done(&fs);
}

static void frames_read_back_as_the_kernel_reads(void **state)
{
	(void)state;
	for (size_t i = 0; i < 9; i++)
		frame_of(i, true);
	frame_of(MIB(8) - 1024, false);
	frame_of(MIB(8) - 512, true);
	frame_of(MIB(8), true);
	frame_of(MIB(20) + 3, false);
	frame_of(MIB(20) + 3, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(entries_unpack_as_given, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(later_entries_win, scratch_make, scratch_remove),
		cmocka_unit_test(refusals),
		cmocka_unit_test_setup_teardown(folder_survives, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(host_file_keeps_its_real_place, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(host_refusals, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(command_brings_its_libraries, scratch_make,
						scratch_remove),
		cmocka_unit_test(frames_read_back_as_the_kernel_reads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
