/* stasis-init: process 1 of a guest. It makes the guest habitable, finds the host's ports, runs
 * one command with its streams on them, says how it ended and turns the machine off. It must not
 * die, since the kernel would panic: nothing here asserts, and every failure goes on or ends in
 * power_off. One thread. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/util.h"
#include "guest/init/exec.h"
#include "guest/init/klog.h"
#include "guest/init/modload.h"
#include "guest/init/network.h"
#include "guest/init/ports.h"
#include "guest/init/power.h"
#include "guest/init/serve.h"
#include "guest/init/setup.h"

#define NS_PER_MS 1000000u

static const char *const base_env[] = {
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"HOME=/root",
	"USER=root",
	"LOGNAME=root",
	"SHELL=/bin/sh",
	"TERM=linux",
	NULL,
};

static const char *const stream_names[SERVE_STREAMS] = {
	[SERVE_STDIN] = SESSION_PORT_STDIN,
	[SERVE_STDOUT] = SESSION_PORT_STDOUT,
	[SERVE_STDERR] = SESSION_PORT_STDERR,
};

/* Too large for the stack of a process that must not overflow one. */
static struct serve serve;

static uint64_t deadline(void)
{
	return now_ns() + (uint64_t)SESSION_PORTS_MS * NS_PER_MS;
}

/* There is nobody to tell but the console. */
static void __attribute__((noreturn)) give_up(const char *what, int r)
{
	klog("%s: %s; powering off", what, strerror(-r));
	dprintf(STDERR_FILENO, "stasis-init: %s: %s; powering off\n", what, strerror(-r));
	power_settle();
	power_off();
}

static const char **load_env(void)
{
	static const char *const none[] = {NULL};
	const char **over = NULL;
	int r = command_load(SESSION_ENV_FILE, &over);

	if (r < 0 && r != -ENOENT)
		klog("reading %s: %s", SESSION_ENV_FILE, strerror(-r));
	/* over lives as long as the machine: its strings are in the result. */
	return command_env(base_env, r < 0 ? none : over);
}

/* The terminal of a session without COMMAND: the host's console port, else the kernel's console,
 * by its real name, since /dev/console can't be a controlling terminal. */
static int open_terminal(struct ports *p, int *ret_fd)
{
	const uint64_t a_while_ns = 2000 * NS_PER_MS;
	char active[128] = "", path[160];
	const char *last;
	ssize_t n;
	int fd;

	if (ports_open_tty(p, "/dev/hvc0", now_ns() + a_while_ns, ret_fd) == 0)
		return 0;
	fd = open("/sys/class/tty/console/active", O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, active, sizeof(active) - 1);
	if (fd >= 0)
		close(fd);
	active[n > 0 ? n : 0] = '\0';
	active[strcspn(active, "\n")] = '\0';
	last = strrchr(active, ' ');
	(void)snprintf(path, sizeof(path), "/dev/%s", last ? last + 1 : active);
	if (active[0] && ports_open_tty(p, path, 0, ret_fd) == 0)
		return 0;
	return ports_open_tty(p, "/dev/console", 0, ret_fd);
}

/* Tells the host, and is false. */
static bool cannot_start(const char *what, int r)
{
	control_send(&serve.control, "failed %d %s: %s", COMMAND_STATUS_NOT_RUN, what,
		     strerror(-r));
	return false;
}

/* False: it couldn't be started, which has been said. */
static bool start_command(struct ports *p, const char **argv, const char **envp)
{
	struct command c = {.argv = argv, .envp = envp, .cwd = "/", .tty = -1};
	int ports[SERVE_STREAMS], r;

	for (unsigned i = 0; i < SERVE_STREAMS; i++) {
		r = ports_open(p, stream_names[i], deadline(), &ports[i]);
		if (r < 0)
			return cannot_start(stream_names[i], r);
	}
	return serve_start(&serve, &c, ports);
}

static bool start_shell(struct ports *p, const char **envp)
{
	static const char *const bash[] = {"/bin/bash", "-l", NULL};
	static const char *const sh[] = {"/bin/sh", "-l", NULL};
	struct command c = {.envp = envp, .cwd = "/root", .tty = -1};
	int r = open_terminal(p, &c.tty);

	if (r < 0)
		return cannot_start("opening a terminal for a shell", r);
	c.argv = access(bash[0], X_OK) == 0 ? bash : sh;
	for (unsigned i = 0; i < SERVE_STREAMS; i++)
		c.stdio[i] = c.tty;
	return serve_start(&serve, &c, NULL);
}

static bool start(struct ports *p)
{
	const char **argv = NULL, **envp = load_env();
	int r = command_load(SESSION_ARGV_FILE, &argv);

	if (!envp)
		return cannot_start("making the environment", -ENOMEM);
	exec_start(envp);
	if (r == -ENOENT)
		return start_shell(p, envp);
	if (r < 0)
		return cannot_start("reading " SESSION_ARGV_FILE, r);
	return start_command(p, argv, envp);
}

int main(void)
{
	struct ports ports;
	int control, r;
	bool started;

	if (getpid() != 1) {
		fprintf(stderr, "stasis-init is process 1 of a stasis guest, and nothing else\n");
		return 1;
	}
	setup_mounts();
	klog_open();
	setup_system();
	ports_init(&ports);
	modload_all();
	r = ports_open(&ports, SESSION_PORT_CONTROL, deadline(), &control);
	if (r < 0)
		give_up("no virtio-console port " SESSION_PORT_CONTROL, r);
	r = serve_init(&serve, control);
	if (r < 0)
		give_up("preparing to run COMMAND", r);
	control_send(&serve.control, "hello %d", SESSION_VERSION);
	network_set_up();

	/* A host that goes away instead wants nothing started. */
	started = serve_wait_go(&serve) && start(&ports);
	ports_done(&ports);
	if (started && serve_run(&serve)) {
		/* What was written to a terminal leaves before the news. */
		if (serve.tty >= 0)
			(void)tcdrain(serve.tty);
		serve_tell_end(&serve);
	}
	power_settle();
	control_send(&serve.control, "done");
	serve_wait_bye(&serve);
	power_off();
}
