/* Saves a machine into a folder. Control thread, but for save_vcpu. */
#include "vm/snapshot.h"

#include <errno.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "base/util.h"
#include "freeze/snapshot_frame.h"
#include "vm/board_state.h"
#include "vm/lab/paths.h"
#include "vm/machine.h"
#include "vm/qmp/ops.h"
#include "vm/snapshot_file.h"
#include "vm/snapshot_names.h"

/* ---- who is asked, and told ------------------------------------------------------------------ */

static int check(const struct machine *m, const struct qmp_snapshot *request, struct error *err)
{
	if (!m->started_ns || m->ended)
		return error_set(err, -ESHUTDOWN, "saving a machine that does not run");
	if (m->snapshot)
		return error_contention(err, "a snapshot of this machine is on its way already");
	/* A path is another one out there. */
	if (m->result->lab &&
	    (!lab_is_snapshot(request->path) || (request->base && !lab_is_snapshot(request->base))))
		return error_usage(err, "a machine in the lab is saved by stasis snapshot alone, "
					"into a folder that stays in there");
	for (size_t i = 0; i < m->config->disk_count; i++)
		if (m->config->disk[i].copy)
			return error_usage(
				err,
				"disk %s is a clone's own copy, which ends with it: such "
				"a machine can't be saved",
				m->config->disk[i].id);
	return 0;
}

static void tell(struct snapshot *s, const struct error *err)
{
	if (s->told)
		return;
	s->told = true;
	s->done(s, err);
}

static void snapshot_free(struct snapshot *s)
{
	struct machine *m = s->machine;

	for (unsigned i = 0; s->vcpu && i < vcpu_pool_count(m->pool); i++)
		state_free(&s->vcpu[i]);
	free(s->vcpu);
	snapshot_writer_done(&s->sections);
	memory_table_done(&s->table);
	layers_reader_free(s->reader);
	snapshot_layers_done(&s->below);
	snapshot_folder_abort(&s->folder);
	free(s->base);
	free(s->path);
	free(s);
}

/* Of a frozen guest: told, and on, or not. No vCPU is on an errand. */
static void finish(struct snapshot *s, const struct error *err)
{
	struct machine *m = s->machine;
	bool end = !err && !s->keep_running, ending = s->ending;

	tell(s, err);
	m->snapshot = NULL;
	snapshot_free(s);
	if (end) {
		m->end_reason = "host-qmp-quit";
		machine_end(m, VM_KILLED, SIGTERM, "saved by snapshot, and ended");
	} else if (!m->ended && !ending) {
		freeze_leave(&m->freeze);
	}
}

/* ---- one step after another -------------------------------------------------------------------
 */

/* Everything but the memory. */
static int make_sections(struct snapshot *s, struct error *err)
{
	struct machine *m = s->machine;
	struct snapshot_writer *w = &s->sections;
	char name[SNAPSHOT_NAME_MAX + 1];
	struct state_io io;

	state_save(&io);
	arch_vm_save(m->arch, &m->freeze.clock, &io);
	snapshot_add(w, SNAPSHOT_VM, SNAPSHOT_VM_VERSION, &io);
	for (unsigned i = 0; i < vcpu_pool_count(m->pool); i++)
		snapshot_add(w, snapshot_vcpu_name(i, name), SNAPSHOT_VCPU_VERSION, &s->vcpu[i]);
	board_state_save(&m->board, w);
	state_save(&io);
	session_state(&m->session, &io);
	snapshot_add(w, SNAPSHOT_SESSION, SNAPSHOT_SESSION_VERSION, &io);
	if (w->err.code && err && !err->code)
		*err = w->err;
	return w->err.code;
}

static bool has_table(const struct snapshot *s)
{
	return s->table.partial || s->table.lz4;
}

