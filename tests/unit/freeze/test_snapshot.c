/* The files of a snapshot: every flip and every truncation is refused by name, and a folder is
 * whole or absent. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "freeze/snapshot_folder.h"
#include "freeze/snapshot_state.h"

static const char text[] = "{\"snapshot\": 1}\n";

/* ---- the state ------------------------------------------------------------------------------- */

static void add(struct snapshot_writer *w, const char *name, size_t len)
{
	struct state_io io;
	uint8_t bytes[300];

	memset(bytes, (int)len, sizeof(bytes));
	state_save(&io);
	assert_int_equal(state_begin(&io, "bytes", 1), 1);
	state_bytes(&io, "byte", bytes, len);
	state_end(&io);
	snapshot_add(w, name, 3, &io);
	assert_null(io.bytes);
}

static uint8_t *make(size_t *ret_len)
{
	struct snapshot_writer w = {0};
	uint8_t *data = NULL;

	add(&w, "vm", 100);
	add(&w, "vcpu.0", 300);
	add(&w, "vcpu.1", 0);
	assert_int_equal(snapshot_encode(&w, text, sizeof(text) - 1, &data, ret_len, NULL), 0);
	snapshot_writer_done(&w);
	return data;
}

static int decode(const uint8_t *data, size_t len, struct snapshot_state *ret, struct error *err)
{
	return snapshot_decode(data, len, text, sizeof(text) - 1, ret, err);
}

static void sections_come_back(void **state)
{
	struct snapshot_state s;
	struct state_io io;
	uint8_t bytes[300];
	size_t len;
	uint8_t *data = make(&len);
	struct error err = {0};

	(void)state;
	assert_int_equal(decode(data, len, &s, &err), 0);
	assert_true(snapshot_has(&s, "vcpu.1"));
	assert_false(snapshot_has(&s, "vcpu.2"));
	assert_int_equal(snapshot_take(&s, "vcpu.0", 3, &io, &err), 0);
	assert_string_equal(io.where, "vcpu.0");
	assert_int_equal(state_begin(&io, "bytes", 1), 1);
	state_bytes(&io, "byte", bytes, sizeof(bytes));
	state_end(&io);
	assert_int_equal(state_result(&io, &err), 0);
	assert_int_equal(bytes[299], 300 % 256);
	assert_int_equal(snapshot_take(&s, "vm", 3, &io, &err), 0);
	assert_int_equal(snapshot_take(&s, "vcpu.1", 3, &io, &err), 0);
	assert_int_equal(snapshot_end(&s, &err), 0);
	snapshot_state_done(&s);
	free(data);
}

