/* See counters.h. */
#include "vm/perf/counters.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"

static const struct {
	const char *name;
	uint64_t config; /* of PERF_TYPE_HARDWARE */
} kinds[COUNTERS] = {
	[COUNTER_CYCLES] = {"cycles", PERF_COUNT_HW_CPU_CYCLES},
	[COUNTER_INSTRUCTIONS] = {"instructions", PERF_COUNT_HW_INSTRUCTIONS},
	[COUNTER_CACHE] = {"cache_misses", PERF_COUNT_HW_CACHE_MISSES},
	[COUNTER_BRANCH] = {"branch_misses", PERF_COUNT_HW_BRANCH_MISSES},
};

/* Negative errno, or the descriptor. */
static int open_one(pid_t tid, enum counter which)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.size = sizeof(attr),
		.config = kinds[which].config,
		.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING,
		.exclude_host = 1,
	};
	long fd = syscall(SYS_perf_event_open, &attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);

	return fd < 0 ? -errno : (int)fd;
}

static int refused(int r, struct error *err)
{
	switch (r) {
	case -ENOENT:
	case -ENODEV:
	case -EOPNOTSUPP:
	case -EINVAL:
		return error_contention(err, "--counters: this host has no PMU that counts guests");
	case -EACCES:
	case -EPERM:
		return error_contention(err, "--counters: this user may not count (CAP_PERFMON, or "
					     "kernel.perf_event_paranoid below 3)");
	default:
		return error_set_shortage(err, r, "--counters: opening a counter");
	}
}

int counters_open(struct counters *ret, const pid_t *tid, unsigned n, struct error *err)
{
	struct counters c = {.n = n, .fd = calloc(n, sizeof(*c.fd))};
	int r = 0;

	*ret = (struct counters){0};
	if (!c.fd)
		return error_set(err, -ENOMEM, "--counters");
	for (unsigned i = 0; i < n; i++)
		for (unsigned k = 0; k < COUNTERS; k++)
			c.fd[i][k] = -1;
	for (unsigned i = 0; r >= 0 && i < n; i++) {
		r = c.fd[i][0] = open_one(tid[i], 0);
		/* One that this PMU lacks is no reason to do without the others. */
		for (unsigned k = 1; r >= 0 && k < COUNTERS; k++) {
			int fd = open_one(tid[i], k);

			c.fd[i][k] = fd < 0 ? -1 : fd;
		}
	}
	if (r < 0) {
		counters_close(&c);
		return refused(r, err);
	}
	*ret = c;
	return 0;
}

json_t *counters_json(const struct counters *c, unsigned i)
{
	json_t *json = json_object();

	for (unsigned k = 0; k < COUNTERS; k++) {
		struct {
			uint64_t value, enabled_ns, running_ns; /* by read_format */
		} is;

		if (c->fd[i][k] < 0 || read(c->fd[i][k], &is, sizeof(is)) != sizeof(is))
			continue;
		/* Of a thread that has not run yet, all three are 0, and so it is. One that ran
		 * while the PMU had no room for this has been seen by nobody. */
		if (is.enabled_ns && !is.running_ns)
			continue;
		if (is.running_ns < is.enabled_ns)
			is.value = (uint64_t)((double)is.value * (double)is.enabled_ns /
					      (double)is.running_ns);
		json_object_set_new(json, kinds[k].name, json_integer((json_int_t)is.value));
	}
	return json;
}

void counters_close(struct counters *c)
{
	for (unsigned i = 0; c->fd && i < c->n; i++)
		for (unsigned k = 0; k < COUNTERS; k++)
			fd_close(&c->fd[i][k]);
	free(c->fd);
	*c = (struct counters){0};
}
