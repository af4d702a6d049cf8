/* Starts passt and ends it. Control thread. */
#include "vm/passt.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <net/route.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"

#define STOP_LIMIT_NS 2000000000u
/* What it may have on its way to the guest. It drops what finds no room, and sends that again after
 * two seconds at the earliest; a guest's window can be as large as this. */
#define ROOM_BYTES (8 << 20)

static _Noreturn void child(int fd, int words_fd)
{
	char number[16], prefix[8], mtu[8];
	const char *argv[] = {"passt",	  "--fd",      number,	      "--foreground",  "--quiet",
			      "--stderr", "-4",	       "--address",   PASST_ADDRESS,   "--netmask",
			      prefix,	  "--gateway", PASST_GATEWAY, "--dns-forward", PASST_DNS,
			      "--mtu",	  mtu,	       NULL};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t none;

	snprintf(number, sizeof(number), "%d", fd);
	snprintf(prefix, sizeof(prefix), "%u", PASST_PREFIX);
	snprintf(mtu, sizeof(mtu), "%u", PASST_MTU);
	/* The terminal's Ctrl-C is the guest's. */
	setsid();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int signo = 1; signo < NSIG; signo++)
		signal(signo, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
	    dup2(words_fd, STDERR_FILENO) < 0)
		_exit(127);
	(void)close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC);
	(void)fcntl(fd, F_SETFD, 0);
	execvp(argv[0], (char *const *)argv);
	_exit(127);
}

/* The last line of what it said. buf: len. */
static const char *last_words(const struct passt *p, char *buf, size_t len)
{
	ssize_t n = pread(p->words_fd, buf, len - 1, 0);
	char *line;

	buf[n > 0 ? n : 0] = '\0';
	while (n > 0 && buf[n - 1] == '\n')
		buf[--n] = '\0';
	line = strrchr(buf, '\n');
	return line ? line + 1 : buf;
}

static void on_ended(struct loop_op *op, int res)
{
	const struct passt *p = container_of(op, struct passt, ended);

	char buf[1024];

	if (res != -ECANCELED)
		log_warn("passt has ended, and the guest's network with it; its last words: %s",
			 last_words(p, buf, sizeof(buf)));
}

static bool is_installed(void)
{
	const char *path = getenv("PATH") ?: "/usr/local/bin:/usr/bin:/bin";
	char *copy = strdup(path), *rest = copy, *dir, file[4096];
	bool found = false;

	while (copy && !found && (dir = strsep(&rest, ":")))
		found = snprintf(file, sizeof(file), "%s/passt", dir[0] ? dir : ".") <
				(int)sizeof(file) &&
			access(file, X_OK) == 0;
	free(copy);
	return found;
}

/* passt sends by the interface of the default route, and without one goes on with no network.
 * proc(5): a line for each route, destination and mask in hex. */
static bool has_default_route(void)
{
	FILE *routes = fopen("/proc/net/route", "re");
	char line[256];
	bool found = false;

	if (!routes)
		return true; /* it will say so itself */
	while (!found && fgets(line, sizeof(line), routes)) {
		unsigned destination, flags, mask;

		found = sscanf(line, "%*s %x %*x %x %*d %*d %*d %x", &destination, &flags, &mask) ==
				3 &&
			destination == 0 && mask == 0 && flags & RTF_UP && !(flags & RTF_REJECT);
	}
	fclose(routes);
	return found;
}

int passt_check(struct error *err)
{
	if (!is_installed()) {
		error_contention(err, "--net user needs passt, which is not installed");
		error_hint(err, "sudo apt-get install passt");
		return -ENOENT;
	}
	if (has_default_route())
		return 0;
	error_contention(err, "--net user: this host has no default route for IPv4, by whose "
			      "interface passt would send");
	error_hint(err, "ip route shows what there is; --net tap needs none");
	return -ENETUNREACH;
}

/* More than wmem_max only for root; what is to be had will do. */
static void make_room(int fd)
{
	int bytes = ROOM_BYTES;

	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) < 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

int passt_start(struct loop *loop, struct passt *ret_passt, int *ret_fd, struct error *err)
{
	struct passt *p = ret_passt;
	int pair[2], r;
	pid_t pid;

	*p = (struct passt){.pid_fd = -1,
			    .words_fd = -1,
			    .loop = loop,
			    .ended = {.done = on_ended}};
	r = passt_check(err);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set_shortage(err, -errno, "making a socket for passt");
	make_room(pair[1]);
	p->words_fd = memfd_create("passt-words", MFD_CLOEXEC);
	pid = fork();
	if (pid == 0)
		child(pair[1], p->words_fd);
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		fd_close(&p->words_fd);
		return error_set_shortage(err, -errno, "starting passt");
	}
	p->pid = pid;
	p->pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	/* Without a watch it is missed only when it ends by itself. */
	if (loop && p->pid_fd >= 0 && loop_poll_fd(loop, &p->ended, p->pid_fd, POLLIN) < 0)
		log_warn("passt can't be watched");
	*ret_fd = pair[0];
	return 0;
}

void passt_stop(struct passt *p)
{
	if (p->pid <= 0)
		return;
	if (p->ended.active && !loop_cancel_wait(p->loop, &p->ended, STOP_LIMIT_NS))
		log_warn("passt's watch stays");
	kill(p->pid, SIGKILL);
	while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
		;
	fd_close(&p->pid_fd);
	fd_close(&p->words_fd);
	p->pid = 0;
}
