/* A profile as JSON, as folded stacks, as a document for speedscope, and as ten lines. */
#include "vm/profile_out.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/beside.h"
#include "base/util.h"
#include "vm/pprof.h"
#include "vm/result.h"

#define NS_PER_S	 1000000000.0
#define PRINTED_PROGRAMS 6u
#define SPEEDSCOPE	 "https://www.speedscope.app/file-format-schema.json"

static json_int_t ns_of(uint64_t weight, unsigned hz)
{
	return (json_int_t)sample_ns(weight, hz);
}

static double share(uint64_t part, uint64_t whole)
{
	return whole ? (double)part / (double)whole : 0;
}

/* The guest's words may be no UTF-8. */
static json_t *text(const char *s)
{
	json_t *json = json_string(s);

	return json ? json : json_string("?");
}

/* ---- summary ----------------------------------------------------------------------------- */

static json_t *times_json(const struct profile_vcpu *v, unsigned hz)
{
	uint64_t busy = v->user + v->kernel;

	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "samples", (json_int_t)v->samples,
			 "idle_ns", ns_of(v->idle, hz), "user_ns", ns_of(v->user, hz), "kernel_ns",
			 ns_of(v->kernel, hz), "lock_wait_ns", ns_of(v->lock, hz), "scheduling_ns",
			 ns_of(profile_scheduling(v), hz), "scheduling_share",
			 share(profile_scheduling(v), busy));
}

static json_t *classes_json(const struct profile_vcpu *v, unsigned hz)
{
	json_t *json = json_object();

	for (unsigned c = 0; c < SCHED_CLASSES; c++)
		json_object_set_new(json, sched_class_name(c),
				    json_pack("{s:I, s:f}", "ns", ns_of(v->class[c], hz), "share",
					      share(v->class[c], v -> user + v -> kernel)));
	return json;
}

static void add(struct profile_vcpu *to, const struct profile_vcpu *v)
{
	to->samples += v->samples;
	to->idle += v->idle;
	to->user += v->user;
	to->kernel += v->kernel;
	to->lock += v->lock;
	for (unsigned c = 0; c < SCHED_CLASSES; c++)
		to->class[c] += v->class[c];
}

static json_t *vcpus_json(const struct profile *p, const struct profile_run *run)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < p->vcpus; i++) {
		json_t *row = times_json(&p->vcpu[i], run->hz);

		json_object_set_new(row, "vcpu", json_integer(i));
		json_object_set_new(row, "classes", classes_json(&p->vcpu[i], run->hz));
		json_array_append_new(list, row);
	}
	return list;
}

/* vCPUs of one cache (or node) are side by side. */
static json_t *groups_json(const struct profile *p, const struct profile_run *run, bool caches)
{
	json_t *list = json_array();
	struct profile_vcpu sum = {0};

	for (unsigned i = 0; i < p->vcpus; i++) {
		struct topology_place at = topology_locate(run->topology, i), next = at;
		json_t *row;

		add(&sum, &p->vcpu[i]);
		if (i + 1 < p->vcpus)
			next = topology_locate(run->topology, i + 1);
		if (i + 1 < p->vcpus && next.node == at.node && (!caches || next.llc == at.llc))
			continue;
		row = times_json(&sum, run->hz);
		json_object_set_new(row, "node", json_integer(at.node));
		if (caches)
			json_object_set_new(row, "cache", json_integer(at.llc));
		json_array_append_new(list, row);
		sum = (struct profile_vcpu){0};
	}
	return list;
}

/* What is told most of, first. */
struct ranked {
	uint64_t weight;
	uint32_t number;
};

static int by_weight(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;

	if (x->weight != y->weight)
		return x->weight > y->weight ? -1 : 1;
	return x->number < y->number ? -1 : x->number > y->number;
}

static json_t *tasks_json(const struct profile *p, const struct profile_run *run)
{
	CLEANUP_FREE struct ranked *order = calloc(p->tasks + 1, sizeof(*order));
	json_t *list = json_array();

	for (uint32_t i = 0; order && i < p->tasks; i++)
		order[i] = (struct ranked){p->task[i].busy, i};
	if (order)
		qsort(order, p->tasks, sizeof(*order), by_weight);
	for (uint32_t i = 0; order && i < MIN(p->tasks, PROFILE_TOP_TASKS); i++) {
		const struct profile_task *task = &p->task[order[i].number];

		json_array_append_new(list,
				      json_pack("{s:i, s:o, s:I, s:I, s:f}", "pid", (int)task->pid,
						"name", text(task->comm), "busy_ns",
						ns_of(task->busy, run->hz), "scheduling_ns",
						ns_of(task->scheduling, run->hz),
						"scheduling_share",
						share(task->scheduling, task->busy)));
	}
	return list;
}

