/* Starts measured programs, and looks at them from outside. Main thread. */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/text.h"

#define MEMORY_MIB "256"
#define STAMP_MS   60000

extern char **environ;

/* ---- one child ------------------------------------------------------------------------- */

static void said_path(char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/said", getenv("XDG_RUNTIME_DIR") ?: "/tmp");
}

char *child_said(void)
{
	char path[PATH_MAX], *text = NULL;
	size_t len;

	said_path(path);
	if (file_read(path, KIB(64), &text, &len) < 0 || len == 0) {
		free(text);
		return NULL;
	}
	text[strcspn(text, "\n")] = '\0';
	text_one_line(text);
	return text;
}

static int no_stamp(struct child *child, const char *name, struct error *err)
{
	CLEANUP_FREE char *text = NULL;
	int status = 0;

	kill(child->pid, SIGKILL);
	waitpid(child->pid, &status, 0);
	fd_close(&child->fd);
	text = child_said();
	if (!text)
		return error_failed(err, "%s: it ended or hung before its guest ran", name);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		return error_contention(err, "%s: %s", name, text);
	return error_failed(err, "%s: %s", name, text);
}

static int spawn(char *const *argv, const char *said, int fd, int out_fd, pid_t *ret_pid)
{
	posix_spawn_file_actions_t files;
	int r;

	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	if (out_fd >= 0)
		posix_spawn_file_actions_adddup2(&files, out_fd, STDOUT_FILENO);
	else
		posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&files, STDERR_FILENO, said, O_WRONLY | O_CREAT | O_TRUNC,
					 0600);
	/* The same number: takes close-on-exec away. */
	posix_spawn_file_actions_adddup2(&files, fd, fd);
	r = posix_spawn(ret_pid, argv[0], &files, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&files);
	return -r;
}

int child_start(const struct bench *b, char *const *argv, int out_fd, struct child *ret_child,
		struct error *err)
{
	struct child child = {0};
	char number[16], said[PATH_MAX];
	int ends[2], r = bench_pin(b, -1, err);
	struct pollfd stamp;

	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return error_set_shortage(err, -errno, "making a pair of sockets");
	snprintf(number, sizeof(number), "%d", ends[1]);
	said_path(said);
	setenv(CHILD_FD, number, 1);
	child.fd = ends[0];
	child.began_ns = now_ns();
	r = spawn(argv, said, ends[1], out_fd, &child.pid);
	fd_close(&ends[1]);
	if (r < 0) {
		fd_close(&child.fd);
		return error_set_shortage(err, r, "starting %s", argv[0]);
	}
	stamp = (struct pollfd){.fd = child.fd, .events = POLLIN};
	if (poll(&stamp, 1, STAMP_MS) != 1 ||
	    read(child.fd, &child.entered_ns, sizeof(child.entered_ns)) !=
		    (ssize_t)sizeof(child.entered_ns))
		return no_stamp(&child, argv[0], err);
	*ret_child = child;
	return 0;
}

void child_end(struct child *child, int signo)
{
	if (signo)
		kill(child->pid, signo);
	waitpid(child->pid, NULL, 0);
	fd_close(&child->fd);
}

/* ---- its memory ------------------------------------------------------------------------ */

/* Entries of /proc/PID/smaps end with VmFlags: sh is shared, dd not dumped, dc not copied to
 * children (proc(5)). A page of a program that was just built is dirty in the page cache, and
 * counts as such in whoever alone has it mapped: what a private mapping has of its own is
 * anonymous. */
int child_private(const struct child *child, double *ret_bytes, struct error *err)
{
	char path[64], line[512];
	double sum = 0, dirty = 0, anonymous = 0;
	FILE *in;

	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)child->pid);
	in = fopen(path, "re");
	if (!in)
		return error_set(err, -errno, "reading %s", path);
	while (fgets(line, sizeof(line), in)) {
		if (!strncmp(line, "Private_Dirty:", 14))
			dirty = strtod(line + 14, NULL) * 1024;
		else if (!strncmp(line, "Anonymous:", 10))
			anonymous = strtod(line + 10, NULL) * 1024;
		else if (!strncmp(line, "VmFlags:", 8) &&
			 !(strstr(line, " dd") && strstr(line, " dc")))
			sum += strstr(line, " sh") ? dirty : MIN(dirty, anonymous);
	}
	fclose(in);
	*ret_bytes = sum;
	return 0;
}

/* ---- command lines --------------------------------------------------------------------- */

void child_argv_free(char **argv)
{
	for (char **a = argv; a && *a; a++)
		free(*a);
	free(argv);
}

