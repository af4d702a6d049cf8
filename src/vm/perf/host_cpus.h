/* The host's CPUs as sysfs shows them (Documentation/ABI/stable/sysfs-devices-system-cpu): which
 * are online and ours, which share a core, a last-level cache, a package and a node. Plain data,
 * read once; no thread owns it. */
#ifndef STASIS_VM_PERF_HOST_CPUS_H
#define STASIS_VM_PERF_HOST_CPUS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define HOST_CPUS_MAX 8192 /* the largest NR_CPUS of any architecture that we run on */

struct host_cpu_set {
	uint64_t word[HOST_CPUS_MAX / 64];
};

static inline bool host_cpu_set_has(const struct host_cpu_set *set, unsigned cpu)
{
	return cpu < HOST_CPUS_MAX && set->word[cpu / 64] >> (cpu % 64) & 1;
}

static inline void host_cpu_set_add(struct host_cpu_set *set, unsigned cpu)
{
	if (cpu < HOST_CPUS_MAX)
		set->word[cpu / 64] |= UINT64_C(1) << (cpu % 64);
}

static inline void host_cpu_set_remove(struct host_cpu_set *set, unsigned cpu)
{
	if (cpu < HOST_CPUS_MAX)
		set->word[cpu / 64] &= ~(UINT64_C(1) << (cpu % 64));
}

unsigned host_cpu_set_count(const struct host_cpu_set *set);
/* "0-3,8", as sysfs and people write it; "" is none. -EINVAL, or -ERANGE past HOST_CPUS_MAX. */
int host_cpu_set_parse(const char *list, struct host_cpu_set *ret_set) MUST_CHECK;
/* The same back, for people: what does not fit into buf's len bytes (16 at least) ends in "…".
 * Returns buf. */
const char *host_cpu_set_text(const struct host_cpu_set *set, char *buf, size_t len);
/* What the calling thread may run on: its affinity within its cpuset. */
int host_cpu_set_allowed(struct host_cpu_set *ret_set, struct error *err) MUST_CHECK;

/* A CPU that is online and ours. */
struct host_cpu {
	unsigned id;	/* the kernel's number */
	unsigned core;	/* index into host_cpus.core */
	unsigned group; /* index into host_cpus.group */
	unsigned package;
	unsigned node;	   /* the kernel's number; 0 where the host has no nodes */
	unsigned capacity; /* 1024 is the strongest; equal for all where the host doesn't say */
	bool efficient;	   /* of a hybrid's small kind */
};

/* SMT siblings within one cache group. */
struct host_core {
	unsigned group;
	unsigned node;	  /* of its first usable CPU: within a group it may differ (Intel's SNC) */
	unsigned usable;  /* how many of its CPUs are ours */
	unsigned foreign; /* online siblings that are not: others run there */
	unsigned first;	  /* smallest id of the usable ones */
};

/* CPUs that share a last-level cache: the third level or beyond; else the highest that more than
 * one core shares; else the package. */
struct host_group {
	/* Smallest online CPU that shares it, ours or not: names its lock, and stays as long as
	 * that CPU is online. */
	unsigned id;
	unsigned node;	/* of its first usable CPU */
	unsigned level; /* of the cache; 0: the package stands in for it */
	unsigned usable;
	uint64_t bytes; /* 0: not said */
};

struct host_cpus {
	struct host_cpu *cpu; /* ascending id */
	unsigned count;
	struct host_core *core;
	unsigned cores;
	struct host_group *group;
	unsigned groups;
	unsigned online;    /* CPUs of the host, ours or not */
	unsigned nodes;	    /* distinct nodes of ours */
	unsigned all_nodes; /* of the host, online, CPUs or not; 0: it doesn't say */
	bool hybrid;	    /* ours differ in strength */
	/* smt/control: "on", "off", "forceoff", "notsupported", "notimplemented"; "": not said */
	char smt[16];
};

/* Reads the tree under root ("/sys"), and keeps what is online and in allowed. A file that may lack
 * (cache, topology, node, capacity) and does leaves its CPU alone in its core, and in the package
 * of the others; one that reads as nonsense is -EINVAL with an error that names it. No CPU left is
 * contention. On failure nothing is allocated. */
int host_cpus_read(const char *root, const struct host_cpu_set *allowed, struct host_cpus *ret_host,
		   struct error *err) MUST_CHECK;
void host_cpus_done(struct host_cpus *host); /* accepts a zeroed one */
/* The CPU of this number, or NULL if it is not ours. */
const struct host_cpu *host_cpus_find(const struct host_cpus *host, unsigned id);

#endif
