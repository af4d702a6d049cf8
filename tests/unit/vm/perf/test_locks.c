/* Locks between processes: modes, strangers, crashes, and fifty at once under kill -9. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "tree.h"
#include "vm/perf/locks.h"

static char base[64], dir[80];
static struct host_cpus host; /* caches {0,1} {2,3} {4,5} {6,7} */

static const struct perf_locks nothing = {.dir_fd = -1, .mutex_fd = -1, .record_fd = -1};

static struct host_cpu_set set_of(const char *list)
{
	struct host_cpu_set set;

	assert_int_equal(host_cpu_set_parse(list, &set), 0);
	return set;
}

static struct perf_lock_set exclusive(const char *caches, const char *cpus)
{
	return (struct perf_lock_set){.cache_exclusive = set_of(caches),
				      .cpu_exclusive = set_of(cpus)};
}

static struct perf_lock_set shared(const char *caches, const char *cpus)
{
	return (struct perf_lock_set){.cache_shared = set_of(caches), .cpu_shared = set_of(cpus)};
}

/* Begins as a VM does that has no patience left for the mutex: with it or without. */
static int begin_alone(struct perf_locks *locks, struct error *err)
{
	struct error inner = {0};
	int r;

	locks->patience_ns = 0;
	r = perf_locks_begin(locks, &inner);
	if (r < 0 && r != -EBUSY)
		*err = inner;
	return r == -EBUSY ? 0 : r;
}

static bool alone; /* a stranger has the mutex */

/* Takes want as a VM of this name would; the error is kept in err. */
static int take(struct perf_locks *locks, struct perf_lock_set want, const char *name,
		struct error *err)
{
	int r;

	*err = (struct error){0};
	*locks = nothing;
	r = perf_locks_open(locks, err);
	if (r == 0)
		r = alone ? begin_alone(locks, err) : perf_locks_begin(locks, err);
	if (r == 0)
		r = perf_locks_take(locks, &want, name, err);
	perf_locks_end(locks);
	if (r < 0)
		perf_locks_close(locks);
	return r;
}

/* Takes what stands for all; where that is refused, want. 1: all. */
static int take_all(struct perf_locks *locks, struct perf_lock_set want, struct error *err)
{
	int r;

	*err = (struct error){0};
	*locks = nothing;
	r = perf_locks_open(locks, err);
	if (r == 0)
		r = alone ? begin_alone(locks, err) : perf_locks_begin(locks, err);
	if (r == 0)
		r = perf_locks_take_all(locks, "anywhere", err);
	if (r == 0)
		r = perf_locks_take(locks, &want, "anywhere", err);
	perf_locks_end(locks);
	if (r < 0)
		perf_locks_close(locks);
	return r;
}

static size_t listed(void)
{
	struct error err = {0};
	json_t *list;
	size_t n;

	assert_int_equal(perf_locks_list(&list, &err), 0);
	n = json_array_size(list);
	json_decref(list);
	return n;
}

/* ---- modes --------------------------------------------------------------------------------- */

static void test_modes(void **state UNUSED)
{
	struct perf_locks a, b, c;
	struct error err;
	json_t *list, *row;

	assert_int_equal(take(&a, shared("0,2", "0-3"), "one", &err), 0);
	assert_int_equal(take(&b, shared("2,4", "2-5"), "two", &err), 0);
	assert_int_equal(take(&c, exclusive("2", "2-3"), "three", &err), -EBUSY);
	assert_int_equal(err.kind, ERROR_CONTENTION);
	assert_non_null(strstr(err.what, "the cache of CPU 2 of the host is held by VM "));
	assert_int_equal(take(&c, exclusive("6", "6-7"), "three", &err), 0);
	assert_int_equal(listed(), 3);
	perf_locks_close(&b);
	assert_int_equal(take(&b, shared("4,6", "4-7"), "two", &err), -EBUSY);
	assert_non_null(strstr(err.what, "VM three (pid "));
	assert_int_equal(perf_locks_list(&list, &err), 0);
	assert_int_equal(json_array_size(list), 2);
	row = json_array_get(list, 0);
	if (strcmp(json_string_value(json_object_get(row, "name")), "three"))
		row = json_array_get(list, 1);
	assert_string_equal(json_string_value(json_object_get(row, "name")), "three");
	assert_string_equal(json_string_value(json_object_get(row, "mode")), "exclusive");
	assert_string_equal(json_string_value(json_object_get(row, "cpus")), "6-7");
	assert_int_equal(json_integer_value(json_object_get(row, "pid")), getpid());
	assert_int_equal(json_integer_value(json_object_get(row, "user")), getuid());
	json_decref(list);
	assert_true(perf_locks_intact(&c));
	perf_locks_close(&a);
	perf_locks_close(&c);
	assert_int_equal(listed(), 0);
	/* All or none: what was had before the refusal is free again. */
	assert_int_equal(take(&a, exclusive("6", "6-7"), "one", &err), 0);
	assert_int_equal(take(&b, exclusive("4,6", "4-7"), "two", &err), -EBUSY);
	assert_int_equal(take(&c, exclusive("0,4", "0,4"), "three", &err), 0);
	perf_locks_close(&a);
	perf_locks_close(&c);
}

