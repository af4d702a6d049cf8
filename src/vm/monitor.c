/* Rounds of looks, and what they find. Control thread. */
#include "vm/monitor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/util.h"

/* CPUs between two readings of the clock. */
#define CPUS_A_STEP 8

/* ---- one CPU ----------------------------------------------------------------------------- */

static json_t *stall_json(const struct monitor *m, const struct monitor_stall *s)
{
	const struct runqueues_sample *sample = s->sample;

	return json_pack("{s:i, s:I, s:I, s:I, s:I, s:I, s:o}", "cpu", (int)s->cpu, "time_ns",
			 (json_int_t)(s->at_ns - m->config.began_ns), "stood_ns",
			 (json_int_t)s->stood_ns, "clock_ns",
			 (json_int_t)sample->value[RUNQUEUES_CLOCK], "running",
			 (json_int_t)sample->value[RUNQUEUES_RUNNING], "pid",
			 (json_int_t)sample->pid, "comm",
			 json_string(sample->comm) ?: json_string("(not UTF-8)"));
}

static void tell(struct monitor *m, unsigned cpu, uint64_t now)
{
	struct monitor_cpu *c = &m->cpu[cpu];
	const struct monitor_stall stall = {.cpu = cpu,
					    .nth = ++m->stalls,
					    .at_ns = now,
					    .stood_ns = now - c->stall.since_ns,
					    .sample = &c->last};

	c->stalls++;
	if (json_array_size(m->stall_list) < MONITOR_STALLS_KEPT)
		json_array_append_new(m->stall_list, stall_json(m, &stall));
	m->config.stalled(&stall, m->config.arg);
}

/* How long the vCPU has run, asked while the clock stands: this thread may lose its host CPU
 * between a look and the question, and what the vCPU runs then is no sign of a stall. Whoever's
 * clock went on meanwhile counts as torn. Asked only where it may matter, for it is a system call.
 */
static uint64_t ran_while_it_stood(struct monitor *m, unsigned cpu, bool *ret_torn)
{
	struct monitor_cpu *c = &m->cpu[cpu];
	const struct runqueues_sample *s = &c->last;
	struct runqueues_sample again;
	uint64_t ran_ns;

	if (s->idle || s->value[RUNQUEUES_RUNNING] < 2 ||
	    !m->config.ran(cpu, &ran_ns, m->config.arg))
		return STALL_RAN_UNKNOWN;
	if (c->stall.known && c->stall.clock == s->value[RUNQUEUES_CLOCK] &&
	    (!runqueues_look(m->queues, cpu, &again) || again.torn ||
	     again.value[RUNQUEUES_CLOCK] != s->value[RUNQUEUES_CLOCK]))
		*ret_torn = true;
	return ran_ns;
}

static void judge(struct monitor *m, unsigned cpu, uint64_t freezes, uint64_t now)
{
	struct monitor_cpu *c = &m->cpu[cpu];
	const struct runqueues_sample *s = &c->last;
	struct stall_look look = {.at_ns = now,
				  .clock = s->value[RUNQUEUES_CLOCK],
				  .running = s->value[RUNQUEUES_RUNNING],
				  .torn = s->torn,
				  .idle = s->idle,
				  .tickless = s->tickless,
				  .freezes = freezes,
				  .interval_ns = m->config.interval_ns};
	enum stall_verdict verdict;

	look.ran_ns = ran_while_it_stood(m, cpu, &look.torn);
	verdict = stall_look(&c->stall, &look);
	if (verdict == STALL_IDLE && look.running)
		c->idle_with_work++;
	if (verdict == STALL_BEGINS)
		tell(m, cpu, now);
}

static void put_line(struct monitor *m, unsigned cpu)
{
	char line[MONITOR_LINE_MAX];
	size_t len = monitor_csv_line(m, cpu, line, sizeof(line));

	/* A line is there whole, or not at all. */
	if (stream_out_room(&m->csv) < len) {
		m->lines_dropped++;
		return;
	}
	stream_out_put(&m->csv, line, len);
	m->lines++;
}

static void look(struct monitor *m, unsigned cpu, uint64_t freezes)
{
	struct monitor_cpu *c = &m->cpu[cpu];
	struct runqueues_sample s;
	uint64_t now;

	if (!runqueues_look(m->queues, cpu, &s)) {
		c->unread++;
		return;
	}
	now = now_ns();
	c->last = s;
	c->last_ns = now;
	if (c->samples++ == 0) {
		c->first = s;
		c->first_ns = now;
	}
	c->torn += s.torn;
	c->repeats += s.repeats;
	/* What a guest says is bounded before it is added up. */
	c->running_sum += MIN(s.value[RUNQUEUES_RUNNING], (uint64_t)UINT32_MAX);
	c->running_max = MAX(c->running_max, s.value[RUNQUEUES_RUNNING]);
	if (!m->final)
		judge(m, cpu, freezes, now);
	if (m->config.looked)
		m->config.looked(cpu, now, &c->last, m->config.arg);
	if (m->csv.loop)
		put_line(m, cpu);
}