/* The kernel's: an address of user space says nothing without its program. */
static json_t *functions_json(const struct profile *p, const struct profile_run *run, uint64_t busy)
{
	CLEANUP_FREE struct ranked *order = calloc(p->functions + 1, sizeof(*order));
	json_t *list = json_array();
	uint32_t n = 0;

	for (uint32_t i = 0; order && i < p->functions; i++)
		if (!p->function[i].user && p->function[i].self)
			order[n++] = (struct ranked){p->function[i].self, i};
	if (order)
		qsort(order, n, sizeof(*order), by_weight);
	for (uint32_t i = 0; i < MIN(n, PROFILE_TOP_FUNCTIONS); i++) {
		const struct profile_function *f = &p->function[order[i].number];

		json_array_append_new(list, json_pack("{s:o, s:I, s:f, s:s}", "name", text(f->name),
						      "ns", ns_of(f->self, run->hz), "share",
						      share(f->self, busy), "class",
						      f->class < SCHED_CLASSES
							      ? sched_class_name(f->class)
							      : "other"));
	}
	return list;
}

/* ---- a BPF scheduler --------------------------------------------------------------------- */

struct program {
	uint64_t self, all; /* without and with what it calls */
};

/* Counted once for each stack, however often it is in there. */
static void add_programs(const struct profile *p, const struct profile_stack *s,
			 struct program *program)
{
	uint8_t class_of[SAMPLE_FRAMES];
	const uint32_t *frame = p->frames + s->from;
	size_t within;

	for (uint32_t i = 0; i < s->count; i++)
		class_of[i] = p->function[frame[i]].class;
	within = sched_within_ext(class_of, s->count);
	for (size_t i = 0; i < within; i++) {
		size_t before = 0;

		while (before < i && frame[before] != frame[i])
			before++;
		if (class_of[i] == SCHED_IS_BPF && before == i)
			program[frame[i]].all += s->weight;
	}
	if (within && class_of[0] == SCHED_IS_BPF)
		program[frame[0]].self += s->weight;
}

static json_t *programs_json(const struct profile *p, const struct profile_run *run, uint64_t busy)
{
	CLEANUP_FREE struct program *program = calloc(p->functions + 1, sizeof(*program));
	CLEANUP_FREE struct ranked *order = calloc(p->functions + 1, sizeof(*order));
	json_t *list = json_array();
	uint32_t n = 0;

	if (!program || !order)
		return list;
	for (uint32_t i = 0; i < p->stacks; i++)
		if (!p->stack[i].user)
			add_programs(p, &p->stack[i], program);
	for (uint32_t i = 0; i < p->functions; i++)
		if (program[i].all && sched_program(p->function[i].name, &(size_t){0}))
			order[n++] = (struct ranked){program[i].all, i};
	qsort(order, n, sizeof(*order), by_weight);
	for (uint32_t i = 0; i < MIN(n, PROFILE_TOP_FUNCTIONS); i++) {
		const char *name = p->function[order[i].number].name;
		const struct program *of = &program[order[i].number];
		size_t len = 0;
		const char *bare = sched_program(name, &len);
		CLEANUP_FREE char *copy = strndup(bare, len);

		json_array_append_new(list, json_pack("{s:o, s:o, s:I, s:f, s:I, s:f}", "program",
						      text(copy ? copy : name), "name", text(name),
						      "ns", ns_of(of->all, run->hz), "share",
						      share(of->all, busy), "self_ns",
						      ns_of(of->self, run->hz), "self_share",
						      share(of->self, busy)));
	}
	return list;
}

static void add_switches(json_t *json, const struct profile *p, const struct profile_vcpu *sum,
			 unsigned hz)
{
	uint64_t switches = 0, weight = 0;

	if (!p->windows->has_queues)
		return;
	for (unsigned i = 0; i < p->windows->used; i++)
		switches += windows_counted(p->windows, i, WINDOWS_SWITCHES);
	for (enum sched_class c = SCHED_IS_NONE; c < SCHED_CLASSES; c++)
		weight += sched_class_of_switches(c) ? sum->class[c] : 0;
	json_object_set_new(json, "switches", json_integer((json_int_t)switches));
	if (switches)
		json_object_set_new(json, "switch_ns",
				    json_real((double)sample_ns(weight, hz) / (double)switches));
}

