/* A trace as a file: Chrome's trace-event format. Control thread.
 *
 *   process: the guest ── threads: vCPU 0, 1, … (X: a task, a freeze; i: a hit), the machine (i)
 *                      └─ counters (C): run queue 0, 1, …; exits by reason; exits of vCPU 0, 1, …
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "vm/host.h"
#include "vm/trace.h"

#define NS_PER_S UINT64_C(1000000000)
#define PID	 1000000 /* unlike any thread's: those of one number would be its main thread */

enum kind { SLICE, FROZEN, MARK };

/* One line of a vCPU's track, or of the machine's behind them. */
struct event {
	uint64_t from_ns, to_ns;
	uint32_t track;
	uint32_t number; /* in its table */
	uint8_t kind;
};

struct writer {
	const struct trace *trace;
	FILE *f;
	uint64_t duration_ns; /* of the windows; 0: each is whole */
	bool any;	      /* a line came before */
};

/* Begins an event, of which args and the closing brace are to come. */
static void begin(struct writer *w, const char *ph)
{
	fprintf(w->f, "%s\n{\"ph\":\"%s\",\"pid\":%d", w->any ? "," : "", ph, PID);
	w->any = true;
}

/* In microseconds, which are the format's. */
static void put_us(struct writer *w, const char *key, uint64_t ns)
{
	fprintf(w->f, ",\"%s\":%llu.%03u", key, (unsigned long long)(ns / 1000),
		(unsigned)(ns % 1000));
}

static void put_time(struct writer *w, uint64_t at_ns)
{
	put_us(w, "ts", at_ns - w->trace->began_ns);
}

/* Quoted; the guest's words may be no UTF-8. */
static void put_text(struct writer *w, const char *text)
{
	json_t *json = json_string(text) ?: json_string("?");
	char *quoted = json ? json_dumps(json, JSON_ENCODE_ANY) : NULL;

	fputs(quoted ?: "\"?\"", w->f);
	free(quoted);
	json_decref(json);
}

/* ---- names ----------------------------------------------------------------------------------- */

static void put_name(struct writer *w, const char *what, unsigned tid, const char *name)
{
	begin(w, "M");
	fprintf(w->f, ",\"tid\":%u,\"name\":\"%s\",\"args\":{\"name\":", tid, what);
	put_text(w, name);
	fputs("}}", w->f);
}

static void put_names(struct writer *w, const char *name)
{
	char text[160];

	snprintf(text, sizeof(text), "guest %s", name);
	put_name(w, "process_name", 0, text);
	for (unsigned i = 0; i <= w->trace->vcpus; i++) {
		if (i < w->trace->vcpus)
			snprintf(text, sizeof(text), "vCPU %u", i);
		else
			snprintf(text, sizeof(text), "machine");
		put_name(w, "thread_name", i + 1, text);
		begin(w, "M");
		fprintf(w->f,
			",\"tid\":%u,\"name\":\"thread_sort_index\",\"args\":{\"sort_index\":%u}}",
			i + 1, i);
	}
}

/* ---- tracks ---------------------------------------------------------------------------------- */

static int by_track_and_time(const void *a, const void *b)
{
	const struct event *x = a, *y = b;

	if (x->track != y->track)
		return x->track < y->track ? -1 : 1;
	if (x->from_ns != y->from_ns)
		return x->from_ns < y->from_ns ? -1 : 1;
	return x->number < y->number ? -1 : x->number > y->number;
}

/* A task's time without the freezes in it: what overlaps on a track would not be drawn. Freezes are
 * in order; *from is the first that can matter, for slices that come in order. Counts only where
 * list is NULL. */
