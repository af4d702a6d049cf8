/* The segment cache: hits, half-written and foreign files, staleness, many processes, kills. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/util.h"
#include "guest/shm_cache.h"
#include "scratch.h"

#define KEY "00ff"

struct maker {
	size_t len;
	unsigned calls;
	int fail;	   /* what to return */
	unsigned sleep_us; /* how long it takes */
};

static uint8_t content_at(size_t i)
{
	return (uint8_t)(i * 31 + (i >> 8));
}

static int make(void *arg, uint8_t **ret_data, size_t *ret_len, struct error *err)
{
	struct maker *m = arg;
	uint8_t *data;

	m->calls++;
	if (m->sleep_us)
		usleep(m->sleep_us);
	if (m->fail)
		return error_set(err, m->fail, "making");
	data = malloc(m->len + 1);
	if (!data)
		return -ENOMEM;
	for (size_t i = 0; i < m->len; i++)
		data[i] = content_at(i);
	*ret_data = data;
	*ret_len = m->len;
	return 0;
}

/* Whole, zeros after the content, mappable copy-on-write, not writable through fd. */
static bool is_good(const struct shm_segment *s, size_t len)
{
	uint8_t *p;
	bool good = s->len == len && s->mapped_len % (uint64_t)sysconf(_SC_PAGESIZE) == 0 &&
		    s->mapped_len >= len;

	if (!good)
		return false;
	p = mmap(NULL, s->mapped_len, PROT_READ | PROT_WRITE, MAP_PRIVATE, s->fd, 0);
	if (p == MAP_FAILED)
		return false;
	for (size_t i = 0; i < s->mapped_len && good; i++)
		good = p[i] == (i < len ? content_at(i) : 0);
	p[0] ^= 1;
	munmap(p, s->mapped_len);
	return good && pwrite(s->fd, "x", 1, 0) < 0;
}

static const char *name_of(const char *key)
{
	char name[128];

	snprintf(name, sizeof(name), "stasis-%u-%s", (unsigned)geteuid(), key);
	return scratch_path(name);
}

static void get(struct maker *m, struct shm_segment *s)
{
	struct error err = {0};

	if (shm_cache_get_in(scratch_dir, KEY, make, m, s, &err) != 0)
		fail_msg("%s", err.what);
	assert_true(is_good(s, m->len));
}

static void second_use_makes_nothing(void **state)
{
	struct maker m = {.len = 1};
	struct shm_segment a, b;

	(void)state;
	for (; m.len < 20000; m.len = m.len * 2 + 4095 % (m.len + 1)) {
		m.calls = 0;
		unlink(name_of(KEY));
		get(&m, &a);
		assert_int_equal(m.calls, 1);
		get(&m, &b);
		assert_int_equal(m.calls, 1);
		shm_segment_done(&a);
		get(&m, &a);
		assert_int_equal(m.calls, 1);
		shm_segment_done(&a);
		shm_segment_done(&b);
		shm_segment_done(&b);
	}
}

static void failure_of_make_leaves_nothing(void **state)
{
	struct maker m = {.len = 10, .fail = -EIO};
	struct shm_segment s = {.fd = -7};
	struct error err = {0};

	(void)state;
	assert_int_equal(shm_cache_get_in(scratch_dir, KEY, make, &m, &s, &err), -EIO);
	assert_int_equal(m.calls, 1);
	assert_int_equal(s.fd, -7);
	assert_int_not_equal(access(name_of(KEY), F_OK), 0);
	assert_true(shm_cache_get_in(scratch_dir, "../x", make, &m, &s, NULL) < 0);
	assert_true(shm_cache_get_in(scratch_dir, "", make, &m, &s, NULL) < 0);
	m = (struct maker){.len = 0};
	assert_true(shm_cache_get_in(scratch_dir, KEY, make, &m, &s, NULL) < 0);
}