json_t *profile_json(const struct profile *p, const struct profile_run *run)
{
	struct profile_vcpu sum;
	uint64_t all, busy;
	json_t *json;

	profile_sum(p, &sum);
	busy = sum.user + sum.kernel;
	all = busy + sum.idle;
	json = times_json(&sum, run->hz);
	if (!json)
		return NULL;
	json_object_set_new(json, "stacks_cut_ns", json_integer(ns_of(sum.cut, run->hz)));
	json_object_set_new(json, "hz", json_integer(run->hz));
	json_object_set_new(json, "hz_had",
			    json_real(run->duration_ns ? (double)all * NS_PER_S /
								 (double)run->duration_ns / p->vcpus
						       : 0));
	json_object_set_new(json, "duration_ns", json_integer((json_int_t)run->duration_ns));
	json_object_set_new(json, "classes", classes_json(&sum, run->hz));
	add_switches(json, p, &sum, run->hz);
	json_object_set_new(json, "vcpus", vcpus_json(p, run));
	json_object_set_new(json, "caches", groups_json(p, run, true));
	json_object_set_new(json, "nodes", groups_json(p, run, false));
	json_object_set_new(json, "tasks", tasks_json(p, run));
	json_object_set_new(json, "functions", functions_json(p, run, busy));
	json_object_set_new(json, "programs", programs_json(p, run, busy));
	json_object_set_new(json, "windows",
			    windows_json(p->windows, run->hz, run->duration_ns, run->begin_ns));
	json_object_set_new(json, "dropped", json_integer((json_int_t)run->dropped));
	json_object_set_new(json, "sampling_ns", json_integer((json_int_t)run->took_ns));
	json_object_set_new(json, "sampling_longest_ns", json_integer((json_int_t)run->longest_ns));
	json_object_set(json, "degraded", run->degraded);
	return json;
}

/* ---- files ------------------------------------------------------------------------------- */

static json_t *stack_json(const struct profile *p, const struct profile_stack *s)
{
	json_t *frames = json_array();

	if (s->root != PROFILE_NONE)
		json_array_append_new(frames, json_integer(s->root));
	for (uint32_t i = s->count; i-- > 0;)
		json_array_append_new(frames, json_integer(p->frames[s->from + i]));
	return frames;
}

json_t *profile_speedscope(const struct profile *p, const struct profile_run *run,
			   const char *title)
{
	json_t *frames = json_array(), *samples = json_array(), *weights = json_array();
	json_int_t end = 0;

	for (uint32_t i = 0; i < p->functions; i++) {
		const struct profile_function *f = &p->function[i];
		json_t *frame = json_pack("{s:o}", "name", text(f->name));

		/* A key of our own, which others pass over: for the page. */
		if (!f->user && f->class != SCHED_IS_NONE && f->class <= SCHED_IS_ENTRY)
			json_object_set_new(frame, "stasisClass",
					    json_string(sched_class_name(f->class)));
		json_array_append_new(frames, frame);
	}
	for (uint32_t i = 0; i < p->stacks; i++) {
		json_int_t ns = ns_of(p->stack[i].weight, run->hz);

		json_array_append_new(samples, stack_json(p, &p->stack[i]));
		json_array_append_new(weights, json_integer(ns));
		end += ns;
	}
	return json_pack(
		"{s:s, s:s, s:s, s:i, s:i, s:I, s:{s:o}, s:[{s:s, s:s, s:s, s:i, s:I, s:o, s:o}]}",
		"$schema", SPEEDSCOPE, "exporter", "stasis " STASIS_VERSION, "name", title,
		"activeProfileIndex", 0, "stasisHz", (int)run->hz, "stasisDurationNs",
		(json_int_t)run->duration_ns, "shared", "frames", frames, "profiles", "type",
		"sampled", "name", title, "unit", "nanoseconds", "startValue", 0, "endValue", end,
		"samples", samples, "weights", weights);
}

/* A name within a line of them. */
static void put_name(const char *name, FILE *f)
{
	for (; *name; name++)
		putc(*name == ';' || *name == '\n' ? '_' : *name, f);
}

int profile_folded(const json_t *speedscope, FILE *f)
{
	const json_t *frames = json_object_get(json_object_get(speedscope, "shared"), "frames");
	const json_t *profile = json_array_get(json_object_get(speedscope, "profiles"), 0);
	const json_t *samples = json_object_get(profile, "samples"),
		     *weights = json_object_get(profile, "weights");
	double hz = (double)json_integer_value(json_object_get(speedscope, "stasisHz"));

	if (!json_is_array(samples) || !json_is_array(weights) || hz <= 0 ||
	    json_array_size(samples) != json_array_size(weights))
		return -EBADMSG;
	for (size_t i = 0; i < json_array_size(samples); i++) {
		const json_t *stack = json_array_get(samples, i);
		double ns = (double)json_integer_value(json_array_get(weights, i));

		for (size_t n = 0; n < json_array_size(stack); n++) {
			size_t at = (size_t)json_integer_value(json_array_get(stack, n));
			const char *name = json_string_value(
				json_object_get(json_array_get(frames, at), "name"));

			if (n)
				putc(';', f);
			put_name(name ? name : "?", f);
		}
		fprintf(f, " %lld\n", (long long)(ns * hz / NS_PER_S + 0.5));
	}
	return ferror(f) ? -EIO : 0;
}