static void test_look(void **state UNUSED)
{
	struct perf_locks a, b, l = nothing;
	struct perf_held held;
	struct error err;

	assert_int_equal(take(&a, shared("0,2", "0-3"), "one", &err), 0);
	assert_int_equal(take(&b, exclusive("6", "6-7"), "two", &err), 0);
	assert_int_equal(perf_locks_open(&l, &err), 0);
	assert_int_equal(perf_locks_begin(&l, &err), 0);
	assert_int_equal(perf_locks_look(&l, &host, &held, &err), 0);
	perf_locks_close(&l);
	assert_memory_equal(&held.cache_any, &(struct host_cpu_set){{1 | 4 | 64}},
			    sizeof(held.cache_any));
	assert_memory_equal(&held.cache_exclusive, &(struct host_cpu_set){{64}},
			    sizeof(held.cache_any));
	assert_memory_equal(&held.cpu_any, &(struct host_cpu_set){{0xcf}}, sizeof(held.cpu_any));
	assert_memory_equal(&held.cpu_exclusive, &(struct host_cpu_set){{0xc0}},
			    sizeof(held.cpu_any));
	perf_locks_close(&a);
	perf_locks_close(&b);
}

/* An ordinary VM that keeps to no CPUs is in the way of every performance run, and steps back to
 * single caches while there is one. */
static void test_all(void **state UNUSED)
{
	struct perf_locks a = nothing, b;
	struct perf_held held;
	struct error err = {0};

	for (int round = 0; round < 2; round++) {
		assert_int_equal(perf_locks_open(&a, &err), 0);
		assert_int_equal(perf_locks_begin(&a, &err), 0);
		assert_int_equal(perf_locks_take_all(&a, "anywhere", &err), 1);
		assert_int_equal(perf_locks_look(&a, &host, &held, &err), 0);
		assert_true(held.all);
		perf_locks_end(&a);
		assert_int_equal(take(&b, exclusive("6", "6-7"), "perf", &err), -EBUSY);
		assert_non_null(strstr(err.what, "VM anywhere"));
		assert_int_equal(take(&b, shared("6", "6-7"), "plain", &err), 0);
		perf_locks_close(&b);
		perf_locks_close(&a);
		assert_int_equal(take(&b, exclusive("6", "6-7"), "perf", &err), 0);
		assert_int_equal(perf_locks_open(&a, &err), 0);
		assert_int_equal(perf_locks_begin(&a, &err), 0);
		assert_int_equal(perf_locks_take_all(&a, "anywhere", &err), 0);
		assert_int_equal(perf_locks_look(&a, &host, &held, &err), 0);
		assert_false(held.all);
		perf_locks_close(&a);
		perf_locks_close(&b);
	}
}

/* ---- listers ------------------------------------------------------------------------------- */

static void list_for_ever(void)
{
	struct error err = {0};
	json_t *list;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		if (perf_locks_list(&list, &err) < 0)
			_exit(1);
		json_decref(list);
	}
}

