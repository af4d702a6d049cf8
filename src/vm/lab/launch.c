/* Keepers: where they listen, and how they come to be. Any thread, of a process with one.
 *
 *   DIR/lab.sock   where a shared keeper listens
 *   DIR/lab.lock   held exclusively (flock) for as long as it lives; its pid is inside
 */
#include "vm/lab/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch/arch.h"
#include "base/parse.h"
#include "base/util.h"
#include "vm/image.h"
#include "vm/lab/digest.h"
#include "vm/lab/keeper.h"
#include "vm/runtime.h"

#define END_WAIT_MS 5000
#define STEP_MS	    10

/* The runtime directory, or a negative errno. */
static int open_dir(struct error *err)
{
	CLEANUP_FREE char *path = NULL;
	int r = runtime_dir(&path, err);

	if (r < 0)
		return r;
	r = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return r < 0 ? error_set(err, -errno, "opening %s", path) : r;
}

/* By the descriptor, since a socket's name has room for a hundred bytes only. */
static struct sockaddr_un address(int dir_fd)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/" KEEPER_SOCKET, dir_fd);
	return a;
}

int launch_find(int *ret_fd, struct error *err)
{
	CLEANUP_FD int dir_fd = open_dir(err);
	CLEANUP_FD int fd = -1;
	struct sockaddr_un a;

	if (dir_fd < 0)
		return dir_fd;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_set_shortage(err, -errno, "looking for a lab");
	a = address(dir_fd);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		if (errno == ENOENT || errno == ECONNREFUSED)
			return -ENOENT;
		return error_set_shortage(err, -errno, "connecting to the lab");
	}
	*ret_fd = fd;
	fd = -1;
	return 0;
}

/* ---- starting ------------------------------------------------------------------------------ */

static int compare_ints(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return (x > y) - (x < y);
}

/* Pipes of the person's, guests' memory: a keeper that held them would hold up others. */
static void close_others(int *keep, size_t n)
{
	unsigned from = STDERR_FILENO + 1;

	qsort(keep, n, sizeof(*keep), compare_ints);
	for (size_t i = 0; i < n; i++) {
		if (keep[i] < (int)from)
			continue;
		if (keep[i] > (int)from)
			(void)close_range(from, (unsigned)keep[i] - 1, 0);
		from = (unsigned)keep[i] + 1;
	}
	(void)close_range(from, ~0u, 0);
}

/* In the child. */
static int become_keeper(const struct keeper_config *config, int lock_fd, bool own, pid_t parent)
{
	int keep[] = {config->machine.initrd_fd, config->client_fd, config->listen_fd,
		      config->dir_fd, lock_fd};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (own && (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent))
		return 1;
	prctl(PR_SET_NAME, "stasis-lab");
	setsid();
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
		return 1;
	close_others(keep, ARRAY_SIZE(keep));
	if (chdir("/") < 0)
		return 1;
	return keeper_run(config);
}

/* L1's initramfs is a guest's like any other: our init, with the agent as its COMMAND. */
static int build_initrd(const struct lab_machine *machine, int *ret_fd, struct error *err)
{
	CLEANUP_FREE char *exe = realpath("/proc/self/exe", NULL);
	CLEANUP_FREE char *modules = machine->modules ? strdup(machine->modules) : NULL;
	CLEANUP_FD int fd = memfd_create("stasis-lab", MFD_CLOEXEC);
	/* Where no file system of L1's hides it, and no host has another. */
	static char program[] = "/stasis/program", agent[] = "lab-agent";
	static char *command[] = {program, agent, NULL};
	struct vm_include include = {.src = exe, .dst = program};
	struct vm_config config = {
		.command = command,
		.includes = &include,
		.include_count = 1,
		.modules = modules,
		.more_modules = arch_lab_modules,
		.session = VM_SESSION_COMMAND,
	};
	struct image image;
	int r;

	if (!exe || fd < 0 || (machine->modules && !modules))
		return error_set_shortage(err, -errno, "making the lab's initramfs");
	r = image_build(&config, &image, err);
	if (r < 0)
		return r;
	r = image_write(&image, fd, err);
	image_done(&image);
	if (r == 0) {
		*ret_fd = fd;
		fd = -1;
	}
	return r;
}

static int prepare(const struct lab_machine *machine, struct keeper_config *config,
		   struct error *err)
{
	int r = qemu_find(&config->machine.version, err);

	if (r == 0)
		r = qemu_memory(machine->memory_bytes, &config->machine.memory_bytes, err);
	if (r == 0)
		r = digest_self(config->program, err);
	config->machine.kernel = machine->kernel;
	config->start = qemu_start;
	return r < 0 ? r : build_initrd(machine, &config->machine.initrd_fd, err);
}

static int fork_keeper(struct keeper_config *config, int lock_fd, bool own, struct launch *ret,
		       struct error *err)
{
	pid_t parent = getpid(), pid;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set_shortage(err, -errno, "starting the lab's keeper");
	config->client_fd = pair[1];
	pid = fork();
	if (pid == 0) {
		close(pair[0]);
		_exit(become_keeper(config, lock_fd, own, parent));
	}
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return error_set_shortage(err, -errno, "starting the lab's keeper");
	}
	ret->fd = pair[0];
	ret->pid = pid;
	return 0;
}

