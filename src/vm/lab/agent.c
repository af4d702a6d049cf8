/* The agent's loop: one connection to the keeper, many jobs. One thread. */
#include "vm/lab/agent.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "base/util.h"
#include "vm/lab/job.h"
#include "vm/lab/lab.h"
#include "vm/lab/paths.h"

#define JOBS_MAX 64

struct agent {
	const struct agent_config *config;
	struct wire wire;
	struct cache cache;
	int child_fd;
	uint32_t newest; /* id of the newest job: older unknown ones are over */
	unsigned count;
	LIST_HEAD(, job) jobs;
};

static int refuse(struct agent *a, uint32_t id, const struct error *err)
{
	uint8_t payload[sizeof(struct error) + 8];
	size_t len = message_put_error(payload, err);

	return wire_send(&a->wire, id, FRAME_ERROR, 0, payload, len);
}

static struct job *find(struct agent *a, uint32_t id)
{
	struct job *j;

	LIST_FOREACH (j, &a->jobs, link)
		if (j->id == id)
			return j;
	return NULL;
}

/* *ret_job is NULL where the client was refused. */
static int begin(struct agent *a, uint32_t id, struct job **ret_job)
{
	CLEANUP_FREE char *dir = text_format("%s/sessions/%u", a->config->dir, id);
	struct error err = {0};
	struct job *j = NULL;

	a->newest = id;
	*ret_job = NULL;
	if (a->count >= JOBS_MAX)
		error_contention(&err, "the lab runs %u sessions already", a->count);
	else if (!dir)
		error_set_shortage(&err, -ENOMEM, "starting a session in the lab");
	else if (job_new(id, dir, &a->cache, &a->wire, &j, &err) == 0)
		LIST_INSERT_HEAD(&a->jobs, j, link);
	if (!j)
		return refuse(a, id, &err);
	a->count++;
	*ret_job = j;
	return 0;
}

static int each_frame(const struct frame *f, void *arg)
{
	struct agent *a = arg;
	struct job *j = find(a, f->session);
	int r = 0;

	if (!j && f->session > a->newest && f->type != FRAME_ABORT)
		r = begin(a, f->session, &j);
	return j ? job_frame(j, f, a->config->program) : r;
}

static void reap(struct agent *a)
{
	struct signalfd_siginfo infos[8];
	int status;
	pid_t pid;

	while (read(a->child_fd, infos, sizeof(infos)) > 0)
		;
	/* One signal may stand for many children. */
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct job *j;

		LIST_FOREACH (j, &a->jobs, link)
			if (j->pid == pid)
				job_ended(j, status);
	}
}

static void remove_jobs(struct agent *a, bool all)
{
	struct job *j, *next;

	for (j = LIST_FIRST(&a->jobs); j; j = next) {
		next = LIST_NEXT(j, link);
		if (!all && (j->state != JOB_OVER || j->pid > 0))
			continue;
		LIST_REMOVE(j, link);
		a->count--;
		job_free(j);
	}
}

/* 0 at the end of the stream, 1 to go on. */
static int turn(struct agent *a)
{
	struct pollset set = {0};
	int in, out, child, r;
	struct job *j;

	in = pollset_add(&set, a->wire.in_fd, POLLIN);
	out = pollset_add(&set, a->wire.out_fd, a->wire.out_len ? POLLOUT : 0);
	child = pollset_add(&set, a->child_fd, POLLIN);
	LIST_FOREACH (j, &a->jobs, link)
		job_poll(j, &set);
	r = pollset_wait(&set, -1);
	if (r == 0 && pollset_got(&set, in))
		r = wire_read(&a->wire, each_frame, a);
	/* Before the jobs' own work, which finds out that one has come to its end. */
	if (r == 0 && pollset_got(&set, child))
		reap(a);
	LIST_FOREACH (j, &a->jobs, link)
		if (r == 0)
			r = job_work(j, &set);
	remove_jobs(a, false);
	if (r == 0)
		r = wire_flush(&a->wire);
	if (r == 0 && (pollset_got(&set, out) & (POLLERR | POLLNVAL)))
		r = -EPIPE;
	pollset_done(&set);
	return r == 0 ? 1 : r == -ECONNRESET || r == -EPIPE ? 0 : r;
}

static int init(struct agent *a, struct error *err)
{
	CLEANUP_FREE char *files = text_format("%s/" LAB_FILES, a->config->dir);
	sigset_t child;
	int r;

	LIST_INIT(&a->jobs);
	a->child_fd = -1;
	signal(SIGPIPE, SIG_IGN);
	r = wire_init(&a->wire, a->config->in_fd, a->config->out_fd);
	if (r < 0 || !files)
		return error_set(err, r < 0 ? r : -ENOMEM, "connecting the lab's agent");
	r = cache_init(&a->cache, files, a->config->cache_bytes, err);
	if (r < 0)
		return r;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &child, NULL) == 0)
		a->child_fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	return a->child_fd < 0 ? error_set(err, -errno, "preparing to run sessions") : 0;
}

static int greet(struct agent *a)
{
	struct message_hello *hello = calloc(1, sizeof(*hello));
	uint8_t *payload = malloc(FRAME_PAYLOAD_MAX);
	int r = -ENOMEM;

	if (hello && payload) {
		hello->version = MESSAGE_VERSION;
		hello->ready = true;
		hello->pid = (uint32_t)getpid();
		r = wire_send(&a->wire, 0, FRAME_HELLO, 0, payload,
			      message_put_hello(payload, hello));
	}
	free(hello);
	free(payload);
	return r == 0 ? wire_flush(&a->wire) : r;
}

int agent_run(const struct agent_config *config, struct error *err)
{
	struct agent a = {.config = config};
	struct job *j;
	int r = init(&a, err);

	if (r == 0) {
		r = greet(&a);
		r = r < 0 ? r : 1;
		while (r > 0)
			r = turn(&a);
		if (r < 0)
			error_set(err, r, "serving the lab's sessions");
	}
	/* Nobody is left to run them for; they die with us at the latest. */
	LIST_FOREACH (j, &a.jobs, link)
		job_kill(j);
	remove_jobs(&a, true);
	cache_done(&a.cache);
	fd_close(&a.child_fd);
	wire_done(&a.wire);
	return r;
}

int lab_agent(void)
{
	struct agent_config config = {.in_fd = STDIN_FILENO,
				      .out_fd = STDOUT_FILENO,
				      .dir = LAB_DIR,
				      .program = "/proc/self/exe"};
	struct error err = {0};

	if (agent_run(&config, &err) < 0) {
		log_failure(&err);
		return error_exit_status(&err);
	}
	return 0;
}
