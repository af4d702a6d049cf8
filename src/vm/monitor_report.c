/* What a monitor has seen, as JSON and as lines of CSV. Control thread. */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "base/util.h"
#include "inspect/sched.h"
#include "vm/monitor.h"

#define NS_PER_S 1e9

static const char *const field_names[RUNQUEUES_FIELDS] = {
	[RUNQUEUES_RUNNING] = "running",
	[RUNQUEUES_CLOCK] = "clock_ns",
	[RUNQUEUES_SWITCHES] = "switches",
	[RUNQUEUES_WAKEUPS] = "wakeups",
	[RUNQUEUES_WAKEUPS_LOCAL] = "wakeups_local",
	[RUNQUEUES_RUN_DELAY] = "run_delay_ns",
	[RUNQUEUES_RT] = "rt",
	[RUNQUEUES_RR] = "rr",
	[RUNQUEUES_SCX_RUNNING] = "scx_running",
	[RUNQUEUES_SCX_LOCAL] = "scx_local_queue",
	[RUNQUEUES_SCX_FLAGS] = "scx_flags",
};

/* ---- CSV --------------------------------------------------------------------------------- */

/* Times in ns, the first since the guest's start, the clock the queue's own; running, rt, rr and
 * scx_… in tasks, now; switches and wakeups counted since boot. */
const char monitor_csv_head[] =
	"time_ns,cpu,running_tasks,clock_ns,switches_total,wakeups_total,wakeups_local_total,"
	"run_delay_total_ns,rt_tasks,rr_tasks,scx_running_tasks,scx_local_queue_tasks,scx_flags_"
	"bits,"
	"pid,comm,idle_bool,torn_bool\n";

struct line {
	char *buf;
	size_t len, max;
};

