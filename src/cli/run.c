/* stasis run: options to a configuration, then a machine here or in the lab. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beside.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/text.h"
#include "base/util.h"
#include "cli/commands.h"
#include "cli/lab_run.h"
#include "cli/options.h"
#include "cli/profile_option.h"
#include "cli/run_here.h"
#include "guest/topology_request.h"
#include "vm/doctor.h"
#include "vm/kernels.h"
#include "vm/monitor.h"
#include "vm/profile_out.h"
#include "vm/record.h"
#include "vm/vm.h"

#define DEFAULT_MEMORY GIB(1)

struct run_request {
	struct vm_config config;
	char *kernel; /* as asked, or NULL */
	struct topology_request shape;
	char *pin;
	enum { LAB_AUTO, LAB_ALWAYS, LAB_NEVER } lab;
	bool in_lab, dry_run, help, session_given;
};

static int keep(char **field, const char *value)
{
	char *copy = strdup(value);

	if (!copy)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

static int set_kernel(void *target, const char *value, struct error *err UNUSED)
{
	return keep(&((struct run_request *)target)->kernel, value);
}

static int set_arch(void *target, const char *value, struct error *err)
{
	struct run_request *q = target;

	q->config.kind = arch_kind_find(value);
	return q->config.kind ? 0 : error_usage(err, "%s: x86_64 or aarch64 is accepted", value);
}

static int set_initrd(void *target, const char *value, struct error *err UNUSED)
{
	return keep(&((struct run_request *)target)->config.initrd, value);
}

/* A path without links but for its last name, which is the one that was asked for; malloc'ed. */
static char *named_path(const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	CLEANUP_FREE char *folder =
		slash > path ? strndup(path, (size_t)(slash - path)) : strdup(slash ? "/" : ".");
	CLEANUP_FREE char *real = NULL;

	if (!name[0] || !strcmp(name, ".") || !strcmp(name, ".."))
		return realpath(path, NULL);
	real = folder ? realpath(folder, NULL) : NULL;
	return real ? text_format("%s/%s", strcmp(real, "/") != 0 ? real : "", name) : NULL;
}

static int set_include(void *target, const char *value, struct error *err)
{
	struct vm_config *c = &((struct run_request *)target)->config;
	const char *colon = strrchr(value, ':');
	struct vm_include *more;
	struct vm_include add = {0};

	if (colon && colon[1] != '/')
		return error_usage(err, "%s: the place in the guest starts with '/'", value);
	add.src = colon ? strndup(value, (size_t)(colon - value)) : named_path(value);
	if (add.src)
		add.dst = strdup(colon ? colon + 1 : add.src);
	if (add.dst && !strcmp(add.dst, "/init")) {
		free(add.src);
		free(add.dst);
		return error_usage(err,
				   "%s: /init in the guest is stasis's own; with --initrd, an "
				   "initramfs brings its own",
				   value);
	}
	if (!add.src || !add.dst || access(add.src, R_OK) < 0 || !add.dst[1]) {
		error_usage(err, "%s: %s", value,
			    add.dst && !add.dst[1] ? "needs a place in the guest other than /"
						   : strerror(errno));
		free(add.src);
		free(add.dst);
		return -EINVAL;
	}
	more = reallocarray(c->includes, c->include_count + 1, sizeof(*more));
	if (!more) {
		free(add.src);
		free(add.dst);
		return error_set(err, -ENOMEM, "reading --include");
	}
	c->includes = more;
	c->includes[c->include_count++] = add;
	return 0;
}

static bool is_same_file(const char *a, const char *b)
{
	struct stat x, y;

	return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static int set_disk(void *target, const char *value, struct error *err)
{
	struct vm_config *c = &((struct run_request *)target)->config;
	struct vm_disk disk;
	int r = vm_disk_parse(value, c->disk_count, &disk, err);

	for (size_t i = 0; r == 0 && i < c->disk_count; i++) {
		const struct vm_disk *d = &c->disk[i];

		if (!strcmp(d->id, disk.id))
			r = error_usage(err, "%s: another disk has the id %s", value, d->id);
		else if ((!d->read_only || !disk.read_only) && is_same_file(d->path, disk.path))
			r = error_usage(err,
					"%s: the disk %s is the same file; that takes ,ro of both",
					value, d->id);
		if (r < 0)
			vm_disk_done(&disk);
	}
	if (r == 0)
		c->disk[c->disk_count++] = disk;
	return r;
}

static int set_net(void *target, const char *value, struct error *err)
{
	struct vm_config *c = &((struct run_request *)target)->config;
	int r;

	if (c->net_count == VM_MAX_NETS)
		return error_usage(err, "%s: more than %u networks", value, VM_MAX_NETS);
	r = vm_net_parse(value, &c->net[c->net_count], err);
	if (r == 0)
		c->net_count++;
	return r;
}

static int set_modules(void *target, const char *value, struct error *err)
{
	if (access(value, R_OK | X_OK) < 0)
		return error_usage(err, "%s: %s", value, strerror(errno));
	return keep(&((struct run_request *)target)->config.modules, value);
}

static int set_topology(void *target, const char *value, struct error *err UNUSED)
{
	((struct run_request *)target)->shape.spec = value;
	return 0;
}

static int set_cpus(void *target, const char *value, struct error *err)
{
	struct run_request *q = target;
	uint64_t cpus;

	if (parse_uint(value, 1, TOPOLOGY_MAX_VCPUS, &cpus) < 0)
		return error_usage(err, "%s: a number from 1 to %u is accepted", value,
				   TOPOLOGY_MAX_VCPUS);
	q->shape.cpus = (unsigned)cpus;
	return 0;
}

static int set_numa_node(void *target, const char *value, struct error *err)
{
	return topology_request_node(&((struct run_request *)target)->shape, value, err);
}

static int set_numa_distance(void *target, const char *value, struct error *err)
{
	return topology_request_distance(&((struct run_request *)target)->shape, value, err);
}

static int set_memory(void *target, const char *value, struct error *err)
{
	uint64_t *memory = &((struct run_request *)target)->shape.memory_bytes;

	if (parse_size(value, memory) < 0 || *memory == 0)
		return error_usage(err, "%s: a size such as 512M or 4G is accepted", value);
	return 0;
}

static int set_append(void *target, const char *value, struct error *err)
{
	struct vm_config *c = &((struct run_request *)target)->config;
	char *both;

	if (!c->append)
		return keep(&c->append, value);
	both = text_format("%s %s", c->append, value);
	if (!both)
		return error_set(err, -ENOMEM, "reading --append");
	free(c->append);
	c->append = both;
	return 0;
}

static int set_pin(void *target, const char *value, struct error *err UNUSED)
{
	return keep(&((struct run_request *)target)->pin, value);
}

static int set_perf(void *target, const char *value, struct error *err)
{
	enum perf_mode *mode = &((struct run_request *)target)->config.perf.mode;

	if (value && strcmp(value, "relaxed"))
		return error_usage(err, "%s: --perf alone or --perf=relaxed is accepted", value);
	*mode = value ? PERF_RELAXED : PERF_STRICT;
	return 0;
}

static int set_wait(void *target, const char *value, struct error *err)
{
	struct perf_request *perf = &((struct run_request *)target)->config.perf;

	perf->wait = true;
	perf->wait_ns = 0;
	if (value && (parse_duration(value, &perf->wait_ns) < 0 || perf->wait_ns == 0))
		return error_usage(err, "%s: a duration such as 500ms, 30s or 5m is accepted",
				   value);
	return 0;
}

static int set_cpus_budget(void *target, const char *value, struct error *err)
{
	uint64_t n;

	if (parse_uint(value, 1, HOST_CPUS_MAX, &n) < 0)
		return error_usage(err, "%s: 1 to %d host CPUs are accepted", value, HOST_CPUS_MAX);
	((struct run_request *)target)->config.perf.cpus_budget = (unsigned)n;
	return 0;
}

static int set_duration(uint64_t *ret_ns, const char *value, struct error *err)
{
	uint64_t ns;

	if (parse_duration(value, &ns) < 0 || ns == 0)
		return error_usage(err, "%s: a duration such as 500ms, 30s or 5m is accepted",
				   value);
	*ret_ns = ns;
	return 0;
}

static int set_timeout(void *target, const char *value, struct error *err)
{
	return set_duration(&((struct run_request *)target)->config.timeout_ns, value, err);
}

static int set_freeze_at(void *target, const char *value, struct error *err)
{
	return set_duration(&((struct run_request *)target)->config.freeze_at_ns, value, err);
}

/* Internal, for tests of frozen time. */
static int set_freeze_for(void *target, const char *value, struct error *err)
{
	return set_duration(&((struct run_request *)target)->config.freeze_for_ns, value, err);
}

static int set_watch(void *target, const char *value, struct error *err)
{
	struct vm_config *c = &((struct run_request *)target)->config;
	int r;

	if (c->watch_count == VM_MAX_WATCHES)
		return error_usage(err, "%s: %d at most, besides --watch-scx", value,
				   VM_MAX_WATCHES);
	r = watch_expr_parse(value, &c->watch[c->watch_count], err);
	c->watch_count += r == 0;
	return r;
}

static int set_on_hit(void *target, const char *value, struct error *err)
{
	struct vm_config *c = &((struct run_request *)target)->config;

	for (enum vm_on_hit on_hit = VM_ON_HIT_DUMP; on_hit <= VM_ON_HIT_LOG; on_hit++)
		if (!strcmp(value, vm_on_hit_name(on_hit))) {
			c->on_hit = on_hit;
			return 0;
		}
	return error_usage(err, "%s: dump, freeze or log is accepted", value);
}

static int set_monitor(void *target, const char *value, struct error *err)
{
	uint64_t *ns = &((struct run_request *)target)->config.monitor_ns;

	*ns = MONITOR_INTERVAL_NS;
	if (value && (parse_duration(value, ns) < 0 || *ns < MONITOR_INTERVAL_LEAST_NS))
		return error_usage(err, "%s: a duration from 10ms on is accepted", value);
	return 0;
}

static int set_on_stall(void *target, const char *value, struct error *err)
{
	struct vm_config *c = &((struct run_request *)target)->config;

	for (enum vm_on_stall s = VM_ON_STALL_LOG; s <= VM_ON_STALL_FREEZE; s++)
		if (!strcmp(value, vm_on_stall_name(s))) {
			c->on_stall = s;
			return 0;
		}
	return error_usage(err, "%s: log, dump or freeze is accepted", value);
}

static int set_name(void *target, const char *value, struct error *err UNUSED)
{
	return keep(&((struct run_request *)target)->config.name, value);
}

static int set_report(void *target, const char *value, struct error *err UNUSED)
{
	return keep(&((struct run_request *)target)->config.report, value);
}

/* Where a file is to be made: told early if it can't be. *field: of the configuration. */
static int keep_output(char **field, const char *value, struct error *err)
{
	int r = beside_check(value);

	if (r < 0)
		return error_usage(err, "%s: %s", value,
				   r == -ENOTSUP ? "a file is accepted" : strerror(-r));
	return keep(field, value);
}

static int set_dump(void *target, const char *value, struct error *err)
{
	return keep_output(&((struct run_request *)target)->config.dump, value, err);
}

static int set_vmcore(void *target, const char *value, struct error *err)
{
	return keep_output(&((struct run_request *)target)->config.vmcore, value, err);
}

static int set_monitor_out(void *target, const char *value, struct error *err UNUSED)
{
	return keep(&((struct run_request *)target)->config.monitor_out, value);
}

static int set_profile(void *target, const char *value, struct error *err)
{
	unsigned *hz = &((struct run_request *)target)->config.profile_hz;

	*hz = PROFILE_HZ_DEFAULT;
	return value ? profile_hz_parse(value, hz, err) : 0;
}

static int set_profile_out(void *target, const char *value, struct error *err)
{
	int r = profile_path_check(value, err);

	return r < 0 ? r
		     : keep_output(&((struct run_request *)target)->config.profile_out, value, err);
}

static int set_record(void *target, const char *value, struct error *err)
{
	int r = record_check(value, err);

	return r < 0 ? r : keep(&((struct run_request *)target)->config.record, value);
}

/* Internal, from the outer stasis to the one in the lab: of a record. */
static int set_trace_out(void *target, const char *value, struct error *err)
{
	return keep_output(&((struct run_request *)target)->config.trace_out, value, err);
}

static int set_qmp(void *target, const char *value, struct error *err UNUSED)
{
	return keep(&((struct run_request *)target)->config.qmp, value);
}

static int set_lab(void *target, const char *value UNUSED, struct error *err UNUSED)
{
	((struct run_request *)target)->lab = LAB_ALWAYS;
	return 0;
}

static int set_no_lab(void *target, const char *value UNUSED, struct error *err UNUSED)
{
	((struct run_request *)target)->lab = LAB_NEVER;
	return 0;
}

static int set_verbose(void *target, const char *value UNUSED, struct error *err UNUSED)
{
	((struct run_request *)target)->config.verbosity++;
	return 0;
}

static int set_quiet(void *target, const char *value UNUSED, struct error *err UNUSED)
{
	((struct run_request *)target)->config.verbosity = -1;
	return 0;
}

static int set_window(void *target, const char *value, struct error *err)
{
	struct vm_config *c = &((struct run_request *)target)->config;

	if (sscanf(value, "%hux%hu", &c->window_cols, &c->window_rows) != 2)
		return error_usage(err, "%s: COLSxROWS is accepted", value);
	return 0;
}

static int set_kernel_name(void *target, const char *value, struct error *err UNUSED)
{
	return keep(&((struct run_request *)target)->config.kernel_name, value);
}

static int set_lacks(void *target, const char *value, struct error *err UNUSED)
{
	return keep(&((struct run_request *)target)->config.lacks, value);
}

static int set_cpu_vendor(void *target, const char *value, struct error *err)
{
	if (strcmp(value, "amd") && strcmp(value, "intel"))
		return error_usage(err, "%s: amd or intel is accepted", value);
	return keep(&((struct run_request *)target)->config.cpu_vendor, value);
}

/* Internal, from the outer stasis to the one in the lab: the initrd is of our making. */
static int set_session(void *target, const char *value, struct error *err)
{
	struct run_request *q = target;

	q->in_lab = q->session_given = true;
	if (!strcmp(value, "command"))
		q->config.session = VM_SESSION_COMMAND;
	else if (!strcmp(value, "shell"))
		q->config.session = VM_SESSION_SHELL;
	else if (!strcmp(value, "console"))
		q->config.session = VM_SESSION_NONE;
	else
		return error_usage(err, "%s: command, shell or console", value);
	return 0;
}

static const struct cli_option options[] = {
	{"kernel", 'k', "PATH", set_kernel, "bzImage, vmlinux with a PVH note, or a build tree"},
	{"arch", 0, "NAME", set_arch,
	 "x86_64 or aarch64; another one than this host's: in the lab"},
	{"initrd", 'i', "PATH", set_initrd, "boot with this initramfs as it is"},
	{"include", 0, "SRC[:DST]", set_include, "put a file or folder into the guest"},
	{"modules", 0, "DIR", set_modules, "a lib/modules/VERSION folder"},
	{"topology", 't', "SPEC", set_topology,
	 "1n2l4c2t: NUMA nodes, caches, cores per cache, threads per core"},
	{"cpus", 'c', "N", set_cpus, "short for 1n1lNc1t"},
	{"numa-node", 0, "SPEC", set_numa_node,
	 "one per node: llcs=2,mem=1G[,latency=NS][,bandwidth=MBS][,cache=SIZE]"},
	{"numa-distance", 0, "A,B=D", set_numa_distance, "11 to 254, both ways; default 20"},
	{"memory", 'm', "SIZE", set_memory, "512M, 4G; default 1G"},
	{"append", 'a', "TEXT", set_append, "added to the kernel's command line"},
	{"disk", 0, "PATH[,ro][,direct][,id=NAME][,iops=N][,bps=N]", set_disk,
	 "a disk: a raw image or a block device; may be repeated; of limits, 100 ms at once"},
	{"net", 0, "user[,mac=MAC]|tap=NAME[,mac=][,ip=ADDRESS/BITS][,gw=][,dns=][,offloads=off]",
	 set_net, "a network: one without any privilege (passt), or a tap of the host's"},
	OPTION_FLAG("hugepages", 0, struct run_request, config.hugepages,
		    "guest memory on the host's 2 MiB pages"),
	{"pin", 0, "LIST", set_pin, "pin vCPUs to these host CPUs, in this order"},
	{"perf", 0, "[=relaxed]", set_perf,
	 "performance mode: CPUs, caches and memory to itself, or refuse"},
	{"cpus-budget", 0, "N", set_cpus_budget, "keep to N host CPUs that fill whole caches"},
	{"wait", 0, "[=DURATION]", set_wait, "for host CPUs that other VMs hold"},
	{"timeout", 0, "DURATION", set_timeout, "stop then; counted from the guest's start"},
	{"qmp", 0, "PATH", set_qmp, "a control socket there, besides the one in the VM's folder"},
	{"freeze-at", 0, "DURATION", set_freeze_at,
	 "stop the guest for a moment then, without its noticing, and dump"},
	{"watch", 0, "EXPR", set_watch,
	 "stop at a store: SYMBOL[->FIELD...][:BYTES][OP VALUE]; up to three"},
	OPTION_FLAG("watch-scx", 0, struct run_request, config.watch_scx,
		    "stop when the kernel ejects a sched_ext scheduler"),
	{"on-hit", 0, "ACTION", set_on_hit, "dump and go on (the default), freeze, or log"},
	{"dump", 0, "FILE", set_dump, "what every vCPU did when it was frozen, as JSON"},
	{"vmcore", 0, "FILE", set_vmcore, "memory and registers then, as an ELF core"},
	OPTION_FLAG("counters", 0, struct run_request, config.counters,
		    "count cycles and instructions of the guest alone, by the host's PMU"),
	{"monitor", 0, "[=INTERVAL]", set_monitor,
	 "look at every run queue so often (100ms), without stopping the guest"},
	{"monitor-out", 0, "FILE", set_monitor_out, "what it saw, as CSV"},
	{"on-stall", 0, "ACTION", set_on_stall,
	 "where a run queue stands still: log (the default), dump and go on, or freeze"},
	{"profile", 0, "[=HZ]", set_profile, "sample each vCPU while COMMAND runs (default: 997)"},
	{"profile-out", 0, "FILE", set_profile_out,
	 "its stacks: NAME.folded, NAME.speedscope.json or NAME.pb.gz (pprof)"},
	{"name", 0, "NAME", set_name, "default: made up, unique"},
	{"report", 0, "FILE", set_report, "the result as JSON"},
	{"record", 0, "DIR", set_record,
	 "all of it into a new folder: report, profile, monitor, trace, for stasis compare"},
	{"lab", 0, NULL, set_lab, "run in the lab (a software-emulated machine with KVM)"},
	{"no-lab", 0, NULL, set_no_lab, "never run in the lab"},
	OPTION_FLAG("dry-run", 0, struct run_request, dry_run,
		    "print the resolved configuration as JSON and stop"),
	{"verbose", 'v', NULL, set_verbose, "the guest's console on standard error"},
	{"quiet", 'q', NULL, set_quiet, "only errors on standard error"},
	OPTION_FLAG("help", 'h', struct run_request, help, "this"),
	{"cpu-vendor", 0, "NAME", set_cpu_vendor, NULL},
	{"freeze-for", 0, "DURATION", set_freeze_for, NULL},
	{"session", 0, "KIND", set_session, NULL},
	{"kernel-name", 0, "TEXT", set_kernel_name, NULL},
	{"lacks", 0, "TEXT", set_lacks, NULL},
	{"trace-out", 0, "FILE", set_trace_out, NULL},
	{"window", 0, "COLSxROWS", set_window, NULL},
};

static int print_help(void)
{
	printf("usage: stasis run [OPTIONS] [-- COMMAND [ARG...]]\n\n"
	       "Boots a kernel and runs COMMAND in it; without COMMAND, a shell.\n\n");
	options_print(options, ARRAY_SIZE(options));
	return 0;
}

struct pin_list {
	int *cpu;
	unsigned count, max;
};

static int pin_one(uint64_t cpu, void *arg)
{
	struct pin_list *list = arg;

	if (list->count < list->max)
		list->cpu[list->count] = (int)cpu;
	list->count++;
	return 0;
}

static int resolve_pin(struct run_request *q, struct error *err)
{
	unsigned vcpus = topology_vcpus(&q->config.topology);
	long cpus = sysconf(_SC_NPROCESSORS_CONF);
	struct pin_list list = {.max = vcpus};

	if (!q->pin)
		return 0;
	list.cpu = calloc(vcpus, sizeof(*list.cpu));
	if (!list.cpu)
		return error_set(err, -ENOMEM, "reading --pin");
	q->config.pin = list.cpu;
	if (parse_list(q->pin, (uint64_t)cpus - 1, pin_one, &list) < 0)
		return error_usage(err,
				   "--pin %s: a list such as 0,2-5 of host CPUs 0 to %ld is "
				   "accepted",
				   q->pin, cpus - 1);
	if (list.count != vcpus)
		return error_usage(err, "--pin %s: %u CPUs for %u vCPUs; one for each is needed",
				   q->pin, list.count, vcpus);
	return 0;
}

/* The claim keeps to what is there, so it would take a larger budget for all host CPUs. */
static int resolve_budget(const struct run_request *q, struct error *err)
{
	unsigned budget = q->config.perf.cpus_budget, ours;
	struct host_cpu_set allowed;
	int r;

	if (!budget)
		return 0;
	if (q->pin || q->config.perf.mode != PERF_OFF)
		return error_usage(err, "--cpus-budget and %s exclude each other",
				   q->pin ? "--pin" : "--perf");
	r = host_cpu_set_allowed(&allowed, err);
	if (r < 0)
		return r;
	ours = host_cpu_set_count(&allowed);
	return budget <= ours ? 0
			      : error_usage(err,
					    "--cpus-budget %u: stasis may use %u host CPU%s here, "
					    "and 1 to %u are accepted",
					    budget, ours, ours == 1 ? "" : "s", ours);
}

static int resolve_command(struct run_request *q, int argc, char **argv, int rest, bool dashes,
			   struct error *err)
{
	struct vm_config *c = &q->config;
	static char shell[] = "/bin/sh";
	char *fallback[] = {shell, NULL};
	char **from = argv + rest;

	if (rest < argc && !dashes)
		return error_usage(err, "%s: COMMAND goes behind \"--\"", argv[rest]);
	if (q->session_given)
		return 0;
	if (c->initrd) {
		if (rest < argc)
			return error_usage(err,
					   "--initrd and COMMAND exclude each other: an initramfs "
					   "that is booted as it is runs its own init");
		c->session = VM_SESSION_NONE;
		return 0;
	}
	if (rest == argc) {
		/* Without a terminal, the shell reads its commands from standard input. */
		c->session = isatty(STDIN_FILENO) ? VM_SESSION_SHELL : VM_SESSION_COMMAND;
		if (c->session == VM_SESSION_SHELL)
			return 0;
		from = fallback;
	} else {
		c->session = VM_SESSION_COMMAND;
	}
	for (char **word = from; *word; word++)
		argc = (int)(word - from) + 1;
	c->command = calloc((size_t)argc + 1, sizeof(*c->command));
	for (int i = 0; c->command && i < argc; i++) {
		c->command[i] = strdup(from[i]);
		if (!c->command[i])
			return error_set(err, -ENOMEM, "reading COMMAND");
	}
	return c->command ? 0 : error_set(err, -ENOMEM, "reading COMMAND");
}

static int resolve_kernel(struct run_request *q, struct error *err)
{
	struct kernel_choice kernel = {0};
	int r = kernel_choose(q->config.kind, q->kernel, &kernel, err);

	if (r < 0)
		return r;
	q->config.kernel = kernel.path;
	q->config.kernel_release = kernel.release;
	if (q->config.modules)
		free(kernel.modules);
	else
		q->config.modules = kernel.modules;
	return 0;
}

/* A record is made of files that other options would put elsewhere. */
static int resolve_record(struct vm_config *c, struct error *err)
{
	const char *other = c->report	     ? "--report"
			    : c->monitor_out ? "--monitor-out"
			    : c->profile_out ? "--profile-out"
					     : NULL;

	if (!c->record)
		return 0;
	if (other)
		return error_usage(err, "--record and %s exclude each other: %s has it all", other,
				   c->record);
	c->report = record_path(c->record, RECORD_REPORT);
	c->monitor_out = record_path(c->record, RECORD_MONITOR);
	c->trace_out = record_path(c->record, RECORD_TRACE);
	if (!c->report || !c->monitor_out || !c->trace_out)
		return error_set(err, -ENOMEM, "reading --record");
	c->profile_hz = c->profile_hz ?: PROFILE_HZ_DEFAULT;
	return 0;
}

static int resolve(struct run_request *q, int argc, char **argv, struct error *err)
{
	bool dashes;
	int rest, r;

	r = options_parse(options, ARRAY_SIZE(options), argc, argv, q, &rest, &dashes, err);
	if (r < 0 || q->help)
		return r;
	r = topology_resolve(&q->shape, DEFAULT_MEMORY, &q->config.topology, err);
	if (r == 0)
		r = resolve_pin(q, err);
	if (r == 0)
		r = resolve_budget(q, err);
	if (r == 0)
		r = resolve_command(q, argc, argv, rest, dashes, err);
	if (r == 0)
		r = resolve_record(&q->config, err);
	/* Either makes no sense without; both mean it. */
	if (r == 0 && (q->config.monitor_out || q->config.on_stall != VM_ON_STALL_LOG) &&
	    !q->config.monitor_ns)
		q->config.monitor_ns = MONITOR_INTERVAL_NS;
	if (r == 0 && q->config.profile_out && !q->config.profile_hz)
		q->config.profile_hz = PROFILE_HZ_DEFAULT;
	if (r == 0 && q->config.initrd && access(q->config.initrd, R_OK) < 0)
		r = error_usage(err, "--initrd %s: %s", q->config.initrd, strerror(errno));
	if (r == 0)
		r = resolve_kernel(q, err);
	return r;
}

static int print_config(const struct vm_config *config)
{
	json_t *json = vm_config_json(config);

	if (!json || json_dumpf(json, stdout, JSON_INDENT(2)) < 0 || putchar('\n') == EOF) {
		log_error("writing the configuration failed");
		json_decref(json);
		return 125;
	}
	json_decref(json);
	return 0;
}

/* Strict performance mode goes to no lab. why: what keeps this host from running the guest itself,
 * where it is the host. */
static int refuse_emulated(const struct run_request *q, const char *why, struct error *err)
{
	if (q->lab == LAB_ALWAYS)
		return error_usage(err, "--perf and --lab exclude each other: a lab is emulated");
	if (q->config.kind != arch_kind_own())
		return error_usage(err,
				   "--perf and --arch %s exclude each other: such guests run in "
				   "the lab only, on this host, and a lab is emulated",
				   q->config.kind->name);
	error_contention(err, "--perf: %s", why);
	error_hint(err, "a host that runs kernels by itself");
	return -EBUSY;
}

/* Whether to go to the lab, with the one line that says why when nobody asked for it. */
static int choose_lab(struct run_request *q, bool *ret_lab, struct error *err)
{
	bool foreign = q->config.kind != arch_kind_own(), asked = q->lab == LAB_ALWAYS || foreign;
	struct host_ability ability = {.runs_linux = true};
	int r = 0;

	if (foreign && q->lab == LAB_NEVER)
		return error_usage(err, "--arch %s: such guests run in the lab only, on this host",
				   q->config.kind->name);
	if (!asked && q->lab == LAB_AUTO && !q->in_lab)
		r = host_ability(&ability, err);
	if (r < 0)
		return r;
	*ret_lab = asked || !ability.runs_linux;
	if (*ret_lab && q->config.perf.mode == PERF_STRICT)
		return refuse_emulated(q, ability.why, err);
	if (*ret_lab && !asked && q->config.verbosity >= 0)
		log_at(LOG_WARN, "running in the lab: %s", ability.why);
	return 0;
}

static int run_in_lab(struct run_request *q)
{
	static const char lacks[] = "--perf, --cpus-budget and --wait have no effect in the lab";
	const struct perf_request *perf = &q->config.perf;

	if (perf->mode != PERF_OFF || perf->cpus_budget || perf->wait) {
		log_warn("%s", lacks);
		(void)keep(&q->config.lacks, lacks);
	}
	return lab_run_config(&q->config);
}

static void request_done(struct run_request *q)
{
	vm_config_done(&q->config);
	free(q->kernel);
	free(q->pin);
}

int command_run(int argc, char **argv)
{
	struct run_request q = {.config.kind = arch_kind_own()};
	struct error err = {0};
	bool lab = false;
	int status, r;

	r = resolve(&q, argc, argv, &err);
	if (q.config.verbosity != 0)
		log_set_level(q.config.verbosity > 0 ? LOG_INFO : LOG_ERROR);
	if (r == 0 && !q.help && !q.dry_run)
		r = choose_lab(&q, &lab, &err);
	if (r == 0 && !q.help && !q.dry_run && q.config.record)
		r = record_make(q.config.record, &err);
	if (r < 0)
		status = command_failed(&err);
	else if (q.help)
		status = print_help();
	else if (q.dry_run)
		status = print_config(&q.config);
	else if (lab)
		status = run_in_lab(&q);
	else
		status = run_here(&q.config, q.in_lab);
	request_done(&q);
	return status;
}
