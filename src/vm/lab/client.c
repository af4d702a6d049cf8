/* A run in the lab, seen from outside: ships files, moves standard streams and signals, takes the
 * status. Calling thread. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/log.h"
#include "base/text.h"
#include "base/util.h"
#include "vm/lab/disks.h"
#include "vm/lab/forward.h"
#include "vm/lab/frame.h"
#include "vm/lab/keeper.h"
#include "vm/lab/lab.h"
#include "vm/lab/paths.h"
#include "vm/lab/place.h"
#include "vm/lab/qemu.h"
#include "vm/progress.h"
#include "vm/qmp/socket.h"
#include "vm/result.h"
#include "vm/runtime.h"

#define STREAMS		3
#define SIGNAL_GRACE_NS 900000000u    /* the inner one's time to stop after a signal */
#define OVERDUE_NS	120000000000u /* from the request's limit, for the start and the end */
#define ANSWER_NS	20000000000u  /* the agent's time to say what holds it up */
#define NEVER		UINT64_MAX
#define TICK_MS		250

struct client {
	const struct lab_request *request;
	struct lab_conn conn;
	struct progress progress;
	int signal_fd;
	pid_t keeper; /* a private one, or 0 */
	bool ready, opened, ended, overdue;
	size_t next_file; /* the one that is asked for */
	bool asked;
	struct lab_bytes out[STREAMS]; /* 1 and 2: for our standard output and error */
	bool out_broken[STREAMS];
	bool lost_output; /* for another reason than that the reader went away: err says it */
	uint32_t credit;  /* what may be sent of standard input */
	bool input_ended;
	int killed_by;	      /* a signal that we passed on */
	uint64_t deadline_ns; /* after a signal */
	uint64_t give_up_ns;  /* the inner one should have ended by itself long before */
	int status;
	struct error *err;
};

int lab_file_hash(struct lab_file *file, struct error *err)
{
	uint8_t buf[1 << 16];
	XXH3_state_t *state = XXH3_createState();
	XXH128_hash_t hash;
	off_t at = 0;
	ssize_t n = 0;

	if (!state)
		return error_set(err, -ENOMEM, "reading a file for the lab");
	XXH3_128bits_reset(state);
	while ((n = pread(file->fd, buf, sizeof(buf), at)) > 0) {
		XXH3_128bits_update(state, buf, (size_t)n);
		at += n;
	}
	hash = XXH3_128bits_digest(state);
	XXH3_freeState(state);
	if (n < 0)
		return error_set(err, -errno, "reading a file for the lab");
	snprintf(file->hash, sizeof(file->hash), "%016llx%016llx", (unsigned long long)hash.high64,
		 (unsigned long long)hash.low64);
	return 0;
}

const char *lab_file_path(const struct lab_file *file, char *buf)
{
	snprintf(buf, LAB_PATH_MAX, LAB_FILES "/%s", file->hash);
	return buf;
}