static void put(struct line *l, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void put(struct line *l, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(l->buf + l->len, l->max - l->len, fmt, ap);
	va_end(ap);
	if (n > 0)
		l->len = MIN(l->len + (size_t)n, l->max - 1);
}

size_t monitor_csv_line(const struct monitor *m, unsigned cpu, char *buf, size_t len)
{
	const struct monitor_cpu *c = &m->cpu[cpu];
	const struct runqueues_sample *s = &c->last;
	struct line l = {.buf = buf, .max = len};

	put(&l, "%llu,%u", (unsigned long long)(c->last_ns - m->config.began_ns), cpu);
	for (unsigned i = 0; i < RUNQUEUES_FIELDS; i++)
		if (s->have & 1u << i)
			put(&l, ",%llu", (unsigned long long)s->value[i]);
		else
			put(&l, ",");
	if (s->pid >= 0)
		put(&l, ",%lld,\"", (long long)s->pid);
	else
		put(&l, ",,\"");
	for (const char *p = s->comm; *p; p++)
		put(&l, *p == '"' ? "\"\"" : "%c", *p);
	put(&l, "\",%d,%d\n", (int)s->idle, (int)s->torn);
	return l.len;
}

/* ---- CPUs -------------------------------------------------------------------------------- */

/* Of what counts up, between the first look and the last; nothing where the guest takes it back. */
static void set_rate(json_t *json, const char *name, const struct monitor_cpu *c,
		     enum runqueues_field f)
{
	uint64_t n = c->last.value[f] - c->first.value[f];
	double s = (double)(c->last_ns - c->first_ns) / NS_PER_S;

	if ((c->last.have & c->first.have & 1u << f) && s > 0 && n <= INT64_MAX)
		json_object_set_new(json, name, json_real((double)n / s));
}

static json_t *last_json(const struct monitor *m, const struct monitor_cpu *c)
{
	const struct runqueues_sample *s = &c->last;
	json_t *json = json_pack("{s:I, s:b, s:b}", "time_ns",
				 (json_int_t)(c->last_ns - m->config.began_ns), "idle",
				 (int)s->idle, "torn", (int)s->torn);

	for (unsigned i = 0; i < RUNQUEUES_FIELDS; i++)
		if (s->have & 1u << i)
			json_object_set_new(json, field_names[i],
					    json_integer((json_int_t)s->value[i]));
	if (s->pid >= 0) {
		json_object_set_new(json, "pid", json_integer((json_int_t)s->pid));
		json_object_set_new(json, "comm",
				    json_string(s->comm) ?: json_string("(not UTF-8)"));
	}
	return json;
}

static json_t *cpu_json(const struct monitor *m, unsigned cpu)
{
	const struct monitor_cpu *c = &m->cpu[cpu];
	json_t *json =
		json_pack("{s:i, s:I, s:I, s:I, s:I, s:I, s:I}", "cpu", (int)cpu, "samples",
			  (json_int_t)c->samples, "torn", (json_int_t)c->torn, "repeats",
			  (json_int_t)c->repeats, "unread", (json_int_t)c->unread, "stalls",
			  (json_int_t)c->stalls, "idle_with_work", (json_int_t)c->idle_with_work);

	if (!c->samples)
		return json;
	json_object_set_new(json, "running_max", json_integer((json_int_t)c->running_max));
	json_object_set_new(json, "running_mean",
			    json_real((double)c->running_sum / (double)c->samples));
	set_rate(json, "switches_per_s", c, RUNQUEUES_SWITCHES);
	if (runqueues_schedstats(m->queues)) {
		set_rate(json, "wakeups_per_s", c, RUNQUEUES_WAKEUPS);
		set_rate(json, "wakeups_local_per_s", c, RUNQUEUES_WAKEUPS_LOCAL);
	}
	json_object_set_new(json, "last", last_json(m, c));
	return json;
}

/* ---- scheduling domains ------------------------------------------------------------------ */

static void put_range(struct line *l, unsigned from, unsigned to)
{
	put(l, from == to ? "%s%u" : "%s%u-%u", l->len ? "," : "", from, to);
}

/* "0-3,8". */
static void format_span(const uint64_t *span, char *buf, size_t len)
{
	struct line l = {.buf = buf, .max = len};
	int from = -1;

	buf[0] = '\0';
	for (unsigned cpu = 0; cpu <= 64 * RUNQUEUES_SPAN_WORDS; cpu++) {
		bool in = cpu < 64 * RUNQUEUES_SPAN_WORDS && span[cpu / 64] >> cpu % 64 & 1;

		if (in && from < 0)
			from = (int)cpu;
		if (!in && from >= 0) {
			put_range(&l, (unsigned)from, cpu - 1);
			from = -1;
		}
	}
}

static json_t *flags_json(const struct monitor *m, uint32_t flags)
{
	json_t *list = json_array();
	char name[48];

	for (unsigned bit = 0; bit < 32; bit++) {
		if (!(flags >> bit & 1))
			continue;
		if (!runqueues_flag_name(m->queues, bit, name, sizeof(name)))
			snprintf(name, sizeof(name), "0x%x", 1u << bit);
		json_array_append_new(list, json_string(name) ?: json_string("(not UTF-8)"));
	}
	return list;
}

static json_t *levels_json(const struct monitor *m, const struct runqueues_level *level, unsigned n)
{
	json_t *list = json_array();
	char span[1024];

	for (unsigned i = 0; i < n; i++) {
		format_span(level[i].span, span, sizeof(span));
		json_array_append_new(list, json_pack("{s:o, s:s, s:o}", "name",
						      json_string(level[i].name)
							      ?: json_string("(not UTF-8)"),
						      "span", span, "flags",
						      flags_json(m, level[i].flags)));
	}
	return list;
}

static unsigned weight(const struct runqueues_level *l)
{
	unsigned n = 0;

	for (unsigned i = 0; i < RUNQUEUES_SPAN_WORDS; i++)
		n += (unsigned)__builtin_popcountll(l->span[i]);
	return n;
}

/* Other CPUs are in other spans; but for that, the levels are the same. */
static bool alike(const struct runqueues_level *a, const struct runqueues_level *b, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (strcmp(a[i].name, b[i].name) != 0 || a[i].flags != b[i].flags ||
		    weight(&a[i]) != weight(&b[i]))
			return false;
	return true;
}

/* CPU 0's, and those of each that differs from the one before it that is here. */
static json_t *domains_json(const struct monitor *m)
{
	struct runqueues_level level[RUNQUEUES_LEVELS], shown[RUNQUEUES_LEVELS];
	json_t *list = json_array();
	unsigned n, shown_n = 0;

	for (unsigned cpu = 0; cpu < m->cpus; cpu++) {
		n = runqueues_domains(m->queues, cpu, level);
		if (cpu && n == shown_n && alike(level, shown, n))
			continue;
		if (!cpu || n)
			json_array_append_new(list, json_pack("{s:i, s:o}", "cpu", (int)cpu,
							      "levels", levels_json(m, level, n)));
		memcpy(shown, level, sizeof(shown));
		shown_n = n;
	}
	return list;
}

/* ---- sched_ext --------------------------------------------------------------------------- */

static void ext_number(const char *name, int64_t value, void *arg)
{
	json_object_set_new(arg, name, json_integer(value));
}

static void ext_text(const char *name, const char *value, void *arg)
{
	json_object_set_new(arg, name, json_string(value) ?: json_string("(not UTF-8)"));
}

/* As it is now, and what it has counted; nothing where the kernel has none. */
static void set_ext(json_t *json, const struct monitor *m)
{
	json_t *ext = json_object(), *events = json_object();
	struct sched_sink sink = {ext_number, ext_text, ext};
	struct lacks lacks = {0};
	struct sched *sched;

	if (ext && events && sched_open(m->config.inspect, &lacks, &sched) == 0) {
		if (sched_ext(sched, &sink)) {
			json_object_set(json, "sched_ext", ext);
			sink.arg = events;
			if (sched_ext_events(sched, &sink))
				json_object_set(ext, "events", events);
			json_object_set_new(ext, "queues", dispatch_totals_json(&m->dispatched));
			json_object_set_new(ext, "queues_cut", json_boolean(m->dispatched.cut));
		}
		sched_free(sched);
	}
	json_decref(ext);
	json_decref(events);
}

/* ---- all of it --------------------------------------------------------------------------- */

static json_t *lacks_json(const struct monitor *m)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < m->lacks.count; i++)
		json_array_append_new(list, json_string(m->lacks.what[i]));
	return list;
}