/* A segment cut at any place is made again. */
static void half_written_is_made_again(void **state)
{
	struct maker m = {.len = 5000};
	struct shm_segment s;
	struct stat st;

	(void)state;
	get(&m, &s);
	assert_int_equal(fstat(s.fd, &st), 0);
	shm_segment_done(&s);
	for (off_t cut = 0; cut < st.st_size; cut += 1 + cut / 3) {
		assert_int_equal(truncate(name_of(KEY), cut), 0);
		m.calls = 0;
		get(&m, &s);
		assert_int_equal(m.calls, 1);
		shm_segment_done(&s);
	}
	/* All there but the trailer, as posix_fallocate leaves it. */
	assert_int_equal(truncate(name_of(KEY), 0), 0);
	assert_int_equal(truncate(name_of(KEY), st.st_size), 0);
	m.calls = 0;
	get(&m, &s);
	assert_int_equal(m.calls, 1);
	shm_segment_done(&s);
	/* Another key's segment under this name. */
	assert_int_equal(rename(name_of(KEY), name_of("abcd")), 0);
	assert_int_equal(shm_cache_get_in(scratch_dir, "abcd", make, &m, &s, NULL), 0);
	assert_int_equal(m.calls, 2);
	assert_true(is_good(&s, m.len));
	shm_segment_done(&s);
}

/* What another user could plant under the name is never used, nor harmed. */
static void planted_files_are_passed_by(void **state)
{
	struct maker m = {.len = 3000};
	struct shm_segment s;

	(void)state;
	get(&m, &s);
	shm_segment_done(&s);
	for (int kind = 0; kind < 6; kind++) {
		const char *name = name_of(KEY);

		m.calls = 0;
		switch (kind) {
		case 0:
			assert_int_equal(chmod(name, 0644), 0);
			break;
		case 1:
			assert_int_equal(rename(name, scratch_path("real")), 0);
			assert_int_equal(chmod(scratch_path("real"), 0600), 0);
			assert_int_equal(symlink("real", name), 0);
			break;
		case 2:
			assert_int_equal(link(scratch_path("real"), name), 0);
			break;
		case 3:
			assert_int_equal(mkdir(name, 0600), 0);
			break;
		case 4:
			assert_int_equal(mkfifo(name, 0600), 0);
			break;
		default:
			if (geteuid() != 0) {
				print_message("skipped: another owner needs root\n");
				continue;
			}
			assert_int_equal(rename(scratch_path("real"), name), 0);
			assert_int_equal(chown(name, 12345, 12345), 0);
		}
		get(&m, &s);
		assert_int_equal(m.calls, 1);
		shm_segment_done(&s);
		if (kind > 0)
			assert_int_equal(remove(name), 0);
		else
			assert_int_equal(chmod(name, 0600), 0);
	}
	m.calls = 0;
	assert_int_equal(shm_cache_get_in("/no/such/folder", KEY, make, &m, &s, NULL), 0);
	assert_int_equal(m.calls, 1);
	assert_true(is_good(&s, m.len));
	shm_segment_done(&s);
}

static void age(const char *key, time_t seconds)
{
	struct timespec times[2];

	clock_gettime(CLOCK_REALTIME, &times[0]);
	times[0].tv_sec -= seconds;
	times[1] = times[0];
	assert_int_equal(utimensat(AT_FDCWD, name_of(key), times, 0), 0);
}

