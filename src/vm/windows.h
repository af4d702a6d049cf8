/* A profile over time: the run cut into windows of equal length, which doubles as it goes on, so
 * that their number is bounded. Knows no machine. Control thread. Times are in ns from the
 * profile's start. */
#ifndef STASIS_VM_WINDOWS_H
#define STASIS_VM_WINDOWS_H

#include <jansson.h>

#include "inspect/sched_classes.h"
#include "vcpu/sample.h"

#define WINDOWS_LENGTH_NS 100000000u /* at first */
#define WINDOWS_MAX	  256u	     /* a power of two */
#define WINDOWS_CELLS_MAX 65536u     /* of all windows' vCPUs */
#define WINDOWS_REASONS	  64u	     /* KVM_EXIT_*; the last is "other" */

/* Numbers are weights: mean intervals of sampling. */
struct windows_vcpu {
	uint64_t user, kernel, scheduling, idle;
};

struct window {
	uint64_t user, kernel, idle;
	uint64_t class[SCHED_CLASSES]; /* of kernel */
};

/* What is counted besides. */
enum windows_series {
	WINDOWS_EXITS,
	WINDOWS_OUT_NS, /* out of the guest for exits: handing off, waiting, being served */
	WINDOWS_SWITCHES,
	WINDOWS_WAKEUPS,
	WINDOWS_REASON, /* exits of the first, and on … */
	/* … of vCPU 0, and on; behind them what WINDOWS_OUT_NS has of each. */
	WINDOWS_VCPU = WINDOWS_REASON + (int)WINDOWS_REASONS,
};

struct windows {
	unsigned vcpus, room;
	unsigned series;
	uint64_t length_ns;
	unsigned used;
	struct window *window;
	struct windows_vcpu *cell; /* of each window, its vCPUs */
	uint64_t *count;	   /* of each window, its series */
	bool has_queues;	   /* switches are counted */
	bool has_wakeups;	   /* … and wake-ups */
};

/* -ENOMEM. */
int windows_new(unsigned vcpus, struct windows **ret_w) MUST_CHECK;
void windows_free(struct windows *w); /* accepts NULL */
/* There is a window for that moment. */
void windows_reach(struct windows *w, uint64_t at_ns);
/* A sample; class: of one in the kernel. */
void windows_add(struct windows *w, uint64_t at_ns, unsigned vcpu, enum sample_kind kind,
		 enum sched_class class, uint64_t weight);
/* n of a series came evenly between the two. */
void windows_count(struct windows *w, unsigned series, uint64_t from_ns, uint64_t to_ns,
		   uint64_t n);
uint64_t windows_counted(const struct windows *w, unsigned window, unsigned series);
/* {"length_ns", "begin_ns", "list": [{"begin_ns", "idle_ns", "user_ns", "kernel_ns", "classes",
 * "vcpus": [[user_ns, kernel_ns, scheduling_ns, idle_ns], …], "exits", "out_ns", and where run
 * queues were looked at "switches", and "wakeups" of a kernel that counts them}]}, up to
 * duration_ns; times count from begin_ns before the profile's start. NULL when out of memory. */
json_t *windows_json(struct windows *w, unsigned hz, uint64_t duration_ns, uint64_t begin_ns);

#endif