/* Who looks has each record locked for an instant: none is lost or shown half for that. */
static void test_listers_lose_no_record(void **state UNUSED)
{
	uint64_t until_ns = now_ns() + 2000000000;
	unsigned taken = 0, lost = 0, unlisted = 0;
	pid_t lister[2];
	int status;

	for (unsigned i = 0; i < ARRAY_SIZE(lister); i++) {
		lister[i] = fork();
		if (lister[i] == 0)
			list_for_ever();
	}
	while (now_ns() < until_ns) {
		struct perf_locks a;
		struct error err;

		assert_int_equal(take(&a, shared("0", "0"), "seen", &err), 0);
		lost += a.record_fd < 0;
		if (taken % 16 == 0)
			unlisted += listed() != 1;
		perf_locks_close(&a);
		taken++;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(lister); i++) {
		kill(lister[i], SIGKILL);
		assert_int_equal(waitpid(lister[i], &status, 0), lister[i]);
		assert_true(WIFSIGNALED(status)); /* none gave up before */
	}
	print_message("taken %u, lost %u, not listed %u\n", taken, lost, unlisted);
	assert_true(taken > 100);
	assert_int_equal(lost, 0);
	assert_int_equal(unlisted, 0);
}

/* ---- strangers ----------------------------------------------------------------------------- */

static void in_dir(const char *name, char *buf, size_t len)
{
	snprintf(buf, len, "%s/%s", dir, name);
}

static void test_strangers(void **state UNUSED)
{
	struct perf_locks a;
	struct error err;
	struct stat st;
	char path[128], victim[128], other[128];
	int fd;

	/* Everybody's directory and files, whatever the umask. */
	umask(077);
	assert_int_equal(take(&a, exclusive("0", "0"), "one", &err), 0);
	perf_locks_close(&a);
	umask(022);
	assert_int_equal(stat(dir, &st), 0);
	assert_int_equal(st.st_mode & 07777, 01777);
	in_dir("cpu-0", path, sizeof(path));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0666);
	/* A link leads nowhere: what it points to is not touched. */
	in_dir("cpu-1", path, sizeof(path));
	snprintf(victim, sizeof(victim), "%s/victim", base);
	(void)unlink(path);
	assert_int_equal(symlink(victim, path), 0);
	assert_int_equal(take(&a, exclusive("0", "1"), "one", &err), -EBUSY);
	assert_non_null(strstr(err.what, "cpu-1"));
	assert_int_equal(access(victim, F_OK), -1);
	assert_int_equal(unlink(path), 0);
	/* A fifo neither hangs nor locks. */
	assert_int_equal(mkfifo(path, 0666), 0);
	assert_int_equal(take(&a, exclusive("0", "1"), "one", &err), -EBUSY);
	assert_int_equal(unlink(path), 0);
	/* Somebody's flock(1) is a lock as good as ours. */
	fd = open(path, O_RDONLY | O_CREAT, 0666);
	assert_int_equal(flock(fd, LOCK_SH), 0);
	assert_int_equal(take(&a, exclusive("0", "1"), "one", &err), -EBUSY);
	assert_non_null(strstr(err.what, "does not say who it is"));
	assert_int_equal(take(&a, shared("0", "1"), "one", &err), 0);
	perf_locks_close(&a);
	close(fd);
	/* A file that is removed under us is known about. */
	assert_int_equal(take(&a, exclusive("0", "1"), "one", &err), 0);
	assert_int_equal(unlink(path), 0);
	assert_false(perf_locks_intact(&a));
	perf_locks_close(&a);
	/* So is one that is moved away, or has another in its place. */
	assert_int_equal(take(&a, exclusive("0", "1"), "one", &err), 0);
	in_dir("other", other, sizeof(other));
	assert_int_equal(rename(path, other), 0);
	assert_false(perf_locks_intact(&a));
	assert_int_equal(close(open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0666)), 0);
	assert_false(perf_locks_intact(&a));
	assert_int_equal(rename(other, path), 0);
	assert_true(perf_locks_intact(&a));
	perf_locks_close(&a);
	assert_int_equal(unlink(path), 0);
	/* And so is the directory, though all that is in it still has its name there. */
	assert_int_equal(take(&a, exclusive("0", "1"), "one", &err), 0);
	snprintf(other, sizeof(other), "%s/moved", base);
	assert_int_equal(rename(dir, other), 0);
	assert_false(perf_locks_intact(&a));
	assert_int_equal(mkdir(dir, 0777), 0);
	assert_false(perf_locks_intact(&a));
	assert_int_equal(rmdir(dir), 0);
	assert_int_equal(rename(other, dir), 0);
	assert_true(perf_locks_intact(&a));
	perf_locks_close(&a);
	assert_int_equal(unlink(path), 0);
	/* The directory itself may not be a link. */
	assert_int_equal(setenv("STASIS_LOCK_DIR", path, 1), 0);
	assert_int_equal(symlink(base, path), 0);
	assert_true(take(&a, exclusive("0", "1"), "one", &err) < 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(setenv("STASIS_LOCK_DIR", dir, 1), 0);
}

