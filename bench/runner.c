/* stasis-bench: finds the benchmark programs beside itself, runs them one after another, in several
 * passes, and makes one result of all. `stasis bench` is this. */
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/parse.h"
#include "base/text.h"
#include "bench.h"
#include "hold.h"
#include "spawned.h"

#define PREFIX	 "bench-"
#define PROGRAMS 32
#define SKIPPED	 77

struct programs {
	char *path[PROGRAMS]; /* malloc'ed; by name */
	size_t n;
};

/* "exit" of ".../bench-exit". */
static const char *name_of(const char *path)
{
	return strrchr(path, '/') + 1 + strlen(PREFIX);
}

/* "bench-exit", but not what they measure, nor a guest. */
static bool is_program(const char *name)
{
	return !strncmp(name, PREFIX, strlen(PREFIX)) && strcmp(name, PREFIX "stasis") &&
	       !strchr(name, '.');
}

/* What is in folder, and in a build tree one level below: an architecture's. */
static void collect(struct programs *p, const char *folder, bool below)
{
	DIR *dir = opendir(folder);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		char *path = text_format("%s/%s", folder, entry->d_name);
		bool take = path && p->n < PROGRAMS && is_program(entry->d_name) &&
			    entry->d_type != DT_DIR && access(path, X_OK) == 0;

		if (take)
			p->path[p->n++] = path;
		else if (path && below && entry->d_type == DT_DIR && entry->d_name[0] != '.')
			collect(p, path, false);
		if (!take)
			free(path);
	}
	if (dir)
		closedir(dir);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(name_of(*(char *const *)a), name_of(*(char *const *)b));
}

