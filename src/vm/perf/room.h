/* How much memory can be had at once: what is free and what the kernel can free without swapping,
 * of the host, of the memory control groups that this process is in, and of the host's nodes. */
#ifndef STASIS_VM_PERF_ROOM_H
#define STASIS_VM_PERF_ROOM_H

#include "vm/perf/host_cpus.h"

struct perf_room {
	uint64_t bytes; /* UINT64_MAX: nobody says */
	char whose[96]; /* "the host", "control group /x": who has the least */
};

/* The least of /proc/meminfo's MemAvailable and what is left in each control group (v2:
 * Documentation/admin-guide/cgroup-v2.rst; v1: cgroup-v1/memory.rst) on the way up. root stands
 * before each path, "" for this host. */
void perf_room_read(const char *root, struct perf_room *ret_room);
/* Of these nodes together (nodeN/meminfo). UINT64_MAX where one doesn't say. */
uint64_t perf_room_of_nodes(const char *root, const struct host_cpu_set *nodes);

#endif
