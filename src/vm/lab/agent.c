/* The lab's inside: keeps files, starts a stasis for each session, and moves its bytes. One
 * thread. The keeper is trusted to forward, not to be right: every frame is checked. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "base/util.h"
#include "vm/lab/disks.h"
#include "vm/lab/frame.h"
#include "vm/lab/lab.h"
#include "vm/lab/paths.h"

#define STREAMS	     3
#define OUTPUTS_MAX  16
#define SESSIONS_MAX 256

struct session {
	uint32_t id;
	pid_t pid;	 /* 0: not started, or reaped */
	int fd[STREAMS]; /* our ends of its standard streams; -1: closed */
	struct lab_bytes input;
	bool input_ended, reaped;
	uint32_t credit[STREAMS]; /* what we may send on 1 and 2 */
	int status;
	char *dir;
	char *output[OUTPUTS_MAX];
	size_t output_count;
	int file_fd;  /* an upload under way */
	bool refused; /* it could not be kept: nothing more is taken */
	LIST_ENTRY(session) link;
};

struct agent {
	struct lab_conn conn;
	LIST_HEAD(, session) sessions;
	unsigned count;
	int signal_fd;
	uint64_t alive_ns; /* when to say the next ALIVE */
};

static struct session *find_or_make(struct agent *a, uint32_t id)
{
	struct session *s;

	LIST_FOREACH (s, &a->sessions, link)
		if (s->id == id)
			return s;
	s = a->count < SESSIONS_MAX ? calloc(1, sizeof(*s)) : NULL;
	if (!s)
		return NULL;
	*s = (struct session){.id = id, .fd = {-1, -1, -1}, .file_fd = -1};
	for (unsigned i = 0; i < STREAMS; i++)
		s->credit[i] = LAB_WINDOW;
	LIST_INSERT_HEAD(&a->sessions, s, link);
	a->count++;
	return s;
}

static void remove_outputs(struct session *s)
{
	for (size_t i = 0; i < s->output_count; i++) {
		CLEANUP_FREE char *path = text_format("%s/%s", s->dir, s->output[i]);

		if (path)
			unlink(path);
		free(s->output[i]);
	}
	if (s->dir)
		rmdir(s->dir);
}

static void session_free(struct agent *a, struct session *s)
{
	if (s->pid > 0)
		kill(-s->pid, SIGKILL); /* reaped by on_child, which finds no session */
	for (unsigned i = 0; i < STREAMS; i++)
		fd_close(&s->fd[i]);
	fd_close(&s->file_fd);
	lab_bytes_done(&s->input);
	remove_outputs(s);
	free(s->dir);
	LIST_REMOVE(s, link);
	a->count--;
	free(s);
}

/* A file that can't be kept. The client may be sending more of it, which is not a new file: the
 * session stays, and swallows what comes until the client has gone. */
static int refuse_files(struct agent *a, struct session *s, const char *tmp, const char *text)
{
	fd_close(&s->file_fd);
	unlink(tmp);
	s->refused = true;
	return lab_conn_send(&a->conn, s->id, LAB_ERROR, 0, text, strlen(text));
}

static int fail(struct agent *a, struct session *s, const char *text)
{
	int r = lab_conn_send(&a->conn, s->id, LAB_ERROR, 0, text, strlen(text));

	session_free(a, s);
	return r;
}

/* ---- files ---------------------------------------------------------------------------------- */

static bool hash_is_good(const struct lab_frame *f)
{
	if (f->len < LAB_HASH_LEN)
		return false;
	for (unsigned i = 0; i < LAB_HASH_LEN; i++)
		if (!f->payload[i] || !strchr("0123456789abcdef", f->payload[i]))
			return false;
	return true;
}

static int on_ask(struct agent *a, struct session *s, const struct lab_frame *f)
{
	char path[LAB_PATH_MAX];
	uint8_t have;

	if (!hash_is_good(f))
		return fail(a, s, "a malformed question for a file");
	snprintf(path, sizeof(path), LAB_FILES "/%.32s", (const char *)f->payload);
	have = access(path, R_OK) == 0;
	return lab_conn_send(&a->conn, s->id, LAB_HAVE, 0, &have, 1);
}