static void what_lacks_or_is_too_much_is_named(void **state)
{
	static const struct {
		const char *name;
		unsigned version;
		const char *word;
	} asked[] = {
		{"vcpu.2", 3, "section vcpu.2 is missing"},
		{"vm", 2, "section vm has version 3, and 2 is known"},
		{"vcpu.0", 3, "section vcpu.0 is missing"}, /* taken already */
	};
	struct snapshot_state s;
	struct state_io io;
	size_t len;
	uint8_t *data = make(&len);
	struct error err = {0};

	(void)state;
	assert_int_equal(decode(data, len, &s, &err), 0);
	assert_int_equal(snapshot_take(&s, "vcpu.0", 3, &io, &err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(asked); i++) {
		struct error refused = {0};

		assert_int_equal(snapshot_take(&s, asked[i].name, asked[i].version, &io, &refused),
				 -EINVAL);
		assert_string_equal(refused.what, asked[i].word);
	}
	assert_int_equal(snapshot_end(&s, &err), -EINVAL);
	assert_non_null(strstr(err.what, "section vm is too much"));
	snapshot_state_done(&s);
	free(data);
}

/* Up to what is known: the reader is told which it is. */
static void older_sections_are_taken(void **state)
{
	struct snapshot_state s;
	struct state_io io;
	size_t len;
	uint8_t *data = make(&len);

	(void)state;
	assert_int_equal(decode(data, len, &s, NULL), 0);
	assert_int_equal(snapshot_take(&s, "vm", 4, &io, NULL), 0);
	assert_int_equal(io.version, 3);
	assert_true(state_since(&io, 3));
	assert_false(state_since(&io, 4));
	state_save(&io);
	assert_true(state_since(&io, 4));
	snapshot_state_done(&s);
	free(data);
}

static void expect_refused(const uint8_t *data, size_t len, size_t what)
{
	/* A copy of its own length, so that a sanitizer sees a step past its end. */
	uint8_t *copy = malloc(len ?: 1);
	struct snapshot_state s;
	struct error err = {0};

	memcpy(copy, data, len);
	if (decode(copy, len, &s, &err) == 0)
		fail_msg("taken: %zu", what);
	assert_int_equal(err.kind, ERROR_USAGE);
	assert_true(strncmp(err.what, "state: ", 7) == 0 || strncmp(err.what, "section ", 8) == 0 ||
		    strncmp(err.what, "the description ", 16) == 0);
	free(copy);
}

/* What could not be saved makes no file. */
static void a_failure_is_kept(void **state)
{
	struct snapshot_writer w = {0};
	struct error err = {0};
	struct state_io io;
	uint8_t *data = NULL;
	size_t len;

	(void)state;
	add(&w, "vm", 100);
	state_save(&io);
	state_fail(&io, -EIO, "reading a register");
	snapshot_add(&w, "vcpu.0", 3, &io);
	add(&w, "vcpu.1", 100);
	assert_int_equal(snapshot_encode(&w, text, sizeof(text) - 1, &data, &len, &err), -EIO);
	assert_null(data);
	assert_non_null(strstr(err.what, "reading a register"));
	snapshot_writer_done(&w);
}

static void every_flip_is_refused(void **state)
{
	size_t len;
	uint8_t *data = make(&len);

	(void)state;
	for (size_t i = 0; i < 8 * len; i++) {
		data[i / 8] ^= (uint8_t)(1u << i % 8);
		expect_refused(data, len, i);
		data[i / 8] ^= (uint8_t)(1u << i % 8);
	}
	for (size_t i = 0; i < len; i++) {
		data[i] ^= 0xff;
		expect_refused(data, len, i);
		data[i] ^= 0xff;
	}
	free(data);
}

static void every_length_is_refused(void **state)
{
	size_t len;
	uint8_t *data = make(&len), *longer = calloc(1, len + 1);

	(void)state;
	for (size_t n = 0; n < len; n++)
		expect_refused(data, n, n);
	memcpy(longer, data, len);
	expect_refused(longer, len + 1, len + 1);
	free(longer);
	free(data);
}

static void another_description_is_refused(void **state)
{
	struct snapshot_state s;
	size_t len;
	uint8_t *data = make(&len);
	char copy[sizeof(text)];

	(void)state;
	for (size_t i = 0; i < sizeof(text) - 1; i++) {
		struct error err = {0};

		memcpy(copy, text, sizeof(text));
		copy[i] ^= 1;
		assert_int_equal(snapshot_decode(data, len, copy, sizeof(text) - 1, &s, &err),
				 -EINVAL);
		assert_non_null(strstr(err.what, "the description"));
		assert_int_equal(snapshot_decode(data, len, text, i, &s, NULL), -EINVAL);
	}
	free(data);
}

/* ---- the folder -------------------------------------------------------------------------------
 */

static char scratch[] = "/tmp/stasis-snapshot-XXXXXX";

static char *in_scratch(const char *name)
{
	char *path = NULL;

	assert_true(asprintf(&path, "%s/%s", scratch, name) > 0);
	return path;
}

static int make_scratch(void **state)
{
	(void)state;
	memcpy(scratch + sizeof(scratch) - 7, "XXXXXX", 6);
	return mkdtemp(scratch) ? 0 : -1;
}

static int remove_scratch(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", scratch);
	return system(command);
}

static void write_one(const char *path, const char *what)
{
	struct snapshot_folder f;
	struct error err = {0};

	assert_int_equal(snapshot_folder_open(&f, path, &err), 0);
	assert_int_equal(snapshot_folder_write(&f, SNAPSHOT_STATE, what, strlen(what), &err), 0);
	assert_int_equal(snapshot_folder_write(&f, SNAPSHOT_DESCRIPTION, text, 4, &err), 0);
	assert_int_equal(snapshot_folder_commit(&f, &err), 0);
}

static void expect_content(const char *path, const char *what)
{
	char file[256], *data;
	size_t len;

	snprintf(file, sizeof(file), "%s/" SNAPSHOT_STATE, path);
	assert_int_equal(file_read(file, 100, &data, &len), 0);
	assert_string_equal(data, what);
	free(data);
}

static unsigned entries(void)
{
	char command[128];
	unsigned n = 0;
	FILE *p;

	snprintf(command, sizeof(command), "ls -A '%s' | wc -l", scratch);
	p = popen(command, "r");
	assert_int_equal(fscanf(p, "%u", &n), 1);
	pclose(p);
	return n;
}

static void a_folder_is_replaced_at_once(void **state)
{
	char *path = in_scratch("snap"), *slashes = in_scratch("snap//");
	struct stat st;

	(void)state;
	write_one(path, "first");
	expect_content(path, "first");
	write_one(slashes, "second");
	expect_content(path, "second");
	assert_int_equal(entries(), 1);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	free(path);
	free(slashes);
}

static void one_that_is_given_up_leaves_the_old_one(void **state)
{
	char *path = in_scratch("snap");
	struct snapshot_folder f;

	(void)state;
	write_one(path, "old");
	assert_int_equal(snapshot_folder_open(&f, path, NULL), 0);
	assert_int_equal(snapshot_folder_write(&f, SNAPSHOT_STATE, "new", 3, NULL), 0);
	expect_content(path, "old");
	snapshot_folder_abort(&f);
	snapshot_folder_abort(&f);
	expect_content(path, "old");
	assert_int_equal(entries(), 1);
	free(path);
}

/* What a writer that was killed leaves is taken over; one that lives is not disturbed. */
static void two_writers_do_not_meet(void **state)
{
	char *path = in_scratch("snap"), *left = in_scratch("snap.stasis-tmp");
	struct snapshot_folder f, g;
	struct error err = {0};
	int fd;

	(void)state;
	assert_int_equal(mkdir(left, 0700), 0);
	fd = open(left, O_RDONLY | O_DIRECTORY);
	assert_int_equal(openat(fd, SNAPSHOT_MEMORY, O_CREAT | O_WRONLY, 0600) >= 0, 1);
	close(fd);
	assert_int_equal(snapshot_folder_open(&f, path, &err), 0);
	assert_true(snapshot_folder_open(&g, path, &err) < 0);
	assert_int_equal(err.kind, ERROR_CONTENTION);
	assert_int_equal(snapshot_folder_write(&f, SNAPSHOT_STATE, "mine", 4, NULL), 0);
	assert_int_equal(snapshot_folder_commit(&f, NULL), 0);
	expect_content(path, "mine");
	assert_int_equal(entries(), 1);
	free(path);
	free(left);
}

static void other_things_are_left_alone(void **state)
{
	char *path = in_scratch("mine"), *file = in_scratch("mine/notes"),
	     *none = in_scratch("none/snap");
	struct snapshot_folder f;
	struct error err = {0};

	(void)state;
	assert_int_equal(mkdir(path, 0700), 0);
	write_one(path, "in an empty one");
	assert_true(open(file, O_CREAT | O_WRONLY, 0600) >= 0);
	assert_true(snapshot_folder_open(&f, path, &err) < 0);
	assert_non_null(strstr(err.what, "notes"));
	assert_true(snapshot_folder_open(&f, file, NULL) < 0);
	assert_true(snapshot_folder_open(&f, none, NULL) < 0);
	assert_int_equal(entries(), 1);
	free(path);
	free(file);
	free(none);
}

static void what_comes_meanwhile_is_left_alone(void **state)
{
	char *path = in_scratch("mine"), *file = in_scratch("mine/notes"),
	     *link = in_scratch("link");
	struct snapshot_folder f;
	struct error err = {0};

	(void)state;
	write_one(path, "old");
	assert_int_equal(snapshot_folder_open(&f, path, &err), 0);
	assert_int_equal(snapshot_folder_write(&f, SNAPSHOT_STATE, "new", 3, NULL), 0);
	assert_true(open(file, O_CREAT | O_WRONLY, 0600) >= 0);
	assert_true(snapshot_folder_commit(&f, &err) < 0);
	assert_non_null(strstr(err.what, "notes"));
	expect_content(path, "old");
	assert_int_equal(access(file, F_OK), 0);
	assert_int_equal(entries(), 1);
	assert_int_equal(symlink("mine", link), 0);
	assert_true(snapshot_folder_open(&f, link, NULL) < 0);
	free(path);
	free(file);
	free(link);
}

/* As on NFS, which knows no flags. */
static bool is_nfs;

int __real_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags);
int __wrap_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags);
int __wrap_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
	if (!is_nfs || !flags)
		return __real_renameat2(from_dir, from, to_dir, to, flags);
	errno = EINVAL;
	return -1;
}

