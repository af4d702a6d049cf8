/* Reads tasks, run queues and sched_ext. Members are found once, and read where they lie. */
#include "inspect/sched.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/util.h"

#define COMM_MAX   64
#define TEXT_MAX   1024
#define EVENTS_MAX 64
#define MEMBER_MAX MIB(1) /* where a member may lie, and how large it may be */

/* A number in a struct, by the name that a dump gives it. */
struct member {
	const char *name;
	const char *path, *older; /* older: where kernels before had it, or NULL */
};

static const struct member task_members[] = {
	{"pid", "task_struct.pid", NULL},
	{"tgid", "task_struct.tgid", NULL},
};
static const struct member queue_members[] = {
	{"running", "rq.nr_running", NULL},
	{"clock_ns", "rq.clock", NULL},
	{"clock_task_ns", "rq.clock_task", NULL},
	{"fair", "rq.cfs.h_nr_queued", "rq.cfs.h_nr_running"}, /* 6.14 renamed it */
	{"rt", "rq.rt.rt_nr_running", NULL},
	{"deadline", "rq.dl.dl_nr_running", NULL},
};
static const struct member ext_members[] = {
	{"running", "rq.scx.nr_running", NULL},
	{"flags", "rq.scx.flags", NULL},
	{"local_queue", "rq.scx.local_dsq.nr", NULL},
	{"ops_qseq", "rq.scx.ops_qseq", "rq.scx.pnt_seq"},
};

struct sched {
	const struct inspect *in;
	uint64_t *offset; /* of each CPU's variables */
	unsigned cpus;
	uint64_t runqueues, current; /* per-CPU variables that … 0: none */
	struct types_value task[ARRAY_SIZE(task_members)];
	struct types_value queue[ARRAY_SIZE(queue_members)];
	struct types_value ext[ARRAY_SIZE(ext_members)]; /* size 0: none */
	struct types_value comm, curr, class;
	bool has_ext;
};

/* ---- members ----------------------------------------------------------------------------- */

/* Whether v is a member that read_member can read. */
static bool is_number(const struct types_value *v)
{
	return (v->size == 1 || v->size == 2 || v->size == 4 || v->size == 8) &&
	       v->offset < MEMBER_MAX;
}

static int64_t number_of(const struct types_value *v, uint64_t raw)
{
	unsigned bits = v->bit_size ? v->bit_size : (unsigned)(8 * v->size);

	raw >>= v->bit_offset;
	if (bits < 64) {
		raw &= (UINT64_C(1) << bits) - 1;
		if (v->is_signed && raw >> (bits - 1))
			raw |= UINT64_MAX << bits;
	}
	return (int64_t)raw;
}

/* v: size 0 where the kernel lacks it. */
static bool read_member(const struct sched *s, uint64_t base, const struct types_value *v,
			int64_t *ret_number)
{
	uint64_t raw;

	if (!v->size || space_read_uint(&s->in->space, base + v->offset, (unsigned)v->size, &raw))
		return false;
	*ret_number = number_of(v, raw);
	return true;
}

static void find_member(const struct sched *s, const char *path, const char *older,
			struct types_value *ret_v, struct lacks *lacks)
{
	struct types_value v;

	if ((!inspect_member(s->in, path, &v, NULL) ||
	     (older && !inspect_member(s->in, older, &v, NULL))) &&
	    v.size && v.size <= MEMBER_MAX && v.offset < MEMBER_MAX)
		*ret_v = v;
	else
		lacks_add(lacks, path);
}

static void find_members(const struct sched *s, const struct member *m, size_t n,
			 struct types_value *ret_v, struct lacks *lacks)
{
	for (size_t i = 0; i < n; i++) {
		find_member(s, m[i].path, m[i].older, &ret_v[i], lacks);
		if (!is_number(&ret_v[i]))
			ret_v[i].size = 0;
	}
}