/* Bytes of the file under way; none: it is whole, and gets its name. */
static int on_file(struct agent *a, struct session *s, const struct lab_frame *f)
{
	char tmp[LAB_PATH_MAX], path[LAB_PATH_MAX];

	if (!hash_is_good(f))
		return fail(a, s, "a malformed file");
	snprintf(tmp, sizeof(tmp), LAB_FILES "/.%u", s->id);
	if (s->file_fd < 0) {
		s->file_fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (s->file_fd < 0)
			return refuse_files(a, s, tmp, "the lab can't keep files");
	}
	if (f->len > LAB_HASH_LEN) {
		if (fd_write_all(s->file_fd, f->payload + LAB_HASH_LEN, f->len - LAB_HASH_LEN) < 0)
			return refuse_files(a, s, tmp, "the lab's memory is full of files");
		return 0;
	}
	fd_close(&s->file_fd);
	snprintf(path, sizeof(path), LAB_FILES "/%.32s", (const char *)f->payload);
	return rename(tmp, path) < 0 ? refuse_files(a, s, tmp, "the lab can't keep files") : 0;
}

/* ---- starting ------------------------------------------------------------------------------- */

static _Noreturn void child(char **argv, const char *dir, const int theirs[STREAMS])
{
	sigset_t none;

	setpgid(0, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGXFSZ, SIG_DFL);
	for (int i = 0; i < STREAMS; i++)
		if (dup2(theirs[i], i) < 0)
			_exit(125);
	if (chdir(dir) == 0)
		execv(LAB_STASIS, argv);
	_exit(125);
}

static int spawn(struct session *s, char **argv)
{
	int theirs[STREAMS] = {-1, -1, -1}, r = 0;

	for (unsigned i = 0; r == 0 && i < STREAMS; i++) {
		int pair[2];

		r = pipe2(pair, O_CLOEXEC) < 0 ? -errno : 0;
		if (r < 0)
			break;
		s->fd[i] = pair[i == 0]; /* we write its input, and read the others */
		theirs[i] = pair[i != 0];
		(void)fcntl(s->fd[i], F_SETFL, O_NONBLOCK);
	}
	if (r == 0) {
		s->pid = fork();
		if (s->pid == 0)
			child(argv, s->dir, theirs);
		r = s->pid < 0 ? -errno : 0;
		if (s->pid > 0)
			setpgid(s->pid, s->pid);
	}
	for (unsigned i = 0; i < STREAMS; i++)
		fd_close(&theirs[i]);
	return r;
}

static bool name_is_good(const char *name)
{
	return name[0] && name[0] != '.' && !strchr(name, '/') && strlen(name) < 64;
}

static int take_outputs(struct session *s, const json_t *outputs)
{
	size_t i;
	json_t *name;

	json_array_foreach(outputs, i, name)
	{
		const char *text = json_string_value(name);

		if (!text || !name_is_good(text) || s->output_count == OUTPUTS_MAX)
			return -EPROTO;
		s->output[s->output_count] = strdup(text);
		if (!s->output[s->output_count])
			return -ENOMEM;
		s->output_count++;
	}
	return 0;
}

