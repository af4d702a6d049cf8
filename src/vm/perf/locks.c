/* Locks for caches and CPUs, between processes. Control thread. */
#include "vm/perf/locks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"
#include "vm/perf/lock_holder.h"

#define OPEN_TO_ALL    01777
#define RECORD_MAX     KIB(64)
#define NAME_MAX_SHOWN 64
/* Between two tries for the mutex. */
#define PAUSE_NS 2000000

/* ---- the directory ------------------------------------------------------------------------- */

/* The same answer for every user, so no question of what we may do ourselves. */
static char *choose_dir(void)
{
	const char *own = getenv("STASIS_LOCK_DIR");
	struct stat st;

	if (own && own[0] == '/')
		return strdup(own);
	if (lstat("/run/lock", &st) == 0 && S_ISDIR(st.st_mode) && (st.st_mode & 01002) == 01002)
		return strdup("/run/lock/stasis");
	return strdup("/tmp/stasis-locks");
}

static int open_dir(const char *path, struct error *err)
{
	mode_t mask = umask(0); /* open to all from the first moment on */
	bool made = mkdir(path, OPEN_TO_ALL) == 0;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW), r = -errno;
	struct stat st;

	umask(mask);

	if (fd < 0)
		return error_set(err, r, "opening the directory of locks %s", path);
	/* An access list above it may have narrowed what mkdir asked for. */
	if (made && fchmod(fd, OPEN_TO_ALL) < 0)
		r = -errno;
	else
		r = fstat(fd, &st) < 0 ? -errno : 0;
	if (r == 0 && st.st_uid != geteuid() && (st.st_mode & OPEN_TO_ALL) != OPEN_TO_ALL) {
		error_contention(err,
				 "the directory of locks %s of user %u is not open to all users",
				 path, st.st_uid);
		error_hint(err, "chmod 1777 %s", path);
		r = -EBUSY;
	} else if (r < 0) {
		error_set(err, r, "making the directory of locks %s", path);
	}
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

static int make_file(int dir_fd, const char *name, int flags)
{
	mode_t mask = umask(0);
	int fd = openat(dir_fd, name, flags | O_CREAT | O_EXCL, 0666), r = -errno;

	umask(mask);
	return fd < 0 ? r : fd;
}

/* Opens a file of the directory, making it where it lacks. Without O_CREAT where it exists: in a
 * sticky directory the kernel refuses that for a file of another user (fs.protected_regular). */
static int open_file(int dir_fd, const char *name)
{
	const int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
	struct stat st;

	for (int tries = 0; tries < 8; tries++) {
		int fd = openat(dir_fd, name, flags);

		if (fd >= 0) {
			/* A fifo or a device that somebody put there can't lock anything. */
			if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
				return fd;
			close(fd);
			return -EPERM;
		}
		if (errno != ENOENT)
			return -errno;
		fd = make_file(dir_fd, name, flags);
		if (fd != -EEXIST)
			return fd;
	}
	return -EAGAIN;
}

/* Whether another has it: a file that a stranger put there so that we can't use it is a lock that
 * they hold. */
static bool is_held(int r)
{
	return r == -EWOULDBLOCK || r == -EACCES || r == -EPERM || r == -ELOOP;
}