/* The rest, once the memory is written. */
static int write_files(struct snapshot *s, struct error *err)
{
	struct machine *m = s->machine;
	const struct snapshot_kind kind = {
		.id = s->id,
		.base = s->base,
		.base_id = s->base ? s->below.layer[0].id : NULL,
		.lz4 = s->table.lz4,
	};
	CLEANUP_FREE char *text =
		snapshot_describe(m->config, m->arch, &m->mem, m->board.disk, &kind);
	CLEANUP_FREE uint8_t *state = NULL;
	size_t len = 0;
	int r = text ? 0 : error_set(err, -ENOMEM, "describing the snapshot %s", s->path);

	if (r == 0 && has_table(s)) {
		struct state_io io;

		state_save(&io);
		memory_table_state(&s->table, &io);
		s->sections.version = SNAPSHOT_VERSION;
		snapshot_add(&s->sections, SNAPSHOT_TABLE, SNAPSHOT_TABLE_VERSION, &io);
	}
	if (r == 0)
		r = snapshot_encode(&s->sections, text, strlen(text), &state, &len, err);
	if (r == 0)
		r = snapshot_folder_write(&s->folder, SNAPSHOT_STATE, state, len, err);
	if (r == 0)
		r = snapshot_folder_write(&s->folder, SNAPSHOT_DESCRIPTION, text, strlen(text),
					  err);
	return r;
}

static int write_id(struct snapshot *s, struct error *err)
{
	uint8_t tail[FRAME_SKIP_LEN + SNAPSHOT_ID_LEN];
	size_t head = s->table.lz4 ? FRAME_SKIP_LEN : 0;

	frame_skip_head(SNAPSHOT_ID_LEN, tail);
	memcpy(tail + head, s->id, SNAPSHOT_ID_LEN);
	return snapshot_folder_append(&s->folder, SNAPSHOT_MEMORY, tail, head + SNAPSHOT_ID_LEN,
				      err);
}

/* From now on, another may differ from it. */
static int remember(struct machine *m, const char *id, struct error *err)
{
	char(*more)[SNAPSHOT_ID_LEN + 1] =
		reallocarray(m->saved, m->saved_count + 1, sizeof(*more));

	if (!more)
		return error_set(err, -ENOMEM, "saving the machine");
	m->saved = more;
	memcpy(m->saved[m->saved_count], id, sizeof(*more));
	m->saved_count++;
	return 0;
}

static void on_memory(struct vmcore *v, const struct error *err, void *arg)
{
	struct snapshot *s = arg;
	struct error failed = err ? *err : (struct error){0};

	log_info("snapshot %s: %llu MiB of memory were written", s->path,
		 (unsigned long long)(vmcore_written(v) >> 20));
	s->memory = NULL;
	vmcore_free(v); /* err with it */
	if (failed.code == 0)
		(void)!write_id(s, &failed);
	if (failed.code == 0)
		(void)!write_files(s, &failed);
	if (failed.code == 0)
		(void)!remember(s->machine, s->id, &failed);
	if (failed.code == 0)
		(void)!snapshot_folder_commit(&s->folder, &failed);
	finish(s, failed.code < 0 ? &failed : NULL);
}

static int begin_memory(struct snapshot *s, struct error *err)
{
	CLEANUP_FREE char *path = text_format("%s/" SNAPSHOT_MEMORY, s->folder.tmp);
	const struct vmcore_config config = {
		.loop = s->machine->loop,
		.mem = &s->machine->mem,
		.raw = true,
		.table = has_table(s) ? &s->table : NULL,
		.lz4 = s->table.lz4,
		.base = s->reader,
		.path = path,
		.done = on_memory,
		.arg = s,
	};

	return path ? vmcore_start(&config, &s->memory, err)
		    : error_set(err, -ENOMEM, "writing the snapshot %s", s->path);
}

static void begin_files(struct snapshot *s)
{
	struct error err = {0};
	int r = make_sections(s, &err);

	if (r == 0)
		r = begin_memory(s, &err);
	if (r < 0)
		finish(s, &err);
}

/* What the guest believes to be on its disks is there, should the host go down after this: one
 * after another, then the rest. */
