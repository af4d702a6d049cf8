/* Looks at run queues while their CPUs change them: see runqueues_look for what that means. */
#include "inspect/runqueues.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/text.h"
#include "base/util.h"

#define SPAN_MAX   KIB(16) /* where in a run queue a member may lie */
#define PAGES_MAX  (SPAN_MAX / SPACE_PAGE + 1)
#define OFFSET_MAX MIB(1) /* likewise, in other structs */

struct place {
	uint32_t offset;
	uint8_t size; /* 1, 2, 4, 8; 0: the kernel has none */
};

static const struct {
	const char *path;
	enum { ALWAYS, WITH_SCHEDSTATS, WITH_EXT } when;
} fields[RUNQUEUES_FIELDS] = {
	[RUNQUEUES_RUNNING] = {"rq.nr_running", ALWAYS},
	[RUNQUEUES_CLOCK] = {"rq.clock", ALWAYS},
	[RUNQUEUES_SWITCHES] = {"rq.nr_switches", ALWAYS},
	[RUNQUEUES_WAKEUPS] = {"rq.ttwu_count", WITH_SCHEDSTATS},
	[RUNQUEUES_WAKEUPS_LOCAL] = {"rq.ttwu_local", WITH_SCHEDSTATS},
	[RUNQUEUES_RUN_DELAY] = {"rq.rq_sched_info.run_delay", WITH_SCHEDSTATS},
	[RUNQUEUES_RT] = {"rq.rt.rt_nr_running", ALWAYS},
	[RUNQUEUES_RR] = {"rq.rt.rr_nr_running", ALWAYS},
	[RUNQUEUES_SCX_RUNNING] = {"rq.scx.nr_running", WITH_EXT},
	[RUNQUEUES_SCX_LOCAL] = {"rq.scx.local_dsq.nr", WITH_EXT},
	[RUNQUEUES_SCX_FLAGS] = {"rq.scx.flags", WITH_EXT},
};

/* What was found of a CPU's. Kernels never move a run queue; one that pretends to gets its old
 * bytes. */
struct cpu {
	uint64_t rq_gva;
	uint64_t page_gpa[PAGES_MAX]; /* UINT64_MAX: not mapped */
	bool known;
	/* The last task, and where in memory its number and name are. */
	uint64_t task_gva, pid_gpa, comm_gpa;
};

struct runqueues {
	const struct inspect *in;
	struct cpu *cpu;
	unsigned cpus, pages;
	struct place field[RUNQUEUES_FIELDS];
	struct place curr, idle, sd;
	struct place pid, comm; /* of a task; comm: only its offset */
	bool has_task;
	struct {
		struct place parent, flags, name;
		uint32_t span;
		bool known;
	} domain;
	uint64_t schedstats_gpa; /* its static key's count; UINT64_MAX: the kernel has none */
	bool full_dynticks;	 /* some CPU may do without a tick while a task runs */
	uint32_t can_stop_tick;	 /* of scx flags; 0: none */
};

/* ---- finding ----------------------------------------------------------------------------- */

static bool find(const struct inspect *in, const char *path, uint64_t max, struct place *ret)
{
	struct types_value v;

	if (inspect_member(in, path, &v, NULL) || v.bit_size || v.offset > max - 8 ||
	    (v.size != 1 && v.size != 2 && v.size != 4 && v.size != 8))
		return false;
	*ret = (struct place){(uint32_t)v.offset, (uint8_t)v.size};
	return true;
}

static void find_fields(struct runqueues *q, struct lacks *lacks)
{
	const struct kallsyms *symbols = &q->in->symbols;
	bool ext = kallsyms_address_or_0(symbols, "ext_sched_class") != 0;
	bool schedstats = kallsyms_address_or_0(symbols, "sched_schedstats") != 0;
	uint32_t last = 0;

	for (unsigned i = 0; i < RUNQUEUES_FIELDS; i++) {
		if ((fields[i].when == WITH_EXT && !ext) ||
		    (fields[i].when == WITH_SCHEDSTATS && !schedstats))
			continue;
		if (!find(q->in, fields[i].path, SPAN_MAX, &q->field[i]))
			lacks_add(lacks, fields[i].path);
		last = MAX(last, q->field[i].offset);
	}
	if (!find(q->in, "rq.curr", SPAN_MAX, &q->curr) || q->curr.size != 8) {
		q->curr.size = 0;
		lacks_add(lacks, "rq.curr");
	}
	if (!find(q->in, "rq.idle", SPAN_MAX, &q->idle) || q->idle.size != 8)
		q->idle.size = 0;
	if (!find(q->in, "rq.sd", SPAN_MAX, &q->sd) || q->sd.size != 8)
		q->sd.size = 0;
	last = MAX(last, MAX(q->curr.offset, q->idle.offset));
	/* The queue need not begin where a page does. */
	q->pages = (unsigned)MIN((last + 8) / SPACE_PAGE + 2, (uint64_t)PAGES_MAX);
}

