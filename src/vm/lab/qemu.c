/* Starts QEMU in software emulation with five socket pairs. Keeper, or who has a command. */
#include "vm/lab/qemu.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/if_tun.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"
#include "guest/session_protocol.h"
#include "vm/image.h"
#include "vm/lab/disks.h"
#include "vm/lab/uplink.h"
#include "vm/tools.h"

#define OLD_MAJOR   8 /* QEMU before it needs other CPU flags, and fires no data watchpoints */
#define ARGS_MAX    (64 + 4 * VM_MAX_DISKS + 4 * VM_MAX_NETS)
#define MODULES_MAX 12
#define CPUS_MAX    8
#define MEMORY_MIN  GIB(2)
#define MEMORY_MAX  GIB(12)

enum { CONTROL, INPUT, OUTPUT, ERRORS, CONSOLE, CHANNELS };

static const char *const port_names[] = {
	[CONTROL] = SESSION_PORT_CONTROL,
	[INPUT] = SESSION_PORT_STDIN,
	[OUTPUT] = SESSION_PORT_STDOUT,
	[ERRORS] = SESSION_PORT_STDERR,
};

/* The major version, or 0 if there is no QEMU. */
static int qemu_major(const struct arch_kind *kind)
{
	CLEANUP_FREE char *command = text_format("%s --version 2>/dev/null", kind->qemu);
	FILE *out = command ? popen(command, "re") : NULL;
	char line[128] = "";
	const char *at;

	if (!out)
		return 0;
	if (!fgets(line, sizeof(line), out))
		line[0] = '\0';
	pclose(out);
	at = strstr(line, "version ");
	return at ? (int)strtol(at + strlen("version "), NULL, 10) : 0;
}

int lab_qemu_check(const struct arch_kind *kind, struct error *err)
{
	CLEANUP_FREE char *exe = NULL;

	if (qemu_major(kind) > 0)
		return tools_stasis(kind, &exe, err);
	error_contention(err, "the lab needs %s, which is not installed", kind->qemu);
	error_hint(err, "apt-get install -t bookworm-backports %s", kind->qemu_package);
	return -ENOENT;
}

/* Half of what the host has to spare, within bounds: it is only touched as far as it is used. */
static uint64_t memory_bytes(void)
{
	CLEANUP_FREE char *info = NULL;
	const char *at;
	size_t len;

	if (file_read("/proc/meminfo", 1 << 16, &info, &len) < 0)
		return MEMORY_MIN;
	at = strstr(info, "MemAvailable:");
	if (!at)
		return MEMORY_MIN;
	return MIN(MAX(strtoull(at + strlen("MemAvailable:"), NULL, 10) * 512, MEMORY_MIN),
		   MEMORY_MAX);
}

static long cpu_count(const struct lab_machine *machine)
{
	return lab_wants_host_cpus(machine) ? MIN(sysconf(_SC_NPROCESSORS_ONLN), (long)CPUS_MAX)
					    : (long)machine->kind->lab_cpus;
}

/* Names of what L1's kernel needs besides a guest's usual. */
static void join_modules(const struct lab_machine *machine, const char *more[MODULES_MAX])
{
	size_t n = 0;

	for (const char *const *m = machine->kind->lab_modules; m && *m && n < MODULES_MAX - 1; m++)
		more[n++] = *m;
	for (const char *const *m = lab_uplink_modules;
	     machine->net_count > 0 && *m && n < MODULES_MAX - 1; m++)
		more[n++] = *m;
}

/* L1's initramfs is a guest's like any other: our init, with the agent or another as its COMMAND.
 */