static int cannot_open(const struct perf_locks *locks, const char *name, int r, struct error *err)
{
	struct stat st;

	if (!is_held(r))
		return error_set_shortage(err, r, "opening %s/%s", locks->path, name);
	if (fstatat(locks->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		st.st_uid = 0;
	error_contention(err, "%s/%s of user %u can't be locked: %s", locks->path, name, st.st_uid,
			 strerror(-r));
	error_hint(err, "its owner or root removes it");
	return -EBUSY;
}

/* Whether fd is what the name stands for now. */
static bool is_current(int dir_fd, const char *name, int fd)
{
	struct stat here, there;

	return fstat(fd, &here) == 0 && fstatat(dir_fd, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	       here.st_ino == there.st_ino && here.st_dev == there.st_dev;
}

/* The descriptor, locked; -EWOULDBLOCK where another holds it. operation: LOCK_SH or LOCK_EX. */
static int lock_file(int dir_fd, const char *name, int operation)
{
	for (int tries = 0; tries < 8; tries++) {
		int fd = open_file(dir_fd, name), r;

		if (fd < 0)
			return fd;
		if (flock(fd, operation | LOCK_NB) < 0) {
			r = -errno;
			close(fd);
			return r;
		}
		if (is_current(dir_fd, name, fd))
			return fd;
		close(fd); /* removed in between */
	}
	return -EAGAIN;
}

int perf_locks_open(struct perf_locks *locks, struct error *err)
{
	char *path = choose_dir();
	int fd;

	if (!path)
		return error_set(err, -ENOMEM, "opening the directory of locks");
	fd = open_dir(path, err);
	if (fd < 0) {
		free(path);
		return fd;
	}
	*locks = (struct perf_locks){
		.path = path,
		.dir_fd = fd,
		.mutex_fd = -1,
		.record_fd = -1,
		.patience_ns = PERF_LOCKS_PATIENCE_NS,
	};
	return 0;
}

/* ---- the mutex ----------------------------------------------------------------------------- */

static bool holder_of(const struct perf_locks *locks, const char *name, char *buf, size_t len)
{
	struct stat st;

	return fstatat(locks->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       lock_holder(&st, buf, len);
}

int perf_locks_begin(struct perf_locks *locks, struct error *err)
{
	uint64_t until_ns = now_ns() + locks->patience_ns;
	char who[128] = "a process that lslocks finds";
	int fd;

	/* Not a call that blocks: whoever holds it may be stopped, and our signals are blocked. */
	while ((fd = lock_file(locks->dir_fd, "mutex", LOCK_EX)) == -EWOULDBLOCK &&
	       now_ns() < until_ns) {
		struct timespec pause = {.tv_nsec = PAUSE_NS + now_ns() % PAUSE_NS};

		nanosleep(&pause, NULL);
	}
	if (fd >= 0) {
		locks->mutex_fd = fd;
		return 0;
	}
	locks->patience_ns = 0;
	if (fd != -EWOULDBLOCK)
		return cannot_open(locks, "mutex", fd, err);
	(void)holder_of(locks, "mutex", who, sizeof(who));
	return error_contention(err, "%s/mutex is held by %s, which does not let go", locks->path,
				who);
}

void perf_locks_end(struct perf_locks *locks)
{
	fd_close(&locks->mutex_fd);
}

/* ---- looking ------------------------------------------------------------------------------- */

static void file_name(const char *kind, unsigned n, char *buf, size_t len)
{
	snprintf(buf, len, "%s-%u", kind, n);
}

/* Under the mutex nobody misses a lock because of this look; without it, another may take it for a
 * holder's. */
static int look_at(const struct perf_locks *locks, const char *kind, unsigned n,
		   struct host_cpu_set *any, struct host_cpu_set *exclusive, struct error *err)
{
	char name[32];
	int fd;

	file_name(kind, n, name, sizeof(name));
	fd = open_file(locks->dir_fd, name);
	if (fd < 0 && !is_held(fd))
		return cannot_open(locks, name, fd, err);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0) {
		host_cpu_set_add(any, n);
		if (fd < 0 || flock(fd, LOCK_SH | LOCK_NB) < 0)
			host_cpu_set_add(exclusive, n);
	}
	fd_close(&fd);
	return 0;
}

int perf_locks_look(struct perf_locks *locks, const struct host_cpus *host,
		    struct perf_held *ret_held, struct error *err)
{
	struct perf_held held = {0};
	int r = 0, fd;

	for (unsigned g = 0; g < host->groups && r == 0; g++)
		r = look_at(locks, "cache", host->group[g].id, &held.cache_any,
			    &held.cache_exclusive, err);
	for (unsigned c = 0; c < host->count && r == 0; c++)
		r = look_at(locks, "cpu", host->cpu[c].id, &held.cpu_any, &held.cpu_exclusive, err);
	if (r < 0)
		return r;
	fd = lock_file(locks->dir_fd, "all", LOCK_EX);
	if (fd < 0 && !is_held(fd))
		return cannot_open(locks, "all", fd, err);
	held.all = fd < 0;
	fd_close(&fd);
	*ret_held = held;
	return 0;
}

/* ---- records ------------------------------------------------------------------------------- */

/* The set as a list with ranges; malloc'ed. */
static char *set_text(const struct host_cpu_set *a, const struct host_cpu_set *b)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	for (unsigned i = 0; i < HOST_CPUS_MAX; i++) {
		unsigned first = i;

		if (!host_cpu_set_has(a, i) && !host_cpu_set_has(b, i))
			continue;
		while (host_cpu_set_has(a, i + 1) || host_cpu_set_has(b, i + 1))
			i++;
		fprintf(out, ftell(out) > 0 ? ",%u" : "%u", first);
		if (i > first)
			fprintf(out, "-%u", i);
	}
	fclose(out);
	return text;
}

/* Reads a record that is true now; NULL otherwise. *ret_stale: nobody holds it. */
static json_t *read_record(int dir_fd, const char *name, bool *ret_stale)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	CLEANUP_FREE char *text = NULL;
	struct stat st;
	json_t *json = NULL;
	ssize_t n = 0;

	*ret_stale = false;
	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
		if (flock(fd, LOCK_SH | LOCK_NB) == 0)
			*ret_stale = true;
		else
			text = malloc(RECORD_MAX);
	}
	if (text)
		n = fd_read_all(fd, text, RECORD_MAX);
	if (text && n > 0)
		json = json_loadb(text, (size_t)n, 0, NULL);
	close(fd);
	if (json && !json_is_object(json)) {
		json_decref(json);
		json = NULL;
	}
	if (json)
		json_object_set_new(json, "user", json_integer(st.st_uid));
	return json;
}