char **child_argv(char *const *words, size_t n, struct error *err)
{
	char **argv = calloc(1, sizeof(*argv));

	if (argv)
		return child_argv_add(argv, words, n, err);
	for (size_t i = 0; i < n; i++)
		free(words[i]);
	error_set_shortage(err, -ENOMEM, "making a command line");
	return NULL;
}

char **child_argv_add(char **argv, char *const *words, size_t n, struct error *err)
{
	size_t had = 0;
	char **longer;
	bool all;

	while (argv && argv[had])
		had++;
	longer = argv ? reallocarray(argv, had + n + 1, sizeof(*argv)) : NULL;
	all = longer != NULL;
	for (size_t i = 0; i < n; i++)
		all = all && words[i];
	if (all) {
		memcpy(longer + had, words, n * sizeof(*words));
		longer[had + n] = NULL;
		return longer;
	}
	for (size_t i = 0; i < n; i++)
		free(words[i]);
	child_argv_free(longer ?: argv);
	if (err->code == 0)
		error_set_shortage(err, -ENOMEM, "making a command line");
	return NULL;
}

char **child_product_argv(const struct bench *b, const char *program, unsigned vcpus,
			  const char *guest, struct error *err)
{
	char *words[] = {
		program		    ? text_format("%s/%s", b->folder, program)
		: b->options.stasis ? strdup(b->options.stasis)
				    : text_format("%s/bench-stasis", b->folder),
		strdup("run"),
		strdup("--no-lab"),
		strdup("-q"),
		strdup("-m"),
		strdup(MEMORY_MIB "M"),
		strdup("-k"),
		text_format("%s/%s", b->folder, guest),
		strdup("-i"),
		strdup("/dev/null"),
		strdup("-c"),
		text_format("%u", vcpus),
	};

	return child_argv(words, ARRAY_SIZE(words), err);
}

char **child_floor_argv(const struct bench *b, unsigned vcpus, const char *guest, struct error *err)
{
	char *words[] = {
		text_format("%s/floor-start", b->folder),
		text_format("%u", vcpus),
		strdup(MEMORY_MIB),
		text_format("%s/%s", b->folder, guest),
	};

	return child_argv(words, ARRAY_SIZE(words), err);
}

char **child_floor_restore_argv(const struct bench *b, const char *folder, struct error *err)
{
	char *words[] = {
		text_format("%s/floor-start", b->folder),
		strdup("1"),
		strdup(MEMORY_MIB),
		strdup("--restore"),
		text_format("%s/memory", folder),
	};

	return child_argv(words, ARRAY_SIZE(words), err);
}

char **child_peer_argv(const struct bench *b, const char *preload, unsigned vcpus,
		       const char *guest, struct error *err)
{
	/* env, because what is loaded into the peer must not be loaded into us. */
	char *words[] = {
		strdup("/usr/bin/env"),
		text_format("LD_PRELOAD=%s/%s", b->folder, preload),
		strdup(CHILD_PEER),
		strdup("-nodefaults"),
		strdup("-no-user-config"),
		strdup("-display"),
		strdup("none"),
		strdup("-serial"),
		strdup("null"),
		strdup("-machine"),
		strdup("microvm,accel=kvm"),
		strdup("-cpu"),
		/* Some KVM back ends name that register and don't take it. */
		strdup("host,-arch-capabilities"),
		strdup("-m"),
		strdup(MEMORY_MIB "M"),
		strdup("-smp"),
		text_format("%u", vcpus),
		strdup("-kernel"),
		text_format("%s/%s", b->folder, guest),
	};

	return child_argv(words, ARRAY_SIZE(words), err);
}

bool child_peer_is_there(void)
{
	CLEANUP_FREE char *path = strdup(getenv("PATH") ?: "");
	char *next = path;
	bool there = false;

	for (char *folder; !there && next && (folder = strsep(&next, ":"));) {
		CLEANUP_FREE char *file = text_format("%s/" CHILD_PEER, folder);

		there = file && access(file, X_OK) == 0;
	}
	return there;
}

/* ---- the folder ------------------------------------------------------------------------ */

int child_folder_make(const struct bench *b, char **ret_path, struct error *err)
{
	const char *work = b->options.work ?: getenv("TMPDIR") ?: "/tmp";
	char *path = text_format("%s/stasis-bench-XXXXXX", work);

	if (!path)
		return error_set_shortage(err, -ENOMEM, "making a folder");
	if (!mkdtemp(path)) {
		int r = error_set(err, -errno, "making a folder in %s", work);

		free(path);
		return r;
	}
	setenv("XDG_RUNTIME_DIR", path, 1);
	*ret_path = path;
	return 0;
}

static int remove_one(const char *path, const struct stat *st UNUSED, int type UNUSED,
		      struct FTW *at UNUSED)
{
	return remove(path);
}

void child_folder_remove(char *path)
{
	if (path)
		nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(path);
}
