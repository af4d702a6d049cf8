/* Begins a machine from a snapshot's folder. Control thread, but for restore_vcpu. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/text.h"
#include "base/util.h"
#include "vm/board_state.h"
#include "vm/machine.h"
#include "vm/snapshot.h"
#include "vm/snapshot_names.h"

#define QUIESCE_LIMIT_NS 1000000000u

/* What a mapping's page can't be had for; a handler has no other way to know it. */
static const char *unreadable;

/* ---- the folder -------------------------------------------------------------------------------
 */

/* What has failed, by the folder's name. */
static int of_folder(const char *path, const struct error *inner, struct error *err)
{
	return inner->kind == ERROR_USAGE
		       ? error_usage(err, "%s: %s", path, inner->what)
		       : error_set(err, inner->code, "%s: %s", path, inner->what);
}

int restore_open(const char *path, struct vm_config *c, struct restore **ret_restore,
		 struct error *err)
{
	struct restore *r = calloc(1, sizeof(*r));
	struct error inner = {0};
	int code;

	if (!r)
		return error_set(err, -ENOMEM, "reading the snapshot %s", path);
	r->path = strdup(path);
	code = r->path ? snapshot_chain_open(path, c, &r->top, &r->layers, &inner)
		       : error_set(&inner, -ENOMEM, "reading a snapshot");
	if (code < 0) {
		restore_free(r);
		return of_folder(path, &inner, err);
	}
	*ret_restore = r;
	return 0;
}

void restore_free(struct restore *r)
{
	if (!r)
		return;
	if (unreadable == r->path)
		signal(SIGBUS, SIG_DFL);
	snapshot_layers_done(&r->layers);
	snapshot_top_done(&r->top);
	free(r->vcpu);
	free(r->path);
	free(r);
}

/* A page of the snapshot's memory is not there: its file was cut, its file system is full (of a
 * tmpfs, where a hole that is read takes a page) or has failed. There is no going on. */
static void on_bus_error(int signo UNUSED)
{
	static const char said[] = ": a page of its memory can't be read: the file was cut, or its "
				   "file system is full or has failed\n";

	(void)!write(STDERR_FILENO, "stasis: ", 8);
	(void)!write(STDERR_FILENO, unreadable, strlen(unreadable));
	(void)!write(STDERR_FILENO, said, sizeof(said) - 1);
	_exit(126);
}

int restore_memory(struct restore *r, struct guest_memory *mem, struct error *err)
{
	struct sigaction action = {.sa_handler = on_bus_error, .sa_flags = SA_RESETHAND};

	unreadable = r->path;
	if (sigaction(SIGBUS, &action, NULL) < 0)
		return error_set(err, -errno, "handling bus errors");
	return snapshot_layers_lay(&r->layers, mem, err);
}

int restore_prefault(struct restore *r, const struct guest_memory *mem, struct error *err)
{
	for (unsigned i = 0; i < mem->count; i++) {
		const struct guest_region *region = &mem->region[i];

		/* A kernel before 5.14 has none: it is as without. */
		if (madvise(region->host, (size_t)region->range.size, MADV_POPULATE_WRITE) == 0 ||
		    errno == EINVAL)
			continue;
		return error_set_shortage(err, -errno, "%s/" SNAPSHOT_MEMORY ": copying all of it",
					  r->path);
	}
	return 0;
}

int restore_check_disks(const struct machine *m, struct error *err)
{
	int r = 0;

	/* A clone's own copy was looked at when it was made. */
	for (size_t i = 0; r == 0 && i < m->config->disk_count; i++)
		if (!m->config->disk[i].copy)
			r = vm_disk_check(&m->config->disk[i], virtio_blk_fd(m->board.disk[i]),
					  err);
	return r;
}

/* ---- the machine ------------------------------------------------------------------------------
 */

static int take_vcpus(struct restore *r, unsigned count, struct error *err)
{
	char name[SNAPSHOT_NAME_MAX + 1];
	int code = 0;

	r->vcpu = calloc(count, sizeof(*r->vcpu));
	if (!r->vcpu)
		return error_set(err, -ENOMEM, "reading a snapshot");
	for (unsigned i = 0; code == 0 && i < count; i++)
		code = snapshot_take(&r->top.state, snapshot_vcpu_name(i, name),
				     SNAPSHOT_VCPU_VERSION, &r->vcpu[i], err);
	return code;
}

static int take_session(struct restore *r, struct session *s, struct error *err)
{
	struct state_io io;
	int code =
		snapshot_take(&r->top.state, SNAPSHOT_SESSION, SNAPSHOT_SESSION_VERSION, &io, err);

	if (code < 0)
		return code;
	session_state(s, &io);
	return state_result(&io, err);
}

int restore_machine(struct machine *m, struct error *err)
{
	struct restore *r = m->config->restore;
	struct error inner = {0};
	struct state_io vm;
	int code = take_vcpus(r, vcpu_pool_count(m->pool), &inner);

	/* No driver has come: nothing is in flight. */
	if (code == 0 && !board_quiesce(&m->board, QUIESCE_LIMIT_NS))
		code = error_set(&inner, -ETIMEDOUT, "keeping devices off guest memory");
	if (code == 0)
		code = board_state_restore(&m->board, &r->top.state, &inner);
	if (code == 0)
		code = take_session(r, &m->session, &inner);
	if (code == 0)
		code = snapshot_take(&r->top.state, SNAPSHOT_VM, SNAPSHOT_VM_VERSION, &vm, &inner);
	if (code == 0)
		code = snapshot_end(&r->top.state, &inner);
	/* Last, because x86's clock goes on from here. */
	if (code == 0)
		arch_vm_restore(m->arch, &m->freeze.clock, &vm);
	if (code == 0)
		code = state_result(&vm, &inner);
	return code < 0 ? of_folder(r->path, &inner, err) : 0;
}

int restore_vcpu(struct vcpu *vcpu, void *arg, struct error *err)
{
	struct machine *m = arg;
	struct state_io io = m->config->restore->vcpu[vcpu->index];

	arch_vcpu_restore(m->arch, vcpu->index, vcpu->fd, &m->freeze.clock, &io);
	return state_result(&io, err);
}

int restore_vcpus_ready(void *arg, struct error *err)
{
	struct machine *m = arg;
	struct error inner = {0};

	if (arch_vm_vcpus_restored(m->arch, &inner) < 0)
		return of_folder(m->config->restore->path, &inner, err);
	board_state_settle(&m->board);
	return 0;
}

void restore_resume(struct machine *m)
{
	board_state_resume(&m->board);
	machine_events_resumed(m);
}