/* Records of ours that a crash left. Those of others are theirs to remove. Right without the mutex,
 * too: a record is locked before it has its name, but on file systems without O_TMPFILE. */
static void sweep(int dir_fd)
{
	int fd = dup(dir_fd);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		fd_close(&fd);
		return;
	}
	rewinddir(dir);
	while ((entry = readdir(dir))) {
		bool stale = false;

		if (strncmp(entry->d_name, "vm-", 3))
			continue;
		json_decref(read_record(dir_fd, entry->d_name, &stale));
		if (stale)
			(void)unlinkat(dir_fd, entry->d_name, 0);
	}
	closedir(dir);
}

/* The file of a record, locked before a lister can find it: one that is found
 * unlocked counts as stale, and is locked by the one who looks at that instant. It has no name
 * until name_record. Where the file system has no such files (EOPNOTSUPP, EISDIR) it has one at
 * once. */
static int make_record(int dir_fd, const char *name, bool *ret_named)
{
	int fd = openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0644), r = 0;

	*ret_named = fd < 0;
	if (fd < 0)
		fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return -errno;
	if (fchmod(fd, 0644) < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		r = -errno;
	if (r < 0 && *ret_named)
		(void)unlinkat(dir_fd, name, 0);
	if (r < 0)
		close(fd);
	return r < 0 ? r : fd;
}

static int name_record(int dir_fd, const char *name, int fd)
{
	char self[32];

	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, self, dir_fd, name, AT_SYMLINK_FOLLOW);
}

/* For people: best effort, and not waited for. */
static void write_record(struct perf_locks *locks, const char *mode, const char *caches,
			 const char *cpus, const char *name)
{
	CLEANUP_FREE char *text = NULL;
	uint32_t random = 0;
	json_t *json;
	bool named;
	int fd;

	sweep(locks->dir_fd);
	json = json_pack("{s:s, s:i, s:s, s:s?, s:s?}", "name", name, "pid", (int)getpid(), "mode",
			 mode, "caches", caches, "cpus", cpus);
	text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	if (!text)
		return;
	(void)getrandom(&random, sizeof(random), 0);
	snprintf(locks->record, sizeof(locks->record), "vm-%d-%08x", (int)getpid(), random);
	fd = make_record(locks->dir_fd, locks->record, &named);
	if (fd < 0)
		return;
	if (fd_write_all(fd, text, strlen(text)) < 0 ||
	    (!named && name_record(locks->dir_fd, locks->record, fd) < 0)) {
		if (named)
			(void)unlinkat(locks->dir_fd, locks->record, 0);
		close(fd);
		return;
	}
	locks->record_fd = fd;
}

/* Not one, but whoever may run anywhere. */
#define ANY UINT_MAX

struct search {
	const char *key; /* "caches" or "cpus" */
	unsigned n;	 /* or ANY */
	char *text;
	size_t len;
};

/* Text that a stranger wrote, fit to print and to put into JSON. */
static void make_printable(char *text)
{
	text_one_line(text);
	for (; *text; text++)
		if ((unsigned char)*text >= 0x80)
			*text = '?';
}

static void print_name(const json_t *record, char *buf, size_t len)
{
	const char *name = json_string_value(json_object_get(record, "name"));

	snprintf(buf, len, "%.*s", NAME_MAX_SHOWN, name ?: "?");
	make_printable(buf);
}