json_t *monitor_json(const struct monitor *m, bool whole)
{
	uint64_t samples = 0, torn = 0, repeats = 0, unread = 0;
	json_t *cpus = json_array(), *json;

	for (unsigned cpu = 0; cpu < m->cpus; cpu++) {
		samples += m->cpu[cpu].samples;
		torn += m->cpu[cpu].torn;
		repeats += m->cpu[cpu].repeats;
		unread += m->cpu[cpu].unread;
		json_array_append_new(cpus, cpu_json(m, cpu));
	}
	json = json_pack(
		"{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O, s:{s:I, s:I, s:I}, s:b, s:o}",
		"interval_ns", (json_int_t)m->config.interval_ns, "rounds", (json_int_t)m->rounds,
		"rounds_late", (json_int_t)m->late_rounds, "rounds_frozen",
		(json_int_t)m->frozen_rounds, "samples", (json_int_t)samples, "torn",
		(json_int_t)torn, "repeats", (json_int_t)repeats, "unread", (json_int_t)unread,
		"stall_count", (json_int_t)m->stalls, "stalls", m->stall_list, "cost_ns", "total",
		(json_int_t)m->cost_ns, "per_sample",
		(json_int_t)(samples ? m->cost_ns / samples : 0), "turn_max",
		(json_int_t)m->slice_max_ns, "schedstats", (int)runqueues_schedstats(m->queues),
		"cpus", cpus);
	if (json && m->config.csv_path)
		json_object_set_new(json, "csv",
				    json_pack("{s:s?, s:I, s:I}", "path", m->config.csv_path,
					      "lines", (json_int_t)m->lines, "lines_dropped",
					      (json_int_t)m->lines_dropped));
	if (json && whole) {
		json_object_set_new(json, "domains", domains_json(m));
		set_ext(json, m);
		json_object_set_new(json, "lacks", lacks_json(m));
	}
	return json;
}