/* A process of its own that holds a file of the directory for ever. */
static pid_t hold(const char *name, int operation)
{
	char path[128], byte;
	int ready[2];
	pid_t pid;

	in_dir(name, path, sizeof(path));
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0666);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, "str\033nger");
		if (flock(fd, operation) < 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static void end_hold(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* The mutex for ever: it is named who has it, after that time; and all locks are as good. */
static void test_held_mutex(void **state UNUSED)
{
	pid_t pid = hold("mutex", LOCK_EX);
	struct perf_locks a = nothing, b, c;
	struct perf_held held;
	struct error err = {0};
	char who[64];
	uint64_t begun_ns;

	assert_int_equal(perf_locks_open(&a, &err), 0);
	assert_int_equal(a.patience_ns, PERF_LOCKS_PATIENCE_NS);
	a.patience_ns = 200000000;
	begun_ns = now_ns();
	assert_int_equal(perf_locks_begin(&a, &err), -EBUSY);
	assert_true(now_ns() - begun_ns >= 200000000);
	assert_int_equal(err.kind, ERROR_CONTENTION);
	snprintf(who, sizeof(who), "held by str?nger (pid %d, user %u)", (int)pid, getuid());
	/* A file system whose stat() names another device than /proc/locks does can't be asked. */
	if (!strstr(err.what, "lslocks"))
		assert_non_null(strstr(err.what, who));
	assert_int_equal(a.patience_ns, 0);
	err = (struct error){0};
	begun_ns = now_ns();
	assert_int_equal(perf_locks_begin(&a, &err), -EBUSY);
	assert_true(now_ns() - begun_ns < 200000000);
	perf_locks_close(&a);

	alone = true;
	assert_int_equal(take(&a, exclusive("0", "0-1"), "one", &err), 0);
	assert_int_equal(take(&b, shared("0,2", "0-3"), "two", &err), -EBUSY);
	assert_non_null(strstr(err.what, "VM one"));
	assert_int_equal(take_all(&b, shared("2,4", "2-5"), &err), 0);
	assert_int_equal(take(&c, exclusive("4,6", "4-7"), "three", &err), -EBUSY);
	assert_int_equal(take(&c, exclusive("6", "6-7"), "three", &err), 0);
	assert_int_equal(listed(), 3);
	perf_locks_close(&a);
	perf_locks_close(&b);
	perf_locks_close(&c);
	assert_int_equal(take_all(&a, shared("0", "0"), &err), 1);
	assert_int_equal(take(&b, exclusive("6", "6-7"), "two", &err), -EBUSY);
	assert_int_equal(perf_locks_look(&a, &host, &held, &err), 0);
	assert_true(held.all);
	perf_locks_close(&a);
	alone = false;
	end_hold(pid);
	assert_int_equal(take(&a, exclusive("0,2,4,6", "0-7"), "one", &err), 0);
	perf_locks_close(&a);
}

/* What stands for all, and for performance runs: held or made unfit by a stranger, it keeps no
 * ordinary VM off, only performance runs, which are told who it is. */
static void test_held_by_stranger(void **state UNUSED)
{
	static const char *const names[] = {"all", "perf"};
	struct perf_locks a, b;
	struct perf_held held;
	struct error err;
	char path[128];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		pid_t pid = hold(names[i], LOCK_EX);
		char who[32];

		assert_int_equal(take_all(&a, shared("0", "0-1"), &err), 0);
		assert_int_equal(a.count, 3); /* cache-0, cpu-0, cpu-1 */
		assert_int_equal(take(&b, exclusive("6", "6-7"), "perf", &err), -EBUSY);
		snprintf(who, sizeof(who), "(pid %d, user ", (int)pid);
		if (!strstr(err.what, "lslocks"))
			assert_non_null(strstr(err.what, who));
		end_hold(pid);
		perf_locks_close(&a);
		in_dir(names[i], path, sizeof(path));
		assert_int_equal(unlink(path), 0);
		assert_int_equal(mkfifo(path, 0666), 0);
		assert_int_equal(take_all(&a, shared("0", "0-1"), &err), 0);
		assert_int_equal(take(&b, exclusive("6", "6-7"), "perf", &err), -EBUSY);
		assert_non_null(strstr(err.what, names[i]));
		perf_locks_close(&a);
		assert_int_equal(unlink(path), 0);
	}
	/* A CPU's file that can't be locked is a CPU that is held: others are there. */
	in_dir("cpu-3", path, sizeof(path));
	(void)unlink(path);
	assert_int_equal(mkfifo(path, 0666), 0);
	assert_int_equal(take(&a, shared("0", "0-1"), "one", &err), 0);
	assert_int_equal(perf_locks_begin(&a, &err), 0);
	assert_int_equal(perf_locks_look(&a, &host, &held, &err), 0);
	assert_true(host_cpu_set_has(&held.cpu_exclusive, 3));
	assert_false(host_cpu_set_has(&held.cpu_exclusive, 2));
	perf_locks_close(&a);
	assert_int_equal(unlink(path), 0);
	/* Nor does a mutex that is none. */
	in_dir("mutex", path, sizeof(path));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0666), 0);
	assert_int_equal(take(&a, shared("0", "0-1"), "one", &err), -EBUSY);
	assert_non_null(strstr(err.what, "mutex"));
	alone = true;
	assert_int_equal(take(&a, shared("0", "0-1"), "one", &err), 0);
	alone = false;
	perf_locks_close(&a);
	assert_int_equal(unlink(path), 0);
}