const char *lab_build(char *buf)
{
	struct stat st = {0};

	(void)stat("/proc/self/exe", &st);
	snprintf(buf, LAB_BUILD_MAX, "%llx %llx %lld.%09ld", (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	return buf;
}

/* ---- finding a keeper --------------------------------------------------------------------------
 */

/* What tells the labs of other architectures apart, in the names of their files. */
static const char *infix(const struct arch_kind *kind)
{
	return kind == arch_kind_own() ? "" : kind->name;
}

char *lab_file_of(const struct arch_kind *kind, const char *suffix, struct error *err)
{
	CLEANUP_FREE char *dir = NULL;
	char *path;

	if (runtime_dir(&dir, err) < 0)
		return NULL;
	path = text_format("%s/.lab%s.%s", dir, infix(kind), suffix);
	if (!path)
		error_set(err, -ENOMEM, "finding the lab");
	return path;
}

static int socket_address(const struct arch_kind *kind, struct sockaddr_un *ret_address,
			  struct error *err)
{
	struct error inner = {0};
	CLEANUP_FREE char *path = lab_file_of(kind, "sock", &inner);

	if (!path) {
		if (err)
			*err = inner;
		return inner.code;
	}
	*ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(ret_address->sun_path))
		return error_usage(err, "%s: too long for a socket's name", path);
	memcpy(ret_address->sun_path, path, strlen(path) + 1);
	return 0;
}

int lab_connect_warm(const struct arch_kind *kind, struct error *err)
{
	struct sockaddr_un address;
	int fd, r = socket_address(kind, &address, err);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

/* Closes what is open but for two descriptors: a caller may wait for the end of a pipe of its own.
 */
static void close_others(int a, int b)
{
	int low = MIN(a, b), high = MAX(a, b);

	if (low > STDERR_FILENO + 1)
		close_range(STDERR_FILENO + 1, (unsigned)low - 1, 0);
	if (high > low + 1)
		close_range((unsigned)low + 1, (unsigned)high - 1, 0);
	close_range((unsigned)high + 1, ~0u, 0);
}

/* Forks a keeper that dies with us. */
static int start_private(const struct lab_machine *machine, int listen_fd, pid_t *ret_pid,
			 struct error *err)
{
	pid_t parent = getpid(), pid;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set_shortage(err, -errno, "starting the lab");
	pid = fork();
	if (pid == 0) {
		struct lab_keeper_config config = {.machine = machine,
						   .listen_fd = listen_fd,
						   .client_fd = pair[1]};

		/* Out of the terminal's foreground: its Ctrl-C is ours to pass on. */
		setsid();
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
			_exit(1);
		close_others(pair[1], listen_fd < 0 ? pair[1] : listen_fd);
		_exit(lab_keeper(&config));
	}
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return error_set_shortage(err, -errno, "starting the lab");
	}
	*ret_pid = pid;
	return pair[0];
}

/* ---- going in ----------------------------------------------------------------------------------
 */

static int ask(struct client *c)
{
	c->asked = true;
	return lab_conn_send(&c->conn, 0, LAB_ASK, 0, c->request->files[c->next_file].hash,
			     LAB_HASH_LEN);
}

static int open_session(struct client *c)
{
	const struct lab_request *q = c->request;
	json_t *argv = json_array(), *outputs = json_array();
	json_t *open = json_pack("{s:o, s:o}", "argv", argv, "outputs", outputs);
	char *text;
	int r;

	for (char **word = q->argv; *word; word++)
		if (json_array_append_new(argv, json_string(*word)) < 0) {
			json_decref(open);
			return error_usage(c->err,
					   "an argument is not UTF-8; the lab takes only that");
		}
	for (size_t i = 0; i < q->output_count; i++)
		json_array_append_new(outputs, json_string(q->outputs[i].name));
	text = json_dumps(open, JSON_COMPACT);
	json_decref(open);
	if (!text)
		return -ENOMEM;
	if (strlen(text) > LAB_PAYLOAD)
		r = error_usage(c->err, "the command line is too long for the lab");
	else
		r = lab_conn_send(&c->conn, 0, LAB_OPEN, 0, text, strlen(text));
	free(text);
	c->opened = true;
	if (q->limit_ns)
		c->give_up_ns = now_ns() + q->limit_ns + OVERDUE_NS;
	if (r == 0 && q->opened)
		q->opened(q->arg, c->keeper > 0);
	/* Until the guest says something: its boot, for the most part. */
	progress_set(&c->progress, "running in the lab");
	return r;
}

static int next_step(struct client *c)
{
	return c->next_file < c->request->file_count ? ask(c) : open_session(c);
}

/* Streams the file under way, as far as the keeper takes it. Blocks on the socket: nothing else is
 * to be done before the session is open. */
static int upload(struct client *c)
{
	const struct lab_file *file = &c->request->files[c->next_file];
	uint8_t buf[LAB_PAYLOAD];
	off_t at = 0;
	ssize_t n;
	int r = 0;

	memcpy(buf, file->hash, LAB_HASH_LEN);
	do {
		n = pread(file->fd, buf + LAB_HASH_LEN, sizeof(buf) - LAB_HASH_LEN, at);
		if (n < 0)
			return -errno;
		at += n;
		r = lab_conn_send(&c->conn, 0, LAB_FILE, 0, buf, LAB_HASH_LEN + (size_t)n);
		while (r == 0 && c->conn.out.len > 0) {
			struct pollfd fd = {.fd = c->conn.out_fd, .events = POLLOUT};

			if (poll(&fd, 1, -1) < 0 && errno != EINTR)
				return -errno;
			r = lab_conn_flush(&c->conn);
		}
	} while (r == 0 && n > 0);
	return r;
}

static int on_have(struct client *c, const struct lab_frame *f)
{
	int r = 0;

	if (!c->asked)
		return -EPROTO;
	c->asked = false;
	if (f->len != 1 || !f->payload[0])
		r = upload(c);
	c->next_file++;
	return r < 0 ? r : next_step(c);
}

/* ---- coming out --------------------------------------------------------------------------------
 */

static int on_data(struct client *c, const struct lab_frame *f)
{
	size_t output = (size_t)f->channel - STREAMS;

	if (f->channel == 0)
		return -EPROTO;
	if (f->channel >= STREAMS)
		return output < c->request->output_count
			       ? fd_write_all(c->request->outputs[output].fd, f->payload, f->len)
			       : -EPROTO;
	progress_set(&c->progress, NULL);
	if (c->out_broken[f->channel])
		return 0;
	return c->out[f->channel].len + f->len > LAB_WINDOW
		       ? -EPROTO
		       : lab_bytes_add(&c->out[f->channel], f->payload, f->len);
}

static uint32_t payload_u32(const struct lab_frame *f)
{
	uint32_t value = 0;

	memcpy(&value, f->payload, MIN(f->len, (uint32_t)sizeof(value)));
	return value;
}

/* The first line is the error; what follows shows more of it: a console's end, stacks. */
static int on_error(struct client *c, const char *text, size_t len)
{
	const char *more = memchr(text, '\n', len);
	size_t first = more ? (size_t)(more - text) : len;

	if (more)
		fprintf(stderr, "%.*s\n", (int)(len - first - 1), more + 1);
	return error_usage(c->err, "the lab: %.*s", (int)first, text);
}

static int on_frame(struct client *c, const struct lab_frame *f)
{
	char build[LAB_BUILD_MAX];

	switch (f->type) {
	case LAB_READY:
		c->ready = true;
		if (f->len != strlen(lab_build(build)) || memcmp(f->payload, build, f->len))
			return -ESTALE;
		return c->request->argv ? next_step(c) : 0;
	case LAB_HAVE:
		return on_have(c, f);
	case LAB_DATA:
		return on_data(c, f);
	case LAB_CREDIT:
		c->credit = MIN(c->credit + payload_u32(f), LAB_WINDOW);
		return 0;
	case LAB_EXIT:
		c->ended = true;
		c->status = (int)payload_u32(f);
		return 0;
	case LAB_ERROR:
		return on_error(c, (const char *)f->payload, f->len);
	default:
		return 0;
	}
}

static int pump_input(struct client *c)
{
	uint8_t buf[LAB_PAYLOAD];
	ssize_t n = read(STDIN_FILENO, buf, MIN(sizeof(buf), c->credit));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n <= 0) {
		c->input_ended = true;
		return lab_conn_send(&c->conn, 0, LAB_EOF, 0, NULL, 0);
	}
	c->credit -= (uint32_t)n;
	return lab_conn_send(&c->conn, 0, LAB_DATA, 0, buf, (size_t)n);
}

