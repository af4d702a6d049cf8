/* A profile: samples added up by stack, function, task, vCPU and class. Knows no machine. Control
 * thread. Everything is bounded; what finds no room is added up as such. */
#ifndef STASIS_VM_PROFILE_H
#define STASIS_VM_PROFILE_H

#include "inspect/sched_classes.h"
#include "vcpu/sample.h"
#include "vm/windows.h"

#define PROFILE_HZ_DEFAULT    997u /* of no period that a kernel has */
#define PROFILE_FUNCTIONS_MAX 65536u
#define PROFILE_STACKS_MAX    32768u
/* Of them, those of user space: each address is one there, so that they have no end, and the
 * kernel's figures must not suffer. Past these a stack is its task's and PROFILE_USER_REST. */
#define PROFILE_USER_FUNCTIONS_MAX 32768u
#define PROFILE_USER_STACKS_MAX	   16384u
#define PROFILE_USER_REST	   "(user space)"
#define PROFILE_KERNEL_REST	   "(kernel)" /* what found no room among the functions */
#define PROFILE_TASKS_MAX	   4096u
#define PROFILE_NONE		   UINT32_MAX

/* Numbers are weights: mean intervals of sampling. */
struct profile_function {
	char *name;
	uint64_t self;
	uint8_t class;
	bool user; /* an address of user space */
};

struct profile_stack {
	uint64_t hash, weight;
	uint32_t root; /* the function that stands for its task's name; PROFILE_NONE: not known */
	uint32_t from; /* in frames, innermost first */
	uint32_t count;
	uint8_t class;
	bool user;
};

struct profile_task {
	int32_t pid;
	char comm[SAMPLE_COMM];
	uint64_t busy, scheduling;
};

struct profile_vcpu {
	uint64_t samples; /* records */
	uint64_t idle, user, kernel;
	uint64_t lock;		       /* of kernel: halted until a spin lock is free */
	uint64_t cut;		       /* of kernel: by a known one, whose stack breaks off */
	uint64_t class[SCHED_CLASSES]; /* of kernel */
};

struct profile_index { /* open addressing: number + 1 by hash; 0: none */
	uint32_t *slot;
	uint32_t mask;
};

/* Direct-mapped. */
struct profile_place {
	uint64_t gva;
	uint32_t kernel; /* by which it has that name; 0: none */
	uint32_t function;
};

struct profile {
	unsigned vcpus;
	struct profile_vcpu *vcpu;
	uint64_t since_ns; /* CLOCK_MONOTONIC: where the windows begin */
	struct windows *windows;
	struct profile_function *function;
	uint32_t functions;
	struct profile_stack *stack;
	uint32_t stacks;
	uint32_t user_functions, user_stacks; /* of these */
	struct profile_task *task;
	uint32_t tasks;
	uint32_t *frames;
	size_t frame_count, frame_room;
	struct profile_index by_name, by_stack, by_task;
	struct profile_place *place; /* of the kernel: what has a name */
	/* Weight without a place in a table, or for want of memory. */
	uint64_t lost_stacks, lost_tasks;
	uint64_t user_rest; /* weight of user stacks that are PROFILE_USER_REST alone */
	/* Names an address of the kernel, when it is first seen in a sample of that kernel. NULL:
	 * by number. */
	void (*name)(uint32_t kernel, uint64_t gva, char *buf, size_t len, void *arg);
	void *arg;
};

/* -ENOMEM. */
int profile_new(unsigned vcpus, struct profile **ret_profile) MUST_CHECK;
void profile_free(struct profile *p); /* accepts NULL */
/* sample is checked: its frames are bounded. vcpu is below p->vcpus. Whether it is busy. */
bool profile_add(struct profile *p, unsigned vcpu, const struct sample *sample);

/* All vCPUs added up. */
void profile_sum(const struct profile *p, struct profile_vcpu *ret_sum);
uint64_t profile_scheduling(const struct profile_vcpu *v);

#endif