static void without_an_exchange_nothing_is_replaced(void **state)
{
	char *path = in_scratch("snap"), *empty = in_scratch("empty");
	struct snapshot_folder f;
	struct error err = {0};

	(void)state;
	is_nfs = true;
	write_one(path, "first");
	expect_content(path, "first");
	assert_int_equal(mkdir(empty, 0700), 0);
	write_one(empty, "in an empty one");
	expect_content(empty, "in an empty one");
	/* Said at the beginning, and nothing is left of it. */
	assert_int_equal(snapshot_folder_open(&f, path, &err), -EINVAL);
	assert_int_equal(err.kind, ERROR_USAGE);
	assert_non_null(strstr(err.what, "can't put another in its place"));
	assert_non_null(strstr(err.hint, "not there yet"));
	expect_content(path, "first");
	assert_int_equal(entries(), 2);
	is_nfs = false;
	assert_int_equal(snapshot_folder_open(&f, path, &err), 0);
	snapshot_folder_abort(&f);
	free(path);
	free(empty);
}

static void what_came_meanwhile_stays_without_an_exchange(void **state)
{
	char *path = in_scratch("snap");
	struct snapshot_folder f, g;
	struct error err = {0};

	(void)state;
	is_nfs = true;
	assert_int_equal(snapshot_folder_open(&f, path, NULL), 0);
	assert_int_equal(snapshot_folder_write(&f, SNAPSHOT_STATE, "mine", 4, NULL), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	g = (struct snapshot_folder){.path = path,
				     .fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
	assert_int_equal(snapshot_folder_write(&g, SNAPSHOT_STATE, "theirs", 6, NULL), 0);
	close(g.fd);
	assert_true(snapshot_folder_commit(&f, &err) < 0);
	is_nfs = false;
	expect_content(path, "theirs");
	assert_int_equal(entries(), 1);
	free(path);
}

/* ---- reading -----------------------------------------------------------------------------------
 */

static void write_all(const char *path, const char *what)
{
	struct snapshot_folder f;
	char id[SNAPSHOT_ID_LEN + 1];

	snapshot_new_id(id);
	assert_int_equal(snapshot_folder_open(&f, path, NULL), 0);
	assert_int_equal(snapshot_folder_write(&f, SNAPSHOT_STATE, what, strlen(what), NULL), 0);
	assert_int_equal(snapshot_folder_write(&f, SNAPSHOT_DESCRIPTION, what, strlen(what), NULL),
			 0);
	assert_int_equal(snapshot_folder_write(&f, SNAPSHOT_MEMORY, what, strlen(what), NULL), 0);
	assert_int_equal(snapshot_folder_append(&f, SNAPSHOT_MEMORY, id, SNAPSHOT_ID_LEN, NULL), 0);
	assert_int_equal(snapshot_folder_commit(&f, NULL), 0);
}

static void expect_read(int fd, const char *name, const char *what)
{
	char *data;
	size_t len;

	assert_int_equal(snapshot_file_read(fd, name, 100, &data, &len, NULL), 0);
	assert_int_equal(strncmp(data, what, strlen(what)), 0);
	free(data);
}

/* Another snapshot that takes its place is not seen by who has opened the first. */
static void one_folder_is_read(void **state)
{
	char *path = in_scratch("snap");
	struct snapshot_files files;
	struct error err = {0};
	char *data;
	size_t len;

	(void)state;
	write_all(path, "first");
	assert_int_equal(snapshot_files_open(path, &files, &err), 0);
	write_all(path, "other");
	expect_read(files.description, SNAPSHOT_DESCRIPTION, "first");
	expect_read(files.state, SNAPSHOT_STATE, "first");
	expect_read(files.memory, SNAPSHOT_MEMORY, "first");
	assert_int_equal(lseek(files.memory, 0, SEEK_END), 5 + SNAPSHOT_ID_LEN);
	assert_int_equal(lseek(files.state, 0, SEEK_SET), 0);
	assert_int_equal(snapshot_file_read(files.state, SNAPSHOT_STATE, 4, &data, &len, &err),
			 -EINVAL);
	assert_non_null(strstr(err.what, "state: "));
	snapshot_files_close(&files);
	snapshot_files_close(&files);
	free(path);
}

static void expect_not_opened(const char *path, const char *word)
{
	struct snapshot_files files = {-1, -1, -1};
	struct error err = {0};

	assert_int_equal(snapshot_files_open(path, &files, &err), -EINVAL);
	if (!strstr(err.what, word))
		fail_msg("%s", err.what);
	assert_int_equal(files.memory, -1);
}

/* A pipe has no other end here: who opened it as a file would wait for one. */
static void what_is_no_file_is_refused(void **state)
{
	static const char *const names[] = {SNAPSHOT_DESCRIPTION, SNAPSHOT_STATE, SNAPSHOT_MEMORY};
	char *path = in_scratch("snap");

	(void)state;
	expect_not_opened(path, "No such file");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char name[64], *file, *data;
		size_t len;

		snprintf(name, sizeof(name), "snap/%s", names[i]);
		file = in_scratch(name);
		write_all(path, "first");
		assert_int_equal(unlink(file), 0);
		expect_not_opened(path, names[i]);
		assert_int_equal(mkfifo(file, 0600), 0);
		expect_not_opened(path, "a file is accepted");
		assert_int_equal(snapshot_description_read(path, &data, &len, NULL),
				 i == 0 ? -EINVAL : 0);
		if (i > 0)
			free(data);
		free(file);
	}
	free(path);
}

static void ids_differ(void **state)
{
	char one[SNAPSHOT_ID_LEN + 1], two[SNAPSHOT_ID_LEN + 1];

	(void)state;
	snapshot_new_id(one);
	snapshot_new_id(two);
	assert_string_not_equal(one, two);
	assert_int_equal(strspn(one, "0123456789abcdef"), SNAPSHOT_ID_LEN);
}

#define FOLDER_TEST(f) cmocka_unit_test_setup_teardown(f, make_scratch, remove_scratch)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sections_come_back),
		cmocka_unit_test(what_lacks_or_is_too_much_is_named),
		cmocka_unit_test(older_sections_are_taken),
		cmocka_unit_test(a_failure_is_kept),
		cmocka_unit_test(every_flip_is_refused),
		cmocka_unit_test(every_length_is_refused),
		cmocka_unit_test(another_description_is_refused),
		FOLDER_TEST(a_folder_is_replaced_at_once),
		FOLDER_TEST(one_that_is_given_up_leaves_the_old_one),
		FOLDER_TEST(two_writers_do_not_meet),
		FOLDER_TEST(other_things_are_left_alone),
		FOLDER_TEST(what_comes_meanwhile_is_left_alone),
		FOLDER_TEST(without_an_exchange_nothing_is_replaced),
		FOLDER_TEST(what_came_meanwhile_stays_without_an_exchange),
		FOLDER_TEST(one_folder_is_read),
		FOLDER_TEST(what_is_no_file_is_refused),
		cmocka_unit_test(ids_differ),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
