/* Starts COMMAND. One thread: init's. */
#include "guest/init/command.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Reads size bytes, or to the end of file; the number, or a negative errno. */
static ssize_t read_all(int fd, char *data, size_t size)
{
	size_t len = 0;

	while (len < size) {
		ssize_t n = read(fd, data + len, size - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return (ssize_t)len;
}

/* fd's strings behind their vector, in one allocation. */
static int load(int fd, const char ***ret_strings)
{
	size_t count = 0, vector_bytes, text_bytes;
	const char **strings;
	struct stat st;
	char *text;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size < 0 || st.st_size > COMMAND_FILE_MAX)
		return -E2BIG;
	text_bytes = (size_t)st.st_size;
	text = malloc(text_bytes + 1);
	if (!text)
		return -ENOMEM;
	n = read_all(fd, text, text_bytes);
	if (n < 0) {
		free(text);
		return (int)n;
	}
	/* A last string without its NUL counts as one. */
	text_bytes = (size_t)n;
	if (text_bytes && text[text_bytes - 1])
		text_bytes++;
	text[n] = '\0';
	for (size_t i = 0; i < text_bytes; i++)
		count += text[i] == '\0';
	vector_bytes = (count + 1) * sizeof(*strings);
	strings = malloc(vector_bytes + text_bytes);
	if (!strings) {
		free(text);
		return -ENOMEM;
	}
	memcpy((char *)strings + vector_bytes, text, text_bytes);
	free(text);
	text = (char *)strings + vector_bytes;
	for (size_t i = 0; i < count; i++) {
		strings[i] = text;
		text += strlen(text) + 1;
	}
	strings[count] = NULL;
	*ret_strings = strings;
	return 0;
}

int command_load(const char *path, const char ***ret_strings)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	r = load(fd, ret_strings);
	close(fd);
	return r;
}

static size_t name_len(const char *entry)
{
	return strcspn(entry, "=");
}

static bool same_name(const char *a, const char *b)
{
	size_t len = name_len(a);

	return len == name_len(b) && !memcmp(a, b, len);
}

const char **command_env(const char *const *base, const char *const *over)
{
	size_t count = 0, n = 0;
	const char **env;

	for (const char *const *e = base; *e; e++)
		count++;
	for (const char *const *e = over; *e; e++)
		count++;
	env = malloc((count + 1) * sizeof(*env));
	if (!env)
		return NULL;
	for (const char *const *e = base; *e; e++)
		env[n++] = *e;
	for (const char *const *e = over; *e; e++) {
		size_t i = 0;

		/* Not an assignment, so it would hide nothing and name nothing. */
		if (!strchr(*e, '=') || **e == '=')
			continue;
		while (i < n && !same_name(env[i], *e))
			i++;
		env[i] = *e;
		if (i == n)
			n++;
	}
	env[n] = NULL;
	return env;
}

const char *command_env_get(const char *const *env, const char *name)
{
	size_t len = strlen(name);
	const char *value = NULL;

	for (const char *const *e = env; *e; e++)
		if (!strncmp(*e, name, len) && (*e)[len] == '=')
			value = *e + len + 1;
	return value;
}

static void default_signals(void)
{
	sigset_t none;

	for (int signo = 1; signo < NSIG; signo++)
		signal(signo, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* In the child. Returns only on failure, with errno set. */
static void become(const struct command *c)
{
	const char *path = command_env_get(c->envp, "PATH");

	setsid();
	if (c->tty >= 0)
		ioctl(c->tty, TIOCSCTTY, 1);
	for (int i = 0; i < 3; i++)
		if (dup2(c->stdio[i], i) < 0)
			return;
	(void)close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC);
	if (c->cwd && chdir(c->cwd) < 0)
		return;
	/* execvpe looks a plain name up in this process's PATH. */
	if (path)
		setenv("PATH", path, 1);
	default_signals();
	execvpe(c->argv[0], (char *const *)c->argv, (char *const *)c->envp);
}

int command_start(const struct command *c, pid_t *ret_pid)
{
	int told[2], error = 0;
	ssize_t n;
	pid_t pid;

	if (!c->argv[0])
		return -ENOENT;
	/* Exec closes the child's end; an errno on it means that exec failed. */
	if (pipe2(told, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		become(c);
		error = errno;
		(void)!write(told[1], &error, sizeof(error));
		_exit(COMMAND_STATUS_NOT_RUN);
	}
	error = pid < 0 ? errno : 0;
	close(told[1]);
	if (pid > 0) {
		n = read_all(told[0], (char *)&error, sizeof(error));
		if (n != sizeof(error))
			error = 0;
		else
			while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
				;
	}
	close(told[0]);
	if (error)
		return -error;
	*ret_pid = pid;
	return 0;
}

int command_failed_status(int error)
{
	return error == -ENOENT ? COMMAND_STATUS_NOT_FOUND : COMMAND_STATUS_NOT_RUN;
}