static void find_task(struct runqueues *q, struct lacks *lacks)
{
	struct types_value comm;

	q->has_task = q->curr.size && find(q->in, "task_struct.pid", OFFSET_MAX, &q->pid) &&
		      !inspect_member(q->in, "task_struct.comm", &comm, NULL) &&
		      comm.size >= RUNQUEUES_COMM - 1 && comm.offset < OFFSET_MAX;
	if (q->has_task)
		q->comm.offset = (uint32_t)comm.offset;
	else
		lacks_add(lacks, "task_struct.comm");
}

static void find_domain(struct runqueues *q, struct lacks *lacks)
{
	struct types_value span;

	q->domain.known = q->sd.size &&
			  find(q->in, "sched_domain.parent", OFFSET_MAX, &q->domain.parent) &&
			  q->domain.parent.size == 8 &&
			  find(q->in, "sched_domain.flags", OFFSET_MAX, &q->domain.flags) &&
			  q->domain.flags.size == 4 &&
			  !inspect_member(q->in, "sched_domain.span", &span, NULL) &&
			  span.offset < OFFSET_MAX;
	if (!q->domain.known) {
		lacks_add(lacks, "sched_domain");
		return;
	}
	q->domain.span = (uint32_t)span.offset;
	/* Only with SCHED_DEBUG, up to 6.14. */
	if (!find(q->in, "sched_domain.name", OFFSET_MAX, &q->domain.name) ||
	    q->domain.name.size != 8)
		q->domain.name.size = 0;
}

/* Where the kernel says whether it counts. That may change while it is looked at. */
static void find_schedstats(struct runqueues *q)
{
	uint64_t gva = kallsyms_address_or_0(&q->in->symbols, "sched_schedstats");

	/* A static key: its count comes first. */
	if (!gva || space_translate(&q->in->space, gva, &q->schedstats_gpa))
		q->schedstats_gpa = UINT64_MAX;
}

/* Which queues may do without a tick while tasks wait: see tickless(). */
static void find_tick(struct runqueues *q)
{
	uint64_t gva = kallsyms_address_or_0(&q->in->symbols, "tick_nohz_full_running");

	q->full_dynticks = gva && space_uint_or_0(&q->in->space, gva, 1);
	for (unsigned bit = 0; bit < 31; bit++) {
		const char *name =
			types_enumerator(q->in->types, "scx_rq_flags", INT64_C(1) << bit);

		if (name && !strcmp(name, "SCX_RQ_CAN_STOP_TICK"))
			q->can_stop_tick = UINT32_C(1) << bit;
	}
}

static int find_cpus(struct runqueues *q, unsigned cpus, struct error *err)
{
	uint64_t table = kallsyms_address_or_0(&q->in->symbols, "__per_cpu_offset");
	uint64_t runqueues = kallsyms_address_or_0(&q->in->symbols, "runqueues");
	CLEANUP_FREE uint64_t *offset = NULL;

	cpus = MIN(cpus, inspect_cpus(q->in));
	if (!table || !runqueues || !cpus)
		return error_set(err, -ENODATA,
				 "the guest's kernel doesn't say where its run "
				 "queues are");
	offset = calloc(cpus, sizeof(*offset));
	q->cpu = calloc(cpus, sizeof(*q->cpu));
	if (!offset || !q->cpu)
		return error_set(err, -ENOMEM, "finding the guest's run queues");
	if (space_read(&q->in->space, table, offset, cpus * sizeof(*offset)))
		return error_set(err, -ENODATA, "reading where the guest's per-CPU data is");
	for (unsigned i = 0; i < cpus; i++)
		q->cpu[i].rq_gva = runqueues + offset[i]; /* wraps on purpose */
	q->cpus = cpus;
	return 0;
}

int runqueues_open(const struct inspect *in, unsigned cpus, struct lacks *lacks,
		   struct runqueues **ret_q, struct error *err)
{
	struct runqueues *q;
	int r;

