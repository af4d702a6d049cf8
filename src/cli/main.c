/* The stasis program: finds the subcommand. */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "base/parse.h"
#include "cli/commands.h"

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help; /* NULL: internal */
} commands[] = {
	{"run", command_run, "boot a kernel on any CPU shape and run a command in it"},
	{"doctor", command_doctor, "what this host can do, what it can't, and what mends it"},
	{"list", command_list, "running VMs"},
	{"status", command_status, "how a running VM is"},
	{"freeze", command_freeze, "hold a running VM still"},
	{"thaw", command_thaw, "let it go on"},
	{"dump", command_dump, "what every vCPU of a running VM does, as JSON"},
	{"vmcore", command_vmcore, "a running VM's memory and registers, for crash, drgn, gdb"},
	{"stats", command_stats, "what a running VM's exits cost, and where its vCPUs' time goes"},
	{"top", command_top, "the same live"},
	{"profile", command_profile,
	 "where a running VM's time goes: functions, stacks, scheduling"},
	{"compare", command_compare, "which of two runs is dearer, and by how much"},
	{"snapshot", command_snapshot, "save a running VM into a folder"},
	{"restore", command_restore, "let it go on from there, as often as you like"},
	{"exec", command_exec, "another command in a running VM"},
	{"locks", command_locks, "which VMs hold which host CPUs and caches"},
	{"report", command_report, "one page of what a run left behind, for a browser"},
	{"bench", command_bench, "what stasis costs, against the least that it could"},
	{"topology", command_topology, "a CPU shape as a drawing, as JSON, as ACPI tables"},
	{"kernel", command_kernel, "kernels in the cache: get, build, list"},
	{"lab", command_lab, "keep a lab running, for hosts that can't run stock kernels"},
	{"lab-agent", command_lab_agent, NULL},
	{"lab-pipe", command_lab_pipe, NULL},
	{"lab-snapshot", command_lab_snapshot, NULL},
};

static void print_help(void)
{
	printf("stasis %s: a virtual machine monitor for people who work on the Linux scheduler\n\n"
	       "usage: stasis COMMAND [OPTIONS]\n\n",
	       STASIS_VERSION);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (commands[i].help)
			printf("  %-10s %s\n", commands[i].name, commands[i].help);
	printf("\n  stasis run -- uname -r     is a good start; stasis COMMAND --help says more\n");
}

int command_failed(const struct error *err)
{
	log_failure(err);
	return error_exit_status(err);
}

/* Descriptors 0 to 2 exist, whoever started us; more descriptors are allowed than by default. */
static void prepare_process(void)
{
	struct rlimit limit;
	int fd;

	/* A stream that was closed has no input and takes no output. */
	do
		fd = open("/dev/null", O_RDONLY);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
	/* What a caller left open is not for the programs that we start. */
	close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC);
	/* A reader that goes away is an error of that write, not our end. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* as a full disk: the write fails */
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		/* Without it, a large shape says which limit it lacks. */
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* What was printed has been written, or the status says that it was not. A reader that went away
 * wanted no more. */
static int flushed(int status)
{
	struct error err = {0};

	errno = 0;
	if ((fflush(stdout) == 0 && !ferror(stdout)) || errno == EPIPE)
		return status;
	error_set(&err, errno ? -errno : -EIO, "writing to standard output");
	log_failure(&err);
	return 125;
}

static int unknown(const char *word)
{
	const char *names[ARRAY_SIZE(commands)];
	struct error err = {0};
	const char *nearest;

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		names[i] = commands[i].name;
	nearest = parse_nearest(word, names, ARRAY_SIZE(commands));
	if (nearest)
		error_usage(&err, "%s: no such command; did you mean %s?", word, nearest);
	else
		error_usage(&err, "%s: no such command; stasis --help lists them", word);
	return command_failed(&err);
}

static int run_command(int argc, char **argv)
{
	if (argc < 2) {
		print_help();
		return 125;
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].run(argc - 1, argv + 1);
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		print_help();
		return 0;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "version")) {
		printf("stasis %s\n", STASIS_VERSION);
		return 0;
	}
	return unknown(argv[1]);
}

int main(int argc, char **argv)
{
	prepare_process();
	return flushed(run_command(argc, argv));
}