/* sched_ext's other queues, once a round. */
static void look_dispatch(struct monitor *m)
{
	struct dispatch_queue queue[DISPATCH_QUEUES_MAX];
	bool cut;
	unsigned n = dispatch_look(&m->dispatch, queue, ARRAY_SIZE(queue), &cut);

	dispatch_totals_add(&m->dispatched, queue, n, cut);
}

/* What this thread has used of a CPU. */
static uint64_t used_ns(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) < 0)
		return 0;
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- rounds ------------------------------------------------------------------------------ */

static void schedule(struct monitor *m, uint64_t at_ns)
{
	if (loop_timer_set(m->config.loop, &m->timer, at_ns) < 0)
		log_warn("no memory to go on monitoring run queues");
}

/* The next round is due on the grid that the first began; those that are past are left out. */
static void end_round(struct monitor *m, uint64_t now)
{
	uint64_t interval = m->config.interval_ns;

	m->due_ns += interval;
	if (m->due_ns <= now) {
		uint64_t missed = (now - m->due_ns) / interval + 1;

		m->late_rounds += missed;
		m->due_ns += missed * interval;
	}
	schedule(m, m->due_ns);
}

static void on_time(struct loop_timer *t)
{
	struct monitor *m = container_of(t, struct monitor, timer);
	uint64_t from = now_ns(), now = from, used = used_ns();
	bool frozen = false;
	uint64_t freezes = m->config.freezes(&frozen, m->config.arg);

	/* Nothing moves, and that is not the guest's doing. */
	if (frozen && m->next == 0) {
		m->frozen_rounds++;
		end_round(m, now);
		return;
	}
	while (m->next < m->cpus && now - from < MONITOR_SLICE_NS) {
		unsigned end = MIN(m->next + CPUS_A_STEP, m->cpus);

		for (; m->next < end; m->next++)
			look(m, m->next, freezes);
		now = now_ns();
	}
	if (m->next == m->cpus) {
		look_dispatch(m);
		now = now_ns();
	}
	m->slice_max_ns = MAX(m->slice_max_ns, now - from);
	m->cost_ns += used_ns() - used;
	if (m->next < m->cpus) {
		schedule(m, now); /* in a later turn */
		return;
	}
	m->next = 0;
	m->rounds++;
	end_round(m, now);
}

void monitor_look(struct monitor *m)
{
	m->final = true;
	for (unsigned cpu = 0; cpu < m->cpus; cpu++)
		look(m, cpu, 0);
	look_dispatch(m);
}

/* ---- life -------------------------------------------------------------------------------- */

int monitor_new(const struct monitor_config *config, struct monitor **ret_m, struct error *err)
{
	struct monitor *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return error_set(err, -ENOMEM, "monitoring run queues");
	m->config = *config;
	m->timer.fire = on_time;
	r = runqueues_open(config->inspect, config->cpus, &m->lacks, &m->queues, err);
	if (r < 0) {
		free(m);
		return r;
	}
	dispatch_find(config->inspect, &m->lacks, &m->dispatch);
	m->cpus = runqueues_cpus(m->queues);
	m->cpu = calloc(m->cpus, sizeof(*m->cpu));
	m->stall_list = json_array();
	if (!m->cpu || !m->stall_list) {
		runqueues_free(m->queues);
		free(m->cpu);
		json_decref(m->stall_list);
		free(m);
		return error_set(err, -ENOMEM, "monitoring run queues");
	}
	if (config->csv_fd >= 0) {
		stream_out_init(&m->csv, config->loop, config->csv_fd);
		stream_out_put(&m->csv, monitor_csv_head, strlen(monitor_csv_head));
	}
	*ret_m = m;
	return 0;
}

int monitor_start(struct monitor *m, struct error *err)
{
	int r;

	m->due_ns = now_ns();
	r = loop_timer_set(m->config.loop, &m->timer, m->due_ns);
	return r < 0 ? error_set(err, r, "setting a timer") : 0;
}

void monitor_stop(struct monitor *m)
{
	if (m)
		loop_timer_clear(m->config.loop, &m->timer);
}

const struct lacks *monitor_lacks(const struct monitor *m)
{
	return &m->lacks;
}

void monitor_flush(struct monitor *m, uint64_t limit_ns)
{
	uint64_t now, end_ns = now_ns() + limit_ns;

	monitor_stop(m);
	while (m && m->csv.loop && !stream_out_empty(&m->csv) && (now = now_ns()) < end_ns)
		if (loop_turn(m->config.loop, end_ns - now) < 0)
			break;
}

uint64_t monitor_lost(const struct monitor *m)
{
	/* What could not be written is not counted in lines. */
	return m->lines_dropped + (m->csv.loop && (m->csv.failed || !stream_out_empty(&m->csv)));
}

bool monitor_free(struct monitor *m, uint64_t limit_ns)
{
	if (!m)
		return true;
	monitor_stop(m);
	if (!stream_out_done(&m->csv, limit_ns))
		return false;
	fd_close(&m->config.csv_fd);
	runqueues_free(m->queues);
	json_decref(m->stall_list);
	free(m->cpu);
	free(m);
	return true;
}