static void tell_members(const struct sched *s, uint64_t base, const struct member *m, size_t n,
			 const struct types_value *v, const struct sched_sink *sink)
{
	int64_t number;

	for (size_t i = 0; i < n; i++)
		if (read_member(s, base, &v[i], &number))
			sink->number(m[i].name, number, sink->arg);
}

/* ---- finding ----------------------------------------------------------------------------- */

/* CPUs and their offsets, all at once. */
static int find_cpus(struct sched *s, struct lacks *lacks)
{
	uint64_t table = kallsyms_address_or_0(&s->in->symbols, "__per_cpu_offset");
	unsigned cpus = inspect_cpus(s->in);

	if (!table || !cpus) {
		lacks_add(lacks, "__per_cpu_offset");
		return 0;
	}
	s->offset = calloc(cpus, sizeof(*s->offset));
	if (!s->offset)
		return -ENOMEM;
	if (space_read(&s->in->space, table, s->offset, cpus * sizeof(*s->offset)))
		lacks_add(lacks, "__per_cpu_offset");
	else
		s->cpus = cpus;
	return 0;
}

/* 6.2 to 6.14 keep the current task beside other hot variables; __entry_task is arm64's, for CPUs
 * in user mode. */
static void find_current(struct sched *s, struct lacks *lacks)
{
	struct types_value v;

	s->current = kallsyms_address_or_0(&s->in->symbols, "pcpu_hot");
	if (s->current) {
		if (inspect_member(s->in, "pcpu_hot.current_task", &v, NULL))
			s->current = 0;
		else
			s->current += v.offset;
	}
	s->current = s->current ?: kallsyms_address_or_0(&s->in->symbols, "current_task");
	s->current = s->current ?: kallsyms_address_or_0(&s->in->symbols, "__entry_task");
	if (!s->current)
		lacks_add(lacks, "current_task");
}

int sched_open_tasks(const struct inspect *in, struct lacks *lacks, struct sched **ret_s)
{
	struct sched *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->in = in;
	if (in->types) {
		r = find_cpus(s, lacks);
		if (r < 0) {
			sched_free(s);
			return r;
		}
		find_current(s, lacks);
		find_members(s, task_members, ARRAY_SIZE(task_members), s->task, lacks);
		find_member(s, "task_struct.comm", NULL, &s->comm, lacks);
	}
	*ret_s = s;
	return 0;
}

int sched_open(const struct inspect *in, struct lacks *lacks, struct sched **ret_s)
{
	struct sched *s;
	int r = sched_open_tasks(in, lacks, &s);

	if (r < 0)
		return r;
	*ret_s = s;
	if (!in->types)
		return 0;
	find_member(s, "task_struct.sched_class", NULL, &s->class, lacks);
	s->runqueues = kallsyms_address_or_0(&in->symbols, "runqueues");
	if (s->runqueues)
		find_members(s, queue_members, ARRAY_SIZE(queue_members), s->queue, lacks);
	else
		lacks_add(lacks, "runqueues");
	find_member(s, "rq.curr", NULL, &s->curr, lacks);
	s->has_ext = kallsyms_address_or_0(&in->symbols, "ext_sched_class") != 0;
	if (s->has_ext && s->runqueues)
		find_members(s, ext_members, ARRAY_SIZE(ext_members), s->ext, lacks);
	return 0;
}

void sched_free(struct sched *s)
{
	if (!s)
		return;
	free(s->offset);
	free(s);
}

/* ---- tasks ------------------------------------------------------------------------------- */

bool sched_task(const struct sched *s, unsigned cpu, uint64_t task_gva,
		const struct sched_sink *sink)
{
	const struct space *space = &s->in->space;
	uint64_t task = task_gva;
	char comm[COMM_MAX];

	if (!s->comm.size)
		return false;
	if (!task && (cpu >= s->cpus || !s->current ||
		      space_read_uint(space, s->current + s->offset[cpu], 8, &task)))
		return false;
	if (space_read_text(space, task + s->comm.offset, comm,
			    MIN(s->comm.size, sizeof(comm) - 1) + 1))
		return false;
	sink->text("name", comm, sink->arg);
	tell_members(s, task, task_members, ARRAY_SIZE(task_members), s->task, sink);
	return true;
}