/* Records are somebody's word: nonsense and control characters do no harm. */
static void test_false_records(void **state UNUSED)
{
	static const char *const texts[] = {
		"",
		"[]",
		"{",
		"{\"name\":7,\"pid\":\"x\"}",
		"{\"name\":\"a\\nb\\u001b[2J\\u00e9\",\"pid\":1,\"cpus\":\"0-99999999\"}",
	};
	struct perf_locks a;
	struct error err;
	char path[128];
	int fd[ARRAY_SIZE(texts)];
	json_t *list, *row;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(texts); i++) {
		char name[16];

		snprintf(name, sizeof(name), "vm-%zu", i);
		in_dir(name, path, sizeof(path));
		fd[i] = open(path, O_RDWR | O_CREAT, 0644);
		assert_int_equal(write(fd[i], texts[i], strlen(texts[i])), strlen(texts[i]));
		assert_int_equal(flock(fd[i], LOCK_EX), 0);
	}
	in_dir("vm-dir", path, sizeof(path));
	assert_int_equal(mkdir(path, 0755), 0);
	assert_int_equal(perf_locks_list(&list, &err), 0);
	assert_int_equal(json_array_size(list), 2);
	json_array_foreach(list, i, row) for (const char *c = json_string_value(
						      json_object_get(row, "name"));
					      *c; c++) assert_true(*c >= 0x20 && *c < 0x7f);
	json_decref(list);
	for (i = 0; i < ARRAY_SIZE(texts); i++)
		close(fd[i]);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(listed(), 0);
	/* The next who takes sweeps them. */
	assert_int_equal(take(&a, exclusive("0", "0"), "one", &err), 0);
	in_dir("vm-0", path, sizeof(path));
	assert_int_equal(access(path, F_OK), -1);
	perf_locks_close(&a);
}

/* ---- every order without the mutex ---------------------------------------------------------- */

/* At the flock call of this number another VM does all that it does; 0: never. */
static struct {
	unsigned at, calls;
	bool performance; /* what the other is */
	struct perf_locks other;
	int other_r;
} between;

int __real_flock(int fd, int operation);
int __wrap_flock(int fd, int operation);

static int take_one_of_both(struct perf_locks *locks, bool performance)
{
	struct error err;

	return performance ? take(locks, exclusive("6", "6-7"), "perf", &err)
			   : take_all(locks, shared("0", "0-1"), &err);
}

int __wrap_flock(int fd, int operation)
{
	if (between.at > 0 && ++between.calls == between.at) {
		between.at = 0;
		between.other_r = take_one_of_both(&between.other, between.performance);
	}
	return __real_flock(fd, operation);
}