static int open_session(struct session *s, const json_t *open)
{
	const json_t *list = json_object_get(open, "argv");
	CLEANUP_FREE char **argv = calloc(json_array_size(list) + 2, sizeof(*argv));
	static char name[] = "stasis";
	json_t *word;
	size_t i;
	int r;

	if (!argv)
		return -ENOMEM;
	argv[0] = name;
	json_array_foreach(list, i, word)
	{
		/* The JSON owns the words; execv copies them. */
		argv[i + 1] = (char *)(uintptr_t)json_string_value(word);
		if (!argv[i + 1])
			return -EPROTO;
	}
	r = take_outputs(s, json_object_get(open, "outputs"));
	if (r < 0)
		return r;
	s->dir = text_format(LAB_SESSIONS "/%u", s->id);
	if (!s->dir)
		return -ENOMEM;
	if (mkdir(s->dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	return spawn(s, argv);
}

static int on_open(struct agent *a, struct session *s, const struct lab_frame *f)
{
	json_t *open = json_loadb((const char *)f->payload, f->len, 0, NULL);
	int r = !open || s->dir ? -EPROTO : open_session(s, open);

	json_decref(open);
	return r < 0 ? fail(a, s, "the lab could not start a stasis inside") : 0;
}

/* ---- bytes ---------------------------------------------------------------------------------- */

static uint32_t payload_u32(const struct lab_frame *f)
{
	uint32_t value = 0;

	memcpy(&value, f->payload, MIN(f->len, (uint32_t)sizeof(value)));
	return value;
}

/* Passes input on as the child takes it, and gives credit for that. */
static int pump_input(struct agent *a, struct session *s)
{
	int64_t n = s->fd[0] < 0 ? -EPIPE : lab_bytes_write(&s->input, s->fd[0]);

	if (n == -EAGAIN)
		return 0;
	if (n < 0) { /* nobody reads: as if it had been read */
		n = (int64_t)s->input.len;
		s->input.at = s->input.len = 0;
		fd_close(&s->fd[0]);
	}
	if (s->input_ended && s->input.len == 0)
		fd_close(&s->fd[0]);
	return n > 0 ? lab_conn_send_u32(&a->conn, s->id, LAB_CREDIT, 0, (uint32_t)n) : 0;
}

static int pump_output(struct agent *a, struct session *s, uint8_t channel)
{
	static uint8_t buf[LAB_PAYLOAD];

	while (s->fd[channel] >= 0 && s->credit[channel] > 0) {
		ssize_t n = read(s->fd[channel], buf, MIN(sizeof(buf), s->credit[channel]));
		int r;

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		if (n == 0) {
			fd_close(&s->fd[channel]);
			return lab_conn_send(&a->conn, s->id, LAB_EOF, channel, NULL, 0);
		}
		s->credit[channel] -= (uint32_t)n;
		r = lab_conn_send(&a->conn, s->id, LAB_DATA, channel, buf, (size_t)n);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Output files are small (reports); they go without credit, in pieces. */
static int send_outputs(struct agent *a, struct session *s)
{
	for (size_t i = 0; i < s->output_count; i++) {
		CLEANUP_FREE char *path = text_format("%s/%s", s->dir, s->output[i]);
		CLEANUP_FREE char *data = NULL;
		size_t len = 0;
		int r = 0;

		if (!path || file_read(path, MIB(64), &data, &len) < 0)
			continue; /* not written: the client sees an end without bytes */
		for (size_t at = 0; r == 0 && at < len; at += LAB_PAYLOAD)
			r = lab_conn_send(&a->conn, s->id, LAB_DATA, (uint8_t)(STREAMS + i),
					  data + at, MIN(len - at, (size_t)LAB_PAYLOAD));
		if (r < 0)
			return r;
	}
	return 0;
}

/* Once its output has been sent and it is reaped, a session ends with its status. */
static int maybe_end(struct agent *a, struct session *s)
{
	int r;

	if (!s->reaped || s->fd[1] >= 0 || s->fd[2] >= 0)
		return 0;
	r = send_outputs(a, s);
	if (r == 0)
		r = lab_conn_send_u32(&a->conn, s->id, LAB_EXIT, 0, (uint32_t)s->status);
	session_free(a, s);
	return r;
}

/* One file of a thread. */
static void append(char *text, size_t size, const char *dir, const char *tid, const char *name)
{
	CLEANUP_FREE char *path = text_format("%s/%s/%s", dir, tid, name);
	CLEANUP_FREE char *data = NULL;
	size_t len = 0, used = strlen(text);

	if (path && file_read(path, KIB(64), &data, &len) == 0)
		snprintf(text + used, size - used, "%s", data);
}

/* What a child that should have ended long ago is at: each thread's name and kernel stack. */
static int on_overdue(struct agent *a, struct session *s)
{
	CLEANUP_FREE char *dir = text_format("/proc/%d/task", (int)s->pid);
	DIR *tasks = dir && s->pid > 0 ? opendir(dir) : NULL;
	char text[KIB(8)] = "the run is two minutes past its --timeout; its threads are above\n";
	const struct dirent *entry;

	while (tasks && (entry = readdir(tasks)))
		if (entry->d_name[0] != '.') {
			append(text, sizeof(text), dir, entry->d_name, "comm");
			append(text, sizeof(text), dir, entry->d_name, "stack");
		}
	if (tasks)
		closedir(tasks);
	else
		snprintf(text, sizeof(text),
			 "the run is two minutes past its --timeout; its stasis has ended, its "
			 "output has not");
	return fail(a, s, text);
}

static int on_frame(struct agent *a, const struct lab_frame *f)
{
	struct session *s = find_or_make(a, f->session);
	uint32_t value = payload_u32(f);

	if (!s)
		return lab_conn_send(&a->conn, f->session, LAB_ERROR, 0, "the lab is full", 15);
	if (s->refused && f->type != LAB_STOP)
		return 0;
	switch (f->type) {
	case LAB_ASK:
		return on_ask(a, s, f);
	case LAB_FILE:
		return on_file(a, s, f);
	case LAB_OPEN:
		return on_open(a, s, f);
	case LAB_SIGNAL:
		if (s->pid > 0 && value > 0 && value < 65)
			kill(s->pid, (int)value);
		return 0;
	case LAB_OVERDUE:
		return on_overdue(a, s);
	case LAB_DATA:
		if (f->channel != 0 || s->input.len + f->len > LAB_WINDOW ||
		    lab_bytes_add(&s->input, f->payload, f->len) < 0)
			return fail(a, s, "input beyond its credit");
		return 0;
	case LAB_EOF:
		s->input_ended = true;
		return 0;
	case LAB_CLOSED:
		if (f->channel == 1 || f->channel == 2)
			fd_close(&s->fd[f->channel]);
		return 0;
	case LAB_CREDIT:
		if (f->channel < STREAMS && value <= LAB_WINDOW - s->credit[f->channel])
			s->credit[f->channel] += value;
		return 0;
	case LAB_STOP: /* the client is gone, before or after its session's end */
		session_free(a, s);
		return 0;
	default:
		return 0;
	}
}

static void on_child(struct agent *a)
{
	struct signalfd_siginfo info;
	struct session *s;
	int status;
	pid_t pid;

	while (read(a->signal_fd, &info, sizeof(info)) == sizeof(info))
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		LIST_FOREACH (s, &a->sessions, link) {
			if (s->pid != pid)
				continue;
			s->pid = 0;
			s->reaped = true;
			s->status =
				WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		}
	}
}

/* Waits for anything to do; false if nothing can be waited for. */
static bool wait_for_work(struct agent *a)
{
	static struct pollfd fds[3 + SESSIONS_MAX * STREAMS];
	struct session *s;
	nfds_t n = 3;

	fds[0] = (struct pollfd){.fd = a->conn.in_fd, .events = POLLIN};
	fds[1] =
		(struct pollfd){.fd = a->conn.out.len > 0 ? a->conn.out_fd : -1, .events = POLLOUT};
	fds[2] = (struct pollfd){.fd = a->signal_fd, .events = POLLIN};
	LIST_FOREACH (s, &a->sessions, link) {
		if (s->fd[0] >= 0 && s->input.len > 0)
			fds[n++] = (struct pollfd){.fd = s->fd[0], .events = POLLOUT};
		for (unsigned i = 1; i < STREAMS; i++)
			if (s->fd[i] >= 0 && s->credit[i] > 0)
				fds[n++] = (struct pollfd){.fd = s->fd[i], .events = POLLIN};
	}
	return poll(fds, n, LAB_ALIVE_MS) >= 0 || errno == EINTR;
}

static int say_alive(struct agent *a)
{
	uint64_t now = now_ns();

	if (now < a->alive_ns)
		return 0;
	a->alive_ns = now + LAB_ALIVE_MS * (uint64_t)1000000;
	return lab_conn_send(&a->conn, 0, LAB_ALIVE, 0, NULL, 0);
}

static int turn(struct agent *a)
{
	struct session *s, *next;
	struct lab_frame frame;
	int r = lab_conn_read(&a->conn);

	if (r < 0 && r != -EAGAIN)
		return r;
	while ((r = lab_conn_next(&a->conn, &frame)) > 0) {
		r = on_frame(a, &frame);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return r;
	on_child(a);
	LIST_FOREACH_SAFE (s, &a->sessions, link, next) {
		if (!s->dir)
			continue;
		r = pump_input(a, s);
		for (uint8_t i = 1; r == 0 && i < STREAMS; i++)
			r = pump_output(a, s, i);
		if (r == 0)
			r = maybe_end(a, s);
		if (r < 0)
			return r;
	}
	r = say_alive(a);
	return r < 0 ? r : lab_conn_flush(&a->conn);
}

int lab_agent(void)
{
	struct agent a = {.signal_fd = -1};
	sigset_t set;
	int r;

	LIST_INIT(&a.sessions);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	a.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	r = a.signal_fd < 0 ? -errno : dir_make(LAB_FILES, 0700);
	if (r == 0)
		r = dir_make(LAB_SESSIONS, 0700);
	if (r == 0)
		r = dir_make(LAB_SNAPSHOTS, 0700);
	if (r == 0)
		r = lab_disks_link();
	if (r == 0)
		r = lab_conn_init(&a.conn, STDIN_FILENO, STDOUT_FILENO);
	while (r == 0 && wait_for_work(&a))
		r = turn(&a);
	log_warn("lab-agent ends: %s", strerror(-r));
	return r == -ECONNRESET ? 0 : 1;
}
