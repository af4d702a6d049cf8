/* Times of vCPUs and rows of exits as a table. See stats_table.h. */
#include "cli/stats_table.h"

#include <stdlib.h>
#include <string.h>

#include "base/util.h"

#define NS_PER_MS 1000000
#define NS_PER_S  1e9

static const char *const phases[] = {"guest",  "idle",	  "hand_off", "waiting",
				     "served", "sampled", "parked"};

static json_t *member(const json_t *object, const char *key)
{
	return json_object_get(object, key);
}

static double number(const json_t *object, const char *key)
{
	return (double)json_integer_value(member(object, key));
}

static const char *text(const json_t *object, const char *key)
{
	return json_string_value(member(object, key)) ?: "";
}

/* ---- rows ------------------------------------------------------------------------------ */

struct row {
	const json_t *now;
	double count, time_ns; /* since the answer before */
};

static bool same(const json_t *a, const json_t *b)
{
	return !strcmp(text(a, "reason"), text(b, "reason")) &&
	       !strcmp(text(a, "access"), text(b, "access")) &&
	       !strcmp(text(a, "address"), text(b, "address"));
}

static const json_t *find_same(const json_t *rows, const json_t *wanted)
{
	const json_t *row;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)rows, i, row)
	{
		if (same(row, wanted))
			return row;
	}
	return NULL;
}

/* Most of the vCPUs' time first; then by number. */
static int dearest_first(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (x->time_ns != y->time_ns)
		return x->time_ns > y->time_ns ? -1 : 1;
	return x->count > y->count ? -1 : x->count < y->count;
}

static struct row *rows_of(const json_t *now, const json_t *before, size_t *ret_n)
{
	const json_t *row;
	struct row *rows = calloc(json_array_size(now) + 1, sizeof(*rows));
	size_t i, n = 0;

	json_array_foreach((json_t *)(uintptr_t)now, i, row)
	{
		const json_t *old = find_same(before, row);

		if (!rows)
			break;
		rows[n] = (struct row){row, number(row, "count") - number(old, "count"),
				       number(row, "time_ns") - number(old, "time_ns")};
		n += rows[n].count > 0;
	}
	if (rows)
		qsort(rows, n, sizeof(*rows), dearest_first);
	*ret_n = n;
	return rows;
}

/* ---- lines ----------------------------------------------------------------------------- */

/* Four figures at most, with the unit: "12.3us". */
static const char *duration(double ns, char *out, size_t len)
{
	static const char *const units[] = {"ns", "us", "ms", "s"};
	size_t unit = 0;

	while (ns >= 999.5 && unit + 1 < ARRAY_SIZE(units)) {
		ns /= 1000;
		unit++;
	}
	snprintf(out, len, unit == 0 || ns >= 99.95 ? "%.0f%s" : "%.1f%s", ns, units[unit]);
	return out;
}

/* "12.3us/45.6us", or "-" where there is none. */
static const char *spread(const json_t *histogram, char *out, size_t len)
{
	char p50[16], p99[16];

	if (number(histogram, "count") == 0)
		return "-";
	snprintf(out, len, "%s/%s", duration(number(histogram, "p50_ns"), p50, sizeof(p50)),
		 duration(number(histogram, "p99_ns"), p99, sizeof(p99)));
	return out;
}

static void print_row(FILE *out, const struct row *row, double wall_ns, double seconds)
{
	char what[64], waiting[40], served[40];

	snprintf(what, sizeof(what), "%s%s%s%s%s", text(row->now, "reason"),
		 text(row->now, "access")[0] ? " " : "", text(row->now, "access"),
		 text(row->now, "address")[0] ? " " : "", text(row->now, "address"));
	fprintf(out, "%-28s %10.0f %10.1f %7.2f%%  %15s  %15s\n", what, row->count,
		seconds > 0 ? row->count / seconds : 0,
		wall_ns > 0 ? 100 * row->time_ns / wall_ns : 0,
		spread(member(row->now, "waiting"), waiting, sizeof(waiting)),
		spread(member(row->now, "served"), served, sizeof(served)));
}

/* Since the answer before. Where a halt is under way, guest time is bounded by what the host knows
 * of the thread, and by KVM's own count once it is over: the two differ a little, in either
 * direction. */
static double share(const json_t *now, const json_t *before, const char *phase, double wall_ns)
{
	double ns = number(now, phase) - number(before, phase);

	return wall_ns <= 0 || ns <= 0 ? 0 : 100 * MIN(ns / wall_ns, 1.0);
}

static void print_times(FILE *out, const json_t *now, const json_t *before, double wall_ns)
{
	fprintf(out, "vCPU time ");
	for (size_t i = 0; i < ARRAY_SIZE(phases); i++)
		fprintf(out, " %s %.2f%%", phases[i], share(now, before, phases[i], wall_ns));
	fputc('\n', out);
}

