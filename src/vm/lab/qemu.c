/* QEMU as the lab's hardware. Thread: the keeper's. */
#include "vm/lab/qemu.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch/arch.h"
#include "base/parse.h"
#include "base/text.h"
#include "base/util.h"
#include "guest/session_protocol.h"

#define MEMORY_WANTED GIB(4)
#define MEMORY_LEAST  MIB(768)
#define CPUS_MAX      8

/* Major version, or 0 where there is none or it says something else. */
static unsigned find_version(void)
{
	CLEANUP_FREE char *command = text_format("%s --version 2>/dev/null", arch_lab_qemu);
	FILE *f = command ? popen(command, "re") : NULL;
	unsigned version = 0;

	if (!f)
		return 0;
	if (fscanf(f, "QEMU emulator version %3u", &version) != 1)
		version = 0;
	while (fgetc(f) != EOF)
		;
	return pclose(f) == 0 ? version : 0;
}

int qemu_find(unsigned *ret_version, struct error *err)
{
	unsigned version = find_version();

	if (version >= QEMU_OLDEST) {
		*ret_version = version;
		return 0;
	}
	if (version == 0)
		error_contention(err, "the lab needs %s, which is not installed", arch_lab_qemu);
	else
		error_contention(err, "%s %u is too old for the lab: %u or later is needed",
				 arch_lab_qemu, version, QEMU_GOOD);
	error_hint(err, "apt-get install -t bookworm-backports %s",
		   !strcmp(arch_lab_qemu, "qemu-system-aarch64") ? "qemu-system-arm"
								 : "qemu-system-x86");
	return -EBUSY;
}

/* 0 if the host doesn't say. */
static uint64_t memory_available(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long kib = 0;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return KIB(kib);
}

int qemu_memory(uint64_t asked, uint64_t *ret_bytes, struct error *err)
{
	uint64_t available = memory_available();
	uint64_t bytes = asked ? asked : MEMORY_WANTED;
	char have[32];

	if (!asked && available)
		bytes = MIN(bytes, available / 2);
	bytes = ALIGN_DOWN(bytes, MIB(2));
	if (bytes >= MEMORY_LEAST) {
		*ret_bytes = bytes;
		return 0;
	}
	if (asked)
		return error_usage(err, "the lab needs at least %llu MiB of memory",
				   (unsigned long long)(MEMORY_LEAST >> 20));
	return error_contention(err, "too little free memory for the lab: %s",
				format_size(ALIGN_DOWN(available, MIB(1)), have, sizeof(have)));
}

/* ---- the process --------------------------------------------------------------------------- */

enum { END_CONTROL, END_IN, END_OUT, END_ERR, END_SERIAL, ENDS };

static const char *const port_names[ENDS] = {
	[END_CONTROL] = SESSION_PORT_CONTROL,
	[END_IN] = SESSION_PORT_STDIN,
	[END_OUT] = SESSION_PORT_STDOUT,
	[END_ERR] = SESSION_PORT_STDERR,
};

/* Arguments that are made, all freed together. */
struct args {
	char *word[96];
	size_t count;
	bool failed;
};

static void add(struct args *a, char *made)
{
	if (made && a->count + 1 < ARRAY_SIZE(a->word))
		a->word[a->count++] = made;
	else
		a->failed = true;
}

static void add_list(struct args *a, const char *const *words)
{
	for (; *words; words++)
		add(a, strdup(*words));
}

static void args_done(struct args *a)
{
	while (a->count)
		free(a->word[--a->count]);
}