/* A performance run and one that may run anywhere, one between any two steps of the other. */
static void test_every_order(void **state UNUSED)
{
	pid_t pid = hold("mutex", LOCK_EX);
	unsigned both_went = 0, orders = 0;

	alone = true;
	for (int performance = 0; performance < 2; performance++) {
		for (unsigned at = 1;; at++) {
			struct perf_locks mine;
			int r;

			between.at = at;
			between.calls = 0;
			between.performance = !performance;
			r = take_one_of_both(&mine, performance);
			if (between.at > 0) { /* fewer calls than that */
				between.at = 0;
				assert_int_equal(r, !performance);
				perf_locks_close(&mine);
				break;
			}
			/* One has the host and the other is refused, or takes CPUs one by one. */
			if (r >= 0 && between.other_r >= 0) {
				assert_int_equal(performance ? between.other_r : r, 0);
				both_went++;
			}
			orders++;
			if (r >= 0)
				perf_locks_close(&mine);
			if (between.other_r >= 0)
				perf_locks_close(&between.other);
		}
	}
	alone = false;
	end_hold(pid);
	print_message("%u orders, in %u of them both\n", orders, both_went);
	assert_true(both_went > 0 && both_went < orders);
}

/* ---- many, under kill -9 ------------------------------------------------------------------- */

enum { CPUS = 8, WORKERS = 50, LIVES = 300 };

struct row {
	_Atomic pid_t pid;
	_Atomic int mode[CPUS]; /* 0, LOCK_SH or LOCK_EX */
};

static struct shared_page {
	struct row row[LIVES];
	_Atomic unsigned long taken, refused, overlaps, errors;
} * page;

/* Not dead and not dying: PF_EXITING (0x4) is set before the descriptors are closed. */
static bool is_alive(pid_t pid)
{
	char path[32], text[512];
	unsigned long flags = 4;
	char run_state = 'X';
	const char *behind;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (fgets(text, sizeof(text), f) && (behind = strrchr(text, ')')))
		sscanf(behind, ") %c %*d %*d %*d %*d %*d %lu", &run_state, &flags);
	fclose(f);
	return run_state != 'Z' && run_state != 'X' && !(flags & 4);
}

static bool overlaps(const struct row *mine)
{
	for (unsigned i = 0; i < LIVES; i++) {
		struct row *other = &page->row[i];

		if (other == mine || other->pid == 0)
			continue;
		for (unsigned c = 0; c < CPUS; c++)
			if (mine->mode[c] && other->mode[c] &&
			    (mine->mode[c] == LOCK_EX || other->mode[c] == LOCK_EX) &&
			    is_alive(other->pid) && other->mode[c])
				return true;
	}
	return false;
}

/* One turn: some caches and all their CPUs, in a mode; then they are looked at, and let go. */
static void turn(struct row *mine, unsigned random)
{
	int mode = random % 3 ? LOCK_SH : LOCK_EX;
	bool anywhere = random % 12 == 1;
	struct perf_lock_set want = {0};
	struct perf_locks locks;
	struct error err;
	int r;

	for (unsigned c = 0; c < CPUS; c++) {
		if (!(random >> (8 + c / 2) & 1))
			continue;
		host_cpu_set_add(mode == LOCK_EX ? &want.cache_exclusive : &want.cache_shared,
				 c & ~1u);
		host_cpu_set_add(mode == LOCK_EX ? &want.cpu_exclusive : &want.cpu_shared, c);
	}
	if (anywhere)
		r = take_all(&locks, want, &err);
	else
		r = take(&locks, want, "worker", &err);
	if (r > 0)
		want = shared("0,2,4,6", "0-7");
	if (r == -EBUSY)
		page->refused++;
	else if (r < 0)
		page->errors++;
	if (r < 0) {
		usleep(500 + random % 1000);
		return;
	}
	page->taken++;
	for (unsigned c = 0; c < CPUS; c++)
		mine->mode[c] = host_cpu_set_has(&want.cpu_exclusive, c) ? LOCK_EX
				: host_cpu_set_has(&want.cpu_shared, c)	 ? LOCK_SH
									 : 0;
	page->overlaps += overlaps(mine);
	usleep(random % 2000);
	for (unsigned c = 0; c < CPUS; c++)
		mine->mode[c] = 0;
	perf_locks_close(&locks);
}