static void stale_ones_go_unless_held(void **state)
{
	struct maker m = {.len = 100};
	struct shm_segment held, s;
	const time_t day = 24 * 60 * 60;

	(void)state;
	assert_int_equal(shm_cache_get_in(scratch_dir, "aa", make, &m, &held, NULL), 0);
	assert_int_equal(shm_cache_get_in(scratch_dir, "bb", make, &m, &s, NULL), 0);
	shm_segment_done(&s);
	assert_int_equal(shm_cache_get_in(scratch_dir, "cc", make, &m, &s, NULL), 0);
	shm_segment_done(&s);
	age("aa", day + 60);
	age("bb", day + 60);
	age("cc", day - 60);
	assert_int_equal(close(open(name_of("dd"), O_CREAT | O_RDWR, 0600)), 0);
	assert_int_equal(close(open(scratch_path("stasis-9-x"), O_CREAT | O_RDWR, 0600)), 0);
	get(&m, &s);
	shm_segment_done(&s);
	assert_int_equal(access(name_of("aa"), F_OK), 0);
	assert_int_not_equal(access(name_of("bb"), F_OK), 0);
	assert_int_equal(access(name_of("cc"), F_OK), 0);
	assert_int_not_equal(access(name_of("dd"), F_OK), 0);
	assert_int_equal(access(scratch_path("stasis-9-x"), F_OK), 0);
	/* A use makes it young again. */
	age("cc", day + 60);
	assert_int_equal(shm_cache_get_in(scratch_dir, "cc", make, &m, &s, NULL), 0);
	shm_segment_done(&s);
	shm_segment_done(&held);
	get(&m, &s);
	assert_int_equal(access(name_of("cc"), F_OK), 0);
	assert_int_not_equal(access(name_of("aa"), F_OK), 0);
	shm_segment_done(&s);
}

/* Twenty at once: one makes, all agree. */
static void many_at_once_make_once(void **state)
{
	struct maker m = {.len = 300000, .sleep_us = 20000};
	int counter[2], status;
	char calls[64];
	ssize_t n;
	unsigned made = 0;

	(void)state;
	assert_int_equal(pipe(counter), 0);
	for (int i = 0; i < 20; i++) {
		if (fork() == 0) {
			struct shm_segment s;
			bool good = shm_cache_get_in(scratch_dir, KEY, make, &m, &s, NULL) == 0 &&
				    is_good(&s, m.len);

			if (m.calls && write(counter[1], "c", 1) != 1)
				good = false;
			_exit(good ? 0 : 1);
		}
	}
	close(counter[1]);
	while (wait(&status) > 0)
		assert_int_equal(status, 0);
	while ((n = read(counter[0], calls, sizeof(calls))) > 0)
		made += (unsigned)n;
	close(counter[0]);
	assert_int_equal(made, 1);
}

/* The kernel kills this process after a while, wherever it is. */
static void doom(unsigned after_us)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
	struct itimerspec when = {.it_value = {.tv_nsec = 1 + (long)after_us * 1000}};
	timer_t timer;

	if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0 ||
	    timer_settime(timer, 0, &when, NULL) != 0)
		_exit(2);
}

/* Users come and go, makers are killed at any point, names are removed beneath them: who gets a
 * segment gets a whole one. */
static void kills_leave_no_half_segment(void **state)
{
	struct maker m = {.len = 200000, .sleep_us = 300};
	struct shm_segment s;
	unsigned seed = 1, good = 0, killed = 0;

	(void)state;
	for (int round = 0; round < 40; round++) {
		for (int i = 0; i < 20; i++) {
			seed = seed * 1664525 + 1013904223;
			if (fork() == 0) {
				bool ok;

				if (i % 2)
					doom((seed >> 16) % 3000);
				ok = shm_cache_get_in(scratch_dir, KEY, make, &m, &s, NULL) == 0 &&
				     is_good(&s, m.len);
				/* A complete one goes now and then, so that there is making. */
				if (i % 4 < 2)
					unlink(name_of(KEY));
				_exit(ok ? 0 : 1);
			}
		}
		for (int i = 0; i < 20; i++) {
			int status;

			assert_true(wait(&status) > 0);
			if (WIFSIGNALED(status)) {
				assert_int_equal(WTERMSIG(status), SIGKILL);
				killed++;
			} else {
				assert_int_equal(status, 0);
				good++;
			}
		}
	}
	print_message("%u got a segment, %u were killed\n", good, killed);
	assert_true(good > 0 && killed > 0);
	/* Nothing is locked, and what is left is whole. */
	m.calls = 0;
	get(&m, &s);
	assert_true(m.calls <= 1);
	shm_segment_done(&s);
}