static size_t cut(const struct trace *t, uint32_t number, struct event *list)
{
	const struct trace_slice *s = &t->slice[number];
	uint64_t from = s->from_ns;
	uint32_t low = 0, high = t->freezes;
	size_t n = 0;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (t->freeze[middle].to_ns <= from)
			low = middle + 1;
		else
			high = middle;
	}
	for (uint32_t i = low; i <= t->freezes; i++) {
		bool last = i == t->freezes || t->freeze[i].from_ns >= s->to_ns;
		uint64_t to = last ? s->to_ns : t->freeze[i].from_ns;

		if (to > from) {
			if (list)
				list[n] = (struct event){from, to, s->vcpu, number, SLICE};
			n++;
		}
		if (last)
			break;
		from = MAX(from, t->freeze[i].to_ns);
	}
	return n;
}

/* All of the tracks, in their order. NULL when out of memory. */
static struct event *events(const struct trace *t, size_t *ret_n)
{
	size_t n = (size_t)t->freezes * t->vcpus + t->marks;
	struct event *list;

	for (uint32_t i = 0; i < t->slices; i++)
		n += cut(t, i, NULL);
	list = calloc(n + 1, sizeof(*list));
	if (!list)
		return NULL;
	n = 0;
	for (uint32_t i = 0; i < t->slices; i++)
		n += cut(t, i, list + n);
	for (uint32_t i = 0; i < t->freezes; i++)
		for (unsigned vcpu = 0; vcpu < t->vcpus; vcpu++)
			list[n++] = (struct event){t->freeze[i].from_ns, t->freeze[i].to_ns, vcpu,
						   i, FROZEN};
	for (uint32_t i = 0; i < t->marks; i++) {
		const struct trace_mark *m = &t->mark[i];

		list[n++] = (struct event){m->at_ns, m->at_ns,
					   m->vcpu < 0 ? t->vcpus : (uint32_t)m->vcpu, i, MARK};
	}
	qsort(list, n, sizeof(*list), by_track_and_time);
	*ret_n = n;
	return list;
}

static void put_event(struct writer *w, const struct event *e)
{
	const struct trace *t = w->trace;

	begin(w, e->kind == MARK ? "i" : "X");
	fprintf(w->f, ",\"tid\":%u", e->track + 1);
	put_time(w, e->from_ns);
	if (e->kind != MARK)
		put_us(w, "dur", e->to_ns - e->from_ns);
	fputs(",\"name\":", w->f);
	switch (e->kind) {
	case SLICE:
		put_text(w, t->slice[e->number].comm);
		fprintf(w->f, ",\"cat\":\"task\",\"args\":{\"pid\":%d}}", t->slice[e->number].pid);
		break;
	case FROZEN:
		fputs("\"frozen\",\"cat\":\"freeze\",\"args\":{\"cause\":", w->f);
		put_text(w, t->freeze[e->number].cause);
		fputs("}}", w->f);
		break;
	default:
		put_text(w, t->mark[e->number].text);
		fprintf(w->f, ",\"cat\":\"mark\",\"s\":\"%s\"}", e->track < t->vcpus ? "t" : "g");
		break;
	}
}

/* ---- counters ----------------------------------------------------------------------------------
 */

static int by_cpu_and_time(const void *a, const void *b)
{
	const struct trace_point *x = a, *y = b;

	if (x->cpu != y->cpu)
		return x->cpu < y->cpu ? -1 : 1;
	return x->at_ns < y->at_ns ? -1 : x->at_ns > y->at_ns;
}

static int put_queues(struct writer *w)
{
	const struct trace *t = w->trace;
	CLEANUP_FREE struct trace_point *point = calloc(t->points + 1, sizeof(*point));

	if (!point)
		return -ENOMEM;
	memcpy(point, t->point, t->points * sizeof(*point));
	qsort(point, t->points, sizeof(*point), by_cpu_and_time);
	for (uint32_t i = 0; i < t->points; i++) {
		begin(w, "C");
		put_time(w, point[i].at_ns);
		fprintf(w->f,
			",\"name\":\"run queue %u\",\"args\":{\"running\":%u,\"waiting\":%u}}",
			point[i].cpu, point[i].running, point[i].waiting);
	}
	return 0;
}