/* Writes one step of a standard stream: it may block, so only what poll allowed. */
static int pump_output(struct client *c, uint8_t channel)
{
	struct lab_bytes *b = &c->out[channel];
	size_t step = MIN(b->len, 4096u); /* PIPE_BUF: a writable pipe takes it whole */
	ssize_t n = write(channel == 1 ? STDOUT_FILENO : STDERR_FILENO, b->data + b->at, step);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n < 0) {
		/* As in a machine of our own: guest_events.c. */
		if (errno != EPIPE && !c->lost_output) {
			error_set(c->err, -errno, VM_LOST_OUTPUT,
				  channel == 1 ? "output" : "error");
			c->lost_output = true;
		}
		c->out_broken[channel] = true;
		b->len = 0;
		return lab_conn_send(&c->conn, 0, LAB_CLOSED, channel, NULL, 0);
	}
	b->at += (size_t)n;
	b->len -= (size_t)n;
	return lab_conn_send_u32(&c->conn, 0, LAB_CREDIT, channel, (uint32_t)n);
}

static int on_signal(struct client *c)
{
	struct signalfd_siginfo info;

	if (read(c->signal_fd, &info, sizeof(info)) != sizeof(info))
		return 0;
	if (info.ssi_signo == SIGWINCH)
		return 0;
	/* Before there is a session, or asked twice: no waiting. */
	if (!c->opened || c->killed_by) {
		c->killed_by = (int)info.ssi_signo;
		c->deadline_ns = 0;
		return 0;
	}
	c->killed_by = (int)info.ssi_signo;
	c->deadline_ns = now_ns() + SIGNAL_GRACE_NS;
	return lab_conn_send_u32(&c->conn, 0, LAB_SIGNAL, 0, info.ssi_signo);
}