static bool each_record(int dir_fd, bool (*each)(json_t *record, void *arg), void *arg)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	bool found = false;

	if (!dir) {
		fd_close(&fd);
		return false;
	}
	while (!found && (entry = readdir(dir))) {
		json_t *record = NULL;
		bool stale;

		if (!strncmp(entry->d_name, "vm-", 3))
			record = read_record(dir_fd, entry->d_name, &stale);
		found = record && each(record, arg);
		json_decref(record);
	}
	closedir(dir);
	return found;
}

static bool matches(json_t *record, void *arg)
{
	struct search *s = arg;
	const char *list = json_string_value(json_object_get(record, s->key));
	struct host_cpu_set set;
	char name[NAME_MAX_SHOWN + 1];

	if (!list || (strcmp(list, "all") && (s->n == ANY || host_cpu_set_parse(list, &set) < 0 ||
					      !host_cpu_set_has(&set, s->n))))
		return false;
	print_name(record, name, sizeof(name));
	snprintf(s->text, s->len, "VM %s (pid %lld, user %lld)", name,
		 (long long)json_integer_value(json_object_get(record, "pid")),
		 (long long)json_integer_value(json_object_get(record, "user")));
	return true;
}

/* ---- taking -------------------------------------------------------------------------------- */

static void drop(struct perf_locks *locks)
{
	while (locks->count > 0)
		close(locks->held[--locks->count].fd);
	free(locks->held);
	locks->held = NULL;
}

/* There is room. */
static void keep(struct perf_locks *locks, const char *name, int fd)
{
	struct perf_lock *lock = &locks->held[locks->count++];

	lock->fd = fd;
	snprintf(lock->name, sizeof(lock->name), "%s", name);
}

/* file: the one that was tried for it. */
static int held_by_other(const struct perf_locks *locks, const char *kind, unsigned n,
			 const char *file, struct error *err)
{
	char who[192] = "a process that does not say who it is (lslocks finds it)", process[128];
	struct search s = {
		.key = !strcmp(kind, "cpu") ? "cpus" : "caches",
		.n = n,
		.text = who,
		.len = sizeof(who),
	};

	if (!each_record(locks->dir_fd, matches, &s) &&
	    holder_of(locks, file, process, sizeof(process)))
		snprintf(who, sizeof(who), "a process that does not say who it is: %s", process);
	if (n == ANY)
		error_contention(err, "all CPUs of the host are held by %s", who);
	else
		error_contention(err, "%s %u of the host is held by %s",
				 !strcmp(kind, "cpu") ? "CPU" : "the cache of CPU", n, who);
	error_hint(err, "--wait, or stasis locks");
	return -EBUSY;
}

static int take_set(struct perf_locks *locks, const char *kind, const struct host_cpu_set *set,
		    int operation, struct error *err)
{
	for (unsigned n = 0; n < HOST_CPUS_MAX; n++) {
		char name[32];
		int fd;

		if (!host_cpu_set_has(set, n))
			continue;
		file_name(kind, n, name, sizeof(name));
		fd = lock_file(locks->dir_fd, name, operation);
		if (fd == -EWOULDBLOCK)
			return held_by_other(locks, kind, n, name, err);
		if (fd < 0)
			return cannot_open(locks, name, fd, err);
		keep(locks, name, fd);
	}
	return 0;
}

/* No ordinary VM may run anywhere, and none will from now on. Said first, then asked: see
 * perf_locks_take_all. */
static int be_performance_run(struct perf_locks *locks, struct error *err)
{
	int fd = lock_file(locks->dir_fd, "perf", LOCK_SH);

	if (fd == -EWOULDBLOCK)
		return held_by_other(locks, "cpu", ANY, "perf", err);
	if (fd < 0)
		return cannot_open(locks, "perf", fd, err);
	keep(locks, "perf", fd);
	fd = lock_file(locks->dir_fd, "all", LOCK_EX);
	if (fd == -EWOULDBLOCK)
		return held_by_other(locks, "cpu", ANY, "all", err);
	if (fd < 0)
		return cannot_open(locks, "all", fd, err);
	close(fd);
	return 0;
}

