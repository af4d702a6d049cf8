/* A program in a process group of its own. Main thread, and its signal handler. */
#include "spawned.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"

#define LAST_TRIES 200 /* of 10 ms: for those that are ending */

extern char **environ;

static const int enders[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
static volatile sig_atomic_t came; /* the signal */
static volatile sig_atomic_t group;

static void on_end(int signo)
{
	came = signo;
	if (group > 0)
		kill(-(pid_t)group, SIGTERM);
}

void spawned_init(void)
{
	struct sigaction action = {.sa_handler = on_end};

	sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < ARRAY_SIZE(enders); i++)
		sigaction(enders[i], &action, NULL);
}

/* Blocked around it, so that a signal comes before there is a program or finds its group. */
static int spawn(char *const *argv, bool output)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t block, old;
	pid_t pid = 0;
	int r;

	sigemptyset(&block);
	for (size_t i = 0; i < ARRAY_SIZE(enders); i++)
		sigaddset(&block, enders[i]);
	posix_spawn_file_actions_init(&files);
	if (!output)
		posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	sigprocmask(SIG_BLOCK, &block, &old);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &old);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
	r = came ? -EINTR : -posix_spawn(&pid, argv[0], &files, &attr, argv, environ);
	group = pid;
	sigprocmask(SIG_SETMASK, &old, NULL);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return r;
}

static const char *name_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

int spawned_failed(const char *path, int status, struct error *err)
{
	return error_failed(err, "%s ended with status %d; why is said above", name_of(path),
			    status);
}

int spawned_run(char *const *argv, bool output, struct error *err)
{
	const struct timespec pause = {.tv_nsec = 10000000};
	int r, status = 0;
	pid_t pid;

	fflush(stdout);
	r = spawn(argv, output);
	if (r < 0)
		return error_set(err, r, "running %s", argv[0]);
	pid = (pid_t)group;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	/* What it started ends with it; a machine takes a moment. */
	kill(-pid, SIGTERM);
	for (unsigned i = 0; i < LAST_TRIES && kill(-pid, 0) == 0; i++)
		nanosleep(&pause, NULL);
	group = 0;
	if (came)
		return error_set(err, -EINTR, "running %s", argv[0]);
	if (!WIFEXITED(status))
		return error_failed(err, "%s was ended by signal %d (%s)", name_of(argv[0]),
				    WTERMSIG(status), sigdescr_np(WTERMSIG(status)) ?: "?");
	return WEXITSTATUS(status);
}

void spawned_die(void)
{
	if (!came)
		return;
	fflush(stdout);
	signal(came, SIG_DFL);
	raise(came);
}