enum { CONN, SIGNALS, IN, OUT, ERR, CONTROL, POLLED = CONTROL + LAB_CONTROLS };

static int wait_for_work(struct client *c, struct pollfd fds[POLLED])
{
	uint64_t now = now_ns(), until = MIN(c->deadline_ns, c->give_up_ns);
	uint64_t left_ms = until > now ? (until - now) / 1000000 + 1 : 0;
	int timeout_ms = c->progress.what ? TICK_MS : -1;

	fds[CONN] =
		(struct pollfd){.fd = c->conn.in_fd,
				.events = (short)(POLLIN | (c->conn.out.len > 0 ? POLLOUT : 0))};
	fds[SIGNALS] = (struct pollfd){.fd = c->signal_fd, .events = POLLIN};
	fds[IN] = (struct pollfd){.fd = c->opened && !c->input_ended && c->credit > 0 ? STDIN_FILENO
										      : -1,
				  .events = POLLIN};
	fds[OUT] = (struct pollfd){.fd = c->out[1].len > 0 ? STDOUT_FILENO : -1, .events = POLLOUT};
	fds[ERR] = (struct pollfd){.fd = c->out[2].len > 0 ? STDERR_FILENO : -1, .events = POLLOUT};
	for (size_t i = 0; i < LAB_CONTROLS; i++)
		fds[CONTROL + i] =
			(struct pollfd){.fd = c->opened && !c->ended &&
							      i < c->request->control_count
						      ? c->request->control_fd[i]
						      : -1,
					.events = POLLIN};
	if (c->ended)
		fds[CONN].fd = -1; /* what is left is ours to write */
	if (until != NEVER)
		timeout_ms = (int)MIN(left_ms, timeout_ms < 0 ? INT_MAX : (uint64_t)timeout_ms);
	return poll(fds, POLLED, timeout_ms) < 0 && errno != EINTR ? -errno : 0;
}

static int turn(struct client *c, const struct pollfd fds[POLLED])
{
	struct lab_frame f;
	int r = 0;

	if (fds[CONN].revents & (POLLIN | POLLHUP | POLLERR)) {
		r = lab_conn_read(&c->conn);
		if (r == -ECONNRESET)
			return error_set(c->err, r, "talking to the lab");
		r = r == -EAGAIN ? 0 : r;
		while (r == 0 && !c->ended && (r = lab_conn_next(&c->conn, &f)) > 0)
			r = on_frame(c, &f);
	}
	if (r == 0 && fds[SIGNALS].revents)
		r = on_signal(c);
	if (r == 0 && fds[IN].revents)
		r = pump_input(c);
	if (r == 0 && fds[OUT].revents)
		r = pump_output(c, 1);
	if (r == 0 && fds[ERR].revents)
		r = pump_output(c, 2);
	for (size_t i = 0; r == 0 && i < LAB_CONTROLS; i++)
		if (fds[CONTROL + i].revents)
			lab_forward(c->request, c->keeper > 0,
				    i == LAB_VSOCK ? RUNTIME_VSOCK : RUNTIME_SOCKET,
				    fds[CONTROL + i].fd);
	if (r == 0 && !c->ended)
		r = lab_conn_flush(&c->conn);
	progress_tick(&c->progress);
	return r < 0 && r != -ESTALE ? error_set(c->err, r, "talking to the lab") : r;
}

