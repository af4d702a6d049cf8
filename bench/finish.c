/* Options of a benchmark, and what is made of its results at the end. Main thread. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/parse.h"
#include "bench.h"
#include "facts.h"
#include "report.h"
#include "vm/perf/host_cpus.h"

static const struct option longs[] = {
	{"rounds", required_argument, NULL, 'r'},
	{"passes", required_argument, NULL, 'q'},
	/* From the runner. */
	{"pass", required_argument, NULL, 'k'},
	{"cpus", required_argument, NULL, 'c'},
	{"wait", optional_argument, NULL, 'W'},
	{"json", required_argument, NULL, 'j'},
	{"plot", required_argument, NULL, 'p'},
	{"compare", required_argument, NULL, 'o'},
	{"only", required_argument, NULL, 'n'},
	{"stasis", required_argument, NULL, 's'},
	{"work", required_argument, NULL, 'w'},
	{"list", no_argument, NULL, 'l'},
	{"help", no_argument, NULL, 'h'},
	{0},
};

static const char options_help[] =
	"      --rounds N      rounds of each row in all, floor and product by turns\n"
	"      --only PREFIX   only rows whose name begins so\n"
	"      --cpus A,B      host CPUs: of the vCPU, of the control thread\n"
	"      --json FILE     raw samples, facts of the host\n"
	"      --plot FILE     ratios as SVG\n"
	"      --compare FILE  earlier results: faster, slower, or no difference seen\n"
	"      --work FOLDER   where files for I/O go, 64 MiB of them (default: $TMPDIR, /tmp)\n"
	"      --stasis FILE   the program to measure (default: the one beside)\n"
	"  -h, --help          this\n";

struct cpus {
	int cpu[2];
	unsigned n;
};

static int add_cpu(uint64_t cpu, void *arg)
{
	struct cpus *cpus = arg;

	if (cpus->n == ARRAY_SIZE(cpus->cpu))
		return -ERANGE;
	cpus->cpu[cpus->n++] = (int)cpu;
	return 0;
}

/* "2/5": a share of the rounds is asked for. */
static bool take_pass(struct bench_options *o, const char *value)
{
	const char *of = strchr(value, '/');
	char which[16];
	uint64_t pass, passes;

	if (!of || (size_t)(of - value) >= sizeof(which))
		return false;
	memcpy(which, value, (size_t)(of - value));
	which[of - value] = '\0';
	if (parse_uint(of + 1, 1, 1000, &passes) < 0 || parse_uint(which, 1, passes, &pass) < 0)
		return false;
	o->pass = (unsigned)pass;
	o->passes = (unsigned)passes;
	return true;
}

static bool take(struct bench_options *o, int letter, const char *value)
{
	struct cpus cpus = {0};
	uint64_t n;

	switch (letter) {
	case 'r':
		if (parse_uint(value, 1, 1000000, &n) < 0)
			return false;
		o->rounds = (unsigned)n;
		return true;
	case 'q':
		if (parse_uint(value, 1, 1000, &n) < 0)
			return false;
		o->passes = (unsigned)n;
		return true;
	case 'k':
		return take_pass(o, value);
	case 'c':
		if (parse_list(value, 65535, add_cpu, &cpus) < 0 || cpus.n != 2)
			return false;
		memcpy(o->cpu, cpus.cpu, sizeof(o->cpu));
		return true;
	case 'W':
		o->wait = true;
		o->wait_ns = 0;
		return !value || (parse_duration(value, &o->wait_ns) == 0 && o->wait_ns > 0);
	case 'j':
		o->json = value;
		return true;
	case 'p':
		o->plot = value;
		return true;
	case 'o':
		o->compare = value;
		return true;
	case 'n':
		o->only = value;
		return true;
	case 's':
		o->stasis = value;
		return true;
	case 'w':
		o->work = value;
		return true;
	case 'l':
		o->list = true;
		return true;
	default:
		o->help = letter == 'h';
		return o->help;
	}
}

/* What an option takes whose value can be wrong. */
static const char *accepted(int letter)
{
	switch (letter) {
	case 'r':
		return "1 to 1000000";
	case 'q':
		return "1 to 1000";
	case 'k':
		return "K/N, the K-th of N passes";
	case 'W':
		return "a duration such as 500ms, 30s or 5m";
	default:
		return "two host CPUs, A,B";
	}
}