/* What the host did to the vCPUs' threads. */
static void print_host(FILE *out, const json_t *now, const json_t *before, double wall_ns)
{
	const char *why = text(now, "unavailable");
	double delay = number(now, "run_delay_ns") - number(before, "run_delay_ns");

	if (why[0]) {
		fprintf(out, "host       unavailable %s\n", why);
		return;
	}
	fprintf(out, "host       run delay %.2f%% voluntary switches %.0f involuntary %.0f\n",
		wall_ns > 0 ? 100 * delay / wall_ns : 0,
		number(now, "voluntary_switches") - number(before, "voluntary_switches"),
		number(now, "involuntary_switches") - number(before, "involuntary_switches"));
}

/* What the host's PMU counted of the guest. */
static void print_counters(FILE *out, const json_t *now, const json_t *before, double seconds)
{
	double cycles = number(now, "cycles") - number(before, "cycles");
	double instructions = number(now, "instructions") - number(before, "instructions");

	if (!member(now, "cycles") || !member(now, "instructions")) {
		fprintf(out, "counters   unknown: the PMU lacks cycles or instructions, or room\n");
		return;
	}
	fprintf(out, "counters   cycles/s %.4g instructions/s %.4g, %.2f a cycle\n",
		seconds > 0 ? cycles / seconds : 0, seconds > 0 ? instructions / seconds : 0,
		cycles > 0 ? instructions / cycles : 0);
}

static double sum_last(const json_t *monitor, const char *key)
{
	const json_t *cpu;
	double sum = 0;
	size_t i;

	json_array_foreach(member(monitor, "cpus"), i, cpu)
	{
		sum += number(member(cpu, "last"), key);
	}
	return sum;
}

/* What --monitor saw last. */
static void print_queues(FILE *out, const json_t *now, const json_t *before, double seconds)
{
	const json_t *cpu, *most = NULL;
	size_t i;

	json_array_foreach(member(now, "cpus"), i, cpu)
	{
		if (!most || number(member(cpu, "last"), "running") >
				     number(member(most, "last"), "running"))
			most = cpu;
	}
	fprintf(out, "run queues tasks %.0f, most %.0f on CPU %.0f, switches/s %.1f stalls %.0f\n",
		sum_last(now, "running"), number(member(most, "last"), "running"),
		number(most, "cpu"),
		seconds > 0 ? (sum_last(now, "switches") - sum_last(before, "switches")) / seconds
			    : 0,
		number(now, "stall_count"));
}

/* What the times don't say. */
static void print_lacks(FILE *out, const json_t *lacks)
{
	const json_t *sentence;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)lacks, i, sentence)
	{
		fprintf(out, "degraded   %s\n", json_string_value(sentence) ?: "");
	}
}

size_t stats_table_head(const json_t *stats)
{
	return 3 + json_array_size(member(member(stats, "exits"), "lacks")) +
	       (member(member(stats, "exits"), "host") != NULL) +
	       (member(member(stats, "exits"), "counters") != NULL) +
	       (member(stats, "monitor") != NULL);
}

void stats_table_print(FILE *out, const json_t *stats, const json_t *before, size_t rows_max)
{
	const json_t *exits = member(stats, "exits"), *exits_before = member(before, "exits");
	const json_t *times = member(exits, "time_ns"),
		     *times_before = member(exits_before, "time_ns");
	double wall_ns = number(times, "wall") - number(times_before, "wall");
	double seconds = (number(stats, "uptime_ns") - number(before, "uptime_ns")) / NS_PER_S;
	long long ms = json_integer_value(member(stats, "uptime_ns")) / NS_PER_MS;
	size_t n;
	CLEANUP_FREE struct row *rows =
		rows_of(member(exits, "accounts"), member(exits_before, "accounts"), &n);

	fprintf(out, "%s: %s, %lld vCPUs, up %lld.%03lld s, %.1f exits/s\n", text(stats, "name"),
		text(stats, "state"), (long long)json_integer_value(member(stats, "vcpus")),
		ms / 1000, ms % 1000,
		seconds > 0 ? (number(exits, "total") - number(exits_before, "total")) / seconds
			    : 0);
	print_times(out, times, times_before, wall_ns);
	print_lacks(out, member(exits, "lacks"));
	if (member(exits, "host"))
		print_host(out, member(exits, "host"), member(exits_before, "host"), wall_ns);
	if (member(exits, "counters"))
		print_counters(out, member(exits, "counters"), member(exits_before, "counters"),
			       seconds);
	if (member(stats, "monitor"))
		print_queues(out, member(stats, "monitor"), member(before, "monitor"), seconds);
	fprintf(out, "%-28s %10s %10s %8s  %15s  %15s\n", "EXIT", "COUNT", "PER S", "TIME",
		"WAITING p50/p99", "SERVED p50/p99");
	for (size_t i = 0; rows && i < n && (rows_max == 0 || i < rows_max); i++)
		print_row(out, &rows[i], wall_ns, seconds);
}