int perf_locks_take(struct perf_locks *locks, const struct perf_lock_set *want, const char *name,
		    struct error *err)
{
	static const struct host_cpu_set none;
	bool exclusive = memcmp(&want->cpu_exclusive, &none, sizeof(none)) != 0;
	unsigned n = 1 + host_cpu_set_count(&want->cache_shared) +
		     host_cpu_set_count(&want->cache_exclusive) +
		     host_cpu_set_count(&want->cpu_shared) +
		     host_cpu_set_count(&want->cpu_exclusive);
	CLEANUP_FREE char *caches = NULL;
	CLEANUP_FREE char *cpus = NULL;
	int r;

	locks->held = calloc(n, sizeof(*locks->held));
	if (!locks->held)
		return error_set(err, -ENOMEM, "locking host CPUs");
	r = exclusive ? be_performance_run(locks, err) : 0;
	if (r == 0)
		r = take_set(locks, "cache", &want->cache_exclusive, LOCK_EX, err);
	if (r == 0)
		r = take_set(locks, "cache", &want->cache_shared, LOCK_SH, err);
	if (r == 0)
		r = take_set(locks, "cpu", &want->cpu_exclusive, LOCK_EX, err);
	if (r == 0)
		r = take_set(locks, "cpu", &want->cpu_shared, LOCK_SH, err);
	if (r < 0) {
		drop(locks);
		return r;
	}
	caches = set_text(&want->cache_shared, &want->cache_exclusive);
	cpus = set_text(&want->cpu_shared, &want->cpu_exclusive);
	write_record(locks, exclusive ? "exclusive" : "shared", caches, cpus, name);
	return 0;
}

int perf_locks_take_all(struct perf_locks *locks, const char *name, struct error *err)
{
	int all, perf;

	locks->held = calloc(1, sizeof(*locks->held));
	if (!locks->held)
		return error_set(err, -ENOMEM, "locking host CPUs");
	all = lock_file(locks->dir_fd, "all", LOCK_SH);
	if (all >= 0)
		keep(locks, "all", all);
	/* Our own first and theirs after it, as a performance run does the other way around: of two
	 * at once, one at least sees the other, with the mutex or without. */
	perf = all < 0 ? all : lock_file(locks->dir_fd, "perf", LOCK_EX);
	if (perf < 0) {
		drop(locks);
		return is_held(perf) ? 0 : cannot_open(locks, all < 0 ? "all" : "perf", perf, err);
	}
	close(perf);
	write_record(locks, "shared", "all", "all", name);
	return 1;
}

bool perf_locks_intact(const struct perf_locks *locks)
{
	if (!locks->path)
		return true;
	if (!is_current(AT_FDCWD, locks->path, locks->dir_fd))
		return false;
	for (unsigned i = 0; i < locks->count; i++)
		if (!is_current(locks->dir_fd, locks->held[i].name, locks->held[i].fd))
			return false;
	return true;
}

void perf_locks_close(struct perf_locks *locks)
{
	if (locks->record_fd >= 0)
		(void)unlinkat(locks->dir_fd, locks->record, 0);
	fd_close(&locks->record_fd);
	drop(locks);
	fd_close(&locks->mutex_fd);
	fd_close(&locks->dir_fd);
	free(locks->path);
	locks->path = NULL;
}

/* ---- listing ------------------------------------------------------------------------------- */

static bool append(json_t *record, void *arg)
{
	char name[NAME_MAX_SHOWN + 1];
	json_t *row;

	print_name(record, name, sizeof(name));
	row = json_pack("{s:s, s:I, s:I}", "name", name, "pid",
			json_integer_value(json_object_get(record, "pid")), "user",
			json_integer_value(json_object_get(record, "user")));
	for (size_t i = 0; row && i < 3; i++) {
		static const char *const keys[] = {"mode", "caches", "cpus"};
		const char *value = json_string_value(json_object_get(record, keys[i]));
		char shown[1024];

		snprintf(shown, sizeof(shown), "%s", value ?: "?");
		make_printable(shown);
		json_object_set_new(row, keys[i], json_string(shown));
	}
	json_array_append_new(arg, row);
	return false;
}

int perf_locks_list(json_t **ret_list, struct error *err)
{
	struct perf_locks locks = {.dir_fd = -1, .mutex_fd = -1, .record_fd = -1};
	json_t *list;
	int r = perf_locks_open(&locks, err);

	if (r < 0)
		return r;
	list = json_array();
	if (list)
		each_record(locks.dir_fd, append, list);
	perf_locks_close(&locks);
	if (!list)
		return error_set(err, -ENOMEM, "listing locks");
	*ret_list = list;
	return 0;
}