int bench_options_parse(struct bench_options *o, int argc, char **argv, const char *usage,
			int *ret_rest, int *ret_status)
{
	struct error err = {0};
	int letter, at = 0;

	*o = (struct bench_options){.cpu = {-1, -1}};
	opterr = 0;
	while ((letter = getopt_long(argc, argv, "h", longs, &at)) >= 0) {
		if (take(o, letter, optarg))
			continue;
		if (optarg)
			error_usage(&err, "--%s %s: not %s", longs[at].name, optarg,
				    accepted(letter));
		else
			error_usage(&err, "%s: no such option, or its value is missing",
				    argv[optind - 1]);
		log_failure(&err);
		*ret_status = error_exit_status(&err);
		return 1;
	}
	*ret_rest = optind;
	if (!o->help)
		return 0;
	printf("%s\n%s", usage, options_help);
	*ret_status = 0;
	return 1;
}

static int check_writable(const char *path, struct error *err)
{
	CLEANUP_FD int fd = path ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666) : -1;

	return path && fd < 0 ? error_set(err, -errno, "writing %s", path) : 0;
}

/* One CPU for both threads is what there is where we may use one. */
static int check_cpus(const struct bench_options *o, struct error *err)
{
	struct host_cpu_set ours;
	char list[128];
	int r;

	if (o->cpu[0] < 0)
		return 0;
	r = host_cpu_set_allowed(&ours, err);
	if (r < 0)
		return r;
	host_cpu_set_text(&ours, list, sizeof(list));
	for (int i = 0; i < 2; i++)
		if (!host_cpu_set_has(&ours, (unsigned)o->cpu[i]))
			return error_usage(err,
					   "--cpus %d,%d: host CPU %d is not one that stasis may "
					   "use here: %s",
					   o->cpu[0], o->cpu[1], o->cpu[i], list);
	if (o->cpu[0] == o->cpu[1] && host_cpu_set_count(&ours) > 1)
		return error_usage(err, "--cpus %d,%d: two different host CPUs are needed, of %s",
				   o->cpu[0], o->cpu[1], list);
	return 0;
}

int bench_options_check(const struct bench_options *o, struct error *err)
{
	struct results before = {0};
	int r = check_cpus(o, err);

	if (r == 0 && o->compare)
		r = results_load(&before, o->compare, err);
	results_done(&before);
	if (r == 0)
		r = check_writable(o->json, err);
	return r < 0 ? r : check_writable(o->plot, err);
}

/* ---- the end --------------------------------------------------------------------------- */

static int write_json(const char *path, const struct results *r, struct error *err)
{
	json_t *json = results_to_json(r);
	int e = 0;

	if (!json)
		return error_set_shortage(err, -ENOMEM, "writing %s", path);
	errno = 0;
	if (json_dump_file(json, path, JSON_COMPACT | JSON_REAL_PRECISION(8)) < 0)
		e = error_set(err, errno ? -errno : -EIO, "writing %s", path);
	json_decref(json);
	return e;
}

static int write_plot(const char *path, const struct report_row *rows, size_t n, const json_t *host,
		      struct error *err)
{
	FILE *out = fopen(path, "we");
	bool failed;

	if (!out)
		return error_set(err, -errno, "writing %s", path);
	report_plot_svg(out, rows, n, host);
	failed = ferror(out) != 0;
	if (fclose(out) != 0 || failed)
		return error_set(err, errno ? -errno : -EIO, "writing %s", path);
	return 0;
}

static int compare(const char *path, const struct results *now, struct error *err)
{
	struct results before = {0};
	int e = results_load(&before, path, err);

	if (e == 0) {
		printf("\nagainst %s\n", path);
		e = report_compare(stdout, &before, path, now, err);
	}
	results_done(&before);
	return e;
}

/* The first failure is who called's to tell; further ones are told here. */
static int keep_first(int failed, struct error *one, struct error *err)
{
	if (failed < 0 && err->code < 0)
		log_failure(one);
	else if (failed < 0)
		*err = *one;
	*one = (struct error){0};
	return err->code;
}

int bench_finish(const struct bench_options *o, const struct results *r, struct error *err)
{
	CLEANUP_FREE struct report_row *rows = NULL;
	struct error one = {0};
	char line[256];
	size_t n;

	/* Samples first: they are what can't be had again. And what can't be written takes nothing
	 * else with it. */
	if (o->json)
		keep_first(write_json(o->json, r, &one), &one, err);
	if (keep_first(report_make(r, &rows, &n, &one), &one, err) < 0 && !rows)
		return err->code;
	if (o->plot)
		keep_first(write_plot(o->plot, rows, n, r->host, &one), &one, err);
	facts_line(r->host, line, sizeof(line));
	printf("%s\n\n", line);
	if (isatty(STDOUT_FILENO))
		report_plot_text(stdout, rows, n);
	if (o->compare)
		keep_first(compare(o->compare, r, &one), &one, err);
	report_print(stdout, rows, n);
	if (fflush(stdout) != 0 || ferror(stdout))
		keep_first(error_set(&one, errno ? -errno : -EIO, "writing the table"), &one, err);
	return err->code;
}
