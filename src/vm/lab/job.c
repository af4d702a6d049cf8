/* One session inside the lab. Owned by the agent's thread. */
#include "vm/lab/job.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"
#include "vm/lab/spawn.h"

int job_new(uint32_t id, const char *dir, struct cache *cache, struct wire *wire,
	    struct job **ret_job, struct error *err)
{
	struct job *j = calloc(1, sizeof(*j));
	int r = -ENOMEM;

	if (j) {
		j->dir = strdup(dir);
		r = j->dir ? dir_make(dir, 0700) : -ENOMEM;
	}
	if (r < 0) {
		if (j)
			free(j->dir);
		free(j);
		return error_set_shortage(err, r, "making %s", dir);
	}
	j->id = id;
	j->cache = cache;
	j->wire = wire;
	j->tty = -1;
	j->in.finished = j->out.finished = j->err.finished = j->output.finished = true;
	j->in.io.fd = j->out.io.fd = j->err.io.fd = j->output.io.fd = -1;
	j->output.credit = FRAME_WINDOW;
	*ret_job = j;
	return 0;
}

static int remove_one(const char *path, const struct stat *st UNUSED, int flag UNUSED,
		      struct FTW *ftw UNUSED)
{
	(void)remove(path);
	return 0;
}

static void stop_streams(struct job *j)
{
	sink_done(&j->in);
	source_stop(&j->out);
	source_stop(&j->err);
	source_stop(&j->output);
	fd_close(&j->tty);
}

