/* Saves a machine into a folder. Control thread, but for save_vcpu. */
#include "vm/snapshot.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "base/util.h"
#include "vm/board_state.h"
#include "vm/lab/paths.h"
#include "vm/machine.h"
#include "vm/snapshot_file.h"
#include "vm/snapshot_names.h"

/* ---- who is asked, and told ------------------------------------------------------------------ */

static int check(const struct machine *m, const char *path, struct error *err)
{
	if (!m->started_ns || m->ended)
		return error_set(err, -ESHUTDOWN, "saving a machine that does not run");
	if (m->snapshot)
		return error_contention(err, "a snapshot of this machine is on its way already");
	/* A path is another one out there. */
	if (m->result->lab && strncmp(path, LAB_SNAPSHOTS "/", strlen(LAB_SNAPSHOTS "/")))
		return error_usage(err, "a machine in the lab is saved by stasis snapshot alone, "
					"into a folder that stays in there");
	for (size_t i = 0; i < m->config->disk_count; i++)
		if (m->config->disk[i].copy)
			return error_usage(
				err,
				"disk %s is a clone's own copy, which ends with it: such "
				"a machine can't be saved",
				m->config->disk[i].id);
	return arch_snapshot_check(m->arch, err);
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
	snapshot_folder_abort(&s->folder);
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

static void on_memory(struct vmcore *v, const struct error *err, void *arg)
{
	struct snapshot *s = arg;
	struct error failed = err ? *err : (struct error){0};

	log_info("snapshot %s: %llu MiB of RAM were in use", s->path,
		 (unsigned long long)(vmcore_written(v) >> 20));
	s->memory = NULL;
	vmcore_free(v); /* err with it */
	if (failed.code == 0)
		(void)!snapshot_folder_append(&s->folder, SNAPSHOT_MEMORY, s->id, SNAPSHOT_ID_LEN,
					      &failed);
	if (failed.code == 0)
		(void)!snapshot_folder_commit(&s->folder, &failed);
	finish(s, failed.code < 0 ? &failed : NULL);
}

/* Everything but the memory. */
static int make_state(struct snapshot *s, const char *description, uint8_t **ret_data,
		      size_t *ret_len, struct error *err)
{
	struct machine *m = s->machine;
	struct snapshot_writer w = {0};
	char name[SNAPSHOT_NAME_MAX + 1];
	struct state_io io;
	int r;

	state_save(&io);
	arch_vm_save(m->arch, &m->freeze.clock, &io);
	snapshot_add(&w, SNAPSHOT_VM, SNAPSHOT_VM_VERSION, &io);
	for (unsigned i = 0; i < vcpu_pool_count(m->pool); i++)
		snapshot_add(&w, snapshot_vcpu_name(i, name), SNAPSHOT_VCPU_VERSION, &s->vcpu[i]);
	board_state_save(&m->board, &w);
	state_save(&io);
	session_state(&m->session, &io);
	snapshot_add(&w, SNAPSHOT_SESSION, SNAPSHOT_SESSION_VERSION, &io);
	r = snapshot_encode(&w, description, strlen(description), ret_data, ret_len, err);
	snapshot_writer_done(&w);
	return r;
}

/* What the guest believes to be on its disks is there, should the host go down after this. */
static int sync_disks(struct machine *m, struct error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < m->config->disk_count; i++) {
		const struct vm_disk *disk = &m->config->disk[i];

		if (!disk->read_only && fdatasync(virtio_blk_fd(m->board.disk[i])) < 0)
			r = error_set_shortage(err, -errno, "syncing %s", disk->path);
	}
	return r;
}

static int write_files(struct snapshot *s, struct error *err)
{
	struct machine *m = s->machine;
	CLEANUP_FREE char *text =
		snapshot_describe(m->config, m->arch, &m->mem, m->board.disk, s->id);
	CLEANUP_FREE uint8_t *state = NULL;
	size_t len = 0;
	int r = text ? make_state(s, text, &state, &len, err)
		     : error_set(err, -ENOMEM, "describing the snapshot %s", s->path);

	if (r == 0)
		r = snapshot_folder_write(&s->folder, SNAPSHOT_STATE, state, len, err);
	if (r == 0)
		r = snapshot_folder_write(&s->folder, SNAPSHOT_DESCRIPTION, text, strlen(text),
					  err);
	return r;
}

static int begin_memory(struct snapshot *s, struct error *err)
{
	CLEANUP_FREE char *path = text_format("%s/" SNAPSHOT_MEMORY, s->folder.tmp);
	const struct vmcore_config config = {
		.loop = s->machine->loop,
		.mem = &s->machine->mem,
		.raw = true,
		.path = path,
		.done = on_memory,
		.arg = s,
	};

	return path ? vmcore_start(&config, &s->memory, err)
		    : error_set(err, -ENOMEM, "writing the snapshot %s", s->path);
}

static void on_vcpus(struct loop_event *event, uint64_t count UNUSED)
{
	struct machine *m = container_of(event, struct machine, snapshot_event);
	struct snapshot *s = m->snapshot;
	struct error err = {0};
	int r;

	/* It is asked for what it orders, too: what the vCPU threads have written is seen then. */
	if (!vcpu_pool_errand_over(m->pool) || m->ended || s->told)
		return; /* told at the end of the machine */
	r = sync_disks(m, &err);
	if (r == 0)
		r = write_files(s, &err);
	if (r == 0)
		r = begin_memory(s, &err);
	if (r < 0)
		finish(s, &err);
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

int machine_snapshot(struct machine *m, const char *path, bool keep_running,
		     void (*done)(struct snapshot *s, const struct error *err), void *arg,
		     struct error *err)
{
	struct snapshot *s;
	int r = check(m, path, err);

	if (r < 0)
		return r;
	s = calloc(1, sizeof(*s));
	if (!s)
		return error_set(err, -ENOMEM, "saving the machine");
	*s = (struct snapshot){
		.path = strdup(path),
		.keep_running = keep_running,
		.done = done,
		.arg = arg,
		.machine = m,
		.wait = {.done = on_frozen},
		.folder = {.fd = -1},
		.vcpu = calloc(vcpu_pool_count(m->pool), sizeof(*s->vcpu)),
	};
	snapshot_new_id(s->id);
	r = s->path && s->vcpu ? snapshot_folder_open(&s->folder, path, err)
			       : error_set(err, -ENOMEM, "saving the machine");
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
	return true;
}

void machine_snapshot_done(struct machine *m)
{
	if (m->snapshot && !m->snapshot->memory)
		snapshot_free(m->snapshot);
	m->snapshot = NULL;
	loop_event_done(&m->snapshot_event);
}