static void sync_next_disk(struct snapshot *s)
{
	struct machine *m = s->machine;
	const struct vm_config *c = m->config;
	struct error err = {0};
	int r;

	while (s->disk < c->disk_count && c->disk[s->disk].read_only)
		s->disk++;
	if (s->disk == c->disk_count) {
		begin_files(s);
		return;
	}
	r = loop_fdatasync(m->loop, &s->sync, virtio_blk_fd(m->board.disk[s->disk]));
	if (r < 0) {
		error_set_shortage(&err, r, "syncing %s", c->disk[s->disk].path);
		finish(s, &err);
	}
}

static void on_synced(struct loop_op *op, int res)
{
	struct snapshot *s = container_of(op, struct snapshot, sync);
	struct error err = {0};

	if (s->ending)
		return; /* who waits has been told */
	if (res < 0) {
		error_set_shortage(&err, res, "syncing %s", s->machine->config->disk[s->disk].path);
		finish(s, &err);
		return;
	}
	s->disk++;
	sync_next_disk(s);
}

static void on_vcpus(struct loop_event *event, uint64_t count UNUSED)
{
	struct machine *m = container_of(event, struct machine, snapshot_event);
	struct snapshot *s = m->snapshot;

	/* It is asked for what it orders, too: what the vCPU threads have written is seen then. */
	if (!vcpu_pool_errand_over(m->pool) || m->ended || s->told)
		return; /* told at the end of the machine */
	sync_next_disk(s);
}

/* vCPU thread, parked; what it writes is its own until the errand is over. */
static void save_vcpu(struct vcpu *vcpu, void *arg)
{
	struct snapshot *s = arg;
	struct machine *m = s->machine;
	struct state_io *io = &s->vcpu[vcpu->index];

	state_save(io);
	if (vcpu->capture_error)
		state_fail(io, vcpu->capture_error, "reading the registers of vCPU %u",
			   vcpu->index);
	else
		arch_vcpu_save(m->arch, vcpu->index, vcpu->fd, vcpu->state, &m->freeze.clock, io);
}

static void on_frozen(struct freeze_wait *wait, const struct error *err)
{
	struct snapshot *s = container_of(wait, struct snapshot, wait);
	struct machine *m = s->machine;

	if (err) {
		/* It was never frozen for it. */
		tell(s, err);
		m->snapshot = NULL;
		snapshot_free(s);
		return;
	}
	s->frozen = true;
	vcpu_pool_errand(m->pool, save_vcpu, s, &m->snapshot_event);
}

/* ---- what others ask --------------------------------------------------------------------------
 */

/* Once, and it stays: who signals it may not have come back from that when it is heard. */
static int make_event(struct machine *m, struct error *err)
{
	if (m->snapshot_event.watch)
		return 0;
	m->snapshot_event.fire = on_vcpus;
	return loop_event_init(m->loop, &m->snapshot_event, err);
}

/* Whether the machine's own pages are all that may differ from it: what no one has written to since
 * it began is as in the snapshot that it began from, and as in all that it was saved to. In those
 * below the former, it need not be. */
static bool is_known(const struct machine *m, const char *id)
{
	const struct restore *began = m->config->restore;

	if (!id[0])
		return false;
	if (began && !strcmp(began->layers.layer[0].id, id))
		return true;
	for (size_t i = 0; i < m->saved_count; i++)
		if (!strcmp(m->saved[i], id))
			return true;
	return false;
}

/* None of them may be replaced by what needs it. */
static int check_not_below(const struct snapshot_layers *below, const char *path, struct error *err)
{
	struct stat here, there;

	for (unsigned i = 0; i < below->count && stat(path, &here) == 0; i++)
		if (stat(below->layer[i].path, &there) == 0 && here.st_dev == there.st_dev &&
		    here.st_ino == there.st_ino)
			return error_usage(err,
					   "%s: what is to be saved there differs from it, and "
					   "needs it",
					   path);
	return 0;
}

/* As a description has it: beside it, or from the root on. NULL: errno. */
static char *name_base(const char *path, const char *base)
{
	CLEANUP_FREE char *beside = text_format("%s/..", base), *mine = strdup(path);
	CLEANUP_FREE char *parent = mine ? realpath(dirname(mine), NULL) : NULL;
	CLEANUP_FREE char *its_parent = NULL;
	char *real = realpath(base, NULL);
	char *name;

	its_parent = beside ? realpath(beside, NULL) : NULL;
	if (!real || !parent || !its_parent || strcmp(parent, its_parent))
		return real;
	name = text_format("../%s", strrchr(real, '/') + 1);
	free(real);
	return name;
}