void job_free(struct job *j)
{
	if (!j)
		return;
	stop_streams(j);
	cache_upload_free(j->cache, j->upload);
	for (unsigned i = 0; i < j->file_count; i++)
		cache_put(j->file[i]);
	(void)nftw(j->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	message_open_done(&j->open);
	free(j->dir);
	free(j);
}

void job_kill(struct job *j)
{
	if (j->pid > 0)
		kill(-j->pid, SIGKILL);
	stop_streams(j);
	j->state = JOB_OVER;
}

/* Tells the client, and ends it. */
static int fail(struct job *j, const struct error *err)
{
	uint8_t payload[sizeof(struct error) + 8];
	size_t len = message_put_error(payload, err);

	job_kill(j);
	return wire_send(j->wire, j->id, FRAME_ERROR, 0, payload, len);
}

static int broken(struct job *j)
{
	struct error err = {0};

	error_set(&err, -EBADMSG, "talking to the lab");
	return fail(j, &err);
}

/* ---- files in ------------------------------------------------------------------------------ */

/* Stores what has come of a file; it may be empty, so it is also called before any has. */
static int upload(struct job *j, const uint8_t *data, size_t len)
{
	struct cache_upload *u = j->upload;
	struct error err = {0};
	int r = len > u->left ? -EBADMSG : cache_upload_write(u, data, len, &err);

	if (r == -EBADMSG)
		return broken(j);
	if (r < 0)
		return fail(j, &err);
	if (u->left)
		return 0;
	j->upload = NULL;
	if (cache_upload_end(j->cache, u, &j->file[j->file_count], &err) < 0)
		return fail(j, &err);
	j->file_count++;
	return 0;
}

static int want(struct job *j, const struct frame *f)
{
	struct error err = {0};
	struct message_want m;
	struct cache_entry *entry;
	uint8_t have;
	int r;

	if (j->upload || j->file_count == JOB_FILES_MAX || message_get_want(f, &m) < 0)
		return broken(j);
	entry = cache_get(j->cache, m.hash);
	if (entry)
		j->file[j->file_count++] = entry;
	else if (cache_upload_begin(j->cache, &m, &j->upload, &err) < 0)
		return fail(j, &err);
	have = entry != NULL;
	r = wire_send(j->wire, j->id, FRAME_HAVE, 0, &have, sizeof(have));
	return r == 0 && j->upload && m.size == 0 ? upload(j, NULL, 0) : r;
}

/* ---- the program --------------------------------------------------------------------------- */

static int take_streams(struct job *j, struct spawn_streams *s)
{
	struct stream_fd in, out, err;
	int r = stream_fd_own(s->in, &in);

	if (r == 0)
		r = stream_fd_own(s->out, &out);
	if (r == 0)
		r = stream_fd_own(s->err, &err);
	if (r < 0) {
		fd_close(&s->in);
		fd_close(&s->out);
		fd_close(&s->err);
		fd_close(&s->tty);
		return r;
	}
	source_init(&j->out, out, FRAME_STDOUT);
	source_init(&j->err, err, FRAME_STDERR);
	j->tty = s->tty;
	return sink_init(&j->in, in, FRAME_STDIN);
}

static int start(struct job *j, const char *program)
{
	struct spawn_streams streams;
	struct spawn s = {.program = program,
			  .argv = j->open.argv,
			  .dir = j->dir,
			  .terminal = j->open.terminal,
			  .rows = j->open.rows,
			  .cols = j->open.cols};
	int r = spawn(&s, &j->pid, &streams);

	return r < 0 ? r : take_streams(j, &streams);
}

static int open_session(struct job *j, const struct frame *f, const char *program)
{
	struct error err = {0};
	int r = j->upload ? -EBADMSG : message_get_open(f, &j->open);

	if (r == -EBADMSG)
		return broken(j);
	j->state = JOB_RUNNING;
	if (r == 0)
		r = start(j, program);
	if (r < 0) {
		error_set_shortage(&err, r, "starting stasis in the lab");
		return fail(j, &err);
	}
	return 0;
}

static void resize(const struct job *j, const struct frame *f)
{
	struct winsize size = {0};

	if (f->len != 4 || j->tty < 0)
		return;
	size.ws_row = (unsigned short)(f->payload[0] | f->payload[1] << 8);
	size.ws_col = (unsigned short)(f->payload[2] | f->payload[3] << 8);
	(void)ioctl(j->tty, TIOCSWINSZ, &size);
}

static struct source *source_of(struct job *j, uint8_t channel)
{
	switch (channel) {
	case FRAME_STDOUT:
		return &j->out;
	case FRAME_STDERR:
		return &j->err;
	case FRAME_FILES:
		return &j->output;
	default:
		return NULL;
	}
}

static int credit(struct job *j, const struct frame *f)
{
	struct source *s = source_of(j, f->channel);

	if (!s || f->len != 4)
		return -EBADMSG;
	return source_credit(s, frame_get32(f->payload));
}

/* 0 or -EBADMSG: the client's fault. */
static int running_frame(struct job *j, const struct frame *f)
{
	struct source *s;
	uint32_t signo;

	switch (f->type) {
	case FRAME_DATA:
		return f->channel == FRAME_STDIN ? sink_take(&j->in, f->payload, f->len) : -EBADMSG;
	case FRAME_EOF:
		if (f->channel == FRAME_STDIN)
			sink_end(&j->in);
		return f->channel == FRAME_STDIN ? 0 : -EBADMSG;
	case FRAME_CREDIT:
		return credit(j, f);
	case FRAME_CLOSED:
		s = source_of(j, f->channel);
		if (s)
			source_stop(s);
		return s ? 0 : -EBADMSG;
	case FRAME_SIGNAL:
		signo = f->len == 4 ? frame_get32(f->payload) : 0;
		/* After its end the number may be another's. */
		if (j->pid > 0 && signo > 0 && signo < NSIG)
			kill(-j->pid, (int)signo);
		return 0;
	case FRAME_WINSIZE:
		resize(j, f);
		return 0;
	default:
		return -EBADMSG;
	}
}

int job_frame(struct job *j, const struct frame *f, const char *program)
{
	if (f->type == FRAME_ABORT)
		job_kill(j);
	/* What was under way when it ended. */
	if (j->state == JOB_OVER)
		return 0;
	if (j->state != JOB_FILES)
		return running_frame(j, f) < 0 ? broken(j) : 0;
	if (f->type == FRAME_WANT)
		return want(j, f);
	if (f->type == FRAME_DATA && f->channel == FRAME_FILES && j->upload)
		return upload(j, f->payload, f->len);
	if (f->type == FRAME_OPEN)
		return open_session(j, f, program);
	return broken(j);
}

/* ---- its end ------------------------------------------------------------------------------- */

void job_ended(struct job *j, int wait_status)
{
	j->pid = 0;
	j->exit.signalled = WIFSIGNALED(wait_status);
	j->exit.value = (uint8_t)(WIFSIGNALED(wait_status) ? WTERMSIG(wait_status)
							   : WEXITSTATUS(wait_status));
	sink_done(&j->in);
	/* All that it wrote is in the pipes; what others write later is not waited for. A terminal
	 * hangs up behind its last byte. */
	if (j->tty < 0)
		source_drain(&j->out);
	source_drain(&j->err);
}

/* Opens the next output file that the program made; false: there is none. */
static bool next_output(struct job *j, uint32_t *ret_number)
{
	while (j->open.outputs[j->next_output]) {
		uint32_t n = (uint32_t)j->next_output++;
		CLEANUP_FREE char *path = text_format("%s/%s", j->dir, j->open.outputs[n]);
		struct stream_fd io = {.owned = true, .kind = STREAM_FILE};
		uint32_t credit = j->output.credit;

		io.fd = path ? open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) : -1;
		if (io.fd < 0)
			continue;
		source_init(&j->output, io, FRAME_FILES);
		/* One window for all of them. */
		j->output.credit = credit;
		*ret_number = n;
		return true;
	}
	return false;
}

static int send_outputs(struct job *j)
{
	uint8_t payload[8];
	uint32_t number;

	if (!j->output.finished)
		return 0;
	if (next_output(j, &number))
		return wire_send32(j->wire, j->id, FRAME_OUTFILE, FRAME_FILES, number);
	j->state = JOB_OVER;
	return wire_send(j->wire, j->id, FRAME_EXIT, 0, payload,
			 message_put_exit(payload, &j->exit));
}

void job_poll(struct job *j, struct pollset *set)
{
	if (j->state == JOB_OVER || j->state == JOB_FILES)
		return;
	sink_poll(&j->in, set);
	source_poll(&j->out, set, j->wire);
	source_poll(&j->err, set, j->wire);
	source_poll(&j->output, set, j->wire);
}

int job_work(struct job *j, const struct pollset *set)
{
	int r = 0;

	if (j->state == JOB_RUNNING) {
		r = sink_work(&j->in, set, j->wire, j->id);
		if (r == 0)
			r = source_work(&j->out, set, j->wire, j->id);
		if (r == 0)
			r = source_work(&j->err, set, j->wire, j->id);
		if (j->pid == 0 && j->out.finished && j->err.finished)
			j->state = JOB_OUTPUTS;
	}
	if (r == 0 && j->state == JOB_OUTPUTS) {
		r = source_work(&j->output, set, j->wire, j->id);
		if (r == 0)
			r = send_outputs(j);
	}
	return r;
}