	if (!in->types) {
		if (err)
			*err = in->types_lack;
		return -ENODATA;
	}
	q = calloc(1, sizeof(*q));
	if (!q)
		return error_set(err, -ENOMEM, "finding the guest's run queues");
	q->in = in;
	r = find_cpus(q, cpus, err);
	if (r == 0) {
		find_fields(q, lacks);
		find_task(q, lacks);
		find_domain(q, lacks);
		find_tick(q);
		find_schedstats(q);
		if (!q->field[RUNQUEUES_RUNNING].size || !q->field[RUNQUEUES_CLOCK].size)
			r = error_set(err, -ENODATA,
				      "the guest's kernel has no type for its run queues");
	}
	if (r < 0) {
		runqueues_free(q);
		return r;
	}
	*ret_q = q;
	return 0;
}

void runqueues_free(struct runqueues *q)
{
	if (!q)
		return;
	free(q->cpu);
	free(q);
}

unsigned runqueues_cpus(const struct runqueues *q)
{
	return q->cpus;
}

bool runqueues_schedstats(const struct runqueues *q)
{
	uint32_t on = 0;

	return q->schedstats_gpa != UINT64_MAX &&
	       !guest_reader_read(&q->in->mem, q->schedstats_gpa, &on, sizeof(on)) && on;
}

/* ---- looking ----------------------------------------------------------------------------- */

static void find_pages(struct runqueues *q, struct cpu *c)
{
	uint64_t page = ALIGN_DOWN(c->rq_gva, (uint64_t)SPACE_PAGE);

	c->known = true;
	for (unsigned i = 0; i < q->pages; i++, page += SPACE_PAGE)
		if (space_translate(&q->in->space, page, &c->page_gpa[i]))
			c->page_gpa[i] = UINT64_MAX;
	c->known = c->page_gpa[0] != UINT64_MAX; /* or it is looked for again */
}

/* A member of the queue. 0: the kernel has none; negative: it can't be read. */
static int load(const struct runqueues *q, const struct cpu *c, const struct place *p,
		uint64_t *ret_value)
{
	uint64_t at = c->rq_gva % SPACE_PAGE + p->offset, v = 0;
	uint64_t page;

	if (!p->size)
		return 0;
	if (at / SPACE_PAGE >= q->pages)
		return -EFAULT;
	page = c->page_gpa[at / SPACE_PAGE];
	if (page == UINT64_MAX ||
	    guest_reader_read(&q->in->mem, page + at % SPACE_PAGE, &v, p->size))
		return -EFAULT;
	*ret_value = v;
	return 1;
}

/* What changes with whatever a CPU does to its queue. */
struct mark {
	uint64_t clock, switches, curr;
};

static bool load_mark(const struct runqueues *q, const struct cpu *c, struct mark *ret_mark)
{
	*ret_mark = (struct mark){0};
	return load(q, c, &q->field[RUNQUEUES_CLOCK], &ret_mark->clock) > 0 &&
	       load(q, c, &q->field[RUNQUEUES_SWITCHES], &ret_mark->switches) >= 0 &&
	       load(q, c, &q->curr, &ret_mark->curr) >= 0;
}

static void load_task(const struct runqueues *q, struct cpu *c, uint64_t task,
		      struct runqueues_sample *s)
{
	const struct space *space = &q->in->space;
	uint64_t pid = 0;

	if (!q->has_task || !task)
		return;
	if (task != c->task_gva) {
		c->task_gva = 0;
		if (space_translate(space, task + q->pid.offset, &c->pid_gpa) ||
		    space_translate(space, task + q->comm.offset, &c->comm_gpa))
			return;
		c->task_gva = task;
	}
	if (guest_reader_read(&q->in->mem, c->pid_gpa, &pid, q->pid.size) ||
	    guest_reader_read(&q->in->mem, c->comm_gpa, s->comm, RUNQUEUES_COMM - 1)) {
		s->comm[0] = '\0';
		return;
	}
	s->comm[RUNQUEUES_COMM - 1] = '\0';
	text_one_line(s->comm);
	s->pid = (int32_t)pid;
}

/* Full dynticks: a CPU whose scheduler said that nobody there needs a tick to take his turn
 * (sched_can_stop_tick of kernel/sched/core.c): SCHED_FIFO runs as long as it likes, and a
 * sched_ext task may have an endless slice. */
static bool tickless(const struct runqueues *q, const struct runqueues_sample *s)
{
	return q->full_dynticks && (s->value[RUNQUEUES_RT] > s->value[RUNQUEUES_RR] ||
				    (s->value[RUNQUEUES_SCX_FLAGS] & q->can_stop_tick));
}

/* What the kernel has and doesn't count is no zero. Delays are counted by newer kernels whatever is
 * on, and by some that account for delays. */