static pid_t start_worker(unsigned life)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	srandom(life + 1);
	page->row[life].pid = getpid();
	for (;;)
		turn(&page->row[life], (unsigned)random());
}

static void fifty_under_kill(void)
{
	pid_t worker[WORKERS];
	unsigned lives = 0;
	struct perf_locks all;
	struct error err;
	unsigned long before = 0;

	page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(page, MAP_FAILED);
	for (unsigned i = 0; i < WORKERS; i++)
		worker[i] = start_worker(lives++);
	srandom(7);
	while (lives < LIVES) {
		unsigned i = (unsigned)random() % WORKERS;

		usleep((unsigned)random() % 20000);
		kill(worker[i], SIGKILL);
		assert_int_equal(waitpid(worker[i], NULL, 0), worker[i]);
		worker[i] = start_worker(lives++);
		if (lives % 50 == 0) { /* never stuck */
			for (unsigned patience = 0; page->taken == before; patience++) {
				assert_true(patience < 1000);
				usleep(10000);
			}
			before = page->taken;
		}
	}
	for (unsigned i = 0; i < WORKERS; i++)
		kill(worker[i], SIGKILL);
	for (unsigned i = 0; i < WORKERS; i++)
		assert_int_equal(waitpid(worker[i], NULL, 0), worker[i]);
	print_message("taken %lu, refused %lu\n", page->taken, page->refused);
	assert_int_equal(page->overlaps, 0);
	assert_int_equal(page->errors, 0);
	assert_true(page->taken > 100);
	/* Nothing is left. */
	assert_int_equal(listed(), 0);
	assert_int_equal(take(&all, exclusive("0,2,4,6", "0-7"), "all", &err), 0);
	assert_int_equal(listed(), 1);
	perf_locks_close(&all);
	munmap(page, sizeof(*page));
}

static void test_fifty_under_kill(void **state UNUSED)
{
	fifty_under_kill();
}

/* The same where nobody ever has the mutex. */
static void test_fifty_without_mutex(void **state UNUSED)
{
	pid_t pid = hold("mutex", LOCK_EX);

	alone = true;
	fifty_under_kill();
	alone = false;
	end_hold(pid);
}

/* ---- a holder that stands still ------------------------------------------------------------ */

static void test_stopped_holder(void **state UNUSED)
{
	struct perf_locks a, b;
	struct error err;
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (take(&a, exclusive("2", "2-3"), "stopped", &err) < 0 ||
		    write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	kill(pid, SIGSTOP);
	assert_int_equal(take(&b, exclusive("0,2", "0-3"), "other", &err), -EBUSY);
	assert_non_null(strstr(err.what, "VM stopped"));
	assert_int_equal(take(&b, exclusive("0", "0-1"), "other", &err), 0);
	perf_locks_close(&b);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_int_equal(take(&b, exclusive("0,2", "0-3"), "other", &err), 0);
	perf_locks_close(&b);
	close(ready[0]);
	close(ready[1]);
}

static int make_base(void **state UNUSED)
{
	struct host_cpu_set all = tree_all(512);
	static struct tree t;

	tree_regular(&t, 1, 1, 4, 2, 1);
	tree_host(&t, &all, &host);
	snprintf(base, sizeof(base), "%s/stasis-test-XXXXXX", "/tmp");
	if (!mkdtemp(base))
		return -1;
	snprintf(dir, sizeof(dir), "%s/locks", base);
	return setenv("STASIS_LOCK_DIR", dir, 1);
}

static int remove_one(const char *path, const struct stat *st UNUSED, int type UNUSED,
		      struct FTW *ftw UNUSED)
{
	return remove(path);
}

static int remove_base(void **state UNUSED)
{
	host_cpus_done(&host);
	return nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_modes),
		cmocka_unit_test(test_look),
		cmocka_unit_test(test_all),
		cmocka_unit_test(test_listers_lose_no_record),
		cmocka_unit_test(test_strangers),
		cmocka_unit_test(test_held_mutex),
		cmocka_unit_test(test_held_by_stranger),
		cmocka_unit_test(test_false_records),
		cmocka_unit_test(test_stopped_holder),
		cmocka_unit_test(test_every_order),
		cmocka_unit_test(test_fifty_under_kill),
		cmocka_unit_test(test_fifty_without_mutex),
	};

	return cmocka_run_group_tests(tests, make_base, remove_base);
}