/* ---- run queues -------------------------------------------------------------------------- */

/* "fair", of the task whose address is in the run queue: the name of its class's operations. */
static void tell_class(const struct sched *s, uint64_t rq, const struct sched_sink *sink)
{
	static const char suffix[] = "_sched_class";
	struct kallsyms_hit hit;
	int64_t task, class;
	char name[32];
	size_t len;

	if (!read_member(s, rq, &s->curr, &task) ||
	    !read_member(s, (uint64_t)task, &s->class, &class) ||
	    !kallsyms_name(&s->in->symbols, (uint64_t) class, &hit) || hit.offset)
		return;
	len = strlen(hit.name);
	if (len < sizeof(suffix) || strcmp(hit.name + len - (sizeof(suffix) - 1), suffix))
		return;
	snprintf(name, sizeof(name), "%.*s", (int)(len - (sizeof(suffix) - 1)), hit.name);
	sink->text("class", name, sink->arg);
}

bool sched_queue(const struct sched *s, unsigned cpu, const struct sched_sink *sink)
{
	uint64_t rq;

	if (!s->runqueues || cpu >= s->cpus)
		return false;
	rq = s->runqueues + s->offset[cpu];
	tell_members(s, rq, queue_members, ARRAY_SIZE(queue_members), s->queue, sink);
	if (is_number(&s->curr) && is_number(&s->class))
		tell_class(s, rq, sink);
	return true;
}

bool sched_queue_ext(const struct sched *s, unsigned cpu, const struct sched_sink *sink)
{
	if (!s->has_ext || !s->runqueues || cpu >= s->cpus)
		return false;
	tell_members(s, s->runqueues + s->offset[cpu], ext_members, ARRAY_SIZE(ext_members), s->ext,
		     sink);
	return true;
}

/* ---- sched_ext --------------------------------------------------------------------------- */

/* The first of expressions that leads anywhere. */
static bool find_place(const struct sched *s, const char *const *exprs,
		       struct inspect_place *ret_place)
{
	for (; *exprs; exprs++)
		if (!inspect_place(s->in, *exprs, 0, ret_place, NULL))
			return true;
	return false;
}

/* A number of size bytes where the type is not known. */
static bool read_place(const struct sched *s, const char *const *exprs, unsigned size,
		       int64_t *ret_number)
{
	struct inspect_place place;
	uint64_t raw;

	if (!find_place(s, exprs, &place) || space_read_uint(&s->in->space, place.gva, size, &raw))
		return false;
	*ret_number = size == 4 ? (int32_t)raw : (int64_t)raw;
	return true;
}

/* Numbers that are an enumeration's: name, and what the kernel calls the value. */
static void tell_enum(const struct sched *s, const char *name, const char *const *exprs,
		      const char *const *tags, const struct sched_sink *sink)
{
	int64_t value;
	char key[48];

	if (!read_place(s, exprs, 4, &value))
		return;
	sink->number(name, value, sink->arg);
	for (; *tags; tags++) {
		const char *said = types_enumerator(s->in->types, *tags, value);

		if (!said)
			continue;
		snprintf(key, sizeof(key), "%s_name", name);
		sink->text(key, said, sink->arg);
		return;
	}
}

/* A text in place, or behind a pointer. */
static void tell_text(const struct sched *s, const char *name, const char *const *exprs,
		      bool pointed, const struct sched_sink *sink)
{
	struct inspect_place place;
	char text[TEXT_MAX];
	uint64_t gva;

	if (!find_place(s, exprs, &place))
		return;
	gva = place.gva;
	if (pointed && (space_read_uint(&s->in->space, gva, 8, &gva) || !gva))
		return;
	if (!space_read_text(&s->in->space, gva, text,
			     pointed ? sizeof(text)
				     : MIN(place.value.size, sizeof(text) - 1) + 1) &&
	    text[0])
		sink->text(name, text, sink->arg);
}

