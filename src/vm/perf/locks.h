/* Locks between the VMs of all users of a machine, so that none shares a cache with a performance
 * run. The kernel frees them when their process dies. Control thread.
 *
 *   DIR/mutex      flock'ed while one looks and takes; nothing else is ever waited for. It keeps
 *                  looks from being taken for holders; the locks are right without it
 *   DIR/cache-N    flock'ed, shared by ordinary VMs, exclusively by performance runs; N is the
 *                  smallest CPU of the cache group. flock(1) keeps performance runs off
 *   DIR/cpu-N      likewise, one host CPU
 *   DIR/all        shared by ordinary VMs that may run anywhere, in place of all of the above
 *   DIR/perf       shared by performance runs; while one has it, ordinary VMs take caches and
 *                  CPUs one by one, so that reading the host's shape is no cost of theirs else
 *   DIR/vm-PID-R   who holds what, for people: JSON; flock'ed as long as it is true
 *
 * DIR is $STASIS_LOCK_DIR, or /run/lock/stasis where everybody may write to /run/lock, or
 * /tmp/stasis-locks; the same for all users, so 1777 and files of 0666. Nothing in it is believed:
 * links are not followed, contents are only shown. A hostile user can hold locks (the mutex, all
 * and perf cost an ordinary VM time only), and can remove lock files that they made before anybody
 * else: perf_locks_intact finds that out. */
#ifndef STASIS_VM_PERF_LOCKS_H
#define STASIS_VM_PERF_LOCKS_H

#include <jansson.h>

#include "vm/perf/host_cpus.h"

/* Caches by the id of their group, CPUs by their number. */
struct perf_lock_set {
	struct host_cpu_set cache_shared, cache_exclusive;
	struct host_cpu_set cpu_shared, cpu_exclusive;
};

struct perf_locks {
	char *path; /* of DIR; owned */
	int dir_fd, mutex_fd;
	uint64_t patience_ns; /* of perf_locks_begin; 0 once it ran out */
	int record_fd;	      /* our vm-PID-R; -1: none */
	char record[48];
	struct perf_lock { /* what we hold */
		int fd;
		char name[32];
	} * held;
	unsigned count;
};

/* Which of what exists others hold: none of any can be had exclusively, none of exclusive at all.
 */
struct perf_held {
	struct host_cpu_set cache_any, cache_exclusive;
	struct host_cpu_set cpu_any, cpu_exclusive;
	bool all; /* an ordinary VM may run anywhere: nothing can be had exclusively */
};

/* Finds or makes DIR. The process has one thread yet, here and below, since files are made with
 * another umask than its own. Contention where another user made it so that we can't use it. */
int perf_locks_open(struct perf_locks *locks, struct error *err) MUST_CHECK;
/* Takes the mutex; it is held for milliseconds, so past PERF_LOCKS_PATIENCE_NS it is contention
 * that names who has it, and from then on it is tried once. Who goes on all the same, up to
 * perf_locks_end, gets nothing that another has; only a refusal, of whoever has the mutex meanwhile
 * as well, may be another's look, that is over soon. */
#define PERF_LOCKS_PATIENCE_NS 5000000000u
int perf_locks_begin(struct perf_locks *locks, struct error *err) MUST_CHECK;
void perf_locks_end(struct perf_locks *locks);
/* Between begin and end: asks for the caches and CPUs of host. */
int perf_locks_look(struct perf_locks *locks, const struct host_cpus *host,
		    struct perf_held *ret_held, struct error *err) MUST_CHECK;
/* Between begin and end: takes all of want or nothing. Where another has some of it, contention
 * that names who. name is the VM's. Once only. */
int perf_locks_take(struct perf_locks *locks, const struct perf_lock_set *want, const char *name,
		    struct error *err) MUST_CHECK;
/* Between begin and end, for an ordinary VM: takes all, shared, without naming anything. 1, or 0 if
 * there is a performance run, or a stranger who holds the files for this, so that caches and CPUs
 * must be taken one by one. */
int perf_locks_take_all(struct perf_locks *locks, const char *name, struct error *err) MUST_CHECK;
/* Whether the files that we hold are still those that others find, in the directory where others
 * look. */
bool perf_locks_intact(const struct perf_locks *locks);
/* Frees all. Accepts one that was never opened, if its descriptors are -1 and the rest 0. */
void perf_locks_close(struct perf_locks *locks);

/* Who holds what, as an array of {"name", "pid", "user", "mode", "caches", "cpus"}; the caller owns
 * it. What a record says is its maker's word; "user" is the file's owner. */
int perf_locks_list(json_t **ret_list, struct error *err) MUST_CHECK;

#endif
