/* A run over time, for Perfetto and its kin: a track for each vCPU with the task that ran, freezes
 * and hits; counters of run queues and exits. Knows no machine. Control thread. Everything is
 * bounded; what finds no room is counted, and said in the file. Times are CLOCK_MONOTONIC's. */
#ifndef STASIS_VM_TRACE_H
#define STASIS_VM_TRACE_H

#include <stdio.h>

#include "inspect/runqueues.h"
#include "vcpu/sample.h"
#include "vm/windows.h"

/* At a hundred bytes or two each, the file is of less than 64 MiB, which come out of a lab. */
#define TRACE_SLICES_MAX  150000u
#define TRACE_POINTS_MAX  60000u
#define TRACE_MARKS_MAX	  4096u
#define TRACE_FREEZES_MAX 1000u	 /* … */
#define TRACE_FROZEN_MAX  16384u /* … on all vCPUs together */
#define TRACE_TEXT	  96

/* A vCPU was seen to run that task. */
struct trace_slice {
	uint64_t from_ns, to_ns;
	int32_t pid; /* -1: not known */
	uint16_t vcpu;
	char comm[SAMPLE_COMM];
};

/* A run queue, from then on. */
struct trace_point {
	uint64_t at_ns;
	uint32_t running, waiting;
	uint16_t cpu;
};

struct trace_freeze {
	uint64_t from_ns, to_ns;
	char cause[TRACE_TEXT];
};

struct trace_mark {
	uint64_t at_ns;
	int vcpu; /* -1: of the machine */
	char text[TRACE_TEXT];
};

/* What is known of a vCPU last. */
struct trace_vcpu {
	uint64_t sample_ns;	   /* 0: none */
	uint32_t slice;		   /* … it went on with, as its number + 1; 0: it was idle */
	uint32_t running, waiting; /* of its queue … */
	bool looked;		   /* … if it was looked at */
};

struct trace {
	unsigned vcpus;
	unsigned hz;
	uint64_t began_ns; /* the file's 0 */
	struct trace_vcpu *vcpu;
	struct trace_slice *slice;
	struct trace_point *point;
	struct trace_freeze *freeze;
	struct trace_mark *mark;
	uint32_t slices, points, freezes, marks;
	uint64_t lost_samples, lost_points, lost_freezes, lost_marks;
};

/* hz: of the samples to come. -ENOMEM. */
int trace_new(unsigned vcpus, unsigned hz, uint64_t began_ns, struct trace **ret_t) MUST_CHECK;
void trace_free(struct trace *t); /* accepts NULL */

/* Of one vCPU in their order. */
void trace_sample(struct trace *t, unsigned vcpu, const struct sample *sample);
void trace_look(struct trace *t, unsigned cpu, uint64_t at_ns, const struct runqueues_sample *s);
/* One after the other. */
void trace_frozen(struct trace *t, uint64_t from_ns, uint64_t to_ns, const char *cause);
/* vcpu -1: of the machine. */
void trace_marked(struct trace *t, uint64_t at_ns, int vcpu, const char *fmt, ...)
	PRINTF_LIKE(4, 5);
bool trace_is_cut(const struct trace *t);

/* The file: Chrome's trace-event format, as JSON ("Trace Event Format", 2016). w: exits by window,
 * from since_ns on for duration_ns, in which the last window may end early; or NULL. -ENOMEM. */
int trace_write(const struct trace *t, const char *name, const struct windows *w, uint64_t since_ns,
		uint64_t duration_ns, FILE *f) MUST_CHECK;

#endif