/* Each has what 6.16 and later have first. */
#define EXPRS(...) ((const char *const[]){__VA_ARGS__, NULL})

bool sched_ext(const struct sched *s, const struct sched_sink *sink)
{
	int64_t number;

	if (!s->has_ext || !s->in->types)
		return false;
	tell_enum(s, "state", EXPRS("scx_enable_state_var", "scx_ops_enable_state_var"),
		  EXPRS("scx_enable_state", "scx_ops_enable_state"), sink);
	/* A static key: its count comes first. */
	if (read_place(s, EXPRS("__scx_switched_all"), 4, &number))
		sink->number("switched_all", number != 0, sink->arg);
	if (read_place(s, EXPRS("scx_bypass_depth", "scx_ops_bypass_depth"), 4, &number))
		sink->number("bypass_depth", number, sink->arg);
	if (read_place(s, EXPRS("scx_nr_rejected"), 8, &number))
		sink->number("rejected", number, sink->arg);
	tell_text(s, "ops", EXPRS("scx_root->ops.name", "scx_ops.name"), false, sink);
	tell_enum(s, "exit_kind", EXPRS("scx_root->exit_kind", "scx_exit_kind"),
		  EXPRS("scx_exit_kind"), sink);
	if (read_place(s, EXPRS("scx_root->exit_info->exit_code", "scx_exit_info->exit_code"), 8,
		       &number) &&
	    number)
		sink->number("exit_code", number, sink->arg);
	tell_text(s, "exit_reason", EXPRS("scx_root->exit_info->reason", "scx_exit_info->reason"),
		  true, sink);
	tell_text(s, "exit_message", EXPRS("scx_root->exit_info->msg", "scx_exit_info->msg"), true,
		  sink);
	return true;
}

/* ---- what it counts (6.14 and later) ----------------------------------------------------- */

struct events {
	const struct sched *s;
	struct types_value type; /* struct scx_event_stats, at its place in what is per CPU */
	uint64_t base;		 /* … whose address, but for a CPU's offset, this is */
	const struct sched_sink *sink;
	unsigned left; /* members that may still be looked at, of whatever kind */
};

static bool tell_event(const char *name, const struct types_value *v, void *arg)
{
	struct events *e = arg;
	int64_t sum = 0, number;

	if (!e->left--)
		return false;
	if (!is_number(v))
		return true;
	for (unsigned cpu = 0; cpu < e->s->cpus; cpu++)
		if (read_member(e->s, e->base + e->s->offset[cpu] + e->type.offset, v, &number))
			sum = (int64_t)((uint64_t)sum + (uint64_t)number);
	e->sink->number(name, sum, e->sink->arg);
	return true;
}

bool sched_ext_events(const struct sched *s, const struct sched_sink *sink)
{
	struct events e = {.s = s, .sink = sink, .left = EVENTS_MAX};
	struct types_value in_cpu;
	int64_t base;

	if (!s->has_ext || !s->in->types || types_struct(s->in->types, "scx_event_stats", &e.type))
		return false;
	if (read_place(s, EXPRS("scx_root->pcpu"), 8, &base)) {
		/* 6.17: one of several things per CPU. */
		if (inspect_member(s->in, "scx_sched_pcpu.event_stats", &in_cpu, NULL) ||
		    in_cpu.offset > MIB(1))
			return false;
		e.type.offset = in_cpu.offset;
		e.base = (uint64_t)base;
	} else if (read_place(s, EXPRS("scx_root->event_stats_cpu"), 8, &base)) {
		e.base = (uint64_t)base;
	} else {
		e.base = kallsyms_address_or_0(&s->in->symbols, "event_stats_cpu");
	}
	if (!e.base)
		return false;
	types_members(s->in->types, &e.type, tell_event, &e);
	return true;
}