static int find_all(struct programs *p, struct error *err)
{
	char exe[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	if (n < 0)
		return error_set(err, -errno, "finding the benchmarks");
	exe[n] = '\0';
	*strrchr(exe, '/') = '\0';
	collect(p, exe, true);
	qsort(p->path, p->n, sizeof(p->path[0]), by_name);
	return p->n > 0 ? 0 : error_set(err, -ENOENT, "finding benchmarks in %s", exe);
}

/* A program that is to run in each pass, for these rows. */
struct job {
	const char *path, *only; /* only: rows that begin so; NULL: all */
	bool left_out;		 /* it can't run here, and has said why */
};

static bool has_content(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && st.st_size > 0;
}

static int measure(const struct bench_options *o, struct job *job, unsigned pass, unsigned passes,
		   struct results *all, struct error *err)
{
	CLEANUP_FREE char *json = text_format("%s/json", o->work);
	const char *argv[16] = {job->path, "--json", json};
	char rounds[16], cpus[32], which[32];
	struct error late = {0};
	size_t n = 3;
	int r;

	if (!json)
		return error_set_shortage(err, -ENOMEM, "naming a file");
	snprintf(rounds, sizeof(rounds), "%u", o->rounds);
	snprintf(cpus, sizeof(cpus), "%d,%d", o->cpu[0], o->cpu[1]);
	snprintf(which, sizeof(which), "%u/%u", pass, passes);
	const char *const passed[][2] = {
		{"--pass", which},
		{"--rounds", o->rounds ? rounds : NULL},
		{"--cpus", o->cpu[0] >= 0 ? cpus : NULL},
		{"--only", job->only},
		{"--work", o->work},
		{"--stasis", o->stasis},
	};

	for (size_t i = 0; i < ARRAY_SIZE(passed); i++) {
		if (!passed[i][1])
			continue;
		argv[n++] = passed[i][0];
		argv[n++] = passed[i][1];
	}
	r = spawned_run((char *const *)argv, false, err);
	job->left_out = r == SKIPPED;
	/* It is not asked again, so this is said once. */
	if (job->left_out && pass > 1)
		fprintf(stderr, "%s: left out from pass %u on: its rows are of %u pass%s\n",
			name_of(job->path), pass, pass - 1, pass == 2 ? "" : "es");
	/* One that failed has written what it had by then; or nothing. */
	if (r > 0 && r != SKIPPED && has_content(json) && results_load(all, json, &late) < 0)
		log_failure(&late);
	if (r == 0)
		r = results_load(all, json, err);
	else if (r == SKIPPED)
		r = 0;
	else if (r > 0)
		r = spawned_failed(job->path, r, err);
	unlink(json);
	return r;
}

/* word: a program's name, or the beginning of rows' names, which begin with the program's. */
static int find_job(const struct bench_options *o, const struct programs *p, const char *word,
		    struct job *ret_job, struct error *err)
{
	const char *names[PROGRAMS], *nearest;
	size_t len = strcspn(word, ".");

	for (size_t i = 0; i < p->n; i++) {
		names[i] = name_of(p->path[i]);
		if (strlen(names[i]) == len && !strncmp(names[i], word, len)) {
			*ret_job = (struct job){.path = p->path[i],
						.only = word[len] ? word : o->only};
			return 0;
		}
	}
	nearest = parse_nearest(word, names, p->n);
	if (nearest)
		return error_usage(err, "%s: no such benchmark; did you mean %s?", word, nearest);
	return error_usage(err, "%s: no such benchmark; --list lists them", word);
}

/* All jobs in a pass before any in the next, so that what lasts a minute is in one pass of a row.
 */
static int run_jobs(const struct bench_options *o, struct job *jobs, size_t n, struct results *all,
		    struct error *err)
{
	unsigned passes = o->passes ?: BENCH_PASSES;
	int r = 0;

	if (o->rounds)
		passes = MIN(passes, o->rounds);
	for (unsigned pass = 1; r == 0 && pass <= passes; pass++) {
		for (size_t i = 0; r == 0 && i < n; i++)
			if (!jobs[i].left_out)
				r = measure(o, &jobs[i], pass, passes, all, err);
		if (r < 0 && all->rows > 0)
			fprintf(stderr,
				"ended in pass %u of %u: what follows was measured until then\n",
				pass, passes);
	}
	return r;
}

static int remove_one(const char *path, const struct stat *st UNUSED, int type UNUSED,
		      struct FTW *at UNUSED)
{
	return remove(path);
}

/* On host CPUs that no performance run has. Whatever ends a program in the middle, what it made in
 * its folder goes. */
static int run_held(const struct bench_options *options, struct job *jobs, size_t n,
		    struct results *all, struct error *err)
{
	struct bench_options o = *options;
	struct hold hold = HOLD_NONE;
	const char *under = o.work ?: getenv("TMPDIR") ?: "/tmp";
	CLEANUP_FREE char *folder = text_format("%s/stasis-bench-XXXXXX", under);
	int r = hold_take(&hold, &o, err);

	if (r < 0)
		goto out;
	/* Whoever waits above is ended by a signal as it comes. */
	spawned_init();
	if (!folder || !mkdtemp(folder)) {
		r = error_set_shortage(err, folder ? -errno : -ENOMEM, "making a folder in %s",
				       under);
		goto out;
	}
	o.work = folder;
	r = run_jobs(&o, jobs, n, all, err);
	nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	hold_tell(&hold, all->host);
out:
	hold_done(&hold);
	return r;
}

static int run(const struct bench_options *o, const struct programs *p, int words, char **word,
	       struct error *err)
{
	size_t n = words > 0 ? (size_t)words : o->only ? 1 : p->n;
	CLEANUP_FREE struct job *jobs = calloc(n, sizeof(*jobs));
	struct results all = {0};
	int r = jobs ? 0 : error_set_shortage(err, -ENOMEM, "running benchmarks");

	for (size_t i = 0; r == 0 && i < n; i++) {
		if (words > 0 || o->only)
			r = find_job(o, p, words > 0 ? word[i] : o->only, &jobs[i], err);
		else
			jobs[i] = (struct job){.path = p->path[i]};
	}
	if (r == 0)
		r = run_held(o, jobs, n, &all, err);
	if (r == 0 && all.rows == 0)
		r = error_contention(err, "none of these benchmarks can run here");
	/* What was measured before a failure, or a signal, can't be had again. */
	if (all.rows > 0) {
		struct error late = {0};

		if (bench_finish(o, &all, r < 0 ? &late : err) < 0) {
			if (r < 0)
				log_failure(&late);
			else
				r = err->code;
		}
	}
	results_done(&all);
	return r;
}

static int list(const struct programs *p, struct error *err)
{
	spawned_init();
	for (size_t i = 0; i < p->n; i++) {
		char *const argv[] = {p->path[i], (char[]){"--list"}, NULL};
		int r = spawned_run(argv, true, err);

		if (r != 0)
			return r < 0 ? r : spawned_failed(p->path[i], r, err);
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const char usage[] =
		"usage: stasis bench [OPTIONS] [NAME…]\n\n"
		"Measures stasis against the least that the same operation takes (its floor), by\n"
		"turns. NAME is a benchmark, or the beginning of its rows' names; without, all "
		"are\n"
		"run: each in every pass, in a process of its own. That takes minutes; linux boots "
		"a\n"
		"lab where this host's KVM boots no Linux.\n\n"
		"      --list          what there is\n"
		"      --passes N      over how many passes the rounds are spread (default: 5)\n"
		"      --wait[=TIME]   wait for host CPUs that performance runs have, else status "
		"77";
	struct programs programs = {0};
	struct bench_options options;
	struct error err = {0};
	int rest, status, r;

	if (bench_options_parse(&options, argc, argv, usage, &rest, &status))
		return status;
	signal(SIGPIPE, SIG_IGN);
	r = find_all(&programs, &err);
	if (r == 0 && options.pass > 0)
		r = error_usage(&err, "--pass: for one benchmark's program; "
				      "stasis bench takes --passes");
	if (r == 0)
		r = bench_options_check(&options, &err);
	if (r == 0)
		r = options.list ? list(&programs, &err)
				 : run(&options, &programs, argc - rest, argv + rest, &err);
	for (size_t i = 0; i < programs.n; i++)
		free(programs.path[i]);
	spawned_die();
	if (r < 0)
		log_failure(&err);
	return r < 0 ? error_exit_status(&err) : 0;
}
