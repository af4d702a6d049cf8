/* Counters of the vCPU threads, and what became of them. Control thread. */
#include "vm/perf/evidence.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"

#define FILE_MAX  KIB(16)
#define PROC_STAT "/proc/stat"
/* A run is noisy past this share of its vCPUs' time in waiting for host CPUs. */
#define NOISY_PER_MILLE 1
#define NOISY_NS	10000000 /* a gap as long as a scheduler test's can be */

/* ---- reading ------------------------------------------------------------------------------- */

static char *read_file(const char *proc, pid_t tid, const char *name)
{
	char path[128];
	char *text;
	size_t len;

	snprintf(path, sizeof(path), "%s/task/%d/%s", proc, (int)tid, name);
	return file_read(path, FILE_MAX, &text, &len) < 0 ? NULL : text;
}

/* The number behind "KEY" and blanks or a colon, at the start of a line. */
static bool number_of(const char *text, const char *key, uint64_t *ret_value)
{
	const char *line = text;
	size_t len = strlen(key);

	while (line) {
		if (!strncmp(line, key, len) && strchr(" \t:", line[len]) && line[len]) {
			line += len + strspn(line + len, " \t:");
			return sscanf(line, "%" SCNu64, ret_value) == 1;
		}
		line = strchr(line, '\n');
		line = line ? line + 1 : NULL;
	}
	return false;
}

static unsigned frequency(unsigned cpu)
{
	CLEANUP_FREE char *text = NULL;
	char path[96];
	unsigned khz = 0;
	size_t len;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/cpufreq/scaling_cur_freq", cpu);
	if (file_read(path, 64, &text, &len) < 0 || sscanf(text, "%u", &khz) != 1)
		return 0;
	return khz;
}

int evidence_read_thread(const char *proc, pid_t tid, struct evidence_thread *ret)
{
	struct evidence_thread e = {0};
	CLEANUP_FREE char *stat = read_file(proc, tid, "stat");
	CLEANUP_FREE char *status = read_file(proc, tid, "status");
	CLEANUP_FREE char *schedstat = read_file(proc, tid, "schedstat");
	CLEANUP_FREE char *sched = read_file(proc, tid, "sched");
	const char *behind = stat ? strrchr(stat, ')') : NULL;

	if (!behind)
		return -ENOENT;
	/* proc_pid_stat(5): state is field 3, minflt 10, majflt 12, processor 39. */
	if (sscanf(behind,
		   ") %*c %*d %*d %*d %*d %*d %*u %" SCNu64 " %*u %" SCNu64
		   " %*u %*u %*u %*d %*d %*d %*d %*d %*d %*u %*u %*d %*u %*u %*u %*u %*u %*u %*u "
		   "%*u %*u %*u %*u %*u %*u %*d %u",
		   &e.minor_faults, &e.major_faults, &e.cpu) != 3)
		e.minor_faults = e.major_faults = e.cpu = 0;
	if (status) {
		(void)number_of(status, "voluntary_ctxt_switches", &e.voluntary);
		(void)number_of(status, "nonvoluntary_ctxt_switches", &e.involuntary);
	}
	e.has_schedstat = schedstat && sscanf(schedstat, "%" SCNu64 " %" SCNu64, &e.run_ns,
					      &e.run_delay_ns) == 2;
	e.has_migrations = sched && number_of(sched, "se.nr_migrations", &e.migrations);
	*ret = e;
	return 0;
}

/* Some kernels measure it for as long as 10 ms. */
static int read_with_frequency(pid_t tid, struct evidence_thread *ret)
{
	int r = evidence_read_thread("/proc/self", tid, ret);

	if (r == 0)
		ret->khz = frequency(ret->cpu);
	return r;
}

static double host_load(void)
{
	double load[1] = {0};

	return getloadavg(load, 1) == 1 ? load[0] : 0;
}

uint64_t *evidence_read_stolen(const char *path)
{
	uint64_t *ticks = calloc(HOST_CPUS_MAX, sizeof(*ticks));
	CLEANUP_FREE char *line = NULL;
	FILE *f = fopen(path, "re"); /* of any length, and the CPUs' lines are its first */
	size_t len = 0;

	while (ticks && f && getline(&line, &len, f) > 0 && !strncmp(line, "cpu", 3)) {
		uint64_t stolen;
		unsigned cpu;

		if (sscanf(line, "cpu%u %*u %*u %*u %*u %*u %*u %*u %" SCNu64, &cpu, &stolen) ==
			    2 &&
		    cpu < HOST_CPUS_MAX)
			ticks[cpu] = stolen;
	}
	if (f)
		fclose(f);
	return ticks;
}