static void make_args(struct args *a, const struct qemu_config *c, const int theirs[ENDS])
{
	static const char *const common[] = {
		"-name",
		"stasis-lab",
		"-accel",
		"tcg,thread=multi",
		"-display",
		"none",
		"-nodefaults",
		"-no-reboot",
		"-no-user-config",
		"-device",
		"virtio-serial-pci",
		NULL,
	};
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	add(a, strdup(arch_lab_qemu));
	add_list(a, common);
	add_list(a, c->version < QEMU_GOOD ? arch_lab_qemu_args_old : arch_lab_qemu_args);
	add(a, strdup("-smp"));
	add(a, text_format("%ld", MAX(MIN(cpus, (long)CPUS_MAX), 1L)));
	add(a, strdup("-m"));
	add(a, text_format("%lluM", (unsigned long long)(c->memory_bytes >> 20)));
	add(a, strdup("-kernel"));
	add(a, strdup(c->kernel));
	add(a, strdup("-initrd"));
	add(a, text_format("/proc/self/fd/%d", c->initrd_fd));
	add(a, strdup("-append"));
	/* It runs nothing but the person's own guests. */
	add(a, text_format("%s mitigations=off", arch_lab_cmdline));
	for (unsigned i = 0; i < ENDS; i++) {
		add(a, strdup("-chardev"));
		add(a, text_format("socket,id=end%u,fd=%d", i, theirs[i]));
		add(a, strdup(port_names[i] ? "-device" : "-serial"));
		add(a, port_names[i] ? text_format("virtserialport,chardev=end%u,name=%s", i,
						   port_names[i])
				     : text_format("chardev:end%u", i));
	}
}

/* In the child; returns on failure only. */
static void become(struct args *a, const int *keep, size_t n, int messages, pid_t parent)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t none;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		return;
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(messages, STDOUT_FILENO) < 0 ||
	    dup2(messages, STDERR_FILENO) < 0)
		return;
	(void)close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC);
	for (size_t i = 0; i < n; i++)
		if (fcntl(keep[i], F_SETFD, 0) < 0)
			return;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execvp(a->word[0], a->word);
}

static int make_ends(int ours[ENDS], int theirs[ENDS], int messages[2])
{
	for (unsigned i = 0; i < ENDS; i++) {
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
			return -errno;
		ours[i] = pair[0];
		theirs[i] = pair[1];
		if (fcntl(ours[i], F_SETFL, O_NONBLOCK) < 0)
			return -errno;
	}
	return pipe2(messages, O_CLOEXEC | O_NONBLOCK) < 0 ? -errno : 0;
}

int qemu_start(const struct qemu_config *config, struct qemu *ret_qemu, struct error *err)
{
	int ours[ENDS], theirs[ENDS], messages[2] = {-1, -1}, keep[ENDS + 1];
	struct args args = {0};
	pid_t parent = getpid(), pid = -1;
	int r;

	memset(ours, -1, sizeof(ours));
	memset(theirs, -1, sizeof(theirs));
	r = make_ends(ours, theirs, messages);
	if (r == 0) {
		make_args(&args, config, theirs);
		memcpy(keep, theirs, sizeof(theirs));
		keep[ENDS] = config->initrd_fd;
		pid = args.failed ? -1 : fork();
		if (pid == 0) {
			become(&args, keep, ARRAY_SIZE(keep), messages[1], parent);
			dprintf(STDERR_FILENO, "%s: %s\n", arch_lab_qemu, strerror(errno));
			_exit(127);
		}
		r = pid > 0 ? 0 : args.failed ? -ENOMEM : -errno;
	}
	args_done(&args);
	for (unsigned i = 0; i < ENDS; i++)
		fd_close(&theirs[i]);
	fd_close(&messages[1]);
	if (r < 0) {
		for (unsigned i = 0; i < ENDS; i++)
			fd_close(&ours[i]);
		fd_close(&messages[0]);
		return error_set_shortage(err, r, "starting %s", arch_lab_qemu);
	}
	*ret_qemu = (struct qemu){.pid = pid,
				  .control = ours[END_CONTROL],
				  .in = ours[END_IN],
				  .out = ours[END_OUT],
				  .err = ours[END_ERR],
				  .serial = ours[END_SERIAL],
				  .messages = messages[0]};
	return 0;
}

void qemu_stop(struct qemu *q)
{
	if (q->pid > 0) {
		kill(q->pid, SIGKILL);
		while (waitpid(q->pid, NULL, 0) < 0 && errno == EINTR)
			;
		q->pid = 0;
	}
	fd_close(&q->control);
	fd_close(&q->in);
	fd_close(&q->out);
	fd_close(&q->err);
	fd_close(&q->serial);
	fd_close(&q->messages);
}