static bool ends_in(const char *path, const char *suffix)
{
	size_t len = strlen(path), tail = strlen(suffix);

	return len > tail && !strcmp(path + len - tail, suffix);
}

int profile_path_check(const char *path, struct error *err)
{
	if (ends_in(path, ".folded") || ends_in(path, ".speedscope.json") ||
	    ends_in(path, ".pb.gz"))
		return 0;
	return error_usage(
		err, "%s: a name that ends in .folded, .speedscope.json or .pb.gz is accepted",
		path);
}

static int write_folded(FILE *f, void *speedscope)
{
	return profile_folded(speedscope, f);
}

static int write_pprof(FILE *f, void *speedscope)
{
	return pprof_write(speedscope, fileno(f));
}

int profile_write(json_t *speedscope, const char *path, struct error *err)
{
	bool folded = ends_in(path, ".folded");
	int r = -ENOMEM;

	if (!folded && !ends_in(path, ".pb.gz"))
		return vm_json_write(speedscope, "profile", path, err);
	if (speedscope)
		r = beside_write(path, folded ? write_folded : write_pprof, speedscope);
	json_decref(speedscope);
	return r < 0 ? error_set(err, r, "writing the profile %s", path) : 0;
}

/* ---- ten lines --------------------------------------------------------------------------- */

static double number(const json_t *json, const char *key)
{
	return json_number_value(json_object_get(json, key));
}

static void print_classes(const json_t *profile, FILE *f)
{
	const json_t *classes = json_object_get(profile, "classes");
	const char *before = "";

	fprintf(f, "  by class      ");
	for (unsigned c = SCHED_IS_NONE + 1; c < SCHED_CLASSES; c++) {
		double part = number(json_object_get(classes, sched_class_name(c)), "share");

		if (part < 0.0005)
			continue;
		fprintf(f, "%s%s %.1f%%", before, sched_class_name(c), 100 * part);
		before = ", ";
	}
	fprintf(f, "%s\n", *before ? "" : "none");
}

static void print_programs(const json_t *profile, FILE *f)
{
	const json_t *programs = json_object_get(profile, "programs");
	size_t n = MIN(json_array_size(programs), PRINTED_PROGRAMS);

	for (size_t i = 0; i < n; i++) {
		const json_t *row = json_array_get(programs, i);

		fprintf(f, "%s%s %.1f%%", i ? ", " : "  programs      ",
			json_string_value(json_object_get(row, "program")),
			100 * number(row, "share"));
	}
	if (n)
		fprintf(f, ", with what they call\n");
}

void profile_print(const json_t *profile, FILE *f)
{
	double idle = number(profile, "idle_ns"), user = number(profile, "user_ns"),
	       kernel = number(profile, "kernel_ns"), all = idle + user + kernel;
	const json_t *functions = json_object_get(profile, "functions");
	const json_t *degraded = json_object_get(profile, "degraded");

	fprintf(f, "profile: %.0f samples, which stand for %.0f Hz of %.0f asked, %.0f dropped\n",
		number(profile, "samples"), number(profile, "hz_had"), number(profile, "hz"),
		number(profile, "dropped"));
	if (all > 0) {
		fprintf(f, "  vCPU time     idle %.1f%%, user %.1f%%, kernel %.1f%%",
			100 * idle / all, 100 * user / all, 100 * kernel / all);
		if (number(profile, "lock_wait_ns") > 0)
			fprintf(f, " (halted for spin locks %.1f%%)",
				100 * number(profile, "lock_wait_ns") / all);
		putc('\n', f);
	}
	fprintf(f, "  scheduling    %.1f%% of busy time\n",
		100 * number(profile, "scheduling_share"));
	print_classes(profile, f);
	if (number(profile, "stacks_cut_ns") > 0)
		fprintf(f, "  stacks        %.1f%% of the kernel's time has one that breaks off\n",
			100 * number(profile, "stacks_cut_ns") / kernel);
	if (json_object_get(profile, "switch_ns"))
		fprintf(f,
			"  a switch      %.0f ns of pick, queue, sched_ext and switch; %.0f of "
			"them\n",
			number(profile, "switch_ns"), number(profile, "switches"));
	print_programs(profile, f);
	for (size_t i = 0; i < MIN(json_array_size(functions), 5u); i++) {
		const json_t *row = json_array_get(functions, i);

		fprintf(f, "  %5.1f%%  %-10s %s\n", 100 * number(row, "share"),
			json_string_value(json_object_get(row, "class")),
			json_string_value(json_object_get(row, "name")));
	}
	if (json_array_size(degraded))
		fprintf(f, "  degraded      %s\n", json_string_value(json_array_get(degraded, 0)));
}