/* First asks why: the answer ends the session. */
static int give_up(struct client *c)
{
	if (c->overdue)
		return error_usage(c->err,
				   "the lab: the run is overdue, and nothing inside says why");
	c->overdue = true;
	c->give_up_ns = now_ns() + ANSWER_NS;
	return lab_conn_send(&c->conn, 0, LAB_OVERDUE, 0, NULL, 0);
}

static bool is_over(const struct client *c)
{
	if (c->killed_by && now_ns() >= c->deadline_ns)
		return true;
	return c->ended && c->out[1].len == 0 && c->out[2].len == 0;
}

static int watch_signals(void)
{
	static const int signos[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(signos); i++)
		sigaddset(&set, signos[i]);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Until the session is over (or, without a request, the lab is up). */
static int converse(struct client *c)
{
	struct pollfd fds[POLLED];
	int r = 0;

	while (r == 0 && !is_over(c) && (c->request->argv || !c->ready)) {
		r = wait_for_work(c, fds);
		if (r == 0)
			r = turn(c, fds);
		if (r == 0 && !is_over(c) && now_ns() >= c->give_up_ns)
			r = give_up(c);
	}
	return r;
}

static int client_run(struct client *c, int fd, int *ret_status, struct error *err)
{
	int r;

	c->err = err;
	c->credit = LAB_WINDOW;
	c->deadline_ns = c->give_up_ns = NEVER;
	c->signal_fd = watch_signals();
	progress_init(&c->progress, c->request->progress);
	progress_set(&c->progress, "starting the lab");
	r = lab_conn_init(&c->conn, fd, fd);
	if (r < 0)
		error_set(err, r, "talking to the lab");
	if (r == 0)
		r = converse(c);
	progress_set(&c->progress, NULL);
	if (r == 0)
		*ret_status = c->killed_by && !c->ended ? 128 + c->killed_by
			      : c->lost_output		? 125
							: c->status;
	lab_conn_done(&c->conn);
	for (unsigned i = 0; i < STREAMS; i++)
		lab_bytes_done(&c->out[i]);
	fd_close(&c->signal_fd);
	/* It has seen us hang up; QEMU is gone when it is. */
	if (c->keeper > 0)
		waitpid(c->keeper, NULL, 0);
	return r;
}

int lab_session(int fd, const struct lab_request *request, int *ret_status, struct error *err)
{
	struct client c = {.request = request};

	return client_run(&c, fd, ret_status, err);
}

/* What a warm lab has not got. */
static bool needs_own(const struct lab_machine *machine)
{
	return !lab_has_disks(machine->kind, machine->disks, machine->disk_count) ||
	       machine->net_count > 0 || (machine->kind->lab_cpus && lab_wants_host_cpus(machine));
}

int lab_run(const struct lab_machine *machine, const struct lab_request *request, int *ret_status,
	    struct error *err)
{
	struct client warm = {.request = request}, cold = {.request = request};
	struct qmp_socket keeper = {.fd = -1, .dir_fd = -1};
	int fd = needs_own(machine) ? -1 : lab_connect_warm(machine->kind, err), r = -ESTALE;

	if (fd >= 0) {
		r = client_run(&warm, fd, ret_status, err);
		if (r == -ESTALE)
			log_warn("the warm lab is of another build and is not used; stasis lab "
				 "stop ends it");
	}
	if (r != -ESTALE)
		return r;
	r = lab_qemu_check(machine->kind, err);
	if (r < 0)
		return r;
	if (request->keeper_path) {
		r = qmp_socket_listen(request->keeper_path, &keeper, err);
		if (r < 0)
			return r;
	}
	fd = start_private(machine, keeper.fd, &cold.keeper, err);
	/* The keeper's alone: where it is gone, nobody shall wait to be let in. */
	fd_close(&keeper.fd);
	r = fd < 0 ? fd : client_run(&cold, fd, ret_status, err);
	qmp_socket_done(&keeper);
	return r;
}

/* ---- a warm lab --------------------------------------------------------------------------------
 */

bool lab_is_warm(const struct arch_kind *kind)
{
	int fd = lab_connect_warm(kind, NULL);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* The keeper as a process of its own, that nobody waits for. It holds the lock by its copy of the
 * descriptor. */
static int fork_keeper(const struct lab_machine *machine, int listen_fd, int lock_fd,
		       struct error *err)
{
	pid_t pid = fork();

	if (pid < 0)
		return error_set_shortage(err, -errno, "starting the lab");
	if (pid == 0) {
		struct lab_keeper_config config = {.machine = machine,
						   .listen_fd = listen_fd,
						   .client_fd = -1};
		int null = open("/dev/null", O_RDWR);

		setsid();
		if (fork() > 0)
			_exit(0);
		if (dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
			_exit(1);
		close_others(listen_fd, lock_fd);
		_exit(lab_keeper(&config));
	}
	waitpid(pid, NULL, 0);
	return 0;
}

/* The lock that a warm lab's keeper holds while it lives. -EALREADY if one does. */
static int take_lock(const struct arch_kind *kind, struct error *err)
{
	CLEANUP_FREE char *path = lab_file_of(kind, "lock", err);
	int fd;

	if (!path)
		return err->code;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return error_set(err, -errno, "opening the lab's lock %s", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		close(fd);
		error_usage(err, "a lab is running already, or starting; stasis lab stop ends it");
		return -EALREADY;
	}
	return fd;
}

/* Under the lock, a socket that is there is a dead keeper's. */
static int listen_warm(const struct arch_kind *kind, struct error *err)
{
	struct sockaddr_un address;
	int fd, r = socket_address(kind, &address, err);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unlink(address.sun_path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, 64) < 0) {
		r = error_set_shortage(err, -errno, "making the lab's socket %s", address.sun_path);
		fd_close(&fd);
		return r;
	}
	return fd;
}

int lab_start(const struct lab_machine *machine, struct error *err)
{
	const struct lab_request nothing = {.progress = true};
	struct client c = {.request = &nothing};
	CLEANUP_FD int lock_fd = -1;
	int fd, status, r = lab_qemu_check(machine->kind, err);

	if (r < 0)
		return r;
	lock_fd = take_lock(machine->kind, err);
	if (lock_fd < 0)
		return lock_fd;
	r = lab_disks_publish(machine, err);
	if (r < 0)
		return r;
	fd = listen_warm(machine->kind, err);
	if (fd < 0)
		return fd;
	r = fork_keeper(machine, fd, lock_fd, err);
	close(fd);
	if (r < 0)
		return r;
	fd = lab_connect_warm(machine->kind, err);
	if (fd < 0)
		return error_set(err, fd, "talking to the lab");
	r = client_run(&c, fd, &status, err);
	/* Interrupted: the lab goes on starting, but nobody has seen it up. */
	return r == 0 && status != 0 ? error_set(err, -EINTR, "waiting for the lab") : r;
}

int lab_stop(const struct arch_kind *kind, struct error *err)
{
	struct sockaddr_un address;
	struct lab_conn conn;
	char byte;
	int fd = lab_connect_warm(kind, NULL), r;

	if (fd < 0)
		return error_usage(err, "no lab is running");
	r = lab_conn_init(&conn, fd, fd);
	if (r == 0)
		r = lab_conn_send(&conn, 0, LAB_STOP, 0, NULL, 0);
	if (r == 0)
		r = lab_conn_flush(&conn);
	/* Its hanging up says that it is down, QEMU and all. */
	while (r == 0) {
		struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

		if (poll(&poll_fd, 1, -1) > 0 && read(fd, &byte, 1) <= 0)
			break;
	}
	lab_conn_done(&conn);
	if (socket_address(kind, &address, NULL) == 0)
		unlink(address.sun_path);
	return r < 0 ? error_set(err, r, "stopping the lab") : 0;
}