static unsigned long long per_s(const struct writer *w, const struct windows *windows,
				unsigned window, unsigned series)
{
	uint64_t from_ns = window * windows->length_ns, ns = windows->length_ns;

	if (w->duration_ns > from_ns)
		ns = MIN(ns, w->duration_ns - from_ns);
	return (unsigned long long)((double)windows_counted(windows, window, series) *
				    (double)NS_PER_S / (double)ns);
}

static void put_reasons(struct writer *w, const struct windows *windows, uint64_t since_ns)
{
	bool seen[WINDOWS_REASONS] = {false};
	const char *name;

	for (unsigned i = 0; i < windows->used; i++)
		for (unsigned r = 0; r < WINDOWS_REASONS; r++)
			seen[r] |= windows_counted(windows, i, WINDOWS_REASON + r) > 0;
	for (unsigned i = 0; i < windows->used; i++) {
		unsigned long long other = 0;

		begin(w, "C");
		put_time(w, since_ns + i * windows->length_ns);
		fputs(",\"name\":\"exits per second\",\"args\":{", w->f);
		/* The same ones each time: each has its colour. */
		for (unsigned r = 0; r < WINDOWS_REASONS; r++) {
			name = r == WINDOWS_REASONS - 1 ? "other" : host_exit_name(r);
			if (!strcmp(name, "other"))
				other += per_s(w, windows, i, WINDOWS_REASON + r);
			else if (seen[r])
				fprintf(w->f, "\"%s\":%llu,", name,
					per_s(w, windows, i, WINDOWS_REASON + r));
		}
		fprintf(w->f, "\"other\":%llu}}", other);
	}
}

/* Where it has changed: of each vCPU, a series. */
static void put_vcpus(struct writer *w, const struct windows *windows, uint64_t since_ns,
		      unsigned series, const char *what, const char *unit)
{
	for (unsigned vcpu = 0; vcpu < windows->vcpus; vcpu++) {
		unsigned long long before = 0;

		for (unsigned i = 0; i < windows->used; i++) {
			unsigned long long now = per_s(w, windows, i, series + vcpu);

			if (now == before)
				continue;
			begin(w, "C");
			put_time(w, since_ns + i * windows->length_ns);
			fprintf(w->f, ",\"name\":\"%s of vCPU %u\",\"args\":{\"%s\":%llu}}", what,
				vcpu, unit, now);
			before = now;
		}
	}
}

/* ---- the file
 * ------------------------------------------------------------------------------------ */

static void put_about(struct writer *w)
{
	const struct trace *t = w->trace;

	fprintf(w->f,
		"\n],\n\"displayTimeUnit\":\"ns\",\n\"otherData\":{\"producer\":\"stasis %s\","
		"\"time_zero\":\"the guest's start\",\"running_tasks\":\"sampled at %u Hz: a slice "
		"is "
		"from the first sample of a task to the last in a row, and a mean interval "
		"before\","
		"\"lost_samples\":%llu,\"lost_run_queue_looks\":%llu,\"lost_freezes\":%llu,"
		"\"lost_marks\":%llu}}\n",
		STASIS_VERSION, t->hz, (unsigned long long)t->lost_samples,
		(unsigned long long)t->lost_points, (unsigned long long)t->lost_freezes,
		(unsigned long long)t->lost_marks);
}

int trace_write(const struct trace *t, const char *name, const struct windows *windows,
		uint64_t since_ns, uint64_t duration_ns, FILE *f)
{
	struct writer w = {.trace = t, .f = f, .duration_ns = duration_ns};
	size_t n = 0;
	CLEANUP_FREE struct event *list = events(t, &n);
	int r;

	if (!list)
		return -ENOMEM;
	fputs("{\"traceEvents\":[", f);
	put_names(&w, name);
	for (size_t i = 0; i < n; i++)
		put_event(&w, &list[i]);
	r = put_queues(&w);
	if (r == 0 && windows) {
		put_reasons(&w, windows, since_ns);
		put_vcpus(&w, windows, since_ns, WINDOWS_VCPU, "exits", "per second");
		put_vcpus(&w, windows, since_ns, WINDOWS_VCPU + windows->vcpus, "hand-off",
			  "ns per second");
	}
	put_about(&w);
	return r;
}