/* A maker that is stopped, not dead, keeps nobody from working. */
static void stopped_maker_is_not_waited_for_long(void **state)
{
	struct maker m = {.len = 1000};
	struct shm_segment s;
	uint64_t start = now_ns();
	int fd = open(name_of(KEY), O_CREAT | O_RDWR, 0600);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	get(&m, &s);
	assert_int_equal(m.calls, 1);
	assert_true(now_ns() - start < UINT64_C(10) * 1000000000);
	shm_segment_done(&s);
	close(fd);
}

static void full_folder_gives_a_private_one(void **state)
{
	struct maker m = {.len = 3 << 20};
	struct shm_segment s;

	(void)state;
	if (scratch_run("mkdir small && mount -t tmpfs -o size=1m none small 2>/dev/null") != 0) {
		print_message("skipped: can't mount a small tmpfs here\n");
		skip();
	}
	assert_int_equal(shm_cache_get_in(scratch_path("small"), KEY, make, &m, &s, NULL), 0);
	assert_int_equal(m.calls, 1);
	assert_true(is_good(&s, m.len));
	shm_segment_done(&s);
	assert_int_equal(scratch_run("test -z \"$(ls small)\" && umount small"), 0);
}

static void hex_of(char *hex, const char *a, const char *b, const char *file)
{
	struct shm_key key;

	assert_int_equal(shm_key_init(&key), 0);
	shm_key_text(&key, a);
	shm_key_bytes(&key, b, strlen(b));
	if (file)
		assert_int_equal(shm_key_file(&key, file, NULL), 0);
	shm_key_done(&key, hex);
	assert_int_equal(strlen(hex), SHM_KEY_HEX_LEN);
	assert_int_equal(strspn(hex, "0123456789abcdef"), SHM_KEY_HEX_LEN);
}

static void keys_tell_inputs_apart(void **state)
{
	char one[SHM_KEY_HEX_LEN + 1], two[SHM_KEY_HEX_LEN + 1];
	struct shm_key key = {0};

	(void)state;
	hex_of(one, "ab", "c", NULL);
	hex_of(two, "ab", "c", NULL);
	assert_string_equal(one, two);
	hex_of(two, "a", "bc", NULL);
	assert_string_not_equal(one, two);
	assert_int_equal(scratch_write("f", "x", 1), 0);
	hex_of(one, "", "", scratch_path("f"));
	hex_of(two, "", "", scratch_path("f"));
	assert_string_equal(one, two);
	/* Same size, same name, other content. */
	usleep(20000);
	assert_int_equal(scratch_write("f", "y", 1), 0);
	hex_of(two, "", "", scratch_path("f"));
	assert_string_not_equal(one, two);
	shm_key_done(&key, NULL);
	assert_int_equal(shm_key_init(&key), 0);
	assert_int_equal(shm_key_file(&key, scratch_path("none"), NULL), -ENOENT);
	shm_key_done(&key, NULL);
}

#define SCRATCH_TEST(f) cmocka_unit_test_setup_teardown(f, scratch_make, scratch_remove)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCRATCH_TEST(second_use_makes_nothing),
		SCRATCH_TEST(failure_of_make_leaves_nothing),
		SCRATCH_TEST(half_written_is_made_again),
		SCRATCH_TEST(planted_files_are_passed_by),
		SCRATCH_TEST(stale_ones_go_unless_held),
		SCRATCH_TEST(many_at_once_make_once),
		SCRATCH_TEST(kills_leave_no_half_segment),
		SCRATCH_TEST(stopped_maker_is_not_waited_for_long),
		SCRATCH_TEST(full_folder_gives_a_private_one),
		SCRATCH_TEST(keys_tell_inputs_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
