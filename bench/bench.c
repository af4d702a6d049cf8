/* The frame of a benchmark program: rows, rounds, progress. Main thread. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "facts.h"

/* ---- rows and rounds ------------------------------------------------------------------- */

/* The first passes have what does not go into all. */
unsigned bench_share(const struct bench_options *o, unsigned rounds)
{
	const unsigned all = o->rounds ?: rounds;

	return o->pass ? all / o->passes + (o->pass <= all % o->passes) : all;
}

bool bench_row(struct bench *b, const struct results_spec *spec, unsigned rounds, struct error *err)
{
	const char *only = b->options.only;

	if (err->code < 0 || (only && strncmp(spec->name, only, strlen(only)) != 0))
		return false;
	b->rounds = bench_share(&b->options, rounds);
	b->row[1] = NULL;
	if (b->rounds == 0) {
		b->waits = true;
		return false;
	}
	return results_row_add(&b->results, spec, &b->row[0], err) == 0;
}

int bench_companion(struct bench *b, const struct results_spec *spec, struct error *err)
{
	return results_row_add(&b->results, spec, &b->row[1], err);
}

/* On a terminal one line that changes; else one for each row and pass. */
static void tell(const struct bench *b, size_t round)
{
	const char *name = b->row[0]->spec.name;
	char pass[48] = "";

	if (b->options.passes > 1)
		snprintf(pass, sizeof(pass), ", pass %u of %u", b->options.pass, b->options.passes);
	if (b->terminal)
		fprintf(stderr, "\r\033[K%s: round %zu of %u%s", name, round, b->rounds, pass);
	else if (round == 1)
		fprintf(stderr, "%s: %u round%s%s\n", name, b->rounds, b->rounds == 1 ? "" : "s",
			pass);
}

bool bench_round(struct bench *b, struct error *err)
{
	if (err->code < 0 || b->row[0]->rounds >= b->rounds) {
		if (b->terminal)
			fprintf(stderr, "\r\033[K");
		return false;
	}
	for (int i = 0; i < 2; i++)
		if (b->row[i] && results_round_begin(b->row[i], MAX(1, b->options.pass), err) < 0)
			return false;
	tell(b, b->row[0]->rounds);
	return true;
}

int bench_sample(struct bench *b, enum results_side side, double value, struct error *err)
{
	return results_add(b->row[0], side, value, err);
}

int bench_sample_companion(struct bench *b, enum results_side side, double value, struct error *err)
{
	return results_add(b->row[1], side, value, err);
}

void bench_left_out(const struct bench *b, const char *row, const char *fmt, ...)
{
	va_list args;

	if (b->options.pass > 1)
		return;
	fprintf(stderr, "%s: left out, ", row);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
}

/* ---- the host -------------------------------------------------------------------------- */

int bench_pin(const struct bench *b, int which, struct error *err)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (int i = 0; i < 2; i++)
		if (which < 0 || which == i)
			CPU_SET(b->options.cpu[i], &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		return error_set(err, -errno, "binding a thread to host CPU %d",
				 b->options.cpu[which < 0 ? 0 : which]);
	return 0;
}

int bench_kvm(struct error *err)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	return fd >= 0 ? fd : error_contention(err, "no /dev/kvm here (%s)", strerror(errno));
}

/* The first two CPUs that we may use; the same twice where there is one. */
static int choose_cpus(struct bench *b, struct error *err)
{
	cpu_set_t set;
	int found = 0;

	if (b->options.cpu[0] >= 0)
		return 0;
	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return error_set(err, -errno, "asking which host CPUs are ours");
	for (int cpu = 0; cpu < CPU_SETSIZE && found < 2; cpu++)
		if (CPU_ISSET(cpu, &set))
			b->options.cpu[found++] = cpu;
	if (found == 1)
		b->options.cpu[1] = b->options.cpu[0];
	return 0;
}

static void allow_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	/* Without it, a large shape says which limit it lacks. */
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* ---- main ------------------------------------------------------------------------------ */

static void on_end(int signo)
{
	signal(signo, SIG_DFL);
	kill(0, signo);
}

/* The runner gave this process a group of its own. Whatever ends the runner, SIGKILL too, ends the
 * group: machines are in it that nobody else would end. */
static void end_with_runner(void)
{
	struct sigaction action = {.sa_handler = on_end};

	if (getpgrp() != getpid())
		return;
	sigemptyset(&action.sa_mask);
	sigaction(SIGTERM, &action, NULL);
	/* One that is dead by now is not heard of: then this goes on to its end, as it did. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
}

static int measure(struct bench *b, const struct bench_program *program, struct error *err)
{
	int r = choose_cpus(b, err);

	if (r < 0)
		return r;
	b->results.host = facts_gather();
	if (!b->results.host)
		return error_set_shortage(err, -ENOMEM, "gathering facts");
	json_object_set_new(b->results.host, "pinned",
			    json_pack("[ii]", b->options.cpu[0], b->options.cpu[1]));
	if (b->options.pass == 0)
		json_object_set_new(b->results.host, "locks",
				    json_string("none: a benchmark alone takes none"));
	return program->run(b, err);
}

/* What was measured before a failure can't be had again. */
static void finish_failed(struct bench *b)
{
	struct error late = {0};

	results_drop_unfinished(&b->results);
	if (b->results.rows > 0 && bench_finish(&b->options, &b->results, &late) < 0)
		log_failure(&late);
}

int bench_main(const struct bench_program *program, int argc, char **argv)
{
	struct bench b = {.terminal = isatty(STDERR_FILENO)};
	char exe[PATH_MAX], usage[512];
	struct error err = {0};
	int rest, status, r = 0;
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	snprintf(usage, sizeof(usage), "usage: bench-%s [OPTIONS]\n\n%s\n", program->name,
		 program->about);
	if (bench_options_parse(&b.options, argc, argv, usage, &rest, &status))
		return status;
	if (b.options.list) {
		printf("%-10s %s\n", program->name, program->about);
		return 0;
	}
	signal(SIGPIPE, SIG_IGN);
	if (b.options.pass > 0)
		end_with_runner();
	allow_descriptors();
	if (n < 0)
		r = error_set(&err, -errno, "finding this program's folder");
	else if (b.options.passes > 0 && b.options.pass == 0)
		r = error_usage(&err, "--passes: for stasis bench; "
				      "a benchmark alone is one pass");
	else if (b.options.wait)
		r = error_usage(&err, "--wait: for stasis bench; a benchmark alone takes no locks");
	else if (rest < argc)
		r = error_usage(&err, "%s: no words are taken", argv[rest]);
	else
		r = bench_options_check(&b.options, &err);
	if (r == 0) {
		exe[n] = '\0';
		*strrchr(exe, '/') = '\0';
		b.folder = exe;
		r = measure(&b, program, &err);
	}
	if (r == 0 && b.results.rows == 0 && !b.waits)
		r = b.options.only
			    ? error_usage(&err, "no row's name begins with %s", b.options.only)
			    : error_contention(&err, "%s: no row of it can be measured here",
					       program->name);
	if (r == 0)
		r = bench_finish(&b.options, &b.results, &err);
	else
		finish_failed(&b);
	results_done(&b.results);
	if (r < 0)
		log_failure(&err);
	return r < 0 ? error_exit_status(&err) : 0;
}