static bool is_counted(unsigned field, uint64_t value, bool schedstats)
{
	return fields[field].when != WITH_SCHEDSTATS || schedstats ||
	       (field == RUNQUEUES_RUN_DELAY && value);
}

static bool load_all(const struct runqueues *q, struct cpu *c, uint64_t curr,
		     struct runqueues_sample *s)
{
	bool schedstats = runqueues_schedstats(q);
	uint64_t idle = 0;

	*s = (struct runqueues_sample){.pid = -1};
	for (unsigned i = 0; i < RUNQUEUES_FIELDS; i++) {
		int r = load(q, c, &q->field[i], &s->value[i]);

		if (r < 0)
			return false;
		if (!is_counted(i, s->value[i], schedstats))
			s->value[i] = 0;
		else
			s->have |= (uint32_t)(r > 0) << i;
	}
	load_task(q, c, curr, s);
	s->idle = load(q, c, &q->idle, &idle) > 0 ? curr && curr == idle : s->pid == 0;
	s->tickless = tickless(q, s);
	return true;
}

/* A look is whole if clock, switches and task were the same before and after it: whatever changes a
 * queue sets its clock first. It can't tell a look from inside such a change, behind the clock and
 * before the rest, nor one that spans a change that leaves the clock alone (a wake-up counter, a
 * second change within one reading of the clock, a move in sched_ext's own queues). A task that
 * ended and whose memory is another's by now shows as that one, by the new name. */
bool runqueues_look(struct runqueues *q, unsigned cpu, struct runqueues_sample *ret_sample)
{
	struct runqueues_sample s = {0};
	struct mark before, after;
	unsigned repeats = 0;
	struct cpu *c;

	if (cpu >= q->cpus)
		return false;
	c = &q->cpu[cpu];
	if (!c->known)
		find_pages(q, c);
	if (!load_mark(q, c, &before))
		return false;
	for (;; repeats++, before = after) {
		/* Pairs with nothing of the guest's: that these loads come in this order is all
		 * that can be had from here. */
		atomic_thread_fence(memory_order_acquire);
		if (!load_all(q, c, before.curr, &s))
			return false;
		atomic_thread_fence(memory_order_acquire);
		if (!load_mark(q, c, &after))
			return false;
		s.torn = memcmp(&before, &after, sizeof(before)) != 0;
		if (!s.torn || repeats == RUNQUEUES_REPEATS)
			break;
	}
	s.repeats = repeats;
	*ret_sample = s;
	return true;
}

/* ---- scheduling domains ------------------------------------------------------------------ */

static uint64_t load_pointer(const struct runqueues *q, uint64_t gva)
{
	return space_uint_or_0(&q->in->space, gva, 8);
}

unsigned runqueues_domains(const struct runqueues *q, unsigned cpu,
			   struct runqueues_level ret_level[RUNQUEUES_LEVELS])
{
	const struct space *space = &q->in->space;
	size_t words = MIN((inspect_cpus(q->in) + 63) / 64, RUNQUEUES_SPAN_WORDS);
	unsigned n = 0;
	uint64_t sd;

	if (cpu >= q->cpus || !q->domain.known)
		return 0;
	sd = load_pointer(q, q->cpu[cpu].rq_gva + q->sd.offset);
	while (sd && n < RUNQUEUES_LEVELS) {
		struct runqueues_level l = {0};
		uint64_t flags, name = 0;

		if (space_read_uint(space, sd + q->domain.flags.offset, 4, &flags) ||
		    space_read(space, sd + q->domain.span, l.span, words * sizeof(*l.span)))
			break;
		l.flags = (uint32_t)flags;
		if (q->domain.name.size)
			name = load_pointer(q, sd + q->domain.name.offset);
		if (!name || space_read_text(space, name, l.name, sizeof(l.name)))
			l.name[0] = '\0';
		ret_level[n++] = l;
		sd = load_pointer(q, sd + q->domain.parent.offset);
	}
	return n;
}

bool runqueues_flag_name(const struct runqueues *q, unsigned bit, char *buf, size_t len)
{
	uint64_t table = kallsyms_address_or_0(&q->in->symbols, "sd_flag_debug"), name;
	struct types_value type;
	struct place place;

	if (!table || bit > 31 || types_struct(q->in->types, "sd_flag_debug", &type) ||
	    type.size > SPACE_PAGE || !find(q->in, "sd_flag_debug.name", SPACE_PAGE, &place))
		return false;
	name = load_pointer(q, table + bit * type.size + place.offset);
	return name && !space_read_text(&q->in->space, name, buf, len) && buf[0];
}