static int open_base(struct snapshot *s, const char *path, struct error *err)
{
	struct vm_config ignored = {0};
	struct snapshot_top top = {0};
	struct error inner = {0};
	int r = snapshot_chain_open(path, &ignored, &top, &s->below, &inner);

	vm_config_done(&ignored);
	snapshot_top_done(&top);
	if (r < 0)
		return inner.kind == ERROR_USAGE
			       ? error_usage(err, "diff-of %s: %s", path, inner.what)
			       : error_set(err, r, "diff-of %s: %s", path, inner.what);
	if (!is_known(s->machine, s->below.layer[0].id))
		return error_usage(err,
				   "diff-of %s: one that this VM was saved to, or began from, is "
				   "accepted",
				   path);
	if (s->below.count == SNAPSHOT_LAYERS_MAX)
		return error_usage(err,
				   "diff-of %s: %d snapshots differ from one another already; one "
				   "that has all is needed",
				   path, SNAPSHOT_LAYERS_MAX);
	r = check_not_below(&s->below, s->path, err);
	if (r < 0)
		return r;
	s->table.partial = true;
	s->base = name_base(s->path, path);
	return s->base && layers_reader_new(&s->below, &s->reader) == 0
		       ? 0
		       : error_set(err, s->base ? -ENOMEM : -errno, "saving the machine");
}

int machine_snapshot(struct machine *m, const struct qmp_snapshot *request,
		     void (*done)(struct snapshot *s, const struct error *err), void *arg,
		     struct error *err)
{
	struct snapshot *s;
	int r = check(m, request, err);

	if (r < 0)
		return r;
	s = calloc(1, sizeof(*s));
	if (!s)
		return error_set(err, -ENOMEM, "saving the machine");
	*s = (struct snapshot){
		.path = strdup(request->path),
		.keep_running = request->keep_running,
		.done = done,
		.arg = arg,
		.machine = m,
		.wait = {.done = on_frozen},
		.sync = {.done = on_synced},
		.folder = {.fd = -1},
		.vcpu = calloc(vcpu_pool_count(m->pool), sizeof(*s->vcpu)),
		.table = {.lz4 = request->lz4},
	};
	snapshot_new_id(s->id);
	r = s->path && s->vcpu ? 0 : error_set(err, -ENOMEM, "saving the machine");
	if (r == 0 && request->base)
		r = open_base(s, request->base, err);
	if (r == 0)
		r = snapshot_folder_open(&s->folder, s->path, err);
	if (r == 0)
		r = make_event(m, err);
	if (r == 0)
		r = machine_freeze_begin(m, "snapshot", false, &s->wait, err);
	if (r < 0)
		snapshot_free(s);
	else
		m->snapshot = s;
	return r;
}

bool machine_snapshot_kill(struct machine *m, uint64_t limit_ns)
{
	uint64_t now = now_ns(), end_ns = now + limit_ns;
	struct snapshot *s = m->snapshot;
	struct error err = {0};

	/* The end of the freeze tells one that it is not there for yet. */
	if (!s || !s->frozen)
		return true;
	s->ending = true;
	error_set(&err, -ESHUTDOWN, "saving the machine: it ended before");
	if (s->memory)
		return vmcore_cancel_wait(s->memory, limit_ns);
	/* vCPUs may be on their errand until they are stopped. */
	tell(s, &err);
	for (; s->sync.active && now < end_ns; now = now_ns())
		if (loop_turn(m->loop, end_ns - now) < 0)
			break;
	return !s->sync.active;
}

void machine_snapshot_done(struct machine *m)
{
	if (m->snapshot && !m->snapshot->memory && !m->snapshot->sync.active)
		snapshot_free(m->snapshot);
	m->snapshot = NULL;
	loop_event_done(&m->snapshot_event);
	free(m->saved);
	m->saved = NULL;
	m->saved_count = 0;
}