struct evidence_stolen evidence_stolen(const struct host_cpu_set *cpus, const uint64_t *before,
				       const uint64_t *after)
{
	struct evidence_stolen stolen = {0};

	for (unsigned cpu = 0; before && after && cpu < HOST_CPUS_MAX; cpu++) {
		/* One that went offline meanwhile has fewer. */
		uint64_t ticks = after[cpu] > before[cpu] ? after[cpu] - before[cpu] : 0;

		stolen.all += ticks;
		if (host_cpu_set_has(cpus, cpu))
			stolen.worst = MAX(stolen.worst, ticks);
	}
	return stolen;
}

/* ---- a run --------------------------------------------------------------------------------- */

int evidence_begin(struct evidence *e, const struct host_cpu_set *cpus, const pid_t *tid,
		   unsigned n, uint64_t threads_ns, bool read, bool command)
{
	struct evidence_thread *before = calloc(n, sizeof(*before));

	if (!before)
		return -ENOMEM;
	for (unsigned i = 0; read && i < n; i++)
		if (read_with_frequency(tid[i], &before[i]) < 0)
			before[i] = (struct evidence_thread){0};
	evidence_done(e);
	*e = (struct evidence){
		.before = before,
		.cpus = *cpus,
		.n = n,
		.began_ns = read ? now_ns() : threads_ns,
		.load = host_load(),
		.stolen = evidence_read_stolen(PROC_STAT),
		.since_command = read && command,
	};
	return 0;
}

json_t *evidence_thread_json(const struct evidence_thread *a, const struct evidence_thread *b)
{
	json_t *row =
		json_pack("{s:i, s:I, s:I, s:I, s:I}", "cpu", (int)b->cpu, "voluntary_switches",
			  (json_int_t)(b->voluntary - a->voluntary), "involuntary_switches",
			  (json_int_t)(b->involuntary - a->involuntary), "minor_faults",
			  (json_int_t)(b->minor_faults - a->minor_faults), "major_faults",
			  (json_int_t)(b->major_faults - a->major_faults));

	if (row && b->has_schedstat) {
		json_object_set_new(row, "run_ns",
				    json_integer((json_int_t)(b->run_ns - a->run_ns)));
		json_object_set_new(row, "run_delay_ns",
				    json_integer((json_int_t)(b->run_delay_ns - a->run_delay_ns)));
	}
	if (row && b->has_migrations)
		json_object_set_new(row, "migrations",
				    json_integer((json_int_t)(b->migrations - a->migrations)));
	if (row && a->khz && b->khz) {
		json_object_set_new(row, "khz_before", json_integer(a->khz));
		json_object_set_new(row, "khz_after", json_integer(b->khz));
	}
	return row;
}

/* worst_ns: of any vCPU; stolen_ticks: of any host CPU. */
static bool is_noisy(uint64_t wall_ns, uint64_t worst_ns, uint64_t stolen_ticks)
{
	uint64_t stolen_ns = stolen_ticks * (1000000000 / (uint64_t)sysconf(_SC_CLK_TCK));
	uint64_t most_ns = MIN(wall_ns / 1000 * NOISY_PER_MILLE, (uint64_t)NOISY_NS);

	return worst_ns > most_ns || stolen_ns > most_ns;
}

json_t *evidence_end(struct evidence *e, const pid_t *tid)
{
	uint64_t wall_ns = now_ns() - e->began_ns, run_delay_ns = 0, worst_ns = 0;
	CLEANUP_FREE uint64_t *ticks = evidence_read_stolen(PROC_STAT);
	const struct evidence_stolen stolen = evidence_stolen(&e->cpus, e->stolen, ticks);
	json_t *rows = json_array();
	json_t *json;

	for (unsigned i = 0; i < e->n; i++) {
		struct evidence_thread after;
		json_t *row;

		if (read_with_frequency(tid[i], &after) < 0)
			continue;
		run_delay_ns += after.run_delay_ns - e->before[i].run_delay_ns;
		worst_ns = MAX(worst_ns, after.run_delay_ns - e->before[i].run_delay_ns);
		row = evidence_thread_json(&e->before[i], &after);
		json_object_set_new(row, "vcpu", json_integer(i));
		json_array_append_new(rows, row);
	}
	json = json_pack("{s:s, s:I, s:I, s:b, s:f, s:f, s:I, s:I, s:o}", "since",
			 e->since_command ? "command" : "start", "wall_ns", (json_int_t)wall_ns,
			 "run_delay_ns", (json_int_t)run_delay_ns, "noisy",
			 (int)is_noisy(wall_ns, worst_ns, stolen.worst), "host_load_before",
			 e->load, "host_load_after", host_load(), "host_stolen_ticks",
			 (json_int_t)stolen.all, "worst_stolen_ticks", (json_int_t)stolen.worst,
			 "vcpus", rows);
	return json;
}

void evidence_done(struct evidence *e)
{
	free(e->before);
	free(e->stolen);
	*e = (struct evidence){0};
}