int launch_own(const struct lab_machine *machine, struct launch *ret, struct error *err)
{
	struct keeper_config config = {.machine.initrd_fd = -1,
				       .client_fd = -1,
				       .listen_fd = -1,
				       .dir_fd = -1};
	char *kernel = realpath(machine->kernel, NULL);
	struct lab_machine absolute = *machine;
	int r;

	if (!kernel)
		return error_set(err, -errno, "finding the lab's kernel %s", machine->kernel);
	absolute.kernel = kernel;
	r = prepare(&absolute, &config, err);
	if (r == 0)
		r = fork_keeper(&config, -1, true, ret, err);
	fd_close(&config.machine.initrd_fd);
	free(kernel);
	return r;
}

/* Takes DIR/lab.lock. -EALREADY: somebody has it. */
static int take_lock(int dir_fd, int *ret_fd, struct error *err)
{
	struct stat ours, there;

	for (;;) {
		CLEANUP_FD int fd = openat(dir_fd, KEEPER_LOCK,
					   O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

		if (fd < 0)
			return error_set_shortage(err, -errno, "opening " KEEPER_LOCK);
		if (flock(fd, LOCK_EX | LOCK_NB) < 0)
			return errno == EWOULDBLOCK
				       ? -EALREADY
				       : error_set(err, -errno, "locking " KEEPER_LOCK);
		/* Its last holder may have removed it after we opened it. */
		if (fstat(fd, &ours) == 0 &&
		    fstatat(dir_fd, KEEPER_LOCK, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
		    ours.st_ino == there.st_ino) {
			*ret_fd = fd;
			fd = -1;
			return 0;
		}
	}
}

static int listen_in(int dir_fd, int *ret_fd, struct error *err)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un a = address(dir_fd);

	if (fd < 0)
		return error_set_shortage(err, -errno, "making the lab's socket");
	/* We have the lock: a socket that is there is nobody's. */
	unlinkat(dir_fd, KEEPER_SOCKET, 0);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, SOMAXCONN) < 0) {
		int r = error_set_shortage(err, -errno, "making the lab's socket");

		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

int launch_shared(const struct lab_machine *machine, struct launch *ret, struct error *err)
{
	CLEANUP_FD int dir_fd = open_dir(err);
	CLEANUP_FD int lock_fd = -1;
	CLEANUP_FD int listen_fd = -1;
	struct keeper_config config = {.machine.initrd_fd = -1, .client_fd = -1};
	struct lab_machine absolute = *machine;
	char *kernel = NULL;
	int r = dir_fd < 0 ? dir_fd : take_lock(dir_fd, &lock_fd, err);

	if (r < 0)
		return r;
	kernel = realpath(machine->kernel, NULL);
	if (!kernel)
		return error_set(err, -errno, "finding the lab's kernel %s", machine->kernel);
	absolute.kernel = kernel;
	r = prepare(&absolute, &config, err);
	/* Last, so that nobody connects to what may not come. */
	if (r == 0)
		r = listen_in(dir_fd, &listen_fd, err);
	if (r == 0) {
		config.listen_fd = listen_fd;
		config.dir_fd = dir_fd;
		r = fork_keeper(&config, lock_fd, false, ret, err);
		if (r < 0)
			unlinkat(dir_fd, KEEPER_SOCKET, 0);
	}
	if (r == 0 && ftruncate(lock_fd, 0) == 0)
		dprintf(lock_fd, "%d\n", (int)ret->pid);
	fd_close(&config.machine.initrd_fd);
	free(kernel);
	return r;
}

/* ---- ending -------------------------------------------------------------------------------- */

void launch_end(struct launch *l)
{
	uint64_t end_ns = now_ns() + (uint64_t)END_WAIT_MS * 1000000u;
	pid_t got = 0;

	fd_close(&l->fd);
	if (l->pid <= 0)
		return;
	while (now_ns() < end_ns) {
		got = waitpid(l->pid, NULL, WNOHANG);
		if (got != 0 && !(got < 0 && errno == EINTR))
			break;
		usleep(1000);
	}
	if (got == 0) {
		kill(l->pid, SIGKILL);
		while (waitpid(l->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	l->pid = 0;
}

/* The pid in DIR/lab.lock, which somebody holds; 0 if it says none. */
static pid_t holder(int dir_fd)
{
	CLEANUP_FD int fd = openat(dir_fd, KEEPER_LOCK, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char text[16] = "";
	uint64_t pid;

	if (fd < 0 || fd_read_all(fd, text, sizeof(text) - 1) <= 0)
		return 0;
	text[strcspn(text, "\n")] = '\0';
	return parse_uint(text, 2, INT32_MAX, &pid) < 0 ? 0 : (pid_t)pid;
}

int launch_wait_gone(unsigned limit_ms, struct error *err)
{
	CLEANUP_FD int dir_fd = open_dir(err);
	CLEANUP_FD int fd = -1;
	unsigned ms = 0;
	int r = dir_fd;

	while (r >= 0) {
		r = take_lock(dir_fd, &fd, err);
		if (r != -EALREADY)
			break;
		if (ms >= 2 * limit_ms)
			return error_set(err, -EBUSY, "ending the lab");
		if (ms >= limit_ms && ms < limit_ms + STEP_MS && holder(dir_fd) > 0)
			kill(holder(dir_fd), SIGKILL);
		usleep(STEP_MS * 1000);
		ms += STEP_MS;
		r = 0;
	}
	if (r < 0)
		return r;
	unlinkat(dir_fd, KEEPER_SOCKET, 0);
	unlinkat(dir_fd, KEEPER_LOCK, 0);
	return 0;
}
