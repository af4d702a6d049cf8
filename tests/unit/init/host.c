/* Plays the host to init's session. The child does what init's main does once it has its ports. */
#include "host.h"

#include <assert.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINE_TIMEOUT_MS 20000
#define CLOSED_STDIN	"closed stdin"

static struct serve serve;

static void __attribute__((noreturn))
play_init(const char *const *argv, int control, const int *ports)
{
	static const char *const env[] = {"PATH=/usr/bin:/bin", "STREAMS=piped", NULL};
	struct command c = {.argv = argv, .envp = env, .cwd = "/", .tty = -1};
	bool through = true;

	/* Orphans come to us, as to process 1. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (serve_init(&serve, control) < 0)
		_exit(2);
	control_send(&serve.control, "hello %d", SESSION_VERSION);
	if (serve_wait_go(&serve) && serve_start(&serve, &c, ports)) {
		through = serve_run(&serve);
		if (through)
			serve_tell_end(&serve);
	}
	control_send(&serve.control, "done");
	serve_wait_bye(&serve);
	if (serve.command > 0)
		kill(-serve.command, SIGKILL);
	serve_done(&serve);
	_exit(through ? 0 : 3);
}

static void pair(int *host, int *guest)
{
	int ends[2];
	int r = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends);

	assert(r == 0);
	*host = ends[0];
	*guest = ends[1];
	r = fcntl(*guest, F_SETFL, O_NONBLOCK);
	assert(r == 0);
	(void)r;
}

void host_start(struct host *h, const char *const *argv)
{
	int control, port[SERVE_STREAMS];

	pair(&h->control, &control);
	for (unsigned i = 0; i < SERVE_STREAMS; i++)
		pair(&h->port[i], &port[i]);
	h->init = fork();
	assert(h->init >= 0);
	if (h->init == 0) {
		close(h->control);
		for (unsigned i = 0; i < SERVE_STREAMS; i++)
			close(h->port[i]);
		play_init(argv, control, port);
	}
	close(control);
	for (unsigned i = 0; i < SERVE_STREAMS; i++)
		close(port[i]);
}

void host_say(struct host *h, const char *line)
{
	char text[SESSION_LINE_MAX + 2];
	int n = snprintf(text, sizeof(text), "%s\n", line);
	ssize_t sent = send(h->control, text, (size_t)n, MSG_NOSIGNAL);

	assert(sent == n);
	(void)sent;
}

const char *host_any_line(struct host *h)
{
	size_t len = 0;

	for (;;) {
		struct pollfd fd = {.fd = h->control, .events = POLLIN};
		char c;

		if (poll(&fd, 1, LINE_TIMEOUT_MS) != 1 || read(h->control, &c, 1) != 1)
			return NULL;
		if (c == '\n')
			break;
		assert(len < SESSION_LINE_MAX);
		h->line[len++] = c;
	}
	h->line[len] = '\0';
	return h->line;
}

const char *host_line(struct host *h)
{
	const char *line;

	do
		line = host_any_line(h);
	while (line && !strcmp(line, CLOSED_STDIN));
	return line;
}

/* COMMAND's end is told, or nothing can be. */
static bool ended(struct host *h)
{
	char start[sizeof(CLOSED_STDIN) - 1];
	ssize_t n = recv(h->control, start, sizeof(start), MSG_PEEK);

	if (n != sizeof(start) || memcmp(start, CLOSED_STDIN, sizeof(start)) != 0)
		return true;
	return !host_any_line(h);
}

size_t host_read(struct host *h, enum serve_stream stream, void *data, size_t len)
{
	size_t got = 0;

	while (got < len) {
		struct pollfd fds[2] = {{.fd = h->port[stream], .events = POLLIN},
					{.fd = h->control, .events = POLLIN}};
		ssize_t n;

		if (poll(fds, 2, LINE_TIMEOUT_MS) <= 0)
			break;
		/* Its output was sent before. */
		if (!fds[0].revents && ended(h))
			break;
		if (!fds[0].revents)
			continue;
		n = read(h->port[stream], (char *)data + got, len - got);
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	return got;
}

void host_close(struct host *h, enum serve_stream stream)
{
	if (h->port[stream] >= 0)
		close(h->port[stream]);
	h->port[stream] = -1;
}

bool host_end(struct host *h)
{
	int status;

	(void)!send(h->control, "bye\n", 4, MSG_NOSIGNAL);
	while (waitpid(h->init, &status, 0) < 0)
		;
	close(h->control);
	for (unsigned i = 0; i < SERVE_STREAMS; i++)
		host_close(h, i);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

uint32_t host_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}