static int build_initrd(const struct lab_machine *machine, int *ret_fd, struct error *err)
{
	CLEANUP_FREE char *exe = NULL;
	static char agent[] = "lab-agent";
	char *command[] = {NULL, agent, NULL}; /* the agent's */
	char *modules = machine->modules ? strdup(machine->modules) : NULL;
	const char *more[MODULES_MAX] = {NULL};
	struct vm_config config = {
		.kind = machine->kind,
		.command = machine->command ?: command,
		.includes = machine->includes,
		.include_count = machine->include_count,
		.modules = modules,
		.more_modules = more,
		.session = VM_SESSION_COMMAND,
		.disk_count = machine->disk_count, /* for the driver's module */
	};
	struct image image;
	int fd, r = 0;

	join_modules(machine, more);
	if (!machine->command)
		r = tools_stasis(machine->kind, &exe, err);
	command[0] = exe;
	if (r == 0)
		r = image_build(&config, &image, err);
	free(modules);
	if (r < 0)
		return r;
	fd = memfd_create("stasis-lab-initrd", 0); /* inherited by QEMU, so no close-on-exec */
	r = fd < 0 ? error_set_shortage(err, -errno, "making the lab's initramfs")
		   : image_write(&image, fd, err);
	image_done(&image);
	if (r < 0) {
		fd_close(&fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

struct arguments {
	char *word[ARGS_MAX];
	size_t count;
	bool failed;
};

static PRINTF_LIKE(2, 3) void add(struct arguments *a, const char *fmt, ...)
{
	va_list ap;
	char *word = NULL;

	va_start(ap, fmt);
	if (vasprintf(&word, fmt, ap) < 0)
		word = NULL;
	va_end(ap);
	if (!word || a->count + 1 >= ARGS_MAX) {
		a->failed = true;
		free(word);
		return;
	}
	a->word[a->count++] = word;
}

static void arguments_done(struct arguments *a)
{
	while (a->count > 0)
		free(a->word[--a->count]);
}

/* The person's own file, so that what the guest has flushed is where it belongs. */
static char *blockdev(const struct vm_disk *d, size_t i)
{
	/* A file without a name (/proc/PID/fd/N) has no other path. */
	CLEANUP_FREE char *path = d->path[0] == '/' ? strdup(d->path) : realpath(d->path, NULL);
	CLEANUP_FREE char *node = text_format("disk%zu", i);
	struct stat st;
	json_t *json;
	char *text;

	if (!path || !node || stat(path, &st) < 0)
		return NULL;
	json = json_pack("{s:s, s:s, s:b, s:s, s:{s:b}, s:{s:s, s:s, s:b, s:s, s:{s:b}}}", "driver",
			 "raw", "node-name", node, "read-only", (int)d->read_only, "discard",
			 "unmap", "cache", "direct", (int)d->direct, "file", "driver",
			 S_ISBLK(st.st_mode) ? "host_device" : "file", "filename", path,
			 "read-only", (int)d->read_only, "discard", "unmap", "cache", "direct",
			 (int)d->direct);
	text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	return text;
}

static void add_disks(struct arguments *a, const struct lab_machine *machine)
{
	for (size_t i = 0; i < machine->disk_count; i++) {
		CLEANUP_FREE char *text = blockdev(&machine->disks[i], i);
		char id[LAB_DISK_ID];

		if (!text || lab_disk_id(machine->disks[i].path, id) < 0) {
			a->failed = true;
			return;
		}
		add(a, "-blockdev");
		add(a, "%s", text);
		add(a, "-device");
		/* A full disk is the inner stasis's to hear of; by itself the emulator would stand
		 * still until somebody makes room. */
		add(a, "virtio-blk-pci,drive=disk%zu,serial=%s,werror=report,rerror=report", i, id);
	}
}

/* A tap that was made for many queues is opened with more than one. */
static bool has_queues(const char *tap)
{
	CLEANUP_FREE char *path = text_format("/sys/class/net/%s/tun_flags", tap);
	CLEANUP_FREE char *flags = NULL;
	size_t len;

	return path && file_read(path, 1 << 16, &flags, &len) == 0 &&
	       strtoul(flags, NULL, 16) & IFF_MULTI_QUEUE;
}

/* The host's tap, or the socket to a passt that lives as long as the emulator does. */
static int add_nets(struct arguments *a, const struct lab_machine *machine, int fds[VM_MAX_NETS],
		    struct error *err)
{
	for (size_t i = 0; i < machine->net_count; i++) {
		const struct vm_net *net = &machine->nets[i];
		struct passt passt;
		int r;

		add(a, "-netdev");
		if (net->kind == VM_NET_USER) {
			r = passt_start(NULL, &passt, &fds[i], err);
			if (r < 0)
				return r;
			fd_close(&passt.pid_fd);
			fd_close(&passt.words_fd);
			add(a, "stream,id=net%zu,addr.type=fd,addr.str=%d", i, fds[i]);
		} else {
			add(a, "tap,id=net%zu,ifname=%s,script=no,downscript=no%s", i, net->tap,
			    has_queues(net->tap) ? ",queues=2" : "");
		}
		add(a, "-device");
		add(a,
		    "virtio-net-pci,netdev=net%zu,mac=" LAB_UPLINK_MAC ",host_mtu=%u,romfile=", i,
		    (unsigned)i, net->mtu);
	}
	return 0;
}

static void build_arguments(struct arguments *a, const struct lab_machine *machine, int major,
			    int initrd_fd, const int theirs[CHANNELS])
{
	const struct arch_kind *kind = machine->kind;
	const char *const *kind_args = major < OLD_MAJOR ? kind->qemu_args_old : kind->qemu_args;

	add(a, "%s", kind->qemu);
	for (; *kind_args; kind_args++)
		add(a, "%s", *kind_args);
	add(a, "-accel");
	add(a, "tcg,thread=multi");
	add(a, "-smp");
	add(a, "%ld", cpu_count(machine));
	add(a, "-m");
	add(a, "%lluM", (unsigned long long)(memory_bytes() >> 20));
	add(a, "-nodefaults");
	add(a, "-no-user-config");
	add(a, "-no-reboot");
	add(a, "-display");
	add(a, "none");
	add(a, "-kernel");
	add(a, "%s", machine->kernel);
	add(a, "-initrd");
	add(a, "/proc/self/fd/%d", initrd_fd);
	add(a, "-append");
	/* An interface of a bridge must not speak for itself. */
	add(a, "%s%s", kind->lab_cmdline, machine->net_count > 0 ? " ipv6.disable=1" : "");
	add(a, "-device");
	add(a, "virtio-serial-pci,id=ports");
	add_disks(a, machine);
	for (unsigned i = 0; i < CHANNELS; i++) {
		add(a, "-chardev");
		add(a, "socket,id=c%u,fd=%d", i, theirs[i]);
		if (i == CONSOLE) {
			add(a, "-serial");
			add(a, "chardev:c%u", i);
		} else {
			add(a, "-device");
			add(a, "virtserialport,bus=ports.0,nr=%u,chardev=c%u,name=%s", i + 1, i,
			    port_names[i]);
		}
	}
}

static _Noreturn void child(char **argv, pid_t parent, const int theirs[CHANNELS],
			    const int nets[VM_MAX_NETS])
{
	sigset_t none;
	int null = open("/dev/null", O_RDWR);

	/* However the keeper dies, QEMU does not stay. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(1);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (unsigned i = 0; i < CHANNELS; i++)
		(void)fcntl(theirs[i], F_SETFD, 0);
	for (unsigned i = 0; i < VM_MAX_NETS; i++)
		if (nets[i] >= 0)
			(void)fcntl(nets[i], F_SETFD, 0);
	if (dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
		_exit(1);
	execvp(argv[0], argv);
	_exit(127);
}

static int make_pairs(int ours[CHANNELS], int theirs[CHANNELS], struct error *err)
{
	for (unsigned i = 0; i < CHANNELS; i++) {
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
			return error_set_shortage(err, -errno, "making the lab's channels");
		ours[i] = pair[0];
		theirs[i] = pair[1];
		(void)fcntl(ours[i], F_SETFL, O_NONBLOCK);
	}
	return 0;
}

int lab_qemu_start(const struct lab_machine *machine, struct lab_qemu *ret_qemu, struct error *err)
{
	int ours[CHANNELS] = {-1, -1, -1, -1, -1}, theirs[CHANNELS] = {-1, -1, -1, -1, -1};
	int nets[VM_MAX_NETS] = {-1, -1, -1, -1};
	struct arguments arguments = {.count = 0};
	pid_t parent = getpid(), pid = -1;
	CLEANUP_FD int initrd_fd = -1;
	int major = qemu_major(machine->kind), r;

	r = build_initrd(machine, &initrd_fd, err);
	if (r == 0)
		r = make_pairs(ours, theirs, err);
	if (r == 0) {
		build_arguments(&arguments, machine, major, initrd_fd, theirs);
		r = add_nets(&arguments, machine, nets, err);
		if (r == 0 && arguments.failed)
			r = error_set(err, -ENOMEM, "starting %s", machine->kind->qemu);
	}
	if (r == 0) {
		pid = fork();
		if (pid == 0)
			child(arguments.word, parent, theirs, nets);
		if (pid < 0)
			r = error_set_shortage(err, -errno, "starting %s", machine->kind->qemu);
	}
	arguments_done(&arguments);
	for (unsigned i = 0; i < VM_MAX_NETS; i++)
		fd_close(&nets[i]);
	for (unsigned i = 0; i < CHANNELS; i++) {
		fd_close(&theirs[i]);
		if (r < 0)
			fd_close(&ours[i]);
	}
	if (r < 0)
		return r;
	*ret_qemu = (struct lab_qemu){
		.pid = pid,
		.control_fd = ours[CONTROL],
		.in_fd = ours[INPUT],
		.out_fd = ours[OUTPUT],
		.err_fd = ours[ERRORS],
		.console_fd = ours[CONSOLE],
	};
	return 0;
}

void lab_qemu_stop(struct lab_qemu *q)
{
	if (q->pid > 0) {
		kill(q->pid, SIGKILL);
		waitpid(q->pid, NULL, 0);
	}
	q->pid = 0;
	fd_close(&q->control_fd);
	fd_close(&q->in_fd);
	fd_close(&q->out_fd);
	fd_close(&q->err_fd);
	fd_close(&q->console_fd);
}
