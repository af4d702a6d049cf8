/* The stand-in for a lab. */
#include "lab_fake.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "vm/lab/agent.h"
#include "vm/lab/client.h"

#define STATUS_FAILED 200 /* plus the error's exit status would not fit: see lab_client_end */

static enum lab_fake_trouble trouble;
static char agent_dir[64];

static void __attribute__((noreturn)) die(const char *what)
{
	perror(what);
	abort();
}

static int start_machine(const struct qemu_config *config UNUSED, struct qemu *ret_qemu,
			 struct error *err)
{
	int control[2], in[2], out[2], serial[2];
	pid_t pid;

	if (trouble == LAB_FAKE_NO_MACHINE)
		return error_set_shortage(err, -ENOMEM, "starting a machine");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, out) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, serial) < 0)
		die("socketpair");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		struct agent_config agent = {.in_fd = in[1],
					     .out_fd = out[1],
					     .dir = agent_dir,
					     .program = "/bin/sh",
					     .cache_bytes = MIB(8)};
		struct error failure = {0};

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dprintf(serial[1], "a console's words\n");
		if (trouble == LAB_FAKE_DIES)
			_exit(3);
		dprintf(control[1], "hello 1\n%s\n",
			trouble == LAB_FAKE_NO_AGENT ? "failed 127 no agent" : "started");
		if (trouble == LAB_FAKE_NO_AGENT)
			pause();
		if (trouble == LAB_FAKE_NOISE) {
			dprintf(out[1], "this is not what an agent says\n");
			pause();
		}
		close(in[0]);
		close(out[0]);
		_exit(agent_run(&agent, &failure) < 0);
	}
	close(control[1]);
	close(in[1]);
	close(out[1]);
	close(serial[1]);
	*ret_qemu = (struct qemu){.pid = pid,
				  .control = control[0],
				  .in = in[0],
				  .out = out[0],
				  .err = -1,
				  .serial = serial[0],
				  .messages = -1};
	return 0;
}

static int listen_in(const char *dir)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s/" KEEPER_SOCKET, dir);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 16) < 0)
		die("listening");
	return fd;
}

void lab_fake_start(struct lab_fake *l, bool listening, enum lab_fake_trouble which)
{
	struct keeper_config config = {.listen_fd = -1, .dir_fd = -1, .start = start_machine};
	int pair[2];

	signal(SIGPIPE, SIG_IGN);
	strcpy(l->dir, "/tmp/stasis-lab-XXXXXX");
	if (!mkdtemp(l->dir) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		die("making a lab");
	config.client_fd = pair[1];
	config.machine.memory_bytes = GIB(1);
	if (listening) {
		config.listen_fd = listen_in(l->dir);
		config.dir_fd = open(l->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	trouble = which;
	strcpy(agent_dir, l->dir);
	l->keeper = fork();
	if (l->keeper < 0)
		die("fork");
	if (l->keeper == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(pair[0]);
		_exit(keeper_run(&config));
	}
	close(pair[1]);
	fd_close(&config.listen_fd);
	fd_close(&config.dir_fd);
	l->fd = pair[0];
}

void lab_fake_stop(struct lab_fake *l)
{
	char command[128];

	fd_close(&l->fd);
	kill(l->keeper, SIGTERM);
	if (waitpid(l->keeper, NULL, 0) != l->keeper)
		die("waiting for the keeper");
	snprintf(command, sizeof(command), "rm -rf '%s'", l->dir);
	if (system(command) != 0)
		die(command);
}

int lab_fake_connect(const struct lab_fake *l)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s/" KEEPER_SOCKET, l->dir);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		die("connecting");
	return fd;
}

/* ---- clients ------------------------------------------------------------------------------- */

static int run_client(int fd, const struct lab_request *request)
{
	struct message_hello hello;
	struct error err = {0};
	int status = 0;
	int r = client_hello(fd, &hello, &err);

	if (r == 0)
		r = client_run(fd, hello.ready, request, &status, &err);
	if (r == 0)
		return status;
	log_failure(&err);
	return error_exit_status(&err) == 77 ? STATUS_FAILED : STATUS_FAILED + 1;
}

void lab_client_start(struct lab_client *c, int fd, const struct lab_request *request)
{
	int in[2], out[2], err[2];

	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
		die("pipe2");
	c->pid = fork();
	if (c->pid < 0)
		die("fork");
	if (c->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (dup2(in[0], 0) < 0 || dup2(out[1], 1) < 0 || dup2(err[1], 2) < 0)
			_exit(1);
		close(in[1]);
		close(out[0]);
		close(err[0]);
		_exit(run_client(fd, request));
	}
	close(fd);
	close(in[0]);
	close(out[1]);
	close(err[1]);
	c->in = in[1];
	c->out = out[0];
	c->err = err[0];
}

struct text {
	char *data;
	size_t len;
};

/* False at the end of *fd, which is closed then. */
static bool read_more(int *fd, struct text *t)
{
	ssize_t n;

	t->data = realloc(t->data, t->len + 65536 + 1);
	if (!t->data)
		die("realloc");
	n = read(*fd, t->data + t->len, 65536);
	if (n > 0)
		t->len += (size_t)n;
	else
		fd_close(fd);
	t->data[t->len] = '\0';
	return n > 0;
}

int lab_client_end(struct lab_client *c, char **ret_out, char **ret_err)
{
	struct text out = {0}, err = {0};
	int status;

	fd_close(&c->in);
	while (c->out >= 0 || c->err >= 0) {
		struct pollfd p[2] = {{.fd = c->out, .events = POLLIN},
				      {.fd = c->err, .events = POLLIN}};

		if (poll(p, 2, -1) < 0)
			die("poll");
		if (p[0].revents)
			read_more(&c->out, &out);
		if (p[1].revents)
			read_more(&c->err, &err);
	}
	if (waitpid(c->pid, &status, 0) != c->pid)
		die("waitpid");
	if (ret_out)
		*ret_out = out.data;
	else
		free(out.data);
	if (ret_err)
		*ret_err = err.data;
	else
		free(err.data);
	status = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
	return status == STATUS_FAILED ? 377 : status == STATUS_FAILED + 1 ? 425 : status;
}
